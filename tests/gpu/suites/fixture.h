/* fixture: what the parts of test_kernels share: the device, memory that is freed at the end of a
 * test, values and comparisons. A function that fails also fails the test that called it. */
#ifndef PLSTM_TESTS_FIXTURE_H
#define PLSTM_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/oracle_both.h"

#include "host/plan/residency.h"
#include "kernels/lstm.h"

#define CHECK(call)                                                                                \
    do {                                                                                           \
        int error_ = (int)(call);                                                                  \
        if (error_)                                                                                \
            fail_msg("%s: error %d, %s; %s", #call, error_,                                        \
                     cudaGetErrorString(cudaGetLastError()), told_case);                           \
    } while (0)

/* The tests of one part, in the order in which they run. */
typedef struct KernelSuite {
    const struct CMUnitTest *tests;
    size_t n;
} KernelSuite;
extern const KernelSuite layers_suite, update_suite, recurrence_suite, same_bits_suite;

/* ---- the device ---- */

extern LstmContext context;
extern DeviceFacts facts;
extern CostConstants constants;
extern char told_case[900];    /* the running case, for the message of a failing comparison */
extern int64_t told_B, told_H; /* the shape of its recurrence; 0 if it has none */

int fixture_setup(void **state);
int fixture_teardown(void **state);
bool device_missing(void);
/* Clears the state of an earlier test; call this first in a test. Without a device it skips the
 * test, or fails it if REQUIRE_GPU is set. */
void need_device(void);

/* The devices whose plans are run: these profiles on the emulator, otherwise this machine's GPU. */
#ifdef CUDA_EMU
static const char *const devices[] = {"K20", "H200"};
#else
static const char *const devices[] = {"the GPU"};
#endif
enum { DEVICES = sizeof devices / sizeof devices[0] };
/* Selects another emulated GPU; the memory of the previous one is lost. */
void device_choose(const char *name);

/* These return whether this is a build with a sanitizer or the race detector; whether the whole
 * list of plans runs, on the emulated devices for which it was made; and whether this is make
 * test-long in the plain build. */
bool slow_build(void);
bool emulated_whole(void);
bool long_lists(void);

/* ---- memory, which lives until release ---- */

/* The canary is a NaN, so that a read beyond an end changes a result. */
static const uint32_t canary = 0x7fc5a5a5;

void *host_bytes(size_t n); /* n bytes of zeros */
float *host_floats(int64_t n);
double *widened(const float *x, int64_t n); /* a copy in double, on the host */
int host_mark(void);
void release_host(int mark); /* frees what was allocated since host_mark returned `mark` */

/* Allocates device memory, `shift` words past a 16-byte boundary, with guards around it. It is
 * filled with `bytes` bytes from host memory; if `from` is NULL, every word is a NaN. */
void *device_alloc(const void *from, size_t bytes, int shift);
float *device_floats(const float *from, int64_t n);
int32_t *device_ints(const int32_t *from, int64_t n);
void upload(void *to, const void *from, size_t bytes); /* waits until the bytes have arrived */
void fetch(void *to, const void *from, size_t bytes);  /* waits for the context's stream first */
float *fetched(const float *from, int64_t n);
void release_device(void); /* frees device memory after checking its guards */
void release(void);        /* frees host and device memory, and clears told_case */

/* ---- values and comparisons ---- */

enum { STEP = 7 };
static const int64_t late_step = 77777777777; /* needs more than 32 bits, also with a site */
static const double keeps[] = {0.35, 0.5, 1};

/* Returns n random numbers in [-scale, scale], a pure function of `seed`. */
float *drawn(uint32_t seed, int64_t n, double scale);
int32_t *drawn_ids(uint32_t seed, int64_t n, int64_t V);
StepState *device_state(int64_t step, double lr, double clip); /* in device memory */
MaskSite mask_site(const StepState *state, int sites, int site, double keep, int on);
OracleMask oracle_mask(int64_t step, int sites, int site, double keep, int on);

/* Fails the test if the error of `ours` exceeds `times` that of the plain loop plus 4 ulp, or if
 * only `ours` has a NaN. */
void compare(const char *what, const float *ours, const float *plain, const double *exact,
             int64_t n, double times);
void check_bf16(const char *what, const uint16_t *device, const float *from, int64_t n);

#endif
