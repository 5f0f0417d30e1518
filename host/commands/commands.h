/* commands: every command of the program, in the file that bears its name, and those of their parts that tests call. */
#ifndef PLSTM_COMMANDS_H
#define PLSTM_COMMANDS_H

#include <stdio.h>

#include "host/base/command.h"
#include "search.h"

extern const Command command_train, command_eval, command_ensemble, command_sample,
    command_translate, command_posteriors, command_caption, command_dump, command_info,
    command_data, command_devices, command_plan, command_variants;

/* Prints as search_print does. A byte-order mark before the first line is taken off. An empty line in gives an empty line
 * (with nbest: one without words, of score 0). EXIT_BAD_DATA: a NUL byte, a file that is no translation model, files of
 * different vocabularies. */
int translate_command(const SearchOptions *o, FILE *in, FILE *out, Error *e);

typedef struct CaptionOptions {
    SearchOptions search;
    const char *features; /* a .npy, every row of which is described; or NULL: */
    const char *data;     /* a folder with dataset.json and features.npy, or scenes, */
    const char *split;    /* of which the images of this split are described */
} CaptionOptions;
enum { CAPTION_MOST = 60 /* words of a caption, the end counted */ };

/* Prints as search_print does; an image's number is its row of features. Of the built-in scenes JSON also says what the
 * annotator gives each caption: `annotator_logp`, null where that caption is never given. EXIT_BAD_DATA: a file that is no
 * caption model, files of different vocabularies, features of another size than the models read. */
int caption_command(const CaptionOptions *o, FILE *out, Error *e);

/* Prints what a safetensors file holds: for a checkpoint of ours where its run stands, the settings and the vocabulary,
 * for any other file its metadata; then every tensor with dtype, shape and bytes. Bytes that a terminal would act on are
 * printed as '?'. EXIT_BAD_DATA: not a safetensors file, or one with plstm metadata that is not a sound checkpoint (its
 * tensors and metadata are printed nevertheless). */
int info_command(const char *path, FILE *out, Error *e);

/* Reads the corpus (corpus_read's rules and faults) and prints tokens, types and unknown words of each split, the hashes,
 * the corpus's name where it is recognised; for the built-in one also the best possible perplexity and the number of
 * positions of each class. EXIT_FAILED when out cannot be written. */
int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e);

/* A table of the GPUs that the cuda backend could run on. EXIT_NO_DEVICE: why there is none, or that this build has no cuda
 * backend. */
int devices_command(FILE *out, Error *e);

#endif
