/* eval_command: what `plstm eval` does: scores one split with one checkpoint, or with the ensemble of
 * several. */
#ifndef PLSTM_EVAL_COMMAND_H
#define PLSTM_EVAL_COMMAND_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/options.h"

typedef struct EvalOptions {
    const PathList *weights; /* at least one */
    const char *data;        /* folder or "synthetic" */
    int64_t split;           /* SPLIT_VALID or SPLIT_TEST */
    int64_t protocol;        /* Protocol */
    const char *backend;
    int threads;          /* 0: as many as this process may use */
    int64_t batch, seq;   /* 0: the first file's; they matter where the split is cut into rows (SPEC 6) */
    const char *log_json; /* or NULL */
    const char *
        log_probs; /* what the models, or their average, say to every word goes there (token_log_probs.h); or NULL */
    bool force, final_eos; /* how files are treated */
    FILE *notes;           /* where remarks about the text go, or NULL */
} EvalOptions;

/* Prints to out the perplexity of each file and of the average of their probabilities, each with its
 * protocol. The files may differ in H, L, keep, not in vocabulary. One model is in memory at a time.
 * EXIT_BAD_DATA: a file, the data or the log. */
int eval_command(const EvalOptions *o, FILE *out, Error *e);

#endif
