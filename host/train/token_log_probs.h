/* token_log_probs: reads and writes a model's log-probabilities of every scored word of a split as
 * a NumPy file (host/store/npy.h): float32, log p of each scored position in the order of the
 * split. Files of the same split and protocol can be averaged without their models. */
#ifndef PLSTM_TOKEN_LOG_PROBS_H
#define PLSTM_TOKEN_LOG_PROBS_H

#include <stdint.h>

#include "ensemble.h"
#include "host/base/error.h"

/* Identifies the scored positions; files that agree in it can be averaged. */
typedef struct ScoredText {
    char split[64];
    /* The protocol of a language model's scores (SPEC 6), or the name of a task that has no
     * protocols. */
    char protocol[32];
    char vocab_sha256[65];   /* vocabulary of the predicted words (vocab.h) */
    char targets_sha256[65]; /* over the little-endian int32 ids of the scored words */
    /* number by which the authors' script divides (SPEC 6); 0: it has no such figure */
    int64_t paper_tokens;
} ScoredText;

typedef struct TokenLogProbs {
    ScoredText text;
    int64_t n;
    double *log_p; /* (n) each at most 0 */
} TokenLogProbs;

/* Reads a file into *t, which token_log_probs_free frees. EXIT_BAD_DATA: the file does not hold
 * log-probabilities; the sentence names the first value that is not one. */
int token_log_probs_read(TokenLogProbs *t, const char *path, Error *e);
void token_log_probs_free(TokenLogProbs *t);

/* Writes log_p to the file at path atomically. Blanks and characters other than printable ASCII in
 * the names of split and protocol are written as _. */
int token_log_probs_write(const char *path, const ScoredText *text, const float *log_p, int64_t n,
                          Error *e);

/* Writes the log-probabilities that an ensemble, or its only member, assigns to each position that
 * it scored. targets (ensemble->n): the id at each position, from which targets_sha256 is computed;
 * `text` has the other fields. */
int token_log_probs_save(const char *path, ScoredText *text, const Ensemble *ensemble,
                         const int32_t *targets, Error *e);

/* Checks that two files score the same words by the same protocol. EXIT_BAD_DATA: they do not; the
 * sentence says in what they differ. */
int token_log_probs_agree(const TokenLogProbs *a, const char *a_path, const TokenLogProbs *b,
                          const char *b_path, Error *e);

#endif
