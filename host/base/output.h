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
} FileKind;
extern const FileKind kind_checkpoint, kind_dump, kind_train_log, kind_eval_log, kind_ensemble_log,
    kind_log_probs, kind_svg, kind_confusion, kind_archive;

/* A file that the command reads, or another one that it writes; path NULL: none. */
typedef struct OtherFile {
    const char *what; /* "--resume", "the train text" */
    const char *path;
} OtherFile;

/* By name, or by two names of one regular file. */
bool same_file(const char *a, const char *b);

/* Checks the path of an output, and its temporary (replace.h), against the n others: EXIT_USAGE where one is the same
 * file; then the file that lies there: EXIT_BAD_DATA where it is neither empty nor of that kind. force: anything goes. A
 * device or a pipe is of every kind; a path that is not there or cannot be read is left to who opens it. */
int output_check(const char *option, const char *path, const FileKind *kind, const OtherFile *other, int n,
                 bool force, Error *e);

#endif
