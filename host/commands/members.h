/* members: the files of --weights F[,F...], an ensemble where there are several. */
#ifndef PLSTM_MEMBERS_H
#define PLSTM_MEMBERS_H

#include "host/base/error.h"
#include "host/store/checkpoint.h"

/* What a file must share with the first one for their probabilities to be averaged: task, vocabularies, sizes of what
 * is read and predicted. EXIT_BAD_DATA otherwise. */
int members_agree(const Checkpoint *first, const char *first_path, const Checkpoint *c,
                  const char *path, Error *e);

#endif
