/* The race detector checks happens-before between the threads of one launch, by CUDA's memory
 * model.
 *
 * Kernels of the race build are compiled with -fsanitize=thread and linked with the functions at
 * the end of this file instead of libtsan, so that every memory access calls them. For each 4-byte
 * word of the arena a cell records the last write and the reads since. A new access that is not
 * ordered after them is a race.
 *
 * Time is one counter, which every synchronisation advances. An access has the time at which it
 * happened. What a thread knows about a set of threads is also a time K: "all their accesses before
 * K happened before mine". A thread has such times for
 *   - its block:  Block::race_time, set by __syncthreads;
 *   - its warp:   LaneView, one time per lane, set by __syncwarp;
 *   - other blocks and single threads:  View, one time per block plus a short list of (thread,
 *     time).
 * A View travels through memory: a fence takes a snapshot of its thread's View, a later atomic or
 * volatile write publishes the snapshot at that address, an atomic or volatile read picks it up,
 * and a fence after that read joins it into the reader's View. If either fence is missing, nothing
 * is ordered. Fences of block scope publish and receive within the block only. Shuffles and votes
 * order nothing.
 *
 * The words that an asynchronous operation writes belong to no thread of the launch but to an agent
 * of its mbarrier, a thread of an imaginary block (number `blocks`). A thread that waits for a
 * phase of the mbarrier receives the agent's time at the end of that phase. Until the operation
 * completes its words are IN_FLIGHT, and any access to them is a race.
 *
 * The end of a launch orders everything, so cells are not cleared between launches: times before
 * `base` are old.
 *
 * Cells are approximate in three cases, in which the detector misses a race rather than report a
 * false one: two unordered writers of different bytes of one word (only the last is remembered),
 * readers from several warps of one block since the last barrier (a warp counts as one reader), and
 * grids of more than 2,048 blocks (readers of different blocks are not distinguished). Readers from
 * several warps share the time of the last one, which is right if a __syncthreads follows; in
 * launches of clusters each warp has its own time.
 */
#include "core.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#ifdef EMU_RACE

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- what is ordered before a thread ---- */

struct LaneView {
    int refs;
    uint32_t time[32];
};

struct View {
    int refs;
    uint64_t id;                 /* changes with the content */
    View *reads;                 /* what is ordered of reads only, in addition; may be NULL */
    std::vector<uint32_t> block; /* known time of each block */
    /* (thread, time), sorted; only threads whose time exceeds that of their block */
    std::vector<std::pair<uint32_t, uint32_t>> one;
};

static uint32_t now_time = 16, base = 16;
static uint64_t view_ids;
static unsigned blocks, threads; /* of the launch */

enum : uint32_t { FREE = 0, UNWRITTEN, IN_FLIGHT, MBARRIER, OLD }; /* times below 16 are states */

static View *view_new()
{
    View *v = new View();
    v->refs = 1;
    v->id = ++view_ids;
    v->block.assign(blocks + 1, 0); /* the last slot is for the agents */
    return v;
}

static View *view_ref(View *v)
{
    if (v) v->refs++;
    return v;
}

static void view_drop(View *&v)
{
    if (v && --v->refs == 0) {
        view_drop(v->reads);
        delete v;
    }
    v = nullptr;
}

static void view_own(View *&v) /* makes v unshared, so that it can be changed */
{
    if (!v) {
        v = view_new();
    } else if (v->refs > 1) {
        View *copy = new View(*v);
        copy->refs = 1;
        view_ref(copy->reads);
        v->refs--;
        v = copy;
    }
    v->id = ++view_ids;
}

/* Returns the block of each of several threads in ascending order, without divisions. */
struct Blocks {
    uint32_t block = 0;
    uint64_t end = threads;
    uint32_t of(uint32_t gid)
    {
        while (gid >= end) end += threads, block++;
        return block;
    }
};

static void view_prune(View *v)
{
    Blocks at;
    v->one.erase(
        std::remove_if(v->one.begin(), v->one.end(),
                       [&](const auto &e) { return e.second <= v->block[at.of(e.first)]; }),
        v->one.end());
}

static void view_join_accesses(View *&into, const View *from)
{
    view_own(into);
    for (unsigned i = 0; i <= blocks; i++)
        into->block[i] = std::max(into->block[i], from->block[i]);
    std::vector<std::pair<uint32_t, uint32_t>> all;
    all.reserve(into->one.size() + from->one.size());
    Blocks at;
    auto add = [&](std::pair<uint32_t, uint32_t> e) {
        if (e.second > into->block[at.of(e.first)]) all.push_back(e);
    };
    auto a = into->one.begin();
    auto b = from->one.begin();
    while (a != into->one.end() && b != from->one.end()) {
        if (a->first < b->first) add(*a++);
        else if (b->first < a->first) add(*b++);
        else add({a->first, std::max(a->second, b->second)}), ++a, ++b;
    }
    while (a != into->one.end()) add(*a++);
    while (b != from->one.end()) add(*b++);
    into->one.swap(all);
}

/* The last join into a shared View, cached because the threads of a warp that acquire the same View
 * share the result. */
static struct {
    uint64_t into, from;
    View *result;
} joined;

static void view_join(View *&into, View *from)
{
    if (!from || into == from) return;
    if (!into) {
        into = view_ref(from);
        return;
    }
    uint64_t before = into->id, source = from->id;
    bool shared = into->refs > 1;
    if (shared && joined.result && joined.into == before && joined.from == source) {
        view_ref(joined.result);
        view_drop(into);
        into = joined.result;
        return;
    }
    view_join_accesses(into, from);
    if (from->reads && into->reads != from->reads) {
        if (into->reads) view_join_accesses(into->reads, from->reads);
        else into->reads = view_ref(from->reads);
    }
    if (shared) {
        view_drop(joined.result);
        joined = {before, source, view_ref(into)};
    }
}

static void view_add(View *v, uint32_t gid, uint32_t time)
{
    auto i = std::lower_bound(v->one.begin(), v->one.end(), std::make_pair(gid, 0u));
    if (i != v->one.end() && i->first == gid) i->second = std::max(i->second, time);
    else v->one.insert(i, {gid, time});
}

static uint32_t view_one(const View *v, uint32_t gid)
{
    if (!v || v->one.empty()) return 0;
    auto i = std::lower_bound(v->one.begin(), v->one.end(), std::make_pair(gid, 0u));
    return i != v->one.end() && i->first == gid ? i->second : 0;
}

static bool view_knows(const View *v, uint32_t gid, uint32_t time)
{
    return v && (v->block[gid / threads] > time || view_one(v, gid) > time);
}

static LaneView *lanes_ref(LaneView *l)
{
    if (l) l->refs++;
    return l;
}

static void lanes_drop(LaneView *&l)
{
    if (l && --l->refs == 0) delete l;
    l = nullptr;
}

static void snap_drop(FenceSnap &s)
{
    view_drop(s.view);
    view_drop(s.base);
    lanes_drop(s.lanes);
    s.built = false;
    s.time = 0;
}

static void snap_take(FenceSnap &s, Thread *t)
{
    snap_drop(s);
    s.base = view_ref(t->race.view);
    s.lanes = lanes_ref(t->race.lanes);
    s.time = now_time;
    s.block_time = t->block->race_time;
}

/* Returns the accesses that the fence covers, as a View that may be published. */
static View *snap_view(FenceSnap &s, const Thread *t)
{
    if (!s.time) return nullptr;
    if (!s.built) {
        s.built = true;
        s.view = view_ref(s.base);
        view_own(s.view);
        uint32_t &own = s.view->block[t->block->number];
        own = std::max(own, s.block_time);
        view_prune(s.view);
        view_add(s.view, t->gid, s.time);
        if (s.lanes)
            for (unsigned i = 0; i < 32; i++)
                if (s.lanes->time[i] > s.block_time && i != (t->index & 31))
                    view_add(s.view, t->gid - (t->index & 31) + i, s.lanes->time[i]);
    }
    return s.view;
}

/* ---- Views published at an address ---- */

struct SyncObject {
    View *device = nullptr;
    View *block = nullptr; /* from fences of any scope; valid for readers in the same block */
    unsigned block_number = 0;
};
static std::unordered_map<uintptr_t, SyncObject> objects;

void race_fence(int scope)
{
    Thread *t = emu_thread;
    RaceThread &r = t->race;
    view_join(r.view, r.pending_block);
    view_drop(r.pending_block);
    if (scope >= 1) {
        view_join(r.view, r.pending_device);
        view_drop(r.pending_device);
        r.last_seen = nullptr;
    }
    now_time++;
    snap_take(r.fence_block, t);
    if (scope >= 1) snap_take(r.fence_device, t);
}

static FenceSnap saved_block, saved_device;

void race_release_begin(int scope)
{
    Thread *t = emu_thread;
    std::swap(saved_block, t->race.fence_block);
    std::swap(saved_device, t->race.fence_device);
    now_time++;
    snap_take(t->race.fence_block, t);
    if (scope >= 1) snap_take(t->race.fence_device, t);
}

void race_release_end()
{
    Thread *t = emu_thread;
    snap_drop(t->race.fence_block);
    snap_drop(t->race.fence_device);
    std::swap(saved_block, t->race.fence_block);
    std::swap(saved_device, t->race.fence_device);
}

void race_acquire(const void *p, int scope)
{
    Thread *t = emu_thread;
    auto i = objects.find((uintptr_t)p & ~(uintptr_t)3);
    if (i == objects.end()) return;
    if (scope >= 1) view_join(t->race.view, i->second.device);
    if (i->second.block && i->second.block_number == t->block->number)
        view_join(t->race.view, i->second.block);
}

/* ---- barriers ---- */

void race_barrier(Block *b)
{
    b->race_time = ++now_time;
    View *m = view_ref(b->race_view);
    bool nothing_new = true;
    for (auto &t : b->thread) nothing_new = nothing_new && t.race.view == b->race_view;
    if (nothing_new) { /* the usual case: no thread has acquired anything since the last barrier */
        view_drop(m);
        return;
    }
    for (auto &t : b->thread)
        if (t.race.view && t.race.view != b->race_view && t.race.view != m)
            view_join(m, t.race.view);
    if (m) {
        view_own(m);
        m->block[b->number] = b->race_time;
        view_prune(m);
    }
    view_drop(b->race_view);
    b->race_view = m;
    for (auto &t : b->thread)
        if (t.race.view != m) {
            view_drop(t.race.view);
            t.race.view = view_ref(m);
        }
}

void race_grid_sync(Grid *g)
{
    now_time++;
    View *all = view_new();
    const View *last = nullptr;
    for (Block *b : g->slot)
        for (auto &t : b->thread)
            if (t.race.view != last) { /* for the times of the agents */
                last = t.race.view;
                view_join(all, t.race.view);
            }
    view_own(all);
    for (unsigned i = 0; i < blocks; i++) all->block[i] = now_time;
    view_prune(all);
    for (Block *b : g->slot) {
        b->race_time = now_time;
        view_drop(b->race_view);
        b->race_view = view_ref(all);
        for (auto &t : b->thread) {
            view_drop(t.race.view);
            t.race.view = view_ref(all);
        }
    }
    view_drop(all);
}

void race_warp_sync(Warp *w, unsigned mask)
{
    uint32_t k = ++now_time;
    LaneView *first = nullptr;
    View *view = nullptr;
    bool same_view = true, have = false, same_lanes = true;
    for (unsigned m = mask; m; m &= m - 1) {
        RaceThread &r = w->lane[__builtin_ctz(m)]->race;
        if (!have) first = r.lanes, view = r.view, have = true;
        same_lanes = same_lanes && r.lanes == first;
        same_view = same_view && r.view == view;
    }
    /* If only these lanes use the LaneView, it is changed in place. */
    if (same_lanes && first && first->refs == __builtin_popcount(mask)) {
        for (unsigned m = mask; m; m &= m - 1) first->time[__builtin_ctz(m)] = k;
    } else {
        LaneView *l = new LaneView();
        l->refs = __builtin_popcount(mask);
        for (unsigned m = mask; m; m &= m - 1) {
            RaceThread &r = w->lane[__builtin_ctz(m)]->race;
            if (r.lanes)
                for (int i = 0; i < 32; i++) l->time[i] = std::max(l->time[i], r.lanes->time[i]);
        }
        for (unsigned m = mask; m; m &= m - 1) l->time[__builtin_ctz(m)] = k;
        for (unsigned m = mask; m; m &= m - 1) {
            RaceThread &r = w->lane[__builtin_ctz(m)]->race;
            lanes_drop(r.lanes);
            r.lanes = l;
        }
    }
    if (!same_view) {
        View *v = nullptr;
        for (unsigned m = mask; m; m &= m - 1) view_join(v, w->lane[__builtin_ctz(m)]->race.view);
        for (unsigned m = mask; m; m &= m - 1) {
            RaceThread &r = w->lane[__builtin_ctz(m)]->race;
            view_drop(r.view);
            r.view = view_ref(v);
        }
        view_drop(v);
    }
}

/* ---- cells ---- */

struct Slot { /* the reads of a word */
    uint32_t thread, time, pc, mask;
    uint32_t flags;
};
enum : uint32_t {
    LEVEL = 3u, /* of a Slot */
    WARP = 1u,  /* lanes `mask` of the warp of `thread` */
    BLOCK = 2u, /* warps `mask` of the block of `thread`; with TIMES an index into `warp_reads` */
    GRID = 3u,  /* `mask` is an index into `wide`, one Slot per block; 0: readers not recorded */
    SYNC = 4u,  /* atomic or volatile reads only */
    READ_ONLY = 8u, /* some reads went through the read-only path */
    BYTES = 0xF0u,
    TIMES = 1u << 8, /* in a launch of clusters, whose warps may continue without a __syncthreads */
    W_SYNC = 1u << 16, /* the write was atomic or volatile */
    W_BYTES = 0xFu << 20
};

struct Cell {
    uint32_t w_thread, w_time, w_pc;
    Slot r;
};
static_assert(sizeof(Cell) == 32, "the shadow is eight times the memory");

static Cell *cells;
static std::vector<Slot *> wide; /* [0] unused */
static std::vector<uint32_t> wide_free;
static size_t wide_bytes;
enum : size_t { WIDE_LIMIT = (size_t)384 << 20, WIDE_BLOCKS = 2048 };
/* When each warp of a block last read a word. */
struct WarpReads {
    uint32_t mask;
    uint32_t time[32];
};
static std::vector<WarpReads *> warp_reads(1); /* [0] unused */
static std::vector<uint32_t> warp_reads_free;
static bool check_unwritten = true;
static uintptr_t pc_anchor; /* code addresses are kept as their low halves, near this one */

void race_check_uninitialised(bool on) { check_unwritten = on; }

void race_init()
{
    cells = (Cell *)mmap(nullptr, ARENA_SPAN / 4 * sizeof(Cell), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED) {
        fprintf(stderr, "emu: cannot reserve the race detector's shadow\n");
        abort();
    }
    madvise(cells, ARENA_SPAN / 4 * sizeof(Cell), MADV_NOHUGEPAGE);
    wide.push_back(nullptr);
}

static Cell *cell_of(const void *p)
{
    return cells + (size_t)((const unsigned char *)p - arena_base) / 4;
}

static uint32_t warp_reads_new()
{
    uint32_t i = (uint32_t)warp_reads.size();
    if (!warp_reads_free.empty()) i = warp_reads_free.back(), warp_reads_free.pop_back();
    else if (i * sizeof(WarpReads) < WIDE_LIMIT) warp_reads.push_back(new WarpReads());
    else return 0;
    warp_reads[i]->mask = 0;
    return i;
}

static inline void slot_drop(Slot &s)
{
    if (s.flags & TIMES) warp_reads_free.push_back(s.mask);
    s.flags &= ~(uint32_t)TIMES;
}

static void cells_state(const void *p, size_t size, uint32_t state)
{
    size_t first = (size_t)((const unsigned char *)p - arena_base);
    if (!cells || first >= ARENA_SPAN || size == 0) return;
    Cell *c = cells + first / 4, *end = cells + (first + size + 3) / 4;
    /* The shadow's pages of a large range are returned to the system; they then read as zero. */
    if (state == FREE && (size_t)(end - c) > (1 << 16)) {
        uintptr_t lo = ((uintptr_t)c + 4095) & ~(uintptr_t)4095,
                  hi = (uintptr_t)end & ~(uintptr_t)4095;
        for (Cell *q = c; (uintptr_t)q < lo; q++) *q = Cell{};
        madvise((void *)lo, hi - lo, MADV_DONTNEED);
        for (Cell *q = (Cell *)hi; q < end; q++) *q = Cell{};
        return;
    }
    for (; c < end; c++) {
        slot_drop(c->r);
        *c = Cell{};
        c->w_time = state;
    }
}

void race_allocated(const void *p, size_t size) { cells_state(p, size, UNWRITTEN); }
void race_freed(const void *p, size_t size) { cells_state(p, size, FREE); }

void race_host_wrote(const void *p, size_t size)
{
    size_t first = (size_t)((const unsigned char *)p - arena_base);
    if (cells && first < ARENA_SPAN) cells_state(p, size, OLD);
}

/* A copy between device addresses also copies the state "never written". */
void race_copied(const void *dst, const void *src, size_t size)
{
    size_t d = (size_t)((const unsigned char *)dst - arena_base),
           s = (size_t)((const unsigned char *)src - arena_base);
    if (d >= ARENA_SPAN) return;
    if (s >= ARENA_SPAN || ((d | s | size) & 3)) {
        race_host_wrote(dst, size);
        return;
    }
    for (size_t i = 0; i < size / 4; i++) {
        uint32_t state = cells[s / 4 + i].w_time == UNWRITTEN ? UNWRITTEN : OLD;
        cells[d / 4 + i] = Cell{};
        cells[d / 4 + i].w_time = state;
    }
}

/* ---- order ---- */

static bool lane_known(const Thread *t, uint32_t gid, uint32_t time, bool read)
{
    const Block *b = t->block;
    const View *v = t->race.view;
    if (gid == t->gid) return true;
    uint32_t index = gid - b->gid0;
    if (index < threads && index / 32 == t->index / 32 && t->race.lanes &&
        t->race.lanes->time[index & 31] > time)
        return true;
    return view_one(v, gid) > time || (read && v && view_knows(v->reads, gid, time));
}

/* Returns whether the access of thread `gid` at `time` happened before t's next access. */
static bool ordered(const Thread *t, uint32_t gid, uint32_t time)
{
    if (time < base || gid == t->gid) return true;
    const Block *b = t->block;
    if (gid - b->gid0 < threads && time < b->race_time) return true;
    if (t->race.view && t->race.view->block[gid / threads] > time) return true;
    return lane_known(t, gid, time, false);
}

static bool slot_ordered(const Thread *t, const Slot &s)
{
    if (s.time < base) return true;
    const Block *b = t->block;
    uint32_t index = s.thread - b->gid0;
    bool same_block = index < threads;
    uint32_t first; /* gid of the block's thread 0 */
    uint32_t number = s.thread / threads;
    if (same_block && s.time < b->race_time) return true;
    if (t->race.view && t->race.view->block[number] > s.time) return true;
    first = number * threads;
    index = s.thread - first;
    if ((s.flags & LEVEL) == WARP) {
        uint32_t lane0 = first + (index & ~31u);
        for (uint32_t m = s.mask; m; m &= m - 1)
            if (!lane_known(t, lane0 + (uint32_t)__builtin_ctz(m), s.time, true)) return false;
        return true;
    }
    const WarpReads *times = s.flags & TIMES ? warp_reads[s.mask] : nullptr;
    for (uint32_t m = times ? times->mask : s.mask; m; m &= m - 1) {
        uint32_t warp = (uint32_t)__builtin_ctz(m);
        if (same_block && warp == t->index / 32) continue;
        bool any = false;
        for (uint32_t i = warp * 32; i < warp * 32 + 32 && i < threads && !any; i++)
            any = lane_known(t, first + i, times ? times->time[warp] : s.time, true);
        if (!any) return false;
    }
    return true;
}

/* ---- reports ---- */

static uintptr_t pc_full(uint32_t low)
{
    uintptr_t pc = (pc_anchor & ~(uintptr_t)0xffffffffu) | low;
    if (pc > pc_anchor + 0x80000000u) pc -= (uintptr_t)1 << 32;
    else if (pc + 0x80000000u < pc_anchor) pc += (uintptr_t)1 << 32;
    return pc;
}

enum : uint32_t { UNKNOWN = ~0u };
static uint32_t agent_issuer(const void *p);

static bool same_cluster(const Cluster *c, uint32_t block)
{
    for (unsigned i = 0; i < c->size; i++)
        if (c->block[i]->number == block) return true;
    return false;
}

[[noreturn]] static void report_race(const Thread *t, const void *p, bool write, bool sync,
                                     uintptr_t pc, bool other_write, bool other_sync,
                                     uint32_t other, uint32_t other_time, uint32_t other_pc)
{
    const char *hint;
    bool agent = other >= blocks * threads;
    uint32_t issuer = agent ? agent_issuer(p) : other;
    std::string other_who = issuer == UNKNOWN ? "an asynchronous operation" : emu_who_gid(issuer);
    uint32_t index = other - t->block->gid0;
    bool same_block = index < threads;
    if (same_block && index / 32 == t->index / 32)
        hint = "same warp: a __syncwarp (or a barrier) is missing between them";
    else if (same_block) hint = "same block: a __syncthreads is missing between them";
    else if (agent)
        hint = "an asynchronous operation: a wait for its mbarrier (mbarrier_try), or a barrier "
               "behind that "
               "wait, is missing";
    else if (t->block->cluster && same_cluster(t->block->cluster, other / threads))
        hint =
            "different blocks of a cluster: a cluster barrier (cluster_arrive, cluster_wait) or an "
            "mbarrier is missing between them";
    else
        hint = "different blocks: nothing orders them: a grid barrier or a flag is missing, or the "
               "release "
               "fence (__threadfence) "
               "before the flag is written";
    /* Check whether a thread of the block has read a flag that would have ordered the access, but
     * has executed no fence since. */
    bool pending = false;
    for (const Thread &q : t->block->thread)
        for (const View *v : {q.race.pending_device, q.race.pending_block})
            pending =
                pending ||
                (v && (v->block[other / threads] > other_time || view_one(v, other) > other_time));
    if (pending)
        hint = "the flag was seen, but no fence follows the poll: the acquire fence "
               "(__threadfence) is missing";
    emu_fault(
        cudaErrorLaunchFailure,
        "race: %s %s by %s at %s\n  is not ordered after the %s %s by %s at %s\n  on %s\n  %s",
        sync ? "atomic/volatile" : "plain", write ? "write" : "read", emu_who(t).c_str(),
        emu_where(pc).c_str(), other_sync ? "atomic/volatile" : "plain",
        other_write ? "write" : "read", other_who.c_str(), emu_where(pc_full(other_pc)).c_str(),
        arena_describe(p).c_str(), hint);
}

[[noreturn]] static void report_stale(const Thread *t, const void *p, uintptr_t pc, uint32_t other,
                                      uint32_t other_pc, bool reading)
{
    emu_fault(cudaErrorLaunchFailure,
              "stale read-only load: %s at %s %s %s, which %s at %s %s in the same launch; __ldg "
              "and const "
              "__restrict__ "
              "promise that nobody writes it",
              emu_who(t).c_str(), emu_where(pc).c_str(),
              reading ? "loads through the read-only path" : "writes", arena_describe(p).c_str(),
              emu_who_gid(other).c_str(), emu_where(pc_full(other_pc)).c_str(),
              reading ? "wrote" : "loaded through the read-only path");
}

/* ---- one access ---- */

static uint32_t wide_new()
{
    if (!wide_free.empty()) {
        uint32_t i = wide_free.back();
        wide_free.pop_back();
        for (unsigned b = 0; b <= blocks; b++) slot_drop(wide[i][b]);
        memset((void *)wide[i], 0, (blocks + 1) * sizeof(Slot));
        return i;
    }
    size_t bytes = (blocks + 1) * sizeof(Slot); /* the last slot is for the agents */
    if (blocks > WIDE_BLOCKS || wide_bytes + bytes > WIDE_LIMIT) return 0;
    wide_bytes += bytes;
    wide.push_back((Slot *)calloc(blocks + 1, sizeof(Slot)));
    return (uint32_t)wide.size() - 1;
}

static inline void slot_single(Slot &s, const Thread *t, uint32_t add, uint32_t keep, uint32_t pc)
{
    slot_drop(s);
    s.thread = t->gid;
    s.time = now_time;
    s.pc = pc;
    s.mask = 1u << (t->index & 31);
    s.flags = (s.flags & keep) | WARP | add;
}

/* Adds a read by t to the slot, whose readers are all in t's block. */
static void slot_add_same_block(Slot &s, const Thread *t, uint32_t add, uint32_t pc)
{
    const Block *b = t->block;
    uint32_t keep = W_SYNC | W_BYTES | (s.time >= base ? (uint32_t)READ_ONLY : 0u);
    if (s.time < b->race_time || s.time < base ||
        (t->race.view && t->race.view->block[b->number] > s.time)) {
        slot_single(s, t, add, keep, pc);
        return;
    }
    uint32_t sync = s.flags & add & SYNC, rest = (s.flags | add) & (BYTES | READ_ONLY);
    if ((add & SYNC) && !(s.flags & SYNC))
        /* Keep the plain readers: an atomic write must be ordered after them, but not after the
         * others. */
        return;
    if (!(add & SYNC) && (s.flags & SYNC)) {
        slot_single(s, t, add, keep, pc);
        return;
    }
    uint32_t index = s.thread - b->gid0;
    if ((s.flags & LEVEL) == WARP) {
        if (index / 32 == t->index / 32) {
            uint32_t bit = 1u << (t->index & 31), others = s.mask & ~bit;
            const LaneView *l = t->race.lanes;
            bool after_all = true;
            if (others) {
                after_all = l != nullptr;
                for (uint32_t m = others; m && after_all; m &= m - 1)
                    after_all = l->time[__builtin_ctz(m)] > s.time;
            }
            if (after_all) {
                slot_single(s, t, add, keep, pc);
                return;
            }
            s.mask |= bit;
        } else {
            uint32_t both = 1u << (index / 32) | 1u << (t->index / 32);
            uint32_t times = emu_grid->cluster && b->number < blocks ? warp_reads_new() : 0;
            s.mask = both;
            s.flags = (s.flags & ~LEVEL) | BLOCK;
            if (times) {
                s.mask = times, s.flags |= TIMES;
                warp_reads[times]->mask = both, warp_reads[times]->time[index / 32] = s.time;
            }
        }
    } else if (!(s.flags & TIMES)) {
        s.mask |= 1u << (t->index / 32);
    }
    if (s.flags & TIMES) {
        warp_reads[s.mask]->mask |= 1u << (t->index / 32);
        warp_reads[s.mask]->time[t->index / 32] = now_time;
    }
    s.thread = t->gid;
    /* For agents the first time is kept, since knowledge of one agent gives no later time. */
    if (b->number < blocks) s.time = now_time;
    s.pc = pc;
    s.flags = (s.flags & (LEVEL | TIMES | W_SYNC | W_BYTES)) | sync | rest;
}

static void read_record(Cell *c, const Thread *t, uint32_t add, uint32_t pc)
{
    Slot &s = c->r;
    if (s.thread == t->gid && s.time == now_time && (s.flags & (add | LEVEL)) == (add | WARP))
        return;
    if (s.time < base) {
        slot_single(s, t, add, W_SYNC | W_BYTES, pc);
        return;
    }
    if ((s.flags & LEVEL) != GRID) {
        if (s.thread - t->block->gid0 < threads) {
            slot_add_same_block(s, t, add, pc);
            return;
        }
        if (slot_ordered(t, s)) {
            slot_single(s, t, add, W_SYNC | W_BYTES | READ_ONLY, pc);
            return;
        }
        if ((add & SYNC) && !(s.flags & SYNC)) return;
        if (!(add & SYNC) && (s.flags & SYNC)) {
            slot_single(s, t, add, W_SYNC | W_BYTES | READ_ONLY, pc);
            return;
        }
        uint32_t i = wide_new();
        if (i) wide[i][s.thread / threads] = s;
        s.mask = i;
        s.flags = (s.flags & ~(uint32_t)TIMES) | GRID;
    }
    s.time = now_time;
    s.flags |= add & (BYTES | READ_ONLY);
    if (!(add & SYNC)) s.flags &= ~(uint32_t)SYNC;
    if (s.mask) {
        Slot &own = wide[s.mask][t->block->number];
        if (own.time < base) slot_single(own, t, add, 0, pc);
        else slot_add_same_block(own, t, add, pc);
    }
}

static void reads_forget(Cell *c)
{
    if ((c->r.flags & LEVEL) == GRID && c->r.time >= base && c->r.mask)
        wide_free.push_back(c->r.mask);
    slot_drop(c->r);
    c->r.time = 0;
    c->r.flags = 0;
    c->r.mask = 0;
}

/* Returns a reader after which t's write is not ordered, or NULL. */
static const Slot *reads_unordered(const Thread *t, const Cell *c)
{
    const Slot &s = c->r;
    if (s.time < base) return nullptr;
    if ((s.flags & LEVEL) != GRID) return slot_ordered(t, s) ? nullptr : &s;
    if (!s.mask) return nullptr;
    const Slot *w = wide[s.mask];
    for (unsigned b = 0; b <= blocks; b++)
        if (w[b].time >= base && !slot_ordered(t, w[b])) return &w[b];
    return nullptr;
}

[[noreturn]] static void report_free(const Thread *t, const void *p, bool write, uintptr_t pc)
{
    emu_fault(cudaErrorIllegalAddress, "illegal memory access: %s %s %s at %s", emu_who(t).c_str(),
              write ? "writes" : "reads", arena_describe(p).c_str(), emu_where(pc).c_str());
}

[[noreturn]] static void report_in_flight(const Thread *t, const void *p, bool write, uintptr_t pc)
{
    const Cell *c = cell_of(p);
    emu_fault(cudaErrorLaunchFailure,
              "race: %s by %s at %s\n  is not ordered after the asynchronous copy by %s at %s\n  "
              "on %s\n  the "
              "copy is still under way: the wait for it (copy_async_wait or mbarrier_try) is "
              "missing before it",
              write ? "write" : "read", emu_who(t).c_str(), emu_where(pc).c_str(),
              emu_who_gid(c->w_thread).c_str(), emu_where(pc_full(c->w_pc)).c_str(),
              arena_describe(p).c_str());
}

[[noreturn]] static void report_mbarrier(const Thread *t, const void *p, bool write, uintptr_t pc)
{
    const Cell *c = cell_of(p);
    emu_fault(cudaErrorLaunchFailure,
              "%s %s an mbarrier as if it were data: %s at %s, made by %s at %s",
              emu_who(t).c_str(), write ? "writes" : "reads", arena_describe(p).c_str(),
              emu_where(pc).c_str(), emu_who_gid(c->w_thread).c_str(),
              emu_where(pc_full(c->w_pc)).c_str());
}

static void word_read(const Thread *t, const void *p, uint32_t bytes, uint32_t add, uintptr_t pc)
{
    Cell *c = cell_of(p);
    if (UNLIKELY(c->w_time < OLD)) {
        if (c->w_time == FREE) report_free(t, p, false, pc);
        if (c->w_time == IN_FLIGHT) report_in_flight(t, p, false, pc);
        if (c->w_time == MBARRIER) report_mbarrier(t, p, false, pc);
        if (check_unwritten)
            emu_fault(cudaErrorLaunchFailure,
                      "uninitialised read: %s reads %s, which nobody has written yet (is a barrier "
                      "missing?), at %s",
                      emu_who(t).c_str(), arena_describe(p).c_str(), emu_where(pc).c_str());
    }
    if (c->w_time >= base) {
        if (UNLIKELY(add & READ_ONLY)) report_stale(t, p, pc, c->w_thread, c->w_pc, true);
        if (c->w_thread != t->gid && !((add & SYNC) && (c->r.flags & W_SYNC)) &&
            (c->r.flags & W_BYTES) & (bytes << 20) && UNLIKELY(!ordered(t, c->w_thread, c->w_time)))
            report_race(t, p, false, add & SYNC, pc, true, c->r.flags & W_SYNC, c->w_thread,
                        c->w_time, c->w_pc);
    }
    read_record(c, t, add | bytes << 4, (uint32_t)pc);
}

static void word_write(const Thread *t, const void *p, uint32_t bytes, bool sync, uintptr_t pc)
{
    Cell *c = cell_of(p);
    if (UNLIKELY(c->w_time < OLD)) {
        if (c->w_time == FREE) report_free(t, p, true, pc);
        if (c->w_time == IN_FLIGHT) report_in_flight(t, p, true, pc);
        if (c->w_time == MBARRIER) report_mbarrier(t, p, true, pc);
    }
    if (c->w_time >= base && c->w_thread != t->gid && !(sync && (c->r.flags & W_SYNC)) &&
        (c->r.flags & W_BYTES) & (bytes << 20) && UNLIKELY(!ordered(t, c->w_thread, c->w_time)))
        report_race(t, p, true, sync, pc, true, c->r.flags & W_SYNC, c->w_thread, c->w_time,
                    c->w_pc);
    if (c->r.time >= base) {
        if (UNLIKELY(c->r.flags & READ_ONLY)) report_stale(t, p, pc, c->r.thread, c->r.pc, false);
        if (!(sync && (c->r.flags & SYNC)) && (c->r.flags & BYTES) & (bytes << 4)) {
            const Slot *s = reads_unordered(t, c);
            if (UNLIKELY(s != nullptr) && !(sync && (s->flags & SYNC))) {
                uint32_t other = s->thread;
                if (other == t->gid && (s->flags & LEVEL) == WARP) /* name another reader */
                    for (uint32_t m = s->mask; m; m &= m - 1)
                        if ((uint32_t)__builtin_ctz(m) != (t->index & 31))
                            other = t->gid - (t->index & 31) + (uint32_t)__builtin_ctz(m);
                report_race(t, p, true, sync, pc, false, s->flags & SYNC, other, s->time, s->pc);
            }
        }
        reads_forget(c);
    }
    c->w_thread = t->gid;
    c->w_time = now_time;
    c->w_pc = (uint32_t)pc;
    c->r.flags = (sync ? (uint32_t)W_SYNC : 0u) | bytes << 20;
}

/* Memory outside the arena: the thread's own stack and the program's variables are private or
 * constant; all other memory belongs to the host, and a device could not access it. */
static std::vector<std::pair<uintptr_t, uintptr_t>> objects_loaded;
/* the last object found, which contains threadIdx and the like */
static uintptr_t object_low, object_high;

static int note_object(struct dl_phdr_info *info, size_t, void *)
{
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            objects_loaded.push_back(
                {info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                 info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz});
    return 0;
}

static inline bool harmless(const void *p)
{
    return sched_is_stack(p) || ((uintptr_t)p >= object_low && (uintptr_t)p < object_high);
}

static __attribute__((noinline)) void outside(const Thread *t, const void *p, bool write,
                                              uintptr_t pc)
{
    if (harmless(p)) return;
    for (int again = 0; again < 2; again++) {
        for (const auto &o : objects_loaded)
            if ((uintptr_t)p >= o.first && (uintptr_t)p < o.second) {
                object_low = o.first;
                object_high = o.second;
                return;
            }
        objects_loaded.clear();
        dl_iterate_phdr(note_object, nullptr);
    }
    emu_fault(cudaErrorIllegalAddress, "illegal memory access: %s %s host memory at %p, at %s",
              emu_who(t).c_str(), write ? "writes" : "reads", p, emu_where(pc).c_str());
}

[[noreturn]] static void report_foreign(const Thread *t, const void *p, bool write, uintptr_t pc)
{
    emu_fault(cudaErrorIllegalAddress, "illegal memory access: %s %s %s at %s", emu_who(t).c_str(),
              write ? "writes" : "reads", arena_describe(p).c_str(), emu_where(pc).c_str());
}

/* Checks an access to the shared memory of another block, which must be a running block of the same
 * cluster. */
static __attribute__((noinline)) void remote(const Thread *t, const void *p, size_t slot,
                                             bool write, uintptr_t pc)
{
    const Block *b = slot < emu_grid->slot.size() ? emu_grid->slot[slot] : nullptr;
    const Cluster *c = t->block->cluster;
    if (!b || !c || b->cluster != c) report_foreign(t, p, write, pc);
    if (b->alive == 0)
        emu_fault(cudaErrorIllegalAddress,
                  "%s %s %s at %s, but that block has ended: a last cluster barrier is missing",
                  emu_who(t).c_str(), write ? "writes" : "reads", arena_describe(p).c_str(),
                  emu_where(pc).c_str());
    if (c->phase == 0)
        emu_fault(cudaErrorIllegalAddress,
                  "%s %s %s at %s before any cluster barrier: that block may not have started",
                  emu_who(t).c_str(), write ? "writes" : "reads", arena_describe(p).c_str(),
                  emu_where(pc).c_str());
}

/* Returns true if the detector tracks the address. */
static inline bool watched(const Thread *t, const void *p, bool write, uintptr_t pc)
{
    size_t off = (size_t)((const unsigned char *)p - arena_base);
    if (off < ARENA_DEVICE + ARENA_HOST) return true;
    if (off >= ARENA_SPAN) {
        outside(t, p, write, pc);
        return false;
    }
    if (off < ARENA_DEVICE + ARENA_HOST + ARENA_BODY) return false;
    size_t slot = (off - ARENA_DEVICE - ARENA_HOST - ARENA_BODY) / SHARED_WINDOW;
    if (UNLIKELY(slot != (size_t)t->block->slot)) remote(t, p, slot, write, pc);
    return true;
}

template <bool WRITE>
static void access_by(const Thread *t, const void *p, size_t n, uint32_t add, uintptr_t pc)
{
    if (!t || !watched(t, p, WRITE, pc)) return;
    if (UNLIKELY(!pc_anchor)) pc_anchor = pc;
    uintptr_t a = (uintptr_t)p, end = a + n;
    while (a < end) {
        uintptr_t word = a & ~(uintptr_t)3, stop = std::min(end, word + 4);
        uint32_t bytes = (0xFu << (a - word)) & (0xFu >> (word + 4 - stop));
        if (WRITE) word_write(t, (const void *)word, bytes, add & SYNC, pc);
        else word_read(t, (const void *)word, bytes, add, pc);
        a = stop;
    }
}

template <bool WRITE> static void access(const void *p, size_t n, uint32_t add, uintptr_t pc)
{
    access_by<WRITE>(emu_thread, p, n, add, pc);
}

void race_sync_read(const void *p, size_t size, uintptr_t pc)
{
    Thread *t = emu_thread;
    access<false>(p, size, SYNC, pc);
    auto i = objects.find((uintptr_t)p & ~(uintptr_t)3);
    if (i == objects.end()) return;
    RaceThread &r = t->race;
    SyncObject &o = i->second;
    if (o.device && (uintptr_t)r.last_seen != (uintptr_t)o.device->id) {
        view_join(r.pending_device, o.device);
        r.last_seen = (View *)(uintptr_t)o.device->id;
    }
    if (o.block && o.block_number == t->block->number) view_join(r.pending_block, o.block);
}

void race_sync_write(void *p, size_t size, bool rmw, uintptr_t pc)
{
    Thread *t = emu_thread;
    access<true>(p, size, SYNC, pc);
    View *device = snap_view(t->race.fence_device, t), *block = snap_view(t->race.fence_block, t);
    uintptr_t key = (uintptr_t)p & ~(uintptr_t)3;
    auto i = objects.find(key);
    if (i == objects.end()) {
        if (!device && !block) return;
        i = objects.emplace(key, SyncObject()).first;
    }
    SyncObject &o = i->second;
    if (!rmw) { /* a plain store ends the effect of earlier publications */
        view_drop(o.device);
        view_drop(o.block);
    }
    view_join(o.device, device);
    if (o.block_number != t->block->number) view_drop(o.block);
    view_join(o.block, block);
    o.block_number = t->block->number;
}

void race_readonly(const void *p, size_t size, uintptr_t pc)
{
    access<false>(p, size, READ_ONLY, pc);
}

void race_plain(const Thread *t, const void *p, size_t size, bool write, uintptr_t pc)
{
    if (write) access_by<true>(t, p, size, 0, pc);
    else access_by<false>(t, p, size, 0, pc);
}

/* ---- asynchronous operations ---- */

static Block agent_block;
static Thread agent; /* of the mbarrier whose operation completes */

/* Returns the issuer of the operation that wrote the word. It is stored in the word's Slot as long
 * as the word has no readers. */
static uint32_t agent_issuer(const void *p)
{
    const Cell *c = cell_of(p);
    return c->r.time < base ? c->r.thread : UNKNOWN;
}

static bool has_cells(const void *p)
{
    return (size_t)((const unsigned char *)p - arena_base) < ARENA_SPAN;
}

/* A copy of whole words reads its source and writes its target at some moment between its start and
 * the wait. Both must be free at the start, no thread may access the target in between, and the
 * source must not be written. */
uint32_t race_copy_begin(const void *to, const void *from, size_t bytes, uintptr_t pc)
{
    if (from) access<false>(from, bytes, 0, pc);
    access<true>(to, bytes, 0, pc);
    now_time++;
    for (Cell *c = cell_of(to), *end = c + bytes / 4; c < end; c++) c->w_time = IN_FLIGHT;
    return now_time;
}

void race_flight_begin(Flight *f)
{
    f->time = race_copy_begin(f->to, f->from, f->bytes, f->pc);
    snap_take(f->snap, emu_thread);
}

void race_flight_drop(Flight *f) { snap_drop(f->snap); }

/* An asynchronous operation is no fence: its issuer's writes are not released. But what the
 * issuer's View orders of other blocks is valid, and the reads of the issuer (and, by a barrier, of
 * its block) are done. So if the readers of a buffer answer with asynchronous stores, threads that
 * have waited for the answers may fill the buffer again. */
void race_flight_end(Flight *f, MbarrierRace *m)
{
    race_copy_end(f->to, f->from, f->bytes, f->time, f->issuer, m, f->pc);
    FenceSnap &s = f->snap;
    uint32_t number = f->issuer / threads, lane0 = f->issuer - f->issuer % threads % 32;
    View *g = m->gather;
    if (!g->reads) g->reads = view_new();
    view_own(g->reads);
    if (s.base && s.base->id != m->last_base) {
        uint32_t own = g->block[number];
        std::vector<std::pair<uint32_t, uint32_t>> ones = g->one;
        view_join_accesses(g->reads, s.base);
        view_join(m->gather, s.base);
        view_own(m->gather);
        g = m->gather;
        view_own(g->reads);
        g->block[number] = own;
        g->one.erase(std::remove_if(g->one.begin(), g->one.end(),
                                    [&](const auto &e) { return e.first / threads == number; }),
                     g->one.end());
        for (const auto &e : ones)
            if (e.first / threads == number) view_add(g, e.first, e.second);
        m->last_base = s.base->id;
    }
    View *r = g->reads;
    r->block[number] = std::max(r->block[number], s.block_time);
    view_add(r, f->issuer, s.time);
    for (uint32_t i = 0; s.lanes && i < 32; i++)
        if (s.lanes->time[i] > s.block_time) view_add(r, lane0 + i, s.lanes->time[i]);
    snap_drop(s);
}

void race_copy_end(const void *to, const void *from, size_t bytes, uint32_t time, uint32_t issuer,
                   MbarrierRace *m, uintptr_t pc)
{
    const Thread *reader = emu_thread;
    if (m) {
        agent.block = &agent_block;
        agent_block.number = blocks;
        agent_block.gid0 = blocks * threads;
        agent.index = m->agent;
        agent.gid = agent_block.gid0 + agent.index;
        reader = &agent;
    }
    for (size_t i = 0; from && has_cells(from) && i < bytes; i += 4) {
        const unsigned char *word = (const unsigned char *)from + i;
        Cell *c = cell_of(word);
        if (c->w_time >= time)
            emu_fault(cudaErrorLaunchFailure,
                      "race: write by %s at %s\n  is not ordered after the asynchronous copy by %s "
                      "at %s\n  on "
                      "%s, its source, which changed before the copy had been waited for",
                      emu_who_gid(c->w_thread).c_str(), emu_where(pc_full(c->w_pc)).c_str(),
                      emu_who_gid(issuer).c_str(), emu_where(pc).c_str(),
                      arena_describe(word).c_str());
        read_record(c, reader, BYTES, (uint32_t)pc);
    }
    for (Cell *c = cell_of(to), *end = c + bytes / 4; c < end; c++) {
        c->w_thread = reader->gid;
        c->w_time = now_time;
        c->w_pc = (uint32_t)pc;
        c->r.thread = issuer;
        c->r.time = 0;
        c->r.flags = W_BYTES;
    }
    if (m) {
        now_time++;
        view_own(m->gather);
        view_add(m->gather, agent.gid, now_time);
    }
}

void race_fence_proxy() { emu_thread->race.proxy_time = ++now_time; }

static const Thread *thread_of(uint32_t gid)
{
    for (const Block *b : emu_grid->slot)
        if (gid - b->gid0 < threads) return &b->thread[gid - b->gid0];
    return nullptr;
}

/* A bulk copy reads through the async proxy, but threads write through the generic one. The writer
 * or the thread that starts the copy must execute a fence_async_proxy between the two. */
void race_proxy_check(const void *from, size_t bytes, uintptr_t pc)
{
    const Thread *t = emu_thread, *writer = nullptr;
    for (size_t i = 0; has_cells(from) && i < bytes; i += 4) {
        const unsigned char *word = (const unsigned char *)from + i;
        const Cell *c = cell_of(word);
        if (c->w_time < base || c->w_thread >= blocks * threads || t->race.proxy_time > c->w_time)
            continue;
        if (!writer || writer->gid != c->w_thread) writer = thread_of(c->w_thread);
        if (writer && writer->race.proxy_time > c->w_time) continue;
        emu_fault(
            cudaErrorLaunchFailure,
            "a bulk copy by %s at %s reads %s, which %s wrote at %s: no fence_async_proxy stands "
            "between them",
            emu_who(t).c_str(), emu_where(pc).c_str(), arena_describe(word).c_str(),
            emu_who_gid(c->w_thread).c_str(), emu_where(pc_full(c->w_pc)).c_str());
    }
}

/* ---- mbarriers and clusters ---- */

void race_mbarrier_init(MbarrierRace *m, const void *at, uintptr_t pc)
{
    static uint32_t agents;
    access<true>(at, 8, 0, pc);
    for (int i = 0; i < 2; i++) cell_of(at)[i].w_time = MBARRIER;
    m->gather = m->done = nullptr;
    m->last_base = 0;
    m->thread = emu_thread->gid;
    m->time = now_time;
    m->agent = agents++ % threads;
    m->pc = pc;
}

void race_mbarrier_use(const MbarrierRace *m, const void *at, uintptr_t pc)
{
    const Thread *t = emu_thread;
    if (!ordered(t, m->thread, m->time))
        emu_fault(cudaErrorLaunchFailure,
                  "race: use of an mbarrier by %s at %s\n  is not ordered after its mbarrier_init "
                  "by %s at "
                  "%s\n  on %s\n  a barrier is missing between them",
                  emu_who(t).c_str(), emu_where(pc).c_str(), emu_who_gid(m->thread).c_str(),
                  emu_where(m->pc).c_str(), arena_describe(at).c_str());
}

void race_mbarrier_arrive(MbarrierRace *m)
{
    FenceSnap s;
    now_time++;
    snap_take(s, emu_thread);
    view_join(m->gather, snap_view(s, emu_thread));
    snap_drop(s);
}

void race_mbarrier_phase(MbarrierRace *m)
{
    view_join(m->done, m->gather);
    view_drop(m->gather);
    m->last_base = 0;
}

void race_mbarrier_acquire(const MbarrierRace *m) { view_join(emu_thread->race.view, m->done); }

void race_mbarrier_drop(MbarrierRace *m)
{
    view_drop(m->gather);
    view_drop(m->done);
}

void race_cluster_arrive(Thread *t)
{
    view_drop(t->race.cluster_view);
    t->race.cluster_view = view_ref(t->race.view);
    t->race.cluster_time = ++now_time;
}

/* All threads have arrived. The result covers everything that the waiting threads and the last one
 * have done; of threads that continued after their arrival it covers the work before it. */
void race_cluster_sync(Cluster *cluster)
{
    View *all = view_new();
    const View *last = nullptr;
    now_time++;
    for (unsigned i = 0; i < cluster->size; i++)
        for (const auto &t : cluster->block[i]->thread)
            if (t.cluster_arrived && t.race.cluster_view != last) {
                last = t.race.cluster_view;
                view_join(all, t.race.cluster_view);
            }
    view_own(all);
    for (unsigned i = 0; i < cluster->size; i++) {
        const Block *b = cluster->block[i];
        auto at_rest = [&](const Thread &t) { return t.state == T_CLUSTER || &t == emu_thread; };
        bool whole = b->alive == b->threads;
        for (const auto &t : b->thread) whole = whole && at_rest(t);
        if (whole) all->block[b->number] = now_time;
        else
            for (const auto &t : b->thread)
                if (t.cluster_arrived)
                    view_add(all, t.gid, at_rest(t) ? now_time : t.race.cluster_time);
    }
    view_prune(all);
    view_drop(cluster->race_view);
    cluster->race_view = all;
}

void race_cluster_acquire(Thread *t)
{
    RaceThread &r = t->race;
    View *all = t->block->cluster->race_view;
    if (r.view == r.cluster_view) {
        view_drop(r.view);
        r.view = view_ref(all);
    } else {
        view_join(r.view, all);
    }
    view_drop(r.cluster_view);
}

void race_cluster_drop(Cluster *cluster)
{
    view_drop(cluster->race_view);
    for (unsigned i = 0; i < cluster->size; i++)
        for (auto &t : cluster->block[i]->thread) view_drop(t.race.cluster_view);
}

/* ---- launches ---- */

void race_launch_begin(Grid *g)
{
    blocks = g->blocks;
    threads = g->threads;
    /* The counter must not wrap within a launch: mark all cells old and restart it. */
    if (now_time > 0x80000000u) {
        arena_each([](const Allocation &a) {
            for (Cell *c = cell_of(a.at), *end = cell_of(a.at + a.bytes + 3); c < end; c++) {
                uint32_t state = std::min<uint32_t>(c->w_time, OLD);
                *c = Cell{};
                c->w_time = state;
            }
        });
        now_time = 16;
    }
    base = ++now_time;
    pc_anchor = 0;
}

void race_block_begin(Block *b)
{
    b->race_time = now_time;
    for (auto &t : b->thread) t.race.cluster_time = t.race.proxy_time = 0;
}

void race_thread_end(Thread *t)
{
    RaceThread &r = t->race;
    view_drop(r.view);
    view_drop(r.pending_block);
    view_drop(r.pending_device);
    lanes_drop(r.lanes);
    snap_drop(r.fence_block);
    snap_drop(r.fence_device);
    r.last_seen = nullptr;
}

void race_block_end(Block *b)
{
    view_drop(b->race_view);
    for (auto &m : b->mbarriers) {
        race_mbarrier_drop(&m.race);
        for (auto &f : m.flights) race_flight_drop(&f);
    }
    for (const auto &p : b->pieces) race_freed(p.at, p.bytes);
}

void race_launch_end(Grid *g)
{
    for (Block *b : g->slot) {
        for (auto &t : b->thread) race_thread_end(&t);
        race_block_end(b);
    }
    for (auto &o : objects) {
        view_drop(o.second.device);
        view_drop(o.second.block);
    }
    objects.clear();
    view_drop(joined.result);
    for (Slot *s : wide) free(s);
    wide.assign(1, nullptr);
    wide_free.clear();
    wide_bytes = 0;
    now_time++;
}

/* ---- what the compiler calls ---- */

#define PC ((uintptr_t)__builtin_return_address(0))

[[noreturn]] static void report_misaligned(const void *p, size_t n, uintptr_t pc)
{
    emu_fault(cudaErrorMisalignedAddress,
              "misaligned access: %s touches %zu bytes at %p (%s) at %s",
              emu_who(emu_thread).c_str(), n, p, arena_describe(p).c_str(), emu_where(pc).c_str());
}

template <bool WRITE>
static inline __attribute__((always_inline)) void aligned(const void *p, size_t n, uintptr_t pc)
{
    if (harmless(p)) return;
    if (n == 4 && !((uintptr_t)p & 3)) { /* the most common case */
        const Thread *t = emu_thread;
        if (!t || !watched(t, p, WRITE, pc)) return;
        if (UNLIKELY(!pc_anchor)) pc_anchor = pc;
        if (WRITE) word_write(t, p, 15, false, pc);
        else word_read(t, p, 15, 0, pc);
        return;
    }
    if (UNLIKELY(((uintptr_t)p & (n - 1)) != 0) && emu_thread) report_misaligned(p, n, pc);
    access<WRITE>(p, n, 0, pc);
}

static uint64_t peek(const void *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n < 8 ? n : 8);
    return v;
}

/* Spin loops without load_poll use volatile loads, so a volatile load that reads nothing new lets
 * other threads run. */
static void volatile_read(const void *p, size_t n, uintptr_t pc)
{
    Thread *t = emu_thread;
    if (!t || !watched(t, p, false, pc)) return;
    if (t->poll_address == p && t->poll_value == peek(p, n)) sched_yield_idle("a volatile load", 0);
    else sched_preempt();
    race_sync_read(p, n, pc);
    sched_poll_note(p, peek(p, n));
}

static void volatile_write(void *p, size_t n, uintptr_t pc)
{
    Thread *t = emu_thread;
    if (!t || !watched(t, p, true, pc)) return;
    race_sync_write(p, n, false, pc);
    sched_progress();
}

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
#define ACCESS(n)                                                                                  \
    void __tsan_read##n(void *p) { aligned<false>(p, n, PC); }                                     \
    void __tsan_write##n(void *p) { aligned<true>(p, n, PC); }                                     \
    void __tsan_read_write##n(void *p)                                                             \
    {                                                                                              \
        aligned<false>(p, n, PC);                                                                  \
        aligned<true>(p, n, PC);                                                                   \
    }                                                                                              \
    void __tsan_volatile_read##n(void *p) { volatile_read(p, n, PC); }                             \
    void __tsan_volatile_write##n(void *p) { volatile_write(p, n, PC); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
#define UNALIGNED(n)                                                                               \
    void __tsan_unaligned_read##n(void *p) { access<false>(p, n, 0, PC); }                         \
    void __tsan_unaligned_write##n(void *p) { access<true>(p, n, 0, PC); }                         \
    void __tsan_unaligned_read_write##n(void *p)                                                   \
    {                                                                                              \
        access<false>(p, n, 0, PC);                                                                \
        access<true>(p, n, 0, PC);                                                                 \
    }                                                                                              \
    void __tsan_unaligned_volatile_read##n(void *p) { volatile_read(p, n, PC); }                   \
    void __tsan_unaligned_volatile_write##n(void *p) { volatile_write(p, n, PC); }
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)
void __tsan_read_range(void *p, size_t n) { access<false>(p, n, 0, PC); }
void __tsan_write_range(void *p, size_t n) { access<true>(p, n, 0, PC); }
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void *__tsan_memcpy(void *d, const void *s, size_t n)
{
    access<false>(s, n, 0, PC);
    access<true>(d, n, 0, PC);
    return memcpy(d, s, n);
}
void *__tsan_memmove(void *d, const void *s, size_t n)
{
    access<false>(s, n, 0, PC);
    access<true>(d, n, 0, PC);
    return memmove(d, s, n);
}
void *__tsan_memset(void *d, int v, size_t n)
{
    access<true>(d, n, 0, PC);
    return memset(d, v, n);
}
/* The compiler calls this for guards of function-local statics in host code of the same file. */
unsigned char __tsan_atomic8_load(const volatile unsigned char *p, int)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
}

#endif
