/* Tests the conversion of text to ids: SPEC 4's rules on tiny texts with ids computed by hand,
 * every fault that a file can have, the vocabulary's text form, Penn Treebank's counts, and the
 * memory that reading takes. */
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/data/source.h"
#include "host/commands/commands.h"
#include "host/data/synthetic.h"

/* ---- a data folder per test, removed after it ---- */

static char folder[256];

static int folder_make(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/plstm-corpus-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));)
        if (unlinkat(dirfd(d), f->d_name, 0)) unlinkat(dirfd(d), f->d_name, AT_REMOVEDIR);
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

static void put_splits(const char *train, const char *valid, const char *test)
{
    put("train.txt", train);
    put("valid.txt", valid);
    put("test.txt", test);
}

static void load(Corpus *c)
{
    Error e = {0};
    if (corpus_load(c, folder, NULL, &e)) fail_msg("%s", e.text);
}

/* Checks that loading fails with exit code 3 and a sentence that contains each of the words. */
#define assert_refused(vocab, ...) check_refused(vocab, (const char *const[]){__VA_ARGS__, NULL})
static void check_refused(const Vocab *vocab, const char *const *words)
{
    Corpus c;
    Error e = {0};
    assert_int_equal(corpus_load(&c, folder, vocab, &e), EXIT_BAD_DATA);
    assert_int_equal(e.code, EXIT_BAD_DATA);
    assert_null(c.split[0].ids);
    assert_null(c.vocab.bytes);
    for (; *words; words++)
        if (!strstr(e.text, *words)) fail_msg("'%s' is not in: %s", *words, e.text);
    assert_null(strchr(e.text, '\n'));
}

#define assert_ids(stream, ...)                                                                    \
    check_ids(stream, (const int32_t[]){__VA_ARGS__},                                              \
              sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
static void check_ids(const Stream *s, const int32_t *ids, size_t n)
{
    assert_int_equal(s->n, n);
    assert_memory_equal(s->ids, ids, n * sizeof *ids);
}

#define assert_types(vocab, ...) check_types(vocab, (const char *const[]){__VA_ARGS__, NULL})
static void check_types(const Vocab *v, const char *const *types)
{
    int32_t id = 0;
    for (; types[id]; id++) {
        size_t n;
        assert_true(id < v->V);
        const char *type = vocab_type(v, id, &n);
        assert_int_equal(n, strlen(types[id]));
        assert_memory_equal(type, types[id], n);
        assert_int_equal(vocab_find(v, types[id], n), id);
    }
    assert_int_equal(v->V, id);
}

/* ---- words and lines ---- */

static void first_appearance_gives_the_ids(void **state)
{
    (void)state;
    put_splits("a b a\nc b\n", "b a\n", "c\n");
    Corpus c;
    load(&c);
    assert_types(&c.vocab, "a", "b", "<eos>", "c");
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 0, 2, 3, 1, 2);
    assert_ids(&c.split[SPLIT_VALID], 1, 0, 2);
    assert_ids(&c.split[SPLIT_TEST], 3, 2);
    /* Python computed both hashes: hashlib over struct.pack("<12i", ...) and over
     * b"a\nb\n<eos>\nc\n". */
    assert_string_equal(c.sha256,
                        "12d073dcb1504c37e6deb1af723b37cb22f2b72f6008d06907db393c59a08d7f");
    char hex[65];
    vocab_sha256(&c.vocab, hex);
    assert_string_equal(hex, "b6ba808aa6eb3ed26ca3dcdc4f9e03e2c279c5c681787c24e64f17047aa3625c");
    assert_null(c.known_as);
    assert_false(c.synthetic);
    corpus_free(&c);
    assert_null(c.split[0].ids);
}

static void any_ascii_white_space_splits(void **state)
{
    (void)state;
    /* An empty line is an <eos> of its own; a byte like 0x01 or 0x1f is part of a word. */
    put_splits("  a\tb\va\f\r c\n\n \t\nx\001\037y", "\n", "a");
    Corpus c;
    load(&c);
    assert_types(&c.vocab, "a", "b", "c", "<eos>", "x\001\037y");
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 0, 2, 3, 3, 3, 4);
    assert_ids(&c.split[SPLIT_VALID], 3);
    assert_ids(&c.split[SPLIT_TEST], 0);
    corpus_free(&c);
}

static void crlf_reads_like_lf(void **state)
{
    (void)state;
    Corpus lf, crlf;
    put_splits("the cat sat\non the mat\n", "the mat\n", "\ncat\n");
    load(&lf);
    put_splits("the cat sat\r\non the mat\r\n", "the mat\r\n", "\r\ncat\r\n");
    load(&crlf);
    assert_string_equal(lf.sha256, crlf.sha256);
    assert_ids(&crlf.split[SPLIT_TRAIN], 0, 1, 2, 3, 4, 0, 5, 3);
    assert_int_equal(crlf.vocab.V, 6);
    corpus_free(&lf);
    corpus_free(&crlf);
}

static void last_line_without_newline_has_no_eos(void **state)
{
    (void)state;
    put_splits("a b\na", "b", "a\nb");
    Corpus c;
    load(&c);
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2, 0);
    assert_ids(&c.split[SPLIT_VALID], 1);
    assert_ids(&c.split[SPLIT_TEST], 0, 2, 1);
    corpus_free(&c);
}

static void invalid_utf8_is_bytes_like_others(void **state)
{
    (void)state;
    put_splits("\xff \xc3 caf\xc3\xa9 \xff\xfe \xc3\n", "caf\xc3\xa9\n", "\xff\n");
    Corpus c;
    load(&c);
    assert_types(&c.vocab, "\xff", "\xc3", "caf\xc3\xa9", "\xff\xfe", "<eos>");
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2, 3, 1, 4);
    assert_ids(&c.split[SPLIT_TEST], 0, 4);
    corpus_free(&c);
}

/* The read buffer has 64 KiB; words and line ends are placed at every position around its end, and
 * words are longer than it. */
static void words_may_cross_the_buffer(void **state)
{
    (void)state;
    enum { EDGE = 1 << 16, LONG = 3 * EDGE + 17 };
    char *text = malloc(LONG + 64);
    for (size_t lead = EDGE - 6; lead <= EDGE + 1; lead++) {
        memset(text, 'x', lead);
        strcpy(text + lead, " yz\nyz x\n");
        put_splits(text, "yz\n", "x\n");
        Corpus c;
        load(&c);
        assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2, 1, 3, 2);
        assert_int_equal(c.vocab.offset[1], lead);
        assert_types(&c.vocab, (text[lead] = 0, text), "yz", "<eos>", "x");
        corpus_free(&c);
    }
    memset(text, 'w', LONG);
    strcpy(text + LONG, " a ");
    memset(text + LONG + 3, 'w', 5);
    text[LONG + 8] = 0;
    put_splits(text, "a\n", text);
    Corpus c;
    load(&c);
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2);
    assert_ids(&c.split[SPLIT_TEST], 0, 1, 2);
    assert_ids(&c.split[SPLIT_VALID], 1, 3);
    assert_int_equal(c.vocab.offset[1], LONG);
    corpus_free(&c);
    free(text);
}

/* ---- words that training lacks ---- */

static void lacking_word_becomes_unk_of_training(void **state)
{
    (void)state;
    put_splits("a <unk> b\n", "z a\n", "q <unk> q\n");
    Corpus c;
    load(&c);
    assert_types(&c.vocab, "a", "<unk>", "b", "<eos>");
    assert_ids(&c.split[SPLIT_VALID], 1, 0, 3);
    assert_ids(&c.split[SPLIT_TEST], 1, 1, 1, 3);
    assert_int_equal(c.split[SPLIT_TRAIN].unknown, 0);
    assert_int_equal(c.split[SPLIT_VALID].unknown, 1);
    assert_int_equal(c.split[SPLIT_TEST].unknown, 2); /* the <unk> of the text is a known type */
    corpus_free(&c);
}

static void unk_is_added_only_where_a_word_is_lacking(void **state)
{
    (void)state;
    Corpus c;
    put_splits("a b\n", "b\n", "a\n");
    load(&c);
    assert_types(&c.vocab, "a", "b", "<eos>");
    assert_int_equal(c.split[SPLIT_VALID].unknown + c.split[SPLIT_TEST].unknown, 0);
    corpus_free(&c);

    put_splits("a b\n", "b\n", "z a y\n");
    load(&c);
    assert_types(&c.vocab, "a", "b", "<eos>", "<unk>");
    assert_ids(&c.split[SPLIT_TEST], 3, 0, 3, 2);
    assert_int_equal(c.split[SPLIT_TEST].unknown, 2);
    corpus_free(&c);

    /* A literal <unk> is also a word that training does not have, before and after the type is
     * added. */
    put_splits("a b\n", "<unk> a <unk>\n", "<unk>\n");
    load(&c);
    assert_types(&c.vocab, "a", "b", "<eos>", "<unk>");
    assert_ids(&c.split[SPLIT_VALID], 3, 0, 3, 2);
    assert_int_equal(c.split[SPLIT_VALID].unknown, 2);
    assert_int_equal(c.split[SPLIT_TEST].unknown, 1);
    corpus_free(&c);

    /* Training text without a line end has no <eos> either. */
    put_splits("a b", "a\n", "b");
    load(&c);
    assert_types(&c.vocab, "a", "b", "<unk>");
    assert_ids(&c.split[SPLIT_VALID], 0, 2);
    assert_int_equal(c.split[SPLIT_VALID].unknown, 1);
    corpus_free(&c);
}

static void given_vocabulary_decides_the_ids(void **state)
{
    (void)state;
    Vocab v;
    Error e = {0};
    assert_int_equal(vocab_parse(&v, "<eos> b <unk> a", &e), EXIT_DONE);
    put_splits("a b new\n", "new a\n", "b <unk>\n");
    Corpus c;
    assert_int_equal(corpus_load(&c, folder, &v, &e), EXIT_DONE);
    assert_types(&c.vocab, "<eos>", "b", "<unk>", "a");
    assert_ids(&c.split[SPLIT_TRAIN], 3, 1, 2, 0);
    assert_ids(&c.split[SPLIT_VALID], 2, 3, 0);
    assert_int_equal(c.split[SPLIT_TRAIN].unknown, 1);
    assert_int_equal(c.split[SPLIT_VALID].unknown, 1);
    assert_int_equal(c.split[SPLIT_TEST].unknown, 0);
    corpus_free(&c);
    vocab_free(&v);

    assert_int_equal(vocab_parse(&v, "<eos> b a", &e), EXIT_DONE);
    assert_refused(&v, "train.txt", "'new'", "<unk>");
    put_splits("a b\n", "a\n", "b\n");
    assert_int_equal(corpus_load(&c, folder, &v, &e), EXIT_DONE);
    assert_ids(&c.split[SPLIT_TRAIN], 2, 1, 0);
    corpus_free(&c);
    vocab_free(&v);
}

static void builtin_corpus_under_another_vocabulary(void **state)
{
    (void)state;
    Corpus own, c;
    Error e = {0};
    assert_int_equal(corpus_load(&own, "synthetic", NULL, &e), EXIT_DONE);
    assert_int_equal(corpus_load(&c, "synthetic", &own.vocab, &e), EXIT_DONE);
    assert_true(c.synthetic);
    assert_string_equal(c.sha256, own.sha256);
    assert_string_equal(c.known_as, "synthetic");
    corpus_free(&c);

    Vocab v;
    assert_int_equal(vocab_parse(&v, "<unk> ) w07", &e), EXIT_DONE);
    assert_int_equal(corpus_load(&c, "synthetic", &v, &e), EXIT_DONE);
    assert_false(c.synthetic); /* its known distribution is over other ids */
    assert_null(c.known_as);
    assert_int_equal(c.vocab.V, 3);
    int64_t unknown = 0;
    for (int64_t i = 0; i < own.split[0].n; i++) {
        int32_t id = own.split[0].ids[i];
        int32_t expected = id == SYNTHETIC_CLOSE ? 1 : id == 7 ? 2 : 0;
        assert_int_equal(c.split[0].ids[i], expected);
        unknown += expected == 0;
    }
    assert_int_equal(c.split[0].unknown, unknown);
    corpus_free(&c);
    vocab_free(&v);

    assert_int_equal(vocab_parse(&v, "a b", &e), EXIT_DONE);
    assert_int_equal(corpus_load(&c, "synthetic", &v, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "<unk>"));
    vocab_free(&v);
    corpus_free(&own);
}

/* ---- files and faults ---- */

static void file_names_of_known_corpora_are_accepted(void **state)
{
    (void)state;
    static const char *const names[][SPLITS] = {
        {"ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"},
        {"wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"},
        {"train.txt", "valid.txt", "test.txt"}};
    for (int i = 0; i < 3; i++) {
        put(names[i][0], "a b\n");
        put(names[i][1], "b\n");
        put(names[i][2], "a\n");
        Corpus c;
        load(&c);
        assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2);
        assert_ids(&c.split[SPLIT_VALID], 1, 2);
        assert_ids(&c.split[SPLIT_TEST], 0, 2);
        assert_string_equal(c.file[SPLIT_VALID].path, in_folder(names[i][1]));
        corpus_free(&c);
        for (int split = 0; split < SPLITS; split++)
            assert_int_equal(unlink(in_folder(names[i][split])), 0);
    }
}

/* With two naming schemes the intended corpus is unknown, whichever is complete. */
static void two_naming_schemes_are_refused(void **state)
{
    (void)state;
    put_splits("a b\n", "b\n", "a\n");
    put("ptb.valid.txt", "b b\n");
    assert_refused(NULL, folder, "train.txt and ptb.valid.txt", "two naming schemes");
    assert_int_equal(unlink(in_folder("valid.txt")), 0);
    assert_refused(NULL, "train.txt and ptb.valid.txt");
    put("wiki.test.tokens", "a\n");
    assert_refused(NULL, "two naming schemes");
}

static void missing_file_is_named(void **state)
{
    (void)state;
    assert_refused(NULL, folder, "train.txt", "ptb.train.txt", "wiki.train.tokens",
                   "it holds nothing");
    put("train.txt", "a\n");
    put("notes.md", "a\n");
    assert_refused(NULL, folder, "valid.txt", "ptb.valid.txt", "wiki.valid.tokens", "train.txt",
                   "notes.md");
    put("valid.txt", "a\n");
    assert_refused(NULL, folder, "test.txt", "ptb.test.txt", "wiki.test.tokens");
}

/* Only needed files must exist, and only requested splits are read; the hash is over all three
 * files, and empty if not all are read. */
static void only_what_is_needed_is_read(void **state)
{
    (void)state;
    Corpus c;
    Error e = {0};
    CorpusRead train = {.needed = 1u << SPLIT_TRAIN};
    put("train.txt", "a <unk>\n");
    put("valid.txt", "a z\n");
    assert_int_equal(corpus_read(&c, folder, &train, &e), 0);
    assert_int_equal(c.split[SPLIT_TRAIN].n, 3);
    assert_int_equal(c.split[SPLIT_VALID].n, 0);
    assert_null(c.file[SPLIT_VALID].path);
    assert_string_equal(c.sha256, "");
    /* Python: sha256(struct.pack("<3i", 0, 1, 2)) */
    assert_string_equal(c.train_sha256,
                        "ad5dc1478de06a4c2728ea528bd9361a4b945e92a414bf4d180cedaaeaa5f4cc");

    /* An existing split that is not requested is not opened and may be malformed. */
    assert_int_equal(unlink(in_folder("valid.txt")), 0);
    assert_int_equal(mkdir(in_folder("valid.txt"), 0777), 0);
    Vocab vocab;
    assert_int_equal(vocab_copy(&vocab, &c.vocab), 0);
    corpus_free(&c);
    put("test.txt", "z\n");
    assert_int_equal(
        corpus_read(&c, folder, &(CorpusRead){.vocab = &vocab, .needed = 1u << SPLIT_TEST}, &e), 0);
    assert_int_equal(c.split[SPLIT_TRAIN].n, 0);
    assert_ids(&c.split[SPLIT_TEST], 1, 2);
    assert_string_equal(c.train_sha256, "");
    corpus_free(&c);
    vocab_free(&vocab);

    assert_int_equal(rmdir(in_folder("valid.txt")), 0);
    assert_int_equal(corpus_read(&c, folder, &(CorpusRead){.wanted = EVERY_SPLIT}, &e), 0);
    assert_int_equal(c.split[SPLIT_TEST].n, 2);
    assert_int_equal(c.split[SPLIT_VALID].n, 0);
    corpus_free(&c);

    /* If train has no <unk>, the other splits decide whether it is a type, so that the model does
     * not depend on what is scored. */
    put("train.txt", "a b\n");
    assert_int_equal(corpus_read(&c, folder, &train, &e), 0);
    assert_types(&c.vocab, "a", "b", "<eos>", "<unk>");
    corpus_free(&c);
    put("test.txt", "b\n");
    assert_int_equal(corpus_read(&c, folder, &train, &e), 0);
    assert_types(&c.vocab, "a", "b", "<eos>");
    corpus_free(&c);
}

static void no_device_or_pipe_is_read(void **state)
{
    (void)state;
    put_splits("a b\n", "b\n", "a\n");
    assert_int_equal(unlink(in_folder("train.txt")), 0);
    assert_int_equal(mkfifo(in_folder("train.txt"), 0600), 0);
    /* The program does not wait for a writer either. */
    assert_refused(NULL, "train.txt", "is a pipe, not a text file");
    assert_int_equal(unlink(in_folder("train.txt")), 0);
    assert_int_equal(symlink("/dev/null", in_folder("train.txt")), 0);
    assert_refused(NULL, "train.txt", "is a device");
}

/* ---- remarks ---- */

static void remark_says(const Corpus *c, int i, const char *file, const char *words)
{
    char text[5000];
    assert_true(corpus_remark(c, i, text, sizeof text));
    if (!strstr(text, file) || !strstr(text, words))
        fail_msg("'%s', '%s' are not in: %s", file, words, text);
}

static void byte_order_mark_is_taken_off(void **state)
{
    (void)state;
    put_splits("\xef\xbb\xbf"
               "a b\n",
               "\xef\xbb\xbf"
               "b\n",
               "a \xef\xbb\xbf"
               "b\n");
    Corpus c;
    load(&c);
    /* Inside a text the mark is an ordinary character. */
    assert_types(&c.vocab, "a", "b", "<eos>", "<unk>");
    remark_says(&c, 0, "train.txt", "byte-order mark");
    remark_says(&c, 1, "valid.txt", "byte-order mark");
    char text[5000];
    assert_false(corpus_remark(&c, 2, text, sizeof text));
    corpus_free(&c);
    put("train.txt", "\xef\xbb\xbf");
    assert_refused(NULL, "train.txt", "empty");
    put_bytes("train.txt",
              "\xff\xfe"
              "a\0\n\0",
              6);
    assert_refused(NULL, "train.txt", "UTF-16", "UTF-8");
    put_bytes("train.txt",
              "\xfe\xff"
              "\0a",
              4);
    assert_refused(NULL, "train.txt", "UTF-16");
}

static void wide_spaces_are_counted(void **state)
{
    (void)state;
    /* U+00A0 (in two occurrences of one word), U+3000, U+0085, U+2003 and U+001D are wide spaces;
     * U+200B and U+00E9 are not. */
    put_splits("a\xc2\xa0"
               "b c a\xc2\xa0"
               "b\n\xe3\x80\x80"
               "d e\xc2\x85\n\xe2\x80\x83 \x1d"
               "f\n",
               "c\n", "new\xc2\xa0word c\xe2\x80\x8b \xc3\xa9\n");
    Corpus c;
    load(&c);
    assert_int_equal(c.file[SPLIT_TRAIN].wide_space, 6);
    assert_int_equal(c.file[SPLIT_VALID].wide_space, 0);
    assert_int_equal(c.file[SPLIT_TEST].wide_space, 1); /* counted although the word became <unk> */
    remark_says(&c, 0, "train.txt", "6 words hold");
    remark_says(&c, 1, "test.txt", "1 word holds");
    corpus_free(&c);
}

static void final_eos_is_added_where_it_is_asked_for(void **state)
{
    (void)state;
    put_splits("a b\na", "b\n", "b a \t");
    Corpus c;
    Error e = {0};
    load(&c);
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2, 0);
    remark_says(&c, 0, "train.txt", "--final-eos");
    remark_says(&c, 1, "test.txt", "without a newline");
    corpus_free(&c);
    assert_int_equal(
        corpus_read(&c, folder, &(CorpusRead){.needed = EVERY_SPLIT, .final_eos = true}, &e), 0);
    assert_ids(&c.split[SPLIT_TRAIN], 0, 1, 2, 0, 2);
    assert_ids(&c.split[SPLIT_VALID], 1, 2);
    assert_ids(&c.split[SPLIT_TEST], 1, 0, 2);
    char text[5000];
    assert_false(corpus_remark(&c, 0, text, sizeof text));
    corpus_free(&c);
}

static void vocabulary_comes_from_a_file(void **state)
{
    (void)state;
    Vocab v;
    Error e = {0};
    put("words", "\xef\xbb\xbf"
                 "a\r\n50%\n%41\n<eos>");
    assert_int_equal(vocab_read(&v, in_folder("words"), &e), 0);
    assert_types(&v, "a", "50%", "%41", "<eos>");
    vocab_free(&v);
    static const char *const bad[][2] = {{"a\n\nb\n", "line 2 is empty"},
                                         {"a b\n", "line 1 is not one type"},
                                         {"a\nb\na\n", "'a' twice"},
                                         {"", "is empty"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("words", bad[i][0]);
        assert_int_equal(vocab_read(&v, in_folder("words"), &e), EXIT_BAD_DATA);
        if (!strstr(e.text, bad[i][1]) || !strstr(e.text, "words"))
            fail_msg("'%s' is not in: %s", bad[i][1], e.text);
    }
    assert_int_equal(vocab_read(&v, folder, &e), EXIT_BAD_DATA);
    assert_int_equal(vocab_read(&v, in_folder("nowhere"), &e), EXIT_BAD_DATA);
}

static void missing_folder_is_named(void **state)
{
    (void)state;
    Corpus c;
    Error e = {0};
    assert_int_equal(corpus_load(&c, in_folder("nowhere"), NULL, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "nowhere"));
    assert_non_null(strstr(e.text, "No such file"));
    put("plain", "a\n");
    assert_int_equal(corpus_load(&c, in_folder("plain"), NULL, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "Not a directory"));
    /* A folder called synthetic is ./synthetic: only the bare word is the built-in corpus. */
    assert_int_equal(corpus_load(&c, in_folder("synthetic"), NULL, &e), EXIT_BAD_DATA);
}

static void folder_in_place_of_a_file_is_named(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("train.txt"), 0777), 0);
    assert_refused(NULL, "train.txt", "is a folder, not a text file");
}

static void empty_files_are_refused(void **state)
{
    (void)state;
    put_splits("", "a\n", "a\n");
    assert_refused(NULL, "train.txt", "empty");
    put_splits("a\n", " \t\r \v\f", "a\n");
    assert_refused(NULL, "valid.txt", "empty");
    put_splits("a\n", "a\n", "");
    assert_refused(NULL, "test.txt", "empty");
}

static void nul_byte_is_refused_with_its_place(void **state)
{
    (void)state;
    put("train.txt", "a b\n");
    put("test.txt", "a\n");
    put_bytes("valid.txt", "a b\0c\n", 6);
    assert_refused(NULL, "valid.txt", "NUL", "byte 3 ");
    enum { FAR = 200001 };
    char *text = malloc(FAR + 1);
    memset(text, ' ', FAR);
    text[0] = 'a';
    text[FAR] = 0;
    put_bytes("valid.txt", text, FAR + 1);
    free(text);
    assert_refused(NULL, "valid.txt", "NUL", "byte 200001 ");
}

/* ---- the vocabulary by itself ---- */

static void many_types_are_all_found(void **state)
{
    (void)state;
    enum { TYPES = 100000 };
    char *text = malloc(TYPES * 8), *at = text;
    for (int i = 0; i < TYPES; i++) at += sprintf(at, "%s%d", i ? " " : "", i * 7);
    Vocab v, copy;
    Error e = {0};
    assert_int_equal(vocab_parse(&v, text, &e), EXIT_DONE);
    assert_int_equal(vocab_copy(&copy, &v), 0);
    char *again = vocab_encode(&v);
    assert_string_equal(again, text);
    free(again);
    vocab_free(&v);
    free(text);
    assert_int_equal(copy.V, TYPES);
    for (int i = 0; i < TYPES; i++) {
        char type[16];
        size_t n = (size_t)sprintf(type, "%d", i * 7);
        assert_int_equal(vocab_find(&copy, type, n), i);
        n = (size_t)sprintf(type, "%d", i * 7 + 1);
        assert_int_equal(vocab_find(&copy, type, n), -1);
    }
    assert_int_equal(vocab_find(&copy, "1", 0), -1);
    vocab_free(&copy);
    assert_int_equal(vocab_find(&copy, "7", 1), -1); /* an empty vocabulary has no types */
    assert_int_equal(vocab_copy(&v, &copy), 0);
    assert_int_equal(v.V, 0);
}

static void text_form_escapes_what_is_no_text(void **state)
{
    (void)state;
    static const struct {
        const char *type, *text;
    } cases[] = {
        {"plain", "plain"},
        {"100%", "100%25"},
        {"a\001b\037\177", "a%01b%1F%7F"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xe2\x82\xac\xf0\x9f\x99\x82", "\xe2\x82\xac\xf0\x9f\x99\x82"},
        {"\xc2\x80\xc2\xa0", "\xc2\x80\xc2\xa0"},
        {"\xff\xfe", "%FF%FE"},
        {"x\xc3", "x%C3"},                        /* cut short */
        {"\xc0\xaf\xc1\xbf", "%C0%AF%C1%BF"},     /* overlong, two bytes */
        {"\xe0\x9f\xbf", "%E0%9F%BF"},            /* overlong, three bytes */
        {"\xf0\x8f\xbf\xbf", "%F0%8F%BF%BF"},     /* overlong, four bytes */
        {"\xed\xa0\x80", "%ED%A0%80"},            /* a surrogate */
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},         /* the last code point below the surrogates */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"}, /* the last code point */
        {"\xf4\x90\x80\x80", "%F4%90%80%80"},     /* above it */
        {"\xf5\x80\x80\x80", "%F5%80%80%80"},
        {"\xe2\x82q", "%E2%82q"},
        {"\x80", "%80"},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    char train[512] = "", expected[512] = "";
    for (int i = 0; i < CASES; i++) {
        strcat(strcat(train, cases[i].type), i < CASES - 1 ? " " : "");
        strcat(strcat(expected, cases[i].text), i < CASES - 1 ? " " : "");
    }
    put_splits(train, "plain", "plain");
    Corpus c;
    load(&c);
    assert_int_equal(c.vocab.V, CASES);
    char *text = vocab_encode(&c.vocab);
    assert_string_equal(text, expected);

    Vocab back;
    Error e = {0};
    assert_int_equal(vocab_parse(&back, text, &e), EXIT_DONE);
    assert_int_equal(back.V, CASES);
    assert_memory_equal(back.offset, c.vocab.offset, (CASES + 1) * sizeof *back.offset);
    assert_memory_equal(back.bytes, c.vocab.bytes, (size_t)back.offset[CASES]);
    free(text);
    vocab_free(&back);
    corpus_free(&c);
}

static void bad_text_forms_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "type 0 is empty"},     {" a", "type 0 is empty"}, {"a ", "type 1 is empty"},
        {"a  b", "type 1 is empty"}, {"a b a", "'a' twice"},    {"%61 a", "'a' twice"},
        {"a %", "type 1 has a '%'"}, {"a b%4", "type 1"},       {"%G0", "hexadecimal"},
        {"%0g", "hexadecimal"},      {"a%00", "0x00"},          {"%20", "0x20"},
        {"b a%0Ab", "0x0a"},         {"a\tb", "0x09"},          {"%4 1", "type 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Vocab v;
        Error e = {0};
        assert_int_equal(vocab_parse(&v, cases[i].text, &e), EXIT_BAD_DATA);
        if (!strstr(e.text, cases[i].says)) fail_msg("'%s' is not in: %s", cases[i].says, e.text);
        assert_null(v.bytes);
    }
}

/* ---- Penn Treebank ---- */

static const char *ptb(void)
{
    static const char *const places[] = {"../shared/data/ptb", "data/ptb"};
    for (size_t i = 0; i < 2; i++)
        if (!access(places[i], R_OK)) return places[i];
    print_message("Penn Treebank is neither in ../shared/data/ptb nor in data/ptb "
                  "(tools/fetch_ptb.sh gets it)\n");
    skip();
    return NULL;
}

static void penn_treebank_has_its_counts_and_hashes(void **state)
{
    (void)state;
    const char *dir = ptb();
    Corpus c;
    Error e = {0};
    assert_int_equal(corpus_load(&c, dir, NULL, &e), EXIT_DONE);
    assert_int_equal(c.vocab.V, 10000);
    assert_int_equal(c.split[SPLIT_TRAIN].n, 929589);
    assert_int_equal(c.split[SPLIT_VALID].n, 73760);
    assert_int_equal(c.split[SPLIT_TEST].n, 82430);
    for (int split = 0; split < SPLITS; split++) assert_int_equal(c.split[split].unknown, 0);
    assert_int_equal(c.split[SPLIT_TRAIN].ids[0], 0);
    assert_int_equal(vocab_find(&c.vocab, "<eos>", 5), 24); /* after the first line's 24 words */
    assert_string_equal(c.known_as, "Penn Treebank (Mikolov)");
    /* Python computed these values from the files: types in the order of first appearance in
     * str.split() of each line, with <eos> after the line. */
    assert_string_equal(c.sha256,
                        "05a04642bb6df3bfbbe7512c1c5a58eb6af44287973ca281b424d69abf3e331f");
    char hex[65];
    vocab_sha256(&c.vocab, hex);
    assert_string_equal(hex, "643ed39b30b86d8d866d211f553d6efbb1bca21703bf1ae464e5430c6e5f91fc");
    corpus_free(&c);
}

/* ---- plstm data ---- */

static char *data_text(const char *dir)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    Error e = {0};
    if (data_command(dir, false, out, NULL, &e)) fail_msg("%s", e.text);
    fclose(out);
    return text;
}

static void data_command_prints_counts(void **state)
{
    (void)state;
    put_splits("a b a\nc b\n", "b z a\n", "c\n");
    char *text = data_text(folder);
    static const char *const lines[] = {
        "vocabulary         5 types\n", "train            7         4             0  ",
        "valid            4         4             1  ",
        "test             2         2             0  ", "/test.txt\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(text, lines[i])) fail_msg("'%s' is not in:\n%s", lines[i], text);
    assert_null(strstr(text, "Penn"));
    free(text);

    text = data_text("synthetic");
    assert_non_null(strstr(text, "synthetic (built in)"));
    assert_non_null(strstr(text, "after_long"));
    free(text);

    FILE *full = fopen("/dev/full", "w");
    if (full) {
        Error e = {0};
        assert_int_equal(data_command(folder, false, full, NULL, &e), EXIT_FAILED);
        assert_non_null(strstr(e.text, "No space left"));
        fclose(full);
    }
    Error e = {0};
    assert_int_equal(data_command(in_folder("nowhere"), false, stdout, NULL, &e), EXIT_BAD_DATA);
}

static void data_command_recognises_penn_treebank(void **state)
{
    (void)state;
    char *text = data_text(ptb());
    assert_non_null(strstr(text, "Penn Treebank (Mikolov)"));
    assert_non_null(strstr(text, "valid        73760      6022             0  "));
    free(text);
}

/* ---- memory ---- */

/* Runs in a process of its own, since a peak never decreases. 10 million tokens of 9 types may take
 * 4 bytes each, plus 4 MiB for the vocabulary, the buffers and the copies that realloc makes of
 * blocks too small to be remapped. */
static void reading_takes_four_bytes_a_token(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    print_message(
        "AddressSanitizer's allocator keeps freed memory: peaks say nothing about the program\n");
    skip();
#endif
    enum { LINES = 1000000, PER_LINE = 10 };
    FILE *f = fopen(in_folder("train.txt"), "wb");
    assert_non_null(f);
    for (int i = 0; i < LINES; i++) fputs("a b c d e f g h a\n", f);
    assert_int_equal(fclose(f), 0);
    put("valid.txt", "a\n");
    put("test.txt", "a\n");

    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        struct rusage before, after;
        Corpus c;
        Error e;
        getrusage(RUSAGE_SELF, &before);
        int code = corpus_load(&c, folder, NULL, &e);
        getrusage(RUSAGE_SELF, &after);
        long limit = 4L * LINES * PER_LINE / 1024 + 4096; /* KiB */
        long used = after.ru_maxrss - before.ru_maxrss;
        printf("# peak grew by %ld KiB for %d tokens; the bound is %ld KiB\n", used,
               LINES * PER_LINE, limit);
        fflush(stdout);
        _exit(code ? 2 : c.split[0].n != (int64_t)LINES * PER_LINE ? 3 : used > limit ? 4 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(first_appearance_gives_the_ids),
        IN_FOLDER(any_ascii_white_space_splits),
        IN_FOLDER(crlf_reads_like_lf),
        IN_FOLDER(last_line_without_newline_has_no_eos),
        IN_FOLDER(invalid_utf8_is_bytes_like_others),
        IN_FOLDER(words_may_cross_the_buffer),
        IN_FOLDER(lacking_word_becomes_unk_of_training),
        IN_FOLDER(unk_is_added_only_where_a_word_is_lacking),
        IN_FOLDER(given_vocabulary_decides_the_ids),
        cmocka_unit_test(builtin_corpus_under_another_vocabulary),
        IN_FOLDER(file_names_of_known_corpora_are_accepted),
        IN_FOLDER(two_naming_schemes_are_refused),
        IN_FOLDER(missing_file_is_named),
        IN_FOLDER(only_what_is_needed_is_read),
        IN_FOLDER(no_device_or_pipe_is_read),
        IN_FOLDER(byte_order_mark_is_taken_off),
        IN_FOLDER(wide_spaces_are_counted),
        IN_FOLDER(final_eos_is_added_where_it_is_asked_for),
        IN_FOLDER(vocabulary_comes_from_a_file),
        IN_FOLDER(missing_folder_is_named),
        IN_FOLDER(folder_in_place_of_a_file_is_named),
        IN_FOLDER(empty_files_are_refused),
        IN_FOLDER(nul_byte_is_refused_with_its_place),
        cmocka_unit_test(many_types_are_all_found),
        IN_FOLDER(text_form_escapes_what_is_no_text),
        cmocka_unit_test(bad_text_forms_are_refused),
        cmocka_unit_test(penn_treebank_has_its_counts_and_hashes),
        IN_FOLDER(data_command_prints_counts),
        cmocka_unit_test(data_command_recognises_penn_treebank),
        IN_FOLDER(reading_takes_four_bytes_a_token),
    };
    return cmocka_run_group_tests_name("corpus", tests, NULL, NULL);
}
