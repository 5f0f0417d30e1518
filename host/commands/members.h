/* members: the files of --weights F[,F...], which form an ensemble if there are several. */
#ifndef PLSTM_MEMBERS_H
#define PLSTM_MEMBERS_H

#include "host/base/error.h"
#include "host/store/checkpoint.h"

/* Checks that a checkpoint agrees with the first one in all that averaging their probabilities
 * requires: task, vocabularies, and the sizes of inputs and outputs. EXIT_BAD_DATA: they differ. */
int members_agree(const Checkpoint *first, const char *first_path, const Checkpoint *c,
                  const char *path, Error *e);

#endif
