"""Builds programs with a fault planted in a kernel, for the emulator; shared by test_persistent_faults.py and test_cluster_faults.py."""
import atexit
import os
import re
import shutil
import subprocess
import tempfile

import tap

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.path.join(ROOT, os.environ.get("PLSTM_BUILD", "build"))
CXX, CC = os.environ.get("CXX", "g++"), os.environ.get("CC", "gcc")
INCLUDES = [f"-I{os.path.join(ROOT, folder)}" for folder in ("tests/emu/include", "tests/emu", ".")]
OPTIONS = ["-D_GNU_SOURCE", "-O0", "-g1", "-Wno-unknown-pragmas"]
KERNEL = {"plain": [], "race": ["-fsanitize=thread,alignment", "--param", "tsan-distinguish-volatile=1",
                                "--param", "tsan-instrument-func-entry-exit=0"]}


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"


def libemu(mode):
    """Returns the path of the emulator's library in this mode; skips the test if it is not built."""
    path = os.path.join(BUILD, "emu", mode, "libemu.a")
    if not os.path.exists(path):
        raise tap.Skip(f"{os.path.relpath(path, ROOT)} is not built")
    return path


def link_libraries():
    """Returns the linker options for the libraries of libemu's cuBLAS, which the time loops do not call."""
    folder = next((d for d in sorted(os.listdir("/usr/lib")) if os.path.exists(f"/usr/lib/{d}/openblas-openmp")), None)
    where = [f"-L/usr/lib/{folder}/openblas-openmp", f"-Wl,-rpath,/usr/lib/{folder}/openblas-openmp"] if folder else []
    return [*where, "-lopenblas", "-ldl", "-lm"]


class Programs:
    """Builds programs from tests/gpu/KERNELS.cu, a copy of kernels/, and tests/gpu/loop_case.c, which runs the
    kernels."""

    def __init__(self, kernels):
        self.kernels = kernels
        self.work = tempfile.mkdtemp(prefix=f"plstm-{kernels}-")
        self.built = {}
        atexit.register(shutil.rmtree, self.work)

    def main_object(self):
        path = os.path.join(self.work, "main.o")
        if not os.path.exists(path):
            run(CC, "-std=c11", *OPTIONS, *INCLUDES, "-c", os.path.join(ROOT, "tests/gpu/loop_case.c"), "-o", path)
        return path

    def build(self, mode, name, file=None, line=None, instead=None, options=()):
        """Returns the path of the program in which `instead` replaces `line` of kernels/`file`; each name is built only
        once. `options` are compiler options for the kernels."""
        if name in self.built:
            return self.built[name]
        library, folder = libemu(mode), os.path.join(self.work, name)
        kernels, kernel, program = (os.path.join(folder, f) for f in ("kernels", "kernel.o", "program"))
        shutil.copytree(os.path.join(ROOT, "kernels"), kernels)
        if file:
            path = os.path.join(kernels, file)
            with open(path, encoding="utf-8") as f:
                text = f.read()
            assert text.count(line) == 1, f"{name}: {text.count(line)} times in {file}: {line}"
            with open(path, "w", encoding="utf-8") as f:
                f.write(text.replace(line, instead))
        run(CXX, "-std=c++17", *OPTIONS, f"-I{kernels}", *INCLUDES, *KERNEL[mode], *options, "-x", "c++", "-c",
            os.path.join(ROOT, "tests/gpu", f"{self.kernels}.cu"), "-o", kernel)
        run(CXX, kernel, self.main_object(), library, *link_libraries(), "-o", program)
        self.built[name] = program
        return program

    def caught(self, mode, name, file, line, instead, direction, codes, says, *words, options=()):
        """Builds a program with a planted fault and runs it for each direction (words separated by spaces). Fails the
        test unless the exit code is one of `codes` and the regular expression `says` matches the output."""
        program = self.build(mode, name, file, line, instead, options)
        for way in direction.split():
            got, text = outcome(program, way, *words)
            assert got in codes and re.search(says, text), f"{name}, {way}: exit {got}, {text}"


def outcome(program, *words, seed=None):
    """Runs a program with no EMU_* variables but EMU_SEED, if `seed` is given. Returns (exit code, output)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMU_")}
    if seed is not None:
        environment["EMU_SEED"] = str(seed)
    done = subprocess.run([program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, env=environment)
    return done.returncode, done.stdout
