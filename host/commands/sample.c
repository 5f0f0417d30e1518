/* `plstm sample`: draws text from a model, one word at a time. */
#include "sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "kernels/philox.h"
#include "host/base/number.h"
#include "host/store/checkpoint.h"
#include "host/train/model.h"
#include "host/train/model_load.h"

/* ---- one draw ---- */

uint32_t sample_word(uint64_t seed, int64_t n)
{
    /* "SAMP": a subsequence that no mask and no weight uses */
    const uint64_t sub = (uint64_t)0x53414D50u << 32;
    return philox_block(seed, sub, (uint64_t)n >> 2).word[n & 3];
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Returns how many ids with exactly the k-th largest logit are among the k likeliest; *bound is
 * that logit. */
static int64_t kth_largest(const float *logits, int64_t V, int64_t k, double *scratch,
                           double *bound)
{
    for (int64_t i = 0; i < V; i++) scratch[i] = logits[i];
    qsort(scratch, (size_t)V, sizeof *scratch, descending);
    *bound = scratch[k - 1];
    int64_t above = 0;
    while (scratch[above] > *bound) above++;
    return k - above;
}

int32_t sample_draw(const float *logits, int64_t V, double temperature, int64_t top_k,
                    uint32_t word, double *scratch)
{
    int64_t best = 0, ties = V;
    double bound = -INFINITY, sum = 0;
    for (int64_t i = 0; i < V; i++) {
        if (!isfinite(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    if (temperature == 0) return (int32_t)best;
    if (top_k > 0 && top_k < V) ties = kth_largest(logits, V, top_k, scratch, &bound);

    double top = logits[best];
    for (int64_t i = 0; i < V; i++) {
        bool in = logits[i] > bound || (logits[i] == bound && ties-- > 0);
        scratch[i] = in ? exp((logits[i] - top) / temperature) : 0;
        sum += scratch[i];
    }
    /* Each of the 2^32 words stands for the middle of its share of [0, 1), so that the number is
     * never 0 and never 1. */
    double at = ((double)word + 0.5) * 0x1p-32 * sum, passed = 0;
    int32_t last = (int32_t)best;
    for (int64_t i = 0; i < V; i++) {
        if (scratch[i] == 0) continue;
        last = (int32_t)i;
        passed += scratch[i];
        if (at < passed) break;
    }
    return last;
}

/* ---- the text ---- */

typedef struct SampleOptions {
    const char *weights;
    const char *prompt; /* words with which the text begins, or NULL */
    int64_t words;      /* words to draw, including <eos> */
    double temperature; /* 0: always the likeliest word */
    int64_t top_k;      /* draw among the k likeliest words; 0: among all */
    uint64_t seed;
} SampleOptions;

typedef struct Text {
    const SampleOptions *o;
    const Vocab *vocab;
    Model *model;
    FILE *out, *notes;
    int32_t eos; /* id of <eos>; -1: the vocabulary lacks it */
    bool line_begun;
} Text;

static void print_type(Text *t, int32_t id)
{
    size_t n;
    if (id == t->eos) {
        fputc('\n', t->out);
        t->line_begun = false;
        return;
    }
    const char *type = vocab_type(t->vocab, id, &n);
    if (t->line_begun) fputc(' ', t->out);
    fwrite(type, 1, n, t->out);
    t->line_begun = true;
}

/* Flushes the output, so that a reader sees each word as it is drawn. The first write that fails
 * ends the run. */
static int shown(Text *t, Error *e)
{
    return fflush(t->out) || ferror(t->out)
               ? error_set(e, EXIT_FAILED, "the text cannot be written: %m")
               : EXIT_DONE;
}

/* Feeds one word to the model. Its logits then predict the next word. */
static int read_type(Text *t, int32_t id, Error *e)
{
    WindowResult r;
    Window w = {.batch = batch_of_tokens(1, 1, &id, &id)};
    return model_forward(t->model, &w, NULL, NULL, &r, e);
}

/* Splits the prompt into words as a corpus is split (SPEC 4) and sets *ids (n), allocated by
 * malloc, to their ids. EXIT_USAGE: the vocabulary has neither a word nor <unk>. */
static int prompt_ids(Text *t, int32_t **ids, int64_t *n, Error *e)
{
    const char *p = t->o->prompt ? t->o->prompt : "";
    const char blank[] = " \t\n\v\f\r";
    *n = 0;
    *ids = malloc(sizeof **ids * (strlen(p) + 1));
    if (!*ids) return error_set(e, EXIT_FAILED, "memory ran out while --prompt was read");
    while (*p) {
        size_t length = strcspn(p, blank);
        int32_t id = -1;
        if (length) {
            id = vocab_find(t->vocab, p, length);
            if (id < 0) {
                id = vocab_find(t->vocab, unknown_type, strlen(unknown_type));
                if (id < 0)
                    return error_set(e, EXIT_USAGE,
                                     "--prompt takes words of the vocabulary of %s, which "
                                     "has neither '%.*s' nor %s",
                                     t->o->weights, (int)(length < 80 ? length : 80), p,
                                     unknown_type);
                if (t->notes)
                    fprintf(t->notes, "plstm: the vocabulary lacks '%.*s', which is read as %s\n",
                            (int)(length < 80 ? length : 80), p, unknown_type);
            }
        } else {
            length = 1;
            if (*p == '\n') id = t->eos; /* -1: an end of line is ignored */
        }
        if (id >= 0) (*ids)[(*n)++] = id;
        p += length;
    }
    return EXIT_DONE;
}

static int write_text(Text *t, const int32_t *prompt, int64_t n, float *logits, double *scratch,
                      Error *e)
{
    int code = t->eos >= 0 ? read_type(t, t->eos, e) : EXIT_DONE;
    for (int64_t i = 0; i < n && !code; i++) {
        print_type(t, prompt[i]);
        code = read_type(t, prompt[i], e);
    }
    if (!code) code = shown(t, e);
    for (int64_t i = 0; i < t->o->words && !code; i++) {
        code = t->model->ops->logits_get(t->model->backend, 0, 1, logits, e);
        if (code) break;
        int32_t id = sample_draw(logits, t->vocab->V, t->o->temperature, t->o->top_k,
                                 sample_word(t->o->seed, i), scratch);
        if (id < 0)
            return error_set(e, EXIT_FAILED, "%s assigns the next word no finite probability",
                             t->o->weights);
        print_type(t, id);
        code = shown(t, e);
        if (!code && i + 1 < t->o->words) code = read_type(t, id, e);
    }
    if (!code && t->line_begun) {
        fputc('\n', t->out);
        code = shown(t, e);
    }
    return code;
}

/* Prints the prompt as the model reads it and the words that are drawn, with a newline for <eos>.
 * The model reads <eos> first if its vocabulary has it, so that the text begins like a sentence.
 * Otherwise the text begins from a zero state with the prompt or, without one, with the
 * vocabulary's first type (the first word of the training text), which is then printed. */
static int sample(const CommandLine *line, Error *e)
{
    const SampleOptions *o = line->own;
    const BackendOps *ops;
    Checkpoint c;
    Model model;
    int code = backend_find(line->settings.backend, &ops, e);
    if (!code) code = checkpoint_open(&c, o->weights, e);
    if (code) return code;
    if (strcmp(c.task, "lm")) {
        code = error_set(e, EXIT_BAD_DATA,
                         "%s is of task %.60s, but sample draws text from a language model only",
                         o->weights, c.task);
        checkpoint_close(&c);
        return code;
    }
    Text t = {.o = o, .vocab = &c.vocab, .model = &model, .out = stdout, .notes = line->notes};
    t.eos = vocab_find(&c.vocab, eos_type, strlen(eos_type));
    int32_t *prompt = NULL;
    int64_t n = 0;
    float *logits = malloc(sizeof *logits * (size_t)c.vocab.V);
    double *scratch = malloc(sizeof *scratch * (size_t)c.vocab.V);
    if (!logits || !scratch)
        code = error_set(e, EXIT_FAILED, "memory ran out while a text was begun");
    if (!code) code = prompt_ids(&t, &prompt, &n, e);
    if (!code && !n && t.eos < 0) prompt[n++] = 0;
    if (!code) {
        code = model_load(&model, ops, &c, (BatchLimits){.T = 1, .B = 1}, false,
                          (int)line->settings.threads, e);
        if (!code) {
            char needed[32];
            BackendInfo info;
            ops->info(model.backend, &info);
            if (line->notes)
                fprintf(line->notes, "plstm: %s: %s needed\n", o->weights,
                        bytes_text(info.bytes, needed, sizeof needed));
            code = ops->state_set(model.backend, 1, NULL, NULL, e);
            if (!code) code = write_text(&t, prompt, n, logits, scratch, e);
            model_close(&model);
        }
    }
    free(prompt);
    free(scratch);
    free(logits);
    checkpoint_close(&c);
    return code;
}

#define AT(field) .at = offsetof(SampleOptions, field)
static const Option options[] = {
    {"weights", TAKES_PATH("a checkpoint"), "a checkpoint", AT(weights), .needed = true},
    {"prompt", TAKES_TEXT("the words with which the text begins"),
     "words with which the text begins", AT(prompt), .arg = "TEXT"},
    {"words", TAKES_WHOLE(0, 1000000000), "words to draw, including ends of sentences", AT(words),
     "100"},
    {"temperature", TAKES_NUMBER(0, 1e6),
     "divisor of the logits; 0 always takes the likeliest word", AT(temperature), "1"},
    {"top-k", TAKES_WHOLE(1, 1000000000), "draw only among the K likeliest words", AT(top_k),
     .arg = "K"},
    {"seed", TAKES_SEED, "seed of the draws; the same seed gives the same text", AT(seed), "1"},
};

const Command command_sample = {
    .name = "sample",
    .summary = "draw a text",
    .about = "Draws a text from a checkpoint, word by word.",
    COMMAND_OPTIONS(options, SampleOptions),
    .settings = "backend|threads",
    .run = sample,
};
