"""Tests the litmus texts of this folder: the verdicts of the model checker on them, on their mutants and on programs
with known verdicts. It also tests the checker with parts of the model removed. test_sass.py checks whether the compiled
kernels have the instructions that the texts name.

    python3 tests/litmus/test_litmus.py --write    rewrites the table of known verdicts in README.md
"""
import glob
import itertools
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap  # noqa: E402
from machine_code_samples import ROOT, sample  # noqa: E402

import examine  # noqa: F401  this puts the tools' folders on the path
import exchanges
import machine_code
import ptx_model

README = os.path.join(HERE, "README.md")
EXCHANGES = ("cluster_exchange", "cluster_warps", "grid_barrier_raw", "grid_barrier_sm35", "grid_barrier_steps", "grid_barrier_war",
             "mma_cluster", "mma_steps", "mma_warp", "nan_rule", "self_validating", "word_cluster", "word_exchange")


def known():
    with open(os.path.join(HERE, "known.litmus"), encoding="utf-8") as f:
        return ptx_model.known_programs(f.read())


def texts():
    return [ptx_model.read_text(os.path.join(HERE, name + ".litmus")) for name in EXCHANGES]


def allowed(case, without=()):
    return ptx_model.check(case.program, case.program.forbid, without).allowed


# ---- known verdicts ----


def table():
    lines = ["| program | threads | variant | verdict |", "| --- | --- | --- | --- |"]
    places = {"near": "one block", "far": "different blocks", "cluster": "different blocks of a cluster"}
    seen = set()
    for case in known():
        title = f"**{case.family}**: {case.about}" if case.family not in seen else ""
        seen.add(case.family)
        lines.append(f"| {title} | {places[case.place]} | {case.name} | {'forbidden' if case.forbidden else 'allowed'} |")
    return "\n".join(lines) + "\n"


MARKS = "<!-- known: made by test_litmus.py --write -->\n", "<!-- end of known -->"


def test_known_verdicts():
    cases = known()
    wrong = [f"{c.family}, {c.name}: {'forbidden' if c.forbidden else 'allowed'} is known" for c in cases if allowed(c) == c.forbidden]
    assert not wrong, "\n".join(wrong)
    dead = [f"{c.family}, {c.name}" for c in cases if not ptx_model.check(c.program, []).allowed]
    assert not dead, f"no execution at all: {dead}"
    for family in ("MP", "SB", "LB", "IRIW", "CoRR"):
        verdicts = {c.forbidden for c in cases if c.family == family}
        assert verdicts == {True, False}, family


def test_the_table_in_the_readme_is_current():
    with open(README, encoding="utf-8") as f:
        text = f.read()
    assert text.split(MARKS[0])[1].split(MARKS[1])[0] == table(), \
        "README.md: the table is stale: python3 tests/litmus/test_litmus.py --write"


def test_every_part_of_the_model_changes_a_known_verdict():
    cases = known()
    for part in ptx_model.AXIOMS + ptx_model.DEFINITIONS:
        changed = [c for c in cases if allowed(c, [part]) == c.forbidden]
        assert changed, part
        if part in ptx_model.AXIOMS:  # an axiom can only forbid
            assert all(c.forbidden for c in changed), part


# ---- the search ----


def plainly_allowed(program, clause):
    """Returns whether the clause can hold. It tries every rf and every order of fences and writes and checks the axioms only at the end."""
    search = ptx_model.Search(ptx_model.Relations(program, frozenset()), clause)
    reads = [e.number for e in program.events if e.reads]
    pairs = [(a, b) for writes in search.r.writes_to.values() for a, b in itertools.combinations(writes, 2)]
    for choice in itertools.product(*([w for w in search.r.writes_to[program.events[r].location] if w != r] for r in reads)):
        base = search.start()
        for read, write in zip(reads, choice):
            search.assign(base, read, write)
        if search.thin_air(base):
            continue
        values = [search.value(base, w) for w in choice]
        if not all(v is not None and search.accepts(r, v) for r, v in zip(reads, values)):
            continue
        for turned in itertools.product((False, True), repeat=len(search.fence_pairs)):
            state = search.copy(base)
            for (a, b), turn in zip(search.fence_pairs, turned):
                search.add_edge(state, *((b, a) if turn else (a, b)))
            if any(state["after"][a] >> a & 1 for pair in search.fence_pairs for a in pair):
                continue
            needed = [(a, b) for a, b in pairs if search.r.strong[a] >> b & 1 or search.cause(state, a) >> b & 1
                      or search.cause(state, b) >> a & 1]
            for orders in itertools.product((False, True), repeat=len(needed)):
                follow = {w: 0 for writes in search.r.writes_to.values() for w in writes}
                for (a, b), turn in zip(needed, orders):
                    follow[b if turn else a] |= 1 << (a if turn else b)
                follow = search.closed(follow)
                first = {program.events[w].location: w for w in follow or () if program.events[w].thread is None}
                if follow and not any(mask >> first[program.events[w].location] & 1
                                      for w, mask in follow.items()) and search.judge(state, follow):
                    return True
    return False


COUNTER = """
thread a cta 0 cluster 0
    st.async.weak [x], 1, [m]
thread b cta 1 cluster 0
    mbarrier.arrive.expect_tx.release.cta [m]
    mbarrier.try_wait.acquire.cluster [m], %d
    ld.weak r, [x]
forbid: b.r == 0
"""


def test_the_search_finds_what_plain_enumeration_finds():
    for case in known():
        want = any(plainly_allowed(case.program, clause) for clause in case.program.forbid)
        assert allowed(case) == want, f"{case.family}, {case.name}: by plain enumeration {want}"
    for count, want in ((2, False), (1, True)):
        program = ptx_model.parse_program("counter", (COUNTER % count).splitlines()[1:])
        assert ptx_model.check(program, program.forbid).allowed == want == plainly_allowed(program, program.forbid[0])


# ---- our exchanges ----


def test_every_text_of_the_folder_is_checked():
    found = {os.path.basename(p)[:-len(".litmus")] for p in glob.glob(os.path.join(HERE, "*.litmus"))}
    assert found == {*EXCHANGES, "known"}, found ^ {*EXCHANGES, "known"}


def test_exchanges_forbid_the_wrong_outcome_and_reach_the_right_one():
    for text in texts():
        program = text.program()
        assert program.forbid and program.reach, text.name
        forbidden = program.forbid + (program.forbid_long if os.environ.get("PLSTM_LONG") else [])
        bad = ptx_model.check(program, forbidden)
        assert not bad.allowed, "\n".join([text.name, *bad.lines])
        assert ptx_model.check(program, program.reach).allowed, text.name


def test_every_mutant_breaks_the_outcome_that_it_names():
    for text in texts():
        assert [name for name, breaks, _ in text.mutants if breaks != "nothing"], text.name
        for name, breaks, changes in text.mutants:
            program = text.program(changes)
            broken = not ptx_model.check(program,
                                         program.reach).allowed if breaks == "reach" else ptx_model.check(
                                             program, program.forbid).allowed
            assert broken == (breaks != "nothing"), f"{text.name}, {name}: {'broken' if broken else 'not broken'}"


def test_faults_of_a_text_are_reported():
    start = ["thread a cta 0", "ld.weak r, [x]"]
    for lines, said in ((["ld.weak r, [x]"], "before the first thread"), (start + ["forbid: a.q == 1"], "does not exist"),
                        (start + ["forbid: [y] == 1"], "does not exist"), (start + ["forbid: a.r is 1"], "not a condition"),
                        (start + ["st.weak x, 1"], "not an address"), (start + ["jmp out"], "not an instruction"),
                        (start + ["st.relaxed [x], 1"], "no scope"),
                        (start + ["for t = 1 .. 2", "ld.weak s, [x]"], "no end"), (start + start, "two threads"),
                        (["thread a cta 0", "bar.sync 0", "bar.sync 0", "thread b cta 0", "bar.sync 0"], "do not all come"),
                        (start + ["st.weak [x], 1 +"], "not an expression")):
        try:
            program = ptx_model.parse_program("text", lines)
            ptx_model.check(program, program.forbid)
        except ptx_model.Malformed as fault:
            assert said in str(fault), (lines, fault)
        else:
            raise AssertionError(lines)
    text = ptx_model.Text("thread a cta 0\nld.weak r, [x]\nmutant m: drop @nowhere\n", "text")
    try:
        text.program(text.mutants[0][2])
    except ptx_model.Malformed as fault:
        assert "changes nothing" in str(fault)
    else:
        raise AssertionError("a mutant that changes nothing")


# ---- the texts and the code ----


def test_the_texts_match_the_kernel_sources():
    """The instructions that a text names for a kernel are in one of its blocks, in that order, followed by the first one again; every
    persistent kernel is named for each of its GPUs."""
    files = set()
    for name, kernels, gpu, items in exchanges.named(ROOT):
        program = ptx_model.read_text(os.path.join(HERE, name)).program()
        wanted = [exchanges.plain_opcode(item.opcodes[0]) for item in items]

        def stands(cta):
            """Searches a block's operations: those of its threads, concatenated from barrier to barrier."""
            stretches = {}
            for at, (thread, order) in enumerate(program.order.items()):
                passed = 0
                for e in order if program.threads[thread].cta == cta else ():
                    if not (e.barrier and not e.arrives and e.barrier[0] != "cluster"):  # one line is two halves of a barrier
                        stretches.setdefault((passed, at), []).append(exchanges.plain_opcode(e.text.split()[0]))
                    passed += bool(e.barrier and e.barrier[0] != "warp")
            said = iter([opcode for key in sorted(stretches) for opcode in stretches[key]])
            return all(any(w == s for s in said) for w in [*wanted, wanted[0]])

        assert any(stands(thread.cta) for thread in program.threads.values()), (name, wanted)
        files |= {(file, gpu) for file, _ in kernels}
    assert files == {(file, gpu) for gpu in ("sm_35", "sm_90")
                     for file in examine.own_files(ROOT, lambda v: v.persistent and (gpu == "sm_90" or v.min_sm <= 35))}, files


TOY = {"sm_90": "st.global; bar.sync; st.release.gpu; ld.acquire.gpu; bar.sync; ld.global.cg.f32; bar.sync",
       "sm_35": "st.global; bar.sync; membar.gl; st.volatile; ld.volatile in load_acquire; membar.gl; bar.sync; ld.global.cg.f32; bar.sync"}


def toy_faults(gpu, change=lambda lines: lines):
    """Returns the faults of the toy kernel's PTX after a change."""
    modules = re.split(r"^(?=\s*\.file)", sample(gpu + ".ptx"), maxsplit=1, flags=re.MULTILINE)
    kernel = re.split(r"^(?=\.visible \.entry)", modules[0], flags=re.MULTILINE)
    text = kernel[0] + "\n".join(change(kernel[1].split("\n"))) + modules[1]
    code = machine_code.parse_ptx(text)[0]
    return exchanges.faults_of(code, [exchanges.Item(part.strip()) for part in TOY[gpu].split(";")])


def changed(old, new, which=None):
    def change(lines):
        hits = [i for i, line in enumerate(lines) if old in line]
        assert hits, old
        for n in hits if which is None else [hits[which]]:
            lines[n] = lines[n].replace(old, new)
        return lines
    return change


def moved(old, behind):
    def change(lines):
        at = next(i for i, line in enumerate(lines) if old in line)
        line = lines.pop(at)
        target = max(i for i, other in enumerate(lines) if behind in other)
        return lines[:target + 1] + [line] + lines[target + 1:]
    return change


def test_code_that_differs_from_its_text_is_reported():
    assert not toy_faults("sm_90") and not toy_faults("sm_35")
    for gpu, change in (("sm_90", changed("st.release.gpu", "st.release.cta")), ("sm_90", changed("st.release.gpu", "st.relaxed.gpu")),
                        ("sm_90", changed("ld.acquire.gpu", "ld.relaxed.gpu")), ("sm_90", changed("ld.acquire.gpu", "ld.acquire.sys")),
                        ("sm_90", changed("bar.sync", "// bar.sync", 0)), ("sm_90", changed("bar.sync", "// bar.sync", 1)),
                        ("sm_90", changed("bar.sync", "// bar.sync", 2)), ("sm_90", changed("bar.sync", "@%p1 bar.sync", 1)),
                        ("sm_90", moved("st.release.gpu", "bar.sync")), ("sm_90", changed("st.global.f32", "st.relaxed.gpu.global.f32")),
                        ("sm_35", changed("membar.gl", "membar.cta")), ("sm_35", changed("membar.gl", "// membar.gl", 0)),
                        ("sm_35", changed("membar.gl", "// membar.gl", 1)), ("sm_35", changed("st.volatile", "st")),
                        ("sm_35", changed("bar.sync", "// bar.sync", 1)), ("sm_35", changed("bar.sync", "// bar.sync", 2))):
        assert toy_faults(gpu, change), (gpu, change.__closure__ and [c.cell_contents for c in change.__closure__])


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        with open(README, encoding="utf-8") as f:
            before, rest = f.read().split(MARKS[0])
        with open(README, "w", encoding="utf-8") as f:
            f.write(before + MARKS[0] + table() + MARKS[1] + rest.split(MARKS[1])[1])
    else:
        tap.main(globals())
