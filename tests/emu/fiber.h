/* Fibers, each of which runs one CUDA thread. The switch is our own code on x86-64 and ucontext
 * elsewhere.
 *
 * A Fiber owns no memory; the caller provides the stack. Switching is symmetric: the thread that
 * starts a fiber keeps its own context in a Fiber too (fiber_init_host). A fiber never returns; its
 * entry function ends with fiber_exit_to.
 */
#ifndef EMU_FIBER_H
#define EMU_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#define FIBER_UCONTEXT 1
#include <ucontext.h>
#else
#define FIBER_UCONTEXT 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifndef FIBER_ASAN
#define FIBER_ASAN 0
#endif

struct Fiber {
#if FIBER_UCONTEXT
    ucontext_t context;
#else
    void *sp;
#endif
#if FIBER_ASAN
    void *fake_stack;
    const void *stack_bottom;
    size_t stack_size;
#endif
};

/* Prepares `fiber` to run entry() on the given stack; `stagger` bytes are left free at the top, so
 * that the tops of many stacks do not all fall on the same cache sets. Whatever the stack held
 * before is forgotten. */
void fiber_init(Fiber *fiber, void (*entry)(), void *stack, size_t size, size_t stagger);

/* Makes the calling thread's own stack a fiber to which others can switch back. */
void fiber_init_host(Fiber *fiber);

/* Saves the running context in `from` and continues `to`. Returns when another fiber switches to
 * `from`. */
void fiber_switch(Fiber *from, Fiber *to);

/* Continues `to`; the running fiber (`from`) is never resumed. */
[[noreturn]] void fiber_exit_to(Fiber *from, Fiber *to);

/* Must be the first call of a fiber's entry function; it informs ASan that the switch is
 * complete. */
void fiber_entered();

#endif
