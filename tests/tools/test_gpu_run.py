"""Tests tools/gpu_run.sh in a tree of its own, with stand-ins for the GPU's tools and for our programs: order, choice, time limits,
containment, and the kept files. tests/tools/test_rehearsal.py runs all of it with our own programs."""
import glob
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
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools"))
import kernel_list  # noqa: E402
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
FIRST = ["preflight", "small", "rows", "tests", "torch", "cudnn", "medium", "constants", "large"]
SECOND = ["failed", "sanitize", "precision", "parity", "profile", "fits"]
MORE = ["peers", "kernels", "trainings", "seeds", "torch-all", "profile-all", "tests-all", "sanitize-kernels"]
LOG = "\n".join(json.dumps(e) for e in (
    {"event": "run", "preset": "small"}, {"event": "step", "step": 0, "nats": 4.5, "grad_norm": 0.25},
    {"event": "epoch", "epoch": 1, "valid_ppl": 150.0, "seconds": 2.0},
    {"event": "test", "test_ppl": 114.5}))
NVIDIA_SMI = 'case "$*" in *lms*) echo clocks; exec sleep 60 ;; *noheader*) echo "NVIDIA H200" ;; *) echo "a GPU" ;; esac\n'
# Writes the log that --log-json names, like a training that ends.
PLSTM = f"""echo "$*" >>calls
while [ $# -gt 0 ]; do [ "$1" = --log-json ] && cat >"$2" <<'END'
{LOG}
END
shift; done
"""
BENCH = """for a; do case $a in
--constants=*) echo '{"constants": {"copy": {"value": 4.3e12, "unit": "B/s"}}}' >"${a#*=}" ;;
--benchmark_out=*rows-cublas-650*) echo '{"context": {}, "benchmarks": [{"name": "lstm/fwd/cublas/f32/H:650/B:20/T:35/iterations:1/manual_time", "median_us": 250.5}]}' >"${a#*=}" ;;
esac; done
"""
TEST = 'printf "1..1\\nok 1 - kernel\\n"\necho 7 >>"$PLSTM_LAUNCHES"\n'
TORCH = "import sys\nopen(sys.argv[2], 'w').write('{\"benchmarks\": [{\"name\": " \
    "\"lstm/fwd/cudnn/f32/H:650/B:20/T:35\", \"median_us\": 99.5}]}')\n"


class Tree:
    """A bundle and a PATH of stand-ins."""

    def __init__(self, **programs):
        self.folder = tempfile.TemporaryDirectory()
        self.root = os.path.join(self.folder.name, "bundle")
        for folder in ("bin", "tests", "lib", "data/ptb", "path"):
            os.makedirs(os.path.join(self.root, folder))
        subprocess.run([os.path.join(ROOT, "tools/gpu/bundle.sh"), "--tools", self.root], check=True, cwd=ROOT)
        defaults = {"path/nvidia-smi": NVIDIA_SMI, "path/nvcc": "", "tools/profile.sh": "", "path/compute-sanitizer": "",
                    "bin/plstm": PLSTM, "bin/bench_gpu": BENCH, "tests/test_kernels": TEST, "tests/test_backend_cuda": TEST}
        for name, text in {**defaults, **programs}.items():
            if text is not None:
                self.write(name, "#!/bin/sh\n" + text)
        self.write("tools/torch/torch_peer.py", TORCH)
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

    def run(self, *arguments, path=True, **more):
        """Returns (status, standard output and error)."""
        environment = {k: v for k, v in os.environ.items() if k not in ("OUT", "PLSTM", "PLSTM_TEST_CASE")}
        environment.update(more)
        if path:
            environment["PATH"] = os.path.join(self.root, "path") + ":" + environment["PATH"]
        done = subprocess.run([os.path.join(self.root, "tools/gpu_run.sh"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120, env=environment)
        return done.returncode, done.stdout

    def steps(self):
        """Returns the recorded [(stage, step, verdict)]."""
        with open(os.path.join(self.root, "build/gpu_run/steps.tsv"), encoding="utf-8") as f:
            return [tuple(line.split("\t")[:3]) for line in f]

    def calls(self):
        """Returns the command lines of plstm."""
        with open(os.path.join(self.root, "calls"), encoding="utf-8") as f:
            return f.read().splitlines()

    def out(self, name=""):
        return os.path.join(self.root, "build/gpu_run/out", name)

    def archive(self):
        with tarfile.open(self.out("gpu-run.tar.gz")) as tar:
            return {m.name.removeprefix("gpu-run/"): tar.extractfile(m).read().decode() for m in tar}


def stages_in(text):
    return [line for line in text.splitlines() if line in FIRST + SECOND + MORE]


# ---- order and budget ----


def test_the_calls_have_their_order_and_time():
    with Tree() as tree:
        for call, stages, most in (("1", FIRST, 560), ("2", SECOND, 155), ("more", MORE, 3000)):
            status, said = tree.run("--call", call, "--dry-run", path=False)
            assert status == 0 and stages_in(said) == stages, said
            total = re.search(r"reserve of 15 s: ([\d.]+) s of (\d+)$", said)
            assert total and float(total[1]) < most, said
            each = [float(x) for x in re.findall(r"^  \S+ +([\d.]+) s of", said, re.MULTILINE)]
            assert abs(sum(each) + 15 - float(total[1])) < 1e-6, said
        assert not os.path.exists(os.path.join(tree.root, "build"))
        first = tree.run("--dry-run", path=False)[1]
        assert tree.run("--call", "1", "--dry-run", path=False)[1] == first
        for word in ("--kernel cluster --precision bf16", "--max-steps 20", "rows-mma-1500", "cudnn-650", "--filter",
                     "--constants=", "--test"):
            assert word in first, word
        # At each H there is one process for each variant, one for cuBLASLt's fastest algorithms, three for whole layers and one for
        # cuDNN; at two H there is one for mma's other exchange. The pattern skips the names of cuDNN's variants, which have a hyphen.
        rows = 3 * (len(kernel_list.variants()) + 1 + 3) + 2
        assert len(re.findall(r"--variants=[a-z0-9_]+ ", first)) == rows and first.count("--variants=cudnn-") == 3, first
        assert "--tool memcheck" not in first


def test_dry_run_in_the_repository():
    done = subprocess.run([os.path.join(ROOT, "tools/gpu_run.sh"), "--dry-run"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and stages_in(done.stdout) == FIRST, done.stdout


def test_stages_are_chosen_by_name():
    with Tree() as tree:
        assert stages_in(tree.run("--dry-run", "--stages", "tests,constants")[1]) == ["tests", "constants"]
        assert stages_in(tree.run("--dry-run", "--skip", "rows,torch,cudnn")[1]) == ["preflight", "small", "tests", "medium",
                                                                                     "constants", "large"]
        assert stages_in(tree.run("--dry-run", "--stages", "sanitize-kernels")[1]) == ["sanitize-kernels"]
        status, said = tree.run("--dry-run", "--stages", "rows,nonsense")
        assert status == 2 and "nonsense" in said
        assert tree.run("--budget", "soon")[0] == 2 and tree.run("--frobnicate")[0] == 2 and tree.run("--call", "3")[0] == 2
        status, said = tree.run("--help")
        assert status == 0 and "preflight" in said


def test_all_pass():
    with Tree() as tree:
        status, said = tree.run()
        assert status == 0, said
        assert list(dict.fromkeys(stage for stage, _, _ in tree.steps())) == FIRST
        assert {verdict for _, _, verdict in tree.steps()} == {"ok"}, tree.steps()
        assert "NVIDIA H200, commit abc123" in said
        assert len(said.splitlines()) < 250 and len(said) < 20000
        assert re.search(r"lstm/fwd/cublas/\S+ +250\.50 us", said) and re.search(r"lstm/fwd/cudnn/\S+ +99\.50 us", said), said
        assert re.search(r"copy +4\.3e\+12 B/s", said) and "test 114.50" in said
        found = tree.archive()
        assert {"machine.json", "steps.tsv", "constants.json", "raw/tests-test_kernels.txt", "torch.json",
                "ptb-large-bf16.jsonl"} <= set(found)
        assert json.loads(found["machine.json"]) == {"hardware": "NVIDIA H200", "commit": "abc123"}
        assert "kernels and graphs launched: 7" in found["raw/tests-test_kernels.txt"]
        assert not any(tree.root in text for text in found.values())
        files = os.listdir(tree.out())
        assert len(files) <= 8 and all(os.path.getsize(tree.out(f)) < 16 << 20 for f in files)


def test_compressed_files_and_lost_exec_bits():
    with Tree() as tree:
        with gzip.open(os.path.join(tree.root, "lib/libopenblas.so.0.gz"), "wb") as f:
            f.write(b"a library")
        os.chmod(os.path.join(tree.root, "bin/plstm"), 0o644)
        for name in ("tests/test_kernels", "data/ptb/ptb.train.txt"):
            subprocess.run(["gzip", os.path.join(tree.root, name)], check=True)
        status, said = tree.run("--stages", "small,tests")
        assert status == 0 and "bin/plstm had no exec bit" in said, said
        assert {verdict for _, _, verdict in tree.steps()} == {"ok"}, tree.steps()
        with open(os.path.join(tree.root, "lib/libopenblas.so.0"), "rb") as f:
            assert f.read() == b"a library"


def test_a_second_run_adds_its_stages():
    with Tree() as tree:
        assert tree.run("--stages", "rows")[0] == 0
        assert tree.run("--stages", "torch,small")[0] == 0
        assert sorted({stage for stage, _, _ in tree.steps()}) == ["rows", "small", "torch"]
        assert len(tree.steps()) == len(set(tree.steps())), tree.steps()
        assert {"bench-rows-cublas-650.json", "torch.json", "raw/rows-rows-cublas-650.txt"} <= set(tree.archive())


def test_out_sets_the_folder():
    with Tree() as tree:
        assert tree.run("--stages", "small", "--out", "elsewhere")[0] == 0
        assert os.path.exists(os.path.join(tree.root, "elsewhere", "gpu-run.tar.gz"))


# ---- containment ----


def test_a_failure_is_recorded_and_the_rest_continues():
    with Tree(**{"bin/bench_gpu": 'echo "it broke"\nexit 9\n'}) as tree:
        status, said = tree.run("--stages", "rows,constants,small")
        assert status == 1, said
        verdicts = {(stage, verdict) for stage, _, verdict in tree.steps() if not _.endswith("-after")}
        assert verdicts == {("rows", "failed"), ("constants", "failed"), ("small", "ok")}, verdicts
        found = tree.archive()
        assert "it broke" in found["raw/constants-constants.txt"]
        assert ("constants", "constants-after", "ok") in tree.steps() and "a GPU" in found["raw/constants-constants-after.txt"]


def test_a_hanging_step_is_ended_and_the_archive_exists_meanwhile():
    # The hanging step starts a child and ignores TERM, and another stage follows it.
    hangs = "trap '' TERM\necho began\nsleep 600 &\nwait\nwhile :; do sleep 600; done\n"
    with Tree(**{"bin/bench_gpu": hangs}) as tree:
        start = time.monotonic()
        status, said = tree.run("--stages", "torch,constants,large", "--budget", "20")
        assert status == 1 and time.monotonic() - start < 60, said
        assert [s for s in tree.steps() if not s[1].endswith("-after")][:2] == [("torch", "headlines", "ok"),
                                                                                ("constants", "constants",
                                                                                 "timeout")], tree.steps()
        assert any(verdict == "no time" for _, _, verdict in tree.steps()), tree.steps()
        assert "began" in tree.archive()["raw/constants-constants.txt"]


def test_a_gpu_that_does_not_answer_ends_the_call():
    with Tree(**{"bin/plstm": 'case "$*" in devices) exit 1 ;; *) exit 7 ;; esac\n'}) as tree:
        start = time.monotonic()
        status, said = tree.run("--stages", "small,torch,tests")
        assert status == 1 and "no longer answers since small small-bf16" in said and time.monotonic() - start < 30, said
        assert [stage for stage, _, _ in tree.steps()] == ["small"] * 3, tree.steps()
        assert "steps.tsv" in tree.archive()


def test_a_variant_that_fails_its_preflight_is_left_out_and_named():
    bad = PLSTM + 'case "$*" in *"--kernel cluster"*) echo "plstm: an illegal address" && exit 1 ;; esac\n'
    bad = bad.replace("while [", 'all="$*"\nwhile [', 1).replace('case "$*" in *"--kernel', 'case "$all" in *"--kernel')
    with Tree(**{"bin/plstm": bad}) as tree:
        status, said = tree.run("--stages", "preflight,rows,small")
        assert status == 1 and "left out: cluster: bf16 failed, exit status 1: plstm: an illegal address; tf32 failed" in said, said
        skipped = [name for stage, name, verdict in tree.steps() if verdict == "skipped"]
        assert skipped == [f"rows-cluster-{H}" for H in (650, 1500, 200)], skipped
        assert ("rows", "rows-mma-650", "ok") in tree.steps()
        # The next call leaves it out too, and so does a call with --without.
        assert "cluster" in json.loads(tree.archive()["failed.json"])
        assert ("fits", "fit-cluster-650", "skipped") in (tree.run("--stages", "fits"), tree.steps())[1]
    with Tree() as tree:
        assert tree.run("--stages", "rows", "--without", "mma")[0] == 0
        assert ("rows", "rows-mma-650", "skipped") in tree.steps()


def test_a_wrong_variant_is_detected_by_its_first_minibatch():
    wrong = PLSTM.replace("while [", 'all="$*"\nwhile [',
                          1) + """case "$all" in *"--kernel reg"*) sed -i 's/"nats": 4.5/"nats": 4.6/' build/gpu_run/raw/preflight-reg-f32.jsonl ;; esac\n"""
    with Tree(**{"bin/plstm": wrong}) as tree:
        status, said = tree.run("--stages", "preflight")
        assert status == 1 and "left out: reg: f32 wrong: the first minibatch has nats 4.6" in said and "left out: mma" not in said, said
        assert ("preflight", "reg-f32-fwd-first-element", "ok") in tree.steps(), tree.steps()


def test_trainings_continue_from_their_checkpoints_and_once_with_cublas():
    cut = ('for a; do [ "$next" = save ] && echo checkpoint >"$a"; [ "$next" = log ] && echo \'{"event": "step", "step": 0}\' >"$a"\n'
           'next=; [ "$a" = --save ] && next=save; [ "$a" = --log-json ] && next=log; done\necho "$*" >>calls\nexec sleep 600\n')
    with Tree(**{"bin/plstm": cut}) as tree:
        status, said = tree.run("--stages", "medium", "--budget", "18")
        assert status == 0 and tree.steps() == [("medium", "medium-bf16", "part")], said
        tree.write("bin/plstm", "#!/bin/sh\n" + PLSTM)
        status, said = tree.run("--stages", "medium,large")
        assert status == 0 and [v for _, _, v in tree.steps()] == ["ok"] * 2, said
        calls = tree.calls()
        assert "--preset medium" in calls[0] and "--resume build/gpu_run/ptb-medium-bf16.safetensors" in calls[
            1] and "--preset large" in calls[2], calls
        # A training that has ended is not run again.
        assert tree.run("--stages", "medium")[0] == 0 and len(tree.calls()) == 3
    fails = PLSTM.replace("while [", 'case "$*" in devices | *"--kernel cublas"*) ;; *) exit 1 ;; esac\nwhile [', 1)
    with Tree(**{"bin/plstm": fails}) as tree:
        status, said = tree.run("--stages", "large")
        assert status == 1 and [s[1:] for s in tree.steps()] == [("large-bf16", "failed"), ("large-bf16-after", "ok"),
                                                                 ("large-bf16-cublas", "ok")], said
        assert "ptb-large-bf16.jsonl" in tree.archive()


def test_a_training_without_a_step_counts_as_hung():
    with Tree(**{"bin/plstm": '[ "$1" = devices ] || exec sleep 600\n'}) as tree:
        status, said = tree.run("--stages", "medium", "--budget", "18")
        assert status == 1 and ("medium", "medium-bf16-hung", "failed") in tree.steps(), said


def test_a_killed_benchmark_keeps_its_complete_rows():
    half = ('for a; do case $a in --benchmark_out=*-650.json) printf \'{\\n  "context": {"gpu": "x"},\\n  '
            '"benchmarks": [\\n    {"name": "lstm/fwd/cublas/f32/H:650/B:20/T:35", '
            '"median_us": 3},\\n    {"name": "lstm/fwd/cub\' >"${a#*=}" && kill -9 $$ ;; esac; done\n')
    with Tree(**{"bin/bench_gpu": half}) as tree:
        assert tree.run("--stages", "rows")[0] == 1
        kept = json.loads(tree.archive()["bench-rows-cublas-650.json"])
        assert kept["context"]["cut"] == "yes" and [row["median_us"] for row in kept["benchmarks"]] == [3], kept


# ---- a test program ----


def test_a_test_that_launches_nothing_fails():
    with Tree() as tree:
        for text, why in (('printf "1..1\\nok 1 - a\\n"\n', "nothing was launched"),
                          ('printf "1..1\\nok 1 - a # SKIP no GPU\\n"\necho 3 >>"$PLSTM_LAUNCHES"\n', "a skip is a failure"),
                          ('printf "1..1\\nnot ok 1 - a\\n"\necho 3 >>"$PLSTM_LAUNCHES"\nexit 1\n', "1 failed"),
                          ('[ "$REQUIRE_GPU" = 1 ] && exit 1\n', "ran no test case")):
            tree.write("tests/test_kernels", "#!/bin/sh\n" + text)
            status, said = tree.run("--test", "tests/test_kernels")
            assert status == 1 and why in said, (why, said)


def test_allowed_skips():
    with Tree() as tree:
        for reason in ("calls are counted by the emulator", "a part of make test-long, in the plain build",
                       "another algorithm that a real cuBLASLt may not have"):
            tree.write("tests/test_kernels", f'#!/bin/sh\nprintf "1..2\nok 1 - a # SKIP {reason}\nok 2 - b\n"\necho 3 '
                       f'>>"$PLSTM_LAUNCHES"\n')
            status, said = tree.run("--test", "tests/test_kernels")
            assert status == 0 and "launched: 3" in said, said
        tree.write("tests/test_kernels", '#!/bin/sh\necho "1..0 # SKIP the emulator injects these faults"\n')
        assert tree.run("--test", "tests/test_kernels")[0] == 0


def test_a_test_that_is_ended_leaves_its_output():
    with Tree(**{"tests/test_kernels": 'printf "1..2\\nok 1 - the first\\n"\necho 3 >>"$PLSTM_LAUNCHES"\nexec sleep 600\n'}) as tree:
        status, said = tree.run("--stages", "tests", "--budget", "25")
        assert status == 1 and ("tests", "test_kernels", "timeout") in tree.steps(), said
        assert "ok 1 - the first" in tree.archive()["raw/tests-test_kernels.txt"]


def test_no_test_at_all_fails():
    with Tree(**{"tests/test_kernels": None}) as tree:
        assert tree.run("--stages", "tests")[0] == 1


# ---- the rest ----


def test_without_the_corpus():
    with Tree() as tree:
        shutil.rmtree(os.path.join(tree.root, "data"))
        assert tree.run("--stages", "large")[0] == 1
        assert "fetch_ptb" in tree.archive()["raw/large-corpus.txt"]


def test_without_a_gpu():
    with Tree(**{"path/nvidia-smi": "exit 9\n"}) as tree:
        status, said = tree.run()
        assert status == 4 and "no GPU" in said, said
    with Tree(**{"path/nvidia-smi": "exec sleep 600\n"}) as tree:  # like one whose GPU has fallen off the bus
        assert tree.run(GPU_RUN_LIMIT="2")[0] == 4


def test_a_bundle_that_is_too_large_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "library"), "wb") as f:
            f.truncate(57_000_000)
        tool = [os.path.join(ROOT, "tools/gpu/bundle.sh"), "--size", folder]
        done = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "56000000" in done.stderr and "library" in done.stderr, done.stderr
        os.truncate(os.path.join(folder, "library"), 55_000_000)
        assert subprocess.run(tool, stdout=subprocess.PIPE).returncode == 0


def test_no_command_changes_gpu_settings():
    """No command changes a GPU's clocks, power or modes."""
    calls = []
    for name in ("tools/gpu/run.py", "tools/gpu/cases.py"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            calls += [line for line in f if "nvidia-smi" in line and not line.lstrip().startswith("#")]
    assert calls and not any(re.search(r"nvidia-smi\s.*-(pm|pl|ac|lgc|lmc|rgc|c|r|mig)\b", line) for line in calls), calls


def test_every_program_that_uses_cublas_opens_it():
    """A program that called cuBLAS without cublas_open would fail on a GPU, but not on the emulated one, which has nothing to open."""
    users = 0
    for folder in ("host", "bench", "tests/gpu"):
        for path in glob.glob(os.path.join(ROOT, folder, "**/*.c*"), recursive=True):
            with open(path, encoding="utf-8") as f:
                text = f.read()
            if "cublasCreate(" in text:
                users += 1
                assert "cublas_open(" in text, f"{path} calls cuBLAS and does not open it"
    assert users >= 3, users


def test_cublas_that_is_not_available_leaves_its_rows_out():
    with Tree() as tree:
        status, said = tree.run("--stages", "rows,cudnn", "--without", "cublas")
        skipped = [name for _, name, verdict in tree.steps() if verdict == "skipped"]
        assert status == 0 and skipped == [f"rows-{name}-{H}" for H in (650, 1500, 200) for name in ("cublas", "cublas_tuned")] + [
            f"layer-cublas-{H}" for H in (650, 1500, 200)], said


def test_shellcheck():
    if not shutil.which("shellcheck"):
        raise tap.Skip("shellcheck is not here")
    done = subprocess.run(["shellcheck", os.path.join(ROOT, "tools/gpu_run.sh"),
                           os.path.join(ROOT, "tools/gpu/bundle.sh")], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


def test_constants_compile_without_warnings():
    # The Makefile names the compiler, or none if none is new enough.
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
