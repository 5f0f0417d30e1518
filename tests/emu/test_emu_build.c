/* Compiles the kernel files with the other compilers: nvcc for each architecture without a warning,
 * g++ and clang against the emulator. An emulated build must not include a header of the real
 * toolkit, which would hide a missing counterpart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *kernels[] = {"tests/emu/example/recurrence.cu", "tests/emu/faults.cu",
                                "tests/emu/device_kernels.cu", "tests/emu/wrappers.cu"};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

#define EMU_INCLUDES "-Itests/emu/include -Itests/emu -I."

/* Runs a shell command; its output, including errors, goes to `out`. Returns the exit status. */
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
    char command[2048], out[512];
    snprintf(command, sizeof command, "command -v %s 2>&1", program);
    return run(command, out, sizeof out) == 0;
}

static void compile_clean(const char *command)
{
    static char out[65536];
    int status = run(command, out, sizeof out);
    if (status != 0 || out[0]) print_message("%s\n%s\n", command, out);
    assert_int_equal(status, 0);
    assert_string_equal(out, ""); /* there is no warning either */
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
                int cuda = strstr(name, "cuda") || strstr(name, "curand") ||
                           strstr(name, "cublas") || strstr(name, "cooperative") ||
                           strcmp(name, "vector_types.h") == 0 ||
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

/* Returns the CUDA compiler, or NULL: the Makefile's $NVCC (empty if none is new enough), else one
 * that is found. */
static const char *nvcc(void)
{
    const char *named = getenv("NVCC"), *found = have("nvcc") ? "nvcc" : NULL;
    if (access("/usr/local/cuda/bin/nvcc", X_OK) == 0 && !found) found = "/usr/local/cuda/bin/nvcc";
    const char *one = named ? named : found;
    return one && *one && have(one) ? one : NULL;
}

static void test_nvcc(void **state)
{
    (void)state;
    if (!nvcc()) {
        print_message("no nvcc here: the kernel files were not compiled for a GPU\n");
        skip();
    }
    char command[2048];
    /* Every wrapper of dev_*.cuh is compiled for all architectures, the other files for one. */
    for (int i = 0; i < KERNELS; i++) {
        if (strstr(kernels[i], "faults.cu")) continue; /* uses the emulator's report */
        snprintf(
            command, sizeof command,
            "%s -std=c++17 -I. -Itests/emu/example %s -Xcompiler -Wall -c %s -o /dev/null 2>&1",
            nvcc(),
            strstr(kernels[i], "wrappers.cu")
                ? "-gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 "
                  "-gencode arch=compute_90,code=sm_90 -gencode arch=compute_90a,code=sm_90a "
                  "-Xptxas --suppress-async-bulk-multicast-advisory-warning"
                : "-arch=sm_90",
            kernels[i]);
        compile_clean(command);
    }
}

/* Checks that the wrappers compile to the intended machine instructions. */
static void test_machine_code(void **state)
{
    (void)state;
    static const char *instructions[] = {
        "LDGSTS.E ",           "LDGSTS.E.BYPASS.128 ", "LDG.E.STRONG.GPU ",
        "HMMA.16816.F32.BF16", "HMMA.1688.F32.TF32",   "MOVM.16.MT88 ",
        "UCGABAR_ARV",         "UCGABAR_WAIT",         "STAS ",
        "STAS.128 ",           "SYNCS.EXCH.64 ",       "SYNCS.PHASECHK.TRANS64.TRYWAIT ",
        "UBLKCP.S.G ",         "UBLKCP.S.S ",          "FENCE.VIEW.ASYNC"};
    char command[2048], tool[1024];
    snprintf(command, sizeof command, "printf %%s \"$(dirname \"$(command -v %s)\")/cuobjdump\"",
             nvcc() ? nvcc() : ":");
    /* Prefer the tool beside the compiler, if there is one. */
    assert_int_equal(run(command, tool, sizeof tool), 0);
    if (!have(tool)) strcpy(tool, "cuobjdump");
    if (!nvcc() || !have(tool)) {
        print_message("no %s here: the machine code of the wrappers was not looked at\n",
                      nvcc() ? "cuobjdump" : "nvcc");
        skip();
    }
    const char *variable = getenv("PLSTM_BUILD"), *build = variable ? variable : "build";
    snprintf(
        command, sizeof command,
        "%s -std=c++17 -I. -arch=sm_90 -Xptxas --suppress-async-bulk-multicast-advisory-warning "
        "-cubin tests/emu/wrappers.cu -o %s/emu/wrappers.cubin 2>&1",
        nvcc(), build);
    compile_clean(command);
    static char out[1 << 20];
    snprintf(command, sizeof command, "%s -sass %s/emu/wrappers.cubin 2>&1", tool, build);
    if (run(command, out, sizeof out) != 0) { /* the tool is of an older toolkit */
        print_message("%s cannot read what %s makes: %s\n", tool, nvcc(), out);
        skip();
    }
    int missing = 0;
    for (size_t i = 0; i < sizeof instructions / sizeof instructions[0]; i++)
        if (!strstr(out, instructions[i])) {
            print_message("sm_90's machine code has no %s\n", instructions[i]);
            missing++;
        }
    assert_int_equal(missing, 0);
}

static void test_compilers(void **state)
{
    (void)state;
    if (!have("clang++")) {
        print_message("no clang++ here: the kernel files were compiled with g++ only\n");
        skip();
    }
    char command[2048];
    const char *flags[] = {"", "-DEMU_ARCH=350",
                           "-fsanitize=thread -mllvm -tsan-distinguish-volatile=1"};
    for (int f = 0; f < 3; f++) {
        snprintf(command, sizeof command,
                 "clang++ -std=c++17 -O1 -Wall -Wextra " EMU_INCLUDES
                 " %s -x c++ -c %s -o /dev/null 2>&1",
                 flags[f], kernels[0]);
        compile_clean(command);
    }
    for (int i = 1; i < KERNELS; i++) {
        snprintf(command, sizeof command,
                 "clang++ -std=c++17 -fsyntax-only -Wall -Wextra " EMU_INCLUDES " -x c++ %s 2>&1",
                 kernels[i]);
        compile_clean(command);
    }
    compile_clean("for arch in 350 700 750 800; do clang++ -std=c++17 -fsyntax-only -Wall "
                  "-Wextra " EMU_INCLUDES
                  " -DEMU_ARCH=$arch -x c++ tests/emu/wrappers.cu 2>&1; done");
}

/* Host files are C11 and must not include C++. */
static void test_c_headers(void **state)
{
    (void)state;
    compile_clean(
        "printf '#include \"cuda_runtime.h\"\\n#include \"cublas_v2.h\"\\n#include \"emu.h\"\\nint "
        "main(void){return 0;}\\n' | "
        "gcc -std=c11 -pedantic -Wall -Wextra -Werror " EMU_INCLUDES " -fsyntax-only -x c - 2>&1");
}

/* As README.md says, the folder builds and runs its example when copied anywhere. The whole build
 * takes half a minute and belongs to the long list; here every file is preprocessed in the copy,
 * which finds missing files, and the example is linked with the toolkit that is already built. */
static void test_lifted_out(void **state)
{
    (void)state;
    const char *variable = getenv("PLSTM_BUILD"), *build = variable ? variable : "build";
    char folder[] = "/tmp/plstm-emu-XXXXXX", command[8192], absolute[4096], out[8192];
    assert_non_null(mkdtemp(folder));
    assert_non_null(realpath(build, absolute));
    snprintf(command, sizeof command, "cp -r tests/emu '%s/a copy'", folder);
    compile_clean(command);
    if (getenv("PLSTM_LONG")) {
        snprintf(command, sizeof command,
                 "cd %s && for mode in plain race asan; do './a copy/example/build.sh' $mode $mode "
                 "2>&1; done",
                 folder);
    } else {
        snprintf(command, sizeof command,
                 "cd '%s/a copy' && I='-Iinclude -I. -D_GNU_SOURCE' && rm -f test_*.cpp && "
                 "for f in *.cpp; do case $f in cublas.cpp | numerics_oracle.cpp) ;; "
                 "*) g++ -std=c++17 $I -M $f >../depends 2>&1 || cat ../depends;; esac; done && "
                 "g++ -std=c++17 -O1 $I -x c++ -c example/recurrence.cu -o ../r.o 2>&1 && "
                 "gcc -std=c11 -O1 $I -c example/main.c -o ../m.o 2>&1 && "
                 "g++ ../m.o ../r.o '%s/emu/plain/libemu.a' -ldl -o ../recurrence 2>&1 && "
                 "../recurrence 2>&1",
                 folder, absolute);
    }
    int status = run(command, out, sizeof out), runs = 0;
    for (const char *at = out; (at = strstr(at, " ok\n")); at++) runs++;
    bool clean = status == 0 && runs == (getenv("PLSTM_LONG") ? 3 : 1);
    for (const char *at = out; *at; at = strchr(at, '\n') + 1) /* there is no text but results */
        if (strncmp(at, "recurrence: ", 12) || !strchr(at, '\n')) {
            clean = false;
            break;
        }
    if (!clean) print_message("%s\n%s\n", command, out);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    assert_true(clean);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_our_headers), cmocka_unit_test(test_c_headers),
        cmocka_unit_test(test_compilers),        cmocka_unit_test(test_nvcc),
        cmocka_unit_test(test_machine_code),     cmocka_unit_test(test_lifted_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
