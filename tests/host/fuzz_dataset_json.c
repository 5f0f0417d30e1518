/* libFuzzer target: for any bytes, the reader of Karpathy's dataset.json returns a complete list or
 * one sentence, and accesses nothing outside them. `make fuzz` builds and runs it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/dataset_json.h"
#include "host/data/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define PROMISE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_caption(const ImageTexts *t, int64_t k)
{
    PROMISE(t->offset[k] <= t->offset[k + 1] && t->offset[k + 1] <= t->cap_bytes);
    for (int64_t at = t->offset[k]; at < t->offset[k + 1]; at++) {
        bool space = byte_is_space((unsigned char)t->bytes[at]);
        PROMISE(t->bytes[at] && (!space || t->bytes[at] == ' '));
        PROMISE(at > t->offset[k] || space);
        /* No word is empty. */
        PROMISE(!space || (at + 1 < t->offset[k + 1] && t->bytes[at + 1] != ' '));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    ImageTexts t;
    Error e = {0};
    int code = dataset_json_parse(&t, (const char *)bytes, n, "fuzz.json", &e);
    if (code) {
        PROMISE(code == EXIT_BAD_DATA && e.code == code && e.text[0] && !strchr(e.text, '\n'));
        PROMISE(!t.images && !t.captions && !t.bytes);
        return 0;
    }
    PROMISE(t.images > 0 && t.first[0] == 0 && t.first[t.images] == t.captions);
    for (int64_t i = 0; i < t.images; i++) {
        PROMISE(t.split[i] < IMAGE_SPLITS && t.first[i] <= t.first[i + 1]);
        for (int64_t k = t.first[i]; k < t.first[i + 1]; k++) check_caption(&t, k);
    }
    image_texts_free(&t);
    return 0;
}
