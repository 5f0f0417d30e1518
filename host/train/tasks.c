#include "host/train/task.h"

#include <glob.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

extern const Task task_lm, task_translate, task_frames, task_caption;

const Task *const tasks[] = {&task_lm, &task_translate, &task_frames, &task_caption, NULL};

int task_find(const char *name, const Task **task, Error *e)
{
    char names[256] = "";
    for (int i = 0; tasks[i]; i++) {
        size_t n = strlen(names);
        *task = tasks[i];
        if (!strcmp(tasks[i]->name, name)) return EXIT_DONE;
        snprintf(names + n, sizeof names - n, "%s%s",
                 !i             ? ""
                 : tasks[i + 1] ? ", "
                                : " or ",
                 tasks[i]->name);
    }
    return error_set(e, EXIT_USAGE, "--task takes %s, not '%s'", names, name);
}

int task_of(const Checkpoint *c, const char *path, const Task **task, Error *e)
{
    Error ignored;
    if (task_find(c->task, task, &ignored) == EXIT_DONE) return EXIT_DONE;
    return error_set(e, EXIT_BAD_DATA,
                     "%s was trained for task '%.60s', which this plstm does not know", path,
                     c->task);
}

static bool looks_like(const Task *task, const char *folder)
{
    bool found = false;
    for (const char *mark = task->marks; mark && !found;
         mark = strchr(mark, '|') ? strchr(mark, '|') + 1 : NULL) {
        char pattern[PATH_MAX];
        glob_t at;
        snprintf(pattern, sizeof pattern, "%s/%.*s", folder, (int)strcspn(mark, "|"), mark);
        found = !glob(pattern, GLOB_NOSORT, NULL, &at);
        globfree(&at);
    }
    return found;
}

int task_hint(const Task *task, const char *data, int code, Error *e)
{
    struct stat file;
    if (!code || !data) return code;
    bool folder = !stat(data, &file) && S_ISDIR(file.st_mode), told = strstr(e->text, "the name ");
    char *end = e->text + strlen(e->text);
    size_t room = sizeof e->text - (size_t)(end - e->text);
    if (folder ? looks_like(task, data) : !strcmp(data, task->builtin)) return code;
    for (int i = 0; tasks[i]; i++)
        if (folder ? looks_like(tasks[i], data) : !strcmp(data, tasks[i]->builtin)) {
            if (folder)
                snprintf(end, room, "; %s looks like a folder of task %s, not %s", data,
                         tasks[i]->name, task->name);
            else
                snprintf(
                    end, room,
                    "; the name %s stands for built-in data of task %s, and %s for that of task %s",
                    data, tasks[i]->name, task->builtin, task->name);
            return code;
        }
    if (!folder && !told)
        snprintf(end, room, "; the name %s stands for the built-in data of task %s", task->builtin,
                 task->name);
    return code;
}

double task_cost(const Task *task, const Totals *t)
{
    if (!t->scored) return NAN;
    return task->hits ? 1 - (double)t->hits / (double)t->scored : t->nats / (double)t->scored;
}
