#include "source.h"

#include <string.h>

#include "synthetic.h"

int corpus_read(Corpus *c, const char *name, const CorpusRead *how, Error *e)
{
    bool built_in = !strcmp(name, "synthetic");
    int code = built_in ? synthetic_corpus(c, e) : corpus_read_folder(c, name, how, e);
    if (code) return code;
    if (built_in && how->vocab) code = corpus_translate(c, how->vocab, e);
    if (code) corpus_free(c);
    else corpus_name(c);
    return code;
}

int corpus_load(Corpus *c, const char *name, const Vocab *vocab, Error *e)
{
    return corpus_read(c, name, &(CorpusRead){.vocab = vocab, .needed = EVERY_SPLIT}, e);
}
