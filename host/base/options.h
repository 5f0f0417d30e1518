/* options: one record for each option. What the command line parses, --help prints, a checkpoint's metadata and the
 * log's run line record and --resume compares all follow from it, so that these cannot part. Settings of a run have
 * their list in settings.c; options that only one command has stand in that command's file. */
#ifndef PLSTM_OPTIONS_H
#define PLSTM_OPTIONS_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* With what the field is. */
typedef enum OptionType {
    TYPE_INT,    /* int64_t */
    TYPE_U64,    /* uint64_t */
    TYPE_DOUBLE, /* double */
    TYPE_CHOICE, /* int64_t: the position in choices */
    TYPE_NAME,   /* const char *, one of choices where there are any */
    TYPE_PATH,   /* const char *, but not "-", which many programs take for a stream */
    TYPE_PATHS,  /* PathList; may be given more than once */
    TYPE_FLAG,   /* bool; takes no value */
} OptionType;

/* Files of a TYPE_PATHS: a value that names an existing file is one path, another one is cut at its commas. */
typedef struct PathList {
    char **path; /* (n), each malloc'd */
    int n;
} PathList;
bool path_list_add(PathList *l, const char *path,
                   size_t length); /* false: it is no path, or memory ran out */
void path_list_free(PathList *l);

/* How a setting takes part in --resume (SPEC 8). */
typedef enum OptionRole {
    ROLE_RUN,   /* not recorded: says nothing about the weights, or depends on the machine */
    ROLE_FIXED, /* recorded; given anew it must agree */
    ROLE_ANEW,  /* recorded; may be given anew */
} OptionRole;

typedef struct Option {
    const char *name; /* without its dashes; metadata and log use '_' for '-' */
    OptionType type;
    const char *takes; /* for messages and --help: "a whole number from 1 to 65536" */
    double low,
        high; /* accepted range of a number; what is off unless given has a value below low */
    const char *choices; /* TYPE_CHOICE, TYPE_NAME: "a|b|c", or NULL */
    const char *help;    /* one line for --help */
    size_t at;           /* of the field in its record */
    const char *
        initial; /* what holds where it is not given; NULL: a record's zero, or what a preset says */
    const char *arg; /* what --help calls the value; NULL: by the type */
    bool needed;     /* of a command: it cannot do without */
    /* Of the settings of a run: */
    OptionRole role;
    bool of_preset; /* --preset sets it */
    const char *
        tasks; /* that have it: NULL all, "a|b" these, "!a" all but one. The others neither take nor record it */
    const char *key; /* of a checkpoint's metadata, where it is not the name */
} Option;

/* type, takes, low, high and choices of a record. */
#define TAKES_WHOLE(low, high)            TYPE_INT, "a whole number from " #low " to " #high, low, high, NULL
#define TAKES_FROM(low, high)             TYPE_INT, "a whole number from " #low, low, high, NULL
#define TAKES_WHOLE_AS(takes, low, high)  TYPE_INT, takes, low, high, NULL
#define TAKES_SEED                        TYPE_U64, "a whole number from 0 to 18446744073709551615", 0, 0, NULL
#define TAKES_NUMBER(low, high)           TYPE_DOUBLE, "a number from " #low " to " #high, low, high, NULL
#define TAKES_NUMBER_AS(takes, low, high) TYPE_DOUBLE, takes, low, high, NULL
#define ABOVE_0                           DBL_TRUE_MIN
#define TAKES_CHOICE(takes, choices)      TYPE_CHOICE, takes, 0, 0, choices
#define TAKES_NAME(takes, choices)        TYPE_NAME, takes, 0, 0, choices
#define TAKES_TEXT(takes)                 TYPE_NAME, takes, 0, 0, NULL
#define TAKES_PATH(takes)                 TYPE_PATH, takes, 0, 0, NULL
#define TAKES_PATHS(takes)                TYPE_PATHS, takes, 0, 0, NULL
#define TAKES_NOTHING                     TYPE_FLAG, NULL, 0, 0, NULL

/* Parses value into the field of a record. Strings are kept by reference. EXIT_USAGE: "--keep takes ..., not 'x'". */
int option_parse(const Option *o, void *record, const char *value, Error *e);

/* The field in its canonical spelling (doubles as %.17g, choices by name, u64 in decimal), empty for a NULL string and
 * for what is no one value (PathList, bool). Returns out. */
const char *option_format(const Option *o, const void *record, char *out, size_t size);

/* The same for people: a number as it was typed, 0.1 and not 0.10000000000000001. */
const char *option_show(const Option *o, const void *record, char *out, size_t size);

/* A member of a log line under the option's name: null where it is off, a u64 as text, since a double does not hold 64
 * bits. */
struct JsonLine;
void option_json(const Option *o, const void *record, struct JsonLine *l);

bool option_equal(const Option *o, const void *a, const void *b);
void option_copy(const Option *o, void *to, const void *from);

/* The name with '_' for '-', at most 39 bytes; returns out. */
enum { OPTION_KEY_SIZE = 40 };
const char *option_key(const char *name, char out[OPTION_KEY_SIZE]);

#endif
