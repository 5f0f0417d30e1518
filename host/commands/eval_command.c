/* `plstm eval`: scores one split with one checkpoint, or with the ensemble of several. */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/store/checkpoint.h"
#include "host/train/ensemble.h"
#include "host/base/json_line.h"
#include "host/base/number.h"
#include "host/base/output.h"
#include "host/train/model.h"
#include "host/train/model_load.h"
#include "host/train/scorer.h"
#include "host/train/task.h"
#include "host/train/token_log_probs.h"
#include "host/base/version.h"
#include "members.h"

typedef struct EvalOptions {
    PathList weights;
    const char *split; /* its name: "valid", "test" */
    /* file for the log-probabilities that the models, or their average, assign to every position
     * (token_log_probs.h); or NULL */
    const char *log_probs;
    /* file for the confusion table, which counts the label that the model chose for each target
     * (task.h); or NULL */
    const char *confusion;
} EvalOptions;

/* One file of the ensemble. */
typedef struct Member {
    const char *path;
    int64_t H, L;
    double keep;
    Totals totals;
    Figure figure[TASK_FIGURES];
} Member;

typedef struct Eval {
    const EvalOptions *o;
    const Settings *given;
    FILE *notes; /* where remarks are printed; NULL: nowhere */
    const BackendOps *ops;
    const Task *task;
    Checkpoint first; /* the first file, whose settings and vocabulary are used */
    Settings settings;
    TaskData *data;
    int split;
    Source *source;
    Ensemble ensemble;
    int32_t *targets; /* (places); NULL unless log-probabilities are written */
    int n;
    Member *member; /* (n) */
    Member all;     /* the average */
    int figures;    /* number of figures of each member */
    char device[sizeof((BackendInfo *)0)->device];
} Eval;

/* ---- the files ---- */

static int list_members(Eval *v, Error *e)
{
    v->n = v->o->weights.n;
    v->member = calloc((size_t)v->n, sizeof *v->member);
    if (!v->member) return error_set(e, EXIT_FAILED, "memory ran out while --weights was read");
    for (int i = 0; i < v->n; i++) v->member[i].path = v->o->weights.path[i];
    return EXIT_DONE;
}

static int outputs_harmless(const Eval *v, Error *e)
{
    const Output output[] = {{"--log-json", v->given->log_json, &kind_eval_log},
                             {"--token-log-probs", v->o->log_probs, &kind_log_probs},
                             {"--confusion", v->o->confusion, &kind_confusion}};
    CorpusPaths texts;
    OtherFile *read = calloc((size_t)v->n + CORPUS_PATHS, sizeof *read);
    if (!read) return error_set(e, EXIT_FAILED, "memory ran out while outputs were checked");
    int n = 0, code = v->task->inputs(&v->settings, &texts, e);
    if (!code) {
        for (int i = 0; i < texts.n; i++) read[n++] = texts.file[i];
        for (int i = 0; i < v->n; i++)
            read[n++] = (OtherFile){"--weights", v->member[i].path, NULL};
        code = outputs_check(output, 3, read, n, v->given->force, e);
        corpus_paths_free(&texts);
    }
    free(read);
    return code;
}

/* Sets the settings: the first file's, overridden by those given on the command line. */
static int settings_take(Eval *v, Error *e)
{
    const Settings *given = v->given;
    Settings *s = &v->settings, check = *given;
    check.task = v->first.task;
    *s = v->first.settings;
    s->data = given->data, s->protocol = given->protocol, s->final_eos = given->final_eos;
    if (settings_given(given, "batch")) s->batch = given->batch;
    if (settings_given(given, "seq")) s->seq = given->seq;
    return settings_check_task(&check, e);
}

static int find_split(Eval *v, Error *e)
{
    char names[512] = "";
    const char *name;
    for (int i = 1; (name = v->task->split_name(v->data, i)); i++) {
        size_t n = strlen(names);
        v->split = i;
        if (!strcmp(name, v->o->split)) return EXIT_DONE;
        bool last = !v->task->split_name(v->data, i + 1);
        snprintf(names + n, sizeof names - n, "%s%s", i == 1 ? "" : last ? " or " : ", ", name);
    }
    /* Whatever the files are called, `valid` denotes split 1 and `test` the first test split. */
    v->split = !strcmp(v->o->split, "valid") ? 1 : !strcmp(v->o->split, "test") ? 2 : 0;
    if (v->split && v->task->split_name(v->data, v->split)) return EXIT_DONE;
    return error_set(e, EXIT_USAGE, "--split takes %s, not '%s'", names, v->o->split);
}

/* Checks that --confusion is possible: one model, of a task that counts hits. */
static int confusion_check(const Eval *v, Error *e)
{
    if (!v->o->confusion) return EXIT_DONE;
    if (!v->task->confusion_begin)
        return error_set(e, EXIT_USAGE, "--confusion is not an option of --task %s", v->task->name);
    if (v->n > 1)
        return error_set(
            e, EXIT_USAGE,
            "--confusion takes one model: an average has no likeliest label at a position");
    return EXIT_DONE;
}

/* Opens each file once before any is scored, so that an error in the last of ten files is found
 * before nine have been scored. */
static int check_files(Eval *v, Error *e)
{
    int code = EXIT_DONE;
    for (int i = 0; i < v->n && !code; i++) {
        Checkpoint other, *c = i ? &other : &v->first;
        Member *m = &v->member[i];
        if ((code = checkpoint_open(c, m->path, e))) break;
        m->H = c->shape.H, m->L = c->shape.L;
        m->keep = c->settings.sites == SITES_NONE ? 1 : c->settings.keep;
        if (i) {
            code = members_agree(&v->first, v->member[0].path, c, m->path, e);
            checkpoint_close(c);
            continue;
        }
        code = task_of(c, m->path, &v->task, e);
        if (!code) code = settings_take(v, e);
        if (!code) code = confusion_check(v, e);
        if (!code) code = task_hint(v->task, v->settings.data, outputs_harmless(v, e), e);
        TaskOpen how = {.settings = &v->settings, .from = c, .split = v->o->split};
        if (!code) code = task_hint(v->task, v->settings.data, v->task->open(&how, &v->data, e), e);
        if (!code && v->notes && v->task->remarks) v->task->remarks(v->data, v->notes);
        if (!code) code = find_split(v, e);
    }
    if (!code) code = v->task->score(v->data, &v->settings, v->split, &v->source, e);
    return code;
}

/* ---- scores ---- */

static void visit_both(void *user, int64_t place, int32_t target, int32_t best, double nats)
{
    Eval *v = user;
    ensemble_visit(&v->ensemble, place, nats);
    if (v->targets) v->targets[place] = target;
    if (v->task->hits && v->task->visit) v->task->visit(v->data, place, target, best, nats);
}

static int figures(Eval *v, Member *m)
{
    return v->task->figures(v->data, &v->settings, v->split, &m->totals, m->figure);
}

static int score_member(Eval *v, Member *m, Error *e)
{
    Checkpoint other, *c = m == v->member ? &v->first : &other;
    Model model;
    int code = m == v->member ? EXIT_DONE : checkpoint_open(&other, m->path, e);
    if (code) return code;
    /* If the split is cut into training's rows and steps, the model is opened as large as in
     * training, so that its kernels get the same plan. */
    BatchLimits limits = v->source->limits;
    if (settings_of_task(settings_find("seq"), v->task->name))
        limits =
            limits_of_both(limits, (BatchLimits){.T = v->settings.seq, .B = v->settings.batch});
    code = model_load(&model, v->ops, c, limits, v->task->hits, (int)v->given->threads, e);
    if (c == &other) checkpoint_close(&other);
    if (code) return code;
    BackendInfo info;
    v->ops->info(model.backend, &info);
    memcpy(v->device, info.device, sizeof v->device);
    if (v->notes) {
        char needed[32];
        size_t bytes = info.bytes + v->task->bytes(v->data) +
                       (size_t)v->ensemble.n * sizeof *v->ensemble.log_sum;
        fprintf(v->notes, "plstm: %s: %s needed\n", m->path,
                bytes_text(bytes, needed, sizeof needed));
    }
    ensemble_begin(&v->ensemble);
    if (v->o->confusion && (code = v->task->confusion_begin(v->data, e))) {
        model_close(&model);
        return code;
    }
    if (v->task->score_begin) v->task->score_begin(v->data, v->split);
    code = score_source(&model, v->source, visit_both, v, &m->totals, NULL, e);
    if (!code && !isfinite(totals_ppl(&m->totals)))
        code = error_set(e, EXIT_DIVERGED,
                         "diverged: the %s split's perplexity under %s is not finite", v->o->split,
                         m->path);
    model_close(&model);
    v->figures = figures(v, m);
    return code;
}

static void score_all(Eval *v)
{
    v->all = v->member[0];
    if (v->n > 1) {
        v->all.totals.hits = -1; /* an average has no hits */
        ensemble_total(&v->ensemble, &v->all.totals.nats, &v->all.totals.scored);
    }
    /* Visit the positions again, in their order, with the average's nats. */
    double nats;
    if (!v->task->hits && v->task->score_begin) v->task->score_begin(v->data, v->split);
    for (int64_t i = 0; !v->task->hits && v->task->visit && i < v->source->places; i++)
        if (ensemble_nats(&v->ensemble, i, &nats))
            v->task->visit(v->data, i, TARGET_NONE, -1, nats);
    figures(v, &v->all);
}

static int save_log_probs(Eval *v, Error *e)
{
    bool has_protocol = settings_of_task(settings_find("protocol"), v->task->name);
    ScoredText text = {0};
    if (v->task->paper_tokens)
        text.paper_tokens = v->task->paper_tokens(v->data, &v->settings, v->split);
    snprintf(text.split, sizeof text.split, "%s", v->task->split_name(v->data, v->split));
    snprintf(text.protocol, sizeof text.protocol, "%s",
             has_protocol ? protocol_name(v->settings.protocol) : v->task->name);
    vocab_sha256(&v->first.vocab, text.vocab_sha256);
    return token_log_probs_save(v->o->log_probs, &text, &v->ensemble, v->targets, e);
}

/* ---- output ---- */

static const char *const measure[] = {
    [FIGURE_PPL] = "perplexity", [FIGURE_SHARE] = "accuracy", [FIGURE_NATS] = "nats"};

static int column_width(int i) { return i ? 16 : 12; }

/* Returns whether figure i is printed. A figure that does not apply to the split is NAN in every
 * row. */
static bool shown(const Eval *v, int i) { return !i || !isnan(v->member[0].figure[i].value); }

static void print_row(const Eval *v, FILE *out, const Member *m, const char *name)
{
    for (int i = 0; i < v->figures; i++) {
        const Figure *f = &m->figure[i];
        if (!shown(v, i)) continue;
        if (isnan(f->value)) fprintf(out, "%*s", column_width(i), "-");
        else if (f->kind == FIGURE_SHARE)
            fprintf(out, "%*.2f %%", column_width(i) - 2, 100 * f->value);
        else fprintf(out, "%*.*f", column_width(i), f->kind == FIGURE_PPL ? 3 : 4, f->value);
    }
    fprintf(out, "  %s\n", name);
}

static void print_table(const Eval *v, FILE *out)
{
    if (v->task->print_eval)
        v->task->print_eval(v->data, &v->settings, v->split, &v->all.totals, out);
    else
        fprintf(out, "%s of %s: %lld %s scored\n", v->o->split, v->settings.data,
                (long long)v->all.totals.scored, v->task->unit);
    fprintf(out, "\n");
    for (int i = 0; i < v->figures; i++)
        if (shown(v, i)) fprintf(out, "%*s", column_width(i), measure[v->member[0].figure[i].kind]);
    fprintf(out, "\n");
    for (int i = 0; i < v->figures; i++)
        if (shown(v, i)) fprintf(out, "%*s", column_width(i), v->member[0].figure[i].note);
    fprintf(out, "\n");
    for (int i = 0; i < v->n; i++) print_row(v, out, &v->member[i], v->member[i].path);
    if (v->n > 1) {
        char name[64];
        snprintf(name, sizeof name, "ensemble of %d (average of probabilities)", v->n);
        print_row(v, out, &v->all, name);
    }
}

/* Writes the figures under their keys without the split's name: "ppl" for "valid_ppl". The key
 * "nats" already holds the sum, so a figure of that name becomes "nats_each". */
static void figures_json(const Eval *v, const Member *m, JsonLine *l)
{
    line_double(l, "nats", m->totals.nats);
    for (int i = 0; i < v->figures; i++) {
        const char *key = strchr(m->figure[i].key, '_') + 1;
        line_double(l, strcmp(key, "nats") ? key : "nats_each", m->figure[i].value);
    }
}

static void make_line(const Eval *v, JsonLine *l)
{
    line_begin(l);
    line_string(l, "event", "eval");
    line_string(l, "version", PLSTM_VERSION);
    line_string(l, "commit", PLSTM_COMMIT);
    line_string(l, "split", v->o->split);
    if (settings_of_task(settings_find("protocol"), v->task->name))
        line_string(l, "protocol", protocol_name(v->settings.protocol));
    else line_string(l, "task", v->task->name);
    line_int(l, "tokens", v->all.totals.scored);
    figures_json(v, &v->all, l);
    line_open(l, "files", '[');
    for (int i = 0; i < v->n; i++) {
        const Member *m = &v->member[i];
        line_open(l, NULL, '{');
        line_string(l, "weights", m->path);
        line_int(l, "hidden", m->H);
        line_int(l, "layers", m->L);
        line_double(l, "keep", m->keep);
        figures_json(v, m, l);
        line_close(l, '}');
    }
    line_close(l, ']');
    if (v->task->log_test) v->task->log_test(v->data, v->split, &v->all.totals, l);
    if (v->task->log_eval) v->task->log_eval(v->data, &v->settings, v->split, l);
    line_string(l, "backend", v->ops->name);
    line_string(l, "device", v->device);
    line_end(l);
}

static int tell(Eval *v, FILE *out, Error *e)
{
    JsonLine line = {0};
    print_table(v, out);
    if (v->task->print_test) v->task->print_test(v->data, v->split, &v->all.totals, out);
    if (!v->given->log_json) return EXIT_DONE;
    make_line(v, &line);
    /* The log is written last, so that a run that fails does not change an earlier log. */
    int code = line_save(&line, "--log-json", v->given->log_json, e);
    line_free(&line);
    return code;
}

/* Scores every file. The files may differ in H, L and keep, but not in task or vocabulary. One
 * model is in memory at a time. */
static int eval(const CommandLine *line, Error *e)
{
    const EvalOptions *o = line->own;
    const Settings *given = &line->settings;
    Eval v = {.o = o, .given = given, .notes = line->notes};
    if (!strcmp(o->split, "train"))
        return error_set(e, EXIT_USAGE, "--split takes valid or test, not 'train'");
    if (!given->data) return option_missing("data", settings_info(settings_find("data"))->takes, e);
    int code = list_members(&v, e);
    if (!code) code = backend_find(given->backend, &v.ops, e);
    if (!code) code = check_files(&v, e);
    if (!code && ensemble_init(&v.ensemble, v.source->places))
        code = error_set(e, EXIT_FAILED, "memory ran out for the scores");
    if (!code && o->log_probs &&
        !(v.targets = calloc((size_t)v.source->places + 1, sizeof *v.targets)))
        code = error_set(e, EXIT_FAILED, "memory ran out for --token-log-probs");
    for (int i = 0; i < v.n && !code; i++) code = score_member(&v, &v.member[i], e);
    if (!code) {
        score_all(&v);
        if (o->log_probs) code = save_log_probs(&v, e);
        if (!code && o->confusion) code = v.task->confusion_write(v.data, o->confusion, e);
        if (!code) code = tell(&v, stdout, e);
    }
    ensemble_free(&v.ensemble);
    free(v.targets);
    source_close(v.source);
    if (v.data) v.task->close(v.data);
    if (v.first.task) checkpoint_close(&v.first);
    free(v.member);
    return code;
}

#define AT(field) .at = offsetof(EvalOptions, field)
static const Option options[] = {
    {"weights", TAKES_PATHS("a checkpoint, or several separated by commas"),
     "a checkpoint, or several, whose probabilities are also averaged; may be given more "
     "than once, and a file whose name holds a comma counts as one",
     AT(weights), .needed = true},
    {"split", TAKES_TEXT("valid or test"),
     "which split to score: valid, test, or the name of another test split of the task", AT(split),
     "test"},
    {"token-log-probs", TAKES_PATH("a file"),
     "NumPy array to write of log p of every scored position under the model, or the "
     "average of several, which plstm ensemble averages",
     AT(log_probs), .arg = "F.npy"},
    {"confusion", TAKES_PATH("a file"),
     "table to write of what the labels of a frames model were taken for, separated by "
     "tabs, one row per label",
     AT(confusion)},
};

const Command command_eval = {
    .name = "eval",
    .summary = "perplexity of checkpoints and of their ensemble",
    .about = "Prints the perplexity of checkpoints and of their ensemble. batch and seq, by which "
             "protocol zaremba cuts the valid split, are the first file's unless given.",
    COMMAND_OPTIONS(options, EvalOptions),
    .settings = "data|protocol|backend|threads|batch|seq|log-json|final-eos|force",
    .no_defaults = true,
    .run = eval,
};
