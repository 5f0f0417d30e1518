/* Tests sampling: the draw itself by hand and by its statistics, then texts of `plstm sample`. */
#include "tests/support/program.h"

#include <math.h>

#include "host/store/checkpoint.h"
#include "host/train/model.h"
#include "host/train/model_load.h"
#include "host/commands/sample.h"
#include "kernels/philox.h"

enum { V = 5 };
static double scratch[V];

/* ---- one draw ---- */

static void greedy_takes_the_likeliest(void **state)
{
    (void)state;
    const float logits[V] = {-3, 2, 7, 7, 1};
    /* Of equal logits, the first is taken. */
    for (uint32_t word = 0; word < 0xf0000000u; word += 0x0fffffffu)
        assert_int_equal(sample_draw(logits, V, 0, 0, word, scratch), 2);
}

/* The cumulative probabilities are in the order of ids: with logits log(1) to log(5), the share of
 * id k ends at (1 + .. + k+1)/15. */
static void words_cut_the_line_in_order(void **state)
{
    (void)state;
    float logits[V];
    for (int k = 0; k < V; k++) logits[k] = logf((float)(k + 1)) + 3;
    assert_int_equal(sample_draw(logits, V, 1, 0, 0, scratch), 0);
    assert_int_equal(sample_draw(logits, V, 1, 0, UINT32_MAX, scratch), V - 1);
    double end = 0;
    for (int k = 0; k < V; k++) {
        end += (k + 1) / 15.0;
        uint32_t at = (uint32_t)(end * 0x1p32 - 1000);
        assert_int_equal(sample_draw(logits, V, 1, 0, at, scratch), k);
        if (k + 1 < V) assert_int_equal(sample_draw(logits, V, 1, 0, at + 2000, scratch), k + 1);
    }
}

static void only_the_k_likeliest(void **state)
{
    (void)state;
    const float logits[V] = {1, 3, 2, 3, 2};
    bool seen[V][V + 3] = {{false}};
    for (int64_t k = 1; k < V + 3; k++)
        for (int n = 0; n < 2000; n++)
            seen[sample_draw(logits, V, 1, k, sample_word(9, n), scratch)][k] = true;
    const int order[V] = {1, 3, 2, 4, 0}; /* equal logits are ordered by id */
    for (int64_t k = 1; k < V + 3; k++)
        for (int i = 0; i < V; i++) assert_int_equal(seen[order[i]][k], i < k);
}

/* Compares 200,000 draws with softmax(logits / t). A count's standard deviation is at most
 * sqrt(n/4) = 224; the bound is 5 of them. */
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    const float logits[V] = {0.3f, -1, 2, 0.5f, -4};
    const double temperature[] = {0.5, 1, 2.5};
    const int n = 200000;
    for (int t = 0; t < 3; t++) {
        double p[V], sum = 0;
        int count[V] = {0};
        for (int k = 0; k < V; k++) sum += p[k] = exp(logits[k] / temperature[t]);
        for (int i = 0; i < n; i++)
            count[sample_draw(logits, V, temperature[t], 0, sample_word(77 + t, i), scratch)]++;
        for (int k = 0; k < V; k++) assert_float_equal(count[k], n * p[k] / sum, 5 * 224);
    }
}

static void extremes(void **state)
{
    (void)state;
    const float far[V] = {-3e38f, 3e38f, 0, 1, 2};
    assert_int_equal(sample_draw(far, V, 1e-300, 0, UINT32_MAX, scratch), 1);
    assert_int_equal(sample_draw(far, V, 1e6, 0, 0, scratch), 1);
    const float one[1] = {5};
    assert_int_equal(sample_draw(one, 1, 1, 1, 12345, scratch), 0);
    float bad[V] = {0, 1, 2, 3, 4};
    for (int i = 0; i < V; i++)
        for (int k = 0; k < 2; k++) {
            float kept = bad[i];
            bad[i] = k ? NAN : INFINITY;
            assert_int_equal(sample_draw(bad, V, 1, 0, 7, scratch), -1);
            assert_int_equal(sample_draw(bad, V, 0, 2, 7, scratch), -1);
            bad[i] = kept;
        }
}

/* The drawn words depend only on the seed; four come from one Philox block, in a subsequence that
 * neither masks nor weights use. */
static void words_are_philox(void **state)
{
    (void)state;
    uint64_t seed = 0x123456789abcdefull;
    for (int64_t n = 0; n < 12; n++) {
        PhiloxBlock counter = {{(uint32_t)(n / 4), 0, 0, 0x53414D50u}};
        PhiloxBlock block = philox4x32_10(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
        assert_int_equal(sample_word(seed, n), block.word[n % 4]);
    }
    assert_true(sample_word(seed, 0) != philox_block(seed, 0, 0).word[0]);
}

/* ---- texts ---- */

static void write_corpus(const char *name, const char *train)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", in_folder(name));
    mkdir(path, 0700);
    const char *const split[] = {"train", "valid", "test"};
    for (int i = 0; i < 3; i++) {
        char file[PATH_MAX + 16];
        snprintf(file, sizeof file, "%s/%s.txt", path, split[i]);
        file_write(file, train);
    }
}

/* A small model learns this text by heart in a second, so the greedy text is known. */
static void a_text_learnt_by_heart(void **state)
{
    (void)state;
    char text[4000] = "";
    for (int i = 0; i < 60; i++) strcat(text, "the cat saw a dog\nit <unk> away\n");
    write_corpus("heart", text);
    const char *path = in_folder("heart.st");
    plstm_expect(0,
                 "train --data %s --hidden 16 --layers 1 --batch 4 --seq 5 --epochs 25 --hold 20 "
                 "--eval none "
                 "--threads 1 --quiet --save %s",
                 in_folder("heart"), path);
    Run run = plstm("sample --weights %s --temperature 0 --words 10 --prompt it --threads 1", path);
    assert_int_equal(run.code, 0);
    assert_one_line(run.err);
    assert_contains(run.err, "iB needed");
    assert_string_equal(run.out, "it <unk> away\nthe cat saw a dog\nit\n");
    run_free(&run);
    run = plstm("sample --weights %s --temperature 0 --words 6 --prompt the --threads 1 --backend "
                "reference",
                path);
    assert_string_equal(run.out, "the cat saw a dog\nit\n");
    run_free(&run);

    /* The prompt has several words, one of them a newline and one unknown, which is read as <unk>;
     * then the text continues with `away` and <eos>. */
    char *words[] = {"sample", "--weights", (char *)path,       "--temperature=0", "--words",
                     "2",      "--prompt",  "a dog\nit barked", "--threads=1",     NULL};
    run = program_finish(program_start(words, 0));
    assert_int_equal(run.code, 0);
    assert_string_equal(run.out, "a dog\nit <unk> away\n");
    assert_contains(run.err, "'barked'");
    assert_contains(run.err, "<unk>");
    run_free(&run);
    run = plstm("sample --weights %s --words 1 --prompt barked --threads 1 --quiet", path);
    assert_int_equal(run.code, 0);
    assert_string_equal(run.err, "");
    run_free(&run);
    run = plstm("sample --weights %s --words 0 --prompt the --threads 1", path);
    assert_string_equal(run.out, "the\n");
    run_free(&run);
}

static void the_seed_is_the_text(void **state)
{
    (void)state;
    const char *path = in_folder("heart.st");
    Run a = plstm("sample --weights %s --seed 3 --words 40 --temperature 3", path);
    Run b = plstm("sample --weights %s --seed 3 --words 40 --temperature 3 --threads 1", path);
    Run c = plstm("sample --weights %s --seed 4 --words 40 --temperature 3", path);
    Run d = plstm("sample --weights %s --seed 3 --words 20 --temperature 3", path);
    assert_int_equal(a.code, 0);
    assert_string_equal(a.out, b.out);
    assert_true(strcmp(a.out, c.out) != 0);
    /* A shorter text is the beginning of a longer one. */
    assert_memory_equal(a.out, d.out, strlen(d.out) - 1);
    run_free(&a), run_free(&b), run_free(&c), run_free(&d);
    Run one = plstm(
        "sample --weights %s --seed 3 --words 20 --top-k 1 --temperature 3 --prompt the", path);
    Run greedy =
        plstm("sample --weights %s --seed 9 --words 20 --temperature 0 --prompt the", path);
    assert_string_equal(one.out, greedy.out);
    run_free(&one), run_free(&greedy);
}

/* Computes the whole text by hand: <eos>, the prompt, then one draw after another, each from the
 * previous window. */
static void text_by_hand(Model *m, const Vocab *vocab, const int32_t *prompt, int n_prompt,
                         uint64_t seed, int words, char *text)
{
    Error e;
    WindowResult r;
    float *logits = malloc(sizeof *logits * (size_t)vocab->V);
    double *space = malloc(sizeof *space * (size_t)vocab->V);
    const int32_t eos = vocab_find(vocab, "<eos>", 5);
    text[0] = 0;
    assert_int_equal(m->ops->state_set(m->backend, 1, NULL, NULL, &e), 0);
    for (int i = -1; i < n_prompt + words; i++) {
        int32_t id = i < 0          ? eos
                     : i < n_prompt ? prompt[i]
                                    : sample_draw(logits, vocab->V, 2, 5,
                                                  sample_word(seed, i - n_prompt), space);
        size_t length, n = strlen(text);
        const char *type = vocab_type(vocab, id, &length);
        if (i >= 0 && id == eos) strcat(text, "\n");
        else if (i >= 0)
            sprintf(text + n, "%s%.*s", n && text[n - 1] != '\n' ? " " : "", (int)length, type);
        Window w = {.batch = batch_of_tokens(1, 1, &id, &id)};
        assert_int_equal(model_forward(m, &w, NULL, NULL, &r, &e), 0);
        assert_int_equal(m->ops->logits_get(m->backend, 0, 1, logits, &e), 0);
    }
    if (text[strlen(text) - 1] != '\n') strcat(text, "\n");
    free(logits);
    free(space);
}

static void the_text_by_hand(void **state)
{
    (void)state;
    const char *path = in_folder("heart.st");
    const BackendOps *ops;
    Checkpoint c;
    Model m;
    Error e;
    if (backend_find("cpu", &ops, &e) || checkpoint_open(&c, path, &e) ||
        model_load(&m, ops, &c, (BatchLimits){.T = 1, .B = 1}, false, 1, &e))
        fail_msg("%s", e.text);
    const int32_t prompt[2] = {vocab_find(&c.vocab, "saw", 3), vocab_find(&c.vocab, "it", 2)};
    for (int i = 0; i < 12; i++) {
        char text[2048], seed[32];
        int n_prompt = i % 2 ? 2 : 0;
        text_by_hand(&m, &c.vocab, prompt, n_prompt, (uint64_t)i, 25, text);
        snprintf(seed, sizeof seed, "--seed=%d", i);
        char *words[] = {"sample",
                         "--weights",
                         (char *)path,
                         "--words=25",
                         "--temperature=2",
                         "--top-k=5",
                         "--threads=1",
                         seed,
                         n_prompt ? "--prompt= saw  it " : NULL,
                         NULL};
        Run run = program_finish(program_start(words, 0));
        assert_int_equal(run.code, 0);
        assert_string_equal(run.out, text);
        run_free(&run);
    }
    model_close(&m);
    checkpoint_close(&c);
}

/* The built-in corpus has neither <eos> nor <unk>. */
static void without_special_types(void **state)
{
    (void)state;
    const char *path = in_folder("synthetic.st");
    plstm_expect(0,
                 "train --data synthetic --hidden 8 --layers 2 --max-steps 1 --eval none --threads "
                 "1 --quiet "
                 "--save %s",
                 path);
    Run run = plstm("sample --weights %s --words 12 --threads 1", path);
    assert_int_equal(run.code, 0);
    assert_memory_equal(run.out, "w00 ", 4); /* the vocabulary's first type is given */
    int blanks = 0;
    for (const char *p = run.out; *p; p++) blanks += *p == ' ';
    assert_int_equal(blanks, 12);
    assert_one_line(run.out);
    run_free(&run);
    run = plstm("sample --weights %s --words 12 --prompt hello", path);
    assert_int_equal(run.code, 2);
    assert_one_line(run.err);
    assert_string_equal(run.out, "");
    assert_contains(run.err, "'hello'");
    assert_contains(run.err, "<unk>");
    run_free(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_likeliest),
        cmocka_unit_test(words_cut_the_line_in_order),
        cmocka_unit_test(only_the_k_likeliest),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(extremes),
        cmocka_unit_test(words_are_philox),
        cmocka_unit_test(a_text_learnt_by_heart),
        cmocka_unit_test(the_seed_is_the_text),
        cmocka_unit_test(the_text_by_hand),
        cmocka_unit_test(without_special_types),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
