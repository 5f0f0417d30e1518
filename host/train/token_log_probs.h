/* token_log_probs: what a model said to every scored word of a split, as a file of NumPy (host/store/npy.h): float32, log p of each
 * scored position in the order of the split. Files of the same split and protocol can be averaged without their models. */
#ifndef PLSTM_TOKEN_LOG_PROBS_H
#define PLSTM_TOKEN_LOG_PROBS_H

#include <stdint.h>

#include "ensemble.h"
#include "host/base/error.h"

/* What the positions are; files with the same are averaged. */
typedef struct ScoredText {
    char split[64];
    char protocol[32]; /* of a language model's scores (SPEC 6); the name of a task that has none */
    char vocab_sha256[65];   /* of the words that are predicted (vocab.h) */
    char targets_sha256[65]; /* over the int32 little-endian ids of the scored words */
    int64_t
        paper_tokens; /* what the authors' script divides by (SPEC 6); 0: it has no such figure */
} ScoredText;

typedef struct TokenLogProbs {
    ScoredText text;
    int64_t n;
    double *log_p; /* (n) each at most 0 */
} TokenLogProbs;

/* EXIT_BAD_DATA: no file of log-probabilities; a value that is no log-probability is named. */
int token_log_probs_read(TokenLogProbs *t, const char *path, Error *e);
void token_log_probs_free(TokenLogProbs *t);

/* log_p becomes the file at path, atomically. What is no printable ASCII, or is blank, in the names of split and protocol is
 * written as _. */
int token_log_probs_write(const char *path, const ScoredText *text, const float *log_p, int64_t n,
                          Error *e);

/* The same of what an ensemble, or its only member, says to each position that it scored. targets (e->n): the id at each position,
 * which with `text` but for its targets_sha256 says what the file is of. */
int token_log_probs_save(const char *path, ScoredText *text, const Ensemble *ensemble,
                         const int32_t *targets, Error *e);

/* EXIT_BAD_DATA where they are not of the same words. */
int token_log_probs_agree(const TokenLogProbs *a, const char *a_path, const TokenLogProbs *b,
                          const char *b_path, Error *e);

#endif
