/* main: finds the command and runs it (SPEC 8). A command that fails returns an exit code and one
 * sentence, which only this file prints. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "host/backend/blas.h"
#include "host/base/number.h"
#include "host/base/version.h"

static const Command *const commands[] = {
    &command_train,      &command_eval,    &command_ensemble, &command_sample, &command_translate,
    &command_posteriors, &command_caption, &command_dump,     &command_info,   &command_data,
    &command_devices,    &command_plan,    &command_variants,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("Usage: plstm COMMAND [OPTION...]\n"
           "LSTM language models with dropout on the non-recurrent connections (arXiv "
           "1409.2329).\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf(
        "\n  --help     print this page; plstm COMMAND --help prints a command's options\n"
        "  --version  print the version\n\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 bad data or file, 4 no device, 5 diverged, 128 + "
        "the signal (130 after SIGINT, 143 after SIGTERM).\n");
}

/* Returns whether the command trains or runs a model, which is so if it has --backend. */
static bool command_computes(const Command *c)
{
    return c->settings && (!c->settings[0] || choice_index(c->settings, "backend") >= 0);
}

static int run(int argc, char **argv, const Command **command, Error *e)
{
    char names[256] = "";
    for (int i = 0; i < COMMANDS; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s",
                 !i                 ? ""
                 : i + 1 < COMMANDS ? ", "
                                    : " or ",
                 commands[i]->name);
    }
    if (argc < 2) return error_set(e, EXIT_USAGE, "a command is missing: %s", names);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "--version")) {
        if (argc > 2)
            return error_set(e, EXIT_USAGE, "unexpected argument '%2$s': %1$s takes none", argv[1],
                             argv[2]);
        if (!strcmp(argv[1], "--help")) print_help();
        else printf("plstm %s (%s)\n", PLSTM_VERSION, PLSTM_COMMIT);
        return EXIT_DONE;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i]->name)) *command = commands[i];
    if (!*command)
        return error_set(e, EXIT_USAGE, "'%s' is not a command; give %s", argv[1], names);
    CommandLine line;
    int code = command_parse(&line, *command, argc - 1, argv + 1, e);
    if (!code && !line.help) {
        if (command_computes(*command)) blas_ensure_core(argv, line.notes);
        code = (*command)->run(&line, e);
    }
    command_line_free(&line);
    return code;
}

int main(int argc, char **argv)
{
    /* By default, a write past the file size limit ends the process. With the signal ignored, the
     * write fails with EFBIG, which is reported as a full disk is. */
    signal(SIGXFSZ, SIG_IGN);
    Error e = {0};
    const Command *command = NULL;
    int code = run(argc, argv, &command, &e);
    if (!code && (fflush(stdout) || ferror(stdout)))
        code = error_set(&e, EXIT_FAILED, "standard output cannot be written: %m");
    if (e.code && code == EXIT_USAGE)
        fprintf(stderr, "plstm: %s; see plstm %s%s--help\n", e.text, command ? command->name : "",
                command ? " " : "");
    else if (e.code) fprintf(stderr, "plstm: %s\n", e.text);
    return code;
}
