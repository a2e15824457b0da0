// What vyre_ioq.cuh stands on where there is no GPU: a CPU's atomics, and threads as the lanes of
// warps. For tests, and for device code that is to run on either. g++ or clang++, C++17.
//
// A thread that calls anything for threads needs nothing. One that calls anything for warps joins a
// `Warp` first, and leaves it at the end of the scope:
//
//     static vyre_ioq::shim::Warp warp;           // shared by its lanes, at most 32
//     vyre_ioq::shim::Lane lane(&warp, number);   // in each thread
//
// As on a GPU, the lanes of a mask must all come; unlike there, a lane that never comes is noticed,
// after two minutes, and ends the process.
#ifndef VYRE_IOQ_CUH
#include "vyre_ioq.cuh"  // includes this file where it needs it
#endif
#ifndef VYRE_IOQ_SHIM_H
#define VYRE_IOQ_SHIM_H

// A unit of 16 bytes is four words here.
#define VYRE_IOQ_UNITS 0

namespace vyre_ioq {
namespace detail {

// Under nvcc, this is how the host's side of a program attaches.
VYRE_IOQ_BOTH inline u32 load_shared(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
VYRE_IOQ_BOTH inline u32 load_shared_acquire(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_BOTH inline void store_shared(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}
VYRE_IOQ_BOTH inline void store_shared_release(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
VYRE_IOQ_BOTH inline u32 load_local(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
VYRE_IOQ_BOTH inline u32 load_local_acquire(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_BOTH inline void store_local_release(u32 *at, u32 value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
VYRE_IOQ_BOTH inline void set_local(u32 *at, u32 bits) {
    __atomic_fetch_or(at, bits, __ATOMIC_RELAXED);
}
VYRE_IOQ_BOTH inline u32 add_local(u32 *at, u32 value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
VYRE_IOQ_BOTH inline u32 set_local_acquire(u32 *at, u32 bits) {
    return __atomic_fetch_or(at, bits, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_BOTH inline void clear_local_release(u32 *at, u32 bits) {
    __atomic_fetch_and(at, bits, __ATOMIC_RELEASE);
}
VYRE_IOQ_BOTH inline void set_local_release(u32 *at, u32 bits) {
    __atomic_or_fetch(at, bits, __ATOMIC_RELEASE);
}
VYRE_IOQ_BOTH inline u32 clear_local_acquire(u32 *at, u32 bits) {
    return __atomic_fetch_and(at, bits, __ATOMIC_ACQUIRE);
}
VYRE_IOQ_BOTH inline void swap_local(u32 *at, u32 expected, u32 value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
// The fence that follows on a GPU is none here: see below.
VYRE_IOQ_BOTH inline u32 poll_shared(const u32 *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
// What stands beside it has the order already: the acquire of a status word, and the release of a
// mark. ThreadSanitizer, which knows no fences, can so judge the rest.
VYRE_IOQ_BOTH inline void fence_shared() {}
VYRE_IOQ_BOTH inline void fence_shared_acquire() {}
VYRE_IOQ_BOTH inline void lead() {}  // there is no bus to cross
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
VYRE_IOQ_BOTH inline void fence_seq_cst() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}  // namespace detail
}  // namespace vyre_ioq

#if !defined(__CUDACC__)
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

namespace vyre_ioq {
namespace shim {

// The time as waits see it, for tests: a clock of the caller's instead of the machine's.
inline u64 (*clock)() = nullptr;
}  // namespace shim

namespace detail {

inline u64 now() {
    if (shim::clock != nullptr) return shim::clock();
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (u64)time.tv_sec * 1000000000ull + (u64)time.tv_nsec;
}
inline void nap(u32 nanoseconds) {
    if (shim::clock != nullptr) return;
    timespec time = {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
    nanosleep(&time, nullptr);
}
inline u32 count(u32 bits) { return (u32)__builtin_popcount(bits); }
inline u32 lowest(u32 bits) { return (u32)__builtin_ffs((int)bits) - 1; }
}  // namespace detail

namespace shim {

constexpr u64 PATIENCE = 120000000000ull;

// On a GPU a shuffle and a ballot order no memory, and `sync` does. Under ThreadSanitizer it is the
// same here, so that a `sync` that is missing is found. Only there, and only where the machine
// itself keeps the order that the lanes' exchange needs.
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
constexpr bool EXCHANGE_ORDERS = false;
#else
constexpr bool EXCHANGE_ORDERS = true;
#endif

struct Warp {
    u32 values[32] = {};   // what each lane shows to the others
    u32 waiting[32] = {};  // the mask whose lanes each lane waits for; 0: none
};

struct Place {
    Warp *warp = nullptr;
    u32 lane = 0;
};
inline thread_local Place place;

// Makes the thread a lane of a warp, until the end of the scope.
struct Lane {
    Lane(Warp *warp, u32 lane) { place = Place{warp, lane}; }
    ~Lane() { place = Place{}; }
    Lane(const Lane &) = delete;
    Lane &operator=(const Lane &) = delete;
};
}  // namespace shim

namespace detail {

inline u32 lane_id() { return shim::place.lane; }

// Waits for a word of the warp.
template <bool ORDERS>
void await(const u32 *word, u32 value) {
    u64 began = now();
    while (__atomic_load_n(word, ORDERS ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED) != value) {
        sched_yield();
        if (now() - began > shim::PATIENCE) {
            fputs("vyre_ioq_shim: a lane of the mask does not come\n", stderr);
            abort();
        }
    }
}

// The lowest lane waits for the others, and then lets them go. Acquire and release both ways: each
// lane goes on with what every other did before.
template <bool ORDERS>
void meet(u32 mask) {
    constexpr int RELEASE = ORDERS ? __ATOMIC_RELEASE : __ATOMIC_RELAXED;
    u32 lane = lane_id();
    if (shim::place.warp == nullptr || (mask >> lane & 1) == 0) {
        fputs("vyre_ioq_shim: the thread is no lane of the mask; make a shim::Lane\n", stderr);
        abort();
    }
    u32 *waiting = shim::place.warp->waiting;
    if (lane != lowest(mask)) {
        __atomic_store_n(&waiting[lane], mask, RELEASE);
        await<ORDERS>(&waiting[lane], 0);
        return;
    }
    for (u32 others = mask & (mask - 1); others != 0; others &= others - 1) {
        await<ORDERS>(&waiting[lowest(others)], mask);
    }
    for (u32 others = mask & (mask - 1); others != 0; others &= others - 1) {
        __atomic_store_n(&waiting[lowest(others)], 0, RELEASE);
    }
}

inline void sync(u32 mask) { meet<true>(mask); }

inline u32 shuffle(u32 mask, u32 value, u32 from) {
    u32 *values = shim::place.warp->values;
    __atomic_store_n(&values[lane_id()], value, __ATOMIC_RELAXED);
    meet<shim::EXCHANGE_ORDERS>(mask);
    u32 found = __atomic_load_n(&values[from], __ATOMIC_RELAXED);
    meet<shim::EXCHANGE_ORDERS>(mask);  // before the next exchange
    return found;
}

inline u32 any_bits(u32 mask, u32 bits) {
    u32 *values = shim::place.warp->values;
    __atomic_store_n(&values[lane_id()], bits, __ATOMIC_RELAXED);
    meet<shim::EXCHANGE_ORDERS>(mask);
    u32 any = 0;
    for (u32 lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) any |= __atomic_load_n(&values[lane], __ATOMIC_RELAXED);
    }
    meet<shim::EXCHANGE_ORDERS>(mask);  // before the next exchange
    return any;
}

inline u32 ballot(u32 mask, bool vote) {
    u32 *values = shim::place.warp->values;
    __atomic_store_n(&values[lane_id()], (u32)vote, __ATOMIC_RELAXED);
    meet<shim::EXCHANGE_ORDERS>(mask);
    u32 votes = 0;
    for (u32 lane = 0; lane < 32; ++lane) {
        if (mask >> lane & 1) votes |= __atomic_load_n(&values[lane], __ATOMIC_RELAXED) << lane;
    }
    meet<shim::EXCHANGE_ORDERS>(mask);  // before the next exchange
    return votes;
}
}  // namespace detail
}  // namespace vyre_ioq
#endif  // !defined(__CUDACC__)
#endif  // VYRE_IOQ_SHIM_H
