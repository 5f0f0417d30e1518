#include "residency.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/number.h"
#include "precision.h"
#include "residency_kinds.h"

enum { WARP = 32, REGISTER_UNIT = 8, MOST_REGISTERS = 255, FAULT_BLOCKS = 8 * 32, MOST_GROUPS = 8 };

static int64_t round_up(int64_t n, int64_t unit) { return plan_div_up(n, unit) * unit; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static const char *pass_name(int backward) { return backward ? "backward" : "forward"; }

/* ---- a layout: what a plan is free in; everything else of it follows ---- */

typedef struct Layout {
    const LstmTile *tile;
    int32_t index; /* of the footprint's list */
    int64_t rows, units;
    int32_t groups, slices, rounds; /* rounds: backward, at least */
    int32_t threads;                /* at most */
} Layout;

/* Everything but `shared` and the bytes; the caller has checked that the numbers are within int32. */
static LstmPlan plan_of(const Layout *at, const LstmShape *shape, int backward)
{
    LstmPlan p = {.kind = KIND_VECTOR,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = (int32_t)plan_div_up(shape->B, at->rows),
                  .blocks = (int32_t)plan_div_up(shape->H, at->units),
                  .units = (int32_t)at->units,
                  .rows = (int32_t)at->rows,
                  .batch = at->tile->batch,
                  .groups = at->groups,
                  .slices = at->slices,
                  .resident = at->tile->resident,
                  .chunk = at->tile->chunk,
                  .precision = PRECISION_F32,
                  .cluster = 1};
    int64_t terms = backward ? at->units : shape->H, columns = at->units;
    p.passes = (int32_t)plan_div_up(p.rows, (int64_t)p.batch * p.groups);
    p.depth = (int32_t)plan_div_up(terms, p.slices);
    p.slices = (int32_t)plan_div_up(terms, p.depth); /* none is empty */
    if (backward) {
        int64_t quads = plan_div_up(shape->H, 4);
        p.quads = (int32_t)plan_div_up(quads, at->rounds);
        p.rounds = (int32_t)plan_div_up(quads, p.quads);
        columns = p.quads;
    } else {
        p.chunks = (int32_t)plan_div_up(plan_max(p.depth, p.resident), p.chunk);
    }
    p.threads = (int32_t)least(round_up(columns * p.slices * p.groups, WARP), at->threads);
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

/* Shared memory of one step of contraction of all threads. */
static int64_t step_bytes(const LstmPlan *p)
{
    return p->backward ? (int64_t)64 * p->slices * p->quads * p->rounds : (int64_t)16 * p->slices * p->units;
}

/* Keeps `steps` of what would be streamed in shared memory and settles the bytes. */
static void plan_keep(LstmPlan *p, int64_t steps)
{
    int32_t rest = p->shared + p->streamed;
    p->shared = (int32_t)steps;
    p->streamed = rest - p->shared;
    p->shared_bytes = plan_shared_bytes(p);
    p->scratch_bytes = plan_scratch_bytes(p);
}

/* The largest number that a kernel counts in int32: floats that a replica exchanges in a pass, or elements of a block. */
static int64_t largest_index(const LstmPlan *p)
{
    return plan_max(plan_exchange_floats(p) / p->passes, (int64_t)p->rows * p->units);
}

/* ---- limits ---- */

typedef struct Limits {
    int64_t blocks; /* co-resident */
    int64_t shared; /* bytes a block can have */
} Limits;

int64_t plan_shared_limit(const DeviceFacts *d, const PlanOverride *force)
{
    int64_t most = (int64_t)least((int64_t)d->shared_per_block_most,
                                  (int64_t)d->shared_per_sm - (int64_t)d->shared_reserved);
    return force && force->shared ? least(most, force->shared) : most;
}

bool plan_registers_fit(const DeviceFacts *d, const LstmTile *tile, int32_t threads)
{
    return tile->registers <= MOST_REGISTERS &&
           round_up(tile->registers, REGISTER_UNIT) * round_up(threads, WARP) <= d->registers_per_sm;
}

static Limits limits_of(const DeviceFacts *d, const PlanOverride *force)
{
    return (Limits){.blocks = least(d->sms, FAULT_BLOCKS), .shared = plan_shared_limit(d, force)};
}

int plan_block_fits(const LstmPlan *plan, const DeviceFacts *device, const LstmTile *tile, Error *e)
{
    int64_t shared = plan_shared_limit(device, NULL);
    if ((int64_t)plan->shared_bytes > shared)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan takes %zu bytes of shared memory a block, and %s has %" PRId64,
                         plan->shared_bytes, device->name, shared);
    if (!plan_registers_fit(device, tile, plan->threads))
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan takes %d registers a thread for %d threads, and %s has %d",
                         tile->registers, plan->threads, device->name, device->registers_per_sm);
    return EXIT_DONE;
}

bool plan_tile_wanted(const PlanRequest *r, int i)
{
    const LstmTile *tile = &r->footprint->tile[r->backward][i];
    const PlanOverride *force = r->force;
    return tile->precision == r->precision && !(force->tile && force->tile != i + 1) &&
           !(force->batch && force->batch != tile->batch) &&
           !(force->registers && 4 * tile->resident * tile->stacked > force->registers);
}

/* ---- candidates ---- */

typedef struct Search {
    const DeviceFacts *device;
    const LstmShape *shape;
    const LstmFootprint *footprint;
    int backward;
    const PlanOverride *force;
    const PlanConstants *constants;
    Limits limits;
    PlanShortage shortage;
    bool found, settling;
    LstmPlan best;
    double fastest, best_us, best_kept;
} Search;

/* Layouts whose predicted times are this close are equal: then what stays in registers decides, then in shared memory, then the
 * time. Two rounds: the first finds the lowest time. */
static const double EQUAL = 1.10;

/* The last check of a layout; keeps it where it beats the best one so far. */
static void consider(Search *s, const Layout *at)
{
    LstmPlan p = plan_of(at, s->shape, s->backward);
    int32_t rest = p.streamed;
    plan_keep(&p, 0);
    if (largest_index(&p) > INT32_MAX) {
        s->shortage.index = true;
        return;
    }
    if ((int64_t)p.shared_bytes > s->limits.shared) {
        plan_lacks(&s->shortage.shared, (int64_t)p.shared_bytes);
        return;
    }
    if (s->footprint->shared_weights)
        plan_keep(&p, least(rest, (s->limits.shared - (int64_t)p.shared_bytes) / step_bytes(&p)));
    PlanTime time = plan_predict(s->constants, s->device, s->shape, &p);
    double us = plan_time_us(&time, s->shape);
    if (!s->settling) {
        s->fastest = s->found && s->fastest < us ? s->fastest : us;
        s->found = true;
        return;
    }
    PlanBytes bytes = plan_bytes(&p, s->shape);
    double kept = 2 * bytes.kept_registers + bytes.kept_shared;
    if (us > s->fastest * EQUAL || kept < s->best_kept || (kept == s->best_kept && us >= s->best_us)) return;
    s->best = p, s->best_us = us, s->best_kept = kept;
}

/* Every way to cut the contraction into slices that leaves none empty, for one tile, rows, units and groups. */
static void consider_slices(Search *s, Layout *at)
{
    int64_t terms = s->backward ? at->units : s->shape->H, quads = plan_div_up(s->shape->H, 4);
    int64_t columns = s->backward ? 1 : at->units;
    int64_t most = least(terms, at->threads / (columns * at->groups));
    if (most < 1) {
        plan_lacks(&s->shortage.threads, columns * at->groups);
        s->shortage.most_threads = plan_max(s->shortage.most_threads, at->threads);
        return;
    }
    int64_t from = 1, to = most;
    if (s->force->slices) from = to = least(s->force->slices, terms);
    if (to > most) {
        plan_lacks(&s->shortage.threads, columns * at->groups * to);
        s->shortage.most_threads = plan_max(s->shortage.most_threads, at->threads);
        return;
    }
    for (int64_t n = from; n <= to;) {
        int64_t depth = plan_div_up(terms, n);
        at->slices = (int32_t)plan_div_up(terms, depth);
        if (s->backward)
            at->rounds = (int32_t)plan_div_up(quads, at->threads / ((int64_t)at->slices * at->groups));
        consider(s, at);
        if (depth == 1) break;
        n = plan_div_up(terms, depth - 1); /* the fewest that are less deep */
    }
}

static void consider_groups(Search *s, Layout *at)
{
    int64_t useful = plan_div_up(at->rows, at->tile->batch);
    int32_t most = (int32_t)least(useful, MOST_GROUPS);
    for (int32_t groups = 1; groups <= most || groups == s->force->groups; groups++) {
        if (s->force->groups && groups != s->force->groups) continue;
        at->groups = groups;
        consider_slices(s, at);
    }
}

/* Blocks of a replica: from as many as are co-resident down to half of that, since fewer may lie better on the threads. */
static void consider_units(Search *s, Layout *at, int64_t replicas)
{
    int64_t H = s->shape->H, most = least(s->limits.blocks / replicas, H), fewest = plan_div_up(most, 2);
    if (s->force->blocks) fewest = most = least(s->force->blocks, H);
    if (replicas * most > s->limits.blocks) {
        plan_lacks(&s->shortage.blocks, replicas * most);
        return;
    }
    for (int64_t blocks = most; blocks >= fewest; blocks = plan_div_up(H, at->units) - 1) {
        at->units = plan_div_up(H, blocks);
        consider_groups(s, at);
    }
}

static void consider_replicas(Search *s, Layout *at)
{
    int64_t B = s->shape->B, from = 1, to = least(B, s->limits.blocks);
    if (s->force->replicas) from = to = least(s->force->replicas, B);
    if (to > s->limits.blocks) {
        plan_lacks(&s->shortage.blocks, to);
        return;
    }
    for (int64_t n = from; n <= to;) {
        at->rows = plan_div_up(B, n);
        consider_units(s, at, plan_div_up(B, at->rows));
        if (at->rows == 1) break;
        n = plan_max(plan_div_up(B, at->rows - 1), n + n / 8); /* fewer rows each; of many, every eighth */
    }
}

static void consider_tiles(Search *s)
{
    const PlanOverride *force = s->force;
    for (int i = 0; i < s->footprint->tiles[s->backward]; i++) {
        const LstmTile *tile = &s->footprint->tile[s->backward][i];
        if ((force->tile && force->tile != i + 1) || (force->batch && force->batch != tile->batch) ||
            (force->registers && (s->backward ? 16 : 4) * tile->resident > force->registers))
            continue;
        s->shortage.tiles = true;
        Layout at = {.tile = tile, .index = i, .rounds = 1, .threads = tile->threads};
        if (force->threads) at.threads = (int32_t)least(at.threads, force->threads);
        if (!plan_registers_fit(s->device, tile, at.threads)) continue;
        s->shortage.registers = true;
        consider_replicas(s, &at);
    }
}

/* ---- the sentence ---- */

int plan_refuse(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint,
                int backward, const PlanOverride *force, const char *what, Error *e)
{
    char forced[PLAN_OVERRIDE_TEXT + 8] = "", text[PLAN_OVERRIDE_TEXT];
    plan_override_text(force, text, sizeof text);
    if (text[0]) snprintf(forced, sizeof forced, " with %s", text);
    return error_set(e, EXIT_NO_DEVICE,
                     "%s %s with H %" PRId64 " and B %" PRId64 " has no plan on %s%s: %s; %s",
                     footprint->name, pass_name(backward), shape->H, shape->B, device->name, forced, what,
                     forced[0] ? "another override may have one"
                               : "a smaller --hidden or --batch takes less, and --kernel cublas takes any");
}

bool plan_shortage(const DeviceFacts *device, const LstmFootprint *footprint, int backward,
                   const PlanShortage *lack, int64_t limit, char *what, size_t size)
{
    if (!lack->tiles)
        snprintf(what, size, "it is compiled in %d ways, and none is like that", footprint->tiles[backward]);
    else if (!lack->registers)
        snprintf(what, size, "registers run out: no way in which it is compiled fits the %d of an SM",
                 device->registers_per_sm);
    else if (lack->shared)
        snprintf(what, size,
                 "shared memory runs out: it takes at least %" PRId64
                 " bytes a block, and there are %" PRId64,
                 lack->shared, limit);
    else if (lack->index)
        snprintf(
            what, size,
            "indices run out: a block's elements, or what a replica exchanges in a pass, are 2^31 or more");
    else if (lack->threads)
        snprintf(what, size, "threads run out: it takes at least %" PRId64 " a block, and there are %" PRId64,
                 lack->threads, lack->most_threads);
    else return false;
    return true;
}

static int refuse(const Search *s, Error *e)
{
    char what[256];
    if (!plan_shortage(s->device, s->footprint, s->backward, &s->shortage, s->limits.shared, what,
                       sizeof what))
        snprintf(what, sizeof what,
                 "blocks run out: it takes %" PRId64 " at the same time, and the device holds %" PRId64,
                 s->shortage.blocks, s->limits.blocks);
    return plan_refuse(s->device, s->shape, s->footprint, s->backward, s->force, what, e);
}

/* A footprint that has neither the precision that is asked for nor float32. */
static int refuse_precision(const LstmFootprint *footprint, int precision, Error *e)
{
    char has[32] = "";
    for (int i = 0; i < PRECISIONS; i++)
        if (footprint->precisions >> i & 1)
            snprintf(has + strlen(has), sizeof has - strlen(has), "%s%s", has[0] ? " and " : "",
                     precision_name((LstmPrecision)i));
    return error_set(e, EXIT_NO_DEVICE,
                     "%s has no %s: its products run on tensor cores, in %s; --precision chooses, and "
                     "--kernel reg has float32",
                     footprint->name, precision_name((LstmPrecision)precision), has);
}

int lstm_plan(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint, int backward,
              const PlanOverride *force, const PlanConstants *constants, LstmPlan *plan, Error *e)
{
    static const PlanOverride none;
    int precision = lstm_precision(footprint, shape->precision);
    const ResidencyKind *kind = residency_kind((int32_t)footprint->kind);
    Search s = {.device = device,
                .shape = shape,
                .footprint = footprint,
                .backward = backward,
                .force = force ? force : &none,
                .constants = constants};
    if (!footprint->tile[backward])
        return error_set(e, EXIT_NO_DEVICE, "%s launches kernels at every step: there is nothing to plan",
                         footprint->name);
    if (shape->H > INT32_MAX / 4 || shape->B > INT32_MAX / 4)
        return error_set(e, EXIT_NO_DEVICE,
                         "%s counts units and batch rows in 32 bits: H %" PRId64 " and B %" PRId64
                         " are too many; --kernel cublas takes more",
                         footprint->name, shape->H, shape->B);
    if (precision < 0) return refuse_precision(footprint, (int)shape->precision, e);
    if (kind) {
        PlanRequest r = {device, shape, footprint, precision, backward, s.force, constants};
        return kind->plan(&r, plan, e);
    }
    s.limits = limits_of(device, s.force);
    consider_tiles(&s);
    /* Ranges of batch rows, one launch each: the most that fit, by halves. The first shortage is the one to tell. */
    Search part = s;
    LstmShape range = *shape;
    for (part.shape = &range; !part.found && range.B > 1 && !s.force->replicas;) {
        range.B = plan_div_up(range.B, 2);
        consider_tiles(&part);
    }
    if (!part.found) return refuse(&s, e);
    s = part;
    s.settling = true, s.best_us = INFINITY, s.best_kept = -1;
    consider_tiles(&s);
    *plan = s.best;
    return EXIT_DONE;
}

/* ---- text ---- */

/* Every field of LstmPlan: F(field, type). */
#define PLAN_FIELDS(F)                                                                                       \
    F(backward, int32_t)                                                                                     \
    F(tile, int32_t)                                                                                         \
    F(replicas, int32_t)                                                                                     \
    F(blocks, int32_t)                                                                                       \
    F(threads, int32_t)                                                                                      \
    F(units, int32_t)                                                                                        \
    F(rows, int32_t)                                                                                         \
    F(batch, int32_t)                                                                                        \
    F(groups, int32_t)                                                                                       \
    F(passes, int32_t)                                                                                       \
    F(slices, int32_t)                                                                                       \
    F(depth, int32_t)                                                                                        \
    F(resident, int32_t)                                                                                     \
    F(shared, int32_t)                                                                                       \
    F(streamed, int32_t)                                                                                     \
    F(chunk, int32_t)                                                                                        \
    F(chunks, int32_t)                                                                                       \
    F(quads, int32_t)                                                                                        \
    F(rounds, int32_t)                                                                                       \
    F(kind, int32_t)                                                                                         \
    F(precision, int32_t)                                                                                    \
    F(cluster, int32_t)                                                                                      \
    F(shared_bytes, size_t)                                                                                  \
    F(scratch_bytes, size_t)

#define OVERRIDE_FIELDS(F)                                                                                   \
    F(blocks) F(threads) F(registers) F(shared) F(replicas) F(groups) F(slices) F(batch) F(tile) F(cluster)

/* One name=number of a list that commas separate, moving *text past it. False: it is none. */
static bool pair_next(const char **text, char name[32], int64_t *value)
{
    char digits[24];
    const char *at = *text, *equals = strchr(at, '='), *end = strchrnul(at, ',');
    if (!equals || equals >= end || equals - at >= 32 || end - equals > (int)sizeof digits) return false;
    snprintf(name, 32, "%.*s", (int)(equals - at), at);
    snprintf(digits, sizeof digits, "%.*s", (int)(end - equals - 1), equals + 1);
    *text = *end ? end + 1 : end;
    return (!*end || end[1]) && number_int(digits, 0, 9e15, value);
}

static const char override_takes[] = "a list like blocks=4,replicas=2 of blocks, threads, registers, shared "
                                     "(bytes), replicas, groups, slices, "
                                     "batch, tile or cluster, "
                                     "each a whole number from 1 and at most once";

int plan_override_parse(const char *text, PlanOverride *o, Error *e)
{
    PlanOverride made = {0};
    for (const char *at = text; *at;) {
        char name[32];
        int64_t value;
        int32_t *slot = NULL;
        if (pair_next(&at, name, &value)) {
#define F(field)                                                                                             \
    if (!strcmp(name, #field)) slot = &made.field;
            OVERRIDE_FIELDS(F)
#undef F
        }
        if (!slot || *slot || value < 1 || value > INT32_MAX)
            return error_set(e, EXIT_USAGE, "a plan's override is %s, not '%s'", override_takes, text);
        *slot = (int32_t)value;
    }
    *o = made;
    return EXIT_DONE;
}

void plan_override_text(const PlanOverride *o, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
#define F(field)                                                                                             \
    if (o->field && n < size)                                                                                \
        n += (size_t)snprintf(out + n, size - n, "%s%s=%" PRId32, n ? "," : "", #field, o->field);
    OVERRIDE_FIELDS(F)
#undef F
}

int plan_override_env(PlanOverride *o, Error *e)
{
    const char *text = getenv("PLSTM_PLAN");
    Error why;
    *o = (PlanOverride){0};
    if (text && plan_override_parse(text, o, &why))
        return error_set(e, EXIT_USAGE, "environment variable PLSTM_PLAN: %s", why.text);
    return EXIT_DONE;
}

void plan_text(const LstmPlan *p, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
#define F(field, type)                                                                                       \
    if (n < size)                                                                                            \
        n += (size_t)snprintf(out + n, size - n, "%s%s=%" PRId64, n ? "," : "", #field, (int64_t)p->field);
    PLAN_FIELDS(F)
#undef F
}

int plan_parse(const char *text, LstmPlan *plan, Error *e)
{
    enum {
#define F(field, type) FIELD_##field,
        PLAN_FIELDS(F)
#undef F
            FIELDS
    };
    LstmPlan made = {0};
    uint32_t seen = 0;
    for (const char *at = text; *at;) {
        char name[32];
        int64_t value;
        uint32_t bit = 0;
        if (pair_next(&at, name, &value)) {
#define F(field, type)                                                                                       \
    if (!strcmp(name, #field) && (sizeof(type) > 4 || value <= INT32_MAX))                                   \
        made.field = (type)value, bit = UINT32_C(1) << FIELD_##field;
            PLAN_FIELDS(F)
#undef F
        }
        if (!bit || seen & bit)
            return error_set(e, EXIT_BAD_DATA, "'%s' is not a plan: it reads well up to '%s'", text, at);
        seen |= bit;
    }
    if (seen != (UINT32_C(1) << FIELDS) - 1)
        return error_set(e, EXIT_BAD_DATA, "'%s' is not a plan: it names %d of its %d numbers", text,
                         __builtin_popcount(seen), FIELDS);
    *plan = made;
    return EXIT_DONE;
}

/* ---- a plan from elsewhere ---- */

const char *plan_difference(const LstmPlan *a, const LstmPlan *b)
{
#define F(field, type)                                                                                       \
    if (a->field != b->field) return #field;
    PLAN_FIELDS(F)
#undef F
    return NULL;
}

/* What of plan is outside the footprint's lists, or NULL. */
static const char *plan_outside(const LstmPlan *plan, const LstmFootprint *footprint)
{
    if (plan->kind != (int32_t)footprint->kind) return "kind";
    if ((unsigned)plan->backward > 1 || !footprint->tile[plan->backward]) return "backward";
    if (plan->tile < 0 || plan->tile >= footprint->tiles[plan->backward]) return "tile";
    return NULL;
}

/* What of plan is not as it follows from its own layout, or NULL. */
static const char *plan_part(const LstmPlan *plan, const LstmShape *shape, const LstmFootprint *footprint)
{
    int backward = plan->backward;
    const LstmTile *tile = &footprint->tile[backward][plan->tile];
    if (plan->rows < 1 || plan->rows > shape->B) return "rows";
    if (plan->units < 1 || plan->units > shape->H) return "units";
    if (plan->groups < 1 || plan->groups > tile->threads) return "groups";
    if (plan->slices < 1 || plan->slices > tile->threads) return "slices";
    if (backward && (plan->rounds < 1 || plan->rounds > shape->H)) return "rounds";
    if (plan->threads < 1 || plan->threads > tile->threads) return "threads";
    Layout at = {tile,         plan->tile,   plan->rows,   plan->units,
                 plan->groups, plan->slices, plan->rounds, plan->threads};
    LstmShape range = *shape;
    if (plan->replicas < 1) return "replicas";
    range.B = least(shape->B, (int64_t)plan->rows * plan->replicas);
    LstmPlan p = plan_of(&at, &range, backward);
    int64_t columns = backward ? p.quads : p.units;
    if (columns * p.slices * p.groups > plan->threads) return "threads";
    if (plan->shared < 0 || plan->shared > p.streamed || (plan->shared && !footprint->shared_weights))
        return "shared";
    p.threads = plan->threads;
    plan_keep(&p, plan->shared);
    return plan_difference(&p, plan);
}

int plan_not_one(const LstmShape *shape, const LstmFootprint *footprint, const char *field, Error *e)
{
    return error_set(e, EXIT_NO_DEVICE,
                     "the plan is not one of %s for H %" PRId64 " and B %" PRId64 ": its %s cannot be",
                     footprint->name, shape->H, shape->B, field);
}

int plan_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
               const LstmFootprint *footprint, Error *e)
{
    static const PlanOverride none;
    Limits l = limits_of(device, &none);
    if (shape->H > INT32_MAX / 4 || shape->B > INT32_MAX / 4)
        return error_set(e, EXIT_NO_DEVICE, "H %" PRId64 " and B %" PRId64 " are too many for a plan",
                         shape->H, shape->B);
    const char *part = plan_outside(plan, footprint);
    const ResidencyKind *kind = residency_kind(plan->kind);
    if (!part && plan->precision != lstm_precision(footprint, shape->precision)) part = "precision";
    if (!part && kind) return kind->check(plan, device, shape, footprint, e);
    if (!part) part = plan_part(plan, shape, footprint);
    if (part) return plan_not_one(shape, footprint, part, e);
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    int64_t blocks = (int64_t)plan->replicas * plan->blocks;
    if (blocks > l.blocks)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan takes %" PRId64 " blocks at the same time, and %s holds %" PRId64, blocks,
                         device->name, l.blocks);
    if (largest_index(plan) > INT32_MAX)
        return error_set(e, EXIT_NO_DEVICE, "the plan counts past 2^31 in a pass");
    return plan_block_fits(plan, device, tile, e);
}

/* ---- bytes ---- */

PlanBytes plan_bytes(const LstmPlan *p, const LstmShape *shape)
{
    const ResidencyKind *kind = residency_kind(p->kind);
    if (kind) return kind->bytes(p, shape);
    PlanBytes b = {.weights = 16.0 * (double)shape->H * (double)shape->H};
    double ranges = (double)plan_ranges(p, shape->B), grid = ranges * p->replicas * p->blocks,
           passes = p->passes;
    double rows = (double)p->groups * p->batch;
    double kept = least(p->resident, p->depth), depth = p->depth;
    if (p->backward) {
        double streamed = p->streamed + (p->rounds - 1) * (double)(p->depth - p->shared);
        b.kept_registers = kept / (depth * p->rounds);
        b.kept_shared = p->shared / depth;
        b.streamed = grid * passes * p->groups * 64.0 * p->slices * p->quads * streamed;
        b.exchanged = ranges * p->replicas * 4.0 * 2 * (double)plan_exchange_floats(p);
        b.summed =
            grid * passes * 2 * 16.0 * (p->slices - plan_folded(p->slices)) * p->quads * p->rounds * rows;
    } else {
        b.kept_registers = kept / depth;
        b.kept_shared = p->shared / depth;
        b.streamed = grid * passes * p->groups * 16.0 * p->slices * p->units * p->streamed;
        b.exchanged = ranges * p->replicas * 4.0 * (1 + p->blocks) * (double)plan_exchange_floats(p);
        b.summed = grid * passes * 2 * 16.0 * p->slices * p->units * rows;
    }
    return b;
}

PlanTime plan_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                      const LstmPlan *p)
{
    const ResidencyKind *kind = residency_kind(p->kind);
    return kind ? kind->predict(c, device, shape, p) : plan_predict_vector(c, device, shape, p);
}

/* ---- choosing variants ---- */

int plan_kernel_find(const char *name, size_t length)
{
    for (int i = 0; lstm_footprints[i]; i++)
        if (strlen(lstm_footprints[i]->name) == length && !memcmp(lstm_footprints[i]->name, name, length))
            return i;
    return -1;
}

int plan_kernels_parse(const char *text, int pick[2], Error *e)
{
    const char *slash = strchr(text, '/');
    char names[128] = "";
    pick[0] = pick[1] = -1;
    if (!strcmp(text, "auto")) return EXIT_DONE;
    pick[0] = plan_kernel_find(text, slash ? (size_t)(slash - text) : strlen(text));
    pick[1] = slash ? plan_kernel_find(slash + 1, strlen(slash + 1)) : pick[0];
    if (pick[0] >= 0 && pick[1] >= 0) return EXIT_DONE;
    for (int i = 0; lstm_footprints[i]; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", lstm_footprints[i]->name);
    }
    return error_set(e, EXIT_USAGE, "--kernel takes auto, a name or FWD/BWD, the names being %s, not '%s'",
                     names, text);
}

void plan_choose(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                 const PlanConstants *constants, const uint32_t without[2], PlanChoice *out)
{
    char part[2][96];
    memset(out, 0, sizeof *out);
    for (int backward = 0; backward < 2; backward++) {
        PlanPick *pick = &out->pass[backward], next = {.variant = -1};
        pick->variant = -1;
        for (int i = 0; lstm_footprints[i]; i++) {
            PlanPick p = {.variant = i};
            PlanTime time;
            Error none;
            if (without && without[backward] >> i & 1) continue;
            if (!lstm_footprints[i]->tile[backward])
                time = plan_predict_stepwise(constants, device, shape, backward);
            else if (!lstm_plan(device, shape, lstm_footprints[i], backward, force, constants, &p.plan,
                                &none))
                time = plan_predict(constants, device, shape, &p.plan);
            else continue;
            p.us = plan_time_us(&time, shape);
            if (pick->variant < 0 || p.us < pick->us) next = *pick, *pick = p;
            else if (next.variant < 0 || p.us < next.us) next = p;
        }
        int n = snprintf(part[backward], sizeof part[backward], "%s %s %.2f us a step (model)",
                         lstm_footprints[pick->variant]->name, pass_name(backward), pick->us);
        if (next.variant >= 0)
            snprintf(part[backward] + n, sizeof part[backward] - (size_t)n, ", %s %.2f",
                     lstm_footprints[next.variant]->name, next.us);
    }
    snprintf(out->reason, sizeof out->reason, "%s; %s", part[0], part[1]);
}
