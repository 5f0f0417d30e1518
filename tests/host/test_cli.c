/* Tests the program from the shell: exit codes, one sentence per fault, paths that cannot be
 * written, a full disk, signals, divergence, and the options that --resume accepts. */
#include "tests/support/program.h"

#include <jansson.h>

/* A model of 2310 weights. Its 9 minibatches per epoch of the built-in corpus take a few
 * milliseconds. */
#define TINY "train --data synthetic --hidden 8 --layers 1 --batch 200 --seq 20 --threads 1 --quiet"

/* ---- faults with exit code 2, 3 or 4: the line, the code, phrases of the sentence ---- */

static const struct Fault {
    const char *line;
    int code;
    const char *phrase[3];
} faults[] = {
    {"", 2, {"a command is missing", "train", "plstm --help"}},
    {"trian", 2, {"'trian' is not a command"}},
    {"plans", 2, {"'plans' is not a command"}},
    {"--hel", 2, {"'--hel'"}},
    {"--version train", 2, {"unexpected argument 'train'"}},
    {"train", 2, {"--data is required; it takes", "synthetic", "see plstm train --help"}},
    {"train --keep 0", 2, {"--keep takes a number above 0 and at most 1, not '0'"}},
    {"train --keep nan", 2, {"--keep takes"}},
    /* The sentence names the upper bound, too. */
    {"train --lr 1e31", 2, {"--lr takes a number from 0 to 1e30, not '1e31'"}},
    {"train --clip 1e31", 2, {"--clip takes a number above 0 and at most 1e30, not '1e31'"}},
    {"train --decay 1e31", 2, {"--decay takes a number above 0 and at most 1e30, not '1e31'"}},
    {"train --save-every 1e10", 2, {"a number of minutes above 0 and at most 1e9, not '1e10'"}},
    {"train --log-every 1000000001", 2, {"--log-every takes a whole number from 1 to 1e9, not"}},
    {"train --max-steps 1000000000000001", 2, {"--max-steps takes a whole number from 0 to 1e15"}},
    {"train --task=", 2, {"--task takes lm, translate, frames or caption, not ''"}},
    {"train --hidden -5", 2, {"--hidden takes a whole number from 1"}},
    {"train --hid 5", 2, {"--hid is not an option", "--hidden"}},
    {"train --data synthetic --resum x", 2, {"--resume"}},
    {"train --data synthetic extra", 2, {"'extra'"}},
    {"train --data synthetic --backend gpu", 2, {"--backend takes", "not 'gpu'"}},
    {"train --data synthetic --kernel reg", 2, {"--kernel takes auto", "'reg'"}},
    {"train --data synthetic --backend reference --precision bf16",
     2,
     {"takes --precision f32", "reference"}},
    {"train --data synthetic --save-every 5", 2, {"--save-every needs --save"}},
    {"train --data synthetic --save F --log-json F", 2, {"--save and --log-json"}},
    {"train --data synthetic --eval none --save-best F", 2, {"--save-best", "--eval valid or all"}},
    {"train --data synthetic --eval test --save-best F", 2, {"--save-best", "--eval valid or all"}},
    {"train --data synthetic --preset caption",
     2,
     {"--preset takes small", "a preset of --task caption"}},
    {"train --data no-such-folder", 3, {"no-such-folder"}},
    {"train --task caption --data synthetic", 3, {"task lm", "scenes for that of task caption"}},
    {"train --data scenes", 3, {"'scenes'", "task caption", "synthetic for that of task lm"}},
    {"train --task frames --data scenes", 3, {"task caption", "synthetic for that of task frames"}},
    {"train --task caption --data no-such", 3, {"the name scenes stands for the built-in data"}},
    {"data synthetic --task caption", 3, {"scenes for that of task caption"}},
    {"data synthetic --task frames --final-eos",
     2,
     {"--final-eos is not an option of --task frames"}},
    {"train --data synthetic --save no-such-folder/F",
     3,
     {"--save no-such-folder/F", "no-such-folder"}},
    {"train --data synthetic --save-best no-such-folder/F", 3, {"--save-best no-such-folder/F"}},
    {"train --data synthetic --log-json no-such-folder/F", 3, {"--log-json no-such-folder/F"}},
    {"train --data synthetic --save .", 3, {"--save .", "folder"}},
    {"train --data synthetic --log-json .", 3, {"--log-json .", "folder"}},
    /* These files do not exist yet, and two options name one path in two ways. */
    {"train --data synthetic --save no-F --log-json ./no-F",
     2,
     {"--save and --log-json must be different files"}},
    {"train --data synthetic --save no-F --log-json ./no-F.tmp", 2, {"first written to no-F.tmp"}},
    {"train --data synthetic --init-weights no-such-file", 3, {"no-such-file"}},
    {"train --resume no-such-file", 3, {"no-such-file"}},
    {"eval", 2, {"--weights is required; it takes a checkpoint", "see plstm eval --help"}},
    {"eval --weights F", 2, {"--data is required"}},
    {"eval --weights F --data synthetic --split train",
     2,
     {"--split takes valid or test, not 'train'"}},
    {"eval --weights no-such-file --data synthetic", 3, {"no-such-file"}},
    {"eval --weights F,,G --data synthetic", 2, {"--weights takes", "not 'F,,G'"}},
    {"eval --weights F --data synthetic --backend cuda", 4, {"cuda"}},
    {"eval --weights F --data synthetic --hidden 5",
     2,
     {"--hidden is not an option of plstm eval"}},
    {"eval --weights F,G,F --data synthetic",
     2,
     {"--weights takes each file once", "F is given twice"}},
    {"eval --weights F --weights F --data synthetic", 2, {"--weights takes each file once"}},
    {"translate --weights F,F", 2, {"--weights takes each file once"}},
    {"ensemble t.npy u.npy t.npy", 2, {"ensemble takes each file once", "t.npy is given twice"}},
    {"sample", 2, {"--weights is required"}},
    {"sample --weights no-such-file", 3, {"no-such-file"}},
    {"sample --weights F --temperature -1", 2, {"--temperature takes"}},
    {"sample --weights F --top-k 0", 2, {"--top-k takes a whole number from 1"}},
    {"dump", 2, {"--what is required; it takes masks, grads or init"}},
    {"dump --what weights", 2, {"--what takes", "'weights'"}},
    {"dump --what masks", 2, {"--out is required"}},
    {"dump --what grads --out F", 2, {"--data is required"}},
    {"dump --what masks --out no-such-folder/F", 3, {"--out no-such-folder/F"}},
    {"dump --what init --data synthetic --init-weights F --out G",
     2,
     {"--init-weights", "--what grads"}},
    {"info", 2, {"F is missing: plstm info takes a safetensors file"}},
    {"info -", 2, {"plstm info takes a safetensors file, not '-'"}},
    {"info no-such-file", 3, {"no-such-file"}},
    {"data", 2, {"DIR is missing: plstm data takes a folder"}},
    {"data no-such-folder", 3, {"no-such-folder"}},
    {"data a b", 2, {"'b'"}},
    {"plan --device K80", 2, {"--device takes K20, K40,", "all, not 'K80'"}},
    {"plan --device=", 2, {"--device takes K20, K40, V100,", "B200 or all, not ''"}},
    {"plan --kernel fast", 2, {"--kernel takes auto", "cublas, l2, smem, reg", "'fast'"}},
    {"plan --plan block=3", 2, {"--plan: ", "blocks=4,replicas=2", "'block=3'"}},
    {"plan --preset demo", 2, {"--preset takes small, medium, large or all, not 'demo'"}},
    {"plan --hidden 0", 2, {"--hidden takes a whole number from 1"}},
    {"plan --constants no-such-file", 3, {"plstm: no-such-file cannot be opened: No such file"}},
    {"plan --constants Makefile", 3, {"Makefile is not JSON: ", "(line 1)"}},
    {"plan --json=1", 2, {"--json takes no value"}},
    {"variants reg", 2, {"'reg'"}},
};

static void each_fault_is_one_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        Run run = plstm("%s", faults[i].line);
        if (run.code != faults[i].code)
            fail_msg("plstm %s: exit %d, not %d\n%s", faults[i].line, run.code, faults[i].code,
                     run.err);
        assert_string_equal(run.out, "");
        assert_one_line(run.err);
        assert_memory_equal(run.err, "plstm: ", 7);
        for (int k = 0; k < 3 && faults[i].phrase[k]; k++)
            assert_contains(run.err, faults[i].phrase[k]);
        run_free(&run);
    }
}

static void cuda_is_told_where_there_is_none(void **state)
{
    (void)state;
    Run run = plstm("train --data synthetic --backend cuda --max-steps 0 --eval none");
    if (run.code == 0) {
        print_message("this build has a cuda backend and this machine a GPU\n");
        run_free(&run);
        skip();
    }
    assert_int_equal(run.code, 4);
    assert_one_line(run.err);
    run_free(&run);
}

static void help_and_version(void **state)
{
    (void)state;
    static const char *const command[] = {"train", "eval", "sample", "dump",
                                          "info",  "data", "plan",   "variants"};
    Run all = plstm("--help");
    assert_int_equal(all.code, 0);
    assert_string_equal(all.err, "");
    for (size_t i = 0; i < sizeof command / sizeof command[0]; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "Usage: plstm %s [OPTION...]", command[i]);
        assert_contains(all.out, command[i]);
        Run one = plstm("%s --help", command[i]);
        assert_int_equal(one.code, 0);
        assert_string_equal(one.err, "");
        assert_contains(one.out, usage);
        assert_contains(one.out, "--quiet");
        run_free(&one);
    }
    run_free(&all);
    /* --help prints the help whatever the other arguments are. */
    Run late = plstm("train --hidden 3 --help --nonsense");
    assert_int_equal(late.code, 0);
    assert_contains(late.out, "--save-best=F");
    static const char *const data[] = {"train.txt", "train.SOURCE", "feats.scp", "dataset.json",
                                       "scenes"};
    for (int i = 0; i < 5; i++) assert_contains(late.out, data[i]);
    run_free(&late);
    Run given = plstm("sample --words 5 --help"); /* the default is the value without the option */
    assert_contains(given.out, "(default 100)");
    run_free(&given);
    Run version = plstm("--version");
    assert_int_equal(version.code, 0);
    assert_memory_equal(version.out, "plstm ", 6);
    run_free(&version);
}

/* A folder with another task's data is named as such, not as one that lacks a file. */
static void folders_of_other_tasks(void **state)
{
    (void)state;
    static const char *const task[] = {"lm", "translate", "frames", "caption"};
    char make[PATH_MAX + 300];
    snprintf(
        make, sizeof make,
        "cd %s && mkdir -p of-lm of-translate of-frames/train of-frames/test of-caption && echo a "
        ">of-lm/train.txt && "
        "touch of-translate/train.en of-translate/train.tr of-frames/train/feats.scp "
        "of-caption/dataset.json",
        in_folder("."));
    assert_int_equal(system(make), 0);
    for (int data = 0; data < 4; data++)
        for (int asked = 0; asked < 4; asked++) {
            char phrase[80];
            const char *sides = asked == 1 ? " --source en --target fr" : "";
            if (asked == data) continue;
            Run run = plstm("train --task %s%s --data %s/of-%s --max-steps 1", task[asked], sides,
                            in_folder("."), task[data]);
            snprintf(phrase, sizeof phrase, "looks like a folder of task %s, not %s", task[data],
                     task[asked]);
            assert_int_equal(run.code, 3);
            assert_one_line(run.err);
            assert_contains(run.err, phrase);
            run_free(&run);
        }
}

/* --save-best saves at the ends of epochs, so a run that ends in its first epoch prints that
 * nothing was saved. */
static void a_best_that_is_not_saved(void **state)
{
    (void)state;
    static const char line[] = "train --data synthetic --hidden 8 --layers 1 --batch 200 --seq 20 "
                               "--threads 1 --eval valid "
                               "--max-steps %d --save-best %s";
    const char *best = in_folder("never.best");
    Run run = plstm(line, 3, best);
    assert_int_equal(run.code, 0);
    assert_contains(run.err, "never.best is not written: the run ends before the first epoch does");
    assert_int_not_equal(access(best, F_OK), 0);
    run_free(&run);
    run = plstm(line, 9, best);
    assert_int_equal(run.code, 0);
    assert_null(strstr(run.err, "is not written"));
    assert_int_equal(access(best, F_OK), 0);
    run_free(&run);
}

/* If the output could not be written, the run is not a success. */
static void standard_output_that_is_full(void **state)
{
    (void)state;
    char *words[] = {"--help", NULL}, link[PATH_MAX];
    snprintf(link, sizeof link, "%s", in_folder("out"));
    unlink(link);
    assert_int_equal(symlink("/dev/full", link), 0);
    pid_t pid = program_start(words, 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    unlink(link);
    assert_int_equal(WEXITSTATUS(status), 1);
    char *err = file_read(in_folder("err"), NULL);
    assert_contains(err, "standard output");
    free(err);
}

/* ---- the log ---- */

static json_t *read_line(const char *line, size_t n)
{
    json_error_t error;
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
    if (!object) fail_msg("not JSON (%s): %.*s", error.text, (int)n, line);
    assert_true(json_is_object(object));
    return object;
}

/* Returns the log's objects in an array. */
static json_t *read_log(const char *path)
{
    char *text = file_read(path, NULL);
    json_t *all = json_array();
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        json_array_append_new(all, read_line(line, (size_t)(end - line)));
    if (text[0]) assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
    return all;
}

static const char *event_of(const json_t *line)
{
    return json_string_value(json_object_get(line, "event"));
}

static int count_events(const json_t *log, const char *event)
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(log); i++)
        n += !strcmp(event_of(json_array_get(log, i)), event);
    return n;
}

static const json_t *last_event(const json_t *log, const char *event)
{
    for (size_t i = json_array_size(log); i-- > 0;)
        if (!strcmp(event_of(json_array_get(log, i)), event)) return json_array_get(log, i);
    fail_msg("no '%s' in the log", event);
    return NULL;
}

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    if (!json_is_number(value)) fail_msg("'%s' is no number", key);
    return json_number_value(value);
}

static void the_log_has_what_the_contract_says(void **state)
{
    (void)state;
    const char *path = in_folder("full.jsonl");
    plstm_expect(0, TINY " --epochs 2 --seed 18446744073709551615 --log-json %s --log-every 2",
                 path);
    json_t *log = read_log(path);
    const json_t *run = json_array_get(log, 0);
    assert_string_equal(event_of(run), "run");
    static const char *const keys[] = {
        "version",    "commit",     "preset",   "hidden",        "layers",  "batch",
        "seq",        "keep",       "init",     "clip",          "lr",      "epochs",
        "hold",       "decay",      "seed",     "dropout_sites", "kernel",  "backend",
        "precision",  "eval",       "protocol", "max_steps",     "threads", "log_every",
        "save_every", "device",     "corpus",   "corpus_sha256", "V",       "tokens",
        "unknown",    "parameters", "windows",  "bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!json_object_get(run, keys[i])) fail_msg("the run line lacks '%s'", keys[i]);
    assert_string_equal(json_string_value(json_object_get(run, "seed")), "18446744073709551615");
    assert_string_equal(json_string_value(json_object_get(run, "backend")), "cpu");
    assert_true(json_is_null(json_object_get(run, "max_steps")));
    assert_int_equal(number(run, "V"), 102);
    assert_int_equal(number(json_object_get(run, "tokens"), "test"), 30000);

    assert_int_equal(count_events(log, "step"), 9); /* 18 minibatches, every second one */
    assert_int_equal(count_events(log, "epoch"), 2);
    assert_int_equal(count_events(log, "valid"), 0); /* the epoch's line has these scores */
    assert_int_equal(count_events(log, "test"), 1);
    assert_int_equal(json_array_size(log), 13);
    const json_t *step = json_array_get(log, 2);
    assert_int_equal(number(step, "step"), 2);
    assert_int_equal(number(step, "epoch"), 1);
    assert_int_equal(number(step, "tokens"), 4000);
    assert_float_equal(number(step, "loss") * 200, number(step, "nats"),
                       1e-9 * number(step, "nats"));
    assert_true(number(step, "grad_norm") > 0 && number(step, "lr") == 1 &&
                number(step, "words_per_s") > 0);
    const json_t *epoch = last_event(log, "epoch");
    assert_int_equal(number(epoch, "epoch"), 2);
    assert_true(number(epoch, "train_ppl") > number(epoch, "valid_ppl_paper"));
    assert_true(number(epoch, "valid_ppl") > number(epoch, "valid_ppl_paper"));
    assert_true(number(epoch, "seconds") > 0 && number(epoch, "lr") == 1);
    const json_t *test = last_event(log, "test");
    assert_string_equal(json_string_value(json_object_get(test, "protocol")), "zaremba");
    assert_int_equal(number(test, "tokens"), 29999);
    assert_true(number(test, "best_ppl") < number(test, "test_ppl"));
    const json_t *classes = json_object_get(test, "classes");
    double words = 0;
    static const char *const class[] = {"content", "after_short", "after_long", "filler"};
    for (int i = 0; i < 4; i++) {
        const json_t *one = json_object_get(classes, class[i]);
        words += number(one, "tokens");
        assert_true(number(one, "ppl") > 1 && number(one, "best_ppl") > 1);
    }
    assert_int_equal((int)words, 29999);
    json_decref(log);
}

/* The order of keys is part of the format, so that people can read a line and diff can compare
 * logs. */
static void keys_have_an_order(void **state)
{
    (void)state;
    const char *path = in_folder("order.jsonl");
    plstm_expect(0, TINY " --epochs 1 --log-json %s", path);
    char *text = file_read(path, NULL);
    assert_memory_equal(text, "{\"event\":\"run\",\"version\":", 25);
    static const char *const order[] = {
        "\n{\"event\":\"step\",\"step\":0,\"epoch\":1,\"loss\":", ",\"nats\":", ",\"tokens\":4000,",
        "\"grad_norm\":", ",\"lr\":1,\"words_per_s\":"};
    const char *at = text;
    for (int i = 0; i < 5; i++) {
        at = strstr(at, order[i]);
        if (!at) fail_msg("'%s' is not where it should be", order[i]);
    }
    assert_non_null(strstr(text, "\n{\"event\":\"epoch\",\"epoch\":1,\"train_ppl\":"));
    assert_non_null(strstr(text, "\n{\"event\":\"test\",\"test_ppl\":"));
    free(text);
}

static void unscored_is_null(void **state)
{
    (void)state;
    const char *path = in_folder("null.jsonl");
    plstm_expect(0, TINY " --epochs 1 --eval none --log-json %s", path);
    json_t *log = read_log(path);
    const json_t *epoch = last_event(log, "epoch");
    assert_true(json_is_null(json_object_get(epoch, "valid_ppl")));
    assert_true(json_is_null(json_object_get(epoch, "valid_ppl_paper")));
    assert_int_equal(count_events(log, "test"), 0);
    json_decref(log);

    /* --protocol sequential has no perplexity as the paper counts, which belongs to the other
     * protocol. */
    plstm_expect(0, TINY " --max-steps 3 --protocol sequential --log-json %s", path);
    log = read_log(path);
    assert_int_equal(count_events(log, "epoch"), 0);
    const json_t *valid = last_event(log, "valid");
    assert_true(json_is_null(json_object_get(valid, "valid_ppl_paper")));
    assert_string_equal(json_string_value(json_object_get(valid, "protocol")), "sequential");
    assert_int_equal(number(valid, "tokens"), 14999);
    json_decref(log);
}

static void nothing_is_trained(void **state)
{
    (void)state;
    const char *path = in_folder("zero.st"), *log_path = in_folder("zero.jsonl"),
               *drawn = in_folder("drawn.st");
    plstm_expect(0, TINY " --max-steps 0 --eval none --save %s --log-json %s", path, log_path);
    json_t *log = read_log(log_path);
    assert_int_equal(json_array_size(log), 1);
    json_decref(log);
    /* The weights are the drawn ones, so the data after the two files' headers is equal. */
    plstm_expect(0, "dump --what init --data synthetic --hidden 8 --layers 1 --out %s", drawn);
    size_t n, m, weights = 4 * (2 * 102 * 8 + 102 + 2 * 32 * 8 + 2 * 32);
    char *a = file_read(path, &n), *b = file_read(drawn, &m);
    assert_true(n > weights && m > weights);
    assert_memory_equal(a + n - weights, b + m - weights, weights);
    free(a);
    free(b);
}

static void a_finished_run_has_nothing_left(void **state)
{
    (void)state;
    const char *path = in_folder("done.st");
    static const char again[] = "train --resume %s --save %s --max-steps %d --threads 1 --quiet";
    plstm_expect(0, TINY " --max-steps 3 --eval none --save %s", path);
    for (int steps = 2; steps <= 4; steps++) {
        Run run = plstm(again, path, path, steps);
        assert_int_equal(run.code, 0);
        const char *sentence = steps == 2
                                   ? "nothing left to train: 3 minibatches are done, and the "
                                     "run ends after 2\n"
                                   : "nothing left to train: 3 of 3 minibatches are done\n";
        assert_true(!strstr(run.out, sentence) == (steps == 4));
        assert_true(!strstr(run.out, "\nepoch ") == (steps < 4));
        run_free(&run);
    }
    /* A resumed run whose epochs are all complete prints no table. */
    plstm_expect(0, TINY " --epochs 1 --eval none --save %s", path);
    Run run = plstm("train --resume %s --save %s --threads 1 --quiet", path, path);
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "nothing left to train: 9 of 9 minibatches are done\n");
    assert_null(strstr(run.out, "\nepoch "));
    run_free(&run);
}

static void help_lists_the_tasks_once(void **state)
{
    (void)state;
    Run run = plstm("train --help");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "what the network is trained for: lm, translate,");
    assert_null(strstr(run.out, "caption: lm"));
    run_free(&run);
}

/* ---- a disk that is full ---- */

static void a_full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    const char *path = in_folder("kept.st"), *copy = in_folder("copy.st");
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", path);
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", copy);
    assert_files_equal(path, copy);
    char line[512], *words[MAX_WORDS];
    snprintf(line, sizeof line, TINY " --max-steps 3 --eval none --save %s", path);
    line_cut(line, words);
    Run run = program_finish(program_start(words, 4096)); /* a checkpoint of this model has 13 KB */
    assert_int_equal(run.code, 3);
    assert_one_line(run.err);
    assert_contains(run.err, path);
    run_free(&run);
    assert_files_equal(path, copy);
    assert_int_equal(files_named("kept.st"), 1); /* no temporary file remains */
}

static void a_full_disk_leaves_whole_lines(void **state)
{
    (void)state;
    const char *path = in_folder("short.jsonl");
    char line[512], *words[MAX_WORDS];
    snprintf(line, sizeof line, TINY " --epochs 2 --eval none --log-json %s", path);
    line_cut(line, words);
    Run run = program_finish(program_start(words, 2000));
    assert_int_equal(run.code, 3);
    assert_one_line(run.err);
    assert_contains(run.err, "--log-json");
    run_free(&run);
    json_t *log = read_log(path);
    assert_true(json_array_size(log) > 1);
    json_decref(log);

    run = plstm(TINY " --epochs 1 --eval none --log-json /dev/full");
    assert_int_equal(run.code, 3);
    assert_contains(run.err, "--log-json /dev/full");
    run_free(&run);
}

static void an_old_log_outlives_a_refused_run(void **state)
{
    (void)state;
    const char *path = in_folder("old.jsonl");
    file_write(path, "something of mine\n");
    plstm_expect(3, TINY " --log-json %s --save no-such-folder/F", path);
    plstm_expect(3, "train --data no-such-folder --log-json %s", path);
    plstm_expect(2, "train --log-json %s", path);
    char *text = file_read(path, NULL);
    assert_string_equal(text, "something of mine\n");
    free(text);
}

/* A log never overwrites a checkpoint. */
static void a_log_is_not_a_checkpoint(void **state)
{
    (void)state;
    const char *path = in_folder("weights.st"), *copy = in_folder("weights-copy.st"),
               *name = in_folder("same-file");
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", path);
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", copy);
    assert_int_equal(link(path, name), 0);
    plstm_expect(2, TINY " --init-weights %s --log-json %s", path, path);
    plstm_expect(2, TINY " --init-weights %s --log-json %s", path, name);
    plstm_expect(2, "train --resume %s --log-json %s", path, path);
    plstm_expect(2, TINY " --save %s --log-json %s", path, name);
    plstm_expect(2, "eval --weights %s --data synthetic --log-json %s", path, path);
    plstm_expect(2, "eval --weights %s,%s --data synthetic --log-json %s", copy, path, name);
    assert_files_equal(path, copy);
    plstm_expect(0, "train --resume %s --save %s --max-steps 2 --eval none --threads 1 --quiet",
                 path, path);
}

/* ---- divergence ---- */

static void divergence_saves_nothing(void **state)
{
    (void)state;
    const char *path = in_folder("good.st"), *copy = in_folder("good-copy.st"),
               *log_path = in_folder("bad.jsonl");
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", path);
    plstm_expect(0, TINY " --max-steps 1 --eval none --save %s", copy);
    Run run =
        plstm(TINY " --epochs 5 --lr 1e30 --clip 1e30 --save %s --log-json %s", path, log_path);
    assert_int_equal(run.code, 5);
    assert_one_line(run.err);
    assert_contains(run.err, "diverged");
    assert_contains(run.err, "step");
    run_free(&run);
    assert_files_equal(path, copy);
    json_t *log = read_log(log_path); /* a value that is not finite is null, so the line is JSON */
    assert_true(count_events(log, "step") >= 1);
    json_decref(log);
}

/* ---- signals ---- */

static pid_t start_long_run(const char *more)
{
    char line[16384], *words[MAX_WORDS];
    snprintf(
        line, sizeof line,
        "train --data synthetic --hidden 8 --layers 1 --batch 20 --seq 20 --threads 1 --eval none "
        "--epochs 1000000 %s",
        more);
    line_cut(line, words);
    return program_start(words, 0);
}

static void a_signal_leaves_a_checkpoint(void **state)
{
    (void)state;
    const int signals[] = {SIGINT, SIGTERM}, code[] = {130, 143};
    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX], log_path[PATH_MAX], more[3 * PATH_MAX];
        snprintf(path, sizeof path, "%s", in_folder("signal.st"));
        snprintf(log_path, sizeof log_path, "%s", in_folder("signal.jsonl"));
        unlink(path);
        unlink(log_path);
        snprintf(more, sizeof more, "--save %s --log-json %s", path, log_path);
        pid_t pid = start_long_run(more);
        wait_for_lines(log_path, 10);
        kill(pid, signals[i]);
        Run run = program_finish(pid);
        assert_int_equal(run.code, code[i]);
        assert_contains(run.err, i ? "SIGTERM" : "SIGINT");
        assert_contains(run.err, "--resume");
        run_free(&run);
        json_t *log = read_log(log_path);
        int done = count_events(log, "step");
        assert_true(done > 5);
        json_decref(log);

        /* The resumed run continues from exactly that step. */
        plstm_expect(0,
                     "train --resume %s --save %s --log-json %s --max-steps %d --threads 1 --quiet",
                     path, path, log_path, done + 3);
        log = read_log(log_path);
        assert_int_equal(count_events(log, "run"), 1);
        assert_int_equal(count_events(log, "step"), done + 3);
        for (size_t k = 1, step = 0; k < json_array_size(log); k++)
            if (!strcmp(event_of(json_array_get(log, k)), "step"))
                assert_int_equal(number(json_array_get(log, k), "step"), step++);
        json_decref(log);
    }
}

static void a_signal_without_save(void **state)
{
    (void)state;
    char log_path[PATH_MAX], more[2 * PATH_MAX];
    snprintf(log_path, sizeof log_path, "%s", in_folder("unsaved.jsonl"));
    snprintf(more, sizeof more, "--quiet --log-json %s", log_path);
    pid_t pid = start_long_run(more);
    wait_for_lines(log_path, 10);
    kill(pid, SIGINT);
    Run run = program_finish(pid);
    assert_int_equal(run.code, 130);
    assert_string_equal(run.err, ""); /* because of --quiet */
    run_free(&run);
}

/* A step of this model takes most of a second in the reference backend; the second signal ends the
 * run without waiting for it, and nothing is saved. */
static void a_second_signal_ends_at_once(void **state)
{
    (void)state;
    const char *path = in_folder("second.st"), *log_path = in_folder("second.jsonl");
    char line[1024], *words[MAX_WORDS];
    snprintf(
        line, sizeof line,
        "train --data synthetic --backend reference --hidden 200 --layers 1 --eval none --save %s "
        "--log-json %s --quiet",
        path, log_path);
    line_cut(line, words);
    pid_t pid = program_start(words, 0);
    wait_for_lines(log_path, 2); /* the run line and that of step 0 */
    sleep_ms(100);               /* well inside step 1 */
    kill(pid, SIGINT);
    sleep_ms(50);
    kill(pid, SIGINT);
    Run run = program_finish(pid);
    assert_int_equal(run.code, 130);
    run_free(&run);
    assert_false(file_exists(path));
    json_t *log = read_log(log_path);
    assert_int_equal(count_events(log, "step"), 1);
    json_decref(log);
}

/* ---- resume ---- */

/* Returns the log without the values that differ between equal runs: speed, seconds. */
static char *comparable_log(const char *path)
{
    json_t *log = read_log(path), *line;
    size_t i;
    json_array_foreach(log, i, line)
    {
        json_object_del(line, "words_per_s");
        json_object_del(line, "seconds");
    }
    char *text = json_dumps(log, JSON_REAL_PRECISION(17));
    json_decref(log);
    return text;
}

static void assert_logs_equal(const char *a, const char *b)
{
    char *x = comparable_log(a), *y = comparable_log(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* A run that is stopped inside an epoch, at the end of an epoch, or twice has the file and the log
 * of an uninterrupted one. */
static void a_resumed_run_is_the_same_run(void **state)
{
    (void)state;
    static const int stops[][3] = {{4, 0, 0}, {9, 0, 0}, {5, 14, 0}, {18, 22, 0}};
    const char *whole = in_folder("whole.st"), *whole_log = in_folder("whole.jsonl");
    const char *part = in_folder("part.st"), *part_log = in_folder("part.jsonl");
    plstm_expect(0, TINY " --keep 0.7 --hold 0 --epochs 3 --save %s --log-json %s", whole,
                 whole_log);
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        unlink(part);
        unlink(part_log);
        plstm_expect(0,
                     TINY " --keep 0.7 --hold 0 --epochs 3 --max-steps %d --save %s --log-json %s",
                     stops[i][0], part, part_log);
        for (int k = 1; stops[i][k]; k++)
            plstm_expect(
                0, "train --resume %s --max-steps %d --save %s --log-json %s --threads 1 --quiet",
                part, stops[i][k], part, part_log);
        plstm_expect(0, "train --resume %s --save %s --log-json %s --threads 1 --quiet", part, part,
                     part_log);
        assert_files_equal(whole, part);
        assert_logs_equal(whole_log, part_log);
    }
}

static const struct Fault conflicts[] = {
    {"--hidden 9", 2, {"--hidden takes 8 with --resume", "'9'"}},
    {"--layers 2", 2, {"--layers takes 1"}},
    {"--batch 100", 2, {"--batch takes 200"}},
    {"--seq 10", 2, {"--seq takes 20"}},
    {"--keep 0.9", 2, {"--keep takes 1"}},
    {"--init 0.2", 2, {"--init takes 0.1"}},
    {"--clip 4", 2, {"--clip takes 5"}},
    {"--lr 0.5", 2, {"--lr takes 1"}},
    {"--hold 5", 2, {"--hold takes 4"}},
    {"--decay 3", 2, {"--decay takes 2"}},
    {"--seed 2", 2, {"--seed takes 1"}},
    {"--dropout-sites all", 2, {"--dropout-sites takes nonrecurrent"}},
    {"--preset medium", 2, {"--preset medium", "hidden 650", "trained with 8"}},
    {"--preset small", 2, {"--preset small", "hidden 200"}},
    {"--init-weights F", 2, {"--init-weights", "--resume"}},
    {"--data no-such-folder", 3, {"no-such-folder"}},
    {"--eval none --save-best F", 2, {"--save-best"}},
};

static void what_resume_refuses(void **state)
{
    (void)state;
    const char *path = in_folder("resume.st");
    plstm_expect(0, TINY " --max-steps 2 --eval none --save %s", path);
    for (size_t i = 0; i < sizeof conflicts / sizeof conflicts[0]; i++) {
        Run run = plstm("train --resume %s %s", path, conflicts[i].line);
        if (run.code != conflicts[i].code)
            fail_msg("--resume %s: exit %d\n%s", conflicts[i].line, run.code, run.err);
        assert_one_line(run.err);
        for (int k = 0; k < 3 && conflicts[i].phrase[k]; k++)
            assert_contains(run.err, conflicts[i].phrase[k]);
        run_free(&run);
    }
}

static void what_resume_takes(void **state)
{
    (void)state;
    const char *path = in_folder("anew.st"), *log_path = in_folder("anew.jsonl");
    plstm_expect(0, TINY " --max-steps 2 --eval none --epochs 1 --save %s", path);
    /* An option with the recorded value is no conflict; epochs, backend, eval, protocol and threads
     * may change. */
    plstm_expect(
        0,
        "train --resume %s --hidden 8 --seed 1 --keep 1.0 --threads 2 --backend reference --epochs "
        "2 --eval test --protocol "
        "sequential --max-steps 3 --log-every 1 --log-json %s --quiet",
        path, log_path);
    json_t *log = read_log(log_path);
    const json_t *run = json_array_get(log, 0);
    assert_int_equal(number(run, "epochs"), 2);
    assert_string_equal(json_string_value(json_object_get(run, "backend")), "reference");
    assert_string_equal(json_string_value(json_object_get(run, "eval")), "test");
    assert_int_equal(count_events(log, "step"), 1);
    assert_int_equal(count_events(log, "test"), 1);
    assert_int_equal(count_events(log, "valid"), 0);
    json_decref(log);
}

/* ---- a folder of text ---- */

static void write_corpus(const char *name, const char *train, const char *valid, const char *test)
{
    char path[PATH_MAX];
    const char *const split[] = {"train", "valid", "test"}, *const text[] = {train, valid, test};
    snprintf(path, sizeof path, "%s", in_folder(name));
    mkdir(path, 0700);
    for (int i = 0; i < 3; i++) {
        char file[PATH_MAX + 16];
        snprintf(file, sizeof file, "%s/%s.txt", path, split[i]);
        file_write(file, text[i]);
    }
}

#define SOME "a b c a b c a b d\na b c d\n"

static void resume_knows_its_corpus(void **state)
{
    (void)state;
    write_corpus("text", SOME SOME SOME, SOME, SOME);
    write_corpus("other", SOME SOME SOME, SOME, SOME SOME);
    write_corpus("renamed",
                 "x b c x b c x b d\nx b c d\n"
                 "x b c x b c x b d\nx b c d\n"
                 "x b c x b c x b d\nx b c d\n",
                 "x b c x b c x b d\nx b c d\n", "x b c x b c x b d\nx b c d\n");
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%s", in_folder("text"));
    const char *path = in_folder("text.st");
    plstm_expect(0,
                 "train --data %s --hidden 4 --layers 1 --batch 2 --seq 4 --max-steps 2 --save %s "
                 "--threads 1 --quiet",
                 text, path);

    Run run = plstm("train --resume %s", path);
    assert_int_equal(run.code, 2);
    assert_contains(run.err, "--data is required");
    run_free(&run);
    const char *const wrong[] = {in_folder("other"), in_folder("renamed"), "synthetic"};
    for (int i = 0; i < 3; i++) {
        run = plstm("train --resume %s --data %s", path, wrong[i]);
        assert_int_equal(run.code, 2);
        assert_contains(run.err, wrong[i]);
        assert_contains(run.err, "is not the corpus");
        run_free(&run);
    }
    plstm_expect(0, "train --resume %s --data %s --max-steps 3 --threads 1 --quiet", path, text);

    /* A file that is not one of our logs is not changed. */
    const char *notes = in_folder("notes.txt");
    file_write(notes, "my notes\n");
    run =
        plstm("train --resume %s --data %s --max-steps 3 --log-json %s --quiet", path, text, notes);
    assert_int_equal(run.code, 3);
    assert_contains(run.err, notes);
    run_free(&run);
    char *kept = file_read(notes, NULL);
    assert_string_equal(kept, "my notes\n");
    free(kept);
}

/* ---- progress ---- */

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static void progress_and_quiet(void **state)
{
    (void)state;
    Run run = plstm(
        "train --data synthetic --hidden 8 --layers 1 --batch 20 --seq 20 --epochs 1 --threads 1 "
        "--eval none");
    assert_int_equal(run.code, 0);
    assert_int_equal(count_lines(run.err), 20); /* not on a terminal: one line per 5 % */
    assert_contains(run.err, "100 %");
    assert_contains(run.err, "words/s");
    assert_contains(run.err, "ETA");
    assert_contains(run.out, "parameters");
    assert_contains(run.out, "iB needed");
    run_free(&run);
    run = plstm(TINY " --epochs 1");
    assert_string_equal(run.err, "");
    assert_contains(run.out, "(zaremba)");
    assert_contains(run.out, "test perplexity");
    assert_contains(run.out, "best possible");
    run_free(&run);
}

static void demo_needs_no_data(void **state)
{
    (void)state;
    plstm_expect(0, "train --preset demo --hidden 8 --max-steps 1 --eval none --quiet --threads 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_is_one_sentence),
        cmocka_unit_test(cuda_is_told_where_there_is_none),
        cmocka_unit_test(help_and_version),
        cmocka_unit_test(folders_of_other_tasks),
        cmocka_unit_test(a_best_that_is_not_saved),
        cmocka_unit_test(standard_output_that_is_full),
        cmocka_unit_test(the_log_has_what_the_contract_says),
        cmocka_unit_test(keys_have_an_order),
        cmocka_unit_test(unscored_is_null),
        cmocka_unit_test(nothing_is_trained),
        cmocka_unit_test(a_finished_run_has_nothing_left),
        cmocka_unit_test(help_lists_the_tasks_once),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
        cmocka_unit_test(a_full_disk_leaves_whole_lines),
        cmocka_unit_test(an_old_log_outlives_a_refused_run),
        cmocka_unit_test(a_log_is_not_a_checkpoint),
        cmocka_unit_test(divergence_saves_nothing),
        cmocka_unit_test(a_signal_leaves_a_checkpoint),
        cmocka_unit_test(a_signal_without_save),
        cmocka_unit_test(a_second_signal_ends_at_once),
        cmocka_unit_test(a_resumed_run_is_the_same_run),
        cmocka_unit_test(what_resume_refuses),
        cmocka_unit_test(what_resume_takes),
        cmocka_unit_test(resume_knows_its_corpus),
        cmocka_unit_test(progress_and_quiet),
        cmocka_unit_test(demo_needs_no_data),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
