"""Tests tools/bench_cpu.py with stand-ins for plstm's benchmark and for PyTorch: turns, medians, refusals."""
import json
import os
import stat
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap  # noqa: E402

TOOL = os.path.join(HERE, "../../tools/bench_cpu.py")

# Each call is one round: its rate is the next of RATES.
BENCH = """#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "turns"), "a") as f: f.write("plstm\\n")
with open(os.path.join(folder, "turns")) as f: turn = f.read().count("plstm") - 1
options = dict(a[2:].split("=", 1) for a in sys.argv[1:])
shape = options["benchmark_filter"].split("f32/")[1].split("|")[0]
rate = RATES[turn]
rows = []
for suffix, share in (("", 1.0), ("/threads:1", 0.5)):
    rows.append({"name": f"step/cpu/f32/{shape}{suffix}", "words/s": rate * share, "FLOP/s": rate * share * 1e6, "first_nats": NATS})
    rows.append({"name": f"sgemm/step/{shape}{suffix}", "FLOP/s": 4e9 * share})
    rows.append({"name": f"sgemm/square/n:2048{suffix}", "FLOP/s": 8e9 * share})
context = {"threads": "2", "march": "native", "vector_floats": "8", "blas": "A BLAS", "commit": "abc"}
with open(options["benchmark_out"], "w") as f: json.dump({"context": context, "benchmarks": rows}, f)
"""

# A stand-in for a Python that has torch: it is probed and then started with torch_twin.py's arguments.
PYTHON = """#!/usr/bin/env python3
import json, os, sys
if sys.argv[1] == "-c": sys.exit(HAS_TORCH)
assert sys.argv[1].endswith("torch_twin.py") and sys.argv[2] == "bench" and "--python" not in sys.argv, sys.argv
folder = os.path.dirname(os.path.abspath(__file__))
print(json.dumps({"torch": "9.9", "blas": "MKL", "threads": 2, "mode": "eager", "embedding_gradient": "sparse", "first_nats": 9.21,
                  "tried": [], "flop_per_step": 4e8, "sgemm_square_flop_per_s": 8e9, "sgemm_products_flop_per_s": 4e9}), flush=True)
rates = [900.0, 1000.0, 5000.0]
for _ in sys.stdin:
    with open(os.path.join(folder, "turns"), "a") as f: f.write("torch\\n")
    print(rates.pop(0), flush=True)
"""


def run(folder, *options, rates=(2000.0, 1500.0, 100.0), nats=9.21, has_torch=True):
    for name, text in (("bench", BENCH.replace("RATES", str(list(rates))).replace("NATS", str(nats))),
                       ("python", PYTHON.replace("HAS_TORCH", str(int(not has_torch))))):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    command = [sys.executable, TOOL, "--bench", os.path.join(folder, "bench"), "--python", os.path.join(folder, "python"), "--out", folder,
               "--rounds", "3", "--hidden", "200", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def summary(folder):
    with open(os.path.join(folder, "cpu.json"), encoding="utf-8") as f:
        return json.load(f)


def test_turns_and_medians():
    with tempfile.TemporaryDirectory() as folder:
        status, said, complained = run(folder)
        assert status == 0, complained
        with open(os.path.join(folder, "turns"), encoding="utf-8") as f:
            assert f.read().split() == ["plstm", "torch"] * 3
        row = summary(folder)["rows"][0]
        assert row["ours"]["words_per_s"] == 1500 and row["torch"]["words_per_s"] == 1000 and row["ratio"] == 1.5
        assert row["ours"]["of_square"] == 1500e6 / 8e9 and row["ours_other"][0]["threads"] == 1
        assert len(row["ours"]["words_per_s_samples"]) == len(row["torch"]["words_per_s_samples"]) == 3
        assert "1.50 times (reaches 1.25)" in said and "vectors of 8 floats" in said, said


def test_a_loss_is_shown():
    with tempfile.TemporaryDirectory() as folder:
        status, said, complained = run(folder, rates=(700.0, 800.0, 900.0))
        assert status == 0 and "0.80 times (BELOW 1.25)" in said, (said, complained)


def test_shapes_of_earlier_runs_are_kept():
    with tempfile.TemporaryDirectory() as folder:
        run(folder)
        os.remove(os.path.join(folder, "turns"))
        status, _, complained = run(folder, "--hidden", "650")
        assert status == 0, complained
        assert [row["hidden"] for row in summary(folder)["rows"]] == [200, 650]
        other = {**summary(folder), "commit": "other"}
        with open(os.path.join(folder, "cpu.json"), "w", encoding="utf-8") as f:
            json.dump(other, f)
        os.remove(os.path.join(folder, "turns"))
        run(folder, "--hidden", "1500")
        assert [row["hidden"] for row in summary(folder)["rows"]] == [1500]



def test_a_different_cost_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        status, _, complained = run(folder, nats=9.3)
        assert status == 1 and "the first minibatch costs 9.3 nats per word here and 9.21 in PyTorch" in complained, complained


def test_a_python_without_torch():
    with tempfile.TemporaryDirectory() as folder:
        status, _, complained = run(folder, has_torch=False)
        assert status == 1 and "no PyTorch was found to compare with" in complained and "Traceback" not in complained, complained
        status, _, complained = run(folder, "--hidden", "77")
        assert status == 2 and "--hidden must list some of 200,650,1500" in complained, complained


if __name__ == "__main__":
    tap.main(globals())
