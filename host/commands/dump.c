/* `plstm dump`: writes the masks or gradients of one minibatch, or initial weights, so that another
 * program (the PyTorch twin) can compute the same values and compare them. The file is in
 * safetensors format. Its metadata holds these strings: format = pt, dump = the choice of --what,
 * the model's settings, and, for masks and grads, step.
 *
 *   masks  `mask.siteS` U8 (T,B,H), 1 where a value is kept, for every site S of SPEC 2 and
 *          minibatch `step`, however large. No data is read. With sites `none` nothing is masked:
 *          every value is 1, and so is keep.
 *   grads  The gradient of the cost of SPEC 5 with respect to every parameter, unclipped, F32,
 *          under the parameter's name. The minibatch is window `step` of the first epoch, run from
 *          a zero state with the masks of that step. The weights are the initial ones, drawn or
 *          read from --init-weights. Prints
 *          {"step":..,"loss":..,"nats":..,"tokens":..,"grad_norm":..}; the file's metadata holds
 *          the same figures.
 *   init   The initial weights, F32, under their names. The corpus determines V. */
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"
#include "host/backend/backend.h"
#include "host/data/batcher.h"
#include "host/store/checkpoint.h"
#include "host/data/source.h"
#include "host/base/json_line.h"
#include "host/base/machine.h"
#include "host/train/model.h"
#include "host/store/safetensors.h"
#include "host/store/weights.h"
#include "host/train/run_corpus.h"
#include "host/train/task.h"

typedef enum DumpWhat { DUMP_MASKS, DUMP_GRADS, DUMP_INIT } DumpWhat;
#define DUMP_CHOICES "masks|grads|init" /* in the order of DumpWhat */

typedef struct DumpOptions {
    int64_t what; /* DumpWhat */
    const char *path;
    int64_t step;
    const char *data;
} DumpOptions;

/* ---- metadata ---- */

typedef struct Meta {
    StMetaList list;
    StMeta item[16];
    struct StMetaText text[16];
} Meta;

static StMetaList *meta_begin(Meta *m, const char *what, const Settings *s)
{
    static const char *const model[] = {"hidden", "layers", "batch", "seq",
                                        "keep",   "init",   "seed",  "dropout-sites"};
    m->list = (StMetaList){.item = m->item, .text = m->text};
    st_put(&m->list, "format", "pt");
    st_put(&m->list, "dump", what);
    for (size_t i = 0; i < sizeof model / sizeof model[0]; i++) {
        struct StMetaText *text = &m->text[m->list.n];
        option_format(settings_info(settings_find(model[i])), s, text->value, sizeof text->value);
        st_put(&m->list, option_key(model[i], text->key), text->value);
    }
    return &m->list;
}

/* ---- masks ---- */

/* Draws the mask (T,B,H) of one site; rows is T * B. */
static void draw_mask(const MaskKey *key, int64_t rows, int64_t H, uint8_t *mask)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t u = 0; u < H; u += 4) {
            unsigned kept = mask_nibble(key, row, H, u);
            for (int64_t i = 0; i < 4 && u + i < H; i++) mask[row * H + u + i] = kept >> i & 1;
        }
}

static int dump_masks(const Settings *s, int64_t step, const char *path, Error *e)
{
    int sites = sites_count(s->sites, s->layers);
    double keep = s->sites == SITES_NONE ? 1 : s->keep;
    int64_t rows = s->seq * s->batch, n = rows * s->hidden;
    int code = machine_fits((size_t)sites * (size_t)n, e);
    if (code) return code;
    uint8_t *mask = malloc((size_t)sites * (size_t)n);
    char(*name)[32] = malloc((size_t)sites * sizeof *name);
    StTensor *tensor = calloc((size_t)sites, sizeof *tensor);
    if (!mask || !name || !tensor)
        code = error_set(e, EXIT_FAILED, "memory ran out for %d masks", sites);
    for (int site = 0; site < sites && !code; site++) {
        MaskKey key = mask_key(s->seed, step, sites, site, keep);
        draw_mask(&key, rows, s->hidden, mask + site * n);
        snprintf(name[site], sizeof *name, "mask.site%d", site);
        tensor[site] = (StTensor){.name = name[site],
                                  .dtype = ST_U8,
                                  .rank = 3,
                                  .shape = {s->seq, s->batch, s->hidden},
                                  .data = mask + site * n,
                                  .bytes = (size_t)n};
    }
    if (!code) {
        Settings told = *s;
        told.keep = keep;
        Meta meta;
        StMetaList *list = meta_begin(&meta, "masks", &told);
        st_put_count(list, "step", step);
        code = st_write(path, tensor, sites, list->item, list->n, e);
    }
    free(tensor);
    free(name);
    free(mask);
    return code;
}

/* ---- tensors with the parameters' shapes ---- */

static int write_params(const Params *p, const StMetaList *meta, const char *path, Error *e)
{
    ParamInfo *info = malloc((size_t)p->count * sizeof *info);
    StTensor *tensor = calloc((size_t)p->count, sizeof *tensor);
    int code = info && tensor
                   ? EXIT_DONE
                   : error_set(e, EXIT_FAILED, "memory ran out for %d tensors", p->count);
    if (!code) params_tensors(p, info, tensor);
    if (!code) code = st_write(path, tensor, p->count, meta->item, meta->n, e);
    free(tensor);
    free(info);
    return code;
}

/* Computes the gradients of one window at the weights in p and stores them in p. */
static int gradients(Params *p, const Settings *s, const BackendOps *ops, const Window *w,
                     WindowResult *r, Error *e)
{
    BackendConfig config = backend_config(s, &p->shape, true);
    Model m;
    int code = machine_fits(ops->bytes ? ops->bytes(&config) : 0, e);
    if (!code) code = model_open(&m, ops, &config, e);
    if (code) return code;
    code = model_set_params(&m, p, e);
    if (!code) code = ops->state_set(m.backend, w->batch.B, NULL, NULL, e);
    if (!code) code = model_gradients(&m, w, r, e);
    if (!code) code = model_get_grads(&m, p, e);
    model_close(&m);
    return code;
}

static int dump_grads(Params *p, const Settings *s, const Corpus *corpus, int64_t step,
                      const char *path, FILE *out, Error *e)
{
    const BackendOps *ops;
    Batcher b;
    WindowResult r;
    const Stream *train = &corpus->split[SPLIT_TRAIN];
    int64_t n = s->seq * s->batch;
    int code = backend_find(s->backend, &ops, e);
    if (!code)
        code = batcher_init(&b, train->ids, train->n, s->batch, s->seq, split_name[SPLIT_TRAIN], e);
    if (code) return code;
    if (step >= b.windows)
        return error_set(
            e, EXIT_USAGE,
            "--step takes a minibatch of the first epoch, 0 to %lld, with --what grads, not '%lld'",
            (long long)b.windows - 1, (long long)step);
    int32_t *ids = malloc(2 * sizeof *ids * (size_t)n);
    if (!ids) return error_set(e, EXIT_FAILED, "memory ran out for a minibatch");
    batcher_window(&b, step, ids, ids + n);
    Window w = {
        .batch = batch_of_tokens(s->seq, s->batch, ids, ids + n), .train = true, .step = step};
    code = gradients(p, s, ops, &w, &r, e);
    free(ids);
    if (code) return code;

    double loss = r.nats / (double)s->batch, squares = 0;
    for (int64_t i = 0; i < p->offset[p->count]; i++) squares += (double)p->data[i] * p->data[i];
    bool finite = isfinite(exp(r.nats / (double)n)); /* the criterion of a training run */
    if (!finite || !isfinite(squares))
        return error_set(e, EXIT_DIVERGED,
                         "diverged: the %s of minibatch %lld is not finite; nothing was written",
                         finite ? "gradient" : "perplexity", (long long)step);
    Meta meta;
    StMetaList *list = meta_begin(&meta, "grads", s);
    st_put_count(list, "step", step);
    st_put_double(list, "loss", loss);
    st_put_double(list, "nats", r.nats);
    st_put_count(list, "tokens", n);
    st_put_double(list, "grad_norm", sqrt(squares));
    code = write_params(p, list, path, e);
    if (code) return code;

    JsonLine line = {0};
    line_begin(&line);
    line_int(&line, "step", step);
    line_double(&line, "loss", loss);
    line_double(&line, "nats", r.nats);
    line_int(&line, "tokens", n);
    line_double(&line, "grad_norm", sqrt(squares));
    line_end(&line);
    if (line.no_memory) code = error_set(e, EXIT_FAILED, "memory ran out for a line of text");
    else fputs(line.text, out);
    line_free(&line);
    return code;
}

static int read_corpus(Corpus *corpus, const Settings *s, Error *e)
{
    Vocab given = {.V = 0};
    CorpusRead how = {.needed = 1u << SPLIT_TRAIN, .final_eos = s->final_eos};
    int code = s->vocab ? vocab_read(&given, s->vocab, e) : EXIT_DONE;
    if (s->vocab) how.vocab = &given;
    if (!code) code = corpus_read(corpus, s->data, &how, e);
    vocab_free(&given);
    return code;
}

static int write_dump(const DumpOptions *o, const Settings *s, FILE *notes, Error *e)
{
    if (o->what == DUMP_MASKS) return dump_masks(s, o->step, o->path, e);

    Corpus corpus;
    Params p;
    int code = read_corpus(&corpus, s, e);
    if (code) return code;
    if (notes) print_remarks(&corpus, notes);
    const ModelShape shape = model_shape_of_words(corpus.vocab.V, s->hidden, s->layers);
    code = machine_fits((size_t)params_elements(&shape) * sizeof *p.data, e);
    if (!code && params_init(&p, &shape))
        code = error_set(e, EXIT_FAILED, "memory ran out for %lld parameters",
                         (long long)params_elements(&shape));
    if (code) {
        corpus_free(&corpus);
        return code;
    }
    char note[WEIGHTS_NOTE] = "";
    if (s->init_weights) code = weights_read(&p, s->task, &corpus.vocab, s->init_weights, note, e);
    else params_draw(&p, s->seed, s->init);
    if (note[0] && notes) fprintf(notes, "plstm: %s\n", note);
    if (!code && o->what == DUMP_GRADS) {
        code = dump_grads(&p, s, &corpus, o->step, o->path, stdout, e);
    } else if (!code) {
        Meta meta;
        code = write_params(&p, meta_begin(&meta, "init", s), o->path, e);
    }
    params_free(&p);
    corpus_free(&corpus);
    return code;
}

static int dump(const CommandLine *line, Error *e)
{
    const DumpOptions *o = line->own;
    Settings s = line->settings;
    s.data = o->data;
    if (!s.data && line->preset && !strcmp(line->preset, "demo")) s.data = "synthetic";
    if (!s.data && o->what != DUMP_MASKS) return option_missing("data", tasks[0]->takes, e);
    if (s.init_weights && o->what != DUMP_GRADS)
        return error_set(e, EXIT_USAGE,
                         "--init-weights goes only with --what grads, for which it sets "
                         "the weights");
    CorpusPaths texts;
    int code = corpus_paths(&texts, o->what == DUMP_MASKS ? NULL : s.data, s.vocab, e);
    if (code) return code;
    texts.file[texts.n++] = (OtherFile){"--init-weights", s.init_weights, NULL};
    code =
        outputs_check(&(Output){"--out", o->path, &kind_dump}, 1, texts.file, texts.n, s.force, e);
    corpus_paths_free(&texts);
    if (!code) code = write_dump(o, &s, line->notes, e);
    return o->what == DUMP_MASKS ? code : task_hint(tasks[0], s.data, code, e);
}

#define AT(field) .at = offsetof(DumpOptions, field)
static const Option options[] = {
    {"what", TAKES_CHOICE("masks, grads or init", DUMP_CHOICES),
     "what to write: one minibatch's masks (U8) or gradients, or initial weights", AT(what),
     .needed = true},
    {"out", TAKES_PATH("a file"), "safetensors file to write", AT(path), .needed = true},
    {"step", TAKES_WHOLE(0, 1e15), "the minibatch, counted over the run", AT(step), "0"},
    {"data", TAKES_PATH("a folder, or synthetic"),
     "folder with train.txt, valid.txt and test.txt, or synthetic", AT(data), .arg = "DIR"},
};

const Command command_dump = {
    .name = "dump",
    .summary = "write one minibatch's masks or gradients, or initial weights",
    .about = "Writes intermediate values of a run for comparison with another program. Gradients "
             "are those of minibatch N of the first epoch from a zero state, unclipped; their loss "
             "is printed as JSON.",
    COMMAND_OPTIONS(options, DumpOptions),
    .settings =
        "hidden|layers|batch|seq|keep|init|seed|dropout-sites|backend|threads|init-weights|vocab|"
        "final-eos|force",
    .preset = true,
    .run = dump,
};
