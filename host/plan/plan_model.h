/* plan_model: what a plan is predicted to cost on a device, from constants that are data.
 *
 * A model, not a measurement: it ranks layouts and variants against each other. The constants of each device come from
 * profiles/model/constants.json (literature, each with its source) and, where a machine has been measured, from
 * profiles/<gpu>/constants.json, which beats them; the Makefile puts both kinds into the program.
 *
 *   a step    hop | cells' loads and stores of the step, whichever is longer, then for each pass
 *             ingest of the first chunk
 *             + (chunks - 1) * max(multiply / chunks, ingest of a chunk) + multiply / chunks
 *             + partial sums + cell + synchronisations
 *   multiply  max(multiply-adds / rate, bytes read from shared memory / rate, weights streamed / rate)
 *   a launch  launch + one read of the weights of all replicas + one flag hop: what a pass costs beside its steps
 *   cublas    2 launches + 2 smallest kernels + max(multiply-adds / rate, weights / rate) a step
 *
 * plan_predict's body says each term's formula. */
#ifndef PLSTM_PLAN_MODEL_H
#define PLSTM_PLAN_MODEL_H

#include <stdbool.h>

#include "kernels/plan.h"
#include "device.h"
#include "host/base/error.h"

/* X(name, unit, what). Per-clock rates are of the clock above them. */
#define PLAN_CONSTANTS(X)                                                                                    \
    X(clock, "MHz", "clock of the SMs under load")                                                           \
    X(fma_lanes, "1/clk/SM", "float32 multiply-adds that an SM starts in a clock")                           \
    X(fma_share, "1", "share of those that a kernel reaches")                                                \
    X(issue, "1/clk", "instructions that a scheduler, of which an SM has four, starts in a clock")           \
    X(shared_rate, "B/clk/SM", "shared memory, read and written")                                            \
    X(shared_latency, "clk", "load from shared memory")                                                      \
    X(l2_rate, "B/clk", "L2, read by all SMs together")                                                      \
    X(l2_rate_sm, "B/clk/SM", "L2, read by one SM")                                                          \
    X(l2_latency, "clk", "load answered by L2")                                                              \
    X(dram_rate, "B/s", "device memory, read")                                                               \
    X(hop, "us", "store that releases on one SM to load that acquires on another")                           \
    X(sync, "clk", "barrier of a block")                                                                     \
    X(cell, "clk", "nonlinearities and update of one element: a chain of latencies")                         \
    X(launch, "us", "from one node of a CUDA graph to the next")                                             \
    X(kernel, "us", "a kernel that has next to nothing to do, beside its launch")

/* The same of tensor cores and clusters; 0 where a device has none. */
#define PLAN_TENSOR_CONSTANTS(X)                                                                             \
    X(mma, "clk", "m16n8k16 of bfloat16 or m16n8k8 of tf32 by mma.sync on one of an SM's four tensor cores") \
    X(mma_latency, "clk", "from one such product to the next that adds to it")                               \
    X(cluster_latency, "clk", "load from, or store to, another block's shared memory")                       \
    X(cluster_rate, "B/clk/SM", "shared memory of other blocks, written and read")                           \
    X(cluster_sync, "us", "barrier of a cluster")

typedef struct PlanConstants {
#define X(name, unit, what) double name;
    PLAN_CONSTANTS(X)
    PLAN_TENSOR_CONSTANTS(X)
#undef X
    char device[32]; /* whose they are: a name of device_profile's */
    int measured;    /* how many of them are measured, on that device */
} PlanConstants;

/* Constants for a device: those of its own name, else those of the profile that device_like names. From file (NULL: what the
 * program was built with). EXIT_BAD_DATA: names file, device and constant. */
int plan_constants(const DeviceFacts *device, const char *file, PlanConstants *c, Error *e);

typedef struct PlanTime {
    double step;                                     /* us a step: the slope over T */
    double launch;                                   /* us a launch beside its steps */
    double hop, ingest, multiply, sums, cell, syncs; /* what step consists of */
} PlanTime;

/* A plan of the kind KIND_VECTOR; plan_predict (residency.h) takes every kind's. */
PlanTime plan_predict_vector(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                             const LstmPlan *plan);

/* A variant that launches a product and a pointwise kernel at every step. */
PlanTime plan_predict_stepwise(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                               int backward);

/* Predicted us a step of a pass of T steps, its launch included. */
static inline double plan_time_us(const PlanTime *t, const LstmShape *shape)
{
    return t->step + t->launch / (double)shape->T;
}

#endif
