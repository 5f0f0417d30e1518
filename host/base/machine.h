/* machine: what this machine grants this process: memory and CPUs, by the limits of the process itself, of the control groups
 * that it is in (v2 or v1, its own and all above it) and of the machine. */
#ifndef PLSTM_MACHINE_H
#define PLSTM_MACHINE_H

#include <stddef.h>

#include "error.h"

/* Bytes of memory that can still be had, or SIZE_MAX where nothing says. */
size_t machine_memory(void);

/* Whether so many bytes more can still be had; EXIT_NO_DEVICE says how many there are. */
int machine_fits(size_t bytes, Error *e);

/* CPUs that this process may use, at least 1: its affinity, and a control group's quota rounded up. */
int machine_cpus(void);

/* The same by the files of /proc and /sys under another root: for tests. No limit of the process itself counts; 0 CPUs: no
 * quota. */
size_t machine_memory_of(const char *root);
int machine_quota_of(const char *root);

#endif
