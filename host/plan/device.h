/* device: the facts about a GPU, as the CUDA runtime reports them (no other file of host/ queries
 * them), and the profiles of GPUs for which plans are made. A program built without CUDA has the
 * same commands, which report that there is no device. */
#ifndef PLSTM_DEVICE_H
#define PLSTM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

typedef struct DeviceFacts {
    char name[96];    /* "NVIDIA H200"; begins with "emulated " under tests/emu */
    int index;        /* -1: a profile, not a device of this machine */
    int major, minor; /* compute capability */
    int sms;
    size_t memory, l2;                              /* bytes */
    size_t shared_per_block, shared_per_block_most; /* bytes; most: with opt-in */
    size_t shared_per_sm, shared_reserved;          /* bytes; reserved: per block */
    int registers_per_sm, threads_per_sm, blocks_per_sm;
    int clock_mhz, memory_clock_mhz, memory_bus_bits;
    bool cooperative, clusters, ecc;
    int driver, runtime; /* CUDA versions: 13000 is 13.0 */
} DeviceFacts;

/* Returns whether this program was built with the cuda backend. */
bool device_built(void);

/* Sets *n to the number of devices, which is at least one. EXIT_NO_DEVICE: the sentence says why no
 * device can be used. */
int device_count(int *n, Error *e);

/* Reads the facts of device `index`, which must exist. Creates no context. */
int device_facts(int index, DeviceFacts *facts, Error *e);

/* The GPUs for which plans are made without a device, by marketing name ("H200"), from the oldest
 * to the newest. */
const char *device_profile_name(int i); /* NULL past the last */
/* Returns the facts of the profile of that name, with index -1; NULL: there is no such profile. */
const DeviceFacts *device_profile(const char *name);
/* Returns the profile that a device is, or is most like: one whose name is part of the device's,
 * else the newest that is not newer than the device. */
const char *device_like(const DeviceFacts *device);

/* Returns how many clusters of `size` blocks, one block per SM, the device is expected to hold at
 * once; 0: it has no clusters of that size. This is an estimate: a cluster lies within a GPC, and
 * which SMs a GPC lacks varies between boards, so only the device itself gives the exact number. */
int device_clusters(const DeviceFacts *device, int size);

#endif
