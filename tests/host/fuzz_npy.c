/* libFuzzer target: for any bytes, the reader of NumPy's format returns an array or one sentence,
 * and accesses nothing outside them. libFuzzer allocates inputs in blocks of exactly their size, so
 * that the address sanitizer detects an access to the first byte beyond. `make fuzz` builds and
 * runs it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/store/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define PROMISE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static volatile float sink;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    NpyFile f;
    Error e = {0};
    int code = npy_parse(&f, bytes, n, "fuzz.npy", &e);
    if (code) {
        PROMISE(code == EXIT_BAD_DATA && e.code == code && e.text[0] && !strchr(e.text, '\n'));
        return 0;
    }
    int64_t elements = 1;
    for (int i = 0; i < f.rank; i++) elements *= f.shape[i];
    PROMISE(f.rank <= NPY_MAX_RANK && elements == f.n && f.n >= 0);
    PROMISE(strlen(f.note) < NPY_NOTE_SIZE && !strchr(f.note, '\n'));
    for (int64_t i = 0; i < f.n; i++) {
        float x;
        npy_floats(&f, i, 1, &x);
        sink = x;
    }
    npy_close(&f);
    return 0;
}
