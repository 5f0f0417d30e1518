"""The captions section: a model without dropout, one with it, and an ensemble of ten without it, beside the paper's table 4."""
from tables.data import Failure
from tables.text import link, listed, number, spread, table

# Test perplexity and BLEU of arXiv 1409.2329v5, table 4.
PAPER = {"none": (8.47, 23.5), "dropout": (7.99, 24.3), "ensemble": (7.5, 24.4)}
TITLES = {"none": "no dropout", "dropout": "non-recurrent dropout", "ensemble": "ten models without dropout"}


def read(data):
    """Returns [(record, file)] of the finished repetitions, and of the settings that were tried."""
    found, tuned = [], []
    for file in data.find("*/caption.jsonl"):
        for record in data.lines(file):
            if "tuned" in record:
                tuned.append((record, file))
            elif record["side"] in TITLES:
                found.append((record, file))
            else:
                raise Failure(f"profiles/{file} has a record of side {record['side']}")
    return found, tuned


def main_table(found, data):
    rows = []
    for side, title in TITLES.items():
        runs, paper = [(r, file) for r, file in found if r["side"] == side], PAPER[side]
        if not runs:
            rows.append([title, "", "", "not yet measured", number(paper[0], 2), "not yet measured", "",
                         number(paper[1], 1), "", "", "", "", ""])
            continue
        of = lambda key, digits=2, runs=runs: spread([r[key] for r, _ in runs], digits)
        files = sorted({file for _, file in runs})
        rows.append([title, "–" if side != "dropout" else listed(sorted({f"{r['keep']:g}" for r, _ in runs})),
                     str(len(runs)), of("test_ppl"),
                     number(paper[0], 2), of("bleu"), of("bleu_plain"), number(paper[1], 1), of("cider"),
                     spread([100 * r["true"] for r, _ in runs], 1) + " %",
                     spread([r["seconds"] for r, _ in runs], 0),
                     listed(sorted({data.hardware(file) for file in files})), ", ".join(map(link, files))])
    return table(["", "keep", "repetitions", "test", "paper's test", "BLEU", "BLEU, A = 0", "paper's BLEU", "CIDEr",
                  "true", "seconds", "hardware ", "data "], rows)


def repetitions_table(found):
    rows = []
    for repetition in sorted({r["repetition"] for r, _ in found}):
        of = {r["side"]: r for r, _ in found if r["repetition"] == repetition}
        row = [str(repetition)]
        for key in ("test_ppl", "bleu"):
            row += [number(of[side][key], 2) if side in of else "not yet measured" for side in TITLES]
        if "none" in of and "dropout" in of:
            row += [f"{100 * (1 - of['dropout']['test_ppl'] / of['none']['test_ppl']):+.1f} %",
                    f"{of['dropout']['bleu'] - of['none']['bleu']:+.2f}"]
        else:
            row += ["", ""]
        rows.append(row)
    return "\nFor each repetition, how much lower the perplexity and how much higher the BLEU is with dropout than without:\n\n" + table(
        ["repetition", "test, none", "test, dropout", "test, ten", "BLEU, none", "BLEU, dropout", "BLEU, ten", "lower", "higher"], rows)


def caption(data, figures):
    del figures
    found, tuned = read(data)
    text = main_table(found, data)
    if not found:
        return text
    text += repetitions_table(found)
    if tuned:
        text += "\nThe settings that were tried on valid, with one training each; the best setting of each side is " \
            "used in every repetition:\n\n" + table(
            ["", "keep", "epochs", "at the first learning rate", "valid", "best epoch", "used "],
            [[TITLES[r["tuned"]], "–" if r["tuned"] == "none" else f"{r['keep']:g}", str(r["epochs"]), str(r["hold"]),
              number(r["valid_ppl"], 2), str(r["best_epoch"]),
              "yes" if r["chosen"] else ""] for r, _ in tuned])
    r = found[0][0]
    ratio = [r["shuffled_ppl"] / r["test_ppl"] for r, _ in found]
    layers = "one layer" if r["layers"] == 1 else f"{r['layers']} layers"
    text += (f"\nThe best possible perplexity is {number(r['best_ppl'], 2)}. With the images shuffled, the perplexity "
             f"is {min(ratio):.1f} to {max(ratio):.1f} times as "
             f"high. {layers.capitalize()} of {r['hidden']} units, B {r['batch']}; the weights are those of the epoch "
             f"with the lowest valid "
             f"perplexity, beam {r['beam']}, length penalty A = {r['length_penalty']:g} for all sides, chosen on "
             f"valid. sacrebleu: `{r['bleu_signature']}`. All repetitions together took "
             f"{sum(r['seconds'] for r, _ in found if r['side'] != 'none') / 60:.0f} minutes of one core, shared with other work.\n")
    return text
