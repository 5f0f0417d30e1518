/* Tests the built-in scenes: the annotator's probabilities sum to one and are those of the drawn
 * captions, pictures and features are the same on every machine, and the written folder has the
 * same data as the built-in corpus. */
#include "tests/support/program.h"

#include <math.h>
#include <sha2.h>

#include "host/data/captions.h"
#include "host/data/scenes.h"
#include "host/store/image_features.h"

/* ---- the annotator's sentences, made from a second copy of the words of scenes.h ---- */

static const char *const colour[4][2] = {
    {"red", "crimson"}, {"green", "emerald"}, {"blue", "azure"}, {"yellow", "golden"}};
static const char *const shape[3][3] = {
    {"ring", "circle", "hoop"}, {"square", "box", "block"}, {"cross", "plus", "mark"}};
static const char *const ground[3][2] = {
    {"black", "dark"}, {"grey", "plain"}, {"brown", "earthen"}};
static const char *const size[2][3] = {{"", "small ", "tiny "}, {"", "large ", "big "}};

enum { OBJECT_PHRASES = 2 * 3 * 2 * 3 };

static void object_phrase(char *out, const SceneObject *o, int i)
{
    sprintf(out, "%s %s%s %s", i % 2 ? "one" : "a", size[o->large][i / 2 % 3],
            colour[o->colour][i / 6 % 2], shape[o->shape][i / 12]);
}

/* Returns the sum of exp(-scene_nats) over the sentences that begin with two objects and may name
 * the ground. Each sentence is counted once if the two objects have different words. */
static double total_of_two(const Scene *s, const int (*pair)[2], int pairs)
{
    static const char *const intro[] = {"", "there is ", "we see "}, *const relation[] = {
                                                                         "left of", "right of",
                                                                         "beside",  "above",
                                                                         "over",    "below",
                                                                         "under"};
    double sum = 0;
    char first[64], second[64], caption[SCENE_CAPTION];
    for (int p = 0; p < pairs; p++)
        for (int i = 0; i < 3 * OBJECT_PHRASES; i++)
            for (int r = 0; r < 7; r++)
                for (int k = 0; k < 3 * OBJECT_PHRASES; k++) {
                    object_phrase(first, &s->object[pair[p][0]], i / 3);
                    object_phrase(second, &s->object[pair[p][1]], k / 3);
                    snprintf(caption, sizeof caption, "%s%s %s %s%s%s", intro[i % 3], first,
                             relation[r], second, k % 3 ? " on " : "",
                             k % 3 ? ground[s->ground][k % 3 - 1] : "");
                    sum += exp(-scene_nats(s, caption));
                }
    return sum;
}

static void probabilities_add_up_to_one(void **state)
{
    (void)state;
    static const int both[2][2] = {{0, 1}, {1, 0}}, one[1][2] = {{0, 1}};
    Scene s = {.ground = 1,
               .object = {{.shape = 0, .colour = 2, .large = true, .column = 0, .row = 0},
                          {.shape = 2, .colour = 3, .column = 1, .row = 1}}};
    assert_float_equal(total_of_two(&s, both, 2), 1, 1e-9);
    s.object[1].row = 0; /* the objects are now related only by column */
    assert_float_equal(total_of_two(&s, both, 2), 1, 1e-9);
    /* Of two equal objects, either may be the one that a sentence names first. */
    s.object[1] = s.object[0], s.object[1].row = 1;
    assert_float_equal(total_of_two(&s, one, 1), 1, 1e-9);
}

static void known_probabilities(void **state)
{
    (void)state;
    Scene s = {.object = {{.shape = 0, .colour = 0, .large = true, .column = 0, .row = 0},
                          {.shape = 1, .colour = 2, .column = 1, .row = 1}}};
    /* The factors are: no introduction, the order; `a`, no size, `red`, `ring`; the column, `left
     * of`; `a`, no size, `blue`, `square`; no ground. */
    double object = 0.75 * 0.5 * 0.75 * 0.5;
    assert_float_equal(exp(-scene_nats(&s, "a red ring left of a blue square")),
                       0.5 * 0.5 * object * 0.5 * 0.75 * object * 0.75, 1e-15);
    assert_float_equal(
        exp(-scene_nats(&s, "we see one tiny azure box below a big red hoop on dark")),
        0.25 * 0.5 * (0.25 * 0.5 * 0.25 * 0.25 * 0.25) * 0.5 * 0.75 *
            (0.75 * 0.5 * 0.25 * 0.75 * 0.25) * 0.25 * 0.25,
        1e-15);
    static const char *const never[] = {"",
                                        "a red ring",
                                        "a red ring right of a blue square",
                                        "a red ring left of a green square",
                                        "a small red ring left of a blue square",
                                        "a red ring left of a blue square on grey",
                                        "a red ring left of a blue square on",
                                        "a red ring left of a blue square and a red ring",
                                        "a red ring left of a blue square on black black",
                                        "there a red ring left of a blue square",
                                        "a red ring left of a blue squares",
                                        "a red ring left of a red ring"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (scene_nats(&s, never[i]) != INFINITY) fail_msg("%s", never[i]);
}

/* The mean of -log p over drawn captions is the annotator's entropy, which -log p estimates with a
 * known spread. A grammar that differs from its draws would give an impossible caption or a wrong
 * sum of 1/p. */
static void captions_are_drawn_by_them(void **state)
{
    (void)state;
    int64_t n = scenes_count(), said[4] = {0}, captions = 0, with_ground = 0;
    for (int64_t i = 0; i < n; i++) {
        Scene s;
        scenes_scene(i, &s);
        for (int64_t k = 0; k < 3; k++) {
            char caption[SCENE_CAPTION];
            scenes_caption(i, k, caption);
            if (!isfinite(scene_nats(&s, caption)))
                fail_msg("image %lld: %s", (long long)i, caption);
            captions++;
            said[!strncmp(caption, "there", 5) ? 1 : !strncmp(caption, "we", 2) ? 2 : 0]++;
            with_ground += strstr(caption, " on ") != NULL;
        }
    }
    /* The shares are within 5 standard deviations of their probabilities: 5 * sqrt(p * (1 - p) /
     * n). */
    double count = (double)captions;
    assert_true(fabs((double)said[0] / count - 0.5) < 5 * sqrt(0.25 / count));
    assert_true(fabs((double)said[1] / count - 0.25) < 5 * sqrt(0.1875 / count));
    assert_true(fabs((double)with_ground / count - 0.25) < 5 * sqrt(0.1875 / count));
    for (int split = 0; split < IMAGE_SPLITS; split++) {
        double nats = scenes_best((ImageSplit)split);
        assert_true(isfinite(nats) && nats > 0);
    }
}

static void scenes_are_as_they_should_be(void **state)
{
    (void)state;
    int64_t large = 0, n = scenes_count();
    for (int64_t i = 0; i < n; i++) {
        Scene s;
        scenes_scene(i, &s);
        const SceneObject *a = &s.object[0], *b = &s.object[1];
        assert_true(a->colour != b->colour && (a->column != b->column || a->row != b->row));
        large += a->large;
    }
    assert_true(fabs((double)large / (double)n - 0.5) < 5 * sqrt(0.25 / (double)n));
}

/* All values are integers, so they are the same on every machine. */
static void pictures_and_features_are_known(void **state)
{
    (void)state;
    ImageFeatures f;
    Captions c;
    Error e;
    char hex[65];
    if (captions_load(&c, "scenes", 1, NULL, &e) || image_features_load(&f, "scenes", &c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(f.n, c.images);
    image_features_sha256(&f, hex);
    assert_string_equal(hex, "d83f06961f8080db09c1078dd110b6237ebe98b61125da8ff305c16c57ea84a1");
    assert_string_equal(c.sha256,
                        "baffb411e6290f7118f5cd1dbed4aacafcc4f46d8f132f1b9cf798287edca32d");
    /* The background alone, and a picture of one colour: each filter has the same input
     * everywhere. */
    uint8_t pixels[3 * SCENE_SIZE * SCENE_SIZE];
    int32_t again[SCENE_F];
    memset(pixels, 90, sizeof pixels);
    scenes_sums(pixels, again);
    for (int k = 0; k < SCENE_FILTERS; k++)
        for (int i = 1; i < SCENE_POOLED * SCENE_POOLED; i++)
            assert_int_equal(again[k * SCENE_POOLED * SCENE_POOLED + i],
                             again[k * SCENE_POOLED * SCENE_POOLED]);
    image_features_close(&f);
    captions_free(&c);
}

/* Reads the written folder back. */
static void what_is_written_is_what_is_built_in(void **state)
{
    (void)state;
    Captions a, b;
    ImageFeatures x, y;
    Error e;
    plstm_expect(0, "data scenes --task caption --write %s", in_folder("scenes"));
    if (captions_load(&a, "scenes", 2, NULL, &e) ||
        captions_load(&b, in_folder("scenes"), 2, NULL, &e) ||
        image_features_load(&x, "scenes", &a, &e) ||
        image_features_load(&y, in_folder("scenes"), &b, &e))
        fail_msg("%s", e.text);
    assert_string_equal(a.sha256, b.sha256);
    assert_string_equal(a.train_sha256, b.train_sha256);
    assert_true(x.n == y.n && x.F == y.F);
    assert_memory_equal(x.rows, y.rows, sizeof(float) * (size_t)(x.n * x.F));
    image_features_close(&x), image_features_close(&y);
    captions_free(&a), captions_free(&b);
    plstm_expect(3, "data scenes --task caption --write %s", in_folder("scenes"));
    plstm_expect(2, "data scenes --task translate --write %s", in_folder("other"));
    plstm_expect(2, "data %s --task caption --write %s", in_folder("scenes"), in_folder("other"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_add_up_to_one),
        cmocka_unit_test(known_probabilities),
        cmocka_unit_test(captions_are_drawn_by_them),
        cmocka_unit_test(scenes_are_as_they_should_be),
        cmocka_unit_test(pictures_and_features_are_known),
        cmocka_unit_test(what_is_written_is_what_is_built_in),
    };
    return cmocka_run_group_tests_name("scenes", tests, folder_make, folder_remove);
}
