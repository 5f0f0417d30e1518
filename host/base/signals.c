#include "signals.h"

#include <unistd.h>

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    if (caught) _exit(128 + number);
    caught = number;
}

void signals_catch(SignalHandlers *old)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    caught = 0;
    sigaction(SIGINT, &action, &old->interrupt);
    sigaction(SIGTERM, &action, &old->terminate);
}

void signals_restore(const SignalHandlers *old)
{
    sigaction(SIGINT, &old->interrupt, NULL);
    sigaction(SIGTERM, &old->terminate, NULL);
}

const volatile sig_atomic_t *signals_caught(void) { return &caught; }

const char *signals_name(int number) { return number == SIGINT ? "SIGINT" : "SIGTERM"; }
