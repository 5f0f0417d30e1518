#include "ensemble.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int ensemble_init(Ensemble *e, int64_t n)
{
    memset(e, 0, sizeof *e);
    e->n = n;
    e->log_sum = malloc(sizeof *e->log_sum * (size_t)(n > 0 ? n : 1));
    if (!e->log_sum) return -1;
    for (int64_t i = 0; i < n; i++) e->log_sum[i] = INFINITY;
    return 0;
}

void ensemble_free(Ensemble *e)
{
    free(e->log_sum);
    memset(e, 0, sizeof *e);
}

void ensemble_begin(Ensemble *e) { e->members++; }

void ensemble_visit(Ensemble *e, int64_t position, double nats)
{
    assert(position >= 0 && position < e->n);
    double *sum = &e->log_sum[position];
    double a = *sum, b = -nats;
    assert((a == INFINITY) == (e->members == 1));
    if (a == INFINITY || a == -INFINITY) {
        *sum = b;
        return;
    }
    /* Summed in logs, so that a word that every model considers impossible (p below 1e-308) keeps
     * its exact value. */
    double high = a > b ? a : b, low = a > b ? b : a;
    *sum = isnan(a + b) ? NAN : high + log1p(exp(low - high));
}

bool ensemble_nats(const Ensemble *e, int64_t position, double *nats)
{
    double sum = e->log_sum[position];
    if (sum == INFINITY) return false;
    *nats = log((double)e->members) - sum;
    return true;
}

void ensemble_total(const Ensemble *e, double *nats, int64_t *tokens)
{
    double x;
    *nats = 0;
    *tokens = 0;
    for (int64_t i = 0; i < e->n; i++) {
        if (!ensemble_nats(e, i, &x)) continue;
        *nats += x;
        ++*tokens;
    }
}
