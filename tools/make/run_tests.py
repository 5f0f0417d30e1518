#!/usr/bin/env python3
"""Runs test programs and adds up their test cases.

    run_tests.py [--build DIR] [--long] [-j N] [--limit SECONDS] PROGRAM... [--alone PROGRAM...]

A program is an executable or a Python file that prints TAP on its standard output ("1..3", "ok 1 - name", "not ok 2 - name",
"ok 3 - name # SKIP reason"). cmocka prints TAP under the setting made here; the reason of its skip is the output of the test just before.
The programs after --alone run one at a time, the others up to N at a time. The environment of a program has PLSTM_BUILD, the build folder,
PLSTM, the program in it (unless the caller sets another), and PLSTM_LONG=1 with --long. Python packages in DIR/python can be imported.

A program that crashes, runs longer than the limit, ends early, runs no case, or exits with a status that its cases do not explain
counts as one more failure. The last line is "N passed, N failed, N skipped"; the exit status is 0 if nothing failed.
"""
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

PLAN = re.compile(r"^1\.\.(\d+)")
CASE = re.compile(r"^(ok|not ok)\s+(\d+)(.*)$")
SKIP = re.compile(r"^(.*?)\s*#\s*SKIP\b\s*(.*)$", re.IGNORECASE)
KILL_AFTER = 5.0  # seconds between SIGTERM and SIGKILL


class Outcome:
    def __init__(self, program):
        self.program = program
        self.passed = self.failed = self.skipped = 0
        self.skips = []  # (case, reason)
        self.faults = []  # faults of the program as a whole
        self.output = ""
        self.seconds = 0.0


def read_tap(outcome):
    """Counts the cases in outcome.output."""
    planned = seen = 0
    said = []  # other lines since the last case: the reason of a skip
    for line in outcome.output.splitlines():
        plan = PLAN.match(line)
        case = CASE.match(line)
        if plan:
            planned += int(plan.group(1))
            # A whole program that skips prints "1..0 # SKIP reason".
            skip = SKIP.match(line)
            if skip and plan.group(1) == "0":
                outcome.skipped += 1
                outcome.skips.append(("all cases", skip.group(2) or "; ".join(said) or "no reason given"))
        elif case:
            verdict, number, rest = case.groups()
            rest = re.sub(r"^\s*-\s*", "", rest.strip())
            skip = SKIP.match(rest)
            if skip:  # before the verdict: cmocka 1.1.5 writes "not ok 3 # SKIP name"
                name, reason = skip.groups()
                if not name:
                    name, reason = reason, ""
                outcome.skipped += 1
                reason = re.sub(r"^skipped:\s*", "", reason or "; ".join(said[-3:]))
                outcome.skips.append((name, reason or "no reason given"))
            elif verdict == "ok":
                outcome.passed += 1
            else:
                outcome.failed += 1
            seen += number != "0"  # number 0 is cmocka's failed group set-up, which is no case
            said = []
        elif not line.startswith("#") and line.strip():
            said.append(line.strip())
    if planned and seen < planned and not outcome.failed:
        outcome.faults.append(f"ended after {seen} of {planned} cases")
    if not seen and not outcome.failed and not outcome.skipped:
        outcome.faults.append("ran no test case")


class Runner:
    def __init__(self, limit, environment):
        self.limit = limit
        self.environment = environment
        self.running = set()
        self.lock = threading.RLock()  # the signal handler takes it too, from any frame of the main thread
        self.stopped = False
        self.logs = {}  # logs of the running programs

    def run(self, program):
        outcome = Outcome(program)
        command = [sys.executable, program] if program.endswith(".py") else [os.path.abspath(program)]
        status = None
        start = time.monotonic()
        with tempfile.TemporaryFile() as log:
            self.logs[program] = log
            try:
                with self.lock:
                    if self.stopped:
                        raise OSError("not started: interrupted")
                    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                             env=self.environment, start_new_session=True)
                    self.running.add(child)
                try:
                    status = child.wait(self.limit)
                except subprocess.TimeoutExpired:
                    outcome.faults.append(f"ran longer than {self.limit:g} s and was ended")
                end_group(child)
                with self.lock:
                    self.running.discard(child)
            except OSError as e:
                outcome.faults.append(f"cannot be run: {e.strerror or e}")
            outcome.seconds = time.monotonic() - start
            log.seek(0)
            outcome.output = log.read().decode("utf-8", "replace")
            del self.logs[program]
        if status is not None:
            read_tap(outcome)
            if status < 0:
                outcome.faults.append(f"died of {signal.Signals(-status).name}")
            elif status and not outcome.failed and not outcome.faults:
                outcome.faults.append(f"exited with status {status} though no case failed")
        elif outcome.output:
            faults = list(outcome.faults)
            read_tap(outcome)
            outcome.faults = faults
        outcome.failed += bool(outcome.faults)
        return outcome

    def stop(self):
        with self.lock:
            self.stopped = True
            running = list(self.running)
        for child in running:
            end_group(child)


def end_group(child):
    """Ends the remaining processes of a program and of everything that it started."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sig)
        except (ProcessLookupError, PermissionError):
            return
        if child.poll() is None:
            try:
                child.wait(KILL_AFTER)
            except subprocess.TimeoutExpired:
                pass
        elif sig == signal.SIGTERM:
            time.sleep(0.05)


def show(outcome):
    counts = f"{outcome.passed} passed"
    if outcome.failed:
        counts += f", {outcome.failed} failed"
    if outcome.skipped:
        counts += f", {outcome.skipped} skipped"
    verdict = "FAILED" if outcome.failed else "ok"
    print(f"{verdict:6} {outcome.seconds:7.2f} s  {outcome.program}: {counts}")
    reasons = {}
    for name, reason in outcome.skips:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        print(f"       skipped {names[0] if len(names) == 1 else f'{len(names)} cases'}: {reason}")
    if outcome.failed:
        for line in outcome.output.splitlines():
            print(f"       | {line}")
        for fault in outcome.faults:
            print(f"       {outcome.program} {fault}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Runs TAP test programs and adds up their cases.")
    parser.add_argument("--build", default="build", metavar="DIR", help="the build folder (default build)")
    parser.add_argument("--long", action="store_true", help="run the long lists too; the default limit is then an hour")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="run up to N programs at a time (default 1)")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="limit of one program (default 240)")
    parser.add_argument("--alone", nargs="+", default=[], metavar="PROGRAM", help="run these one at a time, after the others")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM")
    arguments = parser.parse_args()

    build = os.path.abspath(arguments.build)
    environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", PLSTM_BUILD=build)
    environment["PLSTM"] = os.path.abspath(os.environ.get("PLSTM", os.path.join(build, "plstm")))
    packages = os.path.join(build, "python")
    if os.path.isdir(packages):
        environment["PYTHONPATH"] = os.pathsep.join([packages] + [p for p in [os.environ.get("PYTHONPATH")] if p])
    if arguments.long:
        environment["PLSTM_LONG"] = "1"
    runner = Runner(arguments.limit or (3600.0 if arguments.long else 240.0), environment)

    def interrupted(number, _frame):
        # Read each log through its own descriptor: when a program ends, the thread that waits for it closes and forgets its log.
        logs = [(program, os.dup(log.fileno())) for program, log in list(runner.logs.items())]
        runner.stop()
        for program, log in logs:
            said = os.pread(log, os.fstat(log).st_size, 0).decode("utf-8", "replace")
            print(f"       {program} was ended; its output was", *said.splitlines(), sep="\n       | ")
        print(f"interrupted by {signal.Signals(number).name}", flush=True)
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(max(1, arguments.j)) as pool:
        for done in concurrent.futures.as_completed([pool.submit(runner.run, p) for p in arguments.programs]):
            outcomes.append(done.result())
            show(outcomes[-1])
    for program in arguments.alone:
        outcomes.append(runner.run(program))
        show(outcomes[-1])

    passed, failed, skipped = (sum(getattr(o, what) for o in outcomes) for what in ("passed", "failed", "skipped"))
    if not outcomes:
        print("no test program was given")
        failed = 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
