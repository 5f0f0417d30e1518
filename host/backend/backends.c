/* The backends of this build. The file is compiled once for programs with CUDA and once for those
 * without. */
#include "backend.h"

#include <string.h>

#include "backend_cpu.h"
#ifdef PLSTM_CUDA
#include "backend_cuda.h"
#endif
#include "backend_reference.h"

const BackendOps *const backends[] = {
#ifdef PLSTM_CUDA
    &backend_cuda,
#endif
    &backend_cpu,
    &backend_reference,
    NULL,
};

int backend_find(const char *name, const BackendOps **ops, Error *e)
{
    bool any = !strcmp(name, "auto");
    for (int i = 0; backends[i]; i++) {
        const BackendOps *b = backends[i];
        if (any ? b->by_name_only : strcmp(b->name, name) != 0) continue;
        int code = b->usable ? b->usable(e) : EXIT_DONE;
        if (code && !any) return code;
        if (code) continue;
        *ops = b;
        e->code = EXIT_DONE; /* the reason why `auto` skipped another backend is not an error */
        return EXIT_DONE;
    }
    if (!strcmp(name, "cuda"))
        return error_set(e, EXIT_NO_DEVICE,
                         "this build of plstm has no cuda backend; --backend cpu runs everywhere");
    return error_set(e, EXIT_USAGE, "--backend takes auto, cpu, cuda or reference, not '%s'", name);
}
