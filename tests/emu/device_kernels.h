/* Kernels of the emulator's own tests, callable from C. All pointers are to device memory, unless
 * said otherwise. Each function returns the error of its launch and does not wait for the
 * kernel. */
#ifndef EMU_DEVICE_KERNELS_H
#define EMU_DEVICE_KERNELS_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Adds 1 to each of the n elements of x. */
cudaError_t kernel_add_one(float *x, int n, cudaStream_t stream);
/* The same with a grid, block and shared memory (bytes) of the caller's choice; extra threads do
 * nothing. */
cudaError_t kernel_shaped(float *x, int n, unsigned grid, unsigned block, size_t shared,
                          int cooperative, cudaStream_t stream);
const void *kernel_shaped_address(void);
/* The same in clusters of `cluster` blocks. */
cudaError_t kernel_clustered(float *x, int n, unsigned grid, unsigned block, size_t shared,
                             unsigned cluster, cudaStream_t stream);
/* Sets *clusters, on the host, to the number of clusters of such a launch that are resident at
 * once. */
cudaError_t kernel_clusters(int *clusters, unsigned block, size_t shared, unsigned cluster);
/* Doubles x in place. */
cudaError_t kernel_twice(float *x, int n, cudaStream_t stream);

/* These write one word per check to out (64 words); see device_kernels.cu. The first two launch one
 * block of 64 threads. */
cudaError_t kernel_warp_ops(unsigned *out, cudaStream_t stream);
cudaError_t kernel_atomics(unsigned *out, cudaStream_t stream);
/* Launches a cooperative grid (2,3) of blocks (4,2,2). */
cudaError_t kernel_blocks(unsigned *out, cudaStream_t stream);
/* Launches one block of 32 threads. */
cudaError_t kernel_memory(unsigned *out, cudaStream_t stream);
/* Runs tensor cores on small integers, with fragments loaded in the three possible ways. It
 * launches one warp; out has 512 words. */
cudaError_t kernel_tensor(unsigned *out, cudaStream_t stream);
/* Launches one block of 4 threads, which reads words 40 to 63. */
cudaError_t kernel_copies(unsigned *out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
