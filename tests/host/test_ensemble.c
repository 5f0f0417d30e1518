/* Tests the average of probabilities: by hand, in the tails, and `plstm eval` against each model's
 * own nats. */
#include "tests/support/program.h"

#include <jansson.h>
#include <math.h>

#include "host/data/source.h"
#include "host/store/checkpoint.h"
#include "host/train/ensemble.h"
#include "host/train/model.h"
#include "host/train/model_load.h"
#include "tests/support/score_stream.h"

/* ---- by hand ---- */

static void probabilities_are_averaged(void **state)
{
    (void)state;
    const double p[3][2] = {{0.5, 0.1}, {0.25, 0.7}, {0.03, 0.4}};
    Ensemble e;
    assert_int_equal(ensemble_init(&e, 4), 0);
    for (int m = 0; m < 3; m++) {
        ensemble_begin(&e);
        ensemble_visit(&e, 3, -log(p[m][1])); /* positions come in any order */
        ensemble_visit(&e, 1, -log(p[m][0]));
    }
    double nats;
    assert_false(ensemble_nats(&e, 0, &nats));
    assert_false(ensemble_nats(&e, 2, &nats));
    assert_true(ensemble_nats(&e, 1, &nats));
    assert_float_equal(exp(-nats), 0.26, 1e-15);
    assert_true(ensemble_nats(&e, 3, &nats));
    assert_float_equal(exp(-nats), 0.4, 1e-15);
    int64_t tokens;
    ensemble_total(&e, &nats, &tokens);
    assert_int_equal(tokens, 2);
    assert_float_equal(nats, -log(0.26) - log(0.4), 1e-14);
    ensemble_free(&e);
}

/* The average is exact even far below the smallest probability of a double (e^-745). */
static void tails_do_not_vanish(void **state)
{
    (void)state;
    Ensemble e;
    double nats;
    assert_int_equal(ensemble_init(&e, 3), 0);
    const double member[2][3] = {{2000, 5, INFINITY}, {2001, 5000, INFINITY}};
    for (int m = 0; m < 2; m++) {
        ensemble_begin(&e);
        for (int i = 0; i < 3; i++) ensemble_visit(&e, i, member[m][i]);
    }
    assert_true(ensemble_nats(&e, 0, &nats));
    assert_float_equal(nats, 2000 - log((1 + exp(-1)) / 2), 1e-9);
    assert_true(ensemble_nats(&e, 1, &nats));
    assert_float_equal(nats, 5 + log(2), 1e-12);
    assert_true(ensemble_nats(&e, 2, &nats));
    assert_true(nats == INFINITY);
    ensemble_free(&e);
}

static void one_member_is_itself(void **state)
{
    (void)state;
    Ensemble e;
    double nats;
    assert_int_equal(ensemble_init(&e, 1), 0);
    ensemble_begin(&e);
    ensemble_visit(&e, 0, 1.2345678901234567);
    assert_true(ensemble_nats(&e, 0, &nats));
    assert_true(nats == 1.2345678901234567);
    ensemble_free(&e);
}

/* A NaN score stays NaN: it must not look like a position that is not scored. */
static void nan_is_not_lost(void **state)
{
    (void)state;
    for (int bad = 0; bad < 2; bad++) {
        Ensemble e;
        double nats;
        int64_t tokens;
        assert_int_equal(ensemble_init(&e, 1), 0);
        for (int m = 0; m < 2; m++) {
            ensemble_begin(&e);
            ensemble_visit(&e, 0, m == bad ? NAN : 1);
        }
        ensemble_total(&e, &nats, &tokens);
        assert_int_equal(tokens, 1);
        assert_true(isnan(nats));
        ensemble_free(&e);
    }
}

/* ---- plstm eval ---- */

static json_t *eval_log(const char *path)
{
    char *text = file_read(path, NULL);
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "event")), "eval");
    free(text);
    return line;
}

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    if (!json_is_number(value)) fail_msg("'%s' is no number", key);
    return json_number_value(value);
}

/* A ScoreVisitor that stores the probability of each position in `user`, an array of doubles. */
static void collect(void *user, int64_t position, int32_t id, int32_t best, double nats)
{
    (void)id, (void)best;
    ((double *)user)[position] = exp(-nats);
}

/* Returns one file's probability at each position of a split, 0 where nothing is scored, as a
 * reference for the ensemble; the caller frees it. *ppl receives the perplexity. */
static double *probabilities(const char *path, const Corpus *corpus, int split, int64_t rows,
                             int64_t T, int64_t B, double *ppl)
{
    Checkpoint c;
    Model m;
    Totals score;
    Error e;
    const BackendOps *ops;
    double *p = calloc((size_t)corpus->split[split].n, sizeof *p);
    assert_non_null(p);
    if (backend_find("cpu", &ops, &e) || checkpoint_open(&c, path, &e) ||
        model_load(&m, ops, &c, (BatchLimits){.T = T, .B = B}, false, 1, &e) ||
        score_stream(&m, corpus->split[split].ids, corpus->split[split].n, split_name[split], rows,
                     T, collect, p, &score, &e))
        fail_msg("%s", e.text);
    *ppl = totals_ppl(&score);
    model_close(&m);
    checkpoint_close(&c);
    return p;
}

/* Averages two models of different shape, on valid (rows and windows of the first file) and test
 * (one stream). */
static void eval_is_the_average(void **state)
{
    (void)state;
    const char *a = in_folder("a.st"), *b = in_folder("b.st"), *log_path = in_folder("eval.jsonl");
    plstm_expect(
        0,
        "train --data synthetic --hidden 12 --layers 1 --batch 25 --seq 10 --epochs 1 --eval none "
        "--threads 1 --quiet --save %s",
        a);
    plstm_expect(
        0,
        "train --data synthetic --hidden 7 --layers 2 --batch 100 --seq 30 --keep 0.8 --seed 5 "
        "--epochs 3 --eval none --threads 1 "
        "--quiet --save %s",
        b);
    Corpus corpus;
    Error e;
    assert_int_equal(corpus_load(&corpus, "synthetic", NULL, &e), 0);
    for (int split = SPLIT_VALID; split <= SPLIT_TEST; split++) {
        int64_t rows = split == SPLIT_VALID ? 25 : 0, scored = 0;
        double ppl_a, ppl_b, nats = 0;
        double *p = probabilities(a, &corpus, split, rows, 10, 25, &ppl_a),
               *q = probabilities(b, &corpus, split, rows, 10, 25, &ppl_b);
        for (int64_t i = 0; i < corpus.split[split].n; i++) {
            if (p[i] == 0) continue; /* not scored */
            nats -= log((p[i] + q[i]) / 2);
            scored++;
        }
        plstm_expect(0,
                     "eval --weights %s,%s --data synthetic --split %s --threads 1 --log-json %s",
                     a, b, split_name[split], log_path);
        json_t *line = eval_log(log_path);
        double ppl = exp(nats / (double)scored);
        assert_int_equal((int64_t)number(line, "tokens"), scored);
        assert_float_equal(number(line, "ppl"), ppl, 1e-10 * ppl);
        const json_t *files = json_object_get(line, "files");
        assert_int_equal(json_array_size(files), 2);
        assert_true(number(json_array_get(files, 0), "ppl") == ppl_a);
        assert_true(number(json_array_get(files, 1), "ppl") == ppl_b);
        assert_true(ppl < (ppl_a > ppl_b ? ppl_a : ppl_b));
        /* The classes divide the scored words among them, and the best possible perplexity is
         * known. */
        double words = 0;
        const char *name;
        json_t *class;
        json_object_foreach(json_object_get(line, "classes"), name, class) words +=
            number(class, "tokens");
        assert_int_equal((int64_t)words, scored);
        assert_true(number(line, "best_ppl") > 13 && number(line, "best_ppl") < 14);
        if (split == SPLIT_VALID) /* SPEC 6: 25 rows of 600 ids, 59 windows of 10 */
            assert_float_equal(number(line, "ppl_paper"), exp(nats / (25 * 599)), 1e-9 * ppl);
        else assert_true(json_is_null(json_object_get(line, "ppl_paper")));
        json_decref(line);
        free(p);
        free(q);
    }
    corpus_free(&corpus);
}

/* eval prints the same scores for the file as train at its end. */
static void eval_agrees_with_train(void **state)
{
    (void)state;
    const char *a = in_folder("same.st"), *log_path = in_folder("same.jsonl"),
               *train_log = in_folder("train.jsonl");
    plstm_expect(
        0,
        "train --data synthetic --hidden 9 --layers 2 --batch 50 --seq 15 --epochs 1 --threads 1 "
        "--quiet --save %s --log-json %s",
        a, train_log);
    char *text = file_read(train_log, NULL), value[128];
    plstm_expect(0, "eval --weights %s --data synthetic --threads 1 --log-json %s", a, log_path);
    json_t *line = eval_log(log_path);
    snprintf(value, sizeof value, "\"test_ppl\":%.17g,", number(line, "ppl"));
    assert_contains(text, value);
    json_decref(line);
    plstm_expect(0, "eval --weights %s --data synthetic --split valid --threads 1 --log-json %s", a,
                 log_path);
    line = eval_log(log_path);
    snprintf(value, sizeof value, "\"valid_ppl\":%.17g,\"valid_ppl_paper\":%.17g,",
             number(line, "ppl"), number(line, "ppl_paper"));
    assert_contains(text, value);
    json_decref(line);
    /* With other rows and windows the number of scored words differs. */
    plstm_expect(0,
                 "eval --weights %s --data synthetic --split valid --batch 10 --seq 7 --threads 1 "
                 "--log-json %s",
                 a, log_path);
    line = eval_log(log_path);
    assert_int_equal((int)number(line, "tokens"), 10 * 7 * ((1500 - 1) / 7));
    json_decref(line);
    plstm_expect(0,
                 "eval --weights %s --data synthetic --split valid --protocol sequential --threads "
                 "1 --log-json %s",
                 a, log_path);
    line = eval_log(log_path);
    assert_int_equal((int)number(line, "tokens"), 14999);
    assert_true(json_is_null(json_object_get(line, "ppl_paper")));
    json_decref(line);
    free(text);
}

static void write_corpus(const char *name, const char *train, const char *rest)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", in_folder(name));
    mkdir(path, 0700);
    for (int i = 0; i < 3; i++) {
        char file[PATH_MAX + 16];
        snprintf(file, sizeof file, "%s/%s.txt", path, split_name[i]);
        file_write(file, i ? rest : train);
    }
}

static void vocabularies_must_agree(void **state)
{
    (void)state;
    write_corpus("one", "a b c a b c a b c\n", "a b c a b c\n");
    write_corpus("two", "a b d a b d a b d\n", "a b d a b d\n"); /* the same ids for other words */
    write_corpus("more", "a b c a b c a b c\n", "a b x a b c\n");
    const char *a = in_folder("one.st"), *b = in_folder("two.st");
    const char *const train =
        "train --data %s --hidden 3 --layers 1 --batch 2 --seq 2 --epochs 1 --eval "
        "none --threads 1 --quiet --save %s";
    plstm_expect(0, train, in_folder("one"), a);
    plstm_expect(0, train, in_folder("two"), b);
    Run run = plstm("eval --weights %s,%s --data %s", a, b, in_folder("one"));
    assert_int_equal(run.code, 3);
    assert_one_line(run.err);
    assert_contains(run.err, a);
    assert_contains(run.err, b);
    assert_contains(run.err, "vocabular");
    run_free(&run);
    /* The text has an unknown word, and the vocabulary has no <unk>. */
    run = plstm("eval --weights %s --data %s", a, in_folder("more"));
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "x");
    run_free(&run);
    const char *c = in_folder("again.st");
    plstm_expect(0,
                 "train --seed 2 --data %s --hidden 3 --layers 1 --batch 2 --seq 2 --epochs 1 "
                 "--eval none --threads 1 "
                 "--quiet --save %s",
                 in_folder("one"), c);
    run = plstm("eval --weights %s,%s --data %s --protocol zaremba", a, c, in_folder("one"));
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "ensemble of 2");
    assert_contains(run.out, "(zaremba)");
    run_free(&run);
}

/* A failed evaluation keeps the log of an earlier one. */
static void a_failed_eval_keeps_the_log(void **state)
{
    (void)state;
    const char *log_path = in_folder("kept.jsonl");
    file_write(log_path, "kept\n");
    plstm_expect(3, "eval --weights no-such-file --data synthetic --log-json %s", log_path);
    char *text = file_read(log_path, NULL);
    assert_string_equal(text, "kept\n");
    free(text);
    plstm_expect(3, "eval --weights %s --data synthetic --threads 1 --log-json /dev/full",
                 in_folder("a.st"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_averaged), cmocka_unit_test(tails_do_not_vanish),
        cmocka_unit_test(one_member_is_itself),       cmocka_unit_test(nan_is_not_lost),
        cmocka_unit_test(eval_is_the_average),        cmocka_unit_test(eval_agrees_with_train),
        cmocka_unit_test(vocabularies_must_agree),    cmocka_unit_test(a_failed_eval_keeps_the_log),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
