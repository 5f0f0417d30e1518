"""The kernels of sm_35 in a simulated K20: tools/k20_sim's records. A simulation throughout."""
from tables.text import link, number, table

FILES = "k20-sim/*.json"


def rows_of(record, file):
    runs = record["runs"]
    key = lambda r: (r["variant"], r["pass"], r["H"], r["B"])
    checks = {(key(r), r["how"]): r["right"] for r in runs}
    baseline = {(r["pass"], r["H"], r["B"], r["icache"]): r["cycles"]["step"] for r in runs if not r["plan"]}
    for r in (r for r in runs if r["how"] == "plain"):
        cycles, beside = r["cycles"], baseline.get((r["pass"], r["H"], r["B"], r["icache"]))
        parts = ", ".join(f"{name.replace('_', ' and ')} {n:,}" for name, n in cycles.items() if name != "step")
        told = lambda how, good, r=r: {None: "",
                                       good: "right" if good
                                       else "wrong, as it must be"}.get(checks.get((key(r), how)),
                                                                        "NOT AS IT SHOULD BE")
        kept = " + ".join(f"{100 * r[where]:.0f} %" for where in ("in_registers", "in_shared")) if "in_registers" in r else ""
        yield [r["variant"] if r["plan"] else f"{r['variant']} (stand-in)", r["pass"], str(r["H"]), str(r["B"]), kept,
               r["icache"], f"{cycles['step']:,}", parts,
               number(r["us"], 1), number(r["predicted_us"], 1), number(beside / cycles["step"], 2) if beside and r["plan"] else "",
               "right" if r["right"] else "WRONG", told("skew", True), told("nowait", False),
               f"`{r.get('commit') or r.get('sources') or record['sources']}`", link(file)]


def k20_sim(data, _figures):
    text = ""
    for file in data.find(FILES):
        record = data.json(file)
        text += f"{record['simulator']}, {record['mhz']} MHz.\n\n"
        text += table(["variant ", "pass ", "H", "B", "weights in registers + in shared memory ", "instruction cache ",
                       "cycles a step", "of which ", "us in the model", "planner, us",
                       "times the baseline's speed, launches left out",
                       "result ", "with blocks late ", "without the wait ", "kernels of ", "data "], list(rows_of(record, file)))
    return text or "Not yet simulated.\n"
