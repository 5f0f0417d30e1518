#!/usr/bin/env python3
"""Rebuilds the tables of RESULTS.md and its figures from the data under profiles/, and from nothing else.

    results.py                rewrites what stands between <!-- begin:NAME --> and <!-- end:NAME -->, and profiles/figures/
    results.py --check        fails when that would change anything; draws nothing
    results.py --thin IN OUT  copies a log of plstm with every hundredth step line: small enough to commit
    results.py --ingest FILE  files an archive of tools/gpu_run.sh under profiles/<gpu>/, also one cut short (tools/ingest.py)

Data is laid out as profiles/README.md says: a folder per machine, named in its machine.json. A figure carries the hash of what it was
drawn from, so that --check gives the same answer with another gnuplot, or none.
"""
import argparse
import glob
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys

import ingest

THIN = 100
PAPER = {"small": (120.7, 114.5), "medium": (86.2, 82.7), "large": (82.2, 78.4)}  # arXiv 1409.2329v5, valid and test
SITES = {"none": "no dropout", "nonrecurrent": "non-recurrent dropout", "all": "naive dropout (all connections)"}
CLASSES = {"content": "content", "after_short": "after a short )", "after_long": "after a long )", "filler": "filler"}
BRIEF = {"none": "no dropout", "nonrecurrent": "non-recurrent", "all": "naive"}
COLOURS = {"none": "#7f7f7f", "nonrecurrent": "#1f77b4", "all": "#d62728"}
# What RESULTS.md is to hold one day: (data under profiles/, what it is).
EXPECTED = (
    ("h200/ptb-small.jsonl", "Penn Treebank, preset small, on an H200"),
    ("h200/ptb-medium.jsonl", "Penn Treebank, preset medium, on an H200"),
    ("h200/ptb-large.jsonl", "Penn Treebank, preset large, on an H200"),
    ("h200/variants.json", "every kernel variant, forward and backward, beside cuBLAS and cuDNN, on an H200"),
    ("h200/step.json", "the whole training step beside PyTorch's, on an H200"),
)


class Failure(Exception):
    """A sentence for the user."""


# ---- reading ----


class Data:
    """profiles/ of one working tree."""

    def __init__(self, root):
        self.root = os.path.join(root, "profiles")

    def find(self, pattern):
        """Paths relative to profiles/, sorted."""
        return sorted(os.path.relpath(p, self.root) for p in glob.glob(os.path.join(self.root, pattern)))

    def text(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8") as f:
            return f.read()

    def json(self, name):
        try:
            return json.loads(self.text(name))
        except ValueError as fault:
            raise Failure(f"profiles/{name} is not JSON: {fault}") from fault

    def lines(self, name):
        try:
            return [json.loads(line) for line in self.text(name).splitlines()]
        except ValueError as fault:
            raise Failure(f"profiles/{name} has a line that is not JSON: {fault}") from fault

    def hardware(self, name):
        """Of the machine whose folder a file is in."""
        machine = os.path.join(os.path.dirname(name), "machine.json")
        if not os.path.exists(os.path.join(self.root, machine)):
            raise Failure(f"profiles/{machine} is missing: it names the machine that profiles/{name} was taken on")
        return self.json(machine)["hardware"]


class Run:
    """A log of plstm."""

    def __init__(self, data, name):
        events = data.lines(name)
        self.name, self.hardware = name, data.hardware(name)
        runs = [e for e in events if e["event"] == "run"]
        if len(runs) != 1:
            raise Failure(f"profiles/{name} has {len(runs)} run lines, not one")
        self.run = runs[0]
        self.epochs = [e for e in events if e["event"] == "epoch"]
        self.test = next((e for e in events if e["event"] == "test"), None)
        steps = [e for e in events if e["event"] == "step" and e["words_per_s"]]
        seconds = sum(e["tokens"] / e["words_per_s"] for e in steps)
        self.words_per_s = sum(e["tokens"] for e in steps) / seconds if seconds else math.nan


# ---- writing ----


def table(headings, rows):
    """The first column is words, the others are numbers, except those whose heading ends with a blank."""
    align = [":--" if i == 0 or h.endswith(" ") else "--:" for i, h in enumerate(headings)]
    lines = [[h.strip() for h in headings], align, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def link(name):
    return f"[{name}](profiles/{name})"


def number(value, digits=1):
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(values, digits=2):
    """Mean, and the sample standard deviation where there are several."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return text + f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def listed(words):
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def percent_above(value, base):
    return f"{100 * (value / base - 1):+.1f} %"


def share(value):
    return f"{100 * value:.0f} %"


# ---- figures ----

PLOT_HEAD = """set encoding utf8
set terminal svg size 720,440 font "sans-serif,13" background "white"
set grid ytics lc rgb "#dddddd"
set key below Left reverse samplen 2 spacing 1.3 maxcols 2
"""
STAMP = "<!-- drawn by tools/results.py from {} -->"


def stamp_of(script):
    return STAMP.format(hashlib.sha256(script.encode()).hexdigest())


def draw(script):
    """The SVG, the same bytes for the same script and gnuplot; None, with a line that says so, where there is no gnuplot."""
    gnuplot = shutil.which("gnuplot")
    if not gnuplot:
        print("gnuplot is not there, so no figure was drawn (tools/deps.sh installs it)", file=sys.stderr)
        return None
    done = subprocess.run([gnuplot], input=script.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env=dict(os.environ, LC_ALL="C"))
    svg = done.stdout.decode()
    if done.returncode or not svg.rstrip().endswith("</svg>"):
        raise Failure(f"gnuplot failed: {done.stderr.decode(errors='replace').strip()}")
    return svg.rstrip() + "\n" + stamp_of(script) + "\n"


def cut(values):
    """A logarithmic y axis around the data."""
    ticks = ", ".join(str(m * 10**e) for e in range(4) for m in (1, 1.5, 2, 3, 4, 5, 7))
    return f"set logscale y\nset ytics ({ticks})\nset yrange [{0.9 * min(values):.3g}:{1.1 * max(values):.3g}]\n"


def ppls_of(runs):
    return [epoch[key] for run in runs for epoch in run.epochs for key in ("train_ppl", "valid_ppl")]


def block(name, rows):
    return f"${name} << END\n" + "".join(" ".join(f"{v:.6g}" for v in row) + "\n" for row in rows) + "END\n"


def keep_figure(records):
    possible = records[0]["best_ppl"]
    keeps = sorted({r["keep"] for r in records})
    script, plots = PLOT_HEAD, []
    for sites in ("nonrecurrent", "all"):
        rows = []
        for keep in keeps:
            ppls = [r["test_ppl"] for r in records if (r["sites"], r["keep"]) == (sites, keep)]
            rows.append((keep, statistics.fmean(ppls), min(ppls), max(ppls)))
        script += block(sites, rows)
        plots.append(f"${sites} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb '{COLOURS[sites]}' title '{SITES[sites]}'")
    plots.append(f"{possible:.6g} with lines lw 1 lc rgb 'black' title 'best possible'")
    script += "set xlabel 'share of values kept'\nset ylabel 'test perplexity: mean, lowest, highest'\n"
    return script + f"plot [{keeps[0] - 0.05:.6g}:{keeps[-1] + 0.05:.6g}] " + ", \\\n     ".join(plots) + "\n"


def curves_figure(runs):
    """Valid (lines) and train (dashes) perplexity after each epoch; a colour per kind of dropout."""
    script, plots = PLOT_HEAD, []
    for run in runs:
        sites = run.run["dropout_sites"]
        script += block(sites, [(e["epoch"], e["train_ppl"], e["valid_ppl"]) for e in run.epochs])
        dashes = "title 'dashes: train, as trained'" if run is runs[0] else "notitle"
        plots.append(f"${sites} using 1:3 with lines lw 2 lc rgb '{COLOURS[sites]}' title '{BRIEF[sites]}: valid'")
        plots.append(f"${sites} using 1:2 with lines lw 2 dt (6,4) lc rgb '{COLOURS[sites]}' {dashes}")
    plots.append(f"{runs[0].test['best_ppl']:.6g} with lines lw 1 lc rgb 'black' title 'best possible on test'")
    script += "set xlabel 'epoch'\nset ylabel 'perplexity'\n" + cut(ppls_of(runs))
    return script + f"plot [1:{len(runs[0].epochs)}] " + ", \\\n     ".join(plots) + "\n"


def epochs_figure(run):
    script = PLOT_HEAD + block("run", [(e["epoch"], e["train_ppl"], e["valid_ppl"]) for e in run.epochs])
    plots = ["$run using 1:3 with linespoints lw 2 pt 7 ps 0.5 lc rgb '#1f77b4' title 'valid'",
             "$run using 1:2 with lines lw 2 dt (6,4) lc rgb '#1f77b4' title 'train, as trained'",
             f"{PAPER[run.run['preset']][0]} with lines lw 1 lc rgb 'black' title 'paper, valid at the end'"]
    script += "set xlabel 'epoch'\nset ylabel 'perplexity'\n" + cut(ppls_of([run]))
    return script + f"plot [1:{len(run.epochs)}] " + ", \\\n     ".join(plots) + "\n"


# ---- the demo ----


def demo_row(title, records, prefix, file, hardware):
    ppl = lambda key: spread([r[prefix + key] for r in records])
    classes = [spread([r[prefix + "classes"][name]["ppl"] for r in records]) for name in CLASSES]
    return [title, ppl("train_ppl"), ppl("valid_ppl"), ppl("test_ppl"), *classes, hardware, link(file)]


def demo_seed(none, ours, naive):
    at_best = none["best_epoch_test_ppl"]
    ppls = [none["test_ppl"], at_best, ours["test_ppl"], naive["test_ppl"]]
    return [str(none["seed"]), *(number(ppl, 2) for ppl in ppls), f"{100 * (1 - ours['test_ppl'] / naive['test_ppl']):.1f} %",
            f"{100 * (1 - ours['test_ppl'] / at_best):.1f} %", number(statistics.fmean(r["words_per_s"] for r in (none, ours, naive)), 0),
            number(sum(r["seconds"] for r in (none, ours, naive)), 0)]


def demo(data, figures):
    text = ""
    for file in data.find("*/demo.jsonl"):
        records, hardware = data.lines(file), data.hardware(file)
        kinds = {sites: [r for r in records if r["sites"] == sites] for sites in SITES}
        seeds = [r["seed"] for r in kinds["none"]]
        if not seeds or any([r["seed"] for r in kind] != seeds for kind in kinds.values()):
            raise Failure(f"profiles/{file}: the three kinds of dropout do not have the same seeds")
        rows = [demo_row("no dropout, at the end", kinds["none"], "", file, hardware),
                demo_row("no dropout, best epoch", kinds["none"], "best_epoch_", file, hardware)]
        rows += [demo_row(SITES[sites], kinds[sites], "", file, hardware) for sites in ("nonrecurrent", "all")]
        best = kinds["none"][0]
        possible = [best["best_ppl"], *(best["classes"][name]["best_ppl"] for name in CLASSES)]
        rows.append(["best possible", "", "", *(number(ppl, 2) for ppl in possible), "", link(file)])
        text += f"Perplexity, mean ± standard deviation over seeds {listed(map(str, seeds))}; keep {best['keep']:g}.\n\n"
        text += table(["", "train", "valid", "test", *CLASSES.values(), "hardware ", "data "], rows) + "\n"
        text += "Test perplexity of each seed, and how far non-recurrent dropout is below the others; words/s and seconds as the runs shared the cores.\n\n"
        text += table(["seed", "no dropout, end", "no dropout, best epoch", "non-recurrent", "naive", "below naive", "below best epoch",
                       "words/s", "seconds of all three", "hardware ", "data "],
                      [[*demo_seed(*three), hardware, link(file)] for three in zip(*kinds.values())]) + "\n"
        logs = [Run(data, f) for f in data.find(os.path.join(os.path.dirname(file), "demo-*-1.jsonl"))]
        if logs:
            logs.sort(key=lambda run: list(SITES).index(run.run["dropout_sites"]))
            name = f"figures/{os.path.dirname(file)}-demo.svg"
            figures[name] = curves_figure(logs)
            text += f"![Learning curves of seed 1](profiles/{name})\n\n"
    return text or "Not yet measured.\n"


def demo_keep(data, figures):
    text = ""
    for file in data.find("*/demo-keep.jsonl"):
        records, hardware = data.lines(file), data.hardware(file)
        keeps = sorted({r["keep"] for r in records})
        ppls = {(sites, keep): [r["test_ppl"] for r in records if (r["sites"], r["keep"]) == (sites, keep)]
                for sites in ("nonrecurrent", "all") for keep in keeps}
        lacking = [keep for (_, keep), found in ppls.items() if not found]
        if lacking:
            raise Failure(f"profiles/{file}: keep {lacking[0]:g} lacks a kind of dropout")
        mean = {key: statistics.fmean(found) for key, found in ppls.items()}
        text += table(["keep", "non-recurrent", "naive", "naive against non-recurrent", "hardware ", "data "],
                      [[f"{keep:g}", spread(ppls["nonrecurrent", keep]), spread(ppls["all", keep]),
                        percent_above(mean["all", keep], mean["nonrecurrent", keep]), hardware, link(file)] for keep in keeps]) + "\n"
        ours, naive = (min(mean[sites, keep] for keep in keeps) for sites in ("nonrecurrent", "all"))
        text += f"Each at its own best keep: {ours:.2f} non-recurrent, {naive:.2f} naive ({percent_above(naive, ours)}).\n\n"
        name = f"figures/{os.path.dirname(file)}-demo-keep.svg"
        figures[name] = keep_figure(records)
        text += f"![Test perplexity against the share kept](profiles/{name})\n\n"
    return text or "Not yet measured.\n"


# ---- Penn Treebank ----


def ptb_row(run):
    info, last, paper = run.run, run.epochs[-1], PAPER[run.run["preset"]]
    what = " ".join(str(info[k]) for k in ("backend", "kernel", "precision") if info[k])
    ppls = [run.epochs[0]["valid_ppl"], last["train_ppl"], last["valid_ppl"], last["valid_ppl_paper"], paper[0], run.test["test_ppl"], paper[1]]
    return [info["preset"], what, str(len(run.epochs)), *(number(ppl) for ppl in ppls), number(run.words_per_s, 0),
            number(sum(e["seconds"] for e in run.epochs) / 60, 0), run.hardware, link(run.name)]


def ptb(data, figures):
    rows, pictures = [], ""
    runs = [Run(data, file) for file in data.find("*/ptb-*.jsonl")]
    for run in sorted(runs, key=lambda r: list(PAPER).index(r.run["preset"])):
        corpus, preset = run.run["corpus"], run.run["preset"]
        if not (corpus or "").startswith("Penn Treebank"):
            raise Failure(f"profiles/{run.name} was not trained on Penn Treebank but on {corpus}")
        if not run.epochs or not run.test:
            raise Failure(f"profiles/{run.name} is of a run that did not end")
        rows.append(ptb_row(run))
        name = "figures/" + run.name.replace("/", "-").removesuffix(".jsonl") + ".svg"
        figures[name] = epochs_figure(run)
        pictures += f"\n![Perplexity after each epoch of {preset} on Penn Treebank](profiles/{name})\n"
    if not rows:
        return "Not yet measured.\n"
    return table(["preset", "backend ", "epochs", "valid after epoch 1", "train", "valid", "valid, paper's count", "paper's valid", "test",
                  "paper's test", "words/s", "minutes", "hardware ", "data "], rows) + pictures


# ---- the CPU beside PyTorch ----


def cpu_speed(data, _figures):
    text = ""
    for file in data.find("*/bench-cpu.json"):
        bench = data.json(file)
        rows = []
        for row in bench["rows"]:
            shape = f"H {row['hidden']}, B {row['batch']}, T {row['seq']}, keep {row['keep']:g}"
            sides = [("plstm", bench["threads"], row["ours"], f"{row['ratio']:.2f}" if "ratio" in row else "")]
            for theirs in row.get("torch_all", []):
                is_best = theirs["threads"] == row["torch"]["threads"]
                sides.append(("PyTorch " + bench["torch"], theirs["threads"], theirs, "1" if is_best else ""))
            rows += [[shape, program, str(threads), number(side["words_per_s"], 0), number(side["flop_per_s"] / 1e9, 0), share(side["of_square"]),
                      share(side["of_products"]), ratio, bench["cpu"], link(file)] for program, threads, side, ratio in sides]
        text += table(["training step", "program ", "threads", "words/s", "GFLOP/s", "of sgemm", "of its products", "against PyTorch's best",
                       "hardware ", "data "], rows)
        libraries = f"of both: {bench['blas']}" if bench["blas"] == bench["torch_blas"] else f"here: {bench['blas']}; in PyTorch: {bench['torch_blas']}"
        text += f"\nMatrix library {libraries}. "
        text += f"Load average when it began: {bench['load_average']:.2f}; commit {bench['commit']}.\n"
    return text or "Not yet measured.\n"


# What a line of perf is time for; the first that fits counts. (object, symbol, what)
PERF_GROUPS = (
    (r"openblas", r"", "OpenBLAS: products over all T·B positions"),
    (r"bench_cpu|plstm", r"^tile_", "plstm: recurrent products"),
    (r"bench_cpu|plstm", r"^cpu_layer_", "plstm: cells"),
    (r"bench_cpu|plstm", r"^cpu_softmax_", "plstm: softmax"),
    (r"bench_cpu|plstm", r"^cpu_update|^sum_of_squares", "plstm: norm, clip, update"),
    (r"bench_cpu|plstm", r"^mask_", "plstm: masks"),
    (r"", r"", "everything else"),
)


def cpu_profile(data, _figures):
    """Shares of one thread's time, from lines of perf report such as `  6.02%  bench_cpu  [.] tile_20`."""
    rows = []
    for file in data.find("*/perf-H*.txt"):
        shares = dict.fromkeys((what for _, _, what in PERF_GROUPS), 0.0)
        for line in data.text(file).splitlines():
            found = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(\S+)", line)
            if not found:
                raise Failure(f"profiles/{file} has a line that is not perf's: {line[:60]!r}")
            what = next(w for dso, symbol, w in PERF_GROUPS if re.search(dso, found[2]) and re.search(symbol, found[3]))
            shares[what] += float(found[1])
        shares["everything else"] += max(0.0, 100 - sum(shares.values()))  # what perf left out for being small
        size = re.search(r"perf-H(\d+)", file)[1]
        rows.append([f"H {size}", *(f"{value:.1f} %" for value in shares.values()), data.hardware(file), link(file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["training step on one thread", *(what for _, _, what in PERF_GROUPS), "hardware ", "data "], rows)


def emulator(data, _figures):
    """Rows of bench/bench_emu.cpp: Google Benchmark's own JSON of the plain and of the race build."""
    rows = []
    for file in data.find("*/bench-emu-*.json"):
        run = data.json(file)
        build = re.search(r"bench-emu-(\w+)\.json$", file).group(1)
        for row in run["benchmarks"]:
            if row.get("run_type", "iteration") != "iteration":
                continue
            seconds = row["cpu_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[row["time_unit"]]
            rate = row.get("switches_per_s")
            rows.append([f"`{row['name'].replace('/iterations:1', '')}`", build, number(seconds, 3), number(rate / 1e6, 1) if rate else "",
                         number(row["peak_mb"], 0) if "peak_mb" in row else "", data.hardware(file), link(file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["row ", "build ", "CPU s", "million switches/s", "peak MB", "hardware ", "data "], rows)


def not_measured(data, _figures):
    missing = [(file, what) for file, what in EXPECTED if not data.find(file)]
    return "".join(f"- {what} (`profiles/{file}`)\n" for file, what in missing) or "Nothing: every row that was planned is there.\n"


SECTIONS = {"demo": demo, "demo-keep": demo_keep, "ptb": ptb, "cpu-speed": cpu_speed, "cpu-profile": cpu_profile, "emulator": emulator,
            "not-measured": not_measured}


# ---- the page ----


def rebuild(page, data):
    """The page with every section made anew, and the scripts of its figures by their path under profiles/."""
    marks = re.findall(r"<!-- (begin|end):(\S+) -->", page)
    wanted = [(side, name) for name in SECTIONS for side in ("begin", "end")]
    if sorted(marks) != sorted(wanted):
        off = [f"{side}:{name}" for side, name in sorted(set(marks) ^ set(wanted)) or marks]
        raise Failure(f"RESULTS.md does not have each mark once; look at {listed(off)}")
    figures = {}
    for name, make in SECTIONS.items():
        pattern = re.compile(rf"(<!-- begin:{re.escape(name)} -->\n)(.*?)(<!-- end:{re.escape(name)} -->)", re.DOTALL)
        if not pattern.search(page):
            raise Failure(f"RESULTS.md: the marks of {name} are not in order, or not alone on their lines")
        try:
            text = make(data, figures)
        except (KeyError, TypeError, IndexError, ZeroDivisionError) as fault:
            raise Failure(f"the data of section {name} is not what plstm writes: {type(fault).__name__} {fault}") from fault
        page = pattern.sub(lambda found, text=text: found[1] + "\n" + text.strip("\n") + "\n\n" + found[3], page)
    return page, figures


def write_whole(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def stale_figures(root, figures):
    for name, script in figures.items():
        path = os.path.join(root, "profiles", name)
        try:
            with open(path, encoding="utf-8") as f:
                fresh = stamp_of(script) in f.read()
        except FileNotFoundError:
            fresh = False
        if not fresh:
            yield name, path, script


def results(root, check):
    page_path = os.path.join(root, "RESULTS.md")
    with open(page_path, encoding="utf-8") as f:
        page = f.read()
    new, figures = rebuild(page, Data(root))
    stale = list(stale_figures(root, figures))
    if check:
        off = (["RESULTS.md"] if new != page else []) + [f"profiles/{name}" for name, _, _ in stale]
        if off:
            raise Failure(f"{listed(off)} {'is' if len(off) == 1 else 'are'} not what profiles/ says; run make results")
        return
    for _, path, script in stale:
        svg = draw(script)
        if svg is not None:
            write_whole(path, svg)
    if new != page:
        write_whole(page_path, new)


def thin(source, target):
    kept = []
    with open(source, encoding="utf-8") as f:
        for line in f:
            event = json.loads(line)
            if event["event"] != "step" or event["step"] % THIN == 0:
                kept.append(line)
    write_whole(target, "".join(kept))


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--thin", nargs=2, metavar=("IN", "OUT"))
    parser.add_argument("--ingest", metavar="FILE")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(here), metavar="DIR", help="the working tree")
    arguments = parser.parse_args()
    try:
        if arguments.thin:
            thin(*arguments.thin)
        elif arguments.ingest:
            ingest.command(arguments.ingest, arguments.root)
        else:
            results(arguments.root, arguments.check)
    except (Failure, ingest.Failure, OSError, ValueError) as fault:
        print(f"results: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
