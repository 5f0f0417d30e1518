#include "model_load.h"

#include "host/base/machine.h"

int model_load(Model *m, const BackendOps *ops, const Checkpoint *c, BatchLimits limits, bool hits,
               int threads, Error *e)
{
    Settings s;
    settings_defaults(&s); /* every kernel, float32 */
    s.threads = threads;
    BackendConfig config = backend_config(&s, &c->shape, false);
    config.T = limits.T, config.B = limits.B, config.scored = limits.scored,
    config.features = limits.features;
    config.hits = hits;
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
