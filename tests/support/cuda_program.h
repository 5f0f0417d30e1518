/* cuda_program: chooses the program whose cuda backend a test runs. A test on the emulator runs the
 * emulated program of its build; any other runs the program that the environment variable PLSTM
 * names. For tests only. */
#ifndef PLSTM_TESTS_CUDA_PROGRAM_H
#define PLSTM_TESTS_CUDA_PROGRAM_H

#include "program.h"

#include <cuda_runtime_api.h>

#ifdef CUDA_EMU
#include "emu.h"
#endif

/* Returns the folder of the build: the environment variable PLSTM_BUILD, or `build`. */
static inline const char *build_folder(void)
{
    const char *build = getenv("PLSTM_BUILD");
    return build ? build : "build";
}

/* Sets the environment of the emulated program, which program.h then starts; without the emulator
 * it changes nothing. */
static inline void cuda_program_choose(void)
{
#ifdef CUDA_EMU
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3900s/emu/%s/plstm", build_folder(),
             strcmp(emu_mode(), "asan") ? "plain" : "asan");
    setenv("PLSTM", path, 1);
    /* An A100 has a smaller cuBLAS workspace than an H200. */
    setenv("EMU_DEVICE", "A100", 1);
    setenv("OMP_NUM_THREADS", "1", 0);
#if defined(__x86_64__)
    /* On a CPU that OpenBLAS does not recognise, the program would print a line and restart, and
     * tests count lines. */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        setenv("OPENBLAS_CORETYPE", "HASWELL", 0);
#endif
#endif
}

/* Writes a small corpus to the test's folder, unless it is there, and returns its path (in_folder
 * owns the text). */
static inline const char *small_corpus(void)
{
    static const char *const file[] = {"train.txt", "valid.txt", "test.txt"};
    static const int lines[] = {22, 7, 6};
    const char *path = in_folder("text");
    if (file_exists(path)) return path;
    assert_int_equal(mkdir(path, 0700), 0);
    for (int f = 0; f < 3; f++) {
        char name[PATH_MAX], text[4096] = "";
        snprintf(name, sizeof name, "%.3800s/%s", path, file[f]);
        for (int i = 0; i < lines[f]; i++) {
            static const char *const word[] = {"the", "cat", "saw",  "a",
                                               "dog", "run", "home", "again"};
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "%s %s %s %s\n", word[(i + f) % 8], word[i * 3 % 8],
                     word[(i * 5 + 2 * f) % 8], word[(i / 2 + 3) % 8]);
        }
        file_write(name, text);
    }
    return path;
}

#endif
