#include "replace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Follows symbolic links of the last component by hand, since realpath refuses a link to a file
 * that does not exist yet. Returns 0, or -1 with errno. */
static int follow_links(Replacement *r, const char *path)
{
    if ((size_t)snprintf(r->path, sizeof r->path, "%s", path) >= sizeof r->path)
        return errno = ENAMETOOLONG, -1;
    if (!path[0]) return errno = ENOENT, -1;
    for (int links = 0;; links++) {
        char link[PATH_MAX], joined[2 * PATH_MAX];
        ssize_t n = readlink(r->path, link, sizeof link - 1);
        if (n < 0) break; /* not a link, or missing: opening the temporary reports why */
        if (links == 40) return errno = ELOOP, -1;
        link[n] = 0;
        const char *slash = link[0] == '/' ? NULL : strrchr(r->path, '/');
        int length = snprintf(joined, sizeof joined, "%.*s%s",
                              slash ? (int)(slash - r->path + 1) : 0, r->path, link);
        if ((size_t)length >= sizeof r->path) return errno = ENAMETOOLONG, -1;
        memcpy(r->path, joined, (size_t)length + 1);
    }
    if ((size_t)snprintf(r->temp, sizeof r->temp, "%.*s.tmp", PATH_MAX - 1, r->path) >=
        sizeof r->temp)
        return errno = ENAMETOOLONG, -1;
    strcpy(r->folder, r->path);
    char *slash = strrchr(r->folder, '/');
    if (!slash) strcpy(r->folder, ".");
    else slash[slash == r->folder] = 0;
    return 0;
}

/* Opens and locks the temporary, whose content is whatever a killed writer left. Returns 0, or -1
 * with errno. */
static int lock_temporary(Replacement *r)
{
    for (;;) {
        r->fd = open(r->temp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (r->fd < 0) return -1;
        /* Waits for another run that saves to the same path. A file system without locks is
         * accepted. */
        while (flock(r->fd, LOCK_EX) && errno == EINTR) {
        }
        struct stat mine, there;
        if (fstat(r->fd, &mine) || !S_ISREG(mine.st_mode)) {
            int cause = S_ISREG(mine.st_mode) ? errno : EEXIST;
            close(r->fd);
            return errno = cause, -1;
        }
        /* While this process waited, the other may have renamed or removed the file that it had
         * locked. Then r->fd is no longer the temporary but perhaps the finished file, which is why
         * the open above does not truncate. */
        if (!lstat(r->temp, &there) && there.st_dev == mine.st_dev && there.st_ino == mine.st_ino)
            return 0;
        close(r->fd);
    }
}

int replace_open(Replacement *r, const char *path, const char *what, Error *e)
{
    struct stat st;
    if (follow_links(r, path))
        return error_set(e, EXIT_BAD_DATA, "%s cannot be written: %s", what, strerror(errno));
    if (r->path[strlen(r->path) - 1] == '/' || (!stat(r->path, &st) && S_ISDIR(st.st_mode)))
        return error_set(e, EXIT_BAD_DATA, "%s cannot be written: it is a folder, not a file",
                         what);
    if (!stat(r->path, &st)) {
        /* A rename would replace a device by a file, and overwrite a file that is read-only on
         * purpose. */
        if (!S_ISREG(st.st_mode))
            return error_set(e, EXIT_BAD_DATA, "%s cannot be written: it is not a regular file",
                             what);
        if (access(r->path, W_OK))
            return error_set(e, EXIT_BAD_DATA, "%s cannot be written: %s", what, strerror(errno));
    }
    if (lock_temporary(r)) {
        int cause = errno;
        if (cause == ENOENT && stat(r->folder, &st))
            return error_set(e, EXIT_BAD_DATA, "%s cannot be written: there is no folder %s", what,
                             r->folder);
        return error_set(e, EXIT_BAD_DATA, "%s cannot be written: %s: %s", what, r->temp,
                         strerror(cause));
    }
    return EXIT_DONE;
}

int replace_begin(Replacement *r)
{
    struct stat old;
    if (ftruncate(r->fd, 0)) return -1;
    if (stat(r->path, &old)) return 0;
    /* Keeps owner and group together, else the group alone, else neither. Then sets the
     * permissions, which a change of owner may have reduced. A group that cannot be kept gets no
     * more than everybody else has. */
    mode_t mode = old.st_mode & 07777;
    if (fchown(r->fd, old.st_uid, old.st_gid) && fchown(r->fd, (uid_t)-1, old.st_gid))
        mode &= ~(mode_t)070 | (mode & 07) << 3;
    fchmod(r->fd, mode); /* if the file system has permissions at all */
    return 0;
}

int replace_write(Replacement *r, const void *bytes, size_t n)
{
    for (const char *p = bytes; n > 0;) {
        ssize_t done = write(r->fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (done == 0) errno = EIO;
            return -1;
        }
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int sync_fd(int fd)
{
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

/* The rename itself survives a power cut only once its folder is on disk. If a folder cannot be
 * opened (no read permission) or synced (the file system has no such operation), the file system's
 * own order has to suffice. */
static int folder_sync(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return 0;
    int failed = sync_fd(fd) && errno != EINVAL && errno != ENOTSUP;
    int cause = errno;
    close(fd);
    return failed ? (errno = cause, -1) : 0;
}

int replace_finish(Replacement *r, bool ok, const char *what, Error *e)
{
    int code = EXIT_DONE;
    if (!ok || sync_fd(r->fd) || rename(r->temp, r->path)) {
        code = error_set(e, EXIT_BAD_DATA,
                         "%s cannot be written: %s; an earlier file of that name was not changed",
                         what, strerror(errno));
        unlink(r->temp);
    } else if (folder_sync(r->folder)) {
        code = error_set(e, EXIT_BAD_DATA,
                         "%s is written, but its folder cannot be synced to disk: %s", what,
                         strerror(errno));
    }
    close(r->fd); /* this also unlocks it: only now may another writer take the temporary's name */
    return code;
}

void replace_cancel(Replacement *r)
{
    unlink(r->temp);
    close(r->fd);
}

int replace_check(const char *path, const char *option, Error *e)
{
    char what[PATH_MAX + 64];
    snprintf(what, sizeof what, "%s %s", option, path);
    Replacement r;
    int code = replace_open(&r, path, what, e);
    if (!code) replace_cancel(&r);
    return code;
}
