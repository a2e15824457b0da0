// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_view.cuh
/// @brief A file's pages that a CUDA kernel reads by itself, without a request.
///
/// The host pins the pages in the page cache (`view::View` of the crate vyre-ioq-cuda), and kernels load them
/// over the bus:
///
///     __global__ void load(vyre::view file, float *out) {
///         using namespace vyre_ioq;
///         u64 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
///         file.warp_copy(FULL_WARP, warp * 4096, 4096, out + warp * 1024);
///         float first = file.element<float>(0);  // one load
///         file.warp_read(FULL_WARP, warp * 4096, 4096, [&](u64 offset, const Quad &quad) { ... });
///     }
///
/// Each load sees what others have written through the page cache. It has system scope, is relaxed, and orders
/// nothing. A store to a view faults, which ends the context.
///
/// Compiles as vyre_ioq.cuh does, and may be used without a queue.
///
/// With the macro VYRE_IOQ_CHECK_VIEWS, with nvcc -G, and on a CPU unless NDEBUG is defined, an access that is not
/// inside the view ends the kernel or the process.
#ifndef VYRE_VIEW_CUH
#define VYRE_VIEW_CUH

#ifndef VYRE_IOQ_DEVICE_CUH  // NVRTC gets the texts one after the other, and no include path
#include "vyre_ioq_device.cuh"
#endif

#if !defined(__CUDACC_RTC__)  // NVRTC knows memcpy, and has no headers
#include <string.h>
#endif

#if defined(VYRE_IOQ_CHECK_VIEWS) || defined(__CUDACC_DEBUG__) || (!defined(__CUDACC__) && !defined(NDEBUG))
#define VYRE_IOQ_CHECK_VIEW_(holds) ((holds) ? (void)0 : vyre_ioq::detail::outside_view())
#else
#define VYRE_IOQ_CHECK_VIEW_(holds) ((void)0)
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VYRE_IOQ_UNROLL_ _Pragma("unroll")
#else
#define VYRE_IOQ_UNROLL_
#endif

namespace vyre_ioq {

/// 16 bytes, aligned.
struct alignas(16) Quad {
    u32 x, y, z, w;
};

namespace detail {

// Ends the kernel, or on a CPU the process.
VYRE_IOQ_HOST_DEVICE inline void outside_view() {
#if defined(__CUDA_ARCH__)
    printf("vyre_view.cuh: block %u, thread %u: an access that is not inside the view\n", blockIdx.x, threadIdx.x);
    __trap();
#else
    fputs("vyre_view.cuh: an access that is not inside the view\n", stderr);
    abort();
#endif
}

// Relaxed loads at system scope, of each size that one instruction loads.
#if defined(__CUDA_ARCH__)
#define VYRE_IOQ_LOAD_(type, raw, constraint, instruction)                                 \
    VYRE_IOQ_DEVICE __forceinline__ type load_page(const type *at) {                       \
        raw value;                                                                         \
        asm volatile("ld.relaxed.sys.global." instruction " %0, [%1];"                     \
                     : "=" constraint(value) : "l"(__cvta_generic_to_global(at)) : "memory"); \
        return static_cast<type>(value);                                                   \
    }
VYRE_IOQ_LOAD_(unsigned char, u32, "r", "u8")
VYRE_IOQ_LOAD_(unsigned short, unsigned short, "h", "u16")
VYRE_IOQ_LOAD_(u32, u32, "r", "u32")
VYRE_IOQ_LOAD_(u64, u64, "l", "u64")
#undef VYRE_IOQ_LOAD_
VYRE_IOQ_DEVICE __forceinline__ Quad load_page(const Quad *at) {
    Quad quad;
    asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(quad.x), "=r"(quad.y), "=r"(quad.z), "=r"(quad.w)
                 : "l"(__cvta_generic_to_global(at)) : "memory");
    return quad;
}
#else
template <typename T>
VYRE_IOQ_HOST_DEVICE inline T load_page(const T *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline Quad load_page(const Quad *at) {
    return Quad{load_page(&at->x), load_page(&at->y), load_page(&at->z), load_page(&at->w)};
}
#endif

// The type of a load of this many bytes.
template <unsigned BYTES> struct Loaded;
template <> struct Loaded<1> { using Type = unsigned char; };
template <> struct Loaded<2> { using Type = unsigned short; };
template <> struct Loaded<4> { using Type = u32; };
template <> struct Loaded<8> { using Type = u64; };
template <> struct Loaded<16> { using Type = Quad; };

// A lane among those of a mask.
struct Rank {
    u32 own, count;

    VYRE_IOQ_DEVICE explicit Rank(u32 mask)
        : own(simt::popcount(mask & ((1u << simt::lane_id()) - 1))), count(simt::popcount(mask)) {}
};

// Returns the lowest 4 bits of an address.
template <typename T>
VYRE_IOQ_DEVICE inline u32 low_bits(const T *at) {
    return static_cast<u32>(reinterpret_cast<u64>(at)) & 15;
}
}  // namespace detail

/// The loads that a lane has in flight in the functions for warps: a warp reads 4 KiB at once.
enum : u32 { VIEW_LOADS = 8 };

/// A range of a file that is pinned for kernels. Kernels take it by value.
///
/// Offsets are in bytes and count from the start of the view.
struct View {
    const unsigned char *base;  ///< First byte, as the device sees it: the start of a page.
    u64 bytes;                  ///< Bytes up to the end of the view, which may lie inside the last page.

    /// Returns whether these bytes are inside the view.
    VYRE_IOQ_HOST_DEVICE bool contains(u64 offset, u64 count) const {
        return offset <= bytes && count <= bytes - offset;
    }

    /// Returns the number of whole elements of a type.
    template <typename T>
    VYRE_IOQ_HOST_DEVICE u64 elements() const { return bytes / sizeof(T); }

    /// Loads the element with this number: one load. The type has 1, 2, 4, 8 or 16 bytes, and can be copied
    /// as bytes.
    ///
    /// @pre `index` is less than elements<T>().
    template <typename T>
    VYRE_IOQ_DEVICE T element(u64 index) const {
        VYRE_IOQ_CHECK_VIEW_(index < elements<T>());
        return load<T>(index * sizeof(T));
    }

    /// Loads a value at an offset, which is a multiple of its size: one load.
    ///
    /// @pre The value is inside the view.
    template <typename T>
    VYRE_IOQ_DEVICE T load(u64 offset) const {
        using Type = typename detail::Loaded<sizeof(T)>::Type;
        VYRE_IOQ_CHECK_VIEW_(contains(offset, sizeof(T)) && offset % sizeof(T) == 0);
        Type raw = detail::load_page(static_cast<const Type *>(static_cast<const void *>(base + offset)));
        T value;
        memcpy(&value, &raw, sizeof(T));
        return value;
    }

    /// Loads the 16 bytes at an offset, which is a multiple of 16: one load. Bytes past the end of the file are
    /// zero.
    ///
    /// @pre `offset` is less than `bytes`.
    VYRE_IOQ_DEVICE Quad quad(u64 offset) const {
        VYRE_IOQ_CHECK_VIEW_(offset < bytes && offset % 16 == 0);
        return quad_at(base + offset);
    }

    // ---- By the lanes of a warp together ----

    /// Loads a block, and calls `use(offset, quad)` for each 16 bytes, on one of the lanes. A lane has eight
    /// loads in flight. Bytes of the last quad past the block are zero.
    ///
    /// `offset` is a multiple of 16. The lanes of `mask` call this together, and order nothing.
    ///
    /// @pre The block is inside the view.
    template <typename Use>
    VYRE_IOQ_DEVICE void warp_read(u32 mask, u64 offset, u64 count, const Use &use) const {
        VYRE_IOQ_CHECK_VIEW_(contains(offset, count) && offset % 16 == 0);
        detail::Rank rank(mask);
        const unsigned char *from = base + offset;
        u64 whole = count / 16, quads = (count + 15) / 16;
        for (u64 first = rank.own; first < quads; first += (u64)VIEW_LOADS * rank.count) {
            Quad found[VIEW_LOADS];
            VYRE_IOQ_UNROLL_
            for (u32 i = 0; i < VIEW_LOADS; ++i) {
                u64 number = first + (u64)i * rank.count;
                // Past the end of a file, the rest of its last page can be loaded.
                if (number < quads) found[i] = quad_at(from + number * 16);
            }
            VYRE_IOQ_UNROLL_
            for (u32 i = 0; i < VIEW_LOADS; ++i) {
                u64 number = first + (u64)i * rank.count;
                if (number >= quads) continue;
                if (number == whole) keep(&found[i], static_cast<u32>(count % 16));
                use(offset + number * 16, found[i]);
            }
        }
    }

    /// Copies a block to memory of the GPU, or to shared memory. A lane has eight loads in flight.
    ///
    /// It is fastest where `offset` and `to` are multiples of 16, and loads bytes where neither has a common
    /// alignment. The lanes of `mask` call this together. When it returns, each of them sees the block.
    ///
    /// @pre The block is inside the view, and `to` has room for it.
    VYRE_IOQ_DEVICE void warp_copy(u32 mask, u64 offset, u64 count, void *to) const {
        VYRE_IOQ_CHECK_VIEW_(contains(offset, count));
        unsigned char *bytes_to = static_cast<unsigned char *>(to);
        u32 bits = (static_cast<u32>(offset) & 15) | detail::low_bits(bytes_to);
        if (bits == 0) {
            copy_units<Quad>(mask, offset, count, bytes_to);
        } else if (bits % 8 == 0) {
            copy_units<u64>(mask, offset, count, bytes_to);
        } else if (bits % 4 == 0) {
            copy_units<u32>(mask, offset, count, bytes_to);
        } else {
            copy_units<unsigned char>(mask, offset, count, bytes_to);
        }
        simt::sync(mask);
    }

  private:
    static VYRE_IOQ_DEVICE Quad quad_at(const unsigned char *at) {
        return detail::load_page(static_cast<const Quad *>(static_cast<const void *>(at)));
    }

    // Zeroes all but the first `count` bytes, of which there are fewer than 16.
    static VYRE_IOQ_DEVICE void keep(Quad *quad, u32 count) {
        u32 words[4] = {quad->x, quad->y, quad->z, quad->w};
        for (u32 i = 0; i < 4; ++i) {
            u32 of_word = count > 4 * i ? count - 4 * i : 0;
            if (of_word < 4) words[i] &= (1u << 8 * of_word) - 1;
        }
        *quad = Quad{words[0], words[1], words[2], words[3]};
    }

    template <typename Unit>
    VYRE_IOQ_DEVICE void copy_units(u32 mask, u64 offset, u64 count, unsigned char *to) const {
        detail::Rank rank(mask);
        const Unit *from = static_cast<const Unit *>(static_cast<const void *>(base + offset));
        Unit *unit_to = static_cast<Unit *>(static_cast<void *>(to));
        u64 units = count / sizeof(Unit);
        for (u64 first = rank.own; first < units; first += (u64)VIEW_LOADS * rank.count) {
            Unit found[VIEW_LOADS];
            VYRE_IOQ_UNROLL_
            for (u32 i = 0; i < VIEW_LOADS; ++i) {
                u64 number = first + (u64)i * rank.count;
                if (number < units) found[i] = detail::load_page(from + number);
            }
            VYRE_IOQ_UNROLL_
            for (u32 i = 0; i < VIEW_LOADS; ++i) {
                u64 number = first + (u64)i * rank.count;
                if (number < units) unit_to[number] = found[i];
            }
        }
        for (u64 rest = units * sizeof(Unit) + rank.own; rest < count; rest += rank.count) {
            to[rest] = detail::load_page(base + offset + rest);
        }
    }
};
}  // namespace vyre_ioq

namespace vyre {

/// The view, by the name of the project.
using view = vyre_ioq::View;
}  // namespace vyre

// vyre_windows.cuh uses VYRE_IOQ_CHECK_VIEW_, too.
#undef VYRE_IOQ_UNROLL_
#endif  // VYRE_VIEW_CUH
