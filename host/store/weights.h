/* weights: --init-weights. It reads weights as other programs write them: names with the prefixes
 * of PyTorch's wrappers, half or double precision, a decoder tied to the encoder, a file in
 * shards. */
#ifndef PLSTM_WEIGHTS_H
#define PLSTM_WEIGHTS_H

#include "host/base/error.h"
#include "host/data/corpus.h"
#include "params.h"

/* Fills *into, whose shape says what is expected, from a safetensors file or from the index.json of
 * one in shards, with or without metadata, tensors in any order. Every tensor must have a place,
 * except state.h and state.c of a checkpoint from inside an epoch. A checkpoint of plstm must be of
 * the same task, and a vocabulary in the file must be *vocab (NULL: not compared). note: one
 * sentence that says how the weights were converted, or "". EXIT_BAD_DATA names file, tensor, found
 * and expected; an infinite or NaN weight is refused, too. */
enum { WEIGHTS_NOTE = 512 };
int weights_read(Params *into, const char *task, const Vocab *vocab, const char *path,
                 char note[WEIGHTS_NOTE], Error *e);

#endif
