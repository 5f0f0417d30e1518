/* map_file: a whole regular file, read-only, in memory. As with every mapped file, one that another program cuts short
 * while it is open ends this program (SIGBUS); replace.h replaces files and never does that. */
#ifndef PLSTM_MAP_FILE_H
#define PLSTM_MAP_FILE_H

#include <stddef.h>

#include "error.h"

/* *map is for munmap. EXIT_BAD_DATA: there is no such file, or it is empty, a folder or a device; `kind` is what it should
 * have been, "a safetensors file". */
int map_file(const char *path, const char *kind, void **map, size_t *n, Error *e);

#endif
