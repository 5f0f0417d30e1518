#include "members.h"

#include <stdbool.h>
#include <string.h>

int members_agree(const Checkpoint *first, const char *first_path, const Checkpoint *c,
                  const char *path, Error *e)
{
    char a[65], b[65];
    vocab_sha256(&first->vocab, a), vocab_sha256(&c->vocab, b);
    bool same = !strcmp(a, b);
    vocab_sha256(&first->vocab_source, a), vocab_sha256(&c->vocab_source, b);
    same &= !strcmp(a, b);
    if (strcmp(first->task, c->task))
        return error_set(e, EXIT_BAD_DATA,
                         "%s is of task %s but %s of task %s, so they cannot be averaged",
                         first_path, first->task, path, c->task);
    if (!same)
        return error_set(
            e, EXIT_BAD_DATA,
            "%s and %s have different vocabularies, so their probabilities cannot be averaged",
            first_path, path);
    if (first->shape.F != c->shape.F || first->shape.V_out != c->shape.V_out ||
        first->shape.V_in != c->shape.V_in)
        return error_set(e, EXIT_BAD_DATA,
                         "%s and %s read or predict in different sizes, so they cannot be "
                         "averaged",
                         first_path, path);
    return EXIT_DONE;
}
