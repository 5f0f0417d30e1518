/* data_command: what `plstm data DIR` prints about a data folder or the built-in corpus. */
#ifndef PLSTM_DATA_COMMAND_H
#define PLSTM_DATA_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "host/base/error.h"

/* Reads the corpus (corpus_load's rules and faults) and prints to out: tokens, types and unknown words of
 * each split, the hashes, the corpus's name where it is recognised; for the built-in one also the best
 * possible perplexity and the number of positions of each class. EXIT_FAILED when out cannot be written. */
int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e);

#endif
