"""Runs everything that needs a GPU, in calls of less than ten minutes, on a machine that has a GPU for a quarter of an hour.

    gpu_run.sh [--call 1|2|more] [--budget SECONDS] [--stages NAME,NAME...] [--skip NAME,NAME...] [--without KERNEL,KERNEL...]
               [--data DIR] [--work DIR] [--out DIR] [--dry-run]

Call 1 (570 s), the most important stages first:
    preflight    the machine, the opened libraries, 20 training steps of every variant in every precision, each in a process of its own
    small        Penn Treebank, preset small, bf16 and f32
    rows         every variant at H 650, 1500 and 200, in a process for each variant and H; the whole step
    tests        test_kernels, test_backend_cuda
    torch        PyTorch's headline cases: the shape with published times, the training step, nn.LSTM
    cudnn        a whole layer: ours, and cuDNN's through its C API, standard and static, in a process of its own for each H
    medium       Penn Treebank in bf16
    constants    the cost per byte, multiplication, launch and wait on this GPU
    large        Penn Treebank in bf16; last, since a training that reaches its limit leaves its log and checkpoint
Call 2 (150 s), which may stop at any point:
    failed       the failures of call 1, again under compute-sanitizer
    sanitize     memcheck and racecheck of a tiny training
    precision    test_cuda_precision
    parity       Penn Treebank, preset small, seeds 2 and 3, and the cost of bf16 in perplexity
    profile      Nsight Compute on the variants on tensor cores
    fits         the recurrence over its length
Call more is for a machine that is available for longer: the other rows, trainings, profiles and tests, compute-sanitizer over test_kernels.

Every step is a process group with its own limit. A step that hangs is killed; a process that cannot be killed is left behind. A variant
that fails its preflight is named and left out of the later stages (PLSTM_WITHOUT excludes it from `auto`). After a failure, `plstm
devices` checks whether the GPU still answers; if it does not, the call ends, since a fresh machine is needed. A training that fails is
tried once more with --kernel cublas.

After every step the script rewrites the results in DIR (--out, else $OUT, else build/gpu_run/out): gpu-run.tar.gz, which `tools/results.py
--ingest` files, and its small parts beside it; at most 8 files, none over 16 MB. The work folder is --work (build/gpu_run; a RAM disk
such as /dev/shm/plstm is faster). Call 2 finds the files of call 1 there, and an unfinished training its checkpoint. The programs come
from gpu-bundle/ (make gpu-bundle) or, if there is none, are built here.

Exit status: 0 everything that ran passed, 1 something failed, 2 usage, 4 no GPU. A training that reached its limit is no failure.
"""
import argparse
import dataclasses
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

import cases
import watched

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESERVE = 15  # seconds kept for stopping and packing
ROOM = 2 << 30  # bytes for checkpoints, logs and profiles; a container's /dev/shm may have only 64 MB
CALLS = {
    "1": (570, ("preflight", "small", "rows", "tests", "torch", "cudnn", "medium", "constants", "large")),
    "2": (150, ("failed", "sanitize", "precision", "parity", "profile", "fits")),
    "more": (570, ("peers", "kernels", "trainings", "seeds", "torch-all", "profile-all", "tests-all", "sanitize-kernels")),
}
STAGES = tuple(stage for _, stages in CALLS.values() for stage in stages)


class Dead(Exception):
    """Raised when the GPU does not answer."""


@dataclasses.dataclass
class Outcome:
    verdict: str  # ok, failed, timeout, part, no time, skipped
    status: object = 0
    path: str = ""  # the file with the output

    @property
    def ok(self):
        return self.verdict == "ok"

    def said(self):
        try:
            with open(self.path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""


class Run:
    """One call: its folders, the time left, and the record of its steps."""

    def __init__(self, options):
        self.options, self.dry = options, options.dry_run
        self.began = time.monotonic()
        self.failures = self.seconds = 0
        self.stage = self.shown = ""
        self.packing = None
        self.tiny = os.environ.get("GPU_RUN_TINY") == "1"
        # Seconds that a step may take if it only shows whether something works. The rehearsal sets fewer, so that a
        # planted hang ends soon.
        self.short = float(os.environ.get("GPU_RUN_LIMIT", 15))
        self.cold = 4 * self.short  # for the first use of a driver or library, which may come slowly from a cold disk
        self.bundle = "." if os.path.exists("bin/plstm") else "gpu-bundle" if os.path.exists("gpu-bundle/bin/plstm") else ""
        top = "build/gpu" if not self.bundle else self.bundle
        self.top, self.bin, self.tests = top, os.path.normpath(f"{top}/bin"), os.path.normpath(f"{top}/tests")
        self.work = options.work
        self.plstm, self.bench = f"{self.bin}/plstm", f"{self.bin}/bench_gpu"
        self.data = options.data or next((d for d in (f"{top}/data/ptb", "data/ptb", "../shared/data/ptb")
                                          if glob.glob(f"{d}/ptb.train.txt*") or os.path.exists(f"{d}/train.txt")), "")
        # {variant: {precision: why}}
        self.bad = {name: {"any": "--without"} for name in options.without.split(",") if name}
        self.order = cases.tiny_order() if self.tiny else cases.ORDER

    # ---- time ----

    def left(self):
        return self.options.budget - RESERVE - (time.monotonic() - self.began)

    # ---- records ----

    def file(self, *names):
        return os.path.join(self.work, *names)

    def keep(self, name, verdict, seconds, limit, status, command):
        line = "\t".join(str(part) for part in (self.stage, name, verdict, round(seconds, 1), round(limit), status, command))
        with open(self.file("steps.tsv"), "a", encoding="utf-8") as f:
            f.write(line.replace("\n", " ") + "\n")
        print(f"{self.stage:12} {name:30} {verdict:8} {seconds:6.1f} s", flush=True)

    def remember_bad(self):
        with open(self.file("failed.json.part"), "w", encoding="utf-8") as f:
            json.dump(self.bad, f)
        os.replace(self.file("failed.json.part"), self.file("failed.json"))

    def recall_bad(self):
        try:
            with open(self.file("failed.json"), encoding="utf-8") as f:
                self.bad = {**json.load(f), **self.bad}
        except (OSError, ValueError):
            pass

    def blame(self, variant, precision, why):
        self.bad.setdefault(variant, {})[precision] = why
        print(f"             {variant} {precision}: {why}", flush=True)
        self.remember_bad()

    def why_bad(self, variant, precision):
        found = self.bad.get(variant, {})
        return found.get(precision) or found.get("any")

    # ---- steps ----

    def environment(self, extra, precision):
        """Returns the environment of a step in one precision, or in any (None), without the variants that failed in it for `auto`."""
        without = ",".join(v for v in self.bad if v in cases.ON_CHIP and (precision is None or self.why_bad(v, precision)))
        return {**os.environ, **({"PLSTM_WITHOUT": without} if without else {}), **extra}

    def step(self, name, seconds, limit, command, part=False, grace=0.0, gpu=True, precision=None, **environment):
        """Runs the command for at most `limit` seconds, with its output in raw/STAGE-NAME.txt and its result in steps.tsv. part: reaching
        the limit is no failure. grace: seconds between TERM and KILL, for a program that has something to save."""
        if self.dry:
            if self.shown != self.stage:
                print(self.stage)
                self.shown = self.stage
            self.seconds += seconds
            settings = "".join(f"{key}={value} " for key, value in environment.items())
            print(f"  {name:28} {seconds:4g} s of {limit:3g}  {settings}{' '.join(command)}")
            return Outcome("ok")
        path = self.file("raw", f"{self.stage}-{name}.txt")
        room = self.left()
        if room < 2:
            self.failures += not part and self.options.call != "2"
            self.keep(name, "no time", 0, limit, "-", " ".join(command))
            return Outcome("no time")
        done = watched.run(command, path, min(limit, room), grace=grace, environment=self.environment(environment, precision))
        # A Python tool exits with 77 if its subject is not installed here.
        verdict = "ok" if done.status == 0 else "skipped" if done.status == 77 else "part" if done.timed_out and part \
            else "timeout" if done.timed_out else "failed"
        self.failures += verdict in ("failed", "timeout")
        status = "unkillable" if done.left_behind else done.status
        self.keep(name, verdict, done.seconds, limit, status, " ".join(command))
        outcome = Outcome(verdict, status, path)
        if verdict in ("failed", "timeout") and gpu:
            self.after_failure(name)
        self.pack()
        return outcome

    def skip(self, name, why):
        if not self.dry:
            self.keep(name, "skipped", 0, 0, "-", why)

    def refuse(self, name, sentence):
        """Records a step that cannot run as a failure with a reason."""
        if self.dry:
            print(f"  {name:28}    0 s  ({sentence})")
            return
        with open(self.file("raw", f"{self.stage}-{name}.txt"), "w", encoding="utf-8") as f:
            f.write(sentence + "\n")
        self.failures += 1
        self.keep(name, "failed", 0, 0, "-", sentence)

    def after_failure(self, name):
        """Checks whether the device still answers and keeps the messages of the driver and the kernel log. Raises Dead."""
        path, begin = self.file("raw", f"{self.stage}-{name}-after.txt"), time.monotonic()
        limit = min(8, self.short, self.left())
        if limit < 1:
            return
        for _ in range(3):
            answers = watched.run([self.plstm, "devices"], path, limit).status == 0
            if answers:
                break
            time.sleep(1)
        log = "dmesg 2>/dev/null | grep -e Xid -e NVRM | tail -n 20; nvidia-smi; nvidia-smi -q -d PERFORMANCE,ECC,PAGE_RETIREMENT"
        watched.run(["sh", "-c", log], path, limit, append=True)
        self.keep(f"{name}-after", "ok" if answers else "failed", time.monotonic() - begin, limit, "-",
                  "plstm devices, Xid lines, nvidia-smi")
        if not answers:
            raise Dead(f"the GPU no longer answers since {self.stage} {name}")

    # ---- packing ----

    def pack(self, wait=False):
        """Packs the results into the output folder while the next step runs."""
        if self.dry:
            return
        if self.packing and self.packing.poll() is None:
            if self.packing.wait(15 if wait else 3) is None and not wait:
                return  # the archive after the next step will contain this step too
            self.packing.end()
        self.packing = watched.start(["python3", "tools/results/ingest.py", "--pack", self.work, self.options.out], self.file("pack.txt"))
        if wait and not self.packing.wait_or_kill(15):
            self.failures += 1
            print("gpu_run: the results could not be packed in 15 s", file=sys.stderr)

    # ---- shared by the stages ----

    def train(self, preset, precision, seed, seconds, limit):
        """Runs one training on Penn Treebank to its end, from its checkpoint if there is one."""
        if not self.data:
            self.refuse("corpus", "no Penn Treebank was found; tools/fetch_ptb.sh downloads it to data/ptb, and --data sets another folder")
            return
        name = preset + ("" if precision == "f32" else f"-{precision}") + ("" if seed == 1 else f"-seed{seed}")
        log, saved = self.file(f"ptb-{name}.jsonl"), self.file(f"ptb-{name}.safetensors")
        if not self.dry and cases.ended(log):
            self.keep(name, "ok", 0, 0, 0, "done by an earlier call")
            return
        fresh = ["--preset", preset, "--seed", str(seed), "--precision", precision, *(cases.TINY_PTB if self.tiny else ())]
        for kernel in ([], ["--kernel", "cublas"]):
            begin = ["--resume", saved] if os.path.exists(saved) else fresh
            more = ["--log-json", log, "--log-every", "10", "--save", saved]
            done = self.step(name + ("-cublas" if kernel else ""), 0 if kernel else seconds, limit,
                             [self.plstm, "train", *begin, *kernel, "--data", self.data, "--backend", "cuda", *more],
                             part=True, grace=8, precision=precision,
                             PLSTM_TUNE="1")
            if not self.dry and done.verdict == "part" and self.hung(log):
                self.failures += 1
                self.keep(f"{name}-hung", "failed", 0, limit, "-", "it took no step")
                self.after_failure(name)
            elif self.dry or done.verdict != "failed":
                return
            if not os.path.exists(saved) and os.path.exists(log):
                os.replace(log, self.file("raw", f"{self.stage}-{name}-failed.jsonl"))

    def hung(self, log):
        """Returns whether a training reached its limit before its first step."""
        return not any(e.get("event") == "step" for e in cases.json_lines(log))

    def rows(self, name, H, seconds, limit, pattern, *options):
        """Runs the rows of bench_gpu whose names match, into bench-NAME-H.json. bench_gpu stops by itself before the limit."""
        return self.step(f"{name}-{H}", seconds, limit,
                         [self.bench, *(["--tiny"] if self.tiny else ["--seconds=0.25"]), f"--h={H}", f"--benchmark_filter={pattern}",
                          f"--budget={round(limit * 0.75)}", *options, f"--benchmark_out={self.file(f'bench-{name}-{H}.json')}",
                          "--benchmark_out_format=json"], PLSTM_TUNE="1")

    def test(self, name, seconds, limit):
        program = f"{self.tests}/{name}"
        if not self.dry and not os.access(program, os.X_OK):
            self.refuse(name, f"there is no {program}")
            return
        one = {"PLSTM_TEST_CASE": cases.TINY_TESTS[name]} if self.tiny else {}
        self.step(name, seconds, limit, ["tools/gpu_run.sh", "--test", program], grace=8, PLSTM_TEST_LIMIT=str(max(limit - 6, 2)), **one)

    def profile(self, kernel, precision, seconds, limit):
        # Nsight Compute cannot profile an emulated GPU; our own recorder can.
        how = ["TOOL=trace", "STEPS=2", *cases.TINY_PROFILE] if self.tiny else ["TOOL=ncu", "METRICS=roofline", "SASS=0", "H=650", "B=20", "T=35"]
        why = self.why_bad(kernel, precision)
        if why:
            self.skip(f"{kernel}-{precision}", why)
            return
        self.step(f"{kernel}-{precision}", seconds, limit,
                  ["tools/profile.sh", f"PLSTM={self.plstm}", f"BENCH={self.bench}", f"BUILD={self.top}", f"K={kernel}",
                   f"PRECISION={precision}", *how,
                   f"OUT={self.file('profile', f'{kernel}-{precision}')}"])


# ---- a test program ----

ALLOWED = re.compile(r"emulator|real GPU|make test-long|real cuBLASLt|no kernel on tensor cores")


def test_program(run, program):
    """Runs a test program under run_tests.py with REQUIRE_GPU=1 and returns the exit status. A case may be skipped only
    because it tests the emulator, belongs to a long list or cannot run on a real GPU (ALLOWED). At least one kernel or
    graph must be launched on the GPU, unless all cases were skipped; liblaunch_count.so counts the launches in the
    program."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # run_tests.py handles it: it prints its program's output and ends
    counts = f"{os.environ.get('TMPDIR', '/tmp')}/plstm-launches-{os.getpid()}"
    environment = {**os.environ, "REQUIRE_GPU": "1", "PLSTM": os.environ.get("PLSTM", run.plstm), "PLSTM_LAUNCHES": counts,
                   "CUDA_INJECTION64_PATH": os.path.abspath(f"{run.top}/lib/liblaunch_count.so")}
    command = [sys.executable, "tools/make/run_tests.py", "--build", run.top, "--limit", os.environ.get("PLSTM_TEST_LIMIT", "170"), program]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    said = []
    for line in child.stdout:
        said.append(line.rstrip("\n"))
        print(said[-1], flush=True)
    status, launches = child.wait(), 0
    if os.path.exists(counts):
        with open(counts, encoding="utf-8") as f:
            launches = sum(map(int, f.read().split()))
        os.remove(counts)
    print(f"kernels and graphs launched: {launches}")
    if any(line.lstrip().startswith("skipped ") and not ALLOWED.search(line) for line in said):
        print("a skip is a failure on a machine with a GPU")
        status = 1
    if status == 0 and said and said[-1].startswith("0 passed"):
        print("all of its cases test the emulator")
    elif launches == 0:
        print("nothing was launched on the GPU")
        status = 1
    return status


# ---- the machine ----


def cuda_folders():
    """Returns the folders of cuBLAS, cuDNN and CUPTI for the programs that search for them: those of the toolkit and of Python packages."""
    folders, paths = [], sysconfig.get_paths()
    for root in filter(None, [os.environ.get("CUDA_HOME"), *sorted(glob.glob("/usr/local/cuda*"))]):
        folders += [f"{root}/lib64", f"{root}/extras/CUPTI/lib64"]
    for root in dict.fromkeys([paths["purelib"], paths["platlib"]]):
        for library in ("libcublas.so.*", "libcudnn.so.*", "libcupti.so.*"):
            folders += [os.path.dirname(path) for path in sorted(glob.glob(f"{root}/nvidia/*/lib/{library}"))]
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def asked(command, limit):
    """Returns a command's standard output, or None if it fails or takes longer than the limit."""
    done = watched.output(command, limit)
    return done.strip() if done is not None else None


def prepare(run):
    """Prepares the folders, the libraries and the record of this call. Returns an exit status, or None to continue."""
    gpu = asked(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], run.cold)
    if not gpu:
        print("gpu_run: nvidia-smi shows no GPU here; --dry-run prints what would run", file=sys.stderr)
        return 4
    os.makedirs(run.file("raw"), exist_ok=True)
    if shutil.disk_usage(run.work).free < ROOM:
        print(f"gpu_run: {run.work} has less than {ROOM >> 30} GiB left for checkpoints, so build/gpu_run is used instead", file=sys.stderr)
        run.work = "build/gpu_run"
        os.makedirs(run.file("raw"), exist_ok=True)
    os.makedirs(run.options.out, exist_ok=True)
    run.lock = open(run.file("lock"), "w", encoding="utf-8")
    try:
        fcntl.flock(run.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"gpu_run: another call is running in {run.work}; wait for it, or give another --work", file=sys.stderr)
        return 1
    forget(run)
    commit = asked(["sh", "-c", f"cat {run.bundle or '.'}/COMMIT 2>/dev/null || git rev-parse --short=12 HEAD"], run.short) or "unknown"
    with open(run.file("machine.json"), "w", encoding="utf-8") as f:
        json.dump({"hardware": gpu.splitlines()[0], "commit": commit}, f)
    folders = asked(["python3", os.path.abspath(__file__), "--folders"], run.short) or ""
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, [folders, os.environ.get("LD_LIBRARY_PATH")]))
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", CMOCKA_MESSAGE_OUTPUT="TAP")
    # The largest files of a bundle are compressed, and a transfer may lose the exec bits.
    for packed in [path for folder in ("lib", "tests", "data/ptb") for path in glob.glob(f"{run.top}/{folder}/*.gz")]:
        if not os.path.exists(packed[:-3]):
            asked(["sh", "-c", f"gunzip -c '{packed}' >'{packed[:-3]}.part' && mv '{packed[:-3]}.part' '{packed[:-3]}'"], 60)
    for path in glob.glob(f"{run.bin}/*") + glob.glob(f"{run.tests}/test_*") + glob.glob("tools/**/*.sh", recursive=True):
        if not os.access(path, os.X_OK):
            os.chmod(path, 0o755)
            print(f"             {path} had no exec bit")
    if run.options.call != "1" or "preflight" not in run.wanted:
        run.recall_bad()
    return None


def forget(run):
    """Deletes the results of earlier calls for the stages that run now; the results of other stages go into the archive again."""
    path = run.file("steps.tsv")
    lines = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            lines = [line for line in f if line.split("\t", 1)[0] not in run.wanted]
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines)
    for stage in run.wanted:
        for old in glob.glob(run.file("raw", f"{stage}-*")):
            os.remove(old)
    patterns = {"constants": "constants.json", "torch": "torch.json", "preflight": "failed.json", "rows": "bench-rows-*.json",
                "cudnn": "bench-[cl]*-*.json", "fits": "bench-fit-*.json"}
    for stage, pattern in patterns.items():
        for old in glob.glob(run.file(pattern)) if stage in run.wanted else ():
            os.remove(old)


def main():
    if sys.argv[1:] == ["--folders"]:
        print(":".join(cuda_folders()))
        return 0
    parser = argparse.ArgumentParser(prog="gpu_run", allow_abbrev=False, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--call", choices=tuple(CALLS), default="1")
    parser.add_argument("--budget", type=int)
    for name in ("stages", "skip"):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","), default=None)
    parser.add_argument("--without", default="")
    parser.add_argument("--data")
    parser.add_argument("--work", default="build/gpu_run")
    parser.add_argument("--out", default=os.environ.get("OUT") or "build/gpu_run/out")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--test", metavar="PROGRAM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in (options.stages or []) + (options.skip or []):
        if name not in STAGES:
            parser.error(f"unknown stage '{name}'; the stages are {', '.join(STAGES)}")
    os.chdir(ROOT)
    budget, stages = CALLS[options.call]
    options.budget = budget if options.budget is None else options.budget
    run = Run(options)
    if options.test:
        return test_program(run, options.test)
    run.wanted = [s for s in STAGES if s in (options.stages or stages) and s not in (options.skip or [])]
    if not run.dry:
        status = prepare(run)
        if status is not None:
            return status
    return every_stage(run)


def sample_clocks(run):
    """Records the clocks until the call ends, so that throttling is visible. Where persistence mode is off, this also keeps the driver
    from initialising the GPU anew for every step."""
    query = "timestamp,clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"
    watched.start(["nvidia-smi", f"--query-gpu={query}", "--format=csv", "-lms", "500"], run.file("raw", f"call-{run.options.call}-clocks.csv"))


def every_stage(run):
    def stop(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    if not run.dry:
        sample_clocks(run)
    try:
        if not run.bundle:
            run.stage = "build"
            run.step("programs", 0, 300, ["make", "CUDA=1", "GPU_BUNDLE=build/gpu", "gpu-bundle"], gpu=False)
        for stage in run.wanted:
            run.stage = stage
            try:
                cases.STAGES[stage](run)
            except Dead:
                raise
            except Exception as fault:  # a fault of this program; the other stages still run
                run.refuse("program", f"{type(fault).__name__}: {fault}")
    except Dead as sentence:
        run.failures += 1
        run.keep("gpu", "failed", 0, 0, "-", str(sentence))
        print(f"gpu_run: {sentence}; use a fresh machine, and --without to leave kernels out", file=sys.stderr)
    except SystemExit as fault:
        watched.end_all()
        run.pack(wait=True)
        return fault.code
    finally:
        watched.end_all(but=run.packing)
    if run.dry:
        total = run.seconds + RESERVE
        print(f"{run.seconds:g} s and a reserve of {RESERVE} s: {total:g} s of {run.options.budget}")
        return 0
    run.pack(wait=True)
    print(asked(["python3", "tools/results/ingest.py", "--table", run.work], 8) or "")
    for variant, why in run.bad.items():
        print(f"left out: {variant}: " + "; ".join(f"{precision} {text}" for precision, text in why.items()))
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
