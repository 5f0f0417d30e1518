/* replace: a file written whole or not at all. The bytes go to a temporary `path.tmp` in the same folder, which is
 * synced and renamed over the old file; a kill at any moment leaves the old or the new one whole. The new file
 * has the old one's permissions and, where that is allowed, its owner and group; a symbolic link is written through:
 * what it points to is replaced. (Another hard link to the old file keeps the old bytes.)
 *
 * A killed writer leaves at most that one temporary, which the next writer takes over: it has a fixed name, and an
 * flock tells a live writer's from a dead one's (a pid would not: it means nothing on another host or in another
 * container). */
#ifndef PLSTM_REPLACE_H
#define PLSTM_REPLACE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "error.h"

typedef struct Replacement {
    char path[PATH_MAX];   /* links followed */
    char temp[PATH_MAX];   /* path.tmp */
    char folder[PATH_MAX]; /* of path */
    int fd; /* of temp, locked; its old content is the caller's to cut away: replace_begin */
} Replacement;

/* Opens and locks the temporary of path after everything that can be said before a byte is written: the folder
 * exists and is writable, path is no folder, device or read-only file. EXIT_BAD_DATA; `what` begins the sentence. */
int replace_open(Replacement *r, const char *path, const char *what, Error *e);

/* Each 0, or -1 with errno (ENOSPC, EDQUOT, EFBIG ...). */
int replace_begin(
    Replacement *r); /* empties the temporary and gives it the old file's permissions */
int replace_write(Replacement *r, const void *bytes, size_t n);

/* Syncs, renames, syncs the folder and closes; ok false: something before failed, errno says what. On any failure the
 * temporary is removed, the old file is whole, and the sentence says so. */
int replace_finish(Replacement *r, bool ok, const char *what, Error *e);

/* Removes the temporary and closes: nothing was to be written. */
void replace_cancel(Replacement *r);

/* Whether path could be written, as replace_open says it, leaving nothing behind; the sentence begins with `option`
 * ("--save"). */
int replace_check(const char *path, const char *option, Error *e);

#endif
