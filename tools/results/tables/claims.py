"""The effect of dropout on the memory of a trained model, from the logs of tools/results/claims.c."""
import math
import statistics

from tables.data import Failure
from tables.demo import BRIEF, COLOURS
from tables.plot import PLOT_HEAD, block
from tables.text import link, listed, number, spread, table

SHOWN_STEPS = (1, 8, 16, 32, 64)
BINS = ((0, 4), (5, 9), (10, 14), (15, 24), (25, 10**6))  # words inside the parentheses


def bin_name(first, last):
    return f"{first} or more" if last > 1000 else f"{first} to {last}"


# ---- the gradient that survives ----

def networks(records):
    """Returns {(kind of dropout in training, masks of the measurement): records by number of steps}."""
    found = {}
    for r in records:
        found.setdefault((r["trained"], r["masks"]), []).append(r)
    return {key: sorted(found[key], key=lambda r: r["steps"])
            for key in sorted(found, key=lambda key: (key[0] != key[1], list(BRIEF).index(key[0])))}


def title_of(trained, masks):
    name = {"none": "no dropout", "nonrecurrent": "non-recurrent", "all": "naive"}
    return name[trained] if trained == masks else f"{name[trained]}, {name[masks]} masks"


def reach_figure(found):
    script, plots = PLOT_HEAD, []
    for i, ((trained, masks), records) in enumerate(found.items()):
        script += block(f"reach{i}", [(r["steps"], r["median"], r["p10"], r["p90"]) for r in records])
        colour, dashes = COLOURS[masks], "" if trained == masks else " dt (6,4)"
        if trained == masks:
            plots.append(f"$reach{i} using 1:3:4 with filledcurves fs transparent solid 0.12 lc rgb '{colour}' notitle")
        plots.append(f"$reach{i} using 1:2 with linespoints lw 2 pt 7 ps 0.5{dashes} lc rgb '{colour}' title '{title_of(trained, masks)}'")
    script += "set logscale xy\nset format y '%g'\nset xlabel 'steps back through time'\nset ylabel 'share of the " \
        "norm of the gradient: median, 10 to 90 %'\n"
    return script + "plot [1:64] " + ", \\\n     ".join(plots) + "\n"


def reach(data, figures):
    text = ""
    for file in data.find("*/reach.jsonl"):
        records, hardware = data.lines(file), data.hardware(file)
        found = networks(records)
        rows = []
        for (trained, masks), points in found.items():
            by_steps = {r["steps"]: r for r in points}
            if not all(k in by_steps for k in SHOWN_STEPS):
                raise Failure(f"profiles/{file} lacks some numbers of steps for {title_of(trained, masks)}")
            rows.append([title_of(trained, masks),
                         *(f"{by_steps[k]['median']:.2g} ({by_steps[k]['p10']:.2g} to {by_steps[k]['p90']:.2g})"
                           for k in SHOWN_STEPS),
                         hardware, link(file)])
        text += table(["trained with", *(f"{k} step{'s' if k > 1 else ''}" for k in SHOWN_STEPS), "hardware ", "data "], rows)
        name = f"figures/{file.replace('/', '-').removesuffix('.jsonl')}.svg"
        figures[name] = reach_figure(found)
        text += f"\n![The gradient that survives k steps](profiles/{name})\n\n"
    return text or "Not yet measured.\n"


# ---- the cost of a word, by its distance from the word on which it depends ----

def pooled(records, first, last, key):
    """Returns {seed: perplexity of the words whose distance is in the bin}, from records of all splits."""
    seeds = {}
    for r in records:
        if first <= r["inside"] <= last:
            words, nats = seeds.get(r["seed"], (0, 0.0))
            seeds[r["seed"]] = (words + r["words"], nats + r[key])
    return {seed: math.exp(nats / words) for seed, (words, nats) in seeds.items()}


def distance_figure(kinds, middle):
    script, plots = PLOT_HEAD, []
    for sites, records in kinds.items():
        rows = []
        for first, last in BINS:
            ppls = list(pooled(records, first, last, "nats").values())
            rows.append((middle[first], statistics.fmean(ppls), min(ppls), max(ppls)))
        script += block(sites, rows)
        plots.append(f"${sites} using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb '{COLOURS[sites]}' title '{BRIEF[sites]}'")
    best = [(middle[first], statistics.fmean(pooled(next(iter(kinds.values())), first, last, "best_nats").values()))
            for first, last in BINS]
    script += block("best", best)
    plots.append("$best using 1:2 with linespoints lw 1 pt 6 ps 0.5 lc rgb 'black' title 'best possible'")
    script += "set xlabel 'words between the parentheses (mean of the bin)'\nset ylabel 'perplexity of the next " \
        "word: mean, lowest, highest'\nset yrange [0:*]\n"
    return script + "plot " + ", \\\n     ".join(plots) + "\n"


def distance(data, figures):
    text = ""
    for file in data.find("*/distance.jsonl"):
        records, hardware = data.lines(file), data.hardware(file)
        kinds = {sites: [r for r in records if r["trained"] == sites] for sites in ("nonrecurrent", "all")}
        seeds = {sites: sorted({r["seed"] for r in found}) for sites, found in kinds.items()}
        if not seeds["all"] or seeds["all"] != seeds["nonrecurrent"]:
            raise Failure(f"profiles/{file}: the kinds of dropout do not have the same seeds")
        rows, middle = [], {}
        for first, last in BINS:
            inside = [(r["inside"], r["words"]) for r in kinds["all"] if first <= r["inside"] <= last]
            words = sum(n for _, n in inside) // len(seeds["all"])
            middle[first] = sum(k * n for k, n in inside) / sum(n for _, n in inside)
            of = {sites: list(pooled(found, first, last, "nats").values()) for sites, found in kinds.items()}
            best = statistics.fmean(pooled(kinds["all"], first, last, "best_nats").values())
            rows.append([bin_name(first, last), str(words), spread(of["nonrecurrent"]), spread(of["all"]), number(best, 2),
                         f"{100 * (statistics.fmean(of['all']) / statistics.fmean(of['nonrecurrent']) - 1):+.1f} %", hardware, link(file)])
        text += f"Mean ± standard deviation over seeds {listed(seeds['all'])}.\n\n" if len(seeds["all"]) > 1 else ""
        text += table(["words between", "targets", "non-recurrent", "naive", "best possible",
                       "naive against non-recurrent", "hardware ", "data "], rows)
        name = f"figures/{file.replace('/', '-').removesuffix('.jsonl')}.svg"
        figures[name] = distance_figure(kinds, middle)
        text += f"\n![Perplexity after a parenthesis by its length](profiles/{name})\n\n"
    return text or "Not yet measured.\n"
