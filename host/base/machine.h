/* machine: the memory and CPUs that this machine grants this process. The limits are those of the
 * process itself, of its control group and all groups above it (v2 or v1), and of the machine. */
#ifndef PLSTM_MACHINE_H
#define PLSTM_MACHINE_H

#include <stddef.h>

#include "error.h"

/* Returns the bytes of memory that this process can still get, or SIZE_MAX if no limit is known. */
size_t machine_memory(void);

/* Checks that `bytes` more can be allocated; EXIT_NO_DEVICE says how many can be. */
int machine_fits(size_t bytes, Error *e);

/* Returns the number of CPUs that this process may use, at least 1: those of its affinity mask, or
 * a control group's quota rounded up if that is less. */
int machine_cpus(void);

/* For tests: return the same from the files of /proc and /sys under another root, without the
 * limits of the process itself. machine_quota_of returns 0 if there is no quota. */
size_t machine_memory_of(const char *root);
int machine_quota_of(const char *root);

#endif
