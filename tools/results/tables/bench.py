"""Reads the rows of the GPU benchmarks (bench/bench_gpu.cpp, tools/torch/torch_peer.py) as tools/results/ingest.py files them:
variants.json, step.json and constants.json of a machine. Columns are read by name, and a missing column is an empty cell."""
import os

from tables.data import Failure

NOT_OURS = ("iterations", "repeats", "manual_time", "real_time", "process_time", "threads")  # what Google Benchmark adds to a name
PRESETS = {"small": (200, 20, 20), "medium": (650, 20, 35), "large": (1500, 20, 35)}  # H, B, T
LAYERS = 2
FILES = ("variants.json", "step.json", "constants.json")
PRECISIONS = ("f32", "tf32", "bf16", "f16")


class Row:
    """`lstm/fwd/reg/f32/H:650/B:20/T:35/eager` is kind lstm, path (fwd, reg), precision f32, shape (650, 20, 35), how (eager,)."""

    def __init__(self, row):
        self.name, self.row = row["name"], row
        parts = [p for p in self.name.split("/") if p.split(":")[0] not in NOT_OURS]
        sizes = [i for i, p in enumerate(parts) if ":" in p]
        if not sizes or sizes[0] < 3:
            raise Failure(f"unexpected name {self.name!r} of a benchmark row; expected KIND/WHAT/.../PRECISION/H:../B:../T:..")
        self.kind, self.path, self.precision = parts[0], tuple(parts[1:sizes[0] - 1]), parts[sizes[0] - 1]
        of = dict(p.split(":", 1) for p in parts if ":" in p)
        self.shape = tuple(int(of.pop(name, 0)) for name in "HBT")
        self.how = tuple(p for p in parts[sizes[0]:] if ":" not in p) + tuple(f"{k}:{v}" for k, v in of.items())
        self.error = row.get("error") if isinstance(row.get("error"), str) else row.get("error_message")

    def get(self, *names):
        """Returns the first of these columns that exists, or None."""
        return next((self.row[n] for n in names if isinstance(self.row.get(n), (int, float))), None)

    @property
    def us(self):
        return self.get("median_us")

    @property
    def us_per_step(self):
        return None if self.us is None or not self.shape[2] else self.us / self.shape[2]

    @property
    def noise(self):
        """Returns the interquartile range over the median or, for a row without it, the distance between the 10 % and 90 %
        quantiles over the median."""
        low, high, relative = self.get("p10_us"), self.get("p90_us"), self.get("riqr")
        return relative if relative is not None or None in (low, high) or not self.us else (high - low) / self.us

    def said(self, name):
        """Returns the label's value for a name, or None: that of kernel in "stop=noise kernel=reg" is reg."""
        return dict(word.split("=", 1) for word in str(self.row.get("label", "")).split() if "=" in word).get(name)


class Machine:
    """The data in a GPU's folder."""

    def __init__(self, data, folder):
        self.folder, self.hardware = folder, data.hardware(folder + "/machine.json")
        self.rows, self.file, self.context = [], {}, {}
        for name in ("variants.json", "step.json"):
            file = f"{folder}/{name}"
            if not data.find(file):
                continue
            found = data.json(file)
            for side, context in found["context"].items():
                if context.get("emulated") == "yes" or str(context.get("gpu", "")).startswith("emulated"):
                    raise Failure(f"profiles/{file} was measured on the emulator, whose times say nothing about a GPU")
                self.context[side] = context
            for row in found["rows"]:
                self.rows.append(Row(row))
                self.file[row["name"]] = file
        self.by_key = {(r.kind, r.path, r.precision, r.shape, r.how): r for r in reversed(self.rows)}
        constants = f"{folder}/constants.json"
        self.constants_file = constants if data.find(constants) else None
        found = data.json(constants) if self.constants_file else {"constants": {}}
        if found.get("emulated"):
            raise Failure(f"profiles/{constants} was measured on the emulator, whose times say nothing about a GPU")
        self.constants = found["constants"]

    def find(self, kind, path, precision, shape, how=()):
        """Returns the row of that name, which may contain an error, or None."""
        return self.by_key.get((kind, path, precision, shape, how))

    def us(self, kind, path, precision, shape, how=()):
        row = self.find(kind, path, precision, shape, how)
        return row and row.us

    def constant(self, name):
        return self.constants.get(name, {}).get("value")

    def rate(self, precision):
        """Returns the highest FLOP/s measured on this GPU in that precision, or None."""
        names = [f"{kind}_{precision}" for kind in ("fma", "mma", "gemm")]
        return max((rate for rate in map(self.constant, names) if rate), default=None)

    def floor_us(self, row):
        """Returns the floor of a recurrence on this GPU in microseconds, the time that no implementation can beat: at each step one hop
        from SM to SM and the step's arithmetic at the highest measured rate, or the movement of all bytes, whichever takes longer.
        Returns None if a constant that it needs was not measured."""
        flops, moved, hop, rate = row.get("FLOP/s"), row.get("bytes/s"), self.constant("flag_hop"), self.rate(row.precision)
        width = max((width for name in ("copy", "copy_kernel") if (width := self.constant(name))), default=None)
        if not (row.us and flops and moved and hop and rate and width):
            return None
        return max(flops * row.us / rate + row.shape[2] * hop, moved * row.us / width)


def no_lower(precision):
    """Returns the precisions in which a fair peer may compute: the same precision or a more exact one."""
    return {"f32": ("f32",), "tf32": ("f32", "tf32")}.get(precision, PRECISIONS)


def percent(share, digits=0):
    return "" if share is None else f"{100 * share:.{digits}f} %"


def machines(data):
    """Returns a Machine for every folder with a file of rows or constants."""
    folders = {os.path.dirname(file) for name in FILES for file in data.find("*/" + name)}
    return [Machine(data, folder) for folder in sorted(folders - {"model"})]
