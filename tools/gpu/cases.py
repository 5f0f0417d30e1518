"""The stages that tools/gpu/run.py runs, each a function of the Run. Estimates and limits are in seconds."""
import glob
import json
import math
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import kernel_list  # noqa: E402
import watched  # noqa: E402

# H, and T of its preset; the most informative shape is first.
ORDER = ((650, 35), (1500, 35), (200, 20))
B = 20
KNOWN = kernel_list.telling()
BASELINE = KNOWN[0].name
TUNED = BASELINE + "_tuned"  # runs the fastest of cuBLASLt's algorithms
BY_FLAGS = "mma_flag"  # mma with the exchange that its plans do not use
# {variant: precisions to train in}
VARIANTS = {v.name: v.trains_in for v in KNOWN}
ON_CHIP = {v.name for v in KNOWN if v.persistent}
TENSOR = [v.name for v in KNOWN if v.tensor][:2]  # call 2 has no time for more
PREFLIGHT = "--hidden 200 --layers 2 --batch 20 --seq 20 --keep 0.5 --max-steps 20".split()
# Largest relative difference of the first minibatch's nats and gradient norm from those of cublas in f32 that rounding
# can explain.
NEAR = {"f32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
HEADLINES = r"^(lstm/(fwd|fwdbwd)/cudnn/f16/H:768|step/torch/(f32|bf16)|lstm/fwdbwd/cudnn/(f16|bf16)/H:(200|650|1500))/"
TINY_TRAINING = "train --data synthetic --backend cuda --hidden 20 --layers 2 --batch 3 --seq 5 --keep 0.5 " \
    "--max-steps 4 --eval none".split()

# ---- tiny shapes, for the rehearsal on the emulated GPU ----

TINY_PTB = "--hidden 8 --layers 1 --batch 4 --seq 5 --epochs 1".split()
TINY_PROFILE = "H=8 B=2 T=3".split()
TINY_TESTS = {"test_kernels": "columns_are_summed", "test_backend_cuda": "logits_are_those_of_the_nats",
              "test_cuda_precision": "cuda_keeps_to_the_bound"}


def tiny_order():
    return ((20, 5),)


# ---- reading ----


def json_lines(path):
    """Returns the objects of a log's complete lines."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
    except OSError:
        pass
    return [e for e in found if isinstance(e, dict)]


def ended(log):
    return any(e.get("event") == "test" for e in json_lines(log))


def variants_of(run):
    """Returns {variant: precisions} from the program's own list, in the order of VARIANTS with the others after them."""
    said = None if run.dry else watched.output([run.plstm, "variants"], run.short)
    found = {}
    for line in (said or "").splitlines():
        match = re.match(r"(\w+) +forward, backward +((?:tf32|f32|bf16)(?:, (?:tf32|f32|bf16))*) ", line)
        if match:
            found[match[1]] = tuple(match[2].split(", "))
    if not found:
        return dict(VARIANTS)
    order = list(VARIANTS)
    names = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    return {name: VARIANTS.get(name, found[name]) for name in names}


# ---- call 1 ----


def preflight(run):
    smi = "nvidia-smi -q -d CLOCK,ECC,MEMORY,PERFORMANCE,POWER,TEMPERATURE"
    summary = "nvidia-smi --format=csv " \
        "--query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current,mig.mode.current," \
        "persistence_mode"
    tools = "nvcc --version; ncu --version; compute-sanitizer --version; uname -srm; nproc; df -h /dev/shm ."
    run.step("machine", 3, run.short, ["sh", "-c", f"{summary}; {smi}; {tools}; exit 0"], gpu=False)
    run.step("version", 0, run.short, [run.plstm, "--version"], gpu=False)
    run.step("devices", 1, run.cold, [run.plstm, "devices"], gpu=False)
    counter = os.path.abspath(f"{run.top}/lib/liblaunch_count.so") if os.path.exists(f"{run.top}/lib/liblaunch_count.so") else ""
    run.step("libraries", 2, run.cold, [run.bench, "--libraries"], gpu=False, **({"CUDA_INJECTION64_PATH": counter} if counter else {}))
    exact = None
    for variant, precisions in variants_of(run).items():
        for precision in precisions:
            if run.why_bad(variant, precision):
                run.skip(f"{variant}-{precision}", run.why_bad(variant, precision))
                continue
            exact = one_preflight(run, variant, precision, exact) or exact


def one_preflight(run, variant, precision, exact):
    """Runs some training steps. Returns the first minibatch's (nats, gradient norm) if this is the baseline in f32, with
    which the other variants are compared, else None. `exact` is that result, or None before it is known."""
    name, log = f"{variant}-{precision}", run.file("raw", f"preflight-{variant}-{precision}.jsonl")
    shape = TINY_TRAINING[5:-2] if run.tiny else PREFLIGHT
    # The first step loads cuBLAS.
    done = run.step(name, 2.4, run.cold if (variant, exact) == (BASELINE, None) else run.short,
                    [run.plstm, "train", "--data", "synthetic", "--backend", "cuda", *shape,
                     "--kernel", variant, "--precision", precision,
                     "--eval", "none", "--quiet", "--log-json", log, "--log-every", "1"])
    if run.dry or done.verdict == "no time":
        return None
    if not done.ok:
        last = [line for line in done.said().splitlines() if ": " in line]
        why = f"{done.verdict}, exit status {done.status}" + (f": {last[-1][:300]}" if last else "")
        # A variant that hung once would hang again, so its other precisions are not tried.
        run.blame(variant, "any" if done.verdict == "timeout" else precision, why)
        return None
    steps = [e for e in json_lines(log) if e.get("event") == "step"]
    first = tuple(steps[0].get(key) for key in ("nats", "grad_norm")) if steps else ()
    if not steps or any(e.get(key) is None or not math.isfinite(e[key]) for e in steps for key in ("nats", "grad_norm")):
        run.blame(variant, precision, "wrong: a minibatch's nats or gradient norm is not a number")
    elif exact and any(abs(ours - theirs) > NEAR[precision] * abs(theirs) for ours, theirs in zip(first, exact)):
        run.blame(variant, precision, f"wrong: the first minibatch has nats {first[0]:.9g} and gradient norm {first[1]:.9g}; "
                                      f"cublas in f32 has {exact[0]:.9g} and {exact[1]:.9g}")
    else:
        return first if (variant, precision) == (BASELINE, "f32") else None
    run.failures += 1
    for what in ("fwd", "bwd"):
        run.step(f"{name}-{what}-first-element", 0, run.short / 2, once(run, what, variant, precision), PLSTM_TUNE="1")
    return None


def row_of(run, what, variant, precision):
    return f"lstm/{what}/{variant}/{precision}/" + ("H:20/B:3/T:5" if run.tiny else "H:200/B:20/T:20")


def once(run, what, variant, precision, row=None):
    return [run.bench, *(["--tiny"] if run.tiny else []), f"--once={row or row_of(run, what, variant, precision)}"]


def small(run):
    for precision in ("bf16", "f32"):
        run.train("small", precision, 1, 15, 30)


def rows(run):
    for H, T in run.order:
        shape = f"H:{H}/B:{3 if run.tiny else B}/T:{T}/iter"
        run.rows("rows-step", H, 6, 15, f"^step/cuda/[a-z0-9]+/{shape}")
        last = {BASELINE: KNOWN[0].precisions, TUNED: KNOWN[0].precisions}
        for variant, precisions in {**{v: p for v, p in variants_of(run).items() if v != BASELINE}, **last}.items():
            needed = BASELINE if variant == TUNED else variant
            good = [p for p in precisions if not run.why_bad(needed, p)]
            if not good:
                run.skip(f"rows-{variant}-{H}", "; ".join(run.bad[needed].values()))
                continue
            run.rows(f"rows-{variant}", H, 3.9, 15, f"^lstm/(fwd|bwd)/{variant}/[a-z0-9]+/{shape}",
                     f"--variants={variant}", f"--precision={','.join(good)}")
        if H != 200 and not run.why_bad("mma", "bf16"):
            run.rows(f"rows-{BY_FLAGS}", H, 1.9, 15, f"^lstm/(fwd|bwd)/{BY_FLAGS}/bf16/{shape}",
                     f"--variants={BY_FLAGS}", "--precision=bf16")


def tests(run):
    run.test("test_kernels", 30, 45)
    run.test("test_backend_cuda", 30, 45)


def torch(run):
    command = ["python3", "tools/torch/torch_peer.py", "--out", run.file("torch.json"), "--seconds", "0.25",
               *(["--tiny"] if run.tiny else ["--filter", HEADLINES])]
    run.step("headlines", 35, 50, command)


def cudnn(run):
    for H, T in run.order:
        shape = f"H:{H}/B:{3 if run.tiny else B}/T:{T}/iter"
        for variant, precision in (*((name, "bf16") for name in TENSOR), (BASELINE, "tf32")):
            if run.why_bad(variant, precision):
                run.skip(f"layer-{variant}-{H}", run.why_bad(variant, precision))
                continue
            run.rows(f"layer-{variant}", H, 2, 15, f"^layer/fwdbwd/{variant}/{precision}/{shape}",
                     f"--variants={variant}", "--directions=fwdbwd", f"--precision={precision}")
        # cuDNN's static algorithm has no bf16.
        run.rows("cudnn", H, 14, 30, f"^lstm/fwdbwd/cudnn-(standard/(f16|bf16)|static/f16)/{shape}",
                 "--variants=cudnn-standard,cudnn-static",
                 "--directions=fwdbwd", "--precision=f16,bf16")


def medium(run):
    run.train("medium", "bf16", 1, 45, 75)


def constants(run):
    run.step("constants", 59, 75, [run.bench, "--tiny" if run.tiny else "--seconds=0.15", f"--constants={run.file('constants.json')}"])


def large(run):
    run.train("large", "bf16", 1, 120, 165)


# ---- call 2 ----


def failing_rows(run):
    """Returns [(name for a file, row)] of the failures: those of the preflight first, then those of rows."""
    found = []
    for variant, why in run.bad.items():
        for precision, text in why.items():
            if text != "--without":
                found.append((f"{variant}-{precision}",
                              row_of(run, "fwd", variant, precision if precision != "any"
                                     else variants_of(run).get(variant, ("f32",))[0])))
    for path in sorted(glob.glob(run.file("bench-rows-*.json"))):
        with open(path, encoding="utf-8", errors="replace") as f:
            for name, error in re.findall(r'"name": "(lstm/[^"]*?)/iterations[^"]*".*?(?:"error_message": '
                                          r'"([^"]*)"|\n    \})', f.read(), re.DOTALL):
                if error.startswith("wrong: "):
                    found.append((re.sub(r"[^a-z0-9]+", "-", name.lower()), name))
    return found


def failed(run):
    if run.dry:
        print("failed\n  (for each row that failed, two at most: memcheck and racecheck of --once, 40 s each)")
        return
    for name, row in failing_rows(run)[:2 if not run.tiny else 4]:
        for check in ("memcheck", "racecheck"):
            run.step(f"{check}-{name}", 0, 40 if not run.tiny else run.short,
                     ["compute-sanitizer", "--tool", check, "--error-exitcode", "9", *once(run, None, None, None, row)])


def sanitize(run):
    for check in ("memcheck", "racecheck"):
        run.step(f"{check}-train", 18, 40, ["compute-sanitizer", "--tool", check, "--error-exitcode", "9", run.plstm, *TINY_TRAINING])


def precision(run):
    run.test("test_cuda_precision", 14, 40)


def small_log(run, precision, seed):
    return run.file(f"ptb-small{'' if precision == 'f32' else '-' + precision}{'' if seed == 1 else f'-seed{seed}'}.jsonl")


def parity_of(run, precisions, seeds, seconds):
    for seed in seeds:
        for one in ("f32", *precisions):
            run.train("small", one, seed, seconds, 30)
    logs = [small_log(run, one, seed) for seed in (1, *seeds) for one in ("f32", *precisions)]
    done = run.step("interval", 1, 10, ["python3", "tools/parity.py", "--precisions", ",".join(precisions), "--out",
                                        run.file("parity"), "--logs",
                                        *(log for log in logs if run.dry or ended(log))], gpu=False)
    made = run.file("parity", "parity.jsonl")
    if not run.dry and os.path.exists(made) and done.status in (0, 1):
        with open(made, "rb") as f, open(run.file("parity.jsonl"), "wb") as to:
            to.write(f.read())


def parity(run):
    parity_of(run, ("bf16",), (2, 3), 7)


def profile(run):
    for kernel in TENSOR:
        run.profile(kernel, "bf16", 14, 45)


def fits(run):
    for H, _ in [one for one in run.order if one[0] != 1500]:
        for variant in TENSOR:
            if run.why_bad(variant, "bf16"):
                run.skip(f"fit-{variant}-{H}", run.why_bad(variant, "bf16"))
                continue
            run.rows(f"fit-{variant}", H, 6.5, 20, f"^lstm/(fwd|bwd)/{variant}/bf16/H:{H}/.*(T:[0-9]+/iter|fit/)",
                     f"--variants={variant}", "--precision=bf16")


# ---- call more ----


def peers(run):
    for H, _ in run.order:
        run.rows("peers", H, 40, 60, "^(lstm/(fwd|fwdbwd)/cudnn|layer/)")
        run.rows("peers2", H, 40, 60, "^(lstm2|layer2)/")


def kernels(run):
    for H, _ in run.order:
        run.rows("kernels", H, 25, 40, "^(layers|gemm)/")
        run.rows("steps", H, 25, 40, "^step/.*/kernel:")


def trainings(run):
    for preset, precision, seconds in (("medium", "f32", 80), ("small", "tf32", 10), ("medium", "tf32", 50),
                                       ("large", "tf32", 110), ("large", "f32", 380)):
        run.train(preset, precision, 1, seconds, 500)


def seeds(run):
    parity_of(run, ("tf32", "bf16"), (2, 3, 4, 5), 8)


def torch_all(run):
    copies = [part for name in ("flashrnn", "haste") if os.environ.get(name.upper()) for part in (f"--{name}", os.environ[name.upper()])]
    run.step("all", 200, 300, ["python3", "tools/torch/torch_peer.py", "--out", run.file("torch.json"), *copies])


PROFILED = ("layers/softmax_xent/f32/H:650/B:20/T:35", "layers/embedding_bwd/f32/H:650/B:20/T:35", "layers/sgd_norm/f32/H:1500/B:20/T:35",
            "layers/sgd_update/f32/H:1500/B:20/T:35")


def profile_all(run):
    for variant, precisions in variants_of(run).items():
        for one in precisions:
            run.profile(variant, one, 20, 60)
    for row in PROFILED:
        name = re.sub("[/:]", "-", row.split("/B:")[0])
        run.step(name, 20, 60, ["tools/profile.sh", f"PLSTM={run.plstm}", f"BENCH={run.bench}", f"BUILD={run.top}",
                                f"ROW={row}", "TOOL=ncu", "METRICS=roofline",
                                f"OUT={run.file('profile', name)}"])


def tests_all(run):
    programs = sorted(p for p in glob.glob(f"{run.tests}/test_*") if os.access(p, os.X_OK))
    if not programs and not run.dry:
        run.refuse("programs", f"no GPU test in {run.tests}")
    for program in programs:
        run.test(os.path.basename(program), 30, 180)


def sanitize_kernels(run):
    for check in ("memcheck", "racecheck"):
        run.step(f"{check}-kernels", 150, 200, ["compute-sanitizer", "--tool", check, "--error-exitcode", "9",
                                                f"{run.tests}/test_kernels"], REQUIRE_GPU="1")


STAGES = {"preflight": preflight, "small": small, "rows": rows, "tests": tests, "torch": torch, "cudnn": cudnn, "medium": medium,
          "constants": constants, "large": large, "failed": failed, "sanitize": sanitize, "precision": precision, "parity": parity,
          "profile": profile, "fits": fits, "peers": peers, "kernels": kernels, "trainings": trainings, "seeds": seeds,
          "torch-all": torch_all, "profile-all": profile_all, "tests-all": tests_all, "sanitize-kernels": sanitize_kernels}
