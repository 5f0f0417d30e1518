#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json_line.h"
#include "number.h"

static const void *field(const Option *o, const void *record)
{
    return (const char *)record + o->at;
}

/* ---- paths ---- */

void path_list_free(PathList *l)
{
    for (int i = 0; i < l->n; i++) free(l->path[i]);
    free(l->path);
    *l = (PathList){0};
}

static bool is_path(const char *value) { return value[0] && strcmp(value, "-"); }

bool path_list_add(PathList *l, const char *value, size_t n)
{
    char **path = realloc(l->path, (size_t)(l->n + 1) * sizeof *path);
    if (!path) return false;
    l->path = path;
    l->path[l->n] = strndup(value, n);
    if (!l->path[l->n]) return false;
    return is_path(l->path[l->n++]);
}

static bool paths_set(PathList *l, const char *value)
{
    struct stat file;
    if (!stat(value, &file)) return path_list_add(l, value, strlen(value));
    for (;; value++) {
        size_t n = strcspn(value, ",");
        if (!path_list_add(l, value, n)) return false;
        value += n;
        if (!*value) return true;
    }
}

/* ---- one value: parse, print, compare ---- */

static bool set(const Option *o, void *to, const char *value)
{
    switch (o->type) {
    case TYPE_INT: return parse_int(value, o->low, o->high, to);
    case TYPE_U64: return parse_u64(value, to);
    case TYPE_DOUBLE: {
        double v;
        if (!parse_double(value, &v) || v < o->low || v > o->high) return false;
        *(double *)to = v;
        return true;
    }
    case TYPE_CHOICE: {
        int64_t v = choice_index(o->choices, value);
        if (v >= 0) *(int64_t *)to = v;
        return v >= 0;
    }
    case TYPE_NAME:
        *(const char **)to = value;
        return o->choices ? choice_index(o->choices, value) >= 0 : value[0] != 0;
    case TYPE_PATH: *(const char **)to = value; return is_path(value);
    case TYPE_PATHS: return paths_set(to, value);
    case TYPE_FLAG: *(bool *)to = true; return true;
    }
    return false;
}

int option_parse(const Option *o, void *record, const char *value, Error *e)
{
    if (set(o, (char *)record + o->at, value)) return EXIT_DONE;
    return error_set(e, EXIT_USAGE, "--%s takes %s, not '%s'", o->name, o->takes, value);
}

const char *option_format(const Option *o, const void *record, char *out, size_t size)
{
    const void *p = field(o, record);
    const char *text = "";
    out[0] = 0;
    switch (o->type) {
    case TYPE_INT: snprintf(out, size, "%lld", (long long)*(const int64_t *)p); break;
    case TYPE_U64: snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)p); break;
    case TYPE_DOUBLE: snprintf(out, size, "%.17g", *(const double *)p); break;
    case TYPE_CHOICE:
        text = o->choices;
        for (int64_t i = *(const int64_t *)p; i > 0; i--) text = strchr(text, '|') + 1;
        snprintf(out, size, "%.*s", (int)strcspn(text, "|"), text);
        break;
    case TYPE_NAME:
    case TYPE_PATH:
        if (*(const char *const *)p) text = *(const char *const *)p;
        snprintf(out, size, "%s", text);
        break;
    default: break;
    }
    return out;
}

const char *option_show(const Option *o, const void *record, char *out, size_t size)
{
    if (o->type == TYPE_DOUBLE) return double_text(*(const double *)field(o, record), out, size);
    return option_format(o, record, out, size);
}

void option_json(const Option *o, const void *record, JsonLine *l)
{
    const void *p = field(o, record);
    char key[OPTION_KEY_SIZE], value[64];
    option_key(o->name, key);
    if (o->type == TYPE_DOUBLE) line_double(l, key, *(const double *)p);
    else if (o->type != TYPE_INT)
        line_string(l, key, option_format(o, record, value, sizeof value));
    else if ((double)*(const int64_t *)p < o->low) line_string(l, key, NULL);
    else line_int(l, key, *(const int64_t *)p);
}

bool option_equal(const Option *o, const void *a, const void *b)
{
    const void *x = field(o, a), *y = field(o, b);
    switch (o->type) {
    case TYPE_INT:
    case TYPE_CHOICE: return *(const int64_t *)x == *(const int64_t *)y;
    case TYPE_U64: return *(const uint64_t *)x == *(const uint64_t *)y;
    case TYPE_DOUBLE: return *(const double *)x == *(const double *)y;
    case TYPE_FLAG: return *(const bool *)x == *(const bool *)y;
    case TYPE_NAME:
    case TYPE_PATH: {
        const char *s = *(const char *const *)x, *t = *(const char *const *)y;
        return s == t || (s && t && !strcmp(s, t));
    }
    case TYPE_PATHS: break;
    }
    return false;
}

void option_copy(const Option *o, void *to, const void *from)
{
    static const size_t bytes[] = {[TYPE_INT] = sizeof(int64_t),    [TYPE_U64] = sizeof(uint64_t),
                                   [TYPE_DOUBLE] = sizeof(double),  [TYPE_CHOICE] = sizeof(int64_t),
                                   [TYPE_NAME] = sizeof(char *),    [TYPE_PATH] = sizeof(char *),
                                   [TYPE_PATHS] = sizeof(PathList), [TYPE_FLAG] = sizeof(bool)};
    memcpy((char *)to + o->at, field(o, from), bytes[o->type]);
}

const char *option_key(const char *name, char out[OPTION_KEY_SIZE])
{
    snprintf(out, OPTION_KEY_SIZE, "%s", name);
    for (char *p = out; *p; p++)
        if (*p == '-') *p = '_';
    return out;
}
