/* scenes: the built-in images and captions: drawings of two coloured shapes, and an annotator who
 * describes them. The annotator's distribution is known exactly, and so is the best possible
 * perplexity of a caption given its scene.
 *
 *   scene     two shapes in different cells of a grid of 2 x 2, each a ring, square or cross, small
 *             or large, in two different colours of four, on a black, grey or brown ground
 *   picture   SCENE_SIZE x SCENE_SIZE pixels of red, green and blue; the shapes stand slightly off
 *             the centres of their cells, and every pixel has noise, so that no two pictures of a
 *             scene are equal
 *   features  a fixed random convolution of the pixels: SCENE_FILTERS filters of 5 x 5 x 3,
 *             drawn once, rectified and summed over squares of 6 x 6, in whole numbers, so that
 *             every machine computes the same; then standardised
 *   caption   there is a big crimson hoop left of one tiny azure box on brown
 *
 * The annotator chooses the following with fixed probabilities, independently of all else: the
 * shape to begin with; the opening (nothing 1/2, "there is" 1/4, "we see" 1/4); for each shape the
 * article (a 3/4, one 1/4), whether to give its size (1/2), and synonyms of size and colour (3/4,
 * 1/4) and of shape (1/2, 1/4, 1/4); whether to relate the shapes by column or by row if both
 * differ (1/2), and the synonym of the relation (3/4, 1/4); whether to name the ground (1/4), and
 * by which word (3/4, 1/4). */
#ifndef PLSTM_SCENES_H
#define PLSTM_SCENES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "image_texts.h"

enum { SCENE_SIZE = 28, SCENE_OBJECTS = 2, SCENE_GRID = 2 /* cells per side */ };
enum { SCENE_FILTERS = 48, SCENE_FIELD = 5, SCENE_POOL = 6 };
enum {
    SCENE_POOLED = (SCENE_SIZE - SCENE_FIELD + 1) / SCENE_POOL, /* squares per side */
    SCENE_F = SCENE_FILTERS * SCENE_POOLED * SCENE_POOLED,
};
enum { SCENE_SHAPES = 3, SCENE_COLOURS = 4, SCENE_GROUNDS = 3 };

typedef struct SceneObject {
    int shape, colour;
    bool large;
    int column, row; /* of the grid, from the upper left */
    int x, y;        /* pixel of the centre */
} SceneObject;

typedef struct Scene {
    SceneObject object[SCENE_OBJECTS];
    int ground;
} Scene;

/* images of each split; captions per image */
extern const int64_t scenes_images[IMAGE_SPLITS], scenes_captions[IMAGE_SPLITS];
int64_t scenes_count(void); /* images of all splits: train first, then valid, then test */

/* Makes the scene of an image. The seed is fixed, so the scene is the same on every machine, as is
 * everything below. */
void scenes_scene(int64_t image, Scene *s);

/* These return the radius in pixels, the names for people and files ("ring", "red", "black"), and
 * the RGB of a colour and of a ground, 8 bits each. */
int scene_radius(const SceneObject *o);
const char *scene_shape_name(int shape);
const char *scene_colour_name(int colour);
const char *scene_ground_name(int ground);
uint32_t scene_colour_rgb(int colour);
uint32_t scene_ground_rgb(int ground);

/* Draws the picture of an image: pixels (3, SCENE_SIZE, SCENE_SIZE), red, green, blue. */
void scenes_picture(int64_t image, uint8_t *pixels);
/* Computes the filters' sums over each square of a picture, (SCENE_F): filter by filter, rows from
 * the top. */
void scenes_sums(const uint8_t *pixels, int32_t *sums);
/* Computes the features of every image, allocated by malloc (scenes_count, SCENE_F): those sums,
 * standardised to mean 0 and variance 1 over the training images. NULL: memory ran out. */
float *scenes_all_features(void);

/* Writes caption number k of an image, with one space between words. */
enum { SCENE_CAPTION = 256 /* bytes that suffice */ };
void scenes_caption(int64_t image, int64_t k, char caption[SCENE_CAPTION]);
/* Fills *t, which image_texts_free releases, with every image and its captions. EXIT_FAILED: memory
 * ran out. */
int scenes_texts(ImageTexts *t, Error *e);

/* Returns -log of the probability that the annotator describes the scene by this caption; INFINITY
 * if that never happens. */
double scene_nats(const Scene *s, const char *caption);
/* Returns the sum of scene_nats over the captions of a split. Divided by the number of words and
 * ends of captions, it is the log of the best possible perplexity. */
double scenes_best(ImageSplit split);

#endif
