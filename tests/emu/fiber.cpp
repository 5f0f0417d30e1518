#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>

#if FIBER_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !FIBER_UCONTEXT
extern "C" void emu_fiber_swap(void **save_sp, void *load_sp);

/* Saves only callee-saved registers, since a switch is an ordinary function call for the
 * compiler. */
asm(R"(
.text
.p2align 4
.globl emu_fiber_swap
.hidden emu_fiber_swap
.type emu_fiber_swap,@function
emu_fiber_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_fiber_swap,.-emu_fiber_swap
)");
#endif

void fiber_init(Fiber *fiber, void (*entry)(), void *stack, size_t size, size_t stagger)
{
#if FIBER_ASAN
    /* An abandoned fiber leaves its redzones on the stack, which would look like overflows of the
     * next one. */
    __asan_unpoison_memory_region(stack, size);
    fiber->fake_stack = nullptr;
    fiber->stack_bottom = stack;
    fiber->stack_size = size;
#endif
#if FIBER_UCONTEXT
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stack;
    fiber->context.uc_stack.ss_size = size - stagger;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
#else
    uintptr_t top = ((uintptr_t)stack + size - stagger) & ~(uintptr_t)15;
    void **sp = (void **)top;
    *--sp = nullptr;       /* entry()'s return address: the end of a backtrace */
    *--sp = (void *)entry; /* popped by `ret`; the stack is then aligned as after a call */
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    fiber->sp = sp;
#endif
}

void fiber_init_host(Fiber *fiber)
{
#if FIBER_ASAN
    pthread_attr_t attr;
    void *bottom = nullptr;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &bottom, &size);
        pthread_attr_destroy(&attr);
    }
    fiber->fake_stack = nullptr;
    fiber->stack_bottom = bottom;
    fiber->stack_size = size;
#else
    (void)fiber;
#endif
}

void fiber_switch(Fiber *from, Fiber *to)
{
#if FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack_bottom, to->stack_size);
#endif
#if FIBER_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    emu_fiber_swap(&from->sp, to->sp);
#endif
#if FIBER_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void fiber_exit_to(Fiber *from, Fiber *to)
{
#if FIBER_ASAN
    /* NULL tells ASan to drop the fake stack of a fiber that ends. */
    __sanitizer_start_switch_fiber(nullptr, to->stack_bottom, to->stack_size);
#endif
#if FIBER_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    emu_fiber_swap(&from->sp, to->sp);
#endif
    abort();
}

void fiber_entered()
{
#if FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}
