"""Prints TAP for the Python tests: a test file defines test_* functions and ends with `tap.main(globals())`."""
import sys
import traceback


class Skip(Exception):
    """Raised by a test that cannot run here; its text is the reason."""


def main(names):
    """Runs the test_* functions of `names`, or those named as arguments. Exits with 1 if one failed, else with 0."""
    tests = [(name, f) for name, f in names.items() if name.startswith("test_") and callable(f)]
    wanted = sys.argv[1:]
    if wanted:
        tests = [(name, f) for name, f in tests if name in wanted]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}")
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
        else:
            print(f"ok {number} - {name}", flush=True)
    sys.exit(1 if failed else 0)
