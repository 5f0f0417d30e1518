"""What compilers made of the kernels: readers of ptxas's report, of PTX and of nvdisasm's listing, and the loops in the last two.

Nothing here compiles or decides; tools/examine/examine.py and the tests do. A kernel is named as its source names it, template arguments in
brackets: fwd_reg_kernel<40,10>.
"""
import os
import re

# ---- names ----


def plain_name(mangled):
    """The function's own name out of an Itanium-mangled one, with its template arguments where they are integers; functions of the
    device's own library, such as the slow path of a division, have names that are not mangled and stay as they are."""
    m = re.match(r"_Z(N?)K?", mangled)
    at, name = m.end() if m else 0, None
    while m and (found := re.compile(r"L?(\d+)").match(mangled, at)):
        at = found.end() + int(found.group(1))
        name = mangled[found.end():at]
        if not m.group(1):  # without N there is one name; with it the last counts
            break
    if name is None:
        return mangled
    values, argument = [], re.compile(r"L(?:[a-z]|(\d+))")  # of a type of the language, or of one with a name of so many letters
    inside = at + 1 + (mangled[at + 1:at + 2] == "J")  # of a pack
    while mangled[at:at + 1] == "I" and (m := argument.match(mangled, inside)):
        value = re.compile(r"(n?\d+)E").match(mangled, m.end() + int(m.group(1) or 0))
        if not value:
            break
        values.append(value.group(1).replace("n", "-"))
        inside = value.end()
    if values and mangled[inside:inside + 1] == "E":
        return f"{name}<{','.join(values)}>"
    template = re.compile(r"I(\w+?)E").match(mangled, at)
    return f"{name}<{template.group(1)}>" if template else name


# ---- ptxas -v ----

REPORTED = ("registers", "spill_stores", "spill_loads", "stack", "shared")


def parse_ptxas(text, arch):
    """{kernel: {column of REPORTED: number}} for one architecture, from what `ptxas -v` says. What it says of a function that was not
    inlined, behind each kernel that calls it, counts as that kernel's: it runs in the same threads."""
    kernels, current = {}, None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            current = None
            if m.group(2) in (arch, arch + "a"):
                current = kernels.setdefault(plain_name(m.group(1)), dict.fromkeys(REPORTED, 0))
        elif current is None:
            continue
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            for column, number in zip(("stack", "spill_stores", "spill_loads"), m.groups()):
                current[column] += int(number)
        elif m := re.search(r"Used (\d+) registers", line):
            current["registers"] = int(m.group(1))
            m = re.search(r"(\d+) bytes smem", line)
            current["shared"] = int(m.group(1)) if m else 0
    return kernels


# ---- instructions and where they come from ----


class Place:
    """A line of the source, in a function (as the source names it; None where the listing does not say)."""

    def __init__(self, file, line, function=None):
        self.file, self.line, self.function = file, line, function

    def __repr__(self):
        return f"{os.path.basename(self.file)}:{self.line}" + (f" in {self.function}" if self.function else "")


class Instruction:
    def __init__(self, opcode, operands, predicated, chain, targets=(), ends=False):
        self.opcode, self.operands, self.predicated = opcode, operands, predicated
        self.chain = chain  # Places: the line itself, then the line that it was inlined at, and so on out to the kernel's
        self.targets = list(targets)  # labels that it may jump to
        self.ends = ends  # never goes on to the next instruction

    def __repr__(self):
        return f"{self.opcode} {self.operands}"


class Code:
    """The instructions of one kernel or function, and the labels in front of them."""

    def __init__(self, mangled):
        self.mangled, self.name = mangled, plain_name(mangled)
        self.instructions, self.labels = [], {}

    def add_label(self, label):
        self.labels[label] = len(self.instructions)

    def successors(self, i):
        instruction = self.instructions[i]
        after = [self.labels[t] for t in instruction.targets if t in self.labels]
        if not instruction.ends or instruction.predicated:
            after.append(i + 1)
        return [s for s in after if s < len(self.instructions)]


# ---- PTX ----


def ptx_strings(text):
    """{label: text} of the names that .loc lines refer to."""
    return {label: bytes(map(int, re.findall(r"\d+", body.replace(".b8", "")))).split(b"\0")[0].decode()
            for label, body in re.findall(r"(\$L__info_string\d+):\s*\n((?:\s*\.b8 [^\n]*\n)+)", text)}


def parse_ptx(text):
    """[Code] of every kernel (.entry) in PTX compiled with -lineinfo; several modules may stand one behind the other."""
    return [code for module in re.split(r"^(?=\.version\b)", text, flags=re.MULTILINE) for code in parse_module(module)]


def parse_module(text):
    strings = {label: plain_name(name) for label, name in ptx_strings(text).items()}
    files = {int(n): name for n, name in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, re.MULTILINE)}
    codes, code, chain, places, depth, pending, branch_lists = [], None, (), {}, 0, "", {}

    def statement(words):
        m = re.match(r"(?:@(!?%?[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", words, re.DOTALL)
        if not m or words.startswith("."):
            if m := re.match(r"([\w$]+):\s*\.branchtargets\s+(.*)", words, re.DOTALL):
                branch_lists[m.group(1)] = re.findall(r"[\w$]+", m.group(2))
            return
        predicate, opcode, operands = m.groups()
        base = opcode.split(".")[0]
        targets = []
        if base == "bra":
            targets = [operands.strip()]
        elif base == "brx":
            targets = ["lists:" + operands.split(",")[-1].strip()]
        code.instructions.append(Instruction(opcode, " ".join(operands.split()), predicate is not None, chain, targets,
                                             base in ("bra", "brx", "ret", "exit", "trap")))

    for line in text.splitlines():
        line = line.split("//")[0].strip()
        if code is None:
            if m := re.match(r"(?:\.visible\s+|\.weak\s+)*\.entry\s+([\w$]+)", line):
                code, chain, places, depth, pending, branch_lists = Code(m.group(1)), (), {}, 0, "", {}
            continue
        if m := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:,\s*function_name\s+([\w$]+)(?:\+\d+)?,\s*inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?",
                         line):
            here = tuple(map(int, m.groups()[:3]))
            places[here] = (strings.get(m.group(4)), tuple(map(int, m.groups()[4:]))) if m.group(4) else (code.name, None)
            chain, seen = [], set()
            while here and here not in seen:
                seen.add(here)
                function, at = places.get(here, (None, None))
                chain.append(Place(files.get(here[0], "?"), here[1], function))
                here = at
            chain = tuple(chain)
            continue
        # Braces open the body, groups of inline assembly and calls; instructions end with a semicolon.
        for piece in re.split(r"([;{}])", line):
            if piece == "{" and not re.search(r"[,\[(]\s*$|\b(v2|v4|v8)\b|\.\w+\s*$", pending):
                depth, pending = depth + 1, ""
            elif piece == "}" and "{" not in pending:
                depth, pending = depth - 1, ""
                if depth == 0:
                    for instruction in code.instructions:
                        instruction.targets = [u for t in instruction.targets for u in (branch_lists.get(t[6:], []) if t.startswith("lists:") else [t])]
                    codes.append(code)
                    code = None
                    break
            elif piece == ";":
                if depth:
                    statement(pending.strip())
                pending = ""
            else:
                pending += piece
                while depth and (m := re.match(r"\s*([\w$]+):(?!\s*\.|:)\s*", pending)):
                    code.add_label(m.group(1))
                    pending = pending[m.end():]
        if pending:
            pending += " "
    return codes


# ---- nvdisasm -c -gi ----

ENDS = {"EXIT", "RET", "BRA", "JMP", "BRX", "JMX", "BRK", "CONT", "BSYNC"}


def parse_sass(text, functions=None):
    """[Code] of every kernel and function in a listing of `nvdisasm -c -gi`. functions, {(file, line): name}, names the lines: the
    listing does not (ptx_functions does)."""
    functions = functions or {}
    codes, code, chain, fresh, barriers = [], None, (), False, {}
    for line in text.splitlines():
        if m := re.match(r"\s*\.section\s+\.text\.([^,\s]+)", line):
            code, chain, barriers = Code(m.group(1).strip('"')), (), {}
            codes.append(code)
        elif code is None:
            continue
        elif m := re.match(r'\s*//## File "([^"]*)", line (\d+)(?: inlined at "([^"]*)", line (\d+))?', line):
            file, number = m.group(1), int(m.group(2))
            place = Place(file, number, functions.get((os.path.basename(file), number)))
            chain = (*chain, place) if fresh else (place,)
            fresh = m.group(3) is not None
        elif m := re.match(r"\s*([.$\w]+):\s*$", line):
            code.add_label(m.group(1))
        elif m := re.match(r"\s*(?:/\*[0-9a-f]+\*/)?\s*\{?\s*(@!?\w+\s+)?([A-Z][\w.]*)\s*([^;]*);(.*)", line):
            predicate, opcode, operands, remark = m.groups()
            base = opcode.split(".")[0]
            labels = re.findall(r"`\(([^)]+)\)", operands)
            target = re.search(r"TARGET=\s*([^ \"]+)", remark + operands)
            targets, ends = [], base in ENDS
            if base in ("BRA", "JMP"):
                targets = labels
            elif base in ("BRX", "JMX"):
                targets = re.findall(r"(\.L_[\w]+)", remark + operands)
            elif base == "BSSY":
                barriers[operands.split(",")[0].strip()] = labels
            elif base == "BSYNC":  # goes where the latest BSSY of its barrier, in the order of the listing, said
                targets = barriers.get(operands.strip(), [])
                ends = bool(targets)
            elif target:  # sm_35: a join at SSY's label, or BRK at PBK's
                targets, ends = [target.group(1)], True
            code.instructions.append(Instruction(opcode, operands.strip(), predicate is not None, chain, targets, ends))
    for code in codes:  # nothing but padding follows the jump to itself behind the last exit
        for i, instruction in enumerate(code.instructions):
            # nvdisasm 11.8 leaves out the label of a BSSY here and there; threads that meet at a BSYNC go on behind it
            if instruction.opcode == "BSYNC" and not any(t in code.labels for t in instruction.targets):
                instruction.targets, instruction.ends = [], False
            if instruction.opcode == "BRA" and not instruction.predicated and [code.labels.get(t) for t in instruction.targets] == [i]:
                del code.instructions[i:]
                break
    return codes


def ptx_functions(codes):
    """{(file, line): function} for parse_sass, from the PTX that the listing was made of: of what was inlined, without template
    arguments, since all instances of a function share its lines."""
    return {(os.path.basename(place.file), place.line): place.function.split("<")[0] for code in codes for instruction in code.instructions
            for place in instruction.chain[:-1] if place.function}


# ---- what PTX reads ----


def argument_origins(code):
    """{instruction: {(argument, byte)}} for every load from device memory in a kernel's PTX: the pointers among the kernel's arguments that
    its address may be made of. Follows moves, sums and choices, but no products and shifts: those make offsets, not pointers. An
    empty set: the address comes from elsewhere, such as memory."""
    writers = {}
    for instruction in code.instructions:
        if instruction.opcode.split(".")[0] not in ("st", "red", "bra", "brx", "bar", "barrier", "cp", "ret", "exit", "membar", "fence"):
            first = instruction.operands.split(",")[0] if not instruction.operands.startswith("{") else instruction.operands.split("}")[0]
            for n, register in enumerate(re.findall(r"%\w+", first)):
                writers.setdefault(register, []).append((instruction, n))

    def sources(instruction):
        base = instruction.opcode.split(".")[0]
        registers = [re.findall(r"%\w+", operand) for operand in instruction.operands.split(",")[1:]]
        if base in ("mov", "cvta", "add", "sub"):
            return sum(registers, [])
        if base == "selp":
            return sum(registers[:2], [])
        return registers[-1] if base == "mad" else []

    def argument_at(base):
        """(argument, byte) of an address within the kernel's arguments: their own name, or a register that was set to it."""
        byte = 0
        for _ in range(8):
            m = re.match(r"\s*([%\w]+)(?:\+(\d+))?\s*$", base)
            if not m:
                return None
            byte += int(m.group(2) or 0)
            if named := re.search(r"_param_(\d+)$", m.group(1)):
                return int(named.group(1)), byte
            made = writers.get(m.group(1), [])
            if len(made) != 1 or made[0][0].opcode.split(".")[0] not in ("mov", "add", "cvta"):
                return None
            operands = [o.strip() for o in made[0][0].operands.split(",")][1:]
            base = operands[0] + ("+" + operands[1] if len(operands) > 1 else "")
        return None

    def follow(register):
        found, seen, todo = set(), set(), [register]
        while todo:
            register = todo.pop()
            if register in seen:
                continue
            seen.add(register)
            for instruction, n in writers.get(register, []):
                if instruction.opcode.startswith("ld.param"):
                    at = argument_at(re.search(r"\[([^\]]*)\]", instruction.operands).group(1))
                    size = int(re.search(r"(\d+)$", instruction.opcode).group(1)) // 8
                    if at:
                        found.add((at[0], at[1] + n * size))
                else:
                    todo += sources(instruction)
        return found

    origins = {}
    for i, instruction in enumerate(code.instructions):
        if is_global_load(instruction):
            address = re.findall(r"\[([^\]]*)\]", instruction.operands)[-1]
            origins[i] = set().union(*map(follow, re.findall(r"%\w+", address)))
    return origins


# ---- what an instruction is ----


def width(opcode):
    """Bits per thread that a load or store moves."""
    m = re.search(r"\.(128|64|U16|S16|16|U8|S8)\b", opcode)
    return int(m.group(1).lstrip("US")) if m else 32


CLASSES = {"FFMA": "FFMA", "FFMA32I": "FFMA", "HMMA": "HMMA", "BAR": "BAR", "MEMBAR": "MEMBAR", "SHFL": "SHFL", "STS": "STS", "STG": "STG",
           "ST": "STG", "ATOM": "ATOM", "ATOMG": "ATOM", "RED": "ATOM", "ATOMS": "ATOMS", "LDL": "LDL", "STL": "STL", "MUFU": "MUFU", "MOVM": "MOVM", "SYNCS": "SYNCS", "STAS": "STAS",
           "mma": "mma.sync"}  # the last of PTX, which stands in where nothing lists the machine's


def opcode_class(opcode):
    """The column that an instruction of the machine counts in, or None. sm_35 reads global memory with LD (generic addresses) and, where it
    is read-only, LDG: both are LDG here."""
    base = opcode.split(".")[0]
    if base in ("LDS", "LDG", "LDGSTS"):
        return f"{base}.{width(opcode)}"
    if base == "LD":
        return f"LDG.{width(opcode)}"
    return CLASSES.get(base)


def opcode_counts(instructions):
    """{class: how many}, classes in alphabetical order, and all of them together; sm_35's joins and padding are no work."""
    counts = {}
    for instruction in instructions:
        if found := opcode_class(instruction.opcode):
            counts[found] = counts.get(found, 0) + 1
    total = sum(1 for i in instructions if i.opcode.split(".")[0] != "NOP")
    return {"instructions": total, **dict(sorted(counts.items()))}


def is_global_load(instruction):
    """Whether it reads device memory, copies into shared memory among them; atomics are not loads."""
    parts = instruction.opcode.split(".")
    if parts[0] in ("LDG", "LD", "LDGSTS", "UBLKCP", "UTMALDG"):
        return True
    if parts[0] == "ld":
        return not {"param", "shared", "local", "const"} & set(re.split(r"[.:]", instruction.opcode))
    return parts[0] == "cp" and "async" in parts and "global" in parts


def is_read_only_load(instruction):
    """Whether it goes through the read-only path, which does not see what the same launch wrote."""
    parts = instruction.opcode.split(".")
    return (parts[0] == "ld" and "nc" in parts) or (parts[0] == "LDG" and "CONSTANT" in parts)


def is_local(instruction):
    """Whether it reads or writes a thread's own memory: a spill, or an array that got no registers."""
    parts = instruction.opcode.split(".")
    return parts[0] in ("LDL", "STL") or (parts[0] in ("ld", "st") and "local" in parts)


# ---- loops ----


class Loop:
    """Numbers of the instructions between a header and the jumps back to it."""

    def __init__(self, header, body):
        self.header, self.body = header, body


def blocks_of(code):
    """[(first, end)] of the basic blocks, and the blocks that each leads to."""
    instructions = code.instructions
    starts = {0, *code.labels.values()}
    for i, instruction in enumerate(instructions):
        if instruction.targets or instruction.ends:
            starts.add(i + 1)
    starts = sorted(s for s in starts if s < len(instructions))
    blocks = list(zip(starts, [*starts[1:], len(instructions)]))
    number = {first: n for n, (first, _) in enumerate(blocks)}
    return blocks, [[number[s] for s in code.successors(end - 1)] for _, end in blocks]


def loops_of(code):
    """Every natural loop, the outer ones first; loops with the same header are one."""
    if not code.instructions:
        return []
    blocks, after = blocks_of(code)
    order, seen, stack = [], {0}, [(0, iter(after[0]))]
    while stack:
        node, left = stack[-1]
        following = next((s for s in left if s not in seen), None)
        if following is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(after[following])))
    order.reverse()
    rank = {node: n for n, node in enumerate(order)}
    before = {node: [] for node in order}
    for node in order:
        for s in after[node]:
            before[s].append(node)
    dominator, changed = {0: 0}, True
    while changed:
        changed = False
        for node in order[1:]:
            new = None
            for p in (p for p in before[node] if p in dominator):
                a, b = p, new
                while b is not None and a != b:
                    if rank[a] > rank[b]:
                        a = dominator[a]
                    else:
                        b = dominator[b]
                new = a
            if dominator.get(node) != new:
                dominator[node], changed = new, True

    def dominates(a, b):
        while rank[b] > rank[a]:
            b = dominator[b]
        return a == b

    bodies = {}
    for node in order:
        for header in after[node]:
            if dominates(header, node):
                body, todo = bodies.setdefault(header, {header}), [node]
                while todo:
                    n = todo.pop()
                    if n not in body:
                        body.add(n)
                        todo += before[n]
    loops = [Loop(blocks[header][0], {i for n in body for i in range(*blocks[n])}) for header, body in bodies.items()]
    return sorted(loops, key=lambda loop: (-len(loop.body), loop.header))


POLLS = ("load_poll", "load_acquire", "load_watch")


def is_poll(instruction):
    """Whether it is one look of a spin: at device memory, through dev_barrier.cuh's two wrappers, or at an mbarrier."""
    parts = instruction.opcode.split(".")
    if parts[0] in ("mbarrier", "SYNCS"):
        return bool({"try_wait", "TRYWAIT"} & set(parts))
    return is_global_load(instruction) and any(p.function and p.function.split("<")[0] in POLLS for p in instruction.chain[:2])


def time_loop(code):
    """The loop over the steps of a persistent kernel: the outermost that contains a __syncthreads and a smaller loop that polls; None
    where there is none."""
    loops = loops_of(code)

    def has(body, what):
        return any(what(code.instructions[i]) for i in body)

    def is_barrier(instruction):
        return instruction.opcode.split(".")[0] in ("BAR", "bar", "barrier")

    spins = [loop for loop in loops if has(loop.body, is_poll)]
    for loop in loops:
        if has(loop.body, is_barrier) and any(spin.body < loop.body for spin in spins):
            return loop
    return None
