/* safetensors: reading and writing the file format (an 8-byte length, a JSON header, raw tensors), and nothing of what is in it.
 * A reader trusts nothing: every length, offset, dtype, hole, overlap and duplicate key is checked before data is touched. */
#ifndef PLSTM_SAFETENSORS_H
#define PLSTM_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

typedef enum StDtype { ST_U8, ST_I32, ST_I64, ST_F16, ST_BF16, ST_F32, ST_F64, ST_DTYPES } StDtype;
size_t st_dtype_size(StDtype d);
const char *st_dtype_name(StDtype d); /* "F32" */

enum { ST_MAX_RANK = 8 };

typedef struct StTensor {
    const char *name;
    StDtype dtype;
    int rank;
    int64_t shape[ST_MAX_RANK];
    const void *data; /* reading: into the file's bytes, aligned for dtype; writing: the caller's */
    size_t bytes;
} StTensor;

typedef struct StMeta {
    const char *key, *value;
} StMeta;

typedef struct StFile {
    StTensor *tensors;
    int n_tensors;
    StMeta *meta; /* __metadata__ */
    int n_meta;
    void *map; /* whole file */
    size_t map_bytes;
    void *header; /* owner of the strings */
} StFile;

/* Maps a file read-only and checks all of it. EXIT_BAD_DATA: one sentence that names file and fault. */
int st_open(StFile *f, const char *path, Error *e);
/* The same over bytes that stay the caller's (8-byte aligned); `path` is only for the sentence. st_close frees what it made. */
int st_parse(StFile *f, const void *bytes, size_t n, const char *path, Error *e);
void st_close(StFile *f);

const StTensor *st_find(const StFile *f, const char *name); /* or NULL */
const char *st_meta(const StFile *f, const char *key);      /* or NULL */

/* Writes path atomically: path.tmp.PID-like temporary in the same folder, fsync, rename, fsync of the folder; on any failure the
 * temporary is removed and an old file stays whole. Tensors and metadata in the order given; the same input gives the same
 * bytes. The data offset is a multiple of 8. EXIT_BAD_DATA: cannot be written (names path and cause: full disk ...). */
int st_write(const char *path, const StTensor *tensors, int n_tensors, const StMeta *meta, int n_meta, Error *e);

/* Whether st_write could write there (folder exists, is writable; path is not a folder), leaving nothing behind.
 * Checked before the first step. EXIT_BAD_DATA names `option`. */
int st_writable(const char *path, const char *option, Error *e);

#endif
