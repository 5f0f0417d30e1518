/* error: how an error that a user can cause travels from where it is found to main.
 *
 * A function that can fail returns an exit code (SPEC 8; 0 is success) and leaves one sentence in
 * *e. Broken promises inside the program are asserts, never Errors. */
#ifndef PLSTM_ERROR_H
#define PLSTM_ERROR_H

enum ExitCode {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_BAD_DATA = 3,
    EXIT_NO_DEVICE = 4,
    EXIT_DIVERGED = 5,
};

typedef struct Error {
    int code;        /* an ExitCode */
    char text[2048]; /* one sentence: what was found, where, what to do; no newline */
} Error;

/* Formats the sentence into *e and returns code, so that `return error_set(...)` reads well. e must
 * not be NULL. Control bytes in the result become '?', since a file name or a word of a file may
 * hold any byte. */
int error_set(Error *e, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
