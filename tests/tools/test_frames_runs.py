"""Tests the speech demo, the trainings of RESULTS.md on tiny models, and tools/fsdd.py on 40 recordings, if its libraries and the
recordings are available."""
import glob
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import wave

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import frames_runs  # noqa: E402
import fsdd  # noqa: E402

PLSTM = os.path.abspath(os.environ.get("PLSTM", "build/plstm"))
RECORDINGS = os.environ.get("FSDD", os.path.join(ROOT, "..", "shared", "data", "fsdd", "recordings"))


def in_folder(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
    return call


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def write_utterances(folder):
    """Writes alternating labels 0 and 1, and features that show which."""
    for split, utterances in (("train", 24), ("valid", 6), ("test", 6)):
        os.makedirs(os.path.join(folder, split))
        with open(os.path.join(folder, split, "feats.ark"), "w", encoding="ascii") as ark, \
                open(os.path.join(folder, split, "labels"), "w", encoding="ascii") as labels:
            for i in range(utterances):
                ids = [(i + t // 3) % 2 for t in range(5 + i % 4)]
                ark.write(f"u{i} [ " + "\n".join(f"{label} {(t * i) % 5}" for t, label in enumerate(ids)) + " ]\n")
                labels.write(" ".join([f"u{i}", *map(str, ids)]) + "\n")
    with open(os.path.join(folder, "phones"), "w", encoding="ascii") as f:
        f.write("sil 0 silence\na 1\n")


def runs(folder, *options):
    data = os.path.join(folder, "data")
    if not os.path.exists(data):
        write_utterances(data)
    return subprocess.Popen([sys.executable, os.path.join(ROOT, "tools", "frames_runs.py"), data, data, "--plstm", PLSTM, "--work",
                             os.path.join(folder, "work"), "--out", os.path.join(folder, "out"), *options], text=True,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


TINY = ("--only", "none-1", "dropout-1", "unseen-none-1", "--train-options", "--hidden 4 --layers 1 --batch 10 --epochs 3")


@in_folder
def test_runs_write_results_and_are_not_repeated(folder):
    done = runs(folder, *TINY)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    results = [json.loads(line) for line in read(folder, "out", "frames.jsonl").splitlines()]
    assert [(r["name"], r["what"]) for r in results] == [("dropout-1", "main"), ("none-1", "main"), ("unseen-none-1", "unseen")], results
    assert results[1]["setting"] == frames_runs.MAIN["none"] and results[1]["keep"] == 1.0 and results[0]["keep"] < 1, results
    assert all(0 < r["best_epoch_test_acc"] <= 1 and r["best_epoch_test_nats"] > 0 and r["epochs"] == 3 for r in results), results
    assert all(r["lowest_valid_nats"] <= r["best_epoch_valid_nats"] for r in results), results
    assert '"event":"run"' in read(folder, "out", "frames-dropout-1.jsonl") and "without silence" in out, out
    before = os.stat(os.path.join(folder, "work", "none-1", "best.st")).st_mtime_ns
    again = runs(folder, *TINY)
    again.communicate(timeout=60)
    assert again.returncode == 0 and os.stat(os.path.join(folder, "work", "none-1", "best.st")).st_mtime_ns == before


@in_folder
def test_an_interrupted_run_continues(folder):
    options = ("--only", "dropout-1", "--train-options", "--hidden 64 --layers 2 --batch 1 --epochs 40")
    first = runs(folder, *options)
    log = os.path.join(folder, "work", "dropout-1", "log.jsonl")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (os.path.exists(log) and read(log).count('"event":"epoch"') > 1):
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM and "continues" in err, (first.returncode, err)
    assert os.listdir(os.path.join(folder, "out")) == ["partial-frames-dropout-1.jsonl"]
    second = runs(folder, *options)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    epochs = [json.loads(line)["epoch"] for line in read(log).splitlines() if '"event":"epoch"' in line]
    assert epochs == list(range(1, 41)), epochs
    assert sorted(os.listdir(os.path.join(folder, "out"))) == ["frames-dropout-1.jsonl", "frames.jsonl"]


@in_folder
def test_a_failure_is_reported(folder):
    failed = runs(folder, "--only", "none-1", "--train-options", "--layers 0")
    _, err = failed.communicate(timeout=60)
    assert failed.returncode == 1 and err.count("\n") == 1 and "--layers" in err, err


def test_both_sides_are_tuned_alike():
    sides = [name.split(",")[0].split()[0] for name in frames_runs.TUNE]
    assert sides.count("none") <= 4 and sides.count("keep") <= 4 and set(frames_runs.MAIN.values()) <= set(frames_runs.TUNE), sides
    for seed in "123":
        assert {f"none-{seed}", f"dropout-{seed}"} <= set(frames_runs.RUNS)


@in_folder
def test_the_demo_prints_a_table(folder):
    demo = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo_speech.py"), "--plstm", PLSTM, "--out",
                           os.path.join(folder, "demo"),
                           "--train-options", "--hidden 4 --layers 1 --epochs 1 --lr 0"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    assert demo.returncode == 1 and "does not hold" in demo.stderr, (demo.stdout, demo.stderr)  # without training there is no effect
    lines = demo.stdout.splitlines()
    assert [line[:12] for line in lines[3:7]] == ["no dropout (", "no dropout (", "dropout (end", "dropout (bes"], lines
    assert lines[8].split() == ["best", "possible", "-", "-", "72.7", "%", "66.4", "%", "0.76", "-"], lines
    results = [json.loads(line) for line in read(folder, "demo", "results.jsonl").splitlines()]
    assert [r["sites"] for r in results] == ["none",
                                             "nonrecurrent"] and all(0 < r["best_epoch_test_acc"] < r["possible_acc"]
                                                                     for r in results)


# ---- the spoken digits ----


def fsdd_run(*words):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools", "fsdd.py"), *words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=300, check=False)


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(glob.glob(os.path.join(folder, "**"), recursive=True)):
        if os.path.isfile(path):
            with open(path, "rb") as f:
                found.update(os.path.relpath(path, folder).encode() + f.read())
    return found.hexdigest()


def test_splits():
    files = [f"{d}_{s}_{n}.wav" for d in range(2) for s in ("ann", "bob", "cleo") for n in (0, 4, 5, 9, 10, 49)]
    splits = fsdd.splits_of(files, "recordings")
    assert [len(splits[s]) for s in fsdd.SPLITS] == [12, 12, 12] and "1_bob_4.wav" in splits["test"] and "1_bob_9.wav" in splits["valid"]
    splits = fsdd.splits_of(files, "speakers")
    assert all("_ann_" in name for name in splits["train"]) and all("_bob_" in name
                                                                    for name in splits["valid"]) and len(
                                                                        splits["test"]) == 12


@in_folder
def test_missing_libraries_are_named(folder):
    """pip finds no index here, as if it were offline."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "fsdd.py"), folder, os.path.join(folder, "out"),
                           "--venv", os.path.join(folder, "venv")],
                          env=dict(os.environ, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    said = done.stderr.splitlines()
    assert done.returncode == 1 and "kaldi-native-fbank" in said[-1] and "could not install" in said[
        -1] and "Traceback" not in done.stderr, done.stderr


@in_folder
def test_forty_recordings(folder):
    if not os.path.exists(os.path.join(ROOT, "build", "fsdd", fsdd.STAMP)):
        raise tap.Skip("tools/fsdd.py's libraries are not installed: it installs them when it is first run")
    if not os.path.isdir(RECORDINGS):
        raise tap.Skip("the spoken digits are not there: FSDD names the folder of their recordings")
    chosen, out = os.path.join(folder, "recordings"), [os.path.join(folder, name) for name in "ab"]
    os.makedirs(chosen)
    for digit in range(10):
        for number, speaker in ((0, "theo"), (5, "jackson"), (10, "george"), (11, "lucas")):
            shutil.copy(os.path.join(RECORDINGS, f"{digit}_{speaker}_{number}.wav"), chosen)
    for i in range(2):
        done = fsdd_run(chosen, out[i], "--jobs", str(1 + i))
        assert done.returncode == 0, done.stderr
    assert digest(out[0]) == digest(out[1])
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["train", "valid",
                                                       "test"] and "left out" in lines[
                                                           0] and "labels: silence" in lines[3], lines
    data = subprocess.run([PLSTM, "data", out[0], "--task", "frames"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    assert data.returncode == 0, data.stderr
    rows = {line.split()[0]: line.split()[1:] for line in data.stdout.splitlines() if line.startswith(("train", "valid", "test"))}
    for line in lines[:3]:
        name, recordings, _, frames = line.replace(",", "").split()[:4]
        assert rows[name][:2] == [recordings, frames] and rows[name][4:] == ["0", "0", "0"], (line, rows)
    # A recording has one frame of 25 ms every 10 ms, and the label of its loudest frame is not silence.
    with wave.open(os.path.join(chosen, "7_george_10.wav")) as w:
        frames = 1 + (w.getnframes() - 200) // 80
    place = next((line.split()[1] for line in read(out[0], "train", "feats.scp").splitlines() if line.startswith("7_george_10 ")), None)
    assert place, "7_george_10 does not align"
    with open(os.path.join(out[0], "train", "feats.ark"), "rb") as f:
        f.seek(int(place.split(":")[1]))
        assert f.read(5) == b"\0BFM "
        assert struct.unpack("<xixi", f.read(10)) == (frames, 40)
        x = struct.unpack(f"<{40 * frames}f", f.read(160 * frames))
    labels = next(line.split()[1:] for line in read(out[0], "train", "labels").splitlines() if line.startswith("7_george_10 "))
    energy = [sum(x[40 * t:40 * t + 40]) for t in range(frames)]
    assert len(labels) == frames and labels[energy.index(max(energy))] != "0", (labels, energy)


if __name__ == "__main__":
    tap.main(globals())
