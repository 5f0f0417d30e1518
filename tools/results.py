#!/usr/bin/env python3
"""Rebuilds the tables of RESULTS.md and its figures from the data under profiles/, and from nothing else.

    results.py                rewrites the text between <!-- begin:NAME --> and <!-- end:NAME -->, and profiles/figures/
    results.py --check        fails if that would change anything; draws nothing
    results.py --html FILE    writes the same as one self-contained HTML page (tools/results/html_page.py)
    results.py --thin IN OUT  copies a log of plstm with only every hundredth step line, so that it is small enough to commit
    results.py --ingest FILE  files an archive of tools/gpu_run.sh, even a truncated one, under profiles/<gpu>/ (tools/results/ingest.py)

profiles/README.md describes the data: one folder per machine, whose machine.json has the machine's name. A figure contains the hash of its
gnuplot script, so --check gives the same answer with another gnuplot, or none. The sections are in tools/results/tables/.
"""
import argparse
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "results"))
import html_page  # noqa: E402
import ingest  # noqa: E402
# noqa: E402
from tables import anchor, caption, claims, cpu, demo, frames, k20_sim, large_text, machine_code, parity, ptb, step, \
    translate, variants
from tables.data import Data, Failure  # noqa: E402
from tables.plot import draw, stamp_of  # noqa: E402
from tables.text import listed  # noqa: E402

THIN = 100
# The GPU results that RESULTS.md still needs: (data under profiles/ of any of the GPUs with predictions, description).
HOPPER = "*h[12]00*"  # folders of an "NVIDIA H100 80GB HBM3", an H200, a GH200
EXPECTED = (
    ("ptb-small*.jsonl", "Penn Treebank, preset small, on an H100 or H200"),
    ("ptb-medium*.jsonl", "Penn Treebank, preset medium, on an H100 or H200"),
    ("ptb-large*.jsonl", "Penn Treebank, preset large, on an H100 or H200"),
    ("parity.jsonl", "perplexity of bf16 against f32 on Penn Treebank, preset small, three seeds each, on an H100 or H200"),
    ("variants.json", "every kernel variant, forward and backward, beside cuBLAS and cuDNN, on an H100 or H200"),
    ("step.json", "the whole training step beside PyTorch's, on an H100 or H200"),
    ("constants.json", "the cost per byte, multiplication, launch and wait on an H100 or H200"),
    ("profile/*/summary.csv", "profiles of the variants on an H100 or H200"),
)


def not_measured(data, _figures):
    missing = [(file, what) for file, what in EXPECTED if not data.find(f"{HOPPER}/{file}")]
    return "".join(f"- {what} (`profiles/GPU/{file}`)\n" for file, what in missing) or "Nothing: every planned row has been measured.\n"


# In the order of the page: name of the marks, function (data, figures) that returns the text between them.
SECTIONS = {
    "demo": demo.demo,
    "demo-keep": demo.demo_keep,
    "reach": claims.reach,
    "distance": claims.distance,
    "ptb": ptb.ptb,
    "ensembles": ptb.ensembles,
    "large-text": large_text.large_text,
    "translate-demo": translate.demo,
    "translate": translate.translate,
    "frames-demo": frames.demo,
    "frames": frames.frames,
    "caption": caption.caption,
    "parity": parity.section,
    "variants": variants.variants,
    "anchor": anchor.anchor,
    "step": step.step,
    "kernels": step.kernels,
    "constants": step.constants,
    "machine-code": machine_code.machine_code,
    "k20-sim": k20_sim.k20_sim,
    "cpu-speed": cpu.cpu_speed,
    "cpu-profile": cpu.cpu_profile,
    "emulator": cpu.emulator,
    "not-measured": not_measured,
}


# ---- the page ----


def rebuild(page, data):
    """Returns the page with every section rebuilt, and the scripts of its figures by their path under profiles/."""
    marks = re.findall(r"<!-- (begin|end):(\S+) -->", page)
    wanted = [(side, name) for name in SECTIONS for side in ("begin", "end")]
    if sorted(marks) != sorted(wanted):
        off = [f"{side}:{name}" for side, name in sorted(set(marks) ^ set(wanted)) or marks]
        raise Failure(f"RESULTS.md must have each mark exactly once; check {listed(off)}")
    figures = {}
    for name, make in SECTIONS.items():
        pattern = re.compile(rf"(<!-- begin:{re.escape(name)} -->\n)(.*?)(<!-- end:{re.escape(name)} -->)", re.DOTALL)
        if not pattern.search(page):
            raise Failure(f"RESULTS.md: the marks of {name} are not in order, or not alone on their lines")
        try:
            text = make(data, figures)
        except (KeyError, TypeError, IndexError, ZeroDivisionError) as fault:
            raise Failure(f"the data of section {name} lacks a field or has a wrong type: {type(fault).__name__} {fault}") from fault
        page = pattern.sub(lambda found, text=text: found[1] + "\n" + text.strip("\n") + "\n\n" + found[3], page)
    return page, figures


def write_whole(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def stale_figures(root, figures):
    for name, script in figures.items():
        path = os.path.join(root, "profiles", name)
        try:
            with open(path, encoding="utf-8") as f:
                fresh = stamp_of(script) in f.read()
        except FileNotFoundError:
            fresh = False
        if not fresh:
            yield name, path, script


def read_page(root):
    with open(os.path.join(root, "RESULTS.md"), encoding="utf-8") as f:
        return f.read()


def html_report(root, target):
    page, figures = rebuild(read_page(root), Data(root))
    stale = {name: script for name, _, script in stale_figures(root, figures)}

    def svg_of(path):
        name = path.removeprefix("profiles/")
        if name in stale:
            svg = draw(stale[name])
            if svg is None:
                raise Failure(f"{path} is out of date, and gnuplot, which draws it, was not found")
            return svg
        with open(os.path.join(root, path), encoding="utf-8") as f:
            return f.read()

    def link_of(path):
        local = not re.match(r"[a-z]+:|#", path)
        return os.path.relpath(os.path.join(root, path), os.path.dirname(os.path.abspath(target))) if local else path
    write_whole(target, html_page.page(page, svg_of, link_of))


def results(root, check):
    page_path = os.path.join(root, "RESULTS.md")
    page = read_page(root)
    new, figures = rebuild(page, Data(root))
    stale = list(stale_figures(root, figures))
    if check:
        off = (["RESULTS.md"] if new != page else []) + [f"profiles/{name}" for name, _, _ in stale]
        if off:
            raise Failure(f"{listed(off)} {'does' if len(off) == 1 else 'do'} not match the data in profiles/; run make results")
        return
    for _, path, script in stale:
        svg = draw(script)
        if svg is not None:
            write_whole(path, svg)
    if new != page:
        write_whole(page_path, new)


def thin(source, target):
    if os.path.exists(target) and os.path.samefile(source, target):
        raise Failure(f"--thin needs two different files, since it would delete steps from {target}")
    kept = []
    with open(source, encoding="utf-8") as f:
        for line in f:
            event = json.loads(line)
            if event["event"] != "step" or event["step"] % THIN == 0:
                kept.append(line)
    write_whole(target, "".join(kept))


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--thin", nargs=2, metavar=("IN", "OUT"))
    parser.add_argument("--ingest", metavar="FILE")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(here), metavar="DIR", help="the working tree")
    arguments = parser.parse_args()
    try:
        if arguments.thin:
            thin(*arguments.thin)
        elif arguments.html:
            html_report(arguments.root, arguments.html)
        elif arguments.ingest:
            ingest.command(arguments.ingest, arguments.root)
        else:
            results(arguments.root, arguments.check)
    except (Failure, ingest.Failure, OSError, ValueError) as fault:
        print(f"results: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
