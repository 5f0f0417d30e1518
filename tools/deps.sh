#!/bin/sh
# deps.sh [build|ci|engines|k20]: sees to it that the packages which plstm needs are installed (Debian, Ubuntu and their kin).
#
#   build    (default) what the program, its tests and its plots must have
#   ci       also what only some tests want: PyTorch, clang with its sanitizers and fuzzer, clang-format, Chromium
#   engines  what `make test-engines` wants: Slurm's daemons, Open MPI, GNU parallel. The test starts the daemons itself
#   k20      what `make k20` must have, and nothing else: CUDA 11.8, the last toolkit that compiles for sm_35, and the g++ that it takes.
#            About 1.5 GB to download, 5 GB on the disk. Debian 12 has it in its component non-free, and what it depends on in
#            contrib too: both are added to the sources that are there
#
# Where nothing is missing it does nothing and touches no network. Otherwise it installs, as root or through sudo that asks
# nothing; where it may not, it prints the line to type and exits with 1.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set /s/^#\{1\} \{0,1\}//p' "$0" && exit 0

# COMMAND:PACKAGE is there when the command is (another package may bring it: gnuplot-qt serves as well as gnuplot-nox and
# conflicts with it). A bare name is looked up among the installed packages. A|B: the first that this release has.
build='gcc:gcc g++:g++ libc6-dev make:make python3:python3 gnuplot:gnuplot-nox
       libopenblas-openmp-dev libjansson-dev libmd-dev libcmocka-dev librandom123-dev libbenchmark-dev'
ci='git:git clang:clang clang-format:clang-format libclang-rt-dev|libclang-rt-18-dev|libclang-common-14-dev'
engines='slurmctld slurmd slurm-client munge openmpi-bin parallel'
k20='nvidia-cuda-toolkit g++-11:g++-11'
# Where a release does not have these, the tests that want them are skipped and say so.
optional='python3-torch python3-safetensors pip3:python3-pip chromium:chromium'

case ${1-build} in
build) required=$build optional= ;;
ci) required="$build $ci" ;;
engines) required= optional=$engines ;;
k20) required="$k20" optional= ;;
*)
    echo "usage: tools/deps.sh [build|ci|engines|k20]" >&2
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
        if [ "$required" = "$k20" ]; then echo "    (after adding the components contrib and non-free to apt's sources)"; fi
        echo "    sudo apt-get update && sudo apt-get install --no-install-recommends" $(available $want $extra)
    } >&2
    exit 1
fi

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >&2
}

etc=${DEPS_ETC:-/etc} # another folder in tests

# Prints a file of apt's sources with contrib and non-free beside main, in the sources of this release and in no others: those of other
# publishers have no such components. Takes sources.list and *.sources alike.
with_non_free() {
    awk -v release="$1" '
        function is_ours(suites, n, names, i) {
            n = split(suites, names, " ")
            for (i = 1; i <= n; i++)
                if (names[i] == release || index(names[i], release "-") == 1) return 1
            return 0
        }
        function added(text, plain) {
            plain = " " text " "
            gsub(/[ \t]/, "  ", plain)
            if (plain !~ / main /) return text
            if (plain !~ / non-free /) sub(/[ \t]main/, " main non-free", text)
            if (plain !~ / contrib /) sub(/[ \t]main/, " main contrib", text)
            return text
        }
        function stanza(i) {
            for (i = 1; i <= held; i++) print ours && line[i] ~ /^Components:/ ? added(line[i]) : line[i]
            held = ours = 0
        }
        /^[ \t]*deb(-src)?[ \t]/ {
            rest = $0
            sub(/^[ \t]*deb(-src)?[ \t]+(\[[^]]*\][ \t]+)?[^ \t]+[ \t]+/, "", rest) # the suite, the components
            split(rest, word, " ")
            if (is_ours(word[1])) $0 = substr($0, 1, length($0) - length(rest)) added(rest)
        }
        /^Suites:/ { ours = is_ours(substr($0, 8)) }
        { line[++held] = $0 }
        /^[ \t]*$/ { stanza() }
        END { stanza() }' "$2"
}

add_non_free() {
    for file in "$etc"/apt/sources.list "$etc"/apt/sources.list.d/*.list "$etc"/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        new=$(with_non_free "$1" "$file")
        if [ "$new" != "$(cat "$file")" ]; then
            echo "deps.sh: adding the components contrib and non-free to $file" >&2
            printf '%s\n' "$new" | $as_root tee "$file" >/dev/null
        fi
    done
}

echo "deps.sh: installing" $want $extra >&2
if [ "$required" = "$k20" ]; then
    debian=$(. "$etc/os-release" && [ "$ID" = debian ] && echo "${VERSION_CODENAME-}") || debian=
    if [ -n "$debian" ]; then add_non_free "$debian"; fi
fi
apt update || echo "deps.sh: apt-get update had an error; trying with the lists that are here" >&2
if [ "$required" = "$k20" ]; then
    version=$(apt-cache show --no-all-versions nvidia-cuda-toolkit 2>/dev/null | sed -n 's/^Version: //p')
    case $version in
    11.*) ;;
    *)
        echo "deps.sh: sm_35 needs CUDA 11.8 and this release has ${version:-no nvidia-cuda-toolkit}; where that toolkit was installed" \
            "by hand, make k20 takes K20_CUDA=DIR" >&2
        exit 1
        ;;
    esac
fi
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
