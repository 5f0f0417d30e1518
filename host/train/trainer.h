/* trainer: runs the schedule of SPEC 5 over a task's data: epochs, carried state, validation,
 * checkpoints, signals, resume. */
#ifndef PLSTM_TRAINER_H
#define PLSTM_TRAINER_H

#include <stdbool.h>

#include "host/base/settings.h"
#include "host/store/checkpoint.h"
#include "host/train/task.h"

/* Trains as the settings say and reports to the log, standard output and standard error. resume: an
 * open checkpoint (its settings are already in *settings), or NULL. quiet: print no progress and no
 * hints. Returns an ExitCode, or 128 + signal after one of host/base/signals.h. */
int trainer_run(const Settings *settings, const Task *task, TaskData *data,
                const Checkpoint *resume, bool quiet, Error *e);

#endif
