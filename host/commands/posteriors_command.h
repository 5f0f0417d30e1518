/* posteriors_command: what `plstm posteriors` does: writes what a frames model says of every frame of a table of features, as an
 * archive of Kaldi, for a decoder. */
#ifndef PLSTM_POSTERIORS_COMMAND_H
#define PLSTM_POSTERIORS_COMMAND_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/options.h"

typedef enum PosteriorsAs {
    AS_POSTERIORS,     /* p(label | frames so far) */
    AS_LOG_POSTERIORS, /* its logarithm */
    AS_LOG_LIKELIHOODS, /* minus the logarithm of the label's share of training's frames: log p(frames | label) but for a
                           constant, which is what decoders add up */
} PosteriorsAs;
#define POSTERIORS_AS "posteriors|log-posteriors|log-likelihoods"

typedef struct PosteriorsOptions {
    const PathList *weights; /* at least one; probabilities are averaged over several */
    const char *features;    /* a script, an archive, or a folder that holds one */
    const char *out;         /* the archive */
    int64_t as;              /* PosteriorsAs */
    int64_t batch;           /* utterances at a time */
    const char *backend;
    int threads; /* 0: as many as this process may use */
    bool force;
    FILE *notes; /* what was written, or NULL */
} PosteriorsOptions;

/* One float32 matrix (frames, labels) for each utterance, in the order of the features, normalised as the model's training data was.
 * The archive appears whole or not at all. EXIT_BAD_DATA: a file. */
int posteriors_command(const PosteriorsOptions *o, Error *e);

#endif
