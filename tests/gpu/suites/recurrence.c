/* recurrence: see its header. */
#include "recurrence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/plan/precision.h"
#include "kernels/tensor.h"
#include "tests/support/copies.h"
#include "update.h"

/* ---- the recurrence ---- */

const RecurrenceCase recurrence_cases[RECURRENCE_CASES] = {
    {1, 1, 1, 1, NO_SITES},         {1, 1, 1, 0.5, ALL_SITES},   {1, 3, 7, 0.35, ALL_SITES},
    {6, 1, 7, 0.5, OUTPUT_SITE},    {9, 3, 23, 0.5, ALL_SITES},  {9, 3, 23, 1, NO_SITES},
    {20, 2, 23, 0.35, OUTPUT_SITE}, {5, 1, 64, 1, ALL_SITES},    {12, 5, 64, 0.5, ALL_SITES},
    {12, 5, 64, 0.35, OUTPUT_SITE}, {3, 20, 64, 0.5, ALL_SITES}, {2, 2, 130, 0.5, ALL_SITES},
    {35, 2, 1, 0.35, ALL_SITES},    {5, 20, 23, 0.5, ALL_SITES}, {53, 2, 9, 0.5, ALL_SITES},
};
void recurrence_rounds(const RecurrenceCase *k, Tensors *x, LstmPrecision precision)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    float *w_hh = host_floats(4 * H * H), *carry = host_floats(2 * B * H);
    for (int64_t i = 0; i < 4 * H * H; i++) w_hh[i] = precision_round(precision, x->w_hh[i]);
    x->precision = precision, oracle_operand = oracle_round(precision);
    memcpy(x->plain_gates, x->x_proj, (size_t)(4 * n) * sizeof(float));
    forward_f32(T, B, H, w_hh, x->b_ih, x->b_hh, x->plain_gates, x->plain_h, x->plain_c, x->plain_y,
                x->plain_h_masked, &x->output, &x->recurrent);
    memcpy(x->plain_dgates, x->plain_gates, (size_t)(4 * n) * sizeof(float));
    backward_f32(T, B, H, w_hh, x->plain_c, x->dy, x->plain_dgates, carry, &x->output,
                 &x->recurrent);
    oracle_operand = NULL;
}

Tensors recurrence_tensors(const RecurrenceCase *k)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    Tensors x = {.w_hh = drawn(20, 4 * H * H, 1.5 / sqrt((double)H)),
                 .b_ih = drawn(21, 4 * H, 0.5),
                 .b_hh = drawn(22, 4 * H, 0.5),
                 .x_proj = drawn(23, 4 * n, 2),
                 .h0 = drawn(24, B * H, 1),
                 .c0 = drawn(25, B * H, 2),
                 .dy = drawn(26, n, 1),
                 .output = oracle_mask(STEP, 5, 1, k->keep, k->sites >= OUTPUT_SITE),
                 .recurrent = oracle_mask(STEP, 5, 3, k->keep, k->sites == ALL_SITES)};
    float *none = host_floats(n + B * H);
    x.packed = packed_of(x.w_hh, H);
    x.gates = widened(x.x_proj, 4 * n), x.h = widened(none, n + B * H),
    x.c = widened(none, n + B * H);
    x.y = widened(none, n), x.h_masked = widened(none, n);
    x.plain_gates = host_floats(4 * n), x.plain_dgates = host_floats(4 * n);
    x.plain_h = host_floats(n + B * H), x.plain_c = host_floats(n + B * H);
    x.plain_y = host_floats(n), x.plain_h_masked = host_floats(n);
    for (int64_t i = 0; i < B * H; i++) {
        x.h[i] = x.plain_h[i] = x.h0[i];
        x.c[i] = x.plain_c[i] = x.c0[i];
    }
    double *w_hh = widened(x.w_hh, 4 * H * H), *dy = widened(x.dy, n),
           *carry = widened(host_floats(2 * B * H), 2 * B * H);
    forward_f64(T, B, H, w_hh, widened(x.b_ih, 4 * H), widened(x.b_hh, 4 * H), x.gates, x.h, x.c,
                x.y, x.h_masked, &x.output, &x.recurrent);
    x.dgates = host_bytes((size_t)(4 * n) * sizeof(double));
    memcpy(x.dgates, x.gates, (size_t)(4 * n) * sizeof(double));
    backward_f64(T, B, H, w_hh, x.c, dy, x.dgates, carry, &x.output, &x.recurrent);
    recurrence_rounds(k, &x, PRECISION_F32);
    return x;
}

/* Returns a pitch that exceeds H and is odd, so that rows begin at every alignment of 2 bytes. */
static int64_t bf16_pitch(int64_t H) { return (H + 4) | 1; }

/* Adds the bfloat16 copies, whose rows have gaps between them, if the device has bfloat16. */
static void add_bf16_copies(const RecurrenceCase *k, LstmForward *p)
{
    if (facts.major < 8) return;
    int64_t pitch = bf16_pitch(k->H), rows = k->T * k->B;
    p->bf16_pitch = pitch;
    p->h_bf16 = device_alloc(NULL, (size_t)((p->h_masked ? rows : rows + k->B) * pitch) * 2, 0);
    p->y_bf16 = p->y ? device_alloc(NULL, (size_t)(rows * pitch) * 2, 0) : NULL;
}

Passes recurrence_passes(const RecurrenceCase *k, const Tensors *x)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    const StepState *state = device_state(STEP, 1, 1);
    float *h = malloc((size_t)(n + B * H) * sizeof *h),
          *c = malloc((size_t)(n + B * H) * sizeof *c);
    assert_true(h && c);
    for (int64_t i = 0; i < n + B * H; i++) h[i] = c[i] = NAN;
    memcpy(h, x->h0, (size_t)(B * H) * sizeof *h), memcpy(c, x->c0, (size_t)(B * H) * sizeof *c);
    Passes p;
    p.forward =
        (LstmForward){.shape = {T, B, H, x->precision},
                      .w_hh = device_floats(x->w_hh, 4 * H * H),
                      .w_packed = device_floats(x->packed, 4 * H * H),
                      .w_tiles = x->precision == PRECISION_BF16
                                     ? device_alloc(tiles_of(x->w_hh, H), tensor_copy_bytes(H), 0)
                                     : NULL,
                      .b_ih = device_floats(x->b_ih, 4 * H),
                      .b_hh = device_floats(x->b_hh, 4 * H),
                      .gates = device_floats(x->x_proj, 4 * n),
                      .h = device_floats(h, n + B * H),
                      .c = device_floats(c, n + B * H),
                      .y = k->sites >= OUTPUT_SITE ? device_floats(NULL, n) : NULL,
                      .h_masked = k->sites == ALL_SITES ? device_floats(NULL, n) : NULL,
                      .output = mask_site(state, 5, 1, k->keep, k->sites >= OUTPUT_SITE),
                      .recurrent = mask_site(state, 5, 3, k->keep, k->sites == ALL_SITES)};
    add_bf16_copies(k, &p.forward);
    p.backward = (LstmBackward){.shape = p.forward.shape,
                                .w_hh = p.forward.w_hh,
                                .w_tiles = p.forward.w_tiles,
                                .h = p.forward.h,
                                .c = p.forward.c,
                                .dy = device_floats(x->dy, n),
                                .gates = p.forward.gates,
                                .dh = device_floats(NULL, B * H),
                                .dc = device_floats(NULL, B * H),
                                .output = p.forward.output,
                                .recurrent = p.forward.recurrent};
    free(h), free(c);
    return p;
}

/* ---- plans ---- */

static const PlanCase plan_cases[PLAN_CASES] = {
    {"", 0, 0},
    {"blocks=3,threads=64", 0, -2},
    {"blocks=2,threads=64,registers=32", 1, 0},
    {"blocks=5,threads=96,groups=2", 0, 3},
    {"blocks=2,threads=128,replicas=1,groups=1,batch=4", 1, 0},
    {"blocks=4,threads=32,replicas=2,registers=32", 0, 0},
};
/* The same for variants on tensor cores, whose units are multiples of 4 and whose batch is a
 * multiple of 8. */
static const PlanCase tensor_plan_cases[PLAN_CASES] = {
    {"", 0, 0},
    {"blocks=6,replicas=1,batch=8,slices=4,cluster=1,exchange=2", 0, -2},
    {"blocks=12,slices=1,registers=32,cluster=2,exchange=2", 1, 0},
    {"blocks=4,threads=128,cluster=4,exchange=1", 0, 3},
    {"blocks=12,replicas=1,batch=8,slices=1,registers=32,cluster=1,exchange=1", 1, 0},
    {"blocks=12,threads=128,replicas=2,registers=32,slices=1,cluster=2,exchange=2", 0, 0},
};

/* The same for variants whose blocks form one cluster, which do not stream weights. */
static const PlanCase cluster_plan_cases[PLAN_CASES] = {
    {"", 0, 0},
    {"cluster=2,replicas=2", 0, 3},
    {"cluster=4", 0, 0},
    {"cluster=8,replicas=1", 0, -2},
    {"cluster=3,replicas=3,batch=8", 0, -1},
    {"cluster=16", 0, 0},
};

const PlanCase *plan_case_of(const LstmVariant *v, int m)
{
    const LstmFootprint *f = v->footprint;
    return !f->reads_tiles   ? &plan_cases[m]
           : f->grid_barrier ? &tensor_plan_cases[m]
                             : &cluster_plan_cases[m];
}

int persistent(const LstmVariant *v) { return v->footprint->tile[0] != NULL; }

bool runs_here(const LstmVariant *v, LstmPrecision precision)
{
    return v->footprint->precisions >> precision & 1 &&
           10 * facts.major + facts.minor >= v->footprint->min_sm;
}

LstmPrecision first_precision(const LstmVariant *v)
{
    return (LstmPrecision)__builtin_ctz(v->footprint->precisions);
}

/* Makes the same plan with at most `bytes` bytes of shared memory. */
static void less_shared(const LstmVariant *v, const LstmShape *shape, int backward, size_t bytes,
                        LstmPlan *plan)
{
    Error e;
    PlanOverride force = {.blocks = plan->blocks,
                          .threads = plan->threads,
                          .replicas = plan->replicas,
                          .groups = plan->groups,
                          .slices = plan->slices,
                          .tile = plan->tile + 1,
                          .cluster = plan->cluster,
                          .shared = (int32_t)bytes};
    if (lstm_plan(&facts, shape, v->footprint, backward, &force, &constants, plan, &e))
        fail_msg("%s", e.text);
}

int launch_plan_case(const LstmVariant *v, const LstmShape *of, int backward, const PlanCase *m,
                     uint32_t epoch, LstmPlan *plan, LstmLaunch *launch)
{
    Error e;
    PlanOverride force;
    LstmShape shape = {of->T, of->B + m->more_rows < 1 ? 1 : of->B + m->more_rows, of->H,
                       of->precision};
    int blocks;
    *launch = (LstmLaunch){0};
    if (!persistent(v)) return 1;
    if (plan_override_parse(m->override, &force, &e)) fail_msg("%s", e.text);
    if (lstm_plan(&facts, &shape, v->footprint, backward, &force, &constants, plan, &e)) {
        /* One block's units make no cluster. */
        if (!*m->override && (v->footprint->grid_barrier || shape.H > TENSOR_UNITS))
            fail_msg("%s", e.text);
        return 0;
    }
    if (m->streams && plan->shared > 1) {
        /* With one byte too few, one step of the contraction is streamed. */
        size_t bytes = plan->shared_bytes, kept = (size_t)plan->shared;
        less_shared(v, &shape, backward, bytes - 1, plan);
        kept *= bytes - plan->shared_bytes;
        less_shared(v, &shape, backward, bytes - kept / 2, plan);
        assert_true(plan->shared > 0 && plan->streamed > 0);
    }
    CHECK(v->resident_blocks(plan, &blocks));
    assert_true(blocks >= plan->replicas * plan->blocks);
    int words = v->footprint->grid_barrier ? plan->replicas * plan->blocks : 0;
    char *zeros = calloc(1, plan->scratch_bytes);
    uint32_t *word = (uint32_t *)(zeros + plan->scratch_bytes) - words;
    for (int i = 0; i < words; i++) word[i] = epoch;
    *launch = (LstmLaunch){plan, device_alloc(zeros, plan->scratch_bytes, 0), 1 << 22};
    free(zeros);
    return 1;
}

static void see(Seen *s, const LstmVariant *v, const LstmPlan *p, int64_t B, int64_t H)
{
    bool tiles = v->footprint->reads_tiles; /* their plans have neither chunks nor rounds */
    s->runs++;
    s->ranges |= plan_ranges(p, B) > 1;
    s->ragged |= H % p->units != 0;
    s->passes |= p->passes > 1;
    s->replicas |= p->replicas > 1;
    s->groups |= p->groups > 1;
    s->slices |= p->slices > 2;
    s->chunks |= p->backward || tiles || p->chunks > 2;
    s->rounds |= !p->backward || tiles || p->rounds > 1;
    s->in_warp |= !tiles && plan_warp_sums(p) > 0;
    s->clusters |= p->cluster;
    s->exchanges |= 1 << p->exchange;
    s->resident |= p->resident > 0 && p->depth > p->resident;
    s->shared |= p->shared > 0 && !p->streamed;
    s->mixed |= p->shared > 0 && p->streamed > 0;
    s->streamed |= p->streamed > 0;
}

void told(const char *what, const LstmVariant *v, LstmPrecision precision, const RecurrenceCase *k,
          const PlanCase *m, const LstmPlan *plan)
{
    char text[PLAN_TEXT] = "none";
    if (persistent(v)) plan_text(plan, text, sizeof text);
    told_B = k->B, told_H = k->H;
    snprintf(told_case, sizeof told_case,
             "%s %s %s T %d B %d H %d keep %g sites %d on %s, override '%s'%s, plan %s", what,
             v->footprint->name, precision_name(precision), (int)k->T, (int)k->B, (int)k->H,
             k->keep, k->sites, facts.name, m->override, m->streams ? ", half streamed" : "", text);
}

/* Checks that every element of a copy is the rounded element of the float32 tensor, and that the
 * gaps between rows are as they were. */
static void check_bf16_copy(const char *what, const uint16_t *copy, int64_t pitch,
                            const float *from, int64_t rows, int64_t H)
{
    uint16_t *got = host_bytes((size_t)(rows * pitch) * 2);
    fetch(got, copy, (size_t)(rows * pitch) * 2);
    for (int64_t i = 0; i < rows * pitch; i++) {
        int64_t row = i / pitch, u = i % pitch;
        uint16_t right = u < H ? copy_bf16(from[row * H + u]) : (uint16_t)(canary >> i % 2 * 16);
        if (got[i] != right)
            fail_msg("%s in bfloat16, row %lld, element %lld of %lld: %04x, not %04x: %s", what,
                     (long long)row, (long long)u, (long long)H, got[i], right, told_case);
    }
}

static void check_forward(const RecurrenceCase *k, const Tensors *x, const LstmForward *p)
{
    int64_t B = k->B, H = k->H, n = k->T * B * H;
    float *h = fetched(p->h, n + B * H);
    compare("h", h, x->plain_h, x->h, n + B * H, 2);
    compare("c", fetched(p->c, n + B * H), x->plain_c, x->c, n + B * H, 2);
    compare("gates", fetched(p->gates, 4 * n), x->plain_gates, x->gates, 4 * n, 2);
    float *y = p->y ? fetched(p->y, n) : NULL,
          *h_masked = p->h_masked ? fetched(p->h_masked, n) : NULL;
    for (int64_t j = 0; j < n; j++) { /* masks must be equal bit for bit */
        if (y && y[j] != h[B * H + j] * factor_f32(&x->output, j / H, H, j % H))
            fail_msg("y[%lld] is not h masked: %s", (long long)j, told_case);
        if (h_masked && h_masked[j] != h[j] * factor_f32(&x->recurrent, j / H, H, j % H))
            fail_msg("h_masked[%lld] is not h masked: %s", (long long)j, told_case);
    }
    if (p->y_bf16) check_bf16_copy("y", p->y_bf16, p->bf16_pitch, y, k->T * B, H);
    if (p->h_bf16 && h_masked)
        check_bf16_copy("h_masked", p->h_bf16, p->bf16_pitch, h_masked, k->T * B, H);
    else if (p->h_bf16) check_bf16_copy("h", p->h_bf16, p->bf16_pitch, h, (k->T + 1) * B, H);
}

void check_recurrence(const LstmVariant *v, const RecurrenceCase *k, const Tensors *x,
                      const PlanCase *m, Seen seen[2])
{
    int64_t n = k->T * k->B * k->H;
    int kept = host_mark();
    LstmPlan plan[2];
    Passes p = recurrence_passes(k, x);
    if (launch_plan_case(v, &p.forward.shape, 0, m, 0, &plan[0], &p.forward.launch)) {
        told("forward", v, x->precision, k, m, &plan[0]);
        CHECK(v->forward(&context, &p.forward));
        check_forward(k, x, &p.forward);
        if (persistent(v)) see(&seen[0], v, &plan[0], k->B, k->H);
    } else { /* the tensors that the other pass needs */
        upload(p.forward.h, x->plain_h, (size_t)(n + k->B * k->H) * 4);
        upload(p.forward.c, x->plain_c, (size_t)(n + k->B * k->H) * 4);
        upload(p.forward.gates, x->plain_gates, (size_t)(4 * n) * 4);
    }
    if (launch_plan_case(v, &p.forward.shape, 1, m, 0, &plan[1], &p.backward.launch)) {
        told("backward", v, x->precision, k, m, &plan[1]);
        CHECK(v->backward(&context, &p.backward));
        compare("dgates", fetched(p.backward.gates, 4 * n), x->plain_dgates, x->dgates, 4 * n, 3);
        if (persistent(v)) see(&seen[1], v, &plan[1], k->B, k->H);
    }
    release_device();
    release_host(kept);
}

/* Returns whether every path has been taken. Plans within one cluster have one pass and stream
 * nothing; other plans must take every path that their fields name. */
static bool seen_enough(const LstmFootprint *f, int back, const Seen *s)
{
    int resident = 0, shared = f->shared_weights;
    for (int i = 0; i < f->tiles[back]; i++) resident |= f->tile[back][i].resident > 0;
    if (!s->runs || !s->ranges || !s->ragged || !s->replicas || !s->groups) return false;
    if (!f->grid_barrier) return !s->streamed && (s->clusters & 15) == 15;
    return s->passes && s->in_warp == (!back && !f->reads_tiles) && s->slices && s->chunks &&
           s->rounds && s->resident >= resident && s->shared >= shared && s->mixed >= shared &&
           s->streamed && (!f->reads_tiles || !back || s->clusters == (1 | 2 | 4)) &&
           (!f->reads_tiles || s->exchanges == (1 << EXCHANGE_FLAG | 1 << EXCHANGE_WORDS));
}

bool seen_all(const LstmVariant *v, const Seen seen[2], bool must)
{
    bool all = true;
    for (int back = 0; back < 2; back++) {
        const Seen *s = &seen[back];
        if (seen_enough(v->footprint, back, s)) continue;
        all = false;
        if (must)
            fail_msg("%s %s: of %d plans some had ranges %d, ragged %d, passes %d, replicas %d, "
                     "groups %d, slices "
                     "%d, "
                     "chunks %d, rounds %d, more than registers %d, all in shared memory %d, "
                     "shared and streamed "
                     "%d, streamed %d, sums in warps %d, clusters %x, exchanges %x",
                     v->footprint->name, back ? "backward" : "forward", s->runs, s->ranges,
                     s->ragged, s->passes, s->replicas, s->groups, s->slices, s->chunks, s->rounds,
                     s->resident, s->shared, s->mixed, s->streamed, s->in_warp, s->clusters,
                     s->exchanges);
    }
    return all;
}
