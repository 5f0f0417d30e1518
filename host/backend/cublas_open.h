/* cublas_open: loads cuBLAS when a GPU is about to be used, and not before. A program linked with
 * the half gigabyte of the library and its parts would not start on a machine without them, and
 * would start slowly on a machine with them. */
#ifndef PLSTM_CUBLAS_OPEN_H
#define PLSTM_CUBLAS_OPEN_H

#include "host/base/error.h"

/* Loads the library; later calls return at once. It must succeed before the first cublas* call;
 * until then these calls return CUBLAS_STATUS_NOT_INITIALIZED.
 * EXIT_NO_DEVICE: the library was not found, and the sentence names the places that were searched,
 * or it belongs to another CUDA version. */
int cublas_open(Error *e);

#endif
