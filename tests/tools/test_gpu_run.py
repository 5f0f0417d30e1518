"""tools/gpu_run.sh in a tree of its own, with stand-ins for the GPU's tools and for plstm: order, choice, time limits, what is kept."""
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
STAGES = ["environment", "tests", "sanitize", "bench", "torch", "profile", "train", "parity"]
LOG = "\n".join(json.dumps(e) for e in (
    {"event": "run", "preset": "small"}, {"event": "step", "step": 0}, {"event": "epoch", "epoch": 1, "valid_ppl": 150.0, "seconds": 2.0},
    {"event": "test", "test_ppl": 114.5}))
NVIDIA_SMI = 'case "$*" in *lms*) echo clocks; exec sleep 60 ;; *noheader*) echo "NVIDIA H200" ;; *) echo "a GPU" ;; esac\n'
# Writes the log that it is told to, as a training that ends does.
PLSTM = f"""while [ $# -gt 0 ]; do [ "$1" = --log-json ] && cat >"$2" <<'END'
{LOG}
END
shift; done
"""
BENCH = """for a; do case $a in
--constants=*) echo '{"constants": {"copy": {"value": 4.3e12, "unit": "B/s"}}}' >"${a#*=}" ;;
--benchmark_out=*bench-rows-650*) echo '{"context": {}, "benchmarks": [{"name": "lstm/fwd/cublas/f32/H:650/B:20/T:35/iterations:1/manual_time", "median_us": 250.5}]}' >"${a#*=}" ;;
esac; done
"""
TEST = 'printf "1..1\\nok 1 - kernel\\n"\necho 7 >>"$PLSTM_LAUNCHES"\n'
# Keeps a text and, as Nsight Compute does, a file that is none.
PROFILE = r"""for a; do case $a in OUT=*) mkdir -p "${a#*=}" && echo "$*" >"${a#*=}/summary.csv" && printf 'a\0b' >"${a#*=}/fast.ncu-rep" ;; esac; done
"""
TORCH = "import sys\nopen(sys.argv[2], 'w').write('{\"benchmarks\": [{\"name\": \"lstm/fwd/cudnn/f32/H:650/B:20/T:35\", \"median_us\": 99.5}]}')\n"
# Leaves the record that it is told to.
PARITY = """import os, sys
out = sys.argv[sys.argv.index("--out") + 1]
os.makedirs(out)
open(os.path.join(out, "parity.jsonl"), "w").write('{"seed": "1", "precision": "bf16", "test_ppl": 114.5}\\n')
print(" ".join(sys.argv[1:]))
"""


class Tree:
    """A bundle, and a PATH, of stand-ins."""

    def __init__(self, **programs):
        self.folder = tempfile.TemporaryDirectory()
        self.root = os.path.join(self.folder.name, "bundle")
        for folder in ("tools/make", "tools/results", "tools/torch", "bin", "tests", "lib", "data/ptb", "path"):
            os.makedirs(os.path.join(self.root, folder))
        for name in ("gpu_run.sh", "results/ingest.py", "make/run_tests.py"):
            shutil.copy(os.path.join(ROOT, "tools", name), os.path.join(self.root, "tools", name))
        defaults = {"path/nvidia-smi": NVIDIA_SMI, "path/nvcc": "", "tools/profile.sh": PROFILE, "path/compute-sanitizer": "",
                    "bin/plstm": PLSTM, "bin/bench_gpu": BENCH, "tests/test_kernels": TEST}
        for name, text in {**defaults, **programs}.items():
            if text is not None:
                self.write(name, "#!/bin/sh\n" + text)
        self.write("tools/torch/torch_peer.py", TORCH)
        self.write("tools/parity.py", PARITY)
        self.write("data/ptb/ptb.train.txt", "words\n")
        self.write("COMMIT", "abc123\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def write(self, name, text):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o755)

    def run(self, *arguments, path=True):
        """(status, standard output and error)"""
        environment = {k: v for k, v in os.environ.items() if k not in ("OUT", "PLSTM")}
        if path:
            environment["PATH"] = os.path.join(self.root, "path") + ":" + environment["PATH"]
        done = subprocess.run([os.path.join(self.root, "tools/gpu_run.sh"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120, env=environment)
        return done.returncode, done.stdout

    def steps(self):
        """[(stage, step, verdict)] as recorded."""
        with open(os.path.join(self.root, "build/gpu_run/steps.tsv"), encoding="utf-8") as f:
            return [tuple(line.split("\t")[:3]) for line in f]

    def out(self, name=""):
        return os.path.join(self.root, "build/gpu_run/out", name)

    def archive(self):
        with tarfile.open(self.out("gpu-run.tar.gz")) as tar:
            return {m.name: tar.extractfile(m).read().decode() for m in tar}


def stages_in(text):
    return [line for line in text.splitlines() if line in STAGES]


def test_dry_run_lists_the_stages_in_order_anywhere():
    with Tree() as tree:
        status, said = tree.run("--dry-run", path=False)
        assert status == 0 and stages_in(said) == STAGES, said
        assert not os.path.exists(os.path.join(tree.root, "build"))
        for word in ("tools/profile.sh", "memcheck", "racecheck", "--log-json", "--save", "--test"):
            assert word in said, word


def test_dry_run_in_the_repository():
    done = subprocess.run([os.path.join(ROOT, "tools/gpu_run.sh"), "--dry-run"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0
    found = [s for s in stages_in(done.stdout) if s != "build"]
    assert found == STAGES, done.stdout


def test_stages_are_chosen_by_name():
    with Tree() as tree:
        assert stages_in(tree.run("--dry-run", "--stages", "train,bench")[1]) == ["bench", "train"]
        assert stages_in(tree.run("--dry-run", "--skip", "sanitize,profile,torch")[1]) == ["environment", "tests", "bench", "train", "parity"]
        status, said = tree.run("--dry-run", "--stages", "bench,nonsense")
        assert status == 2 and "nonsense" in said
        assert tree.run("--budget", "soon")[0] == 2 and tree.run("--frobnicate")[0] == 2


def test_all_pass():
    with Tree() as tree:
        status, said = tree.run()
        assert status == 0, said
        assert [s for s in dict.fromkeys(stage for stage, _, _ in tree.steps())] == STAGES
        assert {verdict for _, _, verdict in tree.steps()} == {"ok"}, tree.steps()
        lines = said.splitlines()
        assert "NVIDIA H200, commit abc123" in lines
        assert len(lines) - lines.index("NVIDIA H200, commit abc123") < 75
        assert re.search(r"lstm/fwd/cublas/\S+ +250\.50 us", said) and re.search(r"lstm/fwd/cudnn/\S+ +99\.50 us", said), said
        assert re.search(r"copy +4\.3e\+12 B/s", said) and "test 114.50" in said
        found = tree.archive()
        assert {"gpu-run/machine.json", "gpu-run/steps.tsv", "gpu-run/constants.json", "gpu-run/raw/tests-test_kernels.txt"} <= set(found)
        assert json.loads(found["gpu-run/machine.json"]) == {"hardware": "NVIDIA H200", "commit": "abc123"}
        assert "kernels and graphs launched: 7" in found["gpu-run/raw/tests-test_kernels.txt"]
        profiled = found["gpu-run/profile/cublas-f32/summary.csv"]
        assert "K=cublas PRECISION=f32 H=650 B=20 T=35" in profiled and "gpu-run/profile/cublas-f32-trace/summary.csv" in found, sorted(found)
        assert not any("ncu-rep" in name for name in found)
        assert not any(tree.root in text for text in found.values())
        files = os.listdir(tree.out())
        assert len(files) <= 8 and all(os.path.getsize(tree.out(f)) < 16 << 20 for f in files)


def test_every_variant_of_the_benchmark_is_profiled():
    listing = "".join(f"lstm/{what}/{name}/H:{H}/B:20/T:35{tail}\\n" for what in ("fwd", "bwd") for name in ("cublas/f32", "mma/bf16", "reg/f32")
                      for H in (200, 650) for tail in ("", "/eager", "/iterations:1/manual_time"))
    with Tree(**{"bin/bench_gpu": f'case "$*" in *list*) printf "{listing}" ;; esac\n'}) as tree:
        said = tree.run("--dry-run", "--stages", "profile")[1]
        assert re.findall(r"K=(\w+) PRECISION=(\w+) H=650 B=20 T=35 TOOL=ncu", said) == [("cublas", "f32"), ("mma", "bf16"), ("reg", "f32")], said


def test_packed_libraries_are_unpacked():
    with Tree() as tree:
        with gzip.open(os.path.join(tree.root, "lib/libopenblas.so.0.gz"), "wb") as f:
            f.write(b"a library")
        assert tree.run("--stages", "environment")[0] == 0
        with open(os.path.join(tree.root, "lib/libopenblas.so.0"), "rb") as f:
            assert f.read() == b"a library"


def test_a_second_run_adds_its_stages():
    with Tree() as tree:
        assert tree.run("--stages", "environment,bench")[0] == 0
        assert tree.run("--stages", "torch,environment")[0] == 0
        assert sorted({stage for stage, _, _ in tree.steps()}) == ["bench", "environment", "torch"]
        assert len(tree.steps()) == len(set(tree.steps())), tree.steps()
        assert {"gpu-run/bench-rows-650.json", "gpu-run/torch.json", "gpu-run/raw/bench-rows-650.txt"} <= set(tree.archive())


def test_out_is_a_folder_of_ones_choice():
    with Tree() as tree:
        assert tree.run("--stages", "environment", "--out", "elsewhere")[0] == 0
        assert os.path.exists(os.path.join(tree.root, "elsewhere", "gpu-run.tar.gz"))


def test_a_failure_is_recorded_and_the_rest_goes_on():
    with Tree(**{"path/compute-sanitizer": 'echo "ERROR SUMMARY: 3 errors"\nexit 9\n'}) as tree:
        status, said = tree.run("--stages", "environment,sanitize,bench")
        assert status == 1, said
        verdicts = {(stage, verdict) for stage, _, verdict in tree.steps()}
        assert verdicts == {("environment", "ok"), ("sanitize", "failed"), ("bench", "ok")}, verdicts
        assert "3 errors" in tree.archive()["gpu-run/raw/sanitize-memcheck-train.txt"]


def test_what_hangs_is_stopped_and_the_rest_goes_on():
    with Tree(**{"bin/bench_gpu": "echo began\nexec sleep 600\n"}) as tree:
        start = time.monotonic()
        status, said = tree.run("--stages", "bench,train", "--budget", "20")
        assert status == 1 and time.monotonic() - start < 60, said
        steps = tree.steps()
        assert steps[0] == ("bench", "constants", "timeout"), steps
        assert [s[:2] for s in steps][:2] == [("bench", "constants"), ("bench", "peers-768")] and steps[-1][0] == "train", steps
        assert "began" in tree.archive()["gpu-run/raw/bench-constants.txt"]


def test_a_test_that_launches_nothing_fails():
    for text, why in (('printf "1..1\\nok 1 - a\\n"\n', "nothing was launched"),
                      ('printf "1..1\\nok 1 - a # SKIP no GPU\\n"\necho 3 >>"$PLSTM_LAUNCHES"\n', "a skip is a failure"),
                      ('printf "1..1\\nnot ok 1 - a\\n"\necho 3 >>"$PLSTM_LAUNCHES"\nexit 1\n', "1 failed"),
                      ('[ "$REQUIRE_GPU" = 1 ] && exit 1\n', "ran no test case")):
        with Tree(**{"tests/test_kernels": text}) as tree:
            status, said = tree.run("--stages", "tests")
            assert status == 1 and tree.steps() == [("tests", "test_kernels", "failed")], said
            assert why in tree.archive()["gpu-run/raw/tests-test_kernels.txt"], why


def test_cases_for_the_emulator_may_be_skipped():
    text = 'printf "1..2\nok 1 - a # SKIP calls are counted by the emulator\nok 2 - b\n"\necho 3 >>"$PLSTM_LAUNCHES"\n'
    with Tree(**{"tests/test_kernels": text}) as tree:
        assert tree.run("--stages", "tests")[0] == 0, tree.archive()


def test_a_program_for_the_emulator_alone_is_no_failure():
    with Tree(**{"tests/test_kernels": 'echo "1..0 # SKIP the emulator injects these faults"\n'}) as tree:
        assert tree.run("--stages", "tests")[0] == 0, tree.archive()


def test_no_test_at_all_fails():
    with Tree(**{"tests/test_kernels": None}) as tree:
        assert tree.run("--stages", "tests")[0] == 1


def test_trainings_go_on_from_their_checkpoints():
    cut = ('for a; do [ -n "$next" ] && echo checkpoint >"$a"; next=; [ "$a" = --save ] && next=1; done\n'
           'echo "$*" >>build/gpu_run/calls\nexec sleep 600\n')
    with Tree(**{"bin/plstm": cut}) as tree:
        status, said = tree.run("--stages", "train", "--budget", "18")
        assert status == 0, said
        assert tree.steps() == [("train", "small", "part")], tree.steps()
        tree.write("bin/plstm", "#!/bin/sh\necho \"$*\" >>build/gpu_run/calls\n" + PLSTM)
        status, said = tree.run("--stages", "train")
        assert status == 0 and [v for _, _, v in tree.steps()] == ["ok"] * 9, said
        with open(os.path.join(tree.root, "build/gpu_run/calls"), encoding="utf-8") as f:
            calls = f.read().splitlines()
        assert "--preset small" in calls[0] and "--resume build/gpu_run/ptb-small.safetensors" in calls[1], calls
        assert [re.search("--preset (.*) --seed 1 --precision (.*) --data", c).groups() for c in calls[2:]] == [
            ("small", "bf16"), ("medium", "bf16"), ("large", "bf16"), ("medium", "f32"), ("large", "f32"), ("small", "tf32"), ("medium", "tf32"),
            ("large", "tf32")], calls
        assert len({re.search("--save (.*)", c).group(1) for c in calls[1:]}) == 9, calls
        assert all("--backend cuda" in call and "--log-json" in call and "--save" in call for call in calls), calls
        # What has ended is not trained again.
        assert tree.run("--stages", "train")[0] == 0
        with open(os.path.join(tree.root, "build/gpu_run/calls"), encoding="utf-8") as f:
            assert len(f.read().splitlines()) == 10


def test_parity_is_kept():
    with Tree() as tree:
        status, said = tree.run("--stages", "parity")
        assert status == 0 and tree.steps() == [("parity", "small", "ok")], said
        found = tree.archive()
        assert json.loads(found["gpu-run/parity.jsonl"]) == {"seed": "1", "precision": "bf16", "test_ppl": 114.5}
        assert "--seeds 5" in found["gpu-run/raw/parity-small.txt"] and "--backend cuda --preset small" in found["gpu-run/raw/parity-small.txt"]


def test_without_the_corpus():
    with Tree() as tree:
        shutil.rmtree(os.path.join(tree.root, "data"))
        assert tree.run("--stages", "train")[0] == 1
        assert "fetch_ptb" in tree.archive()["gpu-run/raw/train-corpus.txt"]


def test_without_a_gpu():
    with Tree(**{"path/nvidia-smi": "exit 9\n"}) as tree:
        status, said = tree.run()
        assert status == 4 and "no GPU" in said, said


def test_a_bundle_that_is_too_large_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "library"), "wb") as f:
            f.truncate(61_000_000)
        tool = [os.path.join(ROOT, "tools/gpu/bundle.sh"), "--size", folder]
        done = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "60000000" in done.stderr and "library" in done.stderr, done.stderr
        os.truncate(os.path.join(folder, "library"), 59_000_000)
        assert subprocess.run(tool, stdout=subprocess.PIPE).returncode == 0


def test_nothing_sets_the_machine():
    """Clocks, power, modes of a GPU are left alone."""
    with open(os.path.join(ROOT, "tools/gpu_run.sh"), encoding="utf-8") as f:
        calls = [line for line in f if "nvidia-smi" in line and not line.lstrip().startswith("#")]
    assert calls and not any(re.search(r"nvidia-smi\s.*-(pm|pl|ac|lgc|lmc|rgc|c|r|mig)\b", line) for line in calls), calls


def test_shellcheck():
    if not shutil.which("shellcheck"):
        raise tap.Skip("shellcheck is not here")
    done = subprocess.run(["shellcheck", os.path.join(ROOT, "tools/gpu_run.sh")], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


def test_constants_compile_without_warnings():
    # The Makefile names the compiler, or none where none is new enough.
    nvcc = os.environ.get("NVCC", shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc"))
    if not nvcc:
        raise tap.Skip("nvcc is not here")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([nvcc, "-arch=sm_90", "-O2", "-std=c++17", "-Xcompiler", "-Wall,-Wextra", "-I", ROOT, "-c",
                               "-Xptxas", "--suppress-async-bulk-multicast-advisory-warning",  # as the Makefile has it
                               os.path.join(ROOT, "bench/constants.cu"), "-o", os.path.join(folder, "constants.o")],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout


tap.main(globals())
