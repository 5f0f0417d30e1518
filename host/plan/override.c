#include "override.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/number.h"

#define OVERRIDE_FIELDS(F)                                                                         \
    F(blocks)                                                                                      \
    F(threads)                                                                                     \
    F(registers) F(shared) F(replicas) F(groups) F(slices) F(batch) F(tile) F(cluster) F(exchange)

bool plan_pair_next(const char **text, char name[32], int64_t *value)
{
    char digits[24];
    const char *at = *text, *equals = strchr(at, '='), *end = strchrnul(at, ',');
    if (!equals || equals >= end || equals - at >= 32 || end - equals > (int)sizeof digits)
        return false;
    snprintf(name, 32, "%.*s", (int)(equals - at), at);
    snprintf(digits, sizeof digits, "%.*s", (int)(end - equals - 1), equals + 1);
    *text = *end ? end + 1 : end;
    return (!*end || end[1]) && parse_int(digits, 0, 9e15, value);
}

static const char override_takes[] =
    "a list like blocks=4,replicas=2 of blocks, threads, registers, shared "
    "(bytes), replicas, groups, slices, "
    "batch, tile, cluster or exchange, "
    "each a whole number from 1 and at most once";

int plan_override_parse(const char *text, PlanOverride *o, Error *e)
{
    PlanOverride made = {0};
    for (const char *at = text; *at;) {
        char name[32];
        int64_t value;
        int32_t *slot = NULL;
        if (plan_pair_next(&at, name, &value)) {
#define F(field)                                                                                   \
    if (!strcmp(name, #field)) slot = &made.field;
            OVERRIDE_FIELDS(F)
#undef F
        }
        if (!slot || *slot || value < 1 || value > INT32_MAX)
            return error_set(e, EXIT_USAGE, "a plan's override takes %s, not '%s'", override_takes,
                             text);
        *slot = (int32_t)value;
    }
    *o = made;
    return EXIT_DONE;
}

void plan_override_text(const PlanOverride *o, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
#define F(field)                                                                                   \
    if (o->field && n < size)                                                                      \
        n += (size_t)snprintf(out + n, size - n, "%s%s=%" PRId32, n ? "," : "", #field, o->field);
    OVERRIDE_FIELDS(F)
#undef F
}

int plan_override_env(PlanOverride *o, Error *e)
{
    const char *text = getenv("PLSTM_PLAN");
    Error why;
    *o = (PlanOverride){0};
    if (text && plan_override_parse(text, o, &why))
        return error_set(e, EXIT_USAGE, "environment variable PLSTM_PLAN: %s", why.text);
    return EXIT_DONE;
}
