/* launch: all kernels are launched here, with cooperative grids and clusters if the toolkit and the
 * GPU have them. */
#ifndef PLSTM_LAUNCH_CUH
#define PLSTM_LAUNCH_CUH

#include <stddef.h>

#include <cuda_runtime.h>

struct LaunchShape {
    dim3 grid, block;
    size_t shared_bytes; /* dynamic */
    cudaStream_t stream;
    /* All blocks are resident at once or the launch is refused; needs sm_60. */
    bool cooperative;
    /* Blocks along x that form a cluster, or 0 for a launch without clusters. Kernels that
     * use st.async pass at least 2. It must divide grid.x and needs sm_90; more than
     * 8 need cudaFuncAttributeNonPortableClusterSizeAllowed. */
    unsigned cluster = 0;
};

#if CUDART_VERSION >= 12000
/* Returns the launch in the runtime's form. attr has room for two attributes and must live as long
 * as the result. */
static inline cudaLaunchConfig_t launch_config(const LaunchShape &shape, cudaLaunchAttribute *attr)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    config.attrs = attr;
    if (shape.cooperative) {
        attr[config.numAttrs].id = cudaLaunchAttributeCooperative;
        attr[config.numAttrs++].val.cooperative = 1;
    }
    if (shape.cluster > 0) {
        attr[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[config.numAttrs].val.clusterDim.x = shape.cluster;
        attr[config.numAttrs].val.clusterDim.y = 1;
        attr[config.numAttrs++].val.clusterDim.z = 1;
    }
    return config;
}
#endif

/* Sets *clusters to the number of clusters of that shape (shape.cluster >= 1) that the device holds
 * at once: 0 also where the driver answers that the device cannot form clusters of that size. */
template <class... P>
static inline cudaError_t resident_clusters(int *clusters, const LaunchShape &shape,
                                            void (*kernel)(P...))
{
#if CUDART_VERSION >= 12000
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = launch_config(shape, attr);
    cudaError_t error = cudaOccupancyMaxActiveClusters(clusters, kernel, &config);
    if (error != cudaErrorInvalidClusterSize) return error;
    cudaGetLastError(); /* so that no later call reports it */
    *clusters = 0;
    return cudaSuccess;
#else
    (void)shape, (void)kernel;
    *clusters = 0;
    return cudaErrorNotSupported;
#endif
}

/* Launches kernel(args...) and returns the error of the launch itself. cudaLaunchKernelEx came with
 * CUDA 11.8 and needs a newer driver than the last one for Kepler, so toolkits before 12 use the
 * older calls. */
template <class... P, class... A>
static inline cudaError_t launch(const LaunchShape &shape, void (*kernel)(P...), A... args)
{
    static_assert(sizeof...(P) == sizeof...(A),
                  "a kernel takes as many arguments as it has parameters");
#if CUDART_VERSION >= 12000
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = launch_config(shape, attr);
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
#else
    if (shape.cluster > 0) return cudaErrorNotSupported;
    if (shape.cooperative)
        return [&](P... exact) {
            void *pointers[] = {(void *)&exact...};
            return cudaLaunchCooperativeKernel((const void *)kernel, shape.grid, shape.block,
                                               pointers, shape.shared_bytes, shape.stream);
        }(static_cast<P>(args)...);
    kernel<<<shape.grid, shape.block, shape.shared_bytes, shape.stream>>>(static_cast<P>(args)...);
    return cudaPeekAtLastError();
#endif
}

#endif
