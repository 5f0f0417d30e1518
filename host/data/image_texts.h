/* image_texts: a numbered list of images, each with its split and its captions as words. A reader
 * of files or a generator fills it, and captions.h turns it into rows. */
#ifndef PLSTM_IMAGE_TEXTS_H
#define PLSTM_IMAGE_TEXTS_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

typedef enum ImageSplit { IMAGES_TRAIN, IMAGES_VALID, IMAGES_TEST, IMAGE_SPLITS } ImageSplit;

typedef struct ImageTexts {
    int64_t images, captions;
    unsigned char *split; /* (images) ImageSplit of each */
    int64_t *first;       /* (images + 1): image i has captions first[i] .. first[i+1] - 1 */
    /* (captions + 1): caption k is bytes[offset[k] .. offset[k+1]); a space precedes every word */
    int64_t *offset;
    char *bytes;
    int64_t cap_images, cap_captions, cap_bytes; /* numbers for which there is room */
} ImageTexts;

/* A zeroed struct is an empty list. Each function returns EXIT_FAILED if memory runs out, and the
 * list stays valid. */
int image_texts_image(ImageTexts *t, ImageSplit split, Error *e); /* appends an image */
int image_texts_caption(ImageTexts *t, Error *e); /* appends a caption to the last image */
/* Appends a word to the last caption. The word must not be empty and must not hold ASCII white
 * space or NUL. */
int image_texts_word(ImageTexts *t, const char *word, size_t length, Error *e);
void image_texts_free(ImageTexts *t);

#endif
