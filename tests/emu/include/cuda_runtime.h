/* The emulated CUDA runtime: put this folder first on the include path and compile the .cu file as
 * C++17 (or the host file as C11). emu_device.h has everything that a kernel may call. */
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"
#ifdef __cplusplus
#include "emu_device.h"
#endif

#endif
