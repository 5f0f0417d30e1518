#!/bin/sh
# bundle.sh BUILD BUNDLE COMMIT: what `make gpu-bundle` built in BUILD, put into the folder BUNDLE with all that it needs on a machine
# with a GPU and nothing else of ours: bin/ and tests/ (programs for sm_90), lib/ (their shared libraries, found from $ORIGIN), tools/,
# data/ptb (where it is here), COMMIT. cuBLAS stays out: a toolkit or a Python package has it there.
#
# bundle.sh --size BUNDLE: fails where the folder is too large to travel. bundle.sh --tools BUNDLE: copies the tools alone.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set /s/^#\{1\} \{0,1\}//p' "$0" && exit 0

MOST=60000000 # bytes

size() {
    bytes=$(du -sb "$1" | cut -f 1)
    if [ "$bytes" -gt $MOST ]; then
        echo "gpu_bundle: $1 holds $bytes bytes; more than $MOST do not travel:" >&2
        find "$1" -type f -size +1000k -exec ls -l {} + >&2
        exit 1
    fi
    echo "$1: $bytes bytes"
}
if [ "${1-}" = --size ]; then
    size "$2"
    exit
fi
# What runs there: gpu_run.sh with its parts, and what those call. Each keeps its path.
tools() {
    mkdir -p "$1"
    cp --parents tools/gpu_run.sh tools/gpu/run.py tools/gpu/cases.py tools/gpu/watched.py tools/profile.sh tools/parity.py tools/make/run_tests.py \
        tools/kernel_list.py kernels/variants.def \
        tools/results/ingest.py tools/gpu/profile_read.py tools/gpu/ncu_metrics.py tools/torch/torch_peer.py tools/torch/torch_programs.py "$1"
}
if [ "${1-}" = --tools ]; then
    tools "$2"
    exit
fi
build=$1 bundle=$2 commit=$3

rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/tests" "$bundle/lib" "$bundle/tools"
cp "$build/plstm" "$build/cuda/bench_gpu" "$bundle/bin"
for test in "$build"/cuda/test_*; do
    case $test in *.*) continue ;; esac
    cp "$test" "$bundle/tests"
done
cp "$build"/lib/*.so "$bundle/lib"
if [ -e "$build/tests/nvtx_record.so" ]; then cp "$build/tests/nvtx_record.so" "$bundle/tests"; fi
strip "$bundle"/bin/* "$bundle"/tests/*
cat "$build"/cuda/kernels/*.ptxas >"$bundle/bin/ptxas.txt" # registers and spills of each kernel: bench_gpu puts them beside its rows

# Libraries that a machine with a GPU may lack; libc, libstdc++ and libgcc it has.
libraries() {
    ldd "$bundle"/bin/* "$bundle"/tests/* |
        sed -n 's/^\t\(lib\(openblas\|gfortran\|quadmath\|gomp\|jansson\|md\|cmocka\|benchmark\)\.so[^ ]*\) => \([^ ]*\) .*/\1 \3/p' | sort -u
}
libraries | while read -r name path; do
    if [ "$path" = not ]; then
        echo "gpu_bundle: $name is needed and was not found" >&2
        exit 1
    fi
    cp -L "$path" "$bundle/lib/$name"
    strip --strip-unneeded "$bundle/lib/$name"
done
# Three quarters of OpenBLAS are kernels for other CPUs, much alike: gpu_run.sh unpacks it when it is first run.
gzip -f "$bundle"/lib/libopenblas.so.*
# The library that tells whether a test launched anything (tests/support/launch_count.c) stands on CUPTI, which some machines keep apart.
for cupti in "${CUPTI:-}" /usr/local/cuda/lib64/libcupti.so.* /usr/local/cuda/extras/CUPTI/lib64/libcupti.so.*; do
    case $cupti in */libcupti.so.[0-9][0-9])
        if [ -e "$cupti" ]; then cp -L "$cupti" "$bundle/lib" && break; fi ;;
    esac
done

tools "$bundle"
# What ptxas said of each kernel, which a profile is filed with.
mkdir -p "$bundle/cuda/kernels"
cp "$build"/cuda/kernels/*.ptxas "$bundle/cuda/kernels"
for data in data/ptb ../shared/data/ptb; do
    if [ -e "$data/ptb.train.txt" ]; then
        mkdir -p "$bundle/data/ptb"
        cp "$data"/ptb.*.txt "$bundle/data/ptb"
        chmod u+w "$bundle"/data/ptb/*
        break
    fi
done
echo "$commit" >"$bundle/COMMIT"
size "$bundle"
