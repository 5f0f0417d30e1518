/* carry: copies the carried state of all layers out of the window. Clean C11. */
#ifndef PLSTM_CARRY_H
#define PLSTM_CARRY_H

#include "layers.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t carry_prepare(void);

/* Copies the rows, at least one, unless fault->set. In that case `rows.to` and the weights
 * (layers.h) stay as they were before the step, and the run can continue from there. */
cudaError_t carry_state(cudaStream_t stream, const FaultRecord *fault, CarriedRows rows);

#ifdef __cplusplus
}
#endif

#endif
