/* devices_command: `plstm devices`, the GPUs that the cuda backend could run on. */
#ifndef PLSTM_DEVICES_COMMAND_H
#define PLSTM_DEVICES_COMMAND_H

#include <stdio.h>

#include "host/base/error.h"

/* A table to out. EXIT_NO_DEVICE: why there is none, or that this build has no cuda backend. */
int devices_command(FILE *out, Error *e);

#endif
