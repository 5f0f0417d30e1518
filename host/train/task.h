/* task: what a network is trained for (language model, translation, ...). Trainer, scorer and the commands see this
 * record and no task by name; a task is one file under tasks/ and one line in tasks.c.
 *
 * Splits are numbered: 0 training, 1 valid, 2 and up tests. */
#ifndef PLSTM_TASK_H
#define PLSTM_TASK_H

#include <stdio.h>

#include "host/base/error.h"
#include "host/base/json_line.h"
#include "host/base/settings.h"
#include "host/data/batch.h"
#include "host/store/checkpoint.h"
#include "host/store/params.h"
#include "host/train/run_corpus.h"
#include "host/train/scorer.h"

/* A task's own, defined in its file: vocabularies, texts, features, and what it counts while a split is scored. */
typedef struct TaskData TaskData;

/* A number of a table's row and of a log line. */
typedef enum FigureKind { FIGURE_PPL, FIGURE_SHARE, FIGURE_NATS } FigureKind;
typedef struct Figure {
    const char *key; /* of the log's member: "valid_ppl" */
    const char *heading,
        *note; /* of the table's column, two lines: "valid ppl", "(zaremba)"; heading NULL: log only */
    FigureKind kind;
    const char *
        phrase; /* how a line of text ends that tells it behind a first one: "as the paper counts" */
    double value; /* NAN: not scored; "-" in the table, null in the log */
} Figure;
enum { TASK_FIGURES = 8, TASK_SPLITS = 16 /* at most */ };

/* What data is read for. */
typedef struct TaskOpen {
    const Settings *settings; /* data, eval and the task's own */
    const Checkpoint *
        from; /* NULL: a fresh run. The run that is to be resumed; or, where split is given, the file whose
                                 vocabularies and the like are taken */
    const char
        *split; /* the one split that is needed, by its name; NULL: training, and what eval says */
} TaskOpen;

typedef struct Task {
    const char *name;    /* of --task and the metadata */
    const char *summary; /* one line for --help */
    const char *takes;   /* what --data takes: "a folder with train.txt, ..., or synthetic" */
    const char *
        marks; /* files by one of which a folder of its data is known, patterns: "train.txt|ptb.train.txt" */
    const char *builtin; /* name of its built-in data, which preset demo trains on: "synthetic" */
    const char *unit;    /* what is scored: "words" */
    bool carries; /* state goes from minibatch to minibatch: checkpoints inside an epoch hold it */
    bool hits; /* its metric is the share of hits (higher is better); else nats (lower is better) */

    /* Reads the data that a command needs. Freed by close; *d is not set where it fails. EXIT_USAGE: the data is not what
     * a resumed run was trained on. */
    int (*open)(const TaskOpen *o, TaskData **d, Error *e);
    void (*close)(TaskData *d);
    /* The files that open would read, for checks of outputs. */
    int (*inputs)(const Settings *s, CorpusPaths *p, Error *e);
    size_t (*bytes)(const TaskData *d); /* of memory that it holds */
    void (*remarks)(const TaskData *d,
                    FILE *out); /* what was found and is no fault, "plstm: ..." a line; or NULL */

    ModelShape (*shape)(const TaskData *d);              /* V_in, F, V_out; H and L stay 0 */
    const char *(*split_name)(const TaskData *d, int i); /* NULL: there is no split i */

    /* The training split's batches, and those of a split that is scored; EXIT_BAD_DATA where there is none. Closed by
     * source_close, before d. */
    int (*train)(TaskData *d, const Settings *s, Source **source, Error *e);
    int (*score)(TaskData *d, const Settings *s, int split, Source **source, Error *e);

    /* Before a split is scored, and then visit for each scored position, its user being d; either may be NULL. */
    void (*score_begin)(TaskData *d, int split);
    ScoreVisitor visit;

    /* What the targets of the next split that is scored were taken for: confusion_begin before score_begin makes visit count it,
     * confusion_write writes it to a file. Of tasks whose metric is the share of hits; or NULL. */
    int (*confusion_begin)(TaskData *d, Error *e);
    int (*confusion_write)(const TaskData *d, const char *path, Error *e);

    /* What table and log say of a split's totals: of split 0 as trained, of another as the source of `score` gave them
     * and visit counted them; hits below 0: not counted (an ensemble's). t NULL: not scored, values are NAN. Fills at most TASK_FIGURES and returns how many, the
     * same for every t. */
    int (*figures)(const TaskData *d, const Settings *s, int split, const Totals *t, Figure *f);

    /* What the authors' script divides a split's nats by (SPEC 6), 0 where it has no such figure; NULL: never. */
    int64_t (*paper_tokens)(const TaskData *d, const Settings *s, int split);

    /* What a checkpoint says of the data; what it points to lives as long as d. */
    void (*meta)(const TaskData *d, CheckpointData *m);

    /* Lines of the header about the data; members of the log's run line between device and windows. */
    void (*print_data)(const TaskData *d, const Settings *s, FILE *out);
    void (*log_run)(const TaskData *d, const Settings *s, JsonLine *l);
    /* What follows a test's figures, on the screen and in the log; NULL: nothing. */
    void (*print_test)(const TaskData *d, int split, const Totals *t, FILE *out);
    void (*log_test)(const TaskData *d, int split, const Totals *t, JsonLine *l);
    /* Lines above the table of `plstm eval` (NULL: one that every task could have), and members of its log line. */
    void (*print_eval)(const TaskData *d, const Settings *s, int split, const Totals *t, FILE *out);
    void (*log_eval)(const TaskData *d, const Settings *s, int split, JsonLine *l);
} Task;

/* Every task, in reading order; NULL-terminated. */
extern const Task *const tasks[];

/* By name; EXIT_USAGE names them all. */
int task_find(const char *name, const Task **task, Error *e);

/* Of a checkpoint at path; EXIT_BAD_DATA where this program has no such task. */
int task_of(const Checkpoint *c, const char *path, const Task **task, Error *e);

/* Adds to the sentence of a fault that came of reading data, where it explains it, which task's data it looks like, or
 * the word for the task's built-in data. Returns code. */
int task_hint(const Task *task, const char *data, int code, Error *e);

/* What a run's best epoch is chosen by, lower is better: nats a position, or the share of misses. */
double task_cost(const Task *task, const Totals *t);

#endif
