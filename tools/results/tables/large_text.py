"""The section on a text of WikiText-2's size, from tools/wikitext2_size.py."""
from tables.text import link, number, table


def large_text(data, _figures):
    rows = []
    for file in data.find("*/wikitext2-size.jsonl"):
        for r in data.lines(file):
            rows.append([f"H {r['hidden']}, L 2, B 20, T 20", str(r["words"]), str(r["types"]), str(r["threads"]),
                         number(r["words_per_s"], 0),
                         number(r["announced_bytes"] / 2**20, 0), number(r["peak_bytes"] / 2**20, 0), data.hardware(file), link(file)])
    if not rows:
        return "Not yet measured.\n"
    return table(["model", "words", "types", "threads", "words/s", "MiB announced", "MiB at the peak", "hardware ", "data "], rows)
