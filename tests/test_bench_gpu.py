"""bench/bench_gpu.cpp against the emulator: every row checks what it times, and nothing that is wrong gets a time."""
import json
import os
import subprocess
import tempfile

import tap

BENCH = os.path.join(os.environ.get("PLSTM_BUILD", "build"), "emu/plain/bench_gpu")
FILTER = "--benchmark_filter=H:20/"
LAYERS = {"step_begin", "embedding_fwd", "embedding_bwd", "softmax_xent", "sums_dlogits", "sums_dgates", "sgd_norm", "sgd_update"}
CONSTANTS = {"copy", "copy_kernel", "fma_f32", "gemm_f32", "gemm_tf32", "gemm_bf16", "launch_gap", "graph_node_gap", "barrier_counter",
             "barrier_flags", "barrier_cg", "flag_hop"}


def run(*arguments):
    """(status, standard output and error)"""
    if not os.path.exists(BENCH):
        raise tap.Skip(f"{BENCH} is not built")
    done = subprocess.run([BENCH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
    return done.returncode, done.stdout


def rows(*arguments):
    """(status, Google Benchmark's rows)"""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        status, said = run("--tiny", f"--benchmark_out={path}", "--benchmark_out_format=json", *arguments)
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    assert found["context"]["gpu"].startswith("emulated") and found["context"]["commit"], said
    return status, found["benchmarks"]


def constants(*arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "constants.json")
        status, said = run("--tiny", f"--constants={path}", *arguments)
        with open(path, encoding="utf-8") as f:
            found = json.load(f)["constants"]
    assert set(found) == CONSTANTS, said
    return status, found


def test_rows_are_named_as_the_documents_say():
    status, said = run("--benchmark_list_tests")
    names = said.split()
    assert status == 0 and len(names) == len(set(names))
    for H, T in ((200, 20), (650, 35), (1500, 35)):
        shape = f"H:{H}/B:20/T:{T}"
        for row in (f"lstm/fwd/cublas/f32/{shape}", f"lstm/bwd/cublas/f32/{shape}", f"lstm/fwd/cublas/f32/{shape}/eager",
                    f"lstm/fwd/cublas/tf32/{shape}", f"step/cuda/f32/{shape}", f"step/cuda/f32/{shape}/eager",
                    f"gemm/logits/f32/{shape}", *(f"layers/{name}/f32/{shape}" for name in LAYERS)):
            assert row in names, row
        assert all(f"lstm/fwd/cublas/f32/H:{H}/B:20/T:{t}" in names for t in (20, 35, 70, 140)), H
    assert "lstm/bwd/cublas/f32/H:768/B:16/T:1024" in names


def test_every_row_is_right_and_has_a_time():
    status, found = rows(FILTER)
    assert status == 0 and len(found) > 30, (status, len(found))
    for row in found:
        assert not row.get("error_occurred"), row
        assert 0 < row["min_us"] <= row["p10_us"] <= row["median_us"] <= row["p90_us"], row
        assert row["error"] <= row["bound"], row
        if row["name"].startswith("lstm/"):
            assert row["bound"] > 0 and row["us_per_step"] > 0 and row["FLOP/s"] > 0, row
        if row["name"].startswith("step/"):
            assert row["words/s"] > 0, row


def test_what_is_wrong_gets_no_time():
    status, found = rows("--spoil", FILTER)
    assert status == 1 and len(found) > 30, (status, len(found))
    for row in found:
        assert row["error_occurred"] and row["error_message"].startswith("wrong: "), row
        assert "median_us" not in row, row


def test_constants():
    status, found = constants()
    assert status == 0
    for name, c in found.items():
        assert c["unit"] in ("B/s", "FLOP/s", "us") and c["what"] and "value" in c, (name, c)


def test_wrong_constants_have_no_value():
    status, found = constants("--spoil")
    assert status == 1
    assert {name for name, c in found.items() if "value" in c} == {"launch_gap", "graph_node_gap"}  # which compute nothing


def test_one_run_for_a_profiler():
    assert run("--tiny", "--once=layers/softmax_xent/f32/H:20/B:3/T:5") == (0, "")
    status, said = run("--tiny", "--once=layers/nonsense")
    assert status == 2 and "no row is called" in said


tap.main(globals())
