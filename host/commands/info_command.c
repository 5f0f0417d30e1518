/* `plstm info`: prints the contents of a checkpoint or any other safetensors file. */
#include "commands.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "host/store/checkpoint.h"

/* The longest metadata value or vocabulary sample that is printed, in bytes. */
enum { SHOWN = 100 };

/* Prints the first `most` bytes of text, cut at a character, with '?' for control bytes. */
static void print_text(FILE *out, const char *text, size_t length, size_t most)
{
    size_t n = length;
    if (n > most)
        for (n = most; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;) n--;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *c = (const unsigned char *)text + i;
        /* U+0080 to U+009F, which act as escapes */
        bool c1 = c[0] == 0xc2 && i + 1 < n && c[1] >= 0x80 && c[1] < 0xa0;
        fputc(c[0] < 0x20 || c[0] == 0x7f || c1 ? '?' : c[0], out);
        i += c1;
    }
    if (n < length) fprintf(out, "... (%zu bytes)", length);
}

static void print_row(FILE *out, const char *key, const char *value)
{
    fprintf(out, "  %-16s ", key);
    print_text(out, value, strlen(value), SHOWN);
    fputc('\n', out);
}

static void print_metadata(FILE *out, const StFile *f)
{
    if (!f->n_meta) return;
    fprintf(out, "\nmetadata\n");
    for (int i = 0; i < f->n_meta; i++) {
        fprintf(out, "  ");
        print_text(out, f->meta[i].key, strlen(f->meta[i].key), SHOWN);
        fprintf(out, " = ");
        print_text(out, f->meta[i].value, strlen(f->meta[i].value), SHOWN);
        fputc('\n', out);
    }
}

static int64_t tensor_elements(const StTensor *t)
{
    return (int64_t)(t->bytes / st_dtype_size(t->dtype));
}

static void print_tensors(FILE *out, const StFile *f)
{
    int width = 6;
    int64_t elements = 0;
    size_t bytes = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        int n = (int)strnlen(f->tensors[i].name, SHOWN);
        if (n > width) width = n;
    }
    fprintf(out, "\n%-*s  %-20s %14s\n", width, "tensor", "dtype and shape", "bytes");
    for (int i = 0; i < f->n_tensors; i++) {
        const StTensor *t = &f->tensors[i];
        char kind[ST_KIND_SIZE];
        size_t length = strlen(t->name);
        print_text(out, t->name, length, SHOWN);
        fprintf(out, "%*s  %-20s %14zu\n", length < (size_t)width ? width - (int)length : 0, "",
                st_kind(t->dtype, t->shape, t->rank, kind), t->bytes);
        elements += tensor_elements(t);
        bytes += t->bytes;
    }
    fprintf(out, "%-*s  %-20" PRId64 " %14zu\n", width, "total", elements, bytes);
}

/* Prints the first and last types, as a sample of what the model was trained on. */
static void print_vocab(FILE *out, const Vocab *v)
{
    enum { ENDS = 6 };
    fprintf(out, "\nvocabulary: %" PRId64 " types\n  ", v->V);
    for (int64_t i = 0; i < v->V; i++) {
        if (v->V > 2 * ENDS && i == ENDS) {
            fprintf(out, "... ");
            i = v->V - ENDS;
        }
        size_t length;
        const char *type = vocab_type(v, (int32_t)i, &length);
        print_text(out, type, length, SHOWN);
        fputc(i + 1 < v->V ? ' ' : '\n', out);
    }
    char hash[65];
    vocab_sha256(v, hash);
    print_row(out, "sha256", hash);
}

static void print_checkpoint(FILE *out, const Checkpoint *c)
{
    const Counters *n = &c->counters;
    int64_t T = c->settings.seq, B = c->settings.batch;
    fprintf(out,
            "\ncheckpoint of plstm, format %s: V %" PRId64 ", H %" PRId64 ", L %" PRId64
            ", %" PRId64 " parameters\n",
            st_meta(&c->file, "plstm"), c->shape.V_out, c->shape.H, c->shape.L,
            params_elements(&c->shape));
    if (n->minibatch)
        fprintf(out,
                "  saved inside epoch %" PRId64 ", after %" PRId64 " of its minibatches (%" PRId64
                " in total); holds the carried state\n",
                n->epoch, n->minibatch, n->step);
    else if (n->epoch > 1)
        fprintf(out, "  saved at the end of epoch %" PRId64 " (%" PRId64 " minibatches in total)\n",
                n->epoch - 1, n->step);
    else fprintf(out, "  saved before the first minibatch\n");
    fprintf(out, "  %-16s %.10g\n", "next lr", n->lr);
    if (n->tokens)
        fprintf(out, "  %-16s %.3f over this epoch's %" PRId64 " tokens so far\n",
                "train perplexity", exp(n->nats / (double)n->tokens), n->tokens);
    /* A task that counts hits has the share of misses as its metric. */
    if (isfinite(n->best_valid) && st_meta(&c->file, "hits"))
        fprintf(out, "  %-16s %.2f %% accuracy\n", "best valid", 100 * (1 - n->best_valid));
    else if (isfinite(n->best_valid))
        fprintf(out, "  %-16s %.3f\n", "best valid ppl", exp(n->best_valid));
    if (c->shape.F) fprintf(out, "  %-16s %" PRId64 " a position\n", "features", c->shape.F);
    fprintf(out, "  %-16s %" PRId64 " rows", "minibatch", B);
    if (settings_of_task(settings_find("seq"), c->task)) fprintf(out, " of %" PRId64 " steps", T);
    fprintf(out, "\n");
    print_row(out, "corpus sha256",
              c->corpus_sha256[0] ? c->corpus_sha256 : "none: not all splits were read");
    if (c->data) print_row(out, "data", c->data);

    fprintf(out, "\nsettings (preset %s)\n", c->settings.preset);
    for (int i = 0; i < settings_count(); i++) {
        const Option *o = settings_info(i);
        char value[128];
        if (o->role == ROLE_RUN || !settings_of_task(i, c->task)) continue;
        print_row(out, o->name, option_show(o, &c->settings, value, sizeof value));
    }
    if (c->vocab.V) print_vocab(out, &c->vocab);
}

int info_command(const char *path, FILE *out, Error *e)
{
    StFile f;
    int code = st_open(&f, path, e);
    if (code) return code;
    print_text(out, path, strlen(path), SIZE_MAX);
    fprintf(out, ": safetensors, %d tensor%s, %zu bytes (header %zu)\n", f.n_tensors,
            f.n_tensors == 1 ? "" : "s", f.file_bytes, f.header_bytes);
    Checkpoint c;
    if (!st_meta(&f, "plstm")) {
        print_metadata(out, &f);
    } else if ((code = checkpoint_open(&c, path, e))) {
        print_metadata(out, &f);
    } else {
        print_checkpoint(out, &c);
        checkpoint_close(&c);
    }
    print_tensors(out, &f);
    st_close(&f);
    if (fflush(out) || ferror(out))
        return error_set(e, EXIT_BAD_DATA, "the output of info cannot be written");
    return code;
}

static int info(const CommandLine *line, Error *e)
{
    return info_command(line->operands.path[0], stdout, e);
}

const Command command_info = {.name = "info",
                              .summary = "print the contents of a checkpoint",
                              .about = "Prints the contents of a checkpoint or any other "
                                       "safetensors file.",
                              .operand = "F",
                              .operand_takes = "a safetensors file",
                              .run = info};
