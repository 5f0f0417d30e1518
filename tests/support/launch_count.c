/* launch_count: a library that the CUDA driver loads into a program (CUDA_INJECTION64_PATH). It
 * counts the program's launches of kernels and graphs through CUPTI's callbacks and at the end
 * appends the number as a line to the file that PLSTM_LAUNCHES names. A GPU test that launched
 * nothing has tested nothing (tools/gpu_run.sh). */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cupti.h>

static atomic_long launches;

static void write_count(void)
{
    const char *path = getenv("PLSTM_LAUNCHES");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    fprintf(f, "%ld\n", atomic_load(&launches));
    fclose(f);
}

static void CUPTIAPI on_call(void *user, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                             const void *data)
{
    (void)user, (void)domain, (void)id;
    if (((const CUpti_CallbackData *)data)->callbackSite == CUPTI_API_ENTER)
        atomic_fetch_add(&launches, 1);
}

/* The driver calls this function once, when the program first uses CUDA. */
int InitializeInjection(void);
int InitializeInjection(void)
{
    static const CUpti_CallbackId calls[] = {
        CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel,
        CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz,
        CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx,
        CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz,
        CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch,
        CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz,
        CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel,
    };
    CUpti_SubscriberHandle subscriber;
    atexit(write_count);
    if (cuptiSubscribe(&subscriber, (CUpti_CallbackFunc)on_call, NULL) != CUPTI_SUCCESS) return 1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        cuptiEnableCallback(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API, calls[i]);
    return 1;
}
