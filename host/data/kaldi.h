/* kaldi: parses Kaldi's tables from memory: archives of matrices (`utterance MATRIX utterance
 * MATRIX ...`), scripts of places (`utterance path:offset` per line), and lists of whole numbers as
 * text (`utterance id id ...` per line). A matrix is binary (float32, float64, or compressed in one
 * of three ways) or text (`[`, one row per line, `]`). The parsers trust nothing: they check every
 * length before they touch an element, and whatever the bytes are, they return a value or one
 * sentence (EXIT_BAD_DATA). The caller owns the bytes. */
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
    KALDI_CM,  /* one byte per element, quartiles per column */
    KALDI_CM2, /* two bytes per element */
    KALDI_CM3, /* one byte per element */
} KaldiKind;

typedef struct KaldiMatrix {
    KaldiKind kind;
    int64_t rows, cols;        /* both 0, or both positive */
    float least, range;        /* only if compressed: values lie in least .. least + range */
    const unsigned char *data; /* (data_bytes) after the header, not aligned */
    size_t data_bytes;
    size_t bytes; /* size of the whole matrix, header included */
} KaldiMatrix;

/* Parses the matrix at the start of bytes (n); more bytes may follow. `what` begins the sentence:
 * "feats.ark, utterance a". In a matrix in text form, every number is checked. The caller must
 * check whether values are finite. */
int kaldi_matrix_parse(KaldiMatrix *m, const void *bytes, size_t n, const char *what, Error *e);

/* Copies all elements to `to` (rows,cols), row-major. Doubles are rounded; compressed elements are
 * computed as Kaldi does. */
void kaldi_matrix_read(const KaldiMatrix *m, float *to);

/* ---- an archive ---- */

enum { KALDI_NAME = 256 }; /* bytes of a name and a NUL; longer names are refused */

typedef struct KaldiEntry {
    const char *name; /* (name_bytes) points into bytes; NULL: the archive has ended */
    size_t name_bytes;
    KaldiMatrix matrix;
} KaldiEntry;

/* Parses the entry at bytes[*at] of an archive (n) and moves *at past it. path is for the
 * sentence. */
int kaldi_archive_next(const void *bytes, size_t n, size_t *at, const char *path, KaldiEntry *entry,
                       Error *e);

/* Appends `name` and a float32 matrix (rows,cols) to an archive that is being written. Returns 0,
 * or -1 with errno set. */
int kaldi_archive_put(Replacement *r, const char *name, const float *values, int64_t rows,
                      int64_t cols);

/* ---- lines of text ---- */

typedef struct KaldiText {
    const char *at, *end; /* the text that has not been parsed */
    const char *path;     /* for the sentence */
    int64_t line;         /* number of the line last parsed, from 1 */
} KaldiText;

typedef struct KaldiPlace {
    const char *name, *path; /* (name_bytes), (path_bytes); name NULL: there are no more lines */
    size_t name_bytes, path_bytes;
    uint64_t offset; /* of the matrix in that file; 0 if the line gives none */
} KaldiPlace;

/* Parses a line of a script. Commands (`gzip -cd x |`), standard input and parts of matrices
 * (`[0:9]`) are refused. */
int kaldi_script_next(KaldiText *t, KaldiPlace *place, Error *e);

typedef struct KaldiLabels {
    const char *name, *ids; /* name NULL: there are no more lines; ids: the text of the numbers */
    size_t name_bytes, ids_bytes;
    int64_t n;       /* number of labels */
    int32_t largest; /* -1 if n is 0 */
} KaldiLabels;

enum { KALDI_MAX_LABEL = 9999999 };

/* Parses a line of labels, all of which must be whole numbers from 0 to KALDI_MAX_LABEL;
 * kaldi_labels_read copies them to `to` (n). */
int kaldi_labels_next(KaldiText *t, KaldiLabels *labels, Error *e);
void kaldi_labels_read(const KaldiLabels *labels, int32_t *to);

typedef struct KaldiPhone {
    const char *name; /* NULL: there are no more lines */
    size_t name_bytes;
    int32_t id;
    bool silence;
} KaldiPhone;

/* Parses a line `name id` or `name id silence`. */
int kaldi_phone_next(KaldiText *t, KaldiPhone *phone, Error *e);

#endif
