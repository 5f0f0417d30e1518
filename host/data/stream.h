/* stream: a stream of ids as a source of batches (batch.h): windows with carried state, every position scored
 * (SPEC 4 and 6). */
#ifndef PLSTM_STREAM_H
#define PLSTM_STREAM_H

#include "host/base/error.h"
#include "host/data/batch.h"

/* Windows of T steps in B rows, as SPEC 4 cuts them; `stream` of the source is set. ids are the caller's and outlive
 * the source. what names the stream in the sentence ("train"). EXIT_BAD_DATA when not even one window fits. */
int stream_rows(const int32_t *ids, int64_t n, int64_t B, int64_t T, const char *what, Source **s,
                Error *e);

/* One row from first to last id, n-1 of them scored, in windows of `longest` steps. EXIT_BAD_DATA below two ids. */
int stream_sequential(const int32_t *ids, int64_t n, int64_t longest, const char *what, Source **s,
                      Error *e);

#endif
