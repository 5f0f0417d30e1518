#include "eval_command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/store/checkpoint.h"
#include "host/data/source.h"
#include "host/train/ensemble.h"
#include "host/base/json_line.h"
#include "host/train/model.h"
#include "host/train/model_load.h"
#include "host/base/number.h"
#include "host/base/output.h"
#include "host/train/report.h"
#include "host/train/run_corpus.h"
#include "host/train/token_log_probs.h"
#include "host/base/version.h"

/* One file of the ensemble. */
typedef struct Member {
    const char *path;
    int64_t H, L;
    double keep;
    Score score;
} Member;

typedef struct Eval {
    const EvalOptions *o;
    const BackendOps *ops;
    int64_t batch, seq, rows;
    Corpus corpus;
    Ensemble ensemble;
    bool trained_here; /* the first file was trained on the built-in corpus, whose ids the classes are made
                          for */
    int n;
    Member *member; /* (n) */
    Score all;      /* of the average */
    char device[256];
} Eval;

/* ---- which files ---- */

static int list_members(Eval *v, Error *e)
{
    v->n = v->o->weights->n;
    v->member = calloc((size_t)v->n, sizeof *v->member);
    if (!v->member) return error_set(e, EXIT_FAILED, "memory ran out while --weights was read");
    for (int i = 0; i < v->n; i++) v->member[i].path = v->o->weights->path[i];
    return EXIT_DONE;
}

/* No output is one of the files that are read, or takes the place of another kind of file. */
static int outputs_check(const Eval *v, Error *e)
{
    CorpusPaths texts;
    const char *log = v->o->log_json, *log_probs = v->o->log_probs;
    OtherFile *read = calloc((size_t)(v->n + SPLITS + 2), sizeof *read);
    if (!read) return error_set(e, EXIT_FAILED, "memory ran out while outputs were checked");
    int n = 0, code = corpus_paths(&texts, v->o->data, NULL, e);
    if (!code) {
        for (int i = 0; i < texts.n; i++) read[n++] = texts.file[i];
        for (int i = 0; i < v->n; i++) read[n++] = (OtherFile){"--weights", v->member[i].path};
        if (log) code = output_check("--log-json", log, &kind_eval_log, read, n, v->o->force, e);
        read[n++] = (OtherFile){"--log-json", log};
        if (!code && log_probs)
            code = output_check("--token-log-probs", log_probs, &kind_log_probs, read, n, v->o->force, e);
        if (!code && log_probs) code = st_writable(log_probs, "--token-log-probs", e);
        corpus_paths_free(&texts);
    }
    free(read);
    return code;
}

/* Opens each file once, before any is scored: a fault in the last one of ten should not cost the time of
 * nine. */
static int check_files(Eval *v, Error *e)
{
    char first[65] = "", other[65];
    int code = EXIT_DONE;
    for (int i = 0; i < v->n && !code; i++) {
        Checkpoint c;
        Member *m = &v->member[i];
        if ((code = checkpoint_open(&c, m->path, e))) break;
        m->H = c.shape.H, m->L = c.shape.L;
        m->keep = c.settings.sites == SITES_NONE ? 1 : c.settings.keep;
        vocab_sha256(&c.vocab, i ? other : first);
        if (!i) {
            v->batch = v->o->batch > 0 ? v->o->batch : c.settings.batch;
            v->seq = v->o->seq > 0 ? v->o->seq : c.settings.seq;
            v->trained_here = c.synthetic;
            CorpusRead how = {.vocab = &c.vocab, .needed = 1u << v->o->split, .final_eos = v->o->final_eos};
            code = corpus_read(&v->corpus, v->o->data, &how, e);
            if (!code && v->o->notes) tell_remarks(&v->corpus, v->o->notes);
        } else if (strcmp(first, other)) {
            code =
                error_set(e, EXIT_BAD_DATA,
                          "%s and %s have different vocabularies, so their probabilities cannot be averaged",
                          v->member[0].path, m->path);
        }
        checkpoint_close(&c);
    }
    return code;
}

/* ---- scores ---- */

static int score_member(Eval *v, Member *m, Error *e)
{
    Checkpoint c;
    Model model;
    int code = checkpoint_open(&c, m->path, e);
    if (code) return code;
    code = model_load(&model, v->ops, &c, v->seq, v->batch, v->o->threads, e);
    checkpoint_close(&c);
    if (code) return code;
    if (v->o->notes) {
        char needed[32];
        size_t bytes = v->ops->held(model.backend) + corpus_bytes(&v->corpus) +
                       (size_t)v->ensemble.n * sizeof *v->ensemble.log_sum;
        fprintf(v->o->notes, "plstm: %s: %s needed\n", m->path, number_bytes(bytes, needed, sizeof needed));
    }
    ensemble_begin(&v->ensemble);
    code = model_score(&model, &v->corpus.split[v->o->split], split_name[v->o->split], v->rows, v->seq,
                       ensemble_visit, &v->ensemble, &m->score, e);
    if (!code && !isfinite(m->score.ppl))
        code = error_set(e, EXIT_DIVERGED, "diverged: the %s split's perplexity under %s is not finite",
                         split_name[v->o->split], m->path);
    if (!code) v->ops->describe(model.backend, v->device, sizeof v->device);
    model_close(&model);
    return code;
}

static void score_all(Eval *v)
{
    const Score *one = &v->member[0].score;
    v->all = *one;
    if (v->n == 1) return;
    ensemble_total(&v->ensemble, &v->all.nats, &v->all.tokens);
    v->all.ppl = exp(v->all.nats / (double)v->all.tokens);
    if (v->rows > 0) {
        int64_t columns = v->corpus.split[v->o->split].n / v->rows;
        v->all.ppl_paper = exp(v->all.nats / (double)(v->rows * (columns - 1)));
    }
}

static bool nats_of_average(const void *user, int64_t position, double *nats)
{
    return ensemble_nats(user, position, nats);
}

static int save_log_probs(Eval *v, Error *e)
{
    const Stream *s = &v->corpus.split[v->o->split];
    ScoredText text = {.paper_tokens = v->rows > 0 ? v->rows * (s->n / v->rows - 1) : 0};
    snprintf(text.split, sizeof text.split, "%s", split_name[v->o->split]);
    snprintf(text.protocol, sizeof text.protocol, "%s", protocol_name(v->o->protocol));
    vocab_sha256(&v->corpus.vocab, text.vocab_sha256);
    return token_log_probs_save(v->o->log_probs, &text, &v->ensemble, s->ids, e);
}

/* ---- telling ---- */

static void print_row(FILE *out, const Score *s, bool paper, const char *name)
{
    fprintf(out, "%12.3f", s->ppl);
    if (paper) fprintf(out, " %13.3f", s->ppl_paper);
    fprintf(out, "  %s\n", name);
}

static void print_table(const Eval *v, FILE *out)
{
    const Stream *s = &v->corpus.split[v->o->split];
    bool paper = v->rows > 0;
    fprintf(out, "%s of %s: %lld words, %lld unknown\n", split_name[v->o->split],
            v->corpus.known_as ? v->corpus.known_as : v->o->data, (long long)s->n, (long long)s->unknown);
    fprintf(out, "%lld words scored, protocol %s: ", (long long)v->all.tokens, protocol_name(v->o->protocol));
    if (paper) fprintf(out, "%lld rows, windows of %lld\n\n", (long long)v->rows, (long long)v->seq);
    else fprintf(out, "one sequential stream\n\n");
    fprintf(out, "%12s%s\n%12s%s\n", "perplexity", paper ? "    perplexity" : "",
            v->o->protocol == PROTOCOL_ZAREMBA ? "(zaremba)" : "(sequential)", paper ? " (paper count)" : "");
    for (int i = 0; i < v->n; i++) print_row(out, &v->member[i].score, paper, v->member[i].path);
    if (v->n > 1) {
        char name[64];
        snprintf(name, sizeof name, "ensemble of %d (average of probabilities)", v->n);
        print_row(out, &v->all, paper, name);
    }
}

static void make_line(const Eval *v, const ClassScore *classes, JsonLine *l)
{
    const Stream *s = &v->corpus.split[v->o->split];
    line_begin(l);
    line_string(l, "event", "eval");
    line_string(l, "version", PLSTM_VERSION);
    line_string(l, "commit", PLSTM_COMMIT);
    line_string(l, "split", split_name[v->o->split]);
    line_string(l, "protocol", protocol_name(v->o->protocol));
    line_int(l, "tokens", v->all.tokens);
    line_double(l, "nats", v->all.nats);
    line_double(l, "ppl", v->all.ppl);
    line_double(l, "ppl_paper", v->all.ppl_paper);
    line_open(l, "files", '[');
    for (int i = 0; i < v->n; i++) {
        const Member *m = &v->member[i];
        line_open(l, NULL, '{');
        line_string(l, "weights", m->path);
        line_int(l, "hidden", m->H);
        line_int(l, "layers", m->L);
        line_double(l, "keep", m->keep);
        line_double(l, "nats", m->score.nats);
        line_double(l, "ppl", m->score.ppl);
        line_double(l, "ppl_paper", m->score.ppl_paper);
        line_close(l, '}');
    }
    line_close(l, ']');
    if (classes) report_classes_json(l, classes);
    line_string(l, "corpus", v->corpus.known_as);
    line_string(l, "corpus_sha256", v->corpus.sha256[0] ? v->corpus.sha256 : NULL);
    line_int(l, "words", s->n);
    line_int(l, "unknown", s->unknown);
    line_int(l, "batch", v->batch);
    line_int(l, "seq", v->seq);
    line_string(l, "backend", v->ops->name);
    line_string(l, "device", v->device);
    line_end(l);
}

static int tell(Eval *v, int log, FILE *out, Error *e)
{
    ClassScore classes;
    bool known = v->corpus.known && v->trained_here;
    int code = EXIT_DONE;
    JsonLine line = {0};
    if (known)
        code = classes_score(&classes, v->corpus.known, &v->corpus.split[v->o->split], nats_of_average,
                             &v->ensemble, e);
    if (code) return code;
    print_table(v, out);
    if (known) report_classes(out, &classes);
    if (log < 0) return EXIT_DONE;
    make_line(v, known ? &classes : NULL, &line);
    /* Only now, so that a run that fails leaves an earlier log as it is; a device or a pipe has nothing to
     * cut. */
    if (ftruncate(log, 0) && errno != EINVAL)
        return error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be written: %m", v->o->log_json);
    code = line_write(&line, log, "--log-json", v->o->log_json, e);
    line_free(&line);
    return code;
}

int eval_command(const EvalOptions *o, FILE *out, Error *e)
{
    Eval v = {.o = o};
    int log = -1;
    int code = list_members(&v, e);
    if (!code) code = backend_find(o->backend, &v.ops, e);
    if (!code) code = outputs_check(&v, e);
    if (!code && o->log_json) {
        log = open(o->log_json, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (log < 0) code = error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be written: %m", o->log_json);
    }
    if (!code) code = check_files(&v, e);
    if (!code) {
        v.rows = score_rows(o->protocol, (int)o->split, v.batch);
        if (ensemble_init(&v.ensemble, v.corpus.split[o->split].n))
            code = error_set(e, EXIT_FAILED, "memory ran out for the scores");
    }
    for (int i = 0; i < v.n && !code; i++) code = score_member(&v, &v.member[i], e);
    if (!code) {
        score_all(&v);
        if (o->log_probs) code = save_log_probs(&v, e);
        if (!code) code = tell(&v, log, out, e);
    }
    if (log >= 0 && close(log) && !code)
        code = error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be written: %m", o->log_json);
    ensemble_free(&v.ensemble);
    corpus_free(&v.corpus);
    free(v.member);
    return code;
}
