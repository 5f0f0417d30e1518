"""The section on the machine code of the persistent kernels and on their plans for a K20, from tools/examine/examine.py. No kernel was
run."""
import re

from tables.text import link, listed, number, share, table

FILES = ("k20/machine-code.json", "sm_90/machine-code.json")
HEADINGS = ["kernel ", "registers", "spilled, bytes", "instructions", "in the time loop", "FFMA", "LDS.128",
            "loads, machine code", "loads, PTX",
            "loads of weights at every step", "loads of weights, streaming", "data "]


def kernel_row(row, file):
    ptx, listed = row["loop"]["ptx"], row["loop"]["listed"]
    opcodes = listed["opcodes"] if listed else {}
    numbers = [row["registers"], row["spill_stores"] + row["spill_loads"], row["opcodes"]["instructions"], opcodes.get("instructions"),
               opcodes.get("FFMA", 0), opcodes.get("LDS.128", 0), listed and listed["loads"], ptx and ptx["loads"],
               ptx and ptx["weights_fixed"],
               ptx and ptx["weights_streamed"]]
    return [f"`{row['kernel']}`", *(number(n, 0) for n in numbers), link(file)]


def plan_row(plan, file):
    size = f"{plan['preset']}, H {plan['H']}"
    if "refused" in plan:  # shows the planner's sentence without its subject and its remedy
        why = re.search(r"has no plan on [^:]*: ([^;]*)", plan["refused"])
        return [size, plan["variant"], plan["pass"], "no plan: " + why.group(1) if why else plan["refused"], "", "", "",
                "", "", "", link(file)]
    grid = f"{plan['blocks']} × {plan['threads']}" + (f", {plan['replicas']} times" if plan["replicas"] > 1 else "")
    return [size, plan["variant"], plan["pass"], grid, f"`{plan['kernel']}`" if plan["kernel"] else "not compiled",
            number(plan["compiled_registers"], 0), number(plan["shared_bytes"], 0),
            share(plan["resident_registers"]), share(plan["resident_shared"]), number(plan["streamed_bytes"], 0), link(file)]


def without_launch(plans):
    """Returns the variants that the planner refuses in both passes at every shape."""
    names = dict.fromkeys(plan["variant"] for plan in plans)
    return [name for name in names if all("refused" in plan for plan in plans if plan["variant"] == name)]


def machine_code(data, _figures):
    text = ""
    for file in FILES:
        if not data.find(file):
            continue
        record = data.json(file)
        rows = [row for row in record["kernels"] if row["persistent"]]
        others = [row for row in record["kernels"] if not row["persistent"]]
        same = record["listed_compiler"] == record["compiler"]
        text += f"{record['arch']}: registers, spills{',' if same else ' and'} PTX " \
            f"{'and instructions ' if same else ''}are from {record['compiler']}"
        text += ".\n\n" if same else f", instructions from {record['listed_compiler']}.\n\n"
        text += table(HEADINGS, [kernel_row(row, file) for row in rows]) + "\n"
        spilling = [f"`{row['kernel']}` spills {row['spill_stores'] + row['spill_loads']} bytes" for row in others
                    if row["spill_stores"] + row["spill_loads"]]
        text += f"The {len(others)} kernels that are not persistent use at most " \
            f"{max(row['registers'] for row in others)} registers; " if others else ""
        text += f"{', '.join(spilling) or 'none spills'}.\n\n" if others else ""
        text += "".join(f"- Fault: {fault}\n" for fault in record["faults"]) + ("\n" if record["faults"] else "")
        if plans := record.get("plans"):
            absent = without_launch(plans)
            text += f"The planner's launches on a {plans[0]['device']}, at the paper's shapes"
            text += f"; it has none for {listed(f'`{name}`' for name in absent)}:\n\n" if absent else ":\n\n"
            text += table(["model ", "variant ", "pass ", "blocks × threads ", "kernel ", "registers", "shared bytes",
                           "weights in registers",
                           "in shared memory", "streamed, bytes per step", "data "], [plan_row(plan, file) for plan in plans
                                                                 if plan["variant"] not in absent]) + "\n"
    return text or "Not yet examined.\n"
