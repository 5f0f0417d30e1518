#include "image_features.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <sha2.h>

#include "host/data/scenes.h"

/* Returns the index of the first value of a row that is infinite or not a number, F if all are
 * finite. */
static int64_t find_not_finite(const float *row, int64_t F)
{
    int bad = 0; /* one flag for all elements, so that the loop vectorises */
    for (int64_t i = 0; i < F; i++) bad |= !isfinite(row[i]);
    int64_t i = bad ? 0 : F;
    while (i < F && isfinite(row[i])) i++;
    return i;
}

static int check_values(const ImageFeatures *f, const char *path, Error *e)
{
    for (int64_t i = 0; i < f->n; i++) {
        const float *row = f->rows + i * f->F;
        int64_t at = find_not_finite(row, f->F);
        if (at < f->F)
            return error_set(e, EXIT_BAD_DATA,
                             "%s: element %" PRId64 " of row %" PRId64 " (counted from 0) is %s",
                             path, at, i, isnan(row[at]) ? "not a number" : "infinite");
    }
    return EXIT_DONE;
}

int image_features_open(ImageFeatures *f, const char *path, Error *e)
{
    memset(f, 0, sizeof *f);
    int code = npy_open(&f->file, path, e);
    if (code) return code;
    const NpyFile *file = &f->file;
    if (file->rank != 2 || file->shape[1] < 1)
        code = error_set(
            e, EXIT_BAD_DATA,
            "%s has %d dimension%s%s; features need two, one row per image and one column "
            "per number",
            path, file->rank, file->rank == 1 ? "" : "s", file->rank == 2 ? " and no column" : "");
    else if (file->shape[0] < 1) code = error_set(e, EXIT_BAD_DATA, "%s has no row", path);
    if (!code) {
        f->n = file->shape[0], f->F = file->shape[1];
        f->rows = file->data;
        if (file->dtype != NPY_F32 || (uintptr_t)file->data % sizeof(float)) {
            f->own = malloc((size_t)file->n * sizeof *f->own);
            if (!f->own) code = error_set(e, EXIT_FAILED, "memory ran out while %s was read", path);
            else npy_floats(file, 0, file->n, f->own);
            f->rows = f->own;
        }
    }
    if (!code) code = check_values(f, path, e);
    if (code) image_features_close(f);
    return code;
}

static int no_memory(const char *dir, Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while features of %s were read", dir);
}

int image_features_load(ImageFeatures *f, const char *dir, const Captions *c, Error *e)
{
    if (c->scenes) {
        *f = (ImageFeatures){.n = scenes_count(), .F = SCENE_F, .own = scenes_all_features()};
        f->rows = f->own;
        return f->own ? EXIT_DONE : no_memory(dir, e);
    }
    char *path = captions_path(dir, captions_features_file);
    if (!path) return no_memory(dir, e);
    int code = image_features_open(f, path, e);
    if (!code && f->n != c->images) {
        code = error_set(e, EXIT_BAD_DATA,
                         "%s has %" PRId64 " row%s, but %s/%s has %" PRId64
                         " image%s: there must be one row per image, in that order",
                         path, f->n, f->n == 1 ? "" : "s", dir, captions_file, c->images,
                         c->images == 1 ? "" : "s");
        image_features_close(f);
    }
    free(path);
    return code;
}

void image_features_close(ImageFeatures *f)
{
    npy_close(&f->file);
    free(f->own);
    memset(f, 0, sizeof *f);
}

void image_features_sha256(const ImageFeatures *f, char hex[65])
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    SHA256Update(&sha, (const uint8_t *)f->rows, (size_t)(f->n * f->F) * sizeof *f->rows);
    SHA256End(&sha, hex);
}
