/* source: where a corpus comes from: a folder of texts, or the built-in generator. */
#ifndef PLSTM_SOURCE_H
#define PLSTM_SOURCE_H

#include "corpus.h"

/* Reads the folder `name` (corpus_read_folder says what is refused), or makes the built-in corpus where name is
 * "synthetic", under the vocabulary that `how` asks for. */
int corpus_read(Corpus *c, const char *name, const CorpusRead *how, Error *e);

/* The same for all three splits; vocab NULL: the vocabulary is built from train. */
int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e);

#endif
