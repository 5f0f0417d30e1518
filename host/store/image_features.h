/* image_features: the feature rows of images, from an array of NumPy (image,F) or from a generator. */
#ifndef PLSTM_IMAGE_FEATURES_H
#define PLSTM_IMAGE_FEATURES_H

#include <stdint.h>

#include "host/base/error.h"
#include "host/data/captions.h"
#include "npy.h"

typedef struct ImageFeatures {
    int64_t n, F;
    const float *rows; /* (n,F) in the mapped file or in own */
    float *own;        /* malloc'd, or NULL */
    NpyFile file;
} ImageFeatures;

/* Opens a file: two dimensions, float32 or float16 (which becomes float32), every value finite, F at least 1. Rows of a float32
 * file stay in the map. EXIT_BAD_DATA: one sentence that names file and fault. */
int image_features_open(ImageFeatures *f, const char *path, Error *e);
/* Those of a folder's features.npy, or of the built-in scenes, a row for each image of *c, which was read from there
 * (captions_load). EXIT_BAD_DATA also where their numbers differ. */
int image_features_load(ImageFeatures *f, const char *dir, const Captions *c, Error *e);
void image_features_close(ImageFeatures *f);

/* SHA-256 in hex over the rows as float32, little-endian. */
void image_features_sha256(const ImageFeatures *f, char hex[65]);

#endif
