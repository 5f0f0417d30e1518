/* carry: the carried state of all layers leaves the window. Clean C11. */
#ifndef PLSTM_CARRY_H
#define PLSTM_CARRY_H

#include "lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t carry_prepare(void);

/* to (rows,n) = rows of n elements that lie `pitch` elements apart, the first at `from`; unless fault->set:
 * then `to` stays as it was before the step, as the weights do (layers.h), and the run can go on from there.
 */
cudaError_t carry_state(cudaStream_t stream, const FaultRecord *fault, int64_t rows, int64_t n,
                        const float *from, int64_t pitch, float *to);

#ifdef __cplusplus
}
#endif

#endif
