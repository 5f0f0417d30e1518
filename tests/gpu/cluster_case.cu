/* cluster_case: implements loop_case.h for the time loops of the variant `cluster`. The words of a
 * plan are: tile, units, rows, replicas, T, B, H. */
#include "fwd_cluster.cuh"

#include "bwd_cluster.cuh"

#include "loop_case.h"

/* X(precision, stacked, resident, batch), in the order of a plan's tile. With CASE_FIRST only the
 * first is compiled. */
#define CASE_FIRST_TILE(X)  X(BF16, 2, 1, 8)
#define CASE_OTHER_TILES(X) X(TF32, 2, 1, 8) X(BF16, 1, 0, 16) X(TF32, 1, 2, 24)
#ifdef CASE_FIRST
#define CASE_TILES(X) CASE_FIRST_TILE(X)
#else
#define CASE_TILES(X) CASE_FIRST_TILE(X) CASE_OTHER_TILES(X)
#endif
enum { CASE_THREADS = 512 }; /* the most threads of any plan */

#define X(precision, stacked, resident, batch)                                                     \
    forward_case<PRECISION_##precision, stacked, resident, batch, CASE_THREADS>,
PERSISTENT_KERNEL(forward_case, ClusterForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(forward_case, ClusterForwardPass, CASE_TILES(X))
#undef X
#define X(precision, stacked, resident, batch)                                                     \
    backward_case<PRECISION_##precision, stacked, resident, batch, CASE_THREADS>,
PERSISTENT_KERNEL(backward_case, ClusterBackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(backward_case, ClusterBackwardPass, CASE_TILES(X))
#undef X

static const struct {
    int precision, stacked, resident, batch;
} tiles[] = {
#define X(precision, stacked, resident, batch) {PRECISION_##precision, stacked, resident, batch},
    CASE_TILES(X)
#undef X
};
enum { TILES = sizeof tiles / sizeof tiles[0], WORDS = 7 };

/* Without words the plan has a ragged last block, two replicas, two ranges of rows, and weights in
 * registers and shared memory; the last replica has one row less. */
extern "C" int case_plan(int back, int n, const int *words, LstmShape *shape, LstmPlan *plan)
{
    static const int own[WORDS] = {0, 12, 2, 2, 6, 5, 23};
    if (n && n != WORDS) return 1;
    if (!n) words = own;
    int tile = words[0], H = words[6];
    if (tile < 0 || tile >= TILES) return 1;
    LstmPlan p = {};
    p.kind = KIND_CLUSTER, p.backward = back, p.tile = tile, p.units = words[1], p.rows = words[2];
    p.replicas = words[3], p.slices = p.passes = p.rounds = 1;
    p.precision = tiles[tile].precision, p.quads = tiles[tile].stacked,
    p.resident = tiles[tile].resident;
    p.batch = tiles[tile].batch, p.blocks = p.cluster = (H + p.units - 1) / p.units;
    int m = back ? (H + TENSOR_ROWS - 1) / TENSOR_ROWS : p.units / TENSOR_UNITS;
    p.depth = back ? 4 * p.units / tensor_k(p.precision) : (int)tensor_k_tiles(H, p.precision);
    p.groups = (m + p.quads - 1) / p.quads;
    p.threads = 32 * p.groups;
    p.shared = (int32_t)plan_max(p.depth - p.resident, 0);
    p.shared_bytes = cluster_shared_bytes(&p);
    *shape = {words[4], words[5], H, (LstmPrecision)p.precision}, *plan = p;
    return 0;
}

extern "C" cudaError_t case_prepare(void)
{
    cudaError_t error = forward_case_prepare();
    return error ? error : backward_case_prepare();
}

extern "C" cudaError_t case_forward(const LstmContext *context, const LstmForward *p)
{
    return forward_case_run(context, p);
}

extern "C" cudaError_t case_backward(const LstmContext *context, const LstmBackward *p)
{
    return backward_case_run(context, p);
}
