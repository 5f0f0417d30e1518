/* carry: the carried state of all layers leaves the window. Clean C11. */
#ifndef PLSTM_CARRY_H
#define PLSTM_CARRY_H

#include "layers.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t carry_prepare(void);

/* Copies the rows, at least one, unless fault->set: then `rows.to` stays as it was before the step, as the weights do (layers.h), and
 * the run can continue from there. */
cudaError_t carry_state(cudaStream_t stream, const FaultRecord *fault, CarriedRows rows);

#ifdef __cplusplus
}
#endif

#endif
