/* source: where a corpus comes from: a folder of texts, or the built-in generator. */
#ifndef PLSTM_SOURCE_H
#define PLSTM_SOURCE_H

#include "corpus.h"

/* The built-in corpus when name is "synthetic", otherwise that of the folder `name` (corpus_read, which says what vocab
 * means and what is refused). */
int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e);

#endif
