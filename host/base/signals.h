/* signals: SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGPIPE end a run after its current step; a second
 * signal ends the process at once. A signal that was inherited as ignored (nohup, a background job
 * of sh) stays ignored. */
#ifndef PLSTM_SIGNALS_H
#define PLSTM_SIGNALS_H

#include <signal.h>

/* The actions that signals_catch replaced. */
enum { SIGNALS = 5 };
typedef struct SignalHandlers {
    struct sigaction old[SIGNALS];
} SignalHandlers;

/* From here to signals_restore a signal only sets the number that signals_caught points to, and
 * writes `answer` to standard error at once, since a step may take a while. answer must outlive
 * signals_restore; NULL writes nothing. SIGPIPE writes no answer, and never ends the process as a
 * second signal. */
void signals_catch(SignalHandlers *old, const char *answer);
void signals_restore(const SignalHandlers *old);

/* Returns the address of the number of the first signal since signals_catch, 0 if there was none.
 * The address never changes. */
const volatile sig_atomic_t *signals_caught(void);

/* Returns "SIGINT" and so on, or "a signal" for a number that signals_catch does not catch. */
const char *signals_name(int number);

#endif
