#include "source.h"

#include <string.h>

#include "synthetic.h"

int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e)
{
    bool built_in = !strcmp(name, "synthetic");
    int code = built_in ? synthetic_corpus(c, e) : corpus_read(c, name, vocab, e);
    if (code) return code;
    if (built_in && vocab) code = corpus_translate(c, vocab, e);
    if (code) corpus_free(c);
    else corpus_name(c);
    return code;
}
