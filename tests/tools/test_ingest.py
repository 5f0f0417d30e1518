"""Tests tools/results/ingest.py, which packs the results of a run within the limits, and files an archive under profiles/ even if it was
truncated at any byte."""
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools/results"))
import ingest  # noqa: E402

BENCH = {"context": {"gpu": "NVIDIA H200", "commit": "abc", "host_name": "somebody's", "executable": "/somewhere"}, "benchmarks": [
    {"name": "lstm/fwd/cublas/f32/H:650/B:20/T:35/iterations:1/manual_time", "run_type": "iteration", "iterations": 200, "real_time": 250.0,
     "time_unit": "us", "median_us": 249.5, "p10_us": 248.0, "p90_us": 255.0, "error": 1e-6},
    {"name": "step/cuda/f32/H:650/B:20/T:35", "run_type": "iteration", "median_us": 1500.0, "words/s": 466666.0},
    {"name": "lstm/fwd/reg/f32/H:1500/B:20/T:35", "run_type": "iteration", "error_occurred": True, "error_message": "does not fit"}]}
TORCH = {"context": {"torch": "2.11"},
         "benchmarks": [{"name": "lstm/fwd/cudnn/f32/H:650/B:20/T:35", "median_us": 99.0, "kernels": ["gemm"]}]}


def training_log(ended, steps=1000):
    events = [{"event": "run", "preset": "small", "backend": "cuda"}]
    events += [{"event": "step", "step": n, "tokens": 400, "words_per_s": 1e6 + n, "nats": 0.1234567890123456 * n} for n in range(steps)]
    events += [{"event": "epoch", "epoch": 1, "valid_ppl": 150.0, "seconds": 2.0}]
    return "".join(json.dumps(e) + "\n" for e in events + ([{"event": "test", "test_ppl": 114.5}] if ended else []))


class Run:
    """A run's folder, and a working tree for filing it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.work, self.out, self.tree = (os.path.join(self.folder.name, n) for n in ("work", "out", "tree"))
        for folder in (os.path.join(self.work, "raw"), self.tree):
            os.makedirs(folder)
        self.write("machine.json", json.dumps({"hardware": "NVIDIA H200", "commit": "abc"}))
        self.write("steps.tsv", "environment\tgpu\tok\t1\t30\t0\tnvidia-smi\ntrain\tsmall\tok\t9\t500\t0\tplstm train\n")
        self.write("constants.json", json.dumps({"constants": {"copy": {"value": 4.3e12, "unit": "B/s"}}}))
        self.write("bench-650.json", json.dumps(BENCH))
        self.write("torch.json", json.dumps(TORCH))
        self.write("ptb-small.jsonl", training_log(True))
        self.write("ptb-medium.jsonl", training_log(False) + '{"event": "st')
        self.write("raw/environment-gpu.txt", "a GPU\n")
        os.makedirs(os.path.join(self.work, "profile", "reg-f32"))
        self.write("profile/reg-f32/summary.csv", "kernel,us\n")
        self.write("profile/reg-f32/fast.ncu-rep", b"\0binary")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def write(self, name, text):
        with open(os.path.join(self.work, name), "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())

    def pack(self):
        ingest.pack(self.work, self.out)
        return os.path.join(self.out, ingest.ARCHIVE)

    def ingest(self, archive, gpu=None, whole=True):
        """Files an archive. Returns all files under profiles/ as {path: text}."""
        written, found_whole = ingest.ingest(archive, self.tree, gpu)
        assert found_whole == whole, written
        assert all(name.startswith("profiles" + os.sep) for name in written), written
        return self.filed()

    def filed(self):
        found = {}
        top = os.path.join(self.tree, "profiles")
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as f:
                    found[os.path.relpath(path, top)] = f.read()
        return found


def test_packing_keeps_the_limits():
    with Run() as run:
        noise = random.Random(1)
        for n in range(3):
            run.write(f"raw/bench-noise{n}.txt", noise.randbytes((6 + n) << 20).hex())
        for n in range(30):
            run.write(f"raw/tests-{n}.txt", "ok\n")
        archive = run.pack()
        files = os.listdir(run.out)
        assert len(files) <= 8 and all(os.path.getsize(os.path.join(run.out, f)) < 16 << 20 for f in files), files
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            left = tar.extractfile("gpu-run/left-out.txt").read().decode()
        # The largest files are dropped first and are named.
        assert "raw/bench-noise2.txt" in left and "gpu-run/raw/bench-noise2.txt" not in names, left
        assert "gpu-run/raw/tests-29.txt" in names and names[0] == "gpu-run/machine.json", names


def test_paths_of_the_machine_are_removed():
    with Run() as run:
        run.write("raw/environment-gpu.txt", os.getcwd() + "/bin/plstm ran\n")
        with tarfile.open(run.pack()) as tar:
            assert tar.extractfile("gpu-run/raw/environment-gpu.txt").read() == b"bin/plstm ran\n"


def test_a_complete_archive_is_filed():
    with Run() as run:
        run.write("raw/tests-binary.txt", b"\0\1\2")
        run.write("bench-200.json",
                  json.dumps({"context": BENCH["context"],
                              "benchmarks": [dict(BENCH["benchmarks"][1], name="step/cuda/f32/H:200/B:20/T:20")]}))
        run.write("raw/bench-long.txt", "a line of a long text\n" * 100000)
        found = run.ingest(run.pack())
        names = {os.path.relpath(name, "h200") for name in found}
        assert names == {"machine.json", "steps.tsv", "constants.json", "variants.json", "step.json", "ptb-small.jsonl",
                         "partial-ptb-medium.jsonl", "raw/environment-gpu.txt", "raw/bench-long.txt", "profile/reg-f32/summary.csv"}, names
        assert all(len(text.encode()) <= 1_000_000 for text in found.values())
        assert "left out here" in found["h200/raw/bench-long.txt"]
        assert json.loads(found["h200/machine.json"])["hardware"] == "NVIDIA H200"
        assert json.loads(found["h200/constants.json"])["constants"]["copy"]["value"] == 4.3e12
        variants, step = json.loads(found["h200/variants.json"]), json.loads(found["h200/step.json"])
        assert [r["name"].split("/")[2] for r in variants["rows"]] == ["cublas", "reg", "cudnn"], variants
        assert variants["rows"][0]["name"] == "lstm/fwd/cublas/f32/H:650/B:20/T:35"
        assert variants["rows"][0]["median_us"] == 249.5 and "iterations" not in variants["rows"][0]
        assert variants["rows"][1]["error"] == "does not fit"
        assert variants["context"] == {"ours": {"gpu": "NVIDIA H200", "commit": "abc"}, "torch": {"torch": "2.11"}}
        assert [r["name"].split("/")[3] for r in step["rows"]] == ["H:200",
                                                                   "H:650"] and [r.get("by")
                                                                                 for r in variants["rows"]] == [None,
                                                                                                                None,
                                                                                                                "torch"]
        assert [r["words/s"] for r in step["rows"]] == [466666.0] * 2
        events = [json.loads(line) for line in found["h200/ptb-small.jsonl"].splitlines()]
        assert [e["step"] for e in events if e["event"] == "step"] == list(range(0, 1000, 100))
        assert [e["event"] for e in events if e["event"] != "step"] == ["run", "epoch", "test"]


def test_rows_of_several_runs():
    """A row occurs once, with a time if any run had one; a row that was not run is dropped, and the emulator's times are too."""
    timed, refused = BENCH["benchmarks"][1], {"name": BENCH["benchmarks"][1]["name"], "run_type": "iteration",
                                              "error_occurred": True, "error_message": "refused: x"}
    skipped = dict(refused, name="lstm/fwd/l2/f32/H:650/B:20/T:35", error_message="not run: the time of this run was over")
    with Run() as run:
        run.write("bench-650.json", json.dumps({"context": BENCH["context"], "benchmarks": [refused, timed, skipped]}))
        run.write("bench-a.json", json.dumps({"context": BENCH["context"], "benchmarks": [dict(timed, median_us=1.0), refused]}))
        run.write("bench-0.json",
                  json.dumps({"context": dict(BENCH["context"], emulated="yes"),
                              "benchmarks": [dict(timed, median_us=2.0)]}))
        found = run.ingest(run.pack())
        assert [r["median_us"] for r in json.loads(found["h200/step.json"])["rows"]] == [1500.0]
        assert "lstm/fwd/l2" not in found["h200/variants.json"]


def test_json_of_a_killed_benchmark_is_cut_after_its_last_complete_row():
    whole = json.dumps(BENCH, indent=2).encode()
    assert ingest.whole_rows(whole) == whole and ingest.whole_rows(None) is None and ingest.whole_rows(b"") is None
    seen = set()
    for end in range(0, len(whole), 7):
        cut = ingest.whole_rows(whole[:end])
        if cut is None:
            continue
        found = json.loads(cut)
        assert found["context"]["gpu"] == "NVIDIA H200" and found["context"].get("cut") == "yes"
        assert found["benchmarks"] == BENCH["benchmarks"][:len(found["benchmarks"])]
        seen.add(len(found["benchmarks"]))
    assert seen == {0, 1, 2, 3}, seen
    with Run() as run:
        run.write("bench-650.json", whole[:whole.index(b"does not fit")])
        assert len(json.loads(run.ingest(run.pack())["h200/variants.json"])["rows"]) == 2


def test_calls_of_one_program_are_merged():
    """The rows of the second call are added to those of the first if both ran the same program."""
    with Run() as run:
        run.ingest(run.pack())
        more = dict(BENCH["benchmarks"][0], name="lstm/fwd/cublas/f32/H:650/B:20/T:70", median_us=500.0)
        run.write("bench-650.json", json.dumps({"context": BENCH["context"], "benchmarks": [more]}))
        os.remove(os.path.join(run.work, "torch.json"))
        times = {r["name"]: r.get("median_us") for r in json.loads(run.ingest(run.pack())["h200/variants.json"])["rows"]}
        assert times["lstm/fwd/cublas/f32/H:650/B:20/T:70"] == 500.0 \
            and times["lstm/fwd/cublas/f32/H:650/B:20/T:35"] == 249.5 and len(times) == 4, times
        run.write("bench-650.json", json.dumps({"context": dict(BENCH["context"], commit="later"), "benchmarks": [more]}))
        names = [r["name"] for r in json.loads(run.ingest(run.pack())["h200/variants.json"])["rows"]]
        assert names == ["lstm/fwd/cublas/f32/H:650/B:20/T:70", "lstm/fwd/cudnn/f32/H:650/B:20/T:35"], names


def test_a_side_that_was_not_measured_again_is_kept():
    with Run() as run:
        run.ingest(run.pack())
        os.remove(os.path.join(run.work, "bench-650.json"))
        newer = dict(TORCH, context={"torch": "2.12"})
        run.write("torch.json", json.dumps(newer))
        found = run.ingest(run.pack())
        variants = json.loads(found["h200/variants.json"])
        assert [r["name"].split("/")[2] for r in variants["rows"]] == ["cublas", "reg", "cudnn"], variants
        assert variants["context"] == {"ours": {"gpu": "NVIDIA H200", "commit": "abc"}, "torch": {"torch": "2.12"}}, variants
        assert len(json.loads(found["h200/step.json"])["rows"]) == 1


def test_a_training_that_ended_replaces_its_part():
    with Run() as run:
        assert "h200/partial-ptb-medium.jsonl" in run.ingest(run.pack())
        run.write("ptb-medium.jsonl", training_log(True))
        found = run.ingest(run.pack())
        assert "h200/ptb-medium.jsonl" in found and "h200/partial-ptb-medium.jsonl" not in found, sorted(found)


def test_other_seeds_are_filed_beside_the_first():
    with Run() as run:
        run.write("ptb-small-seed2.jsonl", training_log(True))
        run.write("ptb-medium-seed2.jsonl", training_log(False))
        found = run.ingest(run.pack())
        assert {"h200/ptb-small.jsonl", "h200/ptb-small-seed2.jsonl", "h200/partial-ptb-medium-seed2.jsonl"} <= set(found), sorted(found)
        assert "small-seed2" in ingest.table(ingest.parts(run.work))


def test_an_archive_truncated_anywhere():
    with Run() as run:
        run.write("raw/bench-noise.txt", random.Random(2).randbytes(30000).hex())
        with open(run.pack(), "rb") as f:
            whole = f.read()
        complete = run.ingest(run.pack())
        cut, some, noise = os.path.join(run.folder.name, "cut.tar.gz"), 0, random.Random(3)
        for length in sorted(noise.sample(range(1, len(whole)), 60)) + [len(whole) - 1]:
            with open(cut, "wb") as f:
                f.write(whole[:length])
            run.tree = os.path.join(run.folder.name, f"tree{length}")
            try:
                found = run.ingest(cut, gpu="NVIDIA H200", whole=False)
            except ingest.Failure:
                assert length < 600, length  # only the beginning of a header
                continue
            for name, text in found.items():
                if name.endswith(".json"):
                    json.loads(text)
                elif name.endswith(".jsonl"):
                    [json.loads(line) for line in text.splitlines()]
                if not name.endswith("jsonl") and "raw" not in name and name != "h200/machine.json":
                    assert text.strip() and complete[name].splitlines()[0][:9] == text.splitlines()[0][:9], name
            some += len(found) > 1
        assert some > 20, some
        assert set(found) == set(complete)  # without only the last byte, all files are there


def test_damage_in_the_middle_keeps_what_came_before():
    with Run() as run:
        run.write("raw/bench-noise.txt", random.Random(2).randbytes(30000).hex())
        path = run.pack()
        with open(path, "rb") as f:
            data = bytearray(f.read())
        data[len(data) * 3 // 4:] = b"\xff" * (len(data) - len(data) * 3 // 4)
        with open(path, "wb") as f:
            f.write(data)
        found = run.ingest(path, whole=False)
        assert "h200/constants.json" in found and "h200/ptb-small.jsonl" in found, sorted(found)


def test_names_in_an_archive_are_harmless():
    with Run() as run:
        path = os.path.join(run.folder.name, "bad.tar.gz")
        with tarfile.open(path, "w:gz") as tar:
            for name in ("../../raw/out.txt", "/tmp/abs.txt", "gpu-run/raw/../../../up.txt", "gpu-run/raw/a b", "gpu-run/machine.json"):
                member = tarfile.TarInfo(name)
                member.size = 27
                tar.addfile(member, io.BytesIO(b'{"hardware": "NVIDIA H200"}'))
            link = tarfile.TarInfo("gpu-run/raw/link.txt")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        assert set(run.ingest(path)) == {"h200/machine.json"}


def test_files_that_are_no_archive():
    with Run() as run:
        path = os.path.join(run.folder.name, "not.tar.gz")
        for data in (b"", b"words", b"\x1f\x8b"):
            with open(path, "wb") as f:
                f.write(data)
            done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/results/ingest.py"), path, "--root", run.tree],
                                  stderr=subprocess.PIPE, text=True)
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "has no readable file" in done.stderr, done.stderr


def test_gpu_folders():
    for hardware, folder in (("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3"), ("Tesla K20m", "tesla-k20m"),
                             ("../../x", "x")):
        assert ingest.folder_name(hardware) == folder
    try:
        ingest.folder_name("")
    except ingest.Failure as fault:
        assert "--gpu" in str(fault)
    else:
        raise AssertionError("a GPU without a name")


def test_results_files_an_archive():
    with Run() as run:
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "results.py"), "--root", run.tree, "--ingest", run.pack()],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
        assert "profiles/h200/step.json" in done.stdout and "h200/step.json" in run.filed(), done.stdout


tap.main(globals())
