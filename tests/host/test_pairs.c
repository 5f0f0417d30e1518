/* Tests the conversion of parallel text to rows: TASKS 4 on texts with vocabularies, ids and
 * targets computed by hand, and every fault that a folder can have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/settings.h"
#include "host/data/pairs.h"

/* ---- a data folder per test, removed after it ---- */

static char folder[256];

static int folder_make(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/plstm-pairs-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) unlinkat(dirfd(d), f->d_name, 0);
    if (d) closedir(d);
    return rmdir(folder);
}

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put(const char *name, const char *text) { put_bytes(name, text, strlen(text)); }

static void put_all(const char *source, const char *target)
{
    static const char *const split[] = {"train", "valid", "test"};
    char name[32];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.en", split[i]);
        put(name, source);
        snprintf(name, sizeof name, "%s.fr", split[i]);
        put(name, target);
    }
}

static PairsOptions options(void)
{
    return (PairsOptions){
        .dir = folder, .language = {"en", "fr"}, .min_count = 1, .wanted = EVAL_ALL};
}

static void load(Pairs *p, const PairsOptions *o)
{
    Error e = {0};
    if (pairs_load(p, o, &e)) fail_msg("%s", e.text);
}

#define assert_refused(code, o, ...)                                                               \
    check_refused(code, o, (const char *const[]){__VA_ARGS__, NULL})
static void check_refused(int code, const PairsOptions *o, const char *const *words)
{
    Pairs p;
    Error e = {0};
    assert_int_equal(pairs_load(&p, o, &e), code);
    assert_null(p.split);
    for (; *words; words++)
        if (!strstr(e.text, *words)) fail_msg("'%s' is not in: %s", *words, e.text);
    assert_null(strchr(e.text, '\n'));
}

static void check_types(const Vocab *v, const char *types)
{
    char *text = vocab_encode(v);
    assert_string_equal(text, types);
    free(text);
}

#define ROW(...)                                                                                   \
    (const int32_t[]) { __VA_ARGS__ }
static void check_row(const PairSplit *s, int64_t row, int64_t n, const int32_t *ids,
                      const int32_t *targets)
{
    assert_int_equal(sequences_length(&s->rows, row), n);
    assert_memory_equal(s->rows.ids + s->rows.offset[row], ids, sizeof *ids * (size_t)n);
    assert_memory_equal(s->rows.targets + s->rows.offset[row], targets, sizeof *ids * (size_t)n);
}

/* ---- vocabularies and rows ---- */

static void types_go_by_count_then_appearance(void **state)
{
    (void)state;
    put_all("c b a\nb a <unk>\na\n", "x y\n<eos> y\nz x y\n");
    Pairs p;
    PairsOptions o = options();
    load(&p, &o);
    check_types(&p.vocab[SIDE_SOURCE], "<unk> <eos> a b c");
    check_types(&p.vocab[SIDE_TARGET], "<unk> <eos> y x z");
    assert_int_equal(p.n_splits, 3);
    assert_int_equal(p.split[0].rows.n, 3);
    /* The source c b a is reversed and followed by <eos>; then comes x y, whose ids follow those of
     * the five source types. */
    check_row(&p.split[0], 0, 6, ROW(2, 3, 4, 1, 8, 7), ROW(-1, -1, -1, 3, 2, 1));
    /* The pair is b a <unk> | <eos> y: the literals <unk> and <eos> have ids 0 and 1. */
    check_row(&p.split[0], 1, 6, ROW(0, 2, 3, 1, 6, 7), ROW(-1, -1, -1, 1, 2, 1));
    assert_int_equal(p.split[0].unknown[0], 0);
    pairs_free(&p);

    o.forward = true;
    load(&p, &o);
    check_row(&p.split[0], 0, 6, ROW(4, 3, 2, 1, 8, 7), ROW(-1, -1, -1, 3, 2, 1));
    pairs_free(&p);
}

static void rare_words_become_unk_and_are_scored(void **state)
{
    (void)state;
    put_all("a a b\n", "x y y\n");
    put("test.en", "new a\n");
    put("test.fr", "y x\n");
    Pairs p;
    PairsOptions o = options();
    o.min_count = 2;
    load(&p, &o);
    check_types(&p.vocab[SIDE_SOURCE], "<unk> <eos> a");
    check_types(&p.vocab[SIDE_TARGET], "<unk> <eos> y");
    check_row(&p.split[0], 0, 7, ROW(0, 2, 2, 1, 3, 5, 5), ROW(-1, -1, -1, 0, 2, 2, 1));
    check_row(&p.split[2], 0, 5, ROW(2, 0, 1, 5, 3), ROW(-1, -1, 2, 0, 1));
    assert_int_equal(p.split[0].words[0], 3);
    assert_int_equal(p.split[0].unknown[0], 1);
    assert_int_equal(p.split[2].unknown[0], 1);
    assert_int_equal(p.split[2].unknown[1], 1);
    pairs_free(&p);
}

static void empty_lines_and_sides_are_kept(void **state)
{
    (void)state;
    put_all("a\n\n\nb",
            /* a last line without a newline counts; white space separates words */
            "\nx\n\n y\tz \r");
    Pairs p;
    PairsOptions o = options();
    load(&p, &o);
    const PairSplit *s = &p.split[0];
    assert_int_equal(s->rows.n, 4);
    check_row(s, 0, 2, ROW(2, 1), ROW(-1, 1));
    check_row(s, 1, 2, ROW(1, 6), ROW(2, 1));
    check_row(s, 2, 1, ROW(1), ROW(1));
    check_row(s, 3, 4, ROW(3, 1, 7, 8), ROW(-1, 3, 4, 1));
    assert_int_equal(s->empty[0], 2);
    assert_int_equal(s->empty[1], 2);
    assert_int_equal(s->longest[1], 2);
    pairs_free(&p);
}

static void a_byte_order_mark_is_taken_off(void **state)
{
    (void)state;
    put_all("a\n", "x\n");
    put("train.en", "\xef\xbb\xbf"
                    "a\n");
    Pairs p;
    PairsOptions o = options();
    load(&p, &o);
    check_types(&p.vocab[0], "<unk> <eos> a");
    assert_true(p.split[0].bom[0] && !p.split[0].bom[1]);
    pairs_free(&p);
}

static void each_test_is_a_split_and_valid_has_three_names(void **state)
{
    (void)state;
    put_all("a\n", "x\n");
    put("test_2017.en", "a\n");
    put("test_2017.fr", "x\n");
    put("test.2016.en", "a a\n");
    put("test.2016.fr", "x\n");
    put("dev.en", "a\na\n");
    put("dev.fr", "x\nx\n");
    put("testing.de", "no side of this pair\n");
    Pairs p;
    PairsOptions o = options();
    load(&p, &o);
    static const char *const name[] = {"train", "valid", "test", "test.2016", "test_2017"};
    assert_int_equal(p.n_splits, 5);
    for (int i = 0; i < 5; i++) assert_string_equal(p.split[i].name, name[i]);
    pairs_free(&p);

    unlink(in_folder("valid.en"));
    unlink(in_folder("valid.fr"));
    load(&p, &o);
    assert_string_equal(p.split[1].name, "dev");
    assert_int_equal(p.split[1].rows.n, 2);
    pairs_free(&p);
    put("val.en", "a\n");
    put("val.fr", "x\n");
    load(&p, &o);
    assert_string_equal(p.split[1].name, "val");
    pairs_free(&p);
}

/* With a file's vocabularies, unknown words become <unk>, and only the requested split is read. */
static void a_given_vocabulary_gives_the_ids(void **state)
{
    (void)state;
    put_all("a b\n", "x y\n");
    Pairs p, q;
    PairsOptions o = options();
    Error e;
    load(&p, &o);
    assert_int_equal(strlen(p.sha256), 64);
    put("test.en", "b c\n");
    put("test.fr", "w y\n");
    unlink(in_folder("train.en"));
    o.vocab = p.vocab;
    load(&q, &o);
    assert_int_equal(pairs_read(&q, PAIRS_TEST, &e), EXIT_DONE);
    assert_false(q.split[0].read);
    assert_string_equal(q.sha256, "");
    check_row(&q.split[2], 0, 5, ROW(0, 3, 1, 4, 7), ROW(-1, -1, 0, 3, 1));
    assert_int_equal(q.split[2].unknown[0] + q.split[2].unknown[1], 2);
    assert_int_equal(pairs_read(&q, PAIRS_TRAIN, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "train.en'"));
    pairs_free(&q);
    pairs_free(&p);
}

static void the_hash_tells_rows_apart(void **state)
{
    (void)state;
    Pairs p;
    PairsOptions o = options();
    char first[65];
    put_all("a b\n", "x y\n");
    load(&p, &o);
    strcpy(first, p.sha256);
    pairs_free(&p);
    load(&p, &o);
    assert_string_equal(p.sha256, first);
    pairs_free(&p);
    put("test.fr", "y x\n");
    load(&p, &o);
    assert_string_not_equal(p.sha256, first);
    pairs_free(&p);
}

/* ---- faults ---- */

static void unequal_line_counts_are_named(void **state)
{
    (void)state;
    put_all("a\nb\n", "x\ny\n");
    put("valid.fr", "x\ny\nz\n\n");
    PairsOptions o = options();
    assert_refused(EXIT_BAD_DATA, &o, "valid.en' has 2 lines", "valid.fr' has 4");
}

static void a_missing_side_is_named(void **state)
{
    (void)state;
    put_all("a\n", "x\n");
    unlink(in_folder("test.fr"));
    PairsOptions o = options();
    assert_refused(EXIT_BAD_DATA, &o, "test.fr'", "test.en'");
    unlink(in_folder("test.en"));
    assert_refused(EXIT_BAD_DATA, &o, "no test text", "test*.en");
    put("valid.en", "");
    unlink(in_folder("valid.fr"));
    assert_refused(EXIT_BAD_DATA, &o, "no test text");
    put_all("a\n", "x\n");
    unlink(in_folder("valid.en"));
    assert_refused(EXIT_BAD_DATA, &o, "valid.en'", "valid.fr'");
    unlink(in_folder("valid.fr"));
    assert_refused(EXIT_BAD_DATA, &o, "no valid text", "val.en");
    unlink(in_folder("train.en"));
    unlink(in_folder("train.fr"));
    assert_refused(EXIT_BAD_DATA, &o, "no training text", "train.fr");
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    put_all("a\n", "x\n");
    put("train.fr", "");
    PairsOptions o = options();
    assert_refused(EXIT_BAD_DATA, &o, "train.fr' is empty");
    put("train.fr", "\xef\xbb\xbf");
    assert_refused(EXIT_BAD_DATA, &o, "train.fr' is empty");
    put_bytes("train.fr", "x\0y\n", 4);
    assert_refused(EXIT_BAD_DATA, &o, "train.fr'", "NUL", "byte 1 ");
    unlink(in_folder("train.fr"));
    assert_int_equal(mkdir(in_folder("train.fr"), 0777), 0);
    assert_refused(EXIT_BAD_DATA, &o, "train.fr' is a folder");
    rmdir(in_folder("train.fr"));
    assert_int_equal(mkfifo(in_folder("train.fr"), 0666), 0);
    assert_refused(EXIT_BAD_DATA, &o, "train.fr' is a pipe");
    unlink(in_folder("train.fr"));
    put_bytes("train.fr", "\xff\xfex\0\n\0", 6);
    assert_refused(EXIT_BAD_DATA, &o, "train.fr' begins with", "UTF-16");
    o.dir = "no-such-folder";
    assert_refused(EXIT_BAD_DATA, &o, "no-such-folder");
}

static void languages_are_two_endings(void **state)
{
    (void)state;
    put_all("a\n", "x\n");
    PairsOptions o = options();
    o.language[1] = "en";
    assert_refused(EXIT_USAGE, &o, "--source", "--target", "en");
    o.language[1] = NULL;
    assert_refused(EXIT_USAGE, &o, "--target", "is required");
    o.language[1] = "x/y";
    assert_refused(EXIT_USAGE, &o, "--target", "x/y");
    o.language[1] = "";
    assert_refused(EXIT_USAGE, &o, "--target");
    o.language[1] = "de";
    assert_refused(EXIT_BAD_DATA, &o, "train.de'");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        TEST(types_go_by_count_then_appearance),
        TEST(rare_words_become_unk_and_are_scored),
        TEST(empty_lines_and_sides_are_kept),
        TEST(a_byte_order_mark_is_taken_off),
        TEST(each_test_is_a_split_and_valid_has_three_names),
        TEST(a_given_vocabulary_gives_the_ids),
        TEST(the_hash_tells_rows_apart),
        TEST(unequal_line_counts_are_named),
        TEST(a_missing_side_is_named),
        TEST(bad_files_are_refused),
        TEST(languages_are_two_endings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
