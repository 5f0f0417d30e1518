/* main: the commands (SPEC 8). Each reads its line, checks what belongs together, and calls the module that
 * does the work; a fault comes back as a code and one sentence, which is printed here and nowhere else. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/backend/backend.h"
#include "host/backend/blas.h"
#include "host/store/checkpoint.h"
#include "caption_command.h"
#include "data_command.h"
#include "devices_command.h"
#include "dump.h"
#include "ensemble_command.h"
#include "host/base/error.h"
#include "eval_command.h"
#include "info_command.h"
#include "host/base/options.h"
#include "plan_command.h"
#include "posteriors_command.h"
#include "host/store/safetensors.h"
#include "sample.h"
#include "translate_command.h"
#include "host/base/settings.h"
#include "host/base/output.h"
#include "host/train/report.h"
#include "host/train/run_corpus.h"
#include "host/train/trainer.h"
#include "host/base/version.h"

static int missing(const char *option, const char *takes, Error *e)
{
    return error_set(e, EXIT_USAGE, "--%s takes %s, and is missing", option, takes);
}

/* The demo has a corpus of its own. */
static bool wants_demo(const CommandLine *line)
{
    return line->preset_value && !strcmp(line->preset_value, "demo");
}

/* ---- train ---- */

/* Takes setting i over. Every field of Settings is eight bytes: an int64_t, a uint64_t, a double or a
 * pointer. */
static void setting_take(Settings *to, const Settings *from, int i)
{
    _Static_assert(sizeof(const char *) == 8 && sizeof(double) == 8, "fields of Settings have one size");
    size_t at = settings_info(i)->offset;
    memcpy((char *)to + at, (const char *)from + at, 8);
}

/* Whether --preset sets setting i: whether any preset leaves a mark on a field of nonsense. */
static bool of_preset(int i)
{
    Settings probe, untouched;
    Error e;
    memset(&untouched, 0xff, sizeof untouched);
    untouched.task = "lm";
    probe = untouched;
    settings_preset(&probe, "small", &e);
    size_t at = settings_info(i)->offset;
    return memcmp((const char *)&probe + at, (const char *)&untouched + at, 8) != 0;
}

/* The settings of a resumed run: the file's, and those given anew. What shapes the weights must agree where
 * it was given, by an option or by --preset; epochs, which a preset names too, are the file's unless --epochs
 * is given. */
static int settings_resume(Settings *s, const CommandLine *line, const Checkpoint *c, Error *e)
{
    const Settings *file = &c->settings;
    if (s->given >> settings_find("task") & 1 && strcmp(s->task, c->task))
        return error_set(e, EXIT_USAGE,
                         "--task takes %s with --resume %s, which was trained for it, not '%s'", c->task,
                         s->resume, s->task);
    s->task = c->task;
    int code = settings_check_task(s, e);
    if (code) return code;
    for (int i = 0; i < settings_count(); i++) {
        const SettingInfo *info = settings_info(i);
        bool given = s->given >> i & 1, by_preset = line->preset_value && of_preset(i) && !given;
        if (info->role == ROLE_FIXED && (given || by_preset) && !settings_equal(s, file, i)) {
            char here[64], there[64];
            settings_show(s, i, here, sizeof here);
            settings_show(file, i, there, sizeof there);
            if (given)
                return error_set(e, EXIT_USAGE,
                                 "--%s takes %s with --resume %s, which was trained with it, not '%s'",
                                 info->name, there, s->resume, here);
            return error_set(e, EXIT_USAGE, "--preset %s has %s %s, and --resume %s was trained with %s",
                             line->preset_value, info->name, here, s->resume, there);
        }
        if (info->role != ROLE_RUN && !given) setting_take(s, file, i);
    }
    s->preset = file->preset;
    if (s->init_weights)
        return error_set(e, EXIT_USAGE,
                         "--init-weights cannot be given with --resume: the weights are the checkpoint's");
    if (!s->data) s->data = c->data;
    if (!s->data)
        return error_set(
            e, EXIT_USAGE,
            "--data takes a folder, or synthetic: %s was trained on a folder, whose path it does not hold",
            s->resume);
    return EXIT_DONE;
}

/* What only makes sense together. */
static int settings_check(const Settings *s, const BackendOps *ops, Error *e)
{
    const char *path[] = {s->save, s->save_best, s->log_json, s->resume, s->init_weights};
    const char *option[] = {"--save", "--save-best", "--log-json", "--resume", "--init-weights"};
    /* Outputs are three files; a checkpoint may be saved over the one that was read, but a log must not be.
     */
    for (int i = 1; i < 5; i++)
        for (int j = i < 3 ? 0 : 2; j < (i < 3 ? i : 3); j++)
            if (path[i] && path[j] && same_file(path[i], path[j]))
                return error_set(e, EXIT_USAGE, "%s and %s take two files, not twice %s", option[j],
                                 option[i], path[i]);
    if (s->save_best && !(s->eval & EVAL_VALID))
        return error_set(e, EXIT_USAGE,
                         "--save-best needs the valid split scored: --eval takes valid or all with it");
    if (s->save_every > 0 && !s->save)
        return error_set(e, EXIT_USAGE, "--save-every needs --save, which names the file");
    if (strcmp(ops->name, "cuda")) {
        /* One that comes with a resumed file had its meaning where that was trained. */
        if (s->given >> settings_find("kernel") & 1 && strcmp(s->kernel, "auto"))
            return error_set(
                e, EXIT_USAGE,
                "--kernel takes auto with the %s backend, which has no kernels to choose from, not '%s'",
                ops->name, s->kernel);
    }
    if (ops->f32_only && strcmp(s->precision, "f32"))
        return error_set(e, EXIT_USAGE,
                         "the %s backend computes in double and rounds nothing: it takes --precision f32, "
                         "not %s",
                         ops->name, s->precision);
    return EXIT_DONE;
}

/* Whether a log can be written to path; an existing one keeps its bytes, a device is not replaced. */
static int log_writable(const char *path, Error *e)
{
    struct stat file;
    if (stat(path, &file) || S_ISDIR(file.st_mode)) return st_writable(path, "--log-json", e);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return error_set(e, EXIT_BAD_DATA, "--log-json %s cannot be written: %m", path);
    close(fd);
    return EXIT_DONE;
}

/* No output is a text that is read, and none takes the place of a file of another kind. */
static int outputs_harmless(const Settings *s, const Task *task, Error *e)
{
    CorpusPaths texts;
    int code = task->inputs(s, &texts, e);
    if (code) return code;
    if (s->save) code = output_check("--save", s->save, &kind_checkpoint, texts.file, texts.n, s->force, e);
    if (!code && s->save_best)
        code = output_check("--save-best", s->save_best, &kind_checkpoint, texts.file, texts.n, s->force, e);
    if (!code && s->log_json)
        code = output_check("--log-json", s->log_json, &kind_train_log, texts.file, texts.n, s->force, e);
    corpus_paths_free(&texts);
    return code;
}

static int outputs_writable(const Settings *s, const Task *task, Error *e)
{
    int code = outputs_harmless(s, task, e);
    if (!code && s->save) code = st_writable(s->save, "--save", e);
    if (!code && s->save_best) code = st_writable(s->save_best, "--save-best", e);
    if (!code && s->log_json) code = log_writable(s->log_json, e);
    return code;
}

/* Whether a checkpoint's header can hold the vocabularies of the data. */
static int vocabularies_fit(const Settings *s, const Task *task, const TaskData *data, Error *e)
{
    const char *path = s->save ? s->save : s->save_best;
    CheckpointData meta = {.vocab = NULL};
    if (!path) return EXIT_DONE;
    task->meta(data, &meta);
    int code = meta.vocab ? checkpoint_check_vocab(meta.vocab, path, e) : EXIT_DONE;
    return code || !meta.vocab_source ? code : checkpoint_check_vocab(meta.vocab_source, path, e);
}

static int train_prepared(const Settings *s, const Task *task, const Checkpoint *resume, bool quiet, Error *e)
{
    const BackendOps *ops;
    int code = backend_find(s->backend, &ops, e);
    if (!code) code = settings_check(s, ops, e);
    if (!code) code = outputs_writable(s, task, e);
    if (code) return code;
    TaskData *data;
    code = task->open(&(TaskOpen){.settings = s, .from = resume}, &data, e);
    if (code) return code;
    if (!quiet && task->remarks) task->remarks(data, stderr);
    code = vocabularies_fit(s, task, data, e);
    if (!code) code = trainer_run(s, task, data, resume, quiet, e);
    task->close(data);
    return code;
}

/* Options of several commands that say how files are treated. */
#define FORCE_OPTION(to)                                                                                     \
    {                                                                                                        \
        .name = "force", .help = "overwrite also what is a file of another kind, or one that is read",       \
        .type = OPTION_FLAG, .value = (to)                                                                   \
    }
#define FINAL_EOS_OPTION(to)                                                                                 \
    {                                                                                                        \
        .name = "final-eos",                                                                                 \
        .help = "add <eos> where a text's last line lacks its newline, as pytorch/examples does",            \
        .type = OPTION_FLAG, .value = (to)                                                                   \
    }

static int train(int argc, char **argv, Error *e)
{
    const char *names[64] = {NULL};
    for (int i = 0; i < settings_count(); i++) names[i] = settings_info(i)->name;
    bool force = false, final_eos = false;
    const Option own[] = {FORCE_OPTION(&force), FINAL_EOS_OPTION(&final_eos)};
    CommandLine line = {
        .command = "train",
        .summary = "Trains an LSTM for --task, a word-level language model unless another is given. Without "
                   "--preset the values of the task's first one hold (lm: small).",
        .options = own,
        .n_options = 2,
        .settings = names,
        .preset = true};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    s.force = force, s.final_eos = final_eos;

    const Task *task;
    if (!s.resume) {
        code = task_find(s.task, &task, e);
        if (!code) code = settings_check_task(&s, e);
        if (code) return code;
        if (!s.data && wants_demo(&line)) s.data = task->builtin;
        if (!s.data) return missing("data", task->takes, e);
        return train_prepared(&s, task, NULL, line.quiet, e);
    }
    Checkpoint c;
    code = checkpoint_open(&c, s.resume, e);
    if (code) return code;
    code = task_of(&c, s.resume, &task, e);
    if (!code) code = settings_resume(&s, &line, &c, e);
    if (!code) code = train_prepared(&s, task, &c, line.quiet, e);
    checkpoint_close(&c);
    return code;
}

/* ---- commands that read checkpoints ---- */

static int eval_parsed(int argc, char **argv, PathList *weights, Error *e)
{
    static const char *const settings[] = {"data",  "protocol", "backend",  "threads",
                                           "batch", "seq",      "log-json", NULL};
    static const char weights_takes[] = "a checkpoint, or several separated by commas";
    EvalOptions o = {.notes = stderr, .split = "test"};
    bool force = false, final_eos = false;
    const Option own[] = {
        {.name = "weights",
         .arg = "F[,F...]",
         .takes = weights_takes,
         .help = "a checkpoint, or several: their probabilities are averaged too; may be given more than "
                 "once, and a file "
                 "whose name holds a comma is one",
         .type = OPTION_PATHS,
         .value = weights},
        {.name = "split",
         .arg = "NAME",
         .takes = "valid or test",
         .help = "which split is scored, valid or test, or the name of another test that the task has",
         .initial = "test",
         .type = OPTION_TEXT,
         .value = &o.split},
        {.name = "token-log-probs",
         .arg = "F.npy",
         .takes = "a file",
         .help =
             "what the model, or the average of several, says to every scored position: log p as an array "
             "of NumPy, which plstm ensemble averages",
         .type = OPTION_PATH,
         .value = &o.log_probs},
        {.name = "confusion",
         .arg = "F",
         .takes = "a file",
         .help = "what the labels of a frames model were taken for: a table between tabs, a row a label",
         .type = OPTION_PATH,
         .value = &o.confusion},
        FORCE_OPTION(&force),
        FINAL_EOS_OPTION(&final_eos),
    };
    CommandLine line = {
        .command = "eval",
        .summary =
            "Prints the perplexity of checkpoints and of their ensemble. batch and seq, by which protocol "
            "zaremba cuts the valid split, are the first file's unless given.",
        .options = own,
        .n_options = sizeof own / sizeof own[0],
        .settings = settings,
        .no_defaults = true};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    if (!weights->n) return missing("weights", weights_takes, e);
    if (!strcmp(o.split, "train"))
        return error_set(e, EXIT_USAGE, "--split takes %s, not 'train'", own[1].takes);
    if (!s.data) return missing("data", tasks[0]->takes, e);
    s.force = force, s.final_eos = final_eos;
    o.weights = weights;
    o.settings = s;
    if (line.quiet) o.notes = NULL;
    o.batch = line.setting[settings_find("batch")] ? s.batch : 0;
    o.seq = line.setting[settings_find("seq")] ? s.seq : 0;
    return eval_command(&o, stdout, e);
}

static int eval(int argc, char **argv, Error *e)
{
    PathList weights = {0};
    int code = eval_parsed(argc, argv, &weights, e);
    path_list_free(&weights);
    return code;
}

static int ensemble_parsed(int argc, char **argv, PathList *files, Error *e)
{
    EnsembleOptions o = {.files = files, .orders = 200, .seed = 1};
    const Option own[] = {
        {.name = "svg",
         .arg = "F",
         .takes = "a file",
         .help = "the curve over the number of members, as a figure",
         .type = OPTION_PATH,
         .value = &o.svg},
        {.name = "orders",
         .arg = "N",
         .takes = "a whole number from 1 to 1000000",
         .help = "ensembles of a size that are averaged over, drawn at random where there are more",
         .initial = "200",
         .type = OPTION_INT,
         .low = 1,
         .high = 1e6,
         .value = &o.orders},
        {.name = "seed",
         .arg = "N",
         .takes = "a whole number from 0 to 18446744073709551615",
         .help = "seed of that draw",
         .initial = "1",
         .type = OPTION_U64,
         .value = &o.seed},
        FORCE_OPTION(&o.force),
    };
    static const char *const settings[] = {"log-json", NULL};
    CommandLine line = {
        .command = "ensemble",
        .summary = "Prints the perplexity of averages of models, from what plstm eval --token-log-probs "
                   "wrote for each "
                   "of them: of all, and of 1, 2, 5, 10, 20, 50 ... of them with the spread over which.",
        .options = own,
        .n_options = 4,
        .settings = settings,
        .operand = "F.npy...",
        .operands = files};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    o.log_json = s.log_json;
    return ensemble_command(&o, stdout, e);
}

static int ensemble(int argc, char **argv, Error *e)
{
    PathList files = {0};
    int code = ensemble_parsed(argc, argv, &files, e);
    path_list_free(&files);
    return code;
}

static int sample(int argc, char **argv, Error *e)
{
    static const char *const settings[] = {"backend", "threads", NULL};
    SampleOptions o = {.words = 100, .temperature = 1, .seed = 1};
    const Option own[] = {
        {.name = "weights",
         .arg = "F",
         .takes = "a checkpoint",
         .help = "a checkpoint",
         .type = OPTION_PATH,
         .value = &o.weights},
        {.name = "prompt",
         .arg = "TEXT",
         .takes = "the words that the text begins with",
         .help = "the words that the text begins with",
         .type = OPTION_TEXT,
         .value = &o.prompt},
        {.name = "words",
         .arg = "N",
         .takes = "a whole number from 0 to 1000000000",
         .help = "words to draw, ends of sentences included",
         .initial = "100",
         .type = OPTION_INT,
         .high = 1e9,
         .value = &o.words},
        {.name = "temperature",
         .arg = "X",
         .takes = "a number from 0 to 1e6",
         .help = "what the logits are divided by; 0 takes the likeliest word",
         .initial = "1",
         .type = OPTION_DOUBLE,
         .high = 1e6,
         .value = &o.temperature},
        {.name = "top-k",
         .arg = "K",
         .takes = "a whole number from 1 to 1000000000",
         .help = "draw from the K likeliest words only",
         .type = OPTION_INT,
         .low = 1,
         .high = 1e9,
         .value = &o.top_k},
        {.name = "seed",
         .arg = "N",
         .takes = "a whole number from 0 to 18446744073709551615",
         .help = "seed of the draws: the same text each time",
         .initial = "1",
         .type = OPTION_U64,
         .value = &o.seed},
    };
    CommandLine line = {.command = "sample",
                        .summary = "Draws a text from a checkpoint, word by word.",
                        .options = own,
                        .n_options = 6,
                        .settings = settings};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    if (!o.weights) return missing("weights", "a checkpoint", e);
    o.backend = s.backend;
    o.threads = (int)s.threads;
    return sample_command(&o, stdout, line.quiet ? NULL : stderr, e);
}

/* ---- commands that search ---- */

/* Those of every command that finds words by beam search. */
#define SEARCH_OPTIONS(o, files, weights_takes, batch_name, batch_help)                                      \
    {.name = "weights",                                                                                      \
     .arg = "F[,F...]",                                                                                      \
     .takes = (weights_takes),                                                                               \
     .help = "a model of the task, or several, whose probabilities are averaged",                            \
     .type = OPTION_PATHS,                                                                                   \
     .value = (files)},                                                                                      \
        {.name = "beam",                                                                                     \
         .arg = "N",                                                                                         \
         .takes = "a whole number from 1 to 1000",                                                           \
         .help = "outputs that are followed at a time; 1 takes the likeliest word each time",                \
         .initial = "12",                                                                                    \
         .type = OPTION_INT,                                                                                 \
         .low = 1,                                                                                           \
         .high = 1000,                                                                                       \
         .value = &(o)->beam},                                                                               \
        {.name = "nbest",                                                                                    \
         .arg = "N",                                                                                         \
         .takes = "a whole number from 1 to 1000",                                                           \
         .help = "print the N best of each: number ||| words ||| score",                                     \
         .type = OPTION_INT,                                                                                 \
         .low = 1,                                                                                           \
         .high = 1000,                                                                                       \
         .value = &(o)->nbest},                                                                              \
        {.name = "length-penalty",                                                                           \
         .arg = "A",                                                                                         \
         .takes = "a number from 0 to 10",                                                                   \
         .help = "the score is the sum of log p divided by length^A, the end counted",                       \
         .initial = "0",                                                                                     \
         .type = OPTION_DOUBLE,                                                                              \
         .high = 10,                                                                                         \
         .value = &(o)->penalty},                                                                            \
        {.name = "json",                                                                                     \
         .help = "an object a line: the words of each output, their log p and score",                        \
         .type = OPTION_FLAG,                                                                                \
         .value = &(o)->json},                                                                               \
    {                                                                                                        \
        .name = (batch_name), .arg = "N", .takes = "a whole number from 1 to 1000", .help = (batch_help),    \
        .initial = "20", .type = OPTION_INT, .low = 1, .high = 1000, .value = &(o)->batch                    \
    }

/* What their line says, once it is parsed. */
static int search_options(SearchOptions *o, CommandLine *line, const PathList *weights,
                          const char *weights_takes, Settings *s, Error *e)
{
    int code = options_settings(line, s, e);
    if (code) return code;
    if (!weights->n) return missing("weights", weights_takes, e);
    if (o->nbest > o->beam)
        return error_set(e, EXIT_USAGE,
                         "--nbest %lld needs --beam to be as large: a beam of %lld finds no more",
                         (long long)o->nbest, (long long)o->beam);
    o->weights = weights;
    o->backend = s->backend;
    o->threads = (int)s->threads;
    o->notes = line->quiet ? NULL : stderr;
    return EXIT_DONE;
}

static int translate_parsed(int argc, char **argv, PathList *weights, Error *e)
{
    static const char *const settings[] = {"backend", "threads", NULL};
    static const char takes[] = "a translation model, or several separated by commas";
    SearchOptions o = {.beam = 12, .batch = 20};
    const Option own[] = {
        SEARCH_OPTIONS(&o, weights, takes, "sentences", "sentences that are translated at a time"),
    };
    CommandLine line = {
        .command = "translate",
        .summary = "Translates standard input, a sentence a line, its words between spaces, by beam search.",
        .options = own,
        .n_options = sizeof own / sizeof own[0],
        .settings = settings};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = search_options(&o, &line, weights, takes, &s, e);
    return code ? code : translate_command(&o, stdin, stdout, e);
}

static int translate(int argc, char **argv, Error *e)
{
    PathList weights = {0};
    int code = translate_parsed(argc, argv, &weights, e);
    path_list_free(&weights);
    return code;
}

static int posteriors_parsed(int argc, char **argv, PathList *weights, Error *e)
{
    static const char *const settings[] = {"backend", "threads", NULL};
    static const char weights_takes[] = "a frames model, or several separated by commas";
    PosteriorsOptions o = {.batch = 20, .as = AS_POSTERIORS};
    const Option own[] = {
        {.name = "weights",
         .arg = "F[,F...]",
         .takes = weights_takes,
         .help = "a frames model, or several, whose probabilities are averaged",
         .type = OPTION_PATHS,
         .value = weights},
        {.name = "features",
         .arg = "F",
         .takes = "feats.scp, feats.ark or a folder that holds one",
         .help = "the utterances: feats.scp, feats.ark or a folder that holds one; no labels are needed",
         .type = OPTION_PATH,
         .value = &o.features},
        {.name = "out",
         .arg = "F.ark",
         .takes = "a file",
         .help = "archive of Kaldi to write: for each utterance a matrix, a row a frame, a column a label",
         .type = OPTION_PATH,
         .value = &o.out},
        {.name = "as",
         .arg = "NAME",
         .takes = "posteriors, log-posteriors or log-likelihoods",
         .help = "posteriors, log-posteriors, or log-likelihoods: log-posteriors less the logarithms of the "
                 "labels' shares "
                 "in training, as decoders want them",
         .initial = "posteriors",
         .type = OPTION_CHOICE,
         .choices = POSTERIORS_AS,
         .value = &o.as},
        {.name = "utterances",
         .arg = "N",
         .takes = "a whole number from 1 to 1000",
         .help = "utterances that are read at a time",
         .initial = "20",
         .type = OPTION_INT,
         .low = 1,
         .high = 1000,
         .value = &o.batch},
        FORCE_OPTION(&o.force),
    };
    CommandLine line = {
        .command = "posteriors",
        .summary =
            "Writes what a frames model says of every frame, for a decoder that reads Kaldi's archives.",
        .options = own,
        .n_options = sizeof own / sizeof own[0],
        .settings = settings};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    if (!weights->n) return missing("weights", weights_takes, e);
    if (!o.features) return missing("features", own[1].takes, e);
    if (!o.out) return missing("out", own[2].takes, e);
    o.weights = weights;
    o.backend = s.backend;
    o.threads = (int)s.threads;
    o.notes = line.quiet ? NULL : stderr;
    return posteriors_command(&o, e);
}

static int posteriors(int argc, char **argv, Error *e)
{
    PathList weights = {0};
    int code = posteriors_parsed(argc, argv, &weights, e);
    path_list_free(&weights);
    return code;
}

static int caption_parsed(int argc, char **argv, PathList *weights, Error *e)
{
    static const char *const settings[] = {"backend", "threads", "data", NULL};
    static const char takes[] = "a caption model, or several separated by commas";
    CaptionOptions o = {.search = {.beam = 12, .batch = 20}};
    const Option own[] = {
        SEARCH_OPTIONS(&o.search, weights, takes, "images", "images that are described at a time"),
        {.name = "features",
         .arg = "X.npy",
         .takes = "an array of NumPy, an image a row",
         .help = "features of images: every row is described",
         .type = OPTION_PATH,
         .value = &o.features},
        {.name = "split",
         .arg = "NAME",
         .takes = "train, valid or test",
         .help = "which images of --data are described: train, valid or test",
         .initial = "test",
         .type = OPTION_TEXT,
         .value = &o.split},
    };
    CommandLine line = {
        .command = "caption",
        .summary = "Describes images, a line each, by beam search: the rows of --features, or a split of "
                   "--data (dataset.json and features.npy, or scenes).",
        .options = own,
        .n_options = sizeof own / sizeof own[0],
        .settings = settings};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = search_options(&o.search, &line, weights, takes, &s, e);
    if (code) return code;
    if (!o.features == !s.data)
        return error_set(e, EXIT_USAGE, "plstm caption takes images from --features or from --data, %s",
                         s.data ? "not from both" : "and neither is given");
    if (o.features && o.split)
        return error_set(e, EXIT_USAGE, "--split is of --data: every row of --features is described");
    if (!o.split) o.split = "test";
    o.data = s.data;
    return caption_command(&o, stdout, e);
}

static int caption(int argc, char **argv, Error *e)
{
    PathList weights = {0};
    int code = caption_parsed(argc, argv, &weights, e);
    path_list_free(&weights);
    return code;
}

/* ---- dump ---- */

static int dump(int argc, char **argv, Error *e)
{
    static const char *const settings[] = {"hidden", "layers",       "batch",         "seq",     "keep",
                                           "init",   "seed",         "dropout-sites", "backend", "threads",
                                           "data",   "init-weights", "vocab",         NULL};
    static const char what_takes[] = "masks, grads or init";
    const char *path = NULL;
    int64_t what = -1, step = 0;
    bool force = false, final_eos = false;
    const Option own[] = {
        {.name = "what",
         .arg = "NAME",
         .takes = what_takes,
         .help = "one minibatch's masks (U8) or gradients, or initial weights",
         .type = OPTION_CHOICE,
         .choices = DUMP_CHOICES,
         .value = &what},
        {.name = "out",
         .arg = "F",
         .takes = "a file",
         .help = "safetensors file to write",
         .type = OPTION_PATH,
         .value = &path},
        {.name = "step",
         .arg = "N",
         .takes = "a whole number from 0",
         .help = "the minibatch, counted over the run",
         .initial = "0",
         .type = OPTION_INT,
         .high = 1e15,
         .value = &step},
        FORCE_OPTION(&force),
        FINAL_EOS_OPTION(&final_eos),
    };
    CommandLine line = {
        .command = "dump",
        .summary =
            "Writes what a run computes with, for comparison with another program. Gradients are those of "
            "minibatch N of the first epoch from a zero state, unclipped; their loss is printed as JSON.",
        .options = own,
        .n_options = 5,
        .settings = settings,
        .preset = true};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;
    if (what < 0) return missing("what", what_takes, e);
    if (!path) return missing("out", "a file", e);
    if (!s.data && wants_demo(&line)) s.data = "synthetic";
    if (!s.data && what != DUMP_MASKS) return missing("data", tasks[0]->takes, e);
    if (s.init_weights && what != DUMP_GRADS)
        return error_set(
            e, EXIT_USAGE,
            "--init-weights goes with --what grads only: there it says where the gradients are taken");
    s.force = force, s.final_eos = final_eos;
    CorpusPaths texts;
    code = corpus_paths(&texts, what == DUMP_MASKS ? NULL : s.data, s.vocab, e);
    if (code) return code;
    texts.file[texts.n++] = (OtherFile){"--init-weights", s.init_weights};
    code = output_check("--out", path, &kind_dump, texts.file, texts.n, s.force, e);
    corpus_paths_free(&texts);
    if (!code) code = st_writable(path, "--out", e);
    return code ? code : dump_command((DumpWhat)what, &s, step, path, stdout, line.quiet ? NULL : stderr, e);
}

/* ---- commands with one operand ---- */

static int data(int argc, char **argv, Error *e)
{
    bool final_eos = false;
    static const char *const settings[] = {"task", "source", "target", "min-count", "cmvn", NULL};
    const char *folder = NULL;
    const Option own[] = {
        {.name = "write",
         .arg = "FOLDER",
         .takes = "a folder",
         .help = "write built-in data into it: synthetic with --task translate or frames, scenes with --task "
                 "caption",
         .type = OPTION_TEXT,
         .value = &folder},
        FINAL_EOS_OPTION(&final_eos),
    };
    CommandLine line = {
        .command = "data",
        .summary = "Prints tokens, types, unknown words and hashes of a data folder, or of built-in data.",
        .options = own,
        .n_options = 2,
        .settings = settings,
        .operand = "DIR"};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (!code) code = settings_check_task(&s, e);
    if (code) return code;
    s.data = line.operand_value;
    bool pairs = !strcmp(s.task, "translate"), frames = !strcmp(s.task, "frames"),
         captions = !strcmp(s.task, "caption");
    if (folder && !((pairs || frames) && !strcmp(s.data, "synthetic")) &&
        !(captions && !strcmp(s.data, "scenes")))
        return error_set(e, EXIT_USAGE,
                         "--write takes built-in data: data synthetic --task translate or frames, or data "
                         "scenes --task caption");
    if (folder)
        code = pairs    ? data_write_command(folder, e)
               : frames ? data_write_frames_command(folder, e)
                        : data_write_scenes(folder, e);
    if (code) return code;
    if (!strcmp(s.task, "lm")) return data_command(s.data, final_eos, stdout, line.quiet ? NULL : stderr, e);
    return captions ? data_captions_command(&s, stdout, e)
           : frames ? data_frames_command(&s, stdout, e)
                    : data_pairs_command(&s, stdout, e);
}

static int info(int argc, char **argv, Error *e)
{
    CommandLine line = {.command = "info",
                        .summary = "Prints what a checkpoint, or any other safetensors file, holds.",
                        .operand = "F"};
    int code = options_parse(&line, argc, argv, e);
    return code || line.helped ? code : info_command(line.operand_value, stdout, e);
}

static int devices(int argc, char **argv, Error *e)
{
    CommandLine line = {.command = "devices",
                        .summary = "Prints the GPUs that the cuda backend could run on."};
    int code = options_parse(&line, argc, argv, e);
    return code || line.helped ? code : devices_command(stdout, e);
}

/* ---- plans ---- */

static int plan(int argc, char **argv, Error *e)
{
    PlanOptions o = {.preset = -1};
    const Option own[] = {
        {.name = "device",
         .arg = "NAME",
         .help = "K20, K40, V100, A100, H100, H200, B200, or all of them and the GPU here",
         .initial = "the GPU here, without one H200",
         .type = OPTION_TEXT,
         .value = &o.device},
        {.name = "preset",
         .arg = "NAME",
         .takes = "small, medium, large or all",
         .help = "the paper's models",
         .initial = "all, or small beside an option of a size",
         .type = OPTION_CHOICE,
         .choices = PLAN_PRESETS,
         .value = &o.preset},
        {.name = "hidden",
         .arg = "N",
         .takes = "a whole number from 1 to 65536",
         .help = "units in place of the preset's",
         .type = OPTION_INT,
         .low = 1,
         .high = 65536,
         .value = &o.hidden},
        {.name = "batch",
         .arg = "N",
         .takes = "a whole number from 1 to 65536",
         .help = "batch in place of the preset's",
         .type = OPTION_INT,
         .low = 1,
         .high = 65536,
         .value = &o.batch},
        {.name = "seq",
         .arg = "N",
         .takes = "a whole number from 1 to 65536",
         .help = "steps of a launch in place of the preset's",
         .type = OPTION_INT,
         .low = 1,
         .high = 65536,
         .value = &o.seq},
        {.name = "precision",
         .arg = "NAME",
         .takes = "f32, tf32, bf16 or all",
         .help = "of the products; a variant without it is planned in float32, all leaves such rows out",
         .initial = "f32",
         .type = OPTION_CHOICE,
         .choices = PLAN_PRECISIONS,
         .value = &o.precision},
        {.name = "kernel",
         .arg = "NAME",
         .help = "one variant, or FWD/BWD; plstm variants lists them",
         .initial = "all",
         .type = OPTION_TEXT,
         .value = &o.kernel},
        {.name = "plan",
         .arg = "LIST",
         .help = "what plans must keep to, like blocks=4,replicas=2: blocks of a replica, threads, registers "
                 "(of a "
                 "thread that hold weights), shared (bytes), replicas, groups, slices, batch, tile",
         .type = OPTION_TEXT,
         .value = &o.plan},
        {.name = "constants",
         .arg = "F",
         .help = "constants of the model that beat the built-in ones, as profiles/model/constants.json or as "
                 "bench_gpu "
                 "measures them",
         .takes = "a file",
         .type = OPTION_PATH,
         .value = &o.constants},
        {.name = "json",
         .help = "an object per line in place of tables",
         .type = OPTION_FLAG,
         .value = &o.json},
    };
    CommandLine line = {.command = "plan",
                        .summary =
                            "Prints how each variant of the recurrence would lie on a GPU, present or not: "
                            "its launch, what stays on chip, "
                            "what moves in a step, and the time that a model predicts; or what ran out.\v"
                            "us a step (model) = hop + ingest of h + max(multiply-adds, shared memory, "
                            "streamed weights) + partial sums + cell + "
                            "block barriers, from constants of the literature "
                            "(profiles/model/constants.json) or measured ones. It is "
                            "no measurement.",
                        .options = own,
                        .n_options = sizeof own / sizeof own[0]};
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    if (o.preset < 0) o.preset = o.hidden || o.batch || o.seq ? PLAN_SMALL : PLAN_ALL;
    return plan_command(&o, stdout, e);
}

static int variants(int argc, char **argv, Error *e)
{
    CommandLine line = {.command = "variants",
                        .summary =
                            "Prints the variants of the recurrence, and whether this build can run them."};
    int code = options_parse(&line, argc, argv, e);
    return code || line.helped ? code : variants_command(stdout, e);
}

/* ---- the program ---- */

static const struct Command {
    const char *name, *summary;
    int (*run)(int argc, char **argv, Error *e);
} commands[] = {
    {"train", "train a model", train},
    {"eval", "perplexity of checkpoints and of their ensemble", eval},
    {"ensemble", "perplexity of averages of models, from what eval wrote for each", ensemble},
    {"sample", "draw a text", sample},
    {"translate", "translate sentences", translate},
    {"posteriors", "what a frames model says of every frame", posteriors},
    {"caption", "describe images", caption},
    {"dump", "write one minibatch's masks or gradients, or initial weights", dump},
    {"info", "what a checkpoint holds", info},
    {"data", "what a data folder holds", data},
    {"devices", "the GPUs of this machine", devices},
    {"plan", "how each variant of the recurrence lies on a GPU", plan},
    {"variants", "the variants of the recurrence", variants},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("Usage: plstm COMMAND [OPTION...]\n"
           "LSTM language models with dropout on the non-recurrent connections (arXiv 1409.2329).\n\n");
    for (int i = 0; i < COMMANDS; i++) printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    printf("\n  --help     print this page; plstm COMMAND --help prints a command's options\n"
           "  --version  print the version\n\n"
           "Exit codes: 0 done, 1 failed, 2 usage, 3 bad data or file, 4 no device, 5 diverged, 128 + "
           "the signal (130 after SIGINT, 143 after SIGTERM).\n");
}

static int run(int argc, char **argv, const struct Command **command, Error *e)
{
    char names[256] = "";
    for (int i = 0; i < COMMANDS; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s",
                 !i                 ? ""
                 : i + 1 < COMMANDS ? ", "
                                    : " or ",
                 commands[i].name);
    }
    if (argc < 2) return error_set(e, EXIT_USAGE, "a command is missing: %s", names);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "--version")) {
        if (argc > 2)
            return error_set(e, EXIT_USAGE, "%s stands alone, and '%s' follows it", argv[1], argv[2]);
        if (!strcmp(argv[1], "--help")) print_help();
        else printf("plstm %s (%s)\n", PLSTM_VERSION, PLSTM_COMMIT);
        return EXIT_DONE;
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name)) continue;
        *command = &commands[i];
        return commands[i].run(argc - 1, argv + 1, e);
    }
    return error_set(e, EXIT_USAGE, "'%s' is not a command: there is %s", argv[1], names);
}

int main(int argc, char **argv)
{
    blas_ensure_core(argv);
    /* A write past the file size limit then fails with a cause, as on a full disk, instead of ending the
     * process. */
    signal(SIGXFSZ, SIG_IGN);
    Error e = {0};
    const struct Command *command = NULL;
    int code = run(argc, argv, &command, &e);
    if (!code && (fflush(stdout) || ferror(stdout)))
        code = error_set(&e, EXIT_FAILED, "standard output cannot be written: %m");
    if (e.code && code == EXIT_USAGE)
        fprintf(stderr, "plstm: %s; see plstm %s%s--help\n", e.text, command ? command->name : "",
                command ? " " : "");
    else if (e.code) fprintf(stderr, "plstm: %s\n", e.text);
    return code;
}
