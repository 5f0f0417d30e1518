"""Compares published times of one shape with our measurements of the same programs. If they disagree, the measurement must be examined
before any conclusion."""
from tables import bench
from tables.text import link, number, table

SHAPE = (768, 16, 1024)  # H, B, T
SOURCE = "[head_dim--lstm.svg](https://github.com/NX-AI/flashrnn) of NX-AI/flashrnn, H100 SXM"
# (program, test of a row's name, precision, published ms of forward, of forward and backward)
PUBLISHED = (
    ("cuDNN through nn.LSTM", lambda name: name == "cudnn", "f16", 2.01, 5.19),
    ("cuDNN by its C API, the fastest algorithm", lambda name: name.startswith("cudnn-") and name != "cudnn-dropout3", "f16", None, None),
    ("FlashRNN, fused, without the input's product", lambda name: name == "flashrnn-recurrence", "bf16", 4.87, 13.61),
    ("Haste", lambda name: name == "haste", "f32", 18.41, 43.86),
)


def fastest(machine, what, is_its, precision):
    rows = [r for r in machine.rows if r.kind == "lstm" and r.path[0] == what and is_its(r.path[1]) and r.precision == precision
            and r.shape == SHAPE and r.us]
    return min(rows, key=lambda r: r.us, default=None)


def cells(row):
    return "not yet measured" if row is None else f"{number(row.us / 1e3, 2)} (`{'/'.join((row.path[1], *row.how))}`)"


def anchor(data, _figures):
    machines, rows = bench.machines(data), []
    for program, is_its, precision, forward, both in PUBLISHED:
        published = ["–" if ms is None else number(ms, 2) for ms in (forward, both)]
        lines = [(m, *found) for m in machines if any(found := [fastest(m, what, is_its, precision) for what in ("fwd", "fwdbwd")])]
        for machine, *found in lines:
            file = machine.file[next(filter(None, found)).name]
            rows.append([program, precision, *published, *map(cells, found), machine.hardware, link(file)])
        if not lines:
            rows.append([program, precision, *published, "not yet measured", "not yet measured", "", ""])
    text = table(["program", "precision ", "published: forward, ms", "forward and backward, ms",
                  "measured: forward, ms ", "forward and backward, ms ",
                  "hardware ", "data "], rows)
    return text + f"\nH {SHAPE[0]}, B {SHAPE[1]}, T {SHAPE[2]}, one layer. Published: {SOURCE}.\n"
