#!/usr/bin/env python3
"""Times other libraries' LSTMs at our shapes: cuDNN through PyTorch, FlashRNN, Haste, and a whole training step in PyTorch.

    torch_peer.py --out FILE [--seconds S] [--noise N] [--flashrnn FOLDER] [--haste FOLDER] [--filter REGEX] [--tiny]

    lstm/fwd/cudnn/PREC/H:650/B:20/T:35             nn.LSTM, one layer, with the input projection; fwdbwd: with every gradient
    lstm2/fwdbwd/cudnn/PREC/...                     num_layers=2 with dropout between; cudnn-dropout3: two modules, F.dropout around each
    step/torch/PREC/H:650/B:20/T:35                 a training minibatch of our model, embedding to update
    lstm/fwd/flashrnn/bf16/H:672/B:24/T:35          FlashRNN's fused kernel at sizes that it supports, with the input projection
    lstm/fwd/flashrnn-recurrence/bf16/...           without the input projection; also fwdbwd
    lstm/fwd/haste/f32/H:650/B:20/T:35              Haste; also fwdbwd

The shapes are the paper's three and H=768 B=16 T=1024, for which times are published and which is measured first. Rows are replays of a
CUDA graph; rows that end in /eager call the library. PREC is f32 (TF32 off), tf32, f16 or bf16. FlashRNN and Haste are imported from the
user's own copies; without a copy their rows are refused.

Before a program is timed, its outputs and gradients are compared with float64. torch.profiler records the names of the kernels, so that the
algorithm is known and not assumed. FILE is {"context": ..., "benchmarks": [rows]}. A row has the fields of bench_gpu: median_us,
lo_us .. hi_us (95 % interval of the median), min_us, p10_us, p90_us, riqr, samples, us_per_step, words/s, FLOP/s, error, bound and a
label with the reason why the measurement stopped, by the same rules (bench/measure.h); and kernels, [[name, launches, microseconds]].
Instead of a time, the row of a program that cannot run has an "error" that begins with "refused: ", and that of a program with a wrong
result one that begins with "wrong: ".

--tiny measures one tiny shape, on the CPU if there is no GPU, to test this program; such a file says "emulated": "yes" and is not filed.
Exit status: 0 done, 1 nothing could be measured or something is wrong, 4 no GPU, 77 no PyTorch.
"""
import argparse
import bisect
import json
import math
import os
import re
import sys
import time

import torch_programs as programs

# H, B, T; keep, init, clip of the model (bench/axes.cpp)
MODELS = {(200, 20, 20): (1.0, 0.1, 5), (650, 20, 35): (0.5, 0.05, 5), (1500, 20, 35): (0.35, 0.04, 10)}
ANCHOR = (768, 16, 1024)
TINY = {(20, 3, 5): (0.5, 0.1, 5)}
# For each of our shapes, the nearest one for which FlashRNN's solver finds a plan.
FLASHRNN = {(200, 20, 20): (224, 24, 20), (650, 20, 35): (672, 24, 35), (1500, 20, 35): (1504, 24, 35), ANCHOR: ANCHOR}


# ---- a converged measurement: bench/measure.h without the clock, which PyTorch does not report ----


def quantile(ordered, share):
    at = share * (len(ordered) - 1)
    i = int(at)
    return ordered[i] + (at - i) * (ordered[min(i + 1, len(ordered) - 1)] - ordered[i])


def median_rank(n):
    """Returns the rank of the lower order statistic that, with its mirror image, encloses the median in 95 % of cases."""
    below = 0.0
    for k in range(n // 2):
        below += math.comb(n,
                           k) * 0.5**n if n < 1000 else math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(
                               n - k + 1) + n * math.log(0.5))
        if below > 0.025:
            return max(k - 1, 0)
    return 0


class Measurement:
    LEAST, SETTLED, WINDOW = 10, 0.05, 32

    def __init__(self, seconds, noise):
        self.seconds, self.noise, self.samples, self.noises, self.why = seconds, noise, [], [], None

    def riqr(self):
        return (quantile(self.samples, 0.75) - quantile(self.samples, 0.25)) / quantile(self.samples, 0.5)

    def settled(self):
        last = self.noises[-self.WINDOW:]
        return len(last) == self.WINDOW and max(last) - min(last) <= self.SETTLED * sum(last) / self.WINDOW

    def add(self, us, seconds):
        bisect.insort(self.samples, us)
        if len(self.samples) >= self.LEAST:
            self.noises.append(self.riqr())
        if self.noises and self.noises[-1] < self.noise:
            self.why = "noise"
        elif self.settled():
            self.why = "settled"
        elif seconds >= self.seconds:
            self.why = "time"

    def result(self):
        us, rank = self.samples, median_rank(len(self.samples))
        return {"median_us": quantile(us, 0.5), "lo_us": us[rank], "hi_us": us[-1 - rank], "min_us": us[0], "p10_us": quantile(us, 0.1),
                "p90_us": quantile(us, 0.9), "riqr": self.riqr(), "samples": len(us), "label": f"stop={self.why}"}


class Timer:
    """Times passes on the GPU with events, on the CPU with its clock."""

    def __init__(self, torch, device, seconds, noise):
        self.torch, self.device, self.seconds, self.noise = torch, device, seconds, noise

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def once(self, run):
        """Calls run() once and returns its time in microseconds."""
        if self.device != "cuda":
            before = time.perf_counter()
            run()
            return (time.perf_counter() - before) * 1e6
        before, after = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.torch.cuda._sleep(60000)  # about 30 us, as in bench_gpu, during which the launches queue up
        before.record()
        run()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) * 1e3

    def converge(self, run):
        """Returns the converged measurement of one pass; run() makes one pass over each input set."""
        for _ in range(3):
            run()
        self.wait()
        measurement, begin = Measurement(self.seconds, self.noise), time.monotonic()
        while not measurement.why:
            us = self.once(run) / programs.INPUTS
            measurement.add(us, time.monotonic() - begin)
        return measurement.result()

    def eager(self, program):
        return self.converge(lambda: all_sets(program))

    def graphed(self, program):
        if self.device != "cuda":
            raise programs.Refused("a CPU has no CUDA graphs")
        side = self.torch.cuda.Stream()
        side.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(side):
            all_sets(program)
        self.torch.cuda.current_stream().wait_stream(side)
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            all_sets(program)
        return self.converge(graph.replay)

    def kernels(self, program):
        """Returns [[name, launches, microseconds]] of one pass, the longest first."""
        if self.device != "cuda":
            return []
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            program.run()
            self.wait()
        found = {}
        for event in seen.events():
            if event.device_type == self.torch.autograd.DeviceType.CUDA:
                count, spent = found.get(event.name, (0, 0.0))
                found[event.name] = (count + 1, spent + event.time_range.elapsed_us())
        return [[name[:120], count, round(spent, 1)] for name, (count, spent) in sorted(found.items(), key=lambda f: -f[1][1])][:8]


def all_sets(program):
    for i in range(programs.INPUTS):
        program.run(i)


# ---- rows ----


def precisions(torch):
    return {"f16": torch.float16, "f32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Case:
    """A program to construct and the names of its rows; its graph is one row and its eager calls are another."""

    def __init__(self, name, word, make, notes=None, foreign=False):
        self.name, self.word, self.make, self.notes = name, word, make, notes or {}
        # The exceptions that mean that a program cannot run; a library from a user's folder may raise any.
        self.refusals = Exception if foreign else (RuntimeError, programs.Refused)


def cases(torch, device, models, anchor, flashrnn=None, haste=None):
    """Returns every Case, the most important first."""
    found, tail = [], "H:{}/B:{}/T:{}".format
    directions = (("fwd", False), ("fwdbwd", True))

    def layers(shape, dtypes):
        for word, dtype in dtypes.items():
            for what, backward in directions:
                found.append(Case(f"lstm/{what}/cudnn/{word}/{tail(*shape)}", word,
                                  lambda s=shape, w=word, d=dtype, b=backward: programs.Layers(torch, s, w, d, device, b)))

    every = precisions(torch)
    if anchor:  # the shape with published times comes first
        layers(anchor, every)
    for shape, (keep, init, clip) in models.items():
        for word in ("f32", "tf32", "bf16"):
            found.append(Case(f"step/torch/{word}/{tail(*shape)}", word,
                              lambda s=shape, w=word, k=(keep, init, clip): programs.Step(torch, s, w, every[w], device, *k)))
    for shape in models:
        layers(shape, every)
    for shape in [*([anchor] if anchor else []), *models]:
        larger = FLASHRNN.get(shape, shape)
        notes = {"stands_for": tail(*shape)} if larger != shape else {}
        for what, backward in directions:
            for product in (True, False):
                found.append(Case(f"lstm/{what}/flashrnn{'' if product else '-recurrence'}/bf16/{tail(*larger)}", "bf16",
                                  lambda s=larger, b=backward,
                                  p=product: programs.FlashRnn(torch, flashrnn, s, "bf16", torch.bfloat16, device, b,
                                                               p), notes, True))
            found.append(Case(f"lstm/{what}/haste/f32/{tail(*shape)}", "f32",
                              lambda s=shape, b=backward: programs.Haste(torch, haste, s, "f32", torch.float32, device, b), None, True))
    for shape, (keep, _, _) in models.items():
        for word, dtype in every.items():
            for name, modules in (("cudnn", 1), ("cudnn-dropout3", 2)):
                found.append(Case(f"lstm2/fwdbwd/{name}/{word}/{tail(*shape)}", word,
                                  lambda s=shape, w=word, d=dtype, m=modules,
                                  k=keep: programs.Layers(torch, s, w, d, device, True, 2, m, k)))
    return found


def refusal(name, fault):
    first = (str(fault).splitlines() or [type(fault).__name__])[0]
    return {"name": name, "error": "refused: " + first[:300]}


def measure(torch, case, timer):
    """Returns the rows of one case, by graph and eager, or one row with an error if it cannot run or is wrong."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = case.word == "tf32"
    try:
        program = case.make()
        error = program.error()
        if not error <= program.bound:
            return [{"name": case.name, "error": f"wrong: off by {error:.3g} of the largest value, {program.bound:g} is allowed"}]
        common = {"error": error, "bound": program.bound, "kernels": timer.kernels(program),
                  "tf32": torch.backends.cudnn.allow_tf32, **case.notes}
    except case.refusals as fault:
        return [refusal(case.name, fault)]
    rows = []
    for suffix, how in (("", timer.graphed), ("/eager", timer.eager)):
        try:
            times = how(program)
            us = times["median_us"]
            rows.append({"name": case.name + suffix, **times, "us_per_step": us / program.T, "words/s": program.words / us * 1e6,
                         "FLOP/s": program.flops / us * 1e6, **common})
        except case.refusals as fault:
            rows.append(refusal(case.name + suffix, fault))
    return rows


def context(torch, device):
    gpu = torch.cuda.get_device_name() if device == "cuda" else "emulated: a CPU"
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "gpu": gpu,
            "emulated": "no" if device == "cuda" else "yes", "inputs": programs.INPUTS,
            "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE")}


def write(path, value):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=0.4, help="the most seconds per row (default 0.4)")
    parser.add_argument("--noise", type=float, default=0.005, help="relative interquartile range that ends a row (default 0.005)")
    parser.add_argument("--flashrnn", metavar="FOLDER", help="folder with a copy of the package flashrnn")
    parser.add_argument("--haste", metavar="FOLDER", help="folder with a built copy of haste_pytorch")
    parser.add_argument("--filter", type=re.compile, default=re.compile(""), metavar="REGEX", help="measure only rows whose name matches")
    parser.add_argument("--tiny", action="store_true", help="measure one tiny shape, to test this program")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("torch_peer: this Python has no PyTorch", file=sys.stderr)
        return 77
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.tiny:
        print("torch_peer: PyTorch finds no GPU here", file=sys.stderr)
        return 4
    if arguments.tiny:
        programs.VOCABULARY = 50
    result, wrong = {"context": context(torch, device), "benchmarks": []}, False
    timer = Timer(torch, device, arguments.seconds, arguments.noise)
    models, anchor = (TINY, None) if arguments.tiny else (MODELS, ANCHOR)
    for case in cases(torch, device, models, anchor, arguments.flashrnn, arguments.haste):
        if not arguments.filter.search(case.name):
            continue
        rows = measure(torch, case, timer)
        result["benchmarks"] += rows
        for row in rows:
            text = f"{row['median_us']:10.1f} us  {row['lo_us']:.1f} .. {row['hi_us']:.1f}" if "median_us" in row else row["error"]
            wrong = wrong or text.startswith("wrong: ")
            print(f"{row['name']:56} {text}", flush=True)
        write(arguments.out, result)  # a run that is stopped keeps its finished rows
    # One row with an error means that something is not supported; if all rows have errors, nothing could be measured.
    return 1 if wrong or not any("median_us" in row for row in result["benchmarks"]) else 0


if __name__ == "__main__":
    sys.exit(main())
