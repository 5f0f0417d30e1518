/* settings: every choice of a run as one record, and the list of its options (options.h). */
#ifndef PLSTM_SETTINGS_H
#define PLSTM_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "options.h"

typedef enum DropoutSites { SITES_NONRECURRENT, SITES_ALL, SITES_NONE } DropoutSites;
/* A set of bits. */
typedef enum EvalWhat { EVAL_NONE = 0, EVAL_VALID = 1, EVAL_TEST = 2, EVAL_ALL = 3 } EvalWhat;
typedef enum Protocol { PROTOCOL_ZAREMBA, PROTOCOL_SEQUENTIAL } Protocol;
typedef enum SourceOrder { ORDER_REVERSED, ORDER_FORWARD } SourceOrder;
#define PRECISION_CHOICES "f32|tf32|bf16" /* LstmPrecision (kernels/plan.h) */
typedef enum Cmvn { CMVN_UTTERANCE, CMVN_NONE } Cmvn;

typedef struct Settings {
    const char *task;   /* "lm", or the name of another task (train/task.h) */
    const char *preset; /* "small", "medium", "large", "demo", or another preset of its task */
    int64_t hidden, layers, batch, seq; /* H, L, B, T */
    double keep, init, clip, lr;        /* keep: share of values kept, not dropped */
    int64_t epochs, hold;               /* SPEC 5 */
    double decay;                       /* divisor of lr */
    uint64_t seed;                      /* masks and initial weights */
    int64_t sites;                      /* DropoutSites */
    const char *backend;                /* auto, cpu, reference or cuda */
    const char *kernel;                 /* auto, NAME or FWD/BWD */
    int64_t precision;                  /* LstmPrecision of the matrix products */
    int64_t eval;                       /* EvalWhat */
    int64_t protocol;                   /* Protocol */
    int64_t max_steps;                  /* -1: no limit */
    int64_t threads;                    /* 0: as many as this process may use */
    int64_t log_every;                  /* minibatches between step lines */
    double save_every;                  /* minutes between checkpoints within an epoch; 0: none */
    const char *source, *target;        /* suffixes of the file names of the two languages */
    int64_t source_order;               /* SourceOrder */
    int64_t min_count;                  /* fewest occurrences of a type that is not <unk> */
    int64_t max_length;                 /* longest sequence to train on; 0: no limit */
    int64_t cmvn;                       /* Cmvn */
    const char *data;                   /* folder or "synthetic"; NULL: not given */
    const char *save, *save_best, *resume; /* paths or NULL */
    const char *log_json, *init_weights;   /* paths or NULL */
    const char *vocab;                     /* path or NULL */
    uint64_t given;                        /* bit i: setting i was given on the command line */
    bool force, final_eos;                 /* --force, --final-eos */
} Settings;

/* The number of settings, and the option of setting i, in static storage. */
int settings_count(void);
const Option *settings_info(int i);
/* Returns the number of the setting of exactly that name (no dashes, '_' and '-' alike), or -1. */
int settings_find(const char *name);

/* Sets task lm, preset small, seed 1 and the other defaults of SPEC 8. */
void settings_defaults(Settings *s);

/* Sets the fields of a preset of s->task and leaves the others unchanged; name NULL: the task's
 * first preset. Call it before settings_set, since an option overrides the preset wherever it
 * stands on the command line. EXIT_USAGE names the presets. */
int settings_preset(Settings *s, const char *name, Error *e);

/* Writes the names of a task's presets, "small, medium, large or demo", or "" if there is no such
 * task; returns out. */
enum { PRESET_NAMES = 128 };
const char *settings_preset_names(const char *task, char out[PRESET_NAMES]);

/* Returns whether the task has setting i. */
bool settings_of_task(int i, const char *task);
/* EXIT_USAGE: a setting was given that s->task does not have. */
int settings_check_task(const Settings *s, Error *e);

/* Parses value into setting i and marks it as given. EXIT_USAGE: the sentence of option_parse. */
int settings_set(Settings *s, int i, const char *value, Error *e);

/* Returns whether the setting of that name was given on the command line. */
bool settings_given(const Settings *s, const char *name);

/* Returns the name of an enum setting's value, for logs and tables. */
const char *sites_name(int64_t sites);
const char *protocol_name(int64_t protocol);

/* Returns the number of dropout sites S of SPEC 2: L+1, or 2L+1 with `all`. */
int sites_count(int64_t sites, int64_t L);

#endif
