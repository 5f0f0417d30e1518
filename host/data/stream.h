/* stream: turns a stream of ids into a source of batches (batch.h). The batches are windows that
 * carry the state, and every position is scored (SPEC 4 and 6). */
#ifndef PLSTM_STREAM_H
#define PLSTM_STREAM_H

#include "host/base/error.h"
#include "host/data/batch.h"

/* Makes a source of windows of T steps in B rows, as SPEC 4 cuts them, and sets its `stream`. The
 * caller owns ids (n), which must outlive the source, and closes it with source_close. `what` names
 * the stream in the sentence ("train"). EXIT_BAD_DATA: the stream is too short for one window. */
int stream_rows(const int32_t *ids, int64_t n, int64_t B, int64_t T, const char *what, Source **s,
                Error *e);

/* Makes a source of one row from the first to the last id, in windows of at most `longest` steps;
 * all ids but the first are scored. EXIT_BAD_DATA: there are fewer than two ids. */
int stream_sequential(const int32_t *ids, int64_t n, int64_t longest, const char *what, Source **s,
                      Error *e);

#endif
