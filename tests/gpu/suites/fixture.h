/* fixture: what the parts of test_kernels share: the device that they run on, memory that ends with a test, values, comparisons.
 * What cannot be done fails the test that asked for it. */
#ifndef PLSTM_TESTS_FIXTURE_H
#define PLSTM_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define REAL   double
#define SUFFIX f64
#include "tests/support/oracle.h"
#undef REAL
#undef SUFFIX
#define REAL   float
#define SUFFIX f32
#include "tests/support/oracle.h"

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
extern char told_case[900];    /* what runs, for a comparison that fails */
extern int64_t told_B, told_H; /* of its recurrence; 0: it is none */

int fixture_setup(void **state);
int fixture_teardown(void **state);
bool device_missing(void);
/* First in a test: skips it where there is no device, or fails where REQUIRE_GPU is set; clears what an earlier one left. */
void need_device(void);

/* The devices whose plans are run: those of a profile each, or the one that is there. */
#ifdef CUDA_EMU
static const char *const devices[] = {"K20", "H200"};
#else
static const char *const devices[] = {"the GPU"};
#endif
enum { DEVICES = sizeof devices / sizeof devices[0] };
/* Another emulated GPU; what lay on the one before is gone. */
void device_choose(const char *name);

bool slow_build(void); /* a sanitizer's or the race detector's */
bool emulated_whole(
    void); /* whether the whole list of plans runs, on the devices that it was made for */
bool long_lists(void); /* make test-long, in the plain build */

/* ---- memory, until release ---- */

static const uint32_t canary =
    0x7fc5a5a5; /* a NaN: whoever reads past an end carries it into a result */

void *host_bytes(size_t n); /* zeros */
float *host_floats(int64_t n);
double *widened(const float *x, int64_t n); /* on the host */
int host_mark(void);
void release_host(int mark); /* frees what was made since host_mark returned it */

/* Device memory, `shift` words past a 16-byte boundary, with guards around it; `from` NULL: every word is a NaN. */
void *device_alloc(const void *from, size_t bytes, int shift);
float *device_floats(const float *from, int64_t n);
int32_t *device_ints(const int32_t *from, int64_t n);
void upload(void *to, const void *from, size_t bytes); /* and waits until the bytes are there */
void fetch(void *to, const void *from, size_t bytes);  /* behind what the context's stream does */
float *fetched(const float *from, int64_t n);
void release_device(void); /* nobody may have written around its pieces */
void release(void);        /* of both, and told_case */

/* ---- values and comparisons ---- */

enum { STEP = 7 };
static const int64_t late_step = 77777777777; /* needs more than 32 bits, with a site too */
static const double keeps[] = {0.35, 0.5, 1};

float *drawn(uint32_t seed, int64_t n,
             double scale); /* in [-scale, scale], a pure function of `seed` */
int32_t *drawn_ids(uint32_t seed, int64_t n, int64_t V);
StepState *device_state(int64_t step, double lr, double clip); /* on the device */
MaskSite mask_site(const StepState *state, int sites, int site, double keep, int on);
OracleMask oracle_mask(int64_t step, int sites, int site, double keep, int on);

/* Ours may err at most `times` as much as the plain loop, plus 4 ulp; a NaN on our side alone fails. */
void compare(const char *what, const float *ours, const float *plain, const double *exact,
             int64_t n, double times);
void check_bf16(const char *what, const uint16_t *device, const float *from, int64_t n);

#endif
