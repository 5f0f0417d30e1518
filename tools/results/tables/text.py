"""What is written: tables, numbers, links in Markdown."""
import math
import statistics


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
