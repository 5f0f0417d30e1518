/* Tests safetensors: written files are read back, malformed files are refused in one sentence, and
 * a failed write keeps the old file. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/base/replace.h"
#include "host/store/safetensors.h"

/* ---- a folder of its own, files in it ---- */

static char folder[] = "/tmp/plstm-safetensors-XXXXXX";

static int folder_make(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "chmod -R u+rwx %s && rm -rf %s", folder, folder);
    return system(command);
}

/* Returns the path of a file in the folder; the text is valid until the sixteenth call after. */
static const char *in_folder(const char *name)
{
    static char path[16][512];
    static int next;
    next = (next + 1) % 16;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Returns a file's content, malloc'd, and its size in bytes in *n. */
static char *get_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *bytes = malloc(1 << 20);
    *n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static bool exists(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

/* Checks that the sentence is one line and contains the wanted text. */
static void check_sentence(const Error *e, const char *wanted)
{
    if (!strstr(e->text, wanted)) fail_msg("expected '%s' in '%s'", wanted, e->text);
    assert_null(strchr(e->text, '\n'));
}

/* Returns the content of a file with this header, the header's length before it, and n_data bytes
 * 0, 1, 2 ... after it, malloc'd. The block is 8-byte aligned and exactly as long as its content,
 * so that the sanitizer detects a read beyond. */
static char *make_bytes(const char *header, size_t header_bytes, size_t n_data, size_t *n)
{
    *n = 8 + header_bytes + n_data;
    char *bytes = malloc(*n);
    uint64_t length = header_bytes;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < n_data; i++) bytes[8 + header_bytes + i] = (char)i;
    return bytes;
}

/* ---- what is written is read back ---- */

static const float weights[6] = {0, -1.5f, 3.25f, 1e-38f, -0.0f, 7};
static const unsigned char masks[3] = {1, 0, 1};
static const int64_t counts[2] = {-5, 1ll << 40};

static const StTensor some[] = {
    {.name = "z.weight",
     .dtype = ST_F32,
     .rank = 2,
     .shape = {2, 3},
     .data = weights,
     .bytes = sizeof weights},
    {.name = "a \"quoted\" \xc3\xa9\n",
     .dtype = ST_U8,
     .rank = 1,
     .shape = {3},
     .data = masks,
     .bytes = sizeof masks},
    {.name = "empty", .dtype = ST_F32, .rank = 2, .shape = {0, 4}, .data = weights, .bytes = 0},
    {.name = "counts",
     .dtype = ST_I64,
     .rank = 1,
     .shape = {2},
     .data = counts,
     .bytes = sizeof counts},
    {.name = "scalar", .dtype = ST_F32, .rank = 0, .data = weights + 2, .bytes = 4},
};
enum { SOME = sizeof some / sizeof some[0] };
static const StMeta some_meta[] = {
    {"format", "pt"}, {"key \\ \x01", "value\twith \x7f and \xe2\x82\xac"}, {"", ""}};

static void check_some(const StFile *f)
{
    assert_int_equal(f->n_tensors, SOME);
    assert_int_equal(f->n_meta, 3);
    for (int i = 0; i < SOME; i++) {
        const StTensor *t = &f->tensors[i];
        assert_string_equal(t->name, some[i].name);
        assert_ptr_equal(t, st_find(f, some[i].name));
        assert_int_equal(t->dtype, some[i].dtype);
        assert_int_equal(t->rank, some[i].rank);
        assert_memory_equal(t->shape, some[i].shape, sizeof t->shape);
        assert_int_equal(t->bytes, some[i].bytes);
        assert_memory_equal(t->data, some[i].data, t->bytes);
        /* counts follows three bytes, so it is misaligned in the file, but the reader returns it
         * aligned. */
        if (t->bytes) assert_int_equal((uintptr_t)t->data % st_dtype_size(t->dtype), 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_string_equal(f->meta[i].key, some_meta[i].key);
        assert_string_equal(st_meta(f, some_meta[i].key), some_meta[i].value);
    }
    assert_null(st_find(f, "weight"));
    assert_null(st_meta(f, "Format"));
}

static void test_round_trip(void **state)
{
    (void)state;
    Error e = {0};
    StFile f;
    const char *path = in_folder("round.safetensors");
    assert_int_equal(st_write(path, some, SOME, some_meta, 3, &e), EXIT_DONE);
    assert_int_equal(st_open(&f, path, &e), EXIT_DONE);
    check_some(&f);
    assert_int_equal(f.header_bytes % 8, 0);
    st_close(&f);
    assert_false(exists(in_folder("round.safetensors.tmp")));
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);

    assert_int_equal(st_write(path, NULL, 0, NULL, 0, &e), EXIT_DONE);
    assert_int_equal(st_open(&f, path, &e), EXIT_DONE);
    assert_int_equal(f.n_tensors + f.n_meta, 0);
    st_close(&f);
}

static void test_same_bytes(void **state)
{
    (void)state;
    Error e = {0};
    size_t n, m;
    assert_int_equal(st_write(in_folder("one"), some, SOME, some_meta, 3, &e), EXIT_DONE);
    assert_int_equal(st_write(in_folder("two"), some, SOME, some_meta, 3, &e), EXIT_DONE);
    char *one = get_file(in_folder("one"), &n), *two = get_file(in_folder("two"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(one, two, n);
    /* The exact bytes are compared, so that a change of the format is noticed. */
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"key \\\\ \\u0001\":\"value\\twith \x7f and "
        "\xe2\x82\xac\",\"\":\"\"},"
        "\"z.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"a \\\"quoted\\\" "
        "\xc3\xa9\\n\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[24,27]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[27,27]},"
        "\"counts\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[27,43]},"
        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[43,47]}}";
    size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    uint64_t length;
    memcpy(&length, one, 8);
    assert_int_equal(length, padded);
    assert_int_equal(n, 8 + padded + 47);
    assert_memory_equal(one + 8, header, sizeof header - 1);
    for (size_t i = sizeof header - 1; i < padded; i++) assert_int_equal(one[8 + i], ' ');
    free(one);
    free(two);
}

/* Reads files as other writers make them: tensors in any order, no metadata, spaces and newlines,
 * unknown keys, data at any offset. */
static void test_foreign_files(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"b\":{\"data_offsets\":[4,12],\"shape\":[2],\"dtype\":\"F32\"},\"a\":{\"dtype\":\"F32\","
        "\"shape\":"
        "[],\"data_offsets\":[0,4]}}",
        "{ \"a\" : { \"dtype\":\"F32\", \"shape\":[ ], \"data_offsets\":[0,4], "
        "\"later\":{\"x\":[1.5,null]} "
        "} ,\n \"b\""
        ":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}   ",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]},\"0\":{\"dtype\":"
        "\"F64\","
        "\"shape\":[7,0],\"data_offsets\":[4,4]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]},\"\":{\"dtype\":\"BOOL\","
        "\"shape\":["
        "0],\"data_offsets\":[12,12]}}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        for (size_t spaces = 0; spaces < 8; spaces++) {
            char header[512];
            size_t n, length = (size_t)snprintf(header, sizeof header, "%s%.*s", headers[i],
                                                (int)spaces, "        ");
            char *bytes = make_bytes(header, length, 12, &n);
            StFile f;
            Error e = {0};
            if (st_parse(&f, bytes, n, "F", &e)) fail_msg("%s", e.text);
            const char *data = bytes + 8 + length;
            assert_memory_equal(st_find(&f, "a")->data, data, 4);
            assert_memory_equal(st_find(&f, "b")->data, data + 4, 8);
            for (int k = 0; k < f.n_tensors; k++)
                if (f.tensors[k].bytes) assert_int_equal((uintptr_t)f.tensors[k].data % 4, 0);
            st_close(&f);
            free(bytes);
        }
}

static void test_dtypes(void **state)
{
    (void)state;
    for (StDtype d = 0; d < ST_DTYPES; d++) {
        char header[128];
        size_t n, length = (size_t)snprintf(
                      header, sizeof header,
                      "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                      st_dtype_name(d), 3 * st_dtype_size(d));
        char *bytes = make_bytes(header, length, 3 * st_dtype_size(d), &n);
        StFile f;
        Error e = {0};
        if (st_parse(&f, bytes, n, "F", &e)) fail_msg("%s", e.text);
        assert_int_equal(f.tensors[0].dtype, d);
        assert_int_equal((uintptr_t)f.tensors[0].data % st_dtype_size(d), 0);
        st_close(&f);
        free(bytes);
    }
}

/* ---- what is malformed is refused ---- */

#define T(rest) "{\"x\":{" rest "}}"
#define F32_2   "\"dtype\":\"F32\",\"shape\":[2],"

static const struct {
    const char *header;
    size_t n_data;
    const char *says;
} malformed[] = {
    /* not JSON, or not an object */
    {"", 0, "does not start with '{'"},
    {" {}", 0, "does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {"{", 0, "not valid JSON"},
    {"{}x", 0, "not valid JSON"},
    {"{} {}", 0, "not valid JSON"},
    {"{'x':1}", 0, "not valid JSON"},
    {"{\"x\":}", 0, "not valid JSON"},
    {"{\"x\":nan}", 0, "not valid JSON"},
    {"{,}", 0, "not valid JSON"},
    {"{\"x\":1,}", 0, "not valid JSON"},
    {"{\"\xff\":1}", 0, "not valid JSON"},
    {"{\"\xed\xa0\x80\":1}", 0, "not valid JSON"},
    {"{\"\\ud800\":1}", 0, "not valid JSON"},
    {"{\"a\\u0000b\":1}", 0, "not valid JSON"},
    {"{\"__metadata__\":{\"a\":\"b\\u0000\"}}", 0, "not valid JSON"},
    {"{\"a\nb\":1}", 0, "not valid JSON"},
    {"\xef\xbb\xbf{}", 0, "does not start with '{'"},
    /* duplicate keys, at every level, also when spelled differently */
    {"{\"x\":{" F32_2 "\"data_offsets\":[0,8]},\"x\":{" F32_2 "\"data_offsets\":[0,8]}}", 8,
     "duplicate"},
    {"{\"x\":{" F32_2 "\"data_offsets\":[0,8]},\"\\u0078\":{" F32_2 "\"data_offsets\":[8,16]}}", 16,
     "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate"},
    {T(F32_2 "\"data_offsets\":[0,8],\"dtype\":\"F32\""), 8, "duplicate"},
    /* metadata */
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":null}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"step\":1}}", 0, "metadata 'step' is not a string"},
    {"{\"__metadata__\":{\"step\":null}}", 0, "metadata 'step' is not a string"},
    {"{\"__metadata__\":{\"step\":{}}}", 0, "metadata 'step' is not a string"},
    /* entries */
    {"{\"x\":1}", 0, "tensor 'x' is not an object"},
    {"{\"x\":null}", 0, "tensor 'x' is not an object"},
    {"{\"x\":[\"F32\",[2],[0,8]]}", 8, "tensor 'x' is not an object"},
    {T(""), 0, "tensor 'x' has no dtype"},
    {T("\"shape\":[2],\"data_offsets\":[0,8]"), 8, "tensor 'x' has no dtype"},
    {T("\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]"), 8, "tensor 'x' has no dtype"},
    {T("\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8, "unknown dtype 'f32'"},
    {T("\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]"), 8, "unknown dtype 'F31'"},
    {T("\"dtype\":\"\",\"shape\":[2],\"data_offsets\":[0,8]"), 8, "unknown dtype ''"},
    /* shapes */
    {T("\"dtype\":\"F32\",\"data_offsets\":[0,8]"), 8, "has no shape"},
    {T("\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]"), 8, "has no shape"},
    {T("\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,8]"), 8, "has no shape"},
    {T("\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[-1,-2],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[2e0],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[null],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[true,2],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[[2]],\"data_offsets\":[0,8]"), 8,
     "dimension that is not a whole number"},
    {T("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]"), 8,
     "9 dimensions, more than 8"},
    {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"), 0,
     "larger than any file"},
    {T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0,
     "larger than any file"},
    {T("\"dtype\":\"U8\",\"shape\":[9223372036854775807,3],\"data_offsets\":[0,8]"), 8,
     "larger than any file"},
    {T("\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,8]"), 8,
     "not valid JSON"},
    {T("\"dtype\":\"U8\",\"shape\":[18446744073709551624],\"data_offsets\":[0,8]"), 8,
     "not valid JSON"},
    {T("\"dtype\":\"U8\",\"shape\":[1e999],\"data_offsets\":[0,8]"), 8, "not valid JSON"},
    {T("\"dtype\":\"U8\",\"shape\":[08],\"data_offsets\":[0,8]"), 8, "not valid JSON"},
    {T("\"dtype\":\"U8\",\"shape\":[+8],\"data_offsets\":[0,8]"), 8, "not valid JSON"},
    /* offsets */
    {T("\"dtype\":\"F32\",\"shape\":[2]"), 8, "no data_offsets"},
    {T(F32_2 "\"data_offsets\":8"), 8, "no data_offsets"},
    {T(F32_2 "\"data_offsets\":[]"), 8, "no data_offsets"},
    {T(F32_2 "\"data_offsets\":[0]"), 8, "no data_offsets"},
    {T(F32_2 "\"data_offsets\":[0,8,8]"), 8, "no data_offsets"},
    {T(F32_2 "\"data_offsets\":[0,8.0]"), 8, "data_offsets that are not whole numbers"},
    {T(F32_2 "\"data_offsets\":[\"0\",\"8\"]"), 8, "data_offsets that are not whole numbers"},
    {T(F32_2 "\"data_offsets\":[-8,0]"), 8, "data_offsets that are not whole numbers"},
    {T(F32_2 "\"data_offsets\":[8,0]"), 8, "ends at 0, before it begins at 8"},
    {T(F32_2 "\"data_offsets\":[0,-8]"), 8, "ends at -8, before it begins at 0"},
    {T(F32_2 "\"data_offsets\":[9223372036854775807,-9223372036854775808]"), 8, "before it begins"},
    {T(F32_2 "\"data_offsets\":[0,4]"), 4, "F32 (2) needs 8 bytes but is given 4"},
    {T(F32_2 "\"data_offsets\":[0,16]"), 16, "F32 (2) needs 8 bytes but is given 16"},
    {T("\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]"), 0, "needs 4 bytes but is given 0"},
    {T("\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]"), 4,
     "needs 0 bytes but is given 4"},
    {T("\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     "F64 (2) needs 16 bytes but is given 8"},
    /* extents that do not tile the data */
    {T(F32_2 "\"data_offsets\":[0,8]"), 7,
     "cut short: tensor 'x' ends at byte 8 of its data, which has 7"},
    {T(F32_2 "\"data_offsets\":[0,8]"), 0, "cut short"},
    {T(F32_2 "\"data_offsets\":[9223372036854775799,9223372036854775807]"), 8, "cut short"},
    {T(F32_2 "\"data_offsets\":[0,8]"), 9, "1 bytes follow its last tensor"},
    {"{}", 1, "1 bytes follow its last tensor"},
    {T(F32_2 "\"data_offsets\":[4,12]"), 12, "a hole of 4 bytes before tensor 'x'"},
    {"{\"x\":{" F32_2 "\"data_offsets\":[0,8]},\"y\":{" F32_2 "\"data_offsets\":[12,20]}}", 20,
     "a hole of 4 bytes before tensor 'y'"},
    {"{\"x\":{" F32_2 "\"data_offsets\":[0,8]},\"y\":{" F32_2 "\"data_offsets\":[4,12]}}", 12,
     "tensor 'y' overlaps another"},
    {"{\"x\":{" F32_2 "\"data_offsets\":[0,8]},\"y\":{" F32_2 "\"data_offsets\":[0,8]}}", 8,
     "overlaps another"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"U8\","
     "\"shape\":[2],"
     "\"data_offsets\":[3,5]}}",
     8, "tensor 'y' overlaps another"},
    {"{\"x\":{" F32_2
     "\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
     8, "tensor 'y' overlaps another"},
    {"{\"x\":{" F32_2
     "\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[9,9]}}",
     8, "cut short"},
};

static void check_refused(const void *bytes, size_t n, const char *says)
{
    StFile f;
    Error e = {0};
    char *exact = malloc(n + !n);
    memcpy(exact, bytes, n);
    if (st_parse(&f, exact, n, "the-file", &e) != EXIT_BAD_DATA)
        fail_msg("accepted, wanted '%s'", says);
    assert_int_equal(e.code, EXIT_BAD_DATA);
    check_sentence(&e, says);
    check_sentence(&e, "the-file");
    assert_null(f.tensors);
    assert_null(f.header);
    free(exact);

    const char *path = in_folder("bad.safetensors");
    put_file(path, bytes, n);
    memset(&e, 0, sizeof e);
    assert_int_equal(st_open(&f, path, &e), EXIT_BAD_DATA);
    check_sentence(&e, says);
    check_sentence(&e, path);
}

static void test_malformed_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        size_t n;
        char *bytes =
            make_bytes(malformed[i].header, strlen(malformed[i].header), malformed[i].n_data, &n);
        check_refused(bytes, n, malformed[i].says);
        free(bytes);
    }
    print_message("%zu malformed headers\n", sizeof malformed / sizeof malformed[0]);
}

static void test_malformed_lengths(void **state)
{
    (void)state;
    check_refused("", 0, "is empty");
    check_refused("1234567", 7, "its 7 bytes are too few");
    check_refused("\0\0\0\0\0\0\0\0", 8, "does not start with '{'");
    check_refused("\2\0\0\0\0\0\0\0{", 9, "cut short: its header has 2 bytes, the file only 9");
    check_refused("\3\0\0\0\0\0\0\0{}", 10, "cut short");
    check_refused("\2\0\0\0\0\0\0\200{}", 10,
                  "not a safetensors file: its header would have 9223372036854775810");
    check_refused("\377\377\377\377\377\377\377\377{}", 10, "18446744073709551615");
    check_refused("\1\341\365\5\0\0\0\0{}", 10, "100000001 bytes (100000000 at most)");
    /* 100000000 itself is within the limit. */
    check_refused("\0\341\365\5\0\0\0\0{}", 10, "cut short");
    /* Only white space may follow the object. */
    check_refused("\4\0\0\0\0\0\0\0{}\0\0", 12, "not valid JSON");
    check_refused("The quick brown fox.\n", 21, "not a safetensors file");
}

/* Every prefix of a valid file is refused, and the reader never reads beyond it. */
static void test_truncated(void **state)
{
    (void)state;
    Error e = {0};
    size_t n;
    assert_int_equal(st_write(in_folder("whole"), some, SOME, some_meta, 3, &e), EXIT_DONE);
    char *bytes = get_file(in_folder("whole"), &n);
    for (size_t cut = 0; cut < n; cut++) {
        char *prefix = malloc(cut + !cut);
        memcpy(prefix, bytes, cut);
        StFile f;
        assert_int_equal(st_parse(&f, prefix, cut, "F", &e), EXIT_BAD_DATA);
        free(prefix);
    }
    free(bytes);
}

/* Tests a header nested more deeply than any parser's stack allows, and one of very many keys. */
static void test_hostile_sizes(void **state)
{
    (void)state;
    enum { DEEP = 1 << 20 };
    char *header = malloc(8 + DEEP);
    uint64_t length = DEEP;
    memcpy(header, &length, 8);
    memset(header + 8, '[', DEEP);
    memcpy(header + 8, "{\"x\":", 5);
    check_refused(header, 8 + DEEP, "not valid JSON");
    free(header);

    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    fwrite("12345678{", 1, 9, out);
    for (int i = 0; i < 20000; i++)
        fprintf(out, "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                i ? "," : "", i, 19999 - i, 20000 - i);
    fputc('}', out);
    fflush(out);
    length = n - 8;
    for (int i = 0; i < 20000; i++) fputc(i, out);
    fclose(out);
    memcpy(text, &length, 8);
    StFile f;
    Error e = {0};
    if (st_parse(&f, text, n, "F", &e)) fail_msg("%s", e.text);
    assert_int_equal(f.n_tensors, 20000);
    assert_ptr_equal(st_find(&f, "0")->data, text + n - 1);
    st_close(&f);
    free(text);
}

static void test_not_files(void **state)
{
    (void)state;
    StFile f;
    Error e = {0};
    assert_int_equal(st_open(&f, folder, &e), EXIT_BAD_DATA);
    check_sentence(&e, "is a folder");
    assert_int_equal(st_open(&f, in_folder("absent"), &e), EXIT_BAD_DATA);
    check_sentence(&e, "No such file");
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    /* st_open does not wait for a writer. */
    assert_int_equal(st_open(&f, in_folder("pipe"), &e), EXIT_BAD_DATA);
    check_sentence(&e, "not a regular file");
    assert_int_equal(st_open(&f, "/dev/zero", &e), EXIT_BAD_DATA);
    check_sentence(&e, "not a regular file");
    put_file(in_folder("odd\n\x1b[31mname"), "", 0);
    assert_int_equal(st_open(&f, in_folder("odd\n\x1b[31mname"), &e), EXIT_BAD_DATA);
    check_sentence(&e, "odd??[31mname is empty");
}

/* ---- what cannot be written leaves the old file whole ---- */

static const StTensor *big_tensor(void)
{
    enum { N = 1 << 16 };
    static float zeros[N];
    static const StTensor big = {.name = "big",
                                 .dtype = ST_F32,
                                 .rank = 1,
                                 .shape = {N},
                                 .data = zeros,
                                 .bytes = sizeof zeros};
    return &big;
}

static void check_old_whole(const char *path)
{
    StFile f;
    Error e = {0};
    if (st_open(&f, path, &e)) fail_msg("%s", e.text);
    check_some(&f);
    st_close(&f);
}

/* Runs in a child process, since the limit would outlive the test; exits with 0 if the write fails
 * as expected. */
static int write_under_limit(const char *path, rlim_t limit)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        Error e = {0};
        struct rlimit r = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &r);
        int code = st_write(path, big_tensor(), 1, NULL, 0, &e);
        char temp[600];
        snprintf(temp, sizeof temp, "%s.tmp", path);
        _exit(code != EXIT_BAD_DATA                                        ? 1
              : !strstr(e.text, "File too large") || !strstr(e.text, path) ? 2
              : exists(temp)                                               ? 3
                                                                           : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_full_disk(void **state)
{
    (void)state;
    Error e = {0};
    const char *path = in_folder("full.safetensors");
    static const rlim_t limits[] = {0, 1, 7, 8, 50, 80, 4096, 100000, (1 << 18) + 8};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        unlink(path);
        assert_int_equal(write_under_limit(path, limits[i]), 0);
        assert_false(exists(path));
        assert_int_equal(st_write(path, some, SOME, some_meta, 3, &e), EXIT_DONE);
        assert_int_equal(write_under_limit(path, limits[i]), 0);
        check_old_whole(path);
    }
}

static void test_unwritable(void **state)
{
    (void)state;
    Error e = {0};
    const StTensor *t = big_tensor();
    struct {
        const char *path, *says;
    } cases[] = {
        {"no/such/folder.safetensors", "there is no folder"},
        {"", "it is a folder"},
        {"sub", "it is a folder"},
        {"file/inside", "Not a directory"},
        {"pipe2", "not a regular file"},
        {"loop", "Too many levels of symbolic links"},
        {"to-folder", "it is a folder"},
        {"new/", "it is a folder"},
    };
    assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
    put_file(in_folder("file"), "x", 1);
    assert_int_equal(mkfifo(in_folder("pipe2"), 0600), 0);
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    assert_int_equal(symlink("sub", in_folder("to-folder")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = in_folder(cases[i].path);
        assert_int_equal(st_write(path, t, 1, NULL, 0, &e), EXIT_BAD_DATA);
        check_sentence(&e, cases[i].says);
        check_sentence(&e, path);
        assert_int_equal(replace_check(path, "--save", &e), EXIT_BAD_DATA);
        check_sentence(&e, cases[i].says);
        assert_memory_equal(e.text, "--save ", 7);
    }
    char longest[400];
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(replace_check(in_folder(longest), "--save", &e), EXIT_BAD_DATA);
    check_sentence(&e, "File name too long");
    assert_int_equal(replace_check("", "--save", &e), EXIT_BAD_DATA);
    assert_int_equal(replace_check("/dev/null", "--save", &e), EXIT_BAD_DATA);
    check_sentence(&e, "not a regular file");
}

/* Root may write everywhere, so under root the check runs as another user. */
static void test_read_only(void **state)
{
    (void)state;
    Error e = {0};
    const char *path = in_folder("locked/model"), *kept = in_folder("kept");
    assert_int_equal(mkdir(in_folder("locked"), 0755), 0);
    assert_int_equal(st_write(path, some, SOME, some_meta, 3, &e), EXIT_DONE);
    assert_int_equal(st_write(kept, some, SOME, some_meta, 3, &e), EXIT_DONE);
    assert_int_equal(chmod(kept, 0444), 0);
    assert_int_equal(chmod(in_folder("locked"), 0555), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) _exit(77);
        int failed = 0;
        failed |= st_write(path, big_tensor(), 1, NULL, 0, &e) != EXIT_BAD_DATA ||
                  !strstr(e.text, "Permission denied");
        failed |= 2 * (replace_check(path, "--save", &e) != EXIT_BAD_DATA ||
                       !strstr(e.text, "Permission denied"));
        /* A rename would replace a file that someone has made read-only on purpose. */
        failed |= 4 * (st_write(kept, big_tensor(), 1, NULL, 0, &e) != EXIT_BAD_DATA ||
                       !strstr(e.text, "Permission denied"));
        failed |= 8 * (replace_check(kept, "--save", &e) != EXIT_BAD_DATA);
        _exit(failed);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(folder, 0700), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("root here cannot become another user, for whom a folder is not writable\n");
        skip();
    }
    assert_int_equal(status, 0);
    check_old_whole(path);
    check_old_whole(kept);
    assert_false(exists(in_folder("locked/model.tmp")));
}

static void test_replacing(void **state)
{
    (void)state;
    Error e = {0};
    const char *path = in_folder("would.safetensors"), *old = in_folder("old.safetensors");
    assert_int_equal(replace_check(path, "--save", &e), EXIT_DONE);
    assert_false(exists(path));
    assert_false(exists(in_folder("would.safetensors.tmp")));
    assert_int_equal(st_write(old, some, SOME, some_meta, 3, &e), EXIT_DONE);
    assert_int_equal(replace_check(old, "--save", &e), EXIT_DONE);
    check_old_whole(old);
}

/* A write through a symbolic link keeps the link and replaces its target, or creates it if the link
 * points to nothing yet. */
static void test_links(void **state)
{
    (void)state;
    Error e = {0};
    struct stat st;
    assert_int_equal(mkdir(in_folder("disk"), 0700), 0);
    assert_int_equal(symlink("disk/target", in_folder("link1")), 0);
    assert_int_equal(symlink("link1", in_folder("link2")), 0);
    const char *link = in_folder("link2"), *target = in_folder("disk/target");
    assert_int_equal(replace_check(link, "--save", &e), EXIT_DONE);
    assert_false(exists(target));
    for (int again = 0; again < 2; again++) {
        if (st_write(link, some, SOME, some_meta, 3, &e)) fail_msg("%s", e.text);
        assert_int_equal(lstat(link, &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(lstat(target, &st), 0);
        assert_true(S_ISREG(st.st_mode));
        check_old_whole(link);
    }
    assert_int_equal(unlink(in_folder("link1")), 0);
    assert_int_equal(symlink(target, in_folder("link1")), 0); /* absolute */
    assert_int_equal(st_write(in_folder("link1"), some, SOME, some_meta, 3, &e), EXIT_DONE);
    check_old_whole(in_folder("disk/target"));
    assert_false(exists(in_folder("disk/target.tmp")));
    /* A temporary file that is a link is not followed. */
    put_file(in_folder("precious"), "precious", 8);
    assert_int_equal(symlink("precious", in_folder("trap.tmp")), 0);
    assert_int_equal(st_write(in_folder("trap"), some, SOME, some_meta, 3, &e), EXIT_BAD_DATA);
    check_sentence(&e, "trap.tmp");
    size_t n;
    char *bytes = get_file(in_folder("precious"), &n);
    assert_int_equal(n, 8);
    free(bytes);
}

/* The temporary file of a killed writer is reused, however long it is. */
static void test_stale_temporary(void **state)
{
    (void)state;
    Error e = {0};
    static char rest[1 << 16];
    const char *path = in_folder("stale"), *temp = in_folder("stale.tmp");
    put_file(temp, rest, sizeof rest);
    assert_int_equal(st_write(path, some, SOME, some_meta, 3, &e), EXIT_DONE);
    check_old_whole(path);
    assert_false(exists(temp));
    put_file(temp, rest, sizeof rest);
    assert_int_equal(replace_check(path, "--save", &e), EXIT_DONE);
    assert_false(exists(temp));
}

/* Four processes write two different contents to one path while this one reads: it always reads one
 * of the two, complete. */
static void test_writers_at_once(void **state)
{
    (void)state;
    enum { WRITERS = 4, TIMES = 25 };
    Error e = {0};
    const char *path = in_folder("shared");
    pid_t child[WRITERS];
    assert_int_equal(st_write(path, some, SOME, some_meta, 3, &e), EXIT_DONE);
    fflush(NULL);
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            int failed = 0;
            for (int k = 0; k < TIMES; k++)
                failed |= i % 2 ? st_write(path, some, SOME, some_meta, 3, &e)
                                : st_write(path, big_tensor(), 1, NULL, 0, &e);
            _exit(failed);
        }
    }
    int reads = 0, left = WRITERS;
    while (left) {
        StFile f;
        if (st_open(&f, path, &e)) fail_msg("%s", e.text);
        assert_true(f.n_tensors == 1 || f.n_tensors == SOME);
        st_close(&f);
        reads++;
        int status;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            left--;
        }
    }
    print_message("%d reads while %d writes were made\n", reads, WRITERS * TIMES);
    assert_false(exists(in_folder("shared.tmp")));
}

static void test_bad_text(void **state)
{
    (void)state;
    Error e = {0};
    const StMeta latin1 = {"name", "caf\xe9"};
    assert_int_equal(st_write(in_folder("latin1"), NULL, 0, &latin1, 1, &e), EXIT_FAILED);
    check_sentence(&e, "not UTF-8");
    assert_false(exists(in_folder("latin1")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_foreign_files),     cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_malformed_headers), cmocka_unit_test(test_malformed_lengths),
        cmocka_unit_test(test_truncated),         cmocka_unit_test(test_hostile_sizes),
        cmocka_unit_test(test_not_files),         cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_unwritable),        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_replacing),         cmocka_unit_test(test_links),
        cmocka_unit_test(test_stale_temporary),   cmocka_unit_test(test_writers_at_once),
        cmocka_unit_test(test_bad_text),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
