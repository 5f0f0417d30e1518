/* `plstm ensemble`: perplexities of averages of models, computed without the models from the
 * log-probabilities that each assigned to every word (host/train/token_log_probs.h). */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/base/json_line.h"
#include "host/base/output.h"
#include "host/base/replace.h"
#include "host/base/version.h"
#include "host/train/token_log_probs.h"
#include "kernels/philox.h"

typedef struct EnsembleOptions {
    const char *svg; /* or NULL */
    int64_t orders;  /* most subsets to examine per size; if there are more, they are drawn */
    uint64_t seed;   /* of those draws */
} EnsembleOptions;

/* Perplexities of averages of k members, over all subsets of that size or over subsets drawn at
 * random. An ensemble to which members are added in some order is one of these subsets at size k,
 * so the spread over subsets is also the spread over orders. */
typedef struct CurvePoint {
    int k;
    int64_t subsets;
    bool all;
    double mean, std, low, high; /* of the perplexity; std is infinite if the mean is */
} CurvePoint;

enum { CURVE_POINTS = 64 };

typedef struct Averages {
    const EnsembleOptions *o;
    const CommandLine *line;
    int n; /* members */
    TokenLogProbs *member;
    double *high; /* (words) the largest log p of any member */
    double *p;    /* (n, words) exp(log p - high) */
    double *ppl;  /* (orders) perplexities of the subsets of the current size */
    int *subset;  /* (n) the members of the current subset come first */
    CurvePoint curve[CURVE_POINTS];
    int points;
} Averages;

/* ---- averages ---- */

static int64_t words(const Averages *a) { return a->member[0].n; }

static int averages_read(Averages *a, Error *e)
{
    a->n = a->line->operands.n;
    a->member = calloc((size_t)a->n, sizeof *a->member);
    if (!a->member) return error_set(e, EXIT_FAILED, "memory ran out for %d files", a->n);
    char **path = a->line->operands.path;
    for (int i = 0; i < a->n; i++) {
        int code = token_log_probs_read(&a->member[i], path[i], e);
        if (!code && i)
            code = token_log_probs_agree(&a->member[0], path[0], &a->member[i], path[i], e);
        if (code) return code;
    }
    size_t n = (size_t)words(a);
    a->high = malloc(n * sizeof *a->high);
    a->p = malloc(n * (size_t)a->n * sizeof *a->p);
    a->ppl = malloc((size_t)a->o->orders * sizeof *a->ppl);
    a->subset = malloc((size_t)a->n * sizeof *a->subset);
    if (!a->high || !a->p || !a->ppl || !a->subset)
        return error_set(e, EXIT_FAILED, "memory ran out for %d files", a->n);
    for (size_t t = 0; t < n; t++) {
        a->high[t] = a->member[0].log_p[t];
        for (int i = 1; i < a->n; i++) a->high[t] = fmax(a->high[t], a->member[i].log_p[t]);
        /* If every member considers the word impossible, high is -INFINITY and so is every
         * average. */
        for (int i = 0; i < a->n; i++)
            a->p[(size_t)i * n + t] =
                isinf(a->high[t]) ? 1 : exp(a->member[i].log_p[t] - a->high[t]);
    }
    return EXIT_DONE;
}

/* Returns the log of the sum of a subset's probabilities. It is for the case that each of them is
 * so far below the best member's that its ratio to that underflows a double. */
static double log_sum_of_far(const Averages *a, const int *subset, int k, int64_t t)
{
    double high = -INFINITY, sum = 0;
    for (int i = 0; i < k; i++) high = fmax(high, a->member[subset[i]].log_p[t]);
    if (isinf(high)) return high;
    for (int i = 0; i < k; i++) sum += exp(a->member[subset[i]].log_p[t] - high);
    return high + log(sum);
}

/* Returns the nats of the whole text under the average of the k members of a subset. */
static double nats_of(const Averages *a, const int *subset, int k)
{
    int64_t n = words(a);
    double nats = 0;
    for (int64_t t = 0; t < n; t++) {
        double sum = 0;
        for (int i = 0; i < k; i++) sum += a->p[(int64_t)subset[i] * n + t];
        nats -= sum > 0 ? a->high[t] + log(sum) : log_sum_of_far(a, subset, k, t);
    }
    return nats + (double)n * log((double)k);
}

static double ppl_of(const Averages *a, double nats) { return exp(nats / (double)words(a)); }

static double ppl_paper_of(const Averages *a, double nats)
{
    int64_t tokens = a->member[0].text.paper_tokens;
    return tokens ? exp(nats / (double)tokens) : NAN;
}

static double nats_of_one(const Averages *a, int i) { return nats_of(a, &i, 1); }

static double nats_of_all(const Averages *a)
{
    for (int i = 0; i < a->n; i++) a->subset[i] = i;
    return nats_of(a, a->subset, a->n);
}

/* ---- the curve ---- */

/* Returns the number of subsets of size k of n, or limit + 1 if there are more than limit. */
static int64_t subsets_of(int n, int k, int64_t limit)
{
    double count = 1;
    for (int i = 1; i <= k; i++) {
        /* a binomial coefficient after every step, exact in the range that matters */
        count = count * (n - k + i) / i;
        if (count > (double)limit) return limit + 1;
    }
    return (int64_t)(count + 0.5);
}

/* Advances to the next subset of size k in lexicographic order; the first one is 0 .. k-1. */
static void next_subset(int *subset, int k, int n)
{
    int i = k - 1;
    while (i > 0 && subset[i] == n - k + i) i--;
    subset[i]++;
    for (int j = i + 1; j < k; j++) subset[j] = subset[j - 1] + 1;
}

/* Draws k of the n members by the first k steps of a shuffle (Fisher and Yates), so that all
 * subsets are equally likely. `draw` is the number of the draw among those of this size. */
static void draw_subset(Averages *a, int k, int64_t draw)
{
    for (int i = 0; i < a->n; i++) a->subset[i] = i;
    for (int i = 0; i < k; i++) {
        PhiloxBlock w = philox_block(a->o->seed, (uint64_t)draw, (uint64_t)k << 32 | (uint64_t)i);
        int j = i + (int)((uint64_t)w.word[0] * (uint64_t)(a->n - i) >> 32), kept = a->subset[i];
        a->subset[i] = a->subset[j], a->subset[j] = kept;
    }
}

static void curve_add(Averages *a, int k)
{
    CurvePoint *p = &a->curve[a->points++];
    int64_t count = subsets_of(a->n, k, a->o->orders);
    *p = (CurvePoint){.k = k, .all = count <= a->o->orders, .low = INFINITY, .high = -INFINITY};
    p->subsets = p->all ? count : a->o->orders;
    for (int i = 0; i < k; i++) a->subset[i] = i;
    for (int64_t s = 0; s < p->subsets; s++) {
        if (!p->all) draw_subset(a, k, s);
        else if (s) next_subset(a->subset, k, a->n);
        a->ppl[s] = ppl_of(a, nats_of(a, a->subset, k));
        p->mean += a->ppl[s] / (double)p->subsets;
        p->low = fmin(p->low, a->ppl[s]), p->high = fmax(p->high, a->ppl[s]);
    }
    for (int64_t s = 0; s < p->subsets && p->subsets > 1; s++)
        p->std += (a->ppl[s] - p->mean) * (a->ppl[s] - p->mean) / (double)(p->subsets - 1);
    p->std = isfinite(p->mean) ? sqrt(p->std) : INFINITY;
}

/* Computes the points of 1, 2, 5, 10, 20, 50 ... members below n, then that of all n. */
static void curve_make(Averages *a)
{
    static const int step[] = {1, 2, 5};
    for (int64_t ten = 1; ten < a->n; ten *= 10)
        for (int i = 0; i < 3 && step[i] * ten < a->n; i++) curve_add(a, (int)(step[i] * ten));
    curve_add(a, a->n);
}

/* ---- output ---- */

static void print_row(const Averages *a, FILE *out, double nats, const char *name)
{
    fprintf(out, "%12.3f", ppl_of(a, nats));
    if (a->member[0].text.paper_tokens) fprintf(out, "%16.3f", ppl_paper_of(a, nats));
    fprintf(out, "  %s\n", name);
}

static void print_tables(const Averages *a, double nats_all, FILE *out)
{
    const ScoredText *text = &a->member[0].text;
    fprintf(out, "%s: %" PRId64 " words scored (%s)\n\n%12s%s\n%5s(%s)%s\n", text->split, words(a),
            text->protocol, "perplexity", text->paper_tokens ? "      perplexity" : "", "",
            text->protocol, text->paper_tokens ? " (paper's count)" : "");
    for (int i = 0; i < a->n; i++) print_row(a, out, nats_of_one(a, i), a->line->operands.path[i]);
    if (a->n == 1) return;
    char name[64];
    snprintf(name, sizeof name, "ensemble of %d (average of probabilities)", a->n);
    print_row(a, out, nats_all, name);
    fprintf(out, "\n%7s %10s %10s %10s %10s  %s\n", "members", "mean", "std", "lowest", "highest",
            "ensembles");
    for (int i = 0; i < a->points; i++) {
        const CurvePoint *p = &a->curve[i];
        fprintf(out, "%7d %10.3f %10.3f %10.3f %10.3f  %" PRId64 "%s\n", p->k, p->mean, p->std,
                p->low, p->high, p->subsets, p->all ? "" : " drawn at random");
    }
}

static void figures_json(const Averages *a, JsonLine *l, double nats)
{
    line_double(l, "nats", nats);
    line_double(l, "ppl", ppl_of(a, nats));
    line_double(l, "ppl_paper", ppl_paper_of(a, nats));
}

static void make_line(const Averages *a, double nats_all, JsonLine *l)
{
    const ScoredText *text = &a->member[0].text;
    line_begin(l);
    line_string(l, "event", "ensemble");
    line_string(l, "version", PLSTM_VERSION);
    line_string(l, "commit", PLSTM_COMMIT);
    line_string(l, "split", text->split);
    line_string(l, "protocol", text->protocol);
    line_int(l, "tokens", words(a));
    line_string(l, "targets_sha256", text->targets_sha256);
    figures_json(a, l, nats_all);
    line_open(l, "files", '[');
    for (int i = 0; i < a->n; i++) {
        line_open(l, NULL, '{');
        line_string(l, "log_probs", a->line->operands.path[i]);
        figures_json(a, l, nats_of_one(a, i));
        line_close(l, '}');
    }
    line_close(l, ']');
    line_open(l, "curve", '[');
    for (int i = 0; i < a->points; i++) {
        const CurvePoint *p = &a->curve[i];
        line_open(l, NULL, '{');
        line_int(l, "members", p->k);
        line_int(l, "ensembles", p->subsets);
        line_string(l, "which", p->all ? "all" : "drawn");
        line_double(l, "ppl_mean", p->mean);
        line_double(l, "ppl_std", p->std);
        line_double(l, "ppl_low", p->low);
        line_double(l, "ppl_high", p->high);
        line_close(l, '}');
    }
    line_close(l, ']');
    line_end(l);
}

static int write_json(const Averages *a, double nats_all, Error *e)
{
    JsonLine line = {0};
    make_line(a, nats_all, &line);
    int code = line_save(&line, "--log-json", a->line->settings.log_json, e);
    line_free(&line);
    return code;
}

/* ---- the figure: the mean by members, on a log axis, with bars from lowest to highest ---- */

enum {
    SVG_WIDTH = 640,
    SVG_HEIGHT = 400,
    SVG_LEFT = 70,
    SVG_RIGHT = 20,
    SVG_TOP = 20,
    SVG_BOTTOM = 55
};

typedef struct Frame {
    double most, low, high; /* limits of the axes */
} Frame;

static double svg_x(const Frame *f, double k)
{
    return SVG_LEFT + 15 +
           (SVG_WIDTH - SVG_LEFT - SVG_RIGHT - 30) * (f->most > 1 ? log(k) / log(f->most) : 0.5);
}

static double svg_y(const Frame *f, double ppl)
{
    return SVG_TOP + (SVG_HEIGHT - SVG_TOP - SVG_BOTTOM) * (f->high - ppl) / (f->high - f->low);
}

/* Returns 1, 2 or 5 times a power of ten: a step of which the range holds 4 to 10. */
static double svg_step(double range)
{
    double ten = pow(10, floor(log10(range / 4))), m = range / 4 / ten;
    return ten * (m >= 5 ? 5 : m >= 2 ? 2 : 1);
}

static void svg_draw(const Averages *a, FILE *out)
{
    Frame f = {.most = a->n, .low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < a->points; i++)
        f.low = fmin(f.low, a->curve[i].low), f.high = fmax(f.high, a->curve[i].high);
    double step = svg_step(fmax(f.high - f.low, 1e-6 * f.high));
    f.low = step * floor(f.low / step - 0.2), f.high = step * ceil(f.high / step + 0.2);
    int right = SVG_WIDTH - SVG_RIGHT, bottom = SVG_HEIGHT - SVG_BOTTOM;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" "
            "font-size=\"13\">\n"
            "<title>Perplexity of ensembles</title>\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"white\"/>\n",
            SVG_WIDTH, SVG_HEIGHT);
    for (int64_t i = 0; f.low + (double)i * step <= f.high + 0.5 * step && i < 50; i++) {
        double y = svg_y(&f, f.low + (double)i * step);
        fprintf(out,
                "<path d=\"M%d %.1fH%d\" stroke=\"#dddddd\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.6g</text>\n",
                SVG_LEFT, y, right, SVG_LEFT - 8, y + 4, f.low + (double)i * step);
    }
    fprintf(out,
            "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"black\"/>\n<polyline fill=\"none\" "
            "stroke=\"#1f77b4\" stroke-width=\"2\" points=\"",
            SVG_LEFT, SVG_TOP, bottom, right);
    for (int i = 0; i < a->points; i++)
        fprintf(out, "%s%.1f,%.1f", i ? " " : "", svg_x(&f, a->curve[i].k),
                svg_y(&f, a->curve[i].mean));
    fprintf(out, "\"/>\n");
    for (int i = 0; i < a->points; i++) {
        const CurvePoint *p = &a->curve[i];
        double x = svg_x(&f, p->k);
        fprintf(out,
                "<path d=\"M%.1f %.1fV%.1f\" stroke=\"#1f77b4\" stroke-width=\"2\"/><circle "
                "cx=\"%.1f\" "
                "cy=\"%.1f\" r=\"4\" fill=\"#1f77b4\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n",
                x, svg_y(&f, p->low), svg_y(&f, p->high), x, svg_y(&f, p->mean), x, bottom + 18,
                p->k);
    }
    fprintf(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">members</text>\n"
            "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">%s "
            "perplexity: mean, "
            "lowest, highest</text>\n</svg>\n",
            (SVG_LEFT + right) / 2, SVG_HEIGHT - 12, (SVG_TOP + bottom) / 2,
            a->member[0].text.split);
}

static int write_svg(const Averages *a, Error *e)
{
    char what[4200], *text = NULL;
    size_t n = 0;
    Replacement r;
    snprintf(what, sizeof what, "--svg %s", a->o->svg);
    if (!isfinite(a->curve[0].high))
        return error_set(e, EXIT_BAD_DATA,
                         "%s cannot be drawn: a member's perplexity is not finite", what);
    FILE *out = open_memstream(&text, &n);
    if (out) svg_draw(a, out);
    int code = out && !fclose(out) ? replace_open(&r, a->o->svg, what, e)
                                   : error_set(e, EXIT_FAILED, "memory ran out for the figure");
    if (!code)
        code = replace_finish(&r, !replace_begin(&r) && !replace_write(&r, text, n), what, e);
    free(text);
    return code;
}

static int outputs_harmless(const Averages *a, Error *e)
{
    const Settings *s = &a->line->settings;
    const Output output[] = {{"--log-json", s->log_json, &kind_ensemble_log},
                             {"--svg", a->o->svg, &kind_svg}};
    const PathList *files = &a->line->operands;
    OtherFile *read = calloc((size_t)files->n, sizeof *read);
    if (!read) return error_set(e, EXIT_FAILED, "memory ran out for %d files", files->n);
    for (int i = 0; i < files->n; i++) read[i] = (OtherFile){"F.npy", files->path[i], NULL};
    int code = outputs_check(output, 2, read, files->n, s->force, e);
    free(read);
    return code;
}

static int ensemble(const CommandLine *line, Error *e)
{
    Averages a = {.o = line->own, .line = line};
    int code = outputs_harmless(&a, e);
    if (!code) code = averages_read(&a, e);
    if (!code) {
        curve_make(&a);
        double nats_all = nats_of_all(&a);
        print_tables(&a, nats_all, stdout);
        if (line->settings.log_json) code = write_json(&a, nats_all, e);
        if (!code && a.o->svg) code = write_svg(&a, e);
    }
    for (int i = 0; a.member && i < a.n; i++) token_log_probs_free(&a.member[i]);
    free(a.member), free(a.high), free(a.p), free(a.ppl), free(a.subset);
    return code;
}

#define AT(field) .at = offsetof(EnsembleOptions, field)
static const Option options[] = {
    {"svg", TAKES_PATH("a file"), "figure to write of the perplexity against the number of members",
     AT(svg)},
    {"orders", TAKES_WHOLE(1, 1000000),
     "number of ensembles per size to average over, drawn at random if there are more", AT(orders),
     "200"},
    {"seed", TAKES_SEED, "seed of those draws", AT(seed), "1"},
};

const Command command_ensemble = {
    .name = "ensemble",
    .summary = "perplexity of averages of models, from files that eval wrote",
    .about = "Prints the perplexity of averages of models, from the files that plstm eval "
             "--token-log-probs wrote for each of them: of all, and of 1, 2, 5, 10, 20, 50 ... of "
             "them, with the spread over the choice of members.",
    COMMAND_OPTIONS(options, EnsembleOptions),
    .settings = "log-json|force",
    .operand = "F.npy...",
    .operand_takes = "files that plstm eval --token-log-probs wrote",
    .operands = true,
    .run = ensemble,
};
