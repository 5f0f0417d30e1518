"""Reads compiled kernels: parsers of ptxas's report, of PTX and of nvdisasm's listing, and the loops in the last two.

Nothing here compiles code or judges it; tools/examine/examine.py and the tests do. A kernel has the name of its source, with template
arguments in angle brackets: fwd_reg_kernel<40,10>.
"""
import os
import re

# ---- names ----


def plain_name(mangled):
    """Returns the function's own name from an Itanium-mangled one, with its template arguments if they are integers. A
    lambda is named after its function: f<2,1>::lambda, then f<2,1>::lambda2. A name that is not mangled, such as that of
    the device library's slow path of a division, is returned unchanged."""
    if (local := re.match(r"_Z(Z+)", mangled)) and (lambdas := re.findall(r"NK?Ul\w*?E(\d*)_", mangled)):
        number = int(lambdas[-1]) + 2 if lambdas[-1] else ""  # the mangled number of the second lambda is 0
        return f"{plain_name('_Z' + mangled[local.end():])}::lambda{number}"
    m = re.match(r"_Z(N?)K?", mangled)
    at, name = m.end() if m else 0, None
    while m and (found := re.compile(r"L?(\d+)").match(mangled, at)):
        at = found.end() + int(found.group(1))
        name = mangled[found.end():at]
        if not m.group(1):  # without N there is one name; with N the last name counts
            break
    if name is None:
        return mangled
    values, argument = [], re.compile(r"L(?:[a-z]|(\d+))")  # a literal of a built-in type, or of a type whose name has that many letters
    inside = at + 1 + (mangled[at + 1:at + 2] == "J")  # a pack of arguments begins with J
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
    """Returns {kernel: {column of REPORTED: number}} for one architecture, from the output of `ptxas -v`. The report of
    a function that was not inlined follows each kernel that calls it and counts as that kernel's, since the function
    runs in the same threads."""
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
    """A line of the source and its function (by its name in the source; None if the listing does not name it)."""

    def __init__(self, file, line, function=None):
        self.file, self.line, self.function = file, line, function

    def __repr__(self):
        return f"{os.path.basename(self.file)}:{self.line}" + (f" in {self.function}" if self.function else "")


class Instruction:
    def __init__(self, opcode, operands, predicated, chain, targets=(), ends=False):
        self.opcode, self.operands, self.predicated = opcode, operands, predicated
        self.chain = chain  # Places: the line itself, then the line at which it was inlined, and so on out to the kernel
        self.targets = list(targets)  # labels to which it may jump
        self.ends = ends  # control never continues at the next instruction

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
    """Returns {label: text} of the names to which .loc lines refer."""
    return {label: bytes(map(int, re.findall(r"\d+", body.replace(".b8", "")))).split(b"\0")[0].decode()
            for label, body in re.findall(r"(\$L__info_string\d+):\s*\n((?:\s*\.b8 [^\n]*\n)+)", text)}


def parse_ptx(text):
    """Returns [Code] of every kernel (.entry) in PTX compiled with -lineinfo; the text may be several modules, one after the other."""
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
        # Braces enclose the body, blocks of inline assembly and calls; instructions end with a semicolon.
        for piece in re.split(r"([;{}])", line):
            if piece == "{" and not re.search(r"[,\[(]\s*$|\b(v2|v4|v8)\b|\.\w+\s*$", pending):
                depth, pending = depth + 1, ""
            elif piece == "}" and "{" not in pending:
                depth, pending = depth - 1, ""
                if depth == 0:
                    for instruction in code.instructions:
                        instruction.targets = [u for t in instruction.targets
                                               for u in (branch_lists.get(t[6:], []) if t.startswith("lists:")
                                                         else [t])]
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
    """Returns [Code] of every kernel and function in a listing of `nvdisasm -c -gi`. functions is {(file, line): name}
    from ptx_functions, since the listing does not name the function of a line."""
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
            elif base == "BSYNC":  # jumps to the label of the latest BSSY of its barrier, in the order of the listing
                targets = barriers.get(operands.strip(), [])
                ends = bool(targets)
            elif target:  # on sm_35 a join jumps to the label of SSY, and BRK to the label of PBK
                targets, ends = [target.group(1)], True
            code.instructions.append(Instruction(opcode, operands.strip(), predicate is not None, chain, targets, ends))
    for code in codes:  # only padding follows the jump to itself after the last exit
        for i, instruction in enumerate(code.instructions):
            # nvdisasm 11.8 sometimes omits the label of a BSSY; threads that meet at a BSYNC continue after it
            if instruction.opcode == "BSYNC" and not any(t in code.labels for t in instruction.targets):
                instruction.targets, instruction.ends = [], False
            if instruction.opcode == "BRA" and not instruction.predicated and [code.labels.get(t) for t in instruction.targets] == [i]:
                del code.instructions[i:]
                break
    return codes


def ptx_functions(codes):
    """Returns {(file, line): function} for parse_sass, from the PTX of the same code: the names of inlined functions
    without template arguments, since all instances of a function share its lines."""
    return {(os.path.basename(place.file), place.line): place.function.split("<")[0] for code in codes for instruction in code.instructions
            for place in instruction.chain[:-1] if place.function}


# ---- the memory that PTX reads ----


def argument_origins(code):
    """Returns {instruction: {(argument, byte)}} for every load from device memory in a kernel's PTX: the pointer
    arguments from which its address may be computed. The search follows moves, sums and selects, but no products and
    shifts, which compute offsets and not pointers. An empty set means that the address comes from elsewhere, such as
    memory."""
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
        """Returns (argument, byte) of an address within the kernel's arguments, which is an argument's name or a register that holds it."""
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


# ---- kinds of instructions ----


def width(opcode):
    """Returns the bits per thread that a load or store moves."""
    m = re.search(r"\.(128|64|U16|S16|16|U8|S8)\b", opcode)
    return int(m.group(1).lstrip("US")) if m else 32


CLASSES = {"FFMA": "FFMA", "FFMA32I": "FFMA", "HMMA": "HMMA", "BAR": "BAR", "MEMBAR": "MEMBAR", "SHFL": "SHFL", "STS": "STS", "STG": "STG",
           "ST": "STG", "ATOM": "ATOM", "ATOMG": "ATOM", "RED": "ATOM", "ATOMS": "ATOMS", "LDL": "LDL", "STL": "STL",
           "MUFU": "MUFU", "MOVM": "MOVM", "SYNCS": "SYNCS", "STAS": "STAS",
           "mma": "mma.sync"}  # the last entry is PTX, for code without a listing of its machine code


def opcode_class(opcode):
    """Returns the column in which a machine instruction counts, or None. sm_35 reads global memory with LD (generic addresses) and
    read-only memory with LDG; both count as LDG."""
    base = opcode.split(".")[0]
    if base in ("LDS", "LDG", "LDGSTS"):
        return f"{base}.{width(opcode)}"
    if base == "LD":
        return f"LDG.{width(opcode)}"
    return CLASSES.get(base)


def opcode_counts(instructions):
    """Returns {class: count}, in alphabetical order, and the total; sm_35's joins and padding do not count."""
    counts = {}
    for instruction in instructions:
        if found := opcode_class(instruction.opcode):
            counts[found] = counts.get(found, 0) + 1
    total = sum(1 for i in instructions if i.opcode.split(".")[0] != "NOP")
    return {"instructions": total, **dict(sorted(counts.items()))}


def is_global_load(instruction):
    """Returns whether the instruction reads device memory, including copies into shared memory; atomics are not loads."""
    parts = instruction.opcode.split(".")
    if parts[0] in ("LDG", "LD", "LDGSTS", "UBLKCP", "UTMALDG"):
        return True
    if parts[0] == "ld":
        return not {"param", "shared", "local", "const"} & set(re.split(r"[.:]", instruction.opcode))
    return parts[0] == "cp" and "async" in parts and "global" in parts


def is_read_only_load(instruction):
    """Returns whether the instruction loads through the read-only path, which may miss writes of the same launch."""
    parts = instruction.opcode.split(".")
    return (parts[0] == "ld" and "nc" in parts) or (parts[0] == "LDG" and "CONSTANT" in parts)


def is_local(instruction):
    """Returns whether the instruction accesses local memory: a spill, or an array that is not in registers."""
    parts = instruction.opcode.split(".")
    return parts[0] in ("LDL", "STL") or (parts[0] in ("ld", "st") and "local" in parts)


# ---- loops ----


class Loop:
    """The indices of the instructions between a header and the jumps back to it."""

    def __init__(self, header, body):
        self.header, self.body = header, body


def blocks_of(code):
    """Returns [(first, end)] of the basic blocks, and the successors of each block."""
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
    """Returns every natural loop, outer loops first; loops with the same header are merged."""
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


POLLS = ("load_poll", "load_acquire", "load_watch", "poll_relaxed")


def is_poll(instruction):
    """Returns whether the instruction is a poll of a spin loop: of device memory through dev_barrier.cuh's two
    wrappers, or of an mbarrier."""
    parts = instruction.opcode.split(".")
    if parts[0] in ("mbarrier", "SYNCS"):
        return bool({"try_wait", "TRYWAIT"} & set(parts))
    return is_global_load(instruction) and any(p.function and p.function.split("<")[0] in POLLS for p in instruction.chain[:2])


def time_loop(code):
    """Returns the loop over the steps of a persistent kernel: the outermost loop that contains a __syncthreads and a smaller loop that
    polls or, if there is none, the outermost loop with asynchronous stores around a smaller loop that polls. Returns None if there is no
    such loop."""
    loops = loops_of(code)

    def has(body, what):
        return any(what(code.instructions[i]) for i in body)

    def is_barrier(instruction):
        parts = instruction.opcode.split(".")
        return parts[0] in ("BAR", "bar", "barrier") and "warp" not in parts

    def is_async_store(instruction):
        return instruction.opcode.startswith(("st.async", "STAS"))

    spins = [loop for loop in loops if has(loop.body, is_poll)]
    for wanted in (is_barrier, is_async_store):
        for loop in loops:
            if has(loop.body, wanted) and any(spin.body < loop.body for spin in spins):
                return loop
    return None
