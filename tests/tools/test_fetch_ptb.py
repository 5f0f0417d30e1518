"""Tests tools/fetch_ptb.sh without a network: a local folder serves as the server (curl's file://)."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SCRIPT = os.path.join(ROOT, "tools", "fetch_ptb.sh")
NAMES = ["ptb.test.txt", "ptb.train.txt", "ptb.valid.txt"]


def text():
    for place in ("../shared/data/ptb", "data/ptb"):
        folder = os.path.abspath(os.path.join(ROOT, place))
        if os.path.isdir(folder):
            return folder
    raise tap.Skip("Penn Treebank is neither in ../shared/data/ptb nor in data/ptb")


def fetch(url, target):
    if not shutil.which("curl"):
        raise tap.Skip("curl, which reads file:// addresses, is not there")
    return subprocess.run([SCRIPT, target], env=dict(os.environ, PTB_URL=url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)


def test_right_files_are_kept_and_not_fetched_twice():
    source = text()
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "data", "ptb")
        done = fetch("file://" + source, target)
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(target)) == NAMES and os.listdir(os.path.dirname(target)) == ["ptb"]
        done = fetch("file:///nowhere", target)
        assert done.returncode == 0 and "already" in done.stdout, done.stdout


def test_wrong_bytes_are_refused_and_nothing_is_kept():
    source = text()
    with tempfile.TemporaryDirectory() as folder:
        server, target = os.path.join(folder, "server"), os.path.join(folder, "ptb")
        os.mkdir(server)
        for name in NAMES:
            shutil.copyfile(os.path.join(source, name), os.path.join(server, name))
        with open(os.path.join(server, "ptb.test.txt"), "a", encoding="utf-8") as f:
            f.write("\n")
        os.mkdir(target)
        with open(os.path.join(target, "mine.txt"), "w", encoding="utf-8") as f:
            f.write("stays\n")
        done = fetch("file://" + server, target)
        assert done.returncode == 1 and "ptb.test.txt is not the expected file" in done.stderr, done.stderr
        assert os.listdir(target) == ["mine.txt"] and sorted(os.listdir(folder)) == ["ptb", "server"]


def test_missing_server_is_one_sentence():
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "ptb")
        done = fetch("file:///nowhere", target)
        assert done.returncode == 1 and "could not download file:///nowhere/ptb.train.txt" in done.stderr, done.stderr
        assert os.listdir(folder) == []


if __name__ == "__main__":
    tap.main(globals())
