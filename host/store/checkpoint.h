/* checkpoint: the contents of a checkpoint file (SPEC 7). This module defines names and metadata
 * keys; safetensors.c reads and writes the bytes.
 *
 * Metadata, all strings, in this order:
 *
 *   format = pt, plstm = 1 (version of this list), preset, task (absent: the language model)
 *
 *   every recorded setting under its option's name with '_' for '-', except that the option lr is
 *   `initial_lr`, since SPEC 7 gives `lr` to the counter
 *
 *   step epoch minibatch lr nats tokens hits (if the task counts them) best_valid
 *
 *   data = synthetic (only for the built-in corpus), corpus_sha256 (null, followed by train_sha256,
 *   if not all splits were read)
 *
 *   the backend's own, the task's own, vocab_sha256, vocab_source_sha256, vocab_source, vocab (the
 *   hashes and texts of the vocabularies that the task has) */
#ifndef PLSTM_CHECKPOINT_H
#define PLSTM_CHECKPOINT_H

#include <stdbool.h>

#include "host/data/corpus.h"
#include "host/base/error.h"
#include "params.h"
#include "safetensors.h"
#include "host/base/settings.h"

/* The progress of a run. The metadata hold all of it, doubles as %.17g. */
typedef struct Counters {
    int64_t step;      /* minibatches done over the whole run */
    int64_t epoch;     /* epoch of the next minibatch, from 1 */
    int64_t minibatch; /* index of the next minibatch within that epoch; 0 at an epoch's start */
    double lr;         /* learning rate of the next minibatch */
    double nats;       /* sum over the epoch's minibatches so far */
    /* scored positions of the epoch so far; for the language model minibatch * T * B */
    int64_t tokens;
    /* lowest valid nats per token (or share of errors, if the task counts hits) of a completed
     * epoch so far; INFINITY ("inf"): none was scored */
    double best_valid;
    int64_t hits; /* hits among tokens, if the task counts them */
} Counters;

typedef struct Checkpoint {
    StFile file;
    ModelShape shape;
    /* The recorded settings, none marked as given; the others have their defaults. Strings point
     * into file. */
    Settings settings;
    Counters counters;
    const char *task;          /* "lm" if the file names none */
    Vocab vocab, vocab_source; /* of the output, and a second one; V = 0: the file has none */
    char corpus_sha256[65];    /* "" if the run did not read all three splits */
    char train_sha256[65];     /* of its training ids alone, if corpus_sha256 is ""; else "" */
    /* name of the built-in data that it was trained on ("synthetic"); NULL: a folder, whose path is
     * never recorded */
    const char *data;
    /* (L,B,H) in file; NULL if it was saved at an epoch's end or the task carries no state */
    const float *h, *c;
} Checkpoint;

/* Opens and checks a checkpoint: its metadata, the vocabulary against its hash, every tensor's
 * name, dtype and shape, that no weight is infinite or NaN (a run that diverges never saves), and
 * that it holds state if and only if minibatch > 0 and the task carries it. For tasks other than
 * the language model, the vocabularies and sizes must agree with the tensors; the task itself
 * checks whatever else it needs. EXIT_BAD_DATA: not a checkpoint ("... has no plstm metadata;
 * --init-weights reads bare weights"), or what is wrong with it. */
int checkpoint_open(Checkpoint *c, const char *path, Error *e);
/* Parses bytes (8-byte aligned), which the caller owns and which must outlive *c; `path` is only
 * for the sentence. */
int checkpoint_parse(Checkpoint *c, const void *bytes, size_t n, const char *path, Error *e);
void checkpoint_close(Checkpoint *c);

/* Returns tensor k in the order of params.h; it is in the file's memory and ends with it. */
const float *checkpoint_param(const Checkpoint *c, int k);

/* Writes the key under which setting i is recorded; returns out. */
const char *checkpoint_setting_key(int i, char out[OPTION_KEY_SIZE]);

/* Describes the parameters as tensors of a file: fills info and tensor (count); the tensors' names
 * point into info. */
void params_tensors(const Params *p, ParamInfo *info, StTensor *tensor);

/* Checks before the first step whether a checkpoint's header can hold the vocabulary. EXIT_BAD_DATA
 * names path. */
int checkpoint_check_vocab(const Vocab *v, const char *path, Error *e);

/* What a checkpoint records about the data of its task. */
enum { CHECKPOINT_EXTRA = 8 };
typedef struct CheckpointData {
    /* whether state is carried between minibatches: a file from inside an epoch then holds it */
    bool carries;
    bool hits;                 /* whether counters->hits is used */
    const char *name;          /* of built-in data, or NULL */
    const char *corpus_sha256; /* NULL: not all splits were read */
    const char *train_sha256;  /* then the hash of the training split alone */
    const Vocab *vocab;        /* of the output; NULL: its classes have no names */
    const Vocab *vocab_source; /* NULL: none */
    /* whatever else the task needs to read new data in the same way */
    StMeta extra[CHECKPOINT_EXTRA];
    int n_extra;
} CheckpointData;

/* Writes a checkpoint atomically. h and c (L,B,H) are given if and only if data->carries is true
 * and counters->minibatch is not 0 (inside an epoch). The bytes depend on the arguments only: not
 * on time, machine, path, commit or thread count. `extra` (may be NULL) is the backend's: kernel,
 * plan, GEMM algorithms. */
int checkpoint_save(const char *path, const Settings *settings, const Counters *counters,
                    const CheckpointData *data, const Params *params, const float *h,
                    const float *c, const StMeta *extra, int n_extra, Error *e);

#endif
