"""The section on the variants of the recurrence beside cuBLAS and cuDNN: time per step, speed-up, share of the floor, and the planner's
prediction."""
from tables import bench
from tables.plot import PALETTE, PLOT_HEAD, block
from tables.text import link, number, table

CUBLAS = "cublas"
PREDICTIONS = "model/predictions.jsonl"
HEADINGS = ["variant ", "shape ", "precision ", "forward, us/step", "backward, us/step", "both, us/step", "predicted, us/step",
            "speed-up on cuBLAS graph", "of floor", "whole layer, us/step", "speed-up on best cuDNN", "noise", "hardware ", "data "]
FIT_HEADINGS = ["variant ", "H", "B", "precision ", "forward: launch, us", "step, us", "backward: launch, us",
                "step, us", "lengths", "hardware ",
                "data "]
WHOLE_HEADINGS = ["program ", "layers", "shape ", "precision ", "forward, us/step", "forward and backward, us/step",
                  "noise", "hardware ", "data "]


def is_cudnn(variant):
    return variant.startswith("cudnn")


def is_peer(variant):
    """Returns whether this is a library that computes a whole layer; only flashrnn-recurrence omits the input projection."""
    return variant.startswith(("cudnn", "flashrnn", "haste"))


def padded(shape):
    """Returns the shape padded to a multiple of 128 units and 8 rows, as persistent kernels of other libraries require."""
    H, B, T = shape
    return (H + 127) // 128 * 128, (B + 7) // 8 * 8, T


def own_length(shape):
    """Returns whether a shape is in the table: a preset at its own T, another model at any T. The other lengths are for the fit over T."""
    H, B, _ = shape
    return shape in bench.PRESETS.values() or (H, B) not in [(p[0], p[1]) for p in bench.PRESETS.values()]


class Predictions:
    """The predictions of `plstm plan --json`, one line per device, variant, pass and shape."""

    def __init__(self, data):
        self.steps, self.refused, self.devices = {}, {}, []
        for row in data.lines(PREDICTIONS) if data.find(PREDICTIONS) else []:
            if row["device"] not in self.devices:
                self.devices.append(row["device"])
            what = {"forward": "fwd", "backward": "bwd"}[row["pass"]]
            key = (row["device"], row["variant"], row.get("precision", "f32"), (row["H"], row["B"], row["T"]), what)
            if "refused" in row:
                self.refused[key] = row["refused"]
            else:
                self.steps[key] = row["model_us_per_step"] + (row["model_us_per_launch"] or 0) / row["T"]

    def device_of(self, hardware):
        """Returns the device for a machine's name by the rule of device_like in host/plan/device.c ("NVIDIA H100 80GB HBM3" is an H100),
        or None."""
        return next((device for device in self.devices if device.removeprefix("NVIDIA ") in hardware), None)

    def text(self, *key):
        """Formats forward + backward of (device, variant, precision, shape); empty if a pass has no prediction."""
        passes = [self.steps.get((*key, what)) for what in ("fwd", "bwd")]
        return "" if None in passes else f"{passes[0]:.2f} + {passes[1]:.2f}"


class Measured:
    """A machine's measured times of the recurrence; `what` is fwd or bwd."""

    def __init__(self, machine):
        self.machine = machine
        self.rows = [r for r in machine.rows if r.kind == "lstm" and r.path[0] in ("fwd", "bwd") and not is_peer(r.path[1]) and not r.how]

    def row(self, what, variant, precision, shape):
        return self.machine.find("lstm", (what, variant), precision, shape)

    def step(self, what, variant, precision, shape):
        """Returns us per step, or None; `both` is the sum of the passes."""
        if what == "both":
            passes = [self.step(one, variant, precision, shape) for one in ("fwd", "bwd")]
            return sum(passes) if None not in passes else None
        row = self.row(what, variant, precision, shape)
        return row and row.us_per_step

    def of_floor(self, variant, precision, shape):
        """Returns the floor of both passes over their time, or None."""
        rows = [self.row(what, variant, precision, shape) for what in ("fwd", "bwd")]
        floors = [row and self.machine.floor_us(row) for row in rows]
        return sum(floors) / sum(row.us for row in rows) if all(floors) and all(row.us for row in rows) else None

    def cublas_graph(self, precision, shape):
        """Returns the us per step of both passes of the cuBLAS graph, or None."""
        times = [self.step("both", CUBLAS, allowed, shape) for allowed in bench.no_lower(precision)]
        return min((us for us in times if us is not None), default=None)

    def layer(self, variant, precision, shape):
        """Returns the us per step of a whole layer with a variant, including all gradients, or None."""
        row = self.machine.find("layer", ("fwdbwd", variant), precision, shape)
        return row and row.us_per_step

    def best_cudnn(self, precision, shape):
        """Returns the us per step of cuDNN's fastest call for a whole layer at this shape or at its padded shape, or None."""
        times = [r.us_per_step for r in self.machine.rows if r.kind == "lstm" and r.path[0] == "fwdbwd"
                 and is_cudnn(r.path[1]) and not r.how
                 and r.shape in (shape, padded(shape)) and r.precision in bench.no_lower(precision)]
        return min((us for us in times if us is not None), default=None)

    def fit(self, what, variant, precision, H, B):
        """Returns (a, b, [(T, us)]) of t = a + b * T by least squares of relative errors over at least three measured lengths, or None."""
        points = sorted((r.shape[2], r.us) for r in self.rows if r.path == (what, variant) and r.precision == precision
                        and r.shape[:2] == (H, B) and r.us and not r.how)
        if len(points) < 3:
            return None
        w = [1 / us**2 for _, us in points]
        total = sum(w)
        mean_T = sum(wi * T for wi, (T, _) in zip(w, points)) / total
        mean_us = sum(wi * us for wi, (_, us) in zip(w, points)) / total
        b = sum(wi * (T - mean_T) * (us - mean_us)
                for wi, (T, us) in zip(w, points)) / sum(wi * (T - mean_T)**2 for wi, (T, _) in zip(w, points))
        return mean_us - b * mean_T, b, points


def ratio(theirs, ours):
    return "" if theirs is None or not ours else f"{theirs / ours:.2f}"


def named(shape):
    return "H {}, B {}, T {}".format(*shape)


def cell(us):
    return "" if us is None else number(us, 2)


def row_of(m, known, variant, precision, shape):
    machine, steps = m.machine, [m.step(what, variant, precision, shape) for what in ("fwd", "bwd")]
    both, layer = m.step("both", variant, precision, shape), m.layer(variant, precision, shape)
    rows = [r for what in ("fwd", "bwd") if (r := m.row(what, variant, precision, shape))]
    noise = max((r.noise for r in rows if r.noise is not None), default=None)
    return [f"`{variant}`", named(shape), precision, *map(cell, steps), cell(both),
            known.text(known.device_of(machine.hardware), variant, precision, shape),
            ratio(m.cublas_graph(precision, shape), both), bench.percent(m.of_floor(variant, precision, shape)), cell(layer),
            ratio(m.best_cudnn(precision, shape), layer), bench.percent(noise, 1), machine.hardware, link(machine.file[rows[0].name])]


def whole_rows(machine):
    """Returns the rows of whole layers by our variants and by other libraries, one call or graph each."""
    is_whole = lambda r: r.kind in ("layer", "layer2") or r.kind in ("lstm", "lstm2") and is_peer(r.path[1])
    rows = [r for r in machine.rows if is_whole(r) and r.path[0] in ("fwd", "fwdbwd") and not r.how and r.us]
    found = {}
    for r in rows:
        found.setdefault((2 if r.kind.endswith("2") else 1, r.shape, r.precision, r.path[1]), {})[r.path[0]] = r
    times = lambda sides, what: cell(sides[what].us_per_step if what in sides else None)
    text = []
    order = lambda key: (key[0], order_of_shape(key[1]), order_of_precision(key[2]))
    for (layers, shape, precision, program), sides in sorted(found.items(), key=lambda item: order(item[0])):
        noise = max((r.noise for r in sides.values() if r.noise is not None), default=None)
        file = machine.file[next(iter(sides.values())).name]
        text.append([f"`{program}`", str(layers), named(shape), precision, times(sides, "fwd"), times(sides, "fwdbwd"),
                     bench.percent(noise, 1),
                     machine.hardware, link(file)])
    return text


def fit_rows(machine):
    m, rows = Measured(machine), []
    for variant, precision, H, B in dict.fromkeys((r.path[1], r.precision, *r.shape[:2]) for r in m.rows):
        fits = [m.fit(what, variant, precision, H, B) for what in ("fwd", "bwd")]
        if not any(fits):
            continue
        cells = [text for fit in fits for text in ((number(fit[0], 1), number(fit[1], 2)) if fit else ("", ""))]
        lengths = ", ".join(str(T) for T, _ in next(filter(None, fits))[2])
        file = next(machine.file[r.name] for r in m.rows if r.path[1] == variant and r.shape[0] == H)
        rows.append([f"`{variant}`", str(H), str(B), precision, *cells, lengths, machine.hardware, link(file)])
    return rows


def order_of_shape(shape):
    known = list(bench.PRESETS.values())
    return (known.index(shape) if shape in known else len(known), shape)


def order_of_precision(precision):
    return bench.PRECISIONS.index(precision) if precision in bench.PRECISIONS else len(bench.PRECISIONS)


def of_machine(machine, known):
    """Returns the rows of the table, and a sentence for each refused or wrong row, including cuDNN's."""
    m, rows, notes = Measured(machine), [], {}
    variants = list(dict.fromkeys(r.path[1] for r in m.rows))
    keys = {(r.shape, r.path[1], r.precision) for r in m.rows if own_length(r.shape)}
    for shape, variant, precision in sorted(keys, key=lambda k: (order_of_shape(k[0]), order_of_precision(k[2]), variants.index(k[1]))):
        if any(m.step(what, variant, precision, shape) for what in ("fwd", "bwd")):
            rows.append(row_of(m, known, variant, precision, shape))
    for r in machine.rows:
        if r.error and r.kind in ("lstm", "lstm2", "layer", "layer2") and not r.how and own_length(r.shape):
            notes.setdefault((r.path[1], r.precision, r.error), []).append(f"{r.kind}/{r.path[0]} H {r.shape[0]}")
    return rows, [f"- `{variant}` {precision}, {', '.join(dict.fromkeys(where))}: {error}"
                  for (variant, precision, error), where in notes.items()]


def owed(known, measured):
    """Returns rows for predictions without a measurement, and sentences for the planner's refusals. A measurement on any device suffices;
    the remaining rows are those of the device with the most measurements, or else of the last device."""
    if not known.devices:
        return [], []
    seen = {key[1:] for key in measured}
    device = max(known.devices, key=lambda one: (sum(key[0] == one for key in measured), known.devices.index(one)))
    keys = [key for key in dict.fromkeys(key[:4] for key in known.steps) if key[0] == device and own_length(key[3]) and key[1:] not in seen]
    who = f"{device} (model)" if len(known.devices) == 1 else f"{' or '.join(known.devices)} (model of {device})"
    rows = [[f"`{variant}`", named(shape), precision, *["not yet measured"] * 3, text, *[""] * 5, who, link(PREDICTIONS)]
            for _, variant, precision, shape in keys if (text := known.text(device, variant, precision, shape))]
    notes = {}
    for (of, variant, precision, shape, what), why in known.refused.items():
        if of == device and (variant, precision, shape) not in seen:
            notes.setdefault((variant, precision, why), []).append(f"{what} H {shape[0]}")
    return rows, [f"- `{variant}` {precision}, {', '.join(where)}, by the planner for {device}: {why}"
                  for (variant, precision, why), where in notes.items()]


# ---- figures ----


def speed_up_figure(m):
    """Plots bars of the cuBLAS graph's time over a variant's, both directions, at each model's shape; None if there is nothing to
    compare."""
    shapes = [s for s in bench.PRESETS.values() if m.step("both", CUBLAS, "f32", s)]
    series = list(dict.fromkeys((r.path[1], r.precision) for r in m.rows if (r.path[1], r.precision) != (CUBLAS, "f32")))
    if not shapes or not series:
        return None
    cells = [[m.step("both", variant, precision, s) for variant, precision in series] for s in shapes]
    lines = [f'"H {s[0]}" ' + " ".join("?" if us is None else f"{m.step('both', CUBLAS, 'f32', s) / us:.6g}" for us in row)
             for s, row in zip(shapes, cells)]
    script = PLOT_HEAD + "$bars << END\n" + "\n".join(lines) + "\nEND\n"
    script += "set datafile missing '?'\nset style data histograms\nset style histogram clustered gap 1\nset style " \
        "fill solid 0.9 noborder\n"
    script += "set ylabel 'times as fast as the cuBLAS graph, float32'\nset yrange [0:*]\n"
    plots = [f"$bars using {i + 2}:xtic(1) lc rgb '{PALETTE[i % len(PALETTE)]}' title '{variant} {precision}'"
             for i, (variant, precision) in enumerate(series)]
    return script + "plot " + ", \\\n     ".join([*plots, "1 with lines lw 1 lc rgb 'black' title 'cublas f32'"]) + "\n"


def lengths_figure(m, H, B):
    """Plots the time of a pass against T with the fitted lines; forward is filled and solid, backward hollow and dashed."""
    names = dict.fromkeys((r.path[1], r.precision) for r in m.rows)
    fits = {(*name, what): fit for name in names for what in ("fwd", "bwd") if (fit := m.fit(what, *name, H, B))}
    if not fits:
        return None
    script, plots = PLOT_HEAD, []
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(key[:2] for key in fits))}
    for i, ((variant, precision, what), (a, b, points)) in enumerate(fits.items()):
        script += block(f"t{i}", points)
        colour, point, dash = colours[variant, precision], *((6, "(6,4)") if what == "bwd" else (7, "solid"))
        plots.append(f"$t{i} using 1:2 with points pt {point} ps 0.7 lc rgb '{colour}' notitle")
        plots.append(f"{a:.6g} + {b:.6g}*x with lines lw 1.5 dt {dash} lc rgb '{colour}' title '{variant} {precision} "
                     f"{what}: {a:.1f} + {b:.2f} T'")
    script += f"set xlabel 'T, steps'\nset ylabel 'microseconds of a pass, H {H}, B {B}'\nset yrange [0:*]\n"
    return script + f"plot [0:{max(points[-1][0] for _, _, points in fits.values())}] " + ", \\\n     ".join(plots) + "\n"


def roofline_figure(machine):
    """Plots FLOP/s against FLOP per byte of every row that has both, with roofs from this machine's constants."""
    points = {}
    for row in machine.rows:
        flops, rate = row.get("FLOP/s"), row.get("bytes/s")
        if flops and rate and not row.how and own_length(row.shape):
            points.setdefault(row.kind + (' ' + row.path[1] if row.kind == 'lstm' else ''), []).append((flops / rate, flops))
    width = max((rate for name in ("copy", "copy_kernel") if (rate := machine.constant(name))), default=None)
    roofs = [(name, machine.constant(name)) for name in ("fma_f32", "gemm_tf32", "gemm_bf16") if machine.constant(name)]
    if not points or not width or not roofs:
        return None
    script, plots = PLOT_HEAD, []
    left = 0.5 * min(x for rows in points.values() for x, _ in rows)
    right = 2 * max([x for rows in points.values() for x, _ in rows] + [roof / width for _, roof in roofs])
    for i, (kind, rows) in enumerate(points.items()):
        script += block(f"k{i}", sorted(rows))
        plots.append(f"$k{i} using 1:2 with points pt 7 ps 0.6 lc rgb '{PALETTE[i % len(PALETTE)]}' title '{kind}'")
    for name, roof in roofs:
        plots.append(f"(x * {width:.6g} < {roof:.6g} ? x * {width:.6g} : {roof:.6g}) with lines lw 1 lc rgb 'black' "
                     f"dt {1 + roofs.index((name, roof))} title '{name.replace('_', ' ')}'")
    script += "set logscale xy\nset format '10^{%L}'\nset samples 400\nset xlabel 'FLOP per byte'\nset ylabel 'FLOP/s'\n"
    return script + f"plot [{left:.6g}:{right:.6g}] " + ", \\\n     ".join(plots) + "\n"


def pictures_of(machine, figures):
    m, text = Measured(machine), ""
    made = [("speedup", "Speed-up of each variant over the cuBLAS graph", speed_up_figure(m))]
    made += [(f"lengths-H{H}", f"Time of a pass against its length, H {H}", lengths_figure(m, H, B))
             for H, B in dict.fromkeys(r.shape[:2] for r in m.rows)]
    made.append(("roofline", "Kernels under this machine's measured roofs", roofline_figure(machine)))
    for name, what, script in made:
        if script:
            figures[f"figures/{machine.folder}-{name}.svg"] = script
            text += f"![{what}: {machine.hardware}](profiles/figures/{machine.folder}-{name}.svg)\n\n"
    return text


def variants(data, figures):
    known, rows, notes, fits, whole, pictures = Predictions(data), [], [], [], [], ""
    measured = set()
    for machine in bench.machines(data):
        more, said = of_machine(machine, known)
        rows, notes, fits, whole = rows + more, notes + said, fits + fit_rows(machine), whole + whole_rows(machine)
        device = known.device_of(machine.hardware)
        measured |= {(device, r.path[1], r.precision, r.shape) for r in machine.rows if r.kind == "lstm" and r.us and device}
        pictures += pictures_of(machine, figures)
    more, said = owed(known, measured)
    rows, notes = rows + more, notes + said
    if not rows:
        return "Not yet measured.\n"
    text = table(HEADINGS, rows)
    if fits:
        text += "\nTime of a pass, fitted over the lengths as launch + T * step:\n\n" + table(FIT_HEADINGS, fits)
    if whole:
        text += "\nWhole layers of plstm and of other libraries: cuDNN by its C API (`cudnn-ALGORITHM`, also at " \
            "padded shapes) and through PyTorch "
        text += "(`cudnn`); FlashRNN at padded shapes (`flashrnn-recurrence` without the input projection); Haste:\n\n"
        text += table(WHOLE_HEADINGS, whole)
    if notes:
        text += "\nWithout a time, and why:\n\n" + "\n".join(notes) + "\n"
    return text + ("\n" + pictures if pictures else "\nPlots: not yet measured.\n")
