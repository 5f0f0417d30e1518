// roofs: see roofs.h.
#include "roofs.h"

#include <algorithm>
#include <stdexcept>

#include <jansson.h>

Roofs roofs_read(const char *path)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    if (!root) throw std::runtime_error(std::string(path) + " cannot be read as constants: " + why.text);
    json_t *constants = json_object_get(root, "constants");
    const auto value = [&](const char *name) {
        return json_number_value(json_object_get(json_object_get(constants, name), "value"));
    };
    Roofs r;
    const bool right = json_is_object(constants);
    if (const char *gpu = json_string_value(json_object_get(root, "gpu"))) r.gpu = gpu;
    r.bytes = std::max(value("copy"), value("copy_kernel"));
    r.f32 = std::max(value("fma_f32"), value("gemm_f32"));
    r.tf32 = std::max(value("mma_tf32"), value("gemm_tf32"));
    r.bf16 = std::max(value("mma_bf16"), value("gemm_bf16"));
    r.f16 = std::max(value("mma_f16"), value("gemm_f16"));
    r.hop = value("flag_hop");
    json_decref(root);
    if (!right) throw std::runtime_error(std::string(path) + " holds no constants");
    return r;
}

double floor_us(const Roofs &roofs, axes::Precision p, double flops, double bytes, double steps)
{
    const double rate = roofs.flops(p);
    if ((flops > 0 && !(rate > 0)) || (bytes > 0 && !(roofs.bytes > 0)) || (steps > 0 && !(roofs.hop > 0)))
        return 0;
    const double arithmetic = flops > 0 ? flops / rate * 1e6 : 0,
                 memory = bytes > 0 ? bytes / roofs.bytes * 1e6 : 0;
    return std::max(arithmetic + (steps > 0 ? steps * roofs.hop : 0), memory);
}
