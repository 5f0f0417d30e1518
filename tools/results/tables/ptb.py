"""The section on Penn Treebank: our perplexities beside the paper's."""
from tables.data import Failure, Run
from tables.plot import PLOT_HEAD, block, cut, ppls_of
from tables.text import link, listed, number, spread, table

PAPER = {"small": (120.7, 114.5), "medium": (86.2, 82.7), "large": (82.2, 78.4)}  # arXiv 1409.2329v5, valid and test
PAPER_ENSEMBLES = {"small": {2: 96.1, 5: 84.1, 10: 80.0}, "medium": {2: 77.0, 5: 73.3, 10: 72.0}, "large": {2: 73.6, 10: 69.5, 38: 68.7}}


def epochs_figure(runs):
    """Plots valid (lines) and train (dashes) perplexity after each epoch, for every seed."""
    script, plots = PLOT_HEAD, []
    for i, run in enumerate(runs):
        name = f"run{i}" if i else "run"
        script += block(name, [(e["epoch"], e["train_ppl"], e["valid_ppl"]) for e in run.epochs])
        titles = ("notitle", "notitle") if i else ("title 'valid'", "title 'train, as trained'")
        plots.append(f"${name} using 1:3 with linespoints lw 2 pt 7 ps 0.5 lc rgb '#1f77b4' {titles[0]}")
        plots.append(f"${name} using 1:2 with lines lw 2 dt (6,4) lc rgb '#1f77b4' {titles[1]}")
    plots.append(f"{PAPER[runs[0].run['preset']][0]} with lines lw 1 lc rgb 'black' title 'paper, valid at the end'")
    script += "set xlabel 'epoch'\nset ylabel 'perplexity'\n" + cut(ppls_of(runs))
    return script + f"plot [1:{max([2, *(len(run.epochs) for run in runs)])}] " + ", \\\n     ".join(plots) + "\n"


def what_ran(run):
    return " ".join(str(run.run[k]) for k in ("backend", "kernel", "precision") if run.run[k])


def minutes(run):
    return sum(e["seconds"] for e in run.epochs) / 60


def row(runs):
    """Returns the row of runs that differ only in seed: means, and standard deviations if there are several."""
    preset, first = runs[0].run["preset"], runs[0]
    of = lambda value: spread([value(run) for run in runs], 1)
    paper_valid, paper_test = (number(ppl) for ppl in PAPER[preset])
    epochs = listed(map(str, sorted({len(run.epochs) for run in runs})))
    return [preset, what_ran(first), str(len(runs)), epochs, of(lambda r: r.epochs[0]["valid_ppl"]),
            of(lambda r: r.epochs[-1]["train_ppl"]), of(lambda r: r.epochs[-1]["valid_ppl"]),
            of(lambda r: r.epochs[-1]["valid_ppl_paper"]),
            paper_valid, of(lambda r: r.test["test_ppl"]), paper_test, spread([run.words_per_s for run in runs], 0),
            spread([minutes(run) for run in runs], 0), first.hardware, ", ".join(link(run.name) for run in runs)]


def cut_row(run):
    """Returns the row of an unfinished run, with its progress."""
    preset, epochs = run.run["preset"], run.epochs
    last = epochs[-1] if epochs else {}
    paper_valid, paper_test = (number(ppl) for ppl in PAPER[preset])
    stands = f"{len(epochs)} of {run.run['epochs']}"
    if run.last_step:
        stands += f", and {run.last_step['step'] + 1 - len(epochs) * run.run['windows']} of the next epoch's " \
            f"{run.run['windows']} minibatches"
    of = lambda events, key: number(events[key]) if key in events else ""
    return [preset, what_ran(run), "1", stands, of(epochs[0] if epochs else {}, "valid_ppl"), of(last, "train_ppl"), of(last, "valid_ppl"),
            of(last, "valid_ppl_paper"), paper_valid, "not finished", paper_test, number(run.words_per_s, 0),
            number(minutes(run), 0), run.hardware,
            link(run.name)]


def further(cut, runs):
    """Returns whether one of the runs of the same preset, seed, backend and precision is finished or has more epochs
    than the unfinished run."""
    same = lambda run: (run.run["preset"], str(run.run.get("seed")), what_ran(run))
    return any(same(run) == same(cut) and (run.test or len(run.epochs) > len(cut.epochs)) for run in runs)


def owed(preset):
    paper_valid, paper_test = (number(ppl) for ppl in PAPER[preset])
    return [preset, "cuda", "", "", "", "", "not yet measured", "", paper_valid, "not yet measured", paper_test, "", "", "", ""]


def ended_runs(data):
    """Returns [[runs that differ only in seed]], in the order of the paper's models."""
    groups = {}
    for run in [Run(data, file) for file in data.find("*/ptb-*.jsonl")]:
        corpus = run.run["corpus"]
        if not (corpus or "").startswith("Penn Treebank"):
            raise Failure(f"profiles/{run.name} was trained on {corpus}; expected Penn Treebank")
        if not run.epochs or not run.test:
            raise Failure(f"profiles/{run.name} is the log of an unfinished run; call it partial-*")
        key = (list(PAPER).index(run.run["preset"]), what_ran(run), run.hardware)
        groups.setdefault(key, []).append(run)
    for runs in groups.values():
        seeds = [run.run.get("seed") for run in runs]
        if len(runs) > 1 and len(set(seeds)) < len(runs):
            raise Failure(f"{listed(f'profiles/{run.name}' for run in runs)} must have different seeds")
        runs.sort(key=lambda run: int(run.run.get("seed", 0)))
    return [groups[key] for key in sorted(groups)]


def ptb(data, figures):
    rows, pictures = [], ""
    groups = ended_runs(data)
    for runs in groups:
        rows.append(row(runs))
        name = "figures/" + runs[0].name.replace("/", "-").removesuffix(".jsonl") + ".svg"
        figures[name] = epochs_figure(runs)
        pictures += f"\n![Perplexity after each epoch of {runs[0].run['preset']} on Penn Treebank](profiles/{name})\n"
    unfinished = [Run(data, file) for file in data.find("*/partial-ptb-*.jsonl")]
    others = [run for runs in groups for run in runs] + unfinished
    rows += [cut_row(run) for run in unfinished if not further(run, others)]
    on_gpu = {runs[0].run["preset"] for runs in groups if runs[0].run["backend"] == "cuda"}
    rows += [owed(preset) for preset in PAPER if preset not in on_gpu]
    text = table(["preset", "backend ", "seeds", "epochs", "valid after epoch 1", "train", "valid",
                  "valid, paper's count", "paper's valid", "test",
                  "paper's test", "words/s", "minutes", "hardware ", "data "], rows)
    return text + pictures


def ensembles(data, _figures):
    """Returns the table of ensembles: results of plstm ensemble beside the paper's table 1."""
    ours = {}
    for file in data.find("*/ensemble-*.jsonl"):
        preset = file.split("/")[1].removeprefix("ensemble-").split("-")[0].removesuffix(".jsonl")
        for line in data.lines(file):
            for point in line["curve"]:
                ours[preset, point["members"]] = (point, data.hardware(file), link(file))
    rows = []
    for preset, sizes in PAPER_ENSEMBLES.items():
        for members, paper in sizes.items():
            point, hardware, source = ours.get((preset, members), (None, "", ""))
            if point is None:
                rows.append([preset, str(members), "not yet trained", "", "", number(paper), "", ""])
            else:
                rows.append([preset, str(members), number(point["ppl_mean"], 2),
                             f"{point['ppl_low']:.2f} to {point['ppl_high']:.2f}", str(point["ensembles"]),
                             number(paper), hardware, source])
    return table(["preset", "members", "test, mean", "lowest to highest", "ensembles", "paper's test", "hardware ", "data "], rows)
