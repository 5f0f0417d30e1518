"""Compares plstm with PyTorch: the same initial weights give the same loss and gradients, and weight files can be
exchanged in both directions.

build/plstm prepares every case, then one run of tools/torch/torch_twin.py does all of PyTorch's part.

Bounds. In float32 both sides round: the error of each gradient may be 1e-5 of its tensor's norm (sums of at most a few
hundred terms of 2^-24 relative error stay near 1e-6). In double only the file's float32 rounds, by 2^-24 per element
and so by at most 6e-8 of the norm; 1e-7 leaves a margin for the double arithmetic.
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import safetensors_read  # noqa: E402
import tap  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TWIN = os.path.join(HERE, "../../tools/torch/torch_twin.py")
PLSTM = os.environ.get("PLSTM", os.path.join(HERE, "../../build/plstm"))
NO_TORCH = 77
SEED = 4886718345  # more than 32 bits

# (name, H, L, B, T, keep, sites, minibatch): odd sizes, ones, and V = 31 both above and below H.
CASES = [
    ("plain", 16, 2, 4, 6, 1.0, "none", 0),
    ("nonrecurrent", 23, 2, 3, 5, 0.5, "nonrecurrent", 3),
    ("all", 23, 2, 3, 5, 0.5, "all", 3),
    ("one_step", 33, 3, 5, 1, 0.5, "nonrecurrent", 2),
    ("one_row", 9, 1, 1, 7, 0.35, "nonrecurrent", 1),
    ("all_three_layers", 37, 3, 2, 4, 0.35, "all", 1),
    ("more_units_than_words", 70, 2, 6, 9, 0.5, "nonrecurrent", 0),
]
# (backend, float64 in PyTorch, bound)
SIDES = [("cpu", False, 1e-5), ("reference", True, 1e-7)]

folder = tempfile.TemporaryDirectory()
answers = {}
unavailable = None


def path(name):
    return os.path.join(folder.name, name)


def plstm(*arguments):
    done = subprocess.run([PLSTM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, (arguments, done.returncode, done.stderr)
    return done.stdout


def write_text():
    """Writes a few hundred words of 29 types. The newline's <eos> is the 30th type; a word that occurs once is the
    31st."""
    draw = random.Random(7)
    for split, words in (("train", 700), ("valid", 60), ("test", 60)):
        text = ["rare"] if split == "train" else []
        text += [f"w{int(29 * draw.random() ** 2)}" for _ in range(words)]
        with open(path(f"data/{split}.txt"), "w", encoding="ascii") as f:
            f.write("".join(word + ("\n" if draw.random() < 0.1 else " ") for word in text) + "\n")


def shape_options(H, L, B, T):
    return ["--hidden", str(H), "--layers", str(L), "--batch", str(B), "--seq", str(T), "--seed", str(SEED)]


def dump_gradients(name, backend, weights, H, L, B, T, keep, sites, window):
    out = plstm("dump", "--what", "grads", "--backend", backend, "--data", path("data"), "--init-weights", weights, "--keep", str(keep),
                "--dropout-sites", sites, "--step", str(window), "--out", path(f"{name}.{backend}.ours"), *shape_options(H, L, B, T))
    return json.loads(out)


ours = {}


def prepare():
    global unavailable
    os.mkdir(path("data"))
    write_text()
    jobs = []
    for name, H, L, B, T, keep, sites, window in CASES:
        shape = shape_options(H, L, B, T)
        # The weights are large enough to exercise every gate and both ends of tanh.
        plstm("dump", "--what", "init", "--init", "0.4", "--data", path("data"), "--out", path(f"{name}.init"), *shape)
        if sites != "none":
            plstm("dump", "--what", "masks", "--keep", str(keep), "--dropout-sites", sites, "--step", str(window), "--out",
                  path(f"{name}.masks"), *shape)
        for backend, double, _ in SIDES:
            ours[name, backend] = dump_gradients(name, backend, path(f"{name}.init"), H, L, B, T, keep, sites, window)
            jobs.append({"do": "gradients", "name": f"{name}.{backend}", "weights": path(f"{name}.init"), "data": path("data"), "batch": B,
                         "seq": T, "keep": keep, "window": window, "double": double, "out": path(f"{name}.{backend}.torch"),
                         "masks": path(f"{name}.masks") if sites != "none" else None})
        jobs.append({"do": "draw", "name": f"{name}.draw", "V": 31, "H": H, "L": L, "T": T, "B": B, "keep": keep, "seed": SEED, "init": 0.4,
                     "sites": {"none": 1, "nonrecurrent": L + 1, "all": 2 * L + 1}[sites], "step": window,
                     "init_out": path(f"{name}.init.torch"), "masks_out": path(f"{name}.masks.torch")})

    plstm("train", "--data", path("data"), "--eval", "none", "--lr", "1", "--clip", "2", "--init", "0.2", "--max-steps", "20",
          "--epochs", "9", "--dropout-sites", "none", "--log-json", path("train.jsonl"), "--quiet", *shape_options(20, 2, 5, 6))
    plstm("dump", "--what", "init", "--init", "0.2", "--data", path("data"), "--out", path("train.init"), *shape_options(20, 2, 5, 6))
    jobs.append({"do": "train", "name": "train", "weights": path("train.init"), "data": path("data"), "batch": 5, "seq": 6, "steps": 20,
                 "lr": 1.0, "clip": 2.0})

    plstm("train", "--data", path("data"), "--eval", "none", "--epochs", "1", "--save", path("epoch.st"), "--quiet",
          *shape_options(12, 2, 4, 6))
    for official in (False, True):
        jobs.append({"do": "load", "name": f"load.{official}", "weights": path("epoch.st"), "official": official})
    jobs.append({"do": "make", "name": "make", "V": 31, "H": 14, "L": 2, "seed": 3, "out": path("theirs.st")})
    jobs.append({"do": "gradients", "name": "theirs", "weights": path("theirs.st"), "data": path("data"), "batch": 4, "seq": 6, "keep": 1.0,
                 "window": 0, "double": False, "masks": None, "out": path("theirs.torch")})

    with open(path("jobs.json"), "w", encoding="utf-8") as f:
        json.dump(jobs, f)
    done = subprocess.run([sys.executable, TWIN, "jobs", path("jobs.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=200)
    if done.returncode == NO_TORCH:
        unavailable = done.stderr.strip()
        return
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        answers[answer["name"]] = answer


def answer_to(name):
    if unavailable:
        raise tap.Skip(unavailable)
    answer = answers[name]
    assert "error" not in answer, answer
    return answer


def close(ours_value, theirs_value, bound, what):
    assert abs(ours_value - theirs_value) <= bound * abs(theirs_value), f"{what}: {ours_value!r} here, {theirs_value!r} in PyTorch"


def compare_gradients(ours_path, theirs_path, bound, may_vanish=()):
    mine, _ = safetensors_read.read(ours_path)
    theirs, _ = safetensors_read.read(theirs_path)
    assert set(mine) == set(theirs), (list(mine), list(theirs))
    for name, tensor in theirs.items():
        assert mine[name].shape == tensor.shape, name
        other, values = mine[name].values(), tensor.values()
        off = math.sqrt(sum((a - b) ** 2 for a, b in zip(other, values)))
        norm = math.sqrt(sum(b * b for b in values))
        assert norm > 0 or name.startswith(may_vanish), f"{name} has no gradient at all"
        assert off <= bound * norm, f"{name}: off by {off / norm:.2e} of its norm, bound {bound}"


def gradient_test(case, backend, bound, T):
    # In the first step, from a zero state, W_hh has no effect.
    may_vanish = ("rnn.weight_hh",) if T == 1 else ()

    def run():
        answer = answer_to(f"{case}.{backend}")
        close(ours[case, backend]["loss"], answer["loss"], bound, "loss")
        close(ours[case, backend]["grad_norm"], answer["grad_norm"], bound, "gradient norm")
        compare_gradients(path(f"{case}.{backend}.ours"), path(f"{case}.{backend}.torch"), bound, may_vanish)

    return run


def draw_test(case, sites):
    def run():
        answer_to(f"{case}.draw")
        for what in ["init"] + (["masks"] if sites != "none" else []):
            mine, _ = safetensors_read.read(path(f"{case}.{what}"))
            theirs, _ = safetensors_read.read(path(f"{case}.{what}.torch"))
            assert set(mine) == set(theirs), (list(mine), list(theirs))
            for name, tensor in theirs.items():
                assert (mine[name].shape, mine[name].data) == (tensor.shape, tensor.data), f"{what}: {name} differs"

    return run


for case in CASES:
    for side in SIDES:
        globals()[f"test_gradients_{case[0]}_{side[0]}"] = gradient_test(case[0], side[0], side[2], case[4])
    globals()[f"test_weights_and_masks_drawn_apart_{case[0]}"] = draw_test(case[0], case[6])


def test_twenty_steps_of_training():
    """Two programs that round differently diverge slowly: over twenty clipped steps, nats must agree within 1e-4 of
    their value and gradient norms within 1e-3."""
    answer = answer_to("train")
    with open(path("train.jsonl"), encoding="utf-8") as f:
        steps = [event for event in map(json.loads, f) if event["event"] == "step"]
    assert len(steps) == len(answer["steps"]) == 20
    assert any(step["grad_norm"] > 2 for step in steps), "clipping took no part"
    for mine, theirs in zip(steps, answer["steps"]):
        close(mine["nats"], theirs["nats"], 1e-4, f"nats of step {mine['step']}")
        close(mine["grad_norm"], theirs["grad_norm"], 1e-3, f"gradient norm of step {mine['step']}")


def check_load(name):
    answer = answer_to(name)
    if "missing" in answer:
        raise tap.Skip(f"{answer['missing']}; the twin's small reader took its place in test_our_file_loads_strictly")
    mine, _ = safetensors_read.read(path("epoch.st"))
    assert set(mine) == set(answer["sums"])
    for tensor, total in answer["sums"].items():
        values = mine[tensor].values()
        assert abs(math.fsum(values) - total) <= 1e-9 * math.fsum(map(abs, values)), tensor


def test_our_file_loads_strictly():
    """A checkpoint from the end of an epoch loads into the module of pytorch/examples by load_state_dict(strict=True)."""
    check_load("load.False")


def test_our_file_loads_with_the_official_package():
    check_load("load.True")


def test_their_file_loads_here():
    """Weights that PyTorch initialised and wrote, without our metadata and in another order, load here."""
    answer_to("make")
    answer = answer_to("theirs")
    mine = dump_gradients("theirs", "cpu", path("theirs.st"), 14, 2, 4, 6, 1.0, "none", 0)
    close(mine["loss"], answer["loss"], 1e-6, "loss")
    compare_gradients(path("theirs.cpu.ours"), path("theirs.torch"), 1e-5)


prepare()
tap.main(globals())
