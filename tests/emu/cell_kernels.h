/* The kernels of test_emu_cell.cpp. All pointers are device memory. */
#ifndef EMU_CELL_KERNELS_H
#define EMU_CELL_KERNELS_H

#include "cuda_runtime_api.h"

/* One unit at one step. On entry i, f, g and o are pre-activations and c is the cell state before
 * the step; on exit they are the activations and the cell state after it, and h is the output. */
struct CellCase {
    float i, f, g, o, c, h;
};

/* Runs n cells in place. in_order selects the form for GPUs that issue in order (cell.cuh); 0
 * selects the other form. */
cudaError_t kernel_cells(CellCase *cells, int n, int in_order);
/* Computes x[i][0] = x[i][0] * x[i][1] + x[i][2], rounded down, for x (n,3). */
cudaError_t kernel_round_down(float *x, int n);

#endif
