/* signals: SIGINT and SIGTERM end a run after its running step; a second signal ends the process at once. */
#ifndef PLSTM_SIGNALS_H
#define PLSTM_SIGNALS_H

#include <signal.h>

/* The handlers that signals_catch replaced. */
typedef struct SignalHandlers {
    struct sigaction interrupt, terminate;
} SignalHandlers;

/* From here to signals_restore a signal only sets the number that signals_caught points to. */
void signals_catch(SignalHandlers *old);
void signals_restore(const SignalHandlers *old);

/* The number of the signal that came since signals_catch, 0: none. Always the same address. */
const volatile sig_atomic_t *signals_caught(void);

/* "SIGINT" or "SIGTERM". */
const char *signals_name(int number);

#endif
