"""Tests the layers of the tree: an #include points down, from bench and tests to host, from a layer of host to a lower one, and to
kernels. No two modules of host include each other, directly or through others."""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
FLOORS = ["kernels", "host/base", "host/data", "host/store", "host/plan", "host/backend", "host/train", "host/commands", "bench", "tests"]
# (file, include): includes that are forbidden although they point down.
APART = {("host/train/trainer", "host/data/synthetic"): "the trainer knows no corpus by name",
         ("host/plan", "cublas"): "plans need no cuBLAS"}


def sources(*suffixes):
    """Returns the paths of the tree's source files, from the root."""
    for top in ("kernels", "host", "bench", "tests"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith(suffixes):
                    yield os.path.relpath(os.path.join(folder, name), ROOT)


def includes(text, path, known):
    """Returns the files of the tree that a source includes, from its own folder or from the root."""
    for name in re.findall(r'^\s*#\s*include "([^"]+)"', text, flags=re.MULTILINE):
        beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
        yield beside if beside in known else name


def floor_of(path):
    """Returns the height of a file's layer; bench and tests share the top layer."""
    height = next((i for i, floor in enumerate(FLOORS) if path.startswith(floor + "/")), None)
    return FLOORS.index("bench") if height == FLOORS.index("tests") else height


def module_of(path):
    """Returns the module of a file: a source and its header are one module."""
    return os.path.splitext(path)[0]


def graph(texts):
    """Returns {path: [paths that it includes]} of the files in `texts`."""
    return {path: [name for name in includes(text, path, texts) if name in texts] for path, text in texts.items()}


def upward(texts):
    """Returns one sentence per include that points up."""
    return [f"{path} includes {name}" for path, names in graph(texts).items() for name in names
            if floor_of(name) is not None and floor_of(path) is not None and floor_of(name) > floor_of(path)]


def circles(texts):
    """Returns the pairs of host modules that include each other, directly or through others."""
    edges = {}
    for path, names in graph(texts).items():
        if path.startswith("host/"):
            edges.setdefault(module_of(path), set()).update(module_of(n) for n in names if n.startswith("host/")
                                                            and module_of(n) != module_of(path))

    def reached(start):
        seen, left = set(), [start]
        while left:
            for follower in edges.get(left.pop(), ()):
                if follower not in seen:
                    seen.add(follower)
                    left.append(follower)
        return seen
    return sorted({tuple(sorted((a, b))) for a in edges for b in reached(a) if a != b and a in reached(b)})


def unknown(texts):
    """Returns the host files that are in no layer."""
    return [path for path in texts if path.startswith("host/") and floor_of(path) is None]


def tree():
    texts = {}
    for path in sources(".c", ".h", ".cpp", ".cu", ".cuh"):
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            texts[path] = f.read()
    return texts


def test_includes_point_down():
    texts = tree()
    assert len(texts) > 200 and sum(map(len, graph(texts).values())) > 300, "the tree was not read"
    assert not unknown(texts), unknown(texts)
    assert not upward(texts), upward(texts)


def test_there_are_no_circles():
    assert not circles(tree()), circles(tree())


def test_apart():
    for path, text in tree().items():
        for (who, what), why in APART.items():
            if path.startswith(who):
                named = [line for line in text.splitlines() if line.lstrip().startswith("#") and "include" in line and what in line]
                assert not named, f"{path}: {named}: {why}"


def test_includes_between_layers_start_at_the_root():
    for path, text in tree().items():
        if path.startswith("host/"):
            for name in re.findall(r'^\s*#\s*include "([^"]+)"', text, flags=re.MULTILINE):
                assert ".." not in name, f"{path} includes {name}"


def test_mistakes_are_found():
    good = {"host/base/error.h": "", "host/data/corpus.h": '#include "host/base/error.h"\n', "kernels/plan.h": "",
            "host/data/synthetic.h": '#include "corpus.h"\n', "host/plan/device.h": '#include "kernels/plan.h"\n'}
    assert not upward(good) and not circles(good) and not unknown(good)
    up = {**good, "host/base/error.c": '#include "host/data/corpus.h"\n'}
    assert upward(up) == ["host/base/error.c includes host/data/corpus.h"]
    assert upward({**good, "kernels/lstm.h": '#include "host/base/error.h"\n'})
    assert circles({**good, "host/data/corpus.c": '#include "synthetic.h"\n'}) == [("host/data/corpus", "host/data/synthetic")]
    assert unknown({**good, "host/odd.c": ""}) == ["host/odd.c"]


def test_the_makefile_lists_the_layers():
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as f:
        listed = re.search(r"^FLOORS := (.*)$", f.read(), flags=re.MULTILINE).group(1).split()
    assert ["host/" + name for name in listed if "/" not in name] == [f for f in FLOORS if f.startswith("host/")]
    folders = [os.path.relpath(os.path.join(folder, name), os.path.join(ROOT, "host"))
               for folder, names, _ in os.walk(os.path.join(ROOT, "host")) for name in names]
    assert sorted(listed) == sorted(folders), "what lies on a floor in a folder of its own is compiled too"


def test_the_makefile_is_readable():
    """The Makefile has fewer than 200 lines, no line is longer than 120 columns, and every part is included."""
    parts = sorted(name for name in os.listdir(os.path.join(ROOT, "tools/make")) if name.endswith(".mk"))
    for name in ["Makefile", *(os.path.join("tools/make", part) for part in parts)]:
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            lines = f.read().splitlines()
        long = [i for i, line in enumerate(lines, 1) if len(line.expandtabs(8)) > 120]
        assert not long, f"{name}: lines {long} are longer than 120 columns"
        if name == "Makefile":
            assert len(lines) < 200, len(lines)
            assert all(part in "\n".join(lines) for part in parts), parts


def test_make_refuses_another_value():
    """make stops before it writes or runs anything."""
    with tempfile.TemporaryDirectory() as build:
        for given, code in (("CUDA=2", 2), ("CUDA=", 2), ("EMU=yes", 2), ("CUDA=0", 0)):
            done = subprocess.run(["make", "-n", "-C", ROOT, f"BUILD={build}/made", given, "CC=gcc", "print-config"],
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=60,
                                  env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")})
            assert done.returncode == code, f"{given}: {done.stdout}"
            assert code == 0 or "CUDA and EMU take 0 or 1" in done.stdout, done.stdout
            assert code == 0 or not os.path.exists(f"{build}/made"), given


tap.main(globals())
