/* npy: NumPy's file format for one array, as `numpy.save` writes and `numpy.load` reads it: a magic, a version, a header that is a
 * Python dict of dtype, order and shape, then the elements. What is read here: little-endian float32 and float16 in C order, format
 * versions 1 to 3. A reader trusts nothing: every length is checked before an element is touched.
 *
 * The header may end in a comment (`# ...`), which numpy.load skips. What an array is about stands there: the note. */
#ifndef PLSTM_NPY_H
#define PLSTM_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

typedef enum NpyDtype { NPY_F32, NPY_F16 } NpyDtype;

enum { NPY_MAX_RANK = 8, NPY_NOTE_SIZE = 512 };

typedef struct NpyFile {
    NpyDtype dtype;
    int rank; /* 0: one element */
    int64_t shape[NPY_MAX_RANK];
    int64_t n;                /* elements, the product of shape */
    char note[NPY_NOTE_SIZE]; /* the comment without `# ` and its end, "" where there is none */
    const void *data;         /* (n), not aligned: npy_floats reads it */
    void *map; /* the mapped file, map_bytes long, or NULL when the bytes are the caller's */
    size_t map_bytes;
} NpyFile;

/* Maps a file (host/base/map_file.h) and checks all of it. EXIT_BAD_DATA: one sentence that names file and fault. */
int npy_open(NpyFile *f, const char *path, Error *e);
/* The same over bytes that stay the caller's; `path` is only for the sentence. */
int npy_parse(NpyFile *f, const void *bytes, size_t n, const char *path, Error *e);
void npy_close(NpyFile *f);

/* Elements from .. from+n-1 as float32. */
void npy_floats(const NpyFile *f, int64_t from, int64_t n, float *to);

/* Writes float32 values (shape[0], ..) of rank 1 to NPY_MAX_RANK, atomically (host/base/replace.h); the same input gives the same
 * bytes. note: printable ASCII shorter than NPY_NOTE_SIZE, or "". EXIT_BAD_DATA; the sentence begins with `what`. */
int npy_write(const char *path, const char *what, const float *values, const int64_t *shape,
              int rank, const char *note, Error *e);

#endif
