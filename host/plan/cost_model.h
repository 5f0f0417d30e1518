/* cost_model: predicts the cost of a plan on a device, from constants that are data.
 *
 * It is a model and not a measurement: it ranks layouts and variants against each other. The
 * constants of each device come from profiles/model/constants.json (literature, each with its
 * source) and, if a machine has been measured, from profiles/<gpu>/constants.json, which takes
 * precedence. The Makefile embeds both kinds in the program.
 *
 *   a step    the hop, or the cells' loads and stores of the step if those take longer, then for
 *             each pass ingest of the first chunk + (chunks - 1) * max(multiply / chunks, ingest of
 *             a chunk) + multiply / chunks + partial sums + cell + synchronisations
 *   multiply  max(multiply-adds / rate, bytes read from shared memory / rate, weights streamed /
 *             rate)
 *   a launch  launch + one read of the weights of all replicas + one flag hop: the cost of a pass
 *             beside its steps
 *   cublas    2 launches + 2 smallest kernels + max(multiply-adds / rate, weights / rate), per step
 *
 * The body of each kind's prediction states the formula of each term. */
#ifndef PLSTM_COST_MODEL_H
#define PLSTM_COST_MODEL_H

#include <stdbool.h>

#include "kernels/plan.h"
#include "device.h"
#include "host/base/error.h"

/* X(name, unit, meaning). A rate per clock refers to `clock`. */
#define COST_CONSTANTS(X)                                                                          \
    X(clock, "MHz", "clock of the SMs under load")                                                 \
    X(fma_lanes, "1/clk/SM", "float32 multiply-adds that an SM starts per clock")                  \
    X(fma_share, "1", "share of those that a kernel reaches")                                      \
    X(issue, "1/clk", "instructions that one of an SM's four schedulers starts per clock")         \
    X(shared_rate, "B/clk/SM", "shared memory, read and written")                                  \
    X(shared_latency, "clk", "load from shared memory")                                            \
    X(l2_rate, "B/clk", "L2, read by all SMs together")                                            \
    X(l2_rate_sm, "B/clk/SM", "L2, read by one SM")                                                \
    X(l2_latency, "clk", "load answered by L2")                                                    \
    X(dram_rate, "B/s", "device memory, read")                                                     \
    X(hop, "us", "from a releasing store on one SM to the acquiring load on another")              \
    X(sync, "clk", "barrier of a block")                                                           \
    X(cell, "clk", "nonlinearities and update of one element: a chain of latencies")               \
    X(launch, "us", "from one node of a CUDA graph to the next")                                   \
    X(kernel, "us", "a kernel that does next to nothing, without its launch")

/* The constants of tensor cores and clusters; 0 for a device that has none. */
#define COST_TENSOR_CONSTANTS(X)                                                                   \
    X(word_hop, "us",                                                                              \
      "from the store of a word on one SM to the poll on another that finds it, without a fence")  \
    X(mma, "clk",                                                                                  \
      "m16n8k16 of bfloat16 or m16n8k8 of tf32 by mma.sync on one of an SM's four tensor cores")   \
    X(mma_latency, "clk", "from one such product to the next that adds to it")                     \
    X(cluster_latency, "clk", "load from, or store to, another block's shared memory")             \
    X(cluster_rate, "B/clk/SM", "shared memory of other blocks, written and read")                 \
    X(cluster_sync, "us", "barrier of a cluster")

typedef struct CostConstants {
#define X(name, unit, what) double name;
    COST_CONSTANTS(X)
    COST_TENSOR_CONSTANTS(X)
#undef X
    char device[32]; /* a name that device_profile accepts */
    int measured;    /* number of constants that were measured on that device */
} CostConstants;

/* Sets the constants of a device, which are those of the profile that device_like names. Constants
 * in `file` replace those that the program was built with; NULL: there is no file. EXIT_BAD_DATA:
 * the sentence names the file, and the device and constant where one is at fault. */
int cost_constants(const DeviceFacts *device, const char *file, CostConstants *c, Error *e);

typedef struct CostTime {
    double step;                                     /* us per step: the slope over T */
    double launch;                                   /* us per pass that do not depend on T */
    double hop, ingest, multiply, sums, cell, syncs; /* the parts of a step */
} CostTime;

/* The bytes that a plan keeps and moves, of the whole GPU. */
typedef struct CostBytes {
    double weights; /* one copy of w_hh */
    /* share of a block's weights that stays in registers, 0 to 1, not counting zero padding */
    double kept_registers;
    double kept_shared; /* share in shared memory; the rest is streamed */
    double streamed;    /* weights read from L2 or DRAM, bytes per step */
    /* h (backward: partial dh), written once and read by every block that needs it, bytes per
     * step */
    double exchanged;
    double summed; /* partial sums written to and read from shared memory, bytes per step */
} CostBytes;

/* Call at the end of the prediction of every kind: converts the parts of *t from clocks of one
 * launch to us of all `ranges` launches, and adds them to step. */
void cost_time_end(CostTime *t, double ranges, double clock_mhz);

/* Bytes per clock of the whole device's memory, and of L2 for one of `sms` SMs at work: the lower
 * of its own port's rate and its share of L2's total. */
typedef struct CostRates {
    double dram, l2;
} CostRates;

CostRates cost_rates(const CostConstants *c, double sms);

/* Bytes of saved tensors that a step reads or writes besides the exchange, per unit and batch row:
 * x_proj, gates, c, h, y. */
enum { COST_SAVED_BYTES = 44 };

/* Predicts a variant that launches a product and a pointwise kernel at every step. */
CostTime cost_predict_stepwise(const CostConstants *c, const DeviceFacts *device,
                               const LstmShape *shape, int backward);

/* Returns the predicted us per step of a pass of T steps, including its launch. */
static inline double cost_time_us(const CostTime *t, const LstmShape *shape)
{
    return t->step + t->launch / (double)shape->T;
}

#endif
