/* main: the commands (SPEC 8). Each reads its line, checks what belongs together, and calls the module that
 * does the work; a fault comes back as a code and one sentence, which is printed here and nowhere else. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "checkpoint.h"
#include "corpus.h"
#include "data_command.h"
#include "error.h"
#include "info_command.h"
#include "options.h"
#include "safetensors.h"
#include "settings.h"
#include "trainer.h"
#include "version.h"

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
    for (int i = 0; i < settings_count(); i++) {
        const SettingInfo *info = settings_info(i);
        bool given = s->given >> i & 1, by_preset = line->preset_value && of_preset(i) && !given;
        if (info->role == ROLE_FIXED && (given || by_preset) && !settings_equal(s, file, i)) {
            char here[64], there[64];
            settings_format(s, i, here, sizeof here);
            settings_format(file, i, there, sizeof there);
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
    if (!s->data && c->synthetic) s->data = "synthetic";
    if (!s->data)
        return error_set(
            e, EXIT_USAGE,
            "--data takes a folder, or synthetic: %s was trained on a folder, whose path it does not hold",
            s->resume);
    return EXIT_DONE;
}

/* The corpus must be the one that the file was trained on. It is read afresh rather than through the file's
 * vocabulary, so that another corpus is told as such and not by the first word that is new. */
static int corpus_agrees(const Corpus *corpus, const Checkpoint *c, const Settings *s, Error *e)
{
    char here[65], there[65];
    vocab_sha256(&corpus->vocab, here);
    vocab_sha256(&c->vocab, there);
    if (strcmp(corpus->sha256, c->corpus_sha256))
        return error_set(e, EXIT_USAGE,
                         "--data %s is not the corpus that %s was trained on: its hash begins with %.16s, "
                         "the file's with %.16s",
                         s->data, s->resume, corpus->sha256, c->corpus_sha256);
    if (strcmp(here, there))
        return error_set(e, EXIT_USAGE,
                         "--data %s is not the corpus that %s was trained on: its words differ", s->data,
                         s->resume);
    return EXIT_DONE;
}

/* What only makes sense together. */
static int settings_check(const Settings *s, const BackendOps *ops, Error *e)
{
    const char *path[] = {s->save, s->save_best, s->log_json},
               *option[] = {"--save", "--save-best", "--log-json"};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < i; j++)
            if (path[i] && path[j] && !strcmp(path[i], path[j]))
                return error_set(e, EXIT_USAGE, "%s and %s take two files, not twice %s", option[j],
                                 option[i], path[i]);
    if (s->save_best && !(s->eval & EVAL_VALID))
        return error_set(e, EXIT_USAGE,
                         "--save-best needs the valid split scored: --eval takes valid or all with it");
    if (s->save_every > 0 && !s->save)
        return error_set(e, EXIT_USAGE, "--save-every needs --save, which names the file");
    if (strcmp(ops->name, "cuda")) {
        if (strcmp(s->kernel, "auto"))
            return error_set(
                e, EXIT_USAGE,
                "--kernel takes auto with the %s backend, which has no kernels to choose from, not '%s'",
                ops->name, s->kernel);
        if (strcmp(s->precision, "f32"))
            return error_set(e, EXIT_USAGE, "--precision takes f32 with the %s backend, not '%s'", ops->name,
                             s->precision);
    }
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

static int outputs_writable(const Settings *s, Error *e)
{
    int code = s->save ? st_writable(s->save, "--save", e) : EXIT_DONE;
    if (!code && s->save_best) code = st_writable(s->save_best, "--save-best", e);
    if (!code && s->log_json) code = log_writable(s->log_json, e);
    return code;
}

static int train_prepared(const Settings *s, const Checkpoint *resume, bool quiet, Error *e)
{
    const BackendOps *ops;
    int code = backend_find(s->backend, &ops, e);
    if (!code) code = settings_check(s, ops, e);
    if (!code) code = outputs_writable(s, e);
    if (code) return code;
    Corpus corpus;
    code = corpus_load(&corpus, s->data, NULL, e);
    if (code) return code;
    if (resume) code = corpus_agrees(&corpus, resume, s, e);
    if (!code) code = trainer_run(s, &corpus, resume, quiet, e);
    corpus_free(&corpus);
    return code;
}

static int train(int argc, char **argv, Error *e)
{
    const char *names[64] = {NULL};
    for (int i = 0; i < settings_count(); i++) names[i] = settings_info(i)->name;
    CommandLine line = {
        .command = "train",
        .summary = "Trains a word-level LSTM language model. Without --preset the values of small hold.",
        .settings = names,
        .preset = true};
    Settings s;
    int code = options_parse(&line, argc, argv, e);
    if (code || line.helped) return code;
    code = options_settings(&line, &s, e);
    if (code) return code;

    if (!s.resume) {
        if (!s.data && line.preset_value && !strcmp(line.preset_value, "demo")) s.data = "synthetic";
        if (!s.data)
            return error_set(
                e, EXIT_USAGE,
                "--data takes a folder with train.txt, valid.txt and test.txt, or synthetic, and is missing");
        return train_prepared(&s, NULL, line.quiet, e);
    }
    Checkpoint c;
    code = checkpoint_open(&c, s.resume, e);
    if (code) return code;
    code = settings_resume(&s, &line, &c, e);
    if (!code) code = train_prepared(&s, &c, line.quiet, e);
    checkpoint_close(&c);
    return code;
}

/* ---- commands with one operand ---- */

static int data(int argc, char **argv, Error *e)
{
    CommandLine line = {
        .command = "data",
        .summary = "Prints tokens, types, unknown words and hashes of a data folder, or of synthetic.",
        .operand = "DIR"};
    int code = options_parse(&line, argc, argv, e);
    return code || line.helped ? code : data_command(line.operand_value, stdout, e);
}

static int info(int argc, char **argv, Error *e)
{
    CommandLine line = {.command = "info",
                        .summary = "Prints what a checkpoint, or any other safetensors file, holds.",
                        .operand = "F"};
    int code = options_parse(&line, argc, argv, e);
    return code || line.helped ? code : info_command(line.operand_value, stdout, e);
}

/* ---- the program ---- */

static const struct Command {
    const char *name, *summary;
    int (*run)(int argc, char **argv, Error *e);
} commands[] = {
    {"train", "train a model", train},
    {"info", "what a checkpoint holds", info},
    {"data", "what a data folder holds", data},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("Usage: plstm COMMAND [OPTION...]\n"
           "LSTM language models with dropout on the non-recurrent connections (arXiv 1409.2329).\n\n");
    for (int i = 0; i < COMMANDS; i++) printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    printf("\n  --help     print this page; plstm COMMAND --help prints a command's options\n"
           "  --version  print the version\n\n"
           "Exit codes: 0 done, 1 failed, 2 usage, 3 bad data or file, 4 no device, 5 diverged, 130 and 143 "
           "after SIGINT and SIGTERM.\n");
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
