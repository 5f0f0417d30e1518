/* nvtx_record: an NVTX injection library (NVTX_INJECTION64_PATH) that writes a program's ranges to
 * the file that NVTX_RECORD names, with one "domain NAME", "push NAME" or "pop" per line. For tests
 * only. */
#include <stdio.h>
#include <stdlib.h>

#include <nvtx3/nvToolsExt.h>

static FILE *record;

static nvtxDomainHandle_t NVTX_API domain_create(const char *name)
{
    static char handles[16];
    static int n;
    fprintf(record, "domain %s\n", name);
    fflush(record);
    return (nvtxDomainHandle_t)(void *)&handles[n++ % 16];
}

static int NVTX_API push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
    fprintf(record, "push %s%s\n", domain ? "" : "outside ",
            event->messageType == NVTX_MESSAGE_TYPE_ASCII ? event->message.ascii : "?");
    fflush(record);
    return 0;
}

static int NVTX_API pop(nvtxDomainHandle_t domain)
{
    (void)domain;
    fputs("pop\n", record);
    fflush(record);
    return 0;
}

__attribute__((visibility("default"))) int NVTX_API
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
    const char *path = getenv("NVTX_RECORD");
    const NvtxExportTableCallbacks *callbacks =
        (const NvtxExportTableCallbacks *)get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table;
    unsigned size = 0;
    if (!path || !(record = fopen(path, "w")) || !callbacks ||
        !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) ||
        size <= NVTX_CBID_CORE2_DomainRangePop)
        return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)domain_create;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
    return 1;
}
