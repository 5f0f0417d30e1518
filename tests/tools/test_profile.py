"""Tests tools/profile.sh, its reader tools/gpu/profile_read.py, the metrics that it requests, and tools/gpu/nvtx_trace.c under the
emulated program."""
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
BUILD = os.path.abspath(os.environ.get("PLSTM_BUILD", "build"))
SAMPLES = os.path.join(ROOT, "tests", "fixtures", "profile")
EMULATED = os.path.join(BUILD, "emu/plain/plstm")
RECORDER = os.path.join(BUILD, "lib/libnvtx_trace.so")
FAKE_CUPTI = os.path.join(BUILD, "tests/fake_cupti.so")
SHAPE = ["--hidden", "5", "--layers", "2", "--batch", "2", "--seq", "3", "--max-steps", "2"]
sys.path.insert(0, os.path.join(ROOT, "tools/gpu"))
import ncu_metrics  # noqa: E402
import profile_read  # noqa: E402


def sample(name):
    return profile_read.read(os.path.join(SAMPLES, name))


def table(rows):
    """Returns [{heading: cell}]."""
    return [dict(zip(rows[0], map(str, row))) for row in rows[1:]]


# ---- metrics ----


def test_every_metric_is_known_to_the_profiler():
    found = ncu_metrics.check("GH100")
    if not found:
        raise tap.Skip("neither CUPTI's host library nor a recent ncu is here")
    assert not any(unknown for _, unknown in found), found


def test_an_unknown_metric_is_detected():
    library = ncu_metrics.cupti()
    if not library:
        raise tap.Skip("CUPTI's host library is not here")
    names = ["gpu__time_duration.sum", "gpu__time_duration.median", "sm__nonsense.sum"]
    assert ncu_metrics.unknown_to_cupti(library, "GH100", names) == names[1:]
    assert ncu_metrics.unknown_to_cupti(library, "NO1", names) is None


def test_ncus_own_list_is_read_by_base_name():
    with tempfile.TemporaryDirectory() as folder:
        ncu = os.path.join(folder, "ncu")
        for version, answer in (("2025.1", ["lts__nonsense.sum"]), ("2022.3", None)):
            with open(ncu, "w", encoding="utf-8") as f:
                f.write(f'#!/bin/sh\ncase "$*" in *version*) echo "Version {version}.0.0" ;; *"--chips gh100"*) '
                        'printf "Chip gh100\\nMetric Name   Metric Type\\ngpu__time_duration   Counter\\n" ;; esac\n')
            os.chmod(ncu, 0o755)
            assert ncu_metrics.unknown_to_ncu(ncu, "GH100", ["gpu__time_duration.sum", "lts__nonsense.sum"]) == answer, version


def test_lists_contain_each_other():
    fast, roofline, full = (ncu_metrics.LISTS[name] for name in ("fast", "roofline", "full"))
    assert set(fast) < set(roofline) < set(full)
    wanted = {metric for metric, _ in profile_read.NCU_COLUMNS.values()} | set(profile_read.FLOPS)
    assert wanted <= set(full), wanted - set(full)


# ---- reading ----


def test_ncu_raw_page():
    text = sample("ncu_raw_synthetic.csv")
    first, second = table(profile_read.ncu_table([text]))
    want = {"kernel": "fwd_sample<(int)4>", "grid": "130x1x1", "block": "256x1x1", "launches": "2", "us": "100", "clock_mhz": "1970",
            "dram_pct": "13", "registers": "190", "shared_dynamic": "26000", "sm_pct": "",
            # FLOP are 1000 + 2000 + 2 * 591.5e6; they are divided by 3e6 bytes and by 100 us
            "flop": "1.183e+09", "flop_per_byte": "394.334", "flop_per_s": "1.183e+13"}
    assert {key: first[key] for key in want} == want, first
    assert second["kernel"] == "bwd_sample" and second["dram_read"] == "" and second["flop"] == "1.183e+09" \
        and second["flop_per_byte"] == "", second
    # With other columns, another order and newer units, the columns are still found by name.
    lines = text.splitlines()
    turned = [list(reversed(row)) for row in csv.reader(lines[2:])]
    turned = [row[-1:] + row[:-1] for row in turned]
    turned[1] = ["us" if unit == "nsecond" else unit for unit in turned[1]]
    again = io.StringIO()
    csv.writer(again, quoting=csv.QUOTE_ALL).writerows(turned)
    assert table(profile_read.ncu_table([again.getvalue()]))[0]["us"] == "100000"
    assert [row["launches"] for row in table(profile_read.ncu_table([text, text]))] == ["4", "2"]


def test_files_that_are_no_ncu_page():
    for text in ("", "==ERROR== no permission\n", '"ID","Kernel Name"\n', '"ID","Kernel Name"\n"0","f()"\n"1","f()"\n'):
        try:
            profile_read.ncu_table([text])
        except profile_read.Failure:
            continue
        raise AssertionError(text)
    cut = sample("ncu_raw_synthetic.csv")
    cut = cut[:cut.rindex('"bwd_sample')] + '"bwd'
    assert [row["launches"] for row in table(profile_read.ncu_table([cut]))] == ["2"]


def test_machine_code():
    found = {row["opcode"]: int(row["count"]) for row in table(profile_read.sass_table(sample("sass_sm90.txt")))}
    assert found["LOP3"] == 23 and found["LDG"] == 1 and found["LDG.64"] == 1 and found["EXIT"] == 2 and found["BRA"] == 2, found
    try:
        profile_read.sass_table("nothing")
    except profile_read.Failure:
        return
    raise AssertionError


# ---- the recorder ----


def record(folder, eager="1", **more):
    """Returns the text of a trace of two training steps on the emulated GPU."""
    for path in (EMULATED, RECORDER):
        if not os.path.exists(path):
            raise tap.Skip(f"{os.path.relpath(path, ROOT)} is not built")
    path = os.path.join(folder, "trace.json")
    done = subprocess.run([EMULATED, "train", "--data", "synthetic", "--backend", "cuda", "--threads", "1", "--eval",
                           "none", "--quiet", *SHAPE],
                          env={**os.environ, "NVTX_INJECTION64_PATH": RECORDER, "NVTX_TRACE": path, "PLSTM_EAGER": eager, **more},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return profile_read.read(path)


def test_ranges_of_a_training_step():
    with tempfile.TemporaryDirectory() as folder:
        text = record(folder)
    events = json.loads(text)
    slices = [e for e in events if e["ph"] == "X"]
    ends = {e["args"]["path"]: (e["ts"], e["ts"] + e["dur"]) for e in slices}
    for path, (start, end) in ends.items():  # in the last step each range is inside the one around it
        if "/" in path:
            above = ends[path.rsplit("/", 1)[0]]
            assert above[0] <= start and end <= above[1], path
    rows = {row["path"]: row for row in table(profile_read.trace_table(text))}
    assert set(rows) == {"step", "step/forward", "step/forward/layer0", "step/forward/layer1", "step/backward", "step/backward/layer1",
                         "step/backward/layer0", "step/update"}, sorted(rows)
    assert all(row["count"] == "2" and row["gpu_us"] == "" for row in rows.values()), rows
    assert "CUPTI" in events[-1]["args"]["note"] and events[-1]["args"]["records"] == 0


def test_kernels_are_put_into_their_ranges():
    if not os.path.exists(FAKE_CUPTI):
        raise tap.Skip("the toolkit's cupti.h is not here")
    with tempfile.TemporaryDirectory() as folder:
        text = record(folder, NVTX_TRACE_CUPTI=FAKE_CUPTI)
    rows = table(profile_read.trace_table(text))
    ranges = {row["path"]: row for row in rows if row["kind"] == "range"}
    # There is a kernel of 1 us at the start of each range and a copy of 0.5 us at its end; eight ranges per step, two steps.
    assert (ranges["step"]["on_gpu"], ranges["step"]["gpu_us"]) == ("32", "24.000"), ranges["step"]
    assert (ranges["step/forward"]["on_gpu"], ranges["step/forward"]["gpu_us"]) == ("12", "9.000"), ranges["step/forward"]
    kernels = {row["path"]: row for row in rows if row["kind"] == "kernel"}
    assert set(kernels) == set(ranges) and all(row["count"] == "2" and row["mean_us"] == "1.000" for row in kernels.values()), kernels
    assert json.loads(text)[-1]["args"] == {"note": "recorded by CUPTI", "records": 32, "outside_ranges": 0}


def test_a_library_that_is_no_cupti():
    with tempfile.TemporaryDirectory() as folder:
        text = record(folder, NVTX_TRACE_CUPTI=os.path.join(folder, "not there"))
    assert json.loads(text)[-1]["args"]["note"] == "CUPTI was not found"


def test_replayed_steps_are_ranges_too():
    with tempfile.TemporaryDirectory() as folder:
        rows = {row["path"]: row for row in table(profile_read.trace_table(record(folder, eager="0")))}
    assert rows["step"]["count"] == "2", rows


def test_a_trace_without_its_end():
    with tempfile.TemporaryDirectory() as folder:
        text = record(folder)
    whole = {row["path"] for row in table(profile_read.trace_table(text))}
    assert {row["path"] for row in table(profile_read.trace_table(text[:-40]))} == whole
    try:
        profile_read.trace_table("[\n")
    except profile_read.Failure:
        return
    raise AssertionError


# ---- the command ----

NCU = """#!/bin/sh
echo "$PLSTM_EAGER $*" >>"$CALLS"
while [ $# -gt 0 ]; do
    case $1 in
    --export) export=$2 && shift ;;
    --import) [ -e "$2" ] || exit 1 ;;
    --page) page=$2 && shift ;;
    esac
    shift
done
[ -z "$FAIL" ] || { echo "==ERROR== ERR_NVGPUCTRPERM" && exit 1; }
case $page in raw) cat "$SAMPLE" ;; details) echo "Section: GPU Speed Of Light" ;; *) [ -n "$NONE" ] || printf 'a\\0b' >"$export.ncu-rep" ;; esac
"""
NSYS = """#!/bin/sh
echo "$PLSTM_EAGER $*" >>"$CALLS"
while [ $# -gt 0 ]; do [ "$1" = --output ] && printf 'a\\0b' >"$2.nsys-rep"; shift; done
echo "Time (%),Range"
"""
PROGRAM = '#!/bin/sh\ncase $1 in devices) echo "  0  NVIDIA H200" ;; --version) echo "plstm 1" ;; esac\n'


class Desk:
    """A folder with stand-ins for the profilers and programs."""

    def __init__(self, **tools):
        self.folder = tempfile.TemporaryDirectory()
        for name, text in {"path/ncu": NCU, "path/nsys": NSYS, "path/nvidia-smi": '#!/bin/sh\necho "NVIDIA H200"\n', "build/plstm": PROGRAM,
                           "build/cuda/bench_gpu": PROGRAM, **tools}.items():
            if text:
                self.write(name, text)
        os.makedirs(self.path("build/cuda/kernels"))
        self.write("build/cuda/kernels/fwd_reg.ptxas", "ptxas info    : Used 190 registers\n")
        self.out = self.path("out")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), 0o755)

    def run(self, *arguments, out=True, **environment):
        """Returns (status, output)."""
        calls = {"CALLS": self.path("calls"), "SAMPLE": os.path.join(SAMPLES, "ncu_raw_synthetic.csv"),
                 "PATH": self.path("path") + ":" + os.environ["PATH"]}
        where = [f"OUT={self.out}"] if out else []
        done = subprocess.run([os.path.join(ROOT, "tools/profile.sh"), f"BUILD={self.path('build')}", *where,
                               *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120,
                              env={**os.environ, "FAIL": "", "NONE": "", **calls, **environment})
        return done.returncode, done.stdout

    def calls(self):
        with open(self.path("calls"), encoding="utf-8") as f:
            return f.read().splitlines()

    def kept(self):
        return {name: profile_read.read(os.path.join(self.out, name)) for name in sorted(os.listdir(self.out))}


VARIANT = ["K=reg", "H=650", "B=20", "T=35"]


def test_ncu_on_a_variant():
    with Desk() as desk:
        status, said = desk.run(*VARIANT, "METRICS=roofline", "RANGE=backward")
        assert (status, said) == (0, desk.out + "\n"), said
        first = desk.calls()[0]
        for word in ("1 --clock-control none", "--nvtx --nvtx-include plstm@backward/", "dram__bytes_read.sum",
                     "--kernel reg", "--precision f32",
                     "--hidden 650", "--batch 20", "--seq 35", "--backend cuda"):
            assert word in first, (word, first)
        kept = desk.kept()
        assert set(kept) >= {"command.txt", "environment.txt", "ptxas.txt", "roofline-raw.csv", "roofline-details.txt",
                             "roofline.ncu-rep", "summary.csv"}
        assert "fwd_sample<(int)4>,130x1x1" in kept["summary.csv"] and "Speed Of Light" in kept["roofline-details.txt"]
        assert "190 registers" in kept["ptxas.txt"] and "NVIDIA H200" in kept["environment.txt"] and "plstm 1" in kept["environment.txt"]
        assert kept["command.txt"].startswith("ncu --clock-control none") and "OUT/roofline" in kept["command.txt"]


def test_ncu_on_a_row_of_the_benchmark():
    with Desk() as desk:
        assert desk.run("ROW=layers/softmax_xent/f32/H:650/B:20/T:35")[0] == 0
        first = desk.calls()[0]
        assert "--profile-from-start off" in first \
            and "bench_gpu --once=layers/softmax_xent/f32/H:650/B:20/T:35" in first and "--nvtx" not in first
        assert "dram__bytes_read.sum" not in first and "gpu__time_duration.sum" in first  # fast


def test_nsys():
    with Desk() as desk:
        assert desk.run(*VARIANT, "TOOL=nsys")[0] == 0
        assert "profile --trace=cuda,nvtx" in desk.calls()[0] and "stats --format csv" in desk.calls()[1]
        assert desk.kept()["nsys.csv"].startswith("Time (%)")


def test_a_failing_profiler_leaves_the_old_files():
    for more, why in (({"FAIL": "1"}, "ERR_NVGPUCTRPERM"), ({"NONE": "1"}, "no kernel")):
        with Desk() as desk:
            assert desk.run(*VARIANT)[0] == 0
            before = desk.kept()
            status, said = desk.run(*VARIANT, **more)
            assert status == 1 and why in said, said
            assert desk.kept() == before and not os.path.exists(desk.out + ".part")


def test_wrong_arguments():
    with Desk() as desk:
        for arguments, word in ((["K=reg", "H=650", "B=20"], "T must be"), (["H=650"], "nothing to profile"),
                                ([*VARIANT, "TOOL=gdb"], "TOOL"),
                                ([*VARIANT, "METRICS=all"], "METRICS"),
                                (["K=a;b", "H=1", "B=1", "T=1"], "K must be a name"), (["--fast"], "--fast"),
                                (["ROW=a/b", "TOOL=nsys"], "ROW"), (["K=reg", "H=06", "B=1", "T=1"], "H must be")):
            status, said = desk.run(*arguments)
            assert status == 2 and word in said and len(said.splitlines()) == 1, said
    with Desk(**{"build/plstm": ""}) as desk:
        status, said = desk.run(*VARIANT)
        assert status == 4 and "make builds it" in said, said
    with Desk(**{"path/nvidia-smi": "#!/bin/sh\nexit 9\n"}) as desk:
        status, said = desk.run(*VARIANT, out=False)
        assert status == 4 and "no GPU" in said, said
    with Desk() as desk:
        status, said = desk.run(*VARIANT, "TOOL=trace")
        assert status == 4 and "libnvtx_trace.so" in said, said


def test_the_emulated_program_is_traced_and_stays_out_of_profiles():
    if not os.path.exists(EMULATED) or not os.path.exists(RECORDER):
        raise tap.Skip("the emulated program or the recorder is not built")
    small = ["K=cublas", "H=5", "B=2", "T=3", f"PLSTM={EMULATED}", f"BUILD={BUILD}"]
    with Desk() as desk:
        status, said = desk.run(*small, "TOOL=trace")
        assert status == 0, said
        kept = desk.kept()
        assert "range,step/forward/layer0,layer0,2," in kept["summary.csv"] and "emulated" in kept["environment.txt"], kept["summary.csv"]
        assert ROOT not in kept["command.txt"].replace(EMULATED, ""), kept["command.txt"]
        status, said = desk.run(*small, "TOOL=ncu")
        assert status == 4 and "emulated" in said, said


def test_shellcheck():
    if not shutil.which("shellcheck"):
        raise tap.Skip("shellcheck is not here")
    done = subprocess.run(["shellcheck", os.path.join(ROOT, "tools/profile.sh")], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


tap.main(globals())
