/* Tests Kaldi's tables byte by byte: every kind of matrix against numbers computed by hand,
 * archives and scripts, lines of labels and phones, the written archives, and the refused files. */
#include "tests/support/program.h"

#include <math.h>

#include "host/data/features.h"
#include "host/data/kaldi.h"

typedef struct Bytes {
    unsigned char at[65536];
    size_t n;
} Bytes;

static void put(Bytes *b, const void *bytes, size_t n)
{
    assert_true(b->n + n <= sizeof b->at);
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}
static void put_text(Bytes *b, const char *text) { put(b, text, strlen(text)); }
static void put_i32(Bytes *b, int32_t x) { put(b, &x, 4); }
static void put_f32(Bytes *b, float x) { put(b, &x, 4); }

/* Appends the head of a binary matrix: \0B, a token, and the sizes of FM and DM. */
static void put_head(Bytes *b, const char *token, int32_t rows, int32_t cols)
{
    put(b, "\0B", 2);
    put_text(b, token);
    put(b, "\4", 1), put_i32(b, rows);
    put(b, "\4", 1), put_i32(b, cols);
}

static void put_compressed(Bytes *b, const char *token, float least, float range, int32_t rows,
                           int32_t cols)
{
    put(b, "\0B", 2);
    put_text(b, token);
    put_f32(b, least), put_f32(b, range), put_i32(b, rows), put_i32(b, cols);
}

static void parse(KaldiMatrix *m, const Bytes *b)
{
    Error e;
    if (kaldi_matrix_parse(m, b->at, b->n, "m", &e)) fail_msg("%s", e.text);
}

static void assert_matrix(const Bytes *b, int64_t rows, int64_t cols, const float *wanted)
{
    KaldiMatrix m;
    float got[64];
    parse(&m, b);
    assert_int_equal(m.rows, rows);
    assert_int_equal(m.cols, cols);
    assert_true(rows * cols <= 64);
    kaldi_matrix_read(&m, got);
    for (int64_t i = 0; i < rows * cols; i++)
        if (memcmp(&got[i], &wanted[i], 4))
            fail_msg("element %d: %.9g, wanted %.9g", (int)i, got[i], wanted[i]);
}

/* ---- matrices ---- */

static void floats_and_doubles(void **state)
{
    (void)state;
    static const float f[6] = {1, -2.5f, 0x1p-140f, 3e38f, -0.0f, 7};
    static const double d[6] = {0.1, -2, 1e-300,
                                4,   5,  1.0000000596046448}; /* the last rounds to even */
    static const float rounded[6] = {0.1f, -2, 0, 4, 5, 1};
    Bytes b = {.n = 0};
    put_head(&b, "FM ", 2, 3);
    put(&b, f, sizeof f);
    assert_matrix(&b, 2, 3, f);
    KaldiMatrix m;
    put_text(&b, "what follows");
    parse(&m, &b);
    assert_int_equal(m.bytes, b.n - strlen("what follows"));
    b.n = 0;
    put_head(&b, "DM ", 3, 2);
    put(&b, d, sizeof d);
    assert_matrix(&b, 3, 2, rounded);
    b.n = 0;
    put_head(&b, "FM ", 0, 0);
    assert_matrix(&b, 0, 0, NULL);
}

/* Reads two columns of three rows: one has quartiles at 0, 16384, 32768 and 65535 65535ths of 8
 * above -1, the other has quartiles of its own. */
static void compressed_with_columns(void **state)
{
    (void)state;
    static const uint16_t quartile[2][4] = {{0, 16384, 32768, 65535}, {100, 200, 300, 400}};
    static const unsigned char element[2][3] = {{0, 64, 255}, {32, 128, 193}};
    Bytes b = {.n = 0};
    put_compressed(&b, "CM ", -1, 8, 3, 2);
    put(&b, quartile, sizeof quartile);
    put(&b, element, sizeof element);
    float q[2][4], wanted[6];
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < 4; i++) q[c][i] = -1 + 8 * 1.52590218966964e-05F * quartile[c][i];
    wanted[0] = q[0][0], wanted[2] = q[0][1], wanted[4] = q[0][3];
    wanted[1] = (float)(q[1][0] + (q[1][1] - q[1][0]) * 0.5);
    wanted[3] = (float)(q[1][1] + (q[1][2] - q[1][1]) * 0.5);
    wanted[5] = (float)(q[1][2] + (q[1][3] - q[1][2]) * 1 * (1 / 63.0));
    assert_matrix(&b, 3, 2, wanted);
    assert_true(wanted[0] == -1 && fabsf(wanted[2] - 1) < 1e-3f && fabsf(wanted[4] - 7) < 1e-5f);
}

static void compressed_plainly(void **state)
{
    (void)state;
    static const uint16_t two[4] = {0, 65535, 32768, 1};
    static const unsigned char one[4] = {0, 255, 128, 1};
    Bytes b = {.n = 0};
    float wanted[4];
    put_compressed(&b, "CM2 ", 2, 10, 2, 2);
    put(&b, two, sizeof two);
    float step = (float)(10 * (1.0 / 65535.0));
    for (int i = 0; i < 4; i++) wanted[i] = 2 + two[i] * step;
    assert_matrix(&b, 2, 2, wanted);
    assert_true(fabsf(wanted[1] - 12) < 1e-5f);
    b.n = 0;
    put_compressed(&b, "CM3 ", 2, 10, 2, 2);
    put(&b, one, sizeof one);
    step = (float)(10 * (1.0 / 255.0));
    for (int i = 0; i < 4; i++) wanted[i] = 2 + one[i] * step;
    assert_matrix(&b, 2, 2, wanted);
    assert_true(fabsf(wanted[1] - 12) < 1e-5f);
    b.n = 0;
    put_compressed(&b, "CM ", 0, 0, 0, 0);
    assert_matrix(&b, 0, 0, NULL);
}

static void text(void **state)
{
    (void)state;
    static const char *const same[] = {"[\n  1 -2.5 3e-2\n  4 5 6 ]\n",
                                       " [ 1 -2.5 0.03 \n 4 5 6\n]\n", "[ 1 -2.5 .03 ; 4. +5 6e0]",
                                       "[\r\n 1\t-2.5 0.03\r\n\r\n4 5 6 ]\r\n"};
    static const float wanted[6] = {1, -2.5f, 0.03f, 4, 5, 6};
    Bytes b;
    KaldiMatrix m;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        b.n = 0;
        put_text(&b, same[i]);
        assert_matrix(&b, 2, 3, wanted);
        parse(&m, &b);
        assert_int_equal(m.bytes, b.n);
    }
    b.n = 0;
    put_text(&b, "[ ]\n");
    assert_matrix(&b, 0, 0, NULL);
    b.n = 0; /* infinities are read here; host/data/features.c refuses them */
    put_text(&b, "[ inf -Infinity ]");
    assert_matrix(&b, 1, 2, (const float[]){INFINITY, -INFINITY});
}

/* Reads every kind of archive that Kaldi's own code wrote. The values must be those that Kaldi
 * reads, bit for bit (tests/fixtures/kaldi/make.py). */
static void as_kaldi_reads(void **state)
{
    (void)state;
    static const char *const kinds[] = {"fm", "dm", "text", "cm", "cm2", "cm3"};
    static const KaldiKind kind[] = {KALDI_F32, KALDI_F64, KALDI_TEXT,
                                     KALDI_CM,  KALDI_CM2, KALDI_CM3};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        Features ours, theirs;
        KaldiEntry a, b;
        Error e;
        char path[64];
        int utterances = 0;
        snprintf(path, sizeof path, "tests/fixtures/kaldi/%s.ark", kinds[i]);
        if (features_open(&ours, path, &e)) fail_msg("%s", e.text);
        snprintf(path, sizeof path, "tests/fixtures/kaldi/%s-read.ark", kinds[i]);
        if (features_open(&theirs, path, &e)) fail_msg("%s", e.text);
        for (;; utterances++) {
            float x[100], y[100];
            if (features_next(&ours, &a, &e) || features_next(&theirs, &b, &e))
                fail_msg("%s", e.text);
            assert_true(!a.name == !b.name);
            if (!a.name) break;
            assert_true(a.matrix.rows == b.matrix.rows && a.matrix.cols == b.matrix.cols &&
                        a.matrix.rows * a.matrix.cols <= 100);
            assert_int_equal(a.matrix.kind, kind[i]);
            kaldi_matrix_read(&a.matrix, x);
            kaldi_matrix_read(&b.matrix, y);
            for (int64_t k = 0; k < a.matrix.rows * a.matrix.cols; k++)
                if (memcmp(&x[k], &y[k], sizeof *x))
                    fail_msg("%s, element %d of utterance %d: %.9g, and Kaldi reads %.9g", kinds[i],
                             (int)k, utterances, x[k], y[k]);
        }
        assert_int_equal(utterances, 3);
        features_close(&ours);
        features_close(&theirs);
    }
}

static void assert_refused(const void *bytes, size_t n, const char *phrase)
{
    KaldiMatrix m;
    Error e = {0};
    /* The block has exactly the size of its content, so that the address sanitizer detects an
     * access to the first byte beyond. */
    void *exact = malloc(n + !n);
    memcpy(exact, bytes, n);
    assert_int_equal(kaldi_matrix_parse(&m, exact, n, "f, utterance u,", &e), EXIT_BAD_DATA);
    free(exact);
    assert_contains(e.text, phrase);
    assert_contains(e.text, "f, utterance u,");
}

static void matrices_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *phrase;
    } bad[] = {{"", "cut short"},
               {"  ", "cut short"},
               {"1 2 3", "no matrix"},
               {"[ 1 2\n3 4", "cut short"},
               {"[ 1 2\n3 ]", "lengths"},
               {"[ 1 x ]", "row 1"},
               {"[ 1 2\n1 0x10 ]", "row 2"},
               {"[ 1--2 ]", "not a number"},
               {"[ 1 nanx ]", "not a number"},
               {"[ [ 1 ] ]", "not a number"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i].text, strlen(bad[i].text), bad[i].phrase);
    /* Truncates every binary matrix at every byte. */
    Bytes b[5] = {{.n = 0}};
    static const char data[64];
    put_head(&b[0], "FM ", 2, 2), put(&b[0], data, 16);
    put_head(&b[1], "DM ", 2, 2), put(&b[1], data, 32);
    put_compressed(&b[2], "CM ", 0, 1, 2, 2), put(&b[2], data, 16 + 4);
    put_compressed(&b[3], "CM2 ", 0, 1, 2, 2), put(&b[3], data, 8);
    put_compressed(&b[4], "CM3 ", 0, 1, 2, 2), put(&b[4], data, 4);
    for (int i = 0; i < 5; i++) {
        KaldiMatrix m;
        parse(&m, &b[i]);
        assert_int_equal(m.bytes, b[i].n);
        for (size_t n = 2; n < b[i].n; n++) assert_refused(b[i].at, n, "cut short");
    }
    Bytes w = {.n = 0};
    put_head(&w, "FV ", 4, 4), put(&w, data, 64);
    assert_refused(w.at, w.n, "'FV'");
    w.n = 0, put_head(&w, "FM ", -1, 4), put(&w, data, 64);
    assert_refused(w.at, w.n, "invalid size");
    w.n = 0, put_head(&w, "FM ", 0, 4);
    assert_refused(w.at, w.n, "0 rows of 4");
    w.n = 0, put_head(&w, "FM ", INT32_MAX, INT32_MAX), put(&w, data, 64);
    assert_refused(w.at, w.n, "cut short");
    w.n = 0, put_compressed(&w, "CM ", 0, 1, 2, -2);
    assert_refused(w.at, w.n, "invalid size");
    w.n = 0, put_compressed(&w, "CM ", 0, 1, INT32_MAX, INT32_MAX), put(&w, data, 64);
    assert_refused(w.at, w.n, "cut short");
}

/* ---- archives ---- */

static void archives(void **state)
{
    (void)state;
    static const float f[2] = {1, 2};
    Bytes b = {.n = 0};
    put_text(&b, "one "), put_head(&b, "FM ", 1, 2), put(&b, f, sizeof f);
    put_text(&b, "two  [\n  3 4\n  5 6 ]\nthree "), put_head(&b, "FM ", 2, 1), put(&b, f, sizeof f);
    KaldiEntry entry;
    Error e;
    size_t at = 0;
    static const struct {
        const char *name;
        int64_t rows, cols;
    } wanted[] = {{"one", 1, 2}, {"two", 2, 2}, {"three", 2, 1}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kaldi_archive_next(b.at, b.n, &at, "a.ark", &entry, &e), 0);
        assert_int_equal(entry.name_bytes, strlen(wanted[i].name));
        assert_memory_equal(entry.name, wanted[i].name, entry.name_bytes);
        assert_int_equal(entry.matrix.rows, wanted[i].rows);
        assert_int_equal(entry.matrix.cols, wanted[i].cols);
    }
    assert_int_equal(kaldi_archive_next(b.at, b.n, &at, "a.ark", &entry, &e), 0);
    assert_null(entry.name);
    at = 0;
    assert_int_equal(kaldi_archive_next("\1\2\3", 3, &at, "a.ark", &entry, &e), EXIT_BAD_DATA);
    assert_contains(e.text, "a.ark is not an archive of Kaldi");
    at = 0;
    assert_int_equal(kaldi_archive_next("name", 4, &at, "a.ark", &entry, &e), EXIT_BAD_DATA);
    assert_contains(e.text, "a.ark, utterance name, is cut short");
}

/* ---- lines ---- */

static int script(const char *line, KaldiPlace *place, Error *e)
{
    KaldiText t = {line, line + strlen(line), "x.scp", 0};
    return kaldi_script_next(&t, place, e);
}

static void scripts(void **state)
{
    (void)state;
    static const struct {
        const char *line, *path;
        uint64_t offset;
    } good[] = {{"u a.ark:12\n", "a.ark", 12},
                {"u  a b:c.ark:0 \r\n", "a b:c.ark", 0},
                {"u\ta.ark", "a.ark", 0},
                {"u a.ark:", "a.ark:", 0},
                {"u 12", "12", 0},
                {"u a:18446744073709551615", "a", UINT64_MAX},
                {"u a:000000000000000000000000017", "a", 17}};
    static const struct {
        const char *line, *phrase;
    } bad[] = {{"u\n", "names no file"},
               {"\n", "does not begin with a name"},
               {"u gunzip -c a.gz |\n", "command"},
               {"u | cat\n", "command"},
               {"u -\n", "standard input"},
               {"u a.ark:5[0:3]\n", "part of a matrix"},
               {"u :5\n", "names no file"},
               {"u a:18446744073709551616\n", "larger than any file"}};
    KaldiPlace place;
    Error e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (script(good[i].line, &place, &e)) fail_msg("%s: %s", good[i].line, e.text);
        assert_int_equal(place.path_bytes, strlen(good[i].path));
        assert_memory_equal(place.path, good[i].path, place.path_bytes);
        assert_true(place.offset == good[i].offset && place.name_bytes == 1);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(script(bad[i].line, &place, &e), EXIT_BAD_DATA);
        assert_contains(e.text, bad[i].phrase);
        assert_contains(e.text, "x.scp: line 1");
    }
    assert_int_equal(script("", &place, &e), 0);
    assert_null(place.name);
}

static void labels(void **state)
{
    (void)state;
    static const char lines[] = "a 3 1 4\nb\nc\t 0  9999999 \r\n";
    static const struct {
        const char *line, *phrase;
    } bad[] = {{"a 1 -1", "'-1' for label 2"},
               {"a 1.5", "'1.5'"},
               {"a 10000000", "'10000000'"},
               {"a 1 x2 3", "'x2' for label 2"},
               {"a 99999999999999999999", "label 1"},
               {"\n", "does not begin"},
               {"\0B\4", "does not begin"}};
    KaldiText t = {lines, lines + strlen(lines), "labels", 0};
    KaldiLabels l;
    Error e;
    int32_t id[3];
    assert_int_equal(kaldi_labels_next(&t, &l, &e), 0);
    assert_true(l.n == 3 && l.largest == 4);
    kaldi_labels_read(&l, id);
    assert_memory_equal(id, ((const int32_t[]){3, 1, 4}), sizeof id);
    assert_int_equal(kaldi_labels_next(&t, &l, &e), 0);
    assert_true(l.n == 0 && l.largest == -1 && l.name[0] == 'b');
    assert_int_equal(kaldi_labels_next(&t, &l, &e), 0);
    assert_true(l.n == 2 && l.largest == KALDI_MAX_LABEL && t.line == 3);
    kaldi_labels_read(&l, id);
    assert_true(id[0] == 0 && id[1] == KALDI_MAX_LABEL);
    assert_int_equal(kaldi_labels_next(&t, &l, &e), 0);
    assert_null(l.name);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t = (KaldiText){bad[i].line, bad[i].line + (bad[i].line[0] ? strlen(bad[i].line) : 3),
                        "labels", 0};
        assert_int_equal(kaldi_labels_next(&t, &l, &e), EXIT_BAD_DATA);
        assert_contains(e.text, bad[i].phrase);
    }
}

static void phones(void **state)
{
    (void)state;
    static const char *const bad[] = {"a",    "a b",        "a 1 loud", "a 1 silence 2",
                                      "a -1", "a 1silence", "\n"};
    static const char lines[] = "SIL 0 silence\nAH_1  7 \n";
    KaldiText t = {lines, lines + strlen(lines), "phones", 0};
    KaldiPhone p;
    Error e;
    assert_int_equal(kaldi_phone_next(&t, &p, &e), 0);
    assert_true(p.id == 0 && p.silence && p.name_bytes == 3);
    assert_int_equal(kaldi_phone_next(&t, &p, &e), 0);
    assert_true(p.id == 7 && !p.silence && p.name_bytes == 4);
    assert_int_equal(kaldi_phone_next(&t, &p, &e), 0);
    assert_null(p.name);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t = (KaldiText){bad[i], bad[i] + strlen(bad[i]), "phones", 0};
        assert_int_equal(kaldi_phone_next(&t, &p, &e), EXIT_BAD_DATA);
        assert_contains(e.text, "phones: line 1");
    }
    /* A name may have 255 bytes, but not 256. */
    char name[300];
    memset(name, 'n', sizeof name);
    strcpy(name + 255, " 1");
    t = (KaldiText){name, name + strlen(name), "phones", 0};
    assert_int_equal(kaldi_phone_next(&t, &p, &e), 0);
    assert_int_equal(p.name_bytes, 255);
    strcpy(name + 255, "n 1");
    t = (KaldiText){name, name + strlen(name), "phones", 0};
    assert_int_equal(kaldi_phone_next(&t, &p, &e), EXIT_BAD_DATA);
}

/* ---- files ---- */

static void file_put(const char *name, const Bytes *b)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->at, 1, b->n, f), b->n);
    fclose(f);
}

/* Reads what kaldi_archive_put writes, through a script whose lines are in another order and name
 * the archive in three ways. */
static void tables(void **state)
{
    (void)state;
    static const float x[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}};
    Replacement r;
    Error e;
    float back[4];
    assert_int_equal(replace_open(&r, in_folder("t.ark"), "t", &e), 0);
    assert_int_equal(replace_begin(&r), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(kaldi_archive_put(&r, (const char *[]){"a", "bb", "c"}[i], x[i], 2, 2), 0);
    assert_int_equal(kaldi_archive_put(&r, "empty", NULL, 0, 0), 0);
    assert_int_equal(replace_finish(&r, true, "t", &e), 0);

    char lines[3 * PATH_MAX];
    snprintf(lines, sizeof lines, "c t.ark:%d\na %s:2\nbb t.ark:%d\n", 33 + 34 + 2,
             in_folder("t.ark"), 33 + 3);
    file_write(in_folder("t.scp"), lines);
    static const int order[2][3] = {{2, 0, 1}, {0, 1, 2}};
    for (int script = 1; script >= 0; script--) {
        Features f;
        KaldiEntry entry;
        assert_int_equal(features_open(&f, in_folder(script ? "t.scp" : "t.ark"), &e), 0);
        for (int i = 0; i < 3; i++) {
            if (features_next(&f, &entry, &e)) fail_msg("%s", e.text);
            assert_int_equal(features_read(&f, &entry, back, &e), 0);
            assert_memory_equal(back, x[order[!script][i]], sizeof back);
        }
        if (!script) {
            assert_int_equal(features_next(&f, &entry, &e), 0);
            assert_true(entry.name && entry.matrix.rows == 0);
        }
        assert_int_equal(features_next(&f, &entry, &e), 0);
        assert_null(entry.name);
        features_close(&f);
    }
}

static void assert_table_refused(const char *phrase)
{
    Features f;
    KaldiEntry entry;
    Error e;
    float back[64];
    assert_int_equal(features_open(&f, in_folder("bad.scp"), &e), 0);
    int code = features_next(&f, &entry, &e);
    if (!code) code = features_read(&f, &entry, back, &e);
    assert_int_equal(code, EXIT_BAD_DATA);
    assert_contains(e.text, phrase);
    features_close(&f);
}

static void tables_refused(void **state)
{
    (void)state;
    Bytes b = {.n = 0};
    Features f;
    Error e;
    put_head(&b, "FM ", 2, 2);
    put_f32(&b, 1), put_f32(&b, 2), put_f32(&b, 3), put_f32(&b, NAN);
    file_put("nan.mat", &b);
    file_write(in_folder("bad.scp"), "u nan.mat\n");
    assert_table_refused("nan.mat, utterance u: dimension 2 of frame 2 is not a number");
    file_write(in_folder("bad.scp"), "u nan.mat:100\n");
    assert_table_refused("nan.mat is cut short: utterance u begins at byte 100");
    file_write(in_folder("bad.scp"), "u nowhere.mat:0\n");
    assert_table_refused("nowhere.mat cannot be opened");
    b.n = 0;
    put_text(&b, "[ 1 -inf ]");
    file_put("nan.mat", &b);
    file_write(in_folder("bad.scp"), "u nan.mat\n");
    assert_table_refused("dimension 2 of frame 1 is infinite");
    assert_int_equal(features_open(&f, in_folder("nothing-there"), &e), EXIT_BAD_DATA);
    assert_int_equal(features_open(&f, folder, &e), EXIT_BAD_DATA);
    assert_contains(e.text, "feats.ark");
}

/* Compares normalisation to mean 0 and variance 1 with the plain formula in double; a constant
 * dimension becomes 0, and nothing is infinite. */
static void normalisation(void **state)
{
    (void)state;
    float x[5 * 2] = {1, 7, 2, 7, 4, 7, 8, 7, 16, 7}, wanted[5];
    double mean = 31 / 5.0, variance = 0;
    for (int t = 0; t < 5; t++) variance += (x[2 * t] - mean) * (x[2 * t] - mean) / 5;
    for (int t = 0; t < 5; t++) wanted[t] = (float)((x[2 * t] - mean) / sqrt(variance));
    features_normalise(x, 5, 2);
    for (int t = 0; t < 5; t++) {
        /* The two sides round in different orders in double. */
        assert_true(fabsf(x[2 * t] - wanted[t]) <= 0x1p-23f * fabsf(wanted[t]));
        assert_true(x[2 * t + 1] == 0);
    }
    float one[2] = {3, -4};
    features_normalise(one, 1, 2);
    assert_true(one[0] == 0 && one[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_and_doubles),
        cmocka_unit_test(compressed_with_columns),
        cmocka_unit_test(compressed_plainly),
        cmocka_unit_test(text),
        cmocka_unit_test(as_kaldi_reads),
        cmocka_unit_test(matrices_refused),
        cmocka_unit_test(archives),
        cmocka_unit_test(scripts),
        cmocka_unit_test(labels),
        cmocka_unit_test(phones),
        cmocka_unit_test(tables),
        cmocka_unit_test(tables_refused),
        cmocka_unit_test(normalisation),
    };
    return cmocka_run_group_tests_name("kaldi", tests, folder_make, folder_remove);
}
