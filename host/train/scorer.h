/* scorer: scores a split with a model, batch by batch (SPEC 6). */
#ifndef PLSTM_SCORER_H
#define PLSTM_SCORER_H

#include "host/data/batch.h"
#include "host/train/model.h"

/* Called for each scored position, batch by batch, in time-major order within a batch. place: the
 * source's number of the position. best: id of the largest logit, -1 if the model was not opened
 * for hits. */
typedef void (*ScoreVisitor)(void *user, int64_t place, int32_t target, int32_t best, double nats);

/* Scores every batch of a source; visit may be NULL. The model's training state is saved and
 * restored. *fault (may be NULL) becomes true if a window timed out on the device (backend.h):
 * scoring failed, but the weights are intact. */
int score_source(Model *m, Source *source, ScoreVisitor visit, void *user, Totals *totals,
                 bool *fault, Error *e);

/* Returns exp(nats / scored); NAN if nothing was scored. */
double totals_ppl(const Totals *t);

#endif
