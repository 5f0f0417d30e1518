"""The cost of a reduced precision in perplexity, from the paired trainings of tools/parity.py."""
import parity
from tables.data import Failure
from tables.text import link, table


def differences(runs, precision):
    """Returns the difference from f32 in per cent, for each seed."""
    exact = {r["seed"]: r["test_ppl"] for r in runs if r["precision"] == "f32"}
    return [100 * (r["test_ppl"] / exact[r["seed"]] - 1) for r in runs if r["precision"] == precision and r["seed"] in exact]


def rows_of(data, name):
    runs = data.lines(name)
    first, found = runs[0], []
    seeds = [int(r["seed"]) for r in runs]
    mean = lambda p: sum(r["test_ppl"] for r in runs if r["precision"] == p) / sum(r["precision"] == p for r in runs)
    if len({tuple(r["options"]) for r in runs}) > 1:
        raise Failure(f"profiles/{name} has runs that differ in more than precision and seed; they cannot be compared")
    for precision in ("tf32", "bf16"):
        each = differences(runs, precision)
        if len(each) < 2:
            continue
        middle, half = parity.interval(each)
        inside = "yes" if -0.5 < middle - half and middle + half < 0.5 else "no"
        how = "rounding simulated on the cpu backend" if first["backend"] == "cpu" else f"{first['backend']} {first['kernel']}"
        found.append([f"{first['corpus']}, {first['layers']} layers of {first['hidden']}, {first['epochs']} "
                      f"epochs".replace("1 layers", "1 layer"), how, precision,
                      f"{len(each)}: {min(seeds)} to {max(seeds)}", f"{mean('f32'):.2f}",
                      f"{mean(precision):.2f}", f"{middle:+.2f} %", f"{middle - half:+.2f} % to {middle + half:+.2f} %",
                      inside, data.hardware(name),
                      link(name)])
    return found


def section(data, _figures):
    rows, on_gpu = [], False
    for name in data.find("*/parity*.jsonl"):
        rows += rows_of(data, name)
        on_gpu = on_gpu or data.lines(name)[0]["backend"] == "cuda"
    if not on_gpu:
        rows += [["Penn Treebank, small", "cuda", p, "", "", "", "not yet measured", "", "", "", ""] for p in ("bf16",)]
    return table(["trained ", "how ", "precision ", "seeds ", "test, f32", "test", "difference, mean",
                  "95 % interval of the mean", "inside ±0.5 %",
                  "hardware ", "data "], rows)
