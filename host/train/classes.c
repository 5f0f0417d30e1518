#include "classes.h"

#include <math.h>
#include <stdlib.h>

int classes_score(ClassScore *out, const KnownText *known, const Stream *stream,
                  bool (*nats_of)(const void *user, int64_t position, double *nats),
                  const void *user, Error *e)
{
    size_t n = (size_t)stream->n;
    unsigned char *class = malloc(n * sizeof *class);
    double *true_nats = malloc(n * sizeof *true_nats), best = 0;
    int64_t tokens = 0;
    int code = EXIT_DONE;
    *out = (ClassScore){.known = known};
    if (class && true_nats) known->positions(stream->ids, stream->n, class, true_nats);
    else code = error_set(e, EXIT_FAILED, "memory ran out for the position classes");
    for (int64_t i = 0; !code && i < stream->n; i++) {
        double nats;
        if (!nats_of(user, i, &nats)) continue;
        out->nats[class[i]] += nats;
        out->best_nats[class[i]] += true_nats[i];
        out->tokens[class[i]]++;
        best += true_nats[i];
        tokens++;
    }
    out->best_ppl = exp(best / (double)tokens);
    free(class), free(true_nats);
    return code;
}
