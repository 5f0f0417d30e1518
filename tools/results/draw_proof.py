#!/usr/bin/env python3
"""draw_proof.py [FILE] draws profiles/figures/proof.svg: which properties of a kernel are proven, tested or only predicted."""
import argparse

import draw_persistent as pen
from draw_persistent import CROSS, INK, OWN, arrow, rect, text

WIDTH, HEIGHT = 810, 372
COLUMN, GAP, TOP = 250, 20, 92
COLUMNS = (
    ("Proven: orders", OWN,
     ("its PTX, in the time loop: the", "instructions, scopes and order", "that its litmus text names"),
     ("the text: 2 to 8 threads, 1 to 6 steps;", "every execution that the PTX", "memory model admits"),
     ("no wrong outcome, but in every", "mutant; bounded by its size")),
    ("Tested: values", CROSS,
     ("the same source on the", "emulated GPU, with a race", "detector and random schedules"),
     ("against double precision, within", "what a plain loop errs; same bits", "under every schedule that ran"),
     ("the shapes, plans and schedules", "of the lists, no others")),
    ("Predicted: times", INK,
     ("its machine code for sm_35 and", "sm_90: registers, spills, loads", "in the time loop"),
     ("the planner's model: latencies and", "bandwidths of the literature,", "until constants are measured"),
     ("a ranking to be checked: a time", "counts when a GPU has run it")),
)


def column(n, title, colour, *boxes):
    x, y = 10 + n * (COLUMN + GAP), TOP
    arrow(x + COLUMN / 2, 52, x + COLUMN / 2, y - 12, colour)
    for i, lines in enumerate(boxes):
        tall = 18 * len(lines) + 14
        last = i == len(boxes) - 1
        rect(x, y, COLUMN, tall, colour, 0.22 if last else 0.08)
        for k, line in enumerate(lines):
            text(x + COLUMN / 2, y + 22 + 18 * k, line, colour, "middle", 13, "bold" if last else "normal")
        y += tall + 24
        if not last:
            arrow(x + COLUMN / 2, y - 24, x + COLUMN / 2, y - 12, colour)
    text(x + COLUMN / 2, y + 2, title, colour, "middle", 15, "bold")


def draw():
    pen.out[:] = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
                  ' font-family="Helvetica, Arial, sans-serif">',
                  "<title>Orders are proven, values are tested, times are predicted</title><defs>", *pen.markers(), "</defs>"]
    rect(10, 12, WIDTH - 20, 40, INK, 0.12)
    text(WIDTH / 2, 38, "a persistent kernel: kernels/fwd_*.cuh, bwd_*.cuh", INK, "middle", 15, "bold")
    for n, parts in enumerate(COLUMNS):
        column(n, *parts)
    pen.out.append("</svg>")
    return "\n".join(pen.out) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="profiles/figures/proof.svg", metavar="FILE",
                        help="the file to write (default profiles/figures/proof.svg)")
    with open(parser.parse_args().file, "w", encoding="utf-8") as f:
        f.write(draw())
