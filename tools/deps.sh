#!/bin/sh
# deps.sh [build|ci]: sees to it that the packages which plstm needs are installed (Debian, Ubuntu and their kin).
#
#   build  (default) what the program, its tests and its plots must have
#   ci     also what only some tests want: PyTorch, clang with its sanitizers and fuzzer, clang-format
#
# Where nothing is missing it does nothing and touches no network. Otherwise it installs, as root or through sudo that asks
# nothing; where it may not, it prints the line to type and exits with 1.
set -eu

# COMMAND:PACKAGE is there when the command is (another package may bring it: gnuplot-qt serves as well as gnuplot-nox and
# conflicts with it). A bare name is looked up among the installed packages. A|B: the first that this release has.
build='gcc:gcc g++:g++ libc6-dev make:make python3:python3 gnuplot:gnuplot-nox
       libopenblas-openmp-dev libjansson-dev libmd-dev libcmocka-dev librandom123-dev libbenchmark-dev'
ci='git:git clang:clang clang-format:clang-format libclang-rt-dev|libclang-rt-18-dev|libclang-common-14-dev'
# Where a release does not have these, the tests that want them are skipped and say so.
optional='python3-torch python3-safetensors pip3:python3-pip'

case ${1-build} in
build) required=$build optional= ;;
ci) required="$build $ci" ;;
*)
    echo "usage: tools/deps.sh [build|ci]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "deps.sh: this is not a Debian-like system, so nothing is installed; plstm needs a C11 and a C++17 compiler with OpenMP," \
        "GNU make, Python 3, gnuplot, OpenBLAS built with OpenMP, jansson, libmd, cmocka, Random123 and Google Benchmark." >&2
    exit 0
fi

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints the entries of its arguments that are not there.
missing() {
    for entry; do
        case $entry in
        *:*) command -v "${entry%%:*}" >/dev/null 2>&1 && continue ;;
        esac
        found=
        for package in $(echo "${entry#*:}" | tr '|' ' '); do
            if installed "$package"; then found=1; fi
        done
        [ -n "$found" ] || echo "${entry#*:}"
    done
}

# Prints the first alternative of each entry that apt knows; an entry without any is printed as it stands, so that apt names it.
available() {
    for entry; do
        chosen=
        for package in $(echo "$entry" | tr '|' ' '); do
            if [ -z "$chosen" ] && [ -n "$(apt-cache show --no-all-versions "$package" 2>/dev/null)" ]; then chosen=$package; fi
        done
        echo "${chosen:-${entry%%|*}}"
    done
}

want=$(missing $required)
extra=$(missing $optional)
# What this release is known not to have is no reason to ask the network again.
if [ -z "$want" ] && ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
    known=
    for package in $extra; do
        if [ -n "$(apt-cache show --no-all-versions "$package" 2>/dev/null)" ]; then known="$known $package"; fi
    done
    extra=$known
fi
[ -n "$want$extra" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    {
        echo "deps.sh: packages are missing and this user may not install them; please run:"
        echo "    sudo apt-get update && sudo apt-get install --no-install-recommends" $(available $want $extra)
    } >&2
    exit 1
fi

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >&2
}

echo "deps.sh: installing" $want $extra >&2
apt update || echo "deps.sh: apt-get update had an error; trying with the lists that are here" >&2
if [ -n "$want" ]; then
    apt install --no-install-recommends $(available $want) || {
        echo "deps.sh: apt-get could not install" $(available $want) >&2
        exit 1
    }
fi
for package in $extra; do
    apt install --no-install-recommends "$package" ||
        echo "deps.sh: this release has no $package; the tests that want it will be skipped" >&2
done
