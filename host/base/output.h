/* output: whether a path may be written to without losing something: it is no file that is read, and what lies there is
 * of the kind that is to be written. */
#ifndef PLSTM_OUTPUT_H
#define PLSTM_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

enum { FILE_KIND_NAMED = 0x10000 }; /* a FileKind's `at` */

/* What this program writes, told apart by how a file of it opens. */
typedef struct FileKind {
    const char *name; /* "a checkpoint of plstm" */
    size_t at;        /* of the opening; FILE_KIND_NAMED: behind the first blank */
    const char *opening;
    bool
        log; /* is appended to where it lies, and may be a device; others are replaced as a whole (replace.h) */
} FileKind;
extern const FileKind kind_checkpoint, kind_dump, kind_train_log, kind_eval_log, kind_ensemble_log,
    kind_log_probs, kind_svg, kind_confusion, kind_archive;

/* A file that the command reads; path NULL: none. */
typedef struct OtherFile {
    const char *what; /* "--resume", "the train text" */
    const char *path;
    const FileKind *
        kind; /* an output of this kind may take its place, once it has been read; NULL: none may */
} OtherFile;

/* A file that it writes; path NULL: none. */
typedef struct Output {
    const char *option, *path; /* "--save" */
    const FileKind *kind;
} Output;

/* By name, by two names of one regular file, or by two of one place where neither is yet. */
bool same_file(const char *a, const char *b);

/* Checks the outputs, and their temporaries (replace.h), against the files that are read and each other: EXIT_USAGE where
 * two are the same file; then the file that lies there: EXIT_BAD_DATA where it is neither empty nor of that kind, unless
 * force is given, and where nothing could be written there. A device or a pipe is of every kind. Nothing is left behind. */
int outputs_check(const Output *output, int outputs, const OtherFile *read, int n, bool force,
                  Error *e);

#endif
