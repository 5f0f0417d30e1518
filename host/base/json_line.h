/* json_line: one JSON object on one line. Keys stand in the order of the calls, and numbers do not
 * depend on the locale (SPEC 8: 17 significant digits, null for what is not finite). The buffer is
 * reused from line to line, so that a step allocates nothing. */
#ifndef PLSTM_JSON_LINE_H
#define PLSTM_JSON_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

typedef struct JsonLine {
    char *text; /* (n), followed by a NUL */
    size_t n, capacity;
    bool no_memory; /* stays set until the line is written, which then fails */
    bool comma;     /* the next member needs one */
} JsonLine;

/* Starts a new line. A zeroed struct is a valid empty one. */
void line_begin(JsonLine *l);

/* Each adds a member to the object that is open. key NULL: adds an element to the array that is
 * open. value NULL: writes null. Bytes that are not valid UTF-8 become U+FFFD. */
void line_string(JsonLine *l, const char *key, const char *value);
void line_int(JsonLine *l, const char *key, int64_t value);
void line_double(JsonLine *l, const char *key, double value); /* %.17g; null when not finite */
void line_open(JsonLine *l, const char *key, char bracket);   /* '{' or '[' */
void line_close(JsonLine *l, char bracket);                   /* '}' or ']' */

/* Ends the object and its line. */
void line_end(JsonLine *l);

/* Writes the ended line to fd with as few system calls as possible. On failure a regular file is
 * cut back to its old length, so that no incomplete line stays. EXIT_BAD_DATA names option and
 * path. */
int line_write(JsonLine *l, int fd, const char *option, const char *path, Error *e);

/* Writes the ended line as the whole content of path. EXIT_BAD_DATA names option and path. */
int line_save(JsonLine *l, const char *option, const char *path, Error *e);

void line_free(JsonLine *l);

#endif
