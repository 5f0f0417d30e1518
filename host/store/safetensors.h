/* safetensors: reads and writes the file format (an 8-byte length, a JSON header, raw tensors),
 * whatever the tensors mean. The reader trusts nothing: it checks every length, offset, dtype,
 * hole, overlap and duplicate key before it touches data. */
#ifndef PLSTM_SAFETENSORS_H
#define PLSTM_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

/* Every dtype of whole bytes in the format, so that `info` can show other programs' files; plstm
 * itself writes F32 and U8. */
#define ST_DTYPE_LIST(X)                                                                           \
    X(BOOL, 1)                                                                                     \
    X(U8, 1)                                                                                       \
    X(I8, 1)                                                                                       \
    X(F8_E4M3, 1)                                                                                  \
    X(F8_E5M2, 1)                                                                                  \
    X(F8_E8M0, 1)                                                                                  \
    X(I16, 2)                                                                                      \
    X(U16, 2)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(I32, 4)                                                                                      \
    X(U32, 4)                                                                                      \
    X(F32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U64, 8)                                                                                      \
    X(F64, 8)                                                                                      \
    X(C64, 8)

#define ST_DTYPE_ENUM(name, size) ST_##name,
typedef enum StDtype { ST_DTYPE_LIST(ST_DTYPE_ENUM) ST_DTYPES } StDtype;
#undef ST_DTYPE_ENUM

size_t st_dtype_size(StDtype d);
const char *st_dtype_name(StDtype d); /* "F32" */

enum { ST_MAX_RANK = 8 };

/* The longest header in bytes that is read or written: the official reader's limit. */
#define ST_MAX_HEADER ((uint64_t)100000000)

typedef struct StTensor {
    const char *name;
    StDtype dtype;
    int rank;
    int64_t shape[ST_MAX_RANK];
    /* reading: into the file's bytes (or a copy of them), aligned for dtype; writing: owned by the
     * caller */
    const void *data;
    size_t bytes;
} StTensor;

typedef struct StMeta {
    const char *key, *value;
} StMeta;

typedef struct StFile {
    StTensor *tensors; /* in the header's order */
    int n_tensors;
    StMeta *meta; /* __metadata__, in the header's order */
    int n_meta;
    size_t file_bytes, header_bytes; /* of the whole file and of its JSON header with padding */
    /* the mapped file of map_bytes bytes, or NULL if the caller owns the bytes */
    void *map;
    size_t map_bytes;
    void *copy;   /* tensors that the file holds misaligned for their dtype */
    void *header; /* owns the strings */
} StFile;

/* Maps a file read-only (host/base/map_file.h) and checks all of it. EXIT_BAD_DATA: one sentence
 * that names file and reason. */
int st_open(StFile *f, const char *path, Error *e);
/* Parses bytes (8-byte aligned), which the caller owns and which must outlive *f; `path` is only
 * for the sentence. st_close frees what this allocates. */
int st_parse(StFile *f, const void *bytes, size_t n, const char *path, Error *e);
void st_close(StFile *f);

/* Releases the pages of the mapped file that were read so far, which would count as this process's
 * memory; the kernel reads them again when needed. */
void st_forget(const StFile *f);

/* Return the tensor of that name, or the value of that metadata key, owned by f; NULL: there is
 * none. */
const StTensor *st_find(const StFile *f, const char *name);
const char *st_meta(const StFile *f, const char *key);

/* Writes "F32 (800, 200)", for sentences and tables; returns out. */
enum { ST_KIND_SIZE = 16 + 22 * ST_MAX_RANK };
const char *st_kind(StDtype dtype, const int64_t *shape, int rank, char out[ST_KIND_SIZE]);

/* Metadata under construction: the list for st_write, and the bytes of formatted values. The caller
 * provides both, with room for everything; keys and values of st_put are not copied. */
typedef struct StMetaList {
    StMeta *item;
    int n;
    struct StMetaText {
        char key[40], value[128];
    } * text;
} StMetaList;
void st_put(StMetaList *m, const char *key, const char *value);
void st_put_count(StMetaList *m, const char *key, int64_t value);
void st_put_double(StMetaList *m, const char *key, double value); /* %.17g */

/* Writes path atomically (host/base/replace.h), with tensors and metadata in the order given; the
 * same input gives the same bytes. The data starts at a multiple of 8. Names and values are UTF-8.
 * EXIT_BAD_DATA: path cannot be written; the sentence names path and cause (full disk ...). */
int st_write(const char *path, const StTensor *tensors, int n_tensors, const StMeta *meta,
             int n_meta, Error *e);

#endif
