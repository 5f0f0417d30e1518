#!/bin/bash
# gpu_run.sh: everything that needs a GPU, in one command on a machine that has one.
#
#   gpu_run.sh [--out DIR] [--budget SECONDS] [--stages NAME,NAME...] [--skip NAME,NAME...] [--data DIR] [--work DIR] [--dry-run]
#
#   environment  the machine: GPU, driver, clocks, ECC, toolkit, commit
#   tests        the GPU tests, REQUIRE_GPU=1: a skip for want of one is a failure, and so is a program that launched no kernel
#   sanitize     compute-sanitizer memcheck and racecheck over small shapes
#   bench        the machine's constants, then rows: every variant and the whole step of the three presets, cuDNN beside them, each kernel
#   torch        PyTorch at the same shapes: nn.LSTM (cuDNN) and the whole step; FlashRNN and Haste where the variables FLASHRNN and HASTE name
#                folders with a copy of them
#   profile      tools/profile.sh: Nsight Compute and our own trace on every variant, Nsight Compute on the step's other kernels
#   train        Penn Treebank: the three presets to their end, in bf16 and f32, then tf32, the most telling first, while the budget lasts
#   parity       tools/parity.py on Penn Treebank: preset small in f32, tf32 and bf16, five seeds each, what bf16 and tf32 cost in perplexity
#
# Every step has a time limit and may fail; the next one goes on. --budget bounds the whole (default 570 s). The programs come from
# gpu-bundle/ (make gpu-bundle) or, where there is none, are built here. A machine with a GPU may have no network and no history.
#
# Into DIR (--out, else $OUT, else build/gpu_run/out), anew after every stage: gpu-run.tar.gz, which `tools/results.py --ingest` files,
# and its small parts beside it; at most 8 files, none over 16 MB. What is being worked on stays in --work (build/gpu_run), where a
# training that was cut short finds its checkpoint when the command runs again.
#
# Exit status: 0 everything that ran passed, 1 something did not, 2 usage, 4 no GPU. A training that the budget cut is no failure.
set -u

STAGES="environment tests sanitize bench torch profile train parity"
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cd "$root" || exit 1
out=${OUT:-} work=build/gpu_run budget=570 dry_run=0 data='' wanted=$STAGES unwanted='' test_program=''

usage() {
    sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p;}' "$root/tools/gpu_run.sh"
}
wrong() {
    echo "gpu_run: $1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=1 && shift && continue ;;
    --help) usage && exit 0 ;;
    --test) shift && test_program=${1:?} && shift && continue ;;
    --out | --budget | --stages | --skip | --data | --work) [ $# -ge 2 ] || wrong "$1 takes a value" ;;
    *) wrong "no option is called $1; --help lists them" ;;
    esac
    case $1 in
    --out) out=$2 ;;
    --budget) budget=$2 ;;
    --stages) wanted=${2//,/ } ;;
    --skip) unwanted=${2//,/ } ;;
    --data) data=$2 ;;
    --work) work=$2 ;;
    esac
    shift 2
done
case $budget in '' | *[!0-9]*) wrong "--budget takes whole seconds, not '$budget'" ;; esac
for name in $wanted $unwanted; do
    case " $STAGES " in *" $name "*) ;; *) wrong "no stage is called $name; there are $STAGES" ;; esac
done
out=${out:-build/gpu_run/out}

# ---- where things are ----

# Sets bundle (empty: built here), bin, tests.
if [ -x bin/plstm ]; then
    bundle=.
elif [ -x gpu-bundle/bin/plstm ]; then
    bundle="gpu-bundle"
else
    bundle=''
fi
if [ -n "$bundle" ]; then bin=$bundle/bin tests=$bundle/tests; else bin=build/gpu/bin tests=build/gpu/tests; fi
[ "$bundle" = . ] && bin=bin tests=tests

# The bundle's largest library travels packed.
unpack() {
    local packed
    for packed in "$bin"/../lib/*.gz; do
        if [ -e "$packed" ] && [ ! -e "${packed%.gz}" ]; then gunzip -c "$packed" >"${packed%.gz}.part" && mv "${packed%.gz}.part" "${packed%.gz}"; fi
    done
}

if [ -z "$data" ]; then
    for folder in "${bundle:-.}/data/ptb" data/ptb ../shared/data/ptb; do
        if [ -e "$folder/ptb.train.txt" ] || [ -e "$folder/train.txt" ]; then data=$folder && break; fi
    done
fi

# Folders of cuBLAS and CUPTI, for programs that look for them: the toolkit's and those of Python packages.
cuda_folders() {
    local cuda folder
    cuda=$(command -v nvcc) && cuda=${cuda%/bin/nvcc}
    for folder in ${cuda:+"$cuda"/lib64 "$cuda"/extras/CUPTI/lib64} /usr/local/cuda*/lib64 /usr/local/cuda*/extras/CUPTI/lib64; do
        if [ -d "$folder" ]; then echo "$folder"; fi
    done
    python3 - 2>/dev/null <<'PYTHON'
import glob, sysconfig
paths = sysconfig.get_paths()
for root in dict.fromkeys([paths["purelib"], paths["platlib"]]):
    for library in ("libcublas.so.*", "libcupti.so.*"):
        for path in glob.glob(f"{root}/nvidia/*/lib/{library}"):
            print(path.rsplit("/", 1)[0])
PYTHON
}

# ---- steps ----

began=$SECONDS
last_stage='' failures=0
RESERVE=15 # seconds kept for stopping and packing

left() { echo $((budget - RESERVE - (SECONDS - began))); }

# keep STAGE STEP STATUS SECONDS LIMIT EXIT COMMAND: one line of the record.
keep() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@" >>"$work/steps.tsv"
    printf '%-12s %-28s %-8s %5s s\n' "$1" "$2" "$3" "$4"
}

# step STAGE NAME LIMIT COMMAND...: runs the command for at most LIMIT seconds, keeps what it says in raw/STAGE-NAME.txt and how it ended
# in steps.tsv. Returns its exit status. With ok_on set, that exit status means `part`: cut by the budget, no failure.
step() {
    local stage=$1 name=$2 limit=$3 status verdict start room
    shift 3
    if [ "$dry_run" = 1 ]; then
        [ "$stage" = "$last_stage" ] || echo "$stage"
        last_stage=$stage
        printf '  %-28s %4s s  %s\n' "$name" "$limit" "$*"
        return 0
    fi
    room=$(left)
    if [ "$room" -lt 2 ]; then
        keep "$stage" "$name" "no time" 0 "$limit" - "$*"
        [ -n "${ok_on:-}" ] || failures=$((failures + 1))
        return 1
    fi
    [ "$limit" -le "$room" ] || limit=$room
    start=$SECONDS
    # TERM first: a training then writes its checkpoint.
    timeout --kill-after=8 "$limit" "$@" >"$work/raw/$stage-$name.txt" 2>&1 </dev/null
    status=$?
    case $status in
    0) verdict=ok ;;
    124 | 137) verdict=timeout ;;
    *) verdict=failed ;;
    esac
    if [ $status -ne 0 ] && [ "$status" = "${ok_on:-}" ]; then verdict=part; fi
    case $verdict in failed | timeout) failures=$((failures + 1)) ;; esac
    keep "$stage" "$name" "$verdict" $((SECONDS - start)) "$limit" "$status" "$*"
    return $status
}

# refuse STAGE NAME SENTENCE: a step that cannot run is a failure with a reason.
refuse() {
    if [ "$dry_run" = 1 ]; then
        step "$1" "$2" 0 "($3)"
        return
    fi
    echo "$3" >"$work/raw/$1-$2.txt"
    keep "$1" "$2" failed 0 0 - "$3"
    failures=$((failures + 1))
}

pack() {
    [ "$dry_run" = 1 ] || python3 tools/results/ingest.py --pack "$work" "$out" || failures=$((failures + 1))
}

# gpu_run.sh --test PROGRAM: a test program under run_tests.py with REQUIRE_GPU=1. No case may be skipped but those whose reason says that
# they are about the emulator or cannot be of a real GPU, and the driver must have seen at least one launch, which liblaunch_count.so
# counts from inside the program.
one_test() {
    local counts said launches status
    counts=$(mktemp) said=$(mktemp)
    REQUIRE_GPU=1 PLSTM=${PLSTM:-$bin/plstm} PLSTM_LAUNCHES=$counts CUDA_INJECTION64_PATH=$root/$bin/../lib/liblaunch_count.so \
        python3 tools/make/run_tests.py --build "$bin/.." --limit 170 "$1" | tee "$said"
    status=${PIPESTATUS[0]}
    launches=$(awk '{ n += $1 } END { print n + 0 }' "$counts")
    echo "kernels and graphs launched: $launches"
    if grep '^ *skipped ' "$said" | grep -q -v -e emulator -e 'real GPU'; then
        echo "a skip is a failure on a machine with a GPU" && status=1
    fi
    if [ "$status" -eq 0 ] && tail -n 1 "$said" | grep -q '^0 passed'; then
        echo "all of it is about the emulator"
    elif [ "$launches" -eq 0 ]; then
        echo "nothing was launched on the GPU" && status=1
    fi
    rm -f "$counts" "$said"
    return "$status"
}
if [ -n "$test_program" ]; then
    unpack
    one_test "$test_program"
    exit
fi

# ---- stages ----

build_here() {
    if [ -z "$bundle" ]; then step build programs 300 make CUDA=1 GPU_BUNDLE=build/gpu gpu-bundle; fi
}

environment() {
    step environment gpu 30 nvidia-smi -q -d CLOCK,ECC,MEMORY,PERFORMANCE,POWER,TEMPERATURE
    step environment summary 30 nvidia-smi --format=csv \
        --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current,mig.mode.current
    step environment toolkit 30 sh -c 'nvcc --version; ncu --version; compute-sanitizer --version; uname -srm; nproc'
    step environment plstm 30 "$bin/plstm" --version
    step environment devices 60 "$bin/plstm" devices
}

tests() {
    local program name any=0
    for program in "$tests"/test_*; do
        [ -x "$program" ] || continue
        any=1 name=${program##*/}
        step tests "$name" 180 tools/gpu_run.sh --test "$program"
    done
    [ $any = 1 ] || refuse tests programs "no GPU test in $tests"
}

sanitize() {
    local tool tiny
    tiny="train --data synthetic --backend cuda --hidden 20 --layers 2 --batch 3 --seq 5 --keep 0.5 --max-steps 4 --eval none"
    for tool in memcheck racecheck; do
        # shellcheck disable=SC2086
        step sanitize "$tool-train" 150 compute-sanitizer --tool $tool --error-exitcode 9 "$bin/plstm" $tiny
        step sanitize "$tool-kernels" 150 env REQUIRE_GPU=1 compute-sanitizer --tool $tool --error-exitcode 9 "$tests/test_kernels"
    done
}

# rows NAME H LIMIT FILTER [OPTION...]: rows of one H whose names match, into bench-NAME-H.json. The benchmark stops by itself before the
# limit, so that what it has is a whole file.
rows() {
    local name=$1 H=$2 limit=$3 filter=$4 room roofs=''
    shift 4
    if [ "$dry_run" = 0 ]; then
        room=$(left)
        [ "$room" -ge "$limit" ] || limit=$room
        if [ -e "$work/constants.json" ]; then roofs=--roofs=$work/constants.json; fi
    fi
    step bench "$name-$H" "$limit" env PLSTM_TUNE=1 "$bin/bench_gpu" "--h=$H" "--benchmark_filter=$filter" "--budget=$((limit * 3 / 4))" ${roofs:+"$roofs"} \
        "$@" "--benchmark_out=$work/bench-$name-$H.json" --benchmark_out_format=json
}

# The shape with published times first: where they do not come out again, no other time means much. Then the most telling rows: our
# variants and the whole step, cuDNN beside us, the step by each variant, where its time goes, launch against step, and the rest. No variant
# of ours has a dash in its name.
bench() {
    local sampler='' H
    if [ "$dry_run" = 0 ]; then # clocks while it runs: a throttled sample shows here
        nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active \
            --format=csv -lms 500 >"$work/raw/bench-clocks.csv" 2>&1 &
        sampler=$!
    fi
    step bench constants 120 env PLSTM_TUNE=1 "$bin/bench_gpu" --seconds=0.3 "--constants=$work/constants.json"
    rows peers 768 45 '^lstm/(fwd|fwdbwd)/cudnn-[a-z-]+/f16/'
    for H in 650 1500 200; do
        rows rows "$H" 60 "^(step/[a-zA-Z0-9:/]*T|lstm/(fwd|bwd)/[a-z0-9_]+/.*T):$([ "$H" = 200 ] && echo 20 || echo 35)/(eager/)?iter"
    done
    for H in 650 1500 200; do
        rows peers "$H" 60 '^(lstm/fwdbwd/cudnn|layer/fwdbwd/)'
    done
    for H in 650 1500 200; do
        rows steps "$H" 45 '^step/.*/kernel:'
    done
    for H in 650 1500 200; do
        rows kernels "$H" 30 '^(layers|gemm)/'
    done
    for H in 650 1500 200; do
        rows fit "$H" 40 '^lstm/(fwd|bwd)/[a-z0-9_]+/(f32|bf16)/.*(T:[0-9]+/iter|fit/)'
    done
    for H in 650 1500 200 768; do
        rows rest "$H" 60 '^(lstm/fwd/cudnn|lstm2/|layer2/|layer/fwd/)'
    done
    [ -z "$sampler" ] || { kill "$sampler" && wait "$sampler"; } 2>/dev/null
}

torch() {
    step torch peer 200 python3 tools/torch/torch_peer.py --out "$work/torch.json" ${FLASHRNN:+--flashrnn "$FLASHRNN"} ${HASTE:+--haste "$HASTE"}
}

# Every variant at the medium model's shape, by tools/profile.sh; then the step's own kernels where they are longest.
PROFILED="layers/softmax_xent/f32/H:650/B:20/T:35 layers/embedding_bwd/f32/H:650/B:20/T:35 layers/sgd_norm/f32/H:1500/B:20/T:35
    layers/sgd_update/f32/H:1500/B:20/T:35"
# "NAME PRECISION" of each, as the benchmark lists them.
profiled_variants() {
    local found
    found=$("$bin/bench_gpu" --benchmark_list_tests 2>/dev/null | sed -n 's|^lstm/fwd/\([a-z0-9_]*\)/\([a-z0-9]*\)/H:650/B:20/T:35\(/iterations.*\)\{0,1\}$|\1 \2|p' | sort -u)
    echo "${found:-cublas f32}"
}
profile() {
    local row name kernel precision profiler="tools/profile.sh PLSTM=$bin/plstm BENCH=$bin/bench_gpu BUILD=${bundle:-build/gpu}"
    while read -r kernel precision; do
        name=$kernel-$precision
        # shellcheck disable=SC2086
        step profile "ncu-$name" 90 $profiler K="$kernel" PRECISION="$precision" H=650 B=20 T=35 TOOL=ncu METRICS=roofline OUT="$work/profile/$name"
        # shellcheck disable=SC2086
        step profile "trace-$name" 60 $profiler K="$kernel" PRECISION="$precision" H=650 B=20 T=35 STEPS=5 TOOL=trace OUT="$work/profile/$name-trace"
    done < <(profiled_variants)
    for row in $PROFILED; do
        name=$(echo "${row%/B:*}" | tr '/:' '--')
        # shellcheck disable=SC2086
        step profile "$name" 60 $profiler ROW="$row" TOOL=ncu METRICS=roofline OUT="$work/profile/$name"
    done
}

# train_preset PRESET PRECISION: one training; goes on from its checkpoint where there is one. That of f32 has the preset's name alone.
train_preset() {
    local preset=$1 precision=$2 name=$1
    [ "$precision" = f32 ] || name=$preset-$precision
    local log=$work/ptb-$name.jsonl saved=$work/ptb-$name.safetensors
    if [ "$dry_run" = 0 ] && grep -qs '"event": *"test"' "$log"; then
        keep train "$name" ok 0 0 0 "done by an earlier run"
        return
    fi
    local from=(--preset "$preset" --seed 1 --precision "$precision")
    if [ -e "$saved" ]; then from=(--resume "$saved"); fi
    ok_on=124 step train "$name" "$(left)" env PLSTM_TUNE=1 "$bin/plstm" train "${from[@]}" --data "$data" --backend cuda --log-json "$log" \
        --log-every 10 --save "$saved"
}

train() {
    local one
    if [ -z "$data" ]; then
        refuse train corpus "no Penn Treebank: tools/fetch_ptb.sh puts it in data/ptb, --data names another folder"
        return
    fi
    for one in small/f32 small/bf16 medium/bf16 large/bf16 medium/f32 large/f32 small/tf32 medium/tf32 large/tf32; do
        train_preset "${one%/*}" "${one#*/}" || return
        pack # a finished one is worth keeping before the next begins
    done
}

# A seed after the other in all precisions, so that those that ended compare; runs of an earlier call are not run again.
parity() {
    if [ -z "$data" ]; then
        refuse parity corpus "no Penn Treebank: tools/fetch_ptb.sh puts it in data/ptb, --data names another folder"
        return
    fi
    ok_on=124 step parity small "$(left)" python3 tools/parity.py --plstm "$bin/plstm" --out "$work/parity" --seeds 5 --data "$data" \
        --backend cuda --preset small
    if [ -e "$work/parity/parity.jsonl" ]; then cp "$work/parity/parity.jsonl" "$work/parity.jsonl"; fi
}

runs() {
    case " $unwanted " in *" $1 "*) return 1 ;; esac
    case " $wanted " in *" $1 "*) ;; *) return 1 ;; esac
}

# Drops what earlier runs in the same folder left of the stages that run now; the others' results go into the archive again.
forget() {
    local stage
    touch "$work/steps.tsv"
    for stage in $STAGES; do
        runs "$stage" || continue
        rm -f "$work/raw/$stage"-*
        grep -v "^$stage	" "$work/steps.tsv" >"$work/steps.tsv.new"
        mv "$work/steps.tsv.new" "$work/steps.tsv"
        case $stage in
        bench) rm -f "$work/constants.json" "$work"/bench-*.json ;;
        torch) rm -f "$work/torch.json" ;;
        profile) rm -rf "$work/profile" ;;
        esac
    done
}

# ---- main ----

if [ "$dry_run" = 0 ]; then
    if ! gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || [ -z "$gpu" ]; then
        echo "gpu_run: nvidia-smi shows no GPU here; --dry-run prints what would run" >&2
        exit 4
    fi
    mkdir -p "$work/raw" "$out" || exit 1
    forget
    commit=$(cat "${bundle:-.}/COMMIT" 2>/dev/null || git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    printf '{"hardware": "%s", "commit": "%s"}\n' "$gpu" "$commit" >"$work/machine.json"
    folders=$(cuda_folders | paste -sd :)
    export LD_LIBRARY_PATH="$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
fi

build_here
[ "$dry_run" = 1 ] || unpack
for stage in $STAGES; do
    runs "$stage" || continue
    $stage
    pack
done
[ "$dry_run" = 0 ] || exit 0
python3 tools/results/ingest.py --table "$work"
[ "$failures" -eq 0 ]
