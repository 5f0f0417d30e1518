#!/bin/sh
# gpu_run.sh: runs everything that needs a GPU, in one command on a machine that has one (tools/gpu/run.py); --help lists it.
exec python3 -u "$(dirname "$0")/gpu/run.py" "$@"
