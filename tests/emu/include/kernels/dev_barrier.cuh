/* The emulator's counterpart of kernels/dev_barrier.cuh, which describes each function. */
#ifndef EMU_DEV_BARRIER_CUH
#define EMU_DEV_BARRIER_CUH

#include <kernels/dev_memory.cuh>

template <class T> EMU_INLINE T load_poll(const T *p, EMU_AT)
{
    T v;
    emu_poll_load(p, &v, sizeof v, file, line);
    return v;
}

/* Stores a value that load_poll can read; the store orders nothing. */
template <class T> EMU_INLINE void store_poll(T *p, T v) { emu_store_relaxed(p, &v, sizeof v); }

EMU_INLINE unsigned poll_relaxed(const unsigned *p, EMU_AT)
{
    unsigned v;
    emu_poll_load(p, &v, sizeof v, file, line);
    return v;
}
EMU_INLINE uint2 load_relaxed(const uint2 *p)
{
    uint2 v;
    emu_load_relaxed(p, &v, sizeof v);
    return v;
}
EMU_INLINE void store_relaxed(unsigned *p, unsigned v) { emu_store_relaxed(p, &v, sizeof v); }

EMU_INLINE bool poll_expired(unsigned, unsigned) { return emu_poll_expired() != 0; }
EMU_INLINE void poll_pause() {}

EMU_INLINE unsigned load_acquire(const unsigned *p, EMU_AT)
{
    unsigned v;
    emu_load_acquire(p, &v, sizeof v, 1, file, line);
    return v;
}
EMU_INLINE unsigned load_watch(const unsigned *p, EMU_AT) { return load_acquire(p, file, line); }
EMU_INLINE void watch_acquire() {}
EMU_INLINE void store_release(unsigned *p, unsigned v) { emu_store_release(p, &v, sizeof v, 1); }

#endif
