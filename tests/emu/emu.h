/* What tests may ask of the emulated CUDA toolkit beyond CUDA's own API. Clean C11.
 *
 * Every setting can also be given in the environment, read once at the first runtime call:
 *   EMU_DEVICE=K20|K40|V100|A100|H100|H200|B200   EMU_SEED=n (0 = deterministic order)   EMU_QUIET=1
 * EMU_WATCHDOG=seconds EMU_PROTECT=0 (leave device memory open to the host)   EMU_UNINIT=0 (race build: allow
 * reads of unwritten memory)
 */
#ifndef EMU_H
#define EMU_H

#include <stddef.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "plain", "asan" or "race": how the emulator itself was built. */
const char *emu_mode(void);

/* ---- device and schedule
 * ------------------------------------------------------------------------------------ */

/* Puts another GPU in the slot: resets the device first (memory, streams, sticky errors are gone). 0, or -1
 * for an unknown name. emu_device_name(i) lists the profiles, NULL past the last. */
int emu_device_select(const char *name);
const char *emu_device_name(int i);

/* Of the selected GPU, until the next is: every GPC has that many SMs, so that clusters of more blocks fit nowhere. */
void emu_gpc_sms(int sms);

/* 0: deterministic order, block after block. Anything else: a random schedule that this number determines. */
void emu_seed(unsigned long long seed);

/* What ptxas would report for a kernel; occupancy counts with it. Unless told: 64 registers (or what the
 * block size leaves of the register file, if that is less), no static shared memory. */
void emu_set_registers(const void *kernel, int registers);
void emu_set_static_shared(const void *kernel, size_t bytes);

/* CPU seconds that a thread may run without a barrier, poll or exit before it is taken for a raw spin. 0:
 * never. */
void emu_watchdog(double seconds);

/* Race build: whether a read of memory that nobody has written is a fault (default 1). */
void emu_check_uninitialised(int on);

/* Forgets everything: memory, streams, graphs, sticky errors, injected faults, counters, the report. */
void emu_reset(void);

/* ---- reports
 * ------------------------------------------------------------------------------------------------ */

/* The text of the last fault (race, deadlock, ...), "" if there was none since emu_report_clear or emu_reset.
 * The launch that met it has failed with a sticky CUDA error. Also printed to standard error unless quiet. */
const char *emu_report(void);
void emu_report_clear(void);
void emu_quiet(int on);

/* Fiber switches since the process began: the unit of the emulator's own speed. */
unsigned long long emu_switches(void);

/* ---- fault injection
 * ---------------------------------------------------------------------------------------- */

enum emu_call {
    EMU_CALL_ANY,    /* every call that can fail, cuBLAS included */
    EMU_CALL_ALLOC,  /* cudaMalloc, cudaMallocHost, cudaHostAlloc, cudaMallocManaged */
    EMU_CALL_LAUNCH, /* kernel and graph launches */
    EMU_CALL_COPY,   /* cudaMemcpy*, cudaMemset* */
    EMU_CALL_CUBLAS, /* cublas* */
    EMU_CALL_KINDS
};

/* The n-th call of that kind from now on (1 = the next) has no effect and returns `error`; 0 takes the kind's
 * usual error. Only a free or destroy call still releases what it was given, so that an error path can be
 * shown to leak nothing. A cuBLAS call that is hit returns CUBLAS_STATUS_ALLOC_FAILED (create) or
 * CUBLAS_STATUS_EXECUTION_FAILED. n = 0 disarms. */
void emu_fail_call(enum emu_call kind, unsigned long n, cudaError_t error);

/* The n-th call from now on and all after it fail: the GPU has fallen off the bus. n = 0 brings it back. */
void emu_vanish_at(unsigned long n);

/* Calls of that kind since the last emu_reset or emu_calls_clear, and the name of the last call that was made
 * to fail. */
unsigned long emu_calls(enum emu_call kind);
void emu_calls_clear(void);
const char *emu_failed_call(void);

/* Bytes and blocks that cudaMalloc has handed out and not got back; pinned host memory, streams, events and
 * graphs are counted in emu_live_objects, so that a test can show that an error path frees all. */
size_t emu_live_bytes(void);
size_t emu_live_objects(void);

#ifdef __cplusplus
}
#endif

#endif
