/* dataset_json: images and captions in the form that A. Karpathy gave MSCOCO and Flickr (dataset_coco.json): an object
 * whose `images` is a list of
 *
 *   {"split": "train", "imgid": 0, "sentences": [{"tokens": ["a", "man"], ...}, ...], ...}
 *
 * split is train, restval (which trains too), val or test. imgid, where it is there, is the image's place in the list, which
 * is its row of features. An image may lack sentences, a sentence's list of tokens may be empty; every other member is
 * passed over. Nothing in the file is trusted. */
#ifndef PLSTM_DATASET_JSON_H
#define PLSTM_DATASET_JSON_H

#include <stddef.h>

#include "image_texts.h"

/* Reads a file, all of it, into an empty list. EXIT_BAD_DATA: one sentence that names file, image and fault; the list is
 * empty then. Memory: some 10 times the file's size while it is read. */
int dataset_json_read(ImageTexts *t, const char *path, Error *e);
/* The same over bytes that stay the caller's; `path` is only for the sentence. */
int dataset_json_parse(ImageTexts *t, const char *bytes, size_t n, const char *path, Error *e);

#endif
