#!/bin/sh
# bundle.sh BUILD BUNDLE COMMIT: packs what `make gpu-bundle` built in BUILD into the folder BUNDLE, with everything that it needs on a
# machine with a GPU: bin/ and tests/ (programs for sm_90), lib/ (their shared libraries, found from $ORIGIN), tools/, data/ptb (if it is
# here) and COMMIT. cuBLAS is left out, since that machine's toolkit or a Python package has it.
#
# bundle.sh --size BUNDLE fails if the folder is too large to transfer. bundle.sh --tools BUNDLE copies only the tools.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set /s/^#\{1\} \{0,1\}//p' "$0" && exit 0

MOST=56000000 # bytes; the tracked files and each file's overhead travel with it, 64 MiB in all

size() {
    bytes=$(du -sb "$1" | cut -f 1)
    if [ "$bytes" -gt $MOST ]; then
        echo "gpu_bundle: $1 has $bytes bytes; at most $MOST can be transferred. The largest parts:" >&2
        find "$1" -type f -size +1000k -exec ls -l {} + >&2
        exit 1
    fi
    echo "$1: $bytes bytes"
}
if [ "${1-}" = --size ]; then
    size "$2"
    exit
fi
# The tools of the bundle: gpu_run.sh with its parts, and the tools that they call. Each keeps its path.
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
    case $test in *.* | */test_cuda_faults) continue ;; esac # the latter tests only the emulator's faults
    cp "$test" "$bundle/tests"
done
cp "$build"/lib/*.so "$bundle/lib"
if [ -e "$build/tests/nvtx_record.so" ]; then cp "$build/tests/nvtx_record.so" "$bundle/tests"; fi
strip "$bundle"/bin/* "$bundle"/tests/*
cat "$build"/cuda/kernels/*.ptxas >"$bundle/bin/ptxas.txt" # registers and spills of each kernel, for bench_gpu's context

# Libraries that a machine with a GPU may lack; it has libc, libstdc++ and libgcc.
libraries() {
    ldd "$bundle"/bin/* "$bundle"/tests/* |
        sed -n 's/^\t\(lib\(openblas\|gfortran\|quadmath\|gomp\|jansson\|md\|cmocka\|benchmark\)\.so[^ ]*\) => \([^ ]*\) .*/\1 \3/p' | sort -u
}
libraries | while read -r name path; do
    if [ "$path" = not ]; then
        echo "gpu_bundle: the programs need $name, which was not found" >&2
        exit 1
    fi
    cp -L "$path" "$bundle/lib/$name"
    strip --strip-unneeded "$bundle/lib/$name"
done
# The library that counts the launches of a test (tests/support/launch_count.c) needs CUPTI, which some machines do not have.
for cupti in "${CUPTI:-}" /usr/local/cuda/lib64/libcupti.so.* /usr/local/cuda/extras/CUPTI/lib64/libcupti.so.*; do
    case $cupti in */libcupti.so.[0-9][0-9])
        if [ -e "$cupti" ]; then cp -L "$cupti" "$bundle/lib" && break; fi ;;
    esac
done

tools "$bundle"
# ptxas's report of each kernel, which is filed with a profile.
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
# The first gpu_run.sh unpacks these.
find "$bundle/lib" "$bundle/tests" "$bundle/data" -type f -size +1000k -exec gzip -9f {} +
echo "$commit" >"$bundle/COMMIT"
size "$bundle"
