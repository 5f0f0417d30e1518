/* CUDA's built-in vector types in C11 and C++17, as a part of the emulated toolkit (tests/emu). */
#ifndef EMU_VECTOR_TYPES_H
#define EMU_VECTOR_TYPES_H

#ifdef __cplusplus
#define EMU_ALIGN(n) alignas(n)
#else
#define EMU_ALIGN(n) _Alignas(n)
#endif

/* The alignment is on the first member, which is legal in both languages and gives the struct
 * CUDA's alignment. */
#define EMU_VECTOR(base, name, align2, align4)                                                     \
    typedef struct name##1 { base x; }                                                             \
    name##1;                                                                                       \
    typedef struct name##2                                                                         \
    {                                                                                              \
        EMU_ALIGN(align2) base x;                                                                  \
        base y;                                                                                    \
    }                                                                                              \
    name##2;                                                                                       \
    typedef struct name##3 { base x, y, z; }                                                       \
    name##3;                                                                                       \
    typedef struct name##4                                                                         \
    {                                                                                              \
        EMU_ALIGN(align4) base x;                                                                  \
        base y, z, w;                                                                              \
    }                                                                                              \
    name##4;

EMU_VECTOR(signed char, char, 2, 4)
EMU_VECTOR(unsigned char, uchar, 2, 4)
EMU_VECTOR(short, short, 4, 8)
EMU_VECTOR(unsigned short, ushort, 4, 8)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(unsigned int, uint, 8, 16)
EMU_VECTOR(long, long, 16, 16)
EMU_VECTOR(unsigned long, ulong, 16, 16)
EMU_VECTOR(long long, longlong, 16, 16)
EMU_VECTOR(unsigned long long, ulonglong, 16, 16)
EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(double, double, 16, 16)

typedef struct dim3 {
    unsigned int x, y, z;
#ifdef __cplusplus
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1)
        : x(x_), y(y_), z(z_)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
#endif
} dim3;

#ifdef __cplusplus
#define EMU_MAKE(base, name)                                                                       \
    static inline name##1 make_##name##1(base x)                                                   \
    {                                                                                              \
        name##1 v;                                                                                 \
        v.x = x;                                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static inline name##2 make_##name##2(base x, base y)                                           \
    {                                                                                              \
        name##2 v;                                                                                 \
        v.x = x, v.y = y;                                                                          \
        return v;                                                                                  \
    }                                                                                              \
    static inline name##3 make_##name##3(base x, base y, base z)                                   \
    {                                                                                              \
        name##3 v;                                                                                 \
        v.x = x, v.y = y, v.z = z;                                                                 \
        return v;                                                                                  \
    }                                                                                              \
    static inline name##4 make_##name##4(base x, base y, base z, base w)                           \
    {                                                                                              \
        name##4 v;                                                                                 \
        v.x = x, v.y = y, v.z = z, v.w = w;                                                        \
        return v;                                                                                  \
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
EMU_MAKE(signed char, char)
EMU_MAKE(unsigned char, uchar)
EMU_MAKE(short, short)
EMU_MAKE(unsigned short, ushort)
EMU_MAKE(int, int)
EMU_MAKE(unsigned int, uint)
EMU_MAKE(long, long)
EMU_MAKE(unsigned long, ulong)
EMU_MAKE(long long, longlong)
EMU_MAKE(unsigned long long, ulonglong)
EMU_MAKE(float, float)
EMU_MAKE(double, double)
#pragma GCC diagnostic pop
#undef EMU_MAKE
#endif

#undef EMU_VECTOR
#endif
