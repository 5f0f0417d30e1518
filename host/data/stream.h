/* stream: a stream of ids as a source of batches (batch.h): windows with carried state, in which
 * every position is scored (SPEC 4 and 6). */
#ifndef PLSTM_STREAM_H
#define PLSTM_STREAM_H

#include "host/base/error.h"
#include "host/data/batch.h"

/* Makes a source of windows of T steps in B rows, as SPEC 4 cuts them, and sets its `stream`. The
 * caller owns ids, which must outlive the source. `what` names the stream in the sentence
 * ("train"). EXIT_BAD_DATA: not even one window fits. */
int stream_rows(const int32_t *ids, int64_t n, int64_t B, int64_t T, const char *what, Source **s,
                Error *e);

/* Makes a source of one row from the first to the last id, n-1 of them scored, in windows of
 * `longest` steps. EXIT_BAD_DATA: there are fewer than two ids. */
int stream_sequential(const int32_t *ids, int64_t n, int64_t longest, const char *what, Source **s,
                      Error *e);

#endif
