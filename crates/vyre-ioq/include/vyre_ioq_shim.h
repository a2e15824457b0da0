// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_ioq_shim.h
/// @brief Runs device code that uses vyre_ioq.cuh on a CPU: threads stand in for the lanes of warps.
///
/// For tests, and for kernels that run on either. Requires C++14, and g++ or clang++. vyre_ioq.cuh
/// includes this file where it is not compiled for a GPU.
///
/// A thread that calls functions for threads needs no preparation. A thread that calls functions for
/// warps first joins a `shim::Warp`, which it leaves at the end of the scope:
///
///     static vyre_ioq::shim::Warp warp;           // shared by at most 32 threads
///     vyre_ioq::shim::Lane lane(&warp, number);   // in each thread
///
/// As on a GPU, all lanes of a mask must call a warp function. Unlike on a GPU, a lane that never
/// arrives ends the process, after two minutes.
#ifndef VYRE_IOQ_SHIM_H
#define VYRE_IOQ_SHIM_H

#ifndef VYRE_IOQ_DEVICE_CUH
#include "vyre_ioq_types.cuh"
#endif

// A unit of 16 bytes is accessed as four words.
#define VYRE_IOQ_UNITS_ 0

namespace vyre_ioq {
namespace mem {

// With nvcc, the CPU uses these functions to attach to a queue.
VYRE_IOQ_HOST_DEVICE inline u32 load_system(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline u32 load_system_acquire(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_HOST_DEVICE inline void store_system(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline void store_system_release(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
VYRE_IOQ_HOST_DEVICE inline u32 load_device(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline u32 load_device_acquire(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_HOST_DEVICE inline void store_device_release(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
VYRE_IOQ_HOST_DEVICE inline void or_device(u32 *at, u32 bits) {
    __atomic_fetch_or(at, bits, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline u32 fetch_add_device(u32 *at, u32 value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
VYRE_IOQ_HOST_DEVICE inline u32 fetch_or_device_acquire(u32 *at, u32 bits) {
    return __atomic_fetch_or(at, bits, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_HOST_DEVICE inline void and_device_release(u32 *at, u32 bits) {
    __atomic_fetch_and(at, bits, __ATOMIC_RELEASE);
}
VYRE_IOQ_HOST_DEVICE inline void or_device_release(u32 *at, u32 bits) {
    __atomic_or_fetch(at, bits, __ATOMIC_RELEASE);
}
VYRE_IOQ_HOST_DEVICE inline u32 fetch_and_device_acquire(u32 *at, u32 bits) {
    return __atomic_fetch_and(at, bits, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_HOST_DEVICE inline u32 compare_exchange_device(u32 *at, u32 expected, u32 value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
// The accesses beside these fences have the ordering already: the acquire of a status word, and the
// release of a mark. So ThreadSanitizer, which does not model fences, can judge the rest.
VYRE_IOQ_HOST_DEVICE inline void fence_system() {}
VYRE_IOQ_HOST_DEVICE inline void fence_system_acquire() {}
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
VYRE_IOQ_HOST_DEVICE inline void fence_system_seq_cst() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}  // namespace mem

namespace detail {

// Acquire, where a GPU makes a fence after the load.
VYRE_IOQ_HOST_DEVICE inline u32 load_status(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
// There is no bus to cross.
VYRE_IOQ_HOST_DEVICE inline void delay_first_poll(u32) {}
}  // namespace detail
}  // namespace vyre_ioq

#if !defined(__CUDACC__)
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

namespace vyre_ioq {
namespace shim {

/// The lanes of a warp.
struct Warp {
    u32 values[32] = {};   ///< What each lane shows to the others.
    u32 waiting[32] = {};  ///< The mask that each lane waits for; 0: none.
};

/// Returns a time in nanoseconds.
using Clock = u64 (*)();

/// Returns the clock that waits use; null stands for the machine's. Tests assign it before lanes start.
inline Clock &clock() {
    static Clock assigned = nullptr;
    return assigned;
}

/// The warp that a thread has joined, and its lane there.
struct Membership {
    Warp *warp;
    u32 lane;
};
inline Membership &membership() {
    static thread_local Membership own = {nullptr, 0};
    return own;
}

/// Makes the thread a lane of a warp until the end of the scope.
class Lane {
  public:
    Lane(Warp *warp, u32 lane) { membership() = Membership{warp, lane}; }
    ~Lane() { membership() = Membership{nullptr, 0}; }
    Lane(const Lane &) = delete;
    Lane &operator=(const Lane &) = delete;
};
}  // namespace shim

namespace simt {

inline u64 now_ns() {
    if (shim::clock() != nullptr) return shim::clock()();
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (u64)time.tv_sec * 1000000000ull + (u64)time.tv_nsec;
}
inline void sleep(u32 nanoseconds) {
    if (shim::clock() != nullptr) return;
    timespec time = {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
    nanosleep(&time, nullptr);
}
inline u32 popcount(u32 bits) { return (u32)__builtin_popcount(bits); }
inline u32 lowest_bit(u32 bits) { return (u32)__builtin_ffs((int)bits) - 1; }
inline u32 lane_id() { return shim::membership().lane; }
}  // namespace simt

namespace detail {

constexpr u64 LANE_TIMEOUT_NS = 120000000000ull;

// On a GPU, a shuffle and a ballot order no memory, and a sync does. Under ThreadSanitizer the same
// holds here, so that it finds a missing sync. This works on x86-64 only, where the exchange of values
// needs no ordering beyond that of the processor.
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
constexpr bool EXCHANGE_ORDERS = false;
#else
constexpr bool EXCHANGE_ORDERS = true;
#endif

// Waits until a word of the warp has a value.
template <bool ORDERS>
void await(const u32 *word, u32 value) {
    u64 start = simt::now_ns();
    while (__atomic_load_n(word, ORDERS ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED) != value) {
        sched_yield();
        if (simt::now_ns() - start > LANE_TIMEOUT_NS) {
            fputs("vyre_ioq_shim: a lane of the mask does not arrive\n", stderr);
            abort();
        }
    }
}

// The lowest lane waits for the others and then releases them. With ORDERS, what every lane did before
// happens before what any lane does next.
template <bool ORDERS>
void meet(u32 mask) {
    constexpr int RELEASE = ORDERS ? __ATOMIC_RELEASE : __ATOMIC_RELAXED;
    u32 lane = simt::lane_id();
    if (shim::membership().warp == nullptr || (mask >> lane & 1) == 0) {
        fputs("vyre_ioq_shim: the thread is no lane of the mask; make a shim::Lane\n", stderr);
        abort();
    }
    u32 *waiting = shim::membership().warp->waiting;
    if (lane != simt::lowest_bit(mask)) {
        __atomic_store_n(&waiting[lane], mask, RELEASE);
        await<ORDERS>(&waiting[lane], 0);
        return;
    }
    for (u32 others = mask & (mask - 1); others != 0; others &= others - 1) {
        await<ORDERS>(&waiting[simt::lowest_bit(others)], mask);
    }
    for (u32 others = mask & (mask - 1); others != 0; others &= others - 1) {
        __atomic_store_n(&waiting[simt::lowest_bit(others)], 0, RELEASE);
    }
}

// Shows a value to all lanes, and calls `use` with the array of their values.
template <typename Use>
u32 exchange(u32 mask, u32 value, const Use &use) {
    u32 *values = shim::membership().warp->values;
    __atomic_store_n(&values[simt::lane_id()], value, __ATOMIC_RELAXED);
    meet<EXCHANGE_ORDERS>(mask);
    u32 result = use(values);
    meet<EXCHANGE_ORDERS>(mask);  // before the next exchange
    return result;
}
}  // namespace detail

namespace simt {

inline void sync(u32 mask) { detail::meet<true>(mask); }

inline u32 shuffle(u32 mask, u32 value, u32 from) {
    return detail::exchange(mask, value, [from](const u32 *values) {
        return __atomic_load_n(&values[from], __ATOMIC_RELAXED);
    });
}

inline u32 reduce_or(u32 mask, u32 bits) {
    return detail::exchange(mask, bits, [mask](const u32 *values) {
        u32 any = 0;
        for (u32 lane = 0; lane < 32; ++lane) {
            if (mask >> lane & 1) any |= __atomic_load_n(&values[lane], __ATOMIC_RELAXED);
        }
        return any;
    });
}

inline u32 ballot(u32 mask, bool vote) { return reduce_or(mask, vote ? 1u << lane_id() : 0); }
}  // namespace simt
}  // namespace vyre_ioq
#endif  // !defined(__CUDACC__)
#endif  // VYRE_IOQ_SHIM_H
