#!/bin/bash
# profile.sh: runs one variant, or one benchmark row, under a profiler and keeps the result as text.
#
#   profile.sh K=VARIANT H=HIDDEN B=BATCH T=STEPS [PRECISION=f32] [KEEP=0.5] [RANGE=layer0] [...]   training steps of plstm, launched one by one
#   profile.sh ROW=layers/softmax_xent/f32/H:650/B:20/T:35 [...]                                    one run of a row of bench_gpu, under ncu
#
#   TOOL=ncu|nsys|trace          default: the first that is installed. ncu: Nsight Compute on the kernels launched inside the NVTX range
#                                RANGE (layer0, forward, backward, update, step ...), without locking clocks or flushing caches. nsys: Nsight
#                                Systems, ranges and kernels. trace: our own recorder (tools/gpu/nvtx_trace.c), which needs neither
#   METRICS=fast|roofline|full   the metrics that ncu collects (tools/gpu/ncu_metrics.py); default fast
#   LAUNCHES=40                  the most kernels that ncu profiles; a pass of `cublas` launches 2 * T
#   STEPS=2                      training steps
#   SASS=1                       0: no sass.csv, which takes a while for a program with many kernels
#   PLSTM= BENCH= BUILD=         the programs, and the folder of nvcc's outputs; default build/plstm, build/cuda/bench_gpu, build
#   OUT=DIR                      default profiles/<gpu>/profile/<what>; with the emulated GPU, whose times mean nothing, build/profile/<what>
#
# The script writes to OUT: command.txt, environment.txt and summary.csv (tools/gpu/profile_read.py); with ncu METRICS-raw.csv and
# METRICS-details.txt, with nsys nsys.csv, with trace trace.json (for ui.perfetto.dev); ptxas.txt, if nvcc's outputs are here, and sass.csv,
# if cuobjdump is. The profilers' own files (*.ncu-rep, *.nsys-rep) are beside them and ignored by git. A run that fails leaves OUT unchanged.
#
# Exit status: 0 done, 1 the profiler or the program failed, 2 usage, 4 the tool or the program is not installed.
set -u

root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cd "$root" || exit 1

say() { echo "profile: $1" >&2; }

K='' H='' B='' T='' ROW='' TOOL='' METRICS=fast RANGE=layer0 PRECISION=f32 KEEP=0.5 LAUNCHES=40 STEPS=2 SASS=1 OUT='' BUILD=build PLSTM='' BENCH=''
for argument; do
    case $argument in
    --help)
        sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p;}' "$root/tools/profile.sh"
        exit 0
        ;;
    K=* | H=* | B=* | T=* | ROW=* | TOOL=* | METRICS=* | RANGE=* | PRECISION=* | KEEP=* | LAUNCHES=* | STEPS=* | SASS=* | OUT=* | BUILD=* | PLSTM=* | BENCH=*)
        # make passes an empty value for a variable that is not set; the default stays.
        if [ -n "${argument#*=}" ]; then printf -v "${argument%%=*}" %s "${argument#*=}"; fi
        ;;
    *)
        say "unexpected argument '$argument'; expected NAME=VALUE, and --help lists the names"
        exit 2
        ;;
    esac
done

whole() { case $2 in '' | *[!0-9]* | 0*) say "$1 must be a whole number from 1, not '$2'" && exit 2 ;; esac; }
plain() { case $2 in '' | *[!A-Za-z0-9_.:/-]*) say "$1 must be a name, not '$2'" && exit 2 ;; esac; }
if [ -n "$ROW" ]; then
    plain ROW "$ROW"
    what=$(echo "$ROW" | tr '/' '-' | tr -d ':')
else
    if [ -z "$K" ]; then say "nothing to profile; give K=VARIANT H= B= T=, or ROW=" && exit 2; fi
    plain K "$K" && plain RANGE "$RANGE" && plain PRECISION "$PRECISION" && plain KEEP "$KEEP"
    whole H "$H" && whole B "$B" && whole T "$T"
    what=$(echo "$K" | tr '/' '-')-$PRECISION-H$H-B$B-T$T
fi
whole LAUNCHES "$LAUNCHES" && whole STEPS "$STEPS"
case $METRICS in fast | roofline | full) ;; *) say "METRICS must be fast, roofline or full, not '$METRICS'" && exit 2 ;; esac
case $SASS in 0 | 1) ;; *) say "SASS must be 0 or 1, not '$SASS'" && exit 2 ;; esac
case $TOOL in '' | ncu | nsys | trace) ;; *) say "TOOL must be ncu, nsys or trace, not '$TOOL'" && exit 2 ;; esac
if [ -n "$ROW" ] && [ "${TOOL:-ncu}" != ncu ]; then say "ROW needs TOOL=ncu" && exit 2; fi

# ---- the programs and tools ----

PLSTM=${PLSTM:-$BUILD/plstm} BENCH=${BENCH:-$BUILD/cuda/bench_gpu}
program=$PLSTM
[ -z "$ROW" ] || program=$BENCH
if [ ! -x "$program" ]; then say "$program does not exist; make builds it" && exit 4; fi
recorder=''
for library in "$BUILD/lib/libnvtx_trace.so" "$(dirname "$PLSTM")/../lib/libnvtx_trace.so"; do
    if [ -z "$recorder" ] && [ -e "$library" ]; then recorder=$library; fi
done
if [ -z "$TOOL" ]; then
    TOOL=trace
    if command -v nsys >/dev/null; then TOOL=nsys; fi
    if command -v ncu >/dev/null || [ -n "$ROW" ]; then TOOL=ncu; fi
fi
case $TOOL in
trace) if [ -z "$recorder" ]; then say "libnvtx_trace.so is not built; run make $BUILD/lib/libnvtx_trace.so" && exit 4; fi ;;
*) command -v "$TOOL" >/dev/null || { say "$TOOL is not on PATH; TOOL=trace needs neither ncu nor nsys" && exit 4; } ;;
esac

devices=$("$PLSTM" devices 2>/dev/null) || devices=''
emulated=0
case $devices in *emulated*) emulated=1 ;; esac
if [ "$emulated" = 1 ] && [ "$TOOL" != trace ]; then say "$PLSTM runs on the emulated GPU, which $TOOL cannot profile; use TOOL=trace" && exit 4; fi
if [ -z "$OUT" ]; then
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    if [ "$emulated" = 1 ]; then
        OUT=build/profile/$what
    elif [ -n "$gpu" ]; then
        OUT=profiles/$(python3 -c 'import sys; sys.path.insert(0, "tools/results"); import ingest; print(ingest.folder_name(sys.argv[1]))' "$gpu")/profile/$what
    else
        say "nvidia-smi shows no GPU here" && exit 4
    fi
fi

# ---- the run ----

part=$OUT.part
rm -rf "$part"
mkdir -p "$part" || exit 1
trap 'rm -rf "$part"' EXIT

if [ -n "$ROW" ]; then
    run=("$program" "--once=$ROW")
else
    run=("$program" train --data synthetic --backend cuda --kernel "$K" --precision "$PRECISION" --hidden "$H" --layers 2 --batch "$B" --seq "$T"
        --keep "$KEEP" --max-steps "$STEPS" --eval none --quiet)
fi
export PLSTM_EAGER=1 # launch every kernel by itself, inside its ranges

# Runs a command and records it; prints its output if it fails.
kept() {
    printf '%s ' "$@" | sed "s|$part|OUT|g; s|$root/||g; s/ $//" >>"$part/command.txt" && echo >>"$part/command.txt"
    if ! "$@" >"$part/said" 2>&1 </dev/null; then
        tail -n 15 "$part/said" >&2
        say "failed: $(tail -n 1 "$part/command.txt" | cut -c 1-200)"
        exit 1
    fi
}
# Runs a command like kept, with its standard output in a file of the folder.
written() {
    local file=$1
    shift
    printf '%s ' "$@" | sed "s|$part|OUT|g; s|$root/||g; s/ $//" >>"$part/command.txt" && echo " > $file" >>"$part/command.txt"
    if ! "$@" >"$part/$file" 2>"$part/said" </dev/null; then
        tail -n 15 "$part/said" >&2
        say "failed: $(tail -n 1 "$part/command.txt" | cut -c 1-200)"
        exit 1
    fi
}

case $TOOL in
ncu)
    sections=(--section SpeedOfLight --section Occupancy --section LaunchStats)
    if [ "$METRICS" = full ]; then sections+=(--section MemoryWorkloadAnalysis --section WarpStateStats --section SchedulerStats); fi
    if [ -n "$ROW" ]; then where=(--profile-from-start off); else where=(--nvtx --nvtx-include "plstm@$RANGE/"); fi
    kept ncu --clock-control none --cache-control none "${where[@]}" --launch-count "$LAUNCHES" --metrics "$(python3 tools/gpu/ncu_metrics.py "$METRICS")" \
        "${sections[@]}" --force-overwrite --export "$part/$METRICS" "${run[@]}"
    if [ ! -e "$part/$METRICS.ncu-rep" ]; then
        tail -n 15 "$part/said" >&2
        say "ncu profiled no kernel: none was launched inside the range, or this user may not read the counters (ERR_NVGPUCTRPERM)"
        exit 1
    fi
    written "$METRICS-raw.csv" ncu --import "$part/$METRICS.ncu-rep" --csv --page raw --print-units base
    written "$METRICS-details.txt" ncu --import "$part/$METRICS.ncu-rep" --page details
    written summary.csv python3 tools/gpu/profile_read.py ncu "$part/$METRICS-raw.csv"
    ;;
nsys)
    kept nsys profile --trace=cuda,nvtx --sample=none --cpuctxsw=none --force-overwrite=true --output "$part/nsys" "${run[@]}"
    written nsys.csv nsys stats --format csv --force-export=true --report nvtx_sum --report cuda_gpu_kern_sum "$part/nsys.nsys-rep"
    rm -f "$part"/*.sqlite
    ;;
trace)
    kept env "NVTX_INJECTION64_PATH=$(realpath "$recorder")" "NVTX_TRACE=$part/trace.json" "${run[@]}"
    if [ ! -s "$part/trace.json" ]; then say "nothing was recorded, since $program was built without NVTX" && exit 1; fi
    written summary.csv python3 tools/gpu/profile_read.py trace "$part/trace.json"
    ;;
esac

# ---- the environment, ptxas's report and the opcodes ----

{
    echo "plstm        $("$PLSTM" --version 2>/dev/null)"
    echo "devices"
    printf '%s\n' "$devices"
    nvidia-smi --format=csv --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current 2>/dev/null
    for tool in ncu nsys nvcc; do
        if command -v $tool >/dev/null; then echo "$tool" && "$tool" --version 2>/dev/null | tail -n 2; fi
    done
    echo "system       $(uname -srm)"
} >"$part/environment.txt"

objects=("$BUILD"/cuda/kernels/*.ptxas)
if [ -e "${objects[0]}" ]; then cat "${objects[@]}" >"$part/ptxas.txt"; fi
if [ "$SASS" = 1 ] && [ "$emulated" = 0 ] && command -v cuobjdump >/dev/null && cuobjdump --dump-sass "$program" >"$part/sass" 2>/dev/null; then
    python3 tools/gpu/profile_read.py sass "$part/sass" >"$part/sass.csv" 2>/dev/null || rm -f "$part/sass.csv"
fi
rm -f "$part/said" "$part/sass"

mkdir -p "$OUT" && for file in "$part"/*; do mv "$file" "$OUT/" || exit 1; done
echo "$OUT"
