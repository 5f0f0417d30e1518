/* Tests checkpoints: every recorded setting and counter is restored, the bytes depend on nothing
 * else, malformed files are refused in one sentence; and the output of `plstm info`. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/store/checkpoint.h"
#include "host/store/weights.h"
#include "host/commands/commands.h"

/* ---- a small run: V 5, H 3, L 2, B 2, T 4 ---- */

enum { V = 5, H = 3, L = 2, B = 2, T = 4, STATE = L * B * H };

static char folder[] = "/tmp/plstm-checkpoint-XXXXXX";

typedef struct Fixture {
    Settings settings;
    Counters counters; /* inside an epoch */
    Corpus corpus;
    Params params;
    float h[STATE], c[STATE];
} Fixture;

static int fixture_make(void **state)
{
    Error e;
    Fixture *x = calloc(1, sizeof *x);
    if (!x || (!strcmp(folder + strlen(folder) - 6, "XXXXXX") && !mkdtemp(folder))) return -1;
    settings_defaults(&x->settings);
    x->settings.hidden = H, x->settings.layers = L, x->settings.batch = B, x->settings.seq = T;
    x->counters = (Counters){.step = 17,
                             .epoch = 2,
                             .minibatch = 3,
                             .lr = 1 / 1.15,
                             .nats = 12.5 / 3,
                             .tokens = 3 * T * B,
                             .best_valid = INFINITY};
    /* A type that is not UTF-8 and one with a percent sign: corpus.c encodes them, and the
     * checkpoint must restore them. */
    if (vocab_parse(&x->corpus.vocab, "the <eos> caf\xc3\xa9 50%25 %FF", &e)) return -1;
    memset(x->corpus.sha256, 'a', 64);
    if (params_init(&x->params, &(ModelShape){.V_in = V, .V_out = V, .H = H, .L = L})) return -1;
    params_draw(&x->params, 7, 0.1);
    for (int i = 0; i < STATE; i++) x->h[i] = (float)i / 8, x->c[i] = -1.0f / (float)(i + 1);
    *state = x;
    return 0;
}

static int fixture_free(void **state)
{
    Fixture *x = *state;
    vocab_free(&x->corpus.vocab);
    params_free(&x->params);
    free(x);
    return 0;
}

static int folder_remove(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    static char path[16][512];
    static int next;
    next = (next + 1) % 16;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static CheckpointData data_of(const Fixture *x)
{
    return (CheckpointData){.carries = true,
                            .name = x->corpus.synthetic ? "synthetic" : NULL,
                            .corpus_sha256 = x->corpus.sha256,
                            .vocab = &x->corpus.vocab};
}

static void save(const Fixture *x, const char *path)
{
    Error e = {0};
    bool inside = x->counters.minibatch > 0;
    CheckpointData data = data_of(x);
    if (checkpoint_save(path, &x->settings, &x->counters, &data, &x->params, inside ? x->h : NULL,
                        inside ? x->c : NULL, NULL, 0, &e))
        fail_msg("%s", e.text);
}

static void at_epochs_end(Fixture *x)
{
    x->counters.minibatch = 0, x->counters.nats = 0, x->counters.tokens = 0;
}

static char *get_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *bytes = malloc(1 << 20);
    *n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static void check_sentence(const Error *e, const char *wanted)
{
    if (!strstr(e->text, wanted)) fail_msg("expected '%s' in '%s'", wanted, e->text);
    assert_null(strchr(e->text, '\n'));
}

/* ---- saving and loading ---- */

static void check_counters(const Counters *a, const Counters *b)
{
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->minibatch, b->minibatch);
    assert_memory_equal(&a->lr, &b->lr, sizeof a->lr);
    assert_memory_equal(&a->nats, &b->nats, sizeof a->nats);
    assert_int_equal(a->tokens, b->tokens);
    assert_memory_equal(&a->best_valid, &b->best_valid, sizeof a->best_valid);
}

static void check_same(const Fixture *x, const Checkpoint *c)
{
    assert_int_equal(c->shape.V_out, V);
    assert_int_equal(c->shape.H, H);
    assert_int_equal(c->shape.L, L);
    check_counters(&c->counters, &x->counters);
    assert_string_equal(c->settings.preset, x->settings.preset);
    for (int i = 0; i < settings_count(); i++)
        if (settings_info(i)->role != ROLE_RUN && settings_of_task(i, x->settings.task) &&
            !option_equal(settings_info(i), &c->settings, &x->settings))
            fail_msg("setting %s differs", settings_info(i)->name);
    assert_true(c->settings.given == 0);
    for (int k = 0; k < x->params.count; k++)
        assert_memory_equal(checkpoint_param(c, k), x->params.data + x->params.offset[k],
                            sizeof(float) * (size_t)param_info(&c->shape, k).n);
    assert_int_equal(c->vocab.V, V);
    assert_memory_equal(c->vocab.offset, x->corpus.vocab.offset, sizeof(int64_t) * (V + 1));
    assert_memory_equal(c->vocab.bytes, x->corpus.vocab.bytes, (size_t)c->vocab.offset[V]);
    assert_string_equal(c->corpus_sha256, x->corpus.sha256);
    assert_int_equal(c->data != NULL, x->corpus.synthetic);
}

static void test_round_trip(void **state)
{
    Fixture *x = *state;
    Checkpoint c;
    Error e = {0};
    const char *path = in_folder("round.safetensors");
    save(x, path);
    if (checkpoint_open(&c, path, &e)) fail_msg("%s", e.text);
    check_same(x, &c);
    assert_memory_equal(c.h, x->h, sizeof x->h);
    assert_memory_equal(c.c, x->c, sizeof x->c);
    checkpoint_close(&c);

    at_epochs_end(x);
    x->counters.best_valid = 5.25;
    x->corpus.synthetic = true;
    save(x, path);
    if (checkpoint_open(&c, path, &e)) fail_msg("%s", e.text);
    check_same(x, &c);
    assert_null(c.h);
    assert_null(c.c);
    /* The file has only the parameters, so that load_state_dict(strict=True) accepts it, in SPEC
     * 7's order. */
    static const char *const names[] = {"encoder.weight",   "rnn.weight_ih_l0", "rnn.weight_hh_l0",
                                        "rnn.bias_ih_l0",   "rnn.bias_hh_l0",   "rnn.weight_ih_l1",
                                        "rnn.weight_hh_l1", "rnn.bias_ih_l1",   "rnn.bias_hh_l1",
                                        "decoder.weight",   "decoder.bias"};
    assert_int_equal(c.file.n_tensors, sizeof names / sizeof names[0]);
    for (int k = 0; k < c.file.n_tensors; k++)
        assert_string_equal(c.file.tensors[k].name, names[k]);
    assert_string_equal(st_meta(&c.file, "format"), "pt");
    assert_string_equal(st_meta(&c.file, "data"), "synthetic");
    assert_string_equal(st_meta(&c.file, "lr"), "0.86956521739130443");
    assert_string_equal(st_meta(&c.file, "initial_lr"), "1");
    checkpoint_close(&c);
}

/* Every recorded setting, given a value other than the default, is restored; settings that are not
 * recorded are not in the file. */
static void test_every_setting(void **state)
{
    Fixture *x = *state;
    Error e = {0};
    Settings defaults = x->settings;
    int recorded = 0;
    for (int i = 0; i < settings_count(); i++) {
        const Option *info = settings_info(i);
        const char *value = "0.3";
        if (!settings_of_task(i, "lm")) continue;
        if (info->at == offsetof(Settings, hidden) || info->at == offsetof(Settings, layers) ||
            info->at == offsetof(Settings, batch) || info->at == offsetof(Settings, seq))
            continue; /* the fixture's values already differ from the defaults */
        switch (info->type) {
        case TYPE_INT: value = "11"; break;
        case TYPE_U64: value = "18446744073709551615"; break;
        case TYPE_DOUBLE: value = "0.1234567890123456789"; break;
        case TYPE_CHOICE: value = strrchr(info->choices, '|') + 1; break;
        case TYPE_NAME: value = info->choices ? strrchr(info->choices, '|') + 1 : "reg/mma"; break;
        case TYPE_PATH: value = "/a/path"; break;
        default: break;
        }
        if (info->at == offsetof(Settings, eval)) value = "valid";
        if (settings_set(&x->settings, i, value, &e)) fail_msg("%s", e.text);
        assert_false(option_equal(info, &x->settings, &defaults));
    }
    x->settings.preset = "large";
    const char *path = in_folder("settings.safetensors");
    save(x, path);
    Checkpoint c;
    if (checkpoint_open(&c, path, &e)) fail_msg("%s", e.text);
    check_same(x, &c);
    for (int i = 0; i < settings_count(); i++) {
        char key[OPTION_KEY_SIZE], value[128];
        const char *there = st_meta(&c.file, checkpoint_setting_key(i, key));
        option_format(settings_info(i), &x->settings, value, sizeof value);
        /* The key `vocab` holds the types. */
        if (settings_info(i)->at == offsetof(Settings, vocab)) continue;
        if (settings_info(i)->role == ROLE_RUN || !settings_of_task(i, "lm")) assert_null(there);
        else assert_string_equal(there, value), recorded++;
        assert_null(strchr(key, '-'));
    }
    assert_true(recorded >= 18);
    checkpoint_close(&c);
    size_t n;
    char *bytes = get_file(path, &n);
    bytes[n - 1] = 0;
    assert_null(strstr(bytes + 8, "/a/path"));
    free(bytes);
}

static void test_counters(void **state)
{
    Fixture *x = *state;
    static const Counters cases[] = {
        {0, 1, 0, 1, 0, 0, INFINITY, 0},
        {5, 1, 5, 1, 5e-324, 5 * T * B, INFINITY, 0},
        {(int64_t)1 << 53, 2, 1, 0, 0.1 + 0.2, T * B, 0, 0},
        {INT64_MAX, INT64_MAX, 0, 1e-300, 0, 0, 1.7976931348623157e308, 0},
        {9, 3, 1, 2.0 / 3, 1e22, T * B, 4.0 / 3, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Checkpoint c;
        Error e = {0};
        x->counters = cases[i];
        save(x, in_folder("counters"));
        if (checkpoint_open(&c, in_folder("counters"), &e)) fail_msg("%s", e.text);
        check_counters(&c.counters, &cases[i]);
        checkpoint_close(&c);
    }
}

/* Saves the same run twice with different path, number of threads, folder, and paths of data and
 * log, as two processes might. */
static void test_same_bytes(void **state)
{
    Fixture *x = *state;
    size_t n, m;
    assert_int_equal(mkdir(in_folder("elsewhere"), 0700), 0);
    save(x, in_folder("one"));
    x->settings.threads = 7, x->settings.max_steps = 99, x->settings.log_every = 5,
    x->settings.save_every = 2;
    x->settings.data = "/some/data", x->settings.save = "elsewhere/two", x->settings.resume = "one";
    x->settings.log_json = "log", x->settings.init_weights = "w", x->settings.save_best = "best",
    x->settings.given = 5;
    x->corpus.known_as = "a name";
    save(x, in_folder("elsewhere/two"));
    char *one = get_file(in_folder("one"), &n), *two = get_file(in_folder("elsewhere/two"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(one, two, n);
    free(one);
    free(two);

    /* Loading and saving again gives the same bytes, which is half of "stop and resume gives the
     * same bytes". */
    Checkpoint c;
    Error e = {0};
    assert_int_equal(checkpoint_open(&c, in_folder("one"), &e), EXIT_DONE);
    Fixture y = *x;
    y.settings = c.settings, y.counters = c.counters;
    memcpy(y.h, c.h, sizeof y.h);
    memcpy(y.c, c.c, sizeof y.c);
    save(&y, in_folder("three"));
    checkpoint_close(&c);
    one = get_file(in_folder("one"), &n), two = get_file(in_folder("three"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(one, two, n);
    free(one);
    free(two);
}

static void test_extra(void **state)
{
    Fixture *x = *state;
    Checkpoint c;
    Error e = {0};
    const StMeta extra[] = {{"kernel_ran", "reg/reg"}, {"gemm", "7"}};
    CheckpointData data = data_of(x);
    assert_int_equal(checkpoint_save(in_folder("extra"), &x->settings, &x->counters, &data,
                                     &x->params, x->h, x->c, extra, 2, &e),
                     EXIT_DONE);
    if (checkpoint_open(&c, in_folder("extra"), &e)) fail_msg("%s", e.text);
    check_same(x, &c);
    assert_string_equal(st_meta(&c.file, "kernel_ran"), "reg/reg");
    assert_string_equal(st_meta(&c.file, "gemm"), "7");
    checkpoint_close(&c);
}

/* ---- what does not fit is refused ---- */

/* The parts of a valid file, from which a test builds malformed ones. */
typedef struct Parts {
    StFile file;
    StTensor tensors[16];
    int n_tensors;
    StMeta meta[64];
    int n_meta;
} Parts;

static void parts_take(Parts *p, const char *path)
{
    Error e = {0};
    assert_int_equal(st_open(&p->file, path, &e), EXIT_DONE);
    p->n_tensors = p->file.n_tensors, p->n_meta = p->file.n_meta;
    assert_true(p->n_tensors < 16 && p->n_meta < 63);
    memcpy(p->tensors, p->file.tensors, sizeof *p->tensors * (size_t)p->n_tensors);
    memcpy(p->meta, p->file.meta, sizeof *p->meta * (size_t)p->n_meta);
}

/* A NULL value removes the key. */
static void parts_set(Parts *p, const char *key, const char *value)
{
    int i = 0;
    while (i < p->n_meta && strcmp(p->meta[i].key, key)) i++;
    if (value) p->meta[i] = (StMeta){key, value}, p->n_meta += i == p->n_meta;
    else p->meta[i] = p->meta[--p->n_meta];
}

static StTensor *parts_tensor(Parts *p, const char *name)
{
    for (int i = 0; i < p->n_tensors; i++)
        if (!strcmp(p->tensors[i].name, name)) return &p->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void check_refused(const Parts *p, const char *says)
{
    Checkpoint c;
    Error e = {0};
    const char *path = in_folder("refused.safetensors");
    if (st_write(path, p->tensors, p->n_tensors, p->meta, p->n_meta, &e)) fail_msg("%s", e.text);
    if (checkpoint_open(&c, path, &e) != EXIT_BAD_DATA) fail_msg("accepted, wanted '%s'", says);
    check_sentence(&e, says);
    check_sentence(&e, path);
}

static void test_bad_metadata(void **state)
{
    Fixture *x = *state;
    save(x, in_folder("good"));
    static const struct {
        const char *key, *value, *says;
    } cases[] = {
        {"plstm", NULL, "has no plstm metadata; --init-weights reads bare weights"},
        {"plstm", "2", "metadata 'plstm' is '2', not format 1"},
        {"plstm", "", "not format 1"},
        {"preset", NULL, "lacks 'preset'"},
        {"preset", "tiny", "metadata 'preset' is 'tiny', not small, medium, large or demo"},
        {"hidden", "0", "metadata 'hidden' is '0', not a whole number from 1"},
        {"hidden", "3.0", "metadata 'hidden' is '3.0'"},
        {"hidden", "99999999999999999999", "metadata 'hidden'"},
        {"hidden", "4", "tensor encoder.weight: found F32 (5, 3), expected F32 (5, 4)"},
        {"layers", "3", "tensor rnn.weight_ih_l2 is missing"},
        {"layers", "1", "tensor state.h: found F32 (2, 2, 3), expected F32 (1, 2, 3)"},
        {"layers", "65", "metadata 'layers' is '65'"},
        {"batch", "1", "'tokens' is 24, which is not minibatch 3 * seq 4 * batch 1"},
        {"keep", "0", "metadata 'keep' is '0', not a number above 0 and at most 1"},
        {"keep", "nan", "metadata 'keep' is 'nan'"},
        {"keep", "1.5", "metadata 'keep' is '1.5'"},
        {"initial_lr", "-1", "metadata 'initial_lr' is '-1'"},
        {"initial_lr", NULL, "lacks 'initial_lr'"},
        {"seed", "18446744073709551616", "metadata 'seed'"},
        {"dropout_sites", "some",
         "metadata 'dropout_sites' is 'some', not nonrecurrent, all or none"},
        {"dropout_sites", NULL, "lacks 'dropout_sites'"},
        {"backend", "tpu", "metadata 'backend' is 'tpu'"},
        {"protocol", "", "metadata 'protocol' is ''"},
        {"step", NULL, "lacks 'step'"},
        {"step", "-1", "metadata 'step' is '-1', not a whole number from 0"},
        {"step", "0x11", "metadata 'step'"},
        {"step", "17 ", "metadata 'step'"},
        {"step", " 17", "metadata 'step'"},
        {"step", "9223372036854775808", "metadata 'step'"},
        {"step", "2", "'step' 2 does not agree with epoch 2, minibatch 3"},
        {"epoch", "0", "metadata 'epoch' is '0', not a whole number from 1"},
        {"epoch", "1", "'step' 17 does not agree with epoch 1, minibatch 3"},
        {"minibatch", "4611686018427387904", "'tokens' is 24, which is not"},
        {"minibatch", "2", "'tokens' is 24, which is not minibatch 2"},
        {"tokens", "23", "'tokens' is 23, which is not"},
        {"lr", "inf", "metadata 'lr' is 'inf', not a finite number"},
        {"lr", "1e999", "metadata 'lr'"},
        {"lr", "0x1p0", "metadata 'lr'"},
        {"lr", "", "metadata 'lr'"},
        {"nats", "nan", "metadata 'nats' is 'nan'"},
        {"nats", "-1", "metadata 'nats' is '-1'"},
        {"best_valid", "-inf", "metadata 'best_valid' is '-inf'"},
        {"best_valid", "infinity", "metadata 'best_valid'"},
        {"corpus_sha256", NULL, "lacks 'corpus_sha256'"},
        {"corpus_sha256", "AAAA", "metadata 'corpus_sha256' is 'AAAA', not a SHA-256"},
        {"data", "/home/me", "metadata 'data' is '/home/me', not synthetic"},
        {"vocab", NULL, "lacks 'vocab'"},
        {"vocab", "", "metadata 'vocab'"},
        {"vocab", "the the", "metadata 'vocab'"},
        {"vocab", "the %GG", "metadata 'vocab'"},
        {"vocab", "the <eos> caf\xc3\xa9 50%25 %FE", "does not have the hash"},
        {"vocab_sha256", NULL, "lacks 'vocab_sha256'"},
        {"vocab_sha256", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
         "does not have the hash"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Parts p;
        parts_take(&p, in_folder("good"));
        parts_set(&p, cases[i].key, cases[i].value);
        check_refused(&p, cases[i].says);
        st_close(&p.file);
    }
    print_message("%zu files with bad metadata\n", sizeof cases / sizeof cases[0]);

    /* The vocabulary is valid, but its size is not that of the weights. */
    Parts p;
    Vocab other = {0};
    Error e = {0};
    char hash[65];
    assert_int_equal(vocab_parse(&other, "just four types here", &e), EXIT_DONE);
    vocab_sha256(&other, hash);
    parts_take(&p, in_folder("good"));
    parts_set(&p, "vocab", "just four types here");
    parts_set(&p, "vocab_sha256", hash);
    check_refused(&p, "tensor encoder.weight has 5 rows, but the vocabulary has 4 types");
    st_close(&p.file);
    vocab_free(&other);

    parts_take(&p, in_folder("good"));
    p.n_meta = 0;
    check_refused(&p, "has no plstm metadata; --init-weights reads bare weights");
    st_close(&p.file);
}

/* Weights that have overflowed are not written over a valid file. */
static void test_diverged(void **state)
{
    Fixture *x = *state;
    Checkpoint c;
    Error e = {0};
    CheckpointData data = data_of(x);
    save(x, in_folder("good"));
    float *places[] = {&x->params.data[0], &x->params.data[x->params.offset[x->params.count] - 1],
                       &x->h[STATE - 1], &x->c[0]};
    for (int i = 0; i < 4; i++) {
        float whole = *places[i];
        *places[i] = i % 2 ? NAN : INFINITY;
        assert_int_equal(checkpoint_save(in_folder("good"), &x->settings, &x->counters, &data,
                                         &x->params, x->h, x->c, NULL, 0, &e),
                         EXIT_DIVERGED);
        check_sentence(&e, "a weight is not finite after 17 minibatches");
        *places[i] = whole;
    }
    if (checkpoint_open(&c, in_folder("good"), &e)) fail_msg("%s", e.text);
    check_same(x, &c);
    checkpoint_close(&c);
}

static void test_bad_tensors(void **state)
{
    Fixture *x = *state;
    Parts p;
    StTensor *t;
    float bad[4 * H * H];
    save(x, in_folder("good"));

    parts_take(&p, in_folder("good"));
    parts_tensor(&p, "decoder.bias")->name = "decoder.bias2";
    check_refused(&p, "tensor decoder.bias is missing, expected F32 (5); the file holds "
                      "encoder.weight, rnn.weight_ih_l0,");
    st_close(&p.file);

    parts_take(&p, in_folder("good"));
    t = parts_tensor(&p, "rnn.weight_hh_l1");
    t->shape[0] = H, t->shape[1] = 4 * H;
    check_refused(&p, "tensor rnn.weight_hh_l1: found F32 (3, 12), expected F32 (12, 3)");
    t->rank = 1, t->shape[0] = 4 * H * H;
    check_refused(&p, "tensor rnn.weight_hh_l1: found F32 (36), expected F32 (12, 3)");
    t->dtype = ST_F16, t->rank = 2, t->shape[0] = 4 * H, t->shape[1] = 2 * H;
    check_refused(&p, "tensor rnn.weight_hh_l1: found F16 (12, 6), expected F32 (12, 3)");
    t->dtype = ST_I32, t->shape[1] = H;
    check_refused(&p, "tensor rnn.weight_hh_l1: found I32 (12, 3), expected F32 (12, 3)");
    st_close(&p.file);

    parts_take(&p, in_folder("good"));
    t = parts_tensor(&p, "rnn.weight_ih_l0");
    memcpy(bad, t->data, sizeof bad);
    bad[35] = NAN;
    t->data = bad;
    check_refused(&p, "tensor rnn.weight_ih_l0: element 35 is not a number");
    bad[0] = -INFINITY;
    check_refused(&p, "tensor rnn.weight_ih_l0: element 0 is infinite");
    st_close(&p.file);

    parts_take(&p, in_folder("good"));
    p.n_tensors -= 1;
    check_refused(&p, "tensor state.c is missing, expected F32 (2, 2, 3)");
    p.n_tensors -= 1;
    check_refused(&p, "tensor state.h is missing, expected F32 (2, 2, 3)");
    st_close(&p.file);

    parts_take(&p, in_folder("good"));
    parts_set(&p, "minibatch", "0");
    parts_set(&p, "tokens", "0");
    check_refused(&p, "13 tensors, but a checkpoint of 2 layers saved at an epoch's end has 11");
    st_close(&p.file);

    parts_take(&p, in_folder("good"));
    p.tensors[p.n_tensors] = p.tensors[0];
    p.tensors[p.n_tensors++].name = "momentum";
    check_refused(&p, "14 tensors, but a checkpoint of 2 layers saved inside an epoch has 13");
    st_close(&p.file);
}

/* Any truncation, and any change of a single byte of the header, is refused or gives a valid file,
 * never a crash. */
static void test_damaged(void **state)
{
    Fixture *x = *state;
    size_t n;
    Error e = {0};
    save(x, in_folder("good"));
    char *bytes = get_file(in_folder("good"), &n);
    uint64_t header;
    memcpy(&header, bytes, 8);
    int accepted = 0, refused = 0;
    char *copy = malloc(n);
    for (size_t at = 0; at < 8 + header; at++)
        for (int bit = 0; bit < 8; bit += 3) {
            Checkpoint c;
            memcpy(copy, bytes, n);
            copy[at] ^= (char)(1 << bit);
            int code = checkpoint_parse(&c, copy, n, "damaged", &e);
            assert_true(code == EXIT_DONE || code == EXIT_BAD_DATA);
            if (code) check_sentence(&e, "damaged"), refused++;
            else checkpoint_close(&c), accepted++;
        }
    for (size_t cut = 0; cut < n; cut += 7) {
        Checkpoint c;
        char *prefix = malloc(cut + !cut);
        memcpy(prefix, bytes, cut);
        assert_int_equal(checkpoint_parse(&c, prefix, cut, "damaged", &e), EXIT_BAD_DATA);
        free(prefix);
    }
    print_message("one bit of the header flipped: %d refused, %d still sound\n", refused, accepted);
    assert_true(refused > accepted);
    free(copy);
    free(bytes);
}

/* ---- --init-weights ---- */

static void check_weights(Fixture *x, const char *path, const char *says)
{
    Params into;
    Error e = {0};
    assert_int_equal(params_init(&into, &x->params.shape), 0);
    memset(into.data, 0, sizeof *into.data * (size_t)into.offset[into.count]);
    char note[WEIGHTS_NOTE];
    int code = weights_read(&into, "lm", &x->corpus.vocab, path, note, &e);
    if (says) {
        assert_int_equal(code, EXIT_BAD_DATA);
        check_sentence(&e, says);
        check_sentence(&e, path);
    } else {
        if (code) fail_msg("%s", e.text);
        assert_memory_equal(into.data, x->params.data,
                            sizeof *into.data * (size_t)into.offset[into.count]);
    }
    params_free(&into);
}

static void test_init_weights(void **state)
{
    Fixture *x = *state;
    Parts p;
    Error e = {0};
    const char *path = in_folder("weights.safetensors");
    save(x, in_folder("good"));
    check_weights(x, in_folder("good"), NULL); /* our own checkpoint, with its state */

    parts_take(&p, in_folder("good"));
    for (int i = 0; i < p.n_tensors / 2; i++) { /* in reverse order, without metadata */
        StTensor t = p.tensors[i];
        p.tensors[i] = p.tensors[p.n_tensors - 1 - i];
        p.tensors[p.n_tensors - 1 - i] = t;
    }
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    check_weights(x, path, NULL);
    static const char odd[3] = "odd";
    memmove(p.tensors + 1, p.tensors, sizeof *p.tensors * (size_t)p.n_tensors++);
    p.tensors[0] =
        (StTensor){.name = "odd", .dtype = ST_U8, .rank = 1, .shape = {3}, .data = odd, .bytes = 3};
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    /* The odd tensor comes first, so all floats are misaligned. */
    check_weights(x, path, "tensor odd has no place in this model of 2 layers");

    parts_tensor(&p, "rnn.bias_hh_l1")->name = "bias";
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    check_weights(x, path,
                  "tensor rnn.bias_hh_l1 is missing, expected F32 (12); the file holds odd, "
                  "state.c, state.h");
    parts_tensor(&p, "bias")->name = "rnn.bias_hh_l1";
    StTensor *t = parts_tensor(&p, "decoder.weight");
    t->shape[0] = 3, t->shape[1] = 5;
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    check_weights(x, path, "tensor decoder.weight: found F32 (3, 5), expected F32 (5, 3)");
    t->shape[0] = 5, t->shape[1] = 3, t->dtype = ST_U32;
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    check_weights(x, path,
                  "tensor decoder.weight: found U32 (5, 3), expected F32 (5, 3) or F64, F16, BF16");
    float bad[V * H] = {0};
    bad[2] = INFINITY;
    t->dtype = ST_F32, t->data = bad;
    assert_int_equal(st_write(path, p.tensors, p.n_tensors, NULL, 0, &e), EXIT_DONE);
    check_weights(x, path, "tensor decoder.weight: element 2 is infinite");
    assert_int_equal(st_write(path, NULL, 0, NULL, 0, &e), EXIT_DONE);
    check_weights(
        x, path, "tensor encoder.weight is missing, expected F32 (5, 3); the file holds no tensor");
    check_weights(x, in_folder("absent"), "No such file");
    st_close(&p.file);
}

/* ---- plstm info ---- */

static char *info_of(const char *path, int wanted, Error *e)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    assert_int_equal(info_command(path, out, e), wanted);
    fclose(out);
    return text;
}

static void check_in(const char *text, const char *wanted)
{
    if (!strstr(text, wanted)) fail_msg("expected '%s' in:\n%s", wanted, text);
}

static void test_info(void **state)
{
    Fixture *x = *state;
    Error e = {0};
    save(x, in_folder("mine"));
    char *text = info_of(in_folder("mine"), EXIT_DONE, &e);
    check_in(text, "V 5, H 3, L 2");
    check_in(text, "saved inside epoch 2, after 3 of its minibatches (17 in total)");
    check_in(text, "vocabulary: 5 types");
    check_in(text, "the <eos> caf\xc3\xa9 50%");
    check_in(text, "dropout-sites    nonrecurrent");
    check_in(text, "rnn.weight_hh_l1");
    check_in(text, "F32 (12, 3)");
    free(text);

    at_epochs_end(x);
    x->counters.best_valid = log(120.7);
    save(x, in_folder("mine"));
    text = info_of(in_folder("mine"), EXIT_DONE, &e);
    check_in(text, "saved at the end of epoch 1 (17 minibatches in total)");
    check_in(text, "120.700");
    free(text);

    static const float one = 1;
    const StTensor t = {
        .name = "evil\x1b[2J\n", .dtype = ST_F32, .rank = 0, .data = &one, .bytes = 4};
    char value[500];
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = 0;
    const StMeta meta[] = {{"key\n", "\x1b]0;title\x07\xc2\x9b\xc2\xa0"}, {"long", value}};
    assert_int_equal(st_write(in_folder("foreign"), &t, 1, meta, 2, &e), EXIT_DONE);
    text = info_of(in_folder("foreign"), EXIT_DONE, &e);
    check_in(text, "evil?[2J?");
    check_in(text, "key? = ?]0;title??\xc2\xa0\n");
    check_in(text, "vvv... (499 bytes)");
    check_in(text, "F32 ()");
    assert_null(strchr(text, '\x1b'));
    free(text);

    /* A file that claims to be a checkpoint but is malformed is shown like any file, with the
     * fault. */
    const StMeta claim = {"plstm", "1"};
    assert_int_equal(st_write(in_folder("claim"), &t, 1, &claim, 1, &e), EXIT_DONE);
    text = info_of(in_folder("claim"), EXIT_BAD_DATA, &e);
    check_sentence(&e, "lacks 'preset'");
    check_in(text, "plstm = 1");
    check_in(text, "evil");
    free(text);

    text = info_of(in_folder("absent"), EXIT_BAD_DATA, &e);
    assert_string_equal(text, "");
    check_sentence(&e, "No such file");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_every_setting, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_counters, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_same_bytes, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_extra, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_bad_metadata, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_diverged, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_bad_tensors, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_damaged, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_init_weights, fixture_make, fixture_free),
        cmocka_unit_test_setup_teardown(test_info, fixture_make, fixture_free),
    };
    return cmocka_run_group_tests(tests, NULL, folder_remove);
}
