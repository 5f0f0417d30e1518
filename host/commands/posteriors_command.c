/* `plstm posteriors`: writes the probabilities that a frames model assigns to the labels of every
 * frame of a table of features, as a Kaldi archive for a decoder. */
#include "commands.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/output.h"
#include "host/base/replace.h"
#include "host/data/features.h"
#include "host/store/checkpoint.h"
#include "host/train/model_load.h"
#include "members.h"

typedef enum PosteriorsAs {
    AS_POSTERIORS,     /* p(label | frames so far) */
    AS_LOG_POSTERIORS, /* its logarithm */
    /* the log-posterior minus the log of the label's share of the training frames; this equals log
     * p(frames | label) up to a constant, and decoders add it up */
    AS_LOG_LIKELIHOODS,
} PosteriorsAs;
#define POSTERIORS_AS "posteriors|log-posteriors|log-likelihoods"

typedef struct PosteriorsOptions {
    PathList weights;     /* at least one; the probabilities of several are averaged */
    const char *features; /* a script, an archive, or a folder that holds one of them */
    const char *out;      /* the archive */
    int64_t as;           /* PosteriorsAs */
    int64_t batch;        /* utterances at a time */
} PosteriorsOptions;

enum { STEPS = 256 }; /* frames of an utterance per window; the state is carried to the next */

/* An utterance of the batch. */
typedef struct Utterance {
    char name[KALDI_NAME];
    int64_t frames, room; /* number of frames; number that both arrays can hold */
    float *features;      /* (frames,F) */
    double *posterior;    /* (frames,V) probabilities, summed over the models */
} Utterance;

typedef struct Posteriors {
    const PosteriorsOptions *o;
    const Settings *settings;
    Checkpoint first; /* its normalisation and label counts are used */
    int n;            /* models opened so far */
    Model *model;     /* (n) */
    int64_t F, V;     /* features per frame; labels */
    Features features;
    Replacement out;
    char what[4096];         /* option and path of the output, for sentences */
    Utterance *utterance;    /* (batch) */
    int64_t utterances;      /* in the batch */
    int64_t written, frames; /* utterances and frames written so far */
    double *log_prior;       /* (V) */
    int32_t *ids, *targets;  /* (STEPS,batch) */
    float *rows;             /* (STEPS*batch,F) */
    float *logits;           /* (batch,V) */
    float *values;           /* (room,V) those of the utterance that is being written */
    int64_t room;            /* frames that values can hold */
} Posteriors;

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out for the posteriors");
}

/* ---- models ---- */

/* Reads the logs of the labels' shares of the training frames from the checkpoint's "label_counts";
 * a label without training frames counts as half a frame. */
static int priors_read(Posteriors *p, Error *e)
{
    const char *path = p->o->weights.path[0], *text = st_meta(&p->first.file, "label_counts");
    double sum = 0;
    if (!(p->log_prior = calloc((size_t)p->V, sizeof *p->log_prior))) return out_of_memory(e);
    if (p->o->as != AS_LOG_LIKELIHOODS) return EXIT_DONE;
    if (!text)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: its metadata lacks 'label_counts', which log-likelihoods need", path);
    for (int64_t id = 0; id < p->V; id++) {
        char *end;
        long long count = *text >= '0' && *text <= '9' ? strtoll(text, &end, 10) : -1;
        if (count < 0 || *end != (id + 1 < p->V ? ' ' : 0))
            return error_set(e, EXIT_BAD_DATA,
                             "%s: metadata 'label_counts' is not a list of %" PRId64
                             " whole numbers",
                             path, p->V);
        text = end + 1;
        p->log_prior[id] = count ? (double)count : 0.5;
        sum += p->log_prior[id];
    }
    for (int64_t id = 0; id < p->V; id++) p->log_prior[id] = log(p->log_prior[id] / sum);
    return EXIT_DONE;
}

static int open_model(Posteriors *p, const BackendOps *ops, int i, Error *e)
{
    const PosteriorsOptions *o = p->o;
    char *const *path = o->weights.path;
    Checkpoint other, *c = i ? &other : &p->first;
    BatchLimits limits = {
        .T = STEPS, .B = o->batch, .scored = STEPS * o->batch, .features = STEPS * o->batch};
    int code = checkpoint_open(c, path[i], e);
    if (code) return code;
    if (strcmp(c->task, "frames"))
        code =
            error_set(e, EXIT_BAD_DATA, "%s is a model of task %.60s, which does not label frames",
                      path[i], c->task);
    else if (c->shape.V_in || !c->shape.F)
        code =
            error_set(e, EXIT_BAD_DATA,
                      "%s does not have the tensors of a model that reads features only", path[i]);
    if (!code && i) code = members_agree(&p->first, path[0], c, path[i], e);
    if (!code && c->settings.cmvn != p->first.settings.cmvn)
        code = error_set(e, EXIT_BAD_DATA,
                         "%s and %s were trained with different --cmvn, so they cannot be "
                         "averaged",
                         path[0], path[i]);
    if (!code) code = model_load(&p->model[i], ops, c, limits, false, (int)p->settings->threads, e);
    if (i) checkpoint_close(c);
    return code;
}

static int open_models(Posteriors *p, Error *e)
{
    const BackendOps *ops;
    int code = backend_find(p->settings->backend, &ops, e);
    p->model = calloc((size_t)p->o->weights.n, sizeof *p->model);
    if (!code && !p->model) code = out_of_memory(e);
    for (; !code && p->n < p->o->weights.n; p->n += !code) code = open_model(p, ops, p->n, e);
    if (code) return code;
    int64_t grid = STEPS * p->o->batch;
    p->F = p->first.shape.F, p->V = p->first.shape.V_out;
    p->utterance = calloc((size_t)p->o->batch, sizeof *p->utterance);
    p->ids = malloc((size_t)grid * sizeof *p->ids),
    p->targets = malloc((size_t)grid * sizeof *p->targets);
    p->rows = malloc((size_t)(grid * p->F) * sizeof *p->rows);
    p->logits = malloc((size_t)(p->o->batch * p->V) * sizeof *p->logits);
    return p->utterance && p->ids && p->targets && p->rows && p->logits ? priors_read(p, e)
                                                                        : out_of_memory(e);
}

/* ---- utterances ---- */

/* Adds the entry to the batch and copies its features, normalised if the model was trained so. */
static int utterance_take(Posteriors *p, const KaldiEntry *entry, Error *e)
{
    Utterance *u = &p->utterance[p->utterances];
    const KaldiMatrix *m = &entry->matrix;
    memcpy(u->name, entry->name, entry->name_bytes);
    u->name[entry->name_bytes] = 0;
    u->frames = m->rows;
    if (m->rows && m->cols != p->F)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: utterance %s has %" PRId64
                         " features per frame, but the model reads %" PRId64,
                         p->features.table.path, u->name, m->cols, p->F);
    if (u->frames > u->room) {
        free(u->features), free(u->posterior);
        u->features = malloc((size_t)(u->frames * p->F) * sizeof *u->features);
        u->posterior = malloc((size_t)(u->frames * p->V) * sizeof *u->posterior);
        if (!u->features || !u->posterior) return out_of_memory(e);
        u->room = u->frames;
    }
    int code = u->frames ? features_read(&p->features, entry, u->features, e) : EXIT_DONE;
    if (!code && u->frames && p->first.settings.cmvn == CMVN_UTTERANCE)
        features_normalise(u->features, u->frames, p->F);
    for (int64_t i = 0; !code && i < u->frames * p->V; i++) u->posterior[i] = 0;
    p->utterances++;
    return code;
}

/* Adds softmax(logits), the probabilities of a frame's labels (V), to sum (V). EXIT_FAILED: they
 * are not finite. */
static int add_softmax(const float *logits, int64_t V, double *sum, Error *e)
{
    double total = 0, top = logits[0];
    for (int64_t v = 1; v < V; v++) top = fmax(top, logits[v]);
    for (int64_t v = 0; v < V; v++) total += exp(logits[v] - top);
    if (!isfinite(total))
        return error_set(e, EXIT_FAILED, "a model assigns a frame no finite probabilities");
    for (int64_t v = 0; v < V; v++) sum[v] += exp(logits[v] - top) / total;
    return EXIT_DONE;
}

/* Runs frames from .. from+T-1 of every utterance of the batch through one model and adds the
 * probabilities to the utterances' sums. */
static int window_run(Posteriors *p, Model *m, int64_t from, int64_t T, Error *e)
{
    int64_t B = p->utterances, rows = 0;
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < B; b++) {
            const Utterance *u = &p->utterance[b];
            bool there = from + t < u->frames;
            p->ids[t * B + b] = there ? ID_FEATURES : ID_PADDING;
            /* Only scored positions have logits, so each frame gets a target; any label will do. */
            p->targets[t * B + b] = there ? 0 : TARGET_NONE;
            if (there)
                memcpy(p->rows + rows++ * p->F, u->features + (from + t) * p->F,
                       (size_t)p->F * sizeof *p->rows);
        }
    WindowResult r;
    Window w = {.batch = {.T = T,
                          .B = B,
                          .ids = p->ids,
                          .targets = p->targets,
                          .features = p->rows,
                          .carry = from > 0}};
    batch_count(&w.batch);
    int code = model_forward(m, &w, NULL, NULL, &r, e);
    for (int64_t t = 0, row = 0; !code && t < T; t++) {
        int64_t here = 0;
        for (int64_t b = 0; b < B; b++) here += from + t < p->utterance[b].frames;
        code = m->ops->logits_get(m->backend, row, here, p->logits, e);
        row += here;
        for (int64_t b = 0, k = 0; !code && b < B; b++)
            if (from + t < p->utterance[b].frames)
                code = add_softmax(p->logits + k++ * p->V, p->V,
                                   p->utterance[b].posterior + (from + t) * p->V, e);
    }
    return code;
}

static int utterance_write(Posteriors *p, const Utterance *u, Error *e)
{
    if (u->frames > p->room) {
        free(p->values);
        if (!(p->values = malloc((size_t)(u->frames * p->V) * sizeof *p->values)))
            return out_of_memory(e);
        p->room = u->frames;
    }
    for (int64_t i = 0; i < u->frames * p->V; i++) {
        double mean = u->posterior[i] / p->n;
        p->values[i] =
            (float)(p->o->as == AS_POSTERIORS ? mean
                                              : log(fmax(mean, 1e-300)) - p->log_prior[i % p->V]);
    }
    if (kaldi_archive_put(&p->out, u->name, p->values, u->frames, u->frames ? p->V : 0))
        return error_set(e, EXIT_BAD_DATA, "--out %s cannot be written: %m", p->o->out);
    p->written++;
    p->frames += u->frames;
    return EXIT_DONE;
}

static int batch_run(Posteriors *p, Error *e)
{
    int64_t longest = 0;
    int code = EXIT_DONE;
    for (int64_t b = 0; b < p->utterances; b++)
        if (p->utterance[b].frames > longest) longest = p->utterance[b].frames;
    for (int i = 0; i < p->n; i++)
        for (int64_t from = 0; !code && from < longest; from += STEPS)
            code = window_run(p, &p->model[i], from,
                              longest - from < STEPS ? longest - from : STEPS, e);
    for (int64_t b = 0; !code && b < p->utterances; b++)
        code = utterance_write(p, &p->utterance[b], e);
    p->utterances = 0;
    return code;
}

static int run_all(Posteriors *p, Error *e)
{
    for (;;) {
        KaldiEntry entry;
        int code = features_next(&p->features, &entry, e);
        if (!code && entry.name && p->features.script &&
            same_file(p->features.matrix.path, p->o->out))
            code =
                error_set(e, EXIT_USAGE,
                          "--out and --features must be different files; both are %s", p->o->out);
        if (!code && entry.name) code = utterance_take(p, &entry, e);
        if (!code && (!entry.name || p->utterances == p->o->batch)) code = batch_run(p, e);
        if (code || !entry.name) return code;
    }
}

/* ---- the command ---- */

static int output_open(Posteriors *p, Error *e)
{
    const PosteriorsOptions *o = p->o;
    size_t length = strlen(o->out);
    if (length >= 4 && !strcmp(o->out + length - 4, ".scp"))
        return error_set(e, EXIT_USAGE,
                         "--out %s has the name of a script, but an archive is written; choose a "
                         "name that ends in .ark",
                         o->out);
    OtherFile *read = calloc((size_t)o->weights.n + 1, sizeof *read);
    if (!read) return out_of_memory(e);
    int n = 0;
    for (; n < o->weights.n; n++) read[n] = (OtherFile){"--weights", o->weights.path[n], NULL};
    read[n++] = (OtherFile){"--features", p->features.table.path, NULL};
    int code =
        outputs_check(&(Output){"--out", o->out, &kind_archive}, 1, read, n, p->settings->force, e);
    free(read);
    snprintf(p->what, sizeof p->what, "--out %.4000s", o->out);
    return code ? code : replace_open(&p->out, o->out, p->what, e);
}

/* Writes one float32 matrix (frames, labels) per utterance, in the order of the features. They are
 * normalised as the model's training data was. The archive is written completely or not at all. */
static int posteriors(const CommandLine *line, Error *e)
{
    const PosteriorsOptions *o = line->own;
    Posteriors p = {.o = o, .settings = &line->settings};
    bool opened = false, ok;
    int code = open_models(&p, e);
    if (!code) code = features_open(&p.features, o->features, e);
    if (!code) opened = !(code = output_open(&p, e));
    if (!code && replace_begin(&p.out))
        code = error_set(e, EXIT_BAD_DATA, "--out %s cannot be written: %m", o->out);
    if (!code) code = run_all(&p, e);
    ok = !code;
    if (opened && ok) code = replace_finish(&p.out, true, p.what, e);
    else if (opened) replace_cancel(&p.out);
    if (!code && line->notes)
        fprintf(line->notes,
                "plstm: %s: %" PRId64 " utterances, %" PRId64 " frames of %" PRId64 " labels\n",
                o->out, p.written, p.frames, p.V);
    features_close(&p.features);
    for (int i = 0; p.model && i < p.n; i++) model_close(&p.model[i]);
    if (p.first.task) checkpoint_close(&p.first);
    for (int64_t b = 0; p.utterance && b < o->batch; b++)
        free(p.utterance[b].features), free(p.utterance[b].posterior);
    free(p.model), free(p.utterance), free(p.log_prior), free(p.ids), free(p.targets), free(p.rows),
        free(p.logits), free(p.values);
    return code;
}

#define AT(field) .at = offsetof(PosteriorsOptions, field)
static const Option options[] = {
    {"weights", TAKES_PATHS("a frames model, or several separated by commas"),
     "a frames model, or several, whose probabilities are averaged", AT(weights), .needed = true},
    {"features", TAKES_PATH("feats.scp, feats.ark or a folder that holds one"),
     "the utterances, for which no labels are needed: feats.scp, feats.ark or a folder "
     "that holds one",
     AT(features), .needed = true},
    {"out", TAKES_PATH("a file"),
     "Kaldi archive to write: one matrix per utterance, one row per frame, one column per label",
     AT(out), .arg = "F.ark", .needed = true},
    {"as", TAKES_CHOICE("posteriors, log-posteriors or log-likelihoods", POSTERIORS_AS),
     "values to write; log-likelihoods, which decoders need, are log-posteriors minus the "
     "logs of the labels' shares in training",
     AT(as), "posteriors"},
    {"utterances", TAKES_WHOLE(1, 1000), "utterances to read at a time", AT(batch), "20"},
};

const Command command_posteriors = {
    .name = "posteriors",
    .summary = "write a frames model's posteriors",
    .about = "Writes the probabilities that a frames model assigns to the labels of every frame, "
             "for a decoder that reads Kaldi's archives.",
    COMMAND_OPTIONS(options, PosteriorsOptions),
    .settings = "backend|threads|force",
    .run = posteriors,
};
