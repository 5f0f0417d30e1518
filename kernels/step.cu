/* step: the beginning of a training step. It advances the state and copies the window's words and
 * the carried state.
 * Idea       The step number, window and result slot live in device memory and advance within a
 *            captured graph, so that one graph replays for the whole run. The kernel also does what
 *            copy nodes would otherwise do.
 * Memory     It reads and writes 2 * T * B ids and 2 * L * B * H floats.
 * Partition  Block 0 has the ids: all of its threads read the state before its first thread
 *            replaces it. Each block after it has STEP_THREADS elements of a row of the carried
 *            state.
 * Limits     none on T and B; the window must lie within the stream.
 * Measured   not yet measured */
#include <assert.h>

#include "carry.cuh"
#include "launch.cuh"

enum { STEP_THREADS = 512 };

__global__ void __launch_bounds__(STEP_THREADS)
    step_begin_kernel(StepState *state, int64_t slots, const int32_t *ids, int64_t n, int64_t T,
                      int64_t B, int32_t *x, int32_t *y, CarriedRows carried)
{
    if (blockIdx.x > 0) {
        carry_rows(carried, blockIdx.x - 1, STEP_THREADS);
        return;
    }
    int64_t step = state->next_step, window = state->next_window, slot = state->slot + 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        state->step = step;
        state->window = window;
        state->next_step = step + 1;
        state->next_window = window + 1;
        state->slot = slot < slots ? slot : 0;
    }
    for (int64_t i = threadIdx.x; ids && i < T * B; i += STEP_THREADS) {
        int64_t t = i / B, b = i % B;
        int64_t row_start = (2 * b * n + B) / (2 * B); /* b * n / B rounded, halves up: SPEC 4 */
        const int32_t *word = ids + row_start + window * T + t;
        x[i] = word[0];
        y[i] = word[1];
    }
}

extern "C" cudaError_t step_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, step_begin_kernel);
}

extern "C" cudaError_t step_begin(cudaStream_t stream, StepState *state, int64_t slots,
                                  const int32_t *ids, int64_t n, int64_t T, int64_t B, int32_t *x,
                                  int32_t *y, CarriedRows carried)
{
    assert(slots > 0 && T > 0 && B > 0 && (!ids || n > T));
    int64_t blocks = 1 + carry_blocks(carried, STEP_THREADS);
    assert(blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(STEP_THREADS), 0, stream, false};
    return launch(shape, step_begin_kernel, state, slots, ids, n, T, B, x, y, carried);
}
