/* features: a table of feature matrices, utterance by utterance, in the order of its script
 * (feats.scp) or, if there is none, of its archive (feats.ark). Matrix files are mapped one at a
 * time. */
#ifndef PLSTM_FEATURES_H
#define PLSTM_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "kaldi.h"

typedef struct MappedFile {
    char *path;
    void *bytes; /* (n); NULL: no file is mapped */
    size_t n;
} MappedFile;

typedef struct Features {
    MappedFile table;  /* the script or the archive */
    MappedFile matrix; /* the file that the last line read from the script names */
    bool script;       /* table is a script */
    KaldiText text;    /* position in the script */
    size_t at;         /* offset in the archive */
    char *folder;      /* the script's folder, for relative paths; "" for the current one */
} Features;

/* Returns the path of a folder's table: its feats.scp, else its feats.ark; allocated by malloc.
 * NULL: memory ran out. */
char *features_path(const char *folder);

/* Opens a script (a path that ends in .scp), an archive, or a folder that holds one of them.
 * EXIT_BAD_DATA: there is no such file, or it is empty or not a regular file. */
int features_open(Features *f, const char *path, Error *e);
void features_close(Features *f);

/* Reads the next utterance; entry->name NULL: there are no more. The memory to which entry points
 * stays valid until the next call. A path in a script is relative to the script's folder, or else
 * to the current one. EXIT_BAD_DATA: the table or a file that it names is invalid. */
int features_next(Features *f, KaldiEntry *entry, Error *e);

/* Copies the entry's matrix (rows,cols) to `to`. EXIT_BAD_DATA: a value is not finite; the sentence
 * names utterance, frame and dimension. */
int features_read(const Features *f, const KaldiEntry *entry, float *to, Error *e);

/* Shifts and scales x (frames,F) to mean 0 and variance 1 per dimension (TASKS 4): in double, in
 * two passes, divided by the number of frames, with scale 1 / sqrt(max(variance, 1e-10)), and
 * rounded to float32. */
void features_normalise(float *x, int64_t frames, int64_t F);

#endif
