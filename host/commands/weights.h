/* weights: the files of --weights F[,F...], an ensemble where there are several. */
#ifndef PLSTM_WEIGHTS_H
#define PLSTM_WEIGHTS_H

#include "host/base/error.h"
#include "host/store/checkpoint.h"

/* Cuts text at its commas, in place: *path (*n), malloc'd, points into it. EXIT_USAGE: an empty name. */
int weights_split(char *text, char ***path, int *n, Error *e);

/* What a file must share with the first one for their probabilities to be averaged: task, vocabularies, sizes of what
 * is read and predicted. EXIT_BAD_DATA otherwise. */
int weights_agree(const Checkpoint *first, const char *first_path, const Checkpoint *c, const char *path,
                  Error *e);

#endif
