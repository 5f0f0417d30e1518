/* plstm translate: lines in, their translations out, in order. */
#ifndef PLSTM_TRANSLATE_COMMAND_H
#define PLSTM_TRANSLATE_COMMAND_H

#include <stdio.h>

#include "host/base/error.h"
#include "search.h"

/* Prints as search_print does. A byte-order mark before the first line is taken off. An empty line in gives an empty line (with nbest: one without words, of score 0).
 * EXIT_BAD_DATA: a NUL byte, a file that is no translation model, files of different vocabularies. */
int translate_command(const SearchOptions *o, FILE *in, FILE *out, Error *e);

#endif
