/* model_load: opens a model with a checkpoint's weights, to score and never to train. */
#ifndef PLSTM_MODEL_LOAD_H
#define PLSTM_MODEL_LOAD_H

#include "host/store/checkpoint.h"
#include "model.h"

/* Opens *m for batches within limits; threads 0: as many as this process may use. hits: whether the
 * id of the largest logit of each position is kept. The weights are copied, so the checkpoint may
 * be closed before the model. The caller closes the model with model_close. */
int model_load(Model *m, const BackendOps *ops, const Checkpoint *c, BatchLimits limits, bool hits,
               int threads, Error *e);

#endif
