/* claims: measures the effect of dropout on the memory of a trained model, as data for RESULTS.md
 * (section 3 of the paper and its figure 3).
 *
 *     claims reach F.st [nonrecurrent|all|none]
 *         prints the share of a gradient that survives k steps, under the masks of the training or
 *         those of the named kind
 *     claims distance F.st
 *         prints the cost of the word after a parenthesis, by the length of the parenthesis
 *
 * F.st is a checkpoint of a training on the built-in corpus. The program prints JSON, one line per
 * point; profiles/README.md lists the runs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend/backend_cpu.h"
#include "host/data/source.h"
#include "host/data/synthetic.h"
#include "host/store/checkpoint.h"
#include "host/train/model.h"
#include "kernels/philox.h"

static void check(int code, const Error *e)
{
    if (!code) return;
    fprintf(stderr, "claims: %s\n", e->text);
    exit(code);
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (p) return p;
    fprintf(stderr, "claims: out of memory\n");
    exit(EXIT_FAILED);
}

typedef struct Trained {
    Checkpoint file;
    Corpus corpus;
    Model model;
} Trained;

static void trained_open(Trained *t, const char *path)
{
    Error e;
    check(checkpoint_open(&t->file, path, &e), &e);
    check(corpus_load(&t->corpus, "synthetic", &t->file.vocab, &e), &e);
}

static void model_of(Trained *t, const BackendConfig *config, bool without_loss)
{
    Error e;
    const ModelShape *s = &t->file.shape;
    check(model_open(&t->model, &backend_cpu, config, &e), &e);
    for (int k = 0; k < params_count(s); k++) {
        bool drop = without_loss && k == param_decoder_weight(s);
        float *zero = drop ? room((size_t)param_info(s, k).n, sizeof *zero) : NULL;
        check(backend_cpu.param_set(t->model.backend, k,
                                    drop ? zero : checkpoint_param(&t->file, k), &e),
              &e);
        free(zero);
    }
}

static void trained_close(Trained *t)
{
    model_close(&t->model);
    corpus_free(&t->corpus);
    checkpoint_close(&t->file);
}

static void print_run(const Trained *t, DropoutSites sites)
{
    const Settings *s = &t->file.settings;
    printf("\"trained\":\"%s\",\"masks\":\"%s\",\"keep\":%g,\"seed\":\"%llu\",\"hidden\":%lld,"
           "\"layers\":%lld",
           sites_name(s->sites), sites_name(sites), s->keep, (unsigned long long)s->seed,
           (long long)s->hidden, (long long)s->layers);
}

/* ---- reach ----
 * A random gradient enters the last layer's h at the end of a training window of k steps, as from a
 * prediction. The decoder is zero, so that no other gradient enters. The result is the norm of the
 * gradient of all h and c before the window, relative to that of the entering gradient. */

enum {
    REACH_ROWS = 20,
    REACH_WARM = 40,
    REACH_WINDOWS = 15,
    REACH_SHARES = REACH_ROWS * REACH_WINDOWS
};
static const int reach_steps[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
enum { REACH_STEPS = sizeof reach_steps / sizeof reach_steps[0], REACH_MOST = 64 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double norm(const float *x, int64_t L, int64_t H, int64_t row)
{
    double sum = 0;
    for (int64_t l = 0; l < L; l++)
        for (int64_t u = 0; u < H; u++) {
            double v = x[(l * REACH_ROWS + row) * H + u];
            sum += v * v;
        }
    return sum;
}

/* Runs a window of T steps of the training text, whose row b starts at word first + b * stride. */
static void reach_window(Trained *t, int64_t T, int64_t first, int64_t step)
{
    static int32_t x[REACH_MOST * REACH_ROWS], y[REACH_MOST * REACH_ROWS];
    const Stream *s = &t->corpus.split[SPLIT_TRAIN];
    Error e;
    WindowResult r;
    for (int64_t i = 0; i < T; i++)
        for (int64_t b = 0; b < REACH_ROWS; b++) {
            int64_t at = first + i + b * (s->n / REACH_ROWS);
            x[i * REACH_ROWS + b] = s->ids[at], y[i * REACH_ROWS + b] = s->ids[at + 1];
        }
    Window w = {.batch = batch_of_tokens(T, REACH_ROWS, x, y), .train = true, .step = step};
    check(model_gradients(&t->model, &w, &r, &e), &e);
}

static void reach(const char *path, int sites_given)
{
    Trained t;
    Error e;
    trained_open(&t, path);
    DropoutSites sites =
        sites_given >= 0 ? (DropoutSites)sites_given : (DropoutSites)t.file.settings.sites;
    BackendConfig config = {.shape = t.file.shape,
                            .T = REACH_MOST,
                            .B = REACH_ROWS,
                            .train = true,
                            .keep = t.file.settings.keep,
                            .sites = sites,
                            .seed = 20,
                            .threads = 1,
                            .kernel = "auto"};
    model_of(&t, &config, true);
    int64_t L = config.shape.L, H = config.shape.H, n = L * REACH_ROWS * H;
    float *in = room((size_t)n, sizeof *in), *dh = room((size_t)n, sizeof *dh),
          *dc = room((size_t)n, sizeof *dc);
    for (int64_t i = n - REACH_ROWS * H; i < n; i++)
        in[i] = ldexpf((float)(int32_t)philox_block(21, 1, (uint64_t)i).word[0], -31);
    check(backend_cpu.state_grad_set(t.model.backend, REACH_ROWS, in, NULL, true, &e), &e);
    int64_t step = 0;
    for (int k = 0; k < REACH_STEPS; k++) {
        double share[REACH_SHARES];
        for (int i = 0; i < REACH_WINDOWS; i++) {
            int64_t first = i * 120;
            check(backend_cpu.state_set(t.model.backend, REACH_ROWS, NULL, NULL, &e), &e);
            reach_window(&t, REACH_WARM, first, step++);
            reach_window(&t, reach_steps[k], first + REACH_WARM, step++);
            check(backend_cpu.state_grad_get(t.model.backend, REACH_ROWS, dh, dc, &e), &e);
            for (int64_t b = 0; b < REACH_ROWS; b++)
                share[i * REACH_ROWS + b] =
                    sqrt((norm(dh, L, H, b) + norm(dc, L, H, b)) / norm(in, L, H, b));
        }
        qsort(share, REACH_SHARES, sizeof *share, by_value);
        printf("{\"event\":\"reach\",");
        print_run(&t, sites);
        printf(",\"steps\":%d,\"gradients\":%d,\"p10\":%.6g,\"median\":%.6g,\"p90\":%.6g}\n",
               reach_steps[k], REACH_SHARES, share[REACH_SHARES / 10], share[REACH_SHARES / 2],
               share[REACH_SHARES * 9 / 10]);
    }
    free(in), free(dh), free(dc);
    trained_close(&t);
}

/* ---- distance ----
 * valid and test are scored as one stream each. The word after `)` depends on the state before `(`,
 * so its cost is collected by the number of words inside the parentheses. */

enum { DISTANCE_T = 200, DISTANCE_MOST = 1000 };

typedef struct Cost {
    int64_t n;
    double nats, best;
} Cost;

static void distance_split(Trained *t, const Stream *s, Cost cost[DISTANCE_MOST + 1])
{
    static double nats[DISTANCE_T];
    Error e;
    WindowResult r;
    SyntheticScan scan;
    double best;
    int64_t inside = 0;
    synthetic_scan_init(&scan);
    synthetic_scan_next(&scan, s->ids[0], &best);
    check(backend_cpu.state_set(t->model.backend, 1, NULL, NULL, &e), &e);
    for (int64_t at = 0; at + 1 < s->n;) {
        int64_t T = s->n - 1 - at < DISTANCE_T ? s->n - 1 - at : DISTANCE_T;
        Window w = {.batch = batch_of_tokens(T, 1, s->ids + at, s->ids + at + 1)};
        check(model_forward(&t->model, &w, nats, NULL, &r, &e), &e);
        for (int64_t i = 0; i < T; i++, at++) {
            PositionClass class = synthetic_scan_next(&scan, s->ids[at + 1], &best);
            if (s->ids[at] == SYNTHETIC_OPEN) inside = 0;
            else if (s->ids[at] != SYNTHETIC_CLOSE) inside++;
            if (class != POSITION_AFTER_SHORT && class != POSITION_AFTER_LONG) continue;
            Cost *c = &cost[inside < DISTANCE_MOST ? inside : DISTANCE_MOST];
            c->n++, c->nats += nats[i], c->best += best;
        }
    }
}

static void distance(const char *path)
{
    static Cost cost[DISTANCE_MOST + 1];
    Trained t;
    trained_open(&t, path);
    BackendConfig config = {.shape = t.file.shape,
                            .T = DISTANCE_T,
                            .B = 1,
                            .keep = 1,
                            .sites = SITES_NONE,
                            .threads = 1,
                            .kernel = "auto"};
    model_of(&t, &config, false);
    distance_split(&t, &t.corpus.split[SPLIT_VALID], cost);
    distance_split(&t, &t.corpus.split[SPLIT_TEST], cost);
    for (int k = 0; k <= DISTANCE_MOST; k++) {
        if (!cost[k].n) continue;
        printf("{\"event\":\"distance\",");
        print_run(&t, (DropoutSites)t.file.settings.sites);
        printf(",\"inside\":%d,\"words\":%lld,\"nats\":%.9g,\"best_nats\":%.9g}\n", k,
               (long long)cost[k].n, cost[k].nats, cost[k].best);
    }
    trained_close(&t);
}

int main(int argc, char **argv)
{
    int sites = -1;
    for (int i = 0; argc == 4 && i < 3; i++)
        if (!strcmp(argv[3], sites_name(i))) sites = i;
    if ((argc == 3 || (argc == 4 && sites >= 0)) && !strcmp(argv[1], "reach"))
        reach(argv[2], sites);
    else if (argc == 3 && !strcmp(argv[1], "distance")) distance(argv[2]);
    else {
        fprintf(stderr, "usage: claims reach F.st [nonrecurrent|all|none] | distance F.st\n");
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}
