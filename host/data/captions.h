/* captions: turns images with captions into the rows of a caption model (TASKS 4).
 *
 * A row is one caption: the image's features, then <eos> as the start word, then the words. The
 * start word predicts the first word, each word the next one, and the last word <eos>. One
 * vocabulary, by count over the training captions, serves both input and output. Rows are in the
 * order of the images, and within an image in the order of its captions. */
#ifndef PLSTM_CAPTIONS_H
#define PLSTM_CAPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"
#include "image_texts.h"
#include "sequences.h"
#include "vocab.h"

extern const char *const image_split_name[IMAGE_SPLITS]; /* "train", "valid", "test" */
extern const char captions_builtin[];                    /* "scenes" */

typedef struct CaptionSplit {
    Sequences rows; /* in file order */
    /* (rows.n) the image of each row, which is the index of its row of features */
    int64_t *row_image;
    int64_t *image; /* (images) numbers of the split's images, including those without captions */
    int64_t images, bare; /* number of images; number of those without captions */
    /* words of the rows; those missing in the vocabulary, which became <unk> */
    int64_t words, unknown;
    int64_t longest, empty; /* words of the longest caption; captions without a word */
} CaptionSplit;

typedef struct Captions {
    Vocab vocab;
    CaptionSplit split[IMAGE_SPLITS];
    int64_t images;        /* of all splits together */
    char sha256[65];       /* of the rows of all splits (TASKS 3) */
    char train_sha256[65]; /* of the rows of train alone */
    bool scenes;           /* whether they are the built-in scenes (scenes.h) */
} Captions;

/* Reads dir/dataset.json, or makes the built-in scenes if dir is captions_builtin. vocab: the
 * vocabulary of the rows' ids, which is copied; NULL: it is built from the training captions.
 * EXIT_BAD_DATA: the file is invalid, or there is no training caption to build the vocabulary
 * from. */
int captions_load(Captions *c, const char *dir, int64_t min_count, const Vocab *vocab, Error *e);
/* Attaches features (images, F) to the rows of every split. The caller owns them, and they must
 * outlive *c. */
void captions_take_features(Captions *c, const float *features, int64_t F);
void captions_free(Captions *c);

/* Returns the path of the file `name` in folder dir, allocated by malloc; NULL: memory ran out. */
char *captions_path(const char *dir, const char *name);
extern const char captions_file[], captions_features_file[]; /* "dataset.json", "features.npy" */

#endif
