/* frames: utterances with a label for every frame (TASKS 4), from folders `train`, `valid` and
 * `test` with Kaldi's tables, or from the built-in generator (speech.h). A split's folder holds
 * feats.scp or feats.ark, and `labels`. The file `phones`, beside the folders, names the labels and
 * marks those of silence. */
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
    bool read;          /* the split was read, and the other fields are set */
    Sequences rows;     /* in the order of the features; every position reads a row */
    float *features;    /* (frames,F) */
    int64_t *first_row; /* (rows.n) index of each row's first frame in features */
    /* numbers of frames: all; of the longest utterance; with a label of silence */
    int64_t frames, longest, silent;
    /* utterances that were left out: without labels, without features, without a frame */
    int64_t no_labels, no_features, empty;
    int32_t largest; /* largest label */
} FramesSplit;

typedef struct FramesOptions {
    const char *dir; /* a folder, or "synthetic" */
    bool normalise;  /* normalise the features of each utterance */
    unsigned wanted; /* EVAL_VALID, EVAL_TEST (settings.h): the splits to read beside train */
    int64_t F, V;    /* those of the model that scores a split; 0: train is read and sets them */
} FramesOptions;

typedef struct Frames {
    FramesOptions o;
    int64_t F, V; /* features per frame; number of labels, the largest of training plus 1 */
    FramesSplit split[FRAMES_SPLITS];
    bool *silence;  /* (V) whether the label is one of silence */
    char **name;    /* (V) NULL for a label that `phones` does not name */
    bool phones;    /* the file `phones` exists */
    int64_t *count; /* (V) training frames of each label; NULL if train was not read */
    /* hashes of all splits and of train (TASKS 3); "" unless all, or train, were read */
    char sha256[65], train_sha256[65];
    bool synthetic;
} Frames;

/* Reads train and the wanted splits. If o->V is given, no split is read yet; frames_read then reads
 * the one that is needed. The caller keeps ownership of dir, which must outlive *f. EXIT_BAD_DATA:
 * the folder lacks a file, or a file is invalid. */
int frames_load(Frames *f, const FramesOptions *o, Error *e);
/* Reads a split unless it has been read. EXIT_BAD_DATA also if it has a label above the largest of
 * training. */
int frames_read(Frames *f, int split, Error *e);
void frames_free(Frames *f);

/* Returns the path of a file of a split, or that of its features if file is NULL, allocated by
 * malloc; NULL: memory ran out. */
char *frames_path(const Frames *f, int split, const char *file);

/* Returns the name of label `id`, or writes its number to out if it has none and returns out. */
const char *frames_label(const Frames *f, int64_t id, char out[24]);

#endif
