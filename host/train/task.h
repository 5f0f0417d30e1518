/* task: what a network is trained for (language model, translation, ...). Everything that trainer and scorer need of
 * one is this record; a task is one file under tasks/ and one line in tasks.c.
 *
 * Splits are numbered: 0 training, 1 valid, 2 and up tests. */
#ifndef PLSTM_TASK_H
#define PLSTM_TASK_H

#include <stdio.h>

#include "../checkpoint.h"
#include "../data/batch.h"
#include "../error.h"
#include "../json_line.h"
#include "../params.h"
#include "../settings.h"

typedef struct TaskData TaskData; /* a task's own: vocabularies, texts, features */

/* A number of a table's row and of a log line. */
typedef enum FigureKind { FIGURE_PPL, FIGURE_SHARE, FIGURE_NATS } FigureKind;
typedef struct Figure {
    const char *key;            /* of the log's member: "valid_ppl" */
    const char *heading, *note; /* of the table's column, two lines: "valid ppl", "(zaremba)" */
    FigureKind kind;
    double value; /* NAN: not scored; "-" in the table, null in the log */
} Figure;
enum { TASK_FIGURES = 6 };

/* Called for each scored position, in the order of batches, then positions. best: id of the largest logit, -1 where
 * the model was not opened for hits. */
typedef void (*ScoreVisitor)(void *user, int64_t place, int32_t target, int32_t best, double nats);

typedef struct Task {
    const char *name;    /* of --task and the metadata */
    const char *summary; /* one line for --help */
    const char *takes;   /* what --data takes: "a folder with train.en, train.fr, ..." */
    const char *preset;  /* whose values hold without --preset */
    bool hits;           /* its metric is the share of hits (higher is better), else nats (lower) */

    /* Reads the data of settings->data. of NULL: vocabularies and the like are made from the training split; else they
     * are those of the file. *d is freed by close. */
    int (*open)(const Settings *s, const Checkpoint *of, TaskData **d, Error *e);
    void (*close)(TaskData *d);

    ModelShape (*shape)(const TaskData *d);                /* V_in, F, V_out; H and L stay 0 */
    const char *(*split_name)(const TaskData *d, int i);   /* NULL: there is no split i */

    /* The training split's batches, and those of a split that is scored; EXIT_BAD_DATA where there is none. Closed by
     * source_close, before d. */
    int (*train)(TaskData *d, const Settings *s, Source **source, Error *e);
    int (*score)(TaskData *d, const Settings *s, int split, Source **source, Error *e);

    /* Before a split is scored, and (visit, its user being d) for each scored position; NULL: nothing to count. */
    void (*score_begin)(TaskData *d, int split);
    ScoreVisitor visit;

    /* What table and log say of a split's totals: training as trained, else as scored by score; *t NULL: not scored.
     * Fills at most TASK_FIGURES and returns how many, the same for every *t. */
    int (*figures)(const TaskData *d, const Settings *s, int split, const Totals *t, Figure *f);

    /* What a checkpoint says beside settings and counters (checkpoint.h). Strings live as long as d. */
    void (*meta)(const TaskData *d, CheckpointData *m);
    /* Whether the data is that which a run was trained on that resumes. */
    int (*agrees)(const TaskData *d, const Settings *s, const Checkpoint *c, Error *e);

    /* Lines of the header (data, minibatches), members of the log's run line, what follows a test's figures on the
     * screen and in the log; each may be NULL. */
    void (*print_data)(const TaskData *d, const Settings *s, FILE *out);
    void (*log_run)(const TaskData *d, const Settings *s, JsonLine *l);
    void (*tell_split)(const TaskData *d, const Settings *s, int split, const Totals *t, FILE *out, JsonLine *l);
} Task;

/* Every task, in reading order; NULL-terminated. */
extern const Task *const tasks[];

/* By name, EXIT_USAGE names them all. */
int task_find(const char *name, const Task **task, Error *e);

#endif
