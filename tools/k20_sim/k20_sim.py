#!/usr/bin/env python3
"""Runs the kernels of sm_35 in a simulated K20. `make k20-sim GPGPUSIM=DIR` calls this script after it has compiled
a program per kernel file.

    k20_sim.py --gpgpusim DIR --cuda DIR --built DIR [--hidden H] [--batch B] [--steps T] [--only NAME ...]
               [--icache 32k|perfect] --out FILE

--gpgpusim names the user's built copy of GPGPU-Sim 4.2 (accel-sim/gpgpu-sim_distribution, branch dev). --built holds the
programs of driver.cu: fwd_NAME and bwd_NAME for every persistent variant and for the baseline; a persistent variant also
has NAME-skew, whose blocks arrive late, and NAME-nowait, whose blocks do not wait. Each result is compared with the
recurrence in plain loops; without the wait it must be wrong.

The cycles of a step are those between two passages of the grid barrier. For the baseline they are the cycles of the
step's kernels, without the time between two launches. The script writes FILE (JSON) and prints a table. Records in FILE
of other programs, shapes and caches are kept; each record names the commit and a hash of the sources from which it was
made. All numbers are those of a model, not of a K20. Exit status 1: a result was not as expected; 4: there is no
GPGPU-Sim.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MHZ = 706
PASSES = {"fwd": "forward", "bwd": "backward"}
HOW = ("", "skew", "nowait")
LIMIT = 3600  # seconds per run; H = 200 takes one or two minutes
ICACHES = {"32k": [], "perfect": ["-gpgpu_perfect_inst_const_cache 1"]}
MOMENTS = ("computed", "arrived", "waits", "met")


class Failure(Exception):
    """An error with a sentence for the user."""

    def __init__(self, sentence, status=1):
        super().__init__(sentence)
        self.status = status


def simulator_of(folder):
    """Returns the version of a built copy of GPGPU-Sim."""
    if not folder:
        raise Failure("no simulator: give GPGPUSIM=DIR, a built copy of GPGPU-Sim 4.2; nothing here fetches or builds one",
                      4)
    library = glob.glob(os.path.join(folder, "lib", "*", "cuda-*", "*", "libcudart.so"))
    if not library or not os.path.exists(os.path.join(folder, "setup_environment")):
        raise Failure(f"{folder} is not a built copy of GPGPU-Sim: it has no setup_environment or no "
                      "lib/*/cuda-*/*/libcudart.so", 4)
    with open(os.path.join(folder, "version"), encoding="utf-8") as f:
        found = re.search(r"GPGPU-Sim Simulator Version (\S+)", f.read())
    return f"GPGPU-Sim {found.group(1)}" if found else "GPGPU-Sim"


# ---- the output of a run ----


def kernels_of(text):
    """Returns [(name, cycles)] of every launch, in order."""
    launches = re.findall(r"^kernel_name = (\S+).*?^gpu_sim_cycle = (\d+)", text, re.MULTILINE | re.DOTALL)
    return [(name, int(cycles)) for name, cycles in launches]


def driver_line(text):
    """Returns the object that driver.cu printed."""
    found = re.search(r"^SIM (\{.*\})$", text, re.MULTILINE)
    if not found:
        last = [line for line in text.splitlines() if line.strip()][-1:] or ["it printed nothing"]
        raise Failure(f"the driver did not finish: {last[0]}")
    result = json.loads(found.group(1))
    if "failed" in result:
        raise Failure(result["failed"])
    return result


def step_cycles(stamps):
    """Returns the cycles between two passages of the barrier and their parts, each the median over blocks and steps.
    stamps: [block][barrier][moment] of a 32-bit clock."""
    at = {name: i for i, name in enumerate(MOMENTS)}
    spent = lambda a, b: (b - a) % 2 ** 32
    steps = [(before, now) for block in stamps for before, now in zip(block, block[1:])]
    if not steps:
        raise Failure("the time of a step needs at least two barriers: give more --steps")
    parts = {"step": [spent(a[at["met"]], b[at["met"]]) for a, b in steps],
             "compute": [spent(a[at["met"]], b[at["computed"]]) for a, b in steps],
             "arrive": [spent(b[at["computed"]], b[at["arrived"]]) for _, b in steps],
             "store_fetch": [spent(b[at["arrived"]], b[at["waits"]]) for _, b in steps],
             "wait": [spent(b[at["waits"]], b[at["met"]]) for _, b in steps]}
    return {name: round(statistics.median(values)) for name, values in parts.items()}


def baseline_cycles(kernels):
    """Returns the cycles of a step of the baseline: the mean launch of each of its kernels. The first launch of each,
    with cold caches, is left out."""
    by_name = {}
    for name, cycles in kernels:
        by_name.setdefault(name, []).append(cycles)
    means = {("product" if "sgemm" in name else "cell"): statistics.mean(cycles[1:] or cycles)
             for name, cycles in by_name.items()}
    return {"step": round(sum(means.values())), **{name: round(value) for name, value in means.items()}}


def is_right(result):
    """Returns whether a result is as close to the recurrence in double as float32 allows: within four times the error of
    the same loops in float."""
    return result["fault"] == 0 and result["error"] <= 4 * result["loop_error"] + 1e-7


def record_of(name, how, text):
    """Returns the record of one run; `text` is its whole output."""
    way, variant = name.split("_", 1)
    result = driver_line(text)
    record = {"variant": variant, "pass": PASSES[way], "how": how or "plain", "right": is_right(result),
              "error": result["error"], "loop_error": result["loop_error"],
              "plan": result["plan"] or None, "predicted_us": result["predicted_us"]}
    if result["plan"] and "in_registers" in result:
        record["in_registers"], record["in_shared"] = result["in_registers"], result["in_shared"]
    record["cycles"] = step_cycles(result["stamps"]) if result["plan"] else baseline_cycles(kernels_of(text))
    record["us"] = round(record["cycles"]["step"] / MHZ, 2)
    return record


def fault_of(record):
    """Returns a sentence if a record is not as expected, else None."""
    where = f"{record['variant']} {record['pass']}"
    if record["how"] == "nowait":
        return f"{where} is right although no block waits, so this check cannot fail" if record["right"] else None
    what = f"{where}{' with late blocks' if record['how'] == 'skew' else ''}"
    return None if record["right"] else (f"{what} is wrong: it differs from the recurrence in double by "
                                         f"{record['error']:.3g}; the same loops in float, by {record['loop_error']:.3g}")


# ---- running ----


def run(options, program, icache):
    """Runs a program in the simulator and returns its whole output."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copyfile(os.path.join(HERE, "gpgpusim.config"), os.path.join(scratch, "gpgpusim.config"))
        with open(os.path.join(scratch, "gpgpusim.config"), "a", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in ICACHES[icache])
        command = ["timeout", str(LIMIT), "bash", "-c", '. "$0/setup_environment" > environment.txt && exec "$@"',
                   os.path.abspath(options.gpgpusim),
                   os.path.abspath(program), str(options.steps), str(options.batch), str(options.hidden)]
        done = subprocess.run(command, cwd=scratch, env={**os.environ, "CUDA_INSTALL_PATH": options.cuda},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if options.keep:
        with open(os.path.join(options.keep, f"{os.path.basename(program)}-{icache}.txt"), "w", encoding="utf-8") as f:
            f.write(done.stdout)
    if done.returncode == 124:
        raise Failure(f"{os.path.basename(program)} did not finish within {LIMIT} s")
    return done.stdout


def programs_in(folder):
    """Returns the programs in a folder as [(kernel file, one of HOW, path)]."""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "[fb]wd_*"))):
        name, _, how = os.path.basename(path).partition("-")
        if how in HOW and os.access(path, os.X_OK) and not os.path.isdir(path):
            found.append((name, how, path))
    if not found:
        raise Failure(f"{folder} has no programs of driver.cu")
    return found


def sources_hash():
    """Returns a hash of the sources of the programs and of the model's parameters."""
    digest = hashlib.sha256()
    for f in sorted(glob.glob(os.path.join(ROOT, "kernels", "*")) + glob.glob(os.path.join(HERE, "*"))):
        if f.endswith((".cu", ".cuh", ".h", ".config")):
            with open(f, "rb") as text:
                digest.update(os.path.basename(f).encode() + b"\0" + text.read() + b"\0")
    return digest.hexdigest()[:16]


def commit():
    """Returns the commit that is checked out, with a + if the kernels, the planner or this folder differ from it; None
    outside a repository."""
    git = lambda *what: subprocess.run(["git", "-C", ROOT, *what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True, check=False)
    head = git("rev-parse", "--short=10", "HEAD")
    if head.returncode != 0:
        return None
    differs = git("diff", "--quiet", "HEAD", "--", "kernels", "host/plan", HERE).returncode != 0
    return head.stdout.strip() + ("+" if differs else "")


def merged(path, made):
    """Returns the records of a file, if it exists, with those of `made` in place of records of the same program, shape and
    cache."""
    key = lambda r: tuple(r[name] for name in ("variant", "pass", "how", "icache", "H", "B"))
    old = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            record = json.load(f)
        for r in record["runs"]:
            old[key(r)] = r if "sources" in r else {**r, "sources": record["sources"]}
    return list({**old, **{key(r): r for r in made}}.values())


def write(path, version, made):
    runs = merged(path, made)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    head = {"model": "a K20 in GPGPU-Sim: a simulation, not a measurement", "simulator": version, "mhz": MHZ}
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(json.dumps(head)[:-1] + ', "runs": [\n' + ",\n".join(json.dumps(record) for record in runs) + "\n]}\n")
    os.replace(path + ".tmp", path)


def show(record):
    parts = "  ".join(f"{name} {cycles}" for name, cycles in record["cycles"].items() if name != "step")
    print(f"{record['variant']:8} {record['pass']:8} {record['how']:7} {record['icache']:8} "
          f"{record['cycles']['step']:7} cycles per step = {record['us']:6.2f} us in the model  "
          f"({parts})  {'right' if record['right'] else 'wrong'}, error {record['error']:.2g}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Runs the kernels of sm_35 in a simulated K20.", allow_abbrev=False)
    parser.add_argument("--gpgpusim", default="", metavar="DIR", help="a built copy of GPGPU-Sim")
    parser.add_argument("--cuda", required=True, metavar="DIR", help="the folder of CUDA 11.8")
    parser.add_argument("--built", required=True, metavar="DIR", help="the folder with the programs of driver.cu")
    parser.add_argument("--hidden", type=int, default=200, metavar="H", help="units (default 200)")
    parser.add_argument("--batch", type=int, default=20, metavar="B", help="batch rows (default 20)")
    parser.add_argument("--steps", type=int, default=4, metavar="T", help="time steps (default 4)")
    parser.add_argument("--only", nargs="+", metavar="NAME",
                        help="run only these programs, such as fwd_reg or bwd_l2-skew")
    parser.add_argument("--icache", choices=list(ICACHES), nargs="+", default=list(ICACHES),
                        help="instruction caches (default: both; the checks use only the last)")
    parser.add_argument("--keep", metavar="DIR", help="keep the output of every run in this folder")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file of records")
    options = parser.parse_args()
    try:
        version = simulator_of(options.gpgpusim)
        chosen = [p for p in programs_in(options.built) if not options.only or os.path.basename(p[2]) in options.only]
        made_from = {"commit": commit(), "sources": sources_hash()}
        faults = []
        for name, how, path in chosen:
            for icache in options.icache if not how else options.icache[-1:]:
                record = {"icache": icache, "H": options.hidden, "B": options.batch, "T": options.steps,
                          **record_of(name, how, run(options, path, icache)), **made_from}
                write(options.out, version, [record])
                show(record)
                faults += [fault_of(record)] if fault_of(record) else []
    except Failure as failure:
        print(f"k20_sim.py: {failure}", file=sys.stderr)
        return failure.status
    for fault in faults:
        print(f"k20_sim.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
