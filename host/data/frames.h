/* frames: utterances with a label for every frame (TASKS 4), from folders `train`, `valid` and `test` of Kaldi's tables, or from the
 * built-in generator (speech.h). A split's folder holds feats.scp or feats.ark, and `labels`; `phones`, beside the folders, names
 * labels and says which are silence. */
#ifndef PLSTM_FRAMES_H
#define PLSTM_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"
#include "features.h"
#include "sequences.h"

enum { FRAMES_TRAIN, FRAMES_VALID, FRAMES_TEST, FRAMES_SPLITS };
extern const char *const frames_split_name[FRAMES_SPLITS];

typedef struct FramesSplit {
    bool read;          /* the rest is filled */
    Sequences rows;     /* in the order of the features; every position takes a row */
    float *features;    /* (frames,F) */
    int64_t *first_row; /* (rows.n) */
    int64_t frames, longest,
        silent; /* all frames; of the longest utterance; with a label of silence */
    int64_t no_labels, no_features,
        empty;       /* utterances that were left out: they lack one, or have no frame */
    int32_t largest; /* label */
} FramesSplit;

typedef struct FramesOptions {
    const char *dir; /* or "synthetic" */
    bool normalise;  /* features of each utterance */
    unsigned wanted; /* EVAL_VALID, EVAL_TEST (settings.h): beside train, which splits are read */
    int64_t F, V;    /* of the model whose split is to be scored; 0: train is read and says */
} FramesOptions;

typedef struct Frames {
    FramesOptions o;
    int64_t F, V; /* floats of a frame; labels: the largest of training and 1 */
    FramesSplit split[FRAMES_SPLITS];
    bool *silence;                     /* (V) */
    char **name;                       /* (V), each NULL where `phones` names it not */
    bool phones;                       /* the file is there */
    int64_t *count;                    /* (V) frames of training; NULL where train was not read */
    char sha256[65], train_sha256[65]; /* TASKS 3; "" unless every split, or train, was read */
    bool synthetic;
} Frames;

/* Reads train and what is wanted; where o->V is given, none: then frames_read reads what is needed. dir stays the caller's.
 * EXIT_BAD_DATA: what a folder lacks, or what is wrong with a file. */
int frames_load(Frames *f, const FramesOptions *o, Error *e);
/* Reads a split if that was not done yet. */
int frames_read(Frames *f, int split, Error *e);
void frames_free(Frames *f);

/* Path of a file of a split; malloc'd, NULL when memory ran out. file NULL: of its features. */
char *frames_path(const Frames *f, int split, const char *file);

/* Number of label `id` as text where it has no name. Returns out or the name. */
const char *frames_label(const Frames *f, int64_t id, char out[24]);

#endif
