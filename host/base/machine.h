/* machine: what this machine says of itself. */
#ifndef PLSTM_MACHINE_H
#define PLSTM_MACHINE_H

#include <stddef.h>

/* Bytes of memory that the machine can still give (/proc/meminfo), or SIZE_MAX where it does not say. */
size_t machine_memory(void);

#endif
