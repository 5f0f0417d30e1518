#include "json_line.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool reserve(JsonLine *l, size_t more)
{
    if (l->no_memory) return false;
    if (l->n + more < l->capacity) return true;
    size_t capacity = 2 * (l->n + more) + 1024;
    char *text = realloc(l->text, capacity);
    if (!text) {
        l->no_memory = true;
        return false;
    }
    l->text = text;
    l->capacity = capacity;
    return true;
}

static void put(JsonLine *l, const char *text, size_t n)
{
    if (!reserve(l, n + 1)) return;
    memcpy(l->text + l->n, text, n);
    l->n += n;
    l->text[l->n] = 0;
}

static void put_text(JsonLine *l, const char *text) { put(l, text, strlen(text)); }

/* Returns the length of the valid UTF-8 sequence at s, 0 if there is none. Overlong forms,
 * surrogates and values past U+10FFFF are invalid. */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : (s[0] & 0xf0) == 0xe0        ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

static void put_quoted(JsonLine *l, const char *value)
{
    put_text(l, "\"");
    for (const unsigned char *s = (const unsigned char *)value; *s;) {
        char escape[8];
        size_t n = utf8_length(s);
        if (*s == '"' || *s == '\\') {
            snprintf(escape, sizeof escape, "\\%c", *s);
            put_text(l, escape);
        } else if (*s < 0x20 || *s == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
            put_text(l, escape);
        } else if (n) {
            put(l, (const char *)s, n);
        } else {
            put_text(l, "\xef\xbf\xbd");
        }
        s += n ? n : 1;
    }
    put_text(l, "\"");
}

static void put_key(JsonLine *l, const char *key)
{
    if (l->comma) put_text(l, ",");
    l->comma = true;
    if (!key) return;
    put_quoted(l, key);
    put_text(l, ":");
}

void line_begin(JsonLine *l)
{
    l->n = 0;
    l->no_memory = false;
    l->comma = false;
    put_text(l, "{");
}

void line_string(JsonLine *l, const char *key, const char *value)
{
    put_key(l, key);
    if (value) put_quoted(l, value);
    else put_text(l, "null");
}

void line_int(JsonLine *l, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    put_key(l, key);
    put_text(l, text);
}

void line_double(JsonLine *l, const char *key, double value)
{
    char text[40] = "null";
    if (isfinite(value)) snprintf(text, sizeof text, "%.17g", value);
    put_key(l, key);
    put_text(l, text);
}

void line_open(JsonLine *l, const char *key, char bracket)
{
    put_key(l, key);
    put(l, &bracket, 1);
    l->comma = false;
}

void line_close(JsonLine *l, char bracket)
{
    put(l, &bracket, 1);
    l->comma = true;
}

void line_end(JsonLine *l) { put_text(l, "}\n"); }

int line_write(JsonLine *l, int fd, const char *option, const char *path, Error *e)
{
    if (l->no_memory)
        return error_set(e, EXIT_FAILED, "memory ran out while a line of %s %s was written", option,
                         path);
    assert(l->n && l->text[l->n - 1] == '\n');
    struct stat file;
    bool regular = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    for (size_t done = 0; done < l->n;) {
        ssize_t n = write(fd, l->text + done, l->n - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            int cause = n < 0 ? errno : ENOSPC;
            /* Cutting back needs no space. If it fails all the same, a reader sees an incomplete
             * last line, which --resume drops. */
            if (regular && done && ftruncate(fd, file.st_size)) cause = errno;
            return error_set(e, EXIT_BAD_DATA, "%s %s cannot be written: %s", option, path,
                             strerror(cause));
        }
        done += (size_t)n;
    }
    return EXIT_DONE;
}

void line_free(JsonLine *l)
{
    free(l->text);
    memset(l, 0, sizeof *l);
}

int line_save(JsonLine *l, const char *option, const char *path, Error *e)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666), code;
    if (fd < 0 || (ftruncate(fd, 0) && errno != EINVAL)) /* a device or a pipe has nothing to cut */
        code = error_set(e, EXIT_BAD_DATA, "%s %s cannot be written: %m", option, path);
    else code = line_write(l, fd, option, path, e);
    if (fd >= 0 && close(fd) && !code)
        code = error_set(e, EXIT_BAD_DATA, "%s %s cannot be written: %m", option, path);
    return code;
}
