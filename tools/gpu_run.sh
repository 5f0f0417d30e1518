#!/bin/sh
# gpu_run.sh: everything that needs a GPU, in one command on a machine that has one; --help says what. tools/gpu/run.py does it.
exec python3 -u "$(dirname "$0")/gpu/run.py" "$@"
