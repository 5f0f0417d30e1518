/* dump: what `plstm dump` writes: one minibatch's masks or gradients, or initial weights, so that another
 * program (the PyTorch twin) can compute the same and compare. */
#ifndef PLSTM_DUMP_H
#define PLSTM_DUMP_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/settings.h"

typedef enum DumpWhat { DUMP_MASKS, DUMP_GRADS, DUMP_INIT } DumpWhat;
#define DUMP_CHOICES "masks|grads|init" /* in that order */

/* Writes to path, as safetensors:
 *   masks  `mask.siteS` U8 (T,B,H), 1 where a value is kept, for every site S of SPEC 2, minibatch `step`
 * (any). No data is read. Sites `none` masks nothing: all ones, keep 1. grads  the gradient of the cost of
 * SPEC 5 by every parameter, unclipped, under the parameter's name, F32; window `step` of the first epoch,
 * from a zero state, with the masks of that step; weights as drawn, or those of settings->init_weights.
 *          Prints to out {"step":..,"loss":..,"nats":..,"tokens":..,"grad_norm":..}, which are metadata of
 * the file too. init   the initial weights under their names, F32; the corpus says V. Metadata, strings:
 * format = pt, dump = what, the model's settings, step. EXIT_USAGE: a step past the epoch's last window. */
int dump_command(DumpWhat what, const Settings *settings, int64_t step, const char *path, FILE *out,
                 FILE *notes, Error *e);

#endif
