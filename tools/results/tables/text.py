"""Formats tables, numbers and links in Markdown."""
import math
import statistics


def table(headings, rows):
    """Returns a table. The first column and the columns whose heading ends with a space are left-aligned; the others are numbers."""
    align = [":--" if i == 0 or h.endswith(" ") else "--:" for i, h in enumerate(headings)]
    lines = [[h.strip() for h in headings], align, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def link(name):
    return f"[{name}](profiles/{name})"


def number(value, digits=1):
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(values, digits=2):
    """Returns the mean, with the sample standard deviation if there are several values."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return text + f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def listed(words):
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def percent_above(value, base):
    return f"{100 * (value / base - 1):+.1f} %"


def share(value):
    return f"{100 * value:.0f} %"
