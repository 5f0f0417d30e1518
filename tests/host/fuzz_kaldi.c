/* libFuzzer target: for any bytes, the readers of Kaldi's tables return values or one sentence, and
 * access nothing outside them. The first byte selects the kind of the others: `a` an archive, `s` a
 * script, `l` labels, `p` phones. `make fuzz` builds and runs it. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/features.h"
#include "host/data/kaldi.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define PROMISE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static volatile double sink;

static void sentence(int code, const Error *e)
{
    PROMISE(code == EXIT_BAD_DATA && e->code == code && e->text[0] && !strchr(e->text, '\n'));
}

static void is_name(const char *name, size_t n)
{
    PROMISE(n > 0 && n < KALDI_NAME);
    for (size_t i = 0; i < n; i++) PROMISE((unsigned char)name[i] > ' ');
}

static void archive(const uint8_t *bytes, size_t n)
{
    size_t at = 0;
    Error e = {0};
    for (;;) {
        KaldiEntry entry;
        size_t before = at;
        int code = kaldi_archive_next(bytes, n, &at, "fuzz.ark", &entry, &e);
        if (code) return sentence(code, &e);
        if (!entry.name) break;
        const KaldiMatrix *m = &entry.matrix;
        PROMISE(at > before && at <= n && m->rows >= 0 && m->cols >= 0 && !m->rows == !m->cols);
        is_name(entry.name, entry.name_bytes);
        size_t elements = (size_t)(m->rows * m->cols);
        PROMISE(elements <= n);
        float *x = malloc((elements + 1) * sizeof *x);
        kaldi_matrix_read(m, x);
        for (size_t i = 0; i < elements; i++) sink = x[i];
        if (elements) features_normalise(x, m->rows, m->cols);
        free(x);
    }
    PROMISE(at == n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    Error e = {0};
    if (!n) return 0;
    KaldiText t = {(const char *)bytes + 1, (const char *)bytes + n, "fuzz", 0};
    if (bytes[0] == 'a') archive(bytes + 1, n - 1);
    for (int more = 1, code = 0; more && bytes[0] == 's'; more = !code && more) {
        KaldiPlace p;
        code = kaldi_script_next(&t, &p, &e);
        if (code) sentence(code, &e);
        else if ((more = p.name != NULL)) {
            is_name(p.name, p.name_bytes);
            PROMISE(p.path_bytes > 0 && p.path + p.path_bytes <= t.end);
        }
    }
    for (int more = 1, code = 0; more && bytes[0] == 'l'; more = !code && more) {
        KaldiLabels l;
        code = kaldi_labels_next(&t, &l, &e);
        if (code) sentence(code, &e);
        else if ((more = l.name != NULL)) {
            is_name(l.name, l.name_bytes);
            int32_t *id = malloc(((size_t)l.n + 1) * sizeof *id), largest = -1;
            kaldi_labels_read(&l, id);
            for (int64_t i = 0; i < l.n; i++) {
                PROMISE(id[i] >= 0 && id[i] <= KALDI_MAX_LABEL);
                if (id[i] > largest) largest = id[i];
            }
            PROMISE(largest == l.largest);
            free(id);
        }
    }
    for (int more = 1, code = 0; more && bytes[0] == 'p'; more = !code && more) {
        KaldiPhone p;
        code = kaldi_phone_next(&t, &p, &e);
        if (code) sentence(code, &e);
        else if ((more = p.name != NULL)) {
            is_name(p.name, p.name_bytes);
            PROMISE(p.id >= 0 && p.id <= KALDI_MAX_LABEL);
        }
    }
    return 0;
}
