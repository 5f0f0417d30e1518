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

/* Translates the lines of `in` and prints the results to `out` as search_print does. A byte-order
 * mark before the first line is removed. An empty input line gives an empty output line (with
 * nbest: one without words, whose score is 0). EXIT_BAD_DATA: a NUL byte, a file that is not a
 * translation model, or models with different vocabularies. */
int translate_command(const SearchOptions *o, FILE *in, FILE *out, Error *e);

typedef struct CaptionOptions {
    SearchOptions search;
    const char *features; /* a .npy file, every row of which is described; NULL: data is used */
    /* a folder with dataset.json and features.npy, or "scenes"; NULL: features is used */
    const char *data;
    const char *split; /* the split of data whose images are described */
} CaptionOptions;
enum { CAPTION_MOST = 60 /* words per caption, including the end */ };

/* Describes images and prints the captions as search_print does; an image's number is the index of
 * its row of features. For the built-in scenes, JSON also has the annotator's log-probability of
 * each caption: `annotator_logp`, null if the annotator never gives that caption. EXIT_BAD_DATA: a
 * file that is not a caption model, models with different vocabularies, or features of another size
 * than the models read. */
int caption_command(const CaptionOptions *o, FILE *out, Error *e);

/* Prints the contents of a safetensors file: for a checkpoint of plstm the progress of its run, the
 * settings and the vocabulary, for any other file its metadata; then every tensor with dtype, shape
 * and bytes. Bytes that a terminal would interpret are printed as '?'. EXIT_BAD_DATA: the file is
 * not in safetensors format, it has plstm metadata but is not a valid checkpoint (its tensors and
 * metadata are printed all the same), or out cannot be written. */
int info_command(const char *path, FILE *out, Error *e);

/* Reads the corpus as corpus_read does and prints tokens, types and unknown words of each split,
 * the hashes, and the name of the corpus if it is recognised; for the built-in corpus also the best
 * possible perplexity and the number of positions of each class. Remarks are printed to notes
 * unless it is NULL. EXIT_FAILED: out cannot be written. */
int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e);

/* Prints a table of the GPUs on which the cuda backend could run. EXIT_NO_DEVICE: there is none, or
 * this build has no cuda backend; the sentence says which. */
int devices_command(FILE *out, Error *e);

#endif
