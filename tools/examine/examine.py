#!/usr/bin/env python3
"""Examines the machine code of the kernels; `make k20` and `make sass` run it after compiling them.

    examine.py k20  --built DIR --nvcc NVCC --nvdisasm NVDISASM --plan PLSTM --out FILE
    examine.py sass --built DIR --nvcc NVCC --listed DIR --listed-nvcc NVCC --nvdisasm NVDISASM --out FILE

For each kernels/NAME.cu, DIR has NAME.ptxas (the compiler's report), NAME.ptx and NAME.cubin. Registers, spills and shared memory come from
DIR's compiler, and so do the reads of each persistent kernel's time loop, which are counted in the PTX. Instructions are counted in a
disassembly of --listed's machine code: that of the same build if its toolkit has a disassembler, else that of CUDA 11.8 for the same GPU.
`PLSTM plan` gives the plans of the variants on a K20 at the paper's shapes.

Persistent kernels are also checked against tests/litmus/*.litmus; exchanges.py explains how.

The script writes FILE (JSON, one line per kernel; the same bytes for the same sources and compilers) and prints a short table, then one
sentence for each fault. The exit status is 1 if there is a fault.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import exchanges  # noqa: E402
import kernel_list  # noqa: E402
import machine_code  # noqa: E402
from machine_code import REPORTED  # noqa: E402

# Opcode classes whose count comes from PTX if another compiler made the listing, because that compiler does not compile them.
LISTED_TOOLKIT = 11080
SHARED_LIMIT = {"sm_35": 48 << 10}  # bytes per block; later GPUs allow more on request, which the planner checks
WEIGHTS = re.compile(r"\bw_(hh|packed|tiles)\b")


class Failure(Exception):
    """An error whose text is a sentence for the user."""


# ---- the sources ----


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def variants(root):
    """Returns {name: whether its kernels may keep weights on the chip, None if it is not persistent}, from variants.def and tiles.h."""
    tiles = read(root, "kernels", "tiles.h").replace("\\\n", " ")
    found = {}
    for v in kernel_list.variants(root):
        lists = [body for wanted in v.tiles for body in re.findall(rf"#define {wanted}\(T\)(.*)", tiles)]
        found[v.name] = v.shared_weights or any(int(n) for body in lists for n in re.findall(r"T\((\d+)", body)) if v.persistent else None
        if v.persistent:
            found[variant_of(kernels_file(root, f"fwd_{v.name}"))] |= found[v.name]  # the variant whose kernels it runs
    return found


def variants_that(root, holds):
    """Returns the names of the variants for which `holds` is true."""
    return {v.name for v in kernel_list.variants(root) if holds(v)}


def variant_of(file):
    m = re.match(r"(?:fwd|bwd)_(\w+)$", file)
    return m.group(1) if m else None


def kernels_file(root, file):
    """Returns the file with the kernels that a pass runs: its own, or the one that its PERSISTENT_PASS_OF names."""
    path = os.path.join(root, "kernels", file + ".cu")
    other = os.path.exists(path) and re.search(rf"^PERSISTENT_PASS_OF\({file}, (\w+),", read(path), re.MULTILINE)
    return other.group(1) if other else file


def own_files(root, holds):
    """Returns the files of the variants for which `holds` is true and that have kernels of their own."""
    return {file for v in kernel_list.variants(root) if holds(v) for file in v.files if kernels_file(root, file) == file}


def wanted_files(root, arch):
    """Returns the names, without .cu, of the files that must exist: every variant's two files and every other kernel file, except those
    without kernels of their own and those that the GPU cannot run."""
    files = {f"{way}_{name}" for name in variants(root) for way in ("fwd", "bwd")}
    files |= {os.path.basename(f)[:-3] for f in glob.glob(os.path.join(root, "kernels", "*.cu"))}
    newer = variants_that(root, lambda v: v.min_sm > int(arch.removeprefix("sm_")))
    return sorted(f for f in files if kernels_file(root, f) == f and variant_of(f) not in newer)


def sources_hash(root):
    """Returns a hash of all kernel sources, which shows whether a profile is from these sources."""
    digest = hashlib.sha256()
    for f in sorted(glob.glob(os.path.join(root, "kernels", "*"))):
        if f.endswith((".cu", ".cuh", ".h")):
            digest.update(os.path.basename(f).encode() + b"\0" + read(f).encode() + b"\0")
    return digest.hexdigest()[:16]


def struct_body(text, struct):
    if f"struct {struct}" not in text:  # the headers are long, and most types of members are no structs
        return None
    m = re.search(rf"\bstruct {struct}\s*\{{(.*?)\n\}}", text, re.DOTALL)
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", m.group(1), flags=re.DOTALL) if m else None


def members(body):
    """Returns (type, name, whether it is a pointer) of each member."""
    for declaration in body.split(";"):
        if words := re.match(r"\s*(?:const\s+)?(?:struct\s+)?(\w+)\s+(.*)", declaration, re.DOTALL):
            for name in words.group(2).split(","):
                yield words.group(1), re.sub(r"\*|\bconst\b|\bvolatile\b", "", name).strip(), "*" in name


def pointer_paths(headers, struct):
    """Returns the pointer members of a struct; those of nested structs by their path: p.launch.scratch."""
    paths = []
    for kind, name, is_pointer in members(struct_body(headers, struct) or ""):
        if is_pointer:
            paths.append(name)
        elif re.fullmatch(r"\w+", name):
            paths += [f"{name}.{inner}" for inner in pointer_paths(headers, kind)]
    return paths


def argument_names(root, struct):
    """Returns {byte: pointer member} of a struct that kernels take by value. The host compiler computes the offsets,
    with the emulator's headers in place of the toolkit's; host and device have the same struct layout."""
    texts = {suffix: "\n".join(read(f) for f in sorted(glob.glob(os.path.join(root, "kernels", "*" + suffix))))
             for suffix in (".h", ".cuh")}
    paths = pointer_paths(texts[".h"] + texts[".cuh"], struct)
    if not paths:
        return {}

    def definitions(name, done):  # structs that only the kernels define, each after the structs that it contains
        body = struct_body(texts[".cuh"], name)
        if body is None or name in done:
            return ""
        done.add(name)
        return "".join(definitions(kind, done) for kind, _, _ in members(body)) + f"struct {name} {{{body}\n}};\n"

    includes = "".join(f'#include "kernels/{os.path.basename(f)}"\n' for f in sorted(glob.glob(os.path.join(root, "kernels", "*.h"))))
    probe = f'{includes}#include <stddef.h>\nnamespace probed {{\n{definitions(struct, set())}}}\n'
    probe += f'extern const unsigned long probe[] = {{{", ".join(f"offsetof(probed::{struct}, {p})" for p in paths)}}};\n'
    folders = [f"-I{os.path.join(root, f)}" for f in ("tests/emu/include", "tests/emu", ".")]
    done = subprocess.run([os.environ.get("CXX", "g++"), "-std=c++17", "-w", *folders, "-S", "-x", "c++", "-", "-o", "-"], input=probe,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Failure(f"the members of {struct} could not be placed: {next((line for line in said if ' error: ' in line), said[0])}")
    body = done.stdout[done.stdout.index("probe:"):]
    return dict(zip(map(int, re.findall(r"\.(?:quad|xword|8byte)\s+(\d+)", body)), paths))


# ---- the build ----


def compiler_version(nvcc):
    said = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return "CUDA " + re.search(r"V([\d.]+)", said).group(1)


def listing(nvdisasm, cubin):
    """Returns the disassembly with line numbers. The folder of nvdisasm comes first on PATH, as for every command of that toolkit."""
    path = os.path.dirname(nvdisasm) + os.pathsep + os.environ["PATH"]
    done = subprocess.run([nvdisasm, "-c", "-gi", cubin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          env=dict(os.environ, PATH=path))
    if done.returncode:
        raise Failure(f"{os.path.basename(nvdisasm)} cannot read {cubin}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout


def is_persistent(code):
    return any(machine_code.is_poll(i) for i in code.instructions)


def argument_struct(code):
    """Returns the name of the struct that a kernel takes by value, or "" if it takes something else."""
    m = re.search(r"v(\d+)(\w+)$", code.mangled)
    return m.group(2) if m and len(m.group(2)) == int(m.group(1)) else ""


def reads_of(code, names):
    """Counts the loads from device memory in the time loop of a persistent kernel's PTX, by tensor, and splits the loads of weights into
    those of streaming loops and those of every step. Returns None if no time loop was found.

    A streaming loop is a loop without a __syncthreads that loads weights; the plan gives its length. A load before it belongs to it if
    every path from the load enters the loop. All other loads count as loads of every step."""
    loop = machine_code.time_loop(code)
    if loop is None:
        return None

    def tensor_of(origins):
        known = sorted({names.get(byte, f"argument {argument} + {byte}") for argument, byte in origins if argument or byte in names})
        return " or ".join(known) or "unknown"

    tensors = {i: tensor_of(origins) for i, origins in machine_code.argument_origins(code).items() if i in loop.body}
    weights = {i for i, tensor in tensors.items() if WEIGHTS.search(tensor) or tensor == "unknown"}
    streaming = [x for x in machine_code.loops_of(code) if x.body < loop.body and x.body & weights and
                 not any(code.instructions[i].opcode.split(".")[0] in ("bar", "barrier") for i in x.body)]
    inside = set().union(*(x.body for x in streaming))

    def leads_past(i):  # whether a step can end after instruction i without any streaming
        seen, todo = set(), code.successors(i)
        while todo:
            i = todo.pop()
            if i == loop.header or i not in loop.body:
                return True
            if i not in seen and i not in inside:
                seen.add(i)
                todo += code.successors(i)
        return False

    fixed = [i for i in weights - inside if leads_past(i)]
    reads = {}
    for tensor in tensors.values():
        reads[tensor] = reads.get(tensor, 0) + 1
    return {"loads": len(tensors), "reads": dict(sorted(reads.items())), "weights_streamed": len(weights) - len(fixed),
            "weights_fixed": len(fixed)}


# wait until all earlier stores are visible to the GPU
FENCE = re.compile(r"(MEMBAR|membar|fence)\b.*\.(ALL\.GPU|SC\.GPU|GPU|gl|gpu)$|st\.release\.gpu")


def listed_loop(code):
    """Returns the counts of the time loop: {"loads": of loads from device memory, "fences": of fences of GPU scope, "opcodes": of each
    instruction}, or None if no time loop was found."""
    loop = machine_code.time_loop(code)
    if loop is None:
        return None
    inside = [code.instructions[i] for i in sorted(loop.body)]
    return {"loads": sum(map(machine_code.is_global_load, inside)), "fences": sum(bool(FENCE.match(i.opcode)) for i in inside),
            "opcodes": machine_code.opcode_counts(inside)}


def read_only_faults(code):
    """Returns the places of loads through the read-only path that do not come from dev_memory.cuh's ldg."""
    def by_ldg(instruction):  # the inlining chain is the toolkit's intrinsic, then the wrapper
        return any(p.function and p.function.split("<")[0] == "ldg" and os.path.basename(p.file) == "dev_memory.cuh"
                   for p in instruction.chain[:2])

    bad = [i for i in code.instructions if machine_code.is_read_only_load(i) and not by_ldg(i)]
    return sorted({str(next((p for p in i.chain if not (p.function or "").startswith("__")), "an unknown line")) for i in bad})


def wide_immediates(code):
    """Returns the 64-bit PTX instructions with an immediate outside 32 bits, of which GPGPU-Sim reads only the lower half. It reads
    unsigned masks correctly."""
    def wide(instruction):
        numbers = [int(n) for n in re.findall(r"(?<![\w%$.])-?\d+(?![\w.])", instruction.operands)]
        below = 2 ** 32 if instruction.opcode == "and.b64" else 2 ** 31
        return re.search(r"\.[bsu]64$", instruction.opcode) and not all(-2 ** 31 <= n < below for n in numbers)

    return sorted({f"{i} at {i.chain[0]}" if i.chain else str(i) for i in code.instructions if wide(i)})


def ptx_of(built, file):
    """Returns [Code] of a kernel file's PTX, or None if it was not compiled."""
    path = os.path.join(built, file + ".ptx")
    return machine_code.parse_ptx(read(path)) if os.path.exists(path) else None


def examine_file(root, file, arch, built, listed, nvdisasm, names_of):
    """Returns one row per kernel of the file."""
    stem = os.path.join(built, file)
    for suffix in (".ptxas", ".ptx"):
        if not os.path.exists(stem + suffix):
            raise Failure(f"kernels/{file}.cu was not compiled: {stem + suffix} is missing"
                          if os.path.exists(os.path.join(root, "kernels", file + ".cu"))
                          else f"kernels/{file}.cu is missing")
    reported = machine_code.parse_ptxas(read(stem + ".ptxas"), arch)
    ptx = machine_code.parse_ptx(read(stem + ".ptx"))
    if not reported or {c.name for c in ptx} != set(reported):
        raise Failure(f"kernels/{file}.cu: the compiler's report and its PTX do not name the same kernels for {arch}")
    if listed != built and variant_of(file) in variants_that(root, lambda v: v.toolkit > LISTED_TOOLKIT):
        sass = {c.name: c for c in ptx}
    else:
        listed_ptx = ptx if listed == built else machine_code.parse_ptx(read(listed, file + ".ptx"))
        sass = {c.name: c for c in machine_code.parse_sass(listing(nvdisasm, os.path.join(listed, file + ".cubin")),
                                                           machine_code.ptx_functions(listed_ptx))}
    rows = []
    for code in ptx:
        persistent = is_persistent(code)
        if code.name not in sass:
            raise Failure(f"kernels/{file}.cu: the disassembly has no {code.name}")
        row = {"file": file, "kernel": code.name, "persistent": persistent, **reported[code.name],
               "opcodes": machine_code.opcode_counts(sass[code.name].instructions)}
        if persistent:
            row["loop"] = {"ptx": reads_of(code, names_of(argument_struct(code))), "listed": listed_loop(sass[code.name])}
            row["read_only"] = read_only_faults(code)
            if arch == "sm_35":
                row["wide"] = wide_immediates(code)
        rows.append(row)
    return rows


# ---- plans ----

PLAN_DEVICE = {"sm_35": "K20"}
PLANNED = ("device", "preset", "H", "B", "T", "variant", "pass", "replicas", "blocks", "threads", "shared_bytes", "resident_registers",
           # the fields that do not depend on the model's constants once the plan is chosen
           "resident_shared", "streamed_bytes", "plan", "refused")


def instance_of(root, variant, backward, tile, rows):
    """Returns the row of the kernel that was compiled for a variant's tile, which is an index into its list in tiles.h: the kernel whose
    template arguments are the tile's numbers without the registers and, backward, without the chunk."""
    text = read(root, "kernels", "tiles.h").replace("\\\n", " ")
    body = re.search(rf"#define {'BWD' if backward else 'FWD'}_{variant.upper()}_TILES\(T\)(.*)", text).group(1)
    if other := re.match(r"\s*(\w+)_TILES\(T\)\s*$", body):
        body = re.search(rf"#define {other.group(1)}_TILES\(T\)(.*)", text).group(1)
    resident, chunk, batch, threads = re.findall(r"T\(([^)]*)\)", body)[tile].replace(" ", "").split(",")[:4]
    wanted = [",".join(p) for p in ((resident, chunk, batch, threads), (resident, batch, threads))]
    way = "bwd" if backward else "fwd"
    return next((r for r in rows if r["file"] == kernels_file(root, f"{way}_{variant}")
                 and (m := re.search("<(.*)>", r["kernel"])) and m.group(1) in wanted), None)


def plans_of(root, plstm, device, rows):
    """Returns the plans of the persistent variants at the paper's three shapes from `plstm plan`, each with the kernel that it would
    run."""
    done = subprocess.run([plstm, "plan", "--device", device, "--preset", "all", "--json", "--quiet"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode:
        raise Failure(f"{os.path.basename(plstm)} plan failed: {done.stderr.strip() or done.returncode}")
    known, plans = variants(root), []
    for line in done.stdout.splitlines():
        said = json.loads(line)
        if known.get(said["variant"]) is None:
            continue
        plan = {key: said[key] for key in PLANNED if key in said}
        if "refused" not in said:
            fields = dict(pair.split("=") for pair in said["plan"].split(","))
            row = instance_of(root, said["variant"], fields["backward"] == "1", int(fields["tile"]), rows)
            plan |= {"kernel": row and row["kernel"], "compiled_registers": row and row["registers"],
                     "static_shared": row and row["shared"]}
        plans.append(plan)
    return plans


def why_refused(sentence):
    """Returns the planner's sentence without its subject and its remedy."""
    m = re.search(r"has no plan on [^:]*: ([^;]*)", sentence)
    return m.group(1) if m else sentence


def plan_violations(arch, plans):
    out = []
    for plan in plans:
        who = f"the plan of {plan['variant']} {plan['pass']} for H = {plan['H']} on a {plan['device']}"
        if "refused" in plan:
            if plan["variant"] == "reg" and plan["preset"] == "small":
                out.append(f"{who} is refused: {plan['refused']}")
            continue
        if plan["kernel"] is None:
            out.append(f"{who} names a tile for which no kernel was compiled")
        elif plan["shared_bytes"] + plan["static_shared"] > SHARED_LIMIT[arch]:
            out.append(f"{who} takes {plan['shared_bytes'] + plan['static_shared']} bytes of shared memory; {arch} has "
                       f"{SHARED_LIMIT[arch]} per block")
        if plan["variant"] == "reg" and plan["preset"] == "small" and plan["streamed_bytes"]:
            out.append(f"{who} streams {plan['streamed_bytes']:.0f} bytes per step, but the small model must be fully resident")
    return out


# ---- faults ----


def violations(root, arch, rows, own=True):
    """Returns one sentence per fault. own: the listing is from the same compiler as the report; the spills of another compiler are not the
    program's."""
    out, known = [], variants(root)
    tensor = variants_that(root, lambda v: v.tensor)
    for row in rows:
        who, variant = f"{row['kernel']} (kernels/{row['file']}.cu)", variant_of(row["file"])
        resident = row["persistent"] and known.get(variant) is not False
        if row["shared"] > SHARED_LIMIT.get(arch, row["shared"]):
            out.append(f"{who} takes {row['shared']} bytes of static shared memory; {arch} has {SHARED_LIMIT[arch]} per block")
        if resident and (row["spill_stores"] or row["spill_loads"]):
            out.append(f"{who} keeps weights on the chip but spills: {row['spill_stores']} bytes stored, {row['spill_loads']} loaded")
        if known.get(variant) is not None and not row["persistent"] and row["kernel"].startswith(row["file"]):
            out.append(f"{who} belongs to a persistent variant but has no spin loop that waits for other blocks")
        if not row["persistent"]:
            continue
        ptx, listed = row["loop"]["ptx"], row["loop"]["listed"]
        if ptx is None or listed is None:
            out.append(f"{who}: no loop over the steps was found around its barrier")
            continue
        if ptx["weights_fixed"]:
            out.append(f"{who} loads weights at every step outside its streaming loops: {ptx['weights_fixed']} loads")
        if variant in tensor and not (listed["opcodes"].get("HMMA") or listed["opcodes"].get("mma.sync")):
            out.append(f"{who} belongs to a variant on tensor cores but has no HMMA in its time loop")
        if own and resident and (listed["opcodes"].get("LDL") or listed["opcodes"].get("STL")):
            out.append(f"{who} reads or writes local memory in its time loop: {listed['opcodes'].get('LDL', 0)} loads, "
                       f"{listed['opcodes'].get('STL', 0)} stores")
        out += [f"{who} loads through the read-only path at {place}, not by ldg: it may read a value from before the launch"
                for place in row["read_only"]]
        out += [f"{who} has a 64-bit immediate that does not fit 32 bits, which GPGPU-Sim reads wrongly: {where}"
                for where in row.get("wide", [])]
        if arch == "sm_35" and row["opcodes"].get("SHFL"):
            out.append(f"{who} uses a warp shuffle, which GPGPU-Sim cannot run; the sums of sm_35's persistent kernels "
                       f"must go through shared "
                       "memory")
    return out


# ---- output ----


def as_json(record):
    """Writes one line per kernel, plan and fault, so that a diff names it."""
    parts = []
    for key, value in record.items():
        if isinstance(value, list) and value:
            parts.append(f' "{key}": [\n' + ",\n".join("  " + json.dumps(row) for row in value) + "\n ]")
        else:
            parts.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def printed(rows):
    titles = ("kernel", "registers", "spills", "shared", "instructions", "in loop", "FFMA", "HMMA", "LDS.128", "loads", "weights")
    lines = [titles]
    for row in rows:
        loop = row.get("loop") or {}
        ptx, listed = loop.get("ptx"), loop.get("listed")
        counts = listed["opcodes"] if listed else row["opcodes"]
        lines.append((row["kernel"], row["registers"], f"{row['spill_stores']}/{row['spill_loads']}", row["shared"],
                      row["opcodes"]["instructions"],
                      counts["instructions"] if listed else "-", counts.get("FFMA", 0), counts.get("HMMA", 0), counts.get("LDS.128", 0),
                      listed["loads"] if listed else sum(n for op, n in counts.items() if op.startswith("LDG")),
                      f"{ptx['weights_fixed']}+{ptx['weights_streamed']}" if ptx else "-"))
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(titles))]
    return "\n".join("  ".join(f"{str(v):<{w}}" if i == 0 else f"{str(v):>{w}}"
                               for i, (v, w) in enumerate(zip(line, widths))) for line in lines)


def run(arguments):
    root, arch = arguments.root, {"k20": "sm_35", "sass": "sm_90"}[arguments.what]
    listed, cache, rows, faults = arguments.listed or arguments.built, {}, [], []

    def names_of(struct):
        if struct not in cache:
            cache[struct] = argument_names(root, struct)
        return cache[struct]

    for file in wanted_files(root, arch):
        try:
            rows += examine_file(root, file, arch, arguments.built, listed, arguments.nvdisasm, names_of)
        except Failure as fault:
            faults.append(str(fault))
    faults += violations(root, arch, rows, listed == arguments.built)
    faults += exchanges.faults(root, arch, lambda file: ptx_of(arguments.built, file))
    plans = []
    if arguments.plan:
        try:
            plans = plans_of(root, arguments.plan, PLAN_DEVICE[arch], rows)
        except Failure as fault:
            faults.append(str(fault))
        faults += plan_violations(arch, plans)
    shipping = compiler_version(arguments.nvcc)
    other = compiler_version(arguments.listed_nvcc) if arguments.listed else shipping
    record = {"arch": arch, "compiler": shipping, "listed_compiler": other, "sources": sources_hash(root), "faults": faults, "plans": plans,
              "kernels": rows}
    os.makedirs(os.path.dirname(arguments.out), exist_ok=True)
    with open(arguments.out + ".tmp", "w", encoding="utf-8") as f:
        f.write(as_json(record))
    os.replace(arguments.out + ".tmp", arguments.out)
    print(f"{arch}: registers, spills and shared memory are from {shipping}, instructions from {other}" +
          ("" if other == shipping else ", since the former has no disassembler here") +
          ".\nFFMA, HMMA, LDS.128 and loads from device memory of a persistent kernel are those of its time loop. "
          "Weights: loads there at every "
          "step + in\nstreaming loops. Spills: bytes stored/loaded.")
    print(printed(rows))
    for plan in plans:
        held = "" if "refused" in plan else (
            f"{plan['replicas']} x {plan['blocks']} blocks x {plan['threads']} threads of "
            f"{plan['kernel'] or 'no compiled kernel'}, {plan['shared_bytes']} "
            f"bytes of shared memory; weights {100 * plan['resident_registers']:.0f} % in registers, "
            f"{100 * plan['resident_shared']:.0f} % in shared memory")
        print(f"{plan['device']} H {plan['H']:<5}{plan['variant']:<8}{plan['pass']:<9}{held or 'no plan: ' + why_refused(plan['refused'])}")
    for fault in faults:
        print(f"examine: {fault}", file=sys.stderr)
    return 1 if faults else 0


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("k20", "sass"))
    parser.add_argument("--built", required=True, metavar="DIR")
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--listed", metavar="DIR")
    parser.add_argument("--listed-nvcc", metavar="NVCC")
    parser.add_argument("--nvdisasm", required=True)
    parser.add_argument("--plan", metavar="PLSTM")
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--root", default=ROOT, metavar="DIR", help="the working tree")
    try:
        return run(parser.parse_args())
    except (Failure, OSError) as fault:
        print(f"examine: {fault}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
