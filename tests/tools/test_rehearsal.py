"""Tests tools/gpu/rehearse.py: runs tools/gpu_run.sh from its first step to the table in RESULTS.md, with a variant that hangs, one that
is wrong, one that ends the process and one that cannot be prepared."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BUILD = os.environ.get("PLSTM_BUILD", "build")


def test_planted_faults_lose_only_their_own_rows():
    if not os.path.exists(os.path.join(BUILD, "emu/plain/plstm_planted")):
        raise tap.Skip("the planted programs are not built")
    tool = os.path.join(ROOT, "tools/gpu/rehearse.py")
    done = subprocess.run([sys.executable, tool, "--build", BUILD, "--planted"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=220)
    assert done.returncode == 0, done.stdout


tap.main(globals())
