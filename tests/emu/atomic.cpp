/* Atomics, polls and ordered accesses: the operations by which threads communicate. One OS thread
 * runs everything, so each operation is atomic without further measures. This file lets other
 * threads run, recognises spin loops, and informs the race detector. */
#include <string.h>

#include "core.h"

static size_t type_size(int type)
{
    return type == EMU_U16 ? 2 : type == EMU_I64 || type == EMU_U64 || type == EMU_F64 ? 8 : 4;
}

template <class T> static T combine(int op, T a, T v)
{
    switch (op) {
    case EMU_ATOMIC_ADD: return (T)(a + v);
    case EMU_ATOMIC_SUB: return (T)(a - v);
    case EMU_ATOMIC_MIN: return v < a ? v : a;
    case EMU_ATOMIC_MAX: return v > a ? v : a;
    default: return v;
    }
}

template <class T> static uint64_t typed(int op, uint64_t old, uint64_t value)
{
    T a, v;
    memcpy(&a, &old, sizeof a);
    memcpy(&v, &value, sizeof v);
    a = combine(op, a, v);
    uint64_t out = 0;
    memcpy(&out, &a, sizeof a);
    return out;
}

static uint64_t apply(int op, int type, uint64_t old, uint64_t value, uint64_t compare)
{
    uint32_t o = (uint32_t)old, v = (uint32_t)value;
    switch (op) {
    case EMU_ATOMIC_EXCH: return value;
    case EMU_ATOMIC_CAS: return old == compare ? value : old;
    case EMU_ATOMIC_AND: return old & value;
    case EMU_ATOMIC_OR: return old | value;
    case EMU_ATOMIC_XOR: return old ^ value;
    case EMU_ATOMIC_INC: return o >= v ? 0 : o + 1;
    case EMU_ATOMIC_DEC: return o == 0 || o > v ? v : o - 1;
    default: break;
    }
    /* Unsigned arithmetic is two's complement, so signedness only matters for min and max. */
    switch (type) {
    case EMU_I32:
        return op >= EMU_ATOMIC_MIN ? typed<int32_t>(op, old, value)
                                    : typed<uint32_t>(op, old, value);
    case EMU_U32: return typed<uint32_t>(op, old, value);
    case EMU_I64:
        return op >= EMU_ATOMIC_MIN ? typed<int64_t>(op, old, value)
                                    : typed<uint64_t>(op, old, value);
    case EMU_U64: return typed<uint64_t>(op, old, value);
    case EMU_F32: return typed<float>(op, old, value);
    default: return typed<double>(op, old, value);
    }
}

extern "C" uint64_t emu_atomic(void *p, int op, int type, uint64_t value, uint64_t compare,
                               const char *file, int line)
{
    sched_preempt();
    size_t n = type_size(type);
    if (((uintptr_t)p & (n - 1)) != 0)
        emu_fault(cudaErrorMisalignedAddress, "misaligned atomic: %s on %s at %s:%d",
                  emu_who(emu_thread).c_str(), arena_describe(p).c_str(), file, line);
    uint64_t old = 0;
    memcpy(&old, p, n);
    uint64_t now = apply(op, type, old, value, compare);
    bool read_only = op == EMU_ATOMIC_CAS && old != compare;
#ifdef EMU_RACE
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    race_sync_read(p, n, pc);
    if (!read_only) race_sync_write(p, n, true, pc);
#endif
    if (now != old) {
        memcpy(p, &now, n);
        sched_progress();
    } else {
        /* An attempt that changed nothing is a lock's spin loop. */
        sched_poll_note(p, old);
        if (read_only || op == EMU_ATOMIC_EXCH) sched_yield_idle(file, line);
    }
    return old;
}

static uint64_t peek(const void *p, size_t size)
{
    uint64_t v = 0;
    memcpy(&v, p, size < 8 ? size : 8);
    return v;
}

static void poll_load(const void *p, void *out, size_t size, const char *file, int line,
                      uintptr_t pc)
{
    /* Yield first, then record the value that was read; in the other order the race detector would
     * lose the edge from a writer that ran in between. A first poll does not yield in the plain
     * order, since most flags are already set. */
    Thread *t = emu_thread;
    if (t->poll_address == p && t->poll_value == peek(p, size)) sched_yield_idle(file, line);
    else sched_preempt();
    t->file = file;
    t->line = line;
    RACE(race_sync_read(p, size, pc));
    (void)pc;
    memcpy(out, p, size);
    sched_poll_note(p, peek(p, size));
}

extern "C" void emu_poll_load(const void *p, void *out, size_t size, const char *file, int line)
{
    poll_load(p, out, size, file, line, (uintptr_t)__builtin_return_address(0));
}

extern "C" void emu_load_acquire(const void *p, void *out, size_t size, int scope, const char *file,
                                 int line)
{
    poll_load(p, out, size, file, line, (uintptr_t)__builtin_return_address(0));
    RACE(race_acquire(p, scope));
    (void)scope;
}

extern "C" void emu_load_relaxed(const void *p, void *out, size_t size)
{
    sched_preempt();
    RACE(race_sync_read(p, size, (uintptr_t)__builtin_return_address(0)));
    memcpy(out, p, size);
}

extern "C" void emu_store_relaxed(void *p, const void *value, size_t size)
{
    sched_preempt();
    RACE(race_sync_write(p, size, false, (uintptr_t)__builtin_return_address(0)));
    if (memcmp(p, value, size) != 0) sched_progress();
    memcpy(p, value, size);
}

extern "C" void emu_store_release(void *p, const void *value, size_t size, int scope)
{
    sched_preempt();
    RACE(race_release_begin(scope));
    RACE(race_sync_write(p, size, false, (uintptr_t)__builtin_return_address(0)));
    RACE(race_release_end());
    (void)scope;
    if (memcmp(p, value, size) != 0) sched_progress();
    memcpy(p, value, size);
}

extern "C" void emu_fence(int scope)
{
    sched_preempt();
    RACE(race_fence(scope));
    (void)scope;
}

extern "C" void emu_load_readonly(const void *p, size_t size)
{
    RACE(race_readonly(p, size, (uintptr_t)__builtin_return_address(0)));
    (void)p, (void)size;
}
