/* commands: every command of the program, each defined in the file of its name, and those of their
 * parts that tests call. */
#ifndef PLSTM_COMMANDS_H
#define PLSTM_COMMANDS_H

#include <stdio.h>

#include "host/base/command.h"
#include "search.h"

extern const Command command_train, command_eval, command_ensemble, command_sample,
    command_translate, command_posteriors, command_caption, command_dump, command_info,
    command_data, command_devices, command_plan, command_variants;

/* Prints as search_print does. A byte-order mark before the first line is removed. An empty input
 * line gives an empty output line (with nbest: one without words, of score 0). EXIT_BAD_DATA: a NUL
 * byte, a file that is not a translation model, files of different vocabularies. */
int translate_command(const SearchOptions *o, FILE *in, FILE *out, Error *e);

typedef struct CaptionOptions {
    SearchOptions search;
    const char *features; /* a .npy, every row of which is described; or NULL: */
    const char *data;     /* a folder with dataset.json and features.npy, or scenes, */
    const char *split;    /* of which the images of this split are described */
} CaptionOptions;
enum { CAPTION_MOST = 60 /* words per caption, including the end */ };

/* Prints as search_print does; an image's number is the index of its row of features. For the
 * built-in scenes, JSON also has the annotator's log-probability of each caption: `annotator_logp`,
 * null if the annotator never gives that caption. EXIT_BAD_DATA: a file that is not a caption
 * model, files of different vocabularies, features of another size than the models read. */
int caption_command(const CaptionOptions *o, FILE *out, Error *e);

/* Prints the contents of a safetensors file: for a checkpoint of plstm the progress of its run, the
 * settings and the vocabulary, for any other file its metadata; then every tensor with dtype, shape
 * and bytes. Bytes that a terminal would interpret are printed as '?'. EXIT_BAD_DATA: not a
 * safetensors file, or one with plstm metadata that is not a valid checkpoint (its tensors and
 * metadata are printed all the same). */
int info_command(const char *path, FILE *out, Error *e);

/* Reads the corpus (by corpus_read's rules) and prints tokens, types and unknown words of each
 * split, the hashes, and the corpus' name if it is recognised; for the built-in one also the best
 * possible perplexity and the number of positions of each class. EXIT_FAILED: out cannot be
 * written. */
int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e);

/* Prints a table of the GPUs on which the cuda backend could run. EXIT_NO_DEVICE says why there is
 * none, or that this build has no cuda backend. */
int devices_command(FILE *out, Error *e);

#endif
