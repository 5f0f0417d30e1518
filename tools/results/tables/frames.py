"""The speech section: models without and with dropout, beside the paper's table 2."""
from tables.data import Failure, Run
from tables.plot import PLOT_HEAD, block
from tables.text import link, listed, number, over_seeds, spread, table

PAPER = {"none": (71.6, 68.9), "nonrecurrent": (69.4, 70.5)}  # arXiv 1409.2329v5, table 2: training and valid accuracy
TITLES = {"none": "no dropout", "nonrecurrent": "non-recurrent dropout"}
BEST = ("train_acc", "valid_acc", "test_acc", "test_acc_nosil")


SMALLER = "*/frames-2x128.jsonl"  # results of an earlier model of 128 units


def read(data, pattern="*/frames.jsonl"):
    """Returns [(result, file)] of every finished run."""
    found = []
    for file in data.find(pattern):
        for result in data.lines(file):
            if result["sites"] not in TITLES:
                raise Failure(f"profiles/{file} has a run of sites {result['sites']}")
            found.append((result, file))
    return found


def points(runs, key):
    """Returns an accuracy of several runs, in per cent."""
    return spread([100 * r[key] for r in runs])


def of(found, what, sites=None):
    return [r for r, _ in found if r["what"] == what and sites in (None, r["sites"])]


def row(title, paper, runs, files, data):
    if not runs:
        return [title, "", "", *paper[:1], "", *paper[1:], "not yet measured", "", "", "", "", "", ""]
    keep, epochs = ("–" if r["sites"] == "none" else f"{r['keep']}"
                    for r in runs[:1]), sorted({str(r["best_epoch"]) for r in runs}, key=int)
    return [title, *keep, points(runs, "best_epoch_train_acc"), *paper[:1], points(runs, "best_epoch_valid_acc"), *paper[1:],
            points(runs, "best_epoch_test_acc"), points(runs, "best_epoch_test_acc_nosil"),
            spread([r["best_epoch_test_nats"] for r in runs], 3),
            listed(epochs), str(len(runs)), listed(sorted({data.hardware(f) for f in files})), ", ".join(map(link, files))]


HEADINGS = ["", "keep", "train, %", "paper's train", "valid, %", "paper's valid", "test, %", "test without silence, %",
            "test nats per frame", "best epoch",
            "seeds", "hardware ", "data "]


def main_table(found, data):
    files = sorted({file for _, file in found})
    return table(HEADINGS, [row(TITLES[sites], [f"{x}" for x in PAPER[sites]], of(found, "main", sites), files, data) for sites in TITLES])


def higher_or_lower(change, digits, unit):
    return f"{abs(change):.{digits}f} {unit} {'lower' if change < 0 else 'higher'}"


def seeds_table(found):
    """Compares the two sides of each seed that has both."""
    by_seed = {sites: {r["seed"]: r for r in of(found, "main", sites)} for sites in TITLES}
    rows, gains, changes = [], [], []
    for seed in sorted(by_seed["none"].keys() & by_seed["nonrecurrent"].keys()):
        none, ours = by_seed["none"][seed], by_seed["nonrecurrent"][seed]
        gains.append(100 * (ours["best_epoch_test_acc"] - none["best_epoch_test_acc"]))
        changes.append(100 * (ours["best_epoch_test_nats"] / none["best_epoch_test_nats"] - 1))
        rows.append([str(seed), *(f"{100 * (ours[key] - none[key]):+.2f}" for key in ("best_epoch_" + k for k in BEST)),
                     number(none["best_epoch_test_nats"], 3),
                     number(ours["best_epoch_test_nats"], 3), f"{changes[-1]:+.1f} %"])
    if not rows:
        return ""
    return ("\nFor each seed, how many points higher the accuracy is with dropout, and the nats per frame without and with it and their change:\n\n"
            + table(["seed", "train", "valid", "test", "test without silence", "nats, none", "nats, dropout", "change"], rows)
            + f"\nMean over these seeds: with dropout, test accuracy is "
            f"{higher_or_lower(sum(gains) / len(gains), 2, 'points')} and test nats are "
            f"{higher_or_lower(sum(changes) / len(changes), 1, '%')}.\n")


def tuning_table(found):
    """Lists every setting that was tried, by its valid accuracy with seed 1."""
    rows = [[r["setting"], f"{r['hold']}", f"{r['decay']}", str(r["epochs"]), points([r], "best_epoch_valid_acc"),
             points([r], "best_epoch_test_acc"),
             number(r["best_epoch_test_nats"], 3), str(r["best_epoch"]), "yes" if r["what"] == "main" else ""]
            for r, _ in found if r["setting"] and r["seed"] == 1 and r["what"] in ("main", "tune")]
    if not rows:
        return ""
    return ("\nThe settings that were tried with seed 1; the table above has the marked setting of each side. B is 5 "
            "and lr is 0.2 unless the name "
            "says otherwise; lr is divided by *decay* after every epoch past *hold*:\n\n"
            + table(["setting", "hold", "decay", "epochs", "valid, %", "test, %", "test nats", "best epoch",
                     "in the table "], rows))


def curve_table(found):
    """Lists the results over keep, with seed 1."""
    runs = {}
    for r, _ in found:
        if r["seed"] == 1 and r["what"] in ("main", "tune",
                                            "curve") and (r["keep"] not in runs
                                                          or r["best_epoch_valid_acc"] > runs[
                                                              r["keep"]]["best_epoch_valid_acc"]):
            runs[r["keep"]] = r
    if len(runs) < 3:
        return ""
    rows = [["none dropped" if keep == 1 else f"{keep}", *(points([runs[keep]], "best_epoch_" + key) for key in BEST),
             number(runs[keep]["best_epoch_test_nats"], 3),
             str(runs[keep]["best_epoch"])] for keep in sorted(runs, reverse=True)]
    return "\nResults over keep, seed 1:\n\n" + table(["keep", "train, %", "valid, %", "test, %",
                                                       "test without silence, %", "test nats", "best epoch"], rows)


def unseen_table(found):
    """Lists the results for speakers that training does not have."""
    runs = of(found, "unseen")
    if not runs:
        return ""
    rows = [[TITLES[r["sites"]], *(points([r], "best_epoch_" + key) for key in BEST),
             number(r["best_epoch_test_nats"], 3), str(r["best_epoch"])] for r in runs]
    return ("\nUnseen speakers: the model trains on four speakers; valid and test have one other speaker each. Seed 1, "
            "the settings of the table above:\n\n"
            + table(["", "train, %", "valid, %", "test, %", "test without silence, %", "test nats", "best epoch"], rows))


def curves_figure(runs):
    """Plots the valid accuracy after each epoch (lines) and that of training (dashes), for every run of the table."""
    script, plots, shown = PLOT_HEAD, [], set()
    for i, run in enumerate(runs):
        sites = run.run["dropout_sites"]
        script += block(f"run{i}", [(e["epoch"], 100 * e["train_acc"], 100 * e["valid_acc"]) for e in run.epochs])
        colour, first = {"none": "#d62728", "nonrecurrent": "#1f77b4"}[sites], sites not in shown
        shown.add(sites)
        for column, split, dashes in ((3, "valid", ""), (2, "train, as trained", "dt (6,4) ")):
            title = f"title '{TITLES[sites]}, {split}'" if first else "notitle"
            plots.append(f"$run{i} using 1:{column} with lines lw 2 {dashes}lc rgb '{colour}' {title}")
    script += "set xlabel 'epoch'\nset ylabel 'frame accuracy, %'\n"
    return script + f"plot [1:{max([2, *(len(run.epochs) for run in runs)])}] " + ", \\\n     ".join(plots) + "\n"


def frames(data, figures):
    found = read(data)
    text = main_table(found, data) + seeds_table(found) + tuning_table(found) + curve_table(found) + unseen_table(found)
    names = {r["name"] for r in of(found, "main")}
    runs = [Run(data, file) for file in data.find("*/frames-*.jsonl")
            if file.split("/")[1].removeprefix("frames-").removesuffix(".jsonl") in names]
    if runs:
        figures["figures/frames.svg"] = curves_figure(runs)
        text += "\n![Frame accuracy after each epoch on the spoken digits](profiles/figures/frames.svg)\n"
    if found:
        first = found[0][0]
        frames_of = " + ".join(f"{first['frames'][split]:,}" for split in ("train", "valid", "test"))
        text += (f"\n{first['layers']} layers of {first['hidden']} units, B {first['batch']}, {first['F']} features "
                 f"and {first['V']} labels per frame, {frames_of} frames "
                 f"of training, valid and test; the weights are those of the epoch with the highest valid accuracy. All runs together took "
                 f"{sum(r['minutes'] for r, _ in found):.0f} minutes.\n")
    if smaller := read(data, SMALLER):
        first = smaller[0][0]
        text += (f"\nAn earlier, smaller model has {first['layers']} layers of {first['hidden']} units:\n\n"
                 + main_table(smaller, data) + seeds_table(smaller)
                 + unseen_table(smaller))
    for file in data.find("*/partial-frames-*.jsonl"):
        run = Run(data, file)
        if run.epochs:
            valid = ", ".join(number(100 * e["valid_acc"], 1) for e in run.epochs)
            keep = "" if run.run["dropout_sites"] == "none" else f"keep {run.run['keep']}, "
            text += (f"\nNot finished for lack of time: {TITLES[run.run['dropout_sites']]}, {keep}seed {run.run['seed']}, after "
                     f"{len(run.epochs)} epochs; valid accuracy {valid} % ({run.hardware}, {link(run.name)}).\n")
    return text


def demo(data, figures):
    """Returns the table of the demo on the built-in utterances, with the generator's posterior as the best possible."""
    del figures
    text = ""
    for file in data.find("*/demo-speech.jsonl"):
        records, rows = data.lines(file), []
        side = {sites: [r for r in records if r["sites"] == sites] for sites in TITLES}
        for sites, title in TITLES.items():
            for prefix, when in (("", "at the end"), ("best_epoch_", "best epoch")):
                rows.append([f"{title}, {when}", *(points(side[sites], prefix + key) for key in BEST),
                             spread([r[prefix + "test_nats"] for r in side[sites]], 3),
                             data.hardware(file), link(file)])
        first = records[0]
        rows.append(["best possible", "", "", number(100 * first["possible_acc"], 2), number(100 * first["possible_acc_nosil"], 2),
                     number(first["possible_nats"], 3), "", link(file)])
        seeds = over_seeds(r["seed"] for r in side["none"])
        text += (f"Frame accuracy in per cent, {seeds}; keep {side['nonrecurrent'][0]['keep']}, {first['epochs']} epochs.\n\n"
                 + table(["", "train", "valid", "test", "test without silence", "test nats per frame", "hardware ", "data "], rows))
    return text or "not yet measured\n"
