"""Tests tools/k20_sim/k20_sim.py on shortened output of GPGPU-Sim for two programs; no simulator runs. driver.cu and its
headers are compiled for another GPU than the K20, whose compiler only `make k20-sim` needs."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "tools", "k20_sim"))
import k20_sim  # noqa: E402

TOOL = os.path.join(ROOT, "tools", "k20_sim", "k20_sim.py")


def printed(name):
    with open(os.path.join(ROOT, "tests", "fixtures", "k20_sim", name + ".txt"), encoding="utf-8") as f:
        return f.read()


def refused(call, *parts):
    try:
        call()
    except k20_sim.Failure as failure:
        assert all(part in str(failure) for part in parts), failure
        return failure
    raise AssertionError(f"not refused: {parts}")


def test_a_persistent_kernel():
    record = k20_sim.record_of("fwd_reg", "", printed("fwd_reg"))
    assert (record["variant"], record["pass"], record["right"], record["predicted_us"]) == ("reg", "forward", True, 7.011), record
    assert record["cycles"]["step"] == 13455 and round(13455 / k20_sim.MHZ, 2) == record["us"], record
    parts = sum(record["cycles"][name] for name in ("compute", "arrive", "store_fetch", "wait"))
    assert abs(parts - record["cycles"]["step"]) < 400, record  # each part is a median of its own
    assert record["plan"].startswith("backward=0,") and k20_sim.fault_of(record) is None


def test_the_baseline():
    text = printed("fwd_cublas")
    kernels = k20_sim.kernels_of(text)
    assert len(kernels) == 8 and kernels[0][1] == 14775 and kernels[1][1] == 3948, kernels
    record = k20_sim.record_of("fwd_cublas", "", text)
    assert record["plan"] is None and record["cycles"] == {"step": 18619, "product": 14725, "cell": 3894}, record


def test_the_clock_has_32_bits():
    block = [[0, 0, 0, 2 ** 32 - 100], [400, 410, 500, 900]]
    assert k20_sim.step_cycles([block, block]) == {"step": 1000, "compute": 500, "arrive": 10, "store_fetch": 90, "wait": 400}
    refused(lambda: k20_sim.step_cycles([block[:1]]), "more --steps")


def test_wrong_results_are_reported():
    wrong = printed("fwd_reg").replace('"error": ', '"error": 0.5, "was": ')
    for how, text, expected in (("", wrong, "wrong: "), ("skew", wrong, "with late blocks is wrong"),
                                ("nowait", printed("fwd_reg"), "cannot fail"),
                                ("nowait", wrong, None), ("", printed("fwd_reg").replace('"fault": 0', '"fault": 1'), "wrong: ")):
        said = k20_sim.fault_of(k20_sim.record_of("fwd_reg", how, text))
        assert (said is None) if expected is None else expected in said, (how, said)
    refused(lambda: k20_sim.driver_line("GPGPU-Sim: deadlock detected\n"), "did not finish", "deadlock detected")
    refused(lambda: k20_sim.driver_line('SIM {"failed": "plan: no"}\n'), "plan: no")


def built_copy(folder):
    """Makes folders like a user's simulator and programs; the programs only repeat the output of real ones."""
    sim, built = os.path.join(folder, "sim"), os.path.join(folder, "built")
    os.makedirs(os.path.join(sim, "lib", "gcc", "cuda-11080", "release"))
    os.makedirs(built)
    for path, text in (("version", 'GPGPU-Sim Simulator Version 4.2.0 ";\n'),
                       ("setup_environment", "export FROM_SETUP=$CUDA_INSTALL_PATH\n"),
                       ("lib/gcc/cuda-11080/release/libcudart.so", "")):
        with open(os.path.join(sim, path), "w", encoding="utf-8") as f:
            f.write(text)
    for name, fixture in (("fwd_reg", "fwd_reg"), ("fwd_reg-nowait", "fwd_reg"), ("fwd_cublas", "fwd_cublas")):
        path = os.path.join(built, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n[ \"$FROM_SETUP\" = /cuda ] && [ \"$*\" = '4 20 200' ] && grep -q '^-gpgpu_n_clusters "
                    "13' gpgpusim.config || exit 3\n"
                    f"cat '{os.path.abspath(os.path.join(ROOT, 'tests', 'fixtures', 'k20_sim', fixture + '.txt'))}'\n")
        os.chmod(path, 0o755)
    return sim, built


def tool(sim, built, out, *options):
    return subprocess.run([sys.executable, TOOL, "--gpgpusim", sim, "--cuda", "/cuda", "--built", built, "--out", out, *options], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)


def test_the_command():
    with tempfile.TemporaryDirectory() as folder:
        sim, built = built_copy(folder)
        out = os.path.join(folder, "out", "steps.json")
        for missing, sentence in (("", "give GPGPUSIM=DIR"), (built, "is not a built copy of GPGPU-Sim")):
            done = tool(missing, built, out)
            assert done.returncode == 4 and sentence in done.stderr and done.stderr.count("\n") == 1 and not os.path.exists(out), done
        done = tool(sim, built, out, "--only", "fwd_reg", "fwd_cublas")
        assert done.returncode == 0 and done.stdout.count("cycles per step") == 4, done
        with open(out, encoding="utf-8") as f:
            record = json.load(f)
        assert record["simulator"] == "GPGPU-Sim 4.2.0" and [r["icache"] for r in record["runs"]] == ["32k", "perfect"] * 2, record
        assert all(r["sources"] == k20_sim.sources_hash() and "commit" in r for r in record["runs"]), record
        done = tool(sim, built, out, "--only", "fwd_reg-nowait")
        assert done.returncode == 1 and "this check cannot fail" in done.stderr, done
        with open(out, encoding="utf-8") as f:
            added = json.load(f)["runs"]
        assert added[:4] == record["runs"] and [(r["variant"], r["how"]) for r in added[4:]] == [("reg", "nowait")], added


def test_records_of_other_programs_stay():
    run = lambda variant, hidden, us: {"variant": variant, "pass": "forward", "how": "plain", "icache": "perfect",
                                       "H": hidden, "B": 20, "us": us}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "steps.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"sources": "before", "runs": [run("reg", 200, 1), run("l2", 200, 2), run("reg", 650, 3)]}, f)
        now = k20_sim.merged(path, [{**run("l2", 200, 4), "sources": "now"}])
    assert [(r["variant"], r["H"], r["us"], r["sources"])
            for r in now] == [("reg", 200, 1, "before"), ("l2", 200, 4, "now"), ("reg", 650, 3, "before")], now


# One program of each kind. The kernels of `smem` are in the file of `l2`, so that these programs have few kernels and compile quickly.
PROGRAMS = (("fwd_smem", 0, "-include", "tools/k20_sim/hooks.cuh", "-DSIM_SKEW=1200"),
            ("bwd_smem", 1, "-include", "tools/k20_sim/hooks.cuh", "-DSIM_NO_WAIT"),
            ("fwd_cublas", 0, "-DSIM_BASELINE"))


def test_the_driver_compiles():
    nvcc = os.environ.get("NVCC", shutil.which("nvcc"))
    if not nvcc:
        raise tap.Skip("no nvcc of CUDA 12 or 13, which compiles the driver of the simulated kernels here")
    with tempfile.TemporaryDirectory() as folder:
        for file, backward, *options in PROGRAMS:
            done = subprocess.run([nvcc, "-arch=sm_90", "-std=c++17", "-ptx", "-D__restrict__=", "-I.", "-Ikernels", *options,
                                   f'-DSIM_FILE="kernels/{file}.cu"', f"-DSIM_VARIANT={file.split('_')[1]}",
                                   f"-DSIM_BACKWARD={backward}", "tools/k20_sim/driver.cu", "-o", os.path.join(folder, "driver.ptx")],
                                  cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{file}\n{done.stdout}"


if __name__ == "__main__":
    tap.main(globals())
