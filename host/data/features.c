#include "features.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/map_file.h"

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while features were read");
}

static void unmap(MappedFile *m)
{
    if (m->bytes) munmap(m->bytes, m->n);
    free(m->path);
    *m = (MappedFile){.path = NULL};
}

/* Maps a file. Takes ownership of path. */
static int map(MappedFile *m, char *path, Error *e)
{
    unmap(m);
    if (!path) return out_of_memory(e);
    m->path = path;
    int code = map_file(path, "a table of Kaldi", &m->bytes, &m->n, e);
    if (code) m->bytes = NULL;
    return code;
}

static char *joined(const char *folder, size_t folder_bytes, const char *name, size_t bytes)
{
    char *path = malloc(folder_bytes + bytes + 1);
    if (!path) return NULL;
    memcpy(path, folder, folder_bytes);
    memcpy(path + folder_bytes, name, bytes);
    path[folder_bytes + bytes] = 0;
    return path;
}

char *features_path(const char *folder)
{
    size_t n = strlen(folder);
    char *script = joined(folder, n, "/feats.scp", 10);
    if (!script || !access(script, F_OK)) return script;
    free(script);
    return joined(folder, n, "/feats.ark", 10);
}

int features_open(Features *f, const char *path, Error *e)
{
    struct stat file;
    bool is_folder = !stat(path, &file) && S_ISDIR(file.st_mode);
    memset(f, 0, sizeof *f);
    int code = map(&f->table, is_folder ? features_path(path) : strdup(path), e);
    if (!code) {
        const char *slash = strrchr(f->table.path, '/');
        size_t n = strlen(f->table.path);
        f->script = n > 4 && !strcmp(f->table.path + n - 4, ".scp");
        f->folder = joined(f->table.path, slash ? (size_t)(slash + 1 - f->table.path) : 0, "", 0);
        f->text = (KaldiText){f->table.bytes, (const char *)f->table.bytes + f->table.n,
                              f->table.path, 0};
        if (!f->folder) code = out_of_memory(e);
    }
    if (code) features_close(f);
    return code;
}

void features_close(Features *f)
{
    unmap(&f->table);
    unmap(&f->matrix);
    free(f->folder);
    memset(f, 0, sizeof *f);
}

/* Returns the path of the file that a line of the script names, allocated by malloc: relative to
 * the script's folder if there is such a file, else relative to the current folder. */
static char *path_of(const Features *f, const KaldiPlace *place)
{
    bool absolute = place->path[0] == '/';
    char *path =
        joined(f->folder, absolute ? 0 : strlen(f->folder), place->path, place->path_bytes);
    if (!path || absolute || !access(path, F_OK)) return path;
    char *here = joined("", 0, place->path, place->path_bytes);
    if (here && access(here, F_OK)) { /* if neither exists, the first is reported */
        free(here);
        return path;
    }
    free(path);
    return here;
}

static int next_of_script(Features *f, KaldiEntry *entry, Error *e)
{
    KaldiPlace place;
    char what[4096 + KALDI_NAME];
    *entry = (KaldiEntry){.name = NULL};
    int code = kaldi_script_next(&f->text, &place, e);
    if (code || !place.name) return code;
    char *path = path_of(f, &place);
    if (!path || !f->matrix.path || strcmp(path, f->matrix.path)) code = map(&f->matrix, path, e);
    else free(path);
    if (code) return code;
    if (place.offset >= f->matrix.n)
        return error_set(e, EXIT_BAD_DATA,
                         "%s is cut short: utterance %.*s begins at byte %" PRIu64
                         " in %s, which has %zu",
                         f->matrix.path, (int)place.name_bytes, place.name, place.offset,
                         f->table.path, f->matrix.n);
    entry->name = place.name;
    entry->name_bytes = place.name_bytes;
    snprintf(what, sizeof what, "%.4000s, utterance %.*s,", f->matrix.path, (int)place.name_bytes,
             place.name);
    return kaldi_matrix_parse(&entry->matrix, (const char *)f->matrix.bytes + place.offset,
                              f->matrix.n - (size_t)place.offset, what, e);
}

int features_next(Features *f, KaldiEntry *entry, Error *e)
{
    if (f->script) return next_of_script(f, entry, e);
    return kaldi_archive_next(f->table.bytes, f->table.n, &f->at, f->table.path, entry, e);
}

int features_read(const Features *f, const KaldiEntry *entry, float *to, Error *e)
{
    int64_t n = entry->matrix.rows * entry->matrix.cols;
    int bad = 0; /* one flag for all elements, so that the loop vectorises */
    kaldi_matrix_read(&entry->matrix, to);
    for (int64_t i = 0; i < n; i++) bad |= !isfinite(to[i]);
    for (int64_t i = 0; bad && i < n; i++)
        if (!isfinite(to[i]))
            return error_set(e, EXIT_BAD_DATA,
                             "%s, utterance %.*s: dimension %" PRId64 " of frame %" PRId64
                             " is %s (both counted from 1)",
                             f->script ? f->matrix.path : f->table.path, (int)entry->name_bytes,
                             entry->name, i % entry->matrix.cols + 1, i / entry->matrix.cols + 1,
                             isnan(to[i]) ? "not a number" : "infinite");
    return EXIT_DONE;
}

void features_normalise(float *x, int64_t frames, int64_t F)
{
    for (int64_t f = 0; f < F; f++) {
        double mean = 0, variance = 0;
        for (int64_t t = 0; t < frames; t++) mean += x[t * F + f];
        mean /= (double)frames;
        for (int64_t t = 0; t < frames; t++)
            variance += (x[t * F + f] - mean) * (x[t * F + f] - mean);
        variance /= (double)frames;
        double scale = 1 / sqrt(fmax(variance, 1e-10));
        for (int64_t t = 0; t < frames; t++) x[t * F + f] = (float)((x[t * F + f] - mean) * scale);
    }
}
