"""Reads the samples of fixtures/machine_code and makes working trees from them, for test_k20.py and test_sass.py."""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SAMPLES = os.path.join(ROOT, "tests", "fixtures", "machine_code")
sys.path.insert(0, os.path.join(ROOT, "tools/examine"))

GOOD, WEIGHTS, READ_ONLY = ("toy<2,%d>" % fault for fault in range(3))


def sample(name):
    with open(os.path.join(SAMPLES, name), encoding="utf-8") as f:
        return f.read()


def only(text, kept, starts):
    """Returns a sample with only the kernels whose mangled name contains one of the words `kept`; a kernel begins at a line that `starts`
    matches."""
    pieces = re.split(rf"^(?={starts})", text, flags=re.MULTILINE)
    return "".join(p for i, p in enumerate(pieces) if i == 0 or any(word in p.split("\n")[0] for word in kept))


class Tree:
    """A working tree with one persistent variant, toy, and the files of its build. The forward pass has the kernels
    ToyFault0, ToyFault1 and so on that `faults` numbers; the backward pass has the good one, ToyFault0."""

    def __init__(self, arch, faults=(0,)):
        self.folder = tempfile.TemporaryDirectory()
        self.arch = arch
        self.write("kernels/variants.def", '/* PERSISTENT(name, ...) */\nPERSISTENT(toy, 35, 11080, 1, 0, "a toy, '
                   '(small)",\n           FWD_TOY_TILES, BWD_TOY_TILES)\n')
        self.write("kernels/tiles.h", "#define FWD_TOY_TILES(T) \\\n    T(2, 1, 1, 32, 255)\n#define BWD_TOY_TILES(T) "
                   "T(0, 1, 1, 32, 255)\n")
        toy = re.search(r"struct ToyArgs \{.*?\n\};\n", sample("toy.cu"), re.DOTALL).group(0)
        self.write("kernels/toy.cuh", toy)
        self.write("kernels/lstm.h", '#include "cuda_runtime.h"\n')
        os.makedirs(self.path("tests"))
        os.symlink(os.path.join(ROOT, "tests", "emu"), self.path("tests/emu"))
        for way, kept in (("fwd", faults), ("bwd", (0,))):
            words = [f"ToyFault{n}" for n in kept]
            self.write(f"kernels/{way}_toy.cu", '#include "toy.cuh"\n')
            self.write(f"built/{way}_toy.ptxas", only(sample(arch + ".ptxas"), words, "ptxas info : Compiling"))
            ptx, trailer = re.split(r"^(?=\s*\.file)", sample(arch + ".ptx"), maxsplit=1, flags=re.MULTILINE)
            self.write(f"built/{way}_toy.ptx", only(ptx, words, r"\.visible \.entry") + trailer)
            self.write(f"built/{way}_toy.cubin", only(sample(arch + ".sass"), words, r"//-+ \.text\."))
        self.write("bin/nvcc", '#!/bin/sh\necho "Cuda compilation tools, release 11.8, V11.8.89"\n')
        self.write("bin/nvdisasm", '#!/bin/sh\nfor last; do :; done\nexec cat "$last"\n')
        for name in ("nvcc", "nvdisasm"):
            os.chmod(self.path("bin/" + name), 0o755)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def edit(self, name, old, new):
        text = self.read(name)
        assert old in text, (name, old)
        self.write(name, text.replace(old, new))

    def examine(self):
        """Runs tools/examine on the tree. Returns (exit code, table, sentences)."""
        what = {"sm_35": "k20", "sm_90": "sass"}[self.arch]
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/examine/examine.py"), what, "--root",
                               self.folder.name, "--built", self.path("built"),
                               "--nvcc", self.path("bin/nvcc"), "--nvdisasm", self.path("bin/nvdisasm"), "--out",
                               self.path("out/machine-code.json")],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr.splitlines()

    def accepted(self):
        status, table, said = self.examine()
        assert (status, said) == (0, []), said
        return table

    def refused(self, *words):
        """Checks that there is exactly one sentence and that it contains these words."""
        status, _, said = self.examine()
        assert status == 1 and len(said) == 1 and all(w in said[0] for w in words), said
