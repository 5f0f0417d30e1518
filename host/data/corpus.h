/* corpus: text -> vocabulary and int32 ids (SPEC 4). */
#ifndef PLSTM_CORPUS_H
#define PLSTM_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "vocab.h"

enum { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLITS };
extern const char *const split_name[SPLITS]; /* "train", "valid", "test" */

typedef struct Stream {
    int32_t *ids; /* (n) */
    int64_t n;
    int64_t unknown; /* tokens that the vocabulary lacks and that became <unk> */
} Stream;

typedef struct Corpus {
    Vocab vocab;
    Stream split[SPLITS];
    char sha256[65];      /* over the int32 little-endian ids of train, valid, test */
    bool synthetic;       /* the built-in corpus */
    const char *known_as; /* "Penn Treebank (Mikolov)" where the hash is recognised, "synthetic", or NULL */
} Corpus;

/* Reads DIR (see SPEC 4 for accepted file names), or builds the built-in corpus when dir is "synthetic".
 * vocab NULL: the vocabulary is built from train. Otherwise ids are those of *vocab, which is copied (a word
 * that it lacks becomes <unk>; without that type EXIT_BAD_DATA names the word). EXIT_BAD_DATA: missing or
 * empty file, NUL byte, more than 2^31-1 types ...; the sentence names file and fault. Peak memory: 4 bytes a
 * token and the vocabulary (files are read through a fixed buffer). */
int corpus_load(Corpus *c, const char *dir, const Vocab *vocab, Error *e);
void corpus_free(Corpus *c);

#endif
