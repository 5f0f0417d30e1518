/* pairs: a folder of parallel text -> the rows of a translation model (TASKS 4).
 *
 * A pair is a line of the source file and the same line of the target file. Its row reads the source words (reversed
 * unless asked otherwise), the source's <eos>, the target words, whose ids follow the source's; it is scored from that
 * <eos> on, which predicts the first target word, to the last target word, which predicts the target's <eos>. */
#ifndef PLSTM_PAIRS_H
#define PLSTM_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"
#include "sequences.h"
#include "vocab.h"

enum { SIDE_SOURCE, SIDE_TARGET, SIDES };
extern const char *const side_name[SIDES]; /* "source", "target" */

enum { PAIRS_TRAIN, PAIRS_VALID, PAIRS_TEST /* the first of them */ };

typedef struct PairSplit {
    char *name;     /* the files' name without its language: "train", "val", "test_2016_flickr" */
    bool read;      /* the rest is filled */
    Sequences rows; /* in file order */
    int64_t words[SIDES],
        unknown[SIDES];     /* words that the vocabulary lacks and that became <unk> */
    int64_t longest[SIDES]; /* words of the longest line */
    int64_t empty[SIDES];   /* lines without a word */
    bool bom[SIDES];        /* a byte-order mark was taken off */
} PairSplit;

typedef struct PairsOptions {
    const char *dir; /* or "synthetic" */
    const char
        *language[SIDES]; /* endings of the files' names; not looked at for the built-in corpus */
    bool forward;         /* source words stay in their order */
    int64_t min_count;    /* of a type of the vocabulary */
    unsigned wanted; /* EVAL_VALID, EVAL_TEST (settings.h): beside train, which splits are read */
    const Vocab
        *vocab; /* (SIDES) whose ids the rows get, copied; NULL: made from the training text */
} PairsOptions;

typedef struct Pairs {
    PairsOptions o;
    Vocab vocab[SIDES];
    PairSplit *split; /* train, valid, tests by name */
    int n_splits;
    char sha256[65];       /* TASKS 3; "" unless every split was read */
    char train_sha256[65]; /* of train alone; "" where it was not read */
    bool synthetic;        /* the built-in corpus (parallel.h) */
} Pairs;

/* Finds the splits, and reads train and what is wanted unless a vocabulary is given: then pairs_read reads what is needed.
 * The options' strings stay the caller's. EXIT_USAGE: the languages are equal, missing or no endings of a file's name.
 * EXIT_BAD_DATA: what the folder lacks, or what is wrong with a file. */
int pairs_load(Pairs *p, const PairsOptions *o, Error *e);
/* Reads a split if that was not done yet. EXIT_BAD_DATA, too, where there is no test that has this number. */
int pairs_read(Pairs *p, int split, Error *e);
void pairs_free(Pairs *p);
/* Path of a split's text; malloc'd, NULL when memory ran out. */
char *pairs_path(const Pairs *p, int split, int side);

/* Id of a word in a vocabulary by count. */
int32_t pairs_word(const Vocab *v, const char *word, size_t length);
/* Next word of the line text[*at .. end), which *at then stands behind; its length, 0 where there is none. */
size_t pairs_next_word(const char *text, int64_t *at, int64_t end, const char **word);

#endif
