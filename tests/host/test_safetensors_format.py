"""Tests the file format against implementations that share no code with host/store/safetensors.c: a reader in Python's standard library
(safetensors_read.py) and, if it is installed, the official `safetensors` package."""
import hashlib
import math
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402
from safetensors_read import Tensor, floats, parse, read, write  # noqa: E402

PLSTM = os.environ.get("PLSTM", os.path.join("build", "plstm"))
H, L, B, T = 5, 2, 2, 3
TEXT = {"train": "b a <odd> 100% caf\u00e9\n" * 9, "valid": "a b c\n" * 6, "test": "b \u00e9\n" * 6}


def official():
    try:
        import safetensors
        return safetensors
    except ImportError as e:
        raise tap.Skip("the official safetensors package is not installed") from e


def numpy_of_official():
    try:
        import numpy
        return numpy
    except ImportError as e:
        raise tap.Skip("numpy, which the official package reads into and writes from, is not installed") from e


def data_folder(folder):
    for split, text in TEXT.items():
        with open(os.path.join(folder, split + ".txt"), "wb") as f:
            f.write(text.encode() + (b"\xff b\n" if split == "train" else b""))
    return folder


def plstm(*arguments, status=0):
    done = subprocess.run([PLSTM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == status, (arguments, done.returncode, done.stderr)
    return done.stderr.decode("utf-8", "replace")


def train(folder, name, *options, status=0):
    """Trains from a data folder and saves to `name` in it. Returns the path or, if another exit code than 0 is
    expected, standard error."""
    path = os.path.join(folder, name)
    said = plstm("train", "--quiet", "--data", folder, "--hidden", H, "--layers", L, "--batch", B, "--seq", T, "--keep", "0.5",
                 "--eval", "none", "--threads", 1, "--save", path, *options, status=status)
    return said if status else path


def expected_names():
    names = ["encoder.weight"]
    for layer in range(L):
        names += [f"rnn.{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return names + ["decoder.weight", "decoder.bias"]


def expected_shapes(V):
    layer = [(4 * H, H), (4 * H, H), (4 * H,), (4 * H,)]
    return [(V, H), *(layer * L), (V, H), (V,)]


def corpus(folder):
    """Returns the vocabulary and the ids by the rules of SPEC 4, computed without plstm."""
    types, ids = [], []
    for split in ("train", "valid", "test"):
        with open(os.path.join(folder, split + ".txt"), "rb") as f:
            tokens = f.read().replace(b"\n", b" <eos> ").split()
        if split == "train":
            types = list(dict.fromkeys(tokens))
        else:
            types += [b"<unk>"] if b"<unk>" not in types and any(t not in types for t in tokens) else []
        ids += [types.index(t if t in types else b"<unk>") for t in tokens]
    return types, ids


def decoded(vocab):
    return [re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), t.encode()) for t in vocab.split(" ")]


def test_a_checkpoint_read_by_another_reader():
    with tempfile.TemporaryDirectory() as folder:
        data_folder(folder)
        types, ids = corpus(folder)
        V = len(types)
        for name, steps, inside in (("start", 0, False), ("inside", 2, True)):
            path = train(folder, name, "--max-steps", steps)
            tensors, meta = read(path)
            names, shapes = expected_names(), expected_shapes(V)
            if inside:
                names, shapes = names + ["state.h", "state.c"], shapes + [(L, B, H)] * 2
            assert list(tensors) == names, list(tensors)
            assert [t.shape for t in tensors.values()] == shapes
            assert all(t.dtype == "F32" and all(map(math.isfinite, t.values())) for t in tensors.values())
            assert decoded(meta["vocab"]) == types, meta["vocab"]
            assert meta["vocab_sha256"] == hashlib.sha256(b"".join(t + b"\n" for t in types)).hexdigest()
            assert meta["corpus_sha256"] == hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()
            assert (meta["format"], meta["plstm"]) == ("pt", "1")
            assert (meta["step"], meta["epoch"], meta["minibatch"]) == (str(steps), "1", str(steps))
            assert (meta["hidden"], meta["layers"], meta["keep"], meta["best_valid"]) == (str(H), str(L), "0.5", "inf")
            assert int(meta["tokens"]) == steps * T * B
            text = open(path, "rb").read()
            assert int.from_bytes(text[:8], "little") % 8 == 0
            for word in (folder, os.uname().nodename, "thread", "commit", "time"):
                assert word.encode() not in text[: text.index(b'"vocab"')], word


def test_weights_of_another_writer():
    """--init-weights reads the same weights if the tensors are in another order, misaligned, or without metadata."""
    with tempfile.TemporaryDirectory() as folder:
        data_folder(folder)
        V, draw = len(corpus(folder)[0]), random.Random(1)
        mine = {n: floats(s, [draw.uniform(-1, 1) for _ in range(math.prod(s))]) for n, s in zip(expected_names(), expected_shapes(V))}
        order = list(mine)
        given = os.path.join(folder, "given")
        for pad in (8, 1):
            draw.shuffle(order)
            write(given, {n: mine[n] for n in order}, None if pad == 1 else {"a": "b"}, pad)
            found = read(train(folder, "taken", "--init-weights", given, "--max-steps", 0))[0]
            assert list(found) == list(mine) and found == mine

        def said(changed):
            write(given, {n: changed.get(n, t) for n, t in mine.items() if changed.get(n, t)})
            return train(folder, "not", "--init-weights", given, "--max-steps", 0, status=3)

        assert f"{given}: tensor decoder.bias is missing, expected F32 ({V})" in said({"decoder.bias": None})
        assert f"tensor decoder.bias: found F32 ({V + 1}), expected F32 ({V})" in said({"decoder.bias": floats((V + 1,), [0] * (V + 1))})
        assert f"found I64 ({V}), expected F32 ({V}) or F64" in said({"decoder.bias": Tensor("I64", (V,), bytes(8 * V))})
        assert "rnn.bias_hh_l1: element 3 is not a number" in said(
            {"rnn.bias_hh_l1": floats((4 * H,), [0, 0, 0, math.nan] + [0] * (4 * H - 4))})
        assert not os.path.exists(os.path.join(folder, "not"))
        assert "no plstm metadata" in plstm("train", "--resume", given, "--data", folder, status=3)


def test_the_official_package_reads_ours():
    package = official()
    numpy_of_official()
    with tempfile.TemporaryDirectory() as folder:
        path = train(data_folder(folder), "ours", "--max-steps", 2)
        tensors, meta = read(path)
        with open(path, "rb") as f:
            theirs = dict(package.deserialize(f.read()))
        assert set(theirs) == set(tensors)
        for name, t in tensors.items():
            assert (theirs[name]["dtype"], tuple(theirs[name]["shape"]), bytes(theirs[name]["data"])) == t, name
        with package.safe_open(path, framework="np") as f:
            assert f.metadata() == meta


def test_ours_reads_the_official_package():
    official()
    numpy = numpy_of_official()
    from safetensors.numpy import save_file
    with tempfile.TemporaryDirectory() as folder:
        tensors, _ = read(train(data_folder(folder), "ours", "--max-steps", 0))
        given = os.path.join(folder, "given")
        save_file({n: numpy.frombuffer(t.data, "<f4").reshape(t.shape) for n, t in tensors.items()}, given, {"format": "pt"})
        assert read(train(folder, "again", "--init-weights", given, "--max-steps", 0, "--seed", 9))[0] == tensors


def test_three_readers_agree_on_damaged_files():
    """`plstm info` and the other readers accept and refuse the same files, whose header is a valid one that was changed
    at random."""
    try:
        package = official()
    except tap.Skip:
        package = None
    draw = random.Random(4)
    header = (b'{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
              b'"y":{"dtype":"U8","shape":[],"data_offsets":[24,25]}}')
    taken = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "damaged")
        for _ in range(150):
            changed = bytearray(header)
            for _ in range(draw.randint(1, 2)):
                at = draw.randrange(len(changed))
                changed[at : at + draw.randint(0, 1)] = draw.choice([b"", b"0", b"1", b"2", b"-", b".", b",", b'"',
                                                                     b"}", b"[", b" ", b"8", b"x", b"{}"])
            content = len(changed).to_bytes(8, "little") + bytes(changed) + bytes(25)
            with open(path, "wb") as f:
                f.write(content)
            ours = subprocess.run([PLSTM, "info", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20)
            assert ours.returncode in (0, 3), (ours.returncode, content)
            assert ours.returncode == 0 or ours.stderr.startswith(b"plstm: " + path.encode()), ours.stderr
            verdicts = {ours.returncode == 0, accepts(parse, content)}
            # The format requires a brace first, but the official reader does not; and that reader refuses -0, which
            # JSON allows for 0.
            if package and changed[:1] == b"{" and b"-0" not in changed:
                verdicts.add(accepts(package.deserialize, content))
            assert len(verdicts) == 1, (content, ours.stderr)
            taken += ours.returncode == 0
    print(f"150 damaged headers, {taken} still sound, "
          f"{'three readers agree' if package else 'two readers agree (the official package is missing)'}")
    assert 0 < taken < 150


def accepts(reader, content):
    try:
        reader(content)
        return True
    except Exception:  # pylint: disable=broad-except  (the official reader has an exception type of its own)
        return False


if __name__ == "__main__":
    tap.main(globals())
