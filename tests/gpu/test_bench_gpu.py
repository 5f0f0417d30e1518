"""Tests bench/bench_gpu.cpp on the emulator: every row checks the result of what it times, a wrong result gets no time,
and a row that cannot run states the reason. test_measure.cpp tests the decisions of a measurement, test_axes.cpp the
selection of rows, and test_cudnn.py cuDNN as a peer."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools"))
import kernel_list  # noqa: E402
import tap  # noqa: E402

BUILD = os.environ.get("PLSTM_BUILD", "build")
BENCH = os.path.join(BUILD, "emu/plain/bench_gpu")
WRONG = BENCH + "_planted"  # linked with tests/support/planted_variants.c
LAYERS = {"step_begin", "embedding_fwd", "embedding_bwd", "softmax_xent", "sums_dlogits", "sums_dgates", "sgd_norm", "sgd_update"}
SIZES = (8, 16, 32, 60)  # KB of the broadcasts
COUNTS = {f"clusters_{size}{tail}" for size in (2, 4, 8, 10, 13, 15, 16) for tail in ("", "_full")}
CONSTANTS = {"copy", "copy_kernel", "fma_f32", "gemm_f32", "gemm_tf32", "gemm_bf16", "gemm_f16", "mma_bf16", "mma_tf32",
             "mma_rate", "mma_latency", "launch_gap",
             "graph_node_gap", "barrier_counter", "barrier_flags", "barrier_cg", "barrier_plstm", "flag_hop",
             "cluster_hop", "cluster_latency", "dsmem_rate", *COUNTS,
             *(f"cluster_barrier_{size}" for size in (2, 4, 8, 16)),
             *(f"{name}_{size}_{kb}k" for name in ("gather", "gather_bulk") for size in (8, 16) for kb in (1, 4, 12)), "gather_word_8_4k",
             *(f"{name}_{size}_4k" for name in ("gather", "gather_word") for size in (10, 13, 15)),
             *(f"{name}_{kb}k" for name in ("l2_broadcast", "l2_bulk", "l2_multicast_2", "l2_multicast_4") for kb in SIZES)}
PTXAS = """ptxas info    : Compiling entry function '_Z15fwd_cublas_cell11ForwardStep' for 'sm_90'
ptxas info    : Function properties for _Z15fwd_cublas_cell11ForwardStep
    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 2048 bytes smem
ptxas info    : Compiling entry function '_Z10fwd_kernelILi3EEvPf' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 20 registers, used 0 barriers
"""


def run(*arguments, program=BENCH, protect="0", **environment):
    """Returns (status, standard output and error). Only one test protects device memory from the host (EMU_PROTECT), since it takes most
    of the time."""
    if not os.path.exists(program):
        raise tap.Skip(f"{program} is not built")
    # Use one thread: the loops are tiny, and threads that spin at their end would disturb tests that run beside this one.
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
                          env=dict(os.environ, OMP_NUM_THREADS="1", EMU_PROTECT=protect, **environment))
    return done.returncode, done.stdout


def plain(name):
    return name.removesuffix("/iterations:1/manual_time")


def rows(*arguments, program=BENCH, **environment):
    """Returns (status, {name: row}, context)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        status, said = run("--tiny", f"--benchmark_out={path}", "--benchmark_out_format=json", *arguments, program=program, **environment)
        assert os.path.exists(path), said
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    context = found["context"]
    assert context["gpu"].startswith("emulated") and context["emulated"] == "yes" and context["commit"], said
    assert all(row["name"].endswith("/iterations:1/manual_time") for row in found["benchmarks"]), said
    return status, {plain(row["name"]): row for row in found["benchmarks"]}, context


def constants(*arguments, **environment):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "constants.json")
        status, said = run("--tiny", f"--constants={path}", *arguments, **environment)
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
    assert found["emulated"] is True and set(found["constants"]) == CONSTANTS, said
    return status, found["constants"]


def test_rows_are_named_as_the_documents_say():
    status, said = run("--benchmark_list_tests")
    names = [plain(name) for name in said.split()]
    assert status == 0 and len(names) == len(set(names))
    own = [(v.name, p) for v in kernel_list.variants() for p in v.precisions]
    for H, T in ((200, 20), (650, 35), (1500, 35)):
        shape = f"H:{H}/B:20/T:{T}"
        for row in (f"lstm/fwd/cublas/f32/{shape}", f"lstm/bwd/cublas/f32/{shape}", f"lstm/fwd/cublas/f32/{shape}/eager",
                    f"lstm/fwd/cublas/tf32/{shape}", f"lstm/fwd/cublas/f32/H:{H}/B:20/fit", f"layer/fwdbwd/cublas/f32/{shape}",
                    f"layer2/fwd/cublas/tf32/{shape}", f"step/cuda/f32/{shape}", f"step/cuda/f32/{shape}/eager",
                    *(f"step/cuda/{precision}/{shape}/kernel:{name}" for name, precision in own),
                    *(f"gemm/logits/{p}/{shape}" for p in ("f32", "bf16")),
                    *(f"{row}/{name}/{precision}/{shape}" for row in ("lstm/fwd", "lstm/bwd", "layer/fwdbwd") for name, precision in own),
                    f"step/cuda/bf16/{shape}", *(f"layers/{name}/f32/{shape}" for name in LAYERS)):
            assert row in names, row
        assert all(f"lstm/fwd/cublas/f32/H:{H}/B:20/T:{t}" in names for t in (20, 35, 70, 140)), H
    assert "lstm/bwd/cublas/f32/H:768/B:16/T:1024" in names
    assert "lstm/bwd/cublas_tuned/f32/H:650/B:20/T:35" in names
    assert not any("/bf16/" in name for name in names if "/cublas" in name)


def test_every_row_is_right_and_has_a_time():
    status, found, context = rows("--benchmark_filter=^(lstm|layer2?|layers|gemm|step)/.*H:20/")
    assert status == 0 and len(found) > 40, (status, len(found))
    for name, row in found.items():
        assert not row.get("error_occurred"), row
        assert "emulated=yes" in row["label"], row
        if name.endswith("/fit"):
            assert row["lengths"] == 2 and row["worst"] < 1e-6 and "step_us" in row and "median_us" not in row, row
            continue
        assert 0 < row["min_us"] <= row["p10_us"] <= row["median_us"] <= row["p90_us"], row
        assert row["min_us"] <= row["lo_us"] <= row["median_us"] <= row["hi_us"] and row["riqr"] >= 0 and row["samples"] >= 3, row
        assert row["discarded"] == 0 and row["mhz"] > 0 and row["label"].startswith("stop="), row
        assert abs(row["real_time"] / row["median_us"] - 1) < 1e-3 and row["time_unit"] == "us", row
        assert row["error"] <= row["bound"], row
        assert row["bytes/s" if name.startswith("layers/") else "FLOP/s"] > 0, row
        if name.startswith(("lstm/", "layer/", "layer2/")):
            assert row["bound"] > 0 and row["words/s"] > 0 and row["us_per_step"] > 0, row
        if "/cublas_tuned/" in name:
            assert "algorithm=" in row["label"] and "weights=" in row["label"], row
        if name.startswith("step/"):
            assert row["words/s"] > 0 and f"kernel={name.partition('kernel:')[2]}" in row["label"], row
        elif not name.endswith("/eager"):
            assert row["cold_median_us"] > 0 and row["cold_samples"] >= 3 and "cold_stop=" in row["label"], row
    assert {"dirty", "flags", "toolkit", "driver", "runtime", "clock_mhz", "ecc", "cudnn", "sets"} <= set(context), context


def test_the_host_leaves_device_memory_alone():
    status, said = run("--tiny",
                       "--benchmark_filter=^(lstm/...|layer/fwdbwd|step|layers/softmax_xent|layers/sgd_update)/.*/f32/H:20/B:3/T:5/iter",
                       "--variants=cublas,reg", protect="1")
    assert status == 0 and said.count("stop=") >= 6 and "ERROR" not in said, said


def test_a_wrong_result_gets_no_time():
    status, found, _ = rows("--spoil", "--benchmark_filter=^(lstm|layer2?|layers|gemm|step)/.*H:20/.*T:5")
    assert status == 1 and len(found) > 30, (status, len(found))
    for row in found.values():
        assert row["error_occurred"] and row["error_message"].startswith("wrong: "), row
        assert "median_us" not in row, row


def test_a_wrong_kernel_gets_no_time():
    """A wrong kernel gets no time, and the right one beside it keeps its time."""
    status, found, _ = rows("--benchmark_filter=^(lstm|layer2?)/.*/f32/H:20/.*(T:5|fit)", "--variants=wrong,cublas", program=WRONG)
    assert status == 1
    for name, row in found.items():
        if "/cublas/" in name:
            assert not row.get("error_occurred") or name.endswith("/fit"), row
            continue
        assert row["error_occurred"] and "median_us" not in row and "step_us" not in row, row
        expected = "refused: a fit needs" if name.endswith("/fit") else "wrong: "
        assert row["error_message"].startswith(expected), row
    assert sum("/wrong/" in name for name in found) >= 8 and sum("/cublas/" in name for name in found) >= 8, sorted(found)
    assert rows("--benchmark_filter=^lstm/fwd/cublas/f32/H:20/", program=WRONG)[0] == 0


def test_axes():
    _, said = run("--benchmark_list_tests", "--h=24", "--b=2", "--t=4,6", "--variants=cublas", "--directions=bwd", "--precision=tf32")
    names = [plain(name) for name in said.split() if name.startswith("lstm")]
    assert names == [f"lstm/bwd/cublas/tf32/H:24/B:2/{tail}" for tail in ("T:4", "T:6", "fit")], names
    for wrong, why in (("--h=0", "whole numbers"), ("--precision=f8", "f32, tf32"), ("--noise=much", "takes a number"),
                       ("--frobnicate", "unrecognized")):
        status, said = run(wrong)
        assert status == 2 and why in said, said


def test_rows_that_cannot_run_are_listed_and_refused():
    status, found, _ = rows("--variants=cublas", "--precision=bf16", "--h=20",
                            "--benchmark_filter=^(lstm|layer)/(fwd|bwd)/cublas.*T:5/iter")
    assert status == 0 and set(found) == {f"{kind}/cublas/bf16/H:20/B:3/T:5"
                                          for kind in ("lstm/fwd", "lstm/bwd", "layer/fwd")}, sorted(found)
    for row in found.values():
        assert row["error_message"] == "refused: cublas computes in f32 or tf32, not bf16", row
    status, found, _ = rows("--variants=l2", "--precision=bf16", "--h=20", "--benchmark_filter=^lstm/fwd/.*/bf16/.*T:5/iter")
    assert status == 0 and found["lstm/fwd/l2/bf16/H:20/B:3/T:5"]["error_message"] == "refused: l2 computes in f32, not bf16", found
    status, found, _ = rows("--h=20",
                            "--benchmark_filter=^((lstm/(fwd|bwd)|layer/fwdbwd)/reg/.*H:20/|step/.*/kernel:reg)",
                            PLSTM_PLAN="blocks=1,shared=16")
    assert status == 0 and len(found) > 5 and "step/cuda/f32/H:20/B:3/T:5/kernel:reg" in found, sorted(found)
    for name, row in found.items():
        assert row["error_message"].startswith("refused: "
                                               + ("a fit" if name.endswith("/fit") else "reg"
                                                  if name.startswith("step/") else "reg ")), row


def test_a_throttled_clock_gives_no_time_and_no_failure():
    status, found, _ = rows("--throttle=2", "--benchmark_filter=^(lstm/fwd/cublas/f32|step/cuda/f32)/H:20/B:3/T:5/iter")
    assert status == 0 and len(found) == 2
    for row in found.values():
        assert row["error_message"].startswith("throttled: ") and "median_us" not in row, row


def test_a_run_out_of_time_writes_a_complete_file():
    status, found, _ = rows("--budget=0", "--benchmark_filter=^(lstm/fwd/cublas|step/cuda)/.*H:20/")
    assert status == 0 and len(found) > 5
    for name, row in found.items():
        assert row["error_message"].startswith("refused: a fit" if name.endswith("/fit") else "not run: "), row


def test_registers():
    with tempfile.TemporaryDirectory() as folder:
        ptxas = os.path.join(folder, "ptxas.txt")
        with open(ptxas, "w", encoding="utf-8") as f:
            f.write(PTXAS)
        status, _, context = rows(f"--ptxas={ptxas}", "--benchmark_filter=^lstm/fwd/cublas/f32/H:20/B:3/T:5/iter")
        assert status == 0
        assert context["kernel fwd_cublas_cell sm_90"] == "32 registers, 2048 bytes shared, 16 bytes spilled", context
        assert context["kernel fwd_kernel<3> sm_90"] == "20 registers, 0 bytes shared, 0 bytes spilled", context


def test_constants():
    status, found = constants()
    assert status == 0
    for name, c in found.items():
        if name == "dsmem_rate" and "refused" in c:  # the emulator's times of two sizes may be equal
            continue
        assert c["what"] and c["lo"] <= c["value"] <= c["hi"], (name, c)
        if name in COUNTS:
            assert c["unit"] == "count" and c["stop"] == "exact", (name, c)
        else:
            assert c["unit"] in ("B/s", "FLOP/s", "us", "clk", "B/clk/SM",
                                 "1/clk/SM") and c["samples"] >= 3 and c["stop"] != "exact", (name, c)
    # The clusters that an H200 holds in the emulator's model of its GPCs; clusters of 16 must have been allowed.
    assert [found[f"clusters_{size}_full"]["value"] for size in (2, 4, 8, 10, 13, 15, 16)] == [66, 30, 15, 7, 7, 7, 7]


def test_constants_of_a_gpu_without_clusters():
    status, found = constants(EMU_DEVICE="a100")
    assert status == 0
    clustered = {name for name in CONSTANTS if name.startswith(("cluster", "gather", "dsmem", "l2_bulk", "l2_multicast"))}
    assert {name for name, c in found.items() if "refused" in c} == clustered, sorted(name for name, c in found.items() if "refused" in c)


def test_wrong_constants_have_no_value():
    status, found = constants("--spoil")
    assert status == 1
    found.pop("dsmem_rate")  # it uses the kernels of gather_8 and may be refused
    assert {name for name, c in found.items() if "value" in c} == {"launch_gap", "graph_node_gap", *COUNTS}  # these compute nothing
    assert all(c["error"].startswith("wrong: ") for c in found.values() if "value" not in c)


def test_once_runs_a_row_for_a_profiler():
    status, said = run("--tiny", "--once=layers/softmax_xent/f32/H:20/B:3/T:5")
    assert status == 0 and "right, error" in said, said
    status, said = run("--tiny", "--once=lstm/bwd/wrong/f32/H:20/B:3/T:5", program=WRONG)
    assert status == 1 and "first at t 0, b 0, gate 0, unit 0: " in said and "1200 of 1200 differ, 0 NaN" in said, said
    status, said = run("--tiny", "--once=layers/nonsense")
    assert status == 2 and "unknown row" in said


tap.main(globals())
