"""tools/torch_peer.py where there is PyTorch but no GPU: what it would time is right, what is wrong is seen, and it says why it cannot."""
import json
import os
import subprocess
import sys
import tempfile

import tap

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")
PROBE = """
import json, sys
import torch
import torch_peer
found = {}
for backward in (False, True):
    peer = torch_peer.Peer(torch, (20, 3, 70), torch.float32, 1, 1, backward, "cpu")
    assert peer.run().shape == (70, 3, 20)
    found[f"right{backward:d}"] = peer.error()
    with torch.no_grad():
        peer.rnns[0].weight_hh_l0[3, 4] += 0.5
    found[f"wrong{backward:d}"] = peer.error()
for modules in (1, 2):
    peer = torch_peer.Peer(torch, (20, 3, 5), torch.float32, 2, modules, True, "cpu")
    assert peer.run().shape == (5, 3, 20) and peer.error() is None
found["names"] = [case[0] for case in torch_peer.cases(torch, torch_peer.SHAPES)]
print(json.dumps(found))
"""


def python_with_torch():
    for python in (sys.executable, "/usr/bin/python3"):
        if os.path.exists(python) and subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise tap.Skip("no Python here has PyTorch")


def test_what_it_would_time_is_right():
    done = subprocess.run([python_with_torch(), "-c", PROBE], cwd=TOOLS, stdout=subprocess.PIPE, text=True, timeout=200,
                          env=dict(os.environ, PYTHONPATH=TOOLS))
    assert done.returncode == 0
    found = json.loads(done.stdout)
    for key in ("right0", "right1"):
        assert found[key] < 1e-5, found
    for key in ("wrong0", "wrong1"):
        assert found[key] > 1e-3, found
    names = found["names"]
    assert len(names) == len(set(names))
    for name in ("lstm/fwd/cudnn/f32/H:650/B:20/T:35", "lstm/fwdbwd/cudnn/tf32/H:1500/B:20/T:35", "lstm/fwd/cudnn/f16/H:768/B:16/T:1024",
                 "lstm/fwdbwd/cudnn/bf16/H:200/B:20/T:20", "lstm2/fwdbwd/cudnn-dropout3/f32/H:650/B:20/T:35"):
        assert name in names, name


def test_without_a_gpu_it_says_so():
    python = python_with_torch()
    if subprocess.run([python, "-c", "import sys, torch; sys.exit(torch.cuda.is_available())"]).returncode:
        raise tap.Skip("there is a GPU here")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([python, os.path.join(TOOLS, "torch_peer.py"), "--out", os.path.join(folder, "torch.json")],
                              stderr=subprocess.PIPE, text=True, timeout=200)
        assert done.returncode == 4 and "no GPU" in done.stderr and not os.listdir(folder), done.stderr


tap.main(globals())
