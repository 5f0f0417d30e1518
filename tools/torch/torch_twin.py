#!/usr/bin/env python3
"""The model of plstm in idiomatic PyTorch: torch.nn.LSTM (no Python loop over time), fused cross-entropy, in-place updates, detached
carried state. The tests (same loss, same gradients) and the benchmark compare plstm with it.

    torch_twin.py bench [--hidden H ...] [--threads 1,2]    prints a line of JSON, then a sample of words/s for each line of standard input
    torch_twin.py jobs FILE                                 runs the jobs of tests/host/test_torch.py: a JSON list, see JOBS below
    torch_twin.py --python PROGRAM ...                      runs bench or jobs with another Python, such as a virtual environment's

Initial weights and masks that are not given are computed here from the seed (SPEC 2 and 3), by code that is independent of the C code.
The minibatches of a text (SPEC 4) are, too. The exit status is 77, with a message, if no Python on this machine has PyTorch.
"""
import argparse
import ctypes
import glob
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time

NO_TORCH = 77
PREPARED = "PLSTM_TWIN_PREPARED"  # set once the environment below is in force


# ---- a Python with torch, and an environment that makes it as fast as possible ----

def cpu_flags():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        found = re.search(r"^flags\s*:(.*)$", f.read(), re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def find_python():
    """Returns the Python of --python, or the first one here that has torch. Exits if there is none."""
    candidates = [sys.executable, "/usr/bin/python3"]
    if "--python" in sys.argv:
        at = sys.argv.index("--python")
        candidates = sys.argv[at + 1 : at + 2]
        if not candidates or not shutil.which(candidates[0]):
            print(f"torch_twin: --python needs a program; '{''.join(candidates)}' is none", file=sys.stderr)
            sys.exit(2)
        # the link is not resolved, since a virtual environment's Python is a link
        candidates = [os.path.abspath(shutil.which(candidates[0]))]
        del sys.argv[at : at + 2]
    for python in candidates:
        probe = [python, "-c", "import importlib.util, sys; sys.exit(not importlib.util.find_spec('torch'))"]
        if os.path.exists(python) and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
            return python
    print("torch_twin: no Python here has PyTorch (Debian and Ubuntu: python3-torch; tools/deps.sh ci installs it)", file=sys.stderr)
    sys.exit(NO_TORCH)


def restart(environment):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})


def prepare():
    if PREPARED not in os.environ:
        python = find_python()
        environment = {PREPARED: "1"}
        # On Debian the administrator can choose the BLAS of torch. Use the OpenMP build of OpenBLAS, as plstm does: it shares torch's
        # threads instead of competing with them. A torch with its own BLAS ignores this path.
        folders = [os.path.dirname(f) for f in glob.glob("/usr/lib/*/openblas-openmp/libblas.so.3")]
        if folders:
            environment["LD_LIBRARY_PATH"] = ":".join(folders + [f for f in [os.environ.get("LD_LIBRARY_PATH")] if f])
        # Otherwise glibc returns the megabytes of the logits to the kernel after every step, which clears them page by page for the next.
        for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
            if variable not in os.environ:
                environment[variable] = str(1 << 32)
        sys.executable = python
        restart(environment)
    import torch

    name = openblas("openblas_get_corename")
    fast = {"avx512f": ("SkylakeX", "Cooperlake", "SapphireRapids"), "avx2": ("Haswell", "Zen", "Excavator")}
    flags = cpu_flags()
    # OpenBLAS treats a CPU that is newer than itself as a Prescott.
    for flag, names in fast.items():
        if flag in flags and name:
            if name.lower() not in (n.lower() for n in names) and "OPENBLAS_CORETYPE" not in os.environ:
                restart({"OPENBLAS_CORETYPE": names[0]})
            break
    torch.set_flush_denormal(True)
    return torch


def openblas(function):
    """Returns OpenBLAS's description of itself, or None if torch uses another BLAS."""
    with open("/proc/self/maps", encoding="utf-8") as f:
        paths = sorted({line.split()[-1] for line in f if "libopenblas" in line})
    for path in paths:
        ask = getattr(ctypes.CDLL(path), function, None)
        if ask:
            ask.restype = ctypes.c_char_p
            return ask().decode()
    return None


torch = prepare()
F = torch.nn.functional


# ---- SPEC 2 and 3: Philox4x32-10, on int64 tensors ----

MASK32 = 0xFFFFFFFF
INIT_STREAM = 0x494E4954  # SPEC 3
IDS_STREAM = 1 << 40  # the benchmark's words
WINDOWS = 16  # number of windows of words that the benchmark cycles through


def philox_words(seed, subsequence, n):
    """Returns the first n words of a subsequence (int64 tensor of values below 2^32): word e is word e mod 4 of block e div 4."""
    blocks = torch.arange((n + 3) // 4, dtype=torch.int64)
    counter = [blocks & MASK32, blocks >> 32, torch.full_like(blocks, subsequence & MASK32), torch.full_like(blocks, subsequence >> 32)]
    key = [seed & MASK32, seed >> 32]
    for _ in range(10):
        # The product wraps around in int64, with the same bits as the unsigned product.
        p0, p1 = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        high0, high1 = (p0 >> 32) & MASK32, (p1 >> 32) & MASK32
        counter = [high1 ^ counter[1] ^ key[0], p1 & MASK32, high0 ^ counter[3] ^ key[1], p0 & MASK32]
        key = [(key[0] + 0x9E3779B9) & MASK32, (key[1] + 0xBB67AE85) & MASK32]
    return torch.stack(counter, dim=1).reshape(-1)[:n]


def draw_weights(shapes, seed, init):
    """Returns {name: tensor} for (name, shape) pairs in SPEC 7's order."""
    drawn = {}
    for k, (name, shape) in enumerate(shapes):
        words = philox_words(seed, (INIT_STREAM << 32) + k, math.prod(shape))
        drawn[name] = ((2 * words + 1 - (1 << 32)).double() * (init * 2.0**-32)).float().reshape(shape)
    return drawn


def draw_mask(seed, step, site, sites, T, B, H, keep):
    H4 = (H + 3) // 4 * 4
    words = philox_words(seed, step * sites + site, T * B * H4).reshape(T, B, H4)[:, :, :H]
    return words < math.floor(keep * 2.0**32)


# ---- SPEC 4: text to minibatches ----

def split_file(folder, split):
    for pattern in (f"{split}.txt", f"ptb.{split}.txt", f"wiki.{split}.tokens"):
        path = os.path.join(folder, pattern)
        if os.path.exists(path):
            return path
    raise SystemExit(f"torch_twin: {folder} has no {split}.txt")


def read_ids(folder):
    """Returns the ids of the training text and the types in order of first appearance."""
    with open(split_file(folder, "train"), "rb") as f:
        words = [w for line in f.read().replace(b"\n", b" <eos> \n").split(b"\n") for w in re.split(rb"[ \t\r\v\f]+", line) if w]
    vocabulary = {}
    return torch.tensor([vocabulary.setdefault(w, len(vocabulary)) for w in words]), list(vocabulary)


class Batches:
    def __init__(self, ids, B, T):
        n = len(ids) // B
        rows = [(2 * b * len(ids) + B) // (2 * B) for b in range(B)]
        self.columns = torch.stack([ids[r : r + n] for r in rows], dim=1)  # (n,B)
        self.T, self.windows = T, (n - 1) // T

    def __getitem__(self, n):
        at = n * self.T
        return self.columns[at : at + self.T], self.columns[at + 1 : at + self.T + 1]


# ---- safetensors, as little as this needs ----

ST_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.uint8: "U8", torch.int32: "I32", torch.int64: "I64"}
ST_TYPES = {name: dtype for dtype, name in ST_NAMES.items()}


def load_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = bytearray(f.read())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        part = bytearray(data[begin:end])
        tensors[name] = torch.frombuffer(part, dtype=ST_TYPES[entry["dtype"]]).reshape(entry["shape"]) if part else torch.empty(0)
    return tensors, metadata


def save_safetensors(path, tensors, metadata):
    header, at = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        header[name] = {"dtype": ST_NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for t in tensors.values():
            f.write(bytes(t.contiguous().reshape(-1).view(torch.uint8).numpy()))


# ---- the model ----

class RNNModel(torch.nn.Module):
    """Names and layouts of the module in pytorch/examples (word_language_model), so that state_dicts pass between the two."""

    def __init__(self, V, H, L, keep=1.0, sparse=False):
        super().__init__()
        self.drop = torch.nn.Dropout(1.0 - keep)
        self.encoder = torch.nn.Embedding(V, H, sparse=sparse)
        self.rnn = torch.nn.LSTM(H, H, L, dropout=1.0 - keep if L > 1 else 0.0)
        self.decoder = torch.nn.Linear(H, V)

    def forward(self, x, state):
        output, state = self.rnn(self.drop(self.encoder(x)), state)
        return self.decoder(self.drop(output).flatten(0, 1)), state

    def forward_masked(self, x, state, mask, recurrent):
        """The same with given masks: mask(site) is (T,B,H), scaled. Recurrent masks require a loop over time."""
        L, T = self.rnn.num_layers, x.shape[0]
        h, c = state
        output = self.encoder(x)
        for layer in range(L):
            weights = [getattr(self.rnn, f"{part}_l{layer}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            run = lambda inputs, h0, c0: torch._VF.lstm(inputs, (h0, c0), weights, True, 1, 0.0, True, False, False)
            output = output * mask(layer)
            h0, c0 = h[layer : layer + 1], c[layer : layer + 1]
            if recurrent:
                steps = []
                for t in range(T):
                    step, h0, c0 = run(output[t : t + 1], h0 * mask(L + 1 + layer)[t], c0)
                    steps.append(step)
                output = torch.cat(steps)
            else:
                output, _, _ = run(output, h0, c0)
        return self.decoder((output * mask(L)).flatten(0, 1))


def shapes_of(V, H, L):
    shapes = [("encoder.weight", (V, H))]
    for layer in range(L):
        shapes += [(f"rnn.weight_ih_l{layer}", (4 * H, H)), (f"rnn.weight_hh_l{layer}", (4 * H, H))]
        shapes += [(f"rnn.bias_ih_l{layer}", (4 * H,)), (f"rnn.bias_hh_l{layer}", (4 * H,))]
    return shapes + [("decoder.weight", (V, H)), ("decoder.bias", (V,))]


def make_model(V, H, L, keep, weights, sparse=False):
    model = RNNModel(V, H, L, keep, sparse)
    model.load_state_dict(weights, strict=True)
    return model


def sizes_of(weights):
    V, H = weights["encoder.weight"].shape
    return V, H, sum(name.startswith("rnn.weight_ih_l") for name in weights)


def zero_state(L, B, H, dtype=torch.float32):
    return torch.zeros(L, B, H, dtype=dtype), torch.zeros(L, B, H, dtype=dtype)


def train_step(model, x, y, state, lr, clip, forward=None):
    """Trains one minibatch and returns nats, gradient norm and the next state. forward: the model, or its compiled form."""
    # A compiled model has no truth value, since it forwards len() to a module that has none.
    logits, state = (model if forward is None else forward)(x, state)
    nats = F.cross_entropy(logits, y.flatten(), reduction="sum")
    (nats / x.shape[1]).backward()
    with torch.no_grad():
        parameters = list(model.parameters())
        gradients = [p.grad.coalesce() if p.grad.is_sparse else p.grad for p in parameters]
        norms = torch._foreach_norm([g.values() if g.is_sparse else g for g in gradients])
        norm = torch.linalg.vector_norm(torch.stack(norms)).item()
        rate = -lr * (clip / norm if norm > clip else 1.0)
        for p, g in zip(parameters, gradients):
            if g.is_sparse:
                p.index_add_(0, g.indices()[0], g.values(), alpha=rate)
            else:
                p.add_(g, alpha=rate)
            p.grad = None
    return nats.item(), norm, (state[0].detach(), state[1].detach())


# ---- jobs of the tests, many in one process since torch takes long to load ----

def job_gradients(job, answer):
    """Computes the loss and every gradient of minibatch `window` of the data from a zero state, with given masks."""
    weights, _ = load_safetensors(job["weights"])
    V, H, L = sizes_of(weights)
    dtype = torch.float64 if job["double"] else torch.float32
    model = make_model(V, H, L, 1.0, weights).to(dtype)
    x, y = Batches(read_ids(job["data"])[0], job["batch"], job["seq"])[job["window"]]
    state = zero_state(L, job["batch"], H, dtype)
    masks = load_safetensors(job["masks"])[0] if job["masks"] else {}
    if masks:
        recurrent = f"mask.site{L + 1}" in masks
        logits = model.forward_masked(x, state, lambda site: masks[f"mask.site{site}"].to(dtype) / job["keep"], recurrent)
    else:
        logits, _ = model(x, state)
    nats = F.cross_entropy(logits, y.flatten(), reduction="sum")
    (nats / job["batch"]).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
    save_safetensors(job["out"], gradients, {"format": "pt"})
    answer.update(loss=nats.item() / job["batch"], nats=nats.item(), grad_norm=norm)


def job_train(job, answer):
    """Computes losses and gradient norms of the first `steps` minibatches, without masks."""
    weights, _ = load_safetensors(job["weights"])
    V, H, L = sizes_of(weights)
    model = make_model(V, H, L, 1.0, weights)
    batches = Batches(read_ids(job["data"])[0], job["batch"], job["seq"])
    steps = []
    for step in range(job["steps"]):
        n = step % batches.windows
        if n == 0:
            state = zero_state(L, job["batch"], H)
        nats, norm, state = train_step(model, *batches[n], state, job["lr"], job["clip"])
        steps.append({"nats": nats, "grad_norm": norm})
    answer["steps"] = steps


def job_draw(job, answer):
    """Draws initial weights and masks with this file's own code."""
    V, H, L, T, B, sites = (job[k] for k in ("V", "H", "L", "T", "B", "sites"))
    save_safetensors(job["init_out"], draw_weights(shapes_of(V, H, L), job["seed"], job["init"]), {})
    masks = {f"mask.site{site}": draw_mask(job["seed"], job["step"], site, sites, T, B, H, job["keep"]).to(torch.uint8)
             for site in range(sites)}
    save_safetensors(job["masks_out"], masks, {})


def job_make(job, answer):
    """Writes a model as PyTorch initialises it, with the official safetensors package if it is installed."""
    torch.manual_seed(job["seed"])
    state = RNNModel(job["V"], job["H"], job["L"]).state_dict()
    official = official_safetensors()
    if official:
        official.save_file(state, job["out"])
    else:
        save_safetensors(job["out"], dict(reversed(state.items())), {})
    answer["writer"] = "safetensors" if official else "torch_twin"


def job_load(job, answer):
    """Loads the whole file into the module of pytorch/examples, with no missing or unexpected name."""
    official = official_safetensors() if job["official"] else None
    if job["official"] and not official:
        answer["missing"] = f"{sys.executable} has no safetensors package"
        return
    weights = official.load_file(job["weights"]) if official else load_safetensors(job["weights"])[0]
    V, H, L = sizes_of(weights)
    model = make_model(V, H, L, 1.0, weights)
    answer["sums"] = {name: p.double().sum().item() for name, p in model.named_parameters()}


def official_safetensors():
    try:
        import safetensors.torch
    except ImportError:
        return None
    return safetensors.torch


JOBS = {"gradients": job_gradients, "train": job_train, "draw": job_draw, "make": job_make, "load": job_load}


def jobs(arguments):
    with open(arguments.file, encoding="utf-8") as f:
        wanted = json.load(f)
    torch.set_num_threads(1)
    for job in wanted:
        answer = {"name": job["name"]}
        try:
            JOBS[job["do"]](job, answer)
        except Exception as e:
            answer["error"] = f"{type(e).__name__}: {e}"
        print(json.dumps(answer), flush=True)


# ---- bench ----

def products(V, H, L, T, B):
    """The matrix products of one minibatch: (count, m, k, n) of (m,k)x(k,n), and which operand is stored transposed."""
    N = T * B
    layer = [(1, N, H, 4 * H, "nt"), (T, B, H, 4 * H, "nt"), (T, B, 4 * H, H, "nn"), (1, N, 4 * H, H, "nn"), (2, 4 * H, N, H, "tn")]
    return [(L * times, m, k, n, how) for times, m, k, n, how in layer] + [(1, N, H, V, "nt"), (1, N, V, H, "nn"), (1, V, N, H, "tn")]


def seconds_of(f, least=0.25, times=3):
    """Returns the best time of several runs of f, each repeated for a while, since other processes use this machine too."""
    f()
    best = math.inf
    for _ in range(times):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < least / times or not count:
            f()
            count += 1
        best = min(best, (time.perf_counter() - start) / count)
    return best


def sgemm_rates(shape, threads, side):
    """Measures the FLOP/s of torch.mm on a square product and on the products of the model, weighted by their counts in a step."""
    torch.set_num_threads(threads)
    operand = lambda rows, cols, transposed: torch.rand(cols, rows).t() if transposed else torch.rand(rows, cols)
    a, b, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
    square = 2.0 * side**3 / seconds_of(lambda: torch.mm(a, b, out=out), 1.0, 5)
    flops = seconds = 0.0
    for times, m, k, n, how in products(*shape):
        a, b, out = operand(m, k, how[0] == "t"), operand(k, n, how[1] == "t"), torch.empty(m, n)
        flops += 2.0 * times * m * k * n
        seconds += times * seconds_of(lambda: torch.mm(a, b, out=out))
    return square, flops / seconds, flops


class Training:
    """The model in one configuration of PyTorch, whose training can be stopped and continued."""

    def __init__(self, a, weights, ids, threads, compiled, sparse):
        self.facts = {"threads": threads, "mode": "torch.compile" if compiled else "eager",
                      "embedding_gradient": "sparse" if sparse else "dense"}
        torch.set_num_threads(threads)
        self.words, self.ids, self.lr, self.clip, self.count = a.seq * a.batch, ids, a.lr, a.clip, 0
        self.model, self.state = make_model(a.vocab, a.hidden, a.layers, a.keep, weights, sparse), zero_state(a.layers, a.batch, a.hidden)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.facts["first_nats"] = self.step() / self.words
        self.step()  # a compiled model compiles its backward pass, and recompiles for the strides of the second state

    def step(self):
        window = self.ids[self.count % WINDOWS]
        nats, _, self.state = train_step(self.model, window[:-1], window[1:], self.state, self.lr, self.clip, self.forward)
        self.count += 1
        return nats

    def words_per_s(self, seconds):
        torch.set_num_threads(self.facts["threads"])
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < seconds:
            self.step()
            steps += 1
        return steps * self.words / (time.perf_counter() - start)


def fastest(a, weights, ids):
    """Returns the fastest Training of all thread counts, eager and compiled, sparse and dense, and the list of those tried."""
    best, tried = None, []
    for threads in [int(n) for n in a.threads.split(",")]:
        for compiled in (False, True) if hasattr(torch, "compile") else (False,):
            for sparse in (True, False):
                try:
                    training = Training(a, weights, ids, threads, compiled, sparse)
                except Exception as e:
                    if not compiled:
                        raise
                    tried.append({"threads": threads, "mode": "torch.compile", "embedding_gradient": "sparse" if sparse else "dense",
                                  "error": f"{type(e).__name__}: {str(e).splitlines()[0][:200]}"})
                    continue
                rate = max(training.words_per_s(a.seconds / 2) for _ in range(2))
                tried.append({**training.facts, "words_per_s": rate})
                if not best or rate > best[0]:
                    best = (rate, training)
    return best[1], tried


def bench(a):
    """Prints a line about the fastest training and the sgemm rates, then one sample of words/s for every line of standard input."""
    shape = (a.vocab, a.hidden, a.layers, a.seq, a.batch)
    weights = draw_weights(shapes_of(a.vocab, a.hidden, a.layers), a.seed, a.init)
    # Ids are log-uniform, which is Zipf's law, as in text. bench_cpu.cpp draws the same.
    words = philox_words(a.seed, IDS_STREAM, WINDOWS * (a.seq + 1) * a.batch).double() * 2.0**-32
    ids = ((a.vocab + 1.0) ** words - 1.0).clamp(0, a.vocab - 1).long().reshape(WINDOWS, a.seq + 1, a.batch)
    training, tried = fastest(a, weights, ids)
    square, shapes, flops = sgemm_rates(shape, training.facts["threads"], a.square)
    capability = re.search(r"CPU capability usage: (\S+)", torch.__config__.show())
    version = re.search(r"oneAPI Math Kernel Library Version ([\d.]+)", torch.__config__.show())
    mkl = f"MKL {version.group(1)}" if version else "not OpenBLAS"
    print(json.dumps({"torch": torch.__version__, "cpu_capability": capability.group(1) if capability else None,
                      "blas": openblas("openblas_get_config") or mkl, **training.facts, "tried": tried, "flop_per_step": flops,
                      "sgemm_square_flop_per_s": square, "sgemm_products_flop_per_s": shapes}), flush=True)
    for _ in sys.stdin:
        print(training.words_per_s(a.seconds), flush=True)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="bench|jobs")
    p = modes.add_parser("jobs", allow_abbrev=False)
    p.set_defaults(run=jobs)
    p.add_argument("file")
    p = modes.add_parser("bench", allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.set_defaults(run=bench)
    for option, value in (("hidden", 200), ("layers", 2), ("batch", 20), ("seq", 20), ("vocab", 10000), ("seed", 1)):
        p.add_argument(f"--{option}", type=int, default=value, metavar="N", help=" ")
    for option, value in (("keep", 1.0), ("init", 0.1), ("lr", 1.0), ("clip", 5.0)):
        p.add_argument(f"--{option}", type=float, default=value, metavar="X", help=" ")
    p.add_argument("--threads", default="1,2", metavar="N,N", help="thread counts to try")
    p.add_argument("--seconds", type=float, default=2.0, metavar="X", help="seconds of training per sample")
    p.add_argument("--square", type=int, default=2048, metavar="N", help="side of the matrices of the sgemm rate")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
