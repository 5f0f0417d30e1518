"""Checks in the machine code of the register tiles (host/backend/tile.c) that none of their loops accesses the stack.

The test compiles that file with the Makefile's options for CPUs with 4, 8 and 16 lanes, with gcc and with clang. The
loop of tile_RxV must have R * V multiply-adds (or a multiple, if the compiler unrolls) in registers of the CPU's full
width, and no operand in the stack frame.
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap  # noqa: E402

BACKEND = os.path.join(HERE, "../../host/backend")
FLAGS = ["-std=c11", "-O3", "-g", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-mprefer-vector-width=512", "-fopenmp"]
# {CPU: (rows of its tallest tile, name of its registers, name of its multiply-add)}
CPUS = {"x86-64-v2": (5, "xmm", "mulps"), "x86-64-v3": (6, "ymm", "vfmadd"), "x86-64-v4": (12, "zmm", "vfmadd")}


def functions(object_file):
    """Returns the functions of an object file: {name: [(address, instruction)]}."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", object_file], stdout=subprocess.PIPE, text=True, check=True).stdout
    found, name = {}, None
    for line in text.splitlines():
        start = re.match(r"[0-9a-f]+ <(\w+)>:", line)
        code = re.match(r"\s+([0-9a-f]+):\s+(\S.*)", line)
        if start:
            name = start[1]
            found[name] = []
        elif code and name:
            found[name].append((int(code[1], 16), code[2]))
    return found


def loops(code):
    """Returns the bodies of the innermost loops: the code between a backward jump and its target, without another such jump inside."""
    spans = []
    for address, instruction in code:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", instruction)
        if jump and int(jump[1], 16) <= address:
            spans.append((int(jump[1], 16), address))
    innermost = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [[text for at, text in code if first <= at <= last] for first, last in innermost]


def faults(object_file, cpu):
    """Returns one sentence per fault in the tiles of one object file."""
    tallest, register, multiply = CPUS[cpu]
    code, wrong = functions(object_file), []
    for rows in range(1, tallest + 1):
        for vectors in (1, 2):
            name = f"tile_{rows}x{vectors}"
            if name not in code:
                wrong.append(f"there is no {name}")
                continue
            bodies = [body for body in loops(code[name]) if any(t.startswith(multiply) for t in body)]
            count = sum(t.startswith(multiply) and register in t for body in bodies for t in body)
            if not bodies or not count or count % (rows * vectors):
                wrong.append(f"{name} has {count} of {multiply} on {register} in its loop, not {rows * vectors}")
            wrong += [f"{name} touches the stack in its loop: {t}" for body in bodies for t in body if re.search(r"\(%[re][sb]p", t)]
    return wrong


def compile_tile(compiler, cpu, folder, source=None, more=()):
    path = os.path.join(folder, f"{compiler}-{cpu}.o")
    subprocess.run([compiler, *FLAGS, *more, f"-march={cpu}", "-I", BACKEND, "-c",
                    source or os.path.join(BACKEND, "tile.c"), "-o", path], check=True)
    return path


def check(compiler):
    if platform.machine() != "x86_64":
        raise tap.Skip(f"this is a {platform.machine()}, and the tiles are examined as x86-64 code")
    missing = [program for program in (compiler, "objdump") if not shutil.which(program)]
    if missing:
        raise tap.Skip(f"{' and '.join(missing)} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        for cpu in CPUS:
            wrong = faults(compile_tile(compiler, cpu, folder), cpu)
            assert not wrong, (compiler, cpu, wrong)


def test_gcc():
    check("gcc")


def test_clang():
    check("clang")


def test_vectors_wider_than_the_cpu_are_found():
    """The check must detect the fault for which it was written: 64-byte vectors on an AVX2 machine."""
    if platform.machine() != "x86_64" or not shutil.which("gcc") or not shutil.which("objdump"):
        raise tap.Skip("gcc and objdump for x86-64 are not both installed")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tile.c", "tile.h"):
            with open(os.path.join(BACKEND, name), encoding="utf-8") as f:
                text = f.read()
            assert name == "tile.c" or "LANES = 8," in text
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text.replace("LANES = 8,", "LANES = 16,"))
        wrong = faults(compile_tile("gcc", "x86-64-v3", folder, os.path.join(folder, "tile.c"), ["-w"]), "x86-64-v3")
        assert any("touches the stack" in fault for fault in wrong), wrong


if __name__ == "__main__":
    tap.main(globals())
