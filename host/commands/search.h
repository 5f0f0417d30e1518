/* search: the common part of the commands that find words for an input by beam search (translate,
 * caption): their options, the models, and the printing of the outputs. */
#ifndef PLSTM_SEARCH_H
#define PLSTM_SEARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"
#include "host/base/json_line.h"
#include "host/base/command.h"
#include "host/store/checkpoint.h"
#include "host/train/decode.h"

typedef struct SearchOptions {
    PathList weights;    /* at least one */
    int64_t beam, batch; /* width of the beam; inputs at a time */
    int64_t nbest;       /* 0: only the best output */
    double penalty;      /* scores are divided by length^penalty */
    bool json;           /* print one object per line */
    const char *backend;
    int threads; /* 0: as many as this process may use */
    FILE *notes; /* remarks for people; NULL: none */
} SearchOptions;

/* The common rows of the option table of a command whose record has a SearchOptions `search`. */
#define SEARCH_OPTIONS(Record, models, batch_name, batch_help)                                     \
    {"weights", TAKES_PATHS(models ", or several separated by commas"),                            \
     "a model of the task, or several, whose probabilities are averaged",                          \
     .at = offsetof(Record, search.weights), .needed = true},                                      \
        {"beam", TAKES_WHOLE(1, 1000),                                                             \
         "outputs to follow at a time; 1 always takes the likeliest word",                         \
         .at = offsetof(Record, search.beam), "12"},                                               \
        {"nbest", TAKES_WHOLE(1, 1000), "print the N best of each: number ||| words ||| score",    \
         .at = offsetof(Record, search.nbest)},                                                    \
        {"length-penalty",                                                                         \
         TAKES_NUMBER(0, 10),                                                                      \
         "the score is the sum of log p divided by length^A, where the length includes the end",   \
         .at = offsetof(Record, search.penalty),                                                   \
         "0",                                                                                      \
         "A"},                                                                                     \
        {"json", TAKES_NOTHING,                                                                    \
         "one object per line: the words of each output, their log p and score",                   \
         .at = offsetof(Record, search.json)},                                                     \
    {                                                                                              \
        batch_name, TAKES_WHOLE(1, 1000), batch_help, .at = offsetof(Record, search.batch), "20"   \
    }

/* Copies backend, threads and notes of a parsed line to the options. EXIT_USAGE: --nbest is larger
 * than the beam. */
int search_options(SearchOptions *o, const CommandLine *line, Error *e);

typedef struct Search {
    const SearchOptions *o;
    FILE *out;
    const char *unit; /* an input's name in JSON: "sentence", "image" */
    Checkpoint first; /* the first file, whose vocabularies and settings are used */
    Decoder *decoder;
    /* Adds members to the JSON object of an output, whose words and input number it gets; or
     * NULL. */
    void (*more)(const void *user, int64_t number, const char *words, JsonLine *l);
    const void *user;

    /* private */
    Model *model; /* (n) */
    int n;
    JsonLine line;
} Search;

/* Opens the models, which must be of that task, and the decoder. Before the call *s must be zero
 * except for unit, more and user. The caller keeps ownership of *o, which must outlive *s, and of
 * out. Call search_close also after a failure. EXIT_BAD_DATA: a file that is not such a model, or
 * models with different vocabularies or sizes. */
int search_open(Search *s, const SearchOptions *o, const char *task, FILE *out, Error *e);
void search_close(Search *s);

/* Prints the outputs for input `number`. If beam is NULL, no search was run, and the output is
 * empty.
 *
 *   best only  the words
 *   nbest      one line per output: number ||| words ||| score
 *   json       {"UNIT":number,"found":[{"words":"..","logp":..,"score":..}]}, nbest of them */
int search_print(Search *s, int64_t number, const Beam *beam, Error *e);
/* Flushes the output. EXIT_FAILED: it cannot be written. */
int search_flush(Search *s, Error *e);

#endif
