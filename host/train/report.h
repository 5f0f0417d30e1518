/* report: writes the output of a run: the JSON log (SPEC 8), the progress line on standard error,
 * tables on standard output. Besides the commands, this is the only file that prints for people. */
#ifndef PLSTM_REPORT_H
#define PLSTM_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "host/store/checkpoint.h"
#include "host/base/error.h"
#include "host/base/json_line.h"
#include "host/base/settings.h"
#include "host/train/classes.h"
#include "host/train/task.h"

typedef struct Report Report;

typedef struct RunInfo {
    const Settings *settings; /* backend, kernel and threads are those in use, never "auto" */
    const Task *task;
    const TaskData *data;
    bool kernel;        /* the backend has kernels to choose from */
    const char *device; /* BackendInfo */
    ModelShape shape;
    int64_t parameters;
    size_t bytes;            /* bytes that the run needs */
    int64_t windows;         /* minibatches per epoch */
    const Counters *resumed; /* NULL: a fresh run */
} RunInfo;

typedef struct StepInfo {
    int64_t step;  /* index over the whole run, from 0 */
    int64_t epoch; /* from 1 */
    int64_t minibatch;
    double loss; /* nats divided by B (SPEC 5) */
    double nats;
    int64_t tokens;
    double grad_norm, lr, words_per_s;
    double epoch_nats; /* of the epoch so far, including this step */
    int64_t epoch_tokens;
} StepInfo;

typedef struct EpochInfo {
    int64_t epoch;
    Figure figure[2 * TASK_FIGURES]; /* of training, then of valid */
    int n;
    double lr;      /* learning rate of the epoch */
    double seconds; /* of training and scoring, in this process */
} EpochInfo;

/* report_classes prints the best possible perplexity and a table by position class;
 * report_classes_json writes them as members "best_ppl" and "classes" of a log line. */
void report_classes(FILE *out, const ClassScore *classes);
void report_classes_json(JsonLine *l, const ClassScore *classes);

/* Opens the log (settings->log_json, may be NULL) and prints the header: parameters, bytes, words.
 * A fresh run truncates the log. A resumed run keeps the lines that an uninterrupted run would have
 * at this point: `step` lines below resumed->step and `epoch` lines of completed epochs. It drops
 * valid and test lines and an incomplete last line, and writes the run line again with the current
 * settings (a new file replaces the old one, so that a kill loses nothing). EXIT_BAD_DATA: the log
 * cannot be opened or written. `commit` in the run line is the build's; paths are not logged, so
 * that the logs of equal runs are equal wherever they are. *info is copied; what it points to,
 * except the settings' record itself, must live until report_close. */
int report_open(Report **r, const RunInfo *info, bool quiet, Error *e);

/* Each function writes its line at once. If a write fails (full disk), it returns EXIT_BAD_DATA and
 * names the log, or EXIT_FAILED and names standard output. report_epoch writes an epoch's line to
 * the log and is called before the checkpoint is written, since a resumed run drops the lines after
 * its checkpoint and adds none. report_epoch_row prints the epoch and is called after that, since
 * whoever reads the screen may end the run. */
int report_step(Report *r, const StepInfo *s, bool log_line, Error *e);
int report_epoch(Report *r, const EpochInfo *i, Error *e);
int report_epoch_row(Report *r, const EpochInfo *i, Error *e);
/* Reports the n figures of a split that was scored apart from an epoch: valid, or a test with what
 * its task adds. */
int report_split(Report *r, int split, const Figure *figure, int n, const Totals *totals, Error *e);

/* Prints a hint on standard error, "stopped by SIGINT after ...", without breaking the progress
 * line; prints nothing if the report is quiet. */
void report_say(Report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Closes the log and frees the report; r may be NULL. */
void report_close(Report *r);

#endif
