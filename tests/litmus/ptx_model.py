#!/usr/bin/env python3
"""A bounded checker for small concurrent PTX programs (*.litmus; README.md describes the format). It enumerates the executions that the
axioms of the PTX memory model allow and reports whether one of them has a given outcome.

    ptx_model.py FILE.litmus...             prints the verdict of each program and of its mutants, and an execution for each allowed outcome

The axioms are our formulation of the chapter "Memory Consistency Model" of the PTX ISA, version 7.5, with the scope .cluster of 7.8 added
and all accesses through the generic proxy. An execution is a choice, for every read, of the write that it reads (rf), a partial order of
the writes to each location (co) and of the fence.sc operations (sc). The search extends rf read by read. Adding a read can only add to
causality order, so a partial choice that already violates an axiom is abandoned.
"""
import ast
import itertools
import operator
import re
import sys

SCOPES = ("cta", "cluster", "gpu", "sys")
# The parts of the model that can be removed: its axioms, then parts of its definitions. The tests remove each and check that a known
# verdict changes.
AXIOMS = ("coherence", "fence_sc", "atomicity", "thin_air", "sc_per_location", "causality")
DEFINITIONS = ("scopes", "fence_patterns", "observation_chain", "observation_prefix", "barriers")


class Malformed(Exception):
    """An error whose text is a sentence about a malformed program text."""


# ---- expressions over registers ----

BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv,
          ast.BitAnd: operator.and_, ast.BitXor: operator.xor}
COMPARE = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.GtE: operator.ge, ast.Gt: operator.gt, ast.LtE: operator.le,
           ast.Lt: operator.lt}


class Expression:
    """An expression of integers, names and the operators above; `names` are the registers that it reads."""

    def __init__(self, text):
        self.text = text.strip()
        try:
            self.tree = ast.parse(self.text, mode="eval").body
        except SyntaxError:
            raise Malformed(f"'{text}' is not an expression") from None
        self.names = sorted({n.id for n in ast.walk(self.tree) if isinstance(n, ast.Name)})
        self.known = {}  # its values, by the values of the names

    def value(self, registers):
        key = tuple(registers[n] for n in self.names)
        if key not in self.known:
            self.known[key] = self.evaluate(registers)
        return self.known[key]

    def evaluate(self, registers):
        def of(n):
            if isinstance(n, ast.Constant) and isinstance(n.value, int):
                return n.value
            if isinstance(n, ast.Name):
                return registers[n.id]
            if isinstance(n, ast.BinOp) and type(n.op) in BINARY:
                return BINARY[type(n.op)](of(n.left), of(n.right))
            if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
                return -of(n.operand)
            if isinstance(n, ast.Compare) and len(n.ops) == 1 and type(n.ops[0]) in COMPARE:
                return COMPARE[type(n.ops[0])](of(n.left), of(n.comparators[0]))
            raise Malformed(f"'{self.text}' uses an operator that the checker does not have")
        return of(self.tree)


# ---- programs ----


class Thread:
    def __init__(self, name, gpu, cluster, cta, warp):
        self.name, self.gpu, self.cluster, self.cta, self.warp = name, gpu, cluster, cta, warp
        self.places = {"cta": (gpu, cluster, cta), "cluster": (gpu, cluster), "gpu": (gpu,), "sys": ()}


class Event:
    """A memory operation, a fence, or one half of a barrier. A read-modify-write is one event that reads and writes."""

    def __init__(self, thread, text):
        self.thread, self.text = thread, text
        self.number = self.agent = None
        self.location = self.register = self.until = self.written = self.barrier = None
        self.reads = self.writes = self.strong = self.acquires = self.releases = self.fence = self.sc = self.arrives = False
        self.scope = self.reach = "sys"  # the scopes of the access and of its ordering, which differ at an mbarrier
        self.needs = ()  # registers on which this operation depends, besides those of its value

    def __repr__(self):
        return f"{self.thread.name if self.thread else 'start'}: {self.text}"


class Program:
    """The threads and events of an expanded text. `forbid`, `forbid_long` and `reach` are disjunctions: lists of conjunctions, which are
    lists of atoms."""

    def __init__(self, name):
        self.name, self.threads, self.events, self.initial, self.order = name, {}, [], {}, {}
        self.forbid, self.forbid_long, self.reach = [], [], []


ATOM = re.compile(r"\s*(?:(\w+)\.(\w+)|\[(\w+)\])\s*(==|!=|>=|<=|>|<)\s*(-?\w+)\s*$")


def parse_condition(text):
    """Parses a | b & c into [[(thread, register or None, location or None, Expression over `v`)]]."""
    out = []
    for clause in text.split("|"):
        atoms = []
        for part in clause.split("&"):
            m = ATOM.match(part)
            if not m:
                raise Malformed(f"'{part.strip()}' is not a condition such as a.r == 1 or [x] == 1")
            atoms.append((m.group(1), m.group(2), m.group(3), Expression(f"v {m.group(4)} {m.group(5)}")))
        out.append(atoms)
    return out


def memory_event(thread, line):
    """Returns the events of a load, a store or an atomic, or of an asynchronous store or a wait, which are made of these."""
    m = re.match(r"([\w.:]+)\s+(.*)$", line)
    opcode, rest = m.groups()
    words = opcode.split(".")
    until = needs = None
    if " until " in rest:
        rest, until = rest.split(" until ")
    if " after " in rest:
        rest, needs = rest.split(" after ")
    operands = [o.strip() for o in rest.split(",")]

    def address(text):
        a = re.match(r"\[(\w+)\]$", text)
        if not a:
            raise Malformed(f"'{text}' in '{line}' is not an address such as [x]")
        return a.group(1)

    def event(location, semantics, scope):
        e = Event(thread, line)
        e.location, e.strong = location, semantics != "weak"
        e.acquires, e.releases = semantics in ("acquire", "acq_rel"), semantics in ("release", "acq_rel")
        e.scope = e.reach = "sys" if semantics == "volatile" else scope
        if e.strong and e.scope is None:
            raise Malformed(f"'{line}' names no scope")
        if needs:
            e.needs = tuple(needs.replace(",", " ").split())
        return e

    known = ("weak", "relaxed", "acquire", "release", "acq_rel", "volatile")
    semantics = next((w for w in words[1:] if w in known), "weak")
    scope = next((w for w in words[1:] if w in SCOPES), None)
    base = words[0]
    if base == "st" and "async" in words:
        # An asynchronous store is a weak store, then a release that counts it at the receiver's mbarrier. They are in program order or,
        # if detached, in a thread of their own.
        store, count = event(address(operands[0]), "weak", None), event(address(operands[2]), "release", "cluster")
        store.writes, store.written = True, Expression(operands[1])
        count.reads = count.writes = True
        count.written, count.register = Expression("old + 1"), "old"
        count.needs += tuple(store.written.names)
        if "detached" in words:
            store.agent = count.agent = store
        return [store, count]
    if base == "mbarrier":
        e = event(address(operands[0]), semantics, scope)
        e.scope = "cluster"  # an mbarrier's operations are atomic to each other at any scope
        if "try_wait" in words:
            e.reads, e.register, e.until = True, "old", Expression(f"old >= {operands[1]}")
        elif "arrive" in words:
            e.reads = e.writes = True
            e.register, e.written = "old", Expression("old + 1")
        else:
            raise Malformed(f"'{opcode}' is not an mbarrier operation that the checker has")
        return [e]
    if base == "ld":
        e = event(address(operands[1]), semantics, scope)
        e.reads, e.register = True, operands[0]
        e.until = Expression(until) if until else None
        return [e]
    if base == "st":
        e = event(address(operands[0]), semantics, scope)
        e.writes, e.written = True, Expression(operands[1])
        return [e]
    if base in ("atom", "red"):
        if semantics == "weak":
            raise Malformed(f"'{line}': an atomic names its semantics")
        if base == "red":
            operands.insert(0, "old")
        e = event(address(operands[1]), semantics, scope)
        e.reads = e.writes = True
        e.register = operands[0]
        e.written = Expression({"add": f"{operands[0]} + ({operands[2]})", "exch": operands[2]}[words[-1]])
        return [e]
    raise Malformed(f"'{line}' is not an instruction that the checker has")


def events_of(thread, line):
    words = line.split()[0].split(".")
    if words[0] in ("fence", "membar"):
        e = Event(thread, line)
        e.fence = e.strong = True
        level = {"cta": "cta", "gl": "gpu", "sys": "sys"}[words[1]] if words[0] == "membar" else words[2]
        e.sc, e.scope, e.reach = words[0] == "membar" or words[1] == "sc", level, level
        return [e]
    if words[0] in ("bar", "barrier"):
        cluster = "cluster" in words
        key = ("cluster",) if cluster else ("warp", thread.warp) if "warp" in words else ("cta", line.split()[1] if " " in line else "0")
        halves = [h for h in ("arrive", "wait") if h in words] if cluster else ["arrive", "wait"]
        out = []
        for half in halves:
            e = Event(thread, line)
            e.barrier, e.arrives = key, half == "arrive"
            # A relaxed arrival counts but orders nothing.
            e.releases = e.arrives and "relaxed" not in words
            out.append(e)
        return out
    return memory_event(thread, line)


def expand(lines, names):
    """Expands the lines: repeats `for NAME = A .. B` ... `end` and replaces {expressions}; tags stay."""
    out, at = [], 0
    while at < len(lines):
        line = lines[at]
        if m := re.match(r"\s*for (\w+) = (.+?) \.\. (.+)$", line):
            depth, end = 1, at
            while depth:
                end += 1
                if end == len(lines):
                    raise Malformed(f"'{line.strip()}' has no end")
                depth += bool(re.match(r"\s*(for|if) ", lines[end])) - (lines[end].strip() == "end")
            first, last = (Expression(g).value(names) for g in m.groups()[1:])
            for value in range(first, last + 1):
                out += expand(lines[at + 1:end], {**names, m.group(1): value})
            at = end
        elif m := re.match(r"\s*if (.+)$", line):
            depth, end = 1, at
            while depth:
                end += 1
                if end == len(lines):
                    raise Malformed(f"'{line.strip()}' has no end")
                depth += bool(re.match(r"\s*(for|if) ", lines[end])) - (lines[end].strip() == "end")
            if Expression(m.group(1)).value(names):
                out += expand(lines[at + 1:end], names)
            at = end
        else:
            out.append(re.sub(r"\{([^{}]*)\}", lambda m: str(Expression(m.group(1)).value(names)), line))
        at += 1
    return out


class Text:
    """A .litmus file as written: its lines, the mutants that it lists, and its kernels."""

    def __init__(self, text, name):
        self.name, self.lines, self.mutants, self.kernels, self.constants = name, [], [], [], {}
        for line in text.splitlines():
            line = line.split("#")[0].rstrip()
            if m := re.match(r"(mutant|variant) ([\w-]+)(?: breaks (forbid|reach))?: (.*)$", line):
                breaks = "nothing" if m.group(1) == "variant" else m.group(3) or "forbid"
                self.mutants.append((m.group(2), breaks, [c.strip() for c in m.group(4).split(";")]))
            elif m := re.match(r"code ([\w< ]+): (.*)$", line):
                self.kernels.append((m.group(1).split(), [p.strip() for p in m.group(2).split(";")]))
            elif m := re.match(r"let (\w+) = (.*)$", line):
                self.constants[m.group(1)] = Expression(m.group(2)).value(self.constants)
            elif line.strip():
                self.lines.append(line)

    def changed(self, changes):
        """Returns the lines after a mutant's changes: `drop @tag`, or `@tag FROM -> TO`."""
        lines = list(self.lines)
        for change in changes:
            if m := re.match(r"drop (@\w+)$", change):
                hits = [i for i, line in enumerate(lines) if m.group(1) in line.split()]
                lines = [line for i, line in enumerate(lines) if i not in hits]
            elif m := re.match(r"(@\w+) (.+?) -> (.*)$", change):
                hits = [i for i, line in enumerate(lines) if m.group(1) in line.split() and m.group(2) in line]
                for i in hits:
                    lines[i] = lines[i].replace(m.group(2), m.group(3))
            else:
                raise Malformed(f"'{change}' is not a change such as 'drop @tag' or '@tag this -> that'")
            if not hits:
                raise Malformed(f"{self.name}: '{change}' changes nothing")
        return lines

    def program(self, changes=()):
        return parse_program(self.name, self.changed(changes), self.constants)


def parse_program(name, lines, constants=None):
    program, thread = Program(name), None
    for line in expand(lines, constants or {}):
        line = " ".join(w for w in line.split() if not w.startswith("@"))
        if m := re.match(r"thread (\w+)((?: \w+ -?\d+)*)$", line):
            at = dict(re.findall(r"(\w+) (-?\d+)", m.group(2)))
            cta = at.get("cta", f"of {m.group(1)}")
            thread = Thread(m.group(1), at.get("gpu", "0"), at.get("cluster", f"of cta {cta}"), cta, at.get("warp", "0"))
            if m.group(1) in program.threads:
                raise Malformed(f"{name}: two threads are called {m.group(1)}")
            program.threads[m.group(1)], program.order[m.group(1)] = thread, []
        elif m := re.match(r"init (.*)$", line):
            for part in m.group(1).split(","):
                location, value = part.split("=")
                program.initial[location.strip()] = int(value)
        elif m := re.match(r"(forbid|forbid long|reach): (.*)$", line):
            getattr(program, m.group(1).replace(" ", "_")).extend(parse_condition(m.group(2)))
        elif thread is None:
            raise Malformed(f"{name}: '{line}' stands before the first thread")
        else:
            for e in events_of(thread, line):
                program.order[thread.name].append(e)
    for location in sorted({e.location for es in program.order.values() for e in es if e.location}):
        e = Event(None, f"[{location}] = {program.initial.get(location, 0)}")
        e.location, e.writes, e.strong, e.written = location, True, True, Expression(str(program.initial.get(location, 0)))
        program.events.append(e)
    for es in program.order.values():
        program.events += es
    for n, e in enumerate(program.events):
        e.number = n
    known = {(e.thread.name, e.register) for e in program.events if e.thread and e.register}
    for clause in program.forbid + program.forbid_long + program.reach:
        for thread_name, register, location, _ in clause:
            if (thread_name, register) not in known if register else location not in {e.location for e in program.events}:
                raise Malformed(f"{name}: a condition names {f'{thread_name}.{register}' if register else location}, which does not exist")
    return program


# ---- programs with known verdicts ----


class Known:
    """One case of a family: its program, and whether the outcome is known to be forbidden."""

    def __init__(self, family, about, name, place, forbidden, lines):
        self.family, self.about, self.name, self.place, self.forbidden = family, about, name, place, forbidden
        self.program = parse_program(f"{family}, {name}", lines)


def known_programs(text):
    out, family, about, lines, defaults = [], None, None, [], {}

    def assignments(words):
        return dict((part.split("=", 1)[0].strip(), part.split("=", 1)[1].strip()) for part in words.split("|") if part.strip())

    for line in text.splitlines():
        line = line.split("#")[0].rstrip()
        if m := re.match(r"family ([^:]+): (.*)$", line):
            family, about, lines, defaults = *m.groups(), [], {}
        elif m := re.match(r"default (.*)$", line):
            defaults = assignments(m.group(1))
        elif m := re.match(r"case (forbidden|allowed) (near|far|cluster): (.*?):(?: (.*))?$", line):
            verdict, place, name, words = m.groups()
            values = defaults | assignments(words or "")
            for n, which in enumerate(("one", "two", "three", "four")):
                values[which] = {"near": "cta 0", "far": f"cta {n}", "cluster": f"cta {n} cluster 0"}[place]
            filled = [re.sub(r"\$(\w+)", lambda m: values[m.group(1)], x) for x in lines]
            out.append(Known(family, about, name, place, verdict == "forbidden", [p for x in filled for p in x.split(";") if p.strip()]))
        elif line:
            lines.append(line)
    return out


# ---- the model ----


def bits(mask):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Relations:
    """The relations of a program's events that do not depend on the values read: program order, moral strength, patterns, barriers,
    dependencies."""

    def __init__(self, program, without):
        self.program, self.without, self.events = program, without, program.events
        n = len(self.events)
        self.order = []  # program order of the threads, and of the operations that run beside them
        for es in program.order.values():
            agents = {}
            for e in es:
                agents.setdefault(e.agent, []).append(e)
            self.order += agents.values()
        self.writes_to = {}
        for e in self.events:
            if e.writes:
                self.writes_to.setdefault(e.location, []).append(e.number)
        self.strong = [0] * n  # bit sets of the morally strong pairs
        for a, b in itertools.combinations(self.events, 2):
            if self.morally_strong(a, b):
                self.strong[a.number] |= 1 << b.number
                self.strong[b.number] |= 1 << a.number
        # The patterns: {write: first operations of release patterns that end in it}, {read: last operations of acquire patterns}.
        self.release, self.acquire = {}, {}
        for es in self.order:
            for i, e in enumerate(es):
                if e.writes and e.strong:
                    firsts = [e] if e.releases else []
                    firsts += [f for f in es[:i] if (f.fence and "fence_patterns" not in without)
                               or (f.releases and f.location == e.location and f.location)]
                    self.release[e.number] = [f.number for f in firsts]
                if e.reads and e.strong:
                    lasts = [e] if e.acquires else []
                    lasts += [f for f in es[i + 1:] if (f.fence and "fence_patterns" not in without)
                              or (f.acquires and f.location == e.location)]
                    self.acquire[e.number] = [f.number for f in lasts]
        self.first_edges = [(e.number, es[0].number) for e in self.events if e.thread is None for es in self.order if es]
        for es in self.order:
            self.first_edges += [(a.number, b.number) for a, b in zip(es, es[1:])]
        if "barriers" not in without:
            self.first_edges += self.barrier_edges()
        self.depends = self.dependencies()

    def includes(self, e, scope, thread):
        return "scopes" in self.without or e.thread is None or e.thread.places[scope] == thread.places[scope]

    def synchronise(self, first, last):
        """Returns whether a pattern that begins with `first` and one that ends with `last` synchronise if the write is
        observed: the two operations are morally strong, and the scopes of their ordering include each other's thread."""
        a, b = self.events[first], self.events[last]
        return self.strong[first] >> last & 1 and (a.thread is b.thread or
                                                   (self.includes(a, a.reach, b.thread) and self.includes(b, b.reach, a.thread)))

    def morally_strong(self, a, b):
        """Returns whether two operations are morally strong: they are in one thread, or both are strong and their scopes include each
        other. Accesses must also be to one location."""
        if a.barrier or b.barrier or (a.location and b.location and a.location != b.location):
            return False
        if a.thread is None or b.thread is None or (a.thread is b.thread and a.agent is b.agent):
            return True
        return a.strong and b.strong and self.includes(a, a.scope, b.thread) and self.includes(b, b.scope, a.thread)

    def barrier_edges(self):
        edges, meetings = [], {}
        for es in self.program.order.values():
            count = {}
            for e in es:
                if e.barrier:
                    group = e.thread.places["cluster" if e.barrier[0] == "cluster" else "cta"] + e.barrier
                    round_ = count[group, e.arrives] = count.get((group, e.arrives), 0) + 1
                    meetings.setdefault((group, round_), ([], []))[not e.arrives].append(e)
        for (group, round_), (arrive, wait) in meetings.items():
            if sorted(e.thread.name for e in arrive) != sorted(e.thread.name for e in wait) or \
                    (round_ > 1 and len(arrive) != len(meetings[group, 1][0])):
                raise Malformed(f"{self.program.name}: the threads that meet at {' '.join(group)} do not all come to its round {round_}")
            edges += [(a.number, w.number) for a in arrive if a.releases for w in wait]
        return edges

    def dependencies(self):
        """Returns the pairs (read, later operation) in which the later value, or whether the operation happens, depends on
        the read: through registers of the value, or through a wait before the operation."""
        edges = []
        for es in self.program.order.values():
            latest, waits = {}, []
            for e in es:
                needs = set(e.needs) | (set(e.written.names) if e.writes else set())
                if e.reads and e.register in needs:
                    needs.discard(e.register)
                if e.writes:
                    edges += [(latest[r], e.number) for r in sorted(needs) if r in latest]
                    edges += [(w, e.number) for w in waits]
                if e.reads:
                    latest[e.register] = e.number
                    if e.until:
                        waits.append(e.number)
        return edges


class Search:
    """Looks for an execution in which the atoms of one clause hold."""

    def __init__(self, relations, clause):
        self.r, self.events, self.without = relations, relations.events, relations.without
        self.program = relations.program
        self.nodes = 0
        self.final = [(location, test) for _, register, location, test in clause if not register]
        self.tests = {}
        for thread, register, _, test in clause:
            if register:
                holders = [e for e in self.program.order[thread] if e.register == register and e.reads]
                if len(holders) != 1:
                    raise Malformed(f"{self.program.name}: {thread}.{register} is read {len(holders)} times")
                self.tests.setdefault(holders[0].number, []).append(test)
        used = {(e.thread.name, name) for e in self.events if e.thread for name in (*e.needs, *(e.written.names if e.writes else ()))}
        self.wanted = [e.number for e in self.events if e.reads and (e.strong or e.until or e.writes or e.number in self.tests or
                                                                     (e.thread.name, e.register) in used)]
        self.rest = [e.number for e in self.events if e.reads and e.number not in self.wanted]
        # The locations that only atomics change, all of them morally strong with each other: their values follow from the order of a chain.
        self.counters = set()
        for location, writes in relations.writes_to.items():
            changes = [w for w in writes if self.events[w].thread]
            if changes and all(self.events[w].reads for w in changes) and "atomicity" not in self.without and \
                    all(relations.strong[a] >> b & 1 for a, b in itertools.combinations(changes, 2)):
                self.counters.add(location)
        fences = [e.number for e in self.events if e.sc and "fence_sc" not in self.without]
        self.fence_pairs = [(a, b) for a, b in itertools.combinations(fences, 2) if relations.strong[a] >> b & 1]
        self.fence_set = {*self.fence_pairs, *((b, a) for a, b in self.fence_pairs)}
        # The read from which a register of an operation's value comes.
        self.source = {}
        for es in self.program.order.values():
            latest = {}
            for e in es:
                if e.reads:
                    latest[e.register] = e.number
                if e.writes:
                    self.source[e.number] = {n: latest[n] for n in e.written.names}

    # The state of a partial execution: rf, after (base causality order, transitive bit sets), before (its inverse), seen (observation
    # order). Causes and values are known results of cause() and value(); the states that have the same orders share the former.

    def start(self):
        n = len(self.events)
        state = {"rf": {}, "after": [0] * n, "before": [0] * n, "seen": [0] * n, "sc": set(), "later": set(), "tails": {},
                 "causes": {}, "values": {}}
        for a, b in self.r.first_edges:
            self.add_edge(state, a, b)
        return state

    @staticmethod
    def copy(state):
        return {"rf": dict(state["rf"]), "after": list(state["after"]), "before": list(state["before"]), "seen": list(state["seen"]),
                "sc": set(state["sc"]), "later": set(state["later"]), "tails": dict(state["tails"]), "causes": state["causes"],
                "values": dict(state["values"])}

    @staticmethod
    def add_edge(state, a, b):
        after, before = state["after"], state["before"]
        if after[a] >> b & 1:
            return
        state["causes"] = {}
        down, up = after[b] | 1 << b, before[a] | 1 << a
        for x in bits(up):
            after[x] |= down
        for y in bits(down):
            before[y] |= up

    def cause(self, state, a):
        """Returns the bit set of the operations that `a` precedes in causality order: base causality, or an observation of `a` followed
        by it."""
        known = state["causes"]
        if a not in known:
            known[a] = state["after"][a]
            if "observation_prefix" not in self.without:
                for z in bits(state["seen"][a]):
                    known[a] |= state["after"][z]
        return known[a]

    def assign(self, state, read, write):
        """Adds to rf and to the relations that follow from it: observation order and the synchronisation of patterns."""
        state["rf"][read] = write
        if not self.r.strong[read] >> write & 1:
            return
        seen, events = state["seen"], self.events
        chain = "observation_chain" not in self.without
        sources = [write, *(w for w in range(len(events)) if seen[w] >> write & 1)] if events[write].reads and chain else [write]
        targets = 1 << read | (seen[read] if events[read].writes and chain else 0)
        for w in sources:
            fresh = targets & ~seen[w]
            if fresh:
                state["causes"] = {}
            seen[w] |= targets
            for r in bits(fresh):
                for first in self.r.release.get(w, ()):
                    for last in self.r.acquire.get(r, ()):
                        if self.r.synchronise(first, last):
                            self.add_edge(state, first, last)

    def coherence(self, state):
        """Returns {write: bit set of the writes that must follow it}, from causality and from the reads of read-modify-writes, or None if
        that is a cycle."""
        follow = {}
        for location, writes in self.r.writes_to.items():
            mask = sum(1 << w for w in writes)
            for w in writes:
                follow[w] = self.cause(state, w) & mask if "coherence" not in self.without else 0
                if self.events[w].thread is None:
                    follow[w] |= mask & ~(1 << w)
            for w in writes:
                if self.events[w].reads and w in state["rf"] and self.r.strong[w] >> state["rf"][
                    w] & 1 and "sc_per_location" not in self.without:
                    follow[state["rf"][w]] |= 1 << w
        return self.closed(follow)

    @staticmethod
    def closed(follow):
        changed = True
        while changed:
            changed = False
            for w, mask in follow.items():
                new = mask
                for x in bits(mask):
                    new |= follow[x]
                if new != mask:
                    follow[w], changed = new, True
        return None if any(mask >> w & 1 for w, mask in follow.items()) else follow

    def value(self, state, write, busy=()):
        """Returns the value that a write writes, or None if it is not decided yet. A value that depends on itself, out of thin air, is
        chosen to fulfil the clause."""
        values, registers = state["values"], {}
        if write in values:
            return values[write]
        decided = "thin_air" not in self.without
        for name, read in self.source[write].items() if write in self.source else ():
            if read in busy:
                wanted = [t.tree.comparators[0].value for t in self.tests.get(read, ()) if isinstance(t.tree.ops[0], ast.Eq)]
                if not wanted:
                    return None
                registers[name], decided = wanted[0], False
                continue
            if read not in state["rf"]:
                return None
            registers[name] = self.value(state, state["rf"][read], (*busy, read))
            if registers[name] is None:
                return None
            decided = decided and state["rf"][read] in values
        value = self.events[write].written.value(registers)
        if decided:
            values[write] = value
        return value

    def accepts(self, read, value):
        e = self.events[read]
        return (not e.until or e.until.value({e.register: value})) and all(t.value({"v": value}) for t in self.tests.get(read, ()))

    def candidates(self, state, follow, read):
        e, out = self.events[read], []
        causes, causality = self.cause(state, read), "causality" not in self.without
        mask = sum(1 << x for x in self.r.writes_to[e.location] if x != read and self.cause(state, x) >> read & 1)
        for write in self.r.writes_to[e.location]:
            if write == read:
                continue
            if causality and (causes >> write & 1 or follow[write] & mask):
                continue
            if e.writes and "atomicity" not in self.without:
                if any(state["rf"].get(x) == write and self.events[x].writes and self.r.strong[x] >> read & 1 for x in state["rf"]):
                    continue
            value = self.value(state, write, (read,))
            if value is not None and not self.accepts(read, value):
                continue
            out.append(write)
        return out

    def run(self):
        """Returns a state in which everything is decided, or None."""
        return self.extend(self.start(), self.wanted, self.finish)

    def extend(self, state, reads, done):
        """Decides the reads, then calls done. Reads with at most one candidate are decided at once; then strong reads come before weak
        ones, which synchronise with nothing, and among them the one with the fewest candidates."""
        self.nodes += 1
        follow = state["follow"] if "follow" in state else self.coherence(state)
        if follow is None:
            return None
        if not reads:
            return done(state)
        best, weak = None, None
        for read in reads:
            e = self.events[read]
            if e.location in self.counters:
                continue
            found = [(read, write) for write in self.candidates(state, follow, read)]
            if len(found) <= 1:
                best, weak = found, None
                break
            if e.strong and (best is None or len(found) < len(best)):
                best = found
            if not e.strong and (weak is None or len(found) < len(weak)):
                weak = found
        locations = sorted({self.events[read].location for read in reads} & self.counters)
        if best is None or len(best) > 1:
            for location in locations:
                found = self.next_of_counter(state, follow, reads, location)
                if found is not None and (best is None or len(found) < len(best)):
                    best = found
        if best is None and locations and not any(b in reads and a in reads and not self.events[a].strong for a, b in self.r.depends):
            return None  # atomics that wait for each other
        best = weak if best is None else best
        for read, write in best or ():
            state_ = self.copy(state)
            state_.pop("follow", None)
            if write is None:
                state_["later"].add((read, state_["tails"][self.events[read].location]))
                result = self.extend(state_, reads, done)
                if result:
                    return result
                continue
            self.assign(state_, read, write)
            if not self.breaks(state_) and not self.thin_air(state_):
                result = self.extend(state_, [r for r in reads if r != read], done)
                if result:
                    return result
        return None

    def next_of_counter(self, state, follow, reads, location):
        """Returns the possible next operations at a location that only read-modify-writes change. They form one chain, which is built
        from its start. A plain read is decided when the chain has reached the write that it reads, or postponed (no write). An atomic
        follows once its dependencies are decided; such an order exists since nothing comes out of thin air. None means that nothing can
        be decided yet."""
        tail, rf = next(w for w in self.r.writes_to[location] if self.events[w].thread is None), state["rf"]
        while following := [a for a, w in rf.items() if w == tail and self.events[a].writes]:
            tail = following[0]
        state["tails"][location] = tail
        options, early = [], False
        atomics = [r for r in reads if self.events[r].location == location and self.events[r].writes]
        for read in reads:
            e = self.events[read]
            if e.location != location or e.writes or (read, tail) in state["later"] or tail not in self.candidates(state, follow, read):
                continue
            behind = self.reachable(state, read)
            return [(read, tail)] + [(read, None)] * any(not behind >> a & 1 for a in atomics)
        for read in atomics:
            if "thin_air" not in self.without and any(a not in rf for a, b in self.r.depends if b == read):
                early = True
            elif tail in self.candidates(state, follow, read) and not any(self.cause(state, a) >> read & 1 for a in atomics if a != read):
                options.append((read, tail))
        return None if early and not options else options

    def reachable(self, state, read):
        """Returns the bit set of the operations that depend on a read, directly or through other reads so far."""
        found, todo = 0, [read]
        while todo:
            x = todo.pop()
            for b in [b for a, b in self.r.depends if a == x] + [r for r, w in state["rf"].items() if w == x]:
                if not found >> b & 1:
                    found |= 1 << b
                    todo.append(b)
        return found

    def breaks(self, state):
        """Returns whether an earlier choice has become impossible."""
        if "causality" in self.without:
            return False
        follow = state["follow"] = self.coherence(state)
        if follow is None:
            return True
        return self.contradicts_causality(state, follow)

    def contradicts_causality(self, state, follow):
        """Returns whether some read precedes in causality order the write that it reads, or comes in that order after a write that follows
        that write."""
        ahead = {}
        for r, w in state["rf"].items():
            if self.cause(state, r) >> w & 1:
                return True
            for x in bits(follow[w]):
                if x not in ahead:
                    ahead[x] = self.cause(state, x)
                if x != r and ahead[x] >> r & 1:
                    return True
        return False

    def thin_air(self, state):
        if "thin_air" in self.without:
            return False
        after = {}
        for a, b in self.r.depends:
            after.setdefault(a, []).append(b)
        for r, w in state["rf"].items():
            after.setdefault(w, []).append(r)
        return cyclic(after)

    # When all reads are decided, the values are checked and the remaining orders are decided.

    def finish(self, state):
        for read, write in state["rf"].items():
            value = self.value(state, write, (read,) if "thin_air" in self.without else ())
            if value is None or not self.accepts(read, value):
                return None
        return self.orient_fences(state)

    def orient_fences(self, state):
        """Tries both orders of every pair of morally strong fence.sc; the earlier fence synchronises with the later."""
        state = self.forced_fences(state)
        if not state:
            return None
        for a, b in self.fence_pairs:
            if (a, b) not in state["sc"] and (b, a) not in state["sc"]:
                for first, last in ((a, b), (b, a)):
                    state_ = self.copy(state)
                    state_["sc"].add((first, last))
                    self.add_edge(state_, first, last)
                    done = self.orient_fences(state_)
                    if done:
                        return done
                return None
        done = self.orient_writes(state, self.coherence(state))
        if done and self.rest:  # these reads decide nothing, but the execution must have values for them too
            return self.extend(state, self.rest, lambda s: self.orient_writes(s, self.coherence(s)))
        return done

    def forced_fences(self, state):
        """Returns the state with the pairs of fences that have only one possible order, or None if a pair has none. A pair follows
        causality order; and if a read must not come after a write, no fence after the write comes before a fence before the read."""
        if not self.fence_pairs:
            return None if self.breaks(state) else state
        mask = sum({1 << f for pair in self.fence_pairs for f in pair})
        state, settled = self.copy(state), None
        while settled != len(state["sc"]):
            settled = len(state["sc"])
            if self.breaks(state):
                return None
            for a, b in self.fence_pairs:
                for first, last in ((a, b), (b, a)):
                    if state["after"][first] >> last & 1:
                        state["sc"].add((first, last))
            follow, order = self.coherence(state), set()
            if "causality" not in self.without:
                for r, w in state["rf"].items():
                    order |= {(b, a) for a in bits(state["after"][r] & mask) for b in bits(state["before"][w] & mask)}
                    for x in bits(follow[w]):
                        if x != r:
                            order |= {(b, a) for a in bits(self.cause(state, x) & mask) for b in bits(state["before"][r] & mask)}
            for first, last in order:
                if (first, last) in self.fence_set and (first, last) not in state["sc"]:
                    state["sc"].add((first, last))
                    self.add_edge(state, first, last)
            if any((b, a) in state["sc"] for a, b in state["sc"]):
                return None
        return state

    def orient_writes(self, state, follow):
        """Tries both orders of every pair of writes that are morally strong or related by causality, then checks the axioms."""
        if follow is None:
            return None
        for writes in self.r.writes_to.values():
            for a, b in itertools.combinations(writes, 2):
                if follow[a] >> b & 1 or follow[b] >> a & 1:
                    continue
                if self.r.strong[a] >> b & 1 or self.cause(state, a) >> b & 1 or self.cause(state, b) >> a & 1:
                    for first, last in ((a, b), (b, a)):
                        follow_ = dict(follow)
                        follow_[first] |= 1 << last
                        done = self.orient_writes(state, self.closed(follow_))
                        if done:
                            return done
                    return None
        return self.judge(state, follow)

    def judge(self, state, follow):
        """Checks the axioms over a whole execution, without any of the search's shortcuts."""
        events, strong, without, rf = self.events, self.r.strong, self.without, state["rf"]
        if "sc_per_location" not in without and self.contradicts_program_order(rf, follow):
            return None
        if "causality" not in without and self.contradicts_causality(state, follow):
            return None
        if "coherence" not in without:
            for w, mask in follow.items():
                for x in follow:
                    if x != w and events[x].location == events[w].location and self.cause(state, w) >> x & 1 and not mask >> x & 1:
                        return None
        if "atomicity" not in without:
            for a, w in rf.items():
                if events[a].writes and any(strong[a] >> x & 1 and follow[x] >> a & 1 for x in bits(follow[w]) if x != a):
                    return None
        for location, test in self.final:
            last = [w for w in self.r.writes_to[location] if not follow[w]]
            if not any(test.value({"v": self.value(state, w)}) for w in last):
                return None
        return state | {"co": follow}


    def contradicts_program_order(self, rf, follow):
        """Returns whether a location has a cycle of program order and communication between morally strong operations. The two halves of a
        read-modify-write are two nodes here, the read first."""
        events, strong, edges = self.events, self.r.strong, {}

        def add(a, b):
            edges.setdefault(a, []).append(b)

        for r, w in rf.items():
            if strong[w] >> r & 1:
                add((w, "writes"), (r, "reads"))
            for x in bits(follow[w] & strong[r]):
                if x != r:
                    add((r, "reads"), (x, "writes"))
        for w, mask in follow.items():
            for x in bits(mask & strong[w]):
                add((w, "writes"), (x, "writes"))
        for es in self.r.order:
            halves = [(e.number, half) for e in es if e.location for half in ("reads", "writes")
                      if (e.number in rf if half == "reads" else e.writes)]
            for a, b in itertools.combinations(halves, 2):
                if events[a[0]].location == events[b[0]].location:
                    add(a, b)
        return cyclic(edges)


def cyclic(after):
    mark = {}
    for root in after:
        if root in mark:
            continue
        stack = [(root, iter(after[root]))]
        mark[root] = 1
        while stack:
            node, left = stack[-1]
            for s in left:
                if mark.get(s) == 1:
                    return True
                if s not in mark:
                    mark[s] = 1
                    stack.append((s, iter(after.get(s, ()))))
                    break
            else:
                mark[node] = 2
                stack.pop()
    return False


class Verdict:
    def __init__(self, allowed, nodes, lines):
        self.allowed, self.nodes, self.lines = allowed, nodes, lines


def check(program, clauses, without=()):
    """Whether an execution exists in which one of the clauses (a disjunction) holds; no clauses: whether there is any execution."""
    relations, nodes = Relations(program, frozenset(without)), 0
    for clause in clauses or [[]]:
        search = Search(relations, clause)
        found = search.run()
        nodes += search.nodes
        if found:
            events = program.events
            lines = [f"{events[r]}   reads   {events[w]}" for r, w in sorted(found["rf"].items())]
            return Verdict(True, nodes, lines)
    return Verdict(False, nodes, [])


def read_text(path):
    with open(path, encoding="utf-8") as f:
        return Text(f.read(), re.sub(r".*/|\.litmus$", "", path))


def main(paths):
    for path in paths:
        text = read_text(path)
        for name, breaks, changes in [("", "", ()), *text.mutants]:
            program = text.program(changes)
            forbidden = program.forbid + program.forbid_long
            bad = check(program, forbidden) if forbidden else None
            good = check(program, program.reach)
            title = text.name + (f" / {name}" if name else "")
            print(f"{title}: forbidden outcome {'-' if bad is None else 'allowed' if bad.allowed else 'impossible'}, "
                  f"right outcome {'reachable' if good.allowed else 'unreachable'} "
                  f"({(bad.nodes if bad else 0) + good.nodes} partial executions)")
            for line in bad.lines if bad else ():
                print("    " + line)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Malformed as fault:
        sys.exit(f"ptx_model.py: {fault}")
