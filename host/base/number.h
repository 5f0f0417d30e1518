/* number: numbers as this program reads them, from options and metadata alike: the whole text, decimal, no
 * sign, no blanks, no hexadecimal, no "inf" or "nan". */
#ifndef PLSTM_NUMBER_H
#define PLSTM_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each sets *out and returns true, or leaves it and returns false. */
bool parse_int(const char *text, double low, double high, int64_t *out);
bool parse_u64(const char *text, uint64_t *out);
bool parse_double(const char *text, double *out); /* finite, from 0 */

/* The fewest digits, 15 at least, that read back as v: a number that a user typed is printed as it was typed. Returns
 * out. */
const char *double_text(double v, char *out, size_t size);

/* "13.9 MiB". Returns out. */
const char *bytes_text(size_t bytes, char *out, size_t size);

/* Position of text in "a|b|c", or -1. */
int64_t choice_index(const char *choices, const char *text);

#endif
