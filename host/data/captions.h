/* captions: images with captions -> the rows of a caption model (TASKS 4).
 *
 * A row is one caption: the image's features, then <eos> as the start word, then the words. The start predicts the first
 * word, each word the next one, the last word <eos>. One vocabulary for what is read and predicted, by count over the training
 * captions; rows are in the order of the images, an image's in the order of its captions. */
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
    Sequences rows;         /* in file order */
    int64_t *row_image;     /* (rows.n) the image of each, which is its row of features */
    int64_t *image;         /* (images) numbers of the split's images, those without captions too */
    int64_t images, bare;   /* of them without captions */
    int64_t words, unknown; /* words that the vocabulary lacks and that became <unk> */
    int64_t longest, empty; /* words of the longest caption; captions without a word */
} CaptionSplit;

typedef struct Captions {
    Vocab vocab;
    CaptionSplit split[IMAGE_SPLITS];
    int64_t images;        /* of all splits */
    char sha256[65];       /* TASKS 3 */
    char train_sha256[65]; /* of train alone */
    bool scenes;           /* the built-in ones (scenes.h) */
} Captions;

/* Reads dir/dataset.json, or makes the built-in scenes where dir is captions_builtin. vocab: whose ids the rows get, copied;
 * NULL: made from the training captions. EXIT_BAD_DATA: what is wrong with the file, or no training caption where the
 * vocabulary is made from them. */
int captions_load(Captions *c, const char *dir, int64_t min_count, const Vocab *vocab, Error *e);
/* Rows of features (images, F), the caller's, for the splits' rows. */
void captions_take_features(Captions *c, const float *features, int64_t F);
void captions_free(Captions *c);

/* Path of a file of a folder; malloc'd, NULL when memory ran out. */
char *captions_path(const char *dir, const char *name);
extern const char captions_file[], captions_features_file[]; /* "dataset.json", "features.npy" */

#endif
