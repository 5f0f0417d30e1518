"""Plants faults of one line each in the persistent time loops and checks that the emulator detects each of them.

The test copies the kernels' sources and changes one line of the copy, which must occur exactly once, so that a fault that no longer
applies is noticed. It builds loop_case from the copy: in the plain build, where a wrong wait ends in a fault record or wrong values, or
with the race detector, which reports a missing order even if the values are right.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import planted  # noqa: E402
import tap  # noqa: E402

RIGHT, WRONG, TIMED_OUT, REPORTED = 0, 1, 2, 3
BARRIER, FORWARD, BACKWARD = "grid_barrier.cuh", "fwd_persistent.cuh", "bwd_persistent.cuh"

PRODUCTS, MMA_FORWARD, MMA_BACKWARD, WORDS = "mma.cuh", "fwd_mma.cuh", "bwd_mma.cuh", "word_exchange.cuh"

programs = planted.Programs("persistent_case")
mma = planted.Programs("mma_case")


def test_without_a_fault():
    for mode, made in ((mode, made) for mode in planted.KERNEL for made in (programs, mma)):
        program = made.build(mode, f"right-{mode}")
        for way in ("forward", "backward"):
            for words in ("", *(BY_WORDS if made is mma else (IN_WARP,) if way == "forward" else ())):
                got, text = planted.outcome(program, way, *words.split())
                assert got == RIGHT, f"{mode}, {way} {words}: exit {got}, {text}"


def test_words_under_shuffled_schedules():
    for mode in planted.KERNEL:
        program = mma.build(mode, f"right-{mode}")
        for seed in range(1, 9 if os.environ.get("PLSTM_LONG") else 3):
            for way in ("forward", "backward"):
                got, text = planted.outcome(program, way, *BY_WORDS[0].split(), seed=seed)
                assert got == RIGHT, f"{mode}, {way}, seed {seed}: exit {got}, {text}"


def test_the_product_waits_for_words_that_were_not_polled():
    """Polling one word of each producer saves products; it does not guarantee that all words have arrived."""
    if not os.environ.get("PLSTM_LONG"):
        raise tap.Skip("a part of make test-long")
    program = mma.build("plain", "no-poll", PRODUCTS, "EXCHANGE == EXCHANGE_WORDS && p < end;", "false;")
    for way in ("forward", "backward"):
        got, text = planted.outcome(program, way, *BY_WORDS[0].split())
        assert got == RIGHT, f"{way}: exit {got}, {text}"


def test_a_product_that_is_not_validated_is_wrong_under_some_schedule():
    program = mma.build("plain", "not-validated", PRODUCTS,
                        "if (EXCHANGE != EXCHANGE_WORDS || !mma_has_nan(sum)) return true;", "return true;")
    for way in ("forward", "backward"):
        got = [planted.outcome(program, way, *BY_WORDS[0].split(), seed=seed)[0] for seed in range(1, 7)]
        assert WRONG in got, f"{way}: {got}"


BOTH = "forward backward"
BY_WORDS = ("2 5", "2 46")  # the exchange by words, and T, which gives fewer or more exchanges than buffers
IN_WARP = "8"  # persistent_case's plan whose warps add up their slices
RACE, UNORDERED = r"emulator: .*race: ", r"emulator: .*(race|uninitialised read): "
MISSING_1 = r"timed out at step \d+, exchange \d+, missing 2$"  # the mask has bit 1, for block 1

MISTAKES = {
    # ---- the barrier ----
    "lost_arrival": ("plain", BARRIER, "if (threadIdx.x == 0) store_release(", "if (threadIdx.x == 0 && b->self != 1) store_release(",
                     BOTH, TIMED_OUT, MISSING_1),
    "missing_release": ("race", BARRIER, "store_release(&b->words[b->self], b->count)", "store_poll(&b->words[b->self], b->count)",
                        BOTH, REPORTED, RACE),
    "missing_acquire": ("race", BARRIER, "load_watch(&b.words[p])", "load_poll(&b.words[p])", BOTH, REPORTED, RACE),
    "stale_epoch": ("race", BARRIER, "b->count = load_poll(&words[self]);", "b->count = 0;", BOTH, REPORTED, RACE),
    "epochs_compared_unsigned": ("plain", BARRIER, "return (int32_t)(word - count) < 0;", "return word < count;", BOTH,
                                 TIMED_OUT, "timed out"),
    "one_block_not_waited_for": ("race", BARRIER, "barrier_watch(*b, threadIdx.x, b->blocks",
                                 "barrier_watch(*b, threadIdx.x + 1, b->blocks",
                                 BOTH, REPORTED, RACE),
    "only_watchers_wait": ("race", BARRIER, "    __syncthreads();\n    return barrier_sound(", "    return barrier_sound(",
                           BOTH, REPORTED, RACE),
    # ---- forward ----
    "forward_block_leaves_early": ("plain", FORWARD, "if (t + 1 < T) barrier_arrive(&barrier);",
                                   "if (t == 2 && at.block == 1) return; else if (t + 1 < T) barrier_arrive(&barrier);",
                                   "forward", TIMED_OUT, MISSING_1),
    "forward_single_exchange": ("race", FORWARD, "((t & 1) * a.plan.replicas + at.replica)", "at.replica",
                                "forward", REPORTED, RACE),
    "forward_does_not_wait": ("race", FORWARD, "if (!barrier_wait(&barrier, (uint32_t)t + 1)) return;", "", "forward", REPORTED, RACE),
    "forward_arrives_before_all_have_written": ("race", FORWARD, "        __syncthreads();\n        if (t + 1 < T) barrier_arrive",
                                                "        if (t + 1 < T) barrier_arrive", "forward", REPORTED, RACE),
    "forward_reads_a_chunk_too_early": ("plain", FORWARD, "        copy_async_wait<0>();\n", "", "forward", WRONG, "wrong by"),
    "forward_chunk_of_others_not_waited_for": ("race", FORWARD, "        copy_async_wait<0>();\n        __syncthreads();\n",
                                               "        copy_async_wait<0>();\n", "forward", REPORTED, "emulator: .*uninitialised read: "),
    "forward_sums_over_chunks": ("race", FORWARD, "    __syncthreads(); /* the sums overwrite the staged chunks */\n", "",
                                 "forward", REPORTED, RACE),
    "forward_sums_of_warps_over_chunks": ("race", FORWARD, "    __syncthreads(); /* the sums overwrite the staged chunks */\n", "",
                                          "forward", REPORTED, RACE, IN_WARP),
    "forward_sums_of_warps_not_waited_for": ("race", FORWARD, "= of_warp;\n        __syncthreads();\n", "= of_warp;\n",
                                             "forward", REPORTED, UNORDERED, IN_WARP),
    "forward_sums_of_warps_without_a_lane": ("plain", FORWARD, "half[0], half[1]), 8)", "half[0], half[1]), 16)",
                                             "forward", WRONG, "wrong by", IN_WARP),
    "forward_chunks_over_sums": ("race", FORWARD, "if (pass) __syncthreads();", "", "forward", REPORTED, RACE),
    # ---- backward ----
    "backward_block_leaves_early": ("plain", BACKWARD, "if (t) barrier_arrive(&barrier);",
                                    "if (t == 2 && at.block == 1) return; else if (t) barrier_arrive(&barrier);",
                                    "backward", TIMED_OUT, MISSING_1),
    "backward_single_exchange": ("race", BACKWARD, "((t & 1) * a.plan.replicas + at.replica)", "at.replica",
                                 "backward", REPORTED, RACE),
    "backward_does_not_wait": ("race", BACKWARD, "if (!barrier_wait(&barrier, (uint32_t)t - 1)) return;", "", "backward", REPORTED, RACE),
    "backward_arrives_before_all_have_written": ("race", BACKWARD, "        __syncthreads();\n        if (t) barrier_arrive",
                                                 "        if (t) barrier_arrive", "backward", REPORTED, RACE),
    "backward_reads_state_too_early": ("plain", BACKWARD, "            copy_async_wait<0>();\n", "", "backward", WRONG, "wrong by"),
    "backward_gathers_over_sums": ("race", BACKWARD, "if (pass) __syncthreads();", "", "backward", REPORTED, RACE),
    "backward_round_over_sums": ("race", BACKWARD, "if (again) __syncthreads();", "", "backward", REPORTED, RACE),
}


# The mistakes in mma, the variant on tensor cores. Its warps wait for some of the blocks, and its clusters add the sums of their blocks.
MMA_MISTAKES = {
    "mma_lost_arrival": ("plain", BARRIER, "if (threadIdx.x == 0) store_release(", "if (threadIdx.x == 0 && b->self != 1) store_release(",
                         BOTH, TIMED_OUT, MISSING_1),
    "mma_stale_epoch": ("race", BARRIER, "b->count = load_poll(&words[self]);", "b->count = 0;", BOTH, REPORTED, RACE),
    "mma_missing_acquire": ("race", BARRIER, "load_watch(&b.words[p])", "load_poll(&b.words[p])", BOTH, REPORTED, RACE),
    "mma_only_watchers_wait": ("race", PRODUCTS, "timed_out);\n    __syncwarp();", "timed_out);", BOTH, REPORTED, RACE),
    "mma_wrong_producers": ("race", PRODUCTS, "barrier_watch(barrier, (uint32_t)from.first + ",
                            "barrier_watch(barrier, (uint32_t)from.first + 1 + ", BOTH, REPORTED, RACE),
    "mma_single_exchange": ("race", PRODUCTS, "? n % WORD_BUFFERS : n & 1);", "? n % WORD_BUFFERS : 0);", BOTH, REPORTED, RACE),
    "mma_forward_arrives_before_all_have_written": ("race", MMA_FORWARD, "        __syncthreads();\n        if (sends && (!WORDS",
                                                    "        if (sends && (!WORDS", "forward", REPORTED, RACE),
    # Nothing orders the write after the waits of the other warps, so the other blocks may still read h_{t-1}.
    "mma_forward_overwrites_what_is_read": ("race", MMA_FORWARD, "copy_async_wait<0>();\n            __syncthreads();",
                                            "copy_async_wait<0>();",
                                            "forward", REPORTED, UNORDERED),
    "mma_forward_pass_over_sums": ("race", MMA_FORWARD, "if (pass) __syncthreads();", "", "forward", REPORTED, RACE),
    "mma_forward_reads_x_proj_too_early": ("plain", MMA_FORWARD, "            copy_async_wait<0>();\n", "", "forward", WRONG, "wrong by"),
    "mma_backward_arrives_before_all_have_written": ("race", MMA_BACKWARD,
                                                     "        if (!runs) break;\n        __syncthreads();",
                                                     "        if (!runs) break;",
                                                     "backward", REPORTED, UNORDERED),
    "mma_backward_sums_not_waited_for": ("plain", MMA_BACKWARD, "while (!mbarrier_try(arrived,",
                                         "while (threadIdx.x < 32 && !mbarrier_try(arrived,",
                                         "backward", (WRONG, REPORTED), "wrong by|emulator: "),
    "mma_backward_sums_lost": ("plain", MMA_BACKWARD, "int32_t b = j / width, q = j - b * width, to = q / quads;",
                               "int32_t b = j / width, q = j - b * width, to = q / quads; if (turn == 2 && j == 3) continue;", "backward",
                               (TIMED_OUT, REPORTED), "timed out|no phase|has ended"),
    "mma_backward_sums_without_the_first_block": ("plain", MMA_BACKWARD, "for (int32_t rank = 0; rank < plan.cluster; rank++) sum +=",
                                                  "for (int32_t rank = 1; rank < plan.cluster; rank++) sum +=",
                                                  "backward", WRONG, "wrong by"),
    "mma_backward_sums_of_the_turn_before": ("plain", MMA_BACKWARD, "s.gathered + (turn & 1) * plan.cluster * each",
                                             "s.gathered + (~turn & 1) * plan.cluster * each",
                                             "backward", (WRONG, REPORTED), "wrong by|emulator: "),
    "mma_backward_sums_before_all_warps_have_them": ("race", MMA_BACKWARD,
                                                     "a.n.pitch, sum);\n                __syncthreads();",
                                                     "a.n.pitch, sum);",
                                                     "backward", REPORTED, UNORDERED),
    "mma_backward_leaves_while_others_read": ("plain", MMA_BACKWARD,
                                              "if (plan.cluster > 1) mma_cluster_close(plan, s);", "", "backward",
                                              REPORTED,
                                              "emulator: ", "1 1"),
    # ---- words ----
    "words_of_the_launch_before": ("plain", MMA_FORWARD, "if (WORDS) mma_forward_clear<PRECISION>(a, at);", "",
                                   "forward", WRONG, "wrong by", BY_WORDS[0]),
    "words_of_the_launch_before_backward": ("plain", MMA_BACKWARD, "        mma_backward_clear<PRECISION>(a, at);\n",
                                            "", "backward", WRONG, "wrong by",
                                            BY_WORDS[0]),
    "words_not_emptied_again": ("plain", WORDS, "return again ? (n + WORD_BUFFERS / 2) % WORD_BUFFERS : -1;",
                                "return -1;", "forward", WRONG, "wrong by", BY_WORDS[1]),
    "words_emptied_before_they_are_read": ("plain", WORDS, "return again ? (n + WORD_BUFFERS / 2) % WORD_BUFFERS : -1;",
                                           "return n % WORD_BUFFERS;", BOTH,
                                           TIMED_OUT, "timed out", BY_WORDS[0]),
    "words_in_one_buffer": ("plain", PRODUCTS, "? n % WORD_BUFFERS : n & 1);", "? 0 : n & 1);", BOTH, WRONG, "wrong by", BY_WORDS[0]),
    "words_lost": ("plain", MMA_FORWARD, "if (mine && (PRECISION",
                   "if (mine && !(at.block == 1 && t == 2 && b == 0 && u == 3) && (PRECISION", "forward",
                   TIMED_OUT, MISSING_1, BY_WORDS[0]),
    "words_lost_backward": ("plain", MMA_BACKWARD, "if (to) mma_send_gates",
                            "if (to && !(at.block == 1 && t == 2 && b == 0 && u == 3)) mma_send_gates", "backward",
                            TIMED_OUT, MISSING_1, BY_WORDS[0]),
    "words_block_leaves_early": ("plain", MMA_FORWARD, "if (!sends) break;",
                                 "if (!sends || (t == 2 && at.block == 1)) break;", "forward", TIMED_OUT, MISSING_1,
                                 BY_WORDS[0]),
    "words_stored_plainly": ("race", PRODUCTS, "        store_relaxed(word, value);", "        *word = value;", BOTH,
                             REPORTED, RACE, BY_WORDS[0]),
}
MISTAKES |= MMA_MISTAKES

# The mistakes that make test plants; with PLSTM_LONG, as in make test-long, all are planted.
IN_SHORT = {"mma_forward_overwrites_what_is_read", "mma_backward_sums_not_waited_for", "words_lost", "words_stored_plainly",
            "lost_arrival", "missing_release", "forward_block_leaves_early", "forward_arrives_before_all_have_written",
            "backward_block_leaves_early", "backward_single_exchange"}
assert IN_SHORT < set(MISTAKES)


def planted_in(name, mistake):
    mode, file, line, instead, direction, code, says, *words = mistake

    def test():
        if name not in IN_SHORT and not os.environ.get("PLSTM_LONG"):
            raise tap.Skip("a part of make test-long")
        (mma if name in MMA_MISTAKES else programs).caught(
            mode, name, file, line, instead, direction, code if isinstance(code, tuple) else (code,), says,
            *(words[0].split() if words else []))
    return test


globals().update({f"test_{name}": planted_in(name, mistake) for name, mistake in MISTAKES.items()})

tap.main(globals())
