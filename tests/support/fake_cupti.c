/* fake_cupti: the part of CUPTI that tools/gpu/nvtx_trace.c uses, for machines without a GPU.
 * Pushing an external id "launches" a kernel of 1000 ns, "kernel_of_<id>", on stream 7; popping it
 * starts a copy of 500 ns. As in CUPTI, records arrive when they are flushed. It is not
 * thread-safe. */
#include <stdio.h>
#include <string.h>

#include <cupti.h>

enum { EVENTS = 4096 };
static struct Event {
    uint64_t id, at;
    int copy;
} events[EVENTS];
static uint64_t open_ids[64];
static unsigned event_count, open_count;
static char names[EVENTS][24];
static CUpti_BuffersCallbackRequestFunc request;
static CUpti_BuffersCallbackCompleteFunc complete;
static CUpti_TimestampCallbackFunc clock_now;

CUptiResult CUPTIAPI cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc f)
{
    clock_now = f;
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc r,
                                                    CUpti_BuffersCallbackCompleteFunc c)
{
    request = r, complete = c;
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityEnable(CUpti_ActivityKind kind)
{
    return kind == CUPTI_ACTIVITY_KIND_INVALID ? CUPTI_ERROR_INVALID_KIND : CUPTI_SUCCESS;
}

static void event(uint64_t id, int copy)
{
    if (event_count < EVENTS) events[event_count++] = (struct Event){id, clock_now(), copy};
}

CUptiResult CUPTIAPI cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind kind,
                                                            uint64_t id)
{
    (void)kind;
    if (open_count == 64) return CUPTI_ERROR_UNKNOWN;
    open_ids[open_count++] = id;
    event(id, 0);
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind kind,
                                                           uint64_t *last)
{
    (void)kind;
    if (!open_count) return CUPTI_ERROR_QUEUE_EMPTY;
    *last = open_ids[--open_count];
    event(*last, 1);
    return CUPTI_SUCCESS;
}

static size_t size_of(const CUpti_Activity *record)
{
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: return sizeof(CUpti_ActivityExternalCorrelation);
    case CUPTI_ACTIVITY_KIND_MEMCPY: return sizeof(CUpti_ActivityMemcpy5);
    default: return sizeof(CUpti_ActivityKernel9);
    }
}

static uint8_t *put(uint8_t *to, const void *record)
{
    size_t size = size_of((const CUpti_Activity *)record);
    memcpy(to, record, size);
    return to + size;
}

CUptiResult CUPTIAPI cuptiActivityFlushAll(uint32_t flag)
{
    (void)flag;
    for (unsigned i = 0; i < event_count; i++) { /* one buffer per record */
        uint8_t *buffer, *end;
        size_t size, most;
        request(&buffer, &size, &most);
        CUpti_ActivityExternalCorrelation tie = {.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                                 .externalKind =
                                                     CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0,
                                                 .externalId = events[i].id,
                                                 .correlationId = i + 1};
        end = put(buffer, &tie);
        if (events[i].copy) {
            CUpti_ActivityMemcpy5 copy = {.kind = CUPTI_ACTIVITY_KIND_MEMCPY,
                                          .start = events[i].at,
                                          .end = events[i].at + 500,
                                          .streamId = 7,
                                          .correlationId = i + 1};
            end = put(end, &copy);
        } else {
            snprintf(names[i], sizeof names[i], "kernel_of_%u", (unsigned)events[i].id);
            CUpti_ActivityKernel9 kernel = {.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                            .start = events[i].at,
                                            .end = events[i].at + 1000,
                                            .streamId = 7,
                                            .correlationId = i + 1,
                                            .name = names[i]};
            end = put(end, &kernel);
        }
        complete(NULL, 0, buffer, size, (size_t)(end - buffer));
    }
    event_count = 0;
    return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid,
                                                CUpti_Activity **record)
{
    uint8_t *next = *record ? (uint8_t *)*record + size_of(*record) : buffer;
    if (next >= buffer + valid) return CUPTI_ERROR_MAX_LIMIT_REACHED;
    *record = (CUpti_Activity *)(void *)next;
    return CUPTI_SUCCESS;
}
