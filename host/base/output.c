#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replace.h"

/* A safetensors header follows eight bytes of length. Its metadata come first, in the order in
 * which they are written. */
const FileKind kind_checkpoint = {"a checkpoint of plstm", 8,
                                  "{\"__metadata__\":{\"format\":\"pt\",\"plstm\":", false};
const FileKind kind_dump = {"a dump of plstm", 8,
                            "{\"__metadata__\":{\"format\":\"pt\",\"dump\":", false};
const FileKind kind_train_log = {"a log of plstm train", 0, "{\"event\":\"run\",", true};
const FileKind kind_eval_log = {"a log of plstm eval", 0, "{\"event\":\"eval\",", true};
const FileKind kind_ensemble_log = {"a log of plstm ensemble", 0, "{\"event\":\"ensemble\",", true};
const FileKind kind_log_probs = {"an array of NumPy", 0, "\x93NUMPY", false};
const FileKind kind_svg = {"an SVG figure", 0, "<svg ", false};
const FileKind kind_confusion = {"a table of confusions by plstm eval", 0, "target \\ taken for",
                                 false};
const FileKind kind_archive = {"an archive of float matrices by Kaldi", FILE_KIND_NAMED, " ",
                               false};

/* Where a file that does not exist yet would be created: the folder and the name in it. Dangling
 * links are followed. */
typedef struct Place {
    struct stat folder;
    char name[PATH_MAX];
} Place;

static bool place_of(const char *path, Place *p)
{
    enum { MOST_LINKS = 40 };
    char at[2 * PATH_MAX], link[PATH_MAX];
    if (strlen(path) >= PATH_MAX) return false;
    strcpy(at, path);
    for (int i = 0; i <= MOST_LINKS; i++) {
        char *slash = strrchr(at, '/'), *name = slash ? slash + 1 : at;
        ssize_t n = i < MOST_LINKS ? readlink(at, link, sizeof link - 1) : -1;
        if (n < 0) {
            snprintf(p->name, sizeof p->name, "%.*s", PATH_MAX - 1, name);
            *name = 0; /* the rest names the folder, or is empty */
            return !stat(*at ? at : ".", &p->folder);
        }
        link[n] = 0;
        size_t kept = link[0] == '/' ? 0 : (size_t)(name - at);
        if (kept + (size_t)n >= PATH_MAX) return false;
        strcpy(at + kept, link);
    }
    return false;
}

bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    Place p, q;
    if (!strcmp(a, b)) return true;
    bool has_a = !stat(a, &x), has_b = !stat(b, &y);
    if (has_a && has_b) return S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
    return !has_a && !has_b && place_of(a, &p) && place_of(b, &q) && !strcmp(p.name, q.name) &&
           p.folder.st_dev == q.folder.st_dev && p.folder.st_ino == q.folder.st_ino;
}

/* Returns whether the opening bytes of a file are a name, a blank and a binary float matrix, or a
 * prefix of that. */
static bool is_archive(const char *opening, size_t n)
{
    static const char matrix[] = " \0BFM \4";
    size_t name = 0, left = sizeof matrix - 1;
    while (name < n && (unsigned char)opening[name] > ' ' && opening[name] != 0x7f) name++;
    if (n - name < left) left = n - name;
    return name > 0 && !memcmp(opening + name, matrix, left);
}

/* Returns whether a regular file is empty or opens like the kind. A file that ends within its
 * opening counts as that kind. */
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

static int different(const Output *o, const OtherFile *other, Error *e)
{
    char temporary[PATH_MAX + 8];
    if (!other->path || (other->kind && other->kind == o->kind)) return EXIT_DONE;
    if (same_file(o->path, other->path))
        return error_set(e, EXIT_USAGE, "%s and %s must be different files; both are %s", o->option,
                         other->what, o->path);
    snprintf(temporary, sizeof temporary, "%s.tmp", o->path);
    if (same_file(temporary, other->path))
        return error_set(e, EXIT_USAGE, "%s %s is first written to %s, which is the file of %s",
                         o->option, o->path, temporary, other->what);
    return EXIT_DONE;
}

static int writable(const Output *o, Error *e)
{
    struct stat file;
    if (!o->kind->log || stat(o->path, &file) || S_ISDIR(file.st_mode))
        return replace_check(o->path, o->option, e);
    int fd = open(o->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(e, EXIT_BAD_DATA, "%s %s cannot be written: %m", o->option, o->path);
    close(fd);
    return EXIT_DONE;
}

int outputs_check(const Output *output, int outputs, const OtherFile *read, int n, bool force,
                  Error *e)
{
    int code = EXIT_DONE;
    for (const Output *o = output; o < output + outputs && !code; o++) {
        struct stat file;
        if (!o->path) continue;
        for (int i = 0; i < n && !code; i++) code = different(o, &read[i], e);
        for (const Output *other = output; other < o && !code; other++) {
            if (other->path) code = different(other, &(OtherFile){o->option, o->path, NULL}, e);
            if (!code) code = different(o, &(OtherFile){other->option, other->path, NULL}, e);
        }
        if (!code && !force && !stat(o->path, &file) && S_ISREG(file.st_mode) &&
            !is_of_kind(o->path, o->kind))
            code = error_set(
                e, EXIT_BAD_DATA,
                "%s %s exists and is not %s; it was not changed, and --force overwrites it",
                o->option, o->path, o->kind->name);
        if (!code) code = writable(o, e);
    }
    return code;
}
