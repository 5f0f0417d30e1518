/* output: checks before a command runs that its outputs will destroy nothing: no output is a file
 * that the command reads, and a file that exists at an output's path is of the kind that is to be
 * written. */
#ifndef PLSTM_OUTPUT_H
#define PLSTM_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

enum { FILE_KIND_NAMED = 0x10000 }; /* for FileKind.at */

/* A kind of file that this program writes, recognised by its opening bytes. */
typedef struct FileKind {
    const char *name; /* "a checkpoint of plstm" */
    size_t at;        /* offset of the opening; FILE_KIND_NAMED: it follows a name of any length */
    const char *opening;
    /* A log is appended to the file that exists, and may be a device; other kinds replace it as
     * a whole (replace.h). */
    bool log;
} FileKind;
extern const FileKind kind_checkpoint, kind_dump, kind_train_log, kind_eval_log, kind_ensemble_log,
    kind_log_probs, kind_svg, kind_confusion, kind_archive;

/* A file that the command reads; path NULL: none. */
typedef struct OtherFile {
    const char *what; /* "--resume", "the train text" */
    const char *path;
    /* An output of this kind may replace the file once it has been read; NULL: none may. */
    const FileKind *kind;
} OtherFile;

/* A file that the command writes; path NULL: none. */
typedef struct Output {
    const char *option, *path; /* "--save" */
    const FileKind *kind;
} Output;

/* Returns whether the paths are equal, name one regular file, or would create the same file. */
bool same_file(const char *a, const char *b);

/* Checks the outputs, and their temporaries (replace.h), against the files that are read and
 * against each other: EXIT_USAGE if two are the same file. Then checks the file that exists at each
 * path: EXIT_BAD_DATA if it cannot be written, or if it is neither empty nor of that kind and force
 * is not given. A device or a pipe is of every kind. The checks leave no file behind. */
int outputs_check(const Output *output, int outputs, const OtherFile *read, int n, bool force,
                  Error *e);

#endif
