/* checkpoint: what of a run a file holds (SPEC 7). Knows names and metadata keys; the bytes are
 * safetensors.c's.
 *
 * Metadata, all strings, in this order:
 *   format = pt, plstm = 1 (version of this list), preset, task (absent: the language model)
 *   every recorded setting under its option's name with '_' for '-'; only the option lr is `initial_lr`,
 * since SPEC 7 gives `lr` to the counter step epoch minibatch lr nats tokens best_valid data = synthetic
 * (only for the built-in corpus), corpus_sha256 (null with train_sha256 behind it where not all splits were read)
 * the backend's own, vocab_sha256, vocab */
#ifndef PLSTM_CHECKPOINT_H
#define PLSTM_CHECKPOINT_H

#include <stdbool.h>

#include "host/data/corpus.h"
#include "host/base/error.h"
#include "params.h"
#include "safetensors.h"
#include "host/base/settings.h"

/* Where a run stands. All of it is in the metadata; doubles as %.17g. */
typedef struct Counters {
    int64_t step;      /* minibatches done over the whole run */
    int64_t epoch;     /* 1-based: the epoch of the next minibatch */
    int64_t minibatch; /* within that epoch: the next one; 0 at an epoch's start */
    double lr;         /* that the next minibatch runs with */
    double nats;       /* of the epoch's minibatches so far */
    int64_t tokens; /* scored positions of the epoch so far: of the language model minibatch*T*B */
    double
        best_valid; /* lowest valid nats per token (or share of errors, where the task counts hits) of a
                          completed epoch so far, INFINITY: none scored ("inf") */
    int64_t hits; /* of tokens, where the task counts them */
} Counters;

typedef struct Checkpoint {
    StFile file;
    ModelShape shape;
    Settings
        settings; /* the recorded ones, none marked given; the others have their defaults; strings point
                          into file */
    Counters counters;
    const char *task;          /* "lm" where the file names none */
    Vocab vocab, vocab_source; /* of the output, and of a second one; V = 0: the file has none */
    char corpus_sha256[65];    /* "": the run did not read all three splits, */
    char train_sha256[65];     /* and this is over its training ids alone; "" otherwise */
    const char *
        data; /* name of the built-in data that it was trained on ("synthetic"); NULL: a folder's, whose
                           path is never recorded */
    const float *h,
        *c; /* (L,B,H) into file, or NULL: taken at an epoch's end, or the task carries no state */
} Checkpoint;

/* Opens and checks a file of ours: metadata, vocabulary against its hash, every tensor's name, dtype and
 * shape, that no weight is infinite or NaN (a run that diverges never saves), state if and only if minibatch
 * > 0 and the task carries it. Of tasks other than the language model the vocabularies and sizes must agree with the
 * tensors; what else the task needs it checks itself. EXIT_BAD_DATA: not ours ("... has no plstm metadata; --init-weights takes bare weights"), or which
 * fault. */
int checkpoint_open(Checkpoint *c, const char *path, Error *e);
/* The same over bytes that stay the caller's (8-byte aligned); `path` is only for the sentence. */
int checkpoint_parse(Checkpoint *c, const void *bytes, size_t n, const char *path, Error *e);
void checkpoint_close(Checkpoint *c);

/* Tensor k in the list's order, straight from the map. */
const float *checkpoint_param(const Checkpoint *c, int k);

/* Name under which setting i is recorded; returns out. */
const char *checkpoint_setting_key(int i, char out[OPTION_KEY_SIZE]);

/* The parameters as tensors of a file: fills info and tensor (count), whose names are info's. */
void params_tensors(const Params *p, ParamInfo *info, StTensor *tensor);

/* Whether a checkpoint's header can hold the vocabulary, to be known before the first step. EXIT_BAD_DATA names path. */
int checkpoint_check_vocab(const Vocab *v, const char *path, Error *e);

/* What a file says of the task's data. */
enum { CHECKPOINT_EXTRA = 8 };
typedef struct CheckpointData {
    bool carries;     /* state from minibatch to minibatch: a file from inside an epoch holds it */
    bool hits;        /* counters->hits counts */
    const char *name; /* of built-in data, or NULL */
    const char *corpus_sha256;      /* NULL: not all splits were read, */
    const char *train_sha256;       /* and this says what was trained on */
    const Vocab *vocab;             /* of the output; NULL: its classes have no names */
    const Vocab *vocab_source;      /* NULL: none */
    StMeta extra[CHECKPOINT_EXTRA]; /* what else the task needs to read new data alike */
    int n_extra;
} CheckpointData;

/* Writes one atomically. h and c (L,B,H) are there when data->carries and counters->minibatch is not 0 (inside an
 * epoch), and only then.
 * The bytes depend on the arguments only: not on time, machine, path, commit or thread count. `extra` (may be
 * NULL) is the backend's: kernel, plan, GEMM algorithms. */
int checkpoint_save(const char *path, const Settings *settings, const Counters *counters,
                    const CheckpointData *data, const Params *params, const float *h,
                    const float *c, const StMeta *extra, int n_extra, Error *e);

#endif
