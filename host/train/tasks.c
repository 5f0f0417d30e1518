#include "host/train/task.h"

#include <math.h>
#include <string.h>

extern const Task task_lm, task_translate;

const Task *const tasks[] = {&task_lm, &task_translate, NULL};

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

double task_cost(const Task *task, const Totals *t)
{
    if (!t->scored) return NAN;
    return task->hits ? 1 - (double)t->hits / (double)t->scored : t->nats / (double)t->scored;
}
