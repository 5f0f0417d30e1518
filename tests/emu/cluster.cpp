/* Clusters of blocks: their barrier, distributed shared memory, mbarriers, and the stores and
 * copies whose bytes an mbarrier counts.
 *
 * These stores and copies complete as late as the device allows: when a thread polls whether the
 * phase of their mbarrier has ended. In random schedules some of them complete earlier, in any
 * order. Until an operation completes, its target holds NaN. */
#include <string.h>

#include <algorithm>

#include "core.h"

#define CALLER ((uintptr_t)__builtin_return_address(0))

static std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static std::string text(const char *format, ...)
{
    char s[512];
    va_list args;
    va_start(args, format);
    vsnprintf(s, sizeof s, format, args);
    va_end(args);
    return s;
}

static void need_sm90(const char *what, uintptr_t pc)
{
    if (emu_device_arch() < 900)
        emu_fault(cudaErrorNoKernelImageForDevice, "%s at %s needs sm_90, this device is sm_%d",
                  what, emu_where(pc).c_str(), emu_device_arch() / 10);
}

/* ---- clusters ---- */

Cluster *cluster_new(Block *const *blocks, unsigned size)
{
    Cluster *c = new Cluster();
    c->size = size;
    for (unsigned i = 0; i < size; i++) {
        c->block[i] = blocks[i];
        blocks[i]->cluster = c;
        c->alive += blocks[i]->alive;
    }
    c->pending = c->alive;
    return c;
}

void cluster_delete(Cluster *c)
{
    RACE(race_cluster_drop(c));
    for (unsigned i = 0; i < c->size; i++) c->block[i]->cluster = nullptr;
    delete c;
}

Cluster *cluster_of(Block *b)
{
    if (!b->cluster) cluster_new(&b, 1);
    return b->cluster;
}

static void cluster_release(Cluster *c)
{
    RACE(race_cluster_sync(c));
    c->phase++;
    c->pending = c->alive;
    for (unsigned i = c->size; i-- > 0;)
        for (size_t k = c->block[i]->thread.size(); k-- > 0;)
            if (c->block[i]->thread[k].state == T_CLUSTER) sched_wake(&c->block[i]->thread[k]);
}

/* The barrier waits only for threads that have not ended. */
void cluster_thread_end(Thread *t)
{
    Cluster *c = t->block->cluster;
    if (!c) return;
    c->alive--;
    bool counted = t->cluster_arrived && t->cluster_phase == c->phase;
    if (!counted && --c->pending == 0 && c->alive > 0) cluster_release(c);
}

extern "C" unsigned emu_cluster_rank(void)
{
    need_sm90("cluster_rank", CALLER);
    Block *b = emu_thread->block;
    const Cluster *c = cluster_of(b);
    return (unsigned)(std::find(c->block, c->block + c->size, b) - c->block);
}

extern "C" unsigned emu_cluster_size(void)
{
    need_sm90("cluster_size", CALLER);
    return cluster_of(emu_thread->block)->size;
}

extern "C" void emu_cluster_arrive(const char *file, int line)
{
    need_sm90("cluster_arrive", CALLER);
    sched_preempt();
    Thread *t = emu_thread;
    Warp *w = t->warp;
    Cluster *c = cluster_of(t->block);
    t->file = file;
    t->line = line;
    if (t->cluster_arrived)
        emu_fault(cudaErrorLaunchFailure,
                  "%s arrives at the cluster barrier at %s:%d and has not waited since it did",
                  emu_who(t).c_str(), file, line);
    if (w->cluster_arrived && (w->cluster_line != line || strcmp(w->cluster_file, file) != 0))
        emu_fault(cudaErrorLaunchFailure,
                  "divergent cluster barrier: %s arrives at %s:%d, %s at %s:%d, in the same warp",
                  emu_who(t).c_str(), file, line,
                  emu_who(w->lane[__builtin_ctz(w->cluster_arrived)]).c_str(), w->cluster_file,
                  w->cluster_line);
    w->cluster_file = file;
    w->cluster_line = line;
    w->cluster_arrived |= 1u << (t->index & 31);
    if ((w->cluster_arrived & w->alive) == w->alive) w->cluster_arrived = 0;
    t->cluster_arrived = true;
    t->cluster_phase = c->phase;
    RACE(race_cluster_arrive(t));
    sched_progress();
    if (--c->pending == 0) cluster_release(c);
}

extern "C" void emu_cluster_wait(const char *file, int line)
{
    need_sm90("cluster_wait", CALLER);
    Thread *t = emu_thread;
    t->file = file;
    t->line = line;
    if (!t->cluster_arrived)
        emu_fault(cudaErrorLaunchFailure,
                  "%s waits at the cluster barrier at %s:%d and has not arrived",
                  emu_who(t).c_str(), file, line);
    if (cluster_of(t->block)->phase == t->cluster_phase) sched_wait(T_CLUSTER);
    t->cluster_arrived = false;
    RACE(race_cluster_acquire(t));
}

/* Checks an access to another block of the cluster. It needs a launch with a cluster size, so that
 * a kernel with clusters cannot be launched without them. */
static void need_cluster(const char *what, uintptr_t pc)
{
    if (emu_grid->cluster == 0)
        emu_fault(cudaErrorLaunchFailure, "%s at %s, but the launch has no cluster size", what,
                  emu_where(pc).c_str());
}

static bool own_shared(const void *p) { return arena_shared_slot(p) == emu_thread->block->slot; }

static void *map_at(const void *p, unsigned rank, uintptr_t pc)
{
    const Thread *t = emu_thread;
    const Cluster *c = cluster_of(t->block);
    need_cluster("cluster_map", pc);
    if (!own_shared(p))
        emu_fault(cudaErrorIllegalAddress,
                  "%s asks at %s where a block of the cluster has %s: that is not the caller's "
                  "shared memory",
                  emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(p).c_str());
    if (rank >= c->size)
        emu_fault(cudaErrorIllegalAddress, "%s asks at %s for block %u of a cluster of %u",
                  emu_who(t).c_str(), emu_where(pc).c_str(), rank, c->size);
    if (c->block[rank]->alive == 0)
        emu_fault(cudaErrorIllegalAddress,
                  "%s asks at %s for the shared memory of block (%u,%u,%u), which has ended",
                  emu_who(t).c_str(), emu_where(pc).c_str(), c->block[rank]->idx.x,
                  c->block[rank]->idx.y, c->block[rank]->idx.z);
    return c->block[rank]->shared + ((const unsigned char *)p - t->block->shared);
}

extern "C" void *emu_cluster_map(const void *p, unsigned rank)
{
    uintptr_t pc = CALLER;
    need_sm90("cluster_map", pc);
    return map_at(p, rank, pc);
}

/* Returns the block of the cluster whose shared memory contains p; that block must be known to be
 * running. */
static Block *block_at(const void *p, const char *what, uintptr_t pc)
{
    const Thread *t = emu_thread;
    int slot = arena_shared_slot(p);
    Block *b =
        slot >= 0 && (size_t)slot < emu_grid->slot.size() ? emu_grid->slot[(size_t)slot] : nullptr;
    if (b == t->block) return b;
    const Cluster *c = cluster_of(t->block);
    if (!b || b->cluster != c)
        emu_fault(cudaErrorIllegalAddress, "%s by %s at %s: %s is not shared memory of the cluster",
                  what, emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(p).c_str());
    if (b->alive == 0)
        emu_fault(
            cudaErrorIllegalAddress,
            "%s by %s at %s to %s, but that block has ended: a last cluster barrier is missing",
            what, emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(p).c_str());
    if (c->phase == 0)
        emu_fault(
            cudaErrorIllegalAddress,
            "%s by %s at %s to %s before any cluster barrier: that block may not have started",
            what, emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(p).c_str());
    return b;
}

/* ---- mbarriers ---- */

enum : unsigned char { MBARRIER_BYTE = 0xB5 }; /* the value of its 8 bytes, to detect overwrites */

static Mbarrier *mbarrier_find(Block *b, const void *at)
{
    for (auto &m : b->mbarriers)
        if (m.at == at) return &m;
    return nullptr;
}

static Mbarrier *mbarrier_at(Block *b, const void *at, const char *what, uintptr_t pc)
{
    Mbarrier *m = mbarrier_find(b, at);
    if (!m)
        emu_fault(cudaErrorLaunchFailure, "%s by %s at %s: there is no mbarrier (yet) at %s", what,
                  emu_who(emu_thread).c_str(), emu_where(pc).c_str(), arena_describe(at).c_str());
    for (int i = 0; i < 8; i++)
        if (m->at[i] != MBARRIER_BYTE)
            emu_fault(cudaErrorLaunchFailure, "%s by %s at %s: the mbarrier at %s was overwritten",
                      what, emu_who(emu_thread).c_str(), emu_where(pc).c_str(),
                      arena_describe(at).c_str());
    RACE(race_mbarrier_use(&m->race, at, pc));
    return m;
}

static void phase_check(Mbarrier *m)
{
    if (m->pending > 0 || m->bytes != 0) return;
    m->phase++;
    m->pending = m->count;
    RACE(race_mbarrier_phase(&m->race));
    sched_progress();
}

std::string mbarrier_describe(const void *p)
{
    int slot = arena_shared_slot(p);
    if (slot < 0 || (size_t)slot >= emu_grid->slot.size()) return "";
    const Mbarrier *m = mbarrier_find(emu_grid->slot[(size_t)slot], p);
    return m ? text("phase %u of the mbarrier at %s lacks %u of %u arrivals and %lld announced "
                    "bytes",
                    m->phase, arena_describe(p).c_str(), m->pending, m->count, m->bytes)
             : "";
}

extern "C" void emu_mbarrier_init(void *at, unsigned arrivals)
{
    uintptr_t pc = CALLER;
    need_sm90("mbarrier_init", pc);
    Thread *t = emu_thread;
    if (!own_shared(at) || ((uintptr_t)at & 7) != 0)
        emu_fault(
            cudaErrorMisalignedAddress,
            "mbarrier_init by %s at %s: %s is no multiple of 8 in the block's own shared memory",
            emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(at).c_str());
    if (arrivals == 0 || arrivals >= 1u << 20 || mbarrier_find(t->block, at))
        emu_fault(cudaErrorLaunchFailure, "mbarrier_init by %s at %s: %s", emu_who(t).c_str(),
                  emu_where(pc).c_str(),
                  arrivals == 0 || arrivals >= 1u << 20 ? "the arrivals must be 1 .. 2^20 - 1"
                                                        : "there is one at this address already");
    Mbarrier m = {};
    m.at = (unsigned char *)at;
    m.count = m.pending = arrivals;
    m.owner = t->index;
    RACE(race_mbarrier_init(&m.race, at, pc));
    memset(at, MBARRIER_BYTE, 8);
    t->block->mbarriers.push_back(m);
}

/* A fence of either kind: afterwards bulk copies may use the thread's own mbarriers. */
static void fence_mbarriers()
{
    for (auto &m : emu_thread->block->mbarriers)
        if (m.owner == emu_thread->index) m.fenced = true;
}

extern "C" void emu_fence_mbarrier_init(void)
{
    need_sm90("mbarrier_init_fence", CALLER);
    fence_mbarriers();
}

extern "C" void emu_fence_proxy(void)
{
    need_sm90("fence_async_proxy", CALLER);
    fence_mbarriers();
    RACE(race_fence_proxy());
}

extern "C" void emu_mbarrier_arrive(uintptr_t where, unsigned arrivals, unsigned bytes)
{
    uintptr_t pc = CALLER;
    const void *at = (const void *)where;
    const char *what = bytes ? "an announcement of bytes" : "an arrival";
    need_sm90("mbarrier_arrive", pc);
    sched_preempt();
    Block *b = block_at(at, what, pc);
    Mbarrier *m = mbarrier_at(b, at, what, pc);
    m->bytes += bytes;
    if (m->bytes >= 1 << 20)
        emu_fault(cudaErrorLaunchFailure,
                  "%s by %s at %s: %lld bytes in one phase, 2^20 - 1 are the most", what,
                  emu_who(emu_thread).c_str(), emu_where(pc).c_str(), m->bytes);
    if (arrivals > m->pending)
        emu_fault(cudaErrorLaunchFailure,
                  "%s by %s at %s: phase %u of %s has had its %u arrivals already", what,
                  emu_who(emu_thread).c_str(), emu_where(pc).c_str(), m->phase,
                  arena_describe(at).c_str(), m->count);
    if (arrivals) RACE(race_mbarrier_arrive(&m->race));
    m->pending -= arrivals;
    sched_progress();
    phase_check(m);
}

/* ---- asynchronous stores and bulk copies ---- */

static void flight_land(Mbarrier *m, Flight *f)
{
    RACE(race_flight_end(f, &m->race));
    if (f->from && memcmp(f->from, f->then.data(), f->bytes) != 0)
        emu_fault(cudaErrorLaunchFailure,
                  "%s has changed before the copy had been waited for: the source of the bulk copy "
                  "by %s at %s",
                  arena_describe(f->from).c_str(), emu_who_gid(f->issuer).c_str(),
                  emu_where(f->pc).c_str());
    memcpy(f->to, f->from ? f->then.data() : f->word, f->bytes);
    m->bytes -= f->bytes;
    sched_progress();
    phase_check(m);
}

/* Completes operations until the phase ends: in order of issue, or in random schedules about half
 * of them, in any order. */
static void flights_land(Mbarrier *m)
{
    uint32_t phase = m->phase;
    size_t n = m->flights.size(), landed = 0;
    for (size_t look = 0; look < n && m->phase == phase; look++) {
        if (sched_choice(2)) continue;
        std::swap(m->flights[landed], m->flights[landed + sched_choice((unsigned)(n - landed))]);
        flight_land(m, &m->flights[landed++]);
    }
    m->flights.erase(m->flights.begin(), m->flights.begin() + (long)landed);
}

extern "C" int emu_mbarrier_try(void *at, unsigned parity, const char *file, int line)
{
    uintptr_t pc = CALLER;
    need_sm90("mbarrier_try", pc);
    sched_preempt();
    Thread *t = emu_thread;
    if (!own_shared(at))
        emu_fault(cudaErrorIllegalAddress,
                  "mbarrier_try by %s at %s:%d: %s is not the block's own shared memory",
                  emu_who(t).c_str(), file, line, arena_describe(at).c_str());
    for (int look = 0; look < 2; look++) {
        Mbarrier *m = mbarrier_at(t->block, at, "mbarrier_try", pc);
        if ((m->phase & 1) == (parity & 1)) flights_land(m);
        if ((m->phase & 1) != (parity & 1)) {
            RACE(race_mbarrier_acquire(&m->race));
            return 1;
        }
        uint64_t seen = (uint64_t)m->phase << 40 ^ (uint64_t)m->pending << 20 ^ (uint64_t)m->bytes;
        t->file = file;
        t->line = line;
        if (!sched_poll_note(at, seen)) break;
        if (look == 0) sched_yield_idle(file, line);
    }
    return 0;
}

/* Returns the mbarrier of an operation on [to, to + bytes), which must be in the same block. */
static Mbarrier *flight_check(uintptr_t to, uintptr_t mbarrier, unsigned align, unsigned bytes,
                              const char *what, uintptr_t pc)
{
    const Thread *t = emu_thread;
    if (((to | bytes) & (align - 1)) != 0 || bytes == 0)
        emu_fault(cudaErrorMisalignedAddress, "misaligned %s of %u bytes by %s to %s at %s", what,
                  bytes, emu_who(t).c_str(), arena_describe((void *)to).c_str(),
                  emu_where(pc).c_str());
    Block *b = block_at((void *)to, what, pc);
    if (block_at((void *)mbarrier, what, pc) != b)
        emu_fault(cudaErrorIllegalAddress,
                  "%s by %s at %s: target and mbarrier are in different blocks", what,
                  emu_who(t).c_str(), emu_where(pc).c_str());
    return mbarrier_at(b, (void *)mbarrier, what, pc);
}

static void flight_start(Mbarrier *m, uintptr_t to, const void *from, const void *word,
                         unsigned bytes, const Block *source, uintptr_t pc)
{
    Flight f = {};
    f.to = (unsigned char *)to;
    f.from = (const unsigned char *)from;
    f.bytes = bytes;
    f.source = source;
    f.issuer = emu_thread->gid;
    f.pc = pc;
    RACE(race_flight_begin(&f));
    if (from) f.then.assign(f.from, f.from + bytes);
    else memcpy(f.word, word, bytes);
    memset(f.to, 0xFF, bytes);
    m->flights.push_back(std::move(f));
    sched_progress();
}

extern "C" void emu_store_async(uintptr_t to, const void *value, unsigned bytes, uintptr_t mbarrier)
{
    uintptr_t pc = CALLER;
    need_sm90("store_async", pc);
    need_cluster("store_async", pc);
    /* PTX ISA, st.async: "%cluster_nctarank > 1 is true. Otherwise, the behavior is undefined." */
    if (emu_grid->cluster < 2)
        emu_fault(cudaErrorLaunchFailure, "store_async at %s in a cluster of one block",
                  emu_where(pc).c_str());
    sched_preempt();
    Mbarrier *m = flight_check(to, mbarrier, bytes, bytes, "asynchronous store", pc);
    flight_start(m, to, nullptr, value, bytes, nullptr, pc);
}

static void bulk_start(uintptr_t to, const void *from, unsigned bytes, uintptr_t mbarrier,
                       const Block *source, uintptr_t pc)
{
    const Thread *t = emu_thread;
    Mbarrier *m = flight_check(to, mbarrier, 16, bytes, "bulk copy", pc);
    if (((uintptr_t)from & 15) != 0)
        emu_fault(cudaErrorMisalignedAddress, "misaligned bulk copy by %s from %s at %s",
                  emu_who(t).c_str(), arena_describe(from).c_str(), emu_where(pc).c_str());
    if (!m->fenced)
        emu_fault(cudaErrorLaunchFailure,
                  "bulk copy by %s at %s: its mbarrier was made without mbarrier_init_fence or "
                  "fence_async_proxy after it",
                  emu_who(t).c_str(), emu_where(pc).c_str());
    RACE(race_proxy_check(from, bytes, pc));
    flight_start(m, to, from, nullptr, bytes, source, pc);
}

static void bulk_places(const void *to, const void *from, int from_shared, uintptr_t pc)
{
    const Thread *t = emu_thread;
    if (from_shared ? !own_shared(from) : arena_shared_slot(from) >= 0 || !own_shared(to))
        emu_fault(cudaErrorIllegalAddress,
                  "a bulk copy goes from %s: %s copies from %s to %s at %s",
                  from_shared ? "the block's own shared memory"
                              : "global memory into the block's own shared memory",
                  emu_who(t).c_str(), arena_describe(from).c_str(), arena_describe(to).c_str(),
                  emu_where(pc).c_str());
}

extern "C" void emu_copy_bulk(uintptr_t to, const void *from, unsigned bytes, uintptr_t mbarrier,
                              int from_shared)
{
    uintptr_t pc = CALLER;
    need_sm90("copy_bulk", pc);
    sched_preempt();
    bulk_places((const void *)to, from, from_shared, pc);
    bulk_start(to, from, bytes, mbarrier, from_shared ? emu_thread->block : nullptr, pc);
}

extern "C" void emu_copy_bulk_multicast(void *to, const void *from, unsigned bytes, void *mbarrier,
                                        unsigned ranks)
{
    uintptr_t pc = CALLER;
    const Thread *t = emu_thread;
    need_sm90("copy_bulk_multicast", pc);
    sched_preempt();
    bulk_places(to, from, 0, pc);
    unsigned n = cluster_of(t->block)->size;
    if (ranks == 0 || ranks >> n != 0)
        emu_fault(cudaErrorIllegalAddress,
                  "multicast by %s at %s to blocks 0x%x of a cluster of %u", emu_who(t).c_str(),
                  emu_where(pc).c_str(), ranks, n);
    for (unsigned rank = 0; rank < n; rank++)
        if (ranks >> rank & 1)
            bulk_start((uintptr_t)map_at(to, rank, pc), from, bytes,
                       (uintptr_t)map_at(mbarrier, rank, pc), nullptr, pc);
}

/* When a block ends, no operation may be in flight into or out of it, and no bytes may have arrived
 * that were not announced. */
void cluster_block_end(Block *b)
{
    const Cluster *c = b->cluster;
    for (unsigned i = 0; i < c->size; i++)
        for (const auto &m : c->block[i]->mbarriers)
            for (const auto &f : m.flights)
                if (c->block[i] == b || f.source == b) {
                    sched_fail(cudaErrorIllegalAddress,
                               text("block (%u,%u,%u) has ended while an asynchronous operation by "
                                    "%s at %s "
                                    "still %s its shared memory",
                                    b->idx.x, b->idx.y, b->idx.z, emu_who_gid(f.issuer).c_str(),
                                    emu_where(f.pc).c_str(),
                                    c->block[i] == b ? "writes" : "reads"));
                    return;
                }
    for (const auto &m : b->mbarriers)
        if (m.bytes < 0)
            sched_fail(cudaErrorLaunchFailure,
                       text("%lld bytes came to the mbarrier at %s that no phase had "
                            "announced, found at the block's end",
                            -m.bytes, arena_describe(m.at).c_str()));
}
