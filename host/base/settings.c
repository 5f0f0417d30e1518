#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

#define AT(field) .at = offsetof(Settings, field)
#define FIXED     .role = ROLE_FIXED
#define ANEW      .role = ROLE_ANEW

static const Option list[] = {
    {"task", TAKES_TEXT("lm, translate, frames or caption"), "what the network is trained for",
     AT(task), "lm", FIXED, .tasks = "!lm"},
    {"hidden", TAKES_WHOLE(1, 65536), "hidden units H of each layer", AT(hidden), FIXED,
     .of_preset = true},
    {"layers", TAKES_WHOLE(1, 64), "LSTM layers L", AT(layers), FIXED, .of_preset = true},
    {"batch", TAKES_WHOLE(1, 65536), "rows B of a minibatch", AT(batch), FIXED, .of_preset = true},
    {"seq", TAKES_WHOLE(1, 65536), "time steps T of a minibatch", AT(seq), FIXED, .of_preset = true,
     .tasks = "lm"},
    {"keep", TAKES_NUMBER_AS("a number above 0 and at most 1", ABOVE_0, 1),
     "share of values that dropout keeps (the paper states the dropped share)", AT(keep), FIXED,
     .of_preset = true},
    {"init", TAKES_NUMBER(0, 1e6), "initial weights are uniform in [-init, init]", AT(init), FIXED,
     .of_preset = true},
    {"clip", TAKES_NUMBER_AS("a number above 0 and at most 1e30", ABOVE_0, 1e30),
     "largest global gradient norm", AT(clip), FIXED, .of_preset = true},
    {"lr", TAKES_NUMBER(0, 1e30), "learning rate of the first epoch", AT(lr), FIXED,
     .of_preset = true, .key = "initial_lr"},
    {"epochs", TAKES_WHOLE(0, 1000000000), "epochs in total", AT(epochs), ANEW, .of_preset = true},
    {"hold", TAKES_WHOLE(0, 1000000000), "lr is divided after every epoch past this one", AT(hold),
     FIXED, .of_preset = true},
    {"decay", TAKES_NUMBER_AS("a number above 0 and at most 1e30", ABOVE_0, 1e30),
     "divisor of the learning rate", AT(decay), FIXED, .of_preset = true},
    {"seed", TAKES_SEED, "seed of the initial weights and the masks", AT(seed), "1", FIXED},
    {"dropout-sites", TAKES_CHOICE("nonrecurrent, all or none", "nonrecurrent|all|none"),
     "connections that dropout masks", AT(sites), "nonrecurrent", FIXED},
    {"backend", TAKES_NAME("auto, cpu, cuda or reference", "auto|cpu|cuda|reference"),
     "what runs the model", AT(backend), "auto", ANEW},
    {"kernel", TAKES_TEXT("auto, NAME or FWD/BWD"), "recurrence of the cuda backend", AT(kernel),
     "auto", ANEW},
    {"precision", TAKES_CHOICE("f32, tf32 or bf16", PRECISION_CHOICES),
     "arithmetic of the matrix products", AT(precision), "f32", ANEW},
    {"eval", TAKES_CHOICE("none, valid, test or all", "none|valid|test|all"),
     "what is scored: valid after each epoch, valid and test at the end", AT(eval), "all", ANEW},
    {"protocol", TAKES_CHOICE("zaremba or sequential", "zaremba|sequential"),
     "how splits are scored: test as one stream, and valid in rows (the paper's way) or "
     "as one stream",
     AT(protocol), "zaremba", ANEW, .tasks = "lm"},
    {"source", TAKES_TEXT("a suffix of file names, such as en"),
     "language to translate from: train.SOURCE and so on", AT(source), FIXED, .tasks = "translate"},
    {"target", TAKES_TEXT("a suffix of file names, such as fr"), "language to translate into",
     AT(target), FIXED, .tasks = "translate"},
    {"source-order", TAKES_CHOICE("reversed or forward", "reversed|forward"),
     "order in which the words of a source sentence are read", AT(source_order), "reversed", FIXED,
     .tasks = "translate"},
    {"min-count", TAKES_WHOLE(1, 1000000000), "a type seen less often in training becomes <unk>",
     AT(min_count), "2", FIXED, .tasks = "translate|caption"},
    {"max-length", TAKES_WHOLE_AS("a whole number from 0 to 65536, where 0 is no limit", 0, 65536),
     "longer sequences are left out of training", AT(max_length), "0", FIXED, .tasks = "!lm"},
    {"cmvn", TAKES_CHOICE("utterance or none", "utterance|none"),
     "over what features are normalised to mean 0 and variance 1", AT(cmvn), "utterance", FIXED,
     .tasks = "frames"},
    {"max-steps", TAKES_WHOLE(0, 1e15), "end after this many minibatches in total", AT(max_steps)},
    {"threads", TAKES_WHOLE(1, 1024), "threads of the cpu backend", AT(threads)},
    {"log-every", TAKES_WHOLE(1, 1e9), "minibatches between step lines of the log", AT(log_every),
     "1"},
    {"save-every", TAKES_NUMBER_AS("a number of minutes above 0 and at most 1e9", ABOVE_0, 1e9),
     "also save at this interval", AT(save_every)},
    {"data", TAKES_PATH("a folder, or the name of built-in data: synthetic or scenes"),
     "folder or name of built-in data. lm: train.txt, valid.txt and test.txt, or "
     "synthetic; translate: train.SOURCE, train.TARGET and so on, or synthetic; frames: "
     "train, valid and test, each with feats.scp or feats.ark and labels, or synthetic; "
     "caption: dataset.json and features.npy, or scenes",
     AT(data), .arg = "DIR"},
    {"save", TAKES_PATH("a file"),
     "checkpoint to write after each epoch, at the end and on a signal", AT(save)},
    {"save-best", TAKES_PATH("a file"),
     "checkpoint to write after the epoch with the lowest valid perplexity", AT(save_best)},
    {"resume", TAKES_PATH("a checkpoint"), "continue from a checkpoint with its settings",
     AT(resume)},
    {"log-json", TAKES_PATH("a file"), "log to write, one JSON object per line", AT(log_json)},
    {"init-weights", TAKES_PATH("a safetensors file"), "start from these weights",
     AT(init_weights)},
    {"vocab", TAKES_PATH("a text file with one word per line"),
     "vocabulary in place of the training text's: one word per line, in the order of the ids",
     AT(vocab), .tasks = "lm"},
    {"final-eos", TAKES_NOTHING,
     "add <eos> where a text's last line lacks its newline, as pytorch/examples does",
     AT(final_eos), .tasks = "lm"},
    {"force", TAKES_NOTHING, "overwrite also a file of another kind", AT(force)},
};

int settings_count(void) { return (int)(sizeof list / sizeof list[0]); }
const Option *settings_info(int i) { return &list[i]; }

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

/* ---- presets: the paper's (SPEC 5), the demo's, other tasks'; the first is the default ---- */

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
    const char *other = NULL;
    for (int i = 0; i < PRESETS && name && !other; i++)
        if (!strcmp(presets[i].name, name)) other = presets[i].task;
    return error_set(e, EXIT_USAGE, "--preset takes %s, not '%s'%s%s",
                     settings_preset_names(s->task, names), name ? name : "",
                     other ? ", which is a preset of --task " : "", other ? other : "");
}

void settings_defaults(Settings *s)
{
    Error e;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < settings_count(); i++)
        if (list[i].initial) option_parse(&list[i], s, list[i].initial, &e);
    settings_preset(s, NULL, &e);
    s->max_steps = -1;
}

/* ---- settings of a task ---- */

bool settings_of_task(int i, const char *task)
{
    const char *tasks = list[i].tasks;
    if (!tasks) return true;
    return tasks[0] == '!' ? strcmp(tasks + 1, task) != 0 : choice_index(tasks, task) >= 0;
}

int settings_check_task(const Settings *s, Error *e)
{
    for (int i = 0; i < settings_count(); i++)
        if (s->given >> i & 1 && !settings_of_task(i, s->task) && strcmp(list[i].name, "task"))
            return error_set(e, EXIT_USAGE, "--%s is not an option of --task %s", list[i].name,
                             s->task);
    return EXIT_DONE;
}

int settings_set(Settings *s, int i, const char *value, Error *e)
{
    int code = option_parse(&list[i], s, value, e);
    if (!code) s->given |= (uint64_t)1 << i;
    return code;
}

bool settings_given(const Settings *s, const char *name)
{
    return s->given >> settings_find(name) & 1;
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
