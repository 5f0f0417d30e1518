"""Compares ptxas's report of every kernel for sm_90 (registers, spills, shared memory) with a committed table.

    make refresh    after a kernel changed: runs this file with --write, which rewrites kernels/ptxas_sm90.txt

A kernel that needs more registers than before runs with fewer warps, and one that spills is slow; neither fails any other test. Registers
are compared only if the report is from the compiler that the table names, since another compiler may allocate differently. Spills are
always compared.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools/examine"))
import examine
from machine_code import REPORTED as COLUMNS
from machine_code import parse_ptxas

TABLE = os.path.join(ROOT, "kernels", "ptxas_sm90.txt")
ARCH = "sm_90"
HEAD = "# Written by: make refresh"


def report_folder():
    return os.path.join(ROOT, os.environ.get("PLSTM_BUILD", "build"), "cuda", "kernels")


def nvcc():
    """Returns the compiler that the Makefile uses, or None."""
    toolkit = "/usr/local/cuda/bin/nvcc"
    return os.environ.get("NVCC", shutil.which("nvcc") or (toolkit if os.path.exists(toolkit) else None))


def compiler_version():
    said = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout.split("\n")
    return next(line for line in reversed(said) if line)


def reports(folder):
    """Returns {"file kernel": numbers} from all reports in the folder."""
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        stem, extension = os.path.splitext(name)
        # Skip the report of a kernel file that no longer exists.
        if extension == ".ptxas" and os.path.exists(os.path.join(ROOT, "kernels", stem + ".cu")):
            with open(os.path.join(folder, name)) as f:
                for kernel, numbers in parse_ptxas(f.read(), ARCH).items():
                    found[f"{stem} {kernel}"] = numbers
    return found


def read_table(path):
    with open(path) as f:
        lines = f.read().splitlines()
    compiler = lines[1].removeprefix("# Compiler: ")
    rows = (line.split() for line in lines if line and not line.startswith("#"))
    return compiler, {f"{r[0]} {r[1]}": dict(zip(COLUMNS, map(int, r[2:]))) for r in rows}


def table(compiler, kernels):
    lines = [HEAD, f"# Compiler: {compiler}", "# file kernel " + " ".join(COLUMNS) + "    (spills, stack, static shared memory in bytes)"]
    lines += [f"{name} " + " ".join(str(numbers[c]) for c in COLUMNS) for name, numbers in sorted(kernels.items())]
    return "\n".join(lines) + "\n"


def differences(want_compiler, want, compiler, found):
    """Returns one sentence per kernel that differs from the table."""
    out = [f"{name}: not in the table" for name in sorted(found.keys() - want.keys())]
    out += [f"{name}: in the table but not in the report" for name in sorted(want.keys() - found.keys())]
    for name in sorted(found.keys() & want.keys()):
        columns = COLUMNS if compiler == want_compiler else ("spill_stores", "spill_loads")
        out += [f"{name}: {c} {found[name][c]}, the table has {want[name][c]}" for c in columns if found[name][c] != want[name][c]]
    return out


def test_kernels_use_what_the_table_says():
    if not nvcc():
        raise tap.Skip("no nvcc here: the kernels were not compiled for a GPU")
    found = reports(report_folder())
    if not found:
        raise tap.Skip(f"no report for {ARCH} in the build folder: built with CUDA=0, EMU=1 or another ARCH")
    want_compiler, want = read_table(TABLE)
    wrong = differences(want_compiler, want, compiler_version(), found)
    assert not wrong, "\n".join(wrong + [HEAD[2:]])


def test_no_kernel_in_the_table_spills():
    """No kernel spills, except those that keep nothing on the chip, where a spill is only one more read."""
    _, want = read_table(TABLE)
    known = examine.variants(ROOT)
    spilling = [name for name, numbers in want.items() if numbers["spill_stores"] or numbers["spill_loads"]]
    assert want and not [name for name in spilling if known.get(examine.variant_of(name.split()[0])) is not False], spilling


REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z9my_kernelILi4EEvPf' for 'sm_90'
ptxas info    : Function properties for _Z9my_kernelILi4EEvPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 2048 bytes smem, 16 bytes cumulative stack size
ptxas info    : Function properties for _ZL6helperPf
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function '_Z5otherPf' for 'sm_80'
ptxas info    : Used 77 registers
ptxas info    : Compiling entry function '_Z5otherPf' for 'sm_90'
ptxas info    : Function properties for _Z5otherPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 0 barriers
"""


def test_reports_are_read():
    found = parse_ptxas(REPORT, ARCH)
    assert found == {"my_kernel<4>": {"registers": 255, "spill_stores": 12, "spill_loads": 16, "stack": 24, "shared": 2048},
                     "other": {"registers": 24, "spill_stores": 0, "spill_loads": 0, "stack": 0, "shared": 0}}, found


def test_differences_are_reported():
    want = parse_ptxas(REPORT, ARCH)
    assert not differences("a", want, "a", parse_ptxas(REPORT, ARCH))
    found = parse_ptxas(REPORT.replace("Used 24", "Used 25").replace("8 bytes spill stores", "9 bytes spill stores"), ARCH)
    assert len(differences("a", want, "a", found)) == 2
    assert len(differences("a", want, "b", found)) == 1  # with another compiler only spills are compared
    del found["other"]
    found["new"] = want["other"]
    told = differences("a", want, "b", found)
    assert any("new: not in the table" in t for t in told) and any("other: in the table but" in t for t in told), told


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        all_kernels = reports(report_folder())
        if not all_kernels:
            sys.exit(f"no report for {ARCH} in the build folder: run make with nvcc first")
        with open(TABLE, "w") as out:
            out.write(table(compiler_version(), all_kernels))
    else:
        tap.main(globals())
