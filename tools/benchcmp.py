#!/usr/bin/env python3
"""Compares two measurements of the same rows by their confidence intervals: did anything become slower?

    benchcmp.py A.json B.json [--within PERCENT] [--filter REGEX] [--fail-on WORD,...] [--out FILE]

A is the old measurement and B the new one. Each file is JSON of Google Benchmark (bench_gpu, bench_cpu, bench_emu) or of
tools/torch/torch_peer.py, a variants.json or step.json filed by tools/results/ingest.py, or a constants.json. The script prints a markdown
table with one line per row to standard output, or writes it to FILE. Names are compared without the /iterations:N/manual_time that Google
Benchmark adds.

Each side of a row is an interval that contains its median with 95 % confidence: lo_us .. hi_us where bench_gpu wrote them, else an interval
from the median, the quantiles and the sample count, else the range of the repetitions. The two give an interval of B/A, which gives the
verdict:

    same      the whole interval is within +-PERCENT (default 2) of 1
    slower    otherwise, the whole interval is above 1
    faster    otherwise, the whole interval is below 1
    unclear   otherwise: it contains 1 and is too wide to conclude that nothing changed; or a side is a single number without spread
    wrong     B's result failed its check
    refused   B could not run the row, and A could
    gone      B does not have the row
    new       A has no time for the row
    neither   neither side has a time

A row that was timed with L2 both warm and flushed gives two lines. Constants that are rates or counts are inverted to times: a lower rate
is slower. Where a file has only the aggregates of a row (--benchmark_report_aggregates_only), benchcmp uses the median, with the interval
that follows from the standard deviation and the number of repetitions.

A regression is a row whose verdict is slower, wrong, refused or gone; --fail-on replaces this list (`--fail-on slower,wrong`). Exit status:
0 no regression, 1 a regression, 2 usage, 3 nothing was compared (a file cannot be read, no row is in both files, no row has a spread on
both sides, or one file is from an emulated GPU and the other from a real one), 4 benchcmp itself failed.
"""
import argparse
import json
import math
import os
import re
import sys

VERDICTS = ("slower", "wrong", "refused", "gone", "unclear", "faster", "same", "new", "neither")
REGRESSIONS = ["slower", "wrong", "refused", "gone"]
NOTHING_COMPARED, ITSELF_FAILED = 3, 4  # exit statuses beside 0, 1 and argparse's 2
# Google Benchmark's own decorations of a name.
DECORATION = re.compile(r"/(iterations:\d+|repeats:\d+|min_time:[\d.]+s?|min_warmup_time:[\d.]+s?|manual_time|real_time|process_time)(?=/|$)")
TO_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
NORMAL = 1.96  # half width of a 95 % interval, in standard deviations
MEDIAN_ERROR = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean, for normal samples
QUANTILE = 1.2816  # standard deviations from the median to the 90 % quantile


class Failure(Exception):
    """The reason why nothing can be compared, as a sentence for the user."""


class Side:
    """One row of one file: a time with its interval, or the reason why there is none."""

    def __init__(self, value=None, low=None, high=None, unit="us", fault=None):
        self.value, self.low, self.high, self.unit, self.fault = value, low, high, unit, fault

    @property
    def measured(self):
        return self.value is not None

    @property
    def has_interval(self):
        return self.low is not None

    def text(self):
        if not self.measured:
            return self.fault.split(":")[0] if self.fault else "–"
        shown = f"{self.value:.4g} {self.unit}"
        half = (self.high - self.low) / 2 / self.value if self.has_interval else math.nan
        return shown if math.isnan(half) else f"{shown} ± {100 * half:.1f} %"


def plain_name(name):
    return DECORATION.sub("", name)


# ---- reading ----


def positive(*values):
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in values)


def interval_of_median(median, p10, p90, samples):
    half = NORMAL * MEDIAN_ERROR * (p90 - p10) / (2 * QUANTILE) / math.sqrt(samples)
    return max(median - half, p10), min(median + half, p90)


def timed(row, prefix=""):
    """Returns the Side of a row's counters whose names begin with `prefix` (cold_ for flushed L2), or None if there are none."""
    get = lambda key: row.get(prefix + key)
    median = get("median_us")
    if not positive(median):
        return None
    if positive(get("lo_us"), get("hi_us")):
        return Side(median, get("lo_us"), get("hi_us"))
    if positive(get("p10_us"), get("p90_us"), row.get("samples")) and row["samples"] >= 3:
        return Side(median, *interval_of_median(median, get("p10_us"), get("p90_us"), row["samples"]))
    return Side(median)


def fault_of(row):
    if row.get("error_occurred"):
        return str(row.get("error_message") or "failed")
    return row["error"] if isinstance(row.get("error"), str) else None


def joined(sides):
    """Merges the repetitions of a row into one Side: the median of the values and the range of all of them."""
    faults = [s for s in sides if not s.measured]
    if faults:
        return faults[0]
    if len(sides) == 1:
        return sides[0]
    values = sorted(s.value for s in sides)
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    if len(sides) < 3 and not all(s.has_interval for s in sides):
        return Side(middle, unit=sides[0].unit)
    return Side(middle, min(s.low if s.has_interval else s.value for s in sides),
                max(s.high if s.has_interval else s.value for s in sides), sides[0].unit)


FLUSHED = " (L2 flushed)"


def real_time_us(row):
    return row["real_time"] * TO_US.get(row.get("time_unit", "ns"), 1e-3) if positive(row.get("real_time")) else None


def aggregated(median, deviation, key):
    """Returns the Side of a row that has only aggregates, or None if it has no time; key(row) is a row's time in us."""
    value, spread, repetitions = key(median), key(deviation or {}), median.get("repetitions", 0)
    if value is None:
        return None
    if deviation is None or repetitions < 3:
        return Side(value)
    half = NORMAL * MEDIAN_ERROR * (spread or 0) / math.sqrt(repetitions)
    return Side(value, max(value - half, value * 1e-3), value + half)


def rows_of_aggregates(found):
    """Returns {name: Side} of Google Benchmark's medians and standard deviations."""
    kinds, sides = {}, {}
    for row in found:
        run, kind = row["name"].rsplit("_", 1)  # "step_median"; older files have no "run_name"
        kinds.setdefault(plain_name(run), {})[kind] = row
    counter = lambda name: lambda row: row[name] if positive(row.get(name)) else None
    for name, rows in kinds.items():
        fault = next((fault for fault in map(fault_of, rows.values()) if fault is not None), None)
        if fault is not None:
            sides[name] = Side(fault=fault)
            continue
        median, deviation = rows.get("median"), rows.get("stddev")
        if median is None:
            continue
        warm = aggregated(median, deviation, counter("median_us")) or aggregated(median, deviation, real_time_us)
        cold = aggregated(median, deviation, counter("cold_median_us"))
        sides |= {name + what: side for what, side in (("", warm), (FLUSHED, cold)) if side is not None}
    return sides


def rows_of(found):
    """Returns {name: Side} of benchmark rows, from their repetitions, or from the aggregates if the file has only those for a name."""
    sides, aggregates = {}, []
    for row in found:
        if row.get("run_type", "iteration") != "iteration":
            aggregates.append(row)
            continue
        name, fault = plain_name(row["name"]), fault_of(row)
        if fault is not None:
            sides.setdefault(name, []).append(Side(fault=fault))
            continue
        warm, cold = timed(row), timed(row, "cold_")
        if warm is None and real_time_us(row) is not None:
            warm = Side(real_time_us(row))
        if warm is not None:
            sides.setdefault(name, []).append(warm)
        if cold is not None:
            sides.setdefault(name + FLUSHED, []).append(cold)
    repeated = {name: joined(many) for name, many in sides.items()}
    return repeated | {name: side for name, side in rows_of_aggregates(aggregates).items() if name.removesuffix(FLUSHED) not in repeated}


def constants_of(found):
    sides = {}
    for name, c in found.items():
        if not positive(c.get("value")):
            sides[name] = Side(fault=str(c.get("error") or c.get("refused") or "no value"))
            continue
        value, low, high = c["value"], c.get("lo"), c.get("hi")
        if not positive(low, high) and positive(c.get("p10"), c.get("p90"), c.get("samples")) and c["samples"] >= 3:
            low, high = interval_of_median(value, c["p10"], c["p90"], c["samples"])
        sides[name] = Side(value, low, high, c.get("unit", "")) if positive(low, high) else Side(value, unit=c.get("unit", ""))
    return sides


def read(path):
    """Returns (context, {name: Side})."""
    try:
        with open(path, "rb") as f:
            found = json.loads(f.read())  # bytes: a shell may have written UTF-16, or a byte-order mark
    except OSError as fault:
        raise Failure(f"{path} cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise Failure(f"{path} is not JSON: {fault}") from fault
    try:
        if "constants" in found:
            context = {key: value for key, value in found.items() if key != "constants"} | found.get("context", {})
            return context, constants_of(found["constants"])
        for key in ("benchmarks", "rows"):
            if key in found:
                context = found.get("context", {})
                return context.get("ours", context), rows_of(found[key])
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise Failure(f"{path} has a row that is not a benchmark row: {type(fault).__name__} {fault}") from fault
    raise Failure(f"{path} has no benchmark rows: expected \"benchmarks\", \"rows\" or \"constants\" in it")


# ---- verdicts ----


def is_rate(side):
    """Returns whether a larger value is better: work per second or per clock, or the number of clusters that fit."""
    return side.unit.endswith("/s") or "/clk" in side.unit or side.unit == "count"


def ratio_of(a, b):
    """Returns (low, middle, high) of B/A as times; low and high are None if a side has no interval."""
    if is_rate(a):
        a, b = b, a
    if not a.has_interval or not b.has_interval:
        return None, b.value / a.value, None
    return b.low / a.high, b.value / a.value, b.high / a.low


def verdict_of(a, b, within):
    """Returns (word, ratio or None); a or b is None if its file lacks the row."""
    before, now = a is not None and a.measured, b is not None and b.measured
    if not now:
        if b is not None and (b.fault or "").startswith("wrong"):
            return "wrong", None
        if not before:
            return "neither", None
        return ("gone" if b is None else "refused"), None
    if not before:
        return "new", None
    low, middle, high = ratio_of(a, b)
    if low is None:
        return "unclear", middle
    if low >= 1 / (1 + within) and high <= 1 + within:
        return "same", middle
    if low > 1:
        return "slower", middle
    if high < 1:
        return "faster", middle
    return "unclear", middle


def compare(a, b, within):
    """Returns [(name, A's Side, B's Side, word, ratio)] in the order of A, then the rows that only B has."""
    found = []
    for name in dict.fromkeys([*a, *b]):
        found.append((name, a.get(name), b.get(name), *verdict_of(a.get(name), b.get(name), within)))
    return found


def was_compared(row):
    """Returns whether both files have comparable values for a row."""
    _, a, b, word, _ = row
    if word in ("slower", "faster", "same", "wrong", "refused"):
        return True
    return word == "unclear" and a.has_interval and b.has_interval


def why_nothing(rows):
    if not rows:
        return "neither file has a row that matches --filter"
    if any(word == "unclear" for *_, word, _ in rows):
        return "no row has a spread on both sides; repeat the measurement at least three times (--benchmark_repetitions=5)"
    return "no row has a time in both files"


def is_emulated(context):
    return str(context.get("gpu", "")).startswith("emulated")


# The context keys that make two runs incomparable or help to interpret a difference.
NOTED = ("gpu", "driver", "runtime", "clock_mhz", "ecc", "flags", "torch", "cudnn", "commit")


def markdown(rows, contexts, names, within):
    lines = [f"A is {names[0]}, B is {names[1]}. Values are times; B/A above {1 + within:.3g} is slower.", ""]
    for key in NOTED:
        values = [str(c.get(key, "unknown")) for c in contexts]
        if values[0] != values[1]:
            lines.append(f"- {key}: A {values[0]}, B {values[1]}")
    if lines[-1]:
        lines.append("")
    lines += ["| row | A | B | B/A | verdict |", "| :-- | --: | --: | --: | :-- |"]
    for name, a, b, word, ratio in rows:
        cells = [name, a.text() if a else "–", b.text() if b else "–", "–" if ratio is None else f"{ratio:.3f}", word]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    counts = [(word, sum(row[3] == word for row in rows)) for word in VERDICTS]
    return "\n".join([*lines, "", ", ".join(f"{n} {word}" for word, n in counts if n) or "no rows"]) + "\n"


def is_same_file(a, b):
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def percent(text):
    value = float(text)
    if not 0 <= value < 100:
        raise ValueError(text)
    return value


def words(text):
    found = text.split(",")
    unknown = [word for word in found if word not in VERDICTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown verdict '{unknown[0]}'; the verdicts are {', '.join(VERDICTS)}")
    return found


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A.json")
    parser.add_argument("b", metavar="B.json")
    parser.add_argument("--within", type=percent, default=2.0, metavar="PERCENT", help="the largest change that counts as none (default 2)")
    parser.add_argument("--filter", type=re.compile, default=re.compile(""), metavar="REGEX", help="compare only rows whose name matches")
    parser.add_argument("--fail-on", type=words, default=REGRESSIONS, metavar="WORD,...",
                        help=f"verdicts that count as a regression (default {','.join(REGRESSIONS)})")
    parser.add_argument("--out", metavar="FILE", help="write the table to FILE")
    arguments = parser.parse_args()
    if arguments.out and any(is_same_file(arguments.out, path) for path in (arguments.a, arguments.b)):
        parser.error(f"--out {arguments.out} and the measurements must be different files")
    try:
        (context_a, a), (context_b, b) = read(arguments.a), read(arguments.b)
        if is_emulated(context_a) != is_emulated(context_b):
            raise Failure("one file is from a real GPU and the other from the emulator, whose times are CPU times")
    except Failure as fault:
        print(f"benchcmp: {fault}", file=sys.stderr)
        return NOTHING_COMPARED
    rows = [row for row in compare(a, b, arguments.within / 100) if arguments.filter.search(row[0])]
    text = markdown(rows, (context_a, context_b), (arguments.a, arguments.b), arguments.within / 100)
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as f:
            f.write(text)
    else:
        sys.stdout.reconfigure(errors="replace")  # a terminal of another encoding shows '?' for a dash
        sys.stdout.write(text)
        sys.stdout.flush()
    if not any(map(was_compared, rows)):
        print(f"benchcmp: nothing was compared: {why_nothing(rows)}", file=sys.stderr)
        return NOTHING_COMPARED
    return 1 if any(row[3] in arguments.fail_on for row in rows) else 0


def failed(fault):
    """Reports an error of benchcmp itself, with a status that no verdict has (Python exits with 1 on an exception)."""
    what = f"{fault.filename or 'standard output'} cannot be written: {fault.strerror}" if isinstance(fault, OSError) else repr(fault)
    print(f"benchcmp: {what}", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # flushing the rest of the buffer at exit would fail again
    return ITSELF_FAILED


if __name__ == "__main__":
    try:
        status = main()
    except Exception as fault:
        status = failed(fault)
    sys.exit(status)
