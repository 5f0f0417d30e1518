/* plstm caption: images' features in, their captions out, in order. */
#ifndef PLSTM_CAPTION_COMMAND_H
#define PLSTM_CAPTION_COMMAND_H

#include <stdio.h>

#include "host/base/error.h"
#include "search.h"

typedef struct CaptionOptions {
    SearchOptions search;
    const char *features; /* a .npy, every row of which is described; or NULL: */
    const char *data;     /* a folder with dataset.json and features.npy, or scenes, */
    const char *split;    /* of which the images of this split are described */
} CaptionOptions;

enum { CAPTION_MOST = 60 /* words of a caption, the end counted */ };

/* Prints as search_print does; an image's number is its row of features. Of the built-in scenes JSON also says what the annotator
 * gives each caption: `annotator_logp`, null where that caption is never given. EXIT_BAD_DATA: a file that is no caption model,
 * files of different vocabularies, features of another size than the models read. */
int caption_command(const CaptionOptions *o, FILE *out, Error *e);

#endif
