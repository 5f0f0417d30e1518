/* run_corpus: reads the text of a training run: the splits that the run needs, with the ids of its
 * vocabulary. For a resumed run it checks that this is the text that the checkpoint was trained
 * on. */
#ifndef PLSTM_RUN_CORPUS_H
#define PLSTM_RUN_CORPUS_H

#include <stdio.h>

#include "host/base/output.h"
#include "host/base/settings.h"
#include "host/data/corpus.h"
#include "host/store/checkpoint.h"

/* Reads train and the splits that are scored from settings->data. resume NULL: a fresh run.
 * EXIT_USAGE: the text is not the checkpoint's. */
int run_corpus(Corpus *c, const Settings *s, const Checkpoint *resume, Error *e);

/* Lists for outputs_check the files of all splits of dir, and the vocabulary's file; either name
 * may be NULL. Freed by corpus_paths_free. */
enum { CORPUS_PATHS = 64 };
typedef struct CorpusPaths {
    OtherFile file[CORPUS_PATHS + 2]; /* (n), with room for two of the caller's */
    char *path[CORPUS_PATHS];         /* from malloc, or NULL */
    int n;
} CorpusPaths;
int corpus_paths(CorpusPaths *p, const char *dir, const char *vocab, Error *e);
void corpus_paths_free(CorpusPaths *p);

/* Prints one line for each harmless peculiarity of a corpus's files. */
void print_remarks(const Corpus *c, FILE *out);

#endif
