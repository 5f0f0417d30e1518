#include "dataset_json.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include <jansson.h>

#include "host/base/map_file.h"
#include "vocab.h"

static const struct {
    const char *name;
    ImageSplit split;
} splits[] = {{"train", IMAGES_TRAIN},
              {"restval", IMAGES_TRAIN},
              {"val", IMAGES_VALID},
              {"test", IMAGES_TEST}};
enum { SPLITS_KNOWN = sizeof splits / sizeof splits[0] };

/* The place of an error in the file. */
typedef struct Place {
    const char *path;
    int64_t image, sentence; /* from 0; sentence -1: the image itself */
    Error *e;
} Place;

static int fault(const Place *p, const char *what)
{
    if (p->sentence < 0)
        return error_set(p->e, EXIT_BAD_DATA, "%s: image %" PRId64 " %s", p->path, p->image, what);
    return error_set(p->e, EXIT_BAD_DATA, "%s: sentence %" PRId64 " of image %" PRId64 " %s",
                     p->path, p->sentence, p->image, what);
}

/* Checks the imgid of an image or a sentence, if there is one. */
static int check_imgid(const Place *p, const json_t *of)
{
    char what[160];
    const json_t *imgid = json_object_get(of, "imgid");
    if (!imgid) return EXIT_DONE;
    if (!json_is_integer(imgid)) return fault(p, "has an imgid that is not a whole number");
    int64_t id = json_integer_value(imgid);
    if (id == p->image) return EXIT_DONE;
    snprintf(what, sizeof what,
             "has imgid %" PRId64
             ": it must be the image's place in the list, which is its row of features",
             id);
    return fault(p, what);
}

static int parse_sentence(ImageTexts *t, const Place *p, const json_t *sentence)
{
    const json_t *tokens = json_object_get(sentence, "tokens");
    if (!json_is_object(sentence)) return fault(p, "is not an object");
    if (!json_is_array(tokens)) return fault(p, "has no list `tokens`");
    int code = check_imgid(p, sentence);
    if (!code) code = image_texts_caption(t, p->e);
    for (size_t i = 0; !code && i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i);
        char what[120];
        if (!json_is_string(token)) return fault(p, "has a token that is not a string");
        const char *word = json_string_value(token);
        size_t length = json_string_length(token);
        if (!length) return fault(p, "has an empty token");
        for (size_t k = 0; k < length; k++)
            if (byte_is_space((unsigned char)word[k])) {
                snprintf(what, sizeof what, "has a token that holds white space, '%.40s'", word);
                return fault(p, what);
            }
        code = image_texts_word(t, word, length, p->e);
    }
    return code;
}

static int parse_split(const Place *p, const json_t *image, ImageSplit *split)
{
    char what[160];
    const json_t *value = json_object_get(image, "split");
    if (!value) return fault(p, "has no split");
    if (!json_is_string(value)) return fault(p, "has a split that is not a string");
    for (int i = 0; i < SPLITS_KNOWN; i++)
        if (!strcmp(splits[i].name, json_string_value(value))) {
            *split = splits[i].split;
            return EXIT_DONE;
        }
    snprintf(what, sizeof what, "is of split '%.40s'; plstm reads train, restval, val and test",
             json_string_value(value));
    return fault(p, what);
}

static int parse_image(ImageTexts *t, Place *p, const json_t *image)
{
    ImageSplit split = IMAGES_TRAIN;
    p->sentence = -1;
    if (!json_is_object(image)) return fault(p, "is not an object");
    int code = parse_split(p, image, &split);
    if (!code) code = check_imgid(p, image);
    if (!code) code = image_texts_image(t, split, p->e);
    const json_t *sentences = json_object_get(image, "sentences");
    if (code || !sentences) return code;
    if (!json_is_array(sentences)) return fault(p, "has `sentences` that are not a list");
    for (size_t i = 0; !code && i < json_array_size(sentences); i++) {
        p->sentence = (int64_t)i;
        code = parse_sentence(t, p, json_array_get(sentences, i));
    }
    return code;
}

int dataset_json_parse(ImageTexts *t, const char *bytes, size_t n, const char *path, Error *e)
{
    json_error_t where;
    memset(t, 0, sizeof *t);
    json_t *file = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &where);
    if (!file && json_error_code(&where) == json_error_out_of_memory)
        return error_set(e, EXIT_FAILED, "memory ran out while %s was read", path);
    if (!file)
        return error_set(e, EXIT_BAD_DATA, "%s is not JSON: %s (line %d, column %d)", path,
                         where.text, where.line, where.column);
    const json_t *images = json_object_get(file, "images");
    Place place = {.path = path, .e = e};
    int code = EXIT_DONE;
    if (!json_is_array(images))
        code = error_set(
            e, EXIT_BAD_DATA,
            "%s has no list `images`: it is not in the format of Karpathy's dataset_coco.json",
            path);
    for (size_t i = 0; !code && i < json_array_size(images); i++) {
        place.image = (int64_t)i;
        code = parse_image(t, &place, json_array_get(images, i));
    }
    json_decref(file);
    if (!code && !t->images) code = error_set(e, EXIT_BAD_DATA, "%s has no image", path);
    if (code) image_texts_free(t);
    return code;
}

int dataset_json_read(ImageTexts *t, const char *path, Error *e)
{
    void *map;
    size_t n;
    memset(t, 0, sizeof *t);
    int code = map_file(path, "a JSON file of images and captions", &map, &n, e);
    if (!code) code = dataset_json_parse(t, map, n, path, e), munmap(map, n);
    return code;
}
