#!/usr/bin/env python3
"""cuDNN's LSTM as PyTorch's users have it, timed at our shapes: the field that plstm is measured against.

    torch_peer.py --out FILE [--seconds N] [--tiny]

nn.LSTM at the paper's three shapes and at H=768 B=16 T=1024, for which times are published: one layer forward, and forward with
backward (gradients of input, weights and biases), in float32 with TF32 off and on, float16 and bfloat16; called eagerly and replayed
as a CUDA graph. Then two layers as a model needs them: num_layers=2 with dropout between, and two modules with F.dropout around.
The input projection is part of every time here, and is not part of our lstm/ rows.

Before a shape is timed, its outputs and gradients are compared with the same module in float64. torch.profiler names the kernels that
ran, so that the algorithm is seen rather than assumed. FILE holds {"context": ..., "benchmarks": [rows]}, a row like those of bench_gpu:
name, median_us, p10_us, p90_us, min_us, samples, error, and kernels.
"""
import argparse
import json
import os
import sys
import time

SHAPES = ((200, 20, 20), (650, 20, 35), (1500, 20, 35), (768, 16, 1024))  # H, B, T
TINY = ((20, 3, 5),)
SAMPLES, INPUTS = 200, 4
# Largest error against float64, as a share of the largest value: what a precision's operands and sums over H allow, with room for
# rounding to accumulate over the steps. A wrong result is off by far more.
ALLOWED = {"f32": 1e-4, "tf32": 2e-2, "f16": 5e-2, "bf16": 2e-1}


class Failure(Exception):
    """A sentence for the user."""


def precisions(torch):
    return (("f32", torch.float32, False), ("tf32", torch.float32, True), ("f16", torch.float16, False), ("bf16", torch.bfloat16, False))


class Peer:
    """nn.LSTM, or two of them around F.dropout, with its inputs; run() is what is timed."""

    def __init__(self, torch, shape, dtype, layers, modules, backward, device, keep=0.5):
        self.torch, self.backward, self.keep = torch, backward, keep
        H, B, T = shape
        torch.manual_seed(1)
        per_module = layers // modules
        dropout = 1 - keep if per_module > 1 else 0.0
        self.rnns = [torch.nn.LSTM(H, H, num_layers=per_module, dropout=dropout).to(device) for _ in range(modules)]
        self.exact = [torch.nn.LSTM(H, H, num_layers=per_module).to(device).double() for _ in range(modules)]
        self.rnns = [rnn.to(dtype) for rnn in self.rnns]
        for exact, rnn in zip(self.exact, self.rnns):
            exact.load_state_dict(rnn.state_dict())  # as rounded to dtype
        self.x = [torch.randn(T, B, H).to(device, dtype).requires_grad_(backward) for _ in range(INPUTS)]
        self.dy = (torch.randn(T, B, H) * 0.01).to(device, dtype)
        self.masked = layers > 1

    def parameters(self):
        return [p for rnn in self.rnns for p in rnn.parameters()]

    def forward(self, rnns, x):
        drop = self.torch.nn.functional.dropout
        for rnn in rnns:
            if len(rnns) > 1:
                x = drop(x, 1 - self.keep)
            x = rnn(x)[0]
        return drop(x, 1 - self.keep) if len(rnns) > 1 else x

    def run(self, i=0):
        if not self.backward:
            with self.torch.no_grad():
                return self.forward(self.rnns, self.x[i])
        y = self.forward(self.rnns, self.x[i])
        self.torch.autograd.grad(y, [self.x[i], *self.parameters()], self.dy)
        return y

    def error(self):
        """Largest error of outputs and gradients, each as a share of its largest value; None where masks are drawn. Of a long sequence
        the first 64 steps: float64 is slow."""
        if self.masked:
            return None
        sides = []
        for rnns, dtype in ((self.rnns, self.x[0].dtype), (self.exact, self.torch.float64)):
            x = self.x[0][:64].detach().to(dtype).requires_grad_(True)
            y = self.forward(rnns, x)
            wanted = [x, *(p for rnn in rnns for p in rnn.parameters())] if self.backward else []
            sides.append([y, *(self.torch.autograd.grad(y, wanted, self.dy[:64].to(dtype)) if wanted else ())])
        return max(float((ours.double() - truth).abs().max() / truth.abs().max()) for ours, truth in zip(*sides))


def quantiles(us):
    us = sorted(us)
    at = lambda share: us[int(share * (len(us) - 1) + 0.5)]
    return {"median_us": at(0.5), "p10_us": at(0.1), "p90_us": at(0.9), "min_us": us[0], "samples": len(us)}


def sampled(torch, run, seconds, per_sample):
    """Microseconds of one run: events around passes of `per_sample` runs, some SAMPLES of them or as many as the time allows."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    begin, found = time.monotonic(), []
    while len(found) < SAMPLES and (len(found) < 10 or time.monotonic() - begin < seconds):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(60000)  # some 30 us, as in bench_gpu: launches queue up behind it
        before.record()
        run()
        after.record()
        after.synchronize()
        found.append(before.elapsed_time(after) * 1e3 / per_sample)
    return quantiles(found)


def eager(torch, peer, seconds):
    def run():
        for i in range(INPUTS):
            peer.run(i)
    return sampled(torch, run, seconds, INPUTS)


def graphed(torch, peer, seconds):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for i in range(INPUTS):
            peer.run(i)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(INPUTS):
            peer.run(i)
    return sampled(torch, graph.replay, seconds, INPUTS)


def kernels(torch, peer):
    """[[name, launches, microseconds]] of one run, the longest first."""
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        peer.run()
        torch.cuda.synchronize()
    found = {}
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            count, spent = found.get(event.name, (0, 0.0))
            found[event.name] = (count + 1, spent + event.time_range.elapsed_us())
    return [[name[:120], count, round(spent, 1)] for name, (count, spent) in sorted(found.items(), key=lambda f: -f[1][1])][:8]


def set_tf32(torch, on):
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on


def cases(torch, shapes):
    """(name, shape, dtype, tf32, layers, modules, backward)"""
    for shape in shapes:
        H, B, T = shape
        tail = f"H:{H}/B:{B}/T:{T}"
        for word, dtype, tf32 in precisions(torch):
            for what, backward in (("fwd", False), ("fwdbwd", True)):
                yield f"lstm/{what}/cudnn/{word}/{tail}", word, shape, dtype, tf32, 1, 1, backward
        if T > 1000:
            continue
        for word, dtype, tf32 in precisions(torch):
            yield f"lstm2/fwdbwd/cudnn/{word}/{tail}", word, shape, dtype, tf32, 2, 1, True
            yield f"lstm2/fwdbwd/cudnn-dropout3/{word}/{tail}", word, shape, dtype, tf32, 2, 2, True


def measure(torch, case, seconds):
    """Rows of one case: eager and graph."""
    name, word, shape, dtype, tf32, layers, modules, backward = case
    set_tf32(torch, tf32)
    try:
        peer = Peer(torch, shape, dtype, layers, modules, backward, "cuda")
        error = peer.error()
        if error is not None and not error <= ALLOWED[word]:
            raise Failure(f"wrong: off by {error:.3g} of the largest value, {ALLOWED[word]:g} is allowed")
        ran = kernels(torch, peer)
        common = {"error": error, "tf32": torch.backends.cudnn.allow_tf32, "kernels": ran}
    except (RuntimeError, Failure) as fault:
        return [{"name": name, "error": str(fault).splitlines()[0][:300]}]
    rows = []
    for suffix, how in (("", graphed), ("/eager", eager)):
        try:
            times = how(torch, peer, seconds)
            rows.append({"name": name + suffix, **times, **common, "us_per_step": times["median_us"] / shape[2]})
        except RuntimeError as fault:
            rows.append({"name": name + suffix, "error": str(fault).splitlines()[0][:300]})
    return rows


def context(torch):
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "gpu": torch.cuda.get_device_name(), "inputs": INPUTS, "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE")}


def write(path, value):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=0.4, help="of samples per row (default 0.4)")
    parser.add_argument("--tiny", action="store_true", help="one tiny shape")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("torch_peer: this Python has no PyTorch", file=sys.stderr)
        return 77
    if not torch.cuda.is_available():
        print("torch_peer: PyTorch sees no GPU here", file=sys.stderr)
        return 4
    result = {"context": context(torch), "benchmarks": []}
    for case in cases(torch, TINY if arguments.tiny else SHAPES):
        rows = measure(torch, case, arguments.seconds)
        result["benchmarks"] += rows
        for row in rows:
            text = f"{row['median_us']:10.1f} us  {row['p10_us']:.1f} .. {row['p90_us']:.1f}" if "median_us" in row else row["error"]
            print(f"{row['name']:56} {text}", flush=True)
        write(arguments.out, result)  # a run that is stopped keeps what it has
    # An error row says that something is not supported; all of them, that nothing could be measured.
    return 0 if any("median_us" in row for row in result["benchmarks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
