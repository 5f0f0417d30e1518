/* Makes every CUDA and cuBLAS call of a short run fail in turn. The run must end with exit status 1
 * or 4 and one sentence, no memory may stay allocated, and the old checkpoint, or a newer one, must
 * be complete. The emulator injects the faults, so these tests do not run on a real GPU. */
#include "tests/support/cuda_program.h"

#include <stdio.h>

#include "host/backend/backend_cuda.h"
#include "host/commands/commands.h"
#include "host/store/checkpoint.h"
#include "host/plan/device.h"
#include "host/data/source.h"
#include "host/train/trainer.h"

#ifdef CUDA_EMU

/* A second copy of the trainer, on a cuda backend in which a fault can be planted. */
static int find_planted(const char *name, const BackendOps **ops, Error *e);
#define backend_find find_planted
#define trainer_run  trainer_run_planted
#include "host/train/trainer.c"
#undef backend_find
#undef trainer_run

static TaskData *data;

/* The planted fault, and the training step before which it is planted, or AT_SCORE for the first
 * scored window. */
static BackendOps planted;
static enum Plant {
    RECORD,  /* the fault record of a kernel that has timed out */
    FORWARD, /* a block is missing in the forward pass */
    BACKWARD,
} plant;
enum { NEVER = -1, AT_SCORE = -2 };
static int64_t plant_at = NEVER;

/* Sets block 1's count far back, so that the other blocks wait for arrivals that never happen. */
static void set_back(const Backend *b, int which)
{
    const LstmPlan *plan = &cuda_recurrence(b)->plan[which];
    uint32_t late = 0u - 1000,
             *words =
                 (uint32_t *)((char *)cuda_scratch(b, which) + plan->scratch_bytes) - plan->blocks;
    assert_true(cuda_recurrence(b)->planned[which] && plan->replicas == 1 && plan->blocks > 1);
    assert_int_equal(cudaMemcpy(words + 1, &late, sizeof late, cudaMemcpyHostToDevice),
                     cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

static int window_begin_planted(Backend *b, const Window *w, bool *replayed, Error *e)
{
    FaultRecord fault = {.set = 1, .block = 1, .step = 2, .expected = 8, .seen = 7, .missing = {2}};
    /* The fault is planted once the steps before it have run. */
    if (w->train ? w->step == plant_at : plant_at == AT_SCORE) {
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        if (plant != RECORD) {
            set_back(b, plant == FORWARD ? PLAN_FORWARD : PLAN_BACKWARD);
        } else {
            assert_int_equal(
                cudaMemcpy(cuda_fault(b), &fault, sizeof fault, cudaMemcpyHostToDevice),
                cudaSuccess);
            assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        }
        plant_at = NEVER;
    }
    return backend_cuda.window_begin(b, w, replayed, e);
}

static int find_planted(const char *name, const BackendOps **ops, Error *e)
{
    (void)name, (void)e;
    planted = backend_cuda;
    planted.window_begin = window_begin_planted;
    *ops = &planted;
    return EXIT_DONE;
}

static int run_quietly(const Settings *s, const Checkpoint *resume, Error *e)
{
    fflush(stdout);
    int out = dup(1), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    e->code = 0, e->text[0] = 0;
    int code = trainer_run_planted(s, tasks[0], data, resume, true, e);
    fflush(stdout);
    dup2(out, 1);
    close(out), close(nowhere);
    return code;
}

static int set_up(void **state)
{
    Error e;
    Settings s;
    if (folder_make(state)) return -1;
    settings_defaults(&s);
    s.data = small_corpus();
    return tasks[0]->open(&(TaskOpen){.settings = &s}, &data, &e) ? -1 : 0;
}

static int tear_down(void **state)
{
    tasks[0]->close(data);
    return folder_remove(state);
}

static const char *kernel;

/* Runs seven minibatches: one epoch of four and a part of the second. The run scores valid and
 * saves after the first epoch and at its end, inside the second. */
static int short_run(const char *save, Error *e)
{
    Settings s;
    settings_defaults(&s);
    s.hidden = 3, s.layers = 1, s.batch = 4, s.seq = 6, s.keep = 0.5;
    s.epochs = 3, s.max_steps = 7, s.threads = 1, s.eval = EVAL_VALID;
    s.backend = "cuda", s.kernel = kernel, s.save = save;
    return run_quietly(&s, NULL, e);
}

static void check_end(unsigned long n, int code, const char *save, const Error *e)
{
    Error file;
    Checkpoint c;
    if (code != EXIT_FAILED && code != EXIT_NO_DEVICE)
        fail_msg("call %lu (%s) failed: exit %d: %s", n, emu_failed_call(), code, e->text);
    size_t length = strlen(e->text);
    if (length < 30 || strchr(e->text, '\n') || !strstr(e->text, ";"))
        fail_msg("call %lu: no sentence: '%s'", n, e->text);
    if (!strstr(e->text, " failed at host/") && !strstr(e->text, "no GPU can be used"))
        fail_msg("call %lu: '%s' does not say where", n, e->text);
    if (emu_live_bytes() || emu_live_objects())
        fail_msg("call %lu (%s) failed, and %zu bytes and %zu objects stay: %s", n,
                 emu_failed_call(), emu_live_bytes(), emu_live_objects(), e->text);
    if (checkpoint_open(&c, save, &file))
        fail_msg("call %lu (%s) failed, and %s", n, emu_failed_call(), file.text);
    checkpoint_close(&c);
    assert_int_equal(files_named(".tmp"), 0);
}

/* Repeats the short run, each time with a fault at another call: at every stride-th call of that
 * kind. Returns the number of runs that failed. */
static unsigned long each_call(enum emu_call kind, cudaError_t error, bool vanish,
                               unsigned long stride)
{
    const char *save = in_folder("run.st");
    kernel = "smem/reg";
    plant_at = NEVER;
    Error e;
    emu_reset(), emu_quiet(1);
    int code = short_run(save, &e);
    if (code) fail_msg("without a fault: %s", e.text);
    unsigned long calls = emu_calls(kind), failed = 0;
    for (unsigned long n = 1; n <= calls; n += stride) {
        emu_reset();
        if (vanish) emu_vanish_at(n);
        else emu_fail_call(kind, n, error);
        code = short_run(save, &e);
        if (code == EXIT_DONE && !emu_failed_call()[0])
            fail_msg("call %lu of %lu was not reached", n, calls);
        /* Only the release of a resource may fail silently, since the run has ended by then. */
        if (code == EXIT_DONE && !vanish && strstr(emu_failed_call(), "Destroy") == NULL &&
            strstr(emu_failed_call(), "Free") == NULL && n + 16 < calls)
            fail_msg("call %lu (%s) failed, and the run went on", n, emu_failed_call());
        if (code != EXIT_DONE) check_end(n, code, save, &e), failed++;
    }
    emu_reset();
    return failed;
}

static void every_call_fails_once(void **state)
{
    (void)state;
    bool slow = strcmp(emu_mode(), "plain") != 0, all = getenv("PLSTM_LONG") != NULL && !slow;
    unsigned long failed = each_call(EMU_CALL_ANY, cudaErrorUnknown, false, slow ? 11 : 1);
    print_message("%lu calls failed in turn\n", failed);
    assert_true(failed > (slow ? 10 : 100));
    assert_true(each_call(EMU_CALL_ALLOC, cudaErrorMemoryAllocation, false, 1) >= 3);
    assert_true(each_call(EMU_CALL_LAUNCH, cudaErrorLaunchOutOfResources, false, all ? 1 : 7) >= 3);
    assert_true(each_call(EMU_CALL_CUBLAS, cudaErrorUnknown, false, all ? 1 : 7) >= 3);
}

static void the_gpu_falls_off_the_bus(void **state)
{
    (void)state;
    assert_true(each_call(EMU_CALL_ANY, cudaSuccess, true,
                          getenv("PLSTM_LONG")          ? 1
                          : strcmp(emu_mode(), "plain") ? 50
                                                        : 13) >= 3);
}

/* A step that times out ends the run with exit status 1, a sentence and a checkpoint of the state
 * before that step. A run resumed from it writes the same bytes as an undisturbed one. */
static void a_fault_saves_what_was_before(void **state)
{
    (void)state;
    static const struct {
        enum Plant plant;
        int64_t at, saved; /* steps; an epoch has 8 minibatches */
        const char *kernel;
    } cases[] = {
        {RECORD, 0, 0, "cublas"},      {RECORD, 1, 1, "reg"},
        {RECORD, 2, 2, "cublas"},      {RECORD, 6, 6, "smem"},
        {RECORD, 7, 7, "cublas"},      {RECORD, 12, 12, "cublas"},
        {FORWARD, 0, 0, "reg"},        {FORWARD, 1, 1, "smem"},
        {FORWARD, 5, 5, "l2"},         {BACKWARD, 2, 2, "reg"},
        {BACKWARD, 12, 12, "l2/smem"}, {BACKWARD, 11, 11, "cublas/reg"},
        {FORWARD, AT_SCORE, 8, "reg"},
    };
    const char *whole = in_folder("no-fault.st"), *path = in_folder("fault.st");
    Settings s;
    Error e;
    settings_defaults(&s);
    s.hidden = 5, s.layers = 2, s.batch = 3, s.seq = 4, s.keep = 0.5, s.sites = SITES_ALL;
    s.epochs = 2, s.max_steps = 14, s.threads = 1, s.eval = EVAL_VALID, s.backend = "cuda";
    emu_reset(), emu_quiet(1);
    setenv("PLSTM_PLAN", "replicas=1,blocks=3,threads=32", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Checkpoint c;
        char said[128];
        s.kernel = cases[i].kernel;
        plant_at = NEVER;
        s.save = whole;
        assert_int_equal(run_quietly(&s, NULL, &e), EXIT_DONE);
        s.save = path;
        plant_at = cases[i].at, plant = cases[i].plant;
        assert_int_equal(run_quietly(&s, NULL, &e), EXIT_FAILED);
        assert_contains(e.text, "a step timed out on the GPU: block ");
        assert_contains(e.text, plant == RECORD ? "block 1 waited at step 2"
                                                : "1 block (1) did not arrive");
        assert_contains(e.text, "--kernel cublas waits for no block");
        snprintf(said, sizeof said, "the %d minibatches before it are saved: --resume",
                 (int)cases[i].saved);
        assert_contains(e.text, said);
        assert_int_equal(emu_live_bytes() + emu_live_objects(), 0);
        plant_at = NEVER;
        assert_int_equal(checkpoint_open(&c, path, &e), EXIT_DONE);
        assert_int_equal(c.counters.step, cases[i].saved);
        assert_int_equal(run_quietly(&s, &c, &e), EXIT_DONE);
        checkpoint_close(&c);
        assert_files_equal(whole, path);
    }
    unsetenv("PLSTM_PLAN");
}

static void no_device_and_no_driver(void **state)
{
    (void)state;
    static const cudaError_t error[] = {cudaErrorNoDevice, cudaErrorInsufficientDriver};
    for (int i = 0; i < 2; i++) {
        Error e;
        const BackendOps *ops;
        emu_reset();
        emu_fail_call(EMU_CALL_ANY, 1, error[i]);
        assert_int_equal(backend_find("cuda", &ops, &e), EXIT_NO_DEVICE);
        assert_non_null(strstr(e.text, "no GPU can be used"));
        assert_non_null(strstr(e.text, "--backend cpu runs everywhere"));
        emu_fail_call(EMU_CALL_ANY, 1, error[i]);
        assert_int_equal(devices_command(stdout, &e), EXIT_NO_DEVICE);
        assert_non_null(strstr(e.text, i ? "driver" : "finds none"));
        /* The emulated GPU is used only on request. */
        assert_int_equal(backend_find("auto", &ops, &e), EXIT_DONE);
        assert_string_equal(ops->name, "cpu");
    }
    emu_reset();
}

static void the_cause_is_named(void **state)
{
    (void)state;
    static const struct {
        enum emu_call kind;
        unsigned long n;
        cudaError_t error;
        int code;
        const char *phrase[3];
    } cases[] = {
        {EMU_CALL_ALLOC,
         1,
         cudaErrorMemoryAllocation,
         EXIT_NO_DEVICE,
         {"cudaMalloc failed at host/backend/backend_cuda.c:", "out of memory", "--hidden"}},
        {EMU_CALL_CUBLAS,
         1,
         cudaErrorUnknown,
         EXIT_NO_DEVICE,
         {"cublasCreate", "CUBLAS_STATUS_ALLOC_FAILED", "less memory"}},
        {EMU_CALL_ANY,
         1,
         cudaErrorNoDevice,
         EXIT_NO_DEVICE,
         {"no GPU can be used", "cudaErrorNoDevice", "--backend cpu"}},
        {EMU_CALL_LAUNCH,
         2,
         cudaErrorNoKernelImageForDevice,
         EXIT_NO_DEVICE,
         {"failed at host/", "cudaErrorNoKernelImageForDevice", "ARCH="}},
        {EMU_CALL_LAUNCH,
         3,
         cudaErrorECCUncorrectable,
         EXIT_FAILED,
         {"recurrence by kernel cublas", "ECC", "--resume"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Error e;
        kernel = "cublas";
        emu_reset(), emu_quiet(1);
        emu_fail_call(cases[i].kind, cases[i].n, cases[i].error);
        int code = short_run(in_folder("named.st"), &e);
        if (code != cases[i].code) fail_msg("exit %d, not %d: %s", code, cases[i].code, e.text);
        for (int j = 0; j < 3; j++) assert_contains(e.text, cases[i].phrase[j]);
    }
    emu_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(the_gpu_falls_off_the_bus),
        cmocka_unit_test(a_fault_saves_what_was_before),
        cmocka_unit_test(no_device_and_no_driver),
        cmocka_unit_test(the_cause_is_named),
    };
    emu_device_select("A100"); /* a smaller cuBLAS workspace than the H200's */
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#else

int main(void)
{
    printf("1..0 # SKIP the emulator injects these faults\n");
    return 0;
}

#endif
