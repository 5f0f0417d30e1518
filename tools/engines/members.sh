#!/bin/bash
# members.sh OUT "SEEDS" [OPTION of plstm train...]: trains the members of an ensemble, one after another.
#
#   tools/engines/members.sh runs/small "1 2 3 4 5" --preset small --data data/ptb --threads 1 --save-every 10
#
# A member is one `plstm train --seed N`. Its files in the folder OUT are
#
#   seed-N.st      the checkpoint: a member that was stopped, killed or cancelled continues from it
#   seed-N.jsonl   the log
#   seed-N.lock    a lock (flock) that the script and plstm hold while the member trains, so that no two processes train it at once
#   seed-N.done    the options of the training, written when the member is complete, so that no member is trained twice
#
# SIGTERM, SIGINT, SIGHUP and SIGUSR1 make the running member save its checkpoint and end. PLSTM is the program (build/plstm).
# Exit status: 0 if every member is complete, otherwise that of the first member that failed: plstm's own, 138 after a signal, or 75
# if another process was training it.
set -u
if [ $# -lt 2 ]; then
    echo "usage: members.sh OUT \"SEEDS\" [OPTION of plstm train...]" >&2
    exit 2
fi
plstm=${PLSTM:-build/plstm} out=$1 seeds=$2
shift 2
options=$(printf '%q ' "$@")
mkdir -p "$out" || exit 3

# Engines signal a script, its process group or all processes of a job, some of them twice, and a second signal would end plstm before
# it has saved. So plstm ignores the engine's signals, and this script sends it one SIGUSR1.
child= stopped=
stop() {
    [ -n "$stopped" ] || [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null
    stopped=1
}
trap stop TERM INT HUP USR1

# Trains or continues one member. The lock is on descriptor 9, which plstm inherits.
member() {
    local name=$out/seed-$1 seed=$1 resume=() status
    shift
    if ! flock -n 9; then
        echo "members.sh: $name is being trained by another process" >&2
        return 75
    fi
    if [ -e "$name.done" ]; then
        [ "$(cat "$name.done")" = "$options" ] && return 0
        echo "members.sh: $name was trained with other options: $(cat "$name.done")" >&2
        return 2
    fi
    if [ -e "$name.st" ]; then resume=(--resume "$name.st"); fi
    (trap '' TERM INT HUP && exec "$plstm" train "$@" --seed "$seed" --save "$name.st" --log-json "$name.jsonl" "${resume[@]}") &
    child=$!
    [ -z "$stopped" ] || kill -USR1 "$child"
    # A signal can end wait before the member has ended.
    while wait "$child"; kill -0 "$child" 2>/dev/null; do :; done
    wait "$child"
    status=$?
    child=
    [ "$status" -ne 0 ] || { printf '%s\n' "$options" >"$name.done.tmp" && mv "$name.done.tmp" "$name.done"; } || status=3
    return "$status"
}

first=0
for seed in $seeds; do
    member "$seed" "$@" 9>>"$out/seed-$seed.lock"
    status=$?
    if [ "$first" -eq 0 ]; then first=$status; fi
    if [ -n "$stopped" ]; then break; fi
done
exit "$first"
