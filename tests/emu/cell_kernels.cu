/* The cell's forward pass in both its forms, for test_emu_cell.cpp. This file is compiled for the
 * K20, since only then has cell.cuh the form for GPUs that issue in order. */
#define EMU_ARCH 350
#include "cell_kernels.h"

#include "../../kernels/cell.cuh"
#include "../../kernels/launch.cuh"

__global__ void cells_kernel(CellCase *cells, int n, int in_order)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    CellCase *p = &cells[i];
    Gates a = {p->i, p->f, p->g, p->o};
    CellState s = in_order ? cell_forward_in_order(&a, p->c) : cell_forward(&a, p->c);
    p->i = a.i, p->f = a.f, p->g = a.g, p->o = a.o;
    p->c = s.c, p->h = s.h;
}

cudaError_t kernel_cells(CellCase *cells, int n, int in_order)
{
    LaunchShape s = {dim3((unsigned)(n + 127) / 128), dim3(128), 0, nullptr, false};
    return launch(s, cells_kernel, cells, n, in_order);
}

__global__ void round_down_kernel(float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[3 * i] = __fmaf_rd(x[3 * i], x[3 * i + 1], x[3 * i + 2]);
}

cudaError_t kernel_round_down(float *x, int n)
{
    LaunchShape s = {dim3((unsigned)(n + 127) / 128), dim3(128), 0, nullptr, false};
    return launch(s, round_down_kernel, x, n);
}
