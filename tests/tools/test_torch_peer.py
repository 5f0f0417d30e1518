"""Tests tools/torch/torch_peer.py with PyTorch but without a GPU: its programs are right, a wrong result gets no time, rows have the
fields of bench_gpu, and a refusal has a reason. The copies of FlashRNN and Haste are synthetic: plain loops with the interfaces of those
libraries."""
import functools
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
TOOLS = os.path.join(ROOT, "tools/torch")
sys.path[:0] = [TOOLS, os.path.join(ROOT, "tools/results")]
import ingest  # noqa: E402
import torch_peer  # noqa: E402
from tables import bench, variants  # noqa: E402

FLASHRNN = """# SYNTHETIC: stands in for FlashRNN in a test.
import torch
def flashrnn(Wx, R, b, states=None, function="lstm", config=None, backend="cuda_fused", dtype="bfloat16"):
    assert function == "lstm" and backend == "cuda_fused" and dtype == "bfloat16" and Wx.dtype == torch.bfloat16
    B, T, G, N, D = Wx.shape
    assert G == 4 and N == 1 and R.shape == (4, N, D, D) and b.shape == (4, N, D)
    h = c = torch.zeros(B, N, D, dtype=Wx.dtype)
    all_h = []
    for t in range(T):
        i, f, g, o = (Wx[:, t] + torch.einsum("gndp,bnp->bgnd", R, h) + b).unbind(1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c) SPOIL
        all_h.append(h)
    return torch.stack([torch.stack(all_h, 1)] * 2), None
"""
HASTE = """# SYNTHETIC: stands in for Haste in a test.
import torch
class LSTM(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.empty(input_size, 4 * hidden_size))
        self.recurrent_kernel = torch.nn.Parameter(torch.empty(hidden_size, 4 * hidden_size))
        self.bias = torch.nn.Parameter(torch.empty(4 * hidden_size))
    def forward(self, x):
        h = c = torch.zeros(x.shape[1], self.recurrent_kernel.shape[0])
        all_h = []
        for x_t in x:
            i, g, f, o = (x_t @ self.kernel + h @ self.recurrent_kernel + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            all_h.append(h)
        return torch.stack(all_h), (h, c)
"""
PROBE = """
import json
import torch
import torch_programs as programs
found, shape = {}, (20, 3, 70)
for backward in (False, True):
    for layers, modules in ((1, 1), (2, 1), (2, 2)):
        p = programs.Layers(torch, shape, "f32", torch.float32, "cpu", backward, layers, modules)
        assert p.run().shape == (70, 3, 20)
        name = f"layers {backward:d}{layers}{modules}"
        found["right " + name] = p.error()
        with torch.no_grad():
            p.rnns[-1].weight_hh_l0[3, 4] += 0.5
        found["wrong " + name] = p.error()
programs.VOCABULARY = 50
step = programs.Step(torch, (20, 3, 5), "f32", torch.float32, "cpu", 0.5, 0.1, 5)
costs = [float(step.run(i % 4)) for i in range(40)]
assert costs[-1] < costs[0] and step.h.abs().max() > 0
found["right step"] = step.error()
half = programs.Step(torch, (20, 3, 5), "bf16", torch.bfloat16, "cpu", 0.5, 0.1, 5)
costs = [float(half.run(i % 4)) for i in range(40)]
assert costs[-1] < costs[0] and all(p.dtype == torch.bfloat16 for p in half.copy.parameters())
assert all(torch.equal(p.to(torch.bfloat16), q) for p, q in zip(half.parts.parameters(), half.copy.parameters()))
assert half.error() <= half.bound and half.h.dtype == torch.bfloat16
true = torch.nn.functional.cross_entropy
torch.nn.functional.cross_entropy = lambda x, *a, **k: true(x, *a, **k) * (1.01 if x.dtype == torch.float32 else 1)
found["wrong step"] = step.error()
print(json.dumps(found))
"""


@functools.lru_cache
def python_with_torch():
    probe = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('torch'))"
    for python in (sys.executable, "/usr/bin/python3"):
        if os.path.exists(python) and subprocess.run([python, "-c", probe]).returncode == 0:
            return python
    raise tap.Skip("no Python here has PyTorch")


def run(*arguments, flashrnn=FLASHRNN.replace("SPOIL", "")):
    """Returns (status, {name: row}, context) of --tiny, with the synthetic copies if flashrnn is not None."""
    python = python_with_torch()
    with tempfile.TemporaryDirectory() as folder:
        options = []
        if flashrnn is not None:
            for name, text in (("flashrnn/flashrnn/__init__.py", "from .flashrnn import flashrnn\n"),
                               ("flashrnn/flashrnn/flashrnn.py", flashrnn),
                               ("haste/haste_pytorch.py", HASTE)):
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                    f.write(text)
            options = ["--flashrnn", os.path.join(folder, "flashrnn"), "--haste", os.path.join(folder, "haste")]
        path = os.path.join(folder, "torch.json")
        done = subprocess.run([python, os.path.join(TOOLS, "torch_peer.py"), "--tiny", "--seconds", "0.02", "--out",
                               path, *options, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
                              env=dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""))
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    return done.returncode, {row["name"]: row for row in found["benchmarks"]}, found


def test_the_programs_are_right():
    done = subprocess.run([python_with_torch(), "-c", PROBE], cwd=TOOLS, stdout=subprocess.PIPE, text=True, timeout=200,
                          env=dict(os.environ, PYTHONPATH=TOOLS, OMP_NUM_THREADS="1"))
    assert done.returncode == 0
    for name, error in json.loads(done.stdout).items():
        assert error < 2e-5 if name.startswith("right") else error > 1e-3, (name, error)


def test_rows_have_the_fields_of_bench_gpu():
    status, found, whole = run()
    assert status == 0
    with open(os.path.join(ROOT, "bench/bench_gpu.cpp"), encoding="utf-8") as f:
        counters = set(re.findall(r'\{"(\w+)", (?:\(double\))?t\.', f.read())) - {"discarded", "mhz"}  # PyTorch reports no clock
    assert len(counters) >= 8 and "lo_us" in counters, counters
    timed = {name: row for name, row in found.items() if "median_us" in row}
    for name, row in timed.items():
        assert name.endswith("/eager") and counters <= set(row), row  # a CPU has no CUDA graphs
        assert row["min_us"] <= row["lo_us"] <= row["median_us"] <= row["hi_us"] and row["samples"] >= 1 and row["riqr"] >= 0, row
        assert row["label"] in ("stop=noise", "stop=settled", "stop=time") and row["error"] <= row["bound"] and row["words/s"] > 0, row
    shape = "H:20/B:3/T:5/eager"
    for name in (f"step/torch/f32/{shape}", f"lstm/fwdbwd/cudnn/f32/{shape}", f"lstm2/fwdbwd/cudnn-dropout3/f32/{shape}",
                 *(f"lstm/{what}/{name}/{shape}" for what in ("fwd", "fwdbwd")
                   for name in ("flashrnn/bf16", "flashrnn-recurrence/bf16", "haste/f32"))):
        assert name in timed, (name, found.get(name), sorted(timed))
    for name in set(found) - set(timed):
        assert found[name]["error"].startswith("refused: "), found[name]
    assert found["step/torch/f32/H:20/B:3/T:5"]["error"] == "refused: a CPU has no CUDA graphs"
    # CPU times are not GPU times, so none of them is filed.
    assert whole["context"]["emulated"] == "yes" and ingest.rows_of({"torch.json": json.dumps(whole).encode()})[2:] == ({}, [])


def test_a_wrong_result_gets_no_time():
    status, found, _ = run("--filter", "fwd/flashrnn|fwdbwd/flashrnn|haste", flashrnn=FLASHRNN.replace("SPOIL", "* 0.5"))
    assert status == 1
    for what in ("fwd", "fwdbwd"):
        for name in ("flashrnn", "flashrnn-recurrence"):
            row = found[f"lstm/{what}/{name}/bf16/H:20/B:3/T:5"]
            assert row["error"].startswith("wrong: ") and "median_us" not in row, row
    assert "median_us" in found["lstm/fwd/haste/f32/H:20/B:3/T:5/eager"]


def test_a_missing_copy_is_reported():
    status, found, _ = run("--filter", "flashrnn|haste|lstm/fwd/cudnn/f32", flashrnn=None)
    assert status == 0
    for name, what in (("flashrnn/bf16", "FlashRNN"), ("flashrnn-recurrence/bf16", "FlashRNN"), ("haste/f32", "Haste")):
        assert found[f"lstm/fwd/{name}/H:20/B:3/T:5"]["error"].startswith(f"refused: no copy of {what} was given; --"), found
    try:
        torch_peer.programs.imported(TOOLS, "nothing_of_that_name", "FlashRNN")
        assert False
    except torch_peer.programs.Refused as why:
        assert str(why).startswith("the copy of FlashRNN cannot be imported: ModuleNotFoundError"), why


def test_names():
    class Torch:
        float16 = float32 = bfloat16 = None
    cases = torch_peer.cases(Torch, "cuda", torch_peer.MODELS, torch_peer.ANCHOR)
    names = [case.name for case in cases]
    assert len(names) == len(set(names))
    assert names[:2] == ["lstm/fwd/cudnn/f16/H:768/B:16/T:1024", "lstm/fwdbwd/cudnn/f16/H:768/B:16/T:1024"]  # the published anchor
    for name in ("lstm/fwd/cudnn/f32/H:650/B:20/T:35", "lstm/fwdbwd/cudnn/tf32/H:1500/B:20/T:35", "lstm/fwdbwd/cudnn/bf16/H:200/B:20/T:20",
                 "lstm2/fwdbwd/cudnn-dropout3/f32/H:650/B:20/T:35", "step/torch/f32/H:1500/B:20/T:35",
                 "lstm/fwd/flashrnn/bf16/H:224/B:24/T:20",
                 "lstm/fwdbwd/flashrnn-recurrence/bf16/H:1504/B:24/T:35", "lstm/fwd/flashrnn/bf16/H:768/B:16/T:1024",
                 "lstm/fwdbwd/haste/f32/H:650/B:20/T:35"):
        assert name in names, name
        bench.Row({"name": name})
    notes = {case.name: case.notes for case in cases}
    assert notes["lstm/fwd/flashrnn/bf16/H:672/B:24/T:35"] == {"stands_for": "H:650/B:20/T:35"}
    assert variants.is_peer("flashrnn-recurrence") and variants.is_peer("haste") and variants.is_peer("cudnn") \
        and not variants.is_peer("cublas_tuned")


def test_when_a_measurement_ends():
    """The same cases as in tests/gpu/test_measure.cpp for bench/measure.cpp."""
    quiet = torch_peer.Measurement(seconds=100, noise=0.005)
    while not quiet.why:
        quiet.add(100.0, 0.0)
    assert quiet.why == "noise" and len(quiet.samples) == 10
    noisy = torch_peer.Measurement(seconds=100, noise=0.005)
    while not noisy.why:
        noisy.add(100.0 + len(noisy.samples) % 10, 0.0)
    assert noisy.why == "settled" and len(noisy.samples) >= 10 + 31
    late = torch_peer.Measurement(seconds=1, noise=0.005)
    late.add(100.0, 0.5)
    assert not late.why
    late.add(110.0, 1.0)
    assert late.why == "time" and late.result()["median_us"] == 105.0
    assert [torch_peer.median_rank(n) for n in (1, 5, 6, 9, 10, 100)] == [0, 0, 0, 1, 1, 39]
    assert torch_peer.quantile([1.0, 2.0, 4.0], 0.75) == 3.0


def test_a_missing_gpu_is_reported():
    python = python_with_torch()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([python, os.path.join(TOOLS, "torch_peer.py"), "--out", os.path.join(folder, "torch.json")],
                              stderr=subprocess.PIPE, text=True, timeout=200, env=dict(os.environ, CUDA_VISIBLE_DEVICES=""))
        assert done.returncode == 4 and "no GPU" in done.stderr and not os.listdir(folder), done.stderr


tap.main(globals())
