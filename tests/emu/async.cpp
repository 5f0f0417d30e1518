/* Asynchronous copies (cp.async). Their bytes arrive at the last moment that the device allows, the
 * wait, so that a missing wait shows in every run. */
#include <string.h>

#include "core.h"

/* Checks the address and alignment of both ends of a copy. */
static void check_ends(const void *to, const void *from, size_t bytes, uintptr_t pc)
{
    const Thread *t = emu_thread;
    auto in_window = [&](const void *p) {
        return (size_t)((const unsigned char *)p - t->block->shared) < SHARED_WINDOW;
    };
    if ((((uintptr_t)to | (uintptr_t)from) & (bytes - 1)) != 0)
        emu_fault(cudaErrorMisalignedAddress,
                  "misaligned copy of %zu bytes: %s from %s to %s at %s", bytes, emu_who(t).c_str(),
                  arena_describe(from).c_str(), arena_describe(to).c_str(), emu_where(pc).c_str());
    if (!in_window(to) || in_window(from))
        emu_fault(cudaErrorIllegalAddress,
                  "an asynchronous copy goes from global memory to the block's own shared memory: "
                  "%s copies "
                  "from %s to %s at %s",
                  emu_who(t).c_str(), arena_describe(from).c_str(), arena_describe(to).c_str(),
                  emu_where(pc).c_str());
}

extern "C" void emu_copy_async(void *shared, const void *global, size_t bytes, int arch)
{
    Thread *t = emu_thread;
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    check_ends(shared, global, bytes, pc);
    if (!arch || emu_device_arch() < 800) {
        RACE(race_plain(t, global, bytes, false, pc));
        RACE(race_plain(t, shared, bytes, true, pc));
        memcpy(shared, global, bytes);
        return;
    }
    Copy c = {(unsigned char *)shared,
              (const unsigned char *)global,
              (unsigned)bytes,
              t->copy_groups,
              0,
              pc,
              {}};
    RACE(c.time = race_copy_begin(shared, global, bytes, pc));
    memcpy(c.then, global, bytes);
    memset(shared, 0xFF, bytes); /* a read in the meantime returns NaN */
    t->copies.push_back(c);
}

extern "C" void emu_copy_commit(void) { emu_thread->copy_groups++; }

extern "C" void emu_copy_wait(unsigned left)
{
    Thread *t = emu_thread;
    size_t n = 0;
    for (; n < t->copies.size() && t->copies[n].group + left < t->copy_groups; n++) {
        const Copy &c = t->copies[n];
        RACE(race_copy_end(c.to, c.from, c.bytes, c.time, t->gid, nullptr, c.pc));
        if (memcmp(c.from, c.then, c.bytes) != 0)
            emu_fault(cudaErrorLaunchFailure,
                      "%s has changed before the copy had been waited for: the source of the "
                      "asynchronous copy "
                      "by %s at %s",
                      arena_describe(c.from).c_str(), emu_who(t).c_str(), emu_where(c.pc).c_str());
        memcpy(c.to, c.then, c.bytes);
    }
    t->copies.erase(t->copies.begin(), t->copies.begin() + (long)n);
}
