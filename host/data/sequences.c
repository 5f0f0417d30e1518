#include "sequences.h"

#include <stdlib.h>
#include <string.h>

/* Grows an array to hold n elements of `size` bytes. Returns NULL if memory ran out. */
static void *grown(void *array, int64_t n, size_t size) { return realloc(array, (size_t)n * size); }

int sequences_append(Sequences *s, int64_t length, Error *e)
{
    int64_t used = s->n ? s->offset[s->n] : 0;
    if (s->n == s->cap) {
        int64_t cap = s->cap + s->cap / 2 + 1024;
        int64_t *offset = grown(s->offset, cap + 1, sizeof *offset);
        if (!offset) return error_set(e, EXIT_FAILED, "memory ran out while reading the data");
        s->offset = offset;
        s->offset[0] = 0;
        s->cap = cap;
    }
    if (length > s->cap_positions - used) {
        int64_t cap = s->cap_positions + s->cap_positions / 2 + length + 16384;
        int32_t *ids = grown(s->ids, cap, sizeof *ids);
        if (ids) s->ids = ids;
        int32_t *targets = grown(s->targets, cap, sizeof *targets);
        if (targets) s->targets = targets;
        if (!ids || !targets)
            return error_set(e, EXIT_FAILED, "memory ran out while reading the data");
        s->cap_positions = cap;
    }
    s->offset[++s->n] = used + length;
    return EXIT_DONE;
}

void sequences_free(Sequences *s)
{
    free(s->offset), free(s->ids), free(s->targets);
    memset(s, 0, sizeof *s);
}

int64_t sequences_longer(const Sequences *s, int64_t max_length)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) n += max_length > 0 && sequences_length(s, i) > max_length;
    return n;
}

/* ---- hash ---- */

static void hash_ints(SHA2_CTX *sha, const int32_t *x, int64_t n)
{
    uint8_t bytes[4096];
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int byte = 0; byte < 4; byte++) bytes[at++] = (uint8_t)((uint32_t)x[i] >> 8 * byte);
        if (at == sizeof bytes) {
            SHA256Update(sha, bytes, at);
            at = 0;
        }
    }
    SHA256Update(sha, bytes, at);
}

void sequences_hash(const Sequences *s, SHA2_CTX *sha)
{
    for (int64_t i = 0; i < s->n; i++) {
        int64_t from = s->offset[i];
        int32_t length = (int32_t)sequences_length(s, i);
        hash_ints(sha, &length, 1);
        hash_ints(sha, s->ids + from, length);
        hash_ints(sha, s->targets + from, length);
    }
}
