#!/usr/bin/env python3
"""Rehearses tools/gpu_run.sh: runs both calls on the emulated GPU at tiny shapes, so that nothing is tried for the first time on a
machine that is available for only a quarter of an hour.

    rehearse.py [--build DIR] [--planted] [--folder DIR]

The script copies the bundle's layout and fills it with the emulated programs and with stand-ins for nvidia-smi and compute-sanitizer. It
runs both calls, files the archive in a scratch copy of profiles/ and rebuilds RESULTS.md there. It prints the seconds of each step and
their sum. --planted uses programs with four additional variants: one hangs, one is wrong, one ends the process and one cannot be
prepared. Then the results of all other variants must come back, and the four must be named with their faults. --folder keeps the work in DIR.

Exit status: 0 everything passed, 1 something failed; each fault is printed as a sentence.
"""
import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import kernel_list  # noqa: E402

GPU = "NVIDIA H100 80GB HBM3"
PLANTED = {"hangs": "timeout", "wrong": "wrong: ", "ends": "failed, exit status 134", "unready": "failed, exit status 1"}
LIMIT = "3"  # seconds that the planted hang takes
TESTS = ("test_kernels", "test_backend_cuda", "test_cuda_precision")
NVIDIA_SMI = f"""#!/bin/sh
case "$*" in *lms*) echo clocks; exec sleep 600 ;; *noheader*) echo '{GPU}' ;; *) echo 'a stand-in for nvidia-smi' ;; esac
"""
SANITIZER = """#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --tool | --error-exitcode) shift 2 ;; --*) shift ;; *) break ;; esac; done
[ $# -eq 0 ] || "$@" || exit 9
echo '========= ERROR SUMMARY: 0 errors'
"""
WORDS = "the of a to in and said for that on is it by at from as with its was be".split()


class Faults(list):
    def want(self, holds, sentence):
        if not holds:
            self.append(sentence)


def write(path, text, executable=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    if executable:
        os.chmod(path, 0o755)


def make_bundle(build, folder, planted):
    bundle, emu, suffix = os.path.join(folder, "bundle"), os.path.join(build, "emu/plain"), "_planted" if planted else ""
    for name in ("bin", "tests", "lib", "data/ptb", "cuda/kernels"):
        os.makedirs(os.path.join(bundle, name))
    subprocess.run([os.path.join(ROOT, "tools/gpu/bundle.sh"), "--tools", bundle], check=True, cwd=ROOT)
    for name in ("plstm", "bench_gpu"):
        shutil.copy(os.path.join(emu, name + suffix), os.path.join(bundle, "bin", name))
    for name in TESTS:
        shutil.copy(os.path.join(emu, name), os.path.join(bundle, "tests"))
    shutil.copy(os.path.join(build, "tests/libfake_cudnn.so"), os.path.join(bundle, "lib"))
    recorder = os.path.join(build, "lib/libnvtx_trace.so")
    if os.path.exists(recorder):
        shutil.copy(recorder, os.path.join(bundle, "lib"))
    os.chmod(os.path.join(bundle, "bin/bench_gpu"), 0o644)  # a transfer may lose the exec bit
    for split, lines in (("train", 40), ("valid", 12), ("test", 12)):
        text = "".join(" ".join(WORDS[(7 * i + j * j) % len(WORDS)] for j in range(9)) + "\n" for i in range(lines))
        write(os.path.join(bundle, f"data/ptb/ptb.{split}.txt"), text)
    write(os.path.join(bundle, "COMMIT"), "rehearsal\n")
    write(os.path.join(folder, "path/nvidia-smi"), NVIDIA_SMI, True)
    write(os.path.join(folder, "path/compute-sanitizer"), SANITIZER, True)
    return bundle


def call(bundle, folder, number):
    """Runs one call and returns (exit status, output)."""
    environment = {k: v for k, v in os.environ.items()
                   if k not in ("PLSTM", "PLSTM_BUILD", "PLSTM_LONG", "PLSTM_WITHOUT", "PLSTM_PLAN", "MAKEFLAGS",
                                "MFLAGS")}
    environment.update(PATH=os.path.join(folder, "path") + ":" + environment["PATH"], GPU_RUN_TINY="1",
                       GPU_RUN_LIMIT=LIMIT, OUT=os.path.join(folder, "out"),
                       PLSTM_CUDNN=os.path.join(bundle, "lib/libfake_cudnn.so"), EMU_PROTECT="0", EMU_DEVICE="H100",
                       EMU_QUIET="1", OMP_NUM_THREADS="1")
    command = [os.path.join(bundle, "tools/gpu_run.sh"), "--call", number, "--work", os.path.join(folder, "work")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, env=environment, cwd=bundle)
    return done.returncode, done.stdout


def read_archive(path):
    with tarfile.open(path) as tar:
        return {member.name.removeprefix("gpu-run/"): tar.extractfile(member).read() for member in tar}


def steps_of(files):
    """Returns [(stage, name, verdict, seconds)]."""
    lines = files["steps.tsv"].decode().splitlines()
    return [(part[0], part[1], part[2], float(part[3])) for part in (line.split("\t") for line in lines)]


def as_if_measured(files):
    """Returns the archive's files without the marks of the emulator, which ingest.py and the tables refuse. Only for a scratch copy."""
    swaps = ((rb'"emulated": "yes"', rb'"emulated": "no"'), (rb'"emulated": true', rb'"emulated": false'), (rb" emulated=yes", b""),
             (rb'"emulated[: ][^"]*"', f'"{GPU}"'.encode()), (rb'"corpus": *("[^"]*"|null)', b'"corpus": "Penn Treebank (a rehearsal)"'))
    for name in files:
        for old, new in swaps:
            files[name] = re.sub(old, new, files[name])
    return files


def file_results(files, folder):
    """Files the archive in a scratch copy of the tree and rebuilds RESULTS.md there. Returns (the copy, the output of a tool that
    failed)."""
    scratch, archive = os.path.join(folder, "scratch"), os.path.join(folder, "as-if-measured.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in as_if_measured(files).items():
            member = tarfile.TarInfo("gpu-run/" + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    os.makedirs(scratch)
    shutil.copytree(os.path.join(ROOT, "profiles"), os.path.join(scratch, "profiles"))
    shutil.copy(os.path.join(ROOT, "RESULTS.md"), scratch)
    results = os.path.join(ROOT, "tools/results.py")
    for more in (["--ingest", archive], []):
        done = subprocess.run([sys.executable, results, "--root", scratch, *more], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            return scratch, done.stdout
    return scratch, ""


def check_calls(faults, said, planted, files, steps):
    wanted = 1 if planted else 0
    for number, (status, text) in said.items():
        # Call 2 runs the failures of call 1 again, and they fail again.
        faults.want(status == wanted, f"call {number} ended with {status}, not {wanted}:\n{text}")
    bad = [step for step in steps if step[2] in ("failed", "timeout", "no time")
           and not (planted and any(name in step[1] for name in PLANTED))]
    faults.want(not bad, f"these steps did not pass: {bad}")
    for stage in ("preflight", "small", "rows", "torch", "medium", "large", "constants", "cudnn", "tests", "sanitize",
                  "precision", "parity", "profile", "fits"):
        faults.want(any(step[0] == stage for step in steps), f"stage {stage} left no step")
    for name in ("machine.json", "constants.json", "parity.jsonl", "ptb-small.jsonl", "ptb-small-bf16.jsonl",
                 "ptb-small-seed2.jsonl", "ptb-medium-bf16.jsonl",
                 "ptb-large-bf16.jsonl", "table.txt", "raw/preflight-libraries.txt", *(f"raw/tests-{test}.txt" for test in TESTS[:2])):
        faults.want(name in files, f"{name} is not in the archive")
    times = rows_with_times(files)
    known = kernel_list.telling()
    for variant, precision in [(v.name, p) for v in known for p in v.precisions] + [(known[0].name + "_tuned", "f32")]:
        for what in ("fwd", "bwd"):
            faults.want(f"lstm/{what}/{variant}/{precision}/H:20/B:3/T:5" in times, f"{what} of {variant} {precision} has no time")
    for row in ("step/cuda/bf16/H:20/B:3/T:5", *(f"layer/fwdbwd/{name}/H:20/B:3/T:5" for name in ("cluster/bf16", "mma/bf16", "cublas/tf32")),
                "lstm/fwdbwd/cudnn-standard/bf16/H:20/B:3/T:5"):
        faults.want(row in times, f"{row} has no time")


def rows_with_times(files):
    found = set()
    for name, data in files.items():
        if re.match(r"bench-.*\.json$", name):
            found |= {row["name"].split("/iterations")[0] for row in json.loads(data)["benchmarks"] if "median_us" in row}
    return found


def check_planted(faults, said, files, steps):
    left_out = json.loads(files["failed.json"])
    faults.want(set(left_out) == set(PLANTED), f"the variants left out are {left_out}, not exactly the four planted ones")
    for variant, begins in PLANTED.items():
        why = " ".join(left_out.get(variant, {}).values())
        faults.want(why.startswith(begins), f"the reason given for {variant} is wrong: {why}")
        faults.want(f"left out: {variant}: " in said["1"][1], f"call 1 does not name {variant} at its end")
        faults.want(("rows", f"rows-{variant}-20", "skipped") in [step[:3] for step in steps], f"the rows of {variant} were not skipped")
        faults.want(any(name.startswith(f"raw/preflight-{variant}-") and name.endswith("-after.txt") for name in files)
                    or variant == "wrong",
                    f"no step checked whether the GPU answered after {variant}")
        faults.want(any(step[0] == "failed" and variant in step[1] for step in steps), f"call 2 did not run {variant} again")
    first = files.get("raw/preflight-wrong-f32-fwd-first-element.txt", b"").decode()
    faults.want(re.search(r"first at t \d+, b \d+, gate \d, unit \d+: \S+, truth \S+; \d+ of \d+ differ, \d+ NaN", first),
                f"the first wrong element is not named: {first}")
    seconds = {step[1]: step[3] for step in steps if step[0] == "preflight"}
    faults.want(seconds.get("hangs-f32", 99) <= float(LIMIT) + 2, f"the planted hang took {seconds.get('hangs-f32')} s")


def check_results(faults, files, folder):
    scratch, fault = file_results(files, folder)
    if fault:
        faults.append(f"the archive cannot be filed: {fault}")
        return
    with open(os.path.join(scratch, "RESULTS.md"), encoding="utf-8") as f:
        page = f.read()
    owed = page.partition("<!-- begin:not-measured -->")[2].partition("<!-- end:not-measured -->")[0].strip()
    # Tiny shapes fill no row of the paper's shapes, but each kind of data exists.
    faults.want("H100 or H200" not in owed, f"RESULTS.md still lists as missing what came back: {owed}")
    faults.want(GPU in page and "H 20, B 3, T 5" in page, "RESULTS.md does not have the rehearsal's rows")


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.abspath(options.folder or temporary)
        bundle = make_bundle(os.path.abspath(options.build), folder, options.planted)
        said, faults = {number: call(bundle, folder, number) for number in ("1", "2")}, Faults()
        archive = os.path.join(folder, "out/gpu-run.tar.gz")
        if not os.path.exists(archive):
            sys.exit(f"rehearse: nothing came back:\n{said['1'][1]}\n{said['2'][1]}")
        out = os.listdir(os.path.dirname(archive))
        faults.want(len(out) <= 8 and all(os.path.getsize(os.path.join(folder, "out", f)) < 16 << 20 for f in out),
                    f"the results are too many or too large to transfer: {out}")
        files = read_archive(archive)
        steps = steps_of(files)
        for stage, name, verdict, seconds in steps:
            print(f"{stage:12} {name:34} {verdict:8} {seconds:5.1f} s")
        print(f"{sum(step[3] for step in steps):.0f} s in {len(steps)} steps")
        check_calls(faults, said, options.planted, files, steps)
        if options.planted:
            check_planted(faults, said, files, steps)
        check_results(faults, files, folder)
    for fault in faults:
        print(f"rehearse: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
