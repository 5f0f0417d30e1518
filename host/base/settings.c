#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

#define FIELD(f) offsetof(Settings, f)
#define COUNT(n) "a whole number from " #n

static const SettingInfo list[] = {
    {"task", TYPE_NAME, ROLE_FIXED, 0, 0, 0, 0, "the name of a task",
     "what the network is trained for: lm, translate, frames or caption", FIELD(task), "!lm"},
    {"hidden", TYPE_INT, ROLE_FIXED, 1, 65536, 0, 0, COUNT(1) " to 65536", "hidden units H of each layer",
     FIELD(hidden), NULL},
    {"layers", TYPE_INT, ROLE_FIXED, 1, 64, 0, 0, COUNT(1) " to 64", "LSTM layers L", FIELD(layers), NULL},
    {"batch", TYPE_INT, ROLE_FIXED, 1, 65536, 0, 0, COUNT(1) " to 65536", "rows B of a minibatch",
     FIELD(batch), NULL},
    {"seq", TYPE_INT, ROLE_FIXED, 1, 65536, 0, 0, COUNT(1) " to 65536", "time steps T of a minibatch",
     FIELD(seq), "lm"},
    {"keep", TYPE_DOUBLE, ROLE_FIXED, 0, 1, 1, 0, "a number above 0 and at most 1",
     "share of values that dropout keeps (the paper states the dropped share)", FIELD(keep), NULL},
    {"init", TYPE_DOUBLE, ROLE_FIXED, 0, 1e6, 0, 0, "a number from 0 to 1e6",
     "initial weights are uniform in [-init, init]", FIELD(init), NULL},
    {"clip", TYPE_DOUBLE, ROLE_FIXED, 0, 1e30, 1, 0, "a number above 0", "largest global gradient norm",
     FIELD(clip), NULL},
    {"lr", TYPE_DOUBLE, ROLE_FIXED, 0, 1e30, 0, 0, "a number from 0", "learning rate of the first epoch",
     FIELD(lr), NULL},
    {"epochs", TYPE_INT, ROLE_ANEW, 0, 1e9, 0, 0, COUNT(0) " to 1000000000", "epochs in all", FIELD(epochs),
     NULL},
    {"hold", TYPE_INT, ROLE_FIXED, 0, 1e9, 0, 0, COUNT(0) " to 1000000000",
     "lr is divided after every epoch past this one", FIELD(hold), NULL},
    {"decay", TYPE_DOUBLE, ROLE_FIXED, 0, 1e30, 1, 0, "a number above 0", "what lr is divided by",
     FIELD(decay), NULL},
    {"seed", TYPE_U64, ROLE_FIXED, 0, 0, 0, 0, "a whole number from 0 to 18446744073709551615",
     "seed of the initial weights and the masks", FIELD(seed), NULL},
    {"dropout-sites", TYPE_CHOICE, ROLE_FIXED, 0, 0, 0, "nonrecurrent|all|none", "nonrecurrent, all or none",
     "connections that dropout masks", FIELD(sites), NULL},
    {"backend", TYPE_NAME, ROLE_ANEW, 0, 0, 0, "auto|cpu|cuda|reference", "auto, cpu, cuda or reference",
     "what computes", FIELD(backend), NULL},
    {"kernel", TYPE_NAME, ROLE_ANEW, 0, 0, 0, 0, "auto, NAME or FWD/BWD", "recurrence of the cuda backend",
     FIELD(kernel), NULL},
    {"precision", TYPE_NAME, ROLE_ANEW, 0, 0, 0, "f32|tf32|bf16", "f32, tf32 or bf16",
     "arithmetic of the matrix products", FIELD(precision), NULL},
    {"eval", TYPE_CHOICE, ROLE_ANEW, 0, 0, 0, "none|valid|test|all", "none, valid, test or all",
     "what is scored: valid after each epoch, valid and test at the end", FIELD(eval), NULL},
    {"protocol", TYPE_CHOICE, ROLE_ANEW, 0, 0, 0, "zaremba|sequential", "zaremba or sequential",
     "how splits are scored: test as one stream, and valid in rows (the paper's way) or as test",
     FIELD(protocol), "lm"},
    {"source", TYPE_NAME, ROLE_FIXED, 0, 0, 0, 0, "a suffix of file names, such as en",
     "side that is translated: train.SOURCE and so on", FIELD(source), "translate"},
    {"target", TYPE_NAME, ROLE_FIXED, 0, 0, 0, 0, "a suffix of file names, such as fr",
     "side that it is translated into", FIELD(target), "translate"},
    {"source-order", TYPE_CHOICE, ROLE_FIXED, 0, 0, 0, "reversed|forward", "reversed or forward",
     "order in which the words of a source sentence are read", FIELD(source_order), "translate"},
    {"min-count", TYPE_INT, ROLE_FIXED, 1, 1e9, 0, 0, COUNT(1) " to 1000000000",
     "a type seen less often in training is <unk>", FIELD(min_count), "translate|caption"},
    {"max-length", TYPE_INT, ROLE_FIXED, 0, 65536, 0, 0, COUNT(0) " to 65536, 0 being no limit",
     "longer sequences are left out of training", FIELD(max_length), "!lm"},
    {"cmvn", TYPE_CHOICE, ROLE_FIXED, 0, 0, 0, "utterance|none", "utterance or none",
     "what features are shifted and scaled over, to mean 0 and variance 1", FIELD(cmvn), "frames"},
    {"max-steps", TYPE_INT, ROLE_RUN, 0, 1e15, 0, 0, COUNT(0),
     "end when this many minibatches are done in all", FIELD(max_steps), NULL},
    {"threads", TYPE_INT, ROLE_RUN, 1, 1024, 0, 0, COUNT(1) " to 1024", "threads of the cpu backend",
     FIELD(threads), NULL},
    {"log-every", TYPE_INT, ROLE_RUN, 1, 1e9, 0, 0, COUNT(1),
     "minibatches from one step line of the log to the next", FIELD(log_every), NULL},
    {"save-every", TYPE_DOUBLE, ROLE_RUN, 0, 1e9, 1, 0, "a number of minutes above 0",
     "also save every so many minutes", FIELD(save_every), NULL},
    {"data", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a folder, or synthetic",
     "folder with train.txt, valid.txt, test.txt, or synthetic", FIELD(data), NULL},
    {"save", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a file",
     "checkpoint, after each epoch, at the end and on a signal", FIELD(save), NULL},
    {"save-best", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a file",
     "checkpoint of the epoch with the lowest valid perplexity", FIELD(save_best), NULL},
    {"resume", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a checkpoint", "go on from a checkpoint with its settings",
     FIELD(resume), NULL},
    {"log-json", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a file", "log, one JSON object per line", FIELD(log_json),
     NULL},
    {"init-weights", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a safetensors file", "start from these weights",
     FIELD(init_weights), NULL},
    {"vocab", TYPE_PATH, ROLE_RUN, 0, 0, 0, 0, "a text file with one word a line",
     "vocabulary in place of the training text's, one word a line in the order of the ids", FIELD(vocab),
     "lm"},
};

int settings_count(void) { return (int)(sizeof list / sizeof list[0]); }
const SettingInfo *settings_info(int i) { return &list[i]; }

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) return false;
    return *a == *b;
}

int settings_find(const char *name)
{
    for (int i = 0; i < settings_count(); i++)
        if (same_name(list[i].name, name)) return i;
    return -1;
}

/* ---- presets: the paper's three (SPEC 5), the demo's, those of other tasks; a task's first is its default ---- */

static const struct Preset {
    const char *task, *name;
    int64_t hidden, layers, batch, seq;
    double keep, init, clip, lr;
    int64_t epochs, hold;
    double decay;
} presets[] = {
    {"lm", "small", 200, 2, 20, 20, 1.0, 0.1, 5, 1, 13, 4, 2},
    {"lm", "medium", 650, 2, 20, 35, 0.5, 0.05, 5, 1, 39, 6, 1.2},
    {"lm", "large", 1500, 2, 20, 35, 0.35, 0.04, 10, 1, 55, 14, 1.15},
    {"lm", "demo", 128, 2, 20, 20, 0.5, 0.1, 5, 1, 28, 15, 1 / 0.78},
    {"translate", "translate", 256, 2, 20, 20, 0.8, 0.08, 5, 1, 12, 5, 1.5},
    {"translate", "demo", 128, 2, 20, 20, 0.7, 0.1, 5, 1, 40, 34, 1.5},
    {"frames", "frames", 256, 2, 5, 20, 0.7, 0.1, 5, 0.2, 24, 14, 1.4},
    {"frames", "demo", 128, 2, 5, 20, 0.6, 0.1, 5, 0.2, 24, 10, 1.2},
    {"caption", "caption", 512, 1, 50, 20, 0.7, 0.08, 5, 1, 15, 8, 1.5},
    {"caption", "demo", 96, 1, 8, 20, 0.8, 0.15, 0.4, 1, 40, 26, 1.25},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

bool settings_is_preset(const char *name)
{
    for (int i = 0; i < PRESETS; i++)
        if (!strcmp(presets[i].name, name)) return true;
    return false;
}

const char *settings_preset_names(const char *task, char out[PRESET_NAMES])
{
    int last = -1;
    for (int i = 0; i < PRESETS; i++)
        if (!strcmp(presets[i].task, task)) last = i;
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i <= last && n < PRESET_NAMES; i++)
        if (!strcmp(presets[i].task, task))
            n += (size_t)snprintf(out + n, PRESET_NAMES - n, "%s%s",
                                  !n         ? ""
                                  : i < last ? ", "
                                             : " or ",
                                  presets[i].name);
    return out;
}

int settings_preset(Settings *s, const char *name, Error *e)
{
    char names[PRESET_NAMES];
    for (int i = 0; i < PRESETS; i++) {
        const struct Preset *p = &presets[i];
        if (strcmp(p->task, s->task) || (name && strcmp(p->name, name))) continue;
        s->preset = p->name;
        s->hidden = p->hidden, s->layers = p->layers, s->batch = p->batch, s->seq = p->seq;
        s->keep = p->keep, s->init = p->init, s->clip = p->clip, s->lr = p->lr;
        s->epochs = p->epochs, s->hold = p->hold, s->decay = p->decay;
        return EXIT_DONE;
    }
    return error_set(e, EXIT_USAGE, "--preset takes %s, not '%s'", settings_preset_names(s->task, names),
                     name ? name : "");
}

void settings_defaults(Settings *s)
{
    Error e;
    memset(s, 0, sizeof *s);
    s->task = "lm";
    settings_preset(s, "small", &e);
    s->seed = 1;
    s->sites = SITES_NONRECURRENT;
    s->backend = "auto", s->kernel = "auto", s->precision = "f32";
    s->eval = EVAL_ALL;
    s->protocol = PROTOCOL_ZAREMBA;
    s->source_order = ORDER_REVERSED;
    s->min_count = 2;
    s->cmvn = CMVN_UTTERANCE;
    s->max_steps = -1;
    s->log_every = 1;
}

/* ---- which settings a task has ---- */

bool settings_of_task(int i, const char *task)
{
    const char *tasks = list[i].tasks;
    if (!tasks) return true;
    return tasks[0] == '!' ? strcmp(tasks + 1, task) != 0 : number_choice(tasks, task) >= 0;
}

int settings_check_task(const Settings *s, Error *e)
{
    for (int i = 0; i < settings_count(); i++)
        if (s->given >> i & 1 && !settings_of_task(i, s->task) && strcmp(list[i].name, "task"))
            return error_set(e, EXIT_USAGE, "--%s is not an option of --task %s", list[i].name, s->task);
    return EXIT_DONE;
}

/* ---- one setting: parse, print, compare ---- */

static void *field(const Settings *s, int i) { return (char *)s + list[i].offset; }

static void choice_name(const char *choices, int64_t index, char *out, size_t size)
{
    for (; index > 0; index--) choices = strchr(choices, '|') + 1;
    snprintf(out, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

int settings_set(Settings *s, int i, const char *value, Error *e)
{
    const SettingInfo *info = &list[i];
    bool ok = false;
    switch (info->type) {
    case TYPE_INT: ok = number_int(value, info->low, info->high, field(s, i)); break;
    case TYPE_U64: ok = number_u64(value, field(s, i)); break;
    case TYPE_DOUBLE: {
        double v;
        ok = number_double(value, &v) && (info->low_open ? v > info->low : v >= info->low) && v <= info->high;
        if (ok) *(double *)field(s, i) = v;
        break;
    }
    case TYPE_CHOICE: {
        int64_t v = number_choice(info->choices, value);
        ok = v >= 0;
        if (ok) *(int64_t *)field(s, i) = v;
        break;
    }
    case TYPE_NAME:
        ok = info->choices ? number_choice(info->choices, value) >= 0 : value[0] != 0;
        if (ok) *(const char **)field(s, i) = value;
        break;
    case TYPE_PATH:
        ok = value[0] != 0 && strcmp(value, "-"); /* which many programs take for a stream */
        if (ok) *(const char **)field(s, i) = value;
        break;
    }
    if (!ok) return error_set(e, EXIT_USAGE, "--%s takes %s, not '%s'", info->name, info->takes, value);
    s->given |= (uint64_t)1 << i;
    return EXIT_DONE;
}

void settings_format(const Settings *s, int i, char *out, size_t size)
{
    const void *p = field(s, i);
    switch (list[i].type) {
    case TYPE_INT: snprintf(out, size, "%lld", (long long)*(const int64_t *)p); break;
    case TYPE_U64: snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)p); break;
    case TYPE_DOUBLE: snprintf(out, size, "%.17g", *(const double *)p); break;
    case TYPE_CHOICE: choice_name(list[i].choices, *(const int64_t *)p, out, size); break;
    case TYPE_NAME:
    case TYPE_PATH: {
        const char *text = *(const char *const *)p;
        snprintf(out, size, "%s", text ? text : "");
        break;
    }
    }
}

void settings_show(const Settings *s, int i, char *out, size_t size)
{
    if (list[i].type == TYPE_DOUBLE) number_text(*(const double *)field(s, i), out, size);
    else settings_format(s, i, out, size);
}

bool settings_equal(const Settings *a, const Settings *b, int i)
{
    switch (list[i].type) {
    case TYPE_INT:
    case TYPE_CHOICE: return *(int64_t *)field(a, i) == *(int64_t *)field(b, i);
    case TYPE_U64: return *(uint64_t *)field(a, i) == *(uint64_t *)field(b, i);
    case TYPE_DOUBLE: return *(double *)field(a, i) == *(double *)field(b, i);
    case TYPE_NAME:
    case TYPE_PATH: {
        const char *x = *(const char **)field(a, i), *y = *(const char **)field(b, i);
        return x == y || (x && y && !strcmp(x, y));
    }
    }
    return false;
}

const char *sites_name(int64_t sites)
{
    static const char *const name[] = {"nonrecurrent", "all", "none"};
    return name[sites];
}

const char *protocol_name(int64_t protocol)
{
    return protocol == PROTOCOL_ZAREMBA ? "zaremba" : "sequential";
}

int sites_count(int64_t sites, int64_t L) { return (int)(sites == SITES_ALL ? 2 * L + 1 : L + 1); }
