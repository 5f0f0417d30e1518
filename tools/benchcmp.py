#!/usr/bin/env python3
"""Two measurements of the same rows, compared by their intervals: did anything become slower?

    benchcmp.py A.json B.json [--within PERCENT] [--filter REGEX] [--fail-on WORD,...] [--out FILE]

A is what was, B what is. Either file is Google Benchmark's JSON (bench_gpu, bench_cpu, bench_emu), tools/torch/torch_peer.py's, a
variants.json or step.json filed by tools/results/ingest.py, or a constants.json. A markdown table with a line per row goes to standard output,
or to FILE. Names are compared without the /iterations:N/manual_time that Google Benchmark adds.

Each side of a row is an interval in which its median lies (95 %): lo_us .. hi_us where bench_gpu wrote them, else from median, quantiles
and sample count, else the range of the repetitions. From the two follows an interval of B/A, and from that the verdict:

    same      all of it within +-PERCENT (default 2) of 1
    slower    otherwise, all of it above 1
    faster    otherwise, all of it below 1
    unclear   otherwise: it holds 1 and is too wide to say that nothing changed; or a side is a single number without spread
    wrong     B's result failed its check
    refused   B could not run it, A could
    gone      B does not have the row
    new       A has no time for it
    neither   no side has a time

A row that was timed with L2 warm and flushed is two lines. Constants that are rates or counts count as times: less of them is slower.
Where a file holds only the aggregates of a row (--benchmark_report_aggregates_only), its median counts, with the interval that its standard
deviation and number of repetitions give.

A regression is a row whose verdict is slower, wrong, refused or gone, or one of the words that --fail-on lists in their place
(`--fail-on slower,wrong`). Exit status: 0 no regression, 1 a regression, 2 usage, 3 nothing was compared (a file cannot be read, no row
is in both files, none has a spread on both sides, or one file is of an emulated GPU and the other of a real one), 4 benchcmp itself failed.
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
NORMAL = 1.96  # standard deviations that hold 95 %
MEDIAN_ERROR = math.sqrt(math.pi / 2)  # standard error of a median in those of a mean, for normal samples
QUANTILE = 1.2816  # standard deviations from the median to the 90 % quantile


class Failure(Exception):
    """Why nothing can be compared, as a sentence for the user."""


class Side:
    """One row of one file: a time with its interval, or why there is none."""

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
    """The Side of a row's counters, cold_* ones under that prefix; None where it has none."""
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
    """Repetitions of a row as one: the median of the values, the range of all that was seen."""
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
    """The Side of a row of which only aggregates are left; key(row) is its time in us. None where it has none."""
    value, spread, repetitions = key(median), key(deviation or {}), median.get("repetitions", 0)
    if value is None:
        return None
    if deviation is None or repetitions < 3:
        return Side(value)
    half = NORMAL * MEDIAN_ERROR * (spread or 0) / math.sqrt(repetitions)
    return Side(value, max(value - half, value * 1e-3), value + half)


def rows_of_aggregates(found):
    """{name: Side} of Google Benchmark's medians and standard deviations."""
    kinds, sides = {}, {}
    for row in found:
        run, kind = row["name"].rsplit("_", 1)  # "step_median"; "run_name" is younger
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
    """{name: Side} of benchmark rows: of their repetitions, or of the aggregates where the file holds no others of that name."""
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
    """(context, {name: Side})"""
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
        raise Failure(f"{path} has a row that is not one of a benchmark: {type(fault).__name__} {fault}") from fault
    raise Failure(f"{path} holds no benchmark rows: neither \"benchmarks\" nor \"rows\" nor \"constants\" is in it")


# ---- verdicts ----


def is_rate(side):
    """Of which more is faster: work a second or a clock, and how many clusters fit."""
    return side.unit.endswith("/s") or "/clk" in side.unit or side.unit == "count"


def ratio_of(a, b):
    """(low, middle, high) of B/A as times; low and high are None where a side has no interval."""
    if is_rate(a):
        a, b = b, a
    if not a.has_interval or not b.has_interval:
        return None, b.value / a.value, None
    return b.low / a.high, b.value / a.value, b.high / a.low


def verdict_of(a, b, within):
    """(word, ratio or None); a and b are None where a file lacks the row."""
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
    """[(name, A's Side, B's, word, ratio)] in the order of A, then what only B has."""
    found = []
    for name in dict.fromkeys([*a, *b]):
        found.append((name, a.get(name), b.get(name), *verdict_of(a.get(name), b.get(name), within)))
    return found


def was_compared(row):
    """Whether both files say something of a row that can be held against each other."""
    _, a, b, word, _ = row
    if word in ("slower", "faster", "same", "wrong", "refused"):
        return True
    return word == "unclear" and a.has_interval and b.has_interval


def why_nothing(rows):
    if not rows:
        return "neither file has a row that --filter lets through"
    if any(word == "unclear" for *_, word, _ in rows):
        return "no row has a spread on both sides: repeat the measurement at least three times (--benchmark_repetitions=5)"
    return "no row is in both files with a time"


def is_emulated(context):
    return str(context.get("gpu", "")).startswith("emulated")


# Of a context: what makes two runs incomparable, or is worth knowing about them.
NOTED = ("gpu", "driver", "runtime", "clock_mhz", "ecc", "flags", "torch", "cudnn", "commit")


def markdown(rows, contexts, names, within):
    lines = [f"A is {names[0]}, B is {names[1]}; times; B/A over {1 + within:.3g} is slower.", ""]
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
        raise argparse.ArgumentTypeError(f"no verdict is called '{unknown[0]}'; there are {', '.join(VERDICTS)}")
    return found


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A.json")
    parser.add_argument("b", metavar="B.json")
    parser.add_argument("--within", type=percent, default=2.0, metavar="PERCENT", help="a change that does not matter (default 2)")
    parser.add_argument("--filter", type=re.compile, default=re.compile(""), metavar="REGEX", help="only rows whose name holds a match")
    parser.add_argument("--fail-on", type=words, default=REGRESSIONS, metavar="WORD,...",
                        help=f"verdicts that count as a regression (default {','.join(REGRESSIONS)})")
    parser.add_argument("--out", metavar="FILE", help="the table goes there")
    arguments = parser.parse_args()
    if arguments.out and any(is_same_file(arguments.out, path) for path in (arguments.a, arguments.b)):
        parser.error(f"--out {arguments.out} is one of the measurements that are read")
    try:
        (context_a, a), (context_b, b) = read(arguments.a), read(arguments.b)
        if is_emulated(context_a) != is_emulated(context_b):
            raise Failure("one file is of a real GPU and the other of the emulator, whose times are those of a CPU")
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
    """Says what went wrong here; a caller must never take it for a verdict (Python's own status of an exception is 1)."""
    what = f"{fault.filename or 'standard output'} cannot be written: {fault.strerror}" if isinstance(fault, OSError) else repr(fault)
    print(f"benchcmp: {what}", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail once more at the end
    return ITSELF_FAILED


if __name__ == "__main__":
    try:
        status = main()
    except Exception as fault:
        status = failed(fault)
    sys.exit(status)
