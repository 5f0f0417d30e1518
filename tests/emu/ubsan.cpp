/* The alignment check of -fsanitize=alignment for kernels of the race build, which do not link
 * libubsan: a vector load at an address that is not a multiple of its size is a fault on a device
 * and goes unnoticed on x86. */
#include <stdint.h>

#include "core.h"

#if !FIBER_ASAN

struct UbLocation {
    const char *file;
    uint32_t line, column;
};
struct UbType {
    uint16_t kind, info;
    char name[1];
};
struct UbMismatch {
    UbLocation at;
    const UbType *type;
    unsigned char log_align, kind;
};

extern "C" __attribute__((weak)) void __ubsan_handle_type_mismatch_v1(UbMismatch *d,
                                                                      uintptr_t pointer)
{
    if (!emu_thread) return;
    emu_fault(cudaErrorMisalignedAddress,
              "misaligned access: %s touches %s as %s, which needs %u byte alignment, at %s:%u",
              emu_who(emu_thread).c_str(), arena_describe((const void *)pointer).c_str(),
              d->type->name, 1u << d->log_align, d->at.file, d->at.line);
}
extern "C" __attribute__((weak)) void __ubsan_handle_type_mismatch_v1_abort(UbMismatch *d,
                                                                            uintptr_t pointer)
{
    __ubsan_handle_type_mismatch_v1(d, pointer);
}

#endif
