"""Tests cuDNN as a peer (bench/gpu_cudnn.cpp) without cuDNN: with a stand-in library (tests/support/fake_cudnn.cpp) on the emulator. It
also compares our declarations with cudnn.h, if that is installed. These tests have not run with the real library, which needs a GPU."""
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.environ.get("PLSTM_BUILD", "build")
BENCH = os.path.join(BUILD, "emu/plain/bench_gpu")
FAKE = os.path.abspath(os.path.join(BUILD, "tests/libfake_cudnn.so"))
ALGORITHMS = ("cudnn-standard", "cudnn-static", "cudnn-dynamic", "cudnn-small-h")
TYPES = {"f32": (0, 3), "tf32": (0, 0), "f16": (2, 1), "bf16": (9, 1)}  # data type, math type


def run(*arguments, library=FAKE, **environment):
    """Returns (status, {name without Google Benchmark's additions: row}, the fake library's log)."""
    if not os.path.exists(BENCH) or not os.path.exists(FAKE):
        raise tap.Skip(f"{BENCH} or {FAKE} is not built")
    with tempfile.TemporaryDirectory() as folder:
        out, log = os.path.join(folder, "out.json"), os.path.join(folder, "log")
        environment = dict(os.environ, FAKE_CUDNN_LOG=log, EMU_PROTECT="0", OMP_NUM_THREADS="1", **environment)
        environment.pop("PLSTM_CUDNN", None)
        if library:
            environment["PLSTM_CUDNN"] = library
        done = subprocess.run([BENCH, "--tiny", f"--benchmark_out={out}", "--benchmark_out_format=json", *arguments], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
        with open(out, encoding="utf-8") as f:
            found = json.load(f)
        lines = []
        if os.path.exists(log):
            with open(log, encoding="utf-8") as f:
                lines = f.read().splitlines()
    return done.returncode, {row["name"].split("/iterations")[0]: row for row in found["benchmarks"]}, lines


def supported(algorithm, precision, H, B):
    """Returns whether the fake library supports the algorithm at this precision and shape."""
    return {"cudnn-standard": True, "cudnn-static": H % 32 == 0 and B % 4 == 0, "cudnn-dynamic": precision in ("f32", "tf32"),
            "cudnn-small-h": H <= 24}[algorithm]


def test_every_algorithm_precision_and_shape():
    status, rows, log = run("--h=20", "--t=3", "--benchmark_filter=/cudnn")
    assert status == 0, {n: r.get("error_message") for n, r in rows.items() if r.get("error_occurred")}
    for kind in ("lstm", "lstm2"):
        for H, B in ((20, 3), (32, 4)):
            for what in ("fwd", "fwdbwd"):
                for algorithm in ALGORITHMS:
                    for precision in TYPES:
                        row = rows[f"{kind}/{what}/{algorithm}/{precision}/H:{H}/B:{B}/T:3"]
                        if supported(algorithm, precision, H, B):
                            assert not row.get("error_occurred") and row["median_us"] > 0 and row["error"] <= row["bound"], row
                        else:
                            assert row["error_message"].startswith("refused: cudnn") and "NOT_SUPPORTED" in row["error_message"], row
    assert "lstm/fwdbwd/cudnn-standard/f16/H:20/B:3/T:3/eager" in rows and "lstm2/fwd/cudnn-standard/f32/H:20/B:3/T:3/eager" not in rows
    assert not [line for line in log if line.startswith("BAD_PARAM")], log
    # A padded batch counts only its own words.
    a, b = (rows[f"lstm/fwd/cudnn-standard/f32/{shape}/T:3"] for shape in ("H:20/B:3", "H:32/B:4"))
    for row in (a, b):
        assert abs(row["words/s"] * row["median_us"] * 1e-6 - 9) < 1e-3, row


def test_order_and_descriptors():
    for precision, (kind, math) in TYPES.items():
        for layers, name in ((1, "lstm"), (2, "lstm2")):
            row = f"{name}/fwdbwd/cudnn-dynamic/{precision}/H:20/B:3/T:3"
            if precision in ("f16", "bf16"):
                row = row.replace("dynamic", "small-h")
            status, rows, log = run("--h=20", "--t=3", f"--benchmark_filter=^{row}/iter")
            assert status == 0 and list(rows) == [row], rows
            calls = [line.split()[0] for line in log]
            assert calls[0] == "cudnnSetStream" and calls[1] == "cudnnSetRNNDescriptor_v8", calls[:3]
            algorithm = 3 if "small-h" in row else 2
            assert log[1] == (f"cudnnSetRNNDescriptor_v8 algo={algorithm} cell=2 bias=2 direction=0 input=0 type={kind} math_precision=0 "
                              f"math_type={math} sizes=20,20,20 layers={layers} flags=1"), log[1]
            if algorithm == 2:
                assert log[2] == "cudnnBuildRNNDynamic batch=3", log[2]
            assert log.count(f"cudnnSetRNNDataDescriptor type={kind} layout=0 length=3 batch=3 vector=20") == 2, log
            assert log.count(f"cudnnSetTensorNdDescriptor type={kind} dims={layers},3,20 strides=60,20,1") == 2, log
            places = [line for line in log if line.startswith("cudnnGetRNNWeightParams")]
            assert places == [f"cudnnGetRNNWeightParams layer={l} linear={i}" for l in range(layers) for i in range(8)], places
            work = [call for call in calls if call.startswith(("cudnnRNNForward", "cudnnRNNBackward"))]
            assert work and work == ["cudnnRNNForward", "cudnnRNNBackwardData_v8", "cudnnRNNBackwardWeights_v8"] * (len(work) // 3), work


def test_forward_alone():
    status, _, log = run("--h=20", "--t=3", "--benchmark_filter=^lstm/fwd/cudnn-standard/f32/H:20/B:3/T:3/iter")
    assert status == 0 and "cudnnRNNForward" in log and not any(line.startswith("cudnnRNNBackward") for line in log), log


def test_a_wrong_library_gets_no_time():
    status, rows, _ = run("--h=20", "--t=3", "--benchmark_filter=/cudnn-standard/.*H:20/", FAKE_CUDNN_WRONG="1")
    assert status == 1 and len(rows) > 10
    for row in rows.values():
        assert row["error_message"].startswith("wrong: ") and "median_us" not in row, row


def test_without_the_library_there_is_one_row():
    for library, why in ((None, "no libcudnn.so.9"), ("/nonexistent/libcudnn.so.9", "no libcudnn: /nonexistent"),
                         ("libm.so.6", "has no cudnnGetVersion")):
        status, rows, _ = run("--benchmark_filter=/cudnn", library=library)
        assert status == 0 and len(rows) == 1, rows
        (name, row), = rows.items()
        assert name.startswith("lstm/fwdbwd/cudnn/") and row["error_message"].startswith("refused: ") and why in row["error_message"], row


def test_declarations_match_the_header():
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    include = next((folder for folder in (os.path.join(os.path.dirname(os.path.realpath(nvcc)), "../include"), "/usr/include")
                    if os.path.exists(os.path.join(folder, "cudnn.h"))), None)
    if not include:
        raise tap.Skip("no cudnn.h here")
    command = ["g++", "-std=c++17", "-fsyntax-only", "-I", ROOT, "-isystem", include]
    done = subprocess.run([*command, os.path.join(ROOT, "tests/support/cudnn_header.cpp")], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    # The check fails if a parameter is missing or a number differs.
    with open(os.path.join(ROOT, "bench/cudnn_api.h"), encoding="utf-8") as f:
        header = f.read()
    for right, wrong, named in (("(Handle handle, Rnn desc, int batch)", "(Handle handle, Rnn desc)", "cudnnBuildRNNDynamic"),
                                ("CUDNN_FMA_MATH = 3", "CUDNN_FMA_MATH = 2", "CUDNN_FMA_MATH"),
                                ("float dropout", "int dropout", "cudnnSetDropoutDescriptor")):
        assert header.count(right) == 1, right
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "bench"))
            with open(os.path.join(folder, "bench/cudnn_api.h"), "w", encoding="utf-8") as f:
                f.write(header.replace(right, wrong))
            done = subprocess.run([*command[:3], "-I", folder, "-isystem", include, os.path.join(ROOT, "tests/support/cudnn_header.cpp")],
                                  stderr=subprocess.PIPE, text=True)
        assert done.returncode and re.search(rf"static assertion failed: {named}", done.stderr), done.stderr


def test_every_function_is_in_the_library():
    """Searches the real library for the functions, if it is installed. Without a GPU it can be opened, but not used."""
    found = [path for folder in ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu") for name in ("libcudnn.so.9", "libcudnn.so.8")
             if os.path.exists(path := os.path.join(folder, name))]
    if not found:
        raise tap.Skip("no libcudnn here")
    with open(os.path.join(ROOT, "bench/cudnn_api.h"), encoding="utf-8") as f:
        names = re.findall(r"X\([^,]+, (cudnn\w+),", f.read())
    library = ctypes.CDLL(found[0])
    assert len(names) == 25 and all(hasattr(library, name) for name in names), names
    assert not hasattr(library, "cudnnNonsense")


tap.main(globals())
