/* Tests plstm dump: SPEC's known answers for masks and initial weights, and gradients that match
 * the step of train. */
#include "tests/support/program.h"

#include <math.h>

#include "host/store/params.h"
#include "host/store/safetensors.h"
#include "kernels/philox.h"

static void st_read(StFile *f, const char *path)
{
    Error e;
    if (st_open(f, path, &e)) fail_msg("%s", e.text);
}

static const StTensor *tensor(const StFile *f, const char *name)
{
    const StTensor *t = st_find(f, name);
    if (!t) fail_msg("no tensor %s", name);
    return t;
}

/* SPEC 2's known answer for L = 2, step 5, site 1 and H = 9: the kept units are 001110001, then
 * 011010101. */
static void masks_have_the_known_bits(void **state)
{
    (void)state;
    static const uint8_t known[18] = {0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1};
    const char *path = in_folder("masks.st");
    plstm_expect(
        0,
        "dump --what masks --seed 4886718345 --layers 2 --step 5 --seq 2 --batch 1 --hidden 9 "
        "--keep 0.35 --out %s",
        path);
    StFile f;
    st_read(&f, path);
    assert_int_equal(f.n_tensors, 3);
    const StTensor *t = tensor(&f, "mask.site1");
    assert_int_equal(t->dtype, ST_U8);
    assert_int_equal(t->rank, 3);
    assert_memory_equal(t->shape, ((int64_t[]){2, 1, 9}), sizeof(int64_t[3]));
    assert_memory_equal(t->data, known, sizeof known);
    assert_string_equal(st_meta(&f, "dump"), "masks");
    assert_string_equal(st_meta(&f, "step"), "5");
    assert_string_equal(st_meta(&f, "seed"), "4886718345");
    st_close(&f);
}

/* Compares every site of the naive variant with SPEC 2's formula, element by element. */
static void every_site_is_there(void **state)
{
    (void)state;
    enum { L = 3, T = 3, B = 2, H = 7, S = 2 * L + 1, STEP = 4 };
    const char *path = in_folder("all.st");
    plstm_expect(
        0,
        "dump --what masks --dropout-sites all --seed 11 --layers 3 --step 4 --seq 3 --batch 2 "
        "--hidden 7 --keep 0.6 --out %s",
        path);
    StFile f;
    st_read(&f, path);
    assert_int_equal(f.n_tensors, S);
    for (int site = 0; site < S; site++) {
        char name[32];
        snprintf(name, sizeof name, "mask.site%d", site);
        const uint8_t *mask = tensor(&f, name)->data;
        for (int t = 0; t < T; t++)
            for (int b = 0; b < B; b++)
                for (int u = 0; u < H; u++) {
                    uint64_t e = (uint64_t)((t * B + b) * 8 + u); /* a row has H4 = 8 */
                    uint32_t word = philox_block(11, STEP * S + site, e / 4).word[e % 4];
                    assert_int_equal(mask[(t * B + b) * H + u],
                                     word < (uint64_t)floor(0.6 * 0x1p32));
                }
    }
    st_close(&f);
    plstm_expect(0,
                 "dump --what masks --dropout-sites none --layers 1 --seq 3 --batch 2 --hidden 7 "
                 "--keep 0.6 --out %s",
                 path);
    st_read(&f, path);
    assert_int_equal(f.n_tensors, 2);
    const StTensor *t = tensor(&f, "mask.site0");
    for (size_t i = 0; i < t->bytes; i++) assert_int_equal(((const uint8_t *)t->data)[i], 1);
    assert_string_equal(st_meta(&f, "keep"), "1");
    st_close(&f);
}

/* SPEC 3's known answers for the tensors k = 0 and k = 1: encoder.weight and rnn.weight_ih_l0. */
static void weights_have_the_known_values(void **state)
{
    (void)state;
    static const float encoder[4] = {-0.0854969695f, -0.0233662333f, -0.0899065062f, 0.0217176918f};
    static const float w_ih[2] = {0.0443468168f, 0.0279388558f};
    const char *path = in_folder("init.st");
    plstm_expect(0,
                 "dump --what init --data synthetic --seed 4886718345 --init 0.1 --hidden 5 "
                 "--layers 2 --out %s",
                 path);
    StFile f;
    st_read(&f, path);
    const ModelShape shape = {.V_in = 102, .V_out = 102, .H = 5, .L = 2};
    assert_int_equal(f.n_tensors, params_count(&shape));
    for (int k = 0; k < f.n_tensors; k++) {
        ParamInfo info = param_info(&shape, k);
        assert_string_equal(f.tensors[k].name, info.name);
        assert_int_equal(f.tensors[k].dtype, ST_F32);
        assert_int_equal(f.tensors[k].bytes, info.n * (int64_t)sizeof(float));
    }
    assert_memory_equal(tensor(&f, "encoder.weight")->data, encoder, sizeof encoder);
    assert_memory_equal(tensor(&f, "rnn.weight_ih_l0")->data, w_ih, sizeof w_ih);
    st_close(&f);
}

static double meta_number(const StFile *f, const char *key)
{
    const char *value = st_meta(f, key);
    if (!value) fail_msg("no metadata '%s'", key);
    return strtod(value, NULL);
}

static double norm(const StFile *f)
{
    double sum = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const float *x = f->tensors[i].data;
        for (size_t k = 0; k < f->tensors[i].bytes / sizeof *x; k++) sum += (double)x[k] * x[k];
    }
    return sqrt(sum);
}

#define MODEL                                                                                      \
    "--data synthetic --hidden 11 --layers 2 --batch 20 --seq 12 --keep 0.6 --seed 8 --threads 1"

/* The gradients match the first step of train: its loss, its norm, and its weights w - lr * dw. */
static void gradients_are_those_of_the_first_step(void **state)
{
    (void)state;
    const char *grads = in_folder("grads.st"), *log = in_folder("step.jsonl"),
               *init = in_folder("w0.st"), *after = in_folder("w1.st");
    Run run = plstm("dump --what grads " MODEL " --out %s", grads);
    assert_int_equal(run.code, 0);
    plstm_expect(0, "dump --what init " MODEL " --out %s", init);
    plstm_expect(0,
                 "train " MODEL
                 " --max-steps 1 --eval none --quiet --log-json %s --save %s --clip 1e9 --lr 0.5",
                 log, after);
    char *text = file_read(log, NULL), value[64];
    StFile g, w0, w1;
    st_read(&g, grads);
    st_read(&w0, init);
    st_read(&w1, after);

    snprintf(value, sizeof value, "\"loss\":%s,", st_meta(&g, "loss"));
    assert_contains(text, value);
    assert_contains(run.out, value);
    snprintf(value, sizeof value, "\"nats\":%s,", st_meta(&g, "nats"));
    assert_contains(text, value);
    assert_float_equal(meta_number(&g, "loss") * 20, meta_number(&g, "nats"),
                       1e-9 * meta_number(&g, "nats"));
    assert_int_equal((int)meta_number(&g, "tokens"), 240);
    assert_float_equal(meta_number(&g, "grad_norm"), norm(&g), 1e-12 * norm(&g));
    const char *logged = strstr(text, "\"grad_norm\":");
    assert_non_null(logged);
    assert_float_equal(strtod(logged + 12, NULL), norm(&g), 1e-6 * norm(&g));

    /* w - 0.5 * dw, rounded to float32 once or twice, is within an ulp of the larger operand, whose
     * size is below 1 */
    for (int i = 0; i < g.n_tensors; i++) {
        const float *dw = g.tensors[i].data, *old = tensor(&w0, g.tensors[i].name)->data,
                    *new = tensor(&w1, g.tensors[i].name)->data;
        for (size_t k = 0; k < g.tensors[i].bytes / sizeof *dw; k++)
            assert_float_equal(new[k], (double)old[k] - 0.5 * dw[k],
                               0x1p-23 * (fabs(old[k]) + fabs(dw[k])));
    }
    st_close(&g), st_close(&w0), st_close(&w1);
    free(text);
    run_free(&run);
}

/* Tests both backends, weights from a file, and a later window, whose masks are those of that
 * step. */
static void gradients_from_anywhere(void **state)
{
    (void)state;
    const char *a = in_folder("a.st"), *b = in_folder("b.st"), *init = in_folder("w0.st"),
               *from = in_folder("from.st");
    plstm_expect(0, "dump --what grads " MODEL " --step 7 --out %s", a);
    plstm_expect(0, "dump --what grads " MODEL " --step 7 --backend reference --out %s", b);
    plstm_expect(0, "dump --what grads " MODEL " --step 7 --init-weights %s --out %s", init, from);
    assert_files_equal(a, from);
    StFile x, y, first;
    st_read(&x, a);
    st_read(&y, b);
    st_read(&first, in_folder("grads.st"));
    assert_true(meta_number(&x, "loss") != meta_number(&first, "loss"));
    for (int i = 0; i < x.n_tensors; i++) {
        const float *p = x.tensors[i].data, *q = tensor(&y, x.tensors[i].name)->data;
        double difference = 0, size = 0;
        for (size_t k = 0; k < x.tensors[i].bytes / sizeof *p; k++) {
            difference += ((double)p[k] - q[k]) * ((double)p[k] - q[k]);
            size += (double)q[k] * q[k];
        }
        /* These are sums of some hundred float32 products over 12 steps: the bound is 1e-5 of the
         * norm, as in test_torch.py. */
        if (sqrt(difference) > 1e-5 * sqrt(size))
            fail_msg("%s: %g of %g", x.tensors[i].name, sqrt(difference), sqrt(size));
    }
    st_close(&x), st_close(&y), st_close(&first);

    /* 40,000 ids in 20 rows make 2,000 columns, which hold 166 windows of 12. */
    Run run = plstm("dump --what grads " MODEL " --step 166 --out %s", a);
    assert_int_equal(run.code, 2);
    assert_contains(run.err, "0 to 165");
    run_free(&run);
    plstm_expect(0, "dump --what grads " MODEL " --step 165 --out %s", a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_have_the_known_bits),
        cmocka_unit_test(every_site_is_there),
        cmocka_unit_test(weights_have_the_known_values),
        cmocka_unit_test(gradients_are_those_of_the_first_step),
        cmocka_unit_test(gradients_from_anywhere),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
