#!/usr/bin/env python3
"""draw_unrolled.py [FILE] draws profiles/figures/unrolled.svg: the two-layer network over five steps, with the connections that dropout
masks (dashed), those that it never masks (solid), and one path from a word to a later prediction. The colours have medium brightness, so
that they are readable on white and black.
"""
import argparse

STEPS = ("t−2", "t−1", "t", "t+1", "t+2")
ROWS = ("word", "embedding", "layer 1", "layer 2", "softmax")
WIDTH, HEIGHT = 770, 450
LEFT, TOP, ACROSS, UP = 150, 40, 134, 78
BOX_WIDTH, BOX_HEIGHT = 76, 34
INK, PATH = "#747c86", "#d2571e"
# Column and row of each box on the path.
ROUTE = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 3), (3, 3), (4, 3), (4, 4))


def centre(column, row):
    return LEFT + column * ACROSS, TOP + (len(ROWS) - 1 - row) * UP


def masked(row_from, row_to):
    """Returns whether dropout masks the connection: embedding to layer 1, layer 1 to layer 2, layer 2 to softmax, which
    are L+1 = 3 sites."""
    return row_from != row_to and row_from >= 1


def arrow(start, end):
    on_path = any((a, b) == (start, end) for a, b in zip(ROUTE, ROUTE[1:]))
    (x0, y0), (x1, y1) = centre(*start), centre(*end)
    if start[1] == end[1]:
        x0, x1 = x0 + BOX_WIDTH / 2, x1 - BOX_WIDTH / 2 - 7
    else:
        y0, y1 = y0 - BOX_HEIGHT / 2, y1 + BOX_HEIGHT / 2 + 7
    colour, name, width = (PATH, "path", 3.2) if on_path else (INK, "ink", 1.6)
    dash = ' stroke-dasharray="6 5"' if masked(start[1], end[1]) else ""
    return (f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{colour}" stroke-width="{width}"{dash}'
            f' marker-end="url(#{name})"/>')


def box(column, row):
    x, y = centre(column, row)
    on_path = (column, row) in ROUTE
    colour = PATH if on_path else INK
    name = {0: "x", 1: "E x", 2: "h¹, c¹", 3: "h², c²", 4: "p(next)"}[row]
    if row == 0:
        return f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="{colour}">word {STEPS[column]}</text>'
    return (f'<rect x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" fill="{colour}"'
            f' fill-opacity="0.12" stroke="{colour}" stroke-width="{2.4 if on_path else 1.4}"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="{colour}">{name}</text>')


def badge(number, column, row):
    x, y = centre(column, row)
    y += UP / 2 + 2
    return (f'<circle cx="{x + 20}" cy="{y:g}" r="10" fill="{PATH}"/>'
            f'<text x="{x + 20}" y="{y + 5:g}" text-anchor="middle" fill="#ffffff" font-weight="bold">{number}</text>')


def draw():
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
             ' font-family="Helvetica, Arial, sans-serif" font-size="14">',
             "<title>Dropout on the non-recurrent connections of a two-layer LSTM</title>", "<defs>"]
    for name, colour in (("ink", INK), ("path", PATH)):
        parts.append(f'<marker id="{name}" viewBox="0 0 10 10" refX="2" refY="5" markerWidth="8" markerHeight="8"'
                     f' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>')
    parts.append("</defs>")
    last = len(STEPS) - 1
    for row in (2, 3):  # from the window before and into the next
        (first, y), (end, _) = centre(0, row), centre(last, row)
        for x0, x1 in ((first - BOX_WIDTH / 2 - 30, first - BOX_WIDTH / 2 - 7), (end + BOX_WIDTH / 2, end + BOX_WIDTH / 2 + 22)):
            parts.append(f'<line x1="{x0:g}" y1="{y}" x2="{x1:g}" y2="{y}" stroke="{INK}" stroke-width="1.6" marker-end="url(#ink)"/>')
    arrows = []
    for column in range(len(STEPS)):
        arrows += [((column, row), (column, row + 1)) for row in range(len(ROWS) - 1)]
        if column < last:
            arrows += [((column, row), (column + 1, row)) for row in (2, 3)]
    parts += [arrow(*a) for a in arrows]
    parts += [box(column, row) for column in range(len(STEPS)) for row in range(len(ROWS))]
    for row, name in enumerate(ROWS):
        parts.append(f'<text x="8" y="{centre(0, row)[1] + 5}" fill="{INK}">{name if row else ""}</text>')
    masked_steps = [b for a, b in zip(ROUTE, ROUTE[1:]) if masked(a[1], b[1])]
    parts += [badge(number, *at) for number, at in enumerate(masked_steps, 1)]
    y = TOP + 4 * UP + 44
    parts.append(f'<line x1="8" y1="{y}" x2="52" y2="{y}" stroke="{INK}" stroke-width="1.6" stroke-dasharray="6 5" marker-end="url(#ink)"/>'
                 f'<text x="68" y="{y + 5}" fill="{INK}">dropout: masked, the rest scaled by 1/keep</text>')
    parts.append(f'<line x1="438" y1="{y}" x2="482" y2="{y}" stroke="{INK}" stroke-width="1.6" marker-end="url(#ink)"/>'
                 f'<text x="498" y="{y + 5}" fill="{INK}">never masked: recurrent h and c</text>')
    y += 30
    parts.append(f'<line x1="8" y1="{y}" x2="52" y2="{y}" stroke="{PATH}" stroke-width="3.2" marker-end="url(#path)"/>'
                 f'<text x="68" y="{y + 5}" fill="{PATH}">from the word at t−2 to the prediction at t+2: masked {len(masked_steps)} times'
                 " (L+1), however far it travels</text>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="profiles/figures/unrolled.svg", metavar="FILE",
                        help="the file to write (default profiles/figures/unrolled.svg)")
    with open(parser.parse_args().file, "w", encoding="utf-8") as f:
        f.write(draw())
