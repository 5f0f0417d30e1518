/* image_texts: a numbered list of images, the split of each, and its captions as words. What a reader of a file or a
 * generator makes, and captions.h turns into rows. */
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
    int64_t
        *offset; /* (captions + 1): caption k is bytes[offset[k] .. offset[k+1]), words with a space
                             before each */
    char *bytes;
    int64_t cap_images, cap_captions, cap_bytes;
} ImageTexts;

/* A zeroed struct is an empty list. Each of these returns EXIT_FAILED when memory runs out; the list stays whole. */
int image_texts_image(ImageTexts *t, ImageSplit split, Error *e); /* one more image */
int image_texts_caption(ImageTexts *t, Error *e); /* one more caption of the last image */
/* One more word of the last caption: not empty, without ASCII white space and NUL. */
int image_texts_word(ImageTexts *t, const char *word, size_t length, Error *e);
void image_texts_free(ImageTexts *t);

#endif
