"""Draws figures: scripts for gnuplot, and the SVG that it draws from them. A figure contains the hash of its script, so that it can be checked
with another gnuplot, or none."""
import hashlib
import os
import shutil
import subprocess
import sys

from tables.data import Failure

PLOT_HEAD = """set encoding utf8
set terminal svg size 720,440 font "sans-serif,13" background "white"
set grid ytics lc rgb "#dddddd"
set key below Left reverse samplen 2 spacing 1.3 maxcols 2
"""
PALETTE = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b", "#7f7f7f")
STAMP = "<!-- drawn by tools/results.py from {} -->"


def stamp_of(script):
    return STAMP.format(hashlib.sha256(script.encode()).hexdigest())


def draw(script):
    """Returns the SVG, with the same bytes for the same script and gnuplot. Prints a line and returns None if there is no gnuplot."""
    gnuplot = shutil.which("gnuplot")
    if not gnuplot:
        print("gnuplot was not found, so no figure was drawn (tools/deps.sh installs it)", file=sys.stderr)
        return None
    done = subprocess.run([gnuplot], input=script.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env=dict(os.environ, LC_ALL="C"))
    svg = done.stdout.decode()
    if done.returncode or not svg.rstrip().endswith("</svg>"):
        raise Failure(f"gnuplot failed: {done.stderr.decode(errors='replace').strip()}")
    return svg.rstrip() + "\n" + stamp_of(script) + "\n"


def cut(values):
    """Returns the commands for a logarithmic y axis around the data."""
    ticks = ", ".join(str(m * 10**e) for e in range(4) for m in (1, 1.5, 2, 3, 4, 5, 7))
    return f"set logscale y\nset ytics ({ticks})\nset yrange [{0.9 * min(values):.3g}:{1.1 * max(values):.3g}]\n"


def ppls_of(runs):
    """Returns the train and valid perplexities of every epoch."""
    return [epoch[key] for run in runs for epoch in run.epochs for key in ("train_ppl", "valid_ppl")]


def block(name, rows):
    """Returns a data block for a plot, named $name."""
    return f"${name} << END\n" + "".join(" ".join(f"{v:.6g}" for v in row) + "\n" for row in rows) + "END\n"
