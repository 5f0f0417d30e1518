/* program: runs build/plstm (or the program that PLSTM names) like a shell and keeps its output.
 * For tests only. */
#ifndef PLSTM_TESTS_PROGRAM_H
#define PLSTM_TESTS_PROGRAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- a folder of the test's own ---- */

/* folder_make, a group's set-up, makes this folder; folder_remove, its tear-down, removes it. */
static char folder[PATH_MAX];

static inline int folder_make(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/plstm-test-XXXXXX", base && base[0] ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int folder_remove(void **state)
{
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

/* Returns the path of a file in the folder; the same name always gives the same pointer. */
static inline const char *in_folder(const char *name)
{
    static struct {
        char name[64], path[PATH_MAX];
    } known[64];
    int i = 0;
    while (known[i].name[0] && strcmp(known[i].name, name)) i++;
    assert_true(i < 63);
    snprintf(known[i].name, sizeof known[i].name, "%.60s", name);
    snprintf(known[i].path, sizeof known[i].path, "%.3800s/%.60s", folder, name);
    return known[i].path;
}

/* Returns a whole file with a NUL after it, malloc'd, and its size in bytes in *size, which may be
 * NULL. Fails the test if the file cannot be opened. */
static inline char *file_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    size_t n = 0, capacity = 1 << 16;
    char *text = malloc(capacity);
    assert_non_null(text);
    for (size_t got; (got = fread(text + n, 1, capacity - n - 1, f)) > 0;) {
        n += got;
        if (n + 1 == capacity) assert_non_null(text = realloc(text, capacity *= 2));
    }
    fclose(f);
    text[n] = 0;
    if (size) *size = n;
    return text;
}

/* Writes a text to a file, which it replaces. */
static inline void file_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static inline bool file_exists(const char *path) { return access(path, F_OK) == 0; }

static inline void assert_files_equal(const char *a, const char *b)
{
    size_t n, m;
    char *x = file_read(a, &n), *y = file_read(b, &m);
    if (n != m || memcmp(x, y, n)) fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, n, b, m);
    free(x);
    free(y);
}

/* Returns the number of files in the test's folder whose name contains part. */
static inline int files_named(const char *part)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(d));) n += strstr(entry->d_name, part) != NULL;
    closedir(d);
    return n;
}

/* ---- the program ---- */

typedef struct Run {
    int code;        /* exit status, or 128 + the signal that killed it */
    char *out, *err; /* standard output and standard error, malloc'd */
} Run;

enum { MAX_WORDS = 64 };

/* Splits a line at its spaces, in place; a NULL ends the words. */
static inline void line_cut(char *line, char **words)
{
    int n = 0;
    for (char *save, *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        assert_true(n < MAX_WORDS - 1);
        words[n++] = word;
    }
    words[n] = NULL;
}

/* Starts the program with `words` (argv without its first element, ended by NULL). Standard output
 * and error go to the folder's files out and err. If file_limit > 0, no file may grow beyond that
 * many bytes. Returns the process id. */
static inline pid_t program_start(char *const *words, long file_limit)
{
    char *argv[MAX_WORDS + 1];
    const char *path = getenv("PLSTM");
    if (!path) path = "build/plstm";
    argv[0] = (char *)path;
    int n = 0;
    do argv[n + 1] = words[n];
    while (words[n++]);
    char out[PATH_MAX], err[PATH_MAX];
    snprintf(out, sizeof out, "%s", in_folder("out"));
    snprintf(err, sizeof err, "%s", in_folder("err"));
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid) return pid;
    int o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600),
        r = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct rlimit limit = {(rlim_t)file_limit, (rlim_t)file_limit};
    if (o < 0 || r < 0 || dup2(o, 1) < 0 || dup2(r, 2) < 0) _exit(126);
    if (file_limit > 0 && setrlimit(RLIMIT_FSIZE, &limit)) _exit(126);
    /* A shell starts background jobs with SIGINT ignored, and the program keeps an ignored signal
     * ignored. */
    const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) signal(ends[i], SIG_DFL);
    execv(path, argv);
    _exit(127);
}

/* Waits until the program ends and returns its exit status and output; run_free frees them. */
static inline Run program_finish(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    Run run = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
    if (run.code == 127)
        fail_msg("build/plstm cannot be run: run the tests from the repository's root, after make");
    run.out = file_read(in_folder("out"), NULL);
    run.err = file_read(in_folder("err"), NULL);
    return run;
}

static inline void run_free(Run *run)
{
    free(run->out);
    free(run->err);
}

/* Runs `plstm LINE` with the line split at spaces, and waits for it; run_free frees the result. */
__attribute__((format(printf, 1, 2))) static inline Run plstm(const char *format, ...)
{
    char line[4096], *words[MAX_WORDS];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    line_cut(line, words);
    return program_finish(program_start(words, 0));
}

/* Runs `plstm LINE` when only the exit status matters; a status other than `code` prints standard
 * error and fails the test. */
__attribute__((format(printf, 2, 3))) static inline void plstm_expect(int code, const char *format,
                                                                      ...)
{
    char line[4096], shown[4096], *words[MAX_WORDS];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    memcpy(shown, line, sizeof shown);
    line_cut(line, words);
    Run run = program_finish(program_start(words, 0));
    if (run.code != code) fail_msg("plstm %s: exit %d, not %d\n%s", shown, run.code, code, run.err);
    run_free(&run);
}

static inline void assert_contains(const char *text, const char *phrase)
{
    if (!strstr(text, phrase)) fail_msg("'%s' is not in: %s", phrase, text);
}

/* Checks that the text has exactly one line. */
static inline void assert_one_line(const char *text)
{
    const char *end = strchr(text, '\n');
    if (!end || end[1]) fail_msg("not one line: %s", text);
}

/* ---- waiting ---- */

static inline void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static inline int lines_of(const char *path)
{
    FILE *f = fopen(path, "rb");
    int n = 0, c;
    if (!f) return 0;
    while ((c = getc(f)) != EOF) n += c == '\n';
    fclose(f);
    return n;
}

/* Waits until a file has that many lines; fails the test after about a minute. */
static inline void wait_for_lines(const char *path, int lines)
{
    for (int i = 0; lines_of(path) < lines; i++) {
        if (i > 12000) fail_msg("%s did not reach %d lines", path, lines);
        sleep_ms(5);
    }
}

#endif
