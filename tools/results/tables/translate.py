"""The translation section: models without and with dropout, beside the paper's table 3."""
import statistics

from tables.data import Failure, Run
from tables.text import link, listed, number, over_seeds, spread, table

PAPER = {"none": (5.8, 25.9), "nonrecurrent": (5.0, 29.03)}  # arXiv 1409.2329v5, table 3: test perplexity, BLEU
TITLES = {"none": "no dropout", "nonrecurrent": "non-recurrent dropout"}
PAPER_KEEP = 0.8
WHOLE = ("best_epoch_valid_ppl", "best_epoch_test_ppl", "bleu", "bleu_plain")


SMALLER = "*/translate-2x128.jsonl"  # results of an earlier model of 128 units


def read(data, pattern="*/translate.jsonl"):
    """Returns [(result, file)] of every finished run."""
    found = []
    for file in data.find(pattern):
        for result in data.lines(file):
            if result["sites"] not in TITLES:
                raise Failure(f"profiles/{file} has a run of sites {result['sites']}")
            found.append((result, file))
    return found


def compared_keep(found):
    """Returns the keep that is compared with no dropout: the one with the most seeds, and among equals the paper's. The others make the
    curve."""
    seeds = {}
    for result, _ in found:
        if result["sites"] != "none":
            seeds.setdefault(result["keep"], set()).add(result["seed"])
    return max(seeds, key=lambda keep: (len(seeds[keep]), keep == PAPER_KEEP), default=PAPER_KEEP)


def side(found, sites):
    """Returns the runs of a side at the compared setting."""
    return [(r, file) for r, file in found if r["sites"] == sites and r["keep"] == (1.0 if sites == "none" else compared_keep(found))]


def main_row(found, sites, data):
    runs = side(found, sites)
    paper = [number(PAPER[sites][0]), number(PAPER[sites][1], 2)]
    keep = "–" if sites == "none" else f"{compared_keep(found)}"
    if not runs:
        return [TITLES[sites], keep, "", "", "", "not yet measured", paper[0], "not yet measured", "", paper[1], "", "", ""]
    of = lambda key, digits=2: spread([r[key] for r, _ in runs], digits)
    files = sorted({file for _, file in runs})
    return [TITLES[sites], keep, str(len(runs)), of("best_epoch_train_ppl"), of("best_epoch_valid_ppl"),
            of("best_epoch_test_ppl"), paper[0],
            of("bleu"), of("bleu_plain"), paper[1], spread([r["minutes"] for r, _ in runs], 0),
            listed(sorted({data.hardware(f) for f in files})),
            ", ".join(map(link, files))]


def seeds_table(found):
    """Compares the two sides of each seed that has both."""
    by_seed = {sites: {r["seed"]: r for r, _ in side(found, sites)} for sites in TITLES}
    rows = []
    for seed in sorted(by_seed["none"].keys() & by_seed["nonrecurrent"].keys()):
        none, ours = by_seed["none"][seed], by_seed["nonrecurrent"][seed]
        rows.append([str(seed), *(number(r[key], 2) for r in (none, ours) for key in ("best_epoch_test_ppl", "bleu", "bleu_plain")),
                     f"{100 * (1 - ours['best_epoch_test_ppl'] / none['best_epoch_test_ppl']):+.1f} %",
                     f"{ours['bleu'] - none['bleu']:+.2f}",
                     f"{ours['bleu_plain'] - none['bleu_plain']:+.2f}"])
    if not rows:
        return ""
    return "\nFor each seed, test perplexity and BLEU without and with dropout, and how much lower the perplexity " \
        "and higher the BLEU is:\n\n" + table(
        ["seed", "perplexity, none", "BLEU, none", "A = 0", "perplexity, dropout", "BLEU, dropout", "A = 0", "lower",
         "higher", "A = 0"], rows)


def curve_table(found):
    """Lists the results over keep, of the seed that has more than one value."""
    keeps = sorted({r["keep"] for r, _ in found}, reverse=True)
    if len(keeps) < 3:
        return ""
    rows = []
    for keep in keeps:
        runs = [r for r, _ in found if r["keep"] == keep]
        rows.append(["none dropped" if keep == 1 else f"{keep}", listed(sorted(str(r["seed"]) for r in runs)),
                     *(spread([r[key] for r in runs]) for key in WHOLE), listed(sorted({str(r["best_epoch"]) for r in runs}))])
    return "\nResults over keep:\n\n" + table(["keep", "seeds ", "valid", "test", "BLEU", "BLEU, A = 0", "best epoch"], rows)


def example(found):
    """Lists the n-best translations of one sentence by the first run of each side."""
    text = ""
    for sites in TITLES:
        runs = side(found, sites)
        if not runs:
            continue
        result = runs[0][0]
        shown = result["example"]
        if not text:
            text = f"\nAn example from test is *{shown['source']}*; its reference is *{shown['reference']}*\n"
        rows = [[h["words"], number(h["score"], 2)] for h in shown["nbest"]]
        text += f"\n{TITLES[sites][0].upper()}{TITLES[sites][1:]}, seed {result['seed']}:\n\n" + table(
            ["translation ", "log probability"], rows)
    return text


def demo(data, figures):
    """Returns the table of the demo on the built-in parallel corpus, whose best possible perplexity is known."""
    del figures
    text = ""
    for file in data.find("*/demo-translate.jsonl"):
        records, rows = data.lines(file), []
        of_side = {sites: [r for r in records if r["sites"] == sites] for sites in TITLES}
        for sites, title in TITLES.items():
            for prefix, when in (("", "at the end"), ("best_epoch_", "best epoch")):
                ppl = [spread([r[f"{prefix}{split}_ppl"] for r in of_side[sites]]) for split in ("train", "valid", "test")]
                words = spread([100 * r["words_in_place"] for r in of_side[sites]], 1) + " %" if prefix else ""
                rows.append([f"{title}, {when}", *ppl, words, data.hardware(file), link(file)])
        rows.append(["best possible", "", "", number(records[0]["best_ppl"], 2), "", "", link(file)])
        lower = [100 * (1 - b["best_epoch_test_ppl"] / a["best_epoch_test_ppl"]) for a in of_side["none"]
                 for b in of_side["nonrecurrent"] if a["seed"] == b["seed"]]
        seeds = over_seeds(r["seed"] for r in of_side["none"])
        text += (f"Perplexity of the target given the source, {seeds}; keep {of_side['nonrecurrent'][0]['keep']}.\n\n"
                 + table(["", "train", "valid", "test", "words in place", "hardware ", "data "], rows)
                 + "\nIn these seeds, dropout lowers the test perplexity at the best epoch by "
                 + listed(f"{x:.1f} %" for x in lower) + ".\n")
    return text or "not yet measured\n"


def tables(found, data):
    rows = [main_row(found, sites, data) for sites in TITLES]
    text = table(["", "keep", "seeds", "train", "valid", "test", "paper's test", "BLEU", "BLEU, A = 0", "paper's BLEU",
                  "minutes", "hardware ", "data "], rows)
    return text + seeds_table(found) + curve_table(found)


def translate(data, figures):
    del figures
    found = read(data)
    text = tables(found, data) + example(found)
    if found:
        first = found[0][0]
        text += (f"\n{first['layers']} layers of {first['hidden']} units, B {first['batch']}, {first['epochs']} "
                 f"epochs; the weights are those of the epoch with "
                 f"the lowest valid perplexity, beam {first['beam']}, length penalty A = {first['length_penalty']}. "
                 f"sacrebleu: `{first['bleu_signature']}`. All runs together took "
                 f"{sum(r['minutes'] for r, _ in found) / 60:.1f} hours of one core each, "
                 f"{statistics.fmean(r['words_per_s'] for r, _ in found):.0f} target words/s.\n")
    if smaller := read(data, SMALLER):
        first = smaller[0][0]
        text += (f"\nAn earlier, smaller model has {first['layers']} layers of {first['hidden']} units, {first['epochs']} epochs and A = "
                 f"{first['length_penalty']}; words that occur fewer than 5 times are unknown. The difference of its "
                 f"two sides in BLEU is no larger "
                 "than chance.\n\n") + tables(smaller, data)
    for file in data.find("*/partial-translate-*.jsonl"):
        run = Run(data, file)
        valid = ", ".join(number(e["valid_ppl"], 2) for e in run.epochs)
        if run.epochs:
            text += (f"\nNot finished for lack of time: {TITLES[run.run['dropout_sites']]}, keep {run.run['keep']}, "
                     f"seed {run.run['seed']}, after "
                     f"{len(run.epochs)} epochs; valid perplexity {valid} ({run.hardware}, {link(run.name)}).\n")
    return text
