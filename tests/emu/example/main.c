/* Runs the recurrence and compares it with plain loops in double. The exit status is 0 if they
 * agree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_runtime_api.h"
#include "recurrence.h"

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

enum { N = 50, ROWS = 7, STEPS = 6 };

int main(void)
{
    static float w_host[N * N], x_host[STEPS * N], h_host[2 * N];
    static double h[N], next[N];
    unsigned state = 1;
    for (int i = 0; i < N * N; i++)
        w_host[i] =
            (float)((state = state * 1664525u + 1013904223u) >> 8) / 16777216.0f * 0.4f - 0.2f;
    for (int i = 0; i < STEPS * N; i++)
        x_host[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;

    float *w, *x, *h_device;
    unsigned *arrived;
    CHECK(cudaMalloc((void **)&w, sizeof w_host));
    CHECK(cudaMalloc((void **)&x, sizeof x_host));
    CHECK(cudaMalloc((void **)&h_device, sizeof h_host));
    CHECK(cudaMalloc((void **)&arrived, sizeof *arrived));
    CHECK(cudaMemcpy(w, w_host, sizeof w_host, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(x, x_host, sizeof x_host, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(h_device, h_host, sizeof h_host, cudaMemcpyHostToDevice));
    CHECK(recurrence_run(w, x, h_device, arrived, N, ROWS, STEPS, NULL));
    CHECK(cudaMemcpy(h_host, h_device, sizeof h_host, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(w));
    CHECK(cudaFree(x));
    CHECK(cudaFree(h_device));
    CHECK(cudaFree(arrived));

    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < N; i++) {
            double sum = x_host[t * N + i];
            for (int k = 0; k < N; k++) sum += (double)w_host[i * N + k] * h[k];
            next[i] = tanh(sum);
        }
        for (int i = 0; i < N; i++) h[i] = next[i];
    }
    double worst = 0;
    int ok = 1;
    for (int i = 0; i < N; i++) {
        double difference = fabs((double)h_host[(STEPS % 2) * N + i] - h[i]);
        ok = ok && difference < 1e-5; /* a NaN fails this test; the reverse test would accept it */
        worst = difference > worst ? difference : worst;
    }
    printf("recurrence: %d elements, %d blocks, %d steps: largest difference %.2g %s\n", N,
           recurrence_blocks(N, ROWS), STEPS, worst, ok ? "ok" : "WRONG");
    return ok ? 0 : 1;
}
