"""Tests tools/examine/examine.py and tools/examine/machine_code.py on the machine code that CUDA 11.8 made from
fixtures/machine_code/toy.cu for sm_35 and, if that toolkit is installed, on what it makes now."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402
from machine_code_samples import GOOD, READ_ONLY, ROOT, WEIGHTS, Tree, sample  # noqa: E402

import examine
import machine_code


def test_names():
    for mangled, name in (("_Z9my_kernelPf", "my_kernel"), ("_Z7fwd_regILi16ELi8ELin4EEv11ForwardArgs", "fwd_reg<16,8,-4>"),
                          ("_Z3toyILi2EL8ToyFault1ELb0EEv7ToyArgs", "toy<2,1,0>"),
                          ("_Z7fwd_regIJLi16ELin4EEEv11ForwardArgs", "fwd_reg<16,-4>"),
                          ("_ZL5quietPKf", "quiet"), ("_Z3ldgI6float4ET_PKS1_", "ldg<6float4>"),
                          ("_ZN39_INTERNAL_52094ffc_4_s_cu_edbf32dd_384611load_weightEPK6float4i", "load_weight"),
                          ("_ZZ3fwdILi2ELb1EEiiENKUliPiE_clEiS0_", "fwd<2,1>::lambda"),
                          ("_ZZ3fwdILi2ELb1EEiiENKUliE0_clEi", "fwd<2,1>::lambda2"),
                          ("_ZZN5bench1S1mEiENKUlPfS0_E_clES1_S0_", "m::lambda"),
                          ("_ZZZ3fwdILi2ELb1EEiiENKUliPiE_clEiS0_ENKUlT_E_clIiEEDaS2_", "fwd<2,1>::lambda"),
                          ("$_Z3toyv$__cuda_sm3x_div_rn_noftz_f32_slowpath",
                           "$_Z3toyv$__cuda_sm3x_div_rn_noftz_f32_slowpath"), ("plain", "plain")):
        assert machine_code.plain_name(mangled) == name, (mangled, machine_code.plain_name(mangled))


def test_reports():
    found = machine_code.parse_ptxas(sample("sm_35.ptxas"), "sm_35")
    assert found[GOOD] == {"registers": 36, "spill_stores": 0, "spill_loads": 0, "stack": 0, "shared": 0}, found
    assert set(found) == {GOOD, WEIGHTS, READ_ONLY} and not machine_code.parse_ptxas(sample("sm_35.ptxas"), "sm_90")


def codes():
    ptx = machine_code.parse_ptx(sample("sm_35.ptx"))
    sass = machine_code.parse_sass(sample("sm_35.sass"), machine_code.ptx_functions(ptx))
    return {c.name: c for c in ptx}, {c.name: c for c in sass}


def test_machine_code_of_a_kepler():
    _, sass = codes()
    assert set(sass) == {GOOD, WEIGHTS, READ_ONLY}
    for name, loads in ((GOOD, 1), (WEIGHTS, 3), (READ_ONLY, 1)):
        code = sass[name]
        loop = machine_code.time_loop(code)
        counts = machine_code.opcode_counts([code.instructions[i] for i in sorted(loop.body)])
        # A step of the source has three dot products of 4, two with weights in registers and one with streamed weights. The
        # first term of each is a multiplication, which leaves 9 FFMA. Four LDG.32 read x, h and, at two places, the
        # polled word.
        assert (counts["LDG.128"], counts["LDG.32"], counts["LDS.128"], counts["FFMA"]) == (loads, 4, 3, 9), (name, counts)
        assert counts["STS"] == 1 and counts["BAR"] == 3 and "SHFL" not in counts and "LDL" not in counts, counts
        whole = machine_code.opcode_counts(code.instructions)
        assert whole["LDG.128"] == (3 if name != WEIGHTS else loads), whole


def test_spins_and_time_loops():
    ptx, sass = codes()
    for code in (*ptx.values(), *sass.values()):
        outer, loops = machine_code.time_loop(code), machine_code.loops_of(code)
        # The loops are the steps, the streamed weights and the spin; the first contains the others.
        assert len(loops) == 3 and loops[0].header == outer.header and all(x.body < outer.body for x in loops[1:]), loops
        spins = [x for x in loops[1:] if any(machine_code.is_poll(code.instructions[i]) for i in x.body)]
        assert len(spins) == 1
        places = [p for i in spins[0].body for p in code.instructions[i].chain]
        assert any(p.function == "toy_wait" and p.file == "toy.cu" for p in places), places


def test_what_each_load_reads():
    ptx, _ = codes()
    names = {0: "w_packed", 8: "x", 16: "h", 24: "words"}
    origins = machine_code.argument_origins(ptx[GOOD])
    assert len(origins) == 2 + 1 + 1 + 1 + 2 and all(len(o) == 1 for o in origins.values()), origins
    reads = examine.reads_of(ptx[GOOD], names)
    assert reads == {"loads": 5, "reads": {"h": 1, "w_packed": 1, "words": 2, "x": 1}, "weights_streamed": 1, "weights_fixed": 0}, reads
    reads = examine.reads_of(ptx[WEIGHTS], names)
    assert reads["weights_fixed"] == 2 and reads["weights_streamed"] == 1 and reads["reads"]["w_packed"] == 3, reads


def test_bytes_of_arguments():
    tree = Tree("sm_35")
    assert examine.argument_names(tree.folder.name, "ToyArgs") == {0: "w_packed", 8: "x", 16: "h", 24: "words"}
    tree.write("kernels/deep.cuh", "struct Inner {\n    float f; /* of float *hidden; */\n    const float *a, *const b;\n};\n"
               "struct Deep {\n    char c;\n    Inner in;\n    unsigned **last;\n};\n")
    assert examine.argument_names(tree.folder.name, "Deep") == {16: "in.a", 24: "in.b", 32: "last"}
    assert examine.argument_names(tree.folder.name, "Unknown") == {}


def test_a_good_kernel_passes():
    tree = Tree("sm_35")
    table = tree.accepted()
    assert table.count(GOOD) == 2 and "11.8.89" in table and "0+1" in table, table
    first = tree.read("out/machine-code.json")
    record = json.loads(first)
    row = record["kernels"][0]
    assert (row["file"], row["kernel"], row["registers"], row["persistent"]) == ("bwd_toy", GOOD, 36, True), row
    assert row["loop"]["ptx"]["loads"] == row["loop"]["listed"]["loads"] == 5, row
    tree.accepted()
    assert tree.read("out/machine-code.json") == first and record["faults"] == []
    assert all(c not in first for c in (tree.folder.name, os.sep + "tmp")), first
    tree.edit("kernels/toy.cuh", "ToyArgs", "ToyArgs ")
    tree.accepted()
    assert json.loads(tree.read("out/machine-code.json"))["sources"] != record["sources"]


def test_faults_are_reported():
    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.ptxas", "0 bytes spill stores, 0 bytes spill loads", "8 bytes spill stores, 12 bytes spill loads")
    tree.refused(GOOD, "fwd_toy.cu", "keeps weights on the chip but spills", "8 bytes stored, 12 loaded")
    assert "8/12" in tree.examine()[1] and "spills" in json.loads(tree.read("out/machine-code.json"))["faults"][0]
    tree.edit("kernels/tiles.h", "T(2,", "T(0,")  # without resident weights a spill is only slow
    tree.accepted()

    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.ptxas", "360 bytes cmem[0]", "49156 bytes smem, 360 bytes cmem[0]")
    tree.refused(GOOD, "49156 bytes of static shared memory", "49152 per block")
    tree.edit("built/fwd_toy.ptxas", "49156 bytes smem", "49152 bytes smem")
    tree.accepted()

    Tree("sm_35", faults=(0, 1)).refused(WEIGHTS, "fwd_toy.cu", "loads weights at every step outside its streaming loops: 2 loads")
    Tree("sm_35", faults=(2,)).refused(READ_ONLY, "read-only path at toy.cu:")

    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.cubin", "STS [", "STL [")
    tree.refused(GOOD, "local memory in its time loop: 0 loads, 1 stores")

    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.cubin", "STS [", "SHFL.BFLY PT, [")
    tree.refused(GOOD, "uses a warp shuffle")

    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.ptx", "%rd12, 512;", "%rd12, -4294967296;")
    tree.refused(GOOD, "64-bit immediate that does not fit 32 bits", "add.s64 %rd13, %rd12, -4294967296")
    tree.edit("built/fwd_toy.ptx", "add.s64 \t%rd13, %rd12, -4294967296;", "and.b64 \t%rd13, %rd12, 4294967280;")
    tree.accepted()

    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.cubin", "BAR.SYNC", "NOP")
    tree.refused(GOOD, "no loop over the steps was found")


def test_kernels_are_compared_with_the_litmus_texts():
    def tree():
        made = Tree("sm_35")
        made.write("tests/litmus/toy.litmus",
                   "code fwd_toy bwd_toy on sm_35: st.global; bar.sync; membar.gl; st.volatile; ld.volatile in "
                   "load_acquire; membar.gl; "
                   "bar.sync; ld.global.cg.f32; bar.sync\ncode fwd_toy: st.release.gpu\n")
        return made

    status, _, said = tree().examine()
    assert status == 0 and not said, said
    without = tree()
    without.edit("built/fwd_toy.ptx", "membar.gl", "membar.cta")
    without.refused(f"kernels/fwd_toy.cu, {GOOD}: the time loop has no membar.gl", "toy.litmus")


def test_missing_files_are_reported():
    tree = Tree("sm_35")
    os.remove(tree.path("kernels/bwd_toy.cu"))
    os.remove(tree.path("built/bwd_toy.ptx"))
    tree.refused("kernels/bwd_toy.cu is missing")
    tree = Tree("sm_35")
    os.remove(tree.path("built/fwd_toy.ptx"))
    tree.refused("kernels/fwd_toy.cu was not compiled", "fwd_toy.ptx")
    tree = Tree("sm_35")
    tree.write("built/fwd_toy.cubin", "")
    tree.refused("kernels/fwd_toy.cu: the disassembly has no " + GOOD)
    tree = Tree("sm_35")
    tree.edit("built/fwd_toy.ptxas", "'sm_35'", "'sm_90'")
    tree.refused("kernels/fwd_toy.cu: the compiler's report and its PTX do not name the same kernels for sm_35")
    tree = Tree("sm_35")
    tree.write("bin/nvdisasm", "#!/bin/sh\necho 'nvdisasm fatal : no' >&2\nexit 255\n")
    status, _, said = tree.examine()
    assert status == 1 and len(said) == 2 and all("nvdisasm cannot read" in s and "fatal : no" in s for s in said), said


TILES = """#define FWD_REG_TILES(T) T(8, 8, 4, 256, 255) \\
    T(32, 8, 10, 256, 255)
#define BWD_REG_TILES(T) T(2, 0, 4, 256, 255) T(8, 0, 10, 256, 255)
#define FWD_SMEM_TILES(T) FWD_REG_TILES(T)
"""
ROWS = [{"file": file, "kernel": kernel, "registers": 250, "shared": 0} for file, kernel in
        (("fwd_reg", "fwd_reg<8,8,4,256>"), ("fwd_reg", "fwd_reg<32,8,10,256>"), ("bwd_reg", "bwd_reg<8,10,256>"))]


def planned(plan, **changes):
    row = {"device": "K20", "preset": "small", "H": 200, "B": 20, "T": 20, "variant": "reg", "pass": "forward", "replicas": 1, "blocks": 13,
           "threads": 256, "registers": 255, "shared_bytes": 32144, "resident_registers": 1.0, "resident_shared": 0.0, "streamed_bytes": 0,
           "plan": plan, "model_us_per_step": 7.0}
    return json.dumps(row | changes)


def plans(*lines, status=0):
    tree = Tree("sm_35")
    tree.write("kernels/tiles.h", TILES)
    tree.write("kernels/fwd_smem.cu", "PERSISTENT_PASS_OF(fwd_smem, fwd_reg, LstmForward)\n")
    tree.edit("kernels/variants.def", "PERSISTENT(toy,",
              'STEPWISE(cublas, 35, 11080, "steps")\nPERSISTENT(reg, 35, 11080, 1, 1, "r", FWD_REG_TILES, '
              'BWD_REG_TILES)\n'
              'PERSISTENT(smem, 35, 11080, 1, 1, "s", FWD_SMEM_TILES, BWD_SMEM_TILES)\nPERSISTENT(toy,')
    tree.write("bin/plstm", "#!/bin/sh\n[ \"$*\" = 'plan --device K20 --preset all --json --quiet' ] || exit 2\ncat << "
               "END\n" + "\n".join(lines) +
               f"\nEND\nexit {status}\n")
    os.chmod(tree.path("bin/plstm"), 0o755)
    found = examine.plans_of(tree.folder.name, tree.path("bin/plstm"), "K20", ROWS)
    return found, examine.plan_violations("sm_35", found)


def test_plans_name_the_kernel_they_run():
    found, wrong = plans(planned("backward=0,tile=1,replicas=1"), planned("backward=1,tile=1", **{"pass": "backward"}),
                         planned("backward=0,tile=1", variant="smem"), planned("", variant="cublas"))
    assert [p["kernel"] for p in found] == ["fwd_reg<32,8,10,256>", "bwd_reg<8,10,256>",
                                            "fwd_reg<32,8,10,256>"] and not wrong, (found, wrong)
    assert "model_us_per_step" not in found[0] and found[0]["compiled_registers"] == 250


def test_plans_with_faults():
    for line, words in ((planned("backward=0,tile=1", shared_bytes=49168), ("reg forward for H = 200 on a K20", "49168", "49152")),
                        (planned("backward=0,tile=1", streamed_bytes=640.0), ("streams 640 bytes",)),
                        (planned("backward=1,tile=0", **{"pass": "backward"}), ("backward", "for which no kernel was compiled")),
                        (planned("", refused="no room"), ("is refused: no room",))):
        _, wrong = plans(line)
        assert len(wrong) == 1 and all(w in wrong[0] for w in words), (wrong, words)
    for line in (planned("backward=0,tile=1", shared_bytes=49152), planned("backward=0,tile=1", preset="medium", streamed_bytes=640.0),
                 planned("", refused="no room", preset="large"), planned("", refused="no room", variant="smem")):
        assert plans(line)[1] == [], line
    try:
        plans(status=1)
    except examine.Failure as fault:
        assert "plstm plan failed" in str(fault)
    else:
        raise AssertionError("a plan that failed was not told")


def test_variants_of_this_tree():
    known = examine.variants(ROOT)
    assert known["cublas"] is None and known["l2"] is True and known["smem"] is True and known["reg"] is True, known
    wanted = set(examine.wanted_files(ROOT, "sm_35"))
    assert examine.own_files(ROOT,
                             lambda v: v.min_sm
                             <= 35) <= wanted and not examine.own_files(ROOT, lambda v: v.min_sm > 35) & wanted, wanted
    assert {"fwd_reg", "bwd_reg", "fwd_cublas", "sgd"} <= wanted


def test_the_profile_is_of_these_sources():
    for file in ("profiles/k20/machine-code.json", "profiles/sm_90/machine-code.json"):
        path = os.path.join(ROOT, file)
        if not os.path.exists(path):
            raise tap.Skip(f"{file} is not there")
        with open(path, encoding="utf-8") as f:
            record = json.load(f)
        assert record["kernels"] and os.path.getsize(path) < 100 << 10
        if record["sources"] != examine.sources_hash(ROOT):
            raise tap.Skip(f"{file} was made before the kernels' latest change; make k20 and make sass write it anew")


def test_with_the_installed_toolkit():
    """Runs the whole path: the Makefile's rule, CUDA 11.8 and its disassembler."""
    place = os.environ.get("K20_CUDA", "/usr" if os.path.exists("/usr/lib/nvidia-cuda-toolkit/bin/nvcc") else "/usr/local/cuda-11.8")
    if not place or not os.path.exists(os.path.join(place, "bin", "nvcc")):
        raise tap.Skip("CUDA 11.8 is not here; tools/deps.sh k20 installs it")
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "sm_35", "tests", "fixtures", "machine_code", "toy")
        clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        done = subprocess.run(["make", "-s", "-C", ROOT, "BUILD=" + folder, target + ".o"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              timeout=300, env=clean)
        assert done.returncode == 0, done.stdout
        with open(target + ".ptxas", encoding="utf-8") as f:
            reported = machine_code.parse_ptxas(f.read(), "sm_35")
        with open(target + ".ptx", encoding="utf-8") as f:
            ptx = machine_code.parse_ptx(f.read())
        listed = examine.listing(os.path.join(place, "bin", "nvdisasm"), target + ".cubin")
    sass = {c.name: c for c in machine_code.parse_sass(listed, machine_code.ptx_functions(ptx))}
    names = {0: "w_packed", 8: "x", 16: "h", 24: "words"}
    fixed = {c.name: examine.reads_of(c, names)["weights_fixed"] for c in ptx}
    assert fixed == {"toy<2,0>": 0, "toy<2,1>": 2, "toy<2,2>": 0, "toy<2,3>": 0} and set(reported) == set(fixed) == set(sass), fixed
    assert [bool(examine.read_only_faults(c)) for c in ptx] == [c.name == READ_ONLY for c in ptx]
    shuffles = {name: machine_code.opcode_counts(c.instructions).get("SHFL", 0) for name, c in sass.items()}
    assert shuffles == {"toy<2,0>": 0, "toy<2,1>": 0, "toy<2,2>": 0, "toy<2,3>": 1}, shuffles
    assert all(examine.listed_loop(c)["loads"] == examine.reads_of(p, names)["loads"] for p in ptx for c in [sass[p.name]])


tap.main(globals())
