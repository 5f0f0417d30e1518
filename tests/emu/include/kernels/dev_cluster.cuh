/* The emulator's counterpart of kernels/dev_cluster.cuh, which describes each function, and in
 * addition arrivals at other blocks' mbarriers. */
#ifndef EMU_DEV_CLUSTER_CUH
#define EMU_DEV_CLUSTER_CUH

#include <kernels/dev_memory.cuh>

#if DEV_ARCH >= 900

EMU_INLINE unsigned cluster_rank() { return emu_cluster_rank(); }
EMU_INLINE unsigned cluster_size() { return emu_cluster_size(); }
EMU_INLINE void cluster_arrive(EMU_AT) { emu_cluster_arrive(file, line); }
EMU_INLINE void cluster_wait(EMU_AT) { emu_cluster_wait(file, line); }
template <class T> EMU_INLINE T *cluster_map(T *p, unsigned rank)
{
    return (T *)emu_cluster_map((const void *)p, rank);
}

typedef uintptr_t SharedAt;
EMU_INLINE SharedAt shared_at(const void *p) { return (SharedAt)p; }
EMU_INLINE SharedAt shared_at(const void *p, unsigned rank)
{
    return (SharedAt)emu_cluster_map(p, rank);
}
template <class T> EMU_INLINE T cluster_load(const T *p, unsigned rank)
{
    return *(const T *)emu_cluster_map(p, rank);
}
EMU_INLINE void cluster_note(unsigned *p, unsigned v) { emu_store_relaxed(p, &v, sizeof v); }
EMU_INLINE unsigned cluster_look(const unsigned *p, unsigned rank, EMU_AT)
{
    unsigned v;
    emu_poll_load(emu_cluster_map(p, rank), &v, sizeof v, file, line);
    return v;
}

typedef unsigned long long Mbarrier;
EMU_INLINE void mbarrier_init(Mbarrier *b, unsigned arrivals) { emu_mbarrier_init(b, arrivals); }
EMU_INLINE void mbarrier_init_fence() { emu_fence_mbarrier_init(); }

/* Arrives once, at a block's own mbarrier or at another block's. The arrival releases the thread's
 * earlier accesses. */
EMU_INLINE void mbarrier_arrive(SharedAt b) { emu_mbarrier_arrive(b, 1, 0); }
EMU_INLINE void mbarrier_arrive(Mbarrier *b) { emu_mbarrier_arrive((SharedAt)b, 1, 0); }
EMU_INLINE void mbarrier_arrive_expect(Mbarrier *b, unsigned bytes)
{
    emu_mbarrier_arrive((SharedAt)b, 1, bytes);
}
EMU_INLINE bool mbarrier_try(Mbarrier *b, unsigned parity, EMU_AT)
{
    return emu_mbarrier_try(b, parity, file, line) != 0;
}

template <class T> EMU_INLINE void store_async(SharedAt to, T v, SharedAt mbarrier)
{
    static_assert(sizeof v == 4 || sizeof v == 16, "st.async stores 4 or 16 bytes");
    emu_store_async(to, &v, sizeof v, mbarrier);
}
EMU_INLINE void copy_bulk(void *shared, const void *global, unsigned bytes, Mbarrier *mbarrier)
{
    emu_copy_bulk((SharedAt)shared, global, bytes, (SharedAt)mbarrier, 0);
}
EMU_INLINE void copy_bulk_multicast(void *shared, const void *global, unsigned bytes,
                                    Mbarrier *mbarrier, unsigned ranks)
{
    emu_copy_bulk_multicast(shared, global, bytes, mbarrier, ranks);
}
EMU_INLINE void copy_bulk_to(SharedAt to, const void *shared, unsigned bytes, SharedAt mbarrier)
{
    emu_copy_bulk(to, shared, bytes, mbarrier, 1);
}
EMU_INLINE void fence_async_proxy() { emu_fence_proxy(); }

#endif
#endif
