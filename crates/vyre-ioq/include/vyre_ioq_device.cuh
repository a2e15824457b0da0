// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_ioq_device.cuh
/// @brief What vyre_ioq.cuh is built on: accesses to memory, lanes of a warp, slots and wait timers.
///
/// Include vyre_ioq.cuh, which includes this file. A kernel may use the namespaces `mem` and `simt`;
/// on a CPU, vyre_ioq_shim.h implements them, so that the same kernel runs on threads. The namespace
/// `detail` and macros that end in an underscore are internal.
#ifndef VYRE_IOQ_DEVICE_CUH
#define VYRE_IOQ_DEVICE_CUH

#ifndef VYRE_IOQ_TYPES_CUH  // NVRTC gets the texts one after the other, and no include path
#include "vyre_ioq_types.cuh"
#endif

namespace vyre_ioq {
namespace detail {

/// An aligned unit of 16 bytes. Words 4 to 7 of a slot are one: they hold the outcome and its status.
struct Unit {
    u32 a, b, c, d;
};
}  // namespace detail
}  // namespace vyre_ioq

#if defined(__CUDA_ARCH__)
namespace vyre_ioq {

/// Accesses to single words of global memory.
///
/// Functions named `system` access memory that the host shares: they have system scope and include no
/// read-modify-write. Functions named `device` access memory that only the GPU's threads share: they
/// have device scope. An access is relaxed unless its name says otherwise.
namespace mem {

#define VYRE_IOQ_LOAD_(name, order)                                                        \
    VYRE_IOQ_HOST_DEVICE __forceinline__ u32 name(const u32 *at) {                         \
        u32 value;                                                                         \
        asm volatile("ld." order ".global.u32 %0, [%1];"                                   \
                     : "=r"(value) : "l"(__cvta_generic_to_global(at)) : "memory");        \
        return value;                                                                      \
    }
#define VYRE_IOQ_STORE_(name, instruction)                                                 \
    VYRE_IOQ_DEVICE __forceinline__ void name(u32 *at, u32 value) {                        \
        asm volatile(instruction " [%0], %1;"                                              \
                     :: "l"(__cvta_generic_to_global(at)), "r"(value) : "memory");         \
    }
#define VYRE_IOQ_ATOMIC_(name, instruction)                                                \
    VYRE_IOQ_DEVICE __forceinline__ u32 name(u32 *at, u32 operand) {                       \
        u32 before;                                                                        \
        asm volatile(instruction " %0, [%1], %2;"                                          \
                     : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(operand)      \
                     : "memory");                                                          \
        return before;                                                                     \
    }
VYRE_IOQ_LOAD_(load_system, "relaxed.sys")
VYRE_IOQ_LOAD_(load_system_acquire, "acquire.sys")
VYRE_IOQ_STORE_(store_system, "st.relaxed.sys.global.u32")
VYRE_IOQ_STORE_(store_system_release, "st.release.sys.global.u32")
VYRE_IOQ_LOAD_(load_device, "relaxed.gpu")
VYRE_IOQ_LOAD_(load_device_acquire, "acquire.gpu")
VYRE_IOQ_STORE_(store_device_release, "st.release.gpu.global.u32")
VYRE_IOQ_STORE_(or_device, "red.relaxed.gpu.global.or.b32")
VYRE_IOQ_STORE_(or_device_release, "red.release.gpu.global.or.b32")
VYRE_IOQ_STORE_(and_device_release, "red.release.gpu.global.and.b32")
VYRE_IOQ_ATOMIC_(fetch_or_device_acquire, "atom.acquire.gpu.global.or.b32")
VYRE_IOQ_ATOMIC_(fetch_and_device_acquire, "atom.acquire.gpu.global.and.b32")
VYRE_IOQ_ATOMIC_(fetch_add_device, "atom.relaxed.gpu.global.add.u32")
#undef VYRE_IOQ_LOAD_
#undef VYRE_IOQ_STORE_
#undef VYRE_IOQ_ATOMIC_

/// Stores `value` if the word holds `expected`. Returns what it held.
VYRE_IOQ_DEVICE __forceinline__ u32 compare_exchange_device(u32 *at, u32 expected, u32 value) {
    u32 before;
    asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
                 : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(expected), "r"(value)
                 : "memory");
    return before;
}

/// An acquire and release fence at system scope.
VYRE_IOQ_DEVICE __forceinline__ void fence_system() {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

/// An acquire fence at system scope.
///
/// PTX ISA 8.6 (CUDA 12.7) has a fence for this on sm_90. Unlike a fence of both directions, it does not
/// wait until the thread's own stores have crossed the bus and been acknowledged.
VYRE_IOQ_DEVICE __forceinline__ void fence_system_acquire() {
#if __CUDA_ARCH__ >= 900 && \
    (__CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 7))
    asm volatile("fence.acquire.sys;" ::: "memory");
#else
    fence_system();
#endif
}

/// A sequentially consistent fence at system scope.
VYRE_IOQ_DEVICE __forceinline__ void fence_system_seq_cst() {
    asm volatile("fence.sc.sys;" ::: "memory");
}
}  // namespace mem

namespace detail {

// A 16-byte access is a single access, and may have an ordering, only as .b128, which at system scope
// needs PTX ISA 8.4 (CUDA 12.4). As .v4 it is four unordered accesses: STATUS could be seen before COUNT
// and TAG.
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 4)
#define VYRE_IOQ_UNITS_ 1
#define VYRE_IOQ_STORE_UNIT_(name, order)                                                  \
    VYRE_IOQ_DEVICE __forceinline__ void name(u32 *at, const Unit &unit) {                 \
        asm volatile("{ .reg .b64 low, high; .reg .b128 unit; mov.b64 low, {%1, %2};"      \
                     " mov.b64 high, {%3, %4}; mov.b128 unit, {low, high};"                \
                     " st." order ".sys.global.b128 [%0], unit; }"                         \
                     :: "l"(__cvta_generic_to_global(at)), "r"(unit.a), "r"(unit.b),       \
                        "r"(unit.c), "r"(unit.d) : "memory");                              \
    }
VYRE_IOQ_STORE_UNIT_(store_b128, "relaxed")
VYRE_IOQ_STORE_UNIT_(store_b128_release, "release")
#undef VYRE_IOQ_STORE_UNIT_
// Volatile, which is relaxed at system scope and is performed as it stands. ptxas (13.0, sm_90) makes several
// narrow loads of ld.relaxed and of ld.acquire where the caller does not use all four words: COUNT before STATUS.
VYRE_IOQ_DEVICE __forceinline__ Unit load_b128(const u32 *at) {
    Unit unit;
    asm volatile("{ .reg .b64 low, high; .reg .b128 unit; ld.volatile.global.b128 unit, [%4];"
                 " mov.b128 {low, high}, unit; mov.b64 {%0, %1}, low; mov.b64 {%2, %3}, high; }"
                 : "=r"(unit.a), "=r"(unit.b), "=r"(unit.c), "=r"(unit.d)
                 : "l"(__cvta_generic_to_global(at)) : "memory");
    return unit;
}
#else
#define VYRE_IOQ_UNITS_ 0
#endif

// Loads STATUS in a poll. Relaxed: the caller makes a fence once there is an outcome.
VYRE_IOQ_DEVICE __forceinline__ u32 load_status(const u32 *at) { return mem::load_system(at); }

// Waits `cycles` clock cycles.
VYRE_IOQ_DEVICE __forceinline__ void delay_first_poll(u32 cycles) {
    // Unsigned difference: if the warp moves to another multiprocessor, whose clock may be behind, the
    // loop ends.
    u64 start = (u64)clock64();
    while ((u64)clock64() - start < cycles) {}
}
}  // namespace detail
}  // namespace vyre_ioq
#else
#include "vyre_ioq_shim.h"
#endif

namespace vyre_ioq {

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
/// The lanes of a warp, clocks and bits.
///
/// All lanes of a `mask` call the functions that take one together. Only `sync` orders memory.
namespace simt {

/// Returns the number of the calling lane in its warp.
VYRE_IOQ_DEVICE __forceinline__ u32 lane_id() {
    u32 lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

/// Returns a bit for each lane that voted true.
VYRE_IOQ_DEVICE __forceinline__ u32 ballot(u32 mask, bool vote) { return __ballot_sync(mask, vote); }

/// Returns the value of lane `from`.
VYRE_IOQ_DEVICE __forceinline__ u32 shuffle(u32 mask, u32 value, u32 from) {
    return __shfl_sync(mask, value, from);
}

/// Waits for all lanes: what each did before happens before what any does next.
VYRE_IOQ_DEVICE __forceinline__ void sync(u32 mask) { __syncwarp(mask); }

/// Returns the time of %globaltimer in nanoseconds.
VYRE_IOQ_DEVICE __forceinline__ u64 now_ns() {
    u64 time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
}

/// Sleeps for about this many nanoseconds, at most 1 ms.
VYRE_IOQ_DEVICE __forceinline__ void sleep(u32 nanoseconds) { __nanosleep(nanoseconds); }

/// Returns the number of bits set.
VYRE_IOQ_DEVICE __forceinline__ u32 popcount(u32 bits) { return (u32)__popc(bits); }

/// Returns the number of the lowest bit set. `bits` must not be 0.
VYRE_IOQ_DEVICE __forceinline__ u32 lowest_bit(u32 bits) { return (u32)__ffs(bits) - 1; }

/// Returns the bitwise OR of the values of all lanes.
VYRE_IOQ_DEVICE __forceinline__ u32 reduce_or(u32 mask, u32 bits) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_or_sync(mask, bits);
#else
    u32 any = bits;
    if (mask == FULL_WARP) {
        for (u32 apart = 16; apart != 0; apart /= 2) any |= shuffle(mask, any, lane_id() ^ apart);
        return any;
    }
    for (u32 left = mask; left != 0; left &= left - 1) any |= shuffle(mask, bits, lowest_bit(left));
    return any;
#endif
}
}  // namespace simt
#endif

namespace detail {

enum : u32 {
    /// Polls between two reads of the clock.
    POLLS_PER_CHECK = 64,
    /// Checks that see the same time before the clock counts as broken: some seconds.
    STUCK_CHECKS = 65536,
    /// Nanoseconds between two checks of the queue's header, unless a limit needs more. A GPU serializes
    /// its loads of one address of host memory, at about one in a microsecond: many lanes that check
    /// often would wait for each other longer than for their outcomes.
    HEADER_CHECK_NS = 10000000,
};

// Returns the lowest `many` bits of `bits`, or all of them if there are fewer.
VYRE_IOQ_DEVICE inline u32 lowest_bits(u32 bits, u32 many) {
    u32 rest = bits;
    for (; many != 0 && rest != 0; --many) rest &= rest - 1;
    return bits & ~rest;
}

// Stores an aligned unit of 16 bytes: as one access if `as_unit` and the compiler allows, else as words.
VYRE_IOQ_DEVICE inline void store_unit(u32 *at, const Unit &unit, bool as_unit) {
#if VYRE_IOQ_UNITS_
    if (as_unit) return store_b128(at, unit);
#endif
    (void)as_unit;
    mem::store_system(at, unit.a);
    mem::store_system(at + 1, unit.b);
    mem::store_system(at + 2, unit.c);
    mem::store_system(at + 3, unit.d);
}

// Stores words 4 to 7 of a slot with release. If stored as words, STATUS, the third, is stored
// last.
VYRE_IOQ_DEVICE inline void publish_unit(u32 *at, const Unit &unit, bool as_unit) {
#if VYRE_IOQ_UNITS_
    if (as_unit) return store_b128_release(at, unit);
#endif
    (void)as_unit;
    mem::store_system(at, unit.a);
    mem::store_system(at + 1, unit.b);
    mem::store_system(at + 3, unit.d);
    mem::store_system_release(at + 2, unit.c);
}

VYRE_IOQ_DEVICE inline bool is_outcome(u32 status) {
    return status == STATUS_OK || status == STATUS_ERROR;
}

// Loads words 4 to 7 of a slot, and returns whether they hold an outcome. The fence makes the relaxed
// load an acquire, paired with the host's release of the outcome. It follows only if there is an
// outcome, since a poll that finds none needs no ordering.
VYRE_IOQ_DEVICE inline bool poll_unit(const u32 *at, bool as_unit, Outcome *outcome) {
#if VYRE_IOQ_UNITS_
    if (as_unit) {
        Unit unit = load_b128(at);
        if (!is_outcome(unit.c)) return false;
        mem::fence_system_acquire();
        *outcome = Outcome{unit.c, unit.b, unit.d};
        return true;
    }
#endif
    (void)as_unit;
    u32 status = load_status(at + 2);
    if (!is_outcome(status)) return false;
    mem::fence_system_acquire();
    *outcome = Outcome{status, mem::load_system(at + 1), mem::load_system(at + 3)};
    return true;
}

// Returns the host's state, from a queue's header; null stands for a bare queue, which is taken to run.
VYRE_IOQ_DEVICE inline u32 host_state(const u32 *header) {
    if (header == nullptr) return STATE_RUNNING;
    // Acquire, paired with the host's release of STATE.
    u32 state = mem::load_system_acquire(header + HEADER_WORD_STATE);
    return state > STATE_FAILED ? static_cast<u32>(STATE_FAILED) : state;
}

// Returns the host's heartbeat, from a queue's header; 0 if it is null.
VYRE_IOQ_DEVICE inline u32 host_heartbeat(const u32 *header) {
    return header == nullptr ? 0 : mem::load_system(header + HEADER_WORD_HEARTBEAT);
}

// Decides when a wait has reached its limits.
class WaitTimer {
  public:
    bool heartbeat_moved = false;

    VYRE_IOQ_DEVICE explicit WaitTimer(const WaitLimits &wait_limits) : limits(wait_limits) {}

    // Call after each poll that found no outcome. `header` is that of the queue; null if it is bare.
    VYRE_IOQ_DEVICE WaitStatus check(const u32 *header) {
        ++polls;  // may wrap
        bool last = polls == limits.max_polls && limits.max_polls != 0;
        if (polls % POLLS_PER_CHECK != 0 && !last) {
            if (limits.sleep_ns != 0 && polls > POLLS_PER_CHECK) simt::sleep(limits.sleep_ns);
            return WaitStatus::PENDING;
        }
        u64 now = simt::now_ns();
        if (start == 0) start = header_checked_at = now;
        stuck = now == last_now ? stuck + 1 : 0;
        last_now = now;
        bool over = last || now - start >= limits.timeout_ns || stuck >= stuck_checks();
        if (!over && now - header_checked_at < header_check_ns()) return WaitStatus::PENDING;
        header_checked_at = now;
        return check_header(header, now, over);
    }

  private:
    const WaitLimits &limits;
    u64 start = 0, beat_at = 0, header_checked_at = 0, last_now = 0;
    u32 polls = 0, beat = 0, stuck = 0;
    bool knows_beat = false;

    VYRE_IOQ_DEVICE WaitStatus check_header(const u32 *header, u64 now, bool over) {
        u32 beat_now = host_heartbeat(header);
        // The heartbeat timeout counts from this wait's first poll of the heartbeat, however late that is.
        if (!knows_beat || beat != beat_now) beat_at = now;
        heartbeat_moved = heartbeat_moved || (knows_beat && beat != beat_now);
        beat = beat_now;
        knows_beat = true;
        if (host_state(header) >= STATE_STOPPED) return WaitStatus::HOST_GONE;
        if (limits.heartbeat_timeout_ns != 0 && header != nullptr &&
            now - beat_at >= limits.heartbeat_timeout_ns) {
            return WaitStatus::HOST_GONE;
        }
        return over ? WaitStatus::TIMED_OUT : WaitStatus::PENDING;
    }

    // Returns fewer checks if the wait sleeps: a poll takes a microsecond, and a sleep at most 1
    // ms.
    VYRE_IOQ_DEVICE u32 stuck_checks() const {
        return STUCK_CHECKS / (1 + (limits.sleep_ns < 1000000 ? limits.sleep_ns : 1000000) / 1000);
    }

    // Returns an interval that is short enough to see the heartbeat move within the limits.
    VYRE_IOQ_DEVICE u64 header_check_ns() const {
        if (limits.max_polls != 0) return 0;
        u64 each = HEADER_CHECK_NS;
        if (limits.timeout_ns / 4 < each) each = limits.timeout_ns / 4;
        if (limits.heartbeat_timeout_ns != 0 && limits.heartbeat_timeout_ns / 4 < each) {
            each = limits.heartbeat_timeout_ns / 4;
        }
        return each;
    }
};
}  // namespace detail
}  // namespace vyre_ioq
#endif  // VYRE_IOQ_DEVICE_CUH
