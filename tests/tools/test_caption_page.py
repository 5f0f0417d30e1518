"""Tests tools/caption_page.py: pictures, hypotheses and references of a split on one self-contained page, rendered by headless Chromium."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import caption_page  # noqa: E402
import captions  # noqa: E402

OBJECTS = [{"shape": "square", "colour": "red", "rgb": 0xff0000, "x": 7, "y": 7, "radius": 6},
           {"shape": "ring", "colour": "blue", "rgb": 0x0000ff, "x": 21, "y": 7, "radius": 6},
           {"shape": "cross", "colour": "green", "rgb": 0x00ff00, "x": 21, "y": 21, "radius": 6},
           {"shape": "triangle", "colour": "yellow", "rgb": 0xffff00, "x": 7, "y": 21, "radius": 6}]
DATASET = {"dataset": "scenes <1>", "size": 28, "images": [
    {"split": "train", "sentences": [{"tokens": ["never"]}]},
    {"split": "test", "filename": "a.svg", "sentences": [{"tokens": ["a", "<b>", "\u72ac"]}, {"tokens": []}],
     "scene": {"ground": "black", "ground_rgb": 0x101010, "objects": OBJECTS}},
    {"split": "test", "filepath": "val2014", "filename": "b.png", "sentences": []}, {"split": "test", "filename": "c.jpg"}]}
DOT = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082")


def run(folder, *words):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools", "caption_page.py"), os.path.join(folder, "dataset.json"), "--out",
                           os.path.join(folder, "page.html"), *words], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)


def in_folder(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "dataset.json"), "w", encoding="utf-8") as f:
                json.dump(DATASET, f)
            for name, lines in (("plain", ["one", "two & more", ""]), ("dropout", ["a red square", "x", "y"]), ("short", ["one"])):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                    f.writelines(line + "\n" for line in lines)
            os.makedirs(os.path.join(folder, "pictures", "val2014"))
            with open(os.path.join(folder, "pictures", "val2014", "b.png"), "wb") as f:
                f.write(DOT)
            test(folder)
    return call


@in_folder
def test_a_page(folder):
    done = run(folder, f"plain={folder}/plain", f"with dropout={folder}/dropout", "--pictures", os.path.join(folder, "pictures"))
    assert done.returncode == 0, done.stderr
    with open(os.path.join(folder, "page.html"), encoding="utf-8") as f:
        page = f.read()
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) == 3 and "3 of 3 test images" in page, page
    assert "scenes &lt;1&gt;" in page and "a &lt;b&gt; \u72ac" in figures[0] and "never" not in page
    assert figures[0].count("<svg") == 1 and figures[0].count("#ff0000") == 1 and figures[0].count('class="reference"') == 1
    assert "two &amp; more" in figures[1] and 'src="data:image/png;base64,' in figures[1] and "<i>none</i>" in figures[1]
    assert "c.jpg" in figures[2] and "<i>no word</i>" in figures[2]
    assert not re.search(r'(src|href)="(?!data:)', page)  # the page loads nothing
    done = run(folder, f"plain={folder}/plain", "--images", "1")
    assert done.returncode == 0
    with open(os.path.join(folder, "page.html"), encoding="utf-8") as f:
        assert f.read().count("<figure>") == 1


@in_folder
def test_faults_are_reported(folder):
    for words, said in (((f"plain={folder}/short",), "has 1 captions"),
                        ((f"plain={folder}/nowhere",), "cannot be read"), (("plain",), "NAME=FILE"),
                        ((f"plain={folder}/plain", "--split", "val"), "unknown split")):
        done = run(folder, *words)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, (words, done.stderr)


def pixels_of(path):
    """Returns rows of (red, green, blue) of an 8-bit PNG without interlace, as Chromium writes it."""
    with open(path, "rb") as f:
        data = f.read()
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (2, 6) and not interlace
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    size = 4 if colour == 6 else 3
    raw, rows, above = zlib.decompress(packed), [], bytes(width * size)
    for y in range(height):
        start = y * (width * size + 1)
        filtered, line = raw[start + 1:start + 1 + width * size], bytearray(width * size)
        for i, value in enumerate(filtered):
            left, up, corner = (line[i - size] if i >= size else 0), above[i], (above[i - size] if i >= size else 0)
            near = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))[2]
            line[i] = (value + (0, left, up, (left + up) // 2, near)[raw[start]]) & 255
        rows.append([tuple(line[i:i + 3]) for i in range(0, width * size, size)])
        above = bytes(line)
    return rows


def test_chromium_draws_the_scene():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        raise tap.Skip("no Chromium is installed")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = os.path.join(folder, "page.html"), os.path.join(folder, "shot.png")
        with open(page, "w", encoding="utf-8") as f:
            f.write(caption_page.page(DATASET, "test", [("plain", ["a red square", "", ""])], 1, None))
        subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                        f"--user-data-dir={folder}/profile",
                        "--window-size=600,700", f"--screenshot={shot}", f"file://{page}"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL,
                       timeout=100, check=True)
        rows = pixels_of(shot)
        found = {}
        for y, row in enumerate(rows):
            for x, colour in enumerate(row):
                if colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0), (16, 16, 16)):
                    found.setdefault(colour, []).append((x, y))
        mean = {colour: tuple(sum(p[k] for p in points) / len(points) for k in (0, 1)) for colour, points in found.items()}
        red, blue, green, yellow = (mean[c] for c in ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0)))
        # The scene has a square upper left, a ring upper right, a cross lower right, a triangle lower left, and the ground.
        assert red[0] < blue[0] and yellow[0] < green[0] and red[1] < yellow[1] and blue[1] < green[1], mean
        unit = (green[0] - red[0]) / 14  # screen pixels per pixel of the scene
        area = {colour: len(points) / unit ** 2 for colour, points in found.items()}
        assert abs(area[255, 0, 0] - 11 * 11) < 9 and area[255, 0, 0] > area[255, 255, 0] > 60 and 40 < area[0, 0, 255] < 90, area
        assert area[16, 16, 16] > 300, area


def test_splits_of_karpathy():
    names = [image["split"] for split in captions.SPLITS for image in captions.images_of({"images": [{"split": s} for s in (
        "test", "restval", "val", "train")]}, split)]
    assert names == ["restval", "train", "val", "test"], names


if __name__ == "__main__":
    tap.main(globals())
