/* Tests the update and the copies that it maintains: sgd.cu, round.cu, pack.cu. */
#include "update.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/copies.h"

/* ---- sgd.cu ---- */

SgdArgs sgd_run(const SgdCase *k, const SgdPacked *packed, int64_t packed_n, SgdOut *out,
                float **weights, float **grads, float **encoder, float **rows, int32_t **ids,
                int32_t **first, float **nats)
{
    FaultRecord fault = {.set = k->fault};
    *weights = drawn(10, k->dense, 1), *grads = drawn(11, k->dense, 0.1);
    *encoder = drawn(12, k->V * k->H, 1), *rows = drawn(13, k->N * k->H, 0.1);
    *ids = drawn_ids(14, k->N, k->V), *nats = drawn(15, k->N, 9);
    *first = host_bytes((size_t)k->N * 4);
    for (int64_t n = 0; n < k->N; n++) {
        (*first)[n] = 1;
        for (int64_t m = 0; m < n; m++)
            if ((*ids)[m] == (*ids)[n]) (*first)[n] = 0;
    }
    SgdArgs a = {
        .state = device_state(late_step, 0.7, k->clip),
        .fault = device_alloc(&fault, sizeof fault, 0),
        .weights = device_alloc(*weights, (size_t)k->dense * sizeof(float), k->shift),
        .grads = device_floats(*grads, k->dense),
        .dense = k->dense,
        .encoder = device_floats(*encoder, k->V * k->H),
        .rows = device_floats(*rows, k->N * k->H),
        .ids = device_ints(*ids, k->N),
        .first = device_ints(*first, k->N),
        .N = k->N,
        .H = k->H,
        .packed = packed_n ? device_alloc(packed, (size_t)packed_n * sizeof *packed, 0) : NULL,
        .packed_n = packed_n,
        .rounded = k->rounds ? device_alloc(NULL, (size_t)k->dense * 2, k->shift) : NULL,
        .nats = device_floats(*nats, k->N),
        .scored = k->N,
        .partial = device_alloc(NULL, (size_t)sgd_partials(k->dense, k->N) * sizeof(double), 0),
        .results = device_alloc(NULL, sizeof out->results, 0)};
    CHECK(sgd_norm(context.stream, &a));
    CHECK(sgd_update(context.stream, &a));
    out->weights = fetched(a.weights, k->dense), out->encoder = fetched(a.encoder, k->V * k->H);
    out->rounded = host_bytes((size_t)k->dense * 2);
    if (k->rounds) fetch(out->rounded, a.rounded, (size_t)k->dense * 2);
    fetch(out->results, a.results, sizeof out->results);
    return a;
}

static void sgd_follows_reference(void **state)
{
    static const SgdCase cases[] = {
        {1, 1, 1, 1, 5, 0, 0, 0},
        {5, 3, 7, 2, 5, 0, 1, 0},
        {4096, 15, 23, 6, 0.5, 0, 0, 0},
        {4097, 15, 23, 1000, 50, 0, 3, 0},
        {40001, 300, 64, 50, 5, 0, 2, 0}, /* more positions than the blocks that sum them */
        {30000, 300, 3, 50, 1e9, 0, 0, 0},
        {1003, 40, 130, 1, 0.01, 0, 0, 0},
        /* The largest grid does not cover this many elements in one pass. */
        {4096 * 1024 + 4099, 1, 1, 1, 5, 0, 0, 0},
    };
    (void)state;
    need_device();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const SgdCase *k = &cases[i];
        SgdOut out;
        float *w, *g, *e, *r, *nats;
        int32_t *ids, *first;
        sgd_run(k, NULL, 0, &out, &w, &g, &e, &r, &ids, &first, &nats);
        double *exact_w = widened(w, k->dense), *exact_e = widened(e, k->V * k->H);
        double norm = sgd_f64(k->dense, exact_w, widened(g, k->dense), k->N, k->H, ids, first,
                              exact_e, widened(r, k->N * k->H), 0.7, k->clip);
        sgd_f32(k->dense, w, g, k->N, k->H, ids, first, e, r, 0.7, k->clip);
        compare("a weight", out.weights, w, exact_w, k->dense, 3);
        compare("a row of the encoder", out.encoder, e, exact_e, k->V * k->H, 3);
        double sum = 0;
        for (int64_t n = 0; n < k->N; n++) sum += nats[n];
        const StepResult *result = &out.results[1];
        assert_true(result->step == late_step && result->fault == 0);
        /* Two sums of n terms in double, in any two orders, differ by at most n * 2^-52 of the sum
         * of magnitudes; the root halves that. */
        double terms = (double)(k->dense + k->N * k->H);
        assert_true(fabs(result->grad_norm - norm) <= terms * 0x1p-52 * norm);
        assert_true(fabs(result->nats - sum) <= (double)k->N * 0x1p-52 * 9 * (double)k->N);
        uint32_t word;
        /* Other slots are unchanged. */
        memcpy(&word, &out.results[0], 4), assert_int_equal(word, canary);
        memcpy(&word, &out.results[2], 4), assert_int_equal(word, canary);
        release();
    }
}

static void fault_leaves_the_weights(void **state)
{
    (void)state;
    need_device();
    SgdCase k = {40001, 30, 23, 12, 0.5, 3, 0, 0};
    SgdOut out;
    float *w, *g, *e, *r, *nats;
    int32_t *ids, *first;
    sgd_run(&k, NULL, 0, &out, &w, &g, &e, &r, &ids, &first, &nats);
    assert_memory_equal(out.weights, w, (size_t)k.dense * sizeof *w);
    assert_memory_equal(out.encoder, e, (size_t)(k.V * k.H) * sizeof *e);
    assert_true(out.results[1].fault == 3 && out.results[1].step == late_step &&
                out.results[1].grad_norm > 0);
    release();
}

/* ---- round.cu ---- */

/* The values include ties, the largest numbers, denormals and infinities. */
static void tensors_are_rounded(void **state)
{
    static const uint32_t told[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff,
                                    0xff7f8000, 0x7f800000, 0xff800000, 0x00000001, 0x80008000,
                                    0x00018000, 0x80000000, 0};
    (void)state;
    need_device();
    for (int64_t n = 1; n < 40; n += 3)
        for (int64_t m = 0; m < 12; m += 5) {
            float *x = drawn(17, n, 3), *y = drawn(18, m + 1, 3);
            memcpy(x, told, (size_t)(n < 13 ? n : 13) * 4);
            uint16_t *to = device_alloc(NULL, (size_t)n * 2, (int)n % 2),
                     *other = device_alloc(NULL, (size_t)(m + 1) * 2, 1);
            CHECK(round_bf16(context.stream,
                             (RoundSpan){device_alloc(x, (size_t)n * 4, (int)n % 3), to, 1, n, n},
                             (RoundSpan){device_floats(y, m + 1), other, m > 0, m, m}));
            check_bf16("the first", to, x, n), check_bf16("the second", other, y, m);
            release();
        }
    /* The pitch of the rows exceeds their width: nothing may be written between them. */
    enum { ROWS = 3, WIDTH = 9, PITCH = 16 };
    float *x = drawn(19, ROWS * WIDTH, 3);
    uint16_t gap[PITCH - WIDTH], *to = device_alloc(NULL, ROWS * PITCH * 2, 0),
                                 *before = host_bytes(ROWS * PITCH * 2),
                                 *after = host_bytes(ROWS * PITCH * 2);
    fetch(before, to, ROWS * PITCH * 2);
    RoundSpan rows = {device_floats(x, ROWS * WIDTH), to, ROWS, WIDTH, PITCH}, none = {0};
    CHECK(round_bf16(context.stream, rows, none));
    fetch(after, to, ROWS * PITCH * 2);
    for (int r = 0; r < ROWS; r++) {
        memcpy(gap, before + r * PITCH + WIDTH, sizeof gap);
        assert_memory_equal(after + r * PITCH + WIDTH, gap, sizeof gap);
        check_bf16("a row", to + r * PITCH, x + r * WIDTH, WIDTH);
    }
    release();
}

/* ---- pack.cu, and the packed copies that the update writes ---- */

uint16_t *tiles_of(const float *w_hh, int64_t H)
{
    uint16_t *tiles = host_bytes(tensor_copy_bytes(H));
    copy_tiles(w_hh, H, tiles);
    return tiles;
}

static void weights_are_tiled(void **state)
{
    (void)state;
    need_device();
    static const int64_t sizes[] = {1, 3, 4, 5, 8, 16, 17, 23, 33, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t H = sizes[i], n = 4 * H * H;
        size_t bytes = tensor_copy_bytes(H);
        float *w = drawn(16, n, 1);
        void *to = device_alloc(NULL, bytes, 0), *got = host_bytes(bytes);
        CHECK(lstm_pack_tiles(context.stream, H, device_floats(w, n), to));
        fetch(got, to, bytes);
        assert_memory_equal(got, tiles_of(w, H), bytes);
        release();
    }
}

float *packed_of(const float *w_hh, int64_t H)
{
    float *packed = host_floats(4 * H * H);
    copy_packed(w_hh, H, packed);
    return packed;
}

static void weights_are_packed(void **state)
{
    (void)state;
    need_device();
    static const int64_t sizes[] = {1, 2, 3, 7, 8, 23, 31, 32, 33, 64, 130};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t H = sizes[i], n = 4 * H * H;
        float *w = drawn(16, n, 1), *to = device_floats(NULL, n);
        CHECK(lstm_pack(context.stream, H, device_floats(w, n), to));
        assert_memory_equal(fetched(to, n), packed_of(w, H), (size_t)n * sizeof *w);
        release();
    }
}

/* Checks which weights an update writes in bfloat16: all but the packed tensors. */
static void check_rounded(const SgdCase *k, const SgdOut *out, const SgdPacked *packed,
                          int64_t tensors, int64_t n)
{
    for (int64_t i = 0; k->rounds && i < k->dense; i++) {
        uint16_t want = copy_bf16(out->weights[i]), at_start = (uint16_t)(canary >> i % 2 * 16);
        for (int64_t t = 0; t < tensors; t++)
            if (k->fault || (i >= packed[t].at && i < packed[t].at + n)) want = at_start;
        if (out->rounded[i] != want)
            fail_msg("weight %d is %04x in bfloat16, not %04x", (int)i, out->rounded[i], want);
    }
}

/* The weights have the same bits with packed copies of either kind as without; the copies match the
 * new weights; a fault leaves all of them unchanged. */
static void update_packs_the_new_weights(void **state)
{
    (void)state;
    need_device();
    static const struct {
        /* There are n tensors from element `first` on, with `gap` elements between them and `rest`
         * after the last. */
        int64_t H, n, first, gap, rest;
    } cases[] = {{1, 1, 0, 0, 0},      {1, 3, 4, 4, 1},         {7, 2, 64, 60, 5},
                 {8, 1, 0, 0, 3},      {23, 2, 2000, 60, 9000}, {33, 1, 4096, 0, 1},
                 {64, 3, 128, 0, 4097}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int turn = 0; turn < 4; turn++) {
            uint32_t fault = turn == 3;
            bool vector = turn != 1, tiled = turn != 0;
            int64_t H = cases[i].H, n = 4 * H * H, tensors = cases[i].n, pitch = n + cases[i].gap;
            SgdCase k = {cases[i].first + (tensors - 1) * pitch + n + cases[i].rest,
                         9,
                         H,
                         4,
                         0.5,
                         fault,
                         0,
                         tiled};
            size_t bytes = tensor_copy_bytes(H);
            SgdOut plain, out;
            SgdPacked packed[3];
            float *w, *g, *e, *r, *nats, *to[3];
            void *tiles[3], *got_tiles = host_bytes(bytes);
            int32_t *ids, *first;
            for (int64_t t = 0; t < tensors; t++) {
                to[t] = device_floats(NULL, n), tiles[t] = device_alloc(NULL, bytes, 0);
                packed[t] = (SgdPacked){cases[i].first + t * pitch, vector ? to[t] : NULL,
                                        tiled ? tiles[t] : NULL};
            }
            sgd_run(&k, NULL, 0, &plain, &w, &g, &e, &r, &ids, &first, &nats);
            sgd_run(&k, packed, tensors, &out, &w, &g, &e, &r, &ids, &first, &nats);
            assert_memory_equal(out.weights, plain.weights, (size_t)k.dense * sizeof *w);
            assert_memory_equal(out.encoder, plain.encoder, (size_t)(k.V * H) * sizeof *w);
            assert_memory_equal(&out.results[1], &plain.results[1], sizeof out.results[1]);
            assert_true(fault || memcmp(out.weights, w, (size_t)k.dense * sizeof *w));
            for (int64_t t = 0; t < tensors; t++) {
                float *got = fetched(to[t], n), *want = packed_of(out.weights + packed[t].at, H);
                for (int64_t j = 0; (fault || !vector) && j < n; j++) memcpy(&want[j], &canary, 4);
                assert_memory_equal(got, want, (size_t)n * sizeof *got);
                uint16_t *want_tiles = tiles_of(out.weights + packed[t].at, H);
                for (size_t j = 0; (fault || !tiled) && j < bytes; j += 4)
                    memcpy((char *)want_tiles + j, &canary, 4);
                fetch(got_tiles, tiles[t], bytes);
                assert_memory_equal(got_tiles, want_tiles, bytes);
            }
            check_rounded(&k, &out, packed, tensors, n);
            release();
        }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sgd_follows_reference), cmocka_unit_test(fault_leaves_the_weights),
    cmocka_unit_test(tensors_are_rounded),   cmocka_unit_test(weights_are_tiled),
    cmocka_unit_test(weights_are_packed),    cmocka_unit_test(update_packs_the_new_weights),
};
const KernelSuite update_suite = {tests, sizeof tests / sizeof tests[0]};
