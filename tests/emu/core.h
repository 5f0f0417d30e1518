/* Internal header of the emulator: threads, warps, blocks, the running grid, and the interfaces
 * between its parts. */
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

struct View; /* race.cpp: accesses of other blocks that are ordered before a thread's next one */
struct LaneView; /* race.cpp: accesses of the thread's own warp that are ordered before it */

/* The accesses that a thread's last fence covers. */
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
    View *cluster_view = nullptr; /* the thread's View at its arrival at the cluster's barrier */
    /* times of that arrival and of the thread's last fence_async_proxy */
    uint32_t cluster_time = 0, proxy_time = 0;
    /* what relaxed reads have seen and no fence of block or device scope has acquired yet */
    View *pending_block = nullptr, *pending_device = nullptr;
    /* id of the View that was joined last; only compared, to skip repeated polls */
    View *last_seen = nullptr;
};

/* One cp.async for which its thread has not waited yet. */
struct Copy {
    unsigned char *to;
    const unsigned char *from;
    unsigned bytes;
    uint32_t group, time; /* time of the race detector's counter */
    uintptr_t pc;
    unsigned char then[16]; /* the source at the start of the copy */
};

enum ThreadState : uint8_t { T_READY, T_POLL, T_BARRIER, T_GRIDSYNC, T_CLUSTER, T_WARP, T_EXITED };

struct alignas(64) Thread { /* the fields used by a switch come first, in one cache line */
    Fiber fiber;
    struct Block *block;
    struct Warp *warp;
    uint3 tid;
    unsigned index; /* linear index within the block */
    uint32_t gid;   /* linear index within the grid */
    ThreadState state;
    /* whether it is inside a wait with a timeout, and whether that timeout has been signalled */
    bool bounded, expired;
    /* whether it has arrived at the cluster's barrier of phase cluster_phase but not waited yet */
    bool cluster_arrived;
    const char *file; /* source line of its current or last wait */
    int line;
    const void *poll_address;
    uint64_t poll_value;
    EmuLane *operand;
    unsigned char *stack;
    std::vector<Copy> copies; /* in the order of their groups */
    uint32_t copy_groups;     /* number of closed groups */
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
    /* lanes that have arrived at the cluster's barrier, and their source line */
    unsigned cluster_arrived;
    const char *cluster_file;
    int cluster_line;
};

struct Piece { /* one carve of dynamic shared memory, or one static array */
    const void *key;
    size_t index, offset, bytes;
    unsigned char *at;
};

/* An asynchronous store or bulk copy in flight. */
struct Flight {
    unsigned char *to;
    const unsigned char *from; /* NULL for a store */
    unsigned bytes;
    unsigned char word[16];          /* the data of a store */
    std::vector<unsigned char> then; /* the source at the start of a bulk copy */
    const Block *source;             /* the block whose shared memory is the source, or NULL */
    uint32_t issuer, time;           /* time of the race detector's counter */
    FenceSnap snap;                  /* the issuer's View */
    uintptr_t pc;
};

struct MbarrierRace {
    /* what the arrivals of the current phase released, and what those of earlier phases released */
    View *gather, *done;
    uint64_t last_base; /* id of the View that was joined last */
    uint32_t thread, time, agent;
    uintptr_t pc; /* of the call of mbarrier_init */
};

struct Mbarrier {
    unsigned char *at;
    /* arrivals per phase, arrivals still missing, and the thread that initialised it */
    unsigned count, pending, owner;
    long long bytes; /* announced bytes minus arrived bytes */
    uint32_t phase;
    bool fenced; /* whether bulk copies may use it */
    std::vector<Flight> flights;
    MbarrierRace race;
};

/* Blocks that run at the same time. */
struct Cluster {
    /* blocks, ended blocks, living threads, and threads that have not arrived at the barrier */
    unsigned size, finished, alive, pending;
    uint32_t phase; /* number of completed barriers */
    Block *block[16];
    View *race_view; /* the accesses that the last barrier orders */
};

struct Block {
    uint3 idx;
    unsigned number; /* linear index within the grid */
    uint32_t gid0;
    int slot;
    unsigned threads, alive, arrived;
    const char *file; /* source line of the barrier at which some threads wait */
    int line;
    unsigned first_waiting;
    int reduce_op, reduce_acc, reduce_result;
    const char *exit_note;
    std::vector<Thread> thread;
    std::vector<Warp> warp;
    std::vector<Piece> pieces;
    unsigned char *shared; /* this slot's window of the shared arena */
    Cluster *cluster; /* NULL before the first cluster operation of a launch without clusters */
    std::vector<Mbarrier> mbarriers;
    size_t static_used;
#ifdef EMU_RACE
    /* Time of the last barrier: all earlier accesses of the block are ordered for its threads. */
    uint32_t race_time = 0;
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
    /* blocks per cluster (0: none), and the number of blocks whose slots may be reused */
    unsigned cluster, released;
    unsigned grid_arrived;
    const char *grid_file;
    int grid_line;
    bool failed;
    cudaError_t error;
    std::vector<Block *> slot;
    std::vector<int> free_slots;
};

extern Grid *emu_grid;     /* the running launch, or NULL */
extern Thread *emu_thread; /* the running thread, or NULL on the host */

/* ---- sched.cpp ---- */

/* Runs a whole launch. Returns cudaSuccess or the error of a fault, whose text is in the report. */
cudaError_t sched_run(Grid *grid);

/* Ends the running launch with a report; never returns when called on a fiber. The text should end
 * without a newline. */
[[noreturn]] void emu_fault(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Reports a fault outside any launch. */
void emu_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Names a thread: "block (1,0,0) thread (5,0,0)". */
std::string emu_who(const Thread *t);
std::string emu_who_gid(uint32_t gid);

/* Returns the source line of a code address as "file:line (function)". */
std::string emu_where(uintptr_t pc);
std::string emu_function_name(const void *function);

/* Informs the scheduler that the running thread changed something; in a livelock no thread does. */
void sched_progress();
/* Yields after a poll that read nothing new, or an atomic that changed nothing. */
void sched_yield_idle(const char *file, int line);
/* In random schedules, may yield. */
void sched_preempt();
void sched_seed(unsigned long long seed);
void sched_watchdog(double seconds);
void sched_signals(); /* (re)installs the signal handlers */
/* Records a poll of p; returns true if the thread polls p again and reads the same value. */
bool sched_poll_note(const void *p, uint64_t value);
extern unsigned char *stack_pool; /* all fibers' stacks */
extern size_t stack_pool_size;
static inline bool sched_is_stack(const void *p)
{
    return (size_t)((const unsigned char *)p - stack_pool) < stack_pool_size;
}

/* Parks the running thread until sched_wake. */
void sched_wait(ThreadState state);
void sched_wake(Thread *t);
/* Returns a number below n in random schedules, and 0 in the plain order. */
unsigned sched_choice(unsigned n);
/* Ends the launch with a report if no thread can run. */
void sched_fail(cudaError_t error, const std::string &text);

/* cluster.cpp: a block's cluster (created at its first use if the launch has none), the effects of
 * a thread's end, the checks at a block's end, and the report's text for a polling thread. */
Cluster *cluster_new(Block *const *blocks, unsigned size);
void cluster_delete(Cluster *cluster);
Cluster *cluster_of(Block *block);
void cluster_thread_end(Thread *t);
void cluster_block_end(Block *block);
std::string mbarrier_describe(const void *p);

/* mma.cpp: runs an operation for which all lanes of a warp have arrived. */
void tensor_run(Warp *warp, int op);

/* ---- arena (memory.cpp) ---- */

/* One reservation: device memory, then host memory that kernels may access (pinned, managed), then
 * launch arguments, then one window of shared memory per block slot. */
extern unsigned char *arena_base;
enum : size_t {
    ARENA_DEVICE = (size_t)64 << 30,
    ARENA_HOST = (size_t)16 << 30,
    ARENA_BODY = (size_t)64 << 20,
    /* per block slot; a block uses at most 227 KB plus guards, and never the rest */
    SHARED_WINDOW = (size_t)1 << 20,
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
unsigned char *arena_alloc(size_t bytes, bool host); /* returns NULL if none is left */
bool arena_free(void *p, bool host);                 /* returns false if p is no allocation */
/* Returns the live allocation that contains p, or NULL. */
const Allocation *arena_find(const void *p);
/* Returns whether p is in the device part, allocated or not. */
bool arena_is_device(const void *p);
bool arena_is_host(const void *p);
void arena_unlock(); /* makes device memory accessible; calls may be nested */
void arena_lock();
bool arena_is_locked();
size_t arena_live_bytes();
size_t arena_live_host();
unsigned char *arena_shared_window(int slot);
int arena_shared_slot(const void *p); /* returns the block slot whose window contains p, or -1 */
/* Returns false, with a text, if a guard after an allocation was overwritten. */
bool arena_check_guards(std::string *text);
std::string arena_describe(const void *p);
void arena_each(void (*visit)(const Allocation &)); /* visits every live allocation */
void arena_set_protection(bool on);

/* ---- device.cpp ---- */

struct DeviceProfile {
    const char *key;
    cudaDeviceProp prop;
    int clock_khz, memory_clock_khz;
    int shared_unit;   /* granularity of shared memory */
    int register_unit; /* granularity of a warp's registers */
    int warp_unit;     /* granularity of the number of warps that get registers */
    int max_registers; /* per thread */
    int gpc_sms[8];    /* SMs of each GPC; a cluster is within one GPC */
};

struct KernelInfo {
    int registers = 0; /* 0: unknown */
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
/* Sets *cluster to the launch's cluster size (0 without that attribute). If it refuses the launch,
 * returns the error and sets *why to the reason. */
cudaError_t device_cluster(const cudaLaunchConfig_t *config, const void *kernel, unsigned *cluster,
                           std::string *why);
int device_clusters(const KernelInfo *kernel, unsigned threads, size_t dynamic_shared,
                    unsigned size);
void device_forget_kernels();

/* ---- runtime.cpp ---- */

enum OpKind { OP_KERNEL, OP_COPY, OP_SET, OP_HOST, OP_RECORD, OP_WAIT, OP_GRAPH };

/* Every API function that can fail calls this first: it counts the call, injects faults and returns
 * a sticky error. */
cudaError_t emu_enter(const char *call, enum emu_call kind);
/* Records an error for cudaGetLastError and returns it. */
cudaError_t emu_return(cudaError_t error);
struct HostRange {
    const void *at;
    size_t bytes;
    bool written;
};
/* Queues work on a stream, or adds a node to the graph that the stream is captured into. */
cudaError_t emu_enqueue(cudaStream_t stream, OpKind kind, struct EmuWork *work);

/* Queued work of a stream; as part of a graph it may run several times. */
struct EmuWork {
    std::vector<HostRange> host; /* host memory that it accesses when it runs */
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

/* ---- race.cpp (the race build only) ---- */

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
/* Starts an asynchronous copy of whole words from `from` (NULL for a store) and returns its time.
 * At its end the words belong to the waiting thread for cp.async (mbarrier NULL), and otherwise to
 * the threads that wait for the mbarrier. */
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
