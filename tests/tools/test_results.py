"""Tests tools/results.py: the tables of RESULTS.md come only from profiles/, and --check fails if they do not."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
TOOL = os.path.join(ROOT, "tools", "results.py")
NAMES = ("demo", "demo-keep", "reach", "distance", "ptb", "ensembles", "large-text", "translate-demo", "translate",
         "frames-demo", "frames", "caption", "parity", "variants", "anchor", "step", "kernels", "constants",
         "machine-code", "k20-sim", "cpu-speed", "cpu-profile", "emulator",
         "not-measured")


def marks(names):
    return "# A page\n\nwords before\n" + "".join(f"<!-- begin:{n} -->\n<!-- end:{n} -->\nwords after {n}\n" for n in names)


def classes(ppl):
    return {name: {"ppl": ppl + i, "best_ppl": 10.0 + i} for i, name in enumerate(("content", "after_short", "after_long", "filler"))}


def demo_record(sites, seed, test, keep=0.5):
    return {"sites": sites, "seed": seed, "keep": keep, "train_ppl": test - 3, "valid_ppl": test - 1, "test_ppl": test, "best_ppl": 13.81,
            "seconds": 30.0, "words_per_s": 31000.0, "epochs": 28, "classes": classes(test), "best_epoch": 5,
            "best_epoch_train_ppl": 14.0, "best_epoch_valid_ppl": 20.0, "best_epoch_test_ppl": 21.5, "best_epoch_classes": classes(21.5),
            "device": "CPU", "commit": "abc"}


def log(preset, corpus, sites="nonrecurrent", test=114.98, seed="1", backend="cpu"):
    run = {"event": "run", "preset": preset, "seed": seed, "backend": backend, "kernel": None, "precision": "f32",
           "corpus": corpus, "dropout_sites": sites, "epochs": 39, "windows": 100}
    steps = [{"event": "step", "step": n, "tokens": 400, "words_per_s": 8000.0} for n in range(250)]
    epochs = [{"event": "epoch", "epoch": n, "train_ppl": 200.0 / n, "valid_ppl": 180.0 / n, "valid_ppl_paper": 170.0 / n, "lr": 1,
               "seconds": 90.0} for n in (1, 2, 3)]
    return [run, *steps, *epochs, {"event": "test", "test_ppl": test, "best_ppl": 13.8}]


def speed():
    side = {"words_per_s": 9000.0, "flop_per_s": 1.4e11, "of_square": 0.71, "of_products": 0.96}
    torch = {"words_per_s": 4800.0, "flop_per_s": 0.7e11, "of_square": 0.35, "of_products": 0.5, "threads": 2}
    row = {"hidden": 650, "batch": 20, "seq": 35, "keep": 0.5, "ours": side, "torch": torch, "torch_all": [torch], "ratio": 1.87,
           "bar": 1.6}
    return {"cpu": "Some CPU", "threads": 2, "blas": "OpenBLAS 0.3.21", "torch_blas": "OpenBLAS 0.3.21", "commit": "abc", "torch": "1.13",
            "load_average": 0.1, "rows": [row]}


class Tree:
    """A working tree with an invented page and data."""

    def __init__(self, data=True, names=NAMES):
        self.folder = tempfile.TemporaryDirectory()
        self.write("RESULTS.md", marks(names))
        if data:
            self.json("profiles/box/machine.json", {"hardware": "A box"})
            records = [demo_record(sites, seed, base + 0.1 * seed) for seed in (1, 2) for sites, base in
                       (("none", 79.0), ("nonrecurrent", 15.6), ("all", 17.3))]
            self.lines("profiles/box/demo.jsonl", records)
            for sites in ("none", "nonrecurrent", "all"):
                self.lines(f"profiles/box/demo-{sites}-1.jsonl", log("demo", "synthetic", sites))
            self.lines("profiles/box/demo-keep.jsonl", [demo_record(sites, 1, base + 10 * keep, keep) for keep in (0.5, 0.8)
                                                        for sites, base in (("nonrecurrent", 11.0), ("all", 12.0))])
            self.lines("profiles/box/ptb-small.jsonl", log("small", "Penn Treebank (Mikolov)"))
            self.json("profiles/box/bench-cpu.json", speed())
            self.write("profiles/box/perf-H650.txt", "    58.08%  libopenblasp-r0.3.21.so  [.] sgemm_kernel_SKYLAKEX\n"
                       "    21.54%  bench_cpu                [.] tile_20\n     1.45%  libc.so.6                [.] memset\n")

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def read(self, name="RESULTS.md"):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def json(self, name, value):
        self.write(name, json.dumps(value))

    def lines(self, name, values):
        self.write(name, "".join(json.dumps(v) + "\n" for v in values))

    def run(self, *options):
        done = subprocess.run([sys.executable, TOOL, "--root", self.folder.name, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=60)
        return done.returncode, done.stderr

    def rebuild(self):
        status, said = self.run()
        assert status == 0, said

    def refused(self, *words, options=()):
        status, said = self.run(*options)
        assert status == 1 and "Traceback" not in said and len(said.splitlines()) == 1, said
        assert all(word in said for word in words), said

    def edit(self, name, old, new):
        text = self.read(name)
        assert old in text, (name, old)
        self.write(name, text.replace(old, new))


def translation(sites, seed, keep, test, score):
    return {"name": f"{sites}-{seed}", "sites": sites, "keep": keep, "seed": seed, "hidden": 200, "layers": 2,
            "batch": 40, "epochs": 8, "best_epoch": 6,
            "best_epoch_train_ppl": 5.0, "best_epoch_valid_ppl": test + 0.1, "best_epoch_test_ppl": test, "bleu": score,
            "bleu_plain": score - 5, "length_penalty": 1, "bleu_signature": "nrefs:1|tok:none",
            "beam": 12, "words_per_s": 3000.0,
            "example": {"source": "a man", "reference": "un homme",
                        "nbest": [{"words": "un homme", "score": -1.234}, {"words": "une homme", "score": -4.5}]},
            "minutes": 20.0}


def test_translation_beside_the_paper():
    tree = Tree()
    tree.rebuild()
    page = tree.read()
    assert page.count("| not yet measured | 5.8 | not yet measured |  | 25.90 |") == 1 and "| 5.0 | not yet measured |  | 29.03 |" in page
    runs = [translation("none", 1, 1.0, 9.0, 30.0), translation("nonrecurrent", 1, 0.8, 8.1, 33.0), translation("none", 2, 1.0, 9.2, 31.0),
            translation("nonrecurrent", 2, 0.8, 8.3, 32.0), translation("nonrecurrent", 1, 0.7, 8.0, 34.0)]
    tree.lines("profiles/box/translate.jsonl", runs)
    tree.lines("profiles/box/partial-translate-none-3.jsonl",
               [{**log("translate", None, "none")[0], "keep": 1.0, "seed": "3"}, *log("translate", None)[251:253]])
    tree.rebuild()
    page = tree.read()
    assert "9.10 ± 0.14 | 5.8 | 30.50 ± 0.71 | 25.50 ± 0.71 | 25.90" in page \
        and "8.20 ± 0.14 | 5.0 | 32.50 ± 0.71 | 27.50 ± 0.71 | 29.03" in page, page
    assert "| 1 | 9.00 | 30.00 | 25.00 | 8.10 | 33.00 | 28.00 | +10.0 % | +3.00 | +3.00 |" in page \
        and "| 2 | 9.20 | 31.00 | 26.00 | 8.30 | 32.00 | 27.00 | +9.8 % | +1.00 | +1.00 |" in page, page
    assert "| 0.7 | 1 | 8.10 | 8.00 | 34.00 | 29.00 | 6 |" in page and "nrefs:1|tok:none" in page, page
    assert page.count("| un homme | -1.23 |") == 2 and "*a man*" in page, page
    assert "seed 3, after 2 epochs; valid perplexity 180.00, 90.00" in page, page
    # No dropout is compared with the keep that has the most seeds.
    tree.lines("profiles/box/translate.jsonl", [*runs, translation("nonrecurrent", 2, 0.7, 8.0, 34.0),
                                                translation("nonrecurrent", 3, 0.7, 8.0, 34.0)])
    tree.rebuild()
    assert "| 0.7 | 3 | 5.00 ± 0.00 | 8.10 ± 0.00 | 8.00 ± 0.00 | 5.0 | 34.00 ± 0.00 | 29.00 ± 0.00 | 29.03" in tree.read(), tree.read()
    tree.lines("profiles/box/demo-translate.jsonl", [
        {"sites": sites, "seed": seed, "keep": 0.8, "best_ppl": 1.56, "words_in_place": 0.5,
         **{f"{prefix}{split}_ppl": base + seed for prefix in ("", "best_epoch_")
            for split in ("train", "valid", "test")}}
        for seed in (1, 2) for sites, base in (("none", 3.0), ("nonrecurrent", 2.0))])
    tree.rebuild()
    page = tree.read()
    assert "| no dropout, best epoch | 4.50 ± 0.71 | 4.50 ± 0.71 | 4.50 ± 0.71 | 50.0 ± 0.0 % | A box" in page \
        and "by 25.0 % and 20.0 %" in page, page
    tree.lines("profiles/box/translate.jsonl", [dict(runs[0], sites="all")])
    tree.refused("translate.jsonl", "sites all")


def speech(what, sites, seed, keep, acc, nats, setting=None):
    accuracies = {f"{prefix}{split}_acc{rest}": acc + more for prefix in ("", "best_epoch_")
                  for split, more in (("train", 0.1), ("valid", 0.01), ("test", 0.0))
                  for rest in ("", "_nosil")}
    return {"name": f"{sites}-{seed}", "what": what, "setting": setting, "sites": sites, "keep": keep, "seed": seed,
            "hidden": 128, "layers": 2, "batch": 5, "lr": 0.2,
            "hold": 5, "decay": 1.5, "F": 40, "V": 58, "frames": {"train": 90000, "valid": 10000, "test": 11000},
            "epochs": 10, "best_epoch": 7, **accuracies,
            "best_epoch_valid_nats": nats, "best_epoch_test_nats": nats, "minutes": 3.0}


def test_speech_beside_the_paper():
    tree = Tree()
    tree.rebuild()
    assert "| no dropout |  |  | 71.6 |  | 68.9 | not yet measured |" in tree.read() \
        and "| 69.4 |  | 70.5 | not yet measured |" in tree.read()
    runs = [speech("main", "none", 1, 1.0, 0.60, 1.2, "none, short"), speech("main", "nonrecurrent", 1, 0.7, 0.62, 1.08, "keep 0.7, long"),
            speech("main", "none", 2, 1.0, 0.61, 1.3, "none, short"), speech("main", "nonrecurrent", 2, 0.7, 0.62, 1.04, "keep 0.7, long"),
            speech("tune", "none", 1, 1.0, 0.59, 1.25, "none, long"), speech("curve", "nonrecurrent", 1, 0.5, 0.58, 1.3),
            speech("unseen", "none", 1, 1.0, 0.41, 2.5)]
    tree.lines("profiles/box/frames.jsonl", runs)
    tree.lines("profiles/box/frames-none-1.jsonl", [{"event": "run", "dropout_sites": "none"},
                                                    *({"event": "epoch", "epoch": e, "train_acc": 0.5 + 0.1 * e,
                                                       "valid_acc": 0.5, "valid_nats": 1} for e in (1, 2))])
    tree.rebuild()
    page = tree.read()
    assert "70.50 ± 0.71 | 71.6 | 61.50 ± 0.71 | 68.9 | 60.50 ± 0.71 | 60.50 ± 0.71 | 1.250 ± 0.071 | 7 | 2 | A box" in page, page
    assert "| 1 | +2.00 | +2.00 | +2.00 | +2.00 | 1.200 | 1.080 | -10.0 % |" in page \
        and "test accuracy is 1.50 points higher and test nats are 15.0 % lower" in page, page
    assert "| none, long | 5 | 1.5 | 10 | 60.00 | 59.00 | 1.250 | 7 |  |" in page \
        and "| none, short | 5 | 1.5 | 10 | 61.00 | 60.00 | 1.200 | 7 | yes |" in page, page
    assert "| none dropped | 70.00 | 61.00 |" in page and "| 0.5 | 68.00 |" in page \
        and "| no dropout | 51.00 | 42.00 | 41.00 |" in page, page
    assert "figures/frames.svg" in page and "90,000 + 10,000 + 11,000 frames" in page, page
    tree.lines("profiles/box/demo-speech.jsonl", [
        {"sites": sites, "seed": 1, "keep": 0.6, "epochs": 24, "possible_acc": 0.727, "possible_acc_nosil": 0.664, "possible_nats": 0.763,
         **{f"{prefix}{key}": base for prefix in ("", "best_epoch_")
            for key in ("train_acc", "valid_acc", "test_acc", "test_acc_nosil", "test_nats")}}
        for sites, base in (("none", 0.5), ("nonrecurrent", 0.6))])
    tree.rebuild()
    page = tree.read()
    assert "| non-recurrent dropout, best epoch | 60.00 | 60.00 | 60.00 | 60.00 | 0.600 | A box" in page \
        and "| best possible |  |  | 72.70 | 66.40 | 0.763 |" in page, page
    tree.lines("profiles/box/frames.jsonl", [dict(runs[0], sites="all")])
    tree.refused("frames.jsonl", "sites all")


def captions(side, repetition, test, score):
    return {"repetition": repetition, "side": side, "members": 10 if side == "ensemble" else 1,
            "keep": 0.9 if side == "dropout" else 1.0, "hidden": 128, "layers": 1,
            "batch": 5, "epochs": 26, "best_epochs": [20], "train_ppl": 2.5, "valid_ppl": test, "test_ppl": test,
            "shuffled_ppl": 2 * test, "best_ppl": 2.4,
            "bleu": score, "bleu_plain": score - 5, "length_penalty": 0.6, "bleu_signature": "nrefs:5|tok:none",
            "cider": 1.5, "true": 0.25, "beam": 12, "seconds": 60.0}


def test_captions_beside_the_paper():
    tree = Tree()
    tree.rebuild()
    page = tree.read()
    assert "| not yet measured | 8.47 | not yet measured |  | 23.5 |" in page \
        and "| 7.99 | not yet measured |  | 24.3 |" in page and "| 7.50 | not yet measured |  | 24.4 |" in page
    records = [captions("none", 1, 3.3, 40.0), captions("dropout", 1, 3.0, 42.0), captions("none", 2, 3.5, 41.0)]
    tree.lines("profiles/box/caption.jsonl",
               [{"tuned": "dropout", "keep": 0.9, "valid_ppl": 3.1, "best_epoch": 25, "epochs": 26, "hold": 14,
                 "seed": 1, "chosen": True}, *records])
    tree.rebuild()
    page = tree.read()
    assert "| no dropout | – | 2 | 3.40 ± 0.14 | 8.47 | 40.50 ± 0.71 | 35.50 ± 0.71 | 23.5 | 1.50 ± 0.00 | 25.0 ± 0.0 % |" in page, page
    assert "| 1 | 3.30 | 3.00 | not yet measured | 40.00 | 42.00 | not yet measured | +9.1 % | +2.00 |" in page \
        and "| non-recurrent dropout | 0.9 | 26 | 14 | 3.10 | 25 | yes |" in page, page
    assert "2.0 to 2.0 times as high. One layer of 128 units" in page, page
    tree.lines("profiles/box/caption.jsonl", [dict(records[0], side="all")])
    tree.refused("caption.jsonl", "side all")


def simulated(variant, how, cycles, right=True):
    return {"icache": "perfect", "H": 200, "B": 20, "T": 3, "variant": variant, "pass": "forward", "how": how,
            "right": right, "error": 1e-7, "loop_error": 2e-7,
            "plan": None if variant == "cublas" else "backward=0", "predicted_us": 7.0,
            "cycles": {"step": cycles, "compute": cycles - 100}, "us": round(cycles / 706, 2),
            "commit": "abc", **({} if variant == "cublas" else {"in_registers": 0.25, "in_shared": 0.5})}


def test_simulated_steps_beside_the_baseline():
    tree = Tree()
    runs = [simulated("cublas", "plain", 20000), simulated("reg", "plain", 10000), simulated("reg", "skew", 15000),
            simulated("reg", "nowait", 9000, right=False)]
    tree.write("profiles/k20-sim/steps.json", json.dumps({"simulator": "GPGPU-Sim 4.2.0", "mhz": 706, "runs": runs}))
    tree.rebuild()
    page = tree.read()
    assert "| reg | forward | 200 | 20 | 25 % + 50 % | perfect | 10,000 | compute 9,900 | 14.2 | 7.0 | 2.00 | right " \
        "| right | wrong, as it must be | `abc` |" in page, page
    assert "| cublas (stand-in) | forward | 200 | 20 |  | perfect | 20,000 | compute 19,900 | 28.3 | 7.0 |  | right " \
        "|  |  | `abc` |" in page, page


def test_our_own_page_is_current():
    done = subprocess.run([sys.executable, TOOL, "--check"], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_numbers_come_from_the_files():
    tree = Tree()
    tree.rebuild()
    page = tree.read()
    for text in ("115.0", "114.5", "17.45 ± 0.07", "15.75 ± 0.07", "13.81", "| 1.87 |", "71 %", "58.1 % | 21.5 % |",
                 "| 20.4 %", "A box",
                 "profiles/box/ptb-small.jsonl", "words before", "words after ptb"):
        assert text in page, (text, page)
    tree.edit("profiles/box/ptb-small.jsonl", "114.98", "123.45")
    tree.edit("profiles/box/bench-cpu.json", "1.87", "2.34")
    tree.rebuild()
    page = tree.read()
    assert "123.5" in page and "2.34" in page and "115.0" not in page and "1.87" not in page, page


def test_an_unfinished_run_is_left_out_once_another_is_further():
    tree, corpus = Tree(), "Penn Treebank (Mikolov)"
    for seed, epochs in (("1", 1), ("2", 2)):  # seed 1 is finished, seed 2 is not
        tree.lines(f"profiles/box/partial-ptb-small-seed{seed}.jsonl", log("small", corpus, seed=seed)[:-4 + epochs])
    tree.json("profiles/other/machine.json", {"hardware": "Another box"})
    tree.lines("profiles/other/partial-ptb-small-seed2.jsonl", log("small", corpus, seed="2")[:-3])
    tree.lines("profiles/other/partial-ptb-small-cuda-seed2.jsonl", log("small", corpus, seed="2", backend="cuda")[:-3])
    tree.rebuild()
    page = tree.read()
    assert "(profiles/box/partial-ptb-small-seed2.jsonl)" in page \
        and "(profiles/other/partial-ptb-small-cuda-seed2.jsonl)" in page, page
    for left_out in ("box/partial-ptb-small-seed1", "other/partial-ptb-small-seed2"):
        assert f"(profiles/{left_out}.jsonl)" not in page, page


def test_the_build_for_the_own_cpu_comes_first():
    tree = Tree()
    for name, march in (("bench-cpu-v3", "x86-64-v3"), ("bench-cpu", "native")):
        tree.json(f"profiles/box/{name}.json", dict(speed(), march=march, vector_floats=8))
    tree.rebuild()
    page = tree.read()
    assert 0 < page.index("MARCH=native") < page.index("MARCH=x86-64-v3") and "Some CPU" not in page, page


def test_variants_without_a_launch_are_named_once():
    plan = {"device": "K20", "preset": "small", "H": 200, "variant": "reg", "pass": "forward", "blocks": 13, "threads": 384, "replicas": 1,
            "kernel": "fwd_reg<1>", "compiled_registers": 168, "shared_bytes": 48784, "resident_registers": 1, "resident_shared": 0,
            "streamed_bytes": 0}
    refused = [dict(plan, variant=variant, **{"pass": direction}, refused="it has no plan")
               for variant in ("mma", "cluster") for direction in ("forward", "backward")]
    part = dict(plan, refused="reg backward with H 200 and B 20 has no plan on K20: it needs more; less", **{"pass": "backward"})
    tree = Tree()
    tree.json("profiles/k20/machine-code.json", {"arch": "sm_35", "compiler": "CUDA", "listed_compiler": "CUDA", "kernels": [], "faults": [],
                                                 "plans": [plan, part, *refused]})
    tree.rebuild()
    page = tree.read()
    assert "at the paper's shapes; it has none for `mma` and `cluster`:" in page and "no plan: it needs more |" in page, page
    assert "| mma |" not in page and "it has no plan" not in page, page


def test_the_readme_has_the_perplexity_of_the_results():
    def cells(file, first):
        with open(os.path.join(ROOT, file), encoding="utf-8") as f:
            return [[cell.strip() for cell in line.split("|")[1:-1]] for line in f if line.startswith(f"| {first} |")]
    for preset in ("small", "medium", "large"):
        # The finished runs of the page; the first has the most seeds.
        found = [row[9] for row in cells("RESULTS.md", preset) if len(row) == 15 and row[9][:1].isdigit()]
        (shown,) = [row[6] for row in cells("README.md", preset) if len(row) == 7]
        assert shown == (found[0] if found else "see RESULTS.md"), (preset, shown, found)


def test_ensembles_beside_the_paper():
    tree = Tree()
    curve = [{"members": k, "ensembles": 10, "which": "all", "ppl_mean": 120.0 - 3 * k, "ppl_std": 0.5,
              "ppl_low": 119.0 - 3 * k, "ppl_high": 121.0 - 3 * k}
             for k in (1, 2, 5)]
    tree.lines("profiles/box/ensemble-small.jsonl", [{"event": "ensemble", "curve": curve}])
    tree.rebuild()
    page = tree.read()
    assert "| small | 2 | 114.00 | 113.00 to 115.00 | 10 | 96.1 | A box |" in page, page
    assert "| small | 10 | not yet trained |  |  | 80.0 |" in page and "| large | 38 | not yet trained |" in page, page


def reach_records(trained, masks, factor):
    return [{"event": "reach", "trained": trained, "masks": masks, "keep": 0.5, "seed": "1", "hidden": 128, "layers": 2,
             "steps": k, "gradients": 300,
             "p10": 0.5 * factor**k, "median": factor**k, "p90": 2 * factor**k} for k in (1, 2, 8, 16, 32, 64)]


def distance_records(sites, seed, nats):
    return [{"event": "distance", "trained": sites, "masks": sites, "keep": 0.5, "seed": seed, "hidden": 128,
             "layers": 2, "inside": k, "words": 4,
             "nats": 4 * nats, "best_nats": 4 * 2.5} for k in range(0, 30, 3)]


def test_reach_and_distance():
    tree = Tree()
    tree.lines("profiles/box/reach.jsonl", reach_records("nonrecurrent", "nonrecurrent", 0.9) + reach_records("all", "all", 0.8)
               + reach_records("nonrecurrent", "all", 0.7))
    tree.lines("profiles/box/distance.jsonl",
               [r for seed, more in (("1", 0.0), ("2", 0.1)) for sites, nats in (("nonrecurrent", 3.0), ("all", 3.5))
                for r in distance_records(sites, seed, nats + more)])
    tree.rebuild()
    page = tree.read()
    assert "| non-recurrent | 0.9 (0.45 to 1.8) |" in page and "| non-recurrent, naive masks | 0.7 " in page, page
    assert "| 0 to 4 | 8 | 21.14 ± 1.49 | 34.86 ± 2.46 | 12.18 | +64.9 % | A box |" in page, page
    for name in ("reach", "distance"):
        assert f"profiles/figures/box-{name}.svg" in page and "</svg>" in tree.read(f"profiles/figures/box-{name}.svg")
    tree.lines("profiles/box/distance.jsonl", distance_records("all", "1", 3.0))
    tree.refused("distance.jsonl", "same seeds")
    tree.lines("profiles/box/reach.jsonl", reach_records("all", "all", 0.8)[1:])
    tree.refused("reach.jsonl", "lacks some numbers of steps")


def test_perplexity_over_seeds():
    tree = Tree()
    tree.lines("profiles/box/ptb-small-seed2.jsonl", log("small", "Penn Treebank (Mikolov)", test=116.98, seed="2"))
    tree.lines("profiles/box/ptb-medium.jsonl", log("medium", "Penn Treebank (Mikolov)", test=83.0, backend="cuda"))
    tree.lines("profiles/box/partial-ptb-large.jsonl", log("large", "Penn Treebank (Mikolov)")[:-2])
    tree.rebuild()
    page = tree.read()
    assert "| small | cpu f32 | 2 | 3 |" in page and "| 116.0 ± 1.4 | 114.5 |" in page, page
    assert "| medium | cuda f32 | 1 |" in page and "| small | cuda |" in page and "| medium | cuda |  |" not in page
    assert "| large | cpu f32 | 1 | 2 of 39 | 180.0 | 100.0 | 90.0 | 85.0 | 82.2 | not finished | 78.4 |" in page, page
    started = log("large", "Penn Treebank (Mikolov)")[:8]
    tree.lines("profiles/box/partial-ptb-large.jsonl", started)
    tree.rebuild()
    assert "| 0 of 39, and 7 of the next epoch's 100 minibatches |  |  |  |  | 82.2 | not finished |" in tree.read(), tree.read()
    assert "box-ptb-small.svg" in page and "box-ptb-small-seed2.svg" not in page
    tree.lines("profiles/box/ptb-small-seed2.jsonl", log("small", "Penn Treebank (Mikolov)", test=116.98))
    tree.refused("ptb-small-seed2.jsonl", "different seeds")


def test_check_fails_when_the_data_changed():
    tree = Tree()
    tree.refused("RESULTS.md", "make results", options=["--check"])
    tree.rebuild()
    assert tree.run("--check")[0] == 0
    tree.edit("profiles/box/ptb-small.jsonl", "114.98", "116.98")
    before = tree.read()
    tree.refused("RESULTS.md", options=["--check"])
    assert tree.read() == before, "--check wrote"


def test_check_fails_when_the_page_was_edited_by_hand():
    tree = Tree()
    tree.rebuild()
    tree.edit("RESULTS.md", "115.0", "110.0")
    tree.refused("RESULTS.md", options=["--check"])
    tree.rebuild()
    assert "115.0" in tree.read()


def test_text_outside_the_marks_is_kept():
    tree = Tree()
    tree.rebuild()
    tree.edit("RESULTS.md", "words before", "other words")
    assert tree.run("--check")[0] == 0


def test_rebuilding_twice_changes_nothing():
    tree = Tree()
    tree.rebuild()
    figures = [f"profiles/figures/{name}" for name in os.listdir(tree.path("profiles/figures"))]
    first = {name: tree.read(name) for name in ["RESULTS.md", *figures]}
    shutil.rmtree(tree.path("profiles/figures"))
    tree.rebuild()
    assert len(first) == 4, list(first)  # the page, the demo's two figures, Penn Treebank's
    for name, text in first.items():
        assert tree.read(name) == text, name


def test_check_fails_when_a_figure_is_old_or_missing():
    tree = Tree()
    tree.rebuild()
    figure = "profiles/figures/box-ptb-small.svg"
    os.remove(tree.path(figure))
    tree.refused(figure, options=["--check"])
    tree.rebuild()
    text = tree.read("profiles/box/ptb-small.jsonl").replace('"train_ppl": 100.0', '"train_ppl": 101.0')
    tree.write("profiles/box/ptb-small.jsonl", text)
    tree.refused(figure, options=["--check"])


def test_marks_missing_twice_unknown_or_out_of_order():
    Tree(names=NAMES[1:]).refused("begin:demo")
    Tree(names=NAMES + ("demo",)).refused("RESULTS.md must have each mark exactly once")
    Tree(names=NAMES + ("other",)).refused("other")
    tree = Tree()
    tree.write("RESULTS.md", marks(NAMES).replace("<!-- begin:ptb -->\n<!-- end:ptb -->", "<!-- end:ptb -->\n<!-- begin:ptb -->"))
    tree.refused("ptb")


def test_parity_is_an_interval():
    tree = Tree()
    run = {"backend": "cpu", "kernel": None, "corpus": "synthetic", "hidden": 64, "layers": 1, "epochs": 12,
           "options": ["--data", "synthetic"]}
    ppl = {"f32": (20.0, 10.0, 40.0), "tf32": (20.0, 10.0, 40.0), "bf16": (20.2, 10.0, 39.6)}
    records = [{**run, "seed": str(i + 1), "precision": p, "test_ppl": ppl[p][i]} for i in range(3) for p in ppl]
    tree.lines("profiles/box/parity.jsonl", records)
    tree.rebuild()
    row = [line for line in tree.read().splitlines() if line.startswith("| synthetic, 1 layer of 64, 12 epochs |")]
    assert "tf32 | 3: 1 to 3 | 23.33 | 23.33 | +0.00 % | +0.00 % to +0.00 % | yes | A box" in row[0], row
    assert "bf16 | 3: 1 to 3 | 23.33 | 23.27 | +0.00 % | -2.48 % to +2.48 % | no | A box" in row[1], row
    assert "| Penn Treebank, small | cuda | bf16 |  |  |  | not yet measured |" in tree.read()
    records[4]["options"] = ["--keep", "0.5"]
    tree.lines("profiles/box/parity.jsonl", records)
    tree.refused("box/parity.jsonl", "more than precision and seed")


def test_missing_measurements_are_listed():
    tree = Tree(data=False)
    tree.rebuild()
    page = tree.read()
    assert page.count("Not yet measured.") == 11 and "ptb-large" in page, page


def test_bad_data_is_one_sentence():
    tree = Tree()
    tree.write("profiles/box/demo.jsonl", "{\n")
    tree.refused("box/demo.jsonl", "JSON")
    tree = Tree()
    tree.lines("profiles/box/ptb-small.jsonl", log("small", "synthetic"))
    tree.refused("expected Penn Treebank")
    tree = Tree()
    tree.lines("profiles/box/ptb-small.jsonl", log("small", "Penn Treebank (Mikolov)")[:-1])
    tree.refused("unfinished run")
    tree = Tree()
    os.remove(tree.path("profiles/box/machine.json"))
    tree.refused("machine.json")
    tree = Tree()
    tree.edit("profiles/box/bench-cpu.json", '"of_square"', '"square_of"')
    tree.refused("cpu-speed")
    tree = Tree()
    tree.write("profiles/box/perf-H650.txt", "58.08 of what\n")
    tree.refused("perf-H650.txt")


def test_committed_logs_are_thinned():
    logs = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(ROOT, "profiles")) for name in names
            if name.endswith(".jsonl")]
    assert logs
    for path in logs:
        with open(path, encoding="utf-8") as f:
            steps = [e["step"] for e in map(json.loads, f) if e.get("event") == "step"]
        assert all(step % 100 == 0 for step in steps), path


def test_thin_keeps_every_hundredth_step():
    tree = Tree()
    whole = tree.read("profiles/box/ptb-small.jsonl")
    status, said = tree.run("--thin", tree.path("profiles/box/ptb-small.jsonl"), tree.path("profiles/box/ptb-small.jsonl"))
    assert status == 1 and "two different files" in said and tree.read("profiles/box/ptb-small.jsonl") == whole, said
    status, said = tree.run("--thin", tree.path("profiles/box/ptb-small.jsonl"), tree.path("thin.jsonl"))
    assert status == 0, said
    events = [json.loads(line) for line in tree.read("thin.jsonl").splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == [0, 100, 200]
    assert [e["event"] for e in events if e["event"] != "step"] == ["run", "epoch", "epoch", "epoch", "test"]


tap.main(globals())
