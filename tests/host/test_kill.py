"""Kills `plstm train` with SIGKILL at random moments: the checkpoint must always be the complete old one or the
complete new one, and the run that resumes from it must end like an uninterrupted one (SPEC 7).

Runs that save after every minibatch are killed at least 50 times, and until at least 25 kills have fallen between the
first byte of the temporary file and the rename; such a kill leaves a temporary file that is not empty. A third of the
moments are drawn uniformly from the whole run. The others come soon after a temporary file was created (detected by
inotify), since a bug would do harm there. The program has no code for this test.
"""
import ctypes
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402
from safetensors_read import parse  # noqa: E402

KILLS, IN_WINDOW, MOST = 50, 25, 200
PLSTM = os.environ.get("PLSTM", os.path.join("build", "plstm"))
# The file has 2 MB, so that writing it takes longer than its inotify event. Two epochs, with masks and a schedule, have
# 8 minibatches.
MODEL = ["--hidden", "256", "--layers", "1", "--batch", "2", "--seq", "4", "--keep", "0.5", "--epochs", "2", "--hold", "0"]
STEPS = 8
SAVE, BEST, LOG, TEMP = "model.safetensors", "best.safetensors", "log.jsonl", "model.safetensors.tmp"


# ---- the folder's events ----

class Watch:
    """Watches a folder with inotify and reports files that are created or moved away."""
    CREATE, MOVED_FROM = 0x100, 0x40

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(folder), self.CREATE | self.MOVED_FROM) < 0:
            raise tap.Skip("inotify: " + os.strerror(ctypes.get_errno()))

    def events(self, seconds):
        """Waits at most `seconds` for an event. Returns the events that have arrived, as [(kind, name)]."""
        if not select.select([self.fd], [], [], max(0.0, seconds))[0]:
            return []
        found, raw = [], os.read(self.fd, 65536)
        while raw:
            _, kind, _, length = struct.unpack("iIII", raw[:16])
            found.append((kind, raw[16 : 16 + length].split(b"\0")[0].decode()))
            raw = raw[16 + length :]
        return found

    def close(self):
        os.close(self.fd)


# ---- runs ----

class Place:
    """A folder with the program, a corpus and a run's files."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        try:
            with open(self.path(name), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def command(self, base, *options):
        """Returns the command that starts a new run, or resumes it if there is a checkpoint."""
        start = ["--resume", self.path(SAVE)] if os.path.exists(self.path(SAVE)) else MODEL
        return [os.path.join(base, "plstm"), "train", "--quiet", "--data", os.path.join(base, "data"), *start, "--threads", "1",
                "--save", self.path(SAVE), "--save-best", self.path(BEST), "--log-json", self.path(LOG), *options]

    def log(self):
        """Returns the lines of the log without times."""
        lines = [json.loads(line) for line in self.read(LOG).splitlines()]
        return [{k: v for k, v in line.items() if k not in ("words_per_s", "seconds")} for line in lines]


def run(command):
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, (command, done.returncode, done.stderr)


def prepare(base):
    os.mkdir(os.path.join(base, "data"))
    shutil.copy(PLSTM, os.path.join(base, "plstm"))
    draw = random.Random(3)
    words = [f"word{i}" for i in range(30)]
    for split, lines in (("train", 7), ("valid", 8), ("test", 8)):
        with open(os.path.join(base, "data", split + ".txt"), "w", encoding="ascii") as f:
            for _ in range(lines):
                f.write(" ".join(draw.choice(words) for _ in range(4)) + "\n")


def weights(content):
    return [(name, t) for name, t in parse(content)[0].items() if not name.startswith("state.")]


def reference(base):
    """Returns the folder of the uninterrupted run, and a list: the checkpoint's bytes after each number of
    minibatches."""
    whole = Place(os.path.join(base, "whole"))
    os.mkdir(whole.folder)
    run(whole.command(base))
    steps = [line["step"] for line in whole.log() if line["event"] == "step"]
    assert steps == list(range(STEPS)), steps
    after = []
    for n in range(STEPS + 1):
        part = Place(os.path.join(base, f"after{n}"))
        os.mkdir(part.folder)
        run(part.command(base, "--max-steps", str(n)))
        after.append(part.read(SAVE))
    assert after[STEPS] == whole.read(SAVE)
    return whole, after


def steps_of(content, after):
    """Returns after how many minibatches this file was written; the file must equal the uninterrupted run's at that
    point."""
    step = int(parse(content)[1]["step"])
    # At the end of an epoch a file is saved twice: before valid is scored, with the carried state, and after that.
    # --max-steps gives the latter.
    assert content == after[step] or (step % (STEPS // 2) == 0 and weights(content) == weights(after[step])), f"step {step}"
    return step


# ---- one kill ----

def save_duration(base, place):
    """Returns how many seconds a whole run takes that saves after every minibatch, and the median time from a temporary
    file's creation to its rename."""
    watch = Watch(place.folder)
    start = time.monotonic()
    child = subprocess.Popen(place.command(base, "--save-every", "0.00001"), stdout=subprocess.DEVNULL)
    opened, windows = None, []
    while child.poll() is None:
        for kind, name in watch.events(0.01):
            now = time.monotonic()
            if name == TEMP and kind == Watch.CREATE:
                opened = now
            elif name == TEMP and opened is not None:
                windows.append(now - opened)
    watch.close()
    assert child.returncode == 0 and len(windows) >= STEPS
    return time.monotonic() - start, sorted(windows)[len(windows) // 2]


def kill_once(base, place, draw, aimed, duration, window):
    """Starts or resumes a run and kills it, soon after a save began if `aimed`. Returns whether the run had not ended
    by itself."""
    watch = Watch(place.folder)
    child = subprocess.Popen(place.command(base, "--save-every", "0.00001"), stdout=subprocess.DEVNULL)
    if aimed:
        # The first temporary file only checks that the path is writable.
        saves, last = draw.randint(2, STEPS), time.monotonic() + 20
        while saves and child.poll() is None and time.monotonic() < last:
            saves -= sum(event == (Watch.CREATE, TEMP) for event in watch.events(0.01)[:saves])
        time.sleep(draw.uniform(0, 0.9 * window))
    else:
        time.sleep(draw.uniform(0, duration))
    killed = child.poll() is None
    child.kill()
    child.wait()
    watch.close()
    return killed and child.returncode == -signal.SIGKILL


def check_resumes(base, place, whole):
    """Checks, in a copy of all files that the kill left, that the run can be resumed and ends like the uninterrupted
    one."""
    copy = Place(os.path.join(base, "copy"))
    shutil.copytree(place.folder, copy.folder)
    run(copy.command(base))
    assert copy.read(SAVE) == whole.read(SAVE), "the final file differs"
    assert copy.read(BEST) == whole.read(BEST), "the best file differs"
    for mine, theirs in zip(copy.log(), whole.log()):
        assert mine == theirs, (mine, theirs)
    assert len(copy.log()) == len(whole.log())
    left = [name for name in os.listdir(copy.folder) if name not in (SAVE, BEST, LOG)]
    assert not [name for name in left if name.startswith(SAVE)], left
    shutil.rmtree(copy.folder)


def test_kill_at_random_moments():
    seed = int(os.environ.get("PLSTM_KILL_SEED", time.time_ns() % 1000000))
    draw = random.Random(seed)
    print(f"seed {seed} (PLSTM_KILL_SEED repeats the draws)")
    with tempfile.TemporaryDirectory(prefix="plstm-kill-") as base:
        prepare(base)
        whole, after = reference(base)
        place = Place(os.path.join(base, "run"))
        os.mkdir(place.folder)
        duration, window = save_duration(base, place)
        print(f"a run takes {duration:.3f} s, a save's window {1000 * window:.1f} ms")
        kills = in_window = without_file = from_old = 0
        seen = set()
        fresh = True
        while (kills < KILLS or in_window < IN_WINDOW) and kills < MOST:
            if fresh:
                shutil.rmtree(place.folder)
                os.mkdir(place.folder)
            if os.path.exists(place.path(TEMP)):
                os.remove(place.path(TEMP))  # a temporary file that is found later is then from this run
            old = place.read(SAVE)
            if not kill_once(base, place, draw, kills % 3 > 0, duration, window):
                fresh = True
                continue
            kills += 1
            in_window += os.path.exists(place.path(TEMP)) and os.path.getsize(place.path(TEMP)) > 0
            new, best = place.read(SAVE), place.read(BEST)
            if new is None:
                assert old is None, "the old file is gone"
                without_file += 1
            else:
                step = steps_of(new, after)
                seen.add(step)
                if old is not None:
                    assert step >= steps_of(old, after)
                    from_old += 1
            if best is not None:
                steps_of(best, after)
            check_resumes(base, place, whole)
            fresh = new is None or new == after[STEPS] or draw.random() < 0.5
    print(f"{kills} kills, {in_window} of them between the temporary file's first byte and the rename; {from_old} in a run that had resumed, "
          f"{without_file} before the first file; the files found were those of minibatches {sorted(seen)}")
    assert kills >= KILLS and in_window >= IN_WINDOW


if __name__ == "__main__":
    tap.main(globals())
