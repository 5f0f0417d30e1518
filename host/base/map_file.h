/* map_file: a whole regular file, mapped read-only. If another program truncates a mapped file,
 * this process gets SIGBUS; replace.h never truncates one, since it renames a new file over the old
 * one. */
#ifndef PLSTM_MAP_FILE_H
#define PLSTM_MAP_FILE_H

#include <stddef.h>

#include "error.h"

/* Maps the file, *n bytes; release *map with munmap. EXIT_BAD_DATA: there is no such file, or it is
 * empty, a folder or a device. `kind` names what was expected, such as "a safetensors file". */
int map_file(const char *path, const char *kind, void **map, size_t *n, Error *e);

#endif
