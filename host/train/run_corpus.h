/* run_corpus: the text of a training run: the splits that it needs, under the vocabulary that it is to have, and for a run
 * that resumes the text that its file was trained on. */
#ifndef PLSTM_RUN_CORPUS_H
#define PLSTM_RUN_CORPUS_H

#include <stdio.h>

#include "host/base/output.h"
#include "host/base/settings.h"
#include "host/data/corpus.h"
#include "host/store/checkpoint.h"

/* Reads settings->data: train, and what is scored. resume NULL: a fresh run. EXIT_USAGE where the text is not the file's. */
int run_corpus(Corpus *c, const Settings *s, const Checkpoint *resume, Error *e);

/* The files that reading `splits` (bits) of dir would open, for outputs_check; `dir` may be NULL. Freed by
 * corpus_paths_free. */
enum { CORPUS_PATHS = 64 };
typedef struct CorpusPaths {
    OtherFile file[CORPUS_PATHS + 2]; /* (n), and room for two of the caller's */
    char *path[CORPUS_PATHS];         /* malloc'd, or NULL */
    int n;
} CorpusPaths;
int corpus_paths(CorpusPaths *p, const char *dir, const char *vocab, Error *e);
void corpus_paths_free(CorpusPaths *p);

/* What was found in the files of a corpus and is no fault, a line each. */
void tell_remarks(const Corpus *c, FILE *out);

#endif
