/* npy: NumPy's file format for one array, as `numpy.save` writes and `numpy.load` reads it: a
 * magic, a version, a header that is a Python dict of dtype, order and shape, then the elements.
 * This reader supports little-endian float32 and float16 in C order, in format versions 1 to 3. It
 * trusts nothing in the file: it checks every length before it reads an element.
 *
 * The header may end in a comment (`# ...`), which numpy.load skips. plstm uses it as a note on the
 * array's contents. */
#ifndef PLSTM_NPY_H
#define PLSTM_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

typedef enum NpyDtype { NPY_F32, NPY_F16 } NpyDtype;

enum { NPY_MAX_RANK = 8, NPY_NOTE_SIZE = 512 };

typedef struct NpyFile {
    NpyDtype dtype;
    int rank; /* 0: a single element */
    int64_t shape[NPY_MAX_RANK];
    int64_t n;                /* elements: the product of shape */
    char note[NPY_NOTE_SIZE]; /* the comment without `# ` and its newline; "" if there is none */
    const void *data;         /* (n), not aligned: use npy_floats */
    /* the mapped file of map_bytes bytes, or NULL if the caller owns the bytes */
    void *map;
    size_t map_bytes;
} NpyFile;

/* Maps a file (host/base/map_file.h) and checks all of it. EXIT_BAD_DATA: one sentence that names
 * file and reason. */
int npy_open(NpyFile *f, const char *path, Error *e);
/* Parses bytes, which the caller owns and which must outlive *f; `path` is only for the
 * sentence. */
int npy_parse(NpyFile *f, const void *bytes, size_t n, const char *path, Error *e);
void npy_close(NpyFile *f);

/* Copies elements from .. from+n-1 as float32. */
void npy_floats(const NpyFile *f, int64_t from, int64_t n, float *to);

/* Writes float32 values (shape[0], ..) of rank 1 to NPY_MAX_RANK atomically (host/base/replace.h);
 * the same input gives the same bytes. note: printable ASCII shorter than NPY_NOTE_SIZE, or "".
 * EXIT_BAD_DATA: the file cannot be written; the sentence begins with `what`. */
int npy_write(const char *path, const char *what, const float *values, const int64_t *shape,
              int rank, const char *note, Error *e);

#endif
