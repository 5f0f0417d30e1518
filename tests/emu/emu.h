/* The interface of the emulated CUDA toolkit beyond CUDA's own API, for tests. Plain C11.
 *
 * Every setting can also be given in the environment, read once at the first runtime call:
 *   EMU_DEVICE=K20|K40|V100|A100|H100|H200|B200
 *   EMU_SEED=n                    random schedule n; 0 = deterministic order
 *   EMU_QUIET=1                   print no reports
 *   EMU_WATCHDOG=seconds          see emu_watchdog
 *   EMU_PROTECT=0                 leave device memory accessible to the host
 *   EMU_UNINIT=0                  race build: allow reads of unwritten memory
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

/* ---- device and schedule ---- */

/* Selects another GPU and resets the device (memory, streams and sticky errors are lost). Returns
 * 0, or -1 for an unknown name. emu_device_name(i) lists the profiles, NULL after the last. */
int emu_device_select(const char *name);
const char *emu_device_name(int i);

/* Gives every GPC of the selected GPU that many SMs, until the next selection, so that clusters of
 * more blocks fit nowhere. */
void emu_gpc_sms(int sms);

/* Selects the schedule: 0 is the deterministic order, block after block; any other number
 * determines a random schedule. */
void emu_seed(unsigned long long seed);

/* Sets the numbers that ptxas would report for a kernel: registers per thread, and bytes of static
 * shared memory per block. They determine the occupancy. The default is 64 registers (or the
 * block's share of the register file, if that is less) and no static shared memory. */
void emu_set_registers(const void *kernel, int registers);
void emu_set_static_shared(const void *kernel, size_t bytes);

/* Sets the CPU seconds that a thread may run without a barrier, poll or exit before it is reported
 * as a raw spin loop; 0 means never. */
void emu_watchdog(double seconds);

/* Race build: whether a read of unwritten memory is a fault (default 1). */
void emu_check_uninitialised(int on);

/* Resets everything: memory, streams, graphs, sticky errors, injected faults, counters, the
 * report. */
void emu_reset(void);

/* ---- reports ---- */

/* Returns the text of the last fault (race, deadlock, ...), or "" if there was none since
 * emu_report_clear or emu_reset. The launch with the fault has failed with a sticky CUDA error. The
 * text is also printed to standard error unless quiet. */
const char *emu_report(void);
void emu_report_clear(void);
void emu_quiet(int on);

/* Returns the number of fiber switches since the process began, which measures the emulator's own
 * speed. */
unsigned long long emu_switches(void);

/* ---- fault injection ---- */

enum emu_call {
    EMU_CALL_ANY,    /* every call that can fail, cuBLAS included */
    EMU_CALL_ALLOC,  /* cudaMalloc, cudaMallocHost, cudaHostAlloc, cudaMallocManaged */
    EMU_CALL_LAUNCH, /* kernel and graph launches */
    EMU_CALL_COPY,   /* cudaMemcpy*, cudaMemset* */
    EMU_CALL_CUBLAS, /* cublas* */
    EMU_CALL_KINDS
};

/* Makes the n-th call of that kind from now on (1 = the next) do nothing and return `error`; 0
 * selects the kind's usual error. Only a free or destroy call still releases its object, so that a
 * test can show that an error path leaks nothing. A failing cuBLAS call returns
 * CUBLAS_STATUS_ALLOC_FAILED (create) or CUBLAS_STATUS_EXECUTION_FAILED. n = 0 disarms. */
void emu_fail_call(enum emu_call kind, unsigned long n, cudaError_t error);

/* Makes the n-th call from now on and all calls after it fail, as if the GPU had fallen off the
 * bus. n = 0 brings it back. */
void emu_vanish_at(unsigned long n);

/* emu_calls returns the number of calls of that kind since the last emu_reset or emu_calls_clear;
 * emu_failed_call returns the name of the last call that was made to fail, or "". */
unsigned long emu_calls(enum emu_call kind);
void emu_calls_clear(void);
const char *emu_failed_call(void);

/* emu_live_bytes returns the bytes of device memory that are not freed; emu_live_objects counts
 * pinned host memory, streams, events, graphs (also instantiated ones) and cuBLAS handles. With
 * both a test can show that an error path frees everything. */
size_t emu_live_bytes(void);
size_t emu_live_objects(void);

#ifdef __cplusplus
}
#endif

#endif
