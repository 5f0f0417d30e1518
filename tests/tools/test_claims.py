"""Tests tools/results/claims.c on a network whose weights are all zero, for which both of its results are known."""
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

PLSTM = os.environ.get("PLSTM", os.path.join("build", "plstm"))
CLAIMS = os.path.join(os.environ.get("PLSTM_BUILD", "build"), "tools", "claims")
TYPES = 102  # types of the built-in corpus


def claims(kind, *masks):
    """Returns the lines that claims prints for a network with zero weights, trained for no epoch."""
    with tempfile.TemporaryDirectory(prefix="plstm-claims-") as folder:
        file = os.path.join(folder, "zero.st")
        subprocess.run([PLSTM, "train", "--data", "synthetic", "--hidden", "7", "--layers", "2", "--init", "0",
                        "--epochs", "0", "--keep", "0.5",
                        "--eval", "none", "--quiet", "--threads", "1", "--save", file], check=True, stdout=subprocess.DEVNULL, timeout=60)
        done = subprocess.run([CLAIMS, kind, file, *masks], check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_reach_halves_at_every_step():
    # Every gate is sigmoid(0) and c stays 0: a gradient enters c through o = 1/2 and is halved at each f = 1/2.
    for masks in ("none", "nonrecurrent", "all"):
        lines = claims("reach", masks)
        assert len(lines) == 12 and lines[0]["masks"] == masks, lines
        for line in lines:
            share = 0.5 ** (line["steps"] + 1)
            for key in ("p10", "median", "p90"):
                assert abs(line[key] / share - 1) < 1e-5, line


def test_every_word_costs_the_same():
    lines = claims("distance")
    assert sum(line["words"] for line in lines) > 500, lines
    # A reader who knows the generator predicts better on average, though not every single word.
    assert 0 < sum(line["best_nats"] for line in lines) < 0.8 * sum(line["nats"] for line in lines), lines
    for line in lines:
        # The output has nine digits, whose rounding is smaller than a float32's rounding of the logarithm.
        assert abs(line["nats"] / line["words"] - math.log(TYPES)) < 1e-5, line


def test_bad_input_is_refused():
    def status(*arguments):
        return subprocess.run([CLAIMS, *arguments], check=False, stderr=subprocess.DEVNULL, timeout=60).returncode
    for arguments in ((), ("reach",), ("reach", "none.st", "some"), ("distance", "none.st", "all")):
        assert status(*arguments) == 2, arguments
    assert status("reach", "none.st") == 3


if __name__ == "__main__":
    tap.main(globals())
