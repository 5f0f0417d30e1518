"""Checks the compiled persistent kernels: no load through the read-only path except dev_memory.cuh's ldg, no weight read at every step
outside a streaming loop, and the instructions that the litmus texts name. It reads the PTX of the build; planted faults
(fixtures/machine_code/toy.cu, tests/litmus/test_litmus.py) show that the checks can fail."""
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402
from machine_code_samples import GOOD, READ_ONLY, ROOT, WEIGHTS, Tree, sample  # noqa: E402

import examine
import exchanges
import kernel_list
import machine_code

TOY = {0: "w_packed", 8: "x", 16: "h", 24: "words"}


def built_ptx(file):
    return os.path.join(ROOT, os.environ.get("PLSTM_BUILD", "build"), "cuda", "kernels", file + ".ptx")


@functools.lru_cache(maxsize=None)
def built_codes(file):
    """Returns the kernels in the PTX of a file of the build; reading all of them takes seconds."""
    return machine_code.parse_ptx(examine.read(built_ptx(file)))


def persistent_files():
    """Returns the kernel files that include the grid barrier, directly or not, and those of the variants on tensor cores."""
    texts = {os.path.basename(f): examine.read(f) for f in glob.glob(os.path.join(ROOT, "kernels", "*.cu*"))}

    def includes(name, seen):
        if name in seen or name not in texts:
            return False
        seen.add(name)
        found = re.findall(r'^#include "([^"]+)"', texts[name], re.MULTILINE)
        return "grid_barrier.cuh" in found or any(includes(f, seen) for f in found)

    return sorted({f[:-3] for f in texts if f.endswith(".cu") and examine.kernels_file(ROOT, f[:-3]) == f[:-3] and includes(f, set())} |
                  examine.own_files(ROOT, lambda v: v.tensor))


def faults_of(code, names):
    """Returns one sentence per fault."""
    reads = examine.reads_of(code, names)
    if reads is None:
        return [f"{code.name}: no loop over the steps was found"]
    out = [f"{code.name}: {place} loads through the read-only path, not by ldg" for place in examine.read_only_faults(code)]
    return out + ([f"{code.name}: {reads['weights_fixed']} loads of weights at every step"] if reads["weights_fixed"] else [])


def test_persistent_kernels_of_this_build():
    files = persistent_files()
    assert examine.own_files(ROOT, lambda v: v.persistent) == set(files), files
    if not any(os.path.exists(built_ptx(f)) for f in files):
        raise tap.Skip("the build folder has no PTX: built without nvcc, with EMU=1, or before the Makefile kept it (touch kernels/*.cu)")
    found, cache = [], {}
    for file in files:
        codes = [c for c in built_codes(file) if examine.is_persistent(c)]
        assert codes, f"{file}.ptx has no kernel that waits for other blocks"
        for code in codes:
            struct = examine.argument_struct(code)
            if struct not in cache:
                cache[struct] = examine.argument_names(ROOT, struct)
            assert any(examine.WEIGHTS.search(name) for name in cache[struct].values()), (code.name, struct, cache[struct])
            found += faults_of(code, cache[struct])
    assert not found, "\n".join(found)


def test_compiled_kernels_have_the_instructions_of_the_litmus_texts():
    built = [built_ptx(f) for f in persistent_files() if os.path.exists(built_ptx(f))]
    if not built:
        raise tap.Skip("no kernels compiled by nvcc in the build folder: CUDA=0 or EMU=1")
    if ".target sm_90" not in examine.read(built[0]):
        raise tap.Skip("the kernels were compiled for another GPU than sm_90")
    said = exchanges.faults(ROOT, "sm_90", built_codes)
    assert not said, "\n".join(said)


def cluster_faults(code):
    """Returns one sentence per fault in the time loop of a kernel that exchanges inside a cluster. The loop must use
    asynchronous stores of 16 bytes that an mbarrier counts, tensor cores, and no barrier wider than a block. It may have
    no block barrier in the forward pass and at most one in the backward pass."""
    loop = machine_code.time_loop(code)
    if loop is None:
        return [f"{code.name}: no loop over the steps was found"]
    opcodes = [code.instructions[i].opcode for i in sorted(loop.body)]

    def count(*starts):
        return sum(opcode.startswith(starts) for opcode in opcodes)

    wanted = ("mma.sync", "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4", "mbarrier.try_wait", "mbarrier.arrive.expect_tx")
    out = [f"{code.name}: no {start} in its time loop" for start in wanted if not count(start)]
    unwanted = ("barrier.cluster", "ld.acquire", "st.release", "membar", "fence", "atom.global", "red.")
    out += [f"{code.name}: {start} in its time loop" for start in unwanted if count(start)]
    barriers, most = count("bar.sync", "barrier.sync", "bar.red"), 0 if code.name.startswith("fwd_") else 1
    return out + ([f"{code.name}: {barriers} block barriers in its time loop"] if barriers > most else [])


def test_clusters_exchange_by_counted_stores():
    files = [file for v in kernel_list.variants() if v.persistent and not v.grid_barrier for file in v.files]
    if not files or not all(os.path.exists(built_ptx(file)) for file in files):
        raise tap.Skip("the build folder has no PTX of a variant that exchanges inside a cluster")
    for file in files:
        codes = built_codes(file)
        assert codes
        for code in codes:
            assert cluster_faults(code) == [], cluster_faults(code)
    # Planted faults show that the check can fail.
    loop = machine_code.time_loop(code)
    for start, other in (("st.async", "st.shared"), ("mbarrier.arrive", "mbarrier.test"), ("mma.sync", "fma"),
                         ("cp.async", "barrier.cluster.arrive")):
        changed = [code.instructions[i] for i in loop.body if code.instructions[i].opcode.startswith(start)]
        opcodes = [instruction.opcode for instruction in changed]
        for instruction in changed:
            instruction.opcode = other
        assert changed and cluster_faults(code), start
        for instruction, opcode in zip(changed, opcodes):
            instruction.opcode = opcode
    assert cluster_faults(code) == []


def test_machine_code_of_clusters_has_no_fence():
    """profiles/sm_90: a fence costs 500 clocks and more, and PTX does not show what a release or an acquire becomes."""
    record = json.loads(examine.read(ROOT, "profiles", "sm_90", "machine-code.json"))
    kernels = [row for row in record["kernels"] if row["file"] in ("fwd_cluster", "bwd_cluster")]
    assert kernels
    for row in kernels:
        loop = row["loop"]["listed"]["opcodes"]
        if "HMMA" not in loop:
            raise tap.Skip("profiles/sm_90 counts these kernels in PTX: its compiler's disassembler was not there")
        barriers = 0 if row["file"].startswith("fwd_") else 1
        assert loop.get("BAR", 0) == barriers and not loop.get("MEMBAR") and not loop.get("LDL") and not loop.get("STL"), row


def planted(ptx):
    codes = {c.name: c for c in machine_code.parse_ptx(ptx)}
    assert faults_of(codes[GOOD], TOY) == [], faults_of(codes[GOOD], TOY)
    assert len(faults_of(codes[WEIGHTS], TOY)) == 1 and "2 loads of weights at every step" in faults_of(codes[WEIGHTS], TOY)[0]
    told = faults_of(codes[READ_ONLY], TOY)
    assert len(told) == 1 and "toy.cu:" in told[0] and "read-only" in told[0], told


def test_planted_faults_in_the_samples():
    planted(sample("sm_90.ptx"))
    planted(sample("sm_35.ptx"))


def test_planted_faults_with_the_installed_toolkit():
    nvcc = os.environ.get("NVCC", shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc"))
    if not nvcc:
        raise tap.Skip("no nvcc here: the samples have to do")
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "toy.ptx")
        toy = os.path.join(ROOT, "tests", "fixtures", "machine_code", "toy.cu")
        done = subprocess.run([nvcc, "-std=c++17", "-O3", "-lineinfo", "-I" + ROOT, "-arch=sm_90", "-ptx", toy, "-o",
                               target], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        planted(examine.read(target))
        # nvcc uses the read-only path by itself for a pointer that is const and __restrict__.
        unasked = os.path.join(folder, "unasked.cu")
        with open(unasked, "w", encoding="utf-8") as f:
            f.write('#include <kernels/dev_barrier.cuh>\n'
                    "__global__ void unasked(const float *__restrict__ in, float *__restrict__ out, unsigned *word, int steps)\n{\n"
                    "    for (int t = 0; t < steps; t++) {\n        out[t] = in[t];\n        __syncthreads();\n"
                    "        while (load_poll(word) < (unsigned)t) poll_pause();\n    }\n}\n")
        done = subprocess.run([nvcc, "-std=c++17", "-O3", "-lineinfo", "-I" + ROOT, "-arch=sm_90", "-ptx", unasked,
                               "-o", target], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        [code] = machine_code.parse_ptx(examine.read(target))
        assert any("unasked.cu:5" in place
                   for place in examine.read_only_faults(code)), (examine.read_only_faults(code), examine.read(target))


def test_loops_of_hopper():
    ptx = machine_code.parse_ptx(sample("sm_90.ptx"))
    sass = {c.name: c for c in machine_code.parse_sass(sample("sm_90.sass"), machine_code.ptx_functions(ptx))}
    for code in ptx:
        assert len(machine_code.loops_of(code)) == 3 and len(machine_code.loops_of(sass[code.name])) == 3
        listed, reads = examine.listed_loop(sass[code.name]), examine.reads_of(code, TOY)
        assert listed["loads"] == reads["loads"], (listed, reads)
        assert (listed["opcodes"]["FFMA"], listed["opcodes"]["LDG.128"],
                listed["opcodes"]["LDG.32"]) == (9, 3 if code.name == WEIGHTS else 1, 4), listed


def test_examiner_takes_another_compilers_listing():
    tree = Tree("sm_90")
    table = tree.accepted()
    assert "sm_90" in table and table.count(GOOD) == 2, table
    tree.edit("built/fwd_toy.ptxas", "0 bytes spill stores", "4 bytes spill stores")
    tree.refused(GOOD, "but spills: 4 bytes stored")
    # Only a K20 has limits on shared memory and shuffles.
    tree = Tree("sm_90")
    tree.edit("built/fwd_toy.ptxas", "used 1 barriers", "used 1 barriers, 60000 bytes smem")
    tree.edit("built/fwd_toy.cubin", "STS [", "SHFL.BFLY PT, [")
    tree.accepted()


def test_examiner_requires_tensor_cores():
    tree = Tree("sm_90")
    tree.edit("kernels/variants.def", "PERSISTENT(toy, 35, 11080, 1, 0,", "TENSOR(toy, 80, 11080, KIND_MMA, 1, 1u << PRECISION_BF16,")
    tree.edit("built/bwd_toy.cubin", "FFMA", "HMMA.16816.F32.BF16")
    tree.refused(GOOD, "kernels/fwd_toy.cu", "no HMMA in its time loop")
    tree.edit("built/fwd_toy.cubin", "FFMA", "HMMA.1688.F32.TF32")
    tree.accepted()
    tree.edit("built/fwd_toy.ptxas", "0 bytes spill stores", "4 bytes spill stores")
    tree.refused(GOOD, "but spills: 4 bytes stored")


def test_reads_of_an_mbarrier_are_polls():
    for opcode, polls in (("mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64", True),
                          ("mbarrier.arrive.release.cta.shared::cta.b64", False),
                          ("SYNCS.PHASECHK.TRANS64.TRYWAIT", True), ("SYNCS.ARRIVE.TRANS64", False)):
        assert machine_code.is_poll(machine_code.Instruction(opcode, "", False, ())) == polls, opcode


def test_graphs():
    """Loops in control flow that the samples do not have: two entries to a body's end, a loop of one instruction, an unreachable block, a
    jump table."""
    code = machine_code.parse_ptx(""".version 9.0
.visible .entry k(
.param .u64 k_param_0
)
{
 .reg .b32 %r<3>;
 mov.u32 %r1, 0;
$A:
 add.s32 %r1, %r1, 1;
 @%p1 bra $C;
$B:
 @%p2 bra $B;
 bra.uni $D;
$E:
 bra $E;
$C:
 $L: .branchtargets $A, $D;
 brx.idx %r2, $L;
$D:
 { // inline assembly
 .reg .pred p; @p bra $A;
 }
 ret;
}
""")[0]
    assert [i.opcode for i in code.instructions] == ["mov.u32", "add.s32", "bra", "bra", "bra.uni", "bra", "brx.idx",
                                                     "bra", "ret"], code.instructions
    loops = [(x.header, sorted(x.body)) for x in machine_code.loops_of(code)]
    assert loops == [(1, [1, 2, 3, 4, 6, 7]), (3, [3])], loops
    assert machine_code.time_loop(code) is None


STEPS = """.version 9.0
.visible .entry k(
 .param .align 8 .b8 k_param_0[64]
)
{
 mov.b64 %rd9, k_param_0;
 add.s64 %rd8, %rd9, 16;
 ld.param.v2.u64 {%rd1, %rd2}, [k_param_0];
 ld.param.u64 %rd3, [%rd8+8];
 cvta.to.global.u64 %rd4, %rd2;
$FIRST:
 ld.global.f32 %f1, [%rd4];
 bar.sync 0;
 add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1;
 add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1; add.s32 %r1, %r1, 1;
 @%p1 bra $FIRST;
$STEP:
 add.s64 %rd7, %rd7, 1;
$PASS:
 mad.lo.s64 %rd5, %rd7, 4, %rd1;
 ld.global.v4.f32 {%f2, %f3, %f4, %f5}, [%rd5+16];
 bar.sync 0;
 @%p2 bra $PASS;
 selp.b64 %rd6, %rd3, %rd4, %p3;
 ld.global.f32 %f6, [%rd6];
$SPIN:
 .loc 1 7 0, function_name $L__info_string0, inlined_at 1 9 0
 ld.acquire.gpu.u32 %r2, [%rd3];
 @%p4 bra $SPIN;
 @%p5 bra $STEP;
 ret;
}
 .file 1 "dev_barrier.cuh"
 .section .debug_str
 {
$L__info_string0:
 .b8 95,90,57,108,111,97,100,95,112,111,108,108,80,107,0
 }
"""


def test_which_loop_and_which_tensor():
    """The loop over the steps is the one with the spin; weights read in a loop with a __syncthreads, which is not streaming, are read at
    every step."""
    [code] = machine_code.parse_ptx(STEPS)
    assert [code.instructions[i].opcode
            for i in sorted(machine_code.time_loop(code).body)][0:2] == ["add.s64",
                                                                         "mad.lo.s64"], machine_code.time_loop(
                                                                             code).body
    reads = examine.reads_of(code, {0: "w_hh", 8: "x", 24: "words"})
    assert reads == {"loads": 3, "reads": {"w_hh": 1, "words": 1, "words or x": 1}, "weights_streamed": 0, "weights_fixed": 1}, reads
    reads = examine.reads_of(code, {8: "x", 24: "words"})  # an unknown argument might be weights
    assert reads["reads"] == {"unknown": 1, "words": 1, "words or x": 1} and reads["weights_fixed"] == 1, reads


def test_loads_before_streaming_loops():
    """A load before a streaming loop belongs to it if the loop follows; a load under a condition of its own does not."""
    ahead = STEPS.replace(""" selp.b64""", """ @%p6 bra $NONE;
 ld.global.f32 %f7, [%rd1];
 GUARD
$STREAM:
 ld.global.f32 %f8, [%rd1+4];
 @%p7 bra $STREAM;
$NONE:
 selp.b64""", 1).replace("v4.f32 {%f2, %f3, %f4, %f5}, [%rd5+16]", "f32 %f2, [%rd4]")
    for guard, streamed, fixed in (("add.s32 %r3, %r3, 1;", 2, 0), ("@%p8 bra $NONE;", 1, 1)):
        [code] = machine_code.parse_ptx(ahead.replace("GUARD", guard))
        reads = examine.reads_of(code, {0: "w_hh", 8: "x", 24: "words"})
        assert (reads["weights_streamed"], reads["weights_fixed"]) == (streamed, fixed), (guard, reads)


def test_joins_of_a_listing():
    """BSYNC jumps to the label of BSSY, BRK to that of PBK; the code after the last exit is padding."""
    lines = ["BSSY B0, `(.L_2) ;", "@P0 BRA `(.L_1) ;", "BSYNC B0 ;", ".L_1:", "NOP ;", ".L_2:",
             "@P1 BRK (*\"TARGET= .L_3 \"*);", "@P2 EXIT ;",
             ".L_3:", "EXIT ;", ".L_4:", "BRA `(.L_4);", "NOP;"]
    text = "\t.section\t.text._Z1kv,\"ax\",@progbits\n" + "".join(line + "\n" if line.startswith(".")
                                                                  else f"        /*0000*/   {line}\n" for line in lines)
    [code] = machine_code.parse_sass(text)
    assert len(code.instructions) == 7, code.instructions
    after = [code.successors(i) for i in range(7)]
    assert after == [[1], [3, 2], [4], [4], [6, 5], [6], []], after
    [code] = machine_code.parse_sass(text.replace(".L_2:\n", ""))  # a label that the disassembler omitted
    assert code.successors(2) == [3], code.successors(2)


tap.main(globals())
