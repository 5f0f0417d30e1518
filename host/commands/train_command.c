/* `plstm train`: checks a run's settings and files before anything is computed; trainer.c does the
 * training. */
#include <string.h>

#include "commands.h"
#include "host/backend/backend.h"
#include "host/base/output.h"
#include "host/plan/precision.h"
#include "host/store/checkpoint.h"
#include "host/train/trainer.h"

/* Merges the settings of a resumed run: those of the checkpoint and those given on the command
 * line. A setting that shapes the weights must equal the checkpoint's if an option or --preset
 * gives it. epochs, which a preset also sets, is the checkpoint's unless --epochs is given. */
static int settings_resume(Settings *s, const char *preset, const Checkpoint *c, Error *e)
{
    const Settings *file = &c->settings;
    if (settings_given(s, "task") && strcmp(s->task, c->task))
        return error_set(e, EXIT_USAGE,
                         "--task takes %s with --resume %s, which was trained for it, not '%s'",
                         c->task, s->resume, s->task);
    s->task = c->task;
    int code = settings_check_task(s, e);
    if (code) return code;
    for (int i = 0; i < settings_count(); i++) {
        const Option *o = settings_info(i);
        bool given = s->given >> i & 1, by_preset = preset && o->of_preset && !given;
        if (o->role == ROLE_FIXED && (given || by_preset) && !option_equal(o, s, file)) {
            char here[64], there[64];
            option_show(o, s, here, sizeof here);
            option_show(o, file, there, sizeof there);
            if (given)
                return error_set(
                    e, EXIT_USAGE,
                    "--%s takes %s with --resume %s, which was trained with it, not '%s'", o->name,
                    there, s->resume, here);
            return error_set(e, EXIT_USAGE,
                             "--preset %s has %s %s, but --resume %s was trained with %s", preset,
                             o->name, here, s->resume, there);
        }
        if (o->role != ROLE_RUN && !given) option_copy(o, s, file);
    }
    s->preset = file->preset;
    if (s->init_weights)
        return error_set(
            e, EXIT_USAGE,
            "--init-weights cannot be given with --resume: the weights are the checkpoint's");
    if (!s->data) s->data = c->data;
    if (!s->data)
        return error_set(e, EXIT_USAGE,
                         "--data is required: %s was trained on a folder, whose path a "
                         "checkpoint does not record",
                         s->resume);
    return EXIT_DONE;
}

/* Checks settings that need one another, and those that the backend restricts. */
static int settings_check(const Settings *s, const BackendOps *ops, Error *e)
{
    if (s->save_best && !(s->eval & EVAL_VALID))
        return error_set(
            e, EXIT_USAGE,
            "--save-best needs the valid split to be scored: give --eval valid or all");
    if (s->save_every > 0 && !s->save)
        return error_set(e, EXIT_USAGE, "--save-every needs --save, which names the file");
    if (strcmp(ops->name, "cuda")) {
        /* A kernel that comes from a resumed checkpoint is ignored: it was chosen for the backend
         * of that training. */
        if (settings_given(s, "kernel") && strcmp(s->kernel, "auto"))
            return error_set(e, EXIT_USAGE,
                             "--kernel takes auto with the %s backend, which has no "
                             "choice of kernels, not '%s'",
                             ops->name, s->kernel);
    }
    if (ops->f32_only && s->precision != PRECISION_F32)
        return error_set(
            e, EXIT_USAGE,
            "the %s backend computes in double and does not round: it takes --precision "
            "f32, not %s",
            ops->name, precision_name((LstmPrecision)s->precision));
    return EXIT_DONE;
}

/* Checks that no output overwrites a text that is read, and that none replaces a file of another
 * kind. A checkpoint may be saved over the one that was read. */
static int outputs_harmless(const Settings *s, const Task *task, Error *e)
{
    const Output output[] = {{"--save", s->save, &kind_checkpoint},
                             {"--save-best", s->save_best, &kind_checkpoint},
                             {"--log-json", s->log_json, &kind_train_log}};
    CorpusPaths read;
    int code = task->inputs(s, &read, e);
    if (code) return code;
    read.file[read.n++] = (OtherFile){"--resume", s->resume, &kind_checkpoint};
    read.file[read.n++] = (OtherFile){"--init-weights", s->init_weights, &kind_checkpoint};
    code = outputs_check(output, 3, read.file, read.n, s->force, e);
    corpus_paths_free(&read);
    return code;
}

/* Checks that the header of a checkpoint can hold the vocabularies of the data. */
static int vocabularies_fit(const Settings *s, const Task *task, const TaskData *data, Error *e)
{
    const char *path = s->save ? s->save : s->save_best;
    CheckpointData meta = {.vocab = NULL};
    if (!path) return EXIT_DONE;
    task->meta(data, &meta);
    int code = meta.vocab ? checkpoint_check_vocab(meta.vocab, path, e) : EXIT_DONE;
    return code || !meta.vocab_source ? code : checkpoint_check_vocab(meta.vocab_source, path, e);
}

static int train_prepared(const Settings *s, const Task *task, const Checkpoint *resume, bool quiet,
                          Error *e)
{
    const BackendOps *ops;
    int code = backend_find(s->backend, &ops, e);
    if (!code) code = settings_check(s, ops, e);
    if (!code) code = task_hint(task, s->data, outputs_harmless(s, task, e), e);
    if (code) return code;
    TaskData *data;
    code = task_hint(task, s->data,
                     task->open(&(TaskOpen){.settings = s, .from = resume}, &data, e), e);
    if (code) return code;
    if (!quiet && task->remarks) task->remarks(data, stderr);
    code = vocabularies_fit(s, task, data, e);
    if (!code) code = trainer_run(s, task, data, resume, quiet, e);
    task->close(data);
    return code;
}

static int train(const CommandLine *line, Error *e)
{
    const Task *task;
    Settings s = line->settings;
    if (!s.resume) {
        int code = task_find(s.task, &task, e);
        if (!code) code = settings_check_task(&s, e);
        if (code) return code;
        if (!s.data && line->preset && !strcmp(line->preset, "demo")) s.data = task->builtin;
        return s.data ? train_prepared(&s, task, NULL, line->quiet, e)
                      : option_missing("data", task->takes, e);
    }
    Checkpoint c;
    int code = checkpoint_open(&c, s.resume, e);
    if (code) return code;
    code = task_of(&c, s.resume, &task, e);
    if (!code) code = settings_resume(&s, line->preset, &c, e);
    if (!code) code = train_prepared(&s, task, &c, line->quiet, e);
    checkpoint_close(&c);
    return code;
}

const Command command_train = {
    .name = "train",
    .summary = "train a model",
    .about = "Trains an LSTM for --task, by default a word-level language model. The default "
             "--preset is the task's first (lm: small).",
    .settings = "",
    .preset = true,
    .run = train};
