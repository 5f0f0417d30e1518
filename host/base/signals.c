#include "signals.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} caught_signals[SIGNALS] = {{SIGINT, "SIGINT"},
                             {SIGTERM, "SIGTERM"},
                             {SIGHUP, "SIGHUP"},
                             {SIGUSR1, "SIGUSR1"},
                             {SIGPIPE, "SIGPIPE"}};

static volatile sig_atomic_t caught;
static const char *answer_text;
static size_t answer_length;

static void on_signal(int number)
{
    if (caught && number != SIGPIPE) _exit(128 + number);
    if (caught) return;
    caught = number;
    if (number == SIGPIPE || !answer_text) return;
    int kept = errno;
    ssize_t written = write(STDERR_FILENO, answer_text, answer_length);
    (void)written; /* nothing can report a failure here */
    errno = kept;
}

void signals_catch(SignalHandlers *old, const char *answer)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    caught = 0;
    answer_text = answer;
    answer_length = answer ? strlen(answer) : 0;
    for (int i = 0; i < SIGNALS; i++) {
        sigaction(caught_signals[i].number, NULL, &old->old[i]);
        if (old->old[i].sa_handler != SIG_IGN) sigaction(caught_signals[i].number, &action, NULL);
    }
}

void signals_restore(const SignalHandlers *old)
{
    for (int i = 0; i < SIGNALS; i++) sigaction(caught_signals[i].number, &old->old[i], NULL);
}

const volatile sig_atomic_t *signals_caught(void) { return &caught; }

const char *signals_name(int number)
{
    for (int i = 0; i < SIGNALS; i++)
        if (caught_signals[i].number == number) return caught_signals[i].name;
    return "a signal";
}
