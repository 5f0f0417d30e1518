/* Tests NumPy's file format, byte by byte: files that are read, written and refused. */
#include "tests/support/program.h"

#include <math.h>

#include "host/store/npy.h"

typedef struct Bytes {
    unsigned char at[4096];
    size_t n;
} Bytes;

/* Makes the content of a file of this version (1.0 or 2.0) with this header, without padding, and
 * these data. */
static void make(Bytes *b, int version, const char *header, const void *data, size_t size)
{
    size_t length = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(b->at, "\x93NUMPY", 6);
    b->at[6] = (unsigned char)version, b->at[7] = 0;
    for (size_t i = 8; i < start; i++) b->at[i] = (unsigned char)(length >> 8 * (i - 8));
    memcpy(b->at + start, header, length);
    memcpy(b->at + start + length, data, size);
    b->n = start + length + size;
}

static const float four[4] = {1, -2.5f, INFINITY, 0x1p-140f};

static void what_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int rank;
        int64_t shape[3];
        const char *note;
    } good[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }     \n", 1, {4}, ""},
        {"{\"shape\": (2, 2), \"descr\":\"<f4\",\"fortran_order\" :False}", 2, {2, 2}, ""},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 1,), } # about  this  \n  ",
         3,
         {1, 4, 1},
         "about  this"},
        {"{'shape': (4 , ) , 'fortran_order': False, 'descr': '<f4'}#x", 1, {4}, "x"},
    };
    Error e = {0};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        for (int version = 1; version <= 3; version++) {
            Bytes b;
            NpyFile f;
            float back[4];
            make(&b, version, good[i].header, four, sizeof four);
            if (npy_parse(&f, b.at, b.n, "a.npy", &e)) fail_msg("%s: %s", good[i].header, e.text);
            assert_int_equal(f.rank, good[i].rank);
            for (int k = 0; k < f.rank; k++) assert_int_equal(f.shape[k], good[i].shape[k]);
            assert_int_equal(f.n, 4);
            assert_string_equal(f.note, good[i].note);
            npy_floats(&f, 0, 4, back);
            assert_memory_equal(back, four, sizeof four);
            npy_floats(&f, 3, 1, back);
            assert_true(back[0] == four[3]);
            npy_close(&f);
        }
    /* An array with no dimensions has one element, and one with a zero dimension has none. */
    Bytes b;
    NpyFile f;
    make(&b, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", four, 4);
    assert_int_equal(npy_parse(&f, b.at, b.n, "a.npy", &e), 0);
    assert_true(f.rank == 0 && f.n == 1);
    make(&b, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 7)}", four, 0);
    assert_int_equal(npy_parse(&f, b.at, b.n, "a.npy", &e), 0);
    assert_true(f.rank == 2 && f.n == 0);
}

/* Compares eleven binary16 values, among them both zeros, subnormals, bounds and infinities, with
 * float32 values written by hand. */
static void halves(void **state)
{
    (void)state;
    static const uint16_t bits[] = {0,      0x8000, 1,      0x03ff, 0x0400, 0x3c00,
                                    0xc100, 0x7bff, 0x7c00, 0xfc00, 0x3555};
    static const float value[] = {0,     -0.0f, 0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f,   1,
                                  -2.5f, 65504, INFINITY, -INFINITY,       0x1.554p-2f};
    Bytes b;
    NpyFile f;
    Error e;
    float back[11];
    make(&b, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (11,), }", bits, sizeof bits);
    assert_int_equal(npy_parse(&f, b.at, b.n, "a.npy", &e), 0);
    assert_int_equal(f.dtype, NPY_F16);
    npy_floats(&f, 0, 11, back);
    assert_memory_equal(back, value, sizeof value);
}

static void what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header, *phrase;
    } bad[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}", "dtype '<f8'"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (4,)}", "dtype '>f4'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}", "records"},
        {"{'descr': <f4, 'fortran_order': False, 'shape': (4,)}", "dtype that is not a string"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (4,)}", "Fortran order"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (4,)}", "neither True nor False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4)}", "not consist of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [4]}", "not a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}", "not consist of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4 4)}", "not consist of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,", "not consist of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
         "not consist of sizes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
         "more elements"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,4)}", "dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", "cut short"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}", "cut short"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "continues after its array"},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (4,)}", "continues after its array"},
        {"{'descr': '<f4', 'fortran_order': False}", "lacks"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", "twice"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'more': 1}",
         "not dtype, order or shape"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (4,)}", "comma"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} x", "does not end"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} # a\nb", "does not end"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,)} # \x01", "printable"},
        {"['descr']", "not a dict"},
        {"{'des\\'cr': 1}", "without a name"},
        {"", "not a dict"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Bytes b;
        NpyFile f;
        Error e = {0};
        make(&b, 1, bad[i].header, four, sizeof four);
        if (npy_parse(&f, b.at, b.n, "a.npy", &e) != EXIT_BAD_DATA)
            fail_msg("%s is not refused", bad[i].header);
        if (!strstr(e.text, bad[i].phrase) || !strstr(e.text, "a.npy"))
            fail_msg("%s: %s", bad[i].header, e.text);
    }
    /* Every truncation of a valid file, and every other version, is refused. */
    Bytes b;
    NpyFile f;
    Error e;
    for (int version = 1; version <= 2; version++) {
        make(&b, version, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", four,
             sizeof four);
        for (size_t n = 0; n < b.n; n++)
            assert_int_equal(npy_parse(&f, b.at, n, "a.npy", &e), EXIT_BAD_DATA);
        assert_int_equal(npy_parse(&f, b.at, b.n, "a.npy", &e), 0);
    }
    for (int version = 0; version < 256; version++) {
        b.at[6] = (unsigned char)version;
        if (version < 1 || version > 3)
            assert_int_equal(npy_parse(&f, b.at, b.n, "a.npy", &e), EXIT_BAD_DATA);
    }
}

static void what_is_written(void **state)
{
    (void)state;
    static const char *const notes[] = {"", "split=test and so on"};
    char longest[NPY_NOTE_SIZE];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    for (int i = 0; i < 3; i++) {
        const char *path = in_folder("written.npy"), *note = i < 2 ? notes[i] : longest;
        NpyFile f;
        Error e = {0};
        float back[4];
        if (npy_write(path, path, four, &(int64_t){4}, 1, note, &e) || npy_open(&f, path, &e))
            fail_msg("%s", e.text);
        assert_string_equal(f.note, note);
        assert_true(f.rank == 1 && f.n == 4 && f.dtype == NPY_F32);
        assert_int_equal((f.map_bytes - sizeof four) % 64, 0); /* as the format requires */
        npy_floats(&f, 0, 4, back);
        assert_memory_equal(back, four, sizeof four);
        npy_close(&f);
    }
    NpyFile f;
    Error e;
    assert_int_equal(npy_open(&f, in_folder("not there"), &e), EXIT_BAD_DATA);
    assert_int_equal(npy_open(&f, folder, &e), EXIT_BAD_DATA);
    assert_int_equal(npy_write(in_folder("no folder/x.npy"), "x", four, &(int64_t){4}, 1, "", &e),
                     EXIT_BAD_DATA);
    /* Arrays may have several dimensions. */
    static const int64_t shape[3] = {2, 1, 2};
    if (npy_write(in_folder("cube.npy"), "x", four, shape, 3, "", &e) ||
        npy_open(&f, in_folder("cube.npy"), &e))
        fail_msg("%s", e.text);
    assert_true(f.rank == 3 && !memcmp(f.shape, shape, sizeof shape));
    npy_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(halves),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_is_written),
    };
    return cmocka_run_group_tests_name("npy", tests, folder_make, folder_remove);
}
