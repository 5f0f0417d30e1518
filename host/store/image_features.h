/* image_features: the feature rows of images, from a NumPy array (image,F) or from a generator. */
#ifndef PLSTM_IMAGE_FEATURES_H
#define PLSTM_IMAGE_FEATURES_H

#include <stdint.h>

#include "host/base/error.h"
#include "host/data/captions.h"
#include "npy.h"

typedef struct ImageFeatures {
    int64_t n, F;
    const float *rows; /* (n,F) in the mapped file or in own */
    float *own;        /* from malloc, or NULL */
    NpyFile file;
} ImageFeatures;

/* Opens a file: two dimensions, float32 or float16 (which becomes float32), every value finite, F
 * at least 1. Rows of a float32 file stay in the mapped file. EXIT_BAD_DATA: one sentence that
 * names file and reason. */
int image_features_open(ImageFeatures *f, const char *path, Error *e);
/* Loads the features of a folder's features.npy or of the built-in scenes, one row for each image
 * of *c, which was read from the same folder (captions_load). EXIT_BAD_DATA also if the numbers of
 * rows and images differ. */
int image_features_load(ImageFeatures *f, const char *dir, const Captions *c, Error *e);
void image_features_close(ImageFeatures *f);

/* Writes in hexadecimal the SHA-256 of the rows as little-endian float32. */
void image_features_sha256(const ImageFeatures *f, char hex[65]);

#endif
