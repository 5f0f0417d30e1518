"""Tests tools/parity.py: its arithmetic on invented perplexities, and a short run.

The short run trains three seeds for 30 minibatches, in float32 and in simulated bf16, and compares the interval of the difference with
+-5 %. It shows that bf16 trains at all, not that it costs nothing. At that point two trainings that differ in rounding are still close
(within 0.7 % here); after 60 minibatches they have diverged by an amount that depends on the CPU. The claim of half a per cent takes
minutes (make parity)."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import parity

PLSTM = os.environ.get("PLSTM") or os.path.join(ROOT, os.environ.get("PLSTM_BUILD", "build"), "plstm")
SHORT = ["--data", "synthetic", "--backend", "cpu", "--threads", "1", "--hidden", "24", "--layers", "1", "--batch", "20", "--seq", "20",
         "--max-steps", "30", "--epochs", "2"]


def run(folder, *options):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "parity.py"), "--plstm", PLSTM, "--out", folder, *options],
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_interval():
    mean, half = parity.interval([1, 2, 3, 4, 5])
    assert mean == 3 and abs(half - 2.776 * 2.5 ** 0.5 / 5 ** 0.5) < 1e-12
    assert parity.interval([2, 2])[1] == 0
    # Beyond the table its last value is used, which gives a wider interval.
    assert abs(parity.interval([0, 1] * 50)[1] - 2.042 * (25 / 99) ** 0.5 / 10) < 1e-12


def test_intervals_inside_and_outside():
    runs = {"f32": {1: 100.0, 2: 200.0, 3: 50.0}, "bf16": {1: 100.1, 2: 200.2, 3: 50.05}, "tf32": {1: 100.0, 2: 204.0}}
    text, inside = parity.compare(runs, ["bf16"], 0.5)
    assert inside and "3 seeds: +0.100 % +- 0.000 %" in text, text
    text, inside = parity.compare(runs, ["bf16"], 0.05)
    assert not inside and "NOT inside" in text
    # Only the seeds that all precisions have are compared, and one failing precision is enough.
    text, inside = parity.compare(runs, ["bf16", "tf32"], 0.5)
    assert not inside and "2 seeds" in text and "3 seeds" not in text, text
    try:
        parity.compare({"f32": {1: 100.0}, "bf16": {1: 100.0}}, ["bf16"], 0.5)
    except parity.Failure as sentence:
        assert "two" in str(sentence)
    else:
        raise AssertionError("one seed has no interval")


def test_short_run():
    with tempfile.TemporaryDirectory() as folder:
        options = ("--seeds", "3", "--precisions", "bf16", "--tolerance", "5", *SHORT)
        status, said = run(folder, *options)
        assert status == 0, said
        with open(os.path.join(folder, "parity.jsonl"), encoding="utf-8") as f:
            records = [json.loads(line) for line in f]
        assert [(r["seed"], r["precision"]) for r in records] == [(str(s), p) for s in (1, 2, 3) for p in ("f32", "bf16")]
        assert all(a["test_ppl"] != b["test_ppl"] for a, b in zip(records[::2], records[1::2]))
        logs = {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder) if name.startswith(("f32", "bf16"))}
        again = run(folder, *options)
        assert again == (status, said) and all(os.path.getmtime(os.path.join(folder, n)) == t for n, t in logs.items())
        status, said = run(folder, "--seeds", "3", "--precisions", "bf16", "--tolerance", "0.001", *SHORT)
        assert status == 1 and "NOT inside" in said, said


def test_logs_of_trainings_that_ended():
    with tempfile.TemporaryDirectory() as folder:
        logs = []
        for seed in (1, 2, 3):
            for precision, ppl in (("f32", 100.0 * seed), ("bf16", 100.1 * seed)):
                logs.append(os.path.join(folder, f"{precision}-{seed}.jsonl"))
                with open(logs[-1], "w", encoding="utf-8") as f:
                    f.write(json.dumps({"event": "run", "seed": str(seed), "precision": precision, "backend": "cuda",
                                        "kernel": "cluster", "corpus": "Penn Treebank",
                                        "layers": 2, "hidden": 200, "epochs": 13}) + "\n")
                    f.write(json.dumps({"event": "test", "test_ppl": ppl, "tokens": 9, "protocol": "zaremba"}) + "\n")
        status, said = run(folder, "--precisions", "bf16", "--logs", *logs)
        assert status == 0 and "3 seeds: +0.100 % +- 0.000 %" in said, said
        with open(os.path.join(folder, "parity.jsonl"), encoding="utf-8") as f:
            assert [json.loads(line)["test_ppl"] for line in f] == [100.0, 100.1, 200.0, 200.2, 300.0, 100.1 * 3]
        with open(logs[0], "w", encoding="utf-8") as f:
            f.write('{"event": "run"}\n')
        status, said = run(folder, "--precisions", "bf16", "--logs", *logs)
        assert status == 1 and "not the log of a training that has ended" in said, said


def test_refusals():
    with tempfile.TemporaryDirectory() as folder:
        assert run(folder, "--seeds", "1")[0] == 2
        assert run(folder, "--precisions", "f16")[0] == 2
        status, said = run(folder, "--seeds", "2", "--data", os.path.join(folder, "none"))
        assert status == 1 and said.startswith("parity: ") and "exit status 3" in said, said


if __name__ == "__main__":
    tap.main(globals())
