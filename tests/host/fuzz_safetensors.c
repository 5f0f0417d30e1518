/* libFuzzer target: for any bytes, the reader returns a file or one sentence, and accesses nothing
 * outside them.
 *
 * Each input is passed to st_parse, to checkpoint_parse and, as text, to vocab_parse. An accepted
 * result is then used: every byte of a tensor is read, every name is looked up, and an accepted
 * vocabulary is encoded and decoded again. Inputs are in blocks of exactly their size, so that the
 * address sanitizer detects an access to the first byte beyond. `make fuzz` builds and runs it. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/store/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned int seed);

/* Reports a broken promise of the reader to the fuzzer as a crash. */
#define PROMISE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static volatile unsigned char sink;

static void check_sentence(int code, const Error *e)
{
    PROMISE(code == EXIT_BAD_DATA);
    PROMISE(e->code == code && e->text[0] && !strchr(e->text, '\n'));
}

static void use_file(const StFile *f, size_t n)
{
    size_t total = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const StTensor *t = &f->tensors[i];
        unsigned char sum = 0;
        PROMISE(t->rank <= ST_MAX_RANK && t->dtype < ST_DTYPES);
        PROMISE(!t->bytes || (uintptr_t)t->data % st_dtype_size(t->dtype) == 0);
        for (size_t k = 0; k < t->bytes; k++) sum ^= ((const unsigned char *)t->data)[k];
        sink = sum;
        total += t->bytes;
        PROMISE(st_find(f, t->name) == t);
    }
    PROMISE(total == n - 8 - f->header_bytes && f->file_bytes == n);
    for (int i = 0; i < f->n_meta; i++) PROMISE(st_meta(f, f->meta[i].key) == f->meta[i].value);
}

static void use_vocab(const char *text)
{
    Error e = {0};
    Vocab v = {0}, again = {0};
    int code = vocab_parse(&v, text, &e);
    if (code) {
        check_sentence(code, &e);
        return;
    }
    char *encoded = vocab_encode(&v), a[65], b[65];
    PROMISE(encoded && vocab_parse(&again, encoded, &e) == EXIT_DONE);
    vocab_sha256(&v, a);
    vocab_sha256(&again, b);
    PROMISE(v.V == again.V && v.V > 0 && !strcmp(a, b));
    for (int32_t id = 0; id < v.V; id++) {
        size_t length;
        const char *type = vocab_type(&v, id, &length);
        PROMISE(length > 0 && vocab_find(&v, type, length) == id);
    }
    free(encoded);
    vocab_free(&v);
    vocab_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    Error e = {0};
    StFile f;
    Checkpoint c;
    char *exact = malloc(n ? n : 1), *text = malloc(n + 1);
    if (!exact || !text) abort();
    memcpy(exact, bytes, n);
    memcpy(text, bytes, n);
    text[n] = 0;

    int code = st_parse(&f, exact, n, "input", &e);
    if (code) {
        check_sentence(code, &e);
    } else {
        use_file(&f, n);
        st_close(&f);
        code = checkpoint_parse(&c, exact, n, "input", &e);
        if (code) {
            check_sentence(code, &e);
        } else {
            for (int k = 0; k < params_count(&c.shape); k++)
                PROMISE(isfinite(checkpoint_param(&c, k)[0]));
            PROMISE(!c.h == !c.c && !c.h == !c.counters.minibatch);
            checkpoint_close(&c);
        }
    }
    use_vocab(text);
    free(exact);
    free(text);
    return 0;
}

/* Changes the header or the data and usually corrects the length, since a wrong length ends the
 * reading at once. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned int seed)
{
    uint64_t header = 0;
    if (n >= 8) memcpy(&header, bytes, 8);
    if (n < 9 || n >= most || header > n - 8 || seed % 8 == 0)
        return LLVMFuzzerMutate(bytes, n, most);
    size_t data = n - 8 - (size_t)header;
    if (seed % 8 == 1)
        return 8 + (size_t)header +
               LLVMFuzzerMutate(bytes + 8 + header, data, most - 8 - (size_t)header);
    uint8_t *tail = malloc(data ? data : 1);
    if (!tail) abort();
    memcpy(tail, bytes + 8 + header, data);
    header = LLVMFuzzerMutate(bytes + 8, (size_t)header, most - 8 - data);
    memcpy(bytes + 8 + header, tail, data);
    memcpy(bytes, &header, 8);
    free(tail);
    return 8 + (size_t)header + data;
}
