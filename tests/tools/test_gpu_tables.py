"""Tests tools/results/tables: the GPU sections of RESULTS.md, made from the synthetic sample in fixtures/gpu_sample by the formulas of
make.py."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SAMPLE = os.path.join(ROOT, "tests", "fixtures", "gpu_sample")
MEGABYTE = 1 << 20
sys.path.insert(0, os.path.join(ROOT, "tools/results"))
import ingest  # noqa: E402
from tables import anchor, bench, plot, step, variants  # noqa: E402
from tables.data import Data, Failure  # noqa: E402


class Tree:
    """A working tree whose profiles/ has the sample."""

    def __init__(self, machine=True, predictions=True):
        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        os.makedirs(self.path("sample"))
        os.makedirs(self.path("model"))
        if machine:
            for name in ("machine.json", "variants.json", "step.json", "constants.json"):
                shutil.copy(os.path.join(SAMPLE, name), self.path("sample"))
        if predictions:
            shutil.copy(os.path.join(SAMPLE, "predictions.jsonl"), self.path("model"))

    def path(self, *names):
        return os.path.join(self.root, "profiles", *names)

    def edit(self, name, change):
        """Edits a file's JSON; change(value) modifies it in place."""
        with open(self.path("sample", name), encoding="utf-8") as f:
            value = json.load(f)
        change(value)
        with open(self.path("sample", name), "w", encoding="utf-8") as f:
            json.dump(value, f)

    def section(self, make):
        """Returns (text, {figure: script})."""
        figures = {}
        return make(Data(self.root), figures), figures

    def refused(self, make, word):
        try:
            self.section(make)
        except Failure as fault:
            assert word in str(fault), fault
        else:
            raise AssertionError(f"{word} was not refused")


def rows(text):
    """Returns {(first three cells): {heading: cell}} of every table in the text."""
    found, headings = {}, None
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("| ") else None
        if not cells:
            headings = None
        elif headings is None:
            headings = cells
        elif not cells[0].startswith(":--"):
            found.setdefault(tuple(cells[:3]), {}).update(zip(headings, cells))
    return found


def test_variants_by_hand():
    text, _ = Tree().section(variants.variants)
    row = rows(text)["`reg`", "H 650, B 20, T 35", "f32"]
    # forward is (8 + 2.5 * 35) / 35, backward 1.25 times that, both their sum. The cuBLAS graph takes
    # 2.25 * (3 + 6 * 35) / 35. The floor of a pass is 35 * 0.65 + 8 * 35 * 20 * 650**2 / 50e6 us. A whole layer takes 2
    # more than both, and cuDNN's fastest call 8 * 2.5.
    want = {"forward, us/step": "2.73", "backward, us/step": "3.41", "both, us/step": "6.14",
            "predicted, us/step": "2.40 + 3.10", "speed-up on cuBLAS graph": "2.23",
            "of floor": "65 %",
            "whole layer, us/step": "8.14",
            "speed-up on best cuDNN": "2.46", "noise": "0.4 %"}
    assert {key: row[key] for key in want} == want, row
    assert "SYNTHETIC" in row["hardware"] and "sample/variants.json" in row["data"]
    assert "predictions.jsonl" in text.split("`cluster`")[1].splitlines()[0]
    assert rows(text)["`cluster`", "H 650, B 20, T 35", "bf16"]["both, us/step"] == "not yet measured"
    assert "- `reg` f32, lstm/fwd H 1500, lstm/bwd H 1500: refused: w_hh needs 36.0 MB" in text
    assert "- `cluster` bf16, fwd H 1500, bwd H 1500, by the planner for NVIDIA SAMPLE: no cluster of 16 holds it" in text
    assert "/eager" not in text and "T 70" not in text.split("Time of a pass")[0]


def test_a_measurement_on_any_device_suffices():
    """A board counts as the device whose name its own name contains: an "NVIDIA H100 80GB HBM3" is an H100. What was
    measured on it is not listed as missing for an H200."""
    tree = Tree()
    with open(tree.path("model", "predictions.jsonl"), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    with open(tree.path("model", "predictions.jsonl"), "w", encoding="utf-8") as f:
        for name, slower in (("H100", 1.0), ("H200", 2.0)):
            for line in lines:
                f.write(json.dumps({**line, "device": name,
                                    **({"model_us_per_step": line["model_us_per_step"] * slower}
                                       if "refused" not in line else {})}) + "\n")
    # One row is of the sample's board, which is no H100, and one says "not yet measured".
    assert tree.section(variants.variants)[0].count("| `reg` | H 650, B 20, T 35 |") == 2
    tree.edit("machine.json", lambda value: value.update(hardware="NVIDIA H100 80GB HBM3"))
    text = tree.section(variants.variants)[0]
    found = rows(text)
    assert found["`reg`", "H 650, B 20, T 35", "f32"]["predicted, us/step"] == "2.40 + 3.10"
    assert found["`reg`", "H 650, B 20, T 35", "f32"]["hardware"] == "NVIDIA H100 80GB HBM3"
    assert found["`cluster`", "H 650, B 20, T 35", "bf16"]["hardware"] == "H100 or H200 (model of H100)", text
    assert text.count("| `cluster` | H 650") == text.count("| `reg` | H 650, B 20, T 35 |") == 1, text
    assert "by the planner for H100: no cluster of 16 holds it" in text and "by the planner for H200" not in text


def test_a_peer_is_never_less_exact_than_ours():
    table = rows(Tree().section(variants.variants)[0])
    # cuDNN takes 20 us in float32, 17.5 in TF32, 15 in float16, and 10 at the padded shape.
    for variant, precision, peer in (("reg", "f32", 20.0), ("cublas", "tf32", 17.5), ("mma", "bf16", 10.0)):
        row = table[f"`{variant}`", "H 200, B 20, T 20", precision]
        assert abs(float(row["speed-up on best cuDNN"]) - peer / float(row["whole layer, us/step"])) < 0.01, row
    # The cuBLAS graph at H 1500 takes 2.25 * (3 + 12 * T) in float32 and 2.25 * (3 + 10 * T) in TF32.
    for variant, precision, peer in (("l2", "f32", 27.19), ("mma", "bf16", 22.69)):
        row = table[f"`{variant}`", "H 1500, B 20, T 35", precision]
        assert abs(float(row["speed-up on cuBLAS graph"]) - peer / float(row["both, us/step"])) < 0.01, row


def test_whole_layers_of_plstm_and_cudnn():
    text, _ = Tree().section(variants.variants)
    whole = text.split("Whole layers of plstm and of other libraries")[1]
    assert "| `cudnn-standard` | 1 | H 650, B 20, T 35 | tf32 | 7.00 | 17.50 | 0.4 % |" in whole, whole
    assert "| `cudnn-standard` | 2 | H 650, B 20, T 35 | tf32 | 14.00 | 35.00 |" in whole \
        and "| `reg` | 1 | H 650, B 20, T 35 | f32 |  | 8.14 |" in whole
    assert "| `cudnn-static` | 1 | H 768, B 24, T 35 | f16 |  | 10.00 |" in whole \
        and "| `cudnn` | 1 | H 650, B 20, T 35 | f32 |  | 21.00 |" in whole
    assert "- `cudnn-static` f16, lstm/fwdbwd H 200, lstm2/fwdbwd H 200" in whole and "`cudnn" not in text.split("Time of a pass")[0]


def test_the_fit_finds_launch_and_slope():
    tree = Tree()
    machine = bench.machines(Data(tree.root))[0]
    a, b, points = variants.Measured(machine).fit("bwd", "reg", "f32", 650, 20)
    assert abs(a - 10) < 1e-9 and abs(b - 3.125) < 1e-9 and len(points) == 4, (a, b, points)
    text, _ = tree.section(variants.variants)
    assert "| `reg` | 650 | 20 | f32 | 8.0 | 2.50 | 10.0 | 3.12 | 20, 35, 70, 140 |" in text, text


def test_published_times_beside_measured_ones():
    text, _ = Tree(machine=False).section(anchor.anchor)
    assert "| cuDNN through nn.LSTM | f16 | 2.01 | 5.19 | not yet measured | not yet measured |" in text, text
    tree = Tree()

    def more(value):
        for name, us in (("lstm/fwd/cudnn/f16", 2100.0), ("lstm/fwd/cudnn-standard/f16", 1900.0), ("lstm/fwd/cudnn-static/f16", 1800.0),
                         ("lstm/fwdbwd/cudnn-static/f16", 5000.0), ("lstm/fwd/cudnn-static/f32", 1.0)):
            value["rows"].append({"name": name + "/H:768/B:16/T:1024", "median_us": us})
    tree.edit("variants.json", more)
    text, _ = tree.section(anchor.anchor)
    assert "| 2.01 | 5.19 | 2.10 (`cudnn`) | not yet measured | SYNTHETIC" in text, text
    assert "| f16 | – | – | 1.80 (`cudnn-static`) | 5.00 (`cudnn-static`) | SYNTHETIC" in text, text
    assert "| Haste | f32 | 18.41 | 43.86 | not yet measured | not yet measured |" in text, text


def test_step_and_its_parts():
    text, figures = Tree().section(step.step)
    assert "| medium | `cuda` | f32 | 2.500 | 280000 | 1.20 | 0.4 % |" in text and "| medium | `cuda/eager` | f32 | 3.750 |" in text, text
    parts = rows(text.split("each measured alone")[1])["medium", "`cuda`", "f32"]
    want = {"recurrence, forward": "426.0", "recurrence, backward": "532.5", "products of the layers": "473.2", "softmax": "20.0",
            "bias sums": "17.0", "products of the softmax": "682.5", "embedding": "9.0", "norm, clip, update": "40.0",
            "gaps and the rest": "299.8"}
    assert {key: parts[key] for key in want} == want, parts
    assert list(figures) == ["figures/sample-step.svg"] and "softmax" in figures["figures/sample-step.svg"]


def test_kernels_and_constants():
    text, _ = Tree().section(step.kernels)
    assert "| `gemm/logits` | f32 | 40.00 (80 %) | 227.50 (80 %) | 525.00 (80 %) |" in text and "`layers/sgd_norm`" in text, text
    text, _ = Tree().section(step.constants)
    assert "| `flag_hop` | made up | 0.65 us | 2.0 % |" in text and "4.00 TB/s" in text and "made up to fail" in text, text


def test_figures_are_drawn_the_same_twice():
    _, figures = Tree().section(variants.variants)
    assert set(figures) == {f"figures/sample-{name}.svg"
                            for name in ("speedup", "lengths-H200", "lengths-H650", "lengths-H1500",
                                         "roofline")}, list(figures)
    figures.update(Tree().section(step.step)[1])
    if plot.draw(plot.PLOT_HEAD + "plot x\n") is None:
        raise tap.Skip("gnuplot is not here")
    for name, script in figures.items():
        svg = plot.draw(script)
        assert svg == plot.draw(script) and "<path" in svg and plot.stamp_of(script) in svg, name


def test_missing_columns_are_empty_cells():
    tree = Tree(predictions=False)

    def only_medians(value):
        value["rows"] = [{k: v for k, v in row.items() if k in ("name", "median_us", "error", "label") and not (k == "error" and v == 1e-6)}
                         for row in value["rows"]]
    tree.edit("variants.json", only_medians)
    tree.edit("step.json", only_medians)
    os.remove(tree.path("sample", "constants.json"))
    text, figures = tree.section(variants.variants)
    row = rows(text)["`reg`", "H 650, B 20, T 35", "f32"]
    assert row["both, us/step"] == "6.14" and row["of floor"] == row["noise"] == row["predicted, us/step"] == "", row
    assert "figures/sample-roofline.svg" not in figures and "figures/sample-speedup.svg" in figures
    assert "| medium | `cuda` | f32 | 2.500 | 280000 |" in tree.section(step.step)[0]
    assert "Not yet measured." in tree.section(step.constants)[0]


def test_a_part_that_was_not_measured_is_not_estimated():
    tree = Tree()
    tree.edit("variants.json",
              lambda value: value["rows"].remove(next(r for r in value["rows"]
                                                      if r["name"].startswith("gemm/dh/f32/H:650"))))
    text, figures = tree.section(step.step)
    parts = rows(text.split("each measured alone")[1])
    assert ("small", "`cuda`", "f32") in parts and ("medium", "`cuda`", "f32") not in parts
    tree.edit("variants.json",
              lambda value: value["rows"].remove(next(r for r in value["rows"]
                                                      if r["name"].startswith("layer/fwdbwd/reg/f32/H:650"))))
    row = rows(tree.section(variants.variants)[0])["`reg`", "H 650, B 20, T 35", "f32"]
    assert row["whole layer, us/step"] == row["speed-up on best cuDNN"] == "" and row["both, us/step"] == "6.14", row


def test_the_parts_are_of_the_kernel_that_ran():
    tree = Tree()

    def mixed(value):
        for row in value["rows"]:
            row["label"] = "stop=noise kernel=reg/l2"
    tree.edit("step.json", mixed)
    parts = rows(tree.section(step.step)[0].split("each measured alone")[1])
    row = parts["medium", "`cuda`", "f32"]
    assert (row["recurrence, forward"], row["recurrence, backward"]) == ("191.0", "447.5"), row  # 2 (8 + 2.5 T), 2.5 (4 + 5 T)
    assert ("large", "`cuda`", "f32") not in parts  # reg does not run there


def test_names_as_google_benchmark_writes_them():
    tree = Tree()

    def decorated(value):
        for row in value["rows"]:
            row["name"] += "/iterations:1/manual_time"
        value["rows"].append({"name": "lstm/fwd/reg/f32/H:650/B:20/fit/iterations:1/manual_time", "launch_us": 8.0, "step_us": 2.5})
    before = tree.section(variants.variants)
    tree.edit("variants.json", decorated)
    assert tree.section(variants.variants) == before


def test_nothing_measured():
    tree = Tree(machine=False, predictions=False)
    for make in (variants.variants, step.kernels, step.constants):
        assert tree.section(make) == ("Not yet measured.\n", {}), make
    assert tree.section(step.step)[0].count("not yet measured") == 7
    text, figures = Tree(machine=False).section(variants.variants)
    assert text.count("not yet measured") == 7 and "2.40 + 3.10" in text and not figures, text


def test_the_emulators_times_stay_out():
    for mark in ({"gpu": "emulated H200"}, {"emulated": "yes"}):
        tree = Tree()
        tree.edit("variants.json", lambda value, mark=mark: value["context"]["ours"].update(mark))
        tree.refused(variants.variants, "emulator")
    tree = Tree()
    tree.edit("constants.json", lambda value: value.update(emulated=True))
    tree.refused(step.constants, "emulator")


def test_rows_as_the_program_writes_them():
    """fixtures/bench_gpu_emulated.json has some rows of `bench_gpu --tiny` on the emulated GPU, with the names and columns of a real
    one."""
    with open(os.path.join(ROOT, "tests/fixtures/bench_gpu_emulated.json"), encoding="utf-8") as f:
        made = json.load(f)
    tree = Tree(predictions=False)
    filed = [ingest.own_row(row) for row in made["benchmarks"]]
    tree.edit("variants.json", lambda value: value.update(rows=[r for r in filed if not r["name"].startswith("step/")]))
    tree.edit("step.json", lambda value: value.update(rows=[r for r in filed if r["name"].startswith("step/")]))
    found = rows(tree.section(variants.variants)[0])["`cublas`", "H 20, B 3, T 5", "f32"]
    median = {r["name"]: r["median_us"] for r in filed if "median_us" in r}
    passes = [median[f"lstm/{what}/cublas/f32/H:20/B:3/T:5"] / 5 for what in ("fwd", "bwd")]
    assert [found["forward, us/step"], found["backward, us/step"],
            found["both, us/step"]] == [f"{us:.2f}" for us in (*passes, sum(passes))], found
    assert found["speed-up on cuBLAS graph"] == "1.00" and found["of floor"].endswith(" %") and found["noise"].endswith(" %"), found
    assert found["whole layer, us/step"] == f"{median['layer/fwdbwd/cublas/f32/H:20/B:3/T:5'] / 5:.2f}", found
    assert {r.said("kernel") for r in bench.machines(Data(tree.root))[0].rows if r.kind == "step"} == {"cublas"}
    # Unchanged, as rows of the emulator, they are refused.
    tree.edit("variants.json", lambda value: value["context"].update(ours=made["context"]))
    tree.refused(variants.variants, "emulator")


def test_a_row_without_a_shape_is_named():
    tree = Tree()
    tree.edit("variants.json", lambda value: value["rows"].append({"name": "lstm/fwd/reg", "median_us": 1.0}))
    tree.refused(variants.variants, "'lstm/fwd/reg'")


def test_the_sample_matches_its_script():
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(os.path.join(SAMPLE, "make.py"), folder)
        subprocess.run([sys.executable, os.path.join(folder, "make.py")], check=True, timeout=60)
        for name in sorted(os.listdir(SAMPLE)):
            with open(os.path.join(SAMPLE, name), "rb") as ours, open(os.path.join(folder, name), "rb") as fresh:
                assert ours.read() == fresh.read(), name


def tracked():
    """Returns the files of the repository, by git if possible."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode == 0 and done.stdout:
        return done.stdout.splitlines()
    return [os.path.relpath(os.path.join(folder, name), ROOT) for top in ("profiles", "tests")
            for folder, _, names in os.walk(os.path.join(ROOT, top))
            for name in names]


def test_the_sample_is_nowhere_else_and_no_file_is_large():
    names = [name for name in tracked() if os.path.exists(os.path.join(ROOT, name))]
    large = [name for name in names if os.path.getsize(os.path.join(ROOT, name)) > MEGABYTE]
    assert names and not large, large
    for name in [n for n in names if n.startswith("profiles/") or n == "RESULTS.md"]:
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            assert "SYNTHETIC" not in f.read(), name


tap.main(globals())
