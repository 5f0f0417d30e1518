#include "precision.h"

static const char *const names[PRECISIONS] = {"f32", "tf32", "bf16"};

const char *precision_name(LstmPrecision precision) { return names[precision]; }

int precision_find(const char *name)
{
    for (int i = 0; i < PRECISIONS && name; i++)
        if (!strcmp(name, names[i])) return i;
    return name ? -1 : PRECISION_F32;
}
