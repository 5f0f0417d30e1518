/* members: the files of --weights F[,F...], which form an ensemble if there are several. */
#ifndef PLSTM_MEMBERS_H
#define PLSTM_MEMBERS_H

#include "host/base/error.h"
#include "host/store/checkpoint.h"

/* Checks what a file must share with the first one so that their probabilities can be averaged:
 * task, vocabularies, and the sizes of what is read and predicted. EXIT_BAD_DATA: it does not. */
int members_agree(const Checkpoint *first, const char *first_path, const Checkpoint *c,
                  const char *path, Error *e);

#endif
