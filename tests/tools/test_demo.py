"""Tests tools/demo.py with a fake plstm that only writes logs: the table, the claims, failures, signals and figures."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", "tools", "demo.py")

# Environment variables control the fake plstm. FAKE has the test perplexities of none, its best epoch, nonrecurrent, all
# and best possible; the run with the sites FAKE_FAIL fails, and that with FAKE_SLEEP hangs. Each process creates a file in
# the folder FAKE_PIDS whose name is its process id.
FAKE = """#!PYTHON
import json, os, sys, time
args = dict(zip(sys.argv[2::2], sys.argv[3::2])) if sys.argv[1] != "data" else {}
ppl = dict(zip(("none", "best", "nonrecurrent", "all", "possible"), map(float, os.environ["FAKE"].split())))
if sys.argv[1] == "data":
    print("train        39999   13.9000\\nvalid        14999   13.4000\\ntest         29999   13.5000")
    sys.exit(0)
argv = [a for a in sys.argv[2:] if a != "--quiet"]
args = dict(zip(argv[0::2], argv[1::2]))
sites = args.get("--dropout-sites", "best")
open(os.path.join(os.environ["FAKE_PIDS"], str(os.getpid())), "w").close()
if sites == os.environ.get("FAKE_SLEEP"):
    time.sleep(60)
if sites == os.environ.get("FAKE_FAIL"):
    print("a hint\\nplstm: the sentence that says why", file=sys.stderr)
    sys.exit(3)
log = open(args["--log-json"], "w")
def say(**event):
    log.write(json.dumps(event) + "\\n")
say(event="run", epochs=3, windows=2, keep=float(args.get("--keep", 0.5)), device="a fake", commit="none")
worse = 0.8 - float(args.get("--keep", 0.5)) if sites == "all" else 0
if sites == "best":
    assert open(args["--weights"]).read() == "weights", args
else:
    open(args["--save-best"], "w").write("weights")
    for epoch in (1, 2, 3):
        for step in (2 * epoch - 2, 2 * epoch - 1):
            say(event="step", step=step, epoch=epoch, tokens=400, words_per_s=20000.0)
        valid = {1: 30.0, 2: 20.0, 3: 25.0}[epoch]
        say(event="epoch", epoch=epoch, train_ppl=40.0 - epoch, valid_ppl=valid, valid_ppl_paper=valid, lr=1, seconds=1)
classes = {name: {"ppl": ppl[sites] + i, "best_ppl": ppl["possible"] + i, "tokens": 10}
           for i, name in enumerate(("content", "after_short", "after_long", "filler"))}
name, key = ("eval", "ppl") if sites == "best" else ("test", "test_ppl")
say(event=name, protocol="zaremba", tokens=29999, best_ppl=ppl["possible"], classes=classes, **{key: ppl[sites] + worse})
"""
GOOD = "79 21.5 15.6 17.3 13.5"


class Demo:
    """A run of demo.py on the fake, in a folder of its own."""

    def __init__(self, folder, *options, stderr=subprocess.PIPE, **environment):
        self.folder, self.out = folder, os.path.join(folder, "out")
        self.pids = os.path.join(folder, "pids")
        os.makedirs(self.pids, exist_ok=True)
        fake = os.path.join(folder, "plstm")
        with open(fake, "w", encoding="utf-8") as f:
            f.write(FAKE.replace("PYTHON", sys.executable))
        os.chmod(fake, 0o755)
        environment = {"FAKE": GOOD, **environment}
        self.process = subprocess.Popen([sys.executable, DEMO, "--plstm", fake, "--out", self.out, *options],
                                        env=dict(os.environ, FAKE_PIDS=self.pids, **environment), text=True,
                                        stdout=subprocess.PIPE, stderr=stderr)

    def finish(self, status):
        self.stdout, self.stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == status, (self.process.returncode, self.stdout, self.stderr)
        return self

    def results(self, name="results.jsonl"):
        with open(os.path.join(self.out, name), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def alive(self):
        found = []
        for pid in map(int, os.listdir(self.pids)):
            try:
                os.kill(pid, 0)
                found.append(pid)
            except ProcessLookupError:
                pass
        return found


def in_folder(test):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
    return run


@in_folder
def test_table_and_results(folder):
    demo = Demo(folder).finish(0)
    lines = demo.stdout.splitlines()
    rows = {line[:32].rstrip(): line[32:].split() for line in lines[1:9]}
    assert rows["no dropout (end)"][:4] == ["37.00", "25.00", "79.00", "20000"], lines
    assert rows["no dropout (best epoch 2)"][:5] == ["38.00", "20.00", "21.50", "-", "-"], lines
    assert rows["non-recurrent dropout"][2] == "15.60", lines
    assert rows["naive dropout (all connections)"][2] == "17.60", lines
    assert rows["best possible"] == ["13.90", "13.40", "13.50", "-", "-", "13.50", "14.50", "15.50", "16.50"], lines
    assert [line for line in lines[1:9] if line.strip("-")][-1].startswith("best possible"), lines
    assert sum(line.startswith("Result: ") for line in lines) == 1, lines
    results = demo.results()
    assert [r["sites"] for r in results] == ["none", "nonrecurrent", "all"]
    assert results[0]["best_epoch_test_ppl"] == 21.5 and results[0]["best_epoch"] == 2
    for record in results:
        assert {"sites", "seed", "train_ppl", "valid_ppl", "test_ppl", "best_ppl", "seconds"} <= set(record)
        assert record["seed"] == 1 and record["best_ppl"] == 13.5


@in_folder
def test_several_seeds_are_summarised(folder):
    demo = Demo(folder, "--seeds", "3").finish(0)
    assert len(demo.results()) == 9
    assert "79.00 ±0.00" in demo.stdout and "seeds 1, 2, 3" in demo.stdout, demo.stdout
    for seed in (1, 2, 3):
        assert f"seed {seed}: non-recurrent 15.60 is" in demo.stdout, demo.stdout


def broken(folder, numbers, says):
    demo = Demo(folder, FAKE=numbers).finish(1)
    assert says in demo.stderr and demo.stderr.count("does not hold") == 1, demo.stderr
    assert len(demo.results()) == 3


@in_folder
def test_claim_on_naive(folder):
    broken(folder, "79 21.5 15.6 15.9 13.5", "at least 4 % below naive dropout: 15.60 against 16.20")


@in_folder
def test_claim_on_best_epoch(folder):
    broken(folder, "79 18 15.6 17.3 13.5", "at least 15 % below the best epoch of no dropout: 15.60 against 18.00")


@in_folder
def test_claim_on_the_end(folder):
    broken(folder, "30 21.5 15.6 17.3 13.5", "at most half of no dropout at the end")


@in_folder
def test_claim_on_the_possible(folder):
    broken(folder, "79 21.5 15.6 17.3 12", "at most a quarter above the best possible")


@in_folder
def test_failed_training_is_one_sentence(folder):
    demo = Demo(folder, FAKE_FAIL="nonrecurrent").finish(1)
    assert "non-recurrent dropout, seed 1 failed (exit status 3): plstm: the sentence that says why;" in demo.stderr, demo.stderr
    assert not demo.alive()


@in_folder
def test_failed_scoring_is_one_sentence(folder):
    demo = Demo(folder, FAKE_FAIL="best").finish(1)
    assert "no dropout, seed 1, best epoch failed" in demo.stderr, demo.stderr


@in_folder
def test_missing_program_is_one_sentence(folder):
    done = subprocess.run([sys.executable, DEMO, "--plstm", os.path.join(folder, "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is not there" in done.stderr and "Traceback" not in done.stderr, done.stderr


def stopped(folder, number, status):
    demo = Demo(folder, FAKE_SLEEP="none")
    deadline = time.monotonic() + 30
    while not demo.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert demo.alive()
    demo.process.send_signal(number)
    demo.finish(status)
    assert not demo.alive(), "a child outlived demo.py"
    assert "Traceback" not in demo.stderr, demo.stderr


@in_folder
def test_ctrl_c_ends_the_children(folder):
    stopped(folder, signal.SIGINT, 130)


@in_folder
def test_sigterm_ends_the_children(folder):
    stopped(folder, signal.SIGTERM, 143)


@in_folder
def test_lines_rewrite_themselves_on_a_terminal(folder):
    ours, theirs = os.openpty()
    demo = Demo(folder, "--seeds", "2", stderr=theirs, TERM="xterm")
    os.close(theirs)
    said = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other side has closed it
            break
        if not data:
            break
        said += data
    os.close(ours)
    demo.finish(0)
    assert b"\x1b[" in said and b"of 6 trained" in said, said
    assert said.count(b"test perplexity") == 6, said
    assert b"Traceback" not in said, said


@in_folder
def test_curves_are_drawn_and_repeat(folder):
    first = Demo(folder).finish(0)
    if "gnuplot was not found" in first.stderr:
        raise tap.Skip("gnuplot was not found")
    path = os.path.join(first.out, "curves.svg")
    with open(path, "rb") as f:
        svg = f.read()
    assert xml.etree.ElementTree.fromstring(svg).tag.endswith("svg")
    assert b"NaN" not in svg
    os.unlink(path)
    Demo(folder).finish(0)
    with open(path, "rb") as f:
        assert f.read() == svg


@in_folder
def test_continues_without_gnuplot(folder):
    demo = Demo(folder, PATH=folder).finish(0)
    assert "gnuplot was not found" in demo.stderr, demo.stderr
    assert not os.path.exists(os.path.join(demo.out, "curves.svg"))
    assert len(demo.results()) == 3


@in_folder
def test_keep_curve(folder):
    demo = Demo(folder, "--keep-curve", "--seeds", "2").finish(0)
    assert len(demo.results()) == 6
    curve = demo.results("keep_curve.jsonl")
    found = sorted((r["sites"], r["keep"], r["seed"]) for r in curve)
    assert found == sorted((s, k, n) for s in ("nonrecurrent", "all") for k in (0.35, 0.5, 0.65, 0.8) for n in (1, 2)), found
    lines = {line.split()[0]: line.split()[1:] for line in demo.stdout.split("naive is worse by")[1].splitlines()
             if line.startswith("  0.")}
    assert lines["0.35"][:2] == ["15.60", "17.75"] and lines["0.80"][:2] == ["15.60", "17.30"], lines


if __name__ == "__main__":
    tap.main(globals())
