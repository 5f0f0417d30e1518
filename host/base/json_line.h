/* json_line: one JSON object on one line, keys in the order of the calls, numbers independent of the locale
 * (SPEC 8: 17 significant digits, null for what is not finite). The text is kept and reused from line to
 * line, so that a step allocates nothing. */
#ifndef PLSTM_JSON_LINE_H
#define PLSTM_JSON_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

typedef struct JsonLine {
    char *text; /* (n), and a NUL behind it */
    size_t n, capacity;
    bool no_memory; /* sticky until the line is written, which then fails */
    bool comma;     /* the next member needs one */
} JsonLine;

/* Starts a new line. A zeroed struct is a valid empty one. */
void line_begin(JsonLine *l);

/* key NULL: an element of an array. value NULL: null. Bytes that are not valid UTF-8 become U+FFFD. */
void line_string(JsonLine *l, const char *key, const char *value);
void line_int(JsonLine *l, const char *key, int64_t value);
void line_double(JsonLine *l, const char *key, double value); /* %.17g; null when not finite */
void line_open(JsonLine *l, const char *key, char bracket);   /* '{' or '[' */
void line_close(JsonLine *l, char bracket);                   /* '}' or ']' */

/* Ends the object and its line. */
void line_end(JsonLine *l);

/* Writes the ended line to fd with as few system calls as it takes. On failure a regular file is cut back to
 * what it held, so that no half line stays. EXIT_BAD_DATA names option and path. */
int line_write(JsonLine *l, int fd, const char *option, const char *path, Error *e);

/* The same as all that path is to hold. */
int line_save(JsonLine *l, const char *option, const char *path, Error *e);

void line_free(JsonLine *l);

#endif
