"""Checks that profiles/model/predictions.jsonl has the predictions of this program's planner."""
import json
import math
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

PLSTM = os.environ.get("PLSTM", "build/plstm")
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", "profiles/model/predictions.jsonl")


def differences(ours, theirs, where=""):
    """Returns the paths at which two values differ; numbers may differ in their last digits, whose rounding depends on the compiler."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [d for key in dict.fromkeys([*ours, *theirs]) for d in differences(ours.get(key), theirs.get(key), f"{where}/{key}")]
    both_floats = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (ours, theirs))
    return [] if ours == theirs or both_floats and math.isclose(ours, theirs, rel_tol=1e-9) else [where]


def key_of(line):
    return tuple(line.get(name) for name in ("device", "H", "B", "T", "variant", "precision", "pass"))


def stale(predicted, filed):
    """Returns one sentence per difference."""
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


def test_stale_predictions_are_found():
    line = {"device": "X", "H": 1, "B": 1, "T": 1, "variant": "reg", "precision": "f32", "pass": "forward",
            "model_us": {"hop": 0.5}, "plan": "1x2"}
    assert stale([line], [dict(line, model_us={"hop": 0.5 + 1e-12})]) == []
    for other in ({"model_us": {"hop": 0.51}}, {"plan": "1x3"}, {"pass": "backward"}, {"model_us": {}}):
        assert stale([line], [{**line, **other}]), other
    assert stale([line], []) and stale([], [line])


tap.main(globals())
