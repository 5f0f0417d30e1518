#include "backend.h"

#include "host/base/machine.h"

BackendConfig backend_config(const Settings *s, const ModelShape *shape, bool train)
{
    return (BackendConfig){.shape = *shape,
                           .T = s->seq,
                           .B = s->batch,
                           .train = train,
                           .keep = s->keep,
                           .sites = s->sites,
                           .seed = s->seed,
                           .threads = s->threads > 0 ? (int)s->threads : backend_threads(),
                           .kernel = s->kernel,
                           .precision = (LstmPrecision)s->precision};
}

int backend_threads(void) { return machine_cpus(); }
