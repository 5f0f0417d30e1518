"""The sections on the training step of the paper's models on a GPU: its time, words per second and parts, and its kernels one by one."""
from tables import bench
from tables.plot import PALETTE, PLOT_HEAD
from tables.text import link, number, table

# The parts of a step as sums of rows: (kind, path, count in a step of two layers). FORWARD and BACKWARD are the variants
# that the step ran.
L = bench.LAYERS
FORWARD, BACKWARD = "FORWARD", "BACKWARD"
PARTS = {
    "recurrence, forward": (("lstm", ("fwd", FORWARD), L),),
    "recurrence, backward": (("lstm", ("bwd", BACKWARD), L),),
    "products of the layers": (("gemm", ("x_proj",), L), ("gemm", ("dx",), L), ("gemm", ("dw_ih",), 2 * L)),  # dw_hh has dw_ih's shape
    "bias sums": (("layers", ("sums_dgates",), L), ("layers", ("sums_dlogits",), 1)),
    "products of the softmax": (("gemm", ("logits",), 1), ("gemm", ("dh",), 1), ("gemm", ("dw_dec",), 1)),
    "softmax": (("layers", ("softmax_xent",), 1),),
    "embedding": (("layers", ("step_begin",), 1), ("layers", ("embedding_fwd",), 1), ("layers", ("embedding_bwd",), 1)),
    "norm, clip, update": (("layers", ("sgd_norm",), 1), ("layers", ("sgd_update",), 1)),
}
REST = "gaps and the rest"


def model_of(shape):
    return next((name for name, own in bench.PRESETS.items() if own == shape), "H {}, B {}, T {}".format(*shape))


def parts_of(machine, row):
    """Returns {part: us}, each measured alone, with the rest of the step, or None if a part was not measured. Kernels other than the
    layers' products and the recurrence are float32 in every precision; if they also round, that time is in the rest. A recurrence is
    float32 if its variant has no other precision."""
    parts, variants = {}, (row.said("kernel") or "cublas").split("/")  # one variant for both passes, or FWD/BWD
    ran = {FORWARD: variants[0], BACKWARD: variants[-1]}
    for part, terms in PARTS.items():
        parts[part] = 0.0
        for kind, path, times in terms:
            precision = "f32" if kind == "layers" else row.precision
            path = tuple(ran.get(p, p) for p in path)
            us = machine.us(kind, path, precision, row.shape)
            if us is None and kind == "lstm" and path[1] != "cublas":
                us = machine.us(kind, path, "f32", row.shape)
            if us is None:
                return None
            parts[part] += times * us
    parts[REST] = row.us - sum(parts.values())
    return parts


def rows_of(machine):
    rows = [r for r in machine.rows if r.kind == "step"]
    models = list(bench.PRESETS.values())
    return sorted(rows, key=lambda r: (models.index(r.shape) if r.shape in models else len(models), r.shape))


def best_peer(machine, row):
    """Returns the us of the fastest step of another program in the same or a more exact precision, or None."""
    times = [r.us for r in machine.rows if r.kind == "step" and is_peer(r) and r.us and r.shape == row.shape
             and r.precision in bench.no_lower(row.precision)]
    return min(times, default=None)


def is_peer(row):
    return not row.path[0].startswith("cuda")


def step_row(machine, row):
    noise, peer = row.noise, best_peer(machine, row)
    words = row.get("words/s") or row.shape[1] * row.shape[2] / row.us * 1e6
    return [model_of(row.shape), f"`{'/'.join((*row.path, *row.how))}`", row.precision, number(row.us / 1e3, 3), number(words, 0),
            "" if peer is None or is_peer(row) else f"{peer / row.us:.2f}", bench.percent(noise, 1), machine.hardware,
            link(machine.file[row.name])]


def parts_row(machine, row, parts):
    return [model_of(row.shape), f"`{'/'.join(row.path)}`", row.precision, *(number(us, 1) for us in parts.values()), machine.hardware,
            link(machine.file[row.name])]


def stacked_figure(found):
    """Plots the parts of each step as one bar. A step whose parts, each measured alone, take longer than the whole shows no rest."""
    names = [*PARTS, REST]
    lines = [f'"{model_of(row.shape)}\\n{row.precision}\\n{row.us / 1e3:.2f} ms" '
             + " ".join(f"{max(0, parts[name]) / max(row.us, sum(parts.values()) - parts[REST]) * 100:.6g}" for name in names)
             for row, parts in found]
    script = PLOT_HEAD + "$parts << END\n" + "\n".join(lines) + "\nEND\n"
    script += "set style data histograms\nset style histogram rowstacked\nset style fill solid 0.9 noborder\nset boxwidth 0.6\n"
    script += "set ylabel '% of a step'\nset yrange [0:100]\nset bmargin 11\n"
    colours = (*PALETTE, "#bcbd22")
    plots = [f"$parts using {i + 2}{':xtic(1)' if i == 0 else ''} lc rgb '{colours[i]}' title '{name}'" for i, name in enumerate(names)]
    return script + "plot " + ", \\\n     ".join(plots) + "\n"


def step(data, figures):
    rows, split, pictures, notes = [], [], "", []
    owed = dict.fromkeys(bench.PRESETS)
    for machine in bench.machines(data):
        found = []
        for row in rows_of(machine):
            if row.error:
                notes.append(f"- {model_of(row.shape)} `{'/'.join((*row.path, *row.how))}` {row.precision}: {row.error}")
            if not row.us:
                continue
            rows.append(step_row(machine, row))
            owed.pop(model_of(row.shape), None)
            parts = None if row.how or is_peer(row) else parts_of(machine, row)
            if parts:
                found.append((row, parts))
                split.append(parts_row(machine, row, parts))
        if found:
            name = f"figures/{machine.folder}-step.svg"
            figures[name] = stacked_figure(found)
            pictures += f"\n![Where a step goes: {machine.hardware}](profiles/{name})\n"
    rows += [[model, "`cuda`", "", "not yet measured", "not yet measured", *[""] * 4] for model in owed]
    text = table(["model", "program ", "precision ", "ms per step", "words/s", "against the best peer", "noise",
                  "hardware ", "data "], rows)
    if notes:
        text += "\nWithout a time, and why:\n\n" + "\n".join(notes) + "\n"
    if split:
        text += "\nMicroseconds of the parts of a step, each measured alone:\n\n"
        text += table(["model", "program ", "precision ", *PARTS, REST, "hardware ", "data "], split)
    else:
        text += "\nWhere the time of a step goes: not yet measured.\n"
    return text + pictures


# ---- one by one ----


def rate(value, unit):
    return "" if value is None else f"{value / 1e12:.2f} T{unit}" if value >= 1e12 else f"{value / 1e9:.1f} G{unit}"


def of_roof(machine, row):
    """Returns the larger of a row's FLOP/s and bytes/s as shares of the rates measured on this machine, or None."""
    width = max((r for name in ("copy", "copy_kernel") if (r := machine.constant(name))), default=None)
    sides = ((row.get("FLOP/s"), machine.rate(row.precision)), (row.get("bytes/s"), width))
    return max((value / roof for value, roof in sides if value and roof), default=None)


def kernel_cell(machine, row):
    if row is None or not row.us:
        return row.error if row and row.error else ""
    near = of_roof(machine, row)
    return number(row.us, 2) + ("" if near is None else f" ({100 * near:.0f} %)")


def kernels(data, _figures):
    rows = []
    for machine in bench.machines(data):
        kinds = dict.fromkeys((r.kind, r.path, r.precision) for r in machine.rows if r.kind in ("layers", "gemm") and not r.how)
        for kind, path, precision in sorted(kinds, key=lambda k: (k[0] != "layers", k[2] != "f32")):
            found = [machine.find(kind, path, precision, shape) for shape in bench.PRESETS.values()]
            if any(found):
                rows.append([f"`{kind}/{'/'.join(path)}`", precision, *(kernel_cell(machine, row) for row in found), machine.hardware,
                             link(machine.file[next(filter(None, found)).name])])
    if not rows:
        return "Not yet measured.\n"
    return table(["kernel", "precision ", *(f"{name}, us" for name in bench.PRESETS), "hardware ", "data "], rows)


def constants(data, _figures):
    rows = []
    for machine in bench.machines(data):
        for name, c in machine.constants.items():
            if "value" not in c:
                rows.append([f"`{name}`", c.get("what", ""), c.get("error") or c.get("refused") or "no value", "",
                             machine.hardware, link(machine.constants_file)])
                continue
            value = rate(c["value"], c["unit"]) if c["unit"] in ("B/s", "FLOP/s") else f"{c['value']:.4g} {c['unit']}"
            low, high = c.get("p10"), c.get("p90")
            noise = f"{100 * abs(high - low) / c['value']:.1f} %" if low is not None and high is not None and c["value"] else ""
            rows.append([f"`{name}`", c.get("what", ""), value, noise, machine.hardware, link(machine.constants_file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["constant", "what it is ", "value", "noise", "hardware ", "data "], rows)
