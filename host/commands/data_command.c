#include "data_command.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/source.h"
#include "host/train/run_corpus.h"
#include "host/data/synthetic.h"

/* Number of types that occur in a stream; seen (V) is scratch. */
static int64_t count_types(const Stream *s, bool *seen, int64_t V)
{
    int64_t types = 0;
    memset(seen, 0, (size_t)V * sizeof *seen);
    for (int64_t i = 0; i < s->n; i++) {
        types += !seen[s->ids[i]];
        seen[s->ids[i]] = true;
    }
    return types;
}

/* A split's best possible perplexity, whole and by position class, over tokens 1..n-1: the first is never a
 * target. */
static void print_best(const char *name, const Stream *s, FILE *out)
{
    double nats[POSITION_CLASSES] = {0}, x;
    int64_t tokens[POSITION_CLASSES] = {0};
    SyntheticScan scan;
    synthetic_scan_init(&scan);
    for (int64_t i = 0; i < s->n; i++) {
        PositionClass class = synthetic_scan_next(&scan, s->ids[i], &x);
        if (!i) continue;
        nats[class] += x;
        tokens[class]++;
    }
    fprintf(out, "%-7s %10" PRId64 " %9.4f", name, s->n - 1, synthetic_best_ppl(s->ids, s->n));
    for (int class = 0; class < POSITION_CLASSES; class ++)
        fprintf(out, " %8" PRId64 " %8.4f", tokens[class], exp(nats[class] / (double)tokens[class]));
    fputc('\n', out);
}

static void print_synthetic(const Corpus *c, FILE *out)
{
    fprintf(
        out,
        "\nBest possible perplexity of the targets (every token but a split's first), by position class\n");
    fprintf(out, "%-7s %10s %9s", "split", "targets", "best");
    for (int class = 0; class < POSITION_CLASSES; class ++) fprintf(out, " %17s", position_class_name[class]);
    fputc('\n', out);
    for (int split = 0; split < SPLITS; split++) print_best(split_name[split], &c->split[split], out);
    fprintf(out,
            "content: outside parentheses; after_short, after_long: right after a parenthesis of fewer than "
            "%d fillers, or of "
            "%d and more; filler: inside one.\n",
            SYNTHETIC_LONG, SYNTHETIC_LONG);
}

int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e)
{
    Corpus c;
    /* What is there is described; only the vocabulary needs a text, train's. */
    int code = corpus_read(&c, dir, &(CorpusRead){.wanted = EVERY_SPLIT, .final_eos = final_eos}, e);
    if (code) return code;
    if (notes) tell_remarks(&c, notes);
    bool *seen = malloc((size_t)c.vocab.V * sizeof *seen);
    if (!seen) {
        corpus_free(&c);
        return error_set(e, EXIT_FAILED, "memory ran out while counting types");
    }

    char vocab_hex[65];
    vocab_sha256(&c.vocab, vocab_hex);
    fprintf(out, "corpus             %s\n",
            c.synthetic  ? "synthetic (built in)"
            : c.known_as ? c.known_as
                         : "not one that plstm knows");
    fprintf(out, "vocabulary         %" PRId64 " types\n", c.vocab.V);
    fprintf(out, "corpus SHA-256     %s\n", c.sha256[0] ? c.sha256 : "none: a split is missing");
    fprintf(out, "vocabulary SHA-256 %s\n\n", vocab_hex);
    fprintf(out, "%-7s %10s %9s %13s%s\n", "split", "tokens", "types", "unknown words",
            c.synthetic ? "" : "  file");
    for (int split = 0; split < SPLITS; split++) {
        const Stream *s = &c.split[split];
        if (!s->n) {
            fprintf(out, "%-7s %10s %9s %13s  not there\n", split_name[split], "-", "-", "-");
            continue;
        }
        fprintf(out, "%-7s %10" PRId64 " %9" PRId64 " %13" PRId64 "%s%s\n", split_name[split], s->n,
                count_types(s, seen, c.vocab.V), s->unknown, c.synthetic ? "" : "  ",
                c.synthetic ? "" : c.file[split].path);
    }
    if (c.synthetic) print_synthetic(&c, out);
    free(seen);
    corpus_free(&c);
    if (fflush(out) || ferror(out))
        return error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    return EXIT_DONE;
}
