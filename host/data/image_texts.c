#include "image_texts.h"

#include <stdlib.h>
#include <string.h>

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while captions were read");
}

/* Returns a capacity above n. */
static int64_t larger(int64_t n) { return n + n / 2 + 1024; }

int image_texts_image(ImageTexts *t, ImageSplit split, Error *e)
{
    if (t->images == t->cap_images) {
        int64_t cap = larger(t->cap_images);
        unsigned char *splits = realloc(t->split, (size_t)cap * sizeof *splits);
        if (splits) t->split = splits;
        int64_t *first = realloc(t->first, (size_t)(cap + 1) * sizeof *first);
        if (first) t->first = first;
        if (!splits || !first) return out_of_memory(e);
        t->cap_images = cap;
    }
    t->split[t->images] = (unsigned char)split;
    t->first[t->images++] = t->captions;
    t->first[t->images] = t->captions;
    return EXIT_DONE;
}

int image_texts_caption(ImageTexts *t, Error *e)
{
    if (t->captions == t->cap_captions) {
        int64_t cap = larger(t->cap_captions);
        int64_t *offset = realloc(t->offset, (size_t)(cap + 1) * sizeof *offset);
        if (!offset) return out_of_memory(e);
        t->offset = offset;
        if (!t->captions) offset[0] = 0;
        t->cap_captions = cap;
    }
    t->offset[t->captions + 1] = t->offset[t->captions];
    t->first[t->images] = ++t->captions;
    return EXIT_DONE;
}

int image_texts_word(ImageTexts *t, const char *word, size_t length, Error *e)
{
    int64_t used = t->offset[t->captions];
    if ((int64_t)length + 1 > t->cap_bytes - used) {
        int64_t cap = larger(t->cap_bytes) + (int64_t)length + 1;
        char *bytes = realloc(t->bytes, (size_t)cap);
        if (!bytes) return out_of_memory(e);
        t->bytes = bytes;
        t->cap_bytes = cap;
    }
    t->bytes[used] = ' ';
    memcpy(t->bytes + used + 1, word, length);
    t->offset[t->captions] = used + 1 + (int64_t)length;
    return EXIT_DONE;
}

void image_texts_free(ImageTexts *t)
{
    free(t->split), free(t->first), free(t->offset), free(t->bytes);
    memset(t, 0, sizeof *t);
}
