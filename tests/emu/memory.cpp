/* The arena: device memory, host memory that kernels may access, launch arguments and shared memory
 * windows in one reservation, so that the race detector can classify an address with one
 * subtraction.
 *
 * New device memory is 0xFF in every byte (NaN as a float, a huge index as an integer), and so is
 * freed memory. Each allocation is followed by a guard. Outside runtime calls the device part is
 * inaccessible, so a host program that forgets a copy stops at the faulty instruction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

#include "core.h"

#if FIBER_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n)   ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

unsigned char *arena_base;

enum : size_t { ALIGN = 512, GUARD = 512, PAGE = 4096 };
enum : unsigned char { FREE_BYTE = 0xFF, GUARD_BYTE = 0xA5 };

struct Heap {
    /* offsets in the arena and bytes; top is the first byte that was never allocated */
    size_t start, size, top;
    std::map<size_t, Allocation> live;
    std::map<size_t, size_t> holes; /* offset -> bytes, coalesced */
    size_t bytes;
};

static Heap device_heap, host_heap;
static unsigned allocations;
static int unlocked;
static bool protect = true;
static size_t body_top;

void arena_init()
{
    if (arena_base) return;
    arena_base = (unsigned char *)mmap(nullptr, ARENA_SPAN, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena_base == MAP_FAILED) {
        fprintf(stderr, "emu: cannot reserve %zu GB of address space (is `ulimit -v` set?)\n",
                (size_t)ARENA_SPAN >> 30);
        abort();
    }
    madvise(arena_base, ARENA_SPAN, MADV_NOHUGEPAGE);
    mprotect(arena_base + ARENA_DEVICE, ARENA_SPAN - ARENA_DEVICE, PROT_READ | PROT_WRITE);
    device_heap.start = device_heap.top = 0;
    device_heap.size = ARENA_DEVICE;
    host_heap.start = host_heap.top = ARENA_DEVICE;
    host_heap.size = ARENA_HOST;
    RACE(race_init());
}

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
static size_t footprint(size_t bytes) { return round_up(bytes, ALIGN) + GUARD; }

static void device_access(size_t from, size_t to, int rights)
{
    from = from / PAGE * PAGE;
    to = round_up(to, PAGE);
    if (to > from && mprotect(arena_base + from, to - from, rights) != 0) {
        perror("emu: mprotect");
        abort();
    }
}

bool arena_is_locked() { return unlocked == 0 && protect; }

void arena_set_protection(bool on)
{
    if (protect == on) return;
    if (!on && unlocked == 0) device_access(0, device_heap.top, PROT_READ | PROT_WRITE);
    if (on && unlocked == 0) device_access(0, device_heap.top, PROT_NONE);
    protect = on;
}

void arena_unlock()
{
    if (unlocked++ == 0 && protect) device_access(0, device_heap.top, PROT_READ | PROT_WRITE);
}

void arena_lock()
{
    if (--unlocked == 0 && protect) device_access(0, device_heap.top, PROT_NONE);
}

unsigned char *arena_alloc(size_t bytes, bool host)
{
    Heap &h = host ? host_heap : device_heap;
    size_t need = footprint(bytes), at = 0;
    bool found = false;
    for (auto i = h.holes.begin(); i != h.holes.end(); ++i)
        if (i->second >= need) {
            at = i->first;
            size_t rest = i->second - need;
            h.holes.erase(i);
            if (rest) h.holes[at + need] = rest;
            found = true;
            break;
        }
    if (!found) {
        if (need > h.start + h.size - h.top) return nullptr;
        at = h.top;
        h.top += need;
        if (!host) {
            /* Pages that were never allocated stay inaccessible even while the arena is
             * unlocked. */
            bool open = unlocked > 0 || !protect;
            device_access(at, h.top, open ? PROT_READ | PROT_WRITE : PROT_NONE);
        }
    }
    unsigned char *p = arena_base + at;
    arena_unlock();
    UNPOISON(p, need);
    memset(p, FREE_BYTE, bytes);
    memset(p + bytes, GUARD_BYTE, need - bytes);
    POISON(p + bytes, need - bytes);
    arena_lock();
    h.live[at] = Allocation{p, bytes, ++allocations, host};
    h.bytes += bytes;
    RACE(race_allocated(p, bytes));
    return p;
}

static bool guard_intact(const Allocation &a, size_t *first)
{
#if FIBER_ASAN
    (void)a, (void)first;
    return true;
#else
    size_t n = footprint(a.bytes) - a.bytes;
    for (size_t i = 0; i < n; i++)
        if (a.at[a.bytes + i] != GUARD_BYTE) {
            *first = i;
            return false;
        }
    return true;
#endif
}

bool arena_free(void *p, bool host)
{
    Heap &h = host ? host_heap : device_heap;
    if (!arena_base || (unsigned char *)p < arena_base) return false;
    size_t at = (size_t)((unsigned char *)p - arena_base);
    auto i = h.live.find(at);
    if (i == h.live.end()) return false;
    size_t bytes = i->second.bytes, need = footprint(bytes);
    arena_unlock();
    UNPOISON(p, need);
    /* A large range is returned to the system; it reads as zero until it is allocated and poisoned
     * again. */
    if (need >= 64 * PAGE) {
        size_t from = round_up(at, PAGE), to = (at + need) / PAGE * PAGE;
        madvise(arena_base + from, to - from, MADV_DONTNEED);
    } else {
        memset(p, FREE_BYTE, need);
    }
    POISON(p, need);
    arena_lock();
    RACE(race_freed(p, bytes));
    h.bytes -= bytes;
    h.live.erase(i);
    auto next = h.holes.lower_bound(at);
    if (next != h.holes.begin()) {
        auto before = std::prev(next);
        if (before->first + before->second == at) {
            at = before->first;
            need += before->second;
            h.holes.erase(before);
        }
    }
    if (next != h.holes.end() && at + need == next->first) {
        need += next->second;
        h.holes.erase(next);
    }
    h.holes[at] = need;
    return true;
}

void arena_reset()
{
    arena_init();
    for (bool host : {false, true}) {
        Heap &h = host ? host_heap : device_heap;
        while (!h.live.empty()) arena_free(h.live.begin()->second.at, host);
    }
}

const Allocation *arena_find(const void *p)
{
    if (!arena_is_device(p) && !arena_is_host(p)) return nullptr;
    Heap &h = arena_is_host(p) ? host_heap : device_heap;
    size_t at = (size_t)((const unsigned char *)p - arena_base);
    auto i = h.live.upper_bound(at);
    if (i == h.live.begin()) return nullptr;
    --i;
    return at < i->first + i->second.bytes || at == i->first ? &i->second : nullptr;
}

bool arena_is_device(const void *p)
{
    return arena_base && (size_t)((const unsigned char *)p - arena_base) < ARENA_DEVICE;
}

bool arena_is_host(const void *p)
{
    return arena_base &&
           (size_t)((const unsigned char *)p - arena_base) - ARENA_DEVICE < ARENA_HOST;
}

size_t arena_live_bytes() { return device_heap.bytes; }
size_t arena_live_host() { return host_heap.live.size(); }

unsigned char *arena_shared_window(int slot)
{
    if ((size_t)slot * SHARED_WINDOW >= ARENA_SHARED) {
        fprintf(stderr, "emu: too many resident blocks\n");
        abort();
    }
    return arena_base + ARENA_DEVICE + ARENA_HOST + ARENA_BODY + (size_t)slot * SHARED_WINDOW;
}

int arena_shared_slot(const void *p)
{
    size_t at =
        (size_t)((const unsigned char *)p - arena_base) - (ARENA_DEVICE + ARENA_HOST + ARENA_BODY);
    return arena_base && at < ARENA_SHARED ? (int)(at / SHARED_WINDOW) : -1;
}

static bool check_guards(std::string *text)
{
    for (const Heap *h : {&device_heap, &host_heap})
        for (const auto &entry : h->live) {
            const Allocation &a = entry.second;
            size_t first;
            if (!guard_intact(a, &first)) {
                char line[256];
                snprintf(line, sizeof line,
                         "%s memory written %zu byte(s) past the end of allocation number %u (%zu "
                         "bytes)",
                         a.host ? "pinned host" : "device", first + 1, a.number, a.bytes);
                memset(a.at + a.bytes, GUARD_BYTE, footprint(a.bytes) - a.bytes);
                *text = line;
                return false;
            }
        }
    return true;
}

bool arena_check_guards(std::string *text)
{
    arena_unlock();
    bool intact = check_guards(text);
    arena_lock();
    return intact;
}

void arena_each(void (*visit)(const Allocation &))
{
    for (const Heap *h : {&device_heap, &host_heap})
        for (const auto &entry : h->live) visit(entry.second);
}

std::string arena_describe(const void *p)
{
    char s[256];
    size_t at = (size_t)((const unsigned char *)p - arena_base);
    if (!arena_base || at >= ARENA_SPAN) {
        snprintf(s, sizeof s, "address %p, which is no device memory", p);
        return s;
    }
    if (at < ARENA_DEVICE + ARENA_HOST) {
        const Allocation *a = arena_find(p);
        if (a)
            snprintf(s, sizeof s, "byte %zu of the %zu bytes of %s allocation number %u",
                     (size_t)((const unsigned char *)p - a->at), a->bytes,
                     a->host ? "pinned host" : "device", a->number);
        else snprintf(s, sizeof s, "device address %p, which is in no live allocation", p);
        return s;
    }
    size_t window = at - ARENA_DEVICE - ARENA_HOST - ARENA_BODY;
    if (at >= ARENA_DEVICE + ARENA_HOST + ARENA_BODY && emu_grid &&
        window / SHARED_WINDOW < emu_grid->slot.size()) {
        const Block *b = emu_grid->slot[window / SHARED_WINDOW];
        const Piece *best = nullptr;
        const unsigned char *q = (const unsigned char *)p;
        for (const auto &piece : b->pieces)
            if (q >= piece.at && q < piece.at + piece.bytes) best = &piece;
        if (best)
            snprintf(s, sizeof s,
                     "byte %zu of a %zu byte piece of the shared memory of block (%u,%u,%u)",
                     (size_t)(q - best->at), best->bytes, b->idx.x, b->idx.y, b->idx.z);
        else
            snprintf(s, sizeof s, "the shared memory of block (%u,%u,%u), outside its pieces",
                     b->idx.x, b->idx.y, b->idx.z);
        return s;
    }
    snprintf(s, sizeof s, "address %p", p);
    return s;
}

/* Freed launch arguments, by size: they are reused for launches with arguments of the same size.
 * The word before each block holds its size. */
static std::map<size_t, std::vector<unsigned char *>> spare_bodies;

void *EmuBody::operator new(size_t size)
{
    arena_init();
    size = round_up(size + 16, 16);
    auto &spare = spare_bodies[size];
    unsigned char *p;
    if (!spare.empty()) {
        p = spare.back();
        spare.pop_back();
    } else {
        if (body_top + size > ARENA_BODY) {
            fprintf(stderr,
                    "emu: more than %zu MB of queued launch arguments; is there never a "
                    "synchronisation?\n",
                    (size_t)ARENA_BODY >> 20);
            abort();
        }
        p = arena_base + ARENA_DEVICE + ARENA_HOST + body_top;
        body_top += size;
    }
    *(size_t *)(void *)p = size;
    return p + 16;
}

void EmuBody::operator delete(void *p)
{
    if (p) {
        unsigned char *start = (unsigned char *)p - 16;
        spare_bodies[*(size_t *)(void *)start].push_back(start);
    }
}
