/* settings: every choice of a run, once. The list below is what the command line parses, what a checkpoint's
 * metadata and the log's run line record, and what --resume compares, so that these cannot part. */
#ifndef PLSTM_SETTINGS_H
#define PLSTM_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

typedef enum DropoutSites { SITES_NONRECURRENT, SITES_ALL, SITES_NONE } DropoutSites;
typedef enum EvalWhat { EVAL_NONE = 0, EVAL_VALID = 1, EVAL_TEST = 2, EVAL_ALL = 3 } EvalWhat; /* bits */
typedef enum Protocol { PROTOCOL_ZAREMBA, PROTOCOL_SEQUENTIAL } Protocol;
typedef enum SourceOrder { ORDER_REVERSED, ORDER_FORWARD } SourceOrder;
typedef enum Cmvn { CMVN_UTTERANCE, CMVN_NONE } Cmvn;

/* How a setting takes part in --resume (SPEC 8). */
typedef enum SettingRole {
    ROLE_FIXED, /* recorded; given anew it must agree */
    ROLE_ANEW,  /* recorded; may be given anew */
    ROLE_RUN,   /* not recorded: says nothing about the weights, or depends on the machine */
} SettingRole;

typedef enum SettingType { TYPE_INT, TYPE_U64, TYPE_DOUBLE, TYPE_CHOICE, TYPE_NAME, TYPE_PATH } SettingType;

typedef struct Settings {
    const char *task;                      /* "lm", or the name of another (train/task.h) */
    const char *preset;                    /* "small", "medium", "large", "demo", or another of its task */
    int64_t hidden, layers, batch, seq;    /* H, L, B, T */
    double keep, init, clip, lr;           /* keep: share kept, not dropped */
    int64_t epochs, hold;                  /* SPEC 5 */
    double decay;                          /* lr is divided by it */
    uint64_t seed;                         /* masks and initial weights */
    int64_t sites;                         /* DropoutSites */
    const char *backend;                   /* auto, cpu, reference, (cuda) */
    const char *kernel;                    /* auto, NAME or FWD/BWD */
    const char *precision;                 /* f32, tf32, bf16 */
    int64_t eval;                          /* EvalWhat */
    int64_t protocol;                      /* Protocol */
    int64_t max_steps;                     /* -1: no bound */
    int64_t threads;                       /* 0: as many as this process may use */
    int64_t log_every;                     /* minibatches from one step line to the next */
    double save_every;                     /* minutes; 0: never between epochs */
    const char *source, *target;           /* suffixes of the files of the two sides */
    int64_t source_order;                  /* SourceOrder */
    int64_t min_count;                     /* of a type in the vocabulary */
    int64_t max_length;                    /* of a sequence; 0: no limit */
    int64_t cmvn;                          /* Cmvn */
    const char *data;                      /* folder or "synthetic"; NULL: not given */
    const char *save, *save_best, *resume; /* paths or NULL */
    const char *log_json, *init_weights;   /* paths or NULL */
    const char *vocab;                     /* path or NULL */
    uint64_t given;                        /* bit i: setting i was given on the command line */
    bool force, final_eos;                 /* how files are treated; no settings of the list below */
} Settings;

typedef struct SettingInfo {
    const char *name; /* the option without its dashes; metadata and log use '_' for '-' */
    SettingType type;
    SettingRole role;
    double low, high;    /* accepted range of a number; low is exclusive where low_open */
    bool low_open;       /* so that --keep 0 is refused */
    const char *choices; /* TYPE_CHOICE: "a|b|c", value is the position (EvalWhat: none|valid|test|all) */
    const char *takes;   /* what it takes, for messages and --help: "a whole number from 1 to 65536" */
    const char *help;    /* one line for --help */
    size_t offset;       /* of the field in Settings */
    const char *
        tasks; /* that have it: NULL all, "a|b" these, "!a" all but one. The others neither take nor record it */
} SettingInfo;

int settings_count(void);
const SettingInfo *settings_info(int i);
/* Number of the setting of that exact name (no dashes, '_' and '-' alike), or -1. */
int settings_find(const char *name);

/* Task lm, preset small, seed 1, everything else as SPEC 8's defaults. */
void settings_defaults(Settings *s);

/* Sets the fields of a preset of s->task and leaves the others; name NULL: of its first one. EXIT_USAGE names the
 * presets. Call it before settings_set: an option beats the preset wherever it stands on the command line. */
int settings_preset(Settings *s, const char *name, Error *e);

/* Whether any task has a preset of that name; the names of a task's, "small, medium, large or demo"; returns out. */
bool settings_is_preset(const char *name);
enum { PRESET_NAMES = 128 };
const char *settings_preset_names(const char *task, char out[PRESET_NAMES]);

/* Whether setting i is one of that task's. */
bool settings_of_task(int i, const char *task);
/* EXIT_USAGE: a setting that was given is none of s->task's. */
int settings_check_task(const Settings *s, Error *e);

/* Parses value into setting i and marks it given. Strings are kept by reference. EXIT_USAGE: "--keep takes
 * ..., not 'x'". */
int settings_set(Settings *s, int i, const char *value, Error *e);

/* Setting i in its canonical spelling (doubles as %.17g, choices by name, u64 in decimal), empty for a NULL
 * path. */
void settings_format(const Settings *s, int i, char *out, size_t size);

/* The same for people: a number as it was typed, 0.1 and not 0.10000000000000001. */
void settings_show(const Settings *s, int i, char *out, size_t size);

/* True when setting i has the same value in a and b. */
bool settings_equal(const Settings *a, const Settings *b, int i);

/* Name of an enum setting's value, for logs and tables. */
const char *sites_name(int64_t sites);
const char *protocol_name(int64_t protocol);

/* Number of dropout sites S of SPEC 2: L+1, or 2L+1 with `all`. */
int sites_count(int64_t sites, int64_t L);

#endif
