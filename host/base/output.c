#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A safetensors header follows eight bytes of length; its metadata come first, in the order that they are written. */
const FileKind kind_checkpoint = {"a checkpoint of plstm", 8,
                                  "{\"__metadata__\":{\"format\":\"pt\",\"plstm\":"};
const FileKind kind_dump = {"a dump of plstm", 8, "{\"__metadata__\":{\"format\":\"pt\",\"dump\":"};
const FileKind kind_train_log = {"a log of plstm train", 0, "{\"event\":\"run\","};
const FileKind kind_eval_log = {"a log of plstm eval", 0, "{\"event\":\"eval\","};
const FileKind kind_ensemble_log = {"a log of plstm ensemble", 0, "{\"event\":\"ensemble\","};
const FileKind kind_log_probs = {"an array of NumPy", 0, "\x93NUMPY"};
const FileKind kind_svg = {"an SVG figure", 0, "<svg "};
const FileKind kind_confusion = {"a table of confusions by plstm eval", 0, "target \\ taken for"};
const FileKind kind_archive = {"an archive of float matrices by Kaldi", FILE_KIND_NAMED, " "};

bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && S_ISREG(x.st_mode) && x.st_dev == y.st_dev &&
                             x.st_ino == y.st_ino);
}

/* Whether the bytes with which a file opens are a name, a blank and a binary float matrix, or are cut within them. */
static bool is_archive(const char *opening, size_t n)
{
    static const char matrix[] = " \0BFM \4";
    size_t name = 0, left = sizeof matrix - 1;
    while (name < n && (unsigned char)opening[name] > ' ' && opening[name] != 0x7f) name++;
    if (n - name < left) left = n - name;
    return name > 0 && !memcmp(opening + name, matrix, left);
}

/* Whether a regular file is empty or opens as the kind does; one that is cut within its opening does. */
static bool is_of_kind(const char *path, const FileKind *kind)
{
    char opening[512];
    bool named = kind->at == FILE_KIND_NAMED;
    size_t length = named ? sizeof opening : kind->at + strlen(kind->opening);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return true;
    ssize_t n = read(fd, opening, length < sizeof opening ? length : sizeof opening);
    close(fd);
    if (named) return n <= 0 || is_archive(opening, (size_t)n);
    if (n <= (ssize_t)kind->at) return n <= 0;
    return !memcmp(opening + kind->at, kind->opening, (size_t)n - kind->at);
}

int output_check(const char *option, const char *path, const FileKind *kind, const OtherFile *other, int n,
                 bool force, Error *e)
{
    struct stat file;
    char temporary[PATH_MAX + 8];
    if (force) return EXIT_DONE;
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    for (int i = 0; i < n; i++) {
        if (!other[i].path) continue;
        if (same_file(path, other[i].path))
            return error_set(e, EXIT_USAGE, "%s and %s take two files, not twice %s", option, other[i].what,
                             path);
        if (same_file(temporary, other[i].path))
            return error_set(e, EXIT_USAGE, "%s %s would be written by way of %s, which is the file of %s",
                             option, path, temporary, other[i].what);
    }
    if (stat(path, &file) || !S_ISREG(file.st_mode) || is_of_kind(path, kind)) return EXIT_DONE;
    return error_set(e, EXIT_BAD_DATA,
                     "%s %s is there and not %s; it was left as it is, and --force overwrites it", option,
                     path, kind->name);
}
