/* kaldi: Kaldi's tables as bytes: matrices in an archive (`utterance MATRIX utterance MATRIX ...`), a script of places (`utterance
 * path:offset` a line), lists of whole numbers as text (`utterance id id ...` a line). Matrices are binary (float32, float64, or
 * compressed in one of three ways) or text (`[`, a row a line, `]`). A reader trusts nothing: every length is checked before an
 * element is touched, and whatever the bytes, the answer is a value or one sentence (EXIT_BAD_DATA). Bytes stay the caller's. */
#ifndef PLSTM_KALDI_H
#define PLSTM_KALDI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "host/base/replace.h"

/* ---- a matrix ---- */

typedef enum KaldiKind {
    KALDI_TEXT,
    KALDI_F32, /* FM */
    KALDI_F64, /* DM */
    KALDI_CM,  /* a byte an element, quartiles for each column */
    KALDI_CM2, /* two bytes an element */
    KALDI_CM3, /* a byte an element */
} KaldiKind;

typedef struct KaldiMatrix {
    KaldiKind kind;
    int64_t rows, cols;        /* both 0 where one is */
    float least, range;        /* of a compressed one: values lie in least .. least + range */
    const unsigned char *data; /* (data_bytes) behind its header, not aligned */
    size_t data_bytes;
    size_t bytes; /* from its first byte to its end */
} KaldiMatrix;

/* The matrix with which bytes (n) begin; more may follow. `what` begins the sentence: "feats.ark, utterance a". Text is checked number
 * by number; whether values are finite is the caller's to ask. */
int kaldi_matrix_parse(KaldiMatrix *m, const void *bytes, size_t n, const char *what, Error *e);

/* All elements, (rows,cols) row-major. Doubles are rounded, compressed elements computed as Kaldi does. */
void kaldi_matrix_read(const KaldiMatrix *m, float *to);

/* ---- an archive ---- */

enum { KALDI_NAME = 256 }; /* room for an utterance's name and a NUL; longer ones are refused */

typedef struct KaldiEntry {
    const char *name; /* (name_bytes) in bytes; NULL: the archive has ended */
    size_t name_bytes;
    KaldiMatrix matrix;
} KaldiEntry;

/* The entry at bytes[*at], which *at then stands behind. path is for the sentence. */
int kaldi_archive_next(const void *bytes, size_t n, size_t *at, const char *path, KaldiEntry *entry,
                       Error *e);

/* Appends `name` and a float32 matrix (rows,cols) to an archive that is being written; 0, or -1 with errno. */
int kaldi_archive_put(Replacement *r, const char *name, const float *values, int64_t rows,
                      int64_t cols);

/* ---- lines of text ---- */

typedef struct KaldiText {
    const char *at, *end;
    const char *path; /* for the sentence */
    int64_t line;     /* 1-based, of the line last taken */
} KaldiText;

typedef struct KaldiPlace {
    const char *name, *path; /* (name_bytes), (path_bytes); name NULL: there are no more lines */
    size_t name_bytes, path_bytes;
    uint64_t offset; /* of the matrix in that file; 0 where the line gives none */
} KaldiPlace;

/* A line of a script. Commands (`gzip -cd x |`), standard input and parts of matrices (`[0:9]`) are refused. */
int kaldi_script_next(KaldiText *t, KaldiPlace *place, Error *e);

typedef struct KaldiLabels {
    const char *name, *ids; /* name NULL: there are no more lines; ids: the text of the numbers */
    size_t name_bytes, ids_bytes;
    int64_t n;       /* numbers */
    int32_t largest; /* -1 where n is 0 */
} KaldiLabels;

enum { KALDI_MAX_LABEL = 9999999 };

/* A line of labels, whole numbers from 0 to KALDI_MAX_LABEL, all checked; labels_read gives them (n). */
int kaldi_labels_next(KaldiText *t, KaldiLabels *labels, Error *e);
void kaldi_labels_read(const KaldiLabels *labels, int32_t *to);

typedef struct KaldiPhone {
    const char *name; /* NULL: there are no more lines */
    size_t name_bytes;
    int32_t id;
    bool silence;
} KaldiPhone;

/* A line `name id`, or `name id silence`. */
int kaldi_phone_next(KaldiText *t, KaldiPhone *phone, Error *e);

#endif
