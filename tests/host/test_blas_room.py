"""Runs programs under a limit on address space (ulimit -v): they must run or print why they cannot, and not hang in
OpenBLAS's start-up."""
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import tap  # noqa: E402

BUILD = os.environ.get("PLSTM_BUILD", os.path.join(HERE, "../../build"))
LIMIT = 200000 << 10


def run(program, *arguments):
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30,
                          env={**os.environ, "OMP_NUM_THREADS": "2"},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)))
    return done.returncode, done.stdout, done.stderr


def test_a_program_with_openblas_reports_the_limit():
    program = os.path.join(BUILD, "emu/plain/plstm")
    if not os.path.exists(program):
        raise tap.Skip("there is no emu/plain/plstm, which links OpenBLAS")
    status, said, complained = run(program, "--version")
    assert (status, said) == (1, "") and complained.startswith("plstm: OpenBLAS cannot start"), (status, said, complained)


PRESCOTT = 'char *openblas_get_corename(void) { return "Prescott"; }\n'


def test_only_a_command_that_computes_starts_again():
    program = os.path.join(BUILD, "emu/plain/plstm")
    if not os.path.exists(program):
        raise tap.Skip("there is no emu/plain/plstm, which links OpenBLAS")
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        if not {"avx2", "fma"} <= set(f.read().split()):
            raise tap.Skip("this CPU has no kernels better than a Prescott's")
    with tempfile.TemporaryDirectory() as folder:
        source, library = os.path.join(folder, "prescott.c"), os.path.join(folder, "prescott.so")
        with open(source, "w", encoding="utf-8") as f:
            f.write(PRESCOTT)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True)
        environment = {**os.environ, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1"}
        environment.pop("OPENBLAS_CORETYPE", None)

        def complaints(*arguments):
            done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                                  env=environment)
            assert done.returncode == 0, (arguments, done.stderr)
            return done.stderr.count("OpenBLAS treats this CPU as a Prescott")
        train = ("train", "--data", "synthetic", "--backend", "cpu", "--hidden", "4", "--layers", "1", "--max-steps", "1", "--eval", "none",
                 "--threads", "1")
        assert complaints(*train) == 1 and complaints(*train, "--quiet") == 0
        for arguments in (("--help",), ("--version",), ("plan", "--device", "K20", "--preset", "small"), ("variants",), ("train", "--help")):
            assert complaints(*arguments) == 0, arguments


def test_plstm_itself_runs_or_refuses():
    """plstm's own products need no library, so it starts where OpenBLAS cannot; a large model is refused."""
    status, said, complained = run(os.environ.get("PLSTM", os.path.join(BUILD, "plstm")), "--version")
    assert status == 0 and said.startswith("plstm ") or complained.startswith("plstm: OpenBLAS cannot start"), (status, said, complained)
    if status:
        return  # this program was built with BLAS=openblas
    status, _, complained = run(os.environ.get("PLSTM", os.path.join(BUILD, "plstm")), "train", "--preset", "large", "--data", "synthetic",
                                "--backend", "cpu", "--max-steps", "1")
    assert status == 4 and "of memory" in complained, (status, complained)


if __name__ == "__main__":
    tap.main(globals())
