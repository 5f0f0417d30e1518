"""Checks that compiled kernels have the instructions that the litmus texts name (tests/litmus/README.md): in the time loop, with their
scopes and in the same order. A text has a line such as

    code fwd_persistent on sm_35: st.global in forward_cells; bar.sync; membar.gl; st.volatile; ...

NAME stands for kernels/NAME.cu and every other file that includes NAME.cuh; NAME<1 selects the kernels whose first template argument is
1. `on sm_35` means the code compiled for that GPU; the default is sm_90. Each item is the beginning of an opcode; `in F` means that it is
inlined from the function F, and `a or b` means either. The list is one iteration of the loop, and after its end it starts again. The
checks in every kernel of a file are:

    each item is in the time loop;
    the items follow each other within one iteration, wherever it begins;
    a barrier or fence between two accesses is on every path between them and is not predicated.
"""
import glob
import os
import re

import machine_code

SEMANTICS = {"weak", "relaxed", "acquire", "release", "acq_rel", "volatile"}
SEPARATORS = ("bar.", "barrier.", "membar.", "fence.")
CODE_LINE = re.compile(r"^code ([\w< ]+?)(?: on (\w+))?: (.*)$", re.MULTILINE)
WORDS = SEMANTICS | set("bar barrier warp sync arrive wait mbarrier try_wait expect_tx st ld async sc cta cluster gpu "
                        "sys fence membar gl".split())


def semantics(opcode):
    """Returns an opcode's memory semantics. The halves of a cluster's barrier release and acquire unless they are relaxed."""
    found = SEMANTICS & set(opcode.split("."))
    return found - {"acquire", "release"} if opcode.startswith("barrier.") else found


class Item:
    def __init__(self, text):
        self.text = text
        opcodes, _, self.function = text.partition(" in ")
        self.opcodes = tuple(opcodes.split(" or "))
        self.separates = self.opcodes[0].startswith(SEPARATORS)

    def matches(self, instruction):
        opcode = instruction.opcode
        if not any((opcode + ".").startswith(o + ".") and semantics(opcode) == semantics(o) for o in self.opcodes):
            return False
        if self.separates and instruction.predicated:
            return False
        return not self.function or any(p.function and p.function.split("<")[0] == self.function for p in instruction.chain)


def plain_opcode(opcode):
    """Returns an instruction of PTX or of a litmus text without state space, type and width. An access that names no semantics is weak, and
    so is the read of a copy into shared memory."""
    if opcode.startswith("cp.async"):
        return "ld.weak"
    words = [w for w in opcode.split(".") if w in WORDS]
    if words[0] in ("st", "ld") and not set(words) & SEMANTICS:
        words.append("weak")
    return ".".join(words)


def files_of(root, name):
    """Returns the files of kernels/ that NAME stands for, without .cu."""
    files = [os.path.basename(path)[:-3] for path in sorted(glob.glob(os.path.join(root, "kernels", "*.cu")))]

    def includes(file):
        with open(os.path.join(root, "kernels", file + ".cu"), encoding="utf-8") as f:
            return f'#include "{name}.cuh"' in f.read()
    return [file for file in files if file == name or includes(file)]


def named(root):
    """Returns [(name of the text, [(file, first template argument or "")], GPU, items)] of all litmus texts."""
    found = []
    for path in sorted(glob.glob(os.path.join(root, "tests", "litmus", "*.litmus"))):
        with open(path, encoding="utf-8") as f:
            for files, gpu, items in CODE_LINE.findall(f.read()):
                named_files = [(f, name.partition("<")[2]) for name in files.split() for f in files_of(root, name.partition("<")[0])]
                found.append((os.path.basename(path), named_files, gpu or "sm_90", [Item(part.strip()) for part in items.split(";")]))
    return found


def path_without(code, body, first, last, without):
    """Returns whether a path inside the loop leads from one of `first` to one of `last` past none of `without`."""
    todo, seen = [s for i in first for s in code.successors(i)], set()
    while todo:
        i = todo.pop()
        if i in seen or i not in body or i in without:
            continue
        if i in last:
            return True
        seen.add(i)
        todo += code.successors(i)
    return False


def turns(code, loop, places):
    """Returns how often the sequence of places, back to its first, must pass the loop's header, or None if no path follows it."""
    best = None
    for start in places[0]:
        cost = {start: 0}
        for following in [*places[1:], {start}]:
            reached, todo = {}, sorted((c, i) for i, c in cost.items())
            queue = [(c, s) for c, i in todo for s in code.successors(i)]
            while queue:
                queue.sort(reverse=True)
                c, i = queue.pop()
                if i not in loop.body:
                    continue
                c += i == loop.header
                if i in reached and reached[i] <= c:
                    continue
                reached[i] = c
                if c <= 1:
                    queue += [(c, s) for s in code.successors(i)]
            cost = {i: reached[i] for i in following if i in reached}
            if not cost:
                break
        if cost and (best is None or min(cost.values()) < best):
            best = min(cost.values())
        if best is not None and best <= 1:
            break
    return best


def faults_of(code, items):
    """Returns one sentence per fault of a kernel."""
    loop = machine_code.time_loop(code)
    if loop is None:
        return ["no time loop was found"]
    places = [{i for i in loop.body if item.matches(code.instructions[i])} for item in items]
    missing = [item.text for item, found in zip(items, places) if not found]
    if missing:
        return [f"the time loop has no {' and no '.join(missing)}"]
    said = []
    accesses = [n for n, item in enumerate(items) if not item.separates]
    for a, b in zip(accesses, [*accesses[1:], accesses[0] + len(items)]):
        between = list(range(a + 1, b))
        for k, n in enumerate(between):
            n %= len(items)
            if path_without(code, loop.body, places[a], places[b % len(items)] - places[n], places[n]):
                said.append(f"a path leads from {items[a].text} to {items[b % len(items)].text} past no {items[n].text}")
            following = between[k + 1] % len(items) if k + 1 < len(between) else None
            if following is not None and path_without(code, loop.body, places[a], places[following] - places[n], places[n]):
                said.append(f"a path leads from {items[a].text} to {items[following].text} past no {items[n].text}")
    if not said and turns(code, loop, places) != 1:
        said.append(f"{'; '.join(item.text for item in items)} do not follow each other within one step")
    return said


def faults(root, gpu, codes_of):
    """Returns one sentence per fault of the kernels that a litmus text names for this GPU. codes_of(file) is its parsed PTX, or None if it
    was not compiled."""
    said = []
    for text, files, which, items in named(root):
        for file, first in files if which == gpu else ():
            codes = codes_of(file)
            if codes is None:
                continue
            persistent = [c for c in codes if any(machine_code.is_poll(i) for i in c.instructions) and
                          (not first or re.search(rf"<{first}\b", c.name))]
            if not persistent:
                said.append(f"kernels/{file}.cu: {text} names this file, but none of its kernels waits for another block")
            for code in persistent:
                said += [f"kernels/{file}.cu, {code.name}: {sentence} ({text})" for sentence in faults_of(code, items)]
    return said
