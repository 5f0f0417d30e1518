#!/usr/bin/env python3
"""draw_persistent.py [FILE] draws profiles/figures/persistent.svg: the rows of W_hh that a block of a persistent kernel owns, and the
data that crosses the barrier at each step, forward and backward. The colours have medium brightness, so that they are readable on white
and black.
"""
import argparse

WIDTH, HEIGHT = 810, 572
INK, OWN, CROSS = "#747c86", "#d2571e", "#2f7fb8"
GATES = ("i", "f", "g", "o")
BLOCKS, CHOSEN = 5, 1
out = []


def text(x, y, words, colour=INK, anchor="start", size=13, weight="normal"):
    out.append(f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">{words}</text>')


def rect(x, y, w, h, colour, fill=0.12, width=1.4):
    out.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="3" fill="{colour}" fill-opacity="{fill:g}" stroke="{colour}"'
               f' stroke-width="{width:g}"/>')


def arrow(x0, y0, x1, y1, colour, width=1.6):
    name = {INK: "ink", OWN: "own", CROSS: "cross"}[colour]
    out.append(f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{colour}" stroke-width="{width:g}" '
               f'marker-end="url(#{name})"/>')


def matrix(x, y):
    """Draws W_hh, with four gates of H rows and H columns, and the chosen block's units in each gate."""
    side, tall = 92, 56
    text(x, y - 12, "W_hh (4H, H)", weight="bold")
    for g, gate in enumerate(GATES):
        top = y + g * (tall + 5)
        rect(x, top, side, tall, INK, 0.08, 1)
        rect(x, top + tall * CHOSEN / BLOCKS, side, tall / BLOCKS, OWN, 0.7)
        text(x - 12, top + tall / 2 + 5, gate, anchor="middle")
    bottom = y + 4 * (tall + 5) + 12
    text(x, bottom, "the four gate rows of", OWN)
    text(x, bottom + 17, "its units: block 1's,", OWN)
    text(x, bottom + 34, "for the whole launch", OWN)


def panel(y, title, exchange, each, sent, taken):
    """Draws the blocks on the left and the exchanged data on the right."""
    left, wide, tall, gap, lane = 216, 150, 27, 8, 566
    text(left, y, title, weight="bold")
    top = y + 12
    span = BLOCKS * (tall + gap) - gap
    for p in range(BLOCKS):
        colour = OWN if p == CHOSEN else INK
        at = top + p * (tall + gap)
        rect(left, at, wide, tall, colour, 0.18 if p == CHOSEN else 0.08)
        text(left + 8, at + 18, f"block {p}: {each}", colour, size=12)
        rect(lane, at, 88, tall, CROSS, 0.35 if p == CHOSEN else 0.1)
        text(lane + 44, at + 18, exchange.format(p), CROSS, "middle", 12)
        if p != CHOSEN:
            arrow(left + wide, at + 9, lane - 8, at + 9, INK, 1)
    own = top + CHOSEN * (tall + gap)
    for p in range(BLOCKS):
        at = top + p * (tall + gap) + 18
        if sent == "all":
            arrow(left + wide, own + 9, lane - 8, at - 6, OWN)
        else:
            arrow(lane - 2, at, left + wide + 8, own + 18, CROSS)
    if sent == "all":
        arrow(lane - 2, own + 20, left + wide + 8, own + 20, CROSS, 2.4)
    else:
        arrow(left + wide, own + 7, lane - 8, own + 7, OWN, 2.4)
    text(lane + 100, top + 18, "in L2,", CROSS)
    text(lane + 100, top + 35, "two in turn", CROSS)
    text(left, top + span + 20, taken)
    return top + span


def markers():
    """Returns arrow heads of every colour."""
    return [f'<marker id="{name}" viewBox="0 0 10 10" refX="2" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse"'
            f' orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>'
            for name, colour in (("ink", INK), ("own", OWN), ("cross", CROSS))]


def draw():
    out.append(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
               ' font-family="Helvetica, Arial, sans-serif">')
    out.append("<title>Which rows a block of a persistent LSTM kernel owns and what crosses the barrier</title><defs>")
    out.extend(markers())
    out.append("</defs>")
    matrix(36, 44)
    panel(26, "Forward: write own units of h&#8348;, meet, read all of h&#8348;", "h&#8348; of {0}", "rows &#183; h&#8348;&#8331;&#8321;",
          "own", "Stored after arriving, off the path: i f g o, c, h, and masked h for the layer above.")
    panel(292, "Backward: send partial dh to all, meet, sum what was received", "for block {0}", "rows&#7488; &#183; dgates",
          "all", "dgates never cross: own rows need own dgates only. Sums run over senders in order.")
    y = 534
    text(36, y, "Meeting: one word per block in L2 counts its arrivals. Every block watches all of them, so the missing have names.")
    text(36, y + 20, "Where the weights fit more than once, replicas of this picture each take a part of the batch.")
    out.append("</svg>")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="profiles/figures/persistent.svg", metavar="FILE",
                        help="the file to write (default profiles/figures/persistent.svg)")
    with open(parser.parse_args().file, "w", encoding="utf-8") as f:
        f.write(draw())
