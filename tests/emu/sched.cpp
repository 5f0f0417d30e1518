/* The scheduler: one OS thread, one fiber per CUDA thread, one queue of runnable threads.
 *
 * The plain order is first in, first out: a block's threads are queued together, so that they run
 * close together. The next block starts when all started threads only poll or wait, until as many
 * blocks run as the device holds. So a persistent grid is eventually started as a whole, while a
 * large ordinary grid needs the fibers of only a few blocks.
 *
 * This file has all waits of a thread: the block barrier, the grid barrier, the warp meeting and
 * the poll. If the queue is empty and no block can start, or if all running threads only poll and
 * read nothing new, the launch ends, and the report lists where each thread waits.
 */
#include "core.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#if FIBER_ASAN
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

Grid *emu_grid;
Thread *emu_thread;

/* ---- the queue ---- */

static Fiber host_fiber;
static Thread **queue; /* ring; capacity is a power of two above the number of fibers */
static size_t queue_mask, queue_head, queue_count;
static unsigned long long switches;
static uint64_t seed_now, random_state;
static unsigned
    strategy; /* 0 plain; 1 uniform; 2 mostly last in, first out; 3 mostly one block at a time */
static size_t idle_polls; /* consecutive polls that read nothing new, without any other action */
static int to_host;       /* the reason why a fiber returned to the host context */
static Block *finished_block;

enum { BACK_FAULT = 1, BACK_BLOCK_DONE, BACK_STUCK };

static uint64_t random_next()
{
    uint64_t z = (random_state += 0x9E3779B97F4A7C15ull); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

void sched_seed(unsigned long long seed) { seed_now = seed; }
extern "C" unsigned long long emu_switches(void) { return switches; }

static void queue_reserve(size_t n)
{
    size_t capacity = 64;
    while (capacity < n + 1) capacity *= 2;
    if (capacity > queue_mask + 1 || !queue) {
        free(queue);
        queue = (Thread **)malloc(capacity * sizeof *queue);
        queue_mask = capacity - 1;
    }
    queue_head = queue_count = 0;
}

static inline void queue_push(Thread *t) { queue[(queue_head + queue_count++) & queue_mask] = t; }

static inline void queue_push_front(Thread *t)
{
    queue_head = (queue_head - 1) & queue_mask;
    queue[queue_head] = t;
    queue_count++;
}

/* Queues a thread that another one has woken. In the plain order it runs next, so that the lanes of
 * a warp, or the threads of a block, continue while their stacks are in the cache, and other blocks
 * wait; switching among 3,000 fibers in turn takes four times as long per switch. To wake several
 * threads, call this from the last one to the first. */
static inline void queue_wake(Thread *t)
{
    t->state = T_READY;
    if (strategy) queue_push(t);
    else queue_push_front(t);
}

static Thread *queue_take(size_t i)
{
    size_t at = (queue_head + i) & queue_mask, last = (queue_head + queue_count - 1) & queue_mask;
    Thread *t = queue[at];
    queue[at] = queue[last];
    queue_count--;
    return t;
}

static Thread *queue_pop_random()
{
    uint64_t r = random_next();
    size_t n = queue_count;
    if (strategy == 2 && (r & 7) != 0) return queue_take(n - 1);
    /* In strategy 3 a few tries look for a thread of the same block. */
    if (strategy == 3 && emu_thread && (r & 7) != 0) {
        for (int k = 0; k < 6; k++) {
            size_t i = (size_t)(random_next() % n);
            if (queue[(queue_head + i) & queue_mask]->block == emu_thread->block)
                return queue_take(i);
        }
    }
    return queue_take((size_t)((r >> 8) % n));
}

void sched_progress() { idle_polls = 0; }

/* ---- blocks ---- */

unsigned char *stack_pool;
size_t stack_pool_size;
static size_t stack_size, stacks_guarded;
static const uint64_t STACK_CANARY = 0x5ca1ab1ec0ffee11ull;

#if FIBER_ASAN
enum { STACK_BYTES = 128 << 10 };
#else
enum { STACK_BYTES = 64 << 10 };
#endif

/* Reserves address space for the stacks of n fibers. It is never released; only used pages take
 * memory. Guard pages split the mapping, and a process may have about 65,000 mappings, so above
 * `stacks_guarded` fibers a canary replaces the guard page. */
static void stacks_reserve(size_t n)
{
    if (n * STACK_BYTES <= stack_pool_size) return;
    if (stack_pool) munmap(stack_pool, stack_pool_size);
    stack_size = STACK_BYTES;
    stack_pool_size = n * STACK_BYTES;
    stack_pool = (unsigned char *)mmap(nullptr, stack_pool_size, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack_pool == MAP_FAILED) {
        fprintf(stderr, "emu: cannot reserve %zu bytes of fiber stacks\n", stack_pool_size);
        abort();
    }
    madvise(stack_pool, stack_pool_size, MADV_NOHUGEPAGE);
    stacks_guarded = n <= 8192 ? n : 8192;
    for (size_t i = 0; i < stacks_guarded; i++)
        mprotect(stack_pool + i * stack_size, 4096, PROT_NONE);
}

static uint64_t *stack_canary(size_t i)
{
    return (uint64_t *)(stack_pool + i * stack_size + (i < stacks_guarded ? 4096 : 0));
}

static void thread_main();

static void set_registers(Thread *t)
{
    threadIdx = t->tid;
    blockIdx = t->block->idx;
}

static Block *block_start_one(Grid *g)
{
    int slot;
    if (!g->free_slots.empty()) {
        slot = g->free_slots.back();
        g->free_slots.pop_back();
    } else {
        slot = (int)g->slot.size();
        g->slot.push_back(new Block());
    }
    Block *b = g->slot[slot];
    unsigned n = g->started++;
    b->number = n;
    b->idx = uint3{n % g->grid.x, n / g->grid.x % g->grid.y, n / g->grid.x / g->grid.y};
    b->gid0 = n * g->threads;
    b->slot = slot;
    b->threads = b->alive = g->threads;
    b->arrived = 0;
    b->file = nullptr;
    b->exit_note = nullptr;
    b->shared = arena_shared_window(slot);
    b->static_used = 0;
    b->pieces.clear();
    b->cluster = nullptr;
    b->mbarriers.clear();
    b->thread.resize(g->threads);
    b->warp.resize((g->threads + 31) / 32);
    for (auto &w : b->warp) {
        memset(w.lane, 0, sizeof w.lane);
        w.alive = 0;
        w.meets.clear();
        w.cluster_arrived = 0;
    }
    for (unsigned i = 0; i < g->threads; i++) {
        Thread &t = b->thread[i];
        size_t s = (size_t)slot * g->threads + i;
        t.block = b;
        t.warp = &b->warp[i / 32];
        t.warp->lane[i % 32] = &t;
        t.warp->alive |= 1u << (i % 32);
        t.tid = uint3{i % g->block.x, i / g->block.x % g->block.y, i / g->block.x / g->block.y};
        t.index = i;
        t.gid = b->gid0 + i;
        t.state = T_READY;
        t.bounded = t.expired = false;
        t.file = nullptr;
        t.line = 0;
        t.poll_address = nullptr;
        t.copies.clear();
        t.copy_groups = 0;
        t.cluster_arrived = false;
        t.stack = stack_pool + s * stack_size;
        size_t guard = s < stacks_guarded ? 4096 : 0;
        *stack_canary(s) = STACK_CANARY;
        fiber_init(&t.fiber, thread_main, t.stack + guard, stack_size - guard, (s % 61) * 64);
        queue_push(&t);
    }
    RACE(race_block_begin(b));
    idle_polls = 0;
    return b;
}

/* Starts a block, or the blocks of a cluster. */
static void block_start(Grid *g)
{
    if (g->cluster <= 1) {
        block_start_one(g);
        return;
    }
    Block *together[16];
    for (unsigned i = 0; i < g->cluster; i++) together[i] = block_start_one(g);
    cluster_new(together, g->cluster);
}

static bool can_start(const Grid *g)
{
    unsigned together = g->cluster > 1 ? g->cluster : 1;
    return g->started < g->blocks && g->started - g->released + together <= g->resident_max;
}

/* Returns the next thread to run, or NULL if none can. */
static Thread *pick()
{
    Grid *g = emu_grid;
    /* Start more than a few blocks only on demand, since a large ordinary grid would use all
     * stacks. */
    if (strategy && g->started - g->finished < 8 && can_start(g) && (random_next() & 3) == 0)
        block_start(g);
    if (queue_count == 0) {
        if (!can_start(g)) return nullptr;
        block_start(g);
    }
    if (strategy) return queue_pop_random();
    Thread *t = queue[queue_head];
#if !FIBER_UCONTEXT
    /* Prefetch the next threads: with thousands of fibers each stack top is a cache miss and a TLB
     * miss. */
    if (queue_count > 8) {
        __builtin_prefetch(queue[(queue_head + 8) & queue_mask]);
        const Thread *soon = queue[(queue_head + 4) & queue_mask];
        __builtin_prefetch(soon->fiber.sp);
        __builtin_prefetch((const char *)soon->fiber.sp + 64);
    }
#endif
    queue_head = (queue_head + 1) & queue_mask;
    queue_count--;
    return t;
}

static void resume(Thread *t)
{
    emu_thread = t;
    t->state = T_READY;
    set_registers(t);
    switches++;
}

/* Switches from the running thread (already in its queue or waiting list) to another; returns when
 * it is resumed. */
static void switch_away()
{
    Thread *self = emu_thread, *next = pick();
    if (next == self) {
        resume(self);
        return;
    }
    if (next) {
        resume(next);
        fiber_switch(&self->fiber, &next->fiber);
    } else {
        to_host = BACK_STUCK;
        fiber_switch(&self->fiber, &host_fiber);
    }
}

/* ---- reports ---- */

static std::string report_text;
static bool report_quiet;

extern "C" const char *emu_report(void) { return report_text.c_str(); }
extern "C" void emu_report_clear(void) { report_text.clear(); }
extern "C" void emu_quiet(int on) { report_quiet = on != 0; }

static std::string format_text(const char *format, va_list args)
{
    va_list copy;
    va_copy(copy, args);
    int n = vsnprintf(nullptr, 0, format, copy);
    va_end(copy);
    std::string s((size_t)n + 1, '\0');
    vsnprintf(&s[0], s.size(), format, args);
    s.resize((size_t)n);
    return s;
}

static std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static std::string text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    std::string s = format_text(format, args);
    va_end(args);
    return s;
}

static void publish(const std::string &s)
{
    if (report_text.empty()) /* the first fault is the cause of later ones */
        report_text = s;
    if (!report_quiet) {
        fputs("emu: ", stderr);
        fputs(s.c_str(), stderr);
        fputc('\n', stderr);
    }
}

void emu_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    std::string s = format_text(format, args);
    va_end(args);
    publish(s);
}

std::string emu_who(const Thread *t)
{
    return text("block (%u,%u,%u) thread (%u,%u,%u)", t->block->idx.x, t->block->idx.y,
                t->block->idx.z, t->tid.x, t->tid.y, t->tid.z);
}

std::string emu_who_gid(uint32_t gid)
{
    const Grid *g = emu_grid;
    unsigned b = gid / g->threads, i = gid % g->threads;
    return text("block (%u,%u,%u) thread (%u,%u,%u)", b % g->grid.x, b / g->grid.x % g->grid.y,
                b / g->grid.x / g->grid.y, i % g->block.x, i / g->block.x % g->block.y,
                i / g->block.x / g->block.y);
}

/* addr2line runs once per address; a report needs two or three. The innermost frame outside the
 * toolkit's own headers and the counterparts of kernels/dev_*.cuh is the kernel author's line. */
static std::string addr2line(uintptr_t pc, bool function_only)
{
    Dl_info info;
    if (!dladdr((void *)pc, &info) || !info.dli_fname) return text("%#zx", (size_t)pc);
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    Dl_info self;
    bool in_exe = dladdr((void *)&emu_who, &self) && self.dli_fbase == info.dli_fbase;
    std::string command =
        text("addr2line -C -f -i -e '%s' %#zx 2>/dev/null", in_exe ? exe : info.dli_fname,
             (size_t)(pc - (uintptr_t)info.dli_fbase));
    FILE *pipe = popen(command.c_str(), "r");
    std::string best, function, first;
    if (pipe) {
        char name[2048], place[4096];
        while (fgets(name, sizeof name, pipe) && fgets(place, sizeof place, pipe)) {
            name[strcspn(name, "\n")] = '\0';
            place[strcspn(place, "\n")] = '\0';
            if (char *note = strstr(place, " (discriminator")) *note = '\0';
            std::string entry = std::string(place) + " (" + name + ")";
            if (first.empty()) first = entry, function = name;
            if (!strstr(place, "emu_device.h") && !strstr(place, "include/kernels/dev_") &&
                !strstr(place, "cooperative_groups.h")) {
                best = entry, function = name;
                break;
            }
        }
        pclose(pipe);
    }
    if (function_only) {
        size_t paren = function.find('(');
        return function.empty() || function == "??" ? text("kernel at %#zx", (size_t)pc)
                                                    : function.substr(0, paren);
    }
    if (best.empty()) best = first;
    if (best.empty() || best.compare(0, 2, "??") == 0)
        return text("%s+%#zx", info.dli_fname, (size_t)(pc - (uintptr_t)info.dli_fbase));
    return best;
}

std::string emu_where(uintptr_t pc) { return addr2line(pc - 1, false); }
std::string emu_function_name(const void *function) { return addr2line((uintptr_t)function, true); }

static const char *state_name(const Thread *t)
{
    switch (t->state) {
    case T_POLL: return "polls";
    case T_BARRIER: return "waits at a block barrier";
    case T_GRIDSYNC: return "waits at a grid barrier";
    case T_CLUSTER: return "waits at a cluster barrier";
    case T_WARP: return "waits for its warp";
    case T_EXITED: return "has exited";
    default: return "is ready";
    }
}

/* Lists all living threads, grouped by the place where they wait. */
static std::string describe_waiting(const Grid *g)
{
    struct Group {
        const Thread *first;
        unsigned threads, blocks, last_block;
    };
    std::vector<Group> groups;
    for (const Block *b : g->slot) {
        if (!b || b->alive == 0) continue;
        bool some_waiting = false;
        for (const Thread &t : b->thread) some_waiting = some_waiting || t.state != T_EXITED;
        if (!some_waiting) continue;
        for (const Thread &t : b->thread) {
            Group *found = nullptr;
            for (auto &q : groups)
                if (q.first->state == t.state && q.first->line == t.line && q.first->file == t.file)
                    found = &q;
            if (!found) {
                groups.push_back({&t, 0, 0, ~0u});
                found = &groups.back();
            }
            found->threads++;
            if (found->last_block != b->number) found->last_block = b->number, found->blocks++;
        }
    }
    std::string s;
    unsigned shown = 0;
    for (const auto &q : groups) {
        if (shown++ == 12) {
            s += "\n  ...";
            break;
        }
        s += text("\n  %u thread(s) of %u block(s), first %s: %s", q.threads, q.blocks,
                  emu_who(q.first).c_str(), state_name(q.first));
        if (q.first->state != T_EXITED && q.first->file)
            s += text(" at %s:%d", q.first->file, q.first->line);
        if (q.first->state == T_POLL && q.first->poll_address) {
            std::string waits = mbarrier_describe(q.first->poll_address);
            s += !waits.empty()
                     ? ", " + waits
                     : text(", value %llu of %s", (unsigned long long)q.first->poll_value,
                            arena_describe(q.first->poll_address).c_str());
        }
    }
    if (g->started < g->blocks)
        s += text("\n  the grid has %u blocks, the device holds %u at once: %u never started (a "
                  "persistent "
                  "grid must fit)",
                  g->blocks, g->resident_max, g->blocks - g->started);
    return s;
}

void emu_fault(cudaError_t error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    std::string s = format_text(format, args);
    va_end(args);
    Grid *g = emu_grid;
    if (g) {
        s = "kernel " + emu_function_name(g->kernel) + ": " + s;
        g->failed = true;
        g->error = error;
    }
    publish(s);
    if (!emu_thread) {
        fprintf(stderr, "emu: a fault outside a kernel\n");
        abort();
    }
    s.clear();
    s.shrink_to_fit(); /* this stack is abandoned, so destructors will not run */
    to_host = BACK_FAULT;
    Thread *self = emu_thread;
    fiber_switch(&self->fiber, &host_fiber);
    abort();
}

void sched_fail(cudaError_t error, const std::string &what)
{
    Grid *g = emu_grid;
    g->failed = true;
    g->error = error;
    publish("kernel " + emu_function_name(g->kernel) + ": " + what);
}

/* ---- a thread's life ---- */

static void meets_check(Warp *w);

static void thread_main()
{
    fiber_entered();
    emu_grid->body->run();
    Thread *t = emu_thread;
    Block *b = t->block;
    if (*stack_canary((size_t)(t->stack - stack_pool) / stack_size) != STACK_CANARY)
        emu_fault(cudaErrorLaunchFailure, "%s overflowed its %zu byte stack", emu_who(t).c_str(),
                  stack_size);
    t->state = T_EXITED;
    b->alive--;
    emu_grid->live--;
    t->warp->alive &= ~(1u << (t->index & 31));
    idle_polls = 0;
    if (b->arrived > 0) {
        const Thread *waiting = &b->thread[b->first_waiting];
        emu_fault(cudaErrorLaunchFailure,
                  "early exit: %s exited while %s waits at the barrier at %s:%d",
                  emu_who(t).c_str(), emu_who(waiting).c_str(), b->file, b->line);
    }
    RACE(race_thread_end(t));
    meets_check(t->warp);
    cluster_thread_end(t);
    Thread *next = nullptr;
    if (b->alive == 0) {
        /* The slot is reused; its stacks must not be rebuilt while this code runs on one of
         * them. */
        finished_block = b;
        to_host = BACK_BLOCK_DONE;
        fiber_exit_to(&t->fiber, &host_fiber);
    }
    next = pick();
    if (next) {
        resume(next);
        fiber_exit_to(&t->fiber, &next->fiber);
    }
    to_host = BACK_STUCK;
    fiber_exit_to(&t->fiber, &host_fiber);
}

static void shared_check_guards(const Block *b);

/* ---- waiting ---- */

static void barrier_release(Block *b)
{
    b->arrived = 0;
    RACE(race_barrier(b));
    idle_polls = 0;
    for (size_t i = b->thread.size(); i-- > 0;)
        if (b->thread[i].state == T_BARRIER) queue_wake(&b->thread[i]);
}

static void barrier_arrive(const char *file, int line, int op, int value)
{
    Thread *t = emu_thread;
    Block *b = t->block;
    t->file = file;
    t->line = line;
    if (b->alive < b->threads) {
        const Thread *gone = nullptr;
        for (const auto &q : b->thread)
            if (q.state == T_EXITED) gone = &q;
        emu_fault(cudaErrorLaunchFailure,
                  "early exit: %s waits at the barrier at %s:%d but %s has exited",
                  emu_who(t).c_str(), file, line, emu_who(gone).c_str());
    }
    if (b->arrived == 0) {
        b->file = file;
        b->line = line;
        b->first_waiting = t->index;
        b->reduce_op = op;
        b->reduce_acc = op == 1 ? 1 : 0;
    } else if (b->line != line || (b->file != file && strcmp(b->file, file) != 0)) {
        emu_fault(cudaErrorLaunchFailure,
                  "divergent barrier: %s waits at %s:%d, %s at %s:%d, in the same block",
                  emu_who(t).c_str(), file, line, emu_who(&b->thread[b->first_waiting]).c_str(),
                  b->file, b->line);
    }
    if (op == 0) b->reduce_acc += value != 0;
    else if (op == 1) b->reduce_acc = b->reduce_acc && value;
    else if (op == 2) b->reduce_acc = b->reduce_acc || value;
    b->arrived++;
    t->state = T_BARRIER;
    if (b->arrived == b->threads) {
        b->reduce_result = b->reduce_acc;
        if (strategy) {
            barrier_release(b);
            switch_away();
        } else {
            t->state = T_READY; /* the last thread continues at once, which saves a switch */
            barrier_release(b);
        }
    } else {
        switch_away();
    }
}

extern "C" void emu_syncthreads(const char *file, int line) { barrier_arrive(file, line, -1, 0); }

extern "C" int emu_syncthreads_reduce(int op, int predicate, const char *file, int line)
{
    barrier_arrive(file, line, op, predicate);
    return emu_thread->block->reduce_result;
}

extern "C" void emu_gridsync(const char *file, int line)
{
    Thread *t = emu_thread;
    Grid *g = emu_grid;
    t->file = file;
    t->line = line;
    if (!g->cooperative)
        emu_fault(cudaErrorLaunchFailure,
                  "%s calls grid.sync() at %s:%d, but the launch is not cooperative",
                  emu_who(t).c_str(), file, line);
    if (g->finished > 0 || t->block->alive < t->block->threads)
        emu_fault(cudaErrorLaunchFailure,
                  "early exit: %s waits at grid.sync() at %s:%d but other threads of the grid have "
                  "exited",
                  emu_who(t).c_str(), file, line);
    g->grid_arrived++;
    t->state = T_GRIDSYNC;
    idle_polls = 0;
    if (g->grid_arrived == g->blocks * g->threads) {
        g->grid_arrived = 0;
        RACE(race_grid_sync(g));
        for (Block *b : g->slot)
            for (auto &q : b->thread)
                if (q.state == T_GRIDSYNC) q.state = T_READY, queue_push(&q);
    }
    switch_away();
}

extern "C" int emu_grid_is_cooperative(void) { return emu_grid && emu_grid->cooperative; }

/* ---- warp meetings ---- */

static const char *const warp_op_name[EMU_WARP_OPS] = {
    "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",
    "__shfl_xor_sync",   "__ballot_sync",     "__all_sync",        "__any_sync",
    "__match_any_sync",  "__match_all_sync",  "__reduce_add_sync", "__reduce_min_sync",
    "__reduce_max_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync",
    "__reduce_or_sync",  "__reduce_xor_sync", "mma.sync",          "mma.sync",
    "ldmatrix",          "movmatrix"};

static int shuffle_source(int op, int lane, const EmuLane *x)
{
    int width = x->width, segment = lane & ~(width - 1), source;
    switch (op) {
    case EMU_SHFL: return segment + (x->lane & (width - 1));
    case EMU_SHFL_UP: source = lane - x->lane; return source < segment ? lane : source;
    case EMU_SHFL_DOWN: source = lane + x->lane; return source >= segment + width ? lane : source;
    default: /* in CUDA xor may read earlier segments, but not later ones */
        source = lane ^ x->lane;
        return source >= segment + width ? lane : source;
    }
}

/* Runs one operation on the operands of the lanes in `mask`, all of which have arrived. */
static void meet_run(Warp *w, int op, unsigned mask)
{
    EmuLane *x[32];
    for (int i = 0; i < 32; i++) x[i] = mask >> i & 1 ? w->lane[i]->operand : nullptr;
    if (op == EMU_SYNCWARP) {
        RACE(race_warp_sync(w, mask));
        return;
    }
    if (op >= EMU_MMA_BF16) {
        if (mask != 0xffffffffu)
            emu_fault(cudaErrorLaunchFailure,
                      "%s of block (%u,%u,%u) has the lanes %08x of a warp only: it needs all 32",
                      warp_op_name[op], emu_thread->block->idx.x, emu_thread->block->idx.y,
                      emu_thread->block->idx.z, mask);
        tensor_run(w, op);
        return;
    }
    if (op <= EMU_SHFL_XOR) {
        for (int i = 0; i < 32; i++) {
            if (!x[i]) continue;
            int source = shuffle_source(op, i, x[i]) & 31;
            /* A lane that does not take part has no value, so the result is NaN. */
            x[i]->out = x[source] ? x[source]->in : ~0ull;
        }
        return;
    }
    if (op == EMU_MATCH_ANY || op == EMU_MATCH_ALL) {
        bool all_same = true;
        uint64_t first = 0;
        bool have = false;
        for (int i = 0; i < 32; i++) {
            if (!x[i]) continue;
            if (!have) first = x[i]->in, have = true;
            all_same = all_same && x[i]->in == first;
            unsigned same = 0;
            for (int k = 0; k < 32; k++)
                if (x[k] && x[k]->in == x[i]->in) same |= 1u << k;
            x[i]->out = same;
        }
        if (op == EMU_MATCH_ALL)
            for (int i = 0; i < 32; i++)
                if (x[i]) x[i]->out = all_same ? mask : 0, x[i]->flag = all_same;
        return;
    }
    uint64_t acc = 0;
    bool first = true;
    for (int i = 0; i < 32; i++) {
        if (!x[i]) continue;
        uint64_t v = x[i]->in;
        uint32_t a = (uint32_t)acc, u = (uint32_t)v;
        switch (op) {
        case EMU_BALLOT: acc |= (v & 1) << i; break;
        case EMU_ALL: acc = first ? v : acc & v; break;
        case EMU_ANY: acc |= v; break;
        case EMU_REDUCE_ADD: acc = a + u; break;
        case EMU_REDUCE_MIN_S: acc = first || (int32_t)u < (int32_t)a ? u : a; break;
        case EMU_REDUCE_MAX_S: acc = first || (int32_t)u > (int32_t)a ? u : a; break;
        case EMU_REDUCE_MIN_U: acc = first || u < a ? u : a; break;
        case EMU_REDUCE_MAX_U: acc = first || u > a ? u : a; break;
        case EMU_REDUCE_AND: acc = first ? u : a & u; break;
        case EMU_REDUCE_OR: acc = a | u; break;
        case EMU_REDUCE_XOR: acc = a ^ u; break;
        }
        first = false;
    }
    for (int i = 0; i < 32; i++)
        if (x[i]) x[i]->out = acc;
}

/* Completes meetings whose missing lanes have exited: masks name threads, and exited threads do not
 * count. */
static void meets_check(Warp *w)
{
    for (size_t m = 0; m < w->meets.size();) {
        Meet meet = w->meets[m];
        if (meet.arrived == (meet.mask & (w->alive | meet.arrived))) {
            w->meets.erase(w->meets.begin() + (long)m);
            meet_run(w, meet.op, meet.arrived);
            for (int i = 31; i >= 0; i--)
                if (meet.arrived >> i & 1) queue_wake(w->lane[i]);
        } else {
            m++;
        }
    }
}

extern "C" void emu_warp_op(int op, unsigned mask, EmuLane *operand, const char *file, int line)
{
    Thread *t = emu_thread;
    Warp *w = t->warp;
    unsigned self = 1u << (t->index & 31);
    t->file = file;
    t->line = line;
    t->operand = operand;
    if (!(mask & self))
        emu_fault(cudaErrorLaunchFailure,
                  "%s calls %s at %s:%d with mask %08x, which lacks its own lane",
                  emu_who(t).c_str(), warp_op_name[op], file, line, mask);
    if (op >= EMU_SHFL && op <= EMU_SHFL_XOR &&
        (operand->width < 1 || operand->width > 32 || (operand->width & (operand->width - 1)) != 0))
        emu_fault(cudaErrorLaunchFailure, "%s calls %s at %s:%d with width %d", emu_who(t).c_str(),
                  warp_op_name[op], file, line, operand->width);
    idle_polls = 0;
    Meet *meet = nullptr;
    for (auto &m : w->meets) {
        if (m.mask == mask) {
            meet = &m;
            break;
        }
        if (m.mask & mask & m.arrived & self)
            emu_fault(cudaErrorLaunchFailure, "%s joins two warp operations at once",
                      emu_who(t).c_str());
    }
    if (meet && (meet->op != op || meet->line != line ||
                 (meet->file != file && strcmp(meet->file, file) != 0))) {
        const Thread *other = w->lane[__builtin_ctz(meet->arrived)];
        emu_fault(cudaErrorLaunchFailure,
                  "divergent warp operation: %s calls %s at %s:%d, %s calls %s at %s:%d, mask %08x",
                  emu_who(t).c_str(), warp_op_name[op], file, line, emu_who(other).c_str(),
                  warp_op_name[meet->op], meet->file, meet->line, mask);
    }
    unsigned needed = mask & w->alive;
    if (!meet) {
        if (needed == self) {
            meet_run(w, op, self);
            return;
        }
        w->meets.push_back(Meet{mask, 0, op, file, line});
        meet = &w->meets.back();
    }
    meet->arrived |= self;
    if (meet->arrived == needed) {
        w->meets.erase(w->meets.begin() + (meet - w->meets.data()));
        meet_run(w, op, needed);
        for (unsigned rest = needed & ~self; rest;) {
            int i = 31 - __builtin_clz(rest);
            rest &= ~(1u << i);
            queue_wake(w->lane[i]);
        }
        if (strategy) {
            queue_push(t);
            switch_away();
        }
        return;
    }
    t->state = T_WARP;
    switch_away();
}

extern "C" uint64_t emu_warp_word(int op, unsigned mask, uint64_t value, int lane, int width,
                                  const char *file, int line)
{
    EmuLane x = {value, 0, lane, width, 0};
    emu_warp_op(op, mask, &x, file, line);
    return x.out;
}

/* Returns the lanes that have not exited, which is the most that CUDA may return: the emulator has
 * no notion of convergence. */
extern "C" unsigned emu_activemask(void) { return emu_thread->warp->alive; }

/* ---- polls ---- */

static void stuck_polling()
{
    Grid *g = emu_grid;
    bool told = false;
    for (Block *b : g->slot)
        for (auto &t : b->thread)
            if (t.state != T_EXITED && t.bounded && !t.expired) t.expired = told = true;
    if (told) { /* these threads' own timeouts end their waits, as on a device */
        idle_polls = 0;
        return;
    }
    emu_fault(cudaErrorLaunchTimeout,
              "livelock: all threads that can run only poll, and no value changes%s",
              describe_waiting(g).c_str());
}

void sched_yield_idle(const char *file, int line)
{
    Thread *t = emu_thread;
    t->file = file;
    t->line = line;
    t->state = T_POLL;
    Grid *g = emu_grid;
    if (can_start(g) && !strategy) block_start(g);
    else if (can_start(g) && idle_polls > queue_count) block_start(g);
    size_t rounds = strategy ? 64 : 8;
    if (++idle_polls > rounds * (queue_count + 1) + 64) stuck_polling();
    /* Last in, first out takes the back of the queue: a spinning thread goes to the front and so
     * comes last, or the schedule itself would livelock. */
    if (strategy == 2) queue_push_front(t);
    else queue_push(t);
    switch_away();
}

void sched_wait(ThreadState state)
{
    emu_thread->state = state;
    switch_away();
}

void sched_wake(Thread *t) { queue_wake(t); }

unsigned sched_choice(unsigned n) { return strategy ? (unsigned)(random_next() % n) : 0; }

void sched_preempt()
{
    if (strategy && (random_next() & 3) == 0) {
        queue_push(emu_thread);
        switch_away();
    }
}

/* Returns whether the running thread polls the same address again and reads the same value. */
bool sched_poll_note(const void *p, uint64_t value)
{
    Thread *t = emu_thread;
    if (t->poll_address == p && t->poll_value == value) return true;
    t->poll_address = p;
    t->poll_value = value;
    t->bounded = t->expired = false;
    idle_polls = 0;
    return false;
}

extern "C" void emu_nanosleep(void)
{
    Thread *t = emu_thread;
    if (strategy == 2) queue_push_front(t);
    else queue_push(t);
    switch_away();
}

extern "C" int emu_poll_expired(void)
{
    emu_thread->bounded = true;
    return emu_thread->expired;
}

/* Reads a clock that advances with every read and every switch. Differences of its values are
 * meaningful, and they are the same in every run. */
extern "C" long long emu_clock(void)
{
    static long long looks;
    return (long long)switches * 16 + ++looks;
}

extern "C" void emu_trap(const char *file, int line)
{
    emu_fault(cudaErrorLaunchFailure, "%s executed __trap() at %s:%d", emu_who(emu_thread).c_str(),
              file, line);
}

extern "C" int emu_on_device(void) { return emu_thread != nullptr; }
extern "C" int emu_device_arch(void)
{
    return emu_device->prop.major * 100 + emu_device->prop.minor * 10;
}

/* ---- shared memory ---- */

enum : unsigned char { GUARD_BYTE = 0xA5 };

/* A dynamic piece is at its real offset plus one guard per earlier piece. So every thread that
 * carves in the same order gets the same address, in whatever order the threads run. */
static void piece_make(Block *b, const void *key, size_t index, size_t offset, size_t bytes,
                       unsigned char *at)
{
    bool overlaps = false;
    for (const auto &p : b->pieces)
        overlaps =
            overlaps || (at < p.at + p.bytes + SHARED_GUARD && p.at < at + bytes + SHARED_GUARD);
#if FIBER_ASAN
    __asan_unpoison_memory_region(at, overlaps ? bytes : bytes + SHARED_GUARD);
#endif
    if (!overlaps) {
        memset(at, 0xFF, bytes);
        memset(at + bytes, GUARD_BYTE, SHARED_GUARD);
#if FIBER_ASAN
        __asan_poison_memory_region(at + bytes, SHARED_GUARD);
#endif
        RACE(race_allocated(at, bytes));
        b->pieces.push_back(Piece{key, index, offset, bytes, at});
    } else {
        /* A second carve over memory that an earlier one used (by a phase that reuses it) is legal,
         * but the inner guards are then lost. */
        for (auto &p : b->pieces)
            if (at < p.at + p.bytes + SHARED_GUARD && p.at < at + bytes + SHARED_GUARD) {
                unsigned char *lo = p.at + p.bytes;
                if (lo < at + bytes && lo + SHARED_GUARD > at) {
#if FIBER_ASAN
                    __asan_unpoison_memory_region(lo, SHARED_GUARD);
#endif
                    RACE(race_allocated(lo, SHARED_GUARD));
                    p.key = (const void *)1; /* no longer checked at the block's end */
                }
            }
        b->pieces.push_back(Piece{(const void *)1, index, offset, bytes, at});
    }
}

extern "C" void *emu_shared_take(size_t index, size_t offset, size_t bytes, const char *file,
                                 int line)
{
    Thread *t = emu_thread;
    Block *b = t->block;
    if (offset + bytes > emu_grid->dynamic_shared)
        emu_fault(cudaErrorIllegalAddress,
                  "%s carves shared memory past the launch's size at %s:%d: offset %zu + %zu "
                  "bytes, %zu were given",
                  emu_who(t).c_str(), file, line, offset, bytes, emu_grid->dynamic_shared);
    unsigned char *at = b->shared + offset + index * SHARED_GUARD;
    for (const auto &p : b->pieces)
        if (p.at == at && p.bytes == bytes) return at;
    piece_make(b, nullptr, index, offset, bytes, at);
    return at;
}

extern "C" void *emu_shared_static(const void *key, size_t bytes, size_t align, const char *file,
                                   int line)
{
    Block *b = emu_thread->block;
    for (const auto &p : b->pieces)
        if (p.key == key) return p.at;
    size_t offset = (b->static_used + align - 1) / align * align;
    b->static_used = offset + bytes;
    KernelInfo *k = device_kernel(emu_grid->kernel);
    if (k->static_shared < b->static_used)
        /* The occupancy includes it from the second launch on. */
        k->static_shared = b->static_used;
    if (b->static_used > emu_device->prop.sharedMemPerBlock ||
        b->static_used + emu_grid->dynamic_shared > emu_grid->shared_limit)
        emu_fault(
            cudaErrorLaunchOutOfResources,
            "%s:%d: %zu bytes of static shared memory and %zu dynamic exceed the block's limit",
            file, line, b->static_used, emu_grid->dynamic_shared);
    unsigned char *at =
        b->shared + SHARED_WINDOW / 2 + offset + b->pieces.size() * 2 * SHARED_GUARD;
    at = (unsigned char *)(((uintptr_t)at + 15) & ~(uintptr_t)15);
    piece_make(b, key, ~(size_t)0, offset, bytes, at);
    return at;
}

static void shared_check_guards(const Block *b)
{
#if FIBER_ASAN
    (void)b; /* in this build ASan traps the access itself */
#else
    for (const auto &p : b->pieces) {
        if (p.key == (const void *)1) continue;
        for (size_t i = 0; i < SHARED_GUARD; i++)
            if (p.at[p.bytes + i] != GUARD_BYTE) {
                std::string s =
                    text("shared memory written %zu byte(s) past the end of a piece of %zu bytes "
                         "(%s, offset %zu), block (%u,%u,%u), found at the block's end",
                         i + 1, p.bytes, p.key ? "static" : "dynamic", p.offset, b->idx.x, b->idx.y,
                         b->idx.z);
                sched_fail(cudaErrorIllegalAddress, s);
                return;
            }
    }
#endif
}

/* ---- signals: raw spins, stray addresses ---- */

static double watchdog_seconds = 10.0;
static unsigned long long watchdog_last;
static double watchdog_spent;
static uintptr_t signal_pc, signal_address;
static bool signal_no_address, signal_overflow;

void sched_watchdog(double seconds) { watchdog_seconds = seconds; }
extern "C" void emu_watchdog(double seconds) { watchdog_seconds = seconds; }

[[noreturn]] static void on_fiber_spin()
{
    emu_fault(cudaErrorLaunchTimeout,
              "raw spin: %s has run for %.1f s of CPU time without a barrier, a poll or an exit, "
              "now at %s; "
              "spin through "
              "load_poll (or compile for the race build, which sees volatile loads)",
              emu_who(emu_thread).c_str(), watchdog_seconds, emu_where(signal_pc + 1).c_str());
}

[[noreturn]] static void on_fiber_segv()
{
    Thread *t = emu_thread;
    if (signal_overflow)
        emu_fault(cudaErrorLaunchFailure, "%s overflowed its stack of %zu bytes at %s",
                  emu_who(t).c_str(), stack_size, emu_where(signal_pc + 1).c_str());
    if (signal_no_address)
        emu_fault(cudaErrorMisalignedAddress,
                  "misaligned vector access (or an impossible address) by %s at %s",
                  emu_who(t).c_str(), emu_where(signal_pc + 1).c_str());
    emu_fault(cudaErrorIllegalAddress, "illegal memory access: %s touched %s at %s",
              emu_who(t).c_str(), arena_describe((void *)signal_address).c_str(),
              emu_where(signal_pc + 1).c_str());
}

/* Returns from the signal into `target`, on the interrupted stack, as if the kernel had called
 * it. */
static bool redirect(void *context, void (*target)())
{
#if defined(__x86_64__)
    ucontext_t *uc = (ucontext_t *)context;
    greg_t *r = uc->uc_mcontext.gregs;
    signal_pc = (uintptr_t)r[REG_RIP];
    r[REG_RSP] = (greg_t)((((uintptr_t)r[REG_RSP] - 256) & ~(uintptr_t)15) - 8);
    r[REG_RIP] = (greg_t)(uintptr_t)target;
    return true;
#else
    (void)context, (void)target;
    return false;
#endif
}

static bool on_fiber_stack(void *context)
{
#if defined(__x86_64__)
    uintptr_t sp = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RSP];
    return emu_thread && sp >= (uintptr_t)stack_pool &&
           sp < (uintptr_t)stack_pool + stack_pool_size;
#else
    (void)context;
    return emu_thread != nullptr;
#endif
}

static void on_alarm(int, siginfo_t *, void *context)
{
    if (!emu_grid || !emu_thread || watchdog_seconds <= 0) return;
    if (switches != watchdog_last) {
        watchdog_last = switches;
        watchdog_spent = 0;
        return;
    }
    watchdog_spent += 0.1;
    if (watchdog_spent + 0.05 < watchdog_seconds || !on_fiber_stack(context)) return;
    watchdog_spent = 0;
    if (!redirect(context, on_fiber_spin)) {
        fprintf(stderr, "emu: a raw spin\n");
        abort();
    }
}

static struct sigaction
    others[2]; /* the previous handlers of SIGSEGV and SIGBUS, such as those of test frameworks */

static void on_segv(int signal, siginfo_t *info, void *context)
{
    signal_address = (uintptr_t)info->si_addr;
    /* The signal carries no address after an access to a non-canonical address or a misaligned
     * vector load. */
    signal_no_address = info->si_code == SI_KERNEL;
    if (emu_thread) {
#if defined(__x86_64__)
        /* This stack has no room left, so the report runs at its other end; no frame on it will be
         * used again. */
        greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
        uintptr_t sp = (uintptr_t)r[REG_RSP], bottom = (uintptr_t)emu_thread->stack;
        signal_overflow = sp < bottom + 4096 + 512 || sp > bottom + stack_size;
        if (signal_overflow) r[REG_RSP] = (greg_t)(bottom + stack_size - 1024);
#endif
        if (redirect(context, on_fiber_segv)) return;
    }
    if (!emu_thread && arena_is_device((void *)signal_address) && arena_is_locked()) {
#if defined(__x86_64__)
        uintptr_t pc = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
        emu_note("the host touches device memory outside a runtime call: %s at %s",
                 arena_describe((void *)signal_address).c_str(), emu_where(pc + 1).c_str());
#else
        emu_note("the host touches device memory outside a runtime call: %s",
                 arena_describe((void *)signal_address).c_str());
#endif
        fprintf(stderr, "%s\n", report_quiet ? report_text.c_str() : "emu: the process ends here");
        _exit(134);
    }
    /* The access is none that the emulator reports: the instruction runs again under the previous
     * handler. */
    sigaction(signal, &others[signal == SIGBUS], nullptr);
}

/* The runtime calls this before each launch and after each drain, so that the emulator's handlers
 * come before any other. */
void sched_signals()
{
    static unsigned char *alternate;
    if (!alternate) {
        alternate = (unsigned char *)mmap(nullptr, 256 << 10, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t ss = {};
        ss.ss_sp = alternate;
        ss.ss_size = 256 << 10;
        sigaltstack(&ss, nullptr);
    }
    struct sigaction action = {}, now = {};
    sigaction(SIGSEGV, nullptr, &now);
    if (now.sa_sigaction == on_segv) return;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    action.sa_sigaction = on_segv;
    sigaction(SIGSEGV, &action, &others[0]);
    sigaction(SIGBUS, &action, &others[1]);
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
    action.sa_sigaction = on_alarm;
    sigaction(SIGVTALRM, &action, nullptr);
}

/* Ends a block: its shared memory becomes inaccessible, and its slot may be reused once the whole
 * cluster has ended. */
static void block_end(Grid *g, Block *b)
{
    shared_check_guards(b);
    RACE(race_block_end(b));
    g->finished++;
    Cluster *c = b->cluster;
    if (!c) {
        g->released++;
        g->free_slots.push_back(b->slot);
        return;
    }
    cluster_block_end(b);
    for (const auto &p : b->pieces) {
        memset(p.at, 0xFF, p.bytes);
#if FIBER_ASAN
        __asan_poison_memory_region(p.at, p.bytes);
#endif
    }
    if (++c->finished < c->size) return;
    g->released += c->size;
    for (unsigned i = 0; i < c->size; i++) g->free_slots.push_back(c->block[i]->slot);
    cluster_delete(c);
}

static void watchdog_arm(bool on)
{
    struct itimerval timer = {};
    if (on && watchdog_seconds > 0) timer.it_interval.tv_usec = timer.it_value.tv_usec = 100000;
    setitimer(ITIMER_VIRTUAL, &timer, nullptr);
    watchdog_last = switches;
    watchdog_spent = 0;
}

/* ---- one launch ---- */

cudaError_t sched_run(Grid *g)
{
    static bool host_known;
    sched_signals();
    if (!host_known) {
        fiber_init_host(&host_fiber);
        host_known = true;
    }
    g->started = g->finished = g->released = 0;
    g->live = g->blocks * g->threads;
    g->grid_arrived = 0;
    g->failed = false;
    g->error = cudaSuccess;
    size_t resident = std::min<size_t>(g->resident_max, g->blocks);
    stacks_reserve(resident * g->threads);
    queue_reserve(resident * g->threads + 1);
    random_state = seed_now;
    strategy = seed_now ? 1 + (unsigned)(random_next() % 3) : 0;
    idle_polls = 0;
    emu_grid = g;
    emu_thread = nullptr;
    blockDim = g->block;
    gridDim = g->grid;
    RACE(race_launch_begin(g));
    watchdog_arm(true);
    while (g->finished < g->blocks && !g->failed) {
        Thread *t = pick();
        if (!t) {
            to_host = BACK_STUCK;
        } else {
            resume(t);
            to_host = 0;
            fiber_switch(&host_fiber, &t->fiber);
        }
        emu_thread = nullptr;
        if (to_host == BACK_BLOCK_DONE) {
            block_end(g, finished_block);
        } else if (to_host == BACK_STUCK) {
            sched_fail(cudaErrorLaunchTimeout, "deadlock: no thread can run" + describe_waiting(g));
        }
    }
    watchdog_arm(false);
#if FIBER_ASAN
    for (const Block *b : g->slot) __asan_unpoison_memory_region(b->shared, SHARED_WINDOW);
    if (g->failed) __asan_unpoison_memory_region(stack_pool, stack_pool_size);
#endif
    RACE(race_launch_end(g));
    for (Block *b : g->slot)
        if (b->cluster && b->cluster->block[0] == b) cluster_delete(b->cluster);
    for (Block *b : g->slot) delete b;
    g->slot.clear();
    g->free_slots.clear();
    emu_grid = nullptr;
    return g->failed ? g->error : cudaSuccess;
}
