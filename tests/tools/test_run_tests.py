"""Tests tools/make/run_tests.py: what it counts, what it treats as a failure, its last line and its exit status."""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import tap  # noqa: E402

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", "tools/make/run_tests.py")


def run(*programs, options=()):
    """Writes each program (shell text) to a file, runs them all and returns (status, lines of output, names in the folder)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, text in enumerate(programs):
            python = text.startswith("import")
            path = os.path.join(folder, f"t{number}.py" if python else f"t{number}")
            with open(path, "w", encoding="utf-8") as f:
                f.write(text if python else "#!/bin/sh\n" + text)
            os.chmod(path, 0o755)
            paths.append(path)
        done = subprocess.run([sys.executable, RUNNER, *options, *paths], stdout=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


def expect(programs, status, last, *said, options=()):
    got, lines = run(*programs, options=options)
    assert lines[-1] == last, lines
    assert got == status, (got, lines)
    for words in said:
        assert any(words in line for line in lines), (words, lines)


def test_sums_over_programs():
    expect(["echo 1..2; echo ok 1 - a; echo ok 2 - b", "import sys\nprint('1..1\\nok 1 - c')"], 0, "3 passed, 0 failed, 0 skipped",
           "2 passed", "1 passed")


def test_failed_case_shows_all_output():
    expect(["echo 1..2; echo hello; echo ok 1 - a; echo 'not ok 2 - b'; exit 1"], 1, "1 passed, 1 failed, 0 skipped", "| hello",
           "| not ok 2 - b")


def test_failed_case_counts_though_the_status_is_0():
    expect(["echo 1..1; echo 'not ok 1 - b'"], 1, "0 passed, 1 failed, 0 skipped")


def test_skips_are_counted_with_their_reason():
    expect(["echo 1..2; echo ok 1 - a; echo 'ok 2 - b # SKIP no device here'"], 0, "1 passed, 0 failed, 1 skipped",
           "skipped b: no device here")


def test_cases_skipped_for_one_reason_are_one_line():
    cases = "".join(f"echo 'ok {n} - c{n} # SKIP no torch'; " for n in (1, 2, 3))
    expect([f"echo 1..4; {cases} echo 'ok 4 - d # SKIP no disk'"], 0, "0 passed, 0 failed, 4 skipped", "skipped 3 cases: no torch",
           "skipped d: no disk")


def test_skip_as_cmocka_writes_it():
    expect(["echo 1..2; echo ok 1 - a; echo there is no corpus; echo 'not ok 2 # SKIP b'"], 0, "1 passed, 0 failed, 1 skipped",
           "skipped b: there is no corpus")


def test_whole_program_skipped():
    expect(["echo '1..0 # SKIP nothing to test with'"], 0, "0 passed, 0 failed, 1 skipped", "nothing to test with")


def test_crash_after_passing_cases():
    expect(["echo 1..1; echo ok 1 - a; kill -SEGV $$"], 1, "1 passed, 1 failed, 0 skipped", "died of SIGSEGV")


def test_status_without_a_failed_case():
    expect(["echo 1..1; echo ok 1 - a; exit 3"], 1, "1 passed, 1 failed, 0 skipped", "exited with status 3")


def test_early_end():
    expect(["echo 1..3; echo ok 1 - a; exit 0"], 1, "1 passed, 1 failed, 0 skipped", "ended after 1 of 3 cases")


def test_two_groups_of_cmocka_in_one_program():
    expect(["echo 1..1; echo ok 1 - a; echo 1..2; echo ok 1 - a; echo ok 2 - b"], 0, "3 passed, 0 failed, 0 skipped")


def test_failed_group_setup_of_cmocka():
    expect(["echo 1..2; echo 'not ok 0 - g [  FAILED  ] GROUP SETUP'; exit 2"], 1, "0 passed, 1 failed, 0 skipped")


def test_no_case_at_all():
    expect(["echo nothing to see"], 1, "0 passed, 1 failed, 0 skipped", "ran no test case")


def test_missing_program():
    got, lines = run(options=["/nonexistent/test"])
    assert got == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped", lines
    assert any("cannot be run" in line for line in lines), lines


def test_no_program():
    got, lines = run()
    assert got == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped", lines


def test_limit_ends_the_program_and_its_children():
    with tempfile.TemporaryDirectory() as folder:
        note = os.path.join(folder, "pid")
        start = time.monotonic()
        expect([f"echo 1..2; echo ok 1 - a; sleep 300 & echo $! > {note}; wait"], 1, "1 passed, 1 failed, 0 skipped", "ran longer than 1 s",
               options=["--limit", "1"])
        assert time.monotonic() - start < 30
        with open(note, encoding="utf-8") as f:
            pid = int(f.read())
        for _ in range(100):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                        return
            except FileNotFoundError:
                return
            time.sleep(0.05)
        raise AssertionError("the child of the stopped program still runs")


def test_two_at_a_time_and_alone():
    with tempfile.TemporaryDirectory() as folder:
        meet = (f"echo 1..1; touch {folder}/%s; n=0; while [ ! -e {folder}/%s ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done;"
                f" [ -e {folder}/%s ] && echo ok 1 - met || echo not ok 1 - alone")
        expect([meet % ("a", "b", "b"), meet % ("b", "a", "a")], 0, "2 passed, 0 failed, 0 skipped", options=["-j", "2"])
    with tempfile.TemporaryDirectory() as folder:
        mine = (f"echo 1..1; mkdir {folder}/lock && echo ok 1 - alone || echo not ok 1 - met; sleep 0.2; rmdir {folder}/lock")
        expect([mine, mine], 0, "2 passed, 0 failed, 0 skipped", options=["-j", "2", "--alone"])


def test_programs_get_the_build_folder():
    told = 'echo 1..1; [ "$PLSTM" = "$PLSTM_BUILD/plstm" ] && [ "$PLSTM_BUILD" = "$PWD/x" ] && [ "$PLSTM_LONG" = 1 ] && echo ok 1 - told'
    kept = os.environ.pop("PLSTM", None)
    try:
        expect([told], 0, "1 passed, 0 failed, 0 skipped", options=["--build", "x", "--long"])
    finally:
        if kept:
            os.environ["PLSTM"] = kept


def ended(pid):
    """Returns whether the process is gone or a zombie within 10 s: a signal is delivered when its target is scheduled,
    not when it is sent."""
    for _ in range(200):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                if f.read().rsplit(")", 1)[1].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_interrupt_leaves_nothing_behind():
    with tempfile.TemporaryDirectory() as folder:
        program, note = os.path.join(folder, "t"), os.path.join(folder, "pid")
        with open(program, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\necho ok 1 - the first\nsleep 300 & echo $! > {note}.new; mv {note}.new {note}; wait\n")
        os.chmod(program, 0o755)
        runner = subprocess.Popen([sys.executable, RUNNER, program], stdout=subprocess.PIPE, text=True)
        for _ in range(200):
            if os.path.exists(note):
                break
            time.sleep(0.05)
        runner.send_signal(signal.SIGINT)
        assert runner.wait(20) == 130
        said = runner.stdout.read()
        assert "was ended; its output was" in said and "| ok 1 - the first" in said, said
        with open(note, encoding="utf-8") as f:
            pid = int(f.read())
        assert ended(pid), "the program's child lives on"


tap.main(globals())
