"""The demo's sections: the effect of non-recurrent dropout on the built-in corpus."""
import os
import statistics

from tables.data import Failure, Run
from tables.plot import PLOT_HEAD, block, cut, ppls_of
from tables.text import link, number, over_seeds, percent_above, spread, table

SITES = {"none": "no dropout", "nonrecurrent": "non-recurrent dropout", "all": "naive dropout (all connections)"}
CLASSES = {"content": "content", "after_short": "after a short )", "after_long": "after a long )", "filler": "filler"}
BRIEF = {"none": "no dropout", "nonrecurrent": "non-recurrent", "all": "naive"}
COLOURS = {"none": "#7f7f7f", "nonrecurrent": "#1f77b4", "all": "#d62728"}


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
    script += "set xlabel 'keep'\nset ylabel 'test perplexity: mean, lowest, highest'\n"
    return script + f"plot [{keeps[0] - 0.05:.6g}:{keeps[-1] + 0.05:.6g}] " + ", \\\n     ".join(plots) + "\n"


def curves_figure(runs):
    """Plots valid (lines) and train (dashes) perplexity after each epoch, with one colour per kind of dropout."""
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
        text += f"Perplexity, {over_seeds(seeds)}; keep {best['keep']:g}.\n\n"
        text += table(["", "train", "valid", "test", *CLASSES.values(), "hardware ", "data "], rows) + "\n"
        text += ("Test perplexity of each seed, and how far non-recurrent dropout is below the others. The three runs "
                 "shared the cores, and words/s, the "
                 "mean of the three, and seconds, their sum, are those of that time.\n\n")
        text += table(["seed", "no dropout, end", "no dropout, best epoch", "non-recurrent", "naive", "below naive", "below best epoch",
                       "words/s", "seconds, sum of the three", "hardware ", "data "],
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
            raise Failure(f"profiles/{file}: a kind of dropout is missing at keep {lacking[0]:g}")
        mean = {key: statistics.fmean(found) for key, found in ppls.items()}
        text += table(["keep", "non-recurrent", "naive", "naive against non-recurrent", "hardware ", "data "],
                      [[f"{keep:g}", spread(ppls["nonrecurrent", keep]), spread(ppls["all", keep]),
                        percent_above(mean["all", keep], mean["nonrecurrent", keep]), hardware, link(file)] for keep in keeps]) + "\n"
        ours, naive = (min(mean[sites, keep] for keep in keeps) for sites in ("nonrecurrent", "all"))
        text += f"At its own best keep, each kind reaches: {ours:.2f} non-recurrent, {naive:.2f} naive ({percent_above(naive, ours)}).\n\n"
        name = f"figures/{os.path.dirname(file)}-demo-keep.svg"
        figures[name] = keep_figure(records)
        text += f"![Test perplexity against keep](profiles/{name})\n\n"
    return text or "Not yet measured.\n"
