#include "model_load.h"

#include "host/base/machine.h"

int model_load(Model *m, const BackendOps *ops, const Checkpoint *c, BatchLimits limits, bool hits,
               int threads, Error *e)
{
    BackendConfig config = {.shape = c->shape,
                            .T = limits.T,
                            .B = limits.B,
                            .scored = limits.scored,
                            .features = limits.features,
                            .hits = hits,
                            .train = false,
                            .keep = 1,
                            .sites = SITES_NONE,
                            .threads = threads > 0 ? threads : backend_threads(),
                            .kernel = "auto",
                            .precision = "f32"};
    int code = machine_fits(ops->bytes ? ops->bytes(&config) : 0, e);
    if (!code) code = model_open(m, ops, &config, e);
    if (code) return code;
    for (int k = 0; !code && k < params_count(&c->shape); k++) {
        code = ops->param_set(m->backend, k, checkpoint_param(c, k), e);
        st_forget(&c->file);
    }
    if (code) model_close(m);
    return code;
}
