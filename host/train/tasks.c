#include "host/train/task.h"

#include <math.h>
#include <string.h>

extern const Task task_lm, task_translate, task_frames, task_caption;

const Task *const tasks[] = {&task_lm, &task_translate, &task_frames, &task_caption, NULL};

int task_find(const char *name, const Task **task, Error *e)
{
    char names[256] = "";
    for (int i = 0; tasks[i]; i++) {
        size_t n = strlen(names);
        *task = tasks[i];
        if (!strcmp(tasks[i]->name, name)) return EXIT_DONE;
        snprintf(names + n, sizeof names - n, "%s%s", !i ? "" : tasks[i + 1] ? ", " : " or ", tasks[i]->name);
    }
    return error_set(e, EXIT_USAGE, "--task takes %s, not '%s'", names, name);
}

int task_of(const Checkpoint *c, const char *path, const Task **task, Error *e)
{
    Error ignored;
    if (task_find(c->task, task, &ignored) == EXIT_DONE) return EXIT_DONE;
    return error_set(e, EXIT_BAD_DATA, "%s was trained for task '%.60s', which this plstm does not have",
                     path, c->task);
}

double task_cost(const Task *task, const Totals *t)
{
    if (!t->scored) return NAN;
    return task->hits ? 1 - (double)t->hits / (double)t->scored : t->nats / (double)t->scored;
}
