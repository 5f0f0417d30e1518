/* data_command: what `plstm data DIR` prints about a data folder or the built-in corpus. */
#ifndef PLSTM_DATA_COMMAND_H
#define PLSTM_DATA_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/settings.h"

/* Reads the corpus (corpus_load's rules and faults) and prints to out: tokens, types and unknown words of
 * each split, the hashes, the corpus's name where it is recognised; for the built-in one also the best
 * possible perplexity and the number of positions of each class. EXIT_FAILED when out cannot be written. */
int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e);

/* The same of parallel text (s->data, source, target, min_count): per side and split pairs, words, types, words that became
 * <unk>, empty and longest lines. EXIT_USAGE where s->task is another than translate. */
int data_pairs_command(const Settings *s, FILE *out, Error *e);
/* The same of images with captions (s->data, min_count): per split images, those without captions, captions, words, words that became
 * <unk>, empty and longest captions; of the built-in scenes the best possible perplexity. */
int data_captions_command(const Settings *s, FILE *out, Error *e);
/* Writes the built-in parallel corpus into a folder, which is made if need be, as train.source, train.target and so on.
 * EXIT_BAD_DATA: a file is there already, or cannot be written. */
int data_write_command(const char *dir, Error *e);
/* Writes the built-in scenes alike, as dataset.json (with a member `scene` beside the usual ones, from which pictures can be drawn
 * again) and features.npy. */
int data_write_scenes(const char *dir, Error *e);

/* The same of utterances (s->data): per split utterances, frames, silence, what was left out; of the built-in ones also the best
 * possible accuracy. The other writes the built-in ones as Kaldi's tables: train/feats.scp, train/feats.ark, train/labels and
 * so on, and phones. */
int data_frames_command(const Settings *s, FILE *out, Error *e);
int data_write_frames_command(const char *dir, Error *e);

#endif
