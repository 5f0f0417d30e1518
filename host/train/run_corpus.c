#include "run_corpus.h"

#include <stdlib.h>
#include <string.h>

#include "host/data/source.h"

/* Checks that the corpus is the one that the checkpoint was trained on. The corpus is read without
 * the checkpoint's vocabulary, so that another corpus is reported as such and not by its first new
 * word. */
static int corpus_agrees(const Corpus *corpus, const Checkpoint *c, const Settings *s, Error *e)
{
    char here[65], there[65];
    bool whole = c->corpus_sha256[0];
    const char *ours = whole ? corpus->sha256 : corpus->train_sha256,
               *theirs = whole ? c->corpus_sha256 : c->train_sha256, *hint = "";
    vocab_sha256(&corpus->vocab, here);
    vocab_sha256(&c->vocab, there);
    bool open_end = false;
    for (int split = 0; split < SPLITS; split++)
        if (corpus->file[split].open_end)
            open_end = true, hint = s->final_eos ? "; it may have been read without --final-eos"
                                                 : "; it may have been read with --final-eos";
    if (strcmp(ours, theirs))
        return error_set(
            e, EXIT_USAGE,
            "--data %s is not the corpus that %s was trained on: its hash begins with %.16s, "
            "the file's with %.16s%s",
            s->data, s->resume, ours, theirs, hint);
    if (strcmp(here, there))
        return error_set(
            e, EXIT_USAGE, "--data %s is not the corpus that %s was trained on: its words differ%s",
            s->data, s->resume,
            corpus->vocab.V == c->vocab.V + 1
                ? " (a split that is scored now, but was not read then, may have words that "
                  "train lacks)"
                : "");
    if (s->final_eos && !open_end)
        return error_set(e, EXIT_USAGE,
                         "--final-eos has no effect with --resume %s: every text of --data %s ends "
                         "with a newline",
                         s->resume, s->data);
    return EXIT_DONE;
}

int run_corpus(Corpus *c, const Settings *s, const Checkpoint *resume, Error *e)
{
    Vocab given = {.V = 0};
    CorpusRead how = {.needed = 1u << SPLIT_TRAIN, .final_eos = s->final_eos};
    int code = s->vocab ? vocab_read(&given, s->vocab, e) : EXIT_DONE;
    if (code) return code;
    if (s->vocab) how.vocab = &given;
    if (s->eval & EVAL_VALID) how.needed |= 1u << SPLIT_VALID;
    if (s->eval & EVAL_TEST) how.needed |= 1u << SPLIT_TEST;
    if (resume && resume->corpus_sha256[0])
        how.needed = EVERY_SPLIT; /* that hash covers every split */
    code = corpus_read(c, s->data, &how, e);
    vocab_free(&given);
    if (code || !resume || !(code = corpus_agrees(c, resume, s, e))) return code;

    /* A run that used --vocab resumes without it: under the checkpoint's own vocabulary this text,
     * and no other, has the checkpoint's hash. */
    Corpus other;
    Error ignored;
    how.vocab = &resume->vocab;
    if (!s->vocab && !corpus_read(&other, s->data, &how, &ignored)) {
        if (!corpus_agrees(&other, resume, s, &ignored)) {
            corpus_free(c);
            *c = other;
            e->code = EXIT_DONE;
            return EXIT_DONE;
        }
        corpus_free(&other);
    }
    corpus_free(c);
    return code;
}

int corpus_paths(CorpusPaths *p, const char *dir, const char *vocab, Error *e)
{
    static const char *const what[SPLITS] = {"the train text", "the valid text", "the test text"};
    int code = EXIT_DONE;
    *p = (CorpusPaths){.n = 0};
    for (int split = 0; dir && split < SPLITS && !code; split++) {
        code = corpus_file(dir, split, &p->path[split], e);
        p->file[p->n++] = (OtherFile){what[split], p->path[split], NULL};
    }
    p->file[p->n++] = (OtherFile){"--vocab", vocab, NULL};
    if (code) corpus_paths_free(p);
    return code;
}

void corpus_paths_free(CorpusPaths *p)
{
    for (int i = 0; i < CORPUS_PATHS; i++) free(p->path[i]);
    *p = (CorpusPaths){.n = 0};
}

void print_remarks(const Corpus *c, FILE *out)
{
    char text[5000];
    for (int i = 0; corpus_remark(c, i, text, sizeof text); i++) fprintf(out, "plstm: %s\n", text);
}
