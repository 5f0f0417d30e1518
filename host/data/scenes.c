#include "scenes.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

const int64_t scenes_images[IMAGE_SPLITS] = {1000, 300, 500};
const int64_t scenes_captions[IMAGE_SPLITS] = {3, 3, 5};

static const uint64_t seed = 14092329;
/* Philox subsequences that synthetic.c and parallel.c do not use. Each image, and each caption, has
 * a range of a subsequence of its own, which begins at a multiple of its number. */
enum { SUB_SCENE = 400, SUB_NOISE, SUB_FILTERS, SUB_CAPTION };
enum { MAX_CAPTIONS = 8, CAPTION_DRAWS = 64, SCENE_DRAWS = 64 };

int64_t scenes_count(void)
{
    int64_t n = 0;
    for (int split = 0; split < IMAGE_SPLITS; split++) n += scenes_images[split];
    return n;
}

/* ---- drawing at random ---- */

typedef struct Draws {
    uint64_t sub, q; /* q: index of the next word of the subsequence */
} Draws;

/* Draws one of 0 .. n-1 with equal probability. */
static int draw(Draws *d, int n)
{
    uint64_t i = d->q++;
    uint64_t word = philox_block(seed, d->sub, i >> 2).word[i & 3];
    return (int)(word * (uint64_t)n >> 32);
}

/* ---- scenes ---- */

static const struct {
    const char *name;
    uint32_t rgb;
} colours[SCENE_COLOURS] = {{"red", 0xf57d7d},
                            {"green", 0x7df57d},
                            {"blue", 0x7d7df5},
                            {"yellow", 0xf5f57d}},
  grounds[SCENE_GROUNDS] = {{"black", 0x101010}, {"grey", 0x484848}, {"brown", 0x5a3c1e}};
static const char *const shapes[SCENE_SHAPES] = {"ring", "square", "cross"};

const char *scene_shape_name(int shape) { return shapes[shape]; }
const char *scene_colour_name(int colour) { return colours[colour].name; }
const char *scene_ground_name(int ground) { return grounds[ground].name; }
uint32_t scene_colour_rgb(int colour) { return colours[colour].rgb; }
uint32_t scene_ground_rgb(int ground) { return grounds[ground].rgb; }
int scene_radius(const SceneObject *o) { return o->large ? 6 : 4; }

void scenes_scene(int64_t image, Scene *s)
{
    Draws d = {.sub = SUB_SCENE, .q = SCENE_DRAWS * (uint64_t)image};
    int cell[SCENE_GRID * SCENE_GRID], cells = SCENE_GRID * SCENE_GRID, colour[SCENE_COLOURS];
    memset(s, 0, sizeof *s);
    for (int i = 0; i < cells; i++) cell[i] = i;
    for (int i = 0; i < SCENE_COLOURS; i++) colour[i] = i;
    s->ground = draw(&d, SCENE_GROUNDS);
    for (int i = 0; i < SCENE_OBJECTS; i++) {
        SceneObject *o = &s->object[i];
        int chosen = i + draw(&d, cells - i), kept = cell[i];
        cell[i] = cell[chosen], cell[chosen] = kept;
        o->column = cell[i] % SCENE_GRID, o->row = cell[i] / SCENE_GRID;
        o->shape = draw(&d, SCENE_SHAPES);
        chosen = i + draw(&d, SCENE_COLOURS - i), kept = colour[i];
        colour[i] = colour[chosen], colour[chosen] = kept;
        o->colour = colour[i];
        o->large = draw(&d, 2);
        o->x = 7 + 14 * o->column + draw(&d, 3) - 1;
        o->y = 7 + 14 * o->row + draw(&d, 3) - 1;
    }
}

/* ---- pictures ---- */

/* Returns whether a shape of radius r covers the pixel at (dx, dy) from its centre. */
static bool covers(int shape, int r, int dx, int dy)
{
    int ax = abs(dx), ay = abs(dy);
    switch (shape) {
    case 0: return dx * dx + dy * dy <= r * r + 1 && dx * dx + dy * dy > (r - 2) * (r - 2);
    case 1: return 8 * ax <= 7 * r && 8 * ay <= 7 * r;
    default: return (3 * ax <= r && ay <= r) || (3 * ay <= r && ax <= r);
    }
}

void scenes_picture(int64_t image, uint8_t *pixels)
{
    enum { N = SCENE_SIZE * SCENE_SIZE, NOISE = 24 };
    Scene s;
    scenes_scene(image, &s);
    for (int y = 0; y < SCENE_SIZE; y++)
        for (int x = 0; x < SCENE_SIZE; x++) {
            uint32_t rgb = scene_ground_rgb(s.ground);
            for (int i = 0; i < SCENE_OBJECTS; i++) {
                const SceneObject *o = &s.object[i];
                if (covers(o->shape, scene_radius(o), x - o->x, y - o->y))
                    rgb = scene_colour_rgb(o->colour);
            }
            /* One block of random words per pixel: one word for each of its three values. */
            int n = y * SCENE_SIZE + x;
            PhiloxBlock random = philox_block(seed, SUB_NOISE, N * (uint64_t)image + (uint64_t)n);
            for (int c = 0; c < 3; c++) {
                int noise = (int)((uint64_t)random.word[c] * (2 * NOISE + 1) >> 32) - NOISE;
                int value = (int)(rgb >> (16 - 8 * c) & 255) + noise;
                pixels[c * N + n] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
        }
}

/* ---- features ---- */

/* The value that is subtracted from every pixel before the filters are applied: a dark grey, so
 * that the ground has little weight. */
enum { LEVEL = 48 };
enum { SCENE_VALID = SCENE_POOLED * SCENE_POOL }; /* positions of a filter per side */

/* Weights (SCENE_FILTERS, 3, SCENE_FIELD, SCENE_FIELD), whole numbers from -8 to 8. They and all
 * sums below stay under 2^24, so they are exact as floats in whatever order they are added. Floats
 * are used because CPUs multiply them fastest. */
typedef struct Filters {
    float weight[SCENE_FILTERS][3][SCENE_FIELD][SCENE_FIELD];
} Filters;

static void filters_draw(Filters *f)
{
    Draws d = {.sub = SUB_FILTERS};
    for (int k = 0; k < SCENE_FILTERS; k++)
        for (int c = 0; c < 3; c++)
            for (int y = 0; y < SCENE_FIELD; y++)
                for (int x = 0; x < SCENE_FIELD; x++)
                    f->weight[k][c][y][x] = (float)(draw(&d, 17) - 8);
}

/* A picture as the filters read it, (3, SCENE_SIZE, SCENE_SIZE). */
typedef float Levels[3][SCENE_SIZE][SCENE_SIZE];

/* Applies a filter to a picture and sums its rectified values over each square into out
 * (SCENE_POOLED, SCENE_POOLED). A value is at most 3 * 25 * 8 * 255, a sum SCENE_POOL^2 times
 * that. */
static void filter_apply(const float weight[3][SCENE_FIELD][SCENE_FIELD], const Levels levels,
                         int32_t *out)
{
    for (int py = 0; py < SCENE_POOLED; py++) {
        float sums[SCENE_VALID] = {0};
        for (int y = SCENE_POOL * py; y < SCENE_POOL * (py + 1); y++) {
            float place[SCENE_VALID] = {0};
            for (int c = 0; c < 3; c++)
                for (int fy = 0; fy < SCENE_FIELD; fy++)
                    for (int fx = 0; fx < SCENE_FIELD; fx++) {
                        float w = weight[c][fy][fx];
                        const float *from = levels[c][y + fy] + fx;
                        for (int x = 0; x < SCENE_VALID; x++) place[x] += w * from[x];
                    }
            for (int x = 0; x < SCENE_VALID; x++) sums[x] += place[x] > 0 ? place[x] : 0;
        }
        for (int px = 0; px < SCENE_POOLED; px++) {
            float sum = 0;
            for (int x = 0; x < SCENE_POOL; x++) sum += sums[SCENE_POOL * px + x];
            out[py * SCENE_POOLED + px] = (int32_t)sum;
        }
    }
}

static void sums_by(const Filters *f, const uint8_t *pixels, int32_t *sums)
{
    Levels levels;
    for (int i = 0; i < 3 * SCENE_SIZE * SCENE_SIZE; i++)
        (&levels[0][0][0])[i] = (float)pixels[i] - LEVEL;
    for (int k = 0; k < SCENE_FILTERS; k++)
        filter_apply(f->weight[k], levels, sums + k * SCENE_POOLED * SCENE_POOLED);
}

void scenes_sums(const uint8_t *pixels, int32_t *sums)
{
    Filters f;
    filters_draw(&f);
    sums_by(&f, pixels, sums);
}

/* Standardises column k of sums (n, SCENE_F) into the features: subtracts its mean over the
 * training images and divides by its standard deviation there. Only the last steps round: the sums
 * are whole numbers, with squares below 2^45 and a sum of squares below 2^56. */
static void standardise(const int32_t *sums, int64_t n, int k, float *features)
{
    int64_t train = scenes_images[IMAGES_TRAIN], sum = 0, squares = 0;
    for (int64_t i = 0; i < train; i++) {
        int64_t x = sums[i * SCENE_F + k];
        sum += x, squares += x * x;
    }
    double mean = (double)sum / (double)train,
           variance = (double)squares / (double)train - mean * mean;
    double scale = 1 / sqrt(fmax(variance, 1));
    for (int64_t i = 0; i < n; i++)
        features[i * SCENE_F + k] = (float)(((double)sums[i * SCENE_F + k] - mean) * scale);
}

float *scenes_all_features(void)
{
    Filters f;
    uint8_t pixels[3 * SCENE_SIZE * SCENE_SIZE];
    int64_t n = scenes_count();
    int32_t *sums = malloc((size_t)n * SCENE_F * sizeof *sums);
    float *features = malloc((size_t)n * SCENE_F * sizeof *features);
    if (!sums || !features) {
        free(sums), free(features);
        return NULL;
    }
    filters_draw(&f);
    for (int64_t i = 0; i < n; i++) {
        scenes_picture(i, pixels);
        sums_by(&f, pixels, sums + i * SCENE_F);
    }
    for (int k = 0; k < SCENE_F; k++) standardise(sums, n, k, features);
    free(sums);
    return features;
}

/* ---- the annotator's words ---- */

/* A choice among two or three phrases. */
typedef struct Choice {
    int n;
    const char *phrase[3];
} Choice;

static double choice_p(const Choice *c, int i)
{
    static const double p[4][3] = {{0}, {1}, {0.75, 0.25}, {0.5, 0.25, 0.25}};
    return p[c->n][i];
}

static const Choice intro = {3, {"", "there is", "we see"}}, article = {2, {"a", "one"}},
                    size_words[2] = {{2, {"small", "tiny"}}, {2, {"large", "big"}}},
                    colour_words[SCENE_COLOURS] = {{2, {"red", "crimson"}},
                                                   {2, {"green", "emerald"}},
                                                   {2, {"blue", "azure"}},
                                                   {2, {"yellow", "golden"}}},
                    shape_words[SCENE_SHAPES] = {{3, {"ring", "circle", "hoop"}},
                                                 {3, {"square", "box", "block"}},
                                                 {3, {"cross", "plus", "mark"}}},
                    column_words[2] = {{2, {"left of", "beside"}}, {2, {"right of", "beside"}}},
                    row_words[2] = {{2, {"above", "over"}}, {2, {"below", "under"}}},
                    ground_words[SCENE_GROUNDS] = {
                        {2, {"black", "dark"}}, {2, {"grey", "plain"}}, {2, {"brown", "earthen"}}};

/* Returns the words for the place of a relative to b, by column or by row; NULL: both are in the
 * same one. */
static const Choice *relation(const SceneObject *a, const SceneObject *b, bool by_row)
{
    if (by_row) return a->row == b->row ? NULL : &row_words[a->row > b->row];
    return a->column == b->column ? NULL : &column_words[a->column > b->column];
}

/* ---- drawing a caption ---- */

static void put(char *caption, const char *phrase)
{
    size_t n = strlen(caption);
    assert(n + strlen(phrase) + 2 < SCENE_CAPTION);
    if (*phrase) sprintf(caption + n, "%s%s", n ? " " : "", phrase);
}

static void put_choice(char *caption, const Choice *c, Draws *d)
{
    int quarter = draw(d, 4), i = 0;
    for (double passed = choice_p(c, 0); passed <= 0.25 * quarter; passed += choice_p(c, i)) i++;
    put(caption, c->phrase[i]);
}

static void put_object(char *caption, const SceneObject *o, Draws *d)
{
    put_choice(caption, &article, d);
    if (draw(d, 2)) put_choice(caption, &size_words[o->large], d);
    put_choice(caption, &colour_words[o->colour], d);
    put_choice(caption, &shape_words[o->shape], d);
}

void scenes_caption(int64_t image, int64_t k, char caption[SCENE_CAPTION])
{
    uint64_t number = MAX_CAPTIONS * (uint64_t)image + (uint64_t)k;
    Draws d = {.sub = SUB_CAPTION, .q = CAPTION_DRAWS * number};
    Scene s;
    assert(k < MAX_CAPTIONS);
    scenes_scene(image, &s);
    caption[0] = 0;
    put_choice(caption, &intro, &d);
    int first = draw(&d, SCENE_OBJECTS);
    const SceneObject *a = &s.object[first], *b = &s.object[!first];
    put_object(caption, a, &d);
    bool by_row = draw(&d, 2);
    if (!relation(a, b, by_row)) by_row = !by_row;
    put_choice(caption, relation(a, b, by_row), &d);
    put_object(caption, b, &d);
    if (draw(&d, 4) == 0) {
        put(caption, "on");
        put_choice(caption, &ground_words[s.ground], &d);
    }
    assert(d.q <= CAPTION_DRAWS * (number + 1));
}

int scenes_texts(ImageTexts *t, Error *e)
{
    int code = EXIT_DONE;
    int64_t image = 0;
    memset(t, 0, sizeof *t);
    for (int split = 0; split < IMAGE_SPLITS; split++)
        for (int64_t i = 0; !code && i < scenes_images[split]; i++, image++) {
            code = image_texts_image(t, (ImageSplit)split, e);
            for (int64_t k = 0; !code && k < scenes_captions[split]; k++) {
                char caption[SCENE_CAPTION], *save;
                scenes_caption(image, k, caption);
                code = image_texts_caption(t, e);
                for (char *w = strtok_r(caption, " ", &save); !code && w;
                     w = strtok_r(NULL, " ", &save))
                    code = image_texts_word(t, w, strlen(w), e);
            }
        }
    if (code) image_texts_free(t);
    return code;
}

/* ---- the exact probability: the words are parsed back, part by part ---- */

/* Returns whether the words of a phrase stand at *at, and moves *at past them and the following
 * space. */
static bool accept(const char **at, const char *phrase)
{
    size_t n = strlen(phrase);
    if (strncmp(*at, phrase, n) || ((*at)[n] && (*at)[n] != ' ')) return false;
    *at += n + ((*at)[n] == ' ');
    return true;
}

/* Returns the probability of the phrase of a choice that stands at *at, and moves *at past it. If
 * none does, it is that of the empty phrase, or 0 if the choice has no empty phrase. */
static double parse_choice(const char **at, const Choice *c)
{
    for (int i = 0; i < c->n; i++)
        if (*c->phrase[i] && accept(at, c->phrase[i])) return choice_p(c, i);
    return *c->phrase[0] ? 0 : choice_p(c, 0);
}

static double parse_object(const char **at, const SceneObject *o)
{
    double p = parse_choice(at, &article), size = parse_choice(at, &size_words[o->large]);
    /* The size is given half of the time. No size word is a colour word. */
    p *= size > 0 ? 0.5 * size : 0.5;
    p *= parse_choice(at, &colour_words[o->colour]);
    return p * parse_choice(at, &shape_words[o->shape]);
}

double scene_nats(const Scene *s, const char *caption)
{
    double sum = 0;
    for (int first = 0; first < SCENE_OBJECTS; first++) {
        const char *at = caption;
        const SceneObject *a = &s->object[first], *b = &s->object[!first];
        double p = parse_choice(&at, &intro) / SCENE_OBJECTS;
        p *= parse_object(&at, a);
        for (int by_row = 0; p > 0 && by_row < 2; by_row++) {
            const Choice *words = relation(a, b, by_row);
            const char *behind = at;
            if (!words) continue;
            double here = p * (relation(a, b, !by_row) ? 0.5 : 1) * parse_choice(&behind, words);
            if (here == 0) continue;
            here *= parse_object(&behind, b);
            here *= accept(&behind, "on") ? 0.25 * parse_choice(&behind, &ground_words[s->ground])
                                          : 0.75;
            if (!*behind) sum += here;
        }
    }
    return -log(sum);
}

double scenes_best(ImageSplit split)
{
    double nats = 0;
    int64_t first = 0;
    for (int i = 0; i < (int)split; i++) first += scenes_images[i];
    for (int64_t i = first; i < first + scenes_images[split]; i++) {
        Scene s;
        scenes_scene(i, &s);
        for (int64_t k = 0; k < scenes_captions[split]; k++) {
            char caption[SCENE_CAPTION];
            scenes_caption(i, k, caption);
            nats += scene_nats(&s, caption);
        }
    }
    return nats;
}
