/* plstm translate: lines in, their translations out, in order. */
#ifndef PLSTM_TRANSLATE_COMMAND_H
#define PLSTM_TRANSLATE_COMMAND_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/options.h"

typedef struct TranslateOptions {
    const PathList *weights; /* at least one */
    int64_t beam, batch;     /* width; sentences at a time */
    int64_t nbest;           /* 0: the best translation alone */
    double penalty;          /* scores are divided by length^penalty */
    const char *backend;
    int threads; /* 0: as many as this process may use */
    FILE *notes; /* remarks for people; NULL: none */
} TranslateOptions;

/* With nbest, a line for each of a sentence's translations: its number from 0, the words, the score, between them " ||| ".
 * A byte-order mark before the first line is taken off. An empty line in gives an empty line (with nbest: one without words, of score 0). EXIT_BAD_DATA: a NUL byte, a file
 * that is no translation model, files of different vocabularies. */
int translate_command(const TranslateOptions *o, FILE *in, FILE *out, Error *e);

#endif
