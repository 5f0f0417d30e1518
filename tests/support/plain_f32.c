#define REFERENCE_REAL    float
#define backend_reference backend_plain_f32
#define reference_param   plain_f32_param
#define reference_grad    plain_f32_grad
#define reference_input   plain_f32_input
#include "host/backend/backend_reference.c"
