"""The section on the kernels of sm_35 in a simulated K20, from the records of tools/k20_sim. All numbers are simulated."""
from tables.text import link, number, table

FILES = "k20-sim/*.json"


def rows_of(record, file):
    runs = record["runs"]
    # A check counts for the launch that it made and for no other.
    launch = lambda r: (r["variant"], r["pass"], r["H"], r["B"], r["plan"], r["icache"])
    checks = {(launch(r), r["how"]): r["right"] for r in runs}
    baseline = {(r["pass"], r["H"], r["B"], r["icache"]): r["cycles"]["step"] for r in runs if not r["plan"]}
    for r in (r for r in runs if r["how"] == "plain"):
        cycles, beside = r["cycles"], baseline.get((r["pass"], r["H"], r["B"], r["icache"]))
        parts = ", ".join(f"{name.replace('_', ' and ')} {n:,}" for name, n in cycles.items() if name != "step")

        def check(how, good, r=r):
            right = checks.get((launch(r), how))
            return {None: "", good: "right" if good else "wrong, as it must be"}.get(right, "UNEXPECTED")

        kept = " + ".join(f"{100 * r[where]:.0f} %" for where in ("in_registers", "in_shared")) if "in_registers" in r else ""
        yield [r["variant"] if r["plan"] else f"{r['variant']} (stand-in)", r["pass"], str(r["H"]), str(r["B"]), kept,
               r["icache"], f"{cycles['step']:,}", parts,
               number(r["us"], 1), number(r["predicted_us"], 1), number(beside / cycles["step"], 2) if beside and r["plan"] else "",
               "right" if r["right"] else "WRONG", check("skew", True), check("nowait", False),
               f"`{r.get('commit') or r.get('sources') or record['sources']}`", link(file)]


def k20_sim(data, _figures):
    text = ""
    for file in data.find(FILES):
        record = data.json(file)
        text += f"{record['simulator']}, {record['mhz']} MHz.\n\n"
        text += table(["variant ", "pass ", "H", "B", "weights in registers + in shared memory ", "instruction cache ",
                       "cycles per step", "of which ", "us in the model", "us by the planner then",
                       "speed relative to the baseline, without launches",
                       "result ", "with late blocks ", "without the wait ", "kernels of ", "data "], list(rows_of(record, file)))
    return text or "Not yet simulated.\n"
