/* vocab: types (distinct words) and their ids. */
#ifndef PLSTM_VOCAB_H
#define PLSTM_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

extern const char unknown_type[], eos_type[]; /* "<unk>", "<eos>" */

/* ASCII white space, which separates words. */
static inline bool byte_is_space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Types in the order of their ids. Bytes are raw (in any encoding); no type is empty or holds white
 * space or NUL. */
typedef struct Vocab {
    int64_t V;
    int64_t *offset; /* (V + 1) into bytes; type i is bytes[offset[i] .. offset[i+1]) */
    char *bytes;
    int32_t *slots; /* (n_slots) open-addressing hash table of ids; -1: the slot is empty */
    int64_t n_slots;
} Vocab;

/* Returns the id of a type, or -1. */
int32_t vocab_find(const Vocab *v, const char *bytes, size_t length);
/* Returns the bytes of type `id`, without a NUL at the end, and sets *length to their number. They
 * belong to *v. */
const char *vocab_type(const Vocab *v, int32_t id, size_t *length);
/* Writes the SHA-256 in hex over each type's raw bytes followed by '\n', in the order of the ids
 * (SPEC 7). */
void vocab_sha256(const Vocab *v, char hex[65]);
/* Returns the metadata string of SPEC 7 (types joined by one space; '%', control bytes and bytes
 * that are not valid UTF-8 as %XX), allocated by malloc; NULL: memory ran out. */
char *vocab_encode(const Vocab *v);
/* Parses a string that vocab_encode wrote; release *v with vocab_free. EXIT_BAD_DATA: a type is
 * empty, occurs twice, or holds an invalid escape, white space or NUL. */
int vocab_parse(Vocab *v, const char *text, Error *e);
int vocab_copy(Vocab *to, const Vocab *from); /* 0, or -1 when memory ran out */
void vocab_free(Vocab *v);

/* ---- a vocabulary that grows ---- */

typedef struct VocabBuilder {
    Vocab v;
    int64_t cap_types, cap_bytes; /* room for cap_types + 1 offsets and cap_bytes bytes */
} VocabBuilder;

/* Appends a type that the vocabulary lacks and sets *id to its id. EXIT_BAD_DATA: there would be
 * more than 2^31-1 types. EXIT_FAILED: memory ran out. */
int vocab_append(VocabBuilder *g, const char *bytes, size_t length, int32_t *id, Error *e);
/* Returns the vocabulary that was built, cut to size, and empties *g. */
Vocab vocab_finish(VocabBuilder *g);

/* ---- a vocabulary by count (TASKS 4: translation, captions) ---- */

enum { ID_UNKNOWN = 0, ID_EOS = 1 }; /* in every vocabulary by count */

typedef struct VocabCount {
    /* every type seen, after <unk> and <eos> in the order of first appearance */
    VocabBuilder types;
    int64_t *count; /* (cap) occurrences of each type */
    int64_t cap;
} VocabCount;

/* Starts a count with <unk> and <eos>. EXIT_FAILED: memory ran out. */
int vocab_count_init(VocabCount *c, Error *e);
/* Counts one more word of the training text. */
int vocab_count_add(VocabCount *c, const char *bytes, size_t length, Error *e);
/* Makes the vocabulary: <unk>, <eos>, then the types seen at least min_count times, in the order of
 * falling count and, among equals, of first appearance. *c is freed, also on failure. */
int vocab_count_finish(VocabCount *c, int64_t min_count, Vocab *v, Error *e);
void vocab_count_free(VocabCount *c);

#endif
