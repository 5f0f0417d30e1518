/* Tests captions: which parts of dataset.json and features.npy are read or refused; then, end to
 * end on tiny models in double, training and resuming, `plstm caption` against a greedy search, its
 * scores against `plstm eval`, ensembles, batches, and a folder like MSCOCO's with all the features
 * of such a file. */
#include "tests/support/program.h"

#include <math.h>

#include <jansson.h>

#include "host/commands/commands.h"
#include "host/data/captions.h"
#include "host/data/dataset_json.h"
#include "host/store/image_features.h"
#include "host/train/model.h"
#include "host/train/model_load.h"

#define TINY  " --backend reference --threads 1 --quiet"
#define SHAPE " --task caption --hidden 16 --batch 5 --init 0.3"

/* ---- dataset.json ---- */

static void what_is_read(void **state)
{
    (void)state;
    static const char text[] = "{\"dataset\":\"coco\",\"images\":["
                               "{\"split\":\"train\",\"imgid\":0,\"cocoid\":391895,\"sentences\":["
                               "{\"tokens\":[\"a\",\"man\"],\"raw\":\"A "
                               "man.\",\"imgid\":0,\"sentid\":770337},{\"tokens\":[]}]},"
                               "{\"split\":\"test\"},{\"split\":\"restval\",\"sentences\":[{"
                               "\"tokens\":[\"caf\\u00e9\"]}]},"
                               "{\"split\":\"val\",\"sentences\":[]}]}";
    static const unsigned char split[] = {IMAGES_TRAIN, IMAGES_TEST, IMAGES_TRAIN, IMAGES_VALID};
    static const int64_t first[] = {0, 2, 2, 3, 3};
    ImageTexts t;
    Error e;
    if (dataset_json_parse(&t, text, sizeof text - 1, "a.json", &e)) fail_msg("%s", e.text);
    assert_true(t.images == 4 && t.captions == 3);
    assert_memory_equal(t.split, split, sizeof split);
    assert_memory_equal(t.first, first, sizeof first);
    assert_int_equal(t.offset[1], 6);
    assert_int_equal(t.offset[2], 6);
    assert_memory_equal(t.bytes, " a man caf\xc3\xa9", (size_t)t.offset[3]);
    image_texts_free(&t);
}

static void what_is_refused(void **state)
{
    (void)state;
#define ONE(fields)      "{\"images\":[{\"split\":\"train\"},{" fields "}]}"
#define SENTENCE(fields) ONE("\"split\":\"val\",\"sentences\":[{\"tokens\":[]},{" fields "}]")
    static const struct {
        const char *text, *phrase;
    } bad[] = {
        {"", "not JSON"},
        {"{\"images\":[", "not JSON"},
        {"{\"images\":[],\"images\":[]}", "not JSON"},
        {"{\"images\":[{\"split\":\"tr\xff\"}]}", "not JSON"},
        {"[]", "no list `images`"},
        {"{}", "no list `images`"},
        {"{\"images\":{}}", "no list `images`"},
        {"{\"images\":[]}", "no image"},
        {"{\"images\":[1]}", "image 0 is not an object"},
        {ONE("\"imgid\":1"), "image 1 has no split"},
        {ONE("\"split\":7"), "split that is not a string"},
        {ONE("\"split\":\"training\""), "split 'training'"},
        {ONE("\"split\":\"val\",\"imgid\":2"), "image 1 has imgid 2"},
        {ONE("\"split\":\"val\",\"imgid\":\"1\""), "not a whole number"},
        {ONE("\"split\":\"val\",\"sentences\":{}"), "not a list"},
        {ONE("\"split\":\"val\",\"sentences\":[7]"), "sentence 0 of image 1 is not an object"},
        {SENTENCE("\"raw\":\"A man.\""), "sentence 1 of image 1 has no list `tokens`"},
        {SENTENCE("\"tokens\":[],\"imgid\":0"), "has imgid 0"},
        {SENTENCE("\"tokens\":[\"a\",1]"), "not a string"},
        {SENTENCE("\"tokens\":[\"\"]"), "empty token"},
        {SENTENCE("\"tokens\":[\"ice cream\"]"), "'ice cream'"},
        {SENTENCE("\"tokens\":[\"a\\n\"]"), "white space"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ImageTexts t;
        Error e = {0};
        int code = dataset_json_parse(&t, bad[i].text, strlen(bad[i].text), "a.json", &e);
        if (code != EXIT_BAD_DATA || !strstr(e.text, bad[i].phrase) || !strstr(e.text, "a.json"))
            fail_msg("%s: %d, %s", bad[i].text, code, e.text);
        assert_true(!t.images && !t.bytes);
    }
}

/* ---- a folder ---- */

/* Writes the header of a NumPy array: version 1.0, padded to 128 bytes. */
static void put_npy(FILE *f, const char *dtype, const char *order, const char *shape)
{
    char head[128];
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
    int n = snprintf(head + 10, 100, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", dtype,
                     order, shape);
    head[10 + n] = ' ';
    head[127] = '\n';
    fwrite(head, 1, sizeof head, f);
}

enum { IMAGES = 60, F = 6, BITS = 2 };

/* Returns the two bits that image i shows, each of which is a feature of 1 or -1; the last feature
 * carries no information. */
static int shows(int i) { return (int)((unsigned)i * 2654435761u >> 13 & 3); }

static void features_row(int i, float *row)
{
    for (int k = 0; k < F; k++) row[k] = k == 5 ? 0.25f * (float)((i * 7) % 5 - 2) : 0;
    for (int bit = 0; bit < BITS; bit++) row[2 * bit] = shows(i) >> bit & 1 ? 1 : -1;
}

/* Writes 60 images of two bits with captions that name them: ids like MSCOCO's, restval among the
 * splits, letters beyond ASCII, images without captions, one with an empty caption, and words that
 * only one split has. */
static void folder_write(const char *name)
{
    static const char *const split[] = {"train", "restval", "train", "val", "test"};
    static const char *const word[BITS][2] = {{"dog", "cat"}, {"caf\u00e9", "\u72ac"}};
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(!mkdir(path, 0777) || errno == EEXIST);
    snprintf(path, sizeof path, "%s/%s/dataset.json", folder, name);
    json_t *images = json_array();
    for (int i = 0; i < IMAGES; i++) {
        json_t *sentences = json_array();
        for (int k = 0; k < (i % 17 == 3 ? 0 : 1 + i % 3); k++) {
            json_t *tokens = json_array();
            if (i % 20 != 6) {
                json_array_append_new(tokens, json_string(k % 2 ? "one" : "a"));
                for (int bit = 0; bit < BITS; bit++)
                    json_array_append_new(tokens, json_string(word[bit][shows(i) >> bit & 1]));
                if (i % 13 == 4) json_array_append_new(tokens, json_string("rare"));
            }
            json_array_append_new(sentences,
                                  json_pack("{s:o,s:s,s:i,s:i}", "tokens", tokens, "raw", "A dog.",
                                            "imgid", i, "sentid", 770337 - 1000 * i - k));
        }
        json_array_append_new(images, json_pack("{s:s,s:[i],s:s,s:i,s:s,s:o,s:i}", "filepath",
                                                "val2014", "sentids", 770337 - 1000 * i, "filename",
                                                "COCO_val2014_000000391895.jpg", "imgid", i,
                                                "split", split[i % 5], "sentences", sentences,
                                                "cocoid", 391895 - 31 * i));
    }
    json_t *file = json_pack("{s:o,s:s}", "images", images, "dataset", "coco");
    assert_int_equal(json_dump_file(file, path, 0), 0);
    json_decref(file);
    snprintf(path, sizeof path, "%s/%s/features.npy", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    put_npy(f, "<f4", "False", "(60, 6)");
    for (int i = 0; i < IMAGES; i++) {
        float row[F];
        features_row(i, row);
        fwrite(row, sizeof *row, F, f);
    }
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
    if (folder_make(state)) return -1;
    folder_write("coco");
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 30 --hold 22 --save %s",
                 in_folder("coco"), in_folder("one.st"));
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 12 --seed 2 --keep 0.8 --save %s",
                 in_folder("coco"), in_folder("two.st"));
    return 0;
}

static void a_folder_of_that_form(void **state)
{
    (void)state;
    Captions c;
    ImageFeatures f;
    Error e;
    if (captions_load(&c, in_folder("coco"), 2, NULL, &e) ||
        image_features_load(&f, in_folder("coco"), &c, &e))
        fail_msg("%s", e.text);
    assert_true(c.images == IMAGES && f.n == IMAGES && f.F == F && !c.scenes);
    const CaptionSplit *train = &c.split[IMAGES_TRAIN], *test = &c.split[IMAGES_TEST];
    assert_true(train->images == 36 && c.split[IMAGES_VALID].images == 12 && test->images == 12);
    assert_int_equal(train->bare + c.split[IMAGES_VALID].bare + test->bare, 4);
    assert_true(train->empty > 0 && test->unknown == 0);
    assert_int_equal(vocab_find(&c.vocab, "\u72ac", 3) > ID_EOS, 1);
    captions_take_features(&c, f.rows, f.F);
    /* A row is features, <eos>, the words; each predicts the next, and the last one predicts
     * <eos>. */
    for (int64_t i = 0; i < train->rows.n; i++) {
        const int32_t *ids = train->rows.ids + train->rows.offset[i],
                      *targets = train->rows.targets + train->rows.offset[i];
        int64_t n = sequences_length(&train->rows, i);
        assert_true(ids[0] == ID_FEATURES && ids[1] == ID_EOS && targets[0] == TARGET_NONE);
        assert_true(targets[n - 1] == ID_EOS);
        for (int64_t t = 1; t + 1 < n; t++) assert_int_equal(targets[t], ids[t + 1]);
        int64_t image = train->row_image[i];
        assert_true(image % 5 <= 2 && (!i || image >= train->row_image[i - 1]));
    }
    image_features_close(&f);
    captions_free(&c);
    Run run = plstm("data %s --task caption", in_folder("coco"));
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "60 with 6 features each");
    run_free(&run);
}

/* ---- features ---- */

static void refused(const char *data, const char *phrase)
{
    Run run = plstm("train" SHAPE TINY " --max-steps 1 --data %s", data);
    if (run.code != 3) fail_msg("%s: exit %d: %s", phrase, run.code, run.err);
    assert_one_line(run.err);
    assert_contains(run.err, phrase);
    run_free(&run);
}

static void features_write(const char *dtype, const char *order, const char *shape,
                           const void *bytes, size_t n)
{
    FILE *f = fopen(in_folder("bad/features.npy"), "wb");
    assert_non_null(f);
    put_npy(f, dtype, order, shape);
    fwrite(bytes, 1, n, f);
    assert_int_equal(fclose(f), 0);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    static float rows[61 * F];
    const char *dir = in_folder("bad");
    folder_write("bad");
    for (int i = 0; i < IMAGES; i++) features_row(i, rows + i * F);
    features_write("<f4", "False", "(59, 6)", rows, 59 * F * 4);
    refused(dir, "has 59 rows, but");
    features_write("<f4", "False", "(61, 6)", rows, 61 * F * 4);
    refused(dir, "has 61 rows, but");
    features_write("<f4", "False", "(360,)", rows, 60 * F * 4);
    refused(dir, "has 1 dimension;");
    features_write("<f4", "False", "(60, 0)", rows, 0);
    refused(dir, "no column");
    features_write("<f8", "False", "(60, 3)", rows, 60 * F * 4);
    refused(dir, "dtype '<f8'");
    features_write("<f4", "True", "(60, 6)", rows, 60 * F * 4);
    refused(dir, "Fortran order");
    features_write("<f4", "False", "(60, 6)", rows, 60 * F * 4 - 1);
    refused(dir, "cut short");
    rows[13 * F + 2] = NAN;
    features_write("<f4", "False", "(60, 6)", rows, 60 * F * 4);
    refused(dir, "element 2 of row 13 (counted from 0) is not a number");
    rows[13 * F + 2] = -INFINITY;
    features_write("<f4", "False", "(60, 6)", rows, 60 * F * 4);
    refused(dir, "is infinite");
    assert_int_equal(unlink(in_folder("bad/features.npy")), 0);
    refused(dir, "features.npy");
    file_write(in_folder("bad/dataset.json"), "{\"images\":[{\"split\":\"test\"}]}");
    refused(dir, "no training caption");
    file_write(in_folder("bad/dataset.json"), "{\"images\":[{\"split\":\"dev\"}]}");
    refused(dir, "split 'dev'");
    refused(in_folder("nowhere"), "dataset.json");
    /* Here the data that a run needs for scoring is missing. */
    file_write(in_folder("bad/dataset.json"),
               "{\"images\":[{\"split\":\"train\",\"sentences\":[{\"tokens\":[\"a\",\"a\"]}]}]}");
    features_write("<f4", "False", "(1, 6)", rows, F * 4);
    refused(dir, "no caption of split valid (called val in dataset.json)");
    plstm_expect(0, "train" SHAPE TINY " --max-steps 1 --eval none --data %s", dir);
    plstm_expect(3, "train" SHAPE TINY " --max-steps 1 --eval none --max-length 2 --data %s", dir);
    plstm_expect(2, "train" SHAPE TINY " --seq 5 --data %s", dir);
    plstm_expect(2, "train" SHAPE TINY " --source en --data %s", dir);
}

/* float16 and float32 features with the same values give the same training. */
static void halves_are_floats(void **state)
{
    (void)state;
    static uint16_t half[IMAGES * F];
    folder_write("bad");
    for (int i = 0; i < IMAGES; i++) {
        float row[F];
        features_row(i, row);
        for (int k = 0; k < F; k++) {
            static const struct {
                float value;
                uint16_t bits;
            } known[] = {{0, 0},          {0.25f, 0x3400}, {-0.25f, 0xb400}, {0.5f, 0x3800},
                         {-0.5f, 0xb800}, {1, 0x3c00},     {-1, 0xbc00}};
            int j = 0;
            while (known[j].value != row[k]) j++;
            half[i * F + k] = known[j].bits;
        }
    }
    features_write("<f2", "False", "(60, 6)", half, sizeof half);
    plstm_expect(0, "train" SHAPE TINY " --epochs 1 --data %s --save %s", in_folder("coco"),
                 in_folder("f4.st"));
    plstm_expect(0, "train" SHAPE TINY " --epochs 1 --data %s --save %s", in_folder("bad"),
                 in_folder("f2.st"));
    assert_files_equal(in_folder("f4.st"), in_folder("f2.st"));
}

/* ---- plstm caption ---- */

static char names[8][2 * PATH_MAX + 2], *paths[8][2];
static PathList lists[8];

/* Returns options for one file or two; they stay valid until eight calls later. */
static CaptionOptions options(const char *first, const char *second)
{
    static int used;
    int k = used++ % 8;
    paths[k][0] = strcpy(names[k], in_folder(first));
    lists[k] = (PathList){.path = paths[k], .n = 1};
    if (second) {
        paths[k][1] = strcpy(names[k] + PATH_MAX, in_folder(second));
        lists[k].n = 2;
    }
    return (CaptionOptions){.search = {.weights = lists[k],
                                       .beam = 12,
                                       .batch = 20,
                                       .backend = "reference",
                                       .threads = 1},
                            .data = in_folder("coco"),
                            .split = "test"};
}

static char *captioned(const CaptionOptions *o, int code, Error *e)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    int got = caption_command(o, out, e);
    fclose(out);
    if (got != code) fail_msg("exit %d, not %d: %s", got, code, got ? e->text : "");
    return text;
}

static char *caption(const CaptionOptions *o)
{
    Error e;
    return captioned(o, 0, &e);
}

/* Takes the likeliest word each time and reads every prefix again from the image. */
static void greedy(Model *m, const Vocab *v, const float *row, char *out)
{
    int32_t ids[CAPTION_MOST + 2] = {ID_FEATURES, ID_EOS}, targets[CAPTION_MOST + 2];
    int64_t n = 2;
    out[0] = 0;
    for (int step = 0; step < CAPTION_MOST; step++) {
        float logits[64];
        Error e;
        WindowResult r;
        for (int64_t i = 0; i < n; i++) targets[i] = i == n - 1 ? 0 : TARGET_NONE;
        Window w = {.batch = {.T = n,
                              .B = 1,
                              .ids = ids,
                              .targets = targets,
                              .features = row,
                              .n_features = 1,
                              .n_scored = 1}};
        assert_int_equal(model_forward(m, &w, NULL, NULL, &r, &e), 0);
        assert_int_equal(m->ops->logits_get(m->backend, 0, 1, logits, &e), 0);
        int32_t best = 0;
        for (int32_t k = 1; k < v->V; k++)
            if (logits[k] > logits[best]) best = k;
        if (best == ID_EOS) break;
        size_t bytes;
        const char *type = vocab_type(v, best, &bytes);
        sprintf(out + strlen(out), "%s%.*s", step ? " " : "", (int)bytes, type);
        ids[n++] = best;
    }
    strcat(out, "\n");
}

static void a_beam_of_one_is_greedy(void **state)
{
    (void)state;
    const BackendOps *ops;
    Checkpoint c;
    Model m;
    Error e;
    char expected[16384] = "", line[1024];
    assert_int_equal(backend_find("reference", &ops, &e), 0);
    assert_int_equal(checkpoint_open(&c, in_folder("two.st"), &e), 0);
    BatchLimits limits = {.T = CAPTION_MOST + 2, .B = 1, .scored = 1, .features = 1};
    assert_int_equal(model_load(&m, ops, &c, limits, false, 1, &e), 0);
    for (int i = 4; i < IMAGES; i += 5) { /* the test images */
        float row[F];
        features_row(i, row);
        greedy(&m, &c.vocab, row, line);
        strcat(expected, line);
    }
    CaptionOptions o = options("two.st", NULL);
    o.search.beam = 1;
    char *out = caption(&o);
    assert_string_equal(out, expected);
    free(out);
    model_close(&m);
    checkpoint_close(&c);
}

/* The model uses the image: a test image's caption names everything that the image shows, and its
 * n-best captions are in order. */
static void what_it_says_is_there(void **state)
{
    (void)state;
    static const char *const word[BITS][2] = {{"dog", "cat"}, {"caf\u00e9", "\u72ac"}};
    CaptionOptions o = options("one.st", NULL);
    char *out = caption(&o), *line = out, *end;
    int right = 0, images = 0;
    for (int i = 4; i < IMAGES; i += 5, images++, line = end + 1) {
        assert_non_null(end = strchr(line, '\n'));
        *end = 0;
        bool all = true;
        for (int bit = 0; bit < BITS; bit++)
            all &= strstr(line, word[bit][shows(i) >> bit & 1]) != NULL;
        right += all;
    }
    assert_true(!*line && images == 12);
    if (right < 10) fail_msg("%d of 12 captions name what the image shows", right);
    free(out);
}

/* --features gives the same captions as the split of --data with the same rows. */
static void features_alone(void **state)
{
    (void)state;
    CaptionOptions o = options("one.st", NULL);
    float rows[12 * F];
    Error e;
    for (int i = 0; i < 12; i++) features_row(5 * i + 4, rows + i * F);
    assert_int_equal(
        npy_write(in_folder("test.npy"), "x", rows, (const int64_t[]){12, F}, 2, "", &e), 0);
    char *split = caption(&o);
    o.data = NULL, o.features = in_folder("test.npy");
    char *alone = caption(&o);
    assert_string_equal(split, alone);
    free(split), free(alone);
    /* The features have another size than the model's. */
    assert_int_equal(
        npy_write(in_folder("test.npy"), "x", rows, (const int64_t[]){8, 9}, 2, "", &e), 0);
    free(captioned(&o, EXIT_BAD_DATA, &e));
    assert_non_null(strstr(e.text, "9 features per image"));
}

/* Returns the sum of logp over the captions' JSON lines, and writes a folder `said` whose test
 * captions are the found ones. */
static double said_write(char *lines)
{
    double sum = 0;
    char path[PATH_MAX];
    json_error_t fault;
    folder_write("said");
    snprintf(path, sizeof path, "%s", in_folder("said/dataset.json"));
    json_t *file = json_load_file(path, 0, &fault), *images = json_object_get(file, "images");
    int expected = 4;
    for (char *save, *line = strtok_r(lines, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *one = json_loads(line, 0, &fault), *tokens = json_array();
        json_t *found = json_array_get(json_object_get(one, "found"), 0);
        int64_t i = json_integer_value(json_object_get(one, "image"));
        assert_int_equal(i, expected);
        expected += 5;
        char *words = strdup(json_string_value(json_object_get(found, "words"))), *next;
        for (char *w = strtok_r(words, " ", &next); w; w = strtok_r(NULL, " ", &next))
            json_array_append_new(tokens, json_string(w));
        free(words);
        sum += json_number_value(json_object_get(found, "logp"));
        json_object_set_new(json_array_get(images, (size_t)i), "sentences",
                            json_pack("[{s:o}]", "tokens", tokens));
        json_decref(one);
    }
    assert_int_equal(expected, 64);
    assert_int_equal(json_dump_file(file, path, 0), 0);
    json_decref(file);
    return sum;
}

/* eval gives the found captions the same scores as the search. Logits are passed in float32, which
 * allows 1e-5 per word, and there are about 60 words. */
static void scores_are_those_of_eval(void **state)
{
    (void)state;
    json_error_t fault;
    for (int n = 1; n <= 2; n++) {
        CaptionOptions o = options("one.st", n == 2 ? "two.st" : NULL);
        o.search.json = true;
        char *out = caption(&o);
        double sum = said_write(out);
        free(out);
        plstm_expect(
            0, "eval --weights %s%s%s --data %s --split test --backend reference --log-json %s",
            in_folder("one.st"), n == 2 ? "," : "", n == 2 ? in_folder("two.st") : "",
            in_folder("said"), in_folder("eval.json"));
        json_t *log = json_load_file(in_folder("eval.json"), 0, &fault);
        assert_float_equal(json_number_value(json_object_get(log, "nats")), -sum, 1e-3);
        assert_int_equal(json_integer_value(json_object_get(log, "captions")), 12);
        json_decref(log);
    }
}

static void ensembles_and_batches(void **state)
{
    (void)state;
    CaptionOptions one = options("one.st", NULL), twice = options("one.st", "one.st");
    one.search.nbest = twice.search.nbest = 3;
    char *a = caption(&one), *b = caption(&twice);
    /* Averaging a model with itself keeps the words, and the scores except for the last printed
     * digit, since an average of equal values may round differently. */
    char *x = a, *y = b;
    int lines = 0;
    double last = 0;
    for (; *x && *y; x = strchr(x, '\n') + 1, y = strchr(y, '\n') + 1, lines++) {
        char *score = strstr(strstr(x, " ||| ") + 5, " ||| ") + 5;
        assert_memory_equal(x, y, (size_t)(score - x));
        assert_float_equal(atof(score), atof(y + (score - x)), 1e-6);
        if (lines % 3) assert_true(atof(score) <= last);
        last = atof(score);
        assert_int_equal(atoi(x), 4 + 5 * (lines / 3)); /* the image's number */
    }
    assert_int_equal(lines, 36);
    free(b);
    static const int64_t batch[] = {1, 5, 12, 40};
    for (int i = 0; i < 4; i++) {
        one.search.batch = batch[i], one.search.nbest = 0;
        char *c = caption(&one), *at = c;
        for (x = a; *x; at = strchr(at, '\n') + 1) {
            char *words = strstr(x, " ||| ") + 5, *end = strstr(words, " ||| ");
            assert_memory_equal(at, words, (size_t)(end - words));
            assert_int_equal(at[end - words], '\n');
            for (int k = 0; k < 3; k++) x = strchr(x, '\n') + 1;
        }
        free(c);
    }
    free(a);
}

static void bad_lines_are_told(void **state)
{
    (void)state;
    Error e;
    CaptionOptions o = options("one.st", NULL);
    o.split = "val";
    free(captioned(&o, EXIT_USAGE, &e));
    assert_non_null(strstr(e.text, "--split"));
    const char *one = in_folder("one.st"), *coco = in_folder("coco");
    plstm_expect(
        0, "train --data synthetic --hidden 4 --layers 1 --max-steps 1 --eval none --save %s" TINY,
        in_folder("lm.st"));
    o = options("lm.st", NULL);
    free(captioned(&o, EXIT_BAD_DATA, &e));
    assert_non_null(strstr(e.text, "task lm"));
    plstm_expect(2, "caption --data %s", coco);
    plstm_expect(2, "caption --weights %s", one);
    plstm_expect(2, "caption --weights %s --data %s --features %s", one, coco,
                 in_folder("test.npy"));
    plstm_expect(2, "caption --weights %s --features %s --split test", one, in_folder("test.npy"));
    plstm_expect(2, "caption --weights %s --data %s --beam 3 --nbest 4", one, coco);
    plstm_expect(3, "caption --weights %s --features %s", one, one);
    plstm_expect(3, "caption --weights %s --data scenes", one);
    plstm_expect(3, "eval --weights %s --data scenes", one);
    plstm_expect(3, "translate --weights %s", one);
    plstm_expect(3, "sample --weights %s --words 3", one);
}

/* ---- training ---- */

static void a_run_that_is_resumed_ends_alike(void **state)
{
    (void)state;
#define RUN "train" SHAPE TINY " --keep 0.6 --data %s --save %s --log-json %s"
    static const int stop[] = {1, 13, 22};
    const char *coco = in_folder("coco");
    plstm_expect(0, RUN " --epochs 2", coco, in_folder("whole.st"), in_folder("whole.jsonl"));
    for (int i = 0; i < 3; i++) {
        plstm_expect(0, RUN " --epochs 2 --eval valid --max-steps %d", coco, in_folder("part.st"),
                     in_folder("part.jsonl"), stop[i]);
        plstm_expect(0, "train --resume %s --data %s --save %s --log-json %s --eval all" TINY,
                     in_folder("part.st"), coco, in_folder("part.st"), in_folder("part.jsonl"));
        assert_files_equal(in_folder("whole.st"), in_folder("part.st"));
    }
    /* A run cannot be resumed with other features or captions. */
    folder_write("bad");
    FILE *f = fopen(in_folder("bad/features.npy"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    fputc(0x3f, f); /* 0.25 becomes 1 */
    assert_int_equal(fclose(f), 0);
    Run run = plstm("train --resume %s --data %s" TINY, in_folder("part.st"), in_folder("bad"));
    assert_int_equal(run.code, 2);
    assert_contains(run.err, "its features or their order differ");
    run_free(&run);
    plstm_expect(2, "train --resume %s --data scenes" TINY, in_folder("part.st"));
    Run info = plstm("info %s", in_folder("part.st"));
    assert_int_equal(info.code, 0);
    run_free(&info);
}

static void the_log_says_what_was_scored(void **state)
{
    (void)state;
    json_error_t fault;
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 1 --log-json %s", in_folder("coco"),
                 in_folder("log.jsonl"));
    char *text = file_read(in_folder("log.jsonl"), NULL);
    double nats = 0, tokens = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *one = json_loads(line, 0, &fault);
        const char *event = json_string_value(json_object_get(one, "event"));
        if (!strcmp(event, "run")) {
            assert_string_equal(json_string_value(json_object_get(one, "task")), "caption");
            assert_int_equal(json_integer_value(json_object_get(one, "layers")), 1);
            assert_int_equal(json_integer_value(json_object_get(one, "F")), 6);
            assert_int_equal(
                json_integer_value(json_object_get(json_object_get(one, "images"), "train")), 36);
        } else if (!strcmp(event, "step")) {
            nats += json_number_value(json_object_get(one, "nats"));
            tokens += json_number_value(json_object_get(one, "tokens"));
        } else if (!strcmp(event, "epoch")) {
            assert_float_equal(json_number_value(json_object_get(one, "train_ppl")),
                               exp(nats / tokens), 1e-9);
        }
        json_decref(one);
    }
    assert_true(tokens > 200);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(a_folder_of_that_form),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(halves_are_floats),
        cmocka_unit_test(a_beam_of_one_is_greedy),
        cmocka_unit_test(what_it_says_is_there),
        cmocka_unit_test(features_alone),
        cmocka_unit_test(scores_are_those_of_eval),
        cmocka_unit_test(ensembles_and_batches),
        cmocka_unit_test(bad_lines_are_told),
        cmocka_unit_test(a_run_that_is_resumed_ends_alike),
        cmocka_unit_test(the_log_says_what_was_scored),
    };
    return cmocka_run_group_tests_name("captions", tests, set_up, folder_remove);
}
