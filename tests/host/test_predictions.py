"""Checks that profiles/model/predictions.jsonl has the predictions of this program's planner, and that the predictions
in the opening blocks of the kernels are those of that file."""
import json
import math
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

PLSTM = os.environ.get("PLSTM", "build/plstm")
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
FILE = os.path.join(ROOT, "profiles/model/predictions.jsonl")
PASSES = {"fwd": "forward", "bwd": "backward"}
PREDICTED = re.compile(r"Predicted for an (\w+), B (\d+), (bf16|float32), (?:without the launch|with its launches): ([^:]*)")
FIGURE = re.compile(r"(\d+\.\d\d)(?: us per step)? at H (\d+)")


def differences(ours, theirs, where=""):
    """Returns the paths at which two JSON values differ. Numbers may differ by 1e-9 of their value, since rounding
    depends on the compiler."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [d for key in dict.fromkeys([*ours, *theirs]) for d in differences(ours.get(key), theirs.get(key), f"{where}/{key}")]
    both_floats = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (ours, theirs))
    return [] if ours == theirs or both_floats and math.isclose(ours, theirs, rel_tol=1e-9) else [where]


def key_of(line):
    return tuple(line.get(name) for name in ("device", "H", "B", "T", "variant", "precision", "pass"))


def stale(predicted, filed):
    """Returns one sentence per line that was added, removed or changed."""
    lines, known = ({key_of(line): line for line in side} for side in (predicted, filed))
    found = [f"{key} is {'new' if key in lines else 'gone'}" for key in lines.keys() ^ known.keys()]
    return found + [f"{key} differs in {', '.join(where)}" for key in lines.keys() & known.keys()
                    if (where := differences(lines[key], known[key]))]


def test_predictions_are_those_of_this_program():
    if not os.path.exists(PLSTM):
        raise tap.Skip(f"{PLSTM} is not built")
    said = "".join(subprocess.run([PLSTM, "plan", "--json", "--quiet", "--device", device, "--precision", "all"],
                                  stdout=subprocess.PIPE, text=True, check=True,
                                  timeout=60).stdout for device in ("H100", "H200"))
    predicted = [json.loads(line) for line in said.splitlines()]
    with open(FILE, encoding="utf-8") as f:
        filed = [json.loads(line) for line in f]
    assert predicted and not stale(predicted,
                                   filed), "make refresh, and commit what it makes: " + "; ".join(
                                       sorted(stale(predicted, filed))[:5])


def block_stale(text, filed):
    """Returns how the predictions of an opening block differ from the lines of its variant and pass, or ''. Every shape
    must have a figure."""
    found = PREDICTED.search(re.sub(r"\n \* *", " ", text.split("*/")[0]))
    if not found:
        return "it has no prediction"
    device, batch, precision, figures = found.groups()
    ours = {int(H): float(us) for us, H in FIGURE.findall(figures)}
    theirs = {line["H"]: line["model_us_per_step"] for line in filed if "model_us_per_step" in line and line["device"] == device
              and line["B"] == int(batch) and line["precision"] == precision.replace("float32", "f32")}
    close = ours.keys() == theirs.keys() and all(abs(ours[H] - theirs[H]) < 0.005 + 1e-9 for H in ours)
    return "" if close and ours else f"it says {ours}, the file {theirs}"


def test_opening_blocks_have_the_predictions_of_the_file():
    with open(FILE, encoding="utf-8") as f:
        filed = [json.loads(line) for line in f]
    wrong = {}
    for variant in {line["variant"] for line in filed}:
        for name, of_pass in PASSES.items():
            with open(os.path.join(ROOT, f"kernels/{name}_{variant}.cu"), encoding="utf-8") as f:
                wrong[f"{name}_{variant}.cu"] = block_stale(f.read(), [line for line in filed if line["variant"] == variant
                                                                      and line["pass"] == of_pass])
    assert len(wrong) >= 12 and not any(wrong.values()), "; ".join(f"{name}: {text}" for name, text in sorted(wrong.items()) if text)


def test_stale_opening_blocks_are_found():
    filed = [{"device": "X1", "H": H, "B": 20, "precision": "bf16", "model_us_per_step": us} for H, us in ((200, 0.4031), (650, 0.9))]
    says = "/* x:\n * Measured   Predicted for an X1, B 20, bf16, without the launch: 0.40 us per\n *  step at H 200 and {} at H {}. */"
    assert block_stale(says.format("0.90", 650), filed) == ""
    for other in ("0.91", 650), ("0.90", 651):
        assert block_stale(says.format(*other), filed), other
    assert block_stale(says.format("0.90", 650), filed[:1]) and block_stale("/* x */", filed)
    assert block_stale(says.format("0.90", 650).replace("bf16", "float32"), filed)


def test_stale_predictions_are_found():
    line = {"device": "X", "H": 1, "B": 1, "T": 1, "variant": "reg", "precision": "f32", "pass": "forward",
            "model_us": {"hop": 0.5}, "plan": "1x2"}
    assert stale([line], [dict(line, model_us={"hop": 0.5 + 1e-12})]) == []
    for other in ({"model_us": {"hop": 0.51}}, {"plan": "1x3"}, {"pass": "backward"}, {"model_us": {}}):
        assert stale([line], [{**line, **other}]), other
    assert stale([line], []) and stale([], [line])


tap.main(globals())
