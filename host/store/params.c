#include "params.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/philox.h"

static ParamInfo info_of(const char *format, int layer, int64_t rows, int64_t cols)
{
    ParamInfo info = {.rank = cols ? 2 : 1, .dim = {rows, cols}, .n = cols ? rows * cols : rows};
    snprintf(info.name, sizeof info.name, format, layer);
    return info;
}

ParamInfo param_info(const ModelShape *s, int k)
{
    assert(k >= 0 && k < params_count(s));
    if (k == param_encoder(s)) return info_of("encoder.weight", 0, s->V_in, s->H);
    if (k == param_input_weight(s)) return info_of("input.weight", 0, s->H, s->F);
    if (k == param_input_bias(s)) return info_of("input.bias", 0, s->H, 0);
    if (k == param_decoder_weight(s)) return info_of("decoder.weight", 0, s->V_out, s->H);
    if (k == param_decoder_bias(s)) return info_of("decoder.bias", 0, s->V_out, 0);
    int of_layers = k - param_of_layer(s, 0, 0), layer = of_layers / PARAMS_PER_LAYER;
    int which = 0;
#define ONE(field, name, rows, cols)                                                               \
    if (which++ == of_layers % PARAMS_PER_LAYER) return info_of(name, layer, rows, cols);
    PARAMS_OF_LAYER(ONE)
#undef ONE
    abort();
}

int64_t params_elements(const ModelShape *s)
{
    int64_t n = 0;
    for (int k = 0; k < params_count(s); k++) n += param_info(s, k).n;
    return n;
}

int params_init(Params *p, const ModelShape *s)
{
    p->shape = *s;
    p->count = params_count(s);
    p->offset = malloc(sizeof *p->offset * (size_t)(p->count + 1));
    p->data = malloc(sizeof *p->data * (size_t)params_elements(s));
    if (!p->offset || !p->data) {
        params_free(p);
        return -1;
    }
    p->offset[0] = 0;
    for (int k = 0; k < p->count; k++) p->offset[k + 1] = p->offset[k] + param_info(s, k).n;
    return 0;
}

void params_free(Params *p)
{
    free(p->offset);
    free(p->data);
    p->offset = NULL;
    p->data = NULL;
}

void param_draw(const ModelShape *s, int k, uint64_t seed, double init, float *dst)
{
    int64_t n = param_info(s, k).n;
    for (int64_t e = 0; e < n; e += 4) {
        float four[4];
        init_four(seed, (uint32_t)k, (uint64_t)e >> 2, init, four);
        for (int i = 0; i < 4 && e + i < n; i++) dst[e + i] = four[i];
    }
}

void params_draw(Params *p, uint64_t seed, double init)
{
    for (int k = 0; k < p->count; k++) param_draw(&p->shape, k, seed, init, p->data + p->offset[k]);
}
