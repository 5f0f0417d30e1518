/* replace: a file that is written completely or not at all. The bytes go to a temporary `path.tmp`
 * in the same folder, which is synced and then renamed over the old file, so that a kill at any
 * moment leaves either the old or the new file complete. The new file gets the old one's
 * permissions and, where allowed, its owner and group. A symbolic link is followed: its target is
 * replaced. (Another hard link to the old file keeps the old bytes.)
 *
 * A killed writer leaves at most that one temporary, which the next writer takes over: its name is
 * fixed, and an flock distinguishes a live writer's temporary from a dead one's. (A pid would not,
 * since it means nothing on another host or in another container.) */
#ifndef PLSTM_REPLACE_H
#define PLSTM_REPLACE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "error.h"

typedef struct Replacement {
    char path[PATH_MAX];   /* after links are followed */
    char temp[PATH_MAX];   /* path.tmp */
    char folder[PATH_MAX]; /* of path */
    int fd;                /* of temp, locked; replace_begin discards its old content */
} Replacement;

/* Opens and locks the temporary of path, after every check that is possible before a byte is
 * written: the folder exists and is writable, and path is not a folder, device or read-only file.
 * EXIT_BAD_DATA: a check failed; `what` begins the sentence. */
int replace_open(Replacement *r, const char *path, const char *what, Error *e);

/* Empties the temporary and gives it the old file's permissions. Returns 0, or -1 with errno. */
int replace_begin(Replacement *r);

/* Appends n bytes to the temporary. Returns 0, or -1 with errno (ENOSPC, EDQUOT, EFBIG ...). */
int replace_write(Replacement *r, const void *bytes, size_t n);

/* Syncs, renames, syncs the folder and closes. ok false: an earlier write failed and errno says
 * why. On any failure the temporary is removed, the old file is complete, and the sentence says
 * so. */
int replace_finish(Replacement *r, bool ok, const char *what, Error *e);

/* Removes the temporary and closes, without writing anything. */
void replace_cancel(Replacement *r);

/* Checks, as replace_open does, whether path could be written, and leaves no file behind. The
 * sentence begins with `option` ("--save"). */
int replace_check(const char *path, const char *option, Error *e);

#endif
