#!/bin/sh
# Builds the example with this toolkit and runs it. It needs a C and a C++ compiler (CC, CXX) and nothing outside this folder.
#
#     example/build.sh [plain|race|asan] [FOLDER]
#
# race (the default) is the build that finds races; asan is built with AddressSanitizer and UBSan. FOLDER is for the built files.
set -eu
case "${1:-}" in --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
mode=${1:-race}
here=$(pwd)
cd "$(dirname "$0")/.."
case "${2:-}" in '') out=example/build-$mode ;; /*) out=$2 ;; *) out=$here/$2 ;; esac
cc=${CC:-gcc} cxx=${CXX:-g++}
toolkit= kernels= rest=
case "$mode" in
plain) ;;
race)
    toolkit=-DEMU_RACE
    kernels='-fsanitize=thread,alignment' # for kernel files only; libtsan is not linked
    case "$($cxx --version)" in
    *clang*) kernels="$kernels -mllvm -tsan-distinguish-volatile=1 -mllvm -tsan-instrument-func-entry-exit=0" ;;
    *) kernels="$kernels --param tsan-distinguish-volatile=1 --param tsan-instrument-func-entry-exit=0" ;;
    esac
    ;;
asan) rest='-fsanitize=address,undefined -fno-sanitize-recover=all' kernels=$rest toolkit=$rest ;;
*)
    echo "build.sh: the build must be plain, race or asan, not '$mode'" >&2
    exit 2
    ;;
esac
mkdir -p "$out"
rm -f "$out"/*.o
flags="-g -Iinclude -I. -D_GNU_SOURCE ${FLAGS:--O2 -fstack-clash-protection}"
for file in *.cpp; do
    case "$file" in test_* | numerics_oracle.cpp | cublas.cpp) continue ;; esac # tests, and cuBLAS, which needs OpenBLAS
    $cxx -std=c++17 $flags $toolkit -c "$file" -o "$out/${file%.cpp}.o"
done
$cxx -std=c++17 $flags $kernels -x c++ -c "example/recurrence.cu" -o "$out/recurrence.o"
$cc -std=c11 $flags $rest -c "example/main.c" -o "$out/main.o"
$cxx $rest "$out"/*.o -ldl -lm -o "$out/recurrence"
"$out/recurrence"
