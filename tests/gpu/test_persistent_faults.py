"""Mistakes planted in the persistent time loops, one line each, and what the emulator makes of them: each has to be caught.

The kernels' sources are copied, one line of the copy is changed (it must stand there exactly once, so that a mistake never
goes out of date unnoticed), and loop_case is built from it: plain, where a wrong wait ends in a fault record or wrong
values, or with the race detector, where an order that nothing guarantees is named however well the run went.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import planted  # noqa: E402
import tap  # noqa: E402

RIGHT, WRONG, GAVE_UP, REPORTED = 0, 1, 2, 3
BARRIER, FORWARD, BACKWARD = "grid_barrier.cuh", "fwd_persistent.cuh", "bwd_persistent.cuh"

PRODUCTS, MMA_FORWARD, MMA_BACKWARD = "mma.cuh", "fwd_mma.cuh", "bwd_mma.cuh"

programs = planted.Programs("persistent_case")
mma = planted.Programs("mma_case")


def test_without_a_mistake():
    for mode, made in ((mode, made) for mode in planted.KERNEL for made in (programs, mma)):
        program = made.build(mode, f"right-{mode}")
        for way in ("forward", "backward"):
            got, text = planted.outcome(program, way)
            assert got == RIGHT, f"{mode}, {way}: exit {got}, {text}"


BOTH = "forward backward"
RACE, UNORDERED = r"emulator: .*race: ", r"emulator: .*(race|uninitialised read): "
MISSING_1 = r"gave up at step \d+, exchange \d+, missing 2$"  # bit 1

MISTAKES = {
    # ---- the barrier ----
    "lost_arrival": ("plain", BARRIER, "if (threadIdx.x == 0) store_release(", "if (threadIdx.x == 0 && b->self != 1) store_release(",
                     BOTH, GAVE_UP, MISSING_1),
    "missing_release": ("race", BARRIER, "store_release(&b->words[b->self], b->count)", "store_poll(&b->words[b->self], b->count)",
                        BOTH, REPORTED, RACE),
    "missing_acquire": ("race", BARRIER, "load_watch(&b.words[p])", "load_poll(&b.words[p])", BOTH, REPORTED, RACE),
    "stale_epoch": ("race", BARRIER, "b->count = load_poll(&words[self]);", "b->count = 0;", BOTH, REPORTED, RACE),
    "epochs_compared_unsigned": ("plain", BARRIER, "return (int32_t)(word - count) < 0;", "return word < count;", BOTH, GAVE_UP, "gave up"),
    "one_block_not_waited_for": ("race", BARRIER, "barrier_watch(*b, threadIdx.x, b->blocks", "barrier_watch(*b, threadIdx.x + 1, b->blocks",
                                 BOTH, REPORTED, RACE),
    "only_watchers_wait": ("race", BARRIER, "    __syncthreads();\n    return barrier_sound(", "    return barrier_sound(",
                           BOTH, REPORTED, RACE),
    # ---- forward ----
    "forward_block_leaves_early": ("plain", FORWARD, "if (t + 1 < T) barrier_arrive(&barrier);",
                                   "if (t == 2 && at.block == 1) return; else if (t + 1 < T) barrier_arrive(&barrier);",
                                   "forward", GAVE_UP, MISSING_1),
    "forward_single_exchange": ("race", FORWARD, "((t & 1) * a.plan.replicas + at.replica)", "at.replica",
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


# Of the variant on tensor cores, whose warps wait for some of the blocks, and whose clusters add up what their blocks have.
MMA_MISTAKES = {
    "mma_lost_arrival": ("plain", BARRIER, "if (threadIdx.x == 0) store_release(", "if (threadIdx.x == 0 && b->self != 1) store_release(",
                         BOTH, GAVE_UP, MISSING_1),
    "mma_stale_epoch": ("race", BARRIER, "b->count = load_poll(&words[self]);", "b->count = 0;", BOTH, REPORTED, RACE),
    "mma_missing_acquire": ("race", BARRIER, "load_watch(&b.words[p])", "load_poll(&b.words[p])", BOTH, REPORTED, RACE),
    "mma_only_watchers_wait": ("race", BARRIER, "gone);\n    __syncwarp();", "gone);", BOTH, REPORTED, RACE),
    "mma_wrong_producers": ("race", PRODUCTS, "barrier_watch_warp(barrier, first, min(end, plan.blocks), gone);",
                            "barrier_watch_warp(barrier, first + 1, min(end, plan.blocks), gone);", BOTH, REPORTED, RACE),
    "mma_forward_single_exchange": ("race", MMA_FORWARD, "const int64_t other = plan.replicas * a.n.exchange_words;", "const int64_t other = 0;",
                                    "forward", REPORTED, RACE),
    "mma_forward_arrives_before_all_have_written": ("race", MMA_FORWARD, "        __syncthreads();\n        if (t + 1 < T) barrier_arrive",
                                                    "        if (t + 1 < T) barrier_arrive", "forward", REPORTED, RACE),
    # Who writes has not seen that the slices of the other warps were waited for: nobody has told that h_{t-1} is read.
    "mma_forward_overwrites_what_is_read": ("race", MMA_FORWARD, "copy_async_wait<0>();\n            __syncthreads();", "copy_async_wait<0>();",
                                            "forward", REPORTED, UNORDERED),
    "mma_forward_pass_over_sums": ("race", MMA_FORWARD, "if (pass) __syncthreads();", "", "forward", REPORTED, RACE),
    "mma_forward_reads_x_proj_too_early": ("plain", MMA_FORWARD, "            copy_async_wait<0>();\n", "", "forward", WRONG, "wrong by"),
    "mma_backward_single_exchange": ("race", MMA_BACKWARD, "const int64_t other = plan.replicas * a.n.exchange_words;", "const int64_t other = 0;",
                                     "backward", REPORTED, RACE),
    "mma_backward_arrives_before_all_have_written": ("race", MMA_BACKWARD, "        __syncthreads();\n        if (t) barrier_arrive",
                                                     "        if (t) barrier_arrive", "backward", REPORTED, RACE),
    # As forward's: the cluster's other block has not told that its slices were waited for.
    "mma_backward_no_barrier_of_the_cluster": ("race", MMA_BACKWARD, "                mma_cluster_sync(plan);\n", "                __syncthreads();\n",
                                               "backward", REPORTED, UNORDERED),
    "mma_backward_sums_without_the_first_block": ("plain", MMA_BACKWARD, "for (int32_t from = 0; from < plan.cluster; from++) sum +=",
                                                  "for (int32_t from = 1; from < plan.cluster; from++) sum +=", "backward", WRONG, "wrong by"),
    "mma_backward_sums_of_the_turn_before": ("plain", MMA_BACKWARD, "int32_t at = ((int32_t)(turn & 1)", "int32_t at = ((int32_t)(~turn & 1)",
                                             "backward", WRONG, "wrong by"),
    "mma_backward_pass_over_sums": ("race", MMA_BACKWARD, "                    __syncthreads();\n                    mma_send_sums",
                                    "                    mma_send_sums", "backward", REPORTED, UNORDERED),
    "mma_backward_leaves_while_others_read": ("race", MMA_BACKWARD, "if (plan.cluster > 1) mma_cluster_sync(plan); /*", "/*", "backward", REPORTED,
                                              "emulator: "),
}
MISTAKES |= MMA_MISTAKES

IN_SHORT = {"mma_wrong_producers", "mma_forward_overwrites_what_is_read",
            "mma_backward_no_barrier_of_the_cluster", "mma_backward_sums_without_the_first_block",
            "lost_arrival", "missing_release", "missing_acquire", "stale_epoch", "forward_block_leaves_early", "forward_single_exchange",
            "forward_arrives_before_all_have_written", "backward_block_leaves_early", "backward_single_exchange",
            "backward_arrives_before_all_have_written"}
assert IN_SHORT < set(MISTAKES)


def planted_in(name, mistake):
    mode, file, line, instead, direction, code, says = mistake

    def test():
        if name not in IN_SHORT and not os.environ.get("PLSTM_LONG"):
            raise tap.Skip("a part of make test-long")
        (mma if name in MMA_MISTAKES else programs).caught(mode, name, file, line, instead, direction, (code,), says)
    return test


globals().update({f"test_{name}": planted_in(name, mistake) for name, mistake in MISTAKES.items()})

tap.main(globals())
