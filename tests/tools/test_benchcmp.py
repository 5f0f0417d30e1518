"""Tests tools/benchcmp.py on files made here, none of which has a measurement: verdicts by intervals, names, formats, exit statuses."""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
CASES = os.path.join(ROOT, "../shared/cases")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import benchcmp  # noqa: E402


def row(name, median, noise=0.001, **more):
    """Returns a row of bench_gpu whose median is known to +-noise."""
    return {"name": name + "/iterations:1/manual_time", "run_type": "iteration", "median_us": median, "lo_us": median * (1 - noise),
            "hi_us": median * (1 + noise), "samples": 50, **more}


def failed(name, message):
    return {"name": name + "/iterations:1/manual_time", "run_type": "iteration", "error_occurred": True, "error_message": message}


def compare(a, b, *options, context_a=None, context_b=None):
    """Returns (status, standard output, standard error)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("a.json", "b.json")]
        for path, found, context in zip(paths, (a, b), (context_a, context_b)):
            with open(path, "w", encoding="utf-8") as f:
                json.dump({"context": context or {}, "benchmarks": found} if isinstance(found, list) else found, f)
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), *paths, *options], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def verdicts(text):
    """Returns {row: verdict} of a table."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[-1] for line in cells if line[0] not in ("row", ":--")}


def test_verdicts_follow_the_intervals():
    cases = {  # (A, its noise), (B, its noise): verdict at 2 %
        "equal": ((100, .001), (100, .001), "same"),
        "a little": ((100, .001), (101.5, .001), "same"),
        "more than a little": ((100, .001), (103, .001), "slower"),
        "much": ((100, .02), (150, .02), "slower"),
        "less": ((100, .001), (90, .001), "faster"),
        "noisy": ((100, .05), (104, .05), "unclear"),
        "noisy and equal": ((100, .05), (100, .05), "unclear"),
        "noisy but far": ((100, .05), (70, .05), "faster"),
        "touching": ((100, .02), (104.1, .02), "slower"),
    }
    status, said, _ = compare([row(n, *a) for n, (a, _, _) in cases.items()], [row(n, *b) for n, (_, b, _) in cases.items()])
    assert status == 1
    assert verdicts(said) == {name: verdict for name, (_, _, verdict) in cases.items()}, said


def test_within_sets_the_tolerance():
    a, b = [row("r", 100)], [row("r", 103)]
    assert verdicts(compare(a, b)[1]) == {"r": "slower"}
    assert verdicts(compare(a, b, "--within", "5")[1]) == {"r": "same"}
    assert verdicts(compare(a, b, "--within", "0")[1]) == {"r": "slower"}


def test_rows_without_a_time():
    a = [row("gone", 1), row("refused", 1), row("wrong", 1), failed("new", "refused: no room"), failed("neither", "refused: no room"),
         failed("still wrong", "wrong: h is off")]
    b = [failed("refused", "refused: no room"), failed("wrong", "wrong: h is off by 1"), row("new", 1),
         failed("neither", "refused: no room"), row("only B", 1), failed("still wrong", "wrong: h is off")]
    said = compare(a, b)[1]
    assert verdicts(said) == {"gone": "gone", "refused": "refused", "wrong": "wrong", "new": "new", "neither": "neither",
                              "only B": "new", "still wrong": "wrong"}, said


def test_fail_on():
    a, b = [row("r", 100), row("s", 100), row("t", 1)], [row("r", 120), row("s", 100), failed("t", "wrong: h")]
    assert compare(a, b)[0] == 1
    assert compare(a, b, "--filter", "^s$")[0] == 0
    assert compare(a, b, "--filter", "^t$")[0] == 1  # a wrong result is a regression by itself
    assert compare(a, b[:2])[0] == 1 and compare(a[1:2], b[1:2])[0] == 0  # and so is a missing row
    assert compare(a, b, "--fail-on", "slower")[0] == 1
    assert compare(a, b, "--fail-on", "faster,gone")[0] == 0
    assert compare(a, b, "--fail-on", "faster,wrong")[0] == 1
    assert compare(a, b, "--fail-on", "slower", "--filter", "^s$")[0] == 0
    status, _, said = compare(a, b, "--fail-on", "sloer")
    assert status == 2 and "sloer" in said, said


def test_decorations_of_names_are_removed():
    for name in ("lstm/fwd/reg/f32/H:650/B:20/T:35/iterations:1/manual_time", "lstm/fwd/reg/f32/H:650/B:20/T:35/manual_time",
                 "lstm/fwd/reg/f32/H:650/B:20/T:35/repeats:3/real_time", "lstm/fwd/reg/f32/H:650/B:20/T:35"):
        assert benchcmp.plain_name(name) == "lstm/fwd/reg/f32/H:650/B:20/T:35", name
    a, b = row("r/H:650", 100), row("r/H:650", 100)
    b["name"] = "r/H:650"
    assert verdicts(compare([a], [b])[1]) == {"r/H:650": "same"}


def test_l2_flushed_is_a_line_of_its_own():
    a = row("r", 100, cold_median_us=200, cold_lo_us=199, cold_hi_us=201)
    b = row("r", 100, cold_median_us=300, cold_lo_us=299, cold_hi_us=301)
    assert verdicts(compare([a], [b])[1]) == {"r": "same", "r (L2 flushed)": "slower"}


def test_quantiles_where_there_is_no_interval():
    """Rows as torch_peer.py writes them: 2000 samples narrow the interval of the median, 3 do not."""
    wide = {"p10_us": 90, "p90_us": 110}
    few, many = {"name": "r", "median_us": 100, "samples": 3, **wide}, {"name": "r", "median_us": 100, "samples": 2000, **wide}
    assert verdicts(compare([many], [many])[1]) == {"r": "same"}
    assert verdicts(compare([few], [few])[1]) == {"r": "unclear"}


def test_repetitions_and_single_numbers():
    repeated = lambda base, times: [{"name": "step/real_time", "run_type": "iteration", "real_time": base * t,
                                     "time_unit": "ms"} for t in times]
    aggregate = {"name": "step_median", "run_type": "aggregate", "real_time": 1, "time_unit": "ms"}
    said = compare(repeated(5, (1, 1.01, .99)) + [aggregate], repeated(6, (1, 1.01, .99)))[1]
    assert verdicts(said) == {"step": "slower"} and "5000 us" in said and "1.200" in said, said
    assert verdicts(compare(repeated(5, (1,)), repeated(9, (1,)))[1]) == {"step": "unclear"}


def aggregates(median, deviation=1, repetitions=5, name="step/real_time", **more):
    """Returns a row as --benchmark_report_aggregates_only writes it."""
    values = {"mean": median * 3, "median": median, "stddev": deviation, "cv": 0.5}
    return [{"name": f"{name}_{what}", "run_name": name, "run_type": "aggregate", "aggregate_name": what, "repetitions": repetitions,
             "real_time": value, "time_unit": "us", **more} for what, value in values.items() if value is not None]


def test_medians_where_a_file_has_only_aggregates():
    status, said, _ = compare(aggregates(100), aggregates(200))
    assert status == 1 and verdicts(said) == {"step": "slower"} and "2.000" in said, said
    status, said, _ = compare(aggregates(100, .1), aggregates(100.5, .1))
    assert status == 0 and verdicts(said) == {"step": "same"}, said
    # Aggregates beside repetitions, whose own median and range count, and beside counters of bench_gpu, whose median is a time.
    repeated = [{"name": "step/real_time", "run_type": "iteration", "real_time": t, "time_unit": "us"} for t in (99, 100, 101)]
    assert verdicts(compare(repeated + aggregates(7), aggregates(200))[1]) == {"step": "slower"}
    counted = lambda us: [{**r, "median_us": us if r["aggregate_name"] == "median" else .1, "real_time": 1} for r in aggregates(1)]
    assert verdicts(compare(counted(100), counted(120))[1]) == {"step": "slower"}
    assert verdicts(compare(aggregates(100), aggregates(100, error_occurred=True, error_message="wrong: h"))[1]) == {"step": "wrong"}


def test_a_case_from_a_user():
    if not os.path.isdir(CASES):
        raise tap.Skip("../shared/cases is not there")
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), f"{CASES}/agg_a.json", f"{CASES}/agg_b.json",
                           "--fail-on", "slower"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and verdicts(done.stdout) == {"BM_x": "slower"}, done.stdout


def test_nothing_compared_is_not_a_pass():
    single = lambda us: [{"name": "step", "run_type": "iteration", "real_time": us, "time_unit": "us"}]
    for a, b, options, why in (([], [], (), "matches --filter"), ([row("r", 1)], [row("r", 1)], ("--filter", "x"), "matches --filter"),
                               ([row("r", 1)], [row("s", 1)], (), "a time in both files"), (single(1), single(2), (), "repeat"),
                               (aggregates(1, None), aggregates(2, None), (), "repeat"),
                               (aggregates(1, .1, 2), aggregates(2, .1, 2), (), "repeat"),
                               ([failed("r", "refused: no")], [failed("r", "refused: no")], (), "a time in both files")):
        for more in ((), ("--fail-on", "slower")):
            status, _, said = compare(a, b, *options, *more)
            assert status == 3 and why in said and said.count("\n") == 1, (status, said)


def run_on_one_row(environment=None, **streams):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"benchmarks": [row("r", 100)]}, f)
        return subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), path, path], stderr=subprocess.PIPE, text=True,
                              env={**os.environ, **(environment or {})}, **streams)


def test_an_internal_failure_is_not_a_verdict():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run_on_one_row(stdout=full)
    assert done.returncode == 4 and done.stderr == "benchcmp: standard output cannot be written: No space left on device\n", done.stderr
    read, write = os.pipe()
    os.close(read)
    done = run_on_one_row(stdout=write)
    os.close(write)
    assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
    # with an encoding that lacks the table's signs, the signs are lost but not the verdict
    done = run_on_one_row({"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}, stdout=subprocess.PIPE)
    assert done.returncode == 0 and "1 same" in done.stdout, done.stderr


def test_encodings_of_the_input():
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({"benchmarks": [row("µ", 100)]}, ensure_ascii=False)
        paths = []
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            paths.append(os.path.join(folder, encoding))
            with open(paths[-1], "w", encoding=encoding) as f:
                f.write(text)
        for path in paths:
            done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), paths[0], path],
                                  stdout=subprocess.PIPE, text=True)
            assert done.returncode == 0 and "1 same" in done.stdout
        with open(paths[0], "wb") as f:
            f.write(text.encode("latin-1"))
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), *paths[:2]], stderr=subprocess.PIPE, text=True)
        assert done.returncode == 3 and "is not JSON" in done.stderr


def test_one_failed_repetition_fails_the_row():
    assert verdicts(compare([row("r", 1)], [row("r", 1), failed("r", "wrong: h"), row("r", 1)])[1]) == {"r": "wrong"}


def test_filed_rows_and_constants():
    filed = lambda median: {"context": {"ours": {"commit": "abc"}}, "rows": [
        {"name": "r", "median_us": median, "lo_us": median, "hi_us": median, "error": 1e-7},
        {"name": "t", "error": "refused: no room"}]}
    assert verdicts(compare(filed(10), filed(20))[1]) == {"r": "slower", "t": "neither"}
    made = lambda rate, hop: {"gpu": "X", "constants": {
        "copy": {"value": rate, "lo": rate * .999, "hi": rate * 1.001, "unit": "B/s"},
        "hop": {"value": hop, "p10": hop * .999, "p90": hop * 1.001, "samples": 50, "unit": "us"},
        "cluster": {"refused": "no clusters", "unit": "us"}}}
    said = compare(made(4e12, 1.0), made(3e12, 0.5))[1]
    assert verdicts(said) == {"copy": "slower", "hop": "faster", "cluster": "neither"}, said


def test_constants_that_are_rates_or_counts():
    made = lambda factor: {"gpu": "X", "constants": {
        name: {"value": factor * 10, "lo": factor * 9.99, "hi": factor * 10.01, "unit": unit}
        for name, unit in (("dsmem_rate", "B/clk/SM"), ("mma_rate", "1/clk/SM"), ("clusters_8", "count"), ("cluster_hop", "us"))}}
    said = compare(made(1), made(0.5))[1]
    assert verdicts(said) == {"dsmem_rate": "slower", "mma_rate": "slower", "clusters_8": "slower", "cluster_hop": "faster"}, said


def test_context_differences_are_listed():
    said = compare([row("r", 1)], [row("r", 1)], context_a={"gpu": "NVIDIA H100", "commit": "aaa"},
                   context_b={"gpu": "NVIDIA H200", "commit": "aaa"})[1]
    assert "- gpu: A NVIDIA H100, B NVIDIA H200" in said and "commit" not in said, said


def test_the_emulator_is_not_compared_with_a_gpu():
    emulated, real = {"gpu": "emulated H200"}, {"gpu": "NVIDIA H200"}
    status, said, why = compare([row("r", 1)], [row("r", 1)], context_a=real, context_b=emulated)
    assert status == 3 and not said and "emulator" in why, why
    assert compare([row("r", 1)], [row("r", 1)], context_a=emulated, context_b=emulated)[0] == 0


def test_files_without_measurements():
    for found, why in (({}, "has no benchmark rows"), ([3], "is not a benchmark row"), ([{"median_us": 1}], "KeyError")):
        status, said, error = compare(found, [row("r", 1)])
        assert status == 3 and not said and why in error and error.count("\n") == 1, error
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cut.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write('{"benchmarks": [')
        for bad, why in ((path, "is not JSON"), (path + "x", "cannot be read")):
            done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), bad, bad], stderr=subprocess.PIPE, text=True)
            assert done.returncode == 3 and why in done.stderr, done.stderr


def test_out():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "table.md")
        status, said, _ = compare([row("r|s", 100)], [row("r|s", 100)], "--out", path)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        assert status == 0 and not said and "r\\|s" in text and text.endswith("1 same\n"), text
        status, said, why = compare([row("r", 1)], [row("r", 1)], "--out", folder)
        assert status == 4 and not said and folder in why and why.count("\n") == 1, why


def test_out_must_not_be_an_input():
    with tempfile.TemporaryDirectory() as folder:
        path, link = os.path.join(folder, "a.json"), os.path.join(folder, "link.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"benchmarks": [row("r", 100)]}, f)
        os.symlink(path, link)
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools/benchcmp.py"), path, path, "--out", link], stderr=subprocess.PIPE)
        with open(path, encoding="utf-8") as f:
            assert done.returncode == 2 and json.load(f)["benchmarks"], done.stderr


tap.main(globals())
