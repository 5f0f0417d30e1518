#!/usr/bin/env python3
"""Packs the results of tools/gpu_run.sh on the machine with the GPU, and files them under profiles/ on the machine with the repository.

    ingest.py --pack WORK OUT     packs a run's folder into OUT: gpu-run.tar.gz and its small parts; at most 8 files, none over 16 MB
    ingest.py --table WORK        prints the short table of a run
    ingest.py ARCHIVE             files an archive, even a truncated one, under profiles/<gpu>/ (also `tools/results.py --ingest ARCHIVE`)

Only text files are filed, none over 1 MB: machine.json, constants.json, variants.json and step.json (a row per benchmark, PyTorch's beside
ours), ptb-PRESET.jsonl and ptb-PRESET-seedN.jsonl of trainings that ended (thinned; partial-ptb-PRESET.jsonl of others), parity.jsonl and
steps.tsv; under profile/ the files of tools/profile.sh, and under raw/ the output of the steps, of which only the first and last part are
kept if it is long.
"""
import argparse
import fnmatch
import io
import json
import os
import re
import sys
import tarfile
import zlib

MEGABYTE = 1 << 20
FILES_MOST, FILE_MOST = 8, 15 * MEGABYTE  # limits of the packed files
FILED_MOST = 1_000_000  # limit of a filed file, bytes
THIN = 100  # keep every 100th step line of a training, the same as tools/results.py --thin
ARCHIVE = "gpu-run.tar.gz"
PRESETS = ("small", "medium", "large")
# In order of importance, since a truncated archive keeps the first files. * stands for several files.
PARTS = ("machine.json", "steps.tsv", "failed.json", "constants.json", "bench-*.json", "torch.json", "parity.jsonl",
         *(f"ptb-{p}*.jsonl" for p in PRESETS))
BESIDE = ("machine.json", "steps.tsv", "constants.json", "torch.json", "table.txt")  # copied beside the archive


class Failure(Exception):
    """An error whose text is a sentence for the user."""


# ---- reading ----


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def as_text(data):
    """Returns the data as text, or None if it is not text."""
    if data is None or b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        # A truncated file may end inside a character.
        return data[:fault.start].decode("utf-8") if fault.start > len(data) - 4 else None


def as_json(data):
    """Returns the parsed data, or None if it is missing, truncated or not JSON."""
    try:
        return json.loads(data) if data is not None else None
    except ValueError:
        return None


def whole_rows(data):
    """Returns the JSON of a benchmark that was interrupted, cut after its last complete row, or None if its context is incomplete.
    Complete JSON is returned unchanged."""
    if data is None or as_json(data) is not None:
        return data
    text = data.decode("utf-8", "replace")
    head = re.match(r'\s*\{\s*"context": ', text)
    decode, rows = json.JSONDecoder().raw_decode, []
    try:
        context, at = decode(text, head.end()) if head else (None, 0)
    except ValueError:
        return None
    begin = re.compile(r'\s*,\s*"benchmarks": \[').match(text, at)
    at = begin.end() if begin else len(text)
    while context is not None:
        try:
            row, at = decode(text, re.compile(r"[\s,]*").match(text, at).end())
        except ValueError:
            break
        rows.append(row)
    return json.dumps({"context": {**context, "cut": "yes"}, "benchmarks": rows}, indent=1).encode() if context is not None else None


def json_lines(text):
    """Returns (line, object) of every complete line; the last line of a log may be incomplete."""
    found = []
    for line in text.splitlines():
        try:
            found.append((line, json.loads(line)))
        except ValueError:
            continue
    return found


# ---- packing ----


def parts(work):
    """Returns {name: bytes} of PARTS, in their order."""
    there = sorted(os.listdir(work)) if os.path.isdir(work) else []
    return {name: read(os.path.join(work, name)) for part in PARTS for name in there if fnmatch.fnmatch(name, part)}


def bench_names(files):
    return [name for name in files if fnmatch.fnmatch(name, "bench-*.json")]


def training_names(files):
    return [name for preset in PRESETS for name in files if fnmatch.fnmatch(name, f"ptb-{preset}*.jsonl")]


def pack(work, out):
    os.makedirs(out, exist_ok=True)
    files = {name: whole_rows(data) if fnmatch.fnmatch(name, "bench-*.json") else data for name, data in parts(work).items()}
    files = {name: data for name, data in files.items() if data is not None}
    for folder in ("profile", "raw"):
        for name in below(os.path.join(work, folder)):
            data = read(os.path.join(work, folder, name))
            if folder == "raw" or as_text(data) is not None:  # the profilers' own binary files are not packed
                files[f"{folder}/{name}"] = data
    here = (os.getcwd() + "/").encode()  # a machine's path means nothing on another
    files = {name: data.replace(here, b"") for name, data in files.items()}
    files["table.txt"] = table(files).encode()

    left_out = []
    while len(archive := tar_of(files, left_out)) > FILE_MOST:
        largest = max(files, key=lambda name: len(files[name]))
        left_out.append(f"{largest}: {len(files.pop(largest))} bytes")
    write_whole(os.path.join(out, ARCHIVE), archive)
    for name in BESIDE:
        if name in files and len(files[name]) <= FILE_MOST:
            write_whole(os.path.join(out, name), files[name])
    for line in left_out:
        print(f"ingest: left out of the archive because it would be too large: {line}", file=sys.stderr)


def below(top):
    """Returns the sorted paths of the files in a folder, relative to it."""
    return sorted(os.path.relpath(os.path.join(folder, name), top) for folder, _, names in os.walk(top) for name in names)


def tar_of(files, left_out):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz", compresslevel=6) as tar:
        for name, data in [*files.items(), *([("left-out.txt", "\n".join(left_out).encode())] if left_out else [])]:
            member = tarfile.TarInfo("gpu-run/" + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return memory.getvalue()


def write_whole(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "wb") as f:
        f.write(data)
    os.replace(path + ".tmp", path)


# ---- rows ----


DECORATION = re.compile(r"/(iterations:\d+|repeats:\d+|manual_time|real_time|process_time)(?=/|$)")  # what Google Benchmark adds to a name


def own_row(row):
    """Returns the speed and accuracy fields of a row of Google Benchmark's JSON, without those about iterations."""
    row = {**row, "name": DECORATION.sub("", row["name"])}
    if row.get("error_occurred"):
        return {"name": row["name"], "error": row.get("error_message", "")}
    known = {"family_index", "per_family_instance_index", "run_name", "run_type", "repetitions", "repetition_index", "threads",
             "iterations", "real_time", "cpu_time", "time_unit"}
    return {key: value for key, value in row.items() if key not in known}


# The fields kept of Google Benchmark's context, beside a line per kernel; the others name the machine and not its speed.
CONTEXT = ("date", "commit", "dirty", "flags", "toolkit", "gpu", "emulated", "driver", "runtime", "clock_mhz",
           "memory_clock_mhz", "ecc", "cudnn",
           "sets", "noise", "num_cpus")


def rows_of(files):
    """Returns (our context, our rows, PyTorch's context, PyTorch's rows). Of rows with the same name, the first with a time counts. Rows
    that were not run for lack of time are dropped, and so is everything that the emulator timed."""
    benches = [bench for name in bench_names(files) if (bench := as_json(whole_rows(files.get(name))))]
    benches = [bench for bench in benches if bench["context"].get("emulated") != "yes"]
    torch = as_json(files.get("torch.json")) or {}
    torch = torch if torch.get("context", {}).get("emulated") != "yes" else {}
    ours = {}
    for row in [own_row(r) for bench in benches for r in bench["benchmarks"] if r.get("run_type", "iteration") == "iteration"]:
        if not str(row.get("error", "")).startswith("not run: ") and "median_us" not in ours.get(row["name"], {}):
            ours[row["name"]] = row
    ours = list(ours.values())
    context = {key: value for key, value in (benches[0]["context"] if benches else {}).items() if key in CONTEXT
               or key.startswith("kernel ")}
    return context, ours, torch.get("context", {}), [{**row, "by": "torch"} for row in torch.get("benchmarks", [])]


# ---- the short table ----


def training(text):
    """Returns (epochs done, last valid perplexity, test perplexity or None, seconds, steps) of a training."""
    events = [e for _, e in json_lines(text) if isinstance(e, dict)]
    epochs = [e for e in events if e.get("event") == "epoch"]
    test = next((e for e in events if e.get("event") == "test"), None)
    steps = [e["step"] for e in events if e.get("event") == "step"]
    return (len(epochs), epochs[-1].get("valid_ppl") if epochs else None, test and test.get("test_ppl"),
            sum(e.get("seconds") or 0 for e in epochs), steps[-1] + 1 if steps else 0)


def in_short(name):
    """Returns whether a row is in the short table: whole steps, and the recurrence at the models' own lengths, as graph replays."""
    own = ("/H:200/B:20/T:20", "/H:650/B:20/T:35", "/H:1500/B:20/T:35", "/H:768/B:16/T:1024")
    return name.startswith(("step/", "lstm/")) and name.endswith(own)


def time_of(row):
    return f"{row['median_us']:12.2f} us  {row.get('p10_us', 0):9.2f} .. {row.get('p90_us', 0):.2f}"


def table(files):
    machine = as_json(files.get("machine.json")) or {}
    lines = [f"{machine.get('hardware', 'unknown GPU')}, commit {machine.get('commit', 'unknown')}"]
    steps = [line.split("\t") for line in (as_text(files.get("steps.tsv")) or "").splitlines()]
    lines += [f"{s[0]:12} {s[1]:30} {s[2]:8} {s[3]:>5} s" for s in steps if len(s) > 3]
    constants = as_json(files.get("constants.json")) or {}
    for name, c in constants.get("constants", {}).items():
        lines.append(f"{name:44} {c['value']:12.4g} {c['unit']}" if "value" in c else
                     f"{name:44} {c.get('error') or 'refused: ' + c.get('refused', '')}")
    _, ours, _, torch = rows_of(files)
    for row in [r for r in ours + torch if in_short(r["name"])]:
        lines.append(f"{row['name']:44} " + (time_of(row) if "median_us" in row else row.get("error", "")))
    for name in training_names(files):
        text, preset = as_text(files[name]), name.removeprefix("ptb-").removesuffix(".jsonl")
        if text:
            epochs, valid, test, seconds, done = training(text)
            ppl = f"test {test:.2f}" if test else f"cut at step {done}"
            lines.append(f"ptb {preset:8} {epochs} epochs, valid {valid if valid is None else round(valid, 2)}, {ppl}, {seconds:.0f} s")
    return "\n".join(lines) + "\n"


# ---- filing ----


def unpack(path):
    """Returns {name: bytes} of the readable files of an archive, and whether it was complete. The last file of a truncated archive may be
    short. Nothing is written to the disk, so the names in the archive are harmless."""
    with open(path, "rb") as f:
        packed = f.read()
    inflate, plain, whole = zlib.decompressobj(wbits=31), b"", True
    try:
        plain = inflate.decompress(packed)
        whole = inflate.eof
    except zlib.error:
        # The data before the fault is still valid, so decompress it piece by piece up to there.
        inflate, plain, whole = zlib.decompressobj(wbits=31), b"", False
        try:
            for at in range(0, len(packed), 256):
                plain += inflate.decompress(packed[at:at + 256])
        except zlib.error:
            pass
    files, at = {}, 0
    while at + 512 <= len(plain):
        try:
            member = tarfile.TarInfo.frombuf(plain[at:at + 512], "utf-8", "replace")
        except tarfile.HeaderError:
            break  # two empty blocks end an archive
        data = plain[at + 512:at + 512 + member.size]
        whole = whole and len(data) == member.size
        name = member.name.removeprefix("gpu-run/")
        if member.isreg() and re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", name) and ".." not in name:
            files[name] = (data, len(data) == member.size)
        at += 512 + (member.size + 511) // 512 * 512
    if not files:
        raise Failure(f"{path} has no readable file: it is not an archive of tools/gpu_run.sh, or it is truncated at its beginning")
    return files, whole


def folder_name(hardware):
    """Returns the folder of a GPU's name: h200 for NVIDIA H200."""
    name = re.sub(r"[^a-z0-9]+", "-", hardware.lower().removeprefix("nvidia ")).strip("-")
    if not name:
        raise Failure("the archive does not name its GPU; give --gpu NAME")
    return name


def dump(value):
    return json.dumps(value, indent=1) + "\n"


def dump_rows(context, rows):
    """Writes one line per row, so that a diff is readable."""
    body = ",\n".join("  " + json.dumps(row) for row in rows)
    return f'{{"context": {json.dumps(context)},\n "rows": [\n{body}\n]}}\n'


def is_torch(row):
    return row.get("by") == "torch"


def bench_texts(files, before):
    """Returns variants.json and step.json. A side that was not measured this time, ours or PyTorch's, is kept from the existing files.
    The rows of several calls are merged if they are from the same program."""
    context, ours, torch_context, torch = rows_of(files)
    found = {}
    for name, belongs in (("variants.json", lambda r: not r["name"].startswith("step/")),
                          ("step.json", lambda r: r["name"].startswith("step/"))):
        old = as_json(before(name)) or {"context": {}, "rows": []}
        sides = [(context, ours, "ours", False, "commit"), (torch_context, torch, "torch", True, "torch")]
        contexts, rows = {}, []
        for side_context, side, word, torchs, maker in sides:
            kept, old_context = [r for r in old["rows"] if is_torch(r) == torchs], old["context"].get(word, {})
            new = [r for r in side if belongs(r)]
            if not new:
                new, side_context = kept, old_context
            elif side_context.get(maker) == old_context.get(maker):
                timed = {r["name"] for r in new if "median_us" in r}
                better = {r["name"] for r in kept if "median_us" in r and r["name"] not in timed}
                new = [r for r in new if r["name"] not in better]
                new += [r for r in kept if r["name"] not in {n["name"] for n in new}]
            if new:
                contexts[word] = side_context
            rows += new
        if rows:
            found[name] = dump_rows(contexts, rows)
    return found


def thinned(text):
    return "".join(line + "\n" for line, e in json_lines(text)
                   if not (isinstance(e, dict) and e.get("event") == "step" and e.get("step", 0) % THIN))


def shortened(text):
    """Returns the first and last part of a text that is too long, cut at line ends."""
    data = text.encode()
    if len(data) <= FILED_MOST:
        return text
    half = FILED_MOST // 2 - 100
    head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
    head, tail = head[:head.rfind("\n") + 1], tail[tail.find("\n") + 1:]
    return f"{head}[{len(data) - len(head.encode()) - len(tail.encode())} bytes left out here]\n{tail}"


def filed(files, before):
    """Returns {name under profiles/<gpu>/: text}; before(name) is the existing text, or None."""
    # The rows of a truncated benchmark file are complete up to the cut.
    whole = {name: data for name, (data, complete) in files.items() if complete or fnmatch.fnmatch(name, "bench-*.json")}
    result = {name: as_text(whole[name]) for name in ("machine.json", "steps.tsv", "failed.json", "parity.jsonl") if name in whole}
    constants = as_json(whole.get("constants.json"))
    if constants is not None:
        result["constants.json"] = dump(constants)
    if bench_names(whole) or "torch.json" in whole:
        result.update(bench_texts(whole, before))
    for name in training_names(files):
        text = as_text(files[name][0])
        if text and json_lines(text):
            epochs, _, test, _, _ = training(text)
            ended = bool(epochs) and test is not None
            result[("" if ended else "partial-") + name] = thinned(text)
    for name, (data, complete) in files.items():
        text = as_text(data)
        if name.startswith(("raw/", "profile/")) and text:
            result[name] = text if complete else text + "\n[cut here]\n"
    return {name: shortened(text) for name, text in result.items() if text}


def ingest(archive, root, gpu=None):
    """Files an archive. Returns the written paths, relative to root, and whether the archive was complete."""
    files, whole = unpack(archive)
    machine = as_json(files.get("machine.json", (None,))[0]) or {}
    folder = os.path.join("profiles", folder_name(gpu or machine.get("hardware", "")))
    texts = filed(files, lambda name: read(os.path.join(root, folder, name)))
    texts.setdefault("machine.json", dump({"hardware": gpu}))
    written = []
    for name, text in sorted(texts.items()):
        write_whole(os.path.join(root, folder, name), text.encode())
        written.append(os.path.join(folder, name))
        if name.startswith("ptb-") and os.path.exists(os.path.join(root, folder, "partial-" + name)):
            os.remove(os.path.join(root, folder, "partial-" + name))  # the same training, now complete
    return written, whole


def command(archive, root, gpu=None):
    """Files an archive and prints the written paths."""
    written, whole = ingest(archive, root, gpu)
    print("\n".join(written))
    if not whole:
        print(f"ingest: {archive} is truncated; its readable part was filed", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", nargs=2, metavar=("WORK", "OUT"))
    parser.add_argument("--table", metavar="WORK")
    parser.add_argument("--gpu", metavar="NAME", help="the name of the GPU, if the archive does not have it")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)), metavar="DIR", help="the working tree")
    parser.add_argument("archive", nargs="?", metavar="ARCHIVE")
    arguments = parser.parse_args()
    if sum(map(bool, (arguments.pack, arguments.table, arguments.archive))) != 1:
        parser.error("expected exactly one of --pack, --table and ARCHIVE")
    try:
        if arguments.pack:
            pack(*arguments.pack)
        elif arguments.table:
            print(table(parts(arguments.table)), end="")
        else:
            command(arguments.archive, arguments.root, arguments.gpu)
    except (Failure, OSError) as fault:
        print(f"ingest: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
