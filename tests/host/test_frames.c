/* Tests the task frames end to end, on tiny models in double: reading a folder, training and
 * resuming, accuracy with and without silence, confusion, `plstm posteriors` against `plstm eval`,
 * ensembles, and every fault of TASKS 4. */
#include "tests/support/program.h"

#include <math.h>

#include <jansson.h>

#include "host/base/settings.h"
#include "host/data/features.h"
#include "host/data/frames.h"
#include "host/store/checkpoint.h"

#define TINY  " --backend reference --threads 1 --quiet"
#define SHAPE " --task frames --hidden 7 --layers 2 --batch 3 --init 0.5"

enum { LABELS = 4, DIMENSIONS = 3 };

/* ---- folders ---- */

/* Returns the path of a file in the test's folder; the text is valid until the eighth call
 * after. */
static const char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *format, ...)
{
    static char path[8][2 * PATH_MAX];
    static int used;
    char name[PATH_MAX], *to = path[used++ % 8];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    snprintf(to, sizeof path[0], "%s/%s", folder, name);
    return to;
}

static unsigned drawn;
static unsigned draw(unsigned n) { return ((drawn = drawn * 1103515245 + 12345) >> 16) % n; }

/* Writes an utterance as an entry of a text archive and a line of labels. A label lasts for some
 * frames; the features show it, with noise. */
static void put_utterance(FILE *ark, FILE *labels, const char *name, int frames)
{
    fprintf(ark, "%s  [", name);
    fprintf(labels, "%s", name);
    unsigned label = draw(LABELS);
    for (int t = 0; t < frames; t++) {
        if (!draw(4)) label = draw(LABELS);
        fprintf(ark, "\n ");
        for (unsigned d = 0; d < DIMENSIONS; d++)
            fprintf(ark, " %g", (label >> d & 1) + draw(1000) / 1000.0 + 5);
        fprintf(labels, " %u", label);
    }
    fprintf(ark, " ]\n");
    fprintf(labels, "\n");
}

static void put_split(const char *dir, const char *split, const int *frames, int n, unsigned seed)
{
    char name[32];
    mkdir(at("%s", dir), 0777);
    mkdir(at("%s/%s", dir, split), 0777);
    FILE *ark = fopen(at("%s/%s/feats.ark", dir, split), "w"),
         *labels = fopen(at("%s/%s/labels", dir, split), "w");
    assert_true(ark && labels);
    drawn = seed;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s-%d", split, i);
        put_utterance(ark, labels, name, frames[i]);
    }
    fclose(ark);
    fclose(labels);
}

static const int train_frames[] = {5, 9, 1, 14, 7, 7, 3, 20, 11, 6}, valid_frames[] = {8, 4, 13},
                 test_frames[] = {9, 300, 2, 5};

static void put_folder(const char *dir)
{
    put_split(dir, "train", train_frames, 10, 1);
    put_split(dir, "valid", valid_frames, 3, 2);
    put_split(dir, "test", test_frames, 4, 3);
    file_write(at("%s/phones", dir), "sil 0 silence\na 1\nb 2\nc 3\nnever 17 silence\n");
}

static int set_up(void **state)
{
    if (folder_make(state)) return -1;
    put_folder("data");
    plstm_expect(0,
                 "train" SHAPE TINY
                 " --data %s --epochs 60 --hold 60 --lr 0.3 --keep 0.9 --save %s --log-json %s",
                 at("data"), at("one.st"), at("one.jsonl"));
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 2 --seed 2 --keep 0.8 --save %s",
                 at("data"), at("two.st"));
    return 0;
}

/* ---- what is read ---- */

static void folders(void **state)
{
    (void)state;
    Frames f;
    Error e;
    FramesOptions o = {.dir = at("data"), .wanted = EVAL_ALL};
    if (frames_load(&f, &o, &e)) fail_msg("%s", e.text);
    assert_true(f.F == DIMENSIONS && f.V == LABELS && f.phones && !f.synthetic);
    assert_true(f.silence[0] && !f.silence[1] && !strcmp(f.name[3], "c"));
    int64_t frames = 0, counted = 0;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sequences_length(&f.split[0].rows, i), train_frames[i]);
        assert_int_equal(f.split[0].first_row[i], frames);
        frames += train_frames[i];
    }
    for (int id = 0; id < LABELS; id++) counted += f.count[id];
    assert_true(f.split[0].frames == frames && counted == frames &&
                f.split[0].silent == f.count[0]);
    assert_true(f.split[2].longest == 300 && f.sha256[0] && f.train_sha256[0]);
    for (int64_t i = 0; i < frames; i++) assert_int_equal(f.split[0].rows.ids[i], ID_FEATURES);
    char whole[65];
    snprintf(whole, sizeof whole, "%s", f.sha256);
    float mean = 0;
    for (int t = 0; t < 5; t++) mean += f.split[0].features[t * DIMENSIONS];
    assert_true(mean > 20); /* not normalised */
    frames_free(&f);

    o.normalise = true;
    if (frames_load(&f, &o, &e)) fail_msg("%s", e.text);
    for (int d = 0; d < DIMENSIONS; d++) {
        double sum = 0, squares = 0;
        for (int t = 0; t < 5; t++) {
            double x = f.split[0].features[t * DIMENSIONS + d];
            sum += x, squares += x * x;
        }
        /* Features are float32, each rounded by at most 2^-24 of its value. */
        assert_true(fabs(sum) < 1e-5 && fabs(squares - 5) < 1e-5);
    }
    assert_string_equal(f.sha256, whole);
    frames_free(&f);
}

/* The script determines the order; utterances without features or labels are skipped and counted;
 * the file phones is optional. */
static void what_is_left_out(void **state)
{
    (void)state;
    static const int none[] = {3};
    Frames f;
    Error e;
    put_split("part", "train", train_frames, 3, 5);
    put_split("part", "valid", none, 1, 5);
    char *text = file_read(at("part/train/feats.ark"), NULL);
    char lines[3 * PATH_MAX], more[256];
    snprintf(lines, sizeof lines, "train-2 feats.ark:%d\ntrain-0 %s\n",
             (int)(strstr(text, "train-2") + 8 - text), "feats.ark:8");
    file_write(at("part/train/feats.scp"), lines);
    free(text);
    text = file_read(at("part/train/labels"), NULL);
    snprintf(more, sizeof more, "%selsewhere 1 2\n", strstr(text, "train-1"));
    *strchr(text, '\n') = 0;
    file_write(at("part/train/labels"), more);
    if (frames_load(&f, &(FramesOptions){.dir = at("part")}, &e)) fail_msg("%s", e.text);
    /* Only train-2 is left: train-0 no longer has labels, and train-1 and elsewhere are not in the
     * script. */
    assert_int_equal(f.split[0].rows.n, 1);
    assert_true(f.split[0].no_labels == 1 && f.split[0].no_features == 2 && !f.phones &&
                !f.sha256[0]);
    frames_free(&f);
    Run run =
        plstm("train" SHAPE " --backend reference --eval none --max-steps 1 --data %s", at("part"));
    assert_int_equal(run.code, 0);
    assert_contains(run.err, "plstm: 3 utterances of train are left out: 1 without labels, 2 "
                             "without features, 0 without a frame");
    run_free(&run);
    free(text);
}

/* ---- the program ---- */

/* Returns the member `key` of a log's last line with the event `event`. */
static double logged(const char *path, const char *event, const char *key)
{
    char *text = file_read(path, NULL), *save;
    double value = NAN;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        if (!strcmp(json_string_value(json_object_get(object, "event")), event)) {
            const json_t *member = json_object_get(object, key);
            if (!member) fail_msg("%s lacks %s in: %s", event, key, line);
            value = json_is_null(member) ? NAN : json_number_value(member);
        }
        json_decref(object);
    }
    free(text);
    return value;
}

/* The log has the fields of TASKS 1, and eval agrees with the last scores of training. */
static void training(void **state)
{
    (void)state;
    for (const char *const *key =
             (const char *const[]){"train_acc", "valid_acc", "valid_acc_nosil", "valid_nats", NULL};
         *key; key++) {
        double x = logged(at("one.jsonl"), "epoch", *key);
        assert_true(x > 0 && (x < 1 || !strcmp(*key, "valid_nats")));
    }
    double acc = logged(at("one.jsonl"), "test", "test_acc"),
           nosil = logged(at("one.jsonl"), "test", "test_acc_nosil"),
           nats = logged(at("one.jsonl"), "test", "test_nats");
    assert_true(acc > 0.6); /* chance is a quarter */
    plstm_expect(0, "eval --weights %s --data %s" TINY " --log-json %s", at("one.st"), at("data"),
                 at("eval.jsonl"));
    assert_true(logged(at("eval.jsonl"), "eval", "acc") == acc &&
                logged(at("eval.jsonl"), "eval", "acc_nosil") == nosil);
    assert_true(fabs(logged(at("eval.jsonl"), "eval", "nats_each") - nats) < 1e-9);
    assert_true(logged(at("eval.jsonl"), "eval", "tokens") == 316);
    plstm_expect(0, "eval --weights %s --data %s --batch 1" TINY " --log-json %s", at("one.st"),
                 at("data"), at("eval1.jsonl"));
    assert_true(logged(at("eval1.jsonl"), "eval", "acc") == acc);
    Run run = plstm("info %s", at("one.st"));
    assert_contains(run.out, "accuracy");
    assert_contains(run.out, "features         3 a position");
    run_free(&run);
    Checkpoint c;
    Error e;
    assert_int_equal(checkpoint_open(&c, at("one.st"), &e), 0);
    assert_string_equal(st_meta(&c.file, "feature_size"), "3");
    assert_string_equal(st_meta(&c.file, "labels"), "4");
    assert_non_null(st_meta(&c.file, "label_counts"));
    assert_true(c.shape.F == DIMENSIONS && c.shape.V_out == LABELS && !c.shape.V_in);
    checkpoint_close(&c);
}

static void resume_is_exact(void **state)
{
    (void)state;
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 3 --save %s --save-best %s", at("data"),
                 at("whole.st"), at("best.st"));
    plstm_expect(0, "train" SHAPE TINY " --data %s --epochs 3 --max-steps 6 --eval valid --save %s",
                 at("data"), at("half.st"));
    plstm_expect(0, "train --resume %s --data %s" TINY " --save %s --eval all", at("half.st"),
                 at("data"), at("half.st"));
    Checkpoint a, b;
    Error e;
    assert_int_equal(checkpoint_open(&a, at("whole.st"), &e), 0);
    assert_int_equal(checkpoint_open(&b, at("half.st"), &e), 0);
    for (int k = 0; k < params_count(&a.shape); k++)
        assert_memory_equal(checkpoint_param(&a, k), checkpoint_param(&b, k),
                            (size_t)param_info(&a.shape, k).n * sizeof(float));
    assert_true(a.counters.best_valid == b.counters.best_valid && a.counters.best_valid < 1);
    checkpoint_close(&a);
    checkpoint_close(&b);
    plstm_expect(2, "train --resume %s --data synthetic" TINY, at("whole.st"));
    plstm_expect(2, "train --resume %s --data %s --cmvn none" TINY, at("whole.st"), at("data"));
}

/* The rows of the confusion table add up to the labels' frames, and its diagonal to the hits. */
static void confusion(void **state)
{
    (void)state;
    plstm_expect(0, "eval --weights %s --data %s" TINY " --confusion %s --log-json %s",
                 at("one.st"), at("data"), at("c.tsv"), at("eval.jsonl"));
    char *text = file_read(at("c.tsv"), NULL);
    int64_t n[LABELS][LABELS], all = 0, hits = 0, voiced = 0, voiced_hits = 0;
    static const char *const name[] = {"sil", "a", "b", "c"};
    assert_true(!strncmp(text, "target \\ taken for\tsil\ta\tb\tc\n", 29));
    const char *line = strchr(text, '\n') + 1;
    for (int i = 0; i < LABELS; i++) {
        char first[16];
        int read = 0;
        assert_int_equal(sscanf(line, "%15s\t%ld\t%ld\t%ld\t%ld\n%n", first, &n[i][0], &n[i][1],
                                &n[i][2], &n[i][3], &read),
                         5);
        assert_string_equal(first, name[i]);
        line += read;
        for (int k = 0; k < LABELS; k++) {
            all += n[i][k];
            if (i) voiced += n[i][k];
        }
        hits += n[i][i];
        if (i) voiced_hits += n[i][i];
    }
    assert_true(!*line && all == 316);
    assert_true((double)hits / (double)all == logged(at("eval.jsonl"), "eval", "acc"));
    assert_true((double)voiced_hits / (double)voiced ==
                logged(at("eval.jsonl"), "eval", "acc_nosil"));
    free(text);
    /* --confusion overwrites a confusion table, but no other file. */
    plstm_expect(0, "eval --weights %s --data %s" TINY " --confusion %s", at("one.st"), at("data"),
                 at("c.tsv"));
    plstm_expect(3, "eval --weights %s --data %s" TINY " --confusion %s", at("one.st"), at("data"),
                 at("two.st"));
    plstm_expect(2, "eval --weights %s --data %s" TINY " --confusion %s", at("one.st"), at("data"),
                 at("data/phones"));
    plstm_expect(2, "eval --weights %s --data %s" TINY " --confusion %s", at("one.st"), at("data"),
                 at("data/test/labels"));
    plstm_expect(2, "eval --weights %s,%s --data %s" TINY " --confusion %s", at("one.st"),
                 at("two.st"), at("data"), at("c.tsv"));
}

/* ---- posteriors ---- */

/* Reads the matrices (frames,LABELS) of all utterances of an archive, in order, to `values`, which
 * has room for `room` numbers. Returns the number of frames. */
static int64_t archive_read(const char *path, double *values, int64_t room)
{
    Features f;
    KaldiEntry entry;
    Error e;
    int64_t n = 0;
    assert_int_equal(features_open(&f, path, &e), 0);
    while (!features_next(&f, &entry, &e) && entry.name) {
        float *x = malloc((size_t)(entry.matrix.rows * entry.matrix.cols) * sizeof *x);
        assert_int_equal(entry.matrix.cols, LABELS);
        assert_true((n + entry.matrix.rows) * LABELS <= room);
        kaldi_matrix_read(&entry.matrix, x);
        for (int64_t i = 0; i < entry.matrix.rows * LABELS; i++) values[n * LABELS + i] = x[i];
        n += entry.matrix.rows;
        free(x);
    }
    features_close(&f);
    return n;
}

static double nats_of(const Frames *f, const double *p)
{
    double nats = 0;
    for (int64_t i = 0; i < f->split[FRAMES_TEST].frames; i++)
        nats -= log(p[i * LABELS + f->split[FRAMES_TEST].rows.targets[i]]);
    return nats;
}

enum { ROOM = 400 * LABELS };

/* Every frame's posteriors sum to 1, and -log of the labels' posteriors add up to eval's nats, for
 * one model and for the average of two, with any number of utterances at a time; one utterance is
 * longer than a window. */
static void posteriors(void **state)
{
    (void)state;
    static double p[ROOM], q[ROOM];
    Frames f;
    Error e;
    assert_int_equal(frames_load(&f, &(FramesOptions){.dir = at("data"), .wanted = EVAL_ALL}, &e),
                     0);
    char weights[2][4 * PATH_MAX + 2];
    snprintf(weights[0], sizeof weights[0], "%s", at("one.st"));
    snprintf(weights[1], sizeof weights[1], "%s,%s", at("one.st"), at("two.st"));
    for (int i = 0; i < 2; i++) {
        const char *w = weights[i];
        plstm_expect(0, "posteriors --weights %s --features %s --out %s" TINY, w, at("data/test"),
                     at("p.ark"));
        plstm_expect(0, "posteriors --weights %s --features %s --out %s --utterances 1" TINY, w,
                     at("data/test/feats.ark"), at("q.ark"));
        assert_int_equal(archive_read(at("p.ark"), p, ROOM), 316);
        assert_int_equal(archive_read(at("q.ark"), q, ROOM), 316);
        for (int64_t t = 0; t < 316; t++) {
            double sum = 0;
            for (int k = 0; k < LABELS; k++) {
                sum += p[t * LABELS + k];
                /* Posteriors are written as float32. */
                assert_true(fabs(p[t * LABELS + k] - q[t * LABELS + k]) < 1e-6);
            }
            assert_true(fabs(sum - 1) < 1e-6);
        }
        plstm_expect(0, "eval --weights %s --data %s" TINY " --log-json %s", w, at("data"),
                     at("eval.jsonl"));
        double nats = logged(at("eval.jsonl"), "eval", "nats");
        /* The bound allows each of 316 frames an error of 1e-6 in a posterior of about 1/4, whose
         * float32 is rounded by at most 2^-26. */
        assert_true(fabs(nats_of(&f, p) - nats) < 316 * 1e-6 * 4);
        if (i) assert_true(isnan(logged(at("eval.jsonl"), "eval", "acc")));
    }
    frames_free(&f);
}

static void logarithms(void **state)
{
    (void)state;
    static double p[ROOM], l[ROOM], s[ROOM];
    Frames f;
    Error e;
    assert_int_equal(frames_load(&f, &(FramesOptions){.dir = at("data")}, &e), 0);
    const char *const as[] = {"posteriors", "log-posteriors", "log-likelihoods"};
    double *const to[] = {p, l, s};
    for (int i = 0; i < 3; i++) {
        plstm_expect(0, "posteriors --weights %s --features %s --out %s --as %s" TINY, at("one.st"),
                     at("data/valid"), at("p.ark"), as[i]);
        assert_int_equal(archive_read(at("p.ark"), to[i], ROOM), 25);
    }
    for (int64_t i = 0; i < 25 * LABELS; i++) {
        double prior = (double)f.count[i % LABELS] / (double)f.split[0].frames;
        assert_true(fabs(log(p[i]) - l[i]) < 1e-6 * (1 + fabs(l[i])) &&
                    fabs(l[i] - log(prior) - s[i]) < 1e-6 * (1 + fabs(l[i])));
    }
    frames_free(&f);
    /* --out overwrites an archive, but no other file. */
    plstm_expect(3, "posteriors --weights %s --features %s --out %s" TINY, at("one.st"),
                 at("data/valid"), at("data/phones"));
    plstm_expect(2, "posteriors --weights %s --features %s --out %s" TINY, at("one.st"),
                 at("data/valid"), at("data/valid/feats.ark"));
    /* The file phones is an input, too. */
    plstm_expect(2, "train" SHAPE TINY " --data %s --max-steps 0 --save %s --force", at("data"),
                 at("data/phones"));
    /* An archive does not overwrite a script, since Kaldi would then read it as the script. */
    file_write(at("data/valid/feats.scp"), "valid-0 feats.ark:8\n");
    plstm_expect(2, "posteriors --weights %s --features %s --out %s --force" TINY, at("one.st"),
                 at("data/valid/feats.ark"), at("data/valid/feats.scp"));
    char *script = file_read(at("data/valid/feats.scp"), NULL);
    assert_string_equal(script, "valid-0 feats.ark:8\n");
    free(script);
    assert_int_equal(unlink(at("data/valid/feats.scp")), 0);
    size_t n, left;
    char line[64], *before = file_read(at("p.ark"), &n);
    snprintf(line, sizeof line, "first p.ark:%d\n", (int)strcspn(before, " ") + 1);
    file_write(at("own.scp"), line); /* the archive to which a script points is an input, too */
    plstm_expect(2, "posteriors --weights %s --features %s --out %s" TINY, at("one.st"),
                 at("own.scp"), at("p.ark"));
    char *after = file_read(at("p.ark"), &left);
    assert_int_equal(n, left);
    assert_memory_equal(before, after, n);
    free(before), free(after);
    plstm_expect(2, "posteriors --weights %s --features %s" TINY, at("one.st"), at("data/valid"));
    plstm_expect(3, "posteriors --weights %s --features %s --out %s" TINY, at("data/phones"),
                 at("data/valid"), at("p.ark"));
    plstm_expect(3, "posteriors --weights %s --features %s --out %s" TINY, at("one.st"), at("data"),
                 at("p.ark"));
}

/* ---- faults ---- */

/* Trains on a folder that is valid except for one file; checks that the sentence has the phrase and
 * that the exit code is 3. */
static void assert_fault(const char *file, const char *text, const char *phrase)
{
    put_folder("bad");
    char *old = file_read(at("bad/%s", file), NULL);
    file_write(at("bad/%s", file), text);
    Run run = plstm("train" SHAPE TINY " --max-steps 1 --data %s", at("bad"));
    if (run.code != 3) fail_msg("%s with '%s': exit %d: %s", file, text, run.code, run.err);
    assert_one_line(run.err);
    assert_contains(run.err, phrase);
    run_free(&run);
    file_write(at("bad/%s", file), old);
    free(old);
}

static void bad_data(void **state)
{
    (void)state;
    assert_fault("valid/labels", "valid-1 0 1 2 3\nvalid-0 1 1\n",
                 "valid-0 has 2 labels and 8 frames");
    assert_fault("valid/labels", "valid-1 0 1 2 4\n", "label 4, but the largest of training is 3");
    assert_fault("valid/labels", "valid-1 0 1 2 -4\n", "'-4' for label 4");
    assert_fault("valid/labels", "valid-1 0 1 2 3\nvalid-1 0 1 2 3\n",
                 "line 2 repeats utterance valid-1");
    assert_fault("valid/labels", "else 0\n",
                 "have no utterance in common (3 without labels, 1 without features");
    assert_fault("train/feats.ark", "a [ 1 2 3 ]\na [ 1 2 3 ]\n", "has utterance a twice");
    assert_fault("train/feats.ark", "train-2 [ 1 2 nan ]\n",
                 "utterance train-2: dimension 3 of frame 1 is not a number");
    assert_fault("train/feats.ark", "train-2 [ 1 2 3", "utterance train-2, is cut short");
    assert_fault("valid/feats.ark", "valid-1 [ 1 2\n3 4\n5 6\n7 8 ]\n",
                 "valid-1 has 2 features per frame, but those before it have 3");
    assert_fault("phones", "a 0\nb 0\n", "line 2 names label 0 again");
    assert_fault("phones", "a zero\n", "not 'name id'");
    put_folder("bad");
    unlink(at("bad/valid/labels"));
    Run run = plstm("train" SHAPE TINY " --max-steps 1 --data %s", at("bad"));
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "valid/labels cannot be opened");
    run_free(&run);
    plstm_expect(3, "train" SHAPE TINY " --max-steps 1 --data %s", at("nowhere"));
    plstm_expect(3, "train" SHAPE TINY " --max-steps 1 --data %s --max-length 0 --eval none",
                 at("data/valid"));
}

/* Tests features of another size than the model's, a model of another task, and options of other
 * tasks. */
static void what_does_not_fit(void **state)
{
    (void)state;
    static const int few[] = {2};
    put_folder("wide");
    put_split("wide", "test", few, 1, 9);
    file_write(at("wide/test/feats.ark"), "test-0 [ 1 2\n 3 4 ]\n");
    Run run = plstm("eval --weights %s --data %s" TINY, at("one.st"), at("wide"));
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "test-0 has 2 features per frame, but the model reads 3");
    run_free(&run);
    run = plstm("posteriors --weights %s --features %s --out %s" TINY, at("one.st"),
                at("wide/test"), at("never.ark"));
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "test-0 has 2 features per frame, but the model reads 3");
    run_free(&run);
    assert_true(!file_exists(at("never.ark")) && !file_exists(at("never.ark.tmp")));
    run = plstm("eval --weights %s --data synthetic" TINY, at("one.st"));
    assert_int_equal(run.code, 3);
    run_free(&run);
    plstm_expect(2, "train --data synthetic --cmvn none" TINY);
    plstm_expect(2, "train --task frames --data synthetic --seq 3" TINY);
    plstm_expect(2, "train --task frames --data synthetic --cmvn all" TINY);
    plstm_expect(2, "train --task frames --data synthetic --final-eos" TINY);
    plstm_expect(2, "eval --weights %s --data %s --protocol zaremba" TINY, at("one.st"),
                 at("data"));
    plstm_expect(
        0,
        "train --preset demo --data synthetic --max-steps 0 --eval none --hidden 2 --layers 1 "
        "--threads 1 --quiet --save %s",
        at("lm.st"));
    plstm_expect(3, "posteriors --weights %s --features %s --out %s" TINY, at("lm.st"),
                 at("data/test"), at("never.ark"));
    plstm_expect(2, "eval --weights %s --data synthetic --confusion %s" TINY, at("lm.st"),
                 at("never.tsv"));
    plstm_expect(3, "eval --weights %s,%s --data %s" TINY, at("one.st"), at("lm.st"), at("data"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders),           cmocka_unit_test(what_is_left_out),
        cmocka_unit_test(training),          cmocka_unit_test(resume_is_exact),
        cmocka_unit_test(confusion),         cmocka_unit_test(posteriors),
        cmocka_unit_test(logarithms),        cmocka_unit_test(bad_data),
        cmocka_unit_test(what_does_not_fit),
    };
    return cmocka_run_group_tests_name("frames", tests, set_up, folder_remove);
}
