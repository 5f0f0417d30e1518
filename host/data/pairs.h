/* pairs: turns a folder of parallel text into the rows of a translation model (TASKS 4).
 *
 * A pair is a line of the source file and the same line of the target file. Its row reads the
 * source words (in reverse order by default), the source's <eos>, then the target words, whose ids
 * follow the source's. It is scored from that <eos>, which predicts the first target word, to the
 * last target word, which predicts the target's <eos>. */
#ifndef PLSTM_PAIRS_H
#define PLSTM_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"
#include "sequences.h"
#include "vocab.h"

enum { SIDE_SOURCE, SIDE_TARGET, SIDES };
extern const char *const side_name[SIDES]; /* "source", "target" */

enum { PAIRS_TRAIN, PAIRS_VALID, PAIRS_TEST /* the first test split */ };

typedef struct PairSplit {
    char *name;     /* the files' name without the language: "train", "val", "test_2016_flickr" */
    bool read;      /* the split was read, and the other fields are set */
    Sequences rows; /* in file order */
    /* all words; those missing in the vocabulary, which became <unk> */
    int64_t words[SIDES], unknown[SIDES];
    int64_t longest[SIDES]; /* words of the longest line */
    int64_t empty[SIDES];   /* lines without a word */
    bool bom[SIDES];        /* a byte-order mark was removed */
} PairSplit;

typedef struct PairsOptions {
    const char *dir; /* a folder, or "synthetic" */
    /* endings of the files' names; NULL for the built-in corpus */
    const char *language[SIDES];
    bool forward;      /* source words keep their order */
    int64_t min_count; /* occurrences in training for which a word becomes a type */
    unsigned wanted;   /* EVAL_VALID, EVAL_TEST (settings.h): the splits to read beside train */
    /* (SIDES) the vocabularies of the rows' ids, which are copied; NULL: they are built from the
     * training text */
    const Vocab *vocab;
} PairsOptions;

typedef struct Pairs {
    PairsOptions o;
    Vocab vocab[SIDES];
    PairSplit *split; /* (n_splits) train, valid, then the test splits by name */
    int n_splits;
    char sha256[65];       /* TASKS 3; "" unless every split was read */
    char train_sha256[65]; /* of train alone; "" if it was not read */
    bool synthetic;        /* the built-in corpus (parallel.h) */
} Pairs;

/* Finds the splits, and reads train and the wanted ones. If vocabularies are given, no split is
 * read yet; pairs_read then reads the one that is needed. The caller keeps ownership of the
 * options' strings, which must outlive *p. EXIT_USAGE: the languages are equal, missing, or not
 * endings of file names; or they are given for the built-in corpus. EXIT_BAD_DATA: the folder lacks
 * a file, or a file is invalid. */
int pairs_load(Pairs *p, const PairsOptions *o, Error *e);
/* Reads a split unless it has been read. EXIT_BAD_DATA also if there is no test split of this
 * number. */
int pairs_read(Pairs *p, int split, Error *e);
void pairs_free(Pairs *p);
/* Returns the path of a split's text, allocated by malloc; NULL: memory ran out. */
char *pairs_path(const Pairs *p, int split, int side);

/* Returns the id of a word in a vocabulary by count, ID_UNKNOWN if it lacks the word. */
int32_t pairs_word(const Vocab *v, const char *word, size_t length);
/* Finds the next word of the line text[*at .. end) and moves *at past it. Returns its length, 0 if
 * there is none. */
size_t pairs_next_word(const char *text, int64_t *at, int64_t end, const char **word);

#endif
