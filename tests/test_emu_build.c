/* The kernel files through the other compilers: nvcc for each architecture without a warning, g++ and clang
 * against the emulator; none of the real toolkit's headers may slip into an emulated build, where a missing
 * twin would otherwise go unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *kernels[] = {"tests/emu/example/recurrence.cu", "tests/emu/faults.cu",
                                "tests/emu/device_kernels.cu"};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

#define EMU_INCLUDES "-Itests/emu/include -Itests/emu -Itests -I."

/* Runs a shell command; its output, errors included, goes to `out`. Returns the exit status. */
static int run(const char *command, char *out, size_t size)
{
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(out, 1, size - 1, pipe);
    char rest[4096];
    while (fread(rest, 1, sizeof rest, pipe) > 0) {
    }
    out[n] = '\0';
    return pclose(pipe);
}

static int have(const char *program)
{
    char command[512], out[512];
    snprintf(command, sizeof command, "command -v %s 2>&1", program);
    return run(command, out, sizeof out) == 0;
}

static void compile_clean(const char *command)
{
    static char out[65536];
    int status = run(command, out, sizeof out);
    if (status != 0 || out[0]) print_message("%s\n%s\n", command, out);
    assert_int_equal(status, 0);
    assert_string_equal(out, ""); /* no warning either */
}

static void test_only_our_headers(void **state)
{
    (void)state;
    static char out[1 << 20];
    const char *compilers[] = {"g++", "clang++"};
    for (int c = 0; c < 2; c++) {
        if (!have(compilers[c])) continue;
        for (int i = 0; i < KERNELS; i++) {
            char command[1024];
            snprintf(command, sizeof command, "%s -std=c++17 " EMU_INCLUDES " -M -x c++ %s 2>&1",
                     compilers[c], kernels[i]);
            assert_int_equal(run(command, out, sizeof out), 0);
            int ours = 0;
            for (char *word = strtok(out, " \\\n"); word; word = strtok(NULL, " \\\n")) {
                const char *name = strrchr(word, '/');
                name = name ? name + 1 : word;
                int cuda = strstr(name, "cuda") || strstr(name, "curand") || strstr(name, "cublas") ||
                           strstr(name, "cooperative") || strcmp(name, "vector_types.h") == 0 ||
                           strcmp(name, "driver_types.h") == 0 || strstr(word, "cccl");
                if (!cuda) continue;
                if (strncmp(word, "tests/emu/include/", 18) != 0)
                    print_message("%s includes %s\n", kernels[i], word);
                assert_int_equal(strncmp(word, "tests/emu/include/", 18), 0);
                ours++;
            }
            assert_true(ours >= 3);
        }
    }
}

static void test_nvcc(void **state)
{
    (void)state;
    const char *named = getenv("NVCC"), *found = have("nvcc") ? "nvcc" : NULL;
    if (access("/usr/local/cuda/bin/nvcc", X_OK) == 0 && !found) found = "/usr/local/cuda/bin/nvcc";
    const char *nvcc = named ? named : found; /* the Makefile names none where none is new enough */
    if (!nvcc || !*nvcc || !have(nvcc)) {
        print_message("no nvcc here: the kernel files were not compiled for a GPU\n");
        skip();
    }
    char command[2048];
    /* the example for all, the rest for one: they use the same dev.cuh */
    for (int i = 0; i < KERNELS; i++) {
        if (strstr(kernels[i], "faults.cu")) continue; /* asks the emulator for its report */
        snprintf(command, sizeof command,
                 "%s -std=c++17 -I. -Itests -Itests/emu/example %s -Xcompiler -Wall -c %s -o /dev/null 2>&1",
                 nvcc,
                 i == 0 ? "-gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 "
                          "-gencode arch=compute_90,code=sm_90 -gencode arch=compute_90a,code=sm_90a"
                        : "-arch=sm_90",
                 kernels[i]);
        compile_clean(command);
    }
}

static void test_compilers(void **state)
{
    (void)state;
    if (!have("clang++")) {
        print_message("no clang++ here: the kernel files were compiled with g++ only\n");
        skip();
    }
    char command[2048];
    const char *flags[] = {"", "-DEMU_ARCH=350", "-fsanitize=thread -mllvm -tsan-distinguish-volatile=1"};
    for (int f = 0; f < 3; f++) {
        snprintf(command, sizeof command,
                 "clang++ -std=c++17 -O1 -Wall -Wextra " EMU_INCLUDES " %s -x c++ -c %s -o /dev/null 2>&1",
                 flags[f], kernels[0]);
        compile_clean(command);
    }
    for (int i = 1; i < KERNELS; i++) {
        snprintf(command, sizeof command,
                 "clang++ -std=c++17 -fsyntax-only -Wall -Wextra " EMU_INCLUDES " -x c++ %s 2>&1",
                 kernels[i]);
        compile_clean(command);
    }
}

/* Host files are C11 and may not drag C++ in. */
static void test_c_headers(void **state)
{
    (void)state;
    compile_clean("printf '#include \"cuda_runtime.h\"\\n#include \"cublas_v2.h\"\\n#include \"emu.h\"\\nint "
                  "main(void){return 0;}\\n' | "
                  "gcc -std=c11 -pedantic -Wall -Wextra -Werror " EMU_INCLUDES " -fsyntax-only -x c - 2>&1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_our_headers),
        cmocka_unit_test(test_c_headers),
        cmocka_unit_test(test_compilers),
        cmocka_unit_test(test_nvcc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
