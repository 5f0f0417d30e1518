/* device: what a GPU is, as the runtime tells it: the only file that asks; and what the GPUs are that plans are made for. A program built without CUDA has
 * the same commands; they answer that there is no device. */
#ifndef PLSTM_DEVICE_H
#define PLSTM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

typedef struct DeviceFacts {
    char name[96];    /* "NVIDIA H200"; begins with "emulated " where tests/emu stands in */
    int index;        /* -1: a profile, not a device that is here */
    int major, minor; /* compute capability */
    int sms;
    size_t memory, l2;                              /* bytes */
    size_t shared_per_block, shared_per_block_most; /* bytes; most: after opting in */
    size_t shared_per_sm, shared_reserved;          /* bytes; reserved of each block's */
    int registers_per_sm, threads_per_sm, blocks_per_sm;
    int clock_mhz, memory_clock_mhz, memory_bus_bits;
    bool cooperative, clusters, ecc;
    int driver, runtime; /* CUDA versions: 13000 is 13.0 */
} DeviceFacts;

/* Whether this program was built with the cuda backend. */
bool device_built(void);

/* How many there are, at least one; EXIT_NO_DEVICE says why none can be used. */
int device_count(int *n, Error *e);

/* Facts of device `index`, which must exist. Makes no context. */
int device_facts(int index, DeviceFacts *facts, Error *e);

/* The GPUs that plans are made for where there is none: by marketing name ("H200"), from the oldest to the newest. */
const char *device_profile_name(int i); /* NULL past the last */
/* Facts of one, of that name and without an index; NULL where the name is none. */
const DeviceFacts *device_profile(const char *name);
/* The profile that a device is, or is most like: one whose name stands in the device's, else the newest that is no newer
 * than the device. */
const char *device_like(const DeviceFacts *device);

/* How many clusters of `size` blocks, a block an SM, the device is expected to hold at once; 0: it has no clusters of that size. A cluster
 * lies within a GPC, and which SMs a GPC lacks differs from board to board: the device itself has the last word. */
int device_clusters(const DeviceFacts *device, int size);

#endif
