#!/usr/bin/env python3
"""Computes BLEU of translations and captions with sacrebleu, on files that are already tokenised.

    bleu.py REFERENCE... HYPOTHESIS [--json]                    one sentence per line in every file
    bleu.py --captions DATA [--split test] [--cider] HYPOTHESIS     DATA: dataset.json, or its folder

With several references, a line may be empty if its sentence has fewer of them. With --captions the references are the captions of a split's
images, and an image without captions is left out together with its line. The first run installs sacrebleu from PyPI into a virtual
environment under build/; it is called with --tokenize none, which leaves the words unchanged. The script prints the score with sacrebleu's
signature, or with --json the object {"score":, "signature":, ...} that sacrebleu writes. --cider adds CIDEr by pycocoevalcap (PyPI), which
is installed beside sacrebleu and used without its own tokeniser.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv

import captions
from demo import Failure

VERSION, CIDER_VERSION = "2.5.1", "1.2"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CIDER = """
import json, sys
from pycocoevalcap.cider.cider import Cider
asked = json.load(sys.stdin)
references = {i: r for i, r in enumerate(asked["references"])}
print(float(Cider().compute_score(references, {i: [h] for i, h in enumerate(asked["hypotheses"])})[0]))
"""


def lines_of(path):
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as fault:
        raise Failure(f"{path} cannot be read: {fault.strerror}") from fault
    return data.count(b"\n") + (not data.endswith(b"\n") if data else 0)


def last_line(text):
    said = text.strip().splitlines()
    return said[-1] if said else "it printed nothing"


def pip_install(python, *packages):
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Failure(f"pip could not install {packages[-1].split('=')[0]}: {last_line(done.stdout)}")


def installed(folder):
    """Returns the Python that has sacrebleu; an incomplete environment is built again."""
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, f"sacrebleu-{VERSION}")
    if os.path.exists(stamp):
        return python
    print(f"installing sacrebleu {VERSION} into {os.path.relpath(folder)}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    pip_install(python, f"sacrebleu=={VERSION}")
    with open(stamp, "w", encoding="utf-8"):
        pass
    return python


def cider_installed(folder):
    """Adds pycocoevalcap to the same Python. Of its dependencies, CIDEr needs only numpy, which sacrebleu installed."""
    python = installed(folder)
    stamp = os.path.join(folder, f"pycocoevalcap-{CIDER_VERSION}")
    if not os.path.exists(stamp):
        print(f"installing pycocoevalcap {CIDER_VERSION} into {os.path.relpath(folder)}", file=sys.stderr, flush=True)
        pip_install(python, "--no-deps", f"pycocoevalcap=={CIDER_VERSION}")
        with open(stamp, "w", encoding="utf-8"):
            pass
    return python


def bleu(references, hypothesis, folder):
    """Returns sacrebleu's result for a file; references: a path, or a list of paths."""
    references = [references] if isinstance(references, str) else references
    lines = lines_of(hypothesis)
    for reference in references:
        counts = [lines_of(reference), lines]
        if counts[0] != counts[1]:
            raise Failure(f"{reference} has {counts[0]} lines and {hypothesis} has {counts[1]}; the two must have the same number")
    if not lines:
        raise Failure(f"{references[0]} is empty")
    done = subprocess.run([installed(folder), "-m", "sacrebleu", *references, "-i", hypothesis, "-m", "bleu",
                           "--tokenize", "none", "--force",
                           "--width", "4"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failure(f"sacrebleu failed: {last_line(done.stderr or done.stdout)}") from None


def cider(references, hypotheses, folder):
    """Returns pycocoevalcap's CIDEr of n hypotheses against n lists of references."""
    done = subprocess.run([cider_installed(folder), "-c", CIDER], input=json.dumps({"references": references, "hypotheses": hypotheses}),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    try:
        return float(done.stdout)
    except ValueError:
        raise Failure(f"pycocoevalcap failed: {last_line(done.stderr or done.stdout)}") from None


def paired(data, split, hypothesis):
    """Returns (captions, hypothesis) of each image of a split that has captions, and the number of images that have none."""
    images = captions.images_of(captions.read(data), split)
    count = lines_of(hypothesis)
    if len(images) != count:
        raise Failure(f"{data} has {len(images)} images of split {split} and {hypothesis} has {count} lines; the two "
                      f"must have the same number")
    with open(hypothesis, encoding="utf-8") as f:
        pairs = [(captions.captions_of(image), line.rstrip("\n")) for image, line in zip(images, f)]
    kept = [(references, line) for references, line in pairs if references]
    if not kept:
        raise Failure(f"no image of split {split} of {data} has a caption")
    return kept, len(pairs) - len(kept)


def caption_scores(data, split, hypothesis, folder, with_cider=False):
    """Returns sacrebleu's result, with the number of images and of those left out, and CIDEr if requested."""
    pairs, left_out = paired(data, split, hypothesis)
    most = max(len(references) for references, _ in pairs)
    with tempfile.TemporaryDirectory() as scratch:
        def write(name, lines):
            path = os.path.join(scratch, name)
            with open(path, "w", encoding="utf-8") as f:
                f.writelines(line + "\n" for line in lines)
            return path
        paths = [write(f"reference-{k}", (references[k] if k < len(references) else "" for references, _ in pairs)) for k in range(most)]
        result = bleu(paths, write("hypothesis", (line for _, line in pairs)), folder)
    result.update(images=len(pairs), left_out=left_out)
    if with_cider:
        result["cider"] = cider([references for references, _ in pairs], [line for _, line in pairs], folder)
    return result


def main():
    parser = argparse.ArgumentParser(description="Computes BLEU of tokenised translations and captions with sacrebleu.", allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE", help="the references, then the hypotheses; with --captions only the hypotheses")
    parser.add_argument("--captions", metavar="DATA", help="take the references from dataset.json, or from its folder")
    parser.add_argument("--split", default="test", help="with --captions: train, valid or test (default test)")
    parser.add_argument("--cider", action="store_true", help="with --captions: compute CIDEr too")
    parser.add_argument("--json", action="store_true", help="print sacrebleu's JSON object")
    parser.add_argument("--venv", default=os.path.join(ROOT, "build", "sacrebleu"), metavar="DIR", help="where sacrebleu is installed")
    options = parser.parse_args()
    if len(options.files) != 1 and options.captions:
        parser.error("--captions needs exactly one FILE, the hypotheses")
    if len(options.files) < 2 and not options.captions:
        parser.error("expected at least two FILEs, a reference and the hypotheses")
    if options.cider and not options.captions:
        parser.error("--cider needs --captions")
    try:
        if options.captions:
            result = caption_scores(options.captions, options.split, options.files[0], options.venv, options.cider)
        else:
            result = bleu(options.files[:-1], options.files[-1], options.venv)
    except Failure as failure:
        print(f"bleu.py: {failure}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result))
        return 0
    print(f"BLEU {result['score']:.2f}  {result['signature']}  ({result['verbose_score']})")
    if "cider" in result:
        print(f"CIDEr {result['cider']:.3f}")
    if result.get("left_out"):
        print(f"{result['left_out']} images without captions were left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
