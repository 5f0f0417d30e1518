/* version: what `plstm --version` and the log's run line print. The Makefile writes the commit into
 * commit.h. */
#ifndef PLSTM_VERSION_H
#define PLSTM_VERSION_H

#define PLSTM_VERSION "0.1.0"

#if __has_include("commit.h")
#include "commit.h"
#endif
#ifndef PLSTM_COMMIT
#define PLSTM_COMMIT "unknown"
#endif

#endif
