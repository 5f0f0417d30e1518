/* info_command: what `plstm info F` prints. */
#ifndef PLSTM_INFO_COMMAND_H
#define PLSTM_INFO_COMMAND_H

#include <stdio.h>

#include "host/base/error.h"

/* Prints to out what a safetensors file holds: for a checkpoint of ours where its run stands, the settings
 * and the vocabulary, for any other file its metadata; then every tensor with dtype, shape and bytes. Bytes
 * that a terminal would act on are printed as '?'. EXIT_BAD_DATA: not a safetensors file, or one with plstm
 * metadata that is not a sound checkpoint (its tensors and metadata are printed nevertheless). */
int info_command(const char *path, FILE *out, Error *e);

#endif
