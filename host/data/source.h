/* source: reads a corpus from a folder of texts, or makes the built-in one. */
#ifndef PLSTM_SOURCE_H
#define PLSTM_SOURCE_H

#include "corpus.h"

/* Reads the folder `name` as corpus_read_folder does, or makes the built-in corpus if name is
 * "synthetic", with the vocabulary that `how` gives, and hashes it. The errors are those of
 * corpus_read_folder and corpus_translate. */
int corpus_read(Corpus *c, const char *name, const CorpusRead *how, Error *e);

/* Reads all three splits. vocab NULL: the vocabulary is built from train. */
int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e);

#endif
