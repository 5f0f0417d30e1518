/* Tests `plstm ensemble`: averages of files of log-probabilities, by hand and against `plstm eval`
 * of the models. */
#include "tests/support/program.h"

#include <jansson.h>
#include <math.h>

#include "host/train/ensemble.h"
#include "host/train/token_log_probs.h"
#include "kernels/philox.h"

static const ScoredText text_a = {.split = "valid",
                                  .protocol = "zaremba",
                                  .vocab_sha256 = "v",
                                  .targets_sha256 = "t",
                                  .paper_tokens = 70};
enum { WORDS = 64, MEMBERS = 7 };

static const char *file_of(int member)
{
    char name[16];
    snprintf(name, sizeof name, "m%d.npy", member);
    return in_folder(name);
}

static void random_member(int member, float log_p[WORDS])
{
    for (int t = 0; t < WORDS; t++) {
        PhiloxBlock w = philox_block(9, (uint64_t)member, (uint64_t)t);
        log_p[t] = (float)log((w.word[0] + 0.5) * 0x1p-32);
    }
}

static void write_members(void)
{
    Error e;
    float log_p[WORDS];
    for (int i = 0; i < MEMBERS; i++) {
        random_member(i, log_p);
        assert_int_equal(token_log_probs_write(file_of(i), &text_a, log_p, WORDS, &e), 0);
    }
}

static json_t *read_log(const char *path)
{
    json_error_t fault;
    json_t *line = json_load_file(path, 0, &fault);
    if (!line) fail_msg("%s: %s", path, fault.text);
    return line;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* Returns the perplexity of the average of the members whose bits are set in `members`. */
static double ppl_of(unsigned members)
{
    Ensemble sum;
    double nats;
    int64_t scored;
    assert_int_equal(ensemble_init(&sum, WORDS), 0);
    for (int i = 0; i < MEMBERS; i++) {
        float log_p[WORDS];
        if (!(members >> i & 1)) continue;
        random_member(i, log_p);
        ensemble_begin(&sum);
        for (int t = 0; t < WORDS; t++) ensemble_visit(&sum, t, -(double)log_p[t]);
    }
    ensemble_total(&sum, &nats, &scored);
    ensemble_free(&sum);
    assert_int_equal(scored, WORDS);
    return exp(nats / WORDS);
}

/* Checks one point of the curve: the mean, bounds and standard deviation over every subset of its
 * size. */
static void check_point(const json_t *p)
{
    int k = (int)number(p, "members"), count = 0;
    double mean = 0, low = INFINITY, high = 0, square = 0;
    for (unsigned s = 1; s < 1u << MEMBERS; s++) {
        if (__builtin_popcount(s) != k) continue;
        double ppl = ppl_of(s);
        mean += ppl, square += ppl * ppl, low = fmin(low, ppl), high = fmax(high, ppl), count++;
    }
    mean /= count;
    assert_int_equal((int)number(p, "ensembles"), count);
    assert_string_equal(json_string_value(json_object_get(p, "which")), "all");
    assert_float_equal(number(p, "ppl_mean"), mean, 1e-9);
    assert_float_equal(number(p, "ppl_low"), low, 1e-9);
    assert_float_equal(number(p, "ppl_high"), high, 1e-9);
    double variance = count > 1 ? (square - count * mean * mean) / (count - 1) : 0;
    assert_float_equal(number(p, "ppl_std"), sqrt(fmax(variance, 0)), 1e-5);
}

static void averages_by_hand(void **state)
{
    (void)state;
    char words[MEMBERS * 4100] = "";
    write_members();
    for (int i = 0; i < MEMBERS; i++) {
        strcat(words, file_of(i));
        strcat(words, " ");
    }
    const char *log_path = in_folder("log.jsonl"), *svg = in_folder("curve.svg");
    plstm_expect(0, "ensemble %s --log-json %s --svg %s", words, log_path, svg);
    json_t *line = read_log(log_path);
    double all = ppl_of((1u << MEMBERS) - 1);
    assert_float_equal(number(line, "ppl"), all, 1e-9);
    assert_float_equal(number(line, "ppl_paper"), exp(log(all) * WORDS / 70), 1e-9);
    assert_int_equal((int)number(line, "tokens"), WORDS);
    for (int i = 0; i < MEMBERS; i++)
        assert_float_equal(number(json_array_get(json_object_get(line, "files"), (size_t)i), "ppl"),
                           ppl_of(1u << i), 1e-9);
    const json_t *curve = json_object_get(line, "curve");
    static const int sizes[] = {1, 2, 5, 7};
    assert_int_equal(json_array_size(curve), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal((int)number(json_array_get(curve, i), "members"), sizes[i]);
        check_point(json_array_get(curve, i));
    }
    json_decref(line);
    char *figure = file_read(svg, NULL);
    assert_contains(figure, "<svg ");
    assert_contains(figure, "valid perplexity");
    assert_contains(figure, "</svg>\n");
    free(figure);

    /* If fewer subsets are drawn than exist, the draw depends only on the seed. */
    plstm_expect(0, "ensemble %s --orders 10 --seed 3 --log-json %s", words, log_path);
    char *first = file_read(log_path, NULL);
    line = read_log(log_path);
    const json_t *two = json_array_get(json_object_get(line, "curve"), 1);
    assert_string_equal(json_string_value(json_object_get(two, "which")), "drawn");
    assert_int_equal((int)number(two, "ensembles"), 10);
    assert_true(number(two, "ppl_low") < number(two, "ppl_high"));
    json_decref(line);
    plstm_expect(0, "ensemble %s --orders 10 --seed 3 --log-json %s", words, log_path);
    char *second = file_read(log_path, NULL);
    assert_string_equal(first, second);
    free(first), free(second);
}

/* A word to which one member gives a probability of zero, or nearly zero, is still averaged
 * correctly. */
static void tails(void **state)
{
    (void)state;
    Error e;
    const float a[2] = {-2000, -5}, b[2] = {-2001, -INFINITY};
    const char *log_path = in_folder("tails.jsonl");
    assert_int_equal(token_log_probs_write(in_folder("a.npy"), &text_a, a, 2, &e), 0);
    assert_int_equal(token_log_probs_write(in_folder("b.npy"), &text_a, b, 2, &e), 0);
    Run run =
        plstm("ensemble %s %s --log-json %s", in_folder("a.npy"), in_folder("b.npy"), log_path);
    assert_int_equal(run.code, 0);
    /* If one member has an infinite perplexity, so have the mean and the spread. */
    assert_contains(run.out, "      1        inf        inf ");
    assert_null(strstr(run.out, "nan"));
    run_free(&run);
    json_t *line = read_log(log_path);
    assert_float_equal(number(line, "nats"), 2000 - log((1 + exp(-1)) / 2) + 5 + log(2), 1e-9);
    assert_true(
        json_is_null(json_object_get(json_array_get(json_object_get(line, "files"), 1), "ppl")));
    json_decref(line);
}

/* For members of different shapes, ensemble prints from the files what eval prints for each and for
 * their average, on both splits; the file of an average can be a member too. */
static void as_eval_says(void **state)
{
    (void)state;
    const char *model[3] = {in_folder("1.st"), in_folder("2.st"), in_folder("3.st")};
    for (int i = 0; i < 3; i++)
        plstm_expect(
            0,
            "train --data synthetic --hidden %d --layers %d --batch 25 --seq 10 --epochs 1 --eval "
            "none --threads 1 --quiet --seed %d --save %s",
            7 + i, 1 + i % 2, i, model[i]);
    for (int test = 0; test < 2; test++) {
        const char *split = test ? "test" : "valid", *eval_log = in_folder("eval.jsonl"),
                   *log_path = in_folder("files.jsonl");
        char files[3 * PATH_MAX] = "";
        for (int i = 0; i < 3; i++) {
            strcat(strcat(files, " "), file_of(i));
            plstm_expect(0,
                         "eval --weights %s --data synthetic --split %s --threads 1 --quiet "
                         "--token-log-probs %s",
                         model[i], split, file_of(i));
        }
        plstm_expect(
            0,
            "eval --weights %s,%s,%s --data synthetic --split %s --threads 1 --quiet --log-json %s "
            "--token-log-probs %s",
            model[0], model[1], model[2], split, eval_log, in_folder("average.npy"));
        Run said = plstm("ensemble%s --log-json %s", files, log_path), eval_said;
        assert_int_equal(said.code, 0);
        json_t *theirs = read_log(eval_log), *ours = read_log(log_path);
        assert_string_equal(json_string_value(json_object_get(ours, "split")), split);
        assert_int_equal((int)number(ours, "tokens"), (int)number(theirs, "tokens"));
        static const char *const keys[] = {"nats", "ppl", "ppl_paper"};
        for (int i = -1; i < 3; i++) {
            const json_t *x =
                i < 0 ? ours : json_array_get(json_object_get(ours, "files"), (size_t)i);
            const json_t *y =
                i < 0 ? theirs : json_array_get(json_object_get(theirs, "files"), (size_t)i);
            char shown[32];
            for (int k = 0; k < 3; k++) {
                if (test && k == 2)
                    assert_true(json_is_null(json_object_get(x, keys[k])) &&
                                json_is_null(json_object_get(y, keys[k])));
                else
                    assert_float_equal(number(x, keys[k]), number(y, keys[k]),
                                       1e-6 * number(y, keys[k]));
            }
            /* The tables may differ only by rounding in the last printed digit. */
            snprintf(shown, sizeof shown, "%.3f", number(y, "ppl"));
            assert_contains(said.out, shown);
        }
        json_decref(ours), json_decref(theirs), run_free(&said);
        eval_said = plstm("ensemble %s --log-json %s", in_folder("average.npy"), log_path);
        assert_int_equal(eval_said.code, 0);
        run_free(&eval_said);
        ours = read_log(log_path), theirs = read_log(eval_log);
        assert_float_equal(number(ours, "ppl"), number(theirs, "ppl"),
                           1e-6 * number(theirs, "ppl"));
        json_decref(ours), json_decref(theirs);
    }
    plstm_expect(2, "eval --weights %s --data synthetic --token-log-probs %s", model[0], model[0]);
    plstm_expect(3, "eval --weights %s --data synthetic --token-log-probs %s", model[0],
                 in_folder("none/x.npy"));
    plstm_expect(3, "eval --weights %s --data synthetic --token-log-probs %s", model[0],
                 in_folder("eval.jsonl"));
    plstm_expect(2, "eval --weights %s --data synthetic --log-json %s --token-log-probs %s",
                 model[0], in_folder("new"), in_folder("new"));
}

static void refused(int code, const char *line, const char *phrase)
{
    Run run = plstm("ensemble %s", line);
    if (run.code != code || !strstr(run.err, phrase))
        fail_msg("ensemble %s: exit %d, %s", line, run.code, run.err);
    assert_one_line(run.err);
    run_free(&run);
}

static void refusals(void **state)
{
    (void)state;
    Error e;
    char line[3 * PATH_MAX];
    const float good[2] = {-1, -2}, positive[2] = {-1, 0.5f}, none[2] = {-1, NAN};
    const char *a = in_folder("a.npy"), *b = in_folder("b.npy");
    assert_int_equal(token_log_probs_write(a, &text_a, good, 2, &e), 0);
    for (int i = 0; i < 5; i++) {
        static const char *const phrase[] = {"the split test", "protocol sequential",
                                             "different vocabularies", "different texts",
                                             "other rows or windows"};
        ScoredText other = text_a;
        if (i == 0) strcpy(other.split, "test");
        if (i == 1) strcpy(other.protocol, "sequential");
        if (i == 2) strcpy(other.vocab_sha256, "w");
        if (i == 3) strcpy(other.targets_sha256, "u");
        if (i == 4) other.paper_tokens = 71;
        assert_int_equal(token_log_probs_write(b, &other, good, 2, &e), 0);
        snprintf(line, sizeof line, "%s %s", a, b);
        refused(3, line, phrase[i]);
    }
    assert_int_equal(token_log_probs_write(b, &text_a, positive, 2, &e), 0);
    refused(3, b, "not the logarithm of a probability");
    assert_int_equal(token_log_probs_write(b, &text_a, none, 2, &e), 0);
    refused(3, b, "not the logarithm of a probability");
    file_write(b, "not an array");
    refused(3, b, "not an array");
    refused(3, in_folder("none.npy"), "cannot be opened");
    refused(2, "", "F.npy");
    snprintf(line, sizeof line, "%s --log-json %s", a, a);
    refused(2, line, "must be different files");
    file_write(b, "a text that somebody needs");
    snprintf(line, sizeof line, "%s --svg %s", a, b);
    refused(3, line, "--force");
    char *kept = file_read(b, NULL);
    assert_string_equal(kept, "a text that somebody needs");
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_by_hand),
        cmocka_unit_test(tails),
        cmocka_unit_test(as_eval_says),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("ensemble files", tests, folder_make, folder_remove);
}
