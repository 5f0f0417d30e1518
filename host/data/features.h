/* features: a table of feature matrices, utterance by utterance, in the order of its script (feats.scp) or, where there is none, of its
 * archive (feats.ark). What a matrix lies in is mapped while it is read, one file at a time. */
#ifndef PLSTM_FEATURES_H
#define PLSTM_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "kaldi.h"

typedef struct MappedFile {
    char *path;
    void *bytes; /* (n); NULL: none is mapped */
    size_t n;
} MappedFile;

typedef struct Features {
    MappedFile table;  /* the script or the archive */
    MappedFile matrix; /* that the script's last line leads to */
    bool script;
    KaldiText text;
    size_t at;    /* in the archive */
    char *folder; /* of the script, for paths relative to it; "" where it lies in the present one */
} Features;

/* Path of the table of a folder: its feats.scp, else its feats.ark; malloc'd, NULL when memory ran out. */
char *features_path(const char *folder);

/* path: a script (by its ending .scp), an archive, or a folder that holds one. EXIT_BAD_DATA. */
int features_open(Features *f, const char *path, Error *e);
void features_close(Features *f);

/* The next utterance; entry->name NULL: that was the last. What entry points to holds until the next call. A path of a script is
 * relative to the script's folder, or else to the present one. */
int features_next(Features *f, KaldiEntry *entry, Error *e);

/* The entry's matrix, (rows,cols) at `to`; EXIT_BAD_DATA names utterance, frame and dimension of a value that is not finite. */
int features_read(const Features *f, const KaldiEntry *entry, float *to, Error *e);

/* Shifts and scales x (frames,F) to mean 0 and variance 1 per dimension (TASKS 4): in double, two passes, divided by the number of
 * frames, scale 1 / sqrt(max(variance, 1e-10)), rounded to float32. */
void features_normalise(float *x, int64_t frames, int64_t F);

#endif
