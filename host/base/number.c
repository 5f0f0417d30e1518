#include "number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts(const char *text, const char *with) { return text[0] && strchr(with, text[0]); }

bool parse_int(const char *text, double low, double high, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (!starts(text, "0123456789") || *end || errno || (double)v < low || (double)v > high)
        return false;
    *out = v;
    return true;
}

bool parse_u64(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!starts(text, "0123456789") || *end || errno) return false;
    *out = v;
    return true;
}

bool parse_double(const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (!starts(text, "0123456789.") || *end || strpbrk(text, "xX") || !isfinite(v)) return false;
    *out = v;
    return true;
}

const char *double_text(double v, char *out, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    return out;
}

const char *bytes_text(size_t bytes, char *out, size_t size)
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    int i = 0;
    for (; x >= 1024 && i < 4; i++) x /= 1024;
    snprintf(out, size, "%.*f %s", i ? 1 : 0, x, unit[i]);
    return out;
}

int64_t choice_index(const char *choices, const char *text)
{
    size_t n = strlen(text);
    int64_t index = 0;
    for (const char *c = choices; c; index++) {
        size_t length = strcspn(c, "|");
        if (length == n && !memcmp(c, text, n)) return index;
        c = c[length] ? c + length + 1 : NULL;
    }
    return -1;
}
