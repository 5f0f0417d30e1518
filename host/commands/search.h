/* search: what the commands share that find words behind an input by beam search (translate, caption): their options, the models,
 * and how what was found is printed. */
#ifndef PLSTM_SEARCH_H
#define PLSTM_SEARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/json_line.h"
#include "host/base/options.h"
#include "host/store/checkpoint.h"
#include "host/train/decode.h"

typedef struct SearchOptions {
    const PathList *weights; /* at least one */
    int64_t beam, batch;     /* width; inputs at a time */
    int64_t nbest;           /* 0: the best output alone */
    double penalty;          /* scores are divided by length^penalty */
    bool json;               /* an object a line */
    const char *backend;
    int threads; /* 0: as many as this process may use */
    FILE *notes; /* remarks for people; NULL: none */
} SearchOptions;

typedef struct Search {
    const SearchOptions *o;
    FILE *out;
    const char *unit; /* what an input is called in JSON: "sentence", "image" */
    Checkpoint first; /* whose vocabularies and settings hold */
    Decoder *decoder;
    /* Members of an output's JSON object behind the usual ones, or NULL. */
    void (*more)(const void *user, int64_t number, const char *words, JsonLine *l);
    const void *user;

    /* its own */
    Model *model; /* (n) */
    int n;
    JsonLine line;
} Search;

/* Opens the models, which are of that task, and the decoder; search_close is due also where it fails. *s is zero before but for
 * unit and more. EXIT_BAD_DATA: a file that is no such model, files of different vocabularies or sizes. */
int search_open(Search *s, const SearchOptions *o, const char *task, FILE *out, Error *e);
void search_close(Search *s);

/* Prints what was found for input `number`; beam NULL: nothing was searched, its output is empty.
 *   best alone   the words
 *   nbest        a line for each: number ||| words ||| score
 *   json         {"UNIT":number,"found":[{"words":"..","logp":..,"score":..}]}, nbest of them */
int search_print(Search *s, int64_t number, const Beam *beam, Error *e);
/* EXIT_FAILED: the output cannot be written. */
int search_flush(Search *s, Error *e);

#endif
