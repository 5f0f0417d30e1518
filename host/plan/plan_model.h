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
#define PLAN_CONSTANTS(X)                                                                          \
    X(clock, "MHz", "clock of the SMs under load")                                                 \
    X(fma_lanes, "1/clk/SM", "float32 multiply-adds that an SM starts in a clock")                 \
    X(fma_share, "1", "share of those that a kernel reaches")                                      \
    X(issue, "1/clk", "instructions that a scheduler, of which an SM has four, starts in a clock") \
    X(shared_rate, "B/clk/SM", "shared memory, read and written")                                  \
    X(shared_latency, "clk", "load from shared memory")                                            \
    X(l2_rate, "B/clk", "L2, read by all SMs together")                                            \
    X(l2_rate_sm, "B/clk/SM", "L2, read by one SM")                                                \
    X(l2_latency, "clk", "load answered by L2")                                                    \
    X(dram_rate, "B/s", "device memory, read")                                                     \
    X(hop, "us", "store that releases on one SM to load that acquires on another")                 \
    X(sync, "clk", "barrier of a block")                                                           \
    X(cell, "clk", "nonlinearities and update of one element: a chain of latencies")               \
    X(launch, "us", "from one node of a CUDA graph to the next")                                   \
    X(kernel, "us", "a kernel that has next to nothing to do, beside its launch")

/* The same of tensor cores and clusters; 0 where a device has none. */
#define PLAN_TENSOR_CONSTANTS(X)                                                                   \
    X(word_hop, "us",                                                                              \
      "store of a word on one SM to look that finds it on another, without a fence")               \
    X(mma, "clk",                                                                                  \
      "m16n8k16 of bfloat16 or m16n8k8 of tf32 by mma.sync on one of an SM's four tensor cores")   \
    X(mma_latency, "clk", "from one such product to the next that adds to it")                     \
    X(cluster_latency, "clk", "load from, or store to, another block's shared memory")             \
    X(cluster_rate, "B/clk/SM", "shared memory of other blocks, written and read")                 \
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

/* What a plan costs in bytes, of the whole GPU and per step. */
typedef struct PlanBytes {
    double weights; /* of w_hh, once */
    double
        kept_registers; /* share of a block's weights that stays in registers, 0 to 1; zero padding not counted */
    double kept_shared; /* and in shared memory; the rest is streamed */
    double streamed;    /* weights read from L2 or DRAM, bytes a step */
    double
        exchanged; /* h (backward: partial dh) written once and read by every block that needs it, bytes a step */
    double summed; /* partial sums written to and read from shared memory, bytes a step */
} PlanBytes;

/* What every kind's prediction ends with: the parts of *t, in clocks, become us of all `ranges` launches, and step their sum. */
void plan_time_end(PlanTime *t, double ranges, double clock_mhz);

/* Bytes a clock of the whole device's memory, and of L2 for one of `sms` SMs that work: its port, or its part of what L2 gives
 * all. */
typedef struct PlanRates {
    double dram, l2;
} PlanRates;

PlanRates plan_rates(const PlanConstants *c, double sms);

/* Of saved tensors that a step reads or writes beside the exchange, for each unit and batch row: x_proj, gates, c, h, y. */
enum { PLAN_SAVED_BYTES = 44 };

/* A variant that launches a product and a pointwise kernel at every step. */
PlanTime plan_predict_stepwise(const PlanConstants *c, const DeviceFacts *device,
                               const LstmShape *shape, int backward);

/* Predicted us a step of a pass of T steps, its launch included. */
static inline double plan_time_us(const PlanTime *t, const LstmShape *shape)
{
    return t->step + t->launch / (double)shape->T;
}

#endif
