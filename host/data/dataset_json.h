/* dataset_json: images and captions in the format of A. Karpathy's files for MSCOCO and Flickr
 * (dataset_coco.json): an object whose `images` is a list of
 *
 *   {"split": "train", "imgid": 0, "sentences": [{"tokens": ["a", "man"], ...}, ...], ...}
 *
 * split is train, restval (which is used for training, too), val or test. imgid is optional; it
 * must be the image's place in the list, which is the index of its row of features. An image may
 * lack sentences, and a sentence's list of tokens may be empty; every other member is ignored.
 * Nothing in the file is trusted. */
#ifndef PLSTM_DATASET_JSON_H
#define PLSTM_DATASET_JSON_H

#include <stddef.h>

#include "image_texts.h"

/* Reads a whole file into *t, which image_texts_free releases. Reading takes memory of about 10
 * times the file's size. EXIT_BAD_DATA: the sentence names file, image and reason, and the list is
 * empty. */
int dataset_json_read(ImageTexts *t, const char *path, Error *e);
/* Parses bytes (n), which the caller owns, in the same way; `path` is only for the sentence. */
int dataset_json_parse(ImageTexts *t, const char *bytes, size_t n, const char *path, Error *e);

#endif
