/* `plstm caption`: reads images' features and prints their captions, in order. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "host/data/captions.h"
#include "host/data/scenes.h"
#include "host/store/image_features.h"
#include "host/train/task.h"

typedef struct Caption {
    const CaptionOptions *o;
    Search search;
    Captions captions; /* empty if only features are given */
    ImageFeatures features;
    const int64_t *image; /* (n) rows to describe; NULL: all of them */
    int64_t n;
    DecodeInput *input; /* (batch) */
} Caption;

/* The part of a row that the model reads before the first word. */
static const int32_t start[] = {ID_FEATURES, ID_EOS};

static void annotator(const void *user, int64_t image, const char *words, JsonLine *l)
{
    Scene s;
    (void)user;
    scenes_scene(image, &s);
    line_double(l, "annotator_logp", -scene_nats(&s, words)); /* null for -INFINITY */
}

static int choose_split(Caption *c, Error *e)
{
    for (int i = 0; i < IMAGE_SPLITS; i++)
        if (!strcmp(image_split_name[i], c->o->split)) {
            c->image = c->captions.split[i].image;
            c->n = c->captions.split[i].images;
            return EXIT_DONE;
        }
    return error_set(e, EXIT_USAGE, "--split takes train, valid or test, not '%s'", c->o->split);
}

static int open_images(Caption *c, Error *e)
{
    const CaptionOptions *o = c->o;
    const Checkpoint *first = &c->search.first;
    int code;
    if (o->features) {
        code = image_features_open(&c->features, o->features, e);
        c->n = c->features.n;
    } else {
        code = captions_load(&c->captions, o->data, 1, &first->vocab, e);
        if (!code) code = image_features_load(&c->features, o->data, &c->captions, e);
        if (!code) code = choose_split(c, e);
    }
    if (!code && c->features.F != first->shape.F)
        code = error_set(e, EXIT_BAD_DATA,
                         "%s has %lld features per image, but %s was trained on %lld",
                         o->features ? o->features : o->data, (long long)c->features.F,
                         o->search.weights.path[0], (long long)first->shape.F);
    if (c->captions.scenes) c->search.more = annotator;
    return code;
}

static int describe(Caption *c, Error *e)
{
    int code = EXIT_DONE;
    int64_t batch = c->o->search.batch;
    for (int64_t from = 0; !code && from < c->n; from += batch) {
        int64_t n = c->n - from < batch ? c->n - from : batch;
        for (int64_t i = 0; i < n; i++) {
            int64_t row = c->image ? c->image[from + i] : from + i;
            c->input[i] = (DecodeInput){.ids = start,
                                        .n = 2,
                                        .most = CAPTION_MOST,
                                        .features = c->features.rows + row * c->features.F};
        }
        code = decode_run(c->search.decoder, c->input, n, e);
        for (int64_t i = 0; !code && i < n; i++)
            code = search_print(&c->search, c->image ? c->image[from + i] : from + i,
                                decode_beam(c->search.decoder, i), e);
        if (!code) code = search_flush(&c->search, e);
    }
    return code;
}

int caption_command(const CaptionOptions *o, FILE *out, Error *e)
{
    Caption c = {.o = o, .search = {.unit = "image"}};
    int code = EXIT_DONE;
    c.input = calloc((size_t)o->search.batch, sizeof *c.input);
    if (!c.input) code = error_set(e, EXIT_FAILED, "memory ran out for the images");
    if (!code) code = search_open(&c.search, &o->search, "caption", out, e);
    if (!code) code = open_images(&c, e);
    if (!code) code = describe(&c, e);
    search_close(&c.search);
    captions_free(&c.captions);
    image_features_close(&c.features);
    free(c.input);
    return code;
}

#define AT(field) .at = offsetof(CaptionOptions, field)
static const Option options[] = {
    SEARCH_OPTIONS(CaptionOptions, "images to describe at a time", "images",
                   "images that are described at a time"),
    {"features", TAKES_PATH("a NumPy array with one image per row"),
     "features of images, all of which are described", AT(features), .arg = "X.npy"},
    {"data", TAKES_PATH("a folder, or scenes"),
     "folder with dataset.json and features.npy, or scenes", AT(data), .arg = "DIR"},
    {"split", TAKES_TEXT("train, valid or test"),
     "which images of --data to describe (default test)", AT(split)},
};

static int caption(const CommandLine *line, Error *e)
{
    CaptionOptions *o = line->own;
    const Task *task;
    Error ignored;
    int code = search_options(&o->search, line, e);
    if (code) return code;
    if (!o->features == !o->data)
        return error_set(e, EXIT_USAGE, "plstm caption needs either --features or --data, %s",
                         o->data ? "but both are given" : "but neither is given");
    if (o->features && o->split)
        return error_set(e, EXIT_USAGE,
                         "--split goes with --data: every row of --features is described");
    if (!o->split) o->split = "test";
    code = caption_command(o, stdout, e);
    return task_find("caption", &task, &ignored) ? code : task_hint(task, o->data, code, e);
}

const Command command_caption = {
    .name = "caption",
    .summary = "describe images",
    .about =
        "Describes images, one line each, by beam search: the rows of --features, or a split of "
        "--data.",
    COMMAND_OPTIONS(options, CaptionOptions),
    .settings = "backend|threads",
    .run = caption,
};
