/* number: parses and prints numbers, in options and metadata alike. A number is the whole text, in
 * decimal, without sign or blanks, and never hexadecimal, "inf" or "nan". */
#ifndef PLSTM_NUMBER_H
#define PLSTM_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each returns true and sets *out, or returns false and leaves it unchanged. low and high are
 * allowed values. */
bool parse_int(const char *text, double low, double high, int64_t *out);
bool parse_u64(const char *text, uint64_t *out);
bool parse_double(const char *text, double *out); /* finite, from 0 */

/* Writes v with the fewest digits, 15 at least, that parse back to v, so that a number is printed
 * as the user typed it. Returns out. */
const char *double_text(double v, char *out, size_t size);

/* Writes a size such as "13.9 MiB". Returns out. */
const char *bytes_text(size_t bytes, char *out, size_t size);

/* Returns the index of text in "a|b|c", or -1. */
int64_t choice_index(const char *choices, const char *text);

#endif
