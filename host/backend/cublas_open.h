/* cublas_open: loads cuBLAS when a GPU is about to be used, and not before. A program linked with
 * the half gigabyte of the library and its parts would not start where they are missing, and would
 * start slowly where they are not. */
#ifndef PLSTM_CUBLAS_OPEN_H
#define PLSTM_CUBLAS_OPEN_H

#include "host/base/error.h"

/* Must succeed before the first cublas* call. EXIT_NO_DEVICE says where the library was
 * searched. */
int cublas_open(Error *e);

#endif
