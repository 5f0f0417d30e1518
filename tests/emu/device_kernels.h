/* Kernels of the emulator's own tests, callable from C. All pointers are device memory. */
#ifndef EMU_DEVICE_KERNELS_H
#define EMU_DEVICE_KERNELS_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x[i] += 1 for n elements. */
cudaError_t kernel_add_one(float *x, int n, cudaStream_t stream);
/* The same with a launch of the caller's shape; extra threads do nothing. */
cudaError_t kernel_shaped(float *x, int n, unsigned grid, unsigned block, size_t shared,
                          int cooperative, cudaStream_t stream);
const void *kernel_shaped_address(void);
/* The same in clusters; the number of clusters that fit at once. */
cudaError_t kernel_clustered(float *x, int n, unsigned grid, unsigned block, size_t shared,
                             unsigned cluster, cudaStream_t stream);
cudaError_t kernel_clusters(int *clusters, unsigned block, size_t shared, unsigned cluster);
/* Doubles x in place. */
cudaError_t kernel_twice(float *x, int n, cudaStream_t stream);

/* Writes one word per check to out (64 words); see device_kernels.cu. One block of 64 threads. */
cudaError_t kernel_warp_ops(unsigned *out, cudaStream_t stream);
cudaError_t kernel_atomics(unsigned *out, cudaStream_t stream);
cudaError_t kernel_blocks(unsigned *out,
                          cudaStream_t stream); /* grid (2,3), block (4,2,2), cooperative */
cudaError_t kernel_memory(unsigned *out, cudaStream_t stream);
/* Runs tensor cores on small integers, with fragments loaded in the three possible ways; one warp,
 * 512 words. */
cudaError_t kernel_tensor(unsigned *out, cudaStream_t stream);
cudaError_t kernel_copies(unsigned *out,
                          cudaStream_t stream); /* one block of 4 threads; reads words 40 to 63 */

#ifdef __cplusplus
}
#endif

#endif
