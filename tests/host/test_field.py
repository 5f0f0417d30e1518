"""Tests mistakes that users make and that must cost them nothing: wrong weights, mixed texts, an output that is an
input, files of other programs, lists and typing errors. Each case makes its own tiny files; the cases of
../shared/cases run, too, if they exist."""
import array
import json
import math
import os
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402
from safetensors_read import Tensor, floats, read, write  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
CASES = os.path.join(ROOT, "../shared/cases")
PLSTM = os.path.abspath(os.environ.get("PLSTM", "build/plstm"))
TEXT = "a b c a b\nc d a b a\nd d c b a\n"
MODEL = "--hidden 4 --layers 1 --batch 2 --seq 3".split()
S = [*MODEL, "--threads", "1", "--epochs", "1", "--quiet"]


class Done:
    def __init__(self, words, code, out, err):
        self.words, self.code, self.out, self.err = words, code, out, err

    def __repr__(self):
        return f"plstm {' '.join(self.words)}: exit {self.code}\n{self.out}{self.err}"


class Folder:
    """A test's own folder with a data folder in it."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="plstm-field-")
        self.texts("data", TEXT * 4, TEXT, TEXT)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)

    def __call__(self, *names):
        return os.path.join(self.path, *names)

    def texts(self, folder, train=None, valid=None, test=None, names=("train.txt", "valid.txt", "test.txt")):
        os.makedirs(self(folder), exist_ok=True)
        for name, text in zip(names, (train, valid, test)):
            if text is not None:
                with open(self(folder, name), "wb") as f:
                    f.write(text if isinstance(text, bytes) else text.encode())

    def bytes(self, *names):
        with open(self(*names), "rb") as f:
            return f.read()

    def put(self, name, content):
        with open(self(name), "wb") as f:
            f.write(content)

    def run(self, *words, **streams):
        words = [word for part in words for word in (part.split() if isinstance(part, str) else part)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        done = subprocess.run([PLSTM, *words], cwd=self.path, stdin=subprocess.DEVNULL, timeout=60, **streams)
        return Done(words, done.returncode, *((text or b"").decode("utf-8", "replace") for text in (done.stdout, done.stderr)))

    def ok(self, *words, **streams):
        done = self.run(*words, **streams)
        assert done.code == 0, done
        return done

    def refused(self, code, phrases, *words, **streams):
        """Checks that the command fails with the exit code `code` and one sentence that contains every phrase."""
        done = self.run(*words, **streams)
        assert done.code == code and done.err.startswith("plstm: ") and done.err.count("\n") == 1, done
        for phrase in [phrases] if isinstance(phrases, str) else phrases:
            assert phrase in done.err, (phrase, done)
        return done

    def train(self, *words, **streams):
        return self.ok("train", S, "--data data", *words, **streams)


def weights_of(path):
    """Returns the tensors without the carried state that a file from inside an epoch has."""
    return {name: t for name, t in read(path)[0].items() if not name.startswith("state.")}


def same_weights(a, b):
    return {name: t.data for name, t in weights_of(a).items()} == {name: t.data for name, t in weights_of(b).items()}


# ---- 1: weights that would silently give a wrong model ----


def test_a_vocabulary_in_another_order_is_refused():
    with Folder() as f:
        f.train("--save a.st")
        f.texts("perm", "b a c b a\nc d b a b\nd d c a b\n" * 4, TEXT, TEXT)
        f.refused(3, ["a.st has another vocabulary", "number 0 is 'a' there and 'b' here"], "train", S, "--data perm --init-weights a.st")
        f.refused(3, "another vocabulary", "dump --what grads --hidden 4 --layers 1 --batch 2 --seq 3 --data perm "
                  "--init-weights a.st --out g.st")
        f.texts("more", TEXT * 4 + "e\n", TEXT, TEXT)
        f.refused(3, ["another vocabulary, of 5 types and not 6", "number 5 is missing there and 'e' here"], "train", S,
                  "--data more --init-weights a.st")
        f.train("--init-weights a.st")


def test_an_unexpected_tensor_is_refused():
    with Folder() as f:
        f.train("--save one.st")
        tensors, _ = read(f("one.st"))
        for more in ("rnn.weight_ih_l1", "embedding.scale"):
            write(f("more.st"), tensors | {more: floats((16, 4), [0] * 64)}, None)
            f.refused(3, ["more.st", more, "no place in this model of 1 layer"], "train", S, "--data data --init-weights more.st")
        write(f("state.st"), tensors | {name: floats((1, 2, 4), [0] * 8) for name in ("state.h", "state.c")}, None)
        f.train("--init-weights state.st --max-steps 0 --save again.st")
        assert same_weights(f("one.st"), f("again.st"))


def hopeless(f):
    """Writes weights that are finite but give a perplexity that is not."""
    f.train("--save good.st --save-best best.st")
    tensors, metadata = read(f("good.st"))
    bias = floats((5,), [1e30, 0, 0, 0, 0])
    write(f("hopeless.st"), tensors | {"decoder.bias": bias}, metadata)
    return f.bytes("good.st"), f.bytes("best.st")


def test_a_score_that_is_not_finite_is_a_failure():
    with Folder() as f:
        good, best = hopeless(f)
        outputs = "--save good.st --save-best best.st"
        for words in ("--epochs 0", "--max-steps 0 --eval test", "--max-steps 1 --clip 1e-30", "--max-steps 1 --eval none",
                      "--eval valid --lr 0"):
            options = [*MODEL, "--threads", "1", "--quiet"] if "--epochs" in words else S
            bests = outputs if "none" not in words and "test" not in words else "--save good.st"
            f.refused(5, "diverged", "train", options, words, "--data data --init-weights hopeless.st", bests)
            assert f.bytes("good.st") == good and f.bytes("best.st") == best, words
        f.refused(5, ["diverged", "hopeless.st"], "eval --weights hopeless.st --data data --threads 1 --quiet")
        f.ok("eval --weights good.st --data data --threads 1 --log-json log")
        log = f.bytes("log")
        f.refused(5, "diverged", "eval --weights good.st,hopeless.st --data data --threads 1 --quiet --log-json log")
        assert f.bytes("log") == log
        rows = [3e38 if i < 4 else -3e38 for i in range(20)]
        write(f("huge.st"), weights_of(f("good.st")) | {"decoder.weight": floats((5, 4), rows)}, None)
        f.refused(5, "diverged", "dump --what grads", MODEL, "--data data --threads 1 --init-weights huge.st --out g.st")
        assert not os.path.exists(f("g.st"))


def test_a_learning_rate_that_diverges():
    with Folder() as f:
        f.train("--save good.st")
        good = f.bytes("good.st")
        f.refused(5, "diverged", "train", S, "--data data --lr 1e8 --clip 1e30 --init 1 --save good.st")
        assert f.bytes("good.st") == good


# ---- 2: a run ends without its checkpoint ----

LONG = "--hidden 4 --layers 1 --batch 2 --seq 3 --threads 1 --eval none --data data --epochs 100000000".split()


def started(f, *words, ignore=None, **streams):
    """Starts a long run, waits for its first log lines and returns its process. Of the signals that end a run, the run
    ignores only `ignore`, whatever the test inherited."""

    def dispositions():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN if number == ignore else signal.SIG_DFL)

    child = subprocess.Popen([PLSTM, "train", *LONG, "--log-json", "log", *words], cwd=f.path, stdin=subprocess.DEVNULL,
                             restore_signals=True,
                             preexec_fn=dispositions, **streams)
    for _ in range(2000):
        if os.path.exists(f("log")) and f.bytes("log").count(b"\n") > 3:
            return child
        time.sleep(0.005)
    child.kill()
    raise AssertionError("no log lines within 10 s")


def test_signals_end_a_run_with_its_checkpoint():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        with Folder() as f:
            child = started(f, "--save", "a.st", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            child.send_signal(number)
            _, said = child.communicate(timeout=30)
            name = signal.Signals(number).name.encode()
            assert child.returncode == 128 + number and b"stopping after this step" in said and name in said \
                and b"--resume a.st" in said, said
            step = int(read(f("a.st"))[1]["step"])
            f.ok(f"train --resume a.st --data data --threads 1 --quiet --log-json log --max-steps {step + 1}")


def test_an_ignored_signal_stays_ignored():
    """A run that starts with a signal ignored, as nohup and sh's background jobs do, keeps ignoring it."""
    for number in (signal.SIGHUP, signal.SIGINT):
        with Folder() as f:
            child = started(f, "--save", "a.st", "--quiet", ignore=number, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            child.send_signal(number)
            lines = f.bytes("log").count(b"\n")
            while f.bytes("log").count(b"\n") < lines + 50:
                assert child.poll() is None
                time.sleep(0.005)
            child.terminate()
            assert child.wait(30) == 143 and read(f("a.st"))[1]


def test_a_closed_pipe_leaves_a_checkpoint():
    """If the reader closes the pipe, as in `train | head -3`, the run still saves its checkpoint."""
    with Folder() as f:
        words = [PLSTM, "train", *MODEL, *"--threads 1 --quiet --data data --epochs 100000000 --save a.st".split()]
        child = subprocess.Popen(words, cwd=f.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while True:  # reads up to the first epoch's line
            line = child.stdout.readline()
            assert line, child.stderr.read()
            if line.split()[:1] == [b"1"]:
                break
        assert read(f("a.st"))[1]["epoch"] >= "2"  # the file was saved before the line was printed
        child.stdout.close()
        assert child.wait(30) == 141, child.stderr.read()
        child.stderr.close()
        f.ok("train --resume a.st --data data --threads 1 --quiet --max-steps 1")
        words[-1] = "b.st"
        child = subprocess.Popen(words, cwd=f.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 restore_signals=False)  # the child then ignores SIGPIPE, as Python does
        child.stdout.close()
        _, said = None, child.stderr.read()
        child.stderr.close()
        assert child.wait(30) == 1 and b"standard output cannot be written" in said and b"--resume b.st" in said, said
        f.ok("train --resume b.st --data data --threads 1 --quiet --max-steps 1")
        # A pipe that is closed before the first minibatch does not damage an earlier file.
        good = f.bytes("a.st")
        words[-1] = "a.st"
        reader, writer = os.pipe()
        os.close(reader)
        child = subprocess.Popen(words, cwd=f.path, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL)
        os.close(writer)
        assert child.wait(30) == 141 and f.bytes("a.st") == good


# ---- 4: limits of the container (tests/host/test_machine.c has the control groups) ----


def peak_kib(f, *words):
    """Returns (peak memory in KiB, output) of a run that succeeds."""
    with open(f("said"), "wb") as said:
        child = subprocess.Popen([PLSTM, *words], cwd=f.path, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = f.bytes("said").decode()
    assert child.returncode == 0, text
    return usage.ru_maxrss, text


def test_the_announced_memory_is_the_memory_used():
    big = "--hidden 1500 --layers 1 --batch 1 --seq 1 --threads 1".split()
    with Folder() as f:
        for words in (["train", *big, "--data", "data", "--max-steps", "2", "--eval", "none", "--save", "a.st"],
                      "train --resume a.st --data data --max-steps 3 --eval none --threads 1 --save b.st".split(),
                      ["train", *big, "--data", "data", "--max-steps", "1", "--eval", "none", "--init-weights", "a.st"],
                      "eval --weights a.st --data data --threads 1".split(), "eval --weights a.st,b.st --data data --threads 1".split(),
                      "sample --weights a.st --words 2 --threads 1".split()):
            peak, said = peak_kib(f, *words)
            value, unit = re.search(r"([\d.]+) ([KMG])iB needed", said).groups()
            announced = float(value) * {"K": 1, "M": 1024, "G": 1024**2}[unit]
            assert abs(announced - peak) <= max(0.1 * peak, 32 * 1024), (words, announced, peak)


def test_a_model_that_does_not_fit_is_refused():
    with Folder() as f:
        # The limit is less than the 525 MiB of preset large and more than the mapped checkpoint below.
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))
        for words in ("train --preset large --data synthetic --threads 1",
                      "train --hidden 4000 --data synthetic --threads 1 --batch 1 --seq 1",
                      "dump --what grads --hidden 4000 --data synthetic --threads 1 --batch 1 --seq 1 --out g.st",
                      "dump --what masks --hidden 65536 --batch 1024 --seq 1024 --out g.st",
                      "dump --what init --hidden 8000 --data synthetic --out g.st"):
            f.refused(4, ["of memory", "to this process"], words, preexec_fn=limit)
        # A sparse checkpoint of zeros has 288 MiB: it fits if it is mapped once, but not twice.
        f.train("--save small.st")
        H, metadata = 3000, read(f("small.st"))[1] | {"hidden": "3000"}
        shapes = {"encoder.weight": [5, H], "rnn.weight_ih_l0": [4 * H, H], "rnn.weight_hh_l0": [4 * H, H], "rnn.bias_ih_l0": [4 * H],
                  "rnn.bias_hh_l0": [4 * H], "decoder.weight": [5, H], "decoder.bias": [5]}
        header, at = {"__metadata__": metadata}, 0
        for name, shape in shapes.items():
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at := at + 4 * math.prod(shape)]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        f.put("big.st", struct.pack("<Q", len(text)) + text)
        os.truncate(f("big.st"), 8 + len(text) + at)
        for words in ("eval --weights big.st --data data --threads 1 --quiet", "sample --weights big.st --threads 1 --quiet"):
            f.refused(4, ["of memory", "to this process"], words, preexec_fn=limit)


# ---- 5: ambiguous input ----


def test_files_are_named_and_remarks_printed():
    with Folder() as f:
        out = f.ok("data data").out
        for name in ("train", "valid", "test"):
            assert f"data/{name}.txt" in out, out
        assert "files      data/train.txt, data/valid.txt, data/test.txt\n" in f.train().out
        f.texts("odd", b"\xef\xbb\xbfa b\xc2\xa0c a\n" + TEXT.encode() * 4 + b"a b", TEXT, TEXT)
        for line in ("data odd", ["train", *S[:-1], "--data", "odd"],
                     "dump --what init --hidden 2 --layers 1 --data odd --out init.st"):
            done = f.ok(line)
            for phrase in ("odd/train.txt begins with a byte-order mark", "1 word holds", "ends without a newline", "--final-eos"):
                assert phrase in done.err, (phrase, done)
        assert not f.ok("data odd --quiet").err
        assert not f.ok("train", S, "--data odd").err
        before, after = f.ok("data odd --quiet").out, f.ok("data odd --quiet --final-eos").out
        assert before.split("train ")[1].split()[0] == "78" and after.split("train ")[1].split()[0] == "79", before + after


def test_two_naming_schemes():
    with Folder() as f:
        f.texts("data", TEXT, TEXT, TEXT, ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"))
        for line in ("data data", ["train", *S, "--data", "data"], "dump --what init --data data --out x.st"):
            f.refused(3, ["train.txt and ptb.train.txt", "two naming schemes"], line)
        for name in ("train", "valid", "test"):
            os.remove(f("data", f"{name}.txt"))
        f.train()
        f.refused(3, ["no train text", "it holds ptb.txt"], "data", f.texts("else", TEXT, names=["ptb.txt"]) or "else")


def test_only_needed_files_are_demanded():
    with Folder() as f:
        f.train("--save all.st")
        f.texts("test-only", test=TEXT)
        f.texts("valid-only", valid=TEXT)
        f.texts("train-only", TEXT * 4)
        whole = f.ok("eval --weights all.st --data data --threads 1 --log-json whole").out
        part = f.ok("eval --weights all.st --data test-only --threads 1 --log-json part").out
        assert whole.replace("data", "") == part.replace("test-only", ""), part
        for log, known in (("part", False),):
            line = json.loads(f.bytes(log))
            assert line["corpus_sha256"] is None and line["words"] == 18, line
        f.ok("eval --weights all.st --data valid-only --split valid --threads 1")
        f.refused(3, ["no valid text", "it holds test.txt"], "eval --weights all.st --data test-only --split valid --threads 1")
        f.refused(3, "no valid text", "train", S, "--data train-only")
        f.refused(3, "no train text", "data test-only")
        out = f.ok("data train-only").out
        assert "missing" in out and "none: a split is missing" in out, out

        f.ok("train", S, "--data train-only --eval none --save part.st --log-json log --max-steps 2")
        run = json.loads(f.bytes("log").splitlines()[0])
        assert run["corpus_sha256"] is None and run["tokens"] == {"train": 72, "valid": None, "test": None}, run
        metadata = read(f("part.st"))[1]
        assert metadata["corpus_sha256"] == "null" and len(metadata["train_sha256"]) == 64
        assert "none: not all splits were read" in f.ok("info part.st").out
        assert "train_sha256" not in read(f("all.st"))[1]
        # The run can be resumed with that text, from any folder, with or without more splits, but with no other text.
        f.ok("train --resume part.st --data train-only --save part.st --max-steps 4 --threads 1 --quiet")
        f.ok("train --resume part.st --data data --eval all --save part.st --max-steps 5 --threads 1 --quiet")
        f.texts("other", TEXT * 3 + "d c d c d\n", TEXT, TEXT)
        f.refused(2, "is not the corpus", "train --resume part.st --data other --threads 1 --quiet")
        f.refused(3, "no valid text", "train --resume all.st --data train-only --eval none --threads 1 --quiet")


def test_final_eos_through_a_run():
    with Folder() as f:
        f.texts("open", (TEXT * 4)[:-1], TEXT[:-1], TEXT[:-1])
        f.ok("train", S, "--data open --final-eos --save a.st --max-steps 2")
        f.train("--save b.st --max-steps 2")
        assert f.bytes("a.st") == f.bytes("b.st")  # the same ids
        f.refused(2, ["is not the corpus", "--final-eos"], "train --resume a.st --data open --threads 1 --quiet")
        f.refused(2, "--final-eos has no effect with --resume a.st", "train --resume a.st --data data --final-eos --threads 1 --quiet")
        f.ok("train --resume a.st --data open --final-eos --threads 1 --quiet")
        scored = [f.ok(f"eval --weights a.st --data {data} --threads 1 --quiet").out for data in ("open --final-eos", "data", "open")]
        assert scored[0].replace("open", "data") == scored[1] and scored[2].replace("open", "data") != scored[1], scored


# ---- 6: an output that would overwrite an input ----


def test_an_output_is_no_input_and_no_file_of_another_kind():
    with Folder() as f:
        f.train("--save model.st --log-json train.jsonl")
        f.ok("eval --weights model.st --data data --threads 1 --log-json eval.jsonl")
        f.ok("dump --what masks --out masks.st")
        f.put("notes", b"mine\n")
        shutil.copy(f("model.st"), f("foreign.st"))
        tensors, _ = read(f("model.st"))
        write(f("foreign.st"), tensors, None)
        os.link(f("data", "test.txt"), f("same"))
        os.symlink(f("model.st"), f("link"))
        train, model = ["train", *S, "--data", "data"], "--hidden 4 --layers 1 --batch 2 --seq 3"
        evaluate, dump = "eval --weights model.st --data data --threads 1", f"dump --what grads {model} --data data --threads 1 --out"
        read_files = [(train, "--save", "data/train.txt"), (train, "--save-best", "data/valid.txt"), (train, "--log-json", "data/test.txt"),
                      (train, "--log-json", "same"), (train, "--save", "same"), (evaluate, "--log-json", "data/test.txt"),
                      (evaluate, "--log-json", "same"), (evaluate, "--log-json", "model.st"), (evaluate, "--token-log-probs", "model.st"),
                      (evaluate, "--token-log-probs", "data/test.txt"), (evaluate, "--log-json", "link"),
                      ([*train, "--init-weights", "link"], "--log-json", "link"), (dump, "data/train.txt", ""), (dump, "same", ""),
                      (f"dump --what init {model} --data data --out", "data/test.txt", ""),
                      (f"dump --what grads {model} --data data --init-weights model.st --threads 1 --out", "link", "")]
        other_kinds = [(train, "--save", "notes"), (train, "--save", "foreign.st"), (train, "--save", "masks.st"),
                       (train, "--save-best", "train.jsonl"), (train, "--log-json", "model.st"), (train, "--log-json", "notes"),
                       (train, "--log-json", "eval.jsonl"), (evaluate, "--log-json", "train.jsonl"), (evaluate, "--log-json", "notes"),
                       (dump, "model.st", ""), (dump, "foreign.st", ""), ("dump --what masks --out", "model.st", ""),
                       ("dump --what masks --out", "notes", ""), ([*train, "--init-weights", "foreign.st"], "--save", "foreign.st")]
        files = {name: f.bytes(*name.split("/")) for name in
                 ("model.st", "train.jsonl", "eval.jsonl", "masks.st", "notes", "foreign.st", "data/train.txt",
                  "data/valid.txt", "data/test.txt")}
        for code, cases in ((2, read_files), (3, other_kinds)):
            for words, option, path in cases:
                f.refused(code, [path or option], words, option, path)
                if code == 2:  # an input is never overwritten, even with --force
                    f.refused(code, [path or option], words, option, path, "--force")
                for name, content in files.items():
                    assert f.bytes(*name.split("/")) == content, (words, option, path, name)
        # --force overwrites a file of another kind; a file of the same kind needs no --force
        f.ok(train, "--save notes --log-json eval.jsonl --force")
        f.ok(train, "--save notes --log-json eval.jsonl")
        f.ok(train, "--init-weights model.st --save model.st")
        f.ok(dump, "foreign.st --force")
        f.ok(evaluate, "--log-json train.jsonl --force")
        f.ok(evaluate, "--log-json train.jsonl")
        f.put("empty", b"")
        f.ok(train, "--save empty")
        f.put("cut", b'{"event":"r')  # the log of a killed run
        f.ok(train, "--log-json cut")


def test_a_temporary_is_no_other_output():
    with Folder() as f:
        shutil.copy(f("data", "train.txt"), f("m.tmp"))
        os.remove(f("data", "train.txt"))
        os.symlink(f("m.tmp"), f("data", "train.txt"))
        f.refused(2, ["m.tmp", "the train text"], "train", S, "--data data --save m")


# ---- 7: properties of the replaced file ----


def test_a_replaced_file_keeps_its_mode_owner_and_links():
    with Folder() as f:
        words = "--save a.st --log-json a.jsonl"
        f.train(words, "--max-steps 1")
        os.mkdir(f("far"))
        owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        for name in ("a.st", "a.jsonl"):
            os.rename(f(name), f("far", name))
            os.symlink(os.path.join("far", name), f(name))
            os.chmod(f("far", name), 0o640)
            os.chown(f("far", name), *owner)
        f.ok("train --resume a.st --data data --threads 1 --quiet", words)
        f.ok("eval --weights a.st --data data --threads 1 --log-json e.jsonl")
        for name in ("a.st", "a.jsonl"):
            assert os.path.islink(f(name)), name
            there = os.stat(f(name))
            assert stat.S_IMODE(there.st_mode) == 0o640 and (there.st_uid, there.st_gid) == owner, (name, there)
        assert read(f("far", "a.st"))[1]["step"] != "1"
        f.ok("dump --what masks --out d.st")
        os.chmod(f("d.st"), 0o600)
        f.ok("dump --what masks --out d.st --seed 2")
        assert stat.S_IMODE(os.stat(f("d.st")).st_mode) == 0o600
        assert not [name for name in os.listdir(f.path) + os.listdir(f("far")) if "tmp" in name]


# ---- 8: PyTorch's files ----


def half(values):
    return struct.pack(f"<{len(values)}e", *values)


def bfloat(values):
    return b"".join(struct.pack("<f", x)[2:] for x in values)


def test_other_precisions_are_converted():
    with Folder() as f:
        f.train("--save a.st")
        tensors, _ = read(f("a.st"))
        pack = {"F16": half, "BF16": bfloat, "F64": lambda v: array.array("d", v).tobytes()}
        unpack = {"F16": lambda b: struct.unpack(f"<{len(b) // 2}e", b), "F64": lambda b: array.array("d", b),
                  "BF16": lambda b: struct.unpack(f"<{len(b) // 2}f", b"".join(b"\0\0" + b[i : i + 2] for i in range(0, len(b), 2)))}
        for dtype, packed in pack.items():
            values = {name: [*t.values()] for name, t in tensors.items()}
            values["encoder.weight"][:6] = [0.0, -0.0, 6e-8, -5.9e-8, 65504.0, 2.0**-14]  # subnormals and bounds of a half
            mixed = {name: Tensor(dtype, t.shape, packed(values[name])) for name, t in tensors.items()}
            mixed["decoder.bias"] = tensors["decoder.bias"]
            write(f("b.st"), mixed, None)
            done = f.ok("train", S[:-1], "--data data --init-weights b.st --max-steps 0 --eval none --save c.st")
            assert done.err.count(f"b.st: weights of {dtype} become F32") == 1, done
            for name, t in read(f("c.st"))[0].items():
                wanted = t.data if name == "decoder.bias" else array.array("f", unpack[dtype](mixed[name].data)).tobytes()
                assert t.dtype == "F32" and t.data == wanted, (dtype, name)
        write(f("b.st"), tensors | {"decoder.bias": Tensor("F64", (5,), array.array("d", [0, 1e300, 0, 0, 0]).tobytes())}, None)
        f.refused(3, ["decoder.bias", "element 1 is infinite in float32"], "train", S, "--data data --init-weights b.st")
        write(f("b.st"), tensors | {"decoder.bias": Tensor("I32", (5,), bytes(20))}, None)
        f.refused(3, ["decoder.bias", "found I32 (5), expected F32 (5) or F64, F16, BF16"], "train", S, "--data data --init-weights b.st")


def test_tied_prefixed_and_sharded_files():
    with Folder() as f:
        f.train("--save a.st")
        tensors, _ = read(f("a.st"))
        start = lambda path: f.ok("train", S[:-1], "--data data --max-steps 0 --eval none --save out.st --init-weights", path)
        for prefix in ("module.", "_orig_mod.", "_orig_mod.module.", "module.module.", "module._orig_mod."):
            write(f("b.st"), {prefix + name: t for name, t in tensors.items()}, None)
            start("b.st")
            assert same_weights(f("a.st"), f("out.st")), prefix
        write(f("b.st"), {("module." if "rnn" in name else "") + name: t for name, t in tensors.items()}, None)
        f.refused(3, "tensor rnn.weight_ih_l0 is missing", "train", S, "--data data --init-weights b.st")

        write(f("b.st"), {name: t for name, t in tensors.items() if name != "decoder.weight"}, None)
        assert "decoder.weight starts as the tied encoder.weight" in start("b.st").err
        out, _ = read(f("out.st"))
        assert out["decoder.weight"].data == out["encoder.weight"].data == tensors["encoder.weight"].data
        write(f("b.st"), {name: t for name, t in tensors.items() if name != "encoder.weight"}, None)
        f.refused(3, "tensor encoder.weight is missing", "train", S, "--data data --init-weights b.st")

        os.mkdir(f("shards"))
        names = list(tensors)
        parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for part, held in parts.items():
            write(f("shards", part), {name: tensors[name] for name in held}, None)
        index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
        f.put("shards/model.safetensors.index.json", json.dumps(index).encode())
        start("shards/model.safetensors.index.json")
        assert same_weights(f("a.st"), f("out.st"))
        f.refused(3, ["index.json", "JSON", "only --init-weights reads JSON"], "info shards/model.safetensors.index.json")
        os.remove(f("shards", list(parts)[1]))
        f.refused(3, list(parts)[1], "train", S, "--data data --init-weights shards/model.safetensors.index.json")
        for bad, why in ((b'{"weight_map": {}}', "weight_map"), (b'{"a": [', "not JSON"),
                         (b'{"weight_map": {"x": "../a.st"}}', "no such file beside it"),
                         (b'{"weight_map": {"x": 3}}', "no file's name")):
            f.put("i.json", bad)
            f.refused(3, ["i.json", why], "train", S, "--data data --init-weights i.json")


def test_other_formats_are_named():
    with Folder() as f:
        for name, content, what in (("m.pt", b"PK\x03\x04" + bytes(60), "zip archive, as torch.save"),
                                    ("m.bin", b"\x80\x02\x8a\x0al\xfc" + bytes(60), "pickle"),
                                    ("m.gguf", b"GGUF\x03\0\0\0" + bytes(60), "GGUF"), ("m.npy", b"\x93NUMPY\x01\0" + bytes(60), "NumPy"),
                                    ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"), ("m.gz", b"\x1f\x8b\x08" + bytes(60), "gzip"),
                                    ("m.lfs", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
                                    ("m.html", b"<!DOCTYPE html><p>404", "web page")):
            f.put(name, content)
            for line in (["train", *S, "--data", "data", "--init-weights", name], f"info {name}", f"sample --weights {name}",
                         f"eval --weights {name} --data data", f"train --resume {name} --data data"):
                f.refused(3, [name, "is not a safetensors file but", what], line)
        assert "safetensors.torch.save_file" in f.run("info m.pt").err


def test_a_vocabulary_of_all_three_files():
    """pytorch/examples builds its vocabulary from train, valid and test, in that order."""
    with Folder() as f:
        f.texts("data", TEXT * 4, TEXT + "new a\n", TEXT + "newer\n")
        words = ["a", "b", "c", "<eos>", "d", "new", "newer"]
        f.put("words.txt", "\n".join(words).encode())
        f.ok("train", S, "--data data --vocab words.txt --save all.st --max-steps 2")
        tensors, metadata = weights_of(f("all.st")), read(f("all.st"))[1]
        assert tensors["encoder.weight"].shape == (7, 4) and metadata["vocab"] == " ".join(words), metadata
        write(f("torch.st"), tensors, None)
        f.refused(3, ["encoder.weight: found F32 (7, 4), expected F32 (6, 4)", "--vocab"], "train", S,
                  "--data data --init-weights torch.st")
        f.ok("train", S, "--data data --vocab words.txt --init-weights torch.st --max-steps 0 --save again.st")
        assert same_weights(f("all.st"), f("again.st"))
        # The checkpoint contains the vocabulary, so no other command needs the file.
        f.ok("eval --weights all.st --data data --threads 1")
        f.ok("train --resume all.st --data data --max-steps 4 --threads 1 --quiet --save all.st")
        f.ok("train --resume all.st --data data --vocab words.txt --threads 1 --quiet")
        f.ok("dump --what grads --hidden 4 --layers 1 --batch 2 --seq 3 --data data --vocab words.txt --init-weights "
             "torch.st --out g.st --threads 1")
        f.texts("other", TEXT * 5, TEXT, TEXT)
        f.refused(2, "is not the corpus", "train --resume all.st --data other --threads 1 --quiet")
        f.put("few.txt", b"a\nb\n<eos>\n")
        f.refused(3, ["the word 'c'", "<unk>"], "train", S, "--data data --vocab few.txt")


# ---- 9: late checks, writers ----


def test_a_vocabulary_over_the_headers_limit():
    with Folder() as f:
        long = [bytes([97 + i]) * 9_500_000 for i in range(11)]
        f.texts("data", b" ".join(long) + b"\na b\n" * 4, TEXT, TEXT)
        words = ["train", "--hidden", "1", "--layers", "1", "--batch", "1", "--seq", "3", "--threads", "1", "--quiet",
                 "--eval", "none", "--data", "data"]
        for option in ("--save", "--save-best"):
            eval_all = ["--eval", "valid"] if option == "--save-best" else []
            line = words if not eval_all else [*words[:-4], *eval_all, *words[-2:]]
            if eval_all:
                f.texts("data", valid=b"a b a b a\n" * 3)
            f.refused(3, ["x.st cannot be written", "100000000"], line, option, "x.st --log-json log")
            assert not os.path.exists(f("log"))  # refused before the run began
        f.ok(words, "--max-steps 1")


def test_sample_ends_at_the_first_failed_write():
    with Folder() as f:
        f.train("--save a.st")
        with open("/dev/full", "wb") as full:
            f.refused(1, "cannot be written", "sample --weights a.st --words 1000000000 --threads 1 --quiet", stdout=full)


def test_a_run_without_output_ends_with_its_checkpoint():
    with Folder() as f:
        with open("/dev/full", "wb") as full:
            done = f.run("train", MODEL, "--threads 1 --quiet --epochs 1000000 --data data --save a.st", stdout=full)
        assert done.code == 1 and "standard output cannot be written" in done.err and done.err.count("\n") == 1, done
        assert read(f("a.st"))[1]["epoch"] == "2"
        done = f.run("train", S, "--data data --save b.st --log-json /dev/full --max-steps 3")
        assert done.code == 3 and "/dev/full" in done.err, done


# ---- 10: lists and hints ----


def test_weights_and_their_lists():
    with Folder() as f:
        os.makedirs(f("a,b"))
        for seed, name in enumerate(("a,b/m.st", "one.st", "two.st", "x,y.st")):
            f.train(f"--seed {seed} --save", [name])
        score = lambda *words: f.ok("eval --data data --threads 1", *words).out
        assert "ensemble of 2" in score("--weights one.st --weights two.st")
        assert score("--weights one.st,two.st") == score("--weights one.st --weights two.st")
        assert "a,b/m.st" in score("--weights a,b/m.st") and "ensemble" not in score("--weights a,b/m.st")
        assert "ensemble of 4" in score("--weights one.st,two.st --weights a,b/m.st --weights=x,y.st")
        f.refused(2, ["--weights takes", "not 'one.st,,two.st'"], "eval --data data --weights one.st,,two.st")
        f.refused(3, "missing.st", "eval --data data --weights one.st --weights missing.st")
        f.refused(2, "--weights is given twice", "sample --weights one.st --weights two.st")


def test_an_option_given_twice_is_refused():
    with Folder() as f:
        for line, name in (("train --hidden 3 --hidden 3", "hidden"), ("train --quiet --quiet", "quiet"),
                           ("train --preset small --preset demo", "preset"),
                           ("train --save a --keep 0.5 --save=b", "save"), ("eval --split test --split valid", "split"),
                           ("sample --words 3 --words 4", "words"), ("dump --what init --what grads", "what"),
                           ("plan --json --json", "json"),
                           ("data --final-eos data --final-eos", "final-eos"), ("info --quiet x --quiet", "quiet")):
            f.refused(2, f"--{name} is given twice", line)


def test_hints():
    with Folder() as f:
        for option, hint in (("--dropout 0.5", "--keep"), ("--dropout=0.5", "--keep"), ("--nhid 5", "--hidden"), ("--bptt 5", "--seq"),
                             ("--log_json x", "write --log-json"), ("--save_every=3", "write --save-every"), ("--cuda", "--backend cuda"),
                             ("--dropout-site all", "--dropout-sites"), ("--batch_size 3", "--batch")):
            f.refused(2, [option.split("=")[0].split()[0] + " is not an option", hint], "train", option)
        for line in ("train --data data --save -", "train --data data --log-json -", "train --resume -", "dump --what masks --out -",
                     "eval --weights - --data data", "sample --weights -", "train --data -", "plan --constants -"):
            f.refused(2, "not '-'", line)
        assert not os.path.exists(f("-"))


def test_numbers_print_as_they_were_typed():
    with Folder() as f:
        f.train("--init 0.1 --keep 0.7 --lr 0.30000000000000004 --save a.st --max-steps 1")
        f.refused(2, ["--init takes 0.1 with", "not '0.2'"], "train --resume a.st --data data --init 0.2")
        f.refused(2, ["--keep takes 0.7 with", "not '0.123456789012345'"], "train --resume a.st --data data --keep 0.123456789012345")
        f.refused(2, "--lr takes 0.30000000000000004 with", "train --resume a.st --data data --lr 0.3")
        out = f.ok("info a.st").out
        assert "0.7\n" in out and "0.30000000000000004\n" in out, out
        assert "keep 0.123456789," in f.train("--keep 0.123456789").out
        assert read(f("a.st"))[1]["init"] == "0.10000000000000001"  # 17 digits restore the same bits


def test_another_thread_count_is_noted():
    with Folder() as f:
        f.train("--save a.st --log-json log --max-steps 1")
        one = f.ok("train --resume a.st --data data --threads 1 --max-steps 2 --log-json log --save a.st")
        assert "thread" not in one.err, one
        two = f.ok("train --resume a.st --data data --threads 2 --max-steps 3 --log-json log --save a.st")
        assert "the log's run had 1 thread and continues with 2" in two.err, two
        assert not f.ok("train --resume a.st --data data --threads 1 --max-steps 4 --log-json log --quiet").err


def test_helper_tools_answer_help():
    for folder in ("tools", "tools/gpu", "tools/results", "tools/examine", "tools/torch", "tools/make", "tests/emu/example"):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            path = os.path.join(folder, name)
            if os.path.isdir(os.path.join(ROOT, path)):
                continue
            with open(os.path.join(ROOT, path), "rb") as script:
                first = script.readline()
            if not first.startswith(b"#!"):
                continue
            before = set(os.listdir(ROOT))
            interpreter = sys.executable if b"python" in first else "bash"
            done = subprocess.run([interpreter, os.path.join(ROOT, path), "--help"], cwd=ROOT, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=60)
            assert done.returncode == 0 and name in done.stdout and not done.stderr, (path, done)
            assert set(os.listdir(ROOT)) == before, path


# ---- the field's own files ----

S_CASE = "--hidden 16 --batch 4 --seq 5 --epochs 1 --threads 1 --quiet"
S32 = "--hidden 32 --batch 4 --seq 5 --threads 1 --quiet"
FIELD = [  # arguments; exit code; texts in standard output or, after a failure, in standard error
    (f"train {S32} --epochs 0 --data perm --init-weights b6.st", 3, ["another vocabulary"]),
    (f"train {S_CASE} --data base --init-weights three_layers.safetensors", 3, ["rnn.weight_ih_l2"]),
    (f"train {S_CASE} --data base --lr 100 --clip 1e30", 5, ["diverged"]),
    ("eval --threads 1 --weights e1.st --weights e2.st --data base", 0, ["ensemble of 2"]),
    ("eval --threads 1 --weights a,b/m.st --data base", 0, ["23.792"]),
    ("eval --threads 1 --weights b6.st --data onlytest --split test", 0, ["23.792"]),
    ("data mixed", 3, ["train.txt and ptb.", "two naming schemes"]),
    ("data bom", 0, ["bom/train.txt"]),
    ("data uspace", 0, ["uspace/train.txt"]),
    (f"train {S_CASE} --data base --init-weights iw_bf16.safetensors", 0, ["test perplexity"]),
    (f"train {S_CASE} --data base --init-weights iw_tied.safetensors", 0, ["test perplexity"]),
    (f"train {S_CASE} --data base --init-weights model.pt", 3, ["torch.save", "save_file"]),
    ("train --epochs 0 --hidden 32 --layers 2 --batch 20 --seq 5 --data unseen --init-weights torch_unseen.safetensors --threads 1", 3,
     ["(6, 32), expected F32 (5, 32)", "--vocab"]),
]


def test_the_cases_of_the_field():
    if not os.path.isdir(CASES):
        raise tap.Skip("../shared/cases is not there")
    for words, code, phrases in FIELD:
        done = subprocess.run([PLSTM, *words.split()], cwd=CASES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        said = done.stdout if code == 0 else done.stderr
        assert done.returncode == code and all(phrase in said for phrase in phrases), (words, done)
        if words in ("data bom", "data uspace"):
            assert ("byte-order mark" if "bom" in words else "a space that is not ASCII") in done.stderr, done
    with Folder() as f:
        shutil.copy(os.path.join(CASES, "b6.st"), f("v.st"))
        os.chmod(f("v.st"), 0o600)
        f.refused(3, "v.st", "train", S_CASE, "--data", [os.path.join(CASES, "base")], "--log-json v.st")
        with open(os.path.join(CASES, "b6.st"), "rb") as kept:
            assert f.bytes("v.st") == kept.read()
        f.put("words", b"")
        # The last case uses its own vocabulary, read from the three files as in pytorch/examples.
        words = []
        for split in ("train", "valid", "test"):
            with open(os.path.join(CASES, "unseen", f"{split}.txt"), encoding="utf-8") as text:
                words += [word for line in text for word in line.split() + ["<eos>"]]
        f.put("words", "\n".join(dict.fromkeys(words)).encode())
        f.ok("train --epochs 0 --hidden 32 --layers 2 --batch 20 --seq 5 --threads 1 --vocab words --data", [os.path.join(CASES, "unseen")],
             "--init-weights", [os.path.join(CASES, "torch_unseen.safetensors")])


tap.main(globals())
