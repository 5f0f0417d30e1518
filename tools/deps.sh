#!/bin/sh
# deps.sh [build|ci|engines|k20]: installs the packages that plstm needs (on Debian, Ubuntu and similar systems).
#
#   build    (default) what the program, its tests and its plots need
#   ci       also what only some tests need: PyTorch, clang with its sanitizers and fuzzer, clang-format, Chromium
#   engines  what `make test-engines` needs: Slurm's daemons, Open MPI, GNU parallel. The test starts the daemons itself
#   k20      only what `make k20` needs: CUDA 11.8, the last toolkit that compiles for sm_35, and a g++ that it accepts.
#            This is a download of about 1.5 GB and takes 5 GB on the disk. Debian 12 has the toolkit in its component non-free
#            and some of its dependencies in contrib; the script adds both components to the existing package sources
#
# If nothing is missing, the script does nothing and uses no network. Otherwise it installs the packages as root, or through sudo if
# that needs no password; if it may not install, it prints the command to type and exits with 1.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set /s/^#\{1\} \{0,1\}//p' "$0" && exit 0

# COMMAND:PACKAGE counts as installed if the command exists, since another package may provide it: gnuplot-qt serves as well as
# gnuplot-nox and conflicts with it. A bare name is looked up among the installed packages. A|B is the first that this release has.
build='gcc:gcc g++:g++ libc6-dev make:make python3:python3 gnuplot:gnuplot-nox
       libopenblas-openmp-dev libjansson-dev libmd-dev libcmocka-dev librandom123-dev libbenchmark-dev'
ci='git:git clang:clang clang-format:clang-format libclang-rt-dev|libclang-rt-18-dev|libclang-common-14-dev'
engines='slurmctld slurmd slurm-client munge openmpi-bin parallel'
k20='nvidia-cuda-toolkit g++-11:g++-11'
# If a release does not have these packages, the tests that need them are skipped and print why.
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
    echo "deps.sh: this system has no apt, so nothing was installed; plstm needs a C11 and a C++17 compiler with OpenMP," \
        "GNU make, Python 3, gnuplot, OpenBLAS built with OpenMP, jansson, libmd, cmocka, Random123 and Google Benchmark." >&2
    exit 0
fi

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints those of its arguments that are not installed.
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

# Prints, for each entry, the first alternative that apt's package lists have. If they have none, it prints the first
# alternative, so that apt's error names it.
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
# A package that this release is known not to have is no reason to use the network again.
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

etc=${DEPS_ETC:-/etc} # tests set another folder

# Prints a file of apt's sources with contrib and non-free added beside main, only in the sources of this release: those of other
# publishers have no such components. The file may be a sources.list or a *.sources file.
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
apt update || echo "deps.sh: apt-get update had an error; continuing with the package lists that are here" >&2
if [ "$required" = "$k20" ]; then
    version=$(apt-cache show --no-all-versions nvidia-cuda-toolkit 2>/dev/null | sed -n 's/^Version: //p')
    case $version in
    11.*) ;;
    *)
        echo "deps.sh: sm_35 needs CUDA 11.8 and this release has ${version:-no nvidia-cuda-toolkit}; if that toolkit was installed" \
            "by hand, name its folder: make k20 K20_CUDA=DIR" >&2
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
        echo "deps.sh: this release has no $package; the tests that need it will be skipped" >&2
done
