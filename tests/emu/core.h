/* Inside the emulator: threads, warps, blocks, the grid that runs, and what the parts of the emulator ask of
 * each other. */
#ifndef EMU_CORE_H
#define EMU_CORE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

#include "emu.h"
#include "fiber.h"
#include "include/emu_device.h"

#if defined(__SANITIZE_THREAD__)
#error "the emulator itself must not be compiled with -fsanitize=thread: only kernels are"
#endif

struct View;     /* race.cpp: what a thread knows of other blocks */
struct LaneView; /* race.cpp: what a thread knows of its warp */

/* What a thread's last fence covers. */
struct FenceSnap {
    View *view = nullptr; /* owned reference, built when first published */
    bool built = false;
    View *base = nullptr;
    LaneView *lanes = nullptr;
    uint32_t time = 0, block_time = 0;
};

struct RaceThread {
    View *view = nullptr;
    LaneView *lanes = nullptr;
    FenceSnap fence_block, fence_device;
    View *cluster_view = nullptr; /* what it knew when it arrived at the cluster's barrier */
    uint32_t cluster_time = 0, proxy_time = 0; /* of that arrival; of its last fence_async_proxy */
    View *pending_block = nullptr,
         *pending_device = nullptr; /* seen through relaxed reads, not yet fenced */
    View *last_seen = nullptr;      /* dedupe of polls; not owned, only compared */
};

/* One cp.async that its thread has not waited for yet. */
struct Copy {
    unsigned char *to;
    const unsigned char *from;
    unsigned bytes;
    uint32_t group, time; /* time: of the race detector */
    uintptr_t pc;
    unsigned char then[16]; /* the source as the copy found it */
};

enum ThreadState : uint8_t { T_READY, T_POLL, T_BARRIER, T_GRIDSYNC, T_CLUSTER, T_WARP, T_EXITED };

struct alignas(64) Thread { /* what a switch touches comes first and is one cache line */
    Fiber fiber;
    struct Block *block;
    struct Warp *warp;
    uint3 tid;
    unsigned index; /* linear in the block */
    uint32_t gid;   /* linear in the grid */
    ThreadState state;
    bool bounded, expired; /* inside a wait that times out by itself; made to time out */
    bool
        cluster_arrived; /* at the cluster's barrier of phase cluster_phase, and not waited since */
    const char *file;    /* where it waits, or waited last */
    int line;
    const void *poll_address;
    uint64_t poll_value;
    EmuLane *operand;
    unsigned char *stack;
    std::vector<Copy> copies; /* in the order of their groups */
    uint32_t copy_groups;     /* closed so far */
    uint32_t cluster_phase;
#ifdef EMU_RACE
    RaceThread race;
#endif
};

/* Lanes that wait for each other with the same mask. */
struct Meet {
    unsigned mask, arrived;
    int op;
    const char *file;
    int line;
};

struct Warp {
    Thread *lane[32];
    unsigned alive;
    std::vector<Meet> meets;
    unsigned cluster_arrived; /* lanes that have come to the cluster's barrier, and where */
    const char *cluster_file;
    int cluster_line;
};

struct Piece { /* one carve of dynamic shared memory, or one static array */
    const void *key;
    size_t index, offset, bytes;
    unsigned char *at;
};

/* An asynchronous store or bulk copy on its way. */
struct Flight {
    unsigned char *to;
    const unsigned char *from; /* NULL: a store */
    unsigned bytes;
    unsigned char word[16];          /* what a store brings */
    std::vector<unsigned char> then; /* the source as a bulk copy found it */
    const Block *source;             /* whose shared memory that is, or NULL */
    uint32_t issuer, time;           /* time: of the race detector */
    FenceSnap snap;                  /* what the issuer knew */
    uintptr_t pc;
};

struct MbarrierRace {
    View *gather,
        *done; /* what the arrivals of this phase released; those of the phases that have ended */
    uint64_t last_base; /* the View that was joined last */
    uint32_t thread, time, agent;
    uintptr_t pc; /* of mbarrier_init */
};

struct Mbarrier {
    unsigned char *at;
    unsigned count, pending,
        owner;       /* arrivals of a phase, those still missing; thread that made it */
    long long bytes; /* announced less come */
    uint32_t phase;
    bool fenced; /* bulk copies may use it */
    std::vector<Flight> flights;
    MbarrierRace race;
};

/* Blocks that run at the same time. */
struct Cluster {
    unsigned size, finished, alive,
        pending;    /* pending: threads that have not arrived at the barrier */
    uint32_t phase; /* barriers that are behind all of them */
    Block *block[16];
    View *race_view; /* what the last one orders */
};

struct Block {
    uint3 idx;
    unsigned number; /* linear in the grid */
    uint32_t gid0;
    int slot;
    unsigned threads, alive, arrived;
    const char *file; /* of the barrier that some threads wait at */
    int line;
    unsigned first_waiting;
    int reduce_op, reduce_acc, reduce_result;
    const char *exit_note;
    std::vector<Thread> thread;
    std::vector<Warp> warp;
    std::vector<Piece> pieces;
    unsigned char *shared; /* this slot's window of the shared arena */
    Cluster *cluster;      /* NULL: none, and no operation of clusters yet */
    std::vector<Mbarrier> mbarriers;
    size_t static_used;
#ifdef EMU_RACE
    uint32_t race_time =
        0; /* of the last barrier: all accesses of the block before it are ordered for its threads */
    View *race_view = nullptr;
#endif
};

struct Grid {
    const void *kernel;
    EmuBody *body;
    dim3 grid, block;
    unsigned blocks, threads;
    size_t dynamic_shared, shared_limit;
    bool cooperative;
    unsigned resident_max, started, finished, live;
    unsigned cluster,
        released; /* blocks per cluster, 0: the launch has none; blocks whose place another may take */
    unsigned grid_arrived;
    const char *grid_file;
    int grid_line;
    bool failed;
    cudaError_t error;
    std::vector<Block *> slot;
    std::vector<int> free_slots;
};

extern Grid *emu_grid;     /* the launch that runs, or NULL */
extern Thread *emu_thread; /* the thread that runs, or NULL on the host */

/* ---- sched.cpp
 * ---------------------------------------------------------------------------------------------- */

/* Runs a whole launch. Returns cudaSuccess or the error that a fault caused; the report holds the text. */
cudaError_t sched_run(Grid *grid);

/* Ends the running launch with a report; never returns when called on a fiber. The text should end without a
 * newline. */
[[noreturn]] void emu_fault(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A report outside any launch. */
void emu_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "block (1,0,0) thread (5,0,0)" */
std::string emu_who(const Thread *t);
std::string emu_who_gid(uint32_t gid);

/* Source line of a code address, "file:line (function)"; of a given site. */
std::string emu_where(uintptr_t pc);
std::string emu_function_name(const void *function);

/* Tells the scheduler that the running thread changed something (a livelock needs that nobody does). */
void sched_progress();
/* Gives the processor away after a poll, or an atomic, that changed nothing. */
void sched_yield_idle(const char *file, int line);
/* In random schedules: maybe gives the processor away. */
void sched_preempt();
void sched_seed(unsigned long long seed);
void sched_watchdog(double seconds);
void sched_signals(); /* (re)installs the signal handlers */
bool sched_poll_note(const void *p,
                     uint64_t value); /* true if the value is the one the thread saw last */
extern unsigned char *stack_pool;     /* all fibers' stacks */
extern size_t stack_pool_size;
static inline bool sched_is_stack(const void *p)
{
    return (size_t)((const unsigned char *)p - stack_pool) < stack_pool_size;
}

/* Parks the running thread until sched_wake. */
void sched_wait(ThreadState state);
void sched_wake(Thread *t);
/* In random schedules a number below n, in the plain order 0. */
unsigned sched_choice(unsigned n);
/* Ends the launch with a report when no thread runs. */
void sched_fail(cudaError_t error, const std::string &text);

/* cluster.cpp: a block's place in its cluster (made when first asked for, if the launch has none), what a
 * thread that ends means to it, what must hold when a block ends, and the text for a report on who polls. */
Cluster *cluster_new(Block *const *blocks, unsigned size);
void cluster_delete(Cluster *cluster);
Cluster *cluster_of(Block *block);
void cluster_thread_end(Thread *t);
void cluster_block_end(Block *block);
std::string mbarrier_describe(const void *p);

/* mma.cpp: one of the operations that all lanes of a warp have come to. */
void tensor_run(Warp *warp, int op);

/* ---- arena (memory.cpp)
 * ------------------------------------------------------------------------------------- */

/* One reservation: device memory, then host memory that kernels may reach (pinned, managed), then launch
 * arguments, then one window of shared memory per block slot. */
extern unsigned char *arena_base;
enum : size_t {
    ARENA_DEVICE = (size_t)64 << 30,
    ARENA_HOST = (size_t)16 << 30,
    ARENA_BODY = (size_t)64 << 20,
    SHARED_WINDOW =
        (size_t)1 << 20, /* per block slot: at most 227 KB plus guards, the rest is never touched */
    SHARED_GUARD = 128,
    ARENA_SHARED = SHARED_WINDOW * 8192,
    ARENA_SPAN = ARENA_DEVICE + ARENA_HOST + ARENA_BODY + ARENA_SHARED
};

struct Allocation {
    unsigned char *at;
    size_t bytes;
    unsigned number;
    bool host;
};

void arena_init();
void arena_reset();
unsigned char *arena_alloc(size_t bytes, bool host); /* NULL: none left */
bool arena_free(void *p, bool host);                 /* false: not an allocation */
const Allocation *arena_find(const void *p);         /* the live allocation that holds p, or NULL */
bool arena_is_device(const void *p);                 /* in the device part, live or not */
bool arena_is_host(const void *p);
void arena_unlock(); /* nested: runtime calls and launches */
void arena_lock();
bool arena_is_locked();
size_t arena_live_bytes();
size_t arena_live_host();
unsigned char *arena_shared_window(int slot);
int arena_shared_slot(const void *p);       /* the block slot whose window holds p, or -1 */
bool arena_check_guards(std::string *text); /* false: a guard after an allocation was overwritten */
std::string arena_describe(const void *p);
void arena_each(void (*visit)(const Allocation &)); /* every live allocation */
void arena_set_protection(bool on);

/* ---- device.cpp
 * --------------------------------------------------------------------------------------------- */

struct DeviceProfile {
    const char *key;
    cudaDeviceProp prop;
    int clock_khz, memory_clock_khz;
    int shared_unit;   /* granularity of shared memory */
    int register_unit; /* registers are given to a warp in these portions */
    int warp_unit;     /* and to this many warps at a time */
    int max_registers; /* per thread */
    int gpc_sms[8];    /* SMs of each GPC: a cluster lies within one */
};

struct KernelInfo {
    int registers = 0; /* 0: not told */
    size_t static_shared = 0;
    int max_dynamic = -1; /* set by cudaFuncSetAttribute */
    bool non_portable_cluster = false;
};

extern const DeviceProfile *emu_device;
KernelInfo *device_kernel(const void *kernel);
int device_registers(const KernelInfo *kernel, unsigned threads);
int device_occupancy(const KernelInfo *kernel, unsigned threads, size_t dynamic_shared);
cudaError_t device_check_launch(const cudaLaunchConfig_t *config, const void *kernel,
                                bool *cooperative, unsigned *cluster, int *resident,
                                std::string *why);
/* The launch's cluster size (0: it has no such attribute), or why it is refused. */
cudaError_t device_cluster(const cudaLaunchConfig_t *config, const void *kernel, unsigned *cluster,
                           std::string *why);
int device_clusters(const KernelInfo *kernel, unsigned threads, size_t dynamic_shared,
                    unsigned size);
void device_forget_kernels();

/* ---- runtime.cpp
 * -------------------------------------------------------------------------------------------- */

enum OpKind { OP_KERNEL, OP_COPY, OP_SET, OP_HOST, OP_RECORD, OP_WAIT, OP_GRAPH };

/* Called first by every API function that can fail: counts, injects faults, passes sticky errors on. */
cudaError_t emu_enter(const char *call, enum emu_call kind);
/* Records an error for cudaGetLastError and returns it. */
cudaError_t emu_return(cudaError_t error);
/* Queues work on a stream, or adds a node to the graph that the stream is captured into. */
struct HostRange {
    const void *at;
    size_t bytes;
    bool written;
};
cudaError_t emu_enqueue(cudaStream_t stream, OpKind kind, struct EmuWork *work);

struct EmuWork {                 /* something that a stream will do, maybe several times (graphs) */
    std::vector<HostRange> host; /* host memory that it touches when it runs */
    virtual cudaError_t run() = 0;
    virtual ~EmuWork() {}
    int refs = 1;
};
template <class F> struct EmuWorkOf final : EmuWork {
    F f;
    explicit EmuWorkOf(F g) : f(std::move(g)) {}
    cudaError_t run() override { return f(); }
};
template <class F> static inline EmuWork *emu_work(F f) { return new EmuWorkOf<F>(std::move(f)); }
bool emu_stream_valid(cudaStream_t stream);

/* ---- race.cpp (the race build only)
 * ------------------------------------------------------------------------- */

#ifdef EMU_RACE
void race_init();
void race_launch_begin(Grid *grid);
void race_launch_end(Grid *grid);
void race_block_begin(Block *block);
void race_block_end(Block *block);
void race_thread_end(Thread *t);
void race_barrier(Block *block);
void race_grid_sync(Grid *grid);
void race_warp_sync(Warp *warp, unsigned mask);
void race_fence(int scope);
void race_sync_read(const void *p, size_t size, uintptr_t pc);
void race_sync_write(void *p, size_t size, bool rmw, uintptr_t pc);
void race_acquire(const void *p, int scope);
void race_release_begin(int scope);
void race_release_end();
void race_readonly(const void *p, size_t size, uintptr_t pc);
void race_plain(const Thread *t, const void *p, size_t size, bool write, uintptr_t pc);
/* An asynchronous copy of whole words from `from` (NULL: a store) starts; returns its time. Its end: for
 * cp.async the words are the waiting thread's (mbarrier NULL), else they belong to who waits for the
 * mbarrier. */
uint32_t race_copy_begin(const void *to, const void *from, size_t bytes, uintptr_t pc);
void race_copy_end(const void *to, const void *from, size_t bytes, uint32_t time, uint32_t issuer,
                   MbarrierRace *mbarrier, uintptr_t pc);
void race_flight_begin(Flight *f);
void race_flight_end(Flight *f, MbarrierRace *mbarrier);
void race_flight_drop(Flight *f);
void race_fence_proxy();
void race_proxy_check(const void *from, size_t bytes, uintptr_t pc);
void race_mbarrier_init(MbarrierRace *m, const void *at, uintptr_t pc);
void race_mbarrier_use(const MbarrierRace *m, const void *at, uintptr_t pc);
void race_mbarrier_arrive(MbarrierRace *m);
void race_mbarrier_phase(MbarrierRace *m);
void race_mbarrier_acquire(const MbarrierRace *m);
void race_mbarrier_drop(MbarrierRace *m);
void race_cluster_arrive(Thread *t);
void race_cluster_sync(Cluster *cluster);
void race_cluster_acquire(Thread *t);
void race_cluster_drop(Cluster *cluster);
void race_allocated(const void *p, size_t size);
void race_freed(const void *p, size_t size);
void race_host_wrote(const void *p, size_t size);
void race_copied(const void *dst, const void *src, size_t size);
void race_check_uninitialised(bool on);
#define RACE(call) call
#else
#define RACE(call) ((void)0)
#endif

#endif
