// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_windows.cuh
/// @brief Windows of a file that a running CUDA kernel asks for, and then loads by itself.
///
/// The host maps nothing beforehand (`windows::Windows` of the crate vyre-ioq-cuda). A kernel looks a window up in a
/// table in memory of the GPU, asks for it by MAP if it is not mapped, and loads its bytes from then on:
///
///     __global__ void sum(vyre::windows file, vyre_ioq::Queue queue, unsigned handle, unsigned pool, ...) {
///         using namespace vyre_ioq;
///         u64 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32, at = warp * 65536;
///         if (file.warp_map(FULL_WARP, queue, handle, at, 65536, warp, WaitLimits()).ok()) {
///             file.warp_read(FULL_WARP, at, 65536, [&](u64 offset, const Quad &quad) { ... });
///         } else {
///             queue.warp_read(FULL_WARP, handle, at, 65536, pool, ...);  // the limit of pinned bytes, for example
///         }
///     }
///
/// A window stays mapped until the host closes the windows, which waits for the kernel. Loads are those of
/// vyre_view.cuh.
///
/// Compiles as vyre_ioq.cuh does.
#ifndef VYRE_WINDOWS_CUH
#define VYRE_WINDOWS_CUH

#ifndef VYRE_IOQ_CUH  // NVRTC gets the texts one after the other, and no include path
#include "vyre_ioq.cuh"
#endif
#ifndef VYRE_VIEW_CUH
#include "vyre_view.cuh"
#endif

namespace vyre_ioq {

enum : u64 {
    /// Nanoseconds for which a window that the host has refused is not asked for again.
    WINDOW_RETRY_NS = 100000000,
};

namespace detail {

// Loads a word that may come from the multiprocessor's own cache, which can hold an old value for long. It saves the
// way to the cache that all of them share, a tenth of the time that a load over the bus takes.
#if defined(__CUDA_ARCH__)
VYRE_IOQ_DEVICE __forceinline__ u32 load_near(const u32 *at) {
    u32 value;
    asm volatile("ld.relaxed.cta.global.u32 %0, [%1];" : "=r"(value) : "l"(__cvta_generic_to_global(at)) : "memory");
    return value;
}
#else
VYRE_IOQ_HOST_DEVICE inline u32 load_near(const u32 *at) { return mem::load_device(at); }
#endif
}  // namespace detail

/// The result of asking for windows.
struct MapResult {
    /// COMPLETED if the windows are mapped or the host has refused one. Otherwise how the wait ended.
    WaitStatus status;
    /// The errno with which the host has refused a window: ERRNO_ENOBUFS at the limit of pinned bytes,
    /// ERRNO_EOPNOTSUPP and ERRNO_EINVAL where it has none. Otherwise 0.
    u32 error;

    /// Returns whether all of the windows are mapped.
    VYRE_IOQ_HOST_DEVICE bool ok() const { return status == WaitStatus::COMPLETED && error == 0; }
};

/// The windows of a file. Kernels take them by value.
///
/// Offsets are in bytes and count from the start of the file. So the handle in requests must be one of the whole
/// file.
struct Windows {
    View file;          ///< The addresses of all bytes of the file. Only those of mapped windows may be loaded.
    const u32 *mapped;  ///< The host's table: a word for each window, 1 once it is mapped.
    u32 *states;        ///< The kernels' own table, in memory of the GPU: see the states below.
    u32 shift;          ///< The logarithm of the bytes of a window.
    u32 spare;

    /// Returns the number of windows.
    VYRE_IOQ_HOST_DEVICE u32 count() const {
        return static_cast<u32>((file.bytes + ((u64)1 << shift) - 1) >> shift);
    }

    /// Returns the number of bytes of a window.
    VYRE_IOQ_HOST_DEVICE u64 window_bytes() const { return (u64)1 << shift; }

    /// Returns whether the device may load these bytes: a look-up in memory of the GPU, of one word for each
    /// window. It may return false for a moment after a window was mapped.
    ///
    /// @pre The bytes are in the file.
    VYRE_IOQ_DEVICE bool has(u64 offset, u64 count) const {
        VYRE_IOQ_CHECK_VIEW_(file.contains(offset, count));
        if (count == 0) return true;
        u32 window = window_of(offset), last = window_of(offset + count - 1);
        while (is_mapped(window)) {
            if (window++ == last) return true;
        }
        return false;
    }

    // ---- Loads of mapped windows, as those of View. A load from another one faults, which ends the context, and
    //      ends the kernel where views are checked. ----

    /// Loads the element with this number, as View::element() does.
    ///
    /// @pre Its window is mapped.
    template <typename T>
    VYRE_IOQ_DEVICE T element(u64 index) const {
        VYRE_IOQ_CHECK_VIEW_(index < file.elements<T>());
        return load<T>(index * sizeof(T));
    }

    /// Loads a value at an offset, as View::load() does.
    ///
    /// @pre Its window is mapped.
    template <typename T>
    VYRE_IOQ_DEVICE T load(u64 offset) const {
        VYRE_IOQ_CHECK_VIEW_(has(offset, sizeof(T)));
        return file.load<T>(offset);
    }

    /// Loads a block, as View::warp_read() does.
    ///
    /// @pre Its windows are mapped.
    template <typename Use>
    VYRE_IOQ_DEVICE void warp_read(u32 mask, u64 offset, u64 count, const Use &use) const {
        VYRE_IOQ_CHECK_VIEW_(has(offset, count));
        file.warp_read(mask, offset, count, use);
    }

    /// Copies a block to memory of the GPU, as View::warp_copy() does.
    ///
    /// @pre Its windows are mapped.
    VYRE_IOQ_DEVICE void warp_copy(u32 mask, u64 offset, u64 count, void *to) const {
        VYRE_IOQ_CHECK_VIEW_(has(offset, count));
        file.warp_copy(mask, offset, count, to);
    }

    // ---- Asking ----

    /// Has the host map the windows of these bytes, unless they are, and waits for that. For a thread.
    ///
    /// One thread of the GPU asks for a window, and others that need it wait in memory of the GPU. A window that was
    /// refused is asked for again after WINDOW_RETRY_NS.
    ///
    /// @param handle The handle of the whole file.
    /// @param hint, limits As for Queue::perform(), which rings no doorbell.
    /// @pre The bytes are in the file.
    VYRE_IOQ_DEVICE MapResult map(const Queue &queue, u32 handle, u64 offset, u64 count, u32 hint,
                                  const WaitLimits &limits) const {
        bool asked = false;
        return map_all(queue, handle, offset, count, hint, limits, &asked);
    }

    /// Maps windows as map() does, for the lanes of a warp, which call it together. All of them get the result. If
    /// the warp was the one to ask, its lanes then look which of the next windows the host has mapped ahead, so that
    /// nobody needs to ask for them.
    VYRE_IOQ_DEVICE MapResult warp_map(u32 mask, const Queue &queue, u32 handle, u64 offset, u64 count, u32 hint,
                                       const WaitLimits &limits) const {
        MapResult result = {WaitStatus::COMPLETED, 0};
        // All lanes go the same way.
        if (simt::ballot(mask, !has(offset, count)) == 0) return result;
        u32 leader = simt::lowest_bit(mask);
        bool asked = false;
        if (simt::lane_id() == leader) result = map_all(queue, handle, offset, count, hint, limits, &asked);
        result.status = (WaitStatus)simt::shuffle(mask, (u32)result.status, leader);
        result.error = simt::shuffle(mask, result.error, leader);
        asked = simt::shuffle(mask, asked, leader) != 0;
        simt::sync(mask);  // the leader's acquire of the outcome, before the other lanes look at the host's table
        // A GPU serializes its loads of one address of host memory: those who waited leave them to the one who asked.
        if (asked && result.ok()) learn(mask, window_of(offset + count - 1) + 1);
        return result;
    }

  private:
    // A word of `states` is 0, MAPPED for good, ASKED while a thread asks for the window, or REFUSED with the errno
    // and the time of the refusal.
    enum : u32 {
        MAPPED = 1,
        ASKED = 2,
        REFUSED = 3,
        KIND = 3,
        ERROR_SHIFT = 2,    // 10 bits
        ERROR_BITS = 0x3ff,
        TIME_SHIFT = 12,    // 20 bits, in units of 2^TICK_SHIFT nanoseconds: 17 ms
        TICK_SHIFT = 24,
    };

    VYRE_IOQ_HOST_DEVICE u32 window_of(u64 offset) const { return static_cast<u32>(offset >> shift); }

    // Relaxed. Who finds MAPPED has no memory to acquire: the host had mapped the window before any thread could
    // learn of it, and what is loaded from there are the file's bytes, by loads of system scope that no earlier
    // load of the same address precedes.
    VYRE_IOQ_DEVICE bool is_mapped(u32 window) const {
        const u32 *at = states + window;
        return detail::load_near(at) == MAPPED || mem::load_device(at) == MAPPED;
    }

    static VYRE_IOQ_DEVICE u32 tick() { return static_cast<u32>(simt::now_ns() >> TICK_SHIFT) & 0xfffff; }

    // Never one without an errno, whatever the host says: that would pass for a mapped window.
    static VYRE_IOQ_DEVICE u32 refusal(u32 error) {
        u32 kept = error == 0 || error > ERROR_BITS ? static_cast<u32>(ERRNO_EIO) : error;
        return REFUSED | kept << ERROR_SHIFT | tick() << TIME_SHIFT;
    }

    // Returns whether a refusal still holds.
    static VYRE_IOQ_DEVICE bool is_fresh(u32 state) {
        return ((tick() - (state >> TIME_SHIFT)) & 0xfffff) <= (u32)(WINDOW_RETRY_NS >> TICK_SHIFT);
    }

    // Maps windows as map() does. Sets `asked` if it has asked the host.
    VYRE_IOQ_DEVICE MapResult map_all(const Queue &queue, u32 handle, u64 offset, u64 count, u32 hint,
                                      const WaitLimits &limits, bool *asked) const {
        VYRE_IOQ_CHECK_VIEW_(file.contains(offset, count));
        MapResult result = {WaitStatus::COMPLETED, 0};
        if (count == 0) return result;
        u32 last = window_of(offset + count - 1);
        for (u32 window = window_of(offset); window <= last && result.ok(); ++window) {
            if (!is_mapped(window)) result = demand(queue, handle, window, last, hint, limits, asked);
        }
        return result;
    }

    // Asks for windows from `window` to `last`, or waits until another thread has done so for `window`.
    VYRE_IOQ_DEVICE MapResult demand(const Queue &queue, u32 handle, u32 window, u32 last, u32 hint,
                                     const WaitLimits &limits, bool *asked) const {
        u64 began = simt::now_ns();
        for (u32 turn = 0;; ++turn) {
            u32 state = mem::load_device(states + window);
            if (state == MAPPED) return MapResult{WaitStatus::COMPLETED, 0};
            if ((state & KIND) == REFUSED && is_fresh(state)) {
                return MapResult{WaitStatus::COMPLETED, state >> ERROR_SHIFT & ERROR_BITS};
            }
            if ((state & KIND) != ASKED) {
                // Relaxed: the winner alone asks, and gives the word back when it has an answer.
                if (mem::compare_exchange_device(states + window, state, ASKED) == state) {
                    *asked = true;
                    return ask(queue, handle, window, last, hint, limits);
                }
                continue;
            }
            bool over = limits.max_polls != 0 ? turn >= limits.max_polls : simt::now_ns() - began >= limits.timeout_ns;
            if (over) return MapResult{WaitStatus::TIMED_OUT, 0};
            simt::sleep(200);
        }
    }

    // Asks the host, and gives the word of `window` back with what it says.
    VYRE_IOQ_DEVICE MapResult ask(const Queue &queue, u32 handle, u32 window, u32 last, u32 hint,
                                  const WaitLimits &limits) const {
        u64 start = (u64)window << shift, end = (u64)(last + 1) << shift;
        if (end > file.bytes) end = file.bytes;
        // The largest count that names whole windows.
        u64 most = (u64)1 << 31;
        u32 count = static_cast<u32>(end - start < most ? end - start : most);
        WaitResult result = queue.perform(Request::map(handle, start, count), hint, limits);
        MapResult answer = {result.status, result.status == WaitStatus::COMPLETED ? result.outcome.error() : 0};
        if (answer.ok() && !learn_one(window)) answer.error = ERRNO_EIO;
        if (result.status == WaitStatus::HOST_GONE || result.status == WaitStatus::TIMED_OUT) {
            queue.abandon(result.ticket);
        }
        if (answer.ok()) {
            // A whole request is mapped, or fails.
            for (u32 next = window + 1; next <= last; ++next) {
                if (!learn_one(next)) break;
            }
            return answer;
        }
        // Another thread may try, at once if nobody has refused the window.
        u32 left = answer.status == WaitStatus::COMPLETED ? refusal(answer.error) : 0;
        mem::compare_exchange_device(states + window, ASKED, left);
        return answer;
    }

    // Enters a window into the kernels' table if it is in the host's. The load is relaxed: after an outcome, it
    // comes after the acquire of the outcome, which pairs with a release that the host made after it had stored
    // the word.
    VYRE_IOQ_DEVICE bool learn_one(u32 window) const {
        if (mem::load_system(mapped + window) != MAPPED) return false;
        mem::store_device_release(states + window, MAPPED);
        return true;
    }

    // Enters what the host has mapped of the next 32 windows.
    VYRE_IOQ_DEVICE void learn(u32 mask, u32 first) const {
        u32 window = first + simt::lane_id();
        if (window < count() && window >= first && !is_mapped(window)) learn_one(window);
        simt::sync(mask);
    }
};
}  // namespace vyre_ioq

namespace vyre {

/// The windows, by the name of the project.
using windows = vyre_ioq::Windows;
}  // namespace vyre

#undef VYRE_IOQ_CHECK_VIEW_
#endif  // VYRE_WINDOWS_CUH
