/* `plstm data`: describes the contents of a data folder or of built-in data, and writes built-in
 * data to files. */
#include "commands.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/replace.h"
#include "host/data/frames.h"
#include "host/base/json_line.h"
#include "host/data/captions.h"
#include "host/data/pairs.h"
#include "host/data/parallel.h"
#include "host/data/scenes.h"
#include "host/data/source.h"
#include "host/data/speech.h"
#include "host/store/image_features.h"
#include "host/store/npy.h"
#include "host/train/run_corpus.h"
#include "host/train/task.h"
#include "host/data/synthetic.h"

/* Returns the number of types that occur in a stream; seen (V) is scratch. */
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

/* Prints a split's best possible perplexity, as a whole and by position class, over tokens 1..n-1:
 * the first token is never a target. */
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
        fprintf(out, " %8" PRId64 " %8.4f", tokens[class],
                exp(nats[class] / (double)tokens[class]));
    fputc('\n', out);
}

static void print_synthetic(const Corpus *c, FILE *out)
{
    fprintf(out, "\nBest possible perplexity of the targets (every token but a split's first), by "
                 "position class\n");
    fprintf(out, "%-7s %10s %9s", "split", "targets", "best");
    for (int class = 0; class < POSITION_CLASSES; class ++)
        fprintf(out, " %17s", position_class_name[class]);
    fputc('\n', out);
    for (int split = 0; split < SPLITS; split++)
        print_best(split_name[split], &c->split[split], out);
    fprintf(out,
            "content: outside parentheses; after_short, after_long: right after a "
            "parenthesis of fewer than %d fillers, or of %d and more; filler: inside a "
            "parenthesis.\n",
            SYNTHETIC_LONG, SYNTHETIC_LONG);
}

static int flushed(FILE *out, Error *e)
{
    if (fflush(out) || ferror(out))
        return error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    return EXIT_DONE;
}

int data_command(const char *dir, bool final_eos, FILE *out, FILE *notes, Error *e)
{
    Corpus c;
    /* Splits without a file are printed as missing. Only train is required: the vocabulary is built
     * from it. */
    int code =
        corpus_read(&c, dir, &(CorpusRead){.wanted = EVERY_SPLIT, .final_eos = final_eos}, e);
    if (code) return code;
    if (notes) print_remarks(&c, notes);
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
                         : "not known to plstm");
    fprintf(out, "vocabulary         %" PRId64 " types\n", c.vocab.V);
    fprintf(out, "corpus SHA-256     %s\n", c.sha256[0] ? c.sha256 : "none: a split is missing");
    fprintf(out, "vocabulary SHA-256 %s\n\n", vocab_hex);
    fprintf(out, "%-7s %10s %9s %13s%s\n", "split", "tokens", "types", "unknown words",
            c.synthetic ? "" : "  file");
    for (int split = 0; split < SPLITS; split++) {
        const Stream *s = &c.split[split];
        if (!s->n) {
            fprintf(out, "%-7s %10s %9s %13s  missing\n", split_name[split], "-", "-", "-");
            continue;
        }
        fprintf(out, "%-7s %10" PRId64 " %9" PRId64 " %13" PRId64 "%s%s\n", split_name[split], s->n,
                count_types(s, seen, c.vocab.V), s->unknown, c.synthetic ? "" : "  ",
                c.synthetic ? "" : c.file[split].path);
    }
    if (c.synthetic) print_synthetic(&c, out);
    free(seen);
    corpus_free(&c);
    return flushed(out, e);
}

/* ---- parallel text ---- */

/* Returns the number of types of one language that occur in a split; seen (V_source + V_target) is
 * scratch. */
static int64_t count_side(const Pairs *p, const PairSplit *s, int side, bool *seen)
{
    int64_t V = p->vocab[SIDE_SOURCE].V, types = 0, n = s->rows.n ? s->rows.offset[s->rows.n] : 0;
    memset(seen, 0, (size_t)(V + p->vocab[SIDE_TARGET].V) * sizeof *seen);
    for (int64_t i = 0; i < n; i++) {
        int32_t id = s->rows.ids[i];
        bool separator = s->rows.targets[i] != TARGET_NONE && id < V; /* the source's <eos> */
        if (separator || (id < V) != (side == SIDE_SOURCE)) continue;
        types += !seen[id];
        seen[id] = true;
    }
    return types;
}

static void print_pairs(const Pairs *p, bool *seen, FILE *out)
{
    char hex[65];
    fprintf(out, "corpus             %s\n",
            p->synthetic ? "synthetic (built in)" : "parallel text");
    fprintf(out, "corpus SHA-256     %s\n", p->sha256);
    for (int side = 0; side < SIDES; side++) {
        vocab_sha256(&p->vocab[side], hex);
        fprintf(out, "%s vocabulary  %" PRId64 " types, <unk> and <eos> among them\n",
                side_name[side], p->vocab[side].V);
        fprintf(out, "  SHA-256          %s\n", hex);
    }
    int width = 7;
    for (int i = 0; i < p->n_splits; i++)
        if ((int)strlen(p->split[i].name) > width) width = (int)strlen(p->split[i].name);
    fprintf(out, "\n%-*s  %-6s %8s %9s %7s %13s %11s %13s\n", width, "split", "side", "pairs",
            "words", "types", "unknown words", "empty lines", "longest line");
    for (int i = 0; i < p->n_splits; i++)
        for (int side = 0; side < SIDES; side++) {
            const PairSplit *s = &p->split[i];
            fprintf(out,
                    "%-*s  %-6s %8" PRId64 " %9" PRId64 " %7" PRId64 " %13" PRId64 " %11" PRId64
                    " %13" PRId64 "\n",
                    width, s->name, side_name[side], s->rows.n, s->words[side],
                    count_side(p, s, side, seen), s->unknown[side], s->empty[side],
                    s->longest[side]);
        }
}

static int data_pairs_command(const Settings *s, FILE *out, Error *e)
{
    PairsOptions o = {.dir = s->data,
                      .language = {s->source, s->target},
                      .min_count = s->min_count,
                      .wanted = EVAL_ALL};
    Pairs p;
    int code = pairs_load(&p, &o, e);
    if (code) return code;
    bool *seen = malloc((size_t)(p.vocab[SIDE_SOURCE].V + p.vocab[SIDE_TARGET].V) * sizeof *seen);
    if (!seen) code = error_set(e, EXIT_FAILED, "memory ran out while counting types");
    else print_pairs(&p, seen, out);
    for (int i = 0; !code && p.synthetic && i < p.n_splits; i++) {
        const PairSplit *split = &p.split[i];
        double nats;
        if (split->unknown[0] || split->unknown[1])
            continue; /* predicting <unk> is easier than predicting the word */
        code = parallel_best(i, &nats, e);
        if (!code)
            fprintf(out, "%sbest possible perplexity of the target given the source, %s: %.4f\n",
                    i ? "" : "\n", split->name,
                    exp(nats / (double)(split->words[SIDE_TARGET] + split->rows.n)));
    }
    free(seen);
    pairs_free(&p);
    return code ? code : flushed(out, e);
}

/* ---- files that --write creates ---- */

/* The files and folders created so far, which a failure removes. */
typedef struct Written {
    char path[16][4400];
    int n;
} Written;

static void written_add(Written *w, const char *path)
{
    assert(w->n < (int)(sizeof w->path / sizeof w->path[0]));
    snprintf(w->path[w->n++], sizeof w->path[0], "%s", path);
}

/* Removes the latest first, so that a folder is empty when its turn comes. */
static void written_remove(Written *w)
{
    while (w->n > 0) remove(w->path[--w->n]);
}

static int write_text(Written *w, const char *path, const char *text, Error *e)
{
    FILE *f = fopen(path, "wxe");
    if (!f) return error_set(e, EXIT_BAD_DATA, "'%s' cannot be written: %s", path, strerror(errno));
    bool bad = fputs(text, f) < 0;
    bad |= fclose(f) != 0;
    if (!bad) {
        written_add(w, path);
        return EXIT_DONE;
    }
    int code = error_set(e, EXIT_BAD_DATA, "'%s' cannot be written: %s", path, strerror(errno));
    unlink(path);
    return code;
}

static int folder_make(Written *w, const char *dir, Error *e)
{
    if (!mkdir(dir, 0777)) {
        written_add(w, dir);
        return EXIT_DONE;
    }
    if (errno == EEXIST) return EXIT_DONE;
    return error_set(e, EXIT_BAD_DATA, "the folder '%s' cannot be created: %s", dir,
                     strerror(errno));
}

static int data_write_command(Written *w, const char *dir, Error *e)
{
    static const char *const split[PARALLEL_SPLITS] = {"train", "valid", "test"};
    int code = folder_make(w, dir, e);
    for (int i = 0; !code && i < PARALLEL_SPLITS; i++) {
        char *bytes[SIDES], path[4400];
        if ((code = parallel_text(i, bytes, e))) break;
        for (int side = 0; side < SIDES; side++) {
            snprintf(path, sizeof path, "%s/%s.%s", dir, split[i], side_name[side]);
            if (!code) code = write_text(w, path, bytes[side], e);
            free(bytes[side]);
        }
    }
    return code;
}

/* ---- utterances ---- */

static void print_frames(const Frames *f, FILE *out)
{
    int64_t named = 0, silent = 0;
    for (int64_t id = 0; id < f->V; id++) named += f->name[id] != NULL, silent += f->silence[id];
    fprintf(out, "corpus             %s\n",
            f->synthetic ? "synthetic (built in)" : "utterances with a label for every frame");
    fprintf(out, "corpus SHA-256     %s\n", f->sha256);
    fprintf(out, "features           %" PRId64 " per frame\n", f->F);
    fprintf(out,
            "labels             %" PRId64 ", of which %" PRId64 " have names and %" PRId64
            " are silence\n\n",
            f->V, named, silent);
    fprintf(out, "%-6s %10s %10s %8s %10s %15s %17s %15s\n", "split", "utterances", "frames",
            "longest", "silence", "without labels", "without features", "without a frame");
    for (int i = 0; i < FRAMES_SPLITS; i++) {
        const FramesSplit *s = &f->split[i];
        fprintf(out,
                "%-6s %10" PRId64 " %10" PRId64 " %8" PRId64 " %10" PRId64 " %15" PRId64
                " %17" PRId64 " %15" PRId64 "\n",
                frames_split_name[i], s->rows.n, s->frames, s->longest, s->silent, s->no_labels,
                s->no_features, s->empty);
    }
}

static int data_frames_command(const Settings *s, FILE *out, Error *e)
{
    Frames f;
    int code = frames_load(&f, &(FramesOptions){.dir = s->data, .wanted = EVAL_ALL}, e);
    if (code) return code;
    print_frames(&f, out);
    for (int i = 0; !code && f.synthetic && i < SPEECH_SPLITS; i++) {
        SpeechBest best;
        code = speech_best(i, &best, e);
        if (!code)
            fprintf(out,
                    "%sbest possible of %s, by the generator's own posterior: %.2f %%, %.2f "
                    "%% without silence, %.4f nats per frame\n",
                    i ? "" : "\n", frames_split_name[i],
                    100 * (double)best.hits / (double)best.frames,
                    100 * (double)best.voiced_hits / (double)best.voiced,
                    best.nats / (double)best.frames);
    }
    frames_free(&f);
    return code ? code : flushed(out, e);
}

/* Writes a split's folder: feats.ark, feats.scp, labels. */
static int write_utterances(Written *w, const SpeechVoice *voice, const char *dir, int split,
                            Error *e)
{
    float x[SPEECH_LONGEST * SPEECH_F];
    int32_t labels[SPEECH_LONGEST];
    char folder[4200], path[4400], what[4400];
    char *script = NULL, *ids = NULL;
    size_t script_bytes, ids_bytes;
    Replacement ark;
    snprintf(folder, sizeof folder, "%s/%s", dir, frames_split_name[split]);
    int code = folder_make(w, folder, e);
    if (code) return code;
    snprintf(path, sizeof path, "%s/feats.ark", folder);
    snprintf(what, sizeof what, "%s", path);
    if (!access(path, F_OK))
        return error_set(e, EXIT_BAD_DATA, "'%s' cannot be written: %s", path, strerror(EEXIST));
    code = replace_open(&ark, path, what, e);
    if (code) return code;
    FILE *scp = open_memstream(&script, &script_bytes), *text = open_memstream(&ids, &ids_bytes);
    bool ok = scp && text && !replace_begin(&ark);
    size_t at = 0;
    for (int64_t i = 0; ok && i < speech_utterances[split]; i++) {
        char name[32];
        int64_t frames = speech_utterance(voice, split, i, x, labels);
        int bytes = snprintf(name, sizeof name, "%s-%04" PRId64, frames_split_name[split], i);
        fprintf(scp, "%s feats.ark:%zu\n", name, at + (size_t)bytes + 1);
        fprintf(text, "%s", name);
        for (int64_t t = 0; t < frames; t++) fprintf(text, " %d", labels[t]);
        fputc('\n', text);
        ok = !kaldi_archive_put(&ark, name, x, frames, SPEECH_F);
        /* the name, a blank, a header of 15 bytes, and the values */
        at += (size_t)bytes + 16 + (size_t)(frames * SPEECH_F) * sizeof *x;
    }
    code = replace_finish(&ark, ok, what, e);
    if (!code) written_add(w, path);
    if (scp) fclose(scp);
    if (text) fclose(text);
    snprintf(path, sizeof path, "%s/feats.scp", folder);
    if (!code) code = write_text(w, path, script, e);
    snprintf(path, sizeof path, "%s/labels", folder);
    if (!code) code = write_text(w, path, ids, e);
    free(script), free(ids);
    return code;
}

static int data_write_frames_command(Written *w, const char *dir, Error *e)
{
    char path[4400], name[16], text[SPEECH_V * 32];
    size_t n = 0;
    SpeechVoice *voice = malloc(sizeof *voice);
    if (!voice) return error_set(e, EXIT_FAILED, "memory ran out while the utterances were made");
    int code = folder_make(w, dir, e);
    speech_voice(voice);
    for (int i = 0; !code && i < SPEECH_SPLITS; i++) code = write_utterances(w, voice, dir, i, e);
    for (int32_t id = 0; id < SPEECH_V; id++) {
        speech_name(id, name);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %d%s\n", name, id,
                              id ? "" : " silence");
    }
    snprintf(path, sizeof path, "%s/phones", dir);
    if (!code) code = write_text(w, path, text, e);
    free(voice);
    return code;
}

/* ---- images with captions ---- */

static int data_captions_command(const Settings *s, FILE *out, Error *e)
{
    char hex[65];
    Captions c;
    ImageFeatures f;
    int code = captions_load(&c, s->data, s->min_count, NULL, e);
    if (code) return code;
    code = image_features_load(&f, s->data, &c, e);
    if (code) {
        captions_free(&c);
        return code;
    }
    vocab_sha256(&c.vocab, hex);
    fprintf(out, "images             %" PRId64 " with %" PRId64 " features each%s\n", f.n, f.F,
            c.scenes ? " (built in)" : "");
    fprintf(out, "corpus SHA-256     %s\n", c.sha256);
    image_features_sha256(&f, hex);
    fprintf(out, "features SHA-256   %s\n", hex);
    vocab_sha256(&c.vocab, hex);
    fprintf(out, "vocabulary         %" PRId64 " types, <unk> and <eos> among them\n", c.vocab.V);
    fprintf(out, "  SHA-256          %s\n", hex);
    fprintf(out, "\n%-7s %8s %16s %9s %9s %13s %14s %15s%s\n", "split", "images",
            "without captions", "captions", "words", "unknown words", "empty captions",
            "longest caption", c.scenes ? "  best perplexity" : "");
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        const CaptionSplit *split = &c.split[i];
        fprintf(out,
                "%-7s %8" PRId64 " %16" PRId64 " %9" PRId64 " %9" PRId64 " %13" PRId64 " %14" PRId64
                " %15" PRId64,
                image_split_name[i], split->images, split->bare, split->rows.n, split->words,
                split->unknown, split->empty, split->longest);
        if (c.scenes && !split->unknown) /* predicting <unk> is easier than predicting the word */
            fprintf(out, " %16.4f",
                    exp(scenes_best((ImageSplit)i) / (double)(split->words + split->rows.n)));
        fputc('\n', out);
    }
    image_features_close(&f);
    captions_free(&c);
    return flushed(out, e);
}

static void scene_json(JsonLine *l, int64_t image)
{
    Scene s;
    scenes_scene(image, &s);
    line_open(l, "scene", '{');
    line_string(l, "ground", scene_ground_name(s.ground));
    line_int(l, "ground_rgb", scene_ground_rgb(s.ground));
    line_open(l, "objects", '[');
    for (int i = 0; i < SCENE_OBJECTS; i++) {
        const SceneObject *o = &s.object[i];
        line_open(l, NULL, '{');
        line_string(l, "shape", scene_shape_name(o->shape));
        line_string(l, "colour", scene_colour_name(o->colour));
        line_int(l, "rgb", scene_colour_rgb(o->colour));
        line_int(l, "x", o->x);
        line_int(l, "y", o->y);
        line_int(l, "radius", scene_radius(o));
        line_close(l, '}');
    }
    line_close(l, ']');
    line_close(l, '}');
}

/* Writes one image of dataset.json. */
static void image_json(JsonLine *l, int64_t image, const char *split, int64_t captions,
                       int64_t *sentence)
{
    char name[64];
    snprintf(name, sizeof name, "scene-%05" PRId64 ".svg", image);
    line_string(l, "filename", name);
    line_int(l, "imgid", image);
    line_string(l, "split", split);
    line_open(l, "sentences", '[');
    for (int64_t k = 0; k < captions; k++) {
        char caption[SCENE_CAPTION], *save;
        scenes_caption(image, k, caption);
        line_open(l, NULL, '{');
        line_int(l, "imgid", image);
        line_int(l, "sentid", ++*sentence);
        line_string(l, "raw", caption);
        line_open(l, "tokens", '[');
        for (char *w = strtok_r(caption, " ", &save); w; w = strtok_r(NULL, " ", &save))
            line_string(l, NULL, w);
        line_close(l, ']');
        line_close(l, '}');
    }
    line_close(l, ']');
    scene_json(l, image);
}

static int data_write_scenes(Written *w, const char *dir, Error *e)
{
    static const char *const name[IMAGE_SPLITS] = {"train", "val", "test"};
    JsonLine l = {0};
    const int64_t shape[2] = {scenes_count(), SCENE_F};
    int64_t image = 0, sentence = 0;
    line_begin(&l);
    line_string(&l, "dataset", captions_builtin);
    line_int(&l, "size", SCENE_SIZE);
    line_open(&l, "images", '[');
    for (int split = 0; split < IMAGE_SPLITS; split++)
        for (int64_t i = 0; i < scenes_images[split]; i++, image++) {
            line_open(&l, NULL, '{');
            image_json(&l, image, name[split], scenes_captions[split], &sentence);
            line_close(&l, '}');
        }
    line_close(&l, ']');
    line_end(&l);
    char *path[2] = {captions_path(dir, captions_file), captions_path(dir, captions_features_file)};
    float *features = scenes_all_features();
    int code = EXIT_DONE;
    if (l.no_memory || !path[0] || !path[1] || !features)
        code = error_set(e, EXIT_FAILED, "memory ran out while scenes were written");
    if (!code) code = folder_make(w, dir, e);
    if (!code && !access(path[1], F_OK))
        code = error_set(e, EXIT_BAD_DATA, "'%s' cannot be written: it exists already", path[1]);
    if (!code) code = write_text(w, path[0], l.text, e);
    if (!code) code = npy_write(path[1], path[1], features, shape, 2, "", e);
    free(path[0]), free(path[1]), free(features);
    line_free(&l);
    return code;
}

/* ---- the command ---- */

typedef struct DataOptions {
    const char *folder;
} DataOptions;

static int data(const CommandLine *line, Error *e)
{
    const char *folder = ((const DataOptions *)line->own)->folder;
    const Task *task;
    Settings s = line->settings;
    Written written = {.n = 0};
    s.data = line->operands.path[0];
    int code = task_find(s.task, &task, e);
    if (!code) code = settings_check_task(&s, e);
    if (code) return code;
    bool pairs = !strcmp(s.task, "translate"), frames = !strcmp(s.task, "frames"),
         captions = !strcmp(s.task, "caption");
    if (folder && ((!pairs && !frames && !captions) || strcmp(s.data, task->builtin)))
        return error_set(
            e, EXIT_USAGE,
            "--write needs built-in data: data synthetic --task translate or frames, or "
            "data scenes --task caption");
    if (folder)
        code = pairs    ? data_write_command(&written, folder, e)
               : frames ? data_write_frames_command(&written, folder, e)
                        : data_write_scenes(&written, folder, e);
    if (code) written_remove(&written);
    if (code) return code;
    code = pairs      ? data_pairs_command(&s, stdout, e)
           : frames   ? data_frames_command(&s, stdout, e)
           : captions ? data_captions_command(&s, stdout, e)
                      : data_command(s.data, s.final_eos, stdout, line->notes, e);
    return task_hint(task, s.data, code, e);
}

static const Option options[] = {
    {"write", TAKES_TEXT("a folder"),
     "write built-in data into this folder: synthetic with --task translate or frames, "
     "scenes with --task caption",
     .at = offsetof(DataOptions, folder), .arg = "FOLDER"},
};

const Command command_data = {
    .name = "data",
    .summary = "print the contents of a data folder",
    .about =
        "Prints tokens, types, unknown words and hashes of a data folder, or of built-in data.",
    COMMAND_OPTIONS(options, DataOptions),
    .settings = "task|source|target|min-count|cmvn|final-eos",
    .operand = "DIR",
    .operand_takes = "a folder, or the name of built-in data: synthetic or scenes",
    .run = data,
};
