#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/json_line.h"
#include "host/base/number.h"
#include "host/base/replace.h"
#include "host/base/version.h"
#include "host/plan/precision.h"

struct Report {
    RunInfo info;
    Settings settings;
    bool quiet;

    int log;                /* descriptor of the log; -1: there is no log */
    int64_t threads_before; /* threads of the run whose log is continued; -1: unknown */
    JsonLine line;

    /* Progress on standard error. No clock is read: the seconds of a step are its tokens divided by
     * words_per_s. */
    bool terminal;
    bool line_shown;  /* the progress line is on the screen */
    int64_t total;    /* minibatches of the whole run */
    int shown;        /* twentieths of the run reported so far */
    double seconds;   /* time of this process's steps */
    double tokens;    /* tokens of the same steps */
    double rewritten; /* seconds when the line was last rewritten */
};

static const char log_opening[] = "{\"event\":\"run\",";

/* ---- the log's lines ---- */

static void run_line(JsonLine *l, const RunInfo *info)
{
    const Settings *s = info->settings;
    line_begin(l);
    line_string(l, "event", "run");
    line_string(l, "version", PLSTM_VERSION);
    line_string(l, "commit", PLSTM_COMMIT);
    line_string(l, "preset", s->preset);
    for (int i = 0; i < settings_count(); i++) {
        const Option *o = settings_info(i);
        /* Paths and flags only say where files are and how they are treated, so they are not
         * logged. */
        if (o->type == TYPE_PATH || o->type == TYPE_FLAG || !settings_of_task(i, s->task)) continue;
        if (!info->kernel && !strcmp(o->name, "kernel")) line_string(l, o->name, NULL);
        else option_json(o, s, l);
    }
    line_string(l, "device", info->device);
    info->task->log_run(info->data, s, l);
    line_int(l, "windows", info->windows);
    line_int(l, "parameters", info->parameters);
    line_int(l, "bytes", (int64_t)info->bytes);
    line_end(l);
}

/* The first write to standard output that fails ends a run, since nobody would see what follows. */
static int flush_stdout(Error *e)
{
    return fflush(stdout) || ferror(stdout)
               ? error_set(e, EXIT_FAILED, "standard output cannot be written: %m")
               : EXIT_DONE;
}

static int log_line(Report *r, Error *e)
{
    return r->log < 0 ? EXIT_DONE
                      : line_write(&r->line, r->log, "--log-json", r->info.settings->log_json, e);
}

/* ---- perplexity by position class, for train and eval ---- */

void report_classes(FILE *out, const ClassScore *classes)
{
    fprintf(out,
            "best possible   %.3f (the exact distribution of the built-in corpus, same words)\n",
            classes->best_ppl);
    fprintf(out, "  %-12s %10s %10s %8s\n", "class", "ppl", "best", "words");
    for (int k = 0; k < classes->known->classes; k++) {
        double n = (double)classes->tokens[k];
        if (!classes->tokens[k]) continue;
        fprintf(out, "  %-12s %10.3f %10.3f %8lld\n", classes->known->name[k],
                exp(classes->nats[k] / n), exp(classes->best_nats[k] / n),
                (long long)classes->tokens[k]);
    }
}

void report_classes_json(JsonLine *l, const ClassScore *classes)
{
    line_double(l, "best_ppl", classes->best_ppl);
    line_open(l, "classes", '{');
    for (int k = 0; k < classes->known->classes; k++) {
        double n = (double)classes->tokens[k]; /* if it is 0, both numbers are null */
        line_open(l, classes->known->name[k], '{');
        line_double(l, "ppl", exp(classes->nats[k] / n));
        line_double(l, "best_ppl", exp(classes->best_nats[k] / n));
        line_int(l, "tokens", classes->tokens[k]);
        line_close(l, '}');
    }
    line_close(l, '}');
}

/* ---- continuing a log ---- */

/* Returns whether an uninterrupted run would have written this line by the time of `at`. */
static bool event_stays(const char *text, size_t n, const Counters *at)
{
    json_t *line = json_loadb(text, n, 0, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    bool stays = false;
    if (event && !strcmp(event, "step")) {
        const json_t *step = json_object_get(line, "step");
        stays = json_is_integer(step) && json_integer_value(step) < at->step;
    } else if (event && !strcmp(event, "epoch")) {
        const json_t *epoch = json_object_get(line, "epoch");
        stays = json_is_integer(epoch) && json_integer_value(epoch) < at->epoch;
    }
    json_decref(line);
    return stays;
}

/* Returns the run line's value under a key, or -1. */
static int64_t run_value(const char *text, size_t n, const char *key)
{
    json_t *line = json_loadb(text, n, 0, NULL);
    const json_t *value = json_object_get(line, key);
    int64_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    json_decref(line);
    return number;
}

/* Writes the run line again, followed by the lines of the old log that stay. */
static int log_copy(Report *r, FILE *from, Replacement *to, const char *path, Error *e)
{
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
    int code = EXIT_DONE;
    int fd = replace_begin(to) ? -1 : dup(to->fd);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok = out && fwrite(r->line.text, 1, r->line.n, out) == r->line.n;
    for (int64_t number = 0; !code && ok && (n = getline(&text, &size, from)) > 0; number++) {
        size_t opening = sizeof log_opening - 1, known = (size_t)n < opening ? (size_t)n : opening;
        if (!number && memcmp(text, log_opening, known))
            code = error_set(e, EXIT_BAD_DATA,
                             "--log-json %s is not a log of plstm train; it was not changed", path);
        else if (!number) r->threads_before = run_value(text, (size_t)n, "threads");
        else if (text[n - 1] == '\n' && event_stays(text, (size_t)n, r->info.resumed))
            ok = fwrite(text, 1, (size_t)n, out) == (size_t)n;
    }
    if (out && fclose(out)) ok = false;
    else if (!out && fd >= 0) close(fd);
    if (!code && ok && ferror(from))
        code = error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be read: %m", path);
    free(text);
    char what[PATH_MAX + 16];
    snprintf(what, sizeof what, "--log-json %s", path);
    if (!code) return replace_finish(to, ok, what, e);
    replace_cancel(to);
    return code;
}

/* Rewrites the log at path for the resumed run. A new file replaces the old one, so that a kill
 * loses nothing. */
static int log_rewrite(Report *r, FILE *from, const char *path, Error *e)
{
    Replacement to;
    char what[PATH_MAX + 16];
    snprintf(what, sizeof what, "--log-json %s", path);
    int code = replace_open(&to, path, what, e);
    return code ? code : log_copy(r, from, &to, path, e);
}

static int log_open(Report *r, Error *e)
{
    const char *path = r->info.settings->log_json;
    struct stat file;
    bool there = stat(path, &file) == 0 && S_ISREG(file.st_mode);
    run_line(&r->line, &r->info);
    if (r->line.no_memory)
        return error_set(e, EXIT_FAILED, "memory ran out while --log-json %s was opened", path);
    bool goes_on = r->info.resumed && there;
    if (goes_on) {
        FILE *from = fopen(path, "re");
        if (!from) return error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be read: %m", path);
        int code = log_rewrite(r, from, path, e);
        fclose(from);
        if (code) return code;
    }
    r->log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (goes_on ? 0 : O_TRUNC), 0666);
    if (r->log < 0) return error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be written: %m", path);
    return goes_on ? EXIT_DONE : log_line(r, e);
}

/* ---- the header, the table of epochs and the progress line ---- */

/* Returns the width of column i of the table of epochs, which has one column per figure. */
static int column_width(int i) { return i == 0 ? 14 : i == 1 ? 20 : 18; }

static void columns_print(const RunInfo *info)
{
    Figure f[2 * TASK_FIGURES];
    int n = info->task->figures(info->data, info->settings, 0, NULL, f);
    n += info->task->figures(info->data, info->settings, 1, NULL, f + n);
    printf("\n%5s", "epoch");
    for (int i = 0; i < n; i++)
        if (f[i].heading) printf(" %*s", column_width(i), f[i].heading);
    printf(" %10s %9s\n%5s", "lr", "seconds", "");
    for (int i = 0; i < n; i++)
        if (f[i].heading) printf(" %*s", column_width(i), f[i].note);
    printf("\n");
}

/* Returns whether a resumed run has neither a minibatch nor the end of an epoch left to do. */
static bool nothing_left(const Report *r)
{
    const Counters *at = r->info.resumed;
    bool epoch_ends = at && at->minibatch > 0 && at->minibatch == r->info.windows;
    return at && at->step >= r->total && !epoch_ends;
}

/* Prints what is about to run, and how large it is. */
static void header_print(const Report *r)
{
    const RunInfo *info = &r->info;
    const Settings *s = info->settings;
    const ModelShape *shape = &info->shape;
    char bytes[32];
    bytes_text(info->bytes, bytes, sizeof bytes);
    printf("model      H %lld, L %lld, ", (long long)s->hidden, (long long)s->layers);
    if (shape->F) printf("F %lld, ", (long long)shape->F);
    if (shape->V_in == shape->V_out) printf("V %lld", (long long)shape->V_out);
    else if (shape->V_in)
        printf("V %lld in, %lld out", (long long)shape->V_in, (long long)shape->V_out);
    else printf("%lld classes", (long long)shape->V_out);
    printf(": %lld parameters, %s needed\n", (long long)info->parameters, bytes);
    char keep[40];
    printf("dropout    keep %s, sites %s\n", double_text(s->keep, keep, sizeof keep),
           sites_name(s->sites));
    info->task->print_data(info->data, s, stdout);
    printf("minibatch  B %lld", (long long)s->batch);
    if (settings_of_task(settings_find("seq"), s->task)) printf(", T %lld", (long long)s->seq);
    if (info->windows > 0)
        printf(": %lld per epoch, %lld epoch%s", (long long)info->windows, (long long)s->epochs,
               s->epochs == 1 ? "" : "s");
    printf("\n");
    printf("backend    %s%s%s: %s, %s\n", s->backend, info->kernel ? " " : "",
           info->kernel ? s->kernel : "", info->device,
           precision_name((LstmPrecision)s->precision));
    if (info->resumed)
        printf("resumed    after step %lld, in epoch %lld\n", (long long)info->resumed->step,
               (long long)info->resumed->epoch);
    if (!nothing_left(r)) columns_print(info);
    else if (info->resumed->step == r->total)
        printf("nothing left to train: %lld of %lld minibatches are done\n", (long long)r->total,
               (long long)r->total);
    else
        printf("nothing left to train: %lld minibatches are done, and the run ends after %lld\n",
               (long long)info->resumed->step, (long long)r->total);
    fflush(stdout);
}

static const char *ppl_text(char *out, size_t size, double ppl)
{
    if (isnan(ppl)) snprintf(out, size, "-");
    else snprintf(out, size, ppl < 1e7 ? "%.3f" : "%.3e", ppl);
    return out;
}

static const char *figure_text(char *out, size_t size, const Figure *f)
{
    if (f->kind == FIGURE_PPL || isnan(f->value)) return ppl_text(out, size, f->value);
    if (f->kind == FIGURE_SHARE) snprintf(out, size, "%.2f %%", 100 * f->value);
    else snprintf(out, size, "%.4f", f->value);
    return out;
}

/* Removes the progress line from the screen, so that something else can be printed. */
static void progress_clear(Report *r)
{
    if (r->line_shown) fputs("\r\033[K", stderr);
    r->line_shown = false;
}

static void progress_text(const Report *r, const StepInfo *s, double speed, char *out, size_t size)
{
    char ppl[32], eta[32] = "?";
    double left = (double)(r->total - s->step - 1) * (double)s->tokens / (r->tokens / r->seconds);
    if (isfinite(left) && left >= 0 && left < 1e9) {
        int64_t t = (int64_t)(left + 0.5);
        if (t >= 3600)
            snprintf(eta, sizeof eta, "%lld h %02lld min", (long long)(t / 3600),
                     (long long)(t / 60 % 60));
        else
            snprintf(eta, sizeof eta, "%lld min %02lld s", (long long)(t / 60),
                     (long long)(t % 60));
    }
    snprintf(out, size,
             "epoch %lld/%lld  step %lld/%lld  train ppl %s (as trained)  %.0f %s/s  norm %.3g  lr "
             "%.4g  "
             "ETA %s",
             (long long)s->epoch, (long long)r->settings.epochs, (long long)s->step + 1,
             (long long)r->total,
             ppl_text(ppl, sizeof ppl, exp(s->epoch_nats / (double)s->epoch_tokens)), speed,
             r->info.task->unit, s->grad_norm, s->lr, eta);
}

static void progress_show(Report *r, const StepInfo *s)
{
    char text[256];
    r->tokens += (double)s->tokens;
    if (s->words_per_s > 0 && isfinite(s->words_per_s))
        r->seconds += (double)s->tokens / s->words_per_s;
    if (r->terminal) {
        if (r->line_shown && r->seconds - r->rewritten < 0.1) return;
        struct winsize window;
        int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1
                          ? window.ws_col
                          : 80;
        progress_text(r, s, s->words_per_s, text, sizeof text);
        /* a line that wraps could not be rewritten */
        fprintf(stderr, "\r%.*s\033[K", columns - 1, text);
        r->line_shown = true;
        r->rewritten = r->seconds;
        return;
    }
    int now = r->total > 0 ? (int)((double)(s->step + 1) * 20 / (double)r->total) : 0;
    if (now <= r->shown) return;
    r->shown = now;
    progress_text(r, s, r->tokens / r->seconds, text, sizeof text);
    fprintf(stderr, "%3d %%  %s\n", 5 * now, text);
}

/* ---- the interface ---- */

int report_open(Report **out, const RunInfo *info, bool quiet, Error *e)
{
    Report *r = calloc(1, sizeof *r);
    if (!r) return error_set(e, EXIT_FAILED, "memory ran out while the run was started");
    r->info = *info;
    r->settings = *info->settings;
    r->info.settings = &r->settings;
    r->quiet = quiet;
    r->log = -1;
    r->terminal = isatty(STDERR_FILENO);
    r->total = info->windows * r->settings.epochs;
    if (r->settings.max_steps >= 0 && r->settings.max_steps < r->total)
        r->total = r->settings.max_steps;
    if (info->resumed && r->total > 0)
        r->shown = (int)((double)info->resumed->step * 20 / (double)r->total);
    int code = r->settings.log_json ? log_open(r, e) : EXIT_DONE;
    if (code) {
        report_close(r);
        return code;
    }
    header_print(r);
    if (r->threads_before > 0 && r->threads_before != r->settings.threads)
        report_say(r,
                   "the log's run had %lld thread%s and continues with %lld: its last bits may "
                   "differ from those of an uninterrupted run",
                   (long long)r->threads_before, r->threads_before == 1 ? "" : "s",
                   (long long)r->settings.threads);
    *out = r;
    return EXIT_DONE;
}

int report_step(Report *r, const StepInfo *s, bool log, Error *e)
{
    if (!r->quiet) progress_show(r, s);
    if (!log || r->log < 0) return EXIT_DONE;
    JsonLine *l = &r->line;
    line_begin(l);
    line_string(l, "event", "step");
    line_int(l, "step", s->step);
    line_int(l, "epoch", s->epoch);
    line_double(l, "loss", s->loss);
    line_double(l, "nats", s->nats);
    line_int(l, "tokens", s->tokens);
    line_double(l, "grad_norm", s->grad_norm);
    line_double(l, "lr", s->lr);
    line_double(l, "words_per_s", s->words_per_s);
    line_end(l);
    return log_line(r, e);
}

int report_epoch(Report *r, const EpochInfo *i, Error *e)
{
    JsonLine *l = &r->line;
    line_begin(l);
    line_string(l, "event", "epoch");
    line_int(l, "epoch", i->epoch);
    for (int k = 0; k < i->n; k++) line_double(l, i->figure[k].key, i->figure[k].value);
    line_double(l, "lr", i->lr);
    line_double(l, "seconds", i->seconds);
    line_end(l);
    return log_line(r, e);
}

int report_epoch_row(Report *r, const EpochInfo *i, Error *e)
{
    char text[32];
    progress_clear(r);
    printf("%5lld", (long long)i->epoch);
    for (int k = 0; k < i->n; k++)
        if (i->figure[k].heading)
            printf(" %*s", column_width(k), figure_text(text, sizeof text, &i->figure[k]));
    printf(" %10.4g %9.1f\n", i->lr, i->seconds);
    return flush_stdout(e);
}

int report_split(Report *r, int split, const Figure *f, int n, const Totals *totals, Error *e)
{
    static const char *const measure[] = {"perplexity", "accuracy", "nats"};
    const RunInfo *info = &r->info;
    const char *name = info->task->split_name(info->data, split);
    const char *protocol = settings_of_task(settings_find("protocol"), r->settings.task)
                               ? protocol_name(r->settings.protocol)
                               : NULL;
    bool test = split > 1;
    char text[32];
    progress_clear(r);
    printf("%s %s %s (%s%s%lld %s)", name, measure[f->kind], figure_text(text, sizeof text, f),
           protocol ? protocol : "", protocol ? ", " : "", (long long)totals->scored,
           info->task->unit);
    for (int i = 1; i < n; i++)
        if (!isnan(f[i].value))
            printf(", %s %s", figure_text(text, sizeof text, &f[i]), f[i].phrase);
    printf("\n");
    if (test && info->task->print_test) info->task->print_test(info->data, split, totals, stdout);
    int code = flush_stdout(e);
    JsonLine *l = &r->line;
    line_begin(l);
    line_string(l, "event", test ? "test" : "valid");
    if (test && strcmp(name, "test")) line_string(l, "split", name);
    for (int i = 0; i < n; i++) /* a test's line leaves out figures that do not apply */
        if (!i || !test || !isnan(f[i].value)) line_double(l, f[i].key, f[i].value);
    if (protocol) line_string(l, "protocol", protocol);
    line_int(l, "tokens", totals->scored);
    if (test && info->task->log_test) info->task->log_test(info->data, split, totals, l);
    line_end(l);
    return code ? code : log_line(r, e);
}

void report_say(Report *r, const char *format, ...)
{
    va_list args;
    if (r->quiet) return;
    progress_clear(r);
    fputs("plstm: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void report_close(Report *r)
{
    if (!r) return;
    progress_clear(r);
    if (r->log >= 0) close(r->log);
    line_free(&r->line);
    free(r);
}
