/* scorer: a split scored by a model, batch by batch (SPEC 6). */
#ifndef PLSTM_SCORER_H
#define PLSTM_SCORER_H

#include "host/data/batch.h"
#include "host/train/model.h"

/* Called for each scored position, batch by batch, time-major within one. place: the source's number of the position.
 * best: id of the largest logit, -1 where the model was not opened for hits. */
typedef void (*ScoreVisitor)(void *user, int64_t place, int32_t target, int32_t best, double nats);

/* Scores every batch of a source; visit may be NULL. The training state of the model is kept aside and put back.
 * *fault (may be NULL): a window gave up on the device (backend.h): scoring failed, and the weights are whole. */
int score_source(Model *m, Source *source, ScoreVisitor visit, void *user, Totals *totals,
                 bool *fault, Error *e);

/* exp(nats / scored); NAN where nothing is. */
double totals_ppl(const Totals *t);

#endif
