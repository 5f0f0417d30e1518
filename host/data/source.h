/* source: where a corpus comes from: a folder of texts, or the built-in generator. */
#ifndef PLSTM_SOURCE_H
#define PLSTM_SOURCE_H

#include "corpus.h"

/* Reads the folder `name` (corpus_read_folder lists what is refused), or makes the built-in corpus
 * if name is "synthetic", with the vocabulary that `how` asks for. */
int corpus_read(Corpus *c, const char *name, const CorpusRead *how, Error *e);

/* Reads all three splits. vocab NULL: the vocabulary is built from train. */
int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e);

#endif
