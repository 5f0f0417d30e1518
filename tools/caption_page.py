#!/usr/bin/env python3
"""Writes a page of pictures with their captions: one self-contained HTML file.

    caption_page.py DATA NAME=FILE [NAME=FILE ...] --out PAGE.html [--split test] [--images N] [--pictures DIR]

DATA is a folder with dataset.json (or that file). FILE has the captions that `plstm caption --split` printed, one line per image. A scene
that `plstm data scenes --write` wrote is drawn as SVG from its description. Any other picture is embedded from --pictures DIR
(filepath/filename, or filename); if it is not there, the page shows its name.
"""
import argparse
import base64
import html
import math
import mimetypes
import os
import sys

import captions
from demo import Failure, positive, write_whole

STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1.25rem; }
figure { margin: 0; padding: 0.9rem; border: 1px solid #8886; border-radius: 0.5rem; }
figure > svg, figure > img { width: 100%; max-height: 15rem; object-fit: contain; display: block; }
figure > .none { padding: 3rem 0; text-align: center; opacity: 0.7; }
dt { font-weight: 600; margin-top: 0.5rem; }
dd { margin: 0; }
.reference { opacity: 0.75; }
"""


def rgb(value):
    return f"#{value:06x}"


def shape_svg(item):
    """Returns a shape as scenes.c draws it: pixel (x, y) covers x .. x+1."""
    x, y, r, fill = item["x"] + 0.5, item["y"] + 0.5, item["radius"], rgb(item["rgb"])
    if item["shape"] == "ring":
        return f'<circle cx="{x}" cy="{y}" r="{r - 0.8}" fill="none" stroke="{fill}" stroke-width="2.2"/>'
    if item["shape"] == "square":
        half = math.floor(7 * r / 8) + 0.5
        return f'<rect x="{x - half}" y="{y - half}" width="{2 * half}" height="{2 * half}" fill="{fill}"/>'
    if item["shape"] == "triangle":
        return f'<path d="M{x} {y - r - 0.5}L{x + r + 0.5} {y + r + 0.5}H{x - r - 0.5}z" fill="{fill}"/>'
    arm, long = math.floor(r / 3) + 0.5, r + 0.5
    return (f'<path d="M{x - arm} '
            f'{y - long}H{x + arm}V{y - arm}H{x + long}V{y + arm}H{x + arm}V{y + long}H{x - arm}V{y + arm}H{x - long}V{y - arm}'
            f'H{x - arm}z" fill="{fill}"/>')


def scene_svg(scene, size):
    shapes = "".join(shape_svg(item) for item in scene["objects"])
    return (f'<svg viewBox="0 0 {size} {size}" role="img"><rect width="{size}" height="{size}" '
            f'fill="{rgb(scene["ground_rgb"])}"/>{shapes}</svg>')


def picture(image, size, pictures):
    if "scene" in image:
        return scene_svg(image["scene"], size)
    name = image.get("filename", f"image {image.get('imgid', '')}")
    for path in (os.path.join(image.get("filepath", ""), name), name) if pictures else ():
        path = os.path.join(pictures, path)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                data = base64.b64encode(f.read()).decode()
            kind = mimetypes.guess_type(path)[0] or "image/jpeg"
            return f'<img alt="{html.escape(name)}" src="data:{kind};base64,{data}">'
    return f'<div class="none">{html.escape(name)}</div>'


def figure(image, size, pictures, hypotheses):
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(words) or '<i>no word</i>'}</dd>" for name, words in hypotheses)
    references = captions.captions_of(image)
    said = "".join(f'<dd class="reference">{html.escape(words)}</dd>' for words in references) or '<dd class="reference"><i>none</i></dd>'
    return f"<figure>{picture(image, size, pictures)}<dl>{rows}<dt>references</dt>{said}</dl></figure>"


def page(dataset, split, found, most, pictures):
    """found: [(name, captions of the split's images)]."""
    images = captions.images_of(dataset, split)
    for name, lines in found:
        if len(lines) != len(images):
            raise Failure(f"{name} has {len(lines)} captions and split {split} has {len(images)} images; the two must have the same number")
    figures = [figure(image, dataset.get("size", 1), pictures, [(name, lines[i]) for name, lines in found])
               for i, image in enumerate(images[:most])]
    title = f"{html.escape(str(dataset.get('dataset', 'images')))}: {len(figures)} of {len(images)} {split} images and their captions"
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{title}</title>'
            f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<main>\n" + "\n".join(figures) + "\n</main></body></html>\n")


def lines_of(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read().splitlines()
    except OSError as fault:
        raise Failure(f"{path} cannot be read: {fault.strerror}") from fault


def main():
    parser = argparse.ArgumentParser(description="Writes a page of pictures with their captions.", allow_abbrev=False)
    parser.add_argument("data", metavar="DATA", help="dataset.json, or its folder")
    parser.add_argument("captions", nargs="+", metavar="NAME=FILE",
                        help="the output of plstm caption, and the name that the page shows for it")
    parser.add_argument("--out", required=True, metavar="PAGE.html")
    parser.add_argument("--split", default="test", help="train, valid or test (default test)")
    parser.add_argument("--images", type=positive, default=60, metavar="N", help="show the first N images of the split (default 60)")
    parser.add_argument("--pictures", metavar="DIR", help="folder of the pictures")
    options = parser.parse_args()
    try:
        found = []
        for word in options.captions:
            name, equals, path = word.partition("=")
            if not equals:
                raise Failure(f"unexpected argument '{word}'; expected NAME=FILE")
            found.append((name, lines_of(path)))
        write_whole(options.out, page(captions.read(options.data), options.split, found, options.images, options.pictures))
    except Failure as failure:
        print(f"caption_page.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
