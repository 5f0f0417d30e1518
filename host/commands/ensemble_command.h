/* ensemble_command: what `plstm ensemble` does: perplexities of averages of models from what each said to every word
 * (host/train/token_log_probs.h), without the models. */
#ifndef PLSTM_ENSEMBLE_COMMAND_H
#define PLSTM_ENSEMBLE_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/options.h"

typedef struct EnsembleOptions {
    const PathList *files; /* at least one */
    const char *log_json;  /* or NULL */
    const char *svg;       /* or NULL */
    int64_t orders;        /* subsets of a size that are looked at where there are more */
    uint64_t seed;         /* which */
    bool force;
} EnsembleOptions;

/* Prints to out the perplexity of each file, of the average of all, and of averages of 1, 2, 5, 10, 20, 50 ... of them. */
int ensemble_command(const EnsembleOptions *o, FILE *out, Error *e);

#endif
