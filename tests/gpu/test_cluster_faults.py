"""Plants faults of one line each in the time loops of the variant `cluster` and checks that the emulator detects each of them.

As in test_persistent_faults.py, the test copies the kernels' sources, changes one line of the copy, which must occur exactly once, and
builds loop_case from it: in the plain build, where a wrong wait ends in a fault record, wrong values or a report of the emulator, or with
the race detector.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import planted  # noqa: E402
import tap  # noqa: E402

RIGHT, WRONG, TIMED_OUT, REPORTED = 0, 1, 2, 3
SHARED, FORWARD, BACKWARD = "cluster.cuh", "fwd_cluster.cuh", "bwd_cluster.cuh"
BOTH = "forward backward"
RACE = r"emulator: .*race: "
TIMED_OUT_AT = r"timed out at step \d+, exchange \d+, "

programs = planted.Programs("cluster_case")

# Further plans, as the words tile, units, rows, replicas, T, B, H.
PLANS = {
    "bf16 ragged": "0 12 2 2 6 5 23",
    "tf32 ragged": "1 12 2 2 6 5 23",
    "two batch tiles": "2 8 9 1 4 9 23",
    "three batch tiles, tf32": "3 16 20 1 3 20 23",
    "eight blocks, three clusters, three ranges": "0 8 2 3 4 17 64",
    "sixteen blocks": "2 4 4 1 4 4 64",
    "a block of one unit": "0 4 3 1 3 3 5",
    "one step": "1 12 2 2 1 5 23",
    "two steps": "0 12 2 2 2 5 23",
}


def right(mode):
    """Returns the program without a fault and the plans that it can run. The race build compiles only the first tile, except in
    make test-long, since it takes long to compile."""
    first = mode == "race" and not os.environ.get("PLSTM_LONG")
    program = programs.build(mode, f"right-{mode}", options=["-DCASE_FIRST"] if first else ())
    return program, [words for words in PLANS.values() if words.startswith("0 ") or not first]


def test_without_a_fault():
    for mode in planted.KERNEL:
        program, plans = right(mode)
        for words in plans:
            for way in BOTH.split():
                got, text = planted.outcome(program, way, *words.split())
                assert got == RIGHT, f"{mode}, {way} {words}: exit {got}, {text}"


def test_shuffled_schedules():
    for mode in planted.KERNEL:
        program, plans = right(mode)
        for seed in range(1, 9 if os.environ.get("PLSTM_LONG") else 3):
            for way in BOTH.split():
                got, text = planted.outcome(program, way, *plans[0].split(), seed=seed)
                assert got == RIGHT, f"{mode}, {way}, seed {seed}: exit {got}, {text}"


MISTAKES = {
    # ---- the exchange ----
    "read_before_the_phase_ends": ("plain", SHARED, "while (!mbarrier_try(",
                                   "while (threadIdx.x < 32 && !mbarrier_try(", BOTH, (WRONG,), "wrong by", "0 12 5 1 6 5 40"),
    "wait_for_the_other_parity": ("plain", SHARED, "(uint32_t)(n - 1) >> 1 & 1)", "((uint32_t)(n - 1) >> 1 & 1) ^ 1)", BOTH,
                                  (WRONG, TIMED_OUT, REPORTED), "wrong by|timed out|had its 1 arrivals"),
    "more_bytes_than_come": ("plain", SHARED, "mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes)",
                             "mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes + 4)", BOTH, (TIMED_OUT,), TIMED_OUT_AT),
    "fewer_bytes_than_come": ("plain", SHARED, "mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes)",
                              "mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes - 4)", BOTH, (WRONG, REPORTED),
                              "wrong by|no phase had announced|has ended"),
    "announced_once": ("plain", SHARED, "if (threadIdx.x == 0 && here) cluster_expect(m, n + 2);", "", BOTH,
                       (TIMED_OUT, REPORTED), "timed out|no phase had announced"),
    "no_first_cluster_barrier": ("plain", SHARED, "    cluster_arrive();\n    cluster_wait();\n    return cluster_load",
                                 "    return cluster_load", BOTH, (REPORTED,), "before any cluster barrier"),
    "block_leaves_before_its_memory_is_read": ("race", SHARED, "    cluster_arrive();\n    cluster_wait();\n    if (!(m.flags->timed_out",
                                               "    if (!(m.flags->timed_out", BOTH, (REPORTED,), "has ended", "0 12 2 2 1 5 23"),
    # ---- forward ----
    "forward_single_buffer": ("race", FORWARD, "        s.exchange + (exchange & 1) * a.n.operand +",
                              "        s.exchange +", "forward", (REPORTED,), r"emulator: "),
    "forward_sends_before_all_lanes_have_read": ("race", FORWARD,
                                                 "        __syncwarp(); /* all lanes have read h_{t-1}: the warp's next "
                                                 "sends tell the others so */\n",
                                                 "", "forward", (REPORTED,), RACE, "0 8 2 2 6 5 23"),
    "forward_warp_that_tells_nobody": ("race", FORWARD, "    if (tile * TENSOR_UNITS >= at.units) runs = false;\n", "", "forward",
                                       (REPORTED, TIMED_OUT), r"emulator: |timed out", "0 12 5 1 6 5 40"),
    "forward_loses_a_peer": ("plain", FORWARD, "int32_t p = (BF16 ? 2 * v + odd : v) + i * aim.SHARED_BY;",
                             "int32_t p = (BF16 ? 2 * v + odd : v) + 1 + i * aim.SHARED_BY;",
                             "forward", (TIMED_OUT,), TIMED_OUT_AT),
    "forward_sends_padding": ("plain", FORWARD, "(BF16 ? e.row - odd : e.row) < at.rows && ", "", "forward",
                              (REPORTED, WRONG), "no phase had announced|has ended|wrong by"),
    "forward_leaves_early": ("plain", FORWARD, "if (next == 0) break;", "if (next == 0 || (t == 2 && at.block == 1)) break;", "forward",
                             (TIMED_OUT, REPORTED), "missing [28]$|has ended"),
    "forward_warp_leaves_early": ("plain", FORWARD, "if (next == 0) break;",
                                  "if (next == 0 || (t == 2 && at.block == 1 && warp == 1)) break;", "forward",
                                  (TIMED_OUT,), "timed out at step [34], exchange [34], missing [28]$"),
    "forward_padding_not_zero": ("plain", FORWARD, "        to[a.n.operand] = to[a.n.operand + 1] = 0;\n", "",
                                 "forward", (WRONG,), "wrong by"),
    "forward_swaps_gates": ("plain", FORWARD, "odd ? d[0] : d[1], 4)", "odd ? d[1] : d[0], 4)", "forward", (WRONG,), "wrong by"),
    "forward_swaps_rows_of_a_pair": ("plain", FORWARD, "words = row & 1 ? make_uint4(other[0], other[1], own.x, own.y)",
                                     "words = !(row & 1) ? make_uint4(other[0], other[1], own.x, own.y)",
                                     "forward", (WRONG,), "wrong by"),
    # ---- backward ----
    "backward_single_buffer": ("race", BACKWARD, "((n & 1) * plan.blocks + at.block) * (a.n.parcel / 4)", "at.block * (a.n.parcel / 4)",
                               "backward", (REPORTED,), r"emulator: "),
    "backward_sends_before_all_have_read": ("race", BACKWARD,
                                            "        __syncthreads(); /* dgates are complete; no thread reads "
                                            "exchange n any more */\n",
                                            "", "backward", (REPORTED,), r"emulator: "),
    "backward_dgates_over_dgates": ("race", BACKWARD, "uint32_t *dgates = s.dgates + (n & 1) * a.n.operand;",
                                    "uint32_t *dgates = s.dgates;", "backward", (REPORTED,), RACE),
    "backward_draws_masks_too_late": ("race", BACKWARD, "at, t - 2);", "at, t - 1);", "backward", (REPORTED,), RACE),
    "backward_halves_the_wrong_half": ("plain", BACKWARD, "(a, at, s, first + FIRST, n, sum);", "(a, at, s, first, n, sum);",
                                       "backward", (WRONG, REPORTED), "wrong by|emulator"),
    "backward_loses_the_last_units": ("plain", BACKWARD, "if (k < (int32_t)a.p.shape.H && ",
                                      "if (k + 1 < (int32_t)a.p.shape.H && ", "backward",
                                      (TIMED_OUT,), TIMED_OUT_AT),
    "backward_leaves_early": ("plain", BACKWARD, "if (t == 0) break;", "if (t == 0 || (t == 2 && at.block == 1)) break;", "backward",
                              (TIMED_OUT, REPORTED), "missing [28]$|has ended"),
    "backward_reads_state_too_early": ("plain", BACKWARD, "    copy_async_wait<0>();\n", "", "backward", (WRONG,), "wrong by"),
}

IN_SHORT = {"read_before_the_phase_ends", "more_bytes_than_come", "block_leaves_before_its_memory_is_read", "forward_single_buffer",
            "forward_sends_before_all_lanes_have_read", "forward_warp_leaves_early", "backward_single_buffer",
            "backward_sends_before_all_have_read"}
assert IN_SHORT < set(MISTAKES)


def planted_in(name, mistake):
    def test():
        if name not in IN_SHORT and not os.environ.get("PLSTM_LONG"):
            raise tap.Skip("a part of make test-long")
        mode, file, line, instead, direction, codes, says, *words = mistake
        programs.caught(mode, name, file, line, instead, direction, codes, says, *(words[0].split() if words else []),
                        options=["-DCASE_FIRST"])
    return test


globals().update({f"test_{name}": planted_in(name, mistake) for name, mistake in MISTAKES.items()})

tap.main(globals())
