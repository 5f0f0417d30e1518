"""Mistakes planted in the persistent time loops, one line each, and what the emulator makes of them: each has to be caught.

The kernels' sources are copied, one line of the copy is changed (it must stand there exactly once, so that a mistake never
goes out of date unnoticed), and persistent_case is built from it: plain, where a wrong wait ends in a fault record or wrong
values, or with the race detector, where an order that nothing guarantees is named however well the run went.
"""
import atexit
import os
import re
import shutil
import subprocess
import tempfile

import tap

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
BUILD = os.path.join(ROOT, os.environ.get("PLSTM_BUILD", "build"))
CXX, CC = os.environ.get("CXX", "g++"), os.environ.get("CC", "gcc")
INCLUDES = [f"-I{os.path.join(ROOT, folder)}" for folder in ("tests/emu/include", "tests/emu", "tests", ".")]
COMMON = ["-D_GNU_SOURCE", "-O0", "-g", "-Wno-unknown-pragmas", *INCLUDES]
KERNEL = {"plain": [], "race": ["-fsanitize=thread,alignment", "--param", "tsan-distinguish-volatile=1",
                                "--param", "tsan-instrument-func-entry-exit=0"]}
RIGHT, WRONG, GAVE_UP, REPORTED = 0, 1, 2, 3
BARRIER, FORWARD, BACKWARD = "grid_barrier.cuh", "fwd_persistent.cuh", "bwd_persistent.cuh"

work = tempfile.mkdtemp(prefix="plstm-faults-")
atexit.register(shutil.rmtree, work)


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"


def libemu(mode):
    path = os.path.join(BUILD, "emu", mode, "libemu.a")
    if not os.path.exists(path):
        raise tap.Skip(f"{os.path.relpath(path, ROOT)} is not built")
    return path


def main_object():
    path = os.path.join(work, "main.o")
    if not os.path.exists(path):
        run(CC, "-std=c11", *COMMON, "-c", os.path.join(ROOT, "tests", "persistent_case.c"), "-o", path)
    return path


def link_libraries():
    """What libemu's cuBLAS wants; the time loops do not."""
    folder = next((d for d in sorted(os.listdir("/usr/lib")) if os.path.exists(f"/usr/lib/{d}/openblas-openmp")), None)
    where = [f"-L/usr/lib/{folder}/openblas-openmp", f"-Wl,-rpath,/usr/lib/{folder}/openblas-openmp"] if folder else []
    return [*where, "-lopenblas", "-ldl", "-lm"]


def build(mode, name, file=None, line=None, instead=None):
    """The program with `line` of kernels/`file` replaced."""
    library, kernels = libemu(mode), os.path.join(work, name, "kernels")
    shutil.copytree(os.path.join(ROOT, "kernels"), kernels)
    if file:
        path = os.path.join(kernels, file)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        assert text.count(line) == 1, f"{name}: {text.count(line)} times in {file}: {line}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(line, instead))
    kernel, program = os.path.join(work, name, "kernel.o"), os.path.join(work, name, "program")
    run(CXX, "-std=c++17", *COMMON[:-len(INCLUDES)], f"-I{kernels}", *INCLUDES, *KERNEL[mode], "-x", "c++", "-c",
        os.path.join(ROOT, "tests", "persistent_case.cu"), "-o", kernel)
    run(CXX, kernel, main_object(), library, *link_libraries(), "-o", program)
    return program


def outcome(program, direction):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMU_")}
    done = subprocess.run([program, direction], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          env=environment)
    return done.returncode, done.stdout


def caught(mode, name, file, line, instead, direction, code, says):
    program = build(mode, name, file, line, instead)
    for way in direction.split():
        got, text = outcome(program, way)
        assert got == code and re.search(says, text), f"{name}, {way}: exit {got}, {text}"


def test_without_a_mistake():
    for mode in KERNEL:
        program = build(mode, f"right-{mode}")
        for way in ("forward", "backward"):
            got, text = outcome(program, way)
            assert got == RIGHT, f"{mode}, {way}: exit {got}, {text}"


BOTH = "forward backward"
RACE = r"emulator: .*race: "
MISSING_1 = r"gave up at step \d+, missing 2$"  # bit 1

MISTAKES = {
    # ---- the barrier ----
    "lost_arrival": ("plain", BARRIER, "if (threadIdx.x == 0) store_release(", "if (threadIdx.x == 0 && b->self != 1) store_release(",
                     BOTH, GAVE_UP, MISSING_1),
    "missing_release": ("race", BARRIER, "store_release(&b->words[b->self], b->count)", "store_poll(&b->words[b->self], b->count)",
                        BOTH, REPORTED, RACE),
    "missing_acquire": ("race", BARRIER, "load_acquire(&b->words[p])", "load_poll(&b->words[p])", BOTH, REPORTED, RACE),
    "stale_epoch": ("race", BARRIER, "b->count = load_poll(&words[self]);", "b->count = 0;", BOTH, REPORTED, RACE),
    "epochs_compared_unsigned": ("plain", BARRIER, "return (int32_t)(word - count) < 0;", "return word < count;", BOTH, GAVE_UP, "gave up"),
    "one_block_not_waited_for": ("race", BARRIER, "for (uint32_t p = threadIdx.x; p < b->blocks", "for (uint32_t p = threadIdx.x + 1; p < b->blocks",
                                 BOTH, REPORTED, RACE),
    "only_watchers_wait": ("race", BARRIER, "    __syncthreads();\n    if (!*b->gone) return true;", "    if (!*b->gone) return true;",
                           BOTH, REPORTED, RACE),
    # ---- forward ----
    "forward_block_leaves_early": ("plain", FORWARD, "if (t + 1 < T) barrier_arrive(&barrier);",
                                   "if (t == 2 && at.block == 1) return; else if (t + 1 < T) barrier_arrive(&barrier);",
                                   "forward", GAVE_UP, MISSING_1),
    "forward_single_exchange": ("race", FORWARD, "const int64_t other = plan.replicas * a.n.exchange_floats;", "const int64_t other = 0;",
                                "forward", REPORTED, RACE),
    "forward_does_not_wait": ("race", FORWARD, "if (!barrier_wait(&barrier, (uint32_t)t + 1)) return;", "", "forward", REPORTED, RACE),
    "forward_arrives_before_all_have_written": ("race", FORWARD, "        __syncthreads();\n        if (t + 1 < T) barrier_arrive",
                                                "        if (t + 1 < T) barrier_arrive", "forward", REPORTED, RACE),
    "forward_reads_a_chunk_too_early": ("plain", FORWARD, "        copy_async_wait<0>();\n", "", "forward", WRONG, "wrong by"),
    "forward_chunk_of_others_not_waited_for": ("race", FORWARD, "        copy_async_wait<0>();\n        __syncthreads();\n",
                                               "        copy_async_wait<0>();\n", "forward", REPORTED, "emulator: .*uninitialised read: "),
    "forward_sums_over_chunks": ("race", FORWARD, "    __syncthreads(); /* the staged chunks lie where the sums go */\n", "",
                                 "forward", REPORTED, RACE),
    "forward_chunks_over_sums": ("race", FORWARD, "if (pass) __syncthreads();", "", "forward", REPORTED, RACE),
    # ---- backward ----
    "backward_block_leaves_early": ("plain", BACKWARD, "if (t) barrier_arrive(&barrier);",
                                    "if (t == 2 && at.block == 1) return; else if (t) barrier_arrive(&barrier);",
                                    "backward", GAVE_UP, MISSING_1),
    "backward_single_exchange": ("race", BACKWARD, "((t & 1) * a.plan.replicas + at.replica)", "at.replica",
                                 "backward", REPORTED, RACE),
    "backward_does_not_wait": ("race", BACKWARD, "if (!barrier_wait(&barrier, (uint32_t)t - 1)) return;", "", "backward", REPORTED, RACE),
    "backward_arrives_before_all_have_written": ("race", BACKWARD, "        __syncthreads();\n        if (t) barrier_arrive",
                                                 "        if (t) barrier_arrive", "backward", REPORTED, RACE),
    "backward_reads_state_too_early": ("plain", BACKWARD, "            copy_async_wait<0>();\n", "", "backward", WRONG, "wrong by"),
    "backward_gathers_over_sums": ("race", BACKWARD, "if (pass) __syncthreads();", "", "backward", REPORTED, RACE),
    "backward_round_over_sums": ("race", BACKWARD, "if (again) __syncthreads();", "", "backward", REPORTED, RACE),
}


IN_SHORT = {"lost_arrival", "missing_release", "missing_acquire", "stale_epoch", "forward_block_leaves_early", "forward_single_exchange",
            "forward_arrives_before_all_have_written", "backward_block_leaves_early", "backward_single_exchange",
            "backward_arrives_before_all_have_written"}
assert IN_SHORT < set(MISTAKES)


def planted(name, mistake):
    mode, file, line, instead, direction, code, says = mistake

    def test():
        if name not in IN_SHORT and not os.environ.get("PLSTM_LONG"):
            raise tap.Skip("a part of make test-long")
        caught(mode, name, file, line, instead, direction, code, says)
    return test


globals().update({f"test_{name}": planted(name, mistake) for name, mistake in MISTAKES.items()})

tap.main(globals())
