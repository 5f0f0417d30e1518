#!/bin/bash
# rank.sh OUT "SEEDS" [OPTION of plstm train...]: the program of each rank of mpirun or srun, which share the members of an ensemble.
#
#   mpirun -n 5 tools/engines/rank.sh runs/small "1 2 3 4 5" --preset small --data data/ptb --threads 1
#
# Rank r of n trains the entries r, r + n, r + 2n ... of SEEDS by members.sh. The ranks exchange nothing, so any MPI works.
set -u
if [ $# -lt 2 ]; then
    echo "usage: mpirun -n N rank.sh OUT \"SEEDS\" [OPTION of plstm train...]" >&2
    exit 2
fi
# Open MPI, then MPICH and Intel MPI, then srun.
rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-}}}
size=${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-${SLURM_NTASKS:-}}}
if [ -z "$rank" ] || [ -z "$size" ]; then
    echo "rank.sh: no rank in the environment; start it with mpirun or srun" >&2
    exit 2
fi
out=$1 mine= i=0
for seed in $2; do
    if [ $((i % size)) -eq "$rank" ]; then mine="$mine $seed"; fi
    i=$((i + 1))
done
shift 2
exec "$(dirname "$0")/members.sh" "$out" "$mine" "$@"
