/* model_load: a checkpoint's weights in a model that scores and never trains. */
#ifndef PLSTM_MODEL_LOAD_H
#define PLSTM_MODEL_LOAD_H

#include "host/store/checkpoint.h"
#include "model.h"

/* Opens *m for batches within limits; threads 0: as many as this process may use. hits: the ids of
 * the largest logits are kept. The weights are copied, so the checkpoint may be closed before the
 * model. */
int model_load(Model *m, const BackendOps *ops, const Checkpoint *c, BatchLimits limits, bool hits,
               int threads, Error *e);

#endif
