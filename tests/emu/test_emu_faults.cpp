/* Runs every planted fault in a process of its own and checks that this build of the emulator
 * detects it as listed, with the right report. Every correct twin and idiom must stay silent under
 * 50 random schedules. The file is compiled once per mode.
 *
 * It writes the mode's column of the table to $PLSTM_BUILD/emu/faults.<mode> for test_emu_table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include "emu.h"
#include "example/recurrence.h"
#include "faults.h"

static const char *outcome_name[] = {"silent", "wrong values", "reported", "trapped"};

struct Seen {
    Outcome outcome;
    std::string text;
};

/* Runs one case in a child process, which a sanitizer may end, and reads its report and standard
 * error. */
static Seen observe(int (*run)(int), int bug, unsigned long long seed)
{
    int pipe_ends[2];
    Seen seen = {SILENT, ""};
    fflush(nullptr);
    if (pipe(pipe_ends) != 0) return seen;
    pid_t child = fork();
    if (child == 0) {
        close(pipe_ends[0]);
        dup2(pipe_ends[1], 2);
        emu_quiet(1);
        emu_reset();
        emu_seed(seed);
        int wrong = run(bug);
        /* Work that is queued but not awaited still belongs to the case. */
        cudaDeviceSynchronize();
        fputs(emu_report(), stderr);
        fflush(stderr);
        _exit(*emu_report() ? 20 : wrong ? 10 : 0);
    }
    close(pipe_ends[1]);
    char buffer[4096];
    ssize_t n;
    while ((n = read(pipe_ends[0], buffer, sizeof buffer)) > 0) seen.text.append(buffer, (size_t)n);
    close(pipe_ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    bool sanitizer = seen.text.find("Sanitizer") != std::string::npos ||
                     seen.text.find("runtime error:") != std::string::npos;
    if (sanitizer) seen.outcome = TRAPPED;
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 10) seen.outcome = WRONG;
    else if (WIFEXITED(status) && (WEXITSTATUS(status) == 20 || WEXITSTATUS(status) == 134))
        seen.outcome = REPORTED;
    else if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0)) seen.outcome = TRAPPED;
    return seen;
}

static Outcome expected_of(const FaultCase &f)
{
    const char *mode = emu_mode();
    return strcmp(mode, "race") == 0 ? f.race : strcmp(mode, "asan") == 0 ? f.asan : f.plain;
}

static std::string column; /* this mode's column of the table */

static void test_faults(void **)
{
    int bad = 0;
    bool plain = strcmp(emu_mode(), "plain") == 0;
    column.clear();
    for (int i = 0; i < fault_count; i++) {
        const FaultCase &f = fault_cases[i];
        Seen seen = observe(f.run, 1, 0);
        Outcome expected = expected_of(f);
        bool said = expected != REPORTED || seen.text.find(f.message) != std::string::npos;
        if (seen.outcome != expected || !said) {
            print_message("%s: %s, expected %s%s%s\n%s\n", f.name, outcome_name[seen.outcome],
                          outcome_name[expected], expected == REPORTED ? " with the words: " : "",
                          expected == REPORTED ? f.message : "", seen.text.c_str());
            bad++;
        }
        std::string seeds = "-";
        if (plain && f.seeds) {
            int caught = 0;
            for (unsigned long long s = 1; s <= 10; s++)
                caught += observe(f.run, 1, s).outcome != SILENT;
            seeds = std::to_string(caught) + "/10";
        }
        column += std::string(f.name) + "\t" + f.what + "\t" + outcome_name[seen.outcome] + "\t" +
                  seeds + "\n";
    }
    assert_int_equal(bad, 0);
    const char *build = getenv("PLSTM_BUILD");
    std::string path = std::string(build ? build : "build") + "/emu/faults." + emu_mode();
    FILE *out = fopen(path.c_str(), "w");
    if (out) {
        fputs(column.c_str(), out);
        fclose(out);
    }
}

/* The report of a race or a divergence has both source lines, blocks and threads. */
static void test_both_lines(void **)
{
    int bad = 0;
    for (int i = 0; i < fault_count; i++) {
        const FaultCase &f = fault_cases[i];
        if (expected_of(f) != REPORTED) continue;
        Seen seen = observe(f.run, 1, 0);
        bool pair = seen.text.find("race: ") != std::string::npos ||
                    seen.text.find("divergent") != std::string::npos ||
                    seen.text.find("early exit: ") != std::string::npos;
        if (!pair) continue;
        size_t lines = 0, whos = 0;
        for (size_t at = 0; (at = seen.text.find("faults.cu:", at)) != std::string::npos; at++)
            lines++;
        for (size_t at = 0; (at = seen.text.find(" thread (", at)) != std::string::npos; at++)
            whos++;
        /* An exited thread has no line. */
        bool one_line = seen.text.find("early exit") != std::string::npos;
        /* For the read of an asynchronous operation only the line is known. */
        bool one_thread = seen.text.find("read by an asynchronous operation") != std::string::npos;
        if (lines < (one_line ? 1u : 2u) || whos < (one_thread ? 1u : 2u)) {
            print_message("%s: %zu lines, %zu threads named\n%s\n", f.name, lines, whos,
                          seen.text.c_str());
            bad++;
        }
    }
    assert_int_equal(bad, 0);
}

static int silent_under(const char *name, int (*run)(int), unsigned long long seeds)
{
    int bad = 0;
    for (unsigned long long s = 0; s <= seeds; s++) {
        emu_reset();
        emu_device_select("H200");
        emu_seed(s);
        int wrong = run(0);
        if (cudaDeviceSynchronize() != cudaSuccess) wrong = 1;
        if (wrong || *emu_report()) {
            print_message("%s, seed %llu: %s\n%s\n", name, s, wrong ? "wrong values" : "report",
                          emu_report());
            bad++;
            break;
        }
    }
    return bad;
}

static unsigned long long seed_count()
{
    const char *full = getenv("PLSTM_LONG");
    return full && *full == '1' ? 500 : 50;
}

static void test_idioms_silent(void **)
{
    int bad = 0;
    emu_quiet(1);
    for (int i = 0; i < idiom_count; i++)
        bad += silent_under(idiom_cases[i].name, idiom_cases[i].run, seed_count());
    emu_seed(0);
    assert_int_equal(bad, 0);
}

static void test_twins_silent(void **)
{
    int bad = 0;
    emu_quiet(1);
    for (int i = 0; i < fault_count; i++)
        if (fault_cases[i].twin)
            bad += silent_under(fault_cases[i].name, fault_cases[i].run, seed_count());
    emu_seed(0);
    emu_device_select("H200");
    assert_int_equal(bad, 0);
}

/* ---- the worked example ---- */

extern "C" int example_persistent(void)
{
    enum { N = 40, ROWS = 9, STEPS = 5 };
    float w_host[N * N], x_host[STEPS * N], h_host[2 * N] = {0};
    for (int i = 0; i < N * N; i++) w_host[i] = (float)((i * 37) % 101) / 500.0f - 0.1f;
    for (int i = 0; i < STEPS * N; i++) x_host[i] = (float)((i * 53) % 97) / 97.0f - 0.5f;
    void *w = nullptr, *x = nullptr, *h = nullptr, *arrived = nullptr;
    if (cudaMalloc(&w, sizeof w_host) || cudaMalloc(&x, sizeof x_host) ||
        cudaMalloc(&h, sizeof h_host) || cudaMalloc(&arrived, 4))
        return 1;
    cudaMemcpy(w, w_host, sizeof w_host, cudaMemcpyHostToDevice);
    cudaMemcpy(x, x_host, sizeof x_host, cudaMemcpyHostToDevice);
    cudaMemcpy(h, h_host, sizeof h_host, cudaMemcpyHostToDevice);
    if (recurrence_run((float *)w, (float *)x, (float *)h, (unsigned *)arrived, N, ROWS, STEPS,
                       nullptr) != cudaSuccess)
        return 1;
    if (cudaMemcpy(h_host, h, sizeof h_host, cudaMemcpyDeviceToHost) != cudaSuccess) return 1;
    double now[N] = {0}, next[N];
    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < N; i++) {
            double sum = x_host[t * N + i];
            for (int k = 0; k < N; k++) sum += (double)w_host[i * N + k] * now[k];
            next[i] = __builtin_tanh(sum);
        }
        memcpy(now, next, sizeof now);
    }
    for (int i = 0; i < N; i++)
        if (!(__builtin_fabs((double)h_host[(STEPS % 2) * N + i] - now[i]) <
              1e-5)) /* float sums of 40 terms of at most 0.1 */
            return 1;
    return 0;
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_both_lines),
        cmocka_unit_test(test_idioms_silent),
        cmocka_unit_test(test_twins_silent),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
