/* task: what a network is trained for (language model, translation, ...). The trainer, the scorer
 * and the commands that serve every task use this record and name no task. A task is one file under
 * tasks/ and one line in tasks.c.
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

/* A task's own data, defined in its file: vocabularies, texts, features, and what it counts while a
 * split is scored. */
typedef struct TaskData TaskData;

/* A number in a table's row and in a log line. */
typedef enum FigureKind { FIGURE_PPL, FIGURE_SHARE, FIGURE_NATS } FigureKind;
typedef struct Figure {
    const char *key; /* name of the log's member: "valid_ppl" */
    /* the two lines at the head of the table's column: "valid ppl", "(zaremba)"; heading NULL: the
     * figure is only logged */
    const char *heading, *note;
    FigureKind kind;
    /* text that introduces the figure where it is not the first of its line: "as the paper
     * counts" */
    const char *phrase;
    double value; /* NAN: not scored; "-" in the table, null in the log */
} Figure;
enum { TASK_FIGURES = 8, TASK_SPLITS = 16 /* at most */ };

/* The purpose for which data is read. */
typedef struct TaskOpen {
    const Settings *settings; /* data, eval and the task's own settings */
    /* NULL: a fresh run; else the checkpoint of the run that is resumed or, if split is given, the
     * checkpoint that supplies the vocabularies and so on */
    const Checkpoint *from;
    /* name of the only split that is needed; NULL: the training split, and those that `eval`
     * names */
    const char *split;
} TaskOpen;

typedef struct Task {
    const char *name;    /* for --task and the metadata */
    const char *summary; /* one line for --help */
    const char *takes;   /* what --data takes: "a folder with train.txt, ..., or synthetic" */
    /* patterns of files by which a folder of its data is recognised: "train.txt|ptb.train.txt" */
    const char *marks;
    const char *builtin; /* name of its built-in data, on which preset demo trains: "synthetic" */
    const char *unit;    /* unit of scoring: "words" */
    bool carries; /* state is carried between minibatches: checkpoints inside an epoch hold it */
    bool hits; /* its metric is the share of hits (higher is better); else nats (lower is better) */

    /* Reads the data that a command needs. Freed by close; on failure *d is not set. EXIT_USAGE:
     * the data is not what a resumed run was trained on. */
    int (*open)(const TaskOpen *o, TaskData **d, Error *e);
    void (*close)(TaskData *d);
    /* Lists the files that open would read, so that no output overwrites one. Freed by
     * corpus_paths_free. */
    int (*inputs)(const Settings *s, CorpusPaths *p, Error *e);
    size_t (*bytes)(const TaskData *d); /* bytes of memory that it holds */
    /* prints the harmless peculiarities of the data, one "plstm: ..." per line; or NULL */
    void (*remarks)(const TaskData *d, FILE *out);

    ModelShape (*shape)(const TaskData *d);              /* V_in, F, V_out; H and L stay 0 */
    const char *(*split_name)(const TaskData *d, int i); /* NULL: there is no split i */

    /* `train` makes the source of the training split's batches, `score` that of a split to score.
     * The caller closes it with source_close before it closes d. EXIT_BAD_DATA: there is no such
     * batch, or the split cannot be read. */
    int (*train)(TaskData *d, const Settings *s, Source **source, Error *e);
    int (*score)(TaskData *d, const Settings *s, int split, Source **source, Error *e);

    /* score_begin is called before a split is scored, and visit for each scored position, with d as
     * its `user`. Either may be NULL. */
    void (*score_begin)(TaskData *d, int split);
    ScoreVisitor visit;

    /* Count how often each target is taken for each class in the next scored split:
     * confusion_begin, called before score_begin, makes visit count, and confusion_write writes the
     * counts to a file. Only a task whose metric is the share of hits may have them; else NULL. */
    int (*confusion_begin)(TaskData *d, Error *e);
    int (*confusion_write)(const TaskData *d, const char *path, Error *e);

    /* Fills f with the figures of a split's totals for table and log. The totals of split 0 are
     * those of its training batches; those of another split come from scoring the source that
     * `score` made, and visit has counted what else they need. Hits below 0 were not counted (an
     * ensemble's). If t is NULL, the split was not scored and every value is NAN. Returns the
     * number of figures, at most TASK_FIGURES, which is the same for every t. */
    int (*figures)(const TaskData *d, const Settings *s, int split, const Totals *t, Figure *f);

    /* Returns the number by which the authors' script divides a split's nats (SPEC 6), 0 if it has
     * no such figure; NULL: never. */
    int64_t (*paper_tokens)(const TaskData *d, const Settings *s, int split);

    /* Describes the data for a checkpoint; what *m points to lives as long as d. */
    void (*meta)(const TaskData *d, CheckpointData *m);

    /* print_data prints the header's lines about the data; log_run writes the members between
     * "device" and "windows" of the log's run line. */
    void (*print_data)(const TaskData *d, const Settings *s, FILE *out);
    void (*log_run)(const TaskData *d, const Settings *s, JsonLine *l);
    /* Print and log what follows a test's figures; NULL: nothing follows. */
    void (*print_test)(const TaskData *d, int split, const Totals *t, FILE *out);
    void (*log_test)(const TaskData *d, int split, const Totals *t, JsonLine *l);
    /* print_eval prints the lines above the table of `plstm eval` (NULL: the generic one); log_eval
     * writes members of its log line. */
    void (*print_eval)(const TaskData *d, const Settings *s, int split, const Totals *t, FILE *out);
    void (*log_eval)(const TaskData *d, const Settings *s, int split, JsonLine *l);
} Task;

/* Every task, in reading order; NULL-terminated. */
extern const Task *const tasks[];

/* Finds a task by name; EXIT_USAGE lists all names. */
int task_find(const char *name, const Task **task, Error *e);

/* Finds the task of the checkpoint at path; EXIT_BAD_DATA: this program has no such task. */
int task_of(const Checkpoint *c, const char *path, const Task **task, Error *e);

/* If reading `data` failed with `code`, appends to the error's sentence what may explain it: the
 * task whose data it looks like, or the name of the task's built-in data. Returns code. */
int task_hint(const Task *task, const char *data, int code, Error *e);

/* Returns the number by which a run's best epoch is chosen, lower is better: nats per position, or
 * the share of misses. */
double task_cost(const Task *task, const Totals *t);

#endif
