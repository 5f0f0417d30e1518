"""Tests tools/wikitext2_size.py: plstm trains on a text of WikiText-2's size in the announced memory, and the checks can fail."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools"))
import tap  # noqa: E402
import wikitext2_size  # noqa: E402

TOOL = wikitext2_size.__file__
PLSTM = os.environ.get("PLSTM", os.path.join("build", "plstm"))


def test_the_announced_memory_holds():
    done = subprocess.run([sys.executable, TOOL, "--plstm", PLSTM, "--steps", "6", "--hidden", "64", "--threads", "1"],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["types"] == 33278 and record["words"] == 2088628 and record["words_per_s"] > 0, record


def test_a_claim_that_does_not_hold_is_reported():
    good = {"announced_bytes": 1e9, "peak_bytes": 1e9, "text_bytes": 2e7, "logged_seconds": 9.0, "seconds": 10.0, "start_seconds": 1.0}
    assert all(holds(good) for _, holds in wikitext2_size.CHECKS)
    for key, value in (("peak_bytes", 1.2e9), ("peak_bytes", 7e8), ("logged_seconds", 11.0), ("logged_seconds", 4.0)):
        assert sum(not holds({**good, key: value}) for _, holds in wikitext2_size.CHECKS) == 1, (key, value)


if __name__ == "__main__":
    tap.main(globals())
