#include "map_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int map_file(const char *path, const char *kind, void **map, size_t *n, Error *e)
{
    /* Without O_NONBLOCK, opening a FIFO that has no writer would wait forever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        int cause = errno;
        if (fd >= 0) close(fd);
        return error_set(e, EXIT_BAD_DATA, "%s cannot be opened: %s", path, strerror(cause));
    }
    int code = EXIT_DONE;
    if (S_ISDIR(st.st_mode))
        code = error_set(e, EXIT_BAD_DATA, "%s is a folder, not %s", path, kind);
    else if (!S_ISREG(st.st_mode))
        code = error_set(e, EXIT_BAD_DATA, "%s is not a regular file", path);
    else if (st.st_size == 0) code = error_set(e, EXIT_BAD_DATA, "%s is empty", path);
    if (code) {
        close(fd);
        return code;
    }
    *n = (size_t)st.st_size;
    *map = mmap(NULL, *n, PROT_READ, MAP_PRIVATE, fd, 0);
    int cause = errno;
    close(fd);
    if (*map == MAP_FAILED)
        return error_set(e, EXIT_BAD_DATA, "%s cannot be read: %s", path, strerror(cause));
    return EXIT_DONE;
}
