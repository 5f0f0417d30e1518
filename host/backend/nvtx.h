/* nvtx: named ranges on a profiler's time line, in the domain `plstm`. Without the toolkit's
 * headers they compile to nothing; without a profiler they are a call through a pointer that
 * returns at once. */
#ifndef PLSTM_NVTX_H
#define PLSTM_NVTX_H

#if defined __has_include
#if __has_include(<nvtx3/nvToolsExt.h>)
#define PLSTM_NVTX 1
#include <nvtx3/nvToolsExt.h>
#endif
#endif

typedef struct Ranges {
    void *domain;
    int open; /* number of ranges pushed and not yet popped */
} Ranges;

static inline void ranges_init(Ranges *r)
{
    r->open = 0;
#ifdef PLSTM_NVTX
    r->domain = nvtxDomainCreateA("plstm");
#else
    r->domain = 0;
#endif
}

/* Begins a range inside those that are open. */
static inline void ranges_push(Ranges *r, const char *name)
{
#ifdef PLSTM_NVTX
    nvtxEventAttributes_t a = {0};
    a.version = NVTX_VERSION;
    a.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    a.messageType = NVTX_MESSAGE_TYPE_ASCII;
    a.message.ascii = name;
    nvtxDomainRangePushEx((nvtxDomainHandle_t)r->domain, &a);
#else
    (void)name;
#endif
    r->open++;
}

/* Pops ranges until `open` are left. */
static inline void ranges_pop_to(Ranges *r, int open)
{
    for (; r->open > open; r->open--) {
#ifdef PLSTM_NVTX
        nvtxDomainRangePop((nvtxDomainHandle_t)r->domain);
#endif
    }
}

static inline void ranges_free(Ranges *r)
{
    ranges_pop_to(r, 0);
#ifdef PLSTM_NVTX
    if (r->domain) nvtxDomainDestroy((nvtxDomainHandle_t)r->domain);
#endif
    r->domain = 0;
}

#endif
