/* eval_command: what `plstm eval` does: scores one split with one checkpoint, or with the ensemble of
 * several. */
#ifndef PLSTM_EVAL_COMMAND_H
#define PLSTM_EVAL_COMMAND_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/options.h"
#include "host/base/settings.h"

typedef struct EvalOptions {
    const PathList *weights; /* at least one */
    const char *split;       /* by its name: "valid", "test" */
    const char *log_probs;   /* what the models, or their average, say to every position goes there
                                (token_log_probs.h); or NULL */
    const char *confusion;   /* what the targets were taken for goes there (task.h); or NULL */
    Settings
        settings; /* given: data, protocol, backend, threads, log_json, force, final_eos; batch and seq only where they were */
    FILE *notes;        /* where remarks about the text go, or NULL */
    int64_t batch, seq; /* 0: the first file's; they matter where the split is cut into rows (SPEC 6) */
} EvalOptions;

/* Prints to out what the files' task measures of each file and of the average of their probabilities. The files may
 * differ in H, L, keep, not in task or vocabulary. One model is in memory at a time.
 * EXIT_BAD_DATA: a file, the data or the log. */
int eval_command(const EvalOptions *o, FILE *out, Error *e);

#endif
