/* Scores a stream of n ids: with rows > 0 as `rows` rows in windows of `seq` (SPEC 6's valid), with
 * rows = 0 as one sequence in windows of the model's T * B positions. `what` names the stream in
 * the sentence of an error. Returns an exit code; *totals holds the sums. */
#ifndef PLSTM_TESTS_SCORE_STREAM_H
#define PLSTM_TESTS_SCORE_STREAM_H

#include "host/data/stream.h"
#include "host/train/scorer.h"

static inline int score_stream(Model *m, const int32_t *ids, int64_t n, const char *what,
                               int64_t rows, int64_t seq, ScoreVisitor visit, void *user,
                               Totals *totals, Error *e)
{
    Source *source;
    int code = rows ? stream_rows(ids, n, rows, seq, what, &source, e)
                    : stream_sequential(ids, n, m->config.T * m->config.B, what, &source, e);
    if (code) return code;
    code = score_source(m, source, visit, user, totals, NULL, e);
    source_close(source);
    return code;
}

#endif
