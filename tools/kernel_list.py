"""Reads the variants from kernels/variants.def, so that no tool or test has a list of its own."""
import os
import re
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRECISIONS = ("bf16", "tf32", "f32")  # the most informative first


class Variant(NamedTuple):
    name: str
    min_sm: int          # as in LstmFootprint (kernels/plan.h)
    toolkit: int
    persistent: bool
    tensor: bool         # runs on tensor cores (reads_tiles)
    grid_barrier: bool
    precisions: tuple    # precisions of its recurrence
    shared_weights: bool
    tiles: tuple         # names of its lists in tiles.h, forward and backward

    @property
    def files(self):
        return f"fwd_{self.name}", f"bwd_{self.name}"

    @property
    def trains_in(self):
        """Returns the precisions in which a training with this variant is informative. For a stepwise variant these are
        all, since cuBLAS computes in each."""
        return self.precisions if self.persistent else PRECISIONS[::-1]


def calls(text):
    """Yields (macro, arguments) of each line of a .def file; a string keeps its commas and brackets and loses its quotes."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    for macro, inside in re.findall(r'^([A-Z]+)\(((?:"(?:[^"\\]|\\.)*"|[^()"])*)\)', text, re.MULTILINE):
        yield macro, [part.strip().strip('"') for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', inside)]


def variants(root=ROOT):
    """Returns the variants in the file's order."""
    with open(os.path.join(root, "kernels", "variants.def"), encoding="utf-8") as f:
        text = f.read()
    found = []
    for macro, (name, sm, toolkit, *rest) in calls(text):
        tensor, persistent = macro == "TENSOR", macro != "STEPWISE"
        said = rest[2] if tensor else "F32" if persistent else "F32 TF32"
        precisions = tuple(p for p in PRECISIONS if p.upper() in re.findall(r"[A-Z0-9]+", said))
        found.append(Variant(name, int(sm), int(toolkit), persistent, tensor, rest[1] != "0" if tensor else persistent,
                             precisions if persistent else precisions[::-1], tensor or persistent and rest[1] != "0",
                             tuple(rest[-2:]) if persistent else ()))
    return found


def telling(root=ROOT):
    """Returns the variants with the most informative first: the baseline, then the others from the last to the first."""
    first, *others = variants(root)
    return [first, *others[::-1]]
