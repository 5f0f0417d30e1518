/* Tests translation end to end, on tiny models in double: training and resuming, `plstm translate`
 * against a greedy search that reads every prefix again, its scores against `plstm eval`,
 * ensembles, batches, and every fault of TASKS 4. */
#include "tests/support/program.h"

#include <math.h>

#include <jansson.h>

#include "host/commands/commands.h"
#include "host/data/pairs.h"
#include "host/store/checkpoint.h"
#include "host/train/model.h"
#include "host/train/model_load.h"
#include "host/train/token_log_probs.h"

#define TINY  " --backend reference --threads 1 --quiet"
#define SHAPE " --task translate --hidden 12 --layers 2 --batch 5 --init 0.6"

/* Writes pairs of sentences by a rule: the target has the source's words in reverse order, in
 * capitals, with an additional word if the first is `a`. */
static void put_pair(const char *name, int lines, unsigned seed)
{
    static const char *const word[] = {"a", "b", "c", "d", "e", "f"};
    char path[PATH_MAX + 32], source[64], target[64];
    snprintf(path, sizeof path, "%s/%s.en", folder, name);
    FILE *en = fopen(path, "w");
    snprintf(path, sizeof path, "%s/%s.fr", folder, name);
    FILE *fr = fopen(path, "w");
    assert_true(en && fr);
    for (int i = 0; i < lines; i++) {
        int n = 1 + (int)((seed = seed * 1103515245 + 12345) >> 16) % 4, w[4];
        source[0] = target[0] = 0;
        for (int k = 0; k < n; k++) {
            w[k] = (int)((seed = seed * 1103515245 + 12345) >> 16) % 6;
            sprintf(source + strlen(source), "%s%s", k ? " " : "", word[w[k]]);
        }
        for (int k = n - 1; k >= 0; k--)
            sprintf(target + strlen(target), "%s%c", k < n - 1 ? " " : "", "ABCDEF"[w[k]]);
        fprintf(en, "%s\n", source);
        fprintf(fr, "%s%s\n", w[0] ? "" : "Z ", target);
    }
    fclose(en);
    fclose(fr);
}

static const char *model(const char *name) { return in_folder(name); }

static int set_up(void **state)
{
    if (folder_make(state)) return -1;
    put_pair("train", 120, 1);
    put_pair("valid", 20, 2);
    put_pair("test", 25, 3);
    plstm_expect(0,
                 "train" SHAPE TINY
                 " --data %s --source en --target fr --epochs 6 --keep 0.9 --decay 1.35 --save %s",
                 folder, model("one.st"));
    plstm_expect(
        0,
        "train" SHAPE TINY
        " --data %s --source en --target fr --epochs 3 --seed 2 --keep 0.7 --decay 1.35 --save %s",
        folder, model("two.st"));
    plstm_expect(0, "train" SHAPE TINY " --data %s --source fr --target en --max-steps 1 --save %s",
                 folder, model("back.st"));
    return 0;
}

/* Returns options for one file, or for two with a comma between them; they stay valid for the next
 * seven calls. */
static SearchOptions options(const char *weights)
{
    static struct {
        char text[2 * PATH_MAX + 2], *path[2];
        PathList list;
    } known[8];
    static int used;
    char *save;
    PathList *list = &known[used % 8].list;
    list->path = known[used % 8].path;
    list->n = 0;
    snprintf(known[used % 8].text, sizeof known->text, "%s", weights);
    for (char *one = strtok_r(known[used % 8].text, ",", &save); one;
         one = strtok_r(NULL, ",", &save))
        list->path[list->n++] = one;
    used++;
    return (SearchOptions){
        .weights = *list, .beam = 12, .batch = 20, .backend = "reference", .threads = 1};
}

/* Returns the output for an input of `bytes` bytes, malloc'd, and the sentence of a failure in *e.
 * Fails the test if the exit code is not `code`. */
static char *translated(const SearchOptions *o, const char *input, size_t bytes, int code, Error *e)
{
    char *text = NULL;
    size_t n = 0;
    FILE *in = fmemopen((void *)input, bytes, "r"), *out = open_memstream(&text, &n);
    assert_true(in && out);
    int got = translate_command(o, in, out, e);
    fclose(in);
    fclose(out);
    if (got != code) fail_msg("exit %d, not %d: %s", got, code, got ? e->text : "");
    return text;
}

static char *translate(const SearchOptions *o, const char *input)
{
    Error e;
    return translated(o, input, strlen(input), 0, &e);
}

/* ---- translations and scores, compared with other computations ---- */

/* Computes the logits after a prefix that is read from a zero state. */
static void logits_behind(Model *m, const int32_t *ids, int64_t n, float *logits)
{
    Error e;
    WindowResult r;
    int32_t targets[64];
    for (int64_t i = 0; i < n; i++) targets[i] = i == n - 1 ? 0 : TARGET_NONE;
    Window w = {.batch = {.T = n, .B = 1, .ids = ids, .targets = targets, .n_scored = 1}};
    assert_int_equal(model_forward(m, &w, NULL, NULL, &r, &e), 0);
    assert_int_equal(m->ops->logits_get(m->backend, 0, 1, logits, &e), 0);
}

/* Translates a line by taking the likeliest word each time and reading every prefix again. */
static void greedy(Model *m, const Checkpoint *c, const char *line, char *out)
{
    int32_t ids[64];
    const char *word;
    int64_t n = 0, at = 0, length = (int64_t)strlen(line);
    for (size_t bytes; (bytes = pairs_next_word(line, &at, length, &word)); n++) {
        memmove(ids + 1, ids, sizeof *ids * (size_t)n);
        ids[0] = pairs_word(&c->vocab_source, word, bytes);
    }
    int64_t S = n;
    ids[n++] = ID_EOS;
    out[0] = 0;
    for (int64_t step = 0; S && step < 2 * S + 10; step++) {
        float logits[64];
        logits_behind(m, ids, n, logits);
        int32_t best = 0;
        for (int32_t v = 1; v < c->vocab.V; v++)
            if (logits[v] > logits[best]) best = v;
        if (best == ID_EOS) break;
        size_t bytes;
        const char *type = vocab_type(&c->vocab, best, &bytes);
        sprintf(out + strlen(out), "%s%.*s", step ? " " : "", (int)bytes, type);
        ids[n++] = (int32_t)c->vocab_source.V + best;
    }
    strcat(out, "\n");
}

static void a_beam_of_one_is_greedy(void **state)
{
    (void)state;
    static const char *const file[] = {"one.st", "two.st"};
    char *input = file_read(in_folder("test.en"), NULL);
    const BackendOps *ops;
    Error e;
    assert_int_equal(backend_find("reference", &ops, &e), 0);
    for (int i = 0; i < 2; i++) {
        Checkpoint c;
        Model m;
        char expected[8192] = "", line[512];
        assert_int_equal(checkpoint_open(&c, model(file[i]), &e), 0);
        assert_int_equal(
            model_load(&m, ops, &c, (BatchLimits){.T = 64, .B = 1, .scored = 1}, false, 1, &e), 0);
        char *copy = strdup(input), *save;
        for (char *at = strtok_r(copy, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
            greedy(&m, &c, at, line);
            strcat(expected, line);
        }
        SearchOptions o = options(model(file[i]));
        o.beam = 1;
        char *out = translate(&o, input);
        assert_string_equal(out, expected);
        free(out);
        free(copy);
        model_close(&m);
        checkpoint_close(&c);
    }
    free(input);
}

/* Returns the sum of the scores in n-best lines and writes their words to path, one line each. */
static double split_scores(const char *lines, const char *path)
{
    double sum = 0;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (const char *at = lines; *at; at = strchr(at, '\n') + 1) {
        const char *words = strstr(at, " ||| ") + 5, *score = strstr(words, " ||| ");
        fprintf(f, "%.*s\n", (int)(score - words), words);
        sum += atof(score + 5);
    }
    assert_int_equal(fclose(f), 0);
    return sum;
}

static json_t *read_json(const char *path)
{
    json_error_t fault;
    json_t *log = json_load_file(path, 0, &fault);
    if (!log) fail_msg("%s: %s", path, fault.text);
    return log;
}

static double number(const json_t *log, const char *key)
{
    return json_number_value(json_object_get(log, key));
}

static double eval_nats(const char *weights)
{
    plstm_expect(
        0, "eval --weights %s --data %s/scored --split test --backend reference --log-json %s",
        weights, folder, in_folder("eval.json"));
    json_t *log = read_json(in_folder("eval.json"));
    double nats = number(log, "nats");
    json_decref(log);
    return nats;
}

/* eval gives a source and its translation the same score as the search. Logits are passed in
 * float32, which allows 1e-5 per word, and there are about 250 words. */
static void scores_are_those_of_eval(void **state)
{
    (void)state;
    char weights[2 * PATH_MAX + 2], path[PATH_MAX + 32];
    char *input = file_read(in_folder("test.en"), NULL);
    snprintf(path, sizeof path, "%s/scored", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/scored/test.en", folder);
    file_write(path, input);
    snprintf(path, sizeof path, "%s/scored/test.fr", folder);
    for (int i = 0; i < 2; i++) {
        snprintf(weights, sizeof weights, i ? "%s,%s" : "%s", model("one.st"), model("two.st"));
        SearchOptions o = options(weights);
        o.nbest = 1;
        char *out = translate(&o, input);
        double sum = split_scores(out, path);
        assert_true(sum < -1);
        assert_float_equal(eval_nats(weights), -sum, 2.5e-3);
        free(out);
    }
    free(input);
}

/* Compares two files of log-probabilities, which are float32; products of another width round
 * differently in the last bits of a double. */
static void assert_same_log_probs(const char *a_path, const char *b_path)
{
    TokenLogProbs a, b;
    Error e;
    assert_int_equal(token_log_probs_read(&a, a_path, &e), 0);
    assert_int_equal(token_log_probs_read(&b, b_path, &e), 0);
    assert_int_equal(token_log_probs_agree(&a, a_path, &b, b_path, &e), 0);
    for (int64_t i = 0; i < a.n; i++)
        assert_float_equal(a.log_p[i], b.log_p[i], -1e-6 * a.log_p[i]);
    token_log_probs_free(&a);
    token_log_probs_free(&b);
}

/* From files that eval wrote, at any batch size, plstm ensemble prints what eval prints for the
 * models: for each, and for their average. */
static void check_log_probs(const char *data, const char *split, const char *name)
{
    const char *file[] = {in_folder("1.npy"), in_folder("2.npy")}, *again = in_folder("again.npy"),
               *both = in_folder("both.npy"), *weights[] = {model("one.st"), model("two.st")},
               *ours_path = in_folder("ours.json"), *theirs_path = in_folder("theirs.json");
    for (int i = 0; i < 2; i++) {
        plstm_expect(0,
                     "eval --weights %s --data %s --split %s --batch 3 --token-log-probs %s" TINY,
                     weights[i], data, split, file[i]);
        plstm_expect(0,
                     "eval --weights %s --data %s --split %s --batch 20 --token-log-probs %s" TINY,
                     weights[i], data, split, again);
        assert_same_log_probs(file[i], again);
    }
    plstm_expect(
        0, "eval --weights %s,%s --data %s --split %s --token-log-probs %s --log-json %s" TINY,
        weights[0], weights[1], data, split, both, theirs_path);
    plstm_expect(0, "ensemble %s %s --log-json %s", file[0], file[1], ours_path);
    json_t *ours = read_json(ours_path), *theirs = read_json(theirs_path);
    assert_string_equal(json_string_value(json_object_get(ours, "split")), name);
    assert_string_equal(json_string_value(json_object_get(ours, "protocol")), "translate");
    assert_true(json_is_null(json_object_get(ours, "ppl_paper")));
    assert_int_equal((int)number(ours, "tokens"), (int)number(theirs, "tokens"));
    for (int i = -1; i < 2; i++) {
        const json_t *x = i < 0 ? ours : json_array_get(json_object_get(ours, "files"), (size_t)i);
        const json_t *y =
            i < 0 ? theirs : json_array_get(json_object_get(theirs, "files"), (size_t)i);
        assert_float_equal(number(x, "nats"), number(y, "nats"), 1e-6 * number(y, "nats"));
        assert_float_equal(number(x, "ppl"), number(y, "ppl"), 1e-6 * number(y, "ppl"));
    }
    json_decref(ours);
    plstm_expect(0, "ensemble %s --log-json %s", both, ours_path);
    ours = read_json(ours_path);
    assert_float_equal(number(ours, "ppl"), number(theirs, "ppl"), 1e-6 * number(theirs, "ppl"));
    json_decref(ours);
    json_decref(theirs);
}

/* A split is named after its files; a space in the name is written as _. */
static void log_probs_average_to_what_eval_says(void **state)
{
    (void)state;
    char odd[PATH_MAX + 32];
    snprintf(odd, sizeof odd, "%s/odd", folder);
    assert_int_equal(mkdir(odd, 0777), 0);
    put_pair("odd/test odd", 15, 9);
    check_log_probs(folder, "valid", "valid");
    check_log_probs(odd, "test", "test_odd");
    plstm_expect(0, "eval --weights %s --data %s --split valid --token-log-probs %s" TINY,
                 model("back.st"), folder, in_folder("back.npy"));
    plstm_expect(0, "eval --weights %s --data %s --split valid --token-log-probs %s" TINY,
                 model("one.st"), folder, in_folder("1.npy"));
    Run run = plstm("ensemble %s %s", in_folder("1.npy"), in_folder("back.npy"));
    assert_int_equal(run.code, 3);
    assert_one_line(run.err);
    assert_contains(run.err, "different vocabularies");
    run_free(&run);
}

static void an_ensemble_of_one_model_is_that_model(void **state)
{
    (void)state;
    char weights[2 * PATH_MAX + 2];
    char *input = file_read(in_folder("test.en"), NULL);
    snprintf(weights, sizeof weights, "%s,%s", model("one.st"), model("one.st"));
    SearchOptions one = options(model("one.st")), two = options(weights);
    char *a = translate(&one, input), *b = translate(&two, input);
    assert_string_equal(a, b);
    free(a);
    free(b);
    free(input);
}

/* Compares two n-best lists: products of another width may round differently in the last bits of a
 * double. */
static void check_lists(const char *a, const char *b)
{
    for (; *a && *b; a = strchr(a, '\n') + 1, b = strchr(b, '\n') + 1) {
        const char *end = strstr(strstr(a, " ||| ") + 5, " ||| ") + 5;
        if (strncmp(a, b, (size_t)(end - a))) fail_msg("%.60s\n%.60s", a, b);
        assert_float_equal(atof(end), atof(b + (end - a)), 1e-6);
    }
    assert_int_equal(*a, *b);
}

static void the_batch_changes_nothing(void **state)
{
    (void)state;
    char *input = file_read(in_folder("test.en"), NULL);
    SearchOptions o = options(model("one.st"));
    o.nbest = 5;
    char *expected = translate(&o, input);
    static const int64_t batch[] = {1, 2, 7, 25, 40};
    for (int i = 0; i < 5; i++) {
        o.batch = batch[i];
        char *out = translate(&o, input);
        check_lists(out, expected);
        free(out);
    }
    free(expected);
    free(input);
}

/* The n-best translations of a sentence are in order and begin with the best one; an empty line has
 * one translation, which is empty. */
static void n_best_lists(void **state)
{
    (void)state;
    SearchOptions o = options(model("one.st"));
    char *best = translate(&o, "a b\n\nc d e\n");
    o.nbest = 4;
    char *list = translate(&o, "a b\n\nc d e\n"), words[3][256] = {"", "", ""};
    int n[3] = {0};
    double last = 0;
    for (char *at = list; *at; at = strchr(at, '\n') + 1) {
        int number = atoi(at);
        char *from = strstr(at, " ||| ") + 5, *score = strstr(from, " ||| ");
        assert_true(number >= 0 && number < 3);
        if (!n[number]) snprintf(words[number], 256, "%.*s", (int)(score - from), from);
        else assert_true(atof(score + 5) <= last);
        last = atof(score + 5);
        n[number]++;
    }
    assert_int_equal(n[0], 4);
    assert_int_equal(n[1], 1);
    assert_int_equal(n[2], 4);
    assert_non_null(strstr(list, "\n1 |||  ||| 0\n"));
    char expected[1024];
    snprintf(expected, sizeof expected, "%s\n%s\n%s\n", words[0], words[1], words[2]);
    assert_string_equal(best, expected);
    free(best);
    free(list);
}

static void the_penalty_prefers_longer_ones(void **state)
{
    (void)state;
    char *input = file_read(in_folder("test.en"), NULL);
    SearchOptions o = options(model("two.st"));
    char *plain = translate(&o, input);
    o.penalty = 1;
    char *longer = translate(&o, input);
    assert_true(strlen(longer) >= strlen(plain));
    assert_string_not_equal(longer, plain);
    free(plain);
    free(longer);
    free(input);
}

/* ---- lines ---- */

static void lines_come_out_in_order(void **state)
{
    (void)state;
    SearchOptions o = options(model("one.st"));
    o.batch = 3;
    char *one = translate(&o, "c d\n"), *two = translate(&o, "unknown b"),
         *three = translate(&o, " \t\r\n");
    assert_string_equal(three, "\n");
    char *all = translate(&o, "\nc d\n\n\n unknown\tb \r\nc d\nunknown b"), expected[1024];
    snprintf(expected, sizeof expected, "\n%s\n\n%s%s%s", one, two, one, two);
    assert_string_equal(all, expected);
    char *nothing = translate(&o, "\n");
    assert_string_equal(nothing, "\n");
    /* A byte-order mark is recognised only at the start. */
    char *marked = translate(&o, "\xef\xbb\xbf"
                                 "c d\n"),
         *inside = translate(&o, "\n\xef\xbb\xbf"
                                 "c d\n");
    assert_string_equal(marked, one);
    assert_string_not_equal(inside + 1, one);
    free(marked), free(inside);
    free(one), free(two), free(three), free(all), free(nothing);
}

static void bad_input_is_told(void **state)
{
    (void)state;
    Error e;
    char both[2 * PATH_MAX + 2];
    SearchOptions o = options(model("one.st"));
    char *out = translated(&o, "a b\nc\0d\n", 8, EXIT_BAD_DATA, &e);
    assert_int_equal(strchr(out, '\n')[1], 0); /* the lines before it are translated */
    assert_non_null(strstr(e.text, "line 2"));
    free(out);
    /* A folder can be opened but not read. */
    FILE *folder = fopen(".", "r"), *nowhere = fopen("/dev/null", "w");
    assert_true(folder && nowhere);
    assert_int_equal(translate_command(&o, folder, nowhere, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "the input cannot be read"));
    fclose(folder), fclose(nowhere);
    snprintf(both, sizeof both, "%s,%s", model("one.st"), model("back.st"));
    o.weights = options(both).weights;
    free(translated(&o, "a\n", 2, EXIT_BAD_DATA, &e));
    assert_non_null(strstr(e.text, "different vocabularies"));
    o.weights = options("no-such-file").weights;
    free(translated(&o, "a\n", 2, EXIT_BAD_DATA, &e));
    plstm_expect(
        0, "train --data synthetic --hidden 4 --layers 1 --max-steps 1 --eval none --save %s" TINY,
        in_folder("lm.st"));
    o.weights = options(in_folder("lm.st")).weights;
    free(translated(&o, "a\n", 2, EXIT_BAD_DATA, &e));
    assert_non_null(strstr(e.text, "task lm"));
    plstm_expect(2, "translate --beam 12");
    plstm_expect(2, "translate --weights %s --beam 3 --nbest 4", model("one.st"));
    plstm_expect(2, "translate --weights %s --beam 0", model("one.st"));
    plstm_expect(2, "translate --weights %s --length-penalty -1", model("one.st"));
}

/* ---- training ---- */

#define RUN "train" SHAPE TINY " --data %s --source en --target fr"

static void a_run_that_is_resumed_ends_alike(void **state)
{
    (void)state;
    static const int stop[] = {1, 24, 37}; /* minibatches; an epoch has 24 */
    plstm_expect(0, RUN " --keep 0.6 --epochs 2 --save %s --log-json %s", folder,
                 in_folder("whole.st"), in_folder("whole.jsonl"));
    for (int i = 0; i < 3; i++) {
        plstm_expect(
            0, RUN " --keep 0.6 --epochs 2 --eval valid --max-steps %d --save %s --log-json %s",
            folder, stop[i], in_folder("part.st"), in_folder("part.jsonl"));
        plstm_expect(0, "train --resume %s --data %s --save %s --log-json %s --eval all" TINY,
                     in_folder("part.st"), folder, in_folder("part.st"), in_folder("part.jsonl"));
        assert_files_equal(in_folder("whole.st"), in_folder("part.st"));
    }
}

static void the_log_says_what_was_scored(void **state)
{
    (void)state;
    json_error_t fault;
    plstm_expect(0, RUN " --epochs 1 --log-json %s", folder, in_folder("log.jsonl"));
    char *text = file_read(in_folder("log.jsonl"), NULL);
    double nats = 0, tokens = 0;
    int steps = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *one = json_loads(line, 0, &fault);
        const char *event = json_string_value(json_object_get(one, "event"));
        if (!strcmp(event, "run")) {
            assert_string_equal(json_string_value(json_object_get(one, "task")), "translate");
            assert_string_equal(json_string_value(json_object_get(one, "source")), "en");
            assert_int_equal(json_integer_value(json_object_get(one, "V_source")), 8);
            assert_int_equal(json_integer_value(json_object_get(one, "V")), 9);
            assert_null(json_object_get(one, "seq"));
        } else if (!strcmp(event, "step")) {
            steps++;
            nats += json_number_value(json_object_get(one, "nats"));
            tokens += json_number_value(json_object_get(one, "tokens"));
            assert_float_equal(json_number_value(json_object_get(one, "loss")) * 5,
                               json_number_value(json_object_get(one, "nats")), 1e-9);
        } else if (!strcmp(event, "epoch")) {
            assert_float_equal(json_number_value(json_object_get(one, "train_ppl")),
                               exp(nats / tokens), 1e-9);
            assert_true(json_is_null(json_object_get(one, "valid_ppl_paper")));
        } else {
            assert_string_equal(event, "test");
            assert_string_equal(json_string_value(json_object_get(one, "test")), "test");
        }
        json_decref(one);
    }
    assert_int_equal(steps, 24);
    free(text);
}

static double test_ppl(const char *more)
{
    json_error_t fault;
    plstm_expect(0, RUN " --init-weights %s --max-steps 0 --eval test --log-json %s%s", folder,
                 model("one.st"), in_folder("scored.jsonl"), more);
    char *text = file_read(in_folder("scored.jsonl"), NULL);
    json_t *last = json_loads(strstr(text, "{\"event\":\"test\""), JSON_DISABLE_EOF_CHECK, &fault);
    assert_non_null(last);
    double ppl = json_number_value(json_object_get(last, "test_ppl"));
    json_decref(last);
    free(text);
    return ppl;
}

/* A sequence that is longer than --max-length is scored in windows with carried state, which does
 * not change the score. */
static void windows_change_no_score(void **state)
{
    (void)state;
    double whole = test_ppl("");
    assert_true(whole > 1 && whole < 100);
    static const char *const more[] = {" --max-length 3", " --max-length 4", " --max-length 8",
                                       " --max-length 7"};
    for (int i = 0; i < 4; i++) assert_float_equal(test_ppl(more[i]), whole, 1e-6 * whole);
}

static void refused(int code, const char *phrase, const char *more)
{
    Run run = plstm("train" SHAPE TINY " --max-steps 1 --data %s", more);
    if (run.code != code) fail_msg("%s: exit %d, not %d: %s", more, run.code, code, run.err);
    assert_one_line(run.err);
    assert_contains(run.err, phrase);
    run_free(&run);
}

static void bad_pairs_are_refused(void **state)
{
    (void)state;
    char line[PATH_MAX + 128], path[PATH_MAX + 64];
    snprintf(line, sizeof line, "%s --source en --target en", folder);
    refused(2, "--source and --target", line);
    snprintf(line, sizeof line, "%s --source en", folder);
    refused(2, "--target", line);
    snprintf(line, sizeof line, "%s --source en --target fr --seq 5", folder);
    refused(2, "--seq", line);
    snprintf(line, sizeof line, "%s --source en --target fr --max-length 1", folder);
    refused(3, "--max-length 1", line);
    snprintf(line, sizeof line, "%s --source en --target de", folder);
    refused(3, "train.de", line);
    snprintf(path, sizeof path, "%s/uneven", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    static const char *const name[] = {"train", "valid", "test"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/uneven/%s.en", folder, name[i]);
        file_write(path, "a b\nc d\n");
        snprintf(path, sizeof path, "%s/uneven/%s.fr", folder, name[i]);
        file_write(path, i == 1 ? "A B\nC\nD\n" : "A B\nC\n");
    }
    snprintf(line, sizeof line, "%s/uneven --source en --target fr", folder);
    refused(3, "has 2 lines", line);
    snprintf(path, sizeof path, "%s/uneven/valid.fr", folder);
    file_write(path, "A B\nC\n");
    /* A run of one language pair cannot be resumed with another. */
    plstm_expect(0, RUN " --max-steps 1 --save %s", folder, in_folder("first.st"));
    plstm_expect(2, "train --resume %s --data %s/uneven", in_folder("first.st"), folder);
    plstm_expect(2, "train --resume %s --data %s --target de", in_folder("first.st"), folder);
    plstm_expect(3, "eval --weights %s --data %s/nowhere", in_folder("first.st"), folder);
    plstm_expect(2, "eval --weights %s --data %s --seq 5", in_folder("first.st"), folder);
    plstm_expect(2, "eval --weights %s --data %s --protocol zaremba", in_folder("first.st"),
                 folder);
    plstm_expect(2, "eval --weights %s --data %s --split other", in_folder("first.st"), folder);
    snprintf(path, sizeof path, "%s/uneven/test.en", folder);
    assert_int_equal(unlink(path), 0);
    Run run = plstm("eval --weights %s --data %s/uneven", in_folder("first.st"), folder);
    assert_int_equal(run.code, EXIT_BAD_DATA);
    assert_contains(run.err, "test.en");
    run_free(&run);
    snprintf(path, sizeof path, "%s/uneven/test.fr", folder);
    assert_int_equal(unlink(path), 0);
    run = plstm("eval --weights %s --data %s/uneven", in_folder("first.st"), folder);
    assert_int_equal(run.code, EXIT_BAD_DATA);
    assert_contains(run.err, "has no test text");
    run_free(&run);
    plstm_expect(3, "eval --weights %s,%s --data %s", in_folder("first.st"), model("back.st"),
                 folder);
    /* This file is of another task. */
    plstm_expect(
        0, "train --data synthetic --hidden 12 --layers 2 --max-steps 1 --eval none --save %s" TINY,
        in_folder("words.st"));
    plstm_expect(3, RUN " --init-weights %s", folder, in_folder("words.st"));
    plstm_expect(3, "sample --weights %s --words 3", in_folder("first.st"));
}

static void the_built_in_corpus_has_a_best(void **state)
{
    (void)state;
    Run run = plstm(
        "train --task translate --preset demo --hidden 4 --max-steps 1 --eval test --save %s" TINY,
        in_folder("demo.st"));
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "best possible");
    run_free(&run);
    run = plstm("eval --weights %s --data synthetic --split valid --backend reference",
                in_folder("demo.st"));
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "best possible");
    run_free(&run);
    run = plstm("data synthetic --task translate");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "best possible");
    run_free(&run);
}

static void data_describes_a_folder(void **state)
{
    (void)state;
    Run run = plstm("data %s --task translate --source en --target fr", folder);
    if (run.code) fail_msg("%s", run.err);
    assert_contains(run.out, "test");
    assert_contains(run.out, "120");
    run_free(&run);
    plstm_expect(2, "data %s --task translate --source en", folder);
    plstm_expect(2, "data %s --source en", folder);

    /* The written built-in text, read from a folder, equals the built-in text. */
    char text[PATH_MAX + 32];
    snprintf(text, sizeof text, "%s/text", folder);
    run = plstm("data synthetic --task translate --write %s", text);
    assert_int_equal(run.code, 0);
    Run again = plstm("data %s --task translate --source source --target target", text);
    assert_int_equal(again.code, 0);
    char *a = strstr(run.out, "corpus SHA-256"), *b = strstr(again.out, "corpus SHA-256");
    assert_memory_equal(a, b, 19 + 64);
    run_free(&run);
    run_free(&again);
    plstm_expect(3, "data synthetic --task translate --write %s", text);
    plstm_expect(2, "data synthetic --write %s", text);

    /* A write that fails midway removes what it created, and nothing else. */
    char part[PATH_MAX + 32], file[PATH_MAX + 64];
    snprintf(part, sizeof part, "%s/part", folder);
    assert_int_equal(mkdir(part, 0777), 0);
    snprintf(file, sizeof file, "%s/valid.target", part);
    file_write(file, "mine\n");
    run = plstm("data synthetic --task translate --write %s", part);
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "valid.target' cannot be written: File exists");
    run_free(&run);
    assert_true(file_exists(file));
    static const char *const created[] = {"train.source", "train.target", "valid.source"};
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", part, created[i]);
        assert_false(file_exists(file));
    }
}

static void built_in_pairs_have_their_own_languages(void **state)
{
    (void)state;
    static const char *const line[] = {"data synthetic --task translate --source en",
                                       "train --task translate --data synthetic --target fr"};
    for (int i = 0; i < 2; i++) {
        Run run = plstm("%s", line[i]);
        assert_int_equal(run.code, 2);
        assert_contains(run.err, i ? "--target is for folders only" : "--source is for folders");
        run_free(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_beam_of_one_is_greedy),
        cmocka_unit_test(scores_are_those_of_eval),
        cmocka_unit_test(log_probs_average_to_what_eval_says),
        cmocka_unit_test(an_ensemble_of_one_model_is_that_model),
        cmocka_unit_test(the_batch_changes_nothing),
        cmocka_unit_test(n_best_lists),
        cmocka_unit_test(the_penalty_prefers_longer_ones),
        cmocka_unit_test(lines_come_out_in_order),
        cmocka_unit_test(bad_input_is_told),
        cmocka_unit_test(a_run_that_is_resumed_ends_alike),
        cmocka_unit_test(the_log_says_what_was_scored),
        cmocka_unit_test(windows_change_no_score),
        cmocka_unit_test(bad_pairs_are_refused),
        cmocka_unit_test(the_built_in_corpus_has_a_best),
        cmocka_unit_test(data_describes_a_folder),
        cmocka_unit_test(built_in_pairs_have_their_own_languages),
    };
    return cmocka_run_group_tests(tests, set_up, folder_remove);
}
