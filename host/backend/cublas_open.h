/* cublas_open: cuBLAS, looked for when a GPU is about to be used and not before: a program linked with the
 * half gigabyte that the library and its parts take would neither start where they are missing nor start fast
 * where they are not. */
#ifndef PLSTM_CUBLAS_OPEN_H
#define PLSTM_CUBLAS_OPEN_H

#include "host/base/error.h"

/* Must have succeeded before the first cublas* call. EXIT_NO_DEVICE: where it was looked for. */
int cublas_open(Error *e);

#endif
