#!/bin/bash
# parallel.sh OUT "SEEDS" [OPTION of plstm train...]: trains the members of an ensemble under GNU parallel, JOBS at a time (default: one
# per core). Each member is trained by members.sh, which explains the rest. After a signal the running members have up to two minutes to
# save.
set -u
if [ $# -lt 2 ]; then
    echo "usage: [JOBS=N] parallel.sh OUT \"SEEDS\" [OPTION of plstm train...]" >&2
    exit 2
fi
out=$1 seeds=$2
shift 2
# shellcheck disable=SC2086 # SEEDS is a list of words
exec parallel --jobs "${JOBS:-100%}" --line-buffer --quote --termseq TERM,120000,KILL \
    "$(dirname "$0")/members.sh" "$out" '{}' "$@" ::: $seeds
