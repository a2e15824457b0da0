// What vyre_ioq.cuh is made of: the numbers of ABI 1.0, requests, outcomes and limits as plain
// values, the accesses to memory, the lanes of a warp, and the limits of a wait. That file includes
// this one; where includes cannot be found, as under NVRTC, give the compiler the text of this file
// and then the text of that one.
#if !defined(VYRE_IOQ_CUH) && !defined(__CUDACC_RTC__)
#include "vyre_ioq.cuh"  // sets macros of others aside, and includes this file
#endif
#ifndef VYRE_IOQ_PARTS_CUH
#define VYRE_IOQ_PARTS_CUH

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define VYRE_IOQ_FN __device__
#define VYRE_IOQ_BOTH __host__ __device__
#else
#define VYRE_IOQ_FN
#define VYRE_IOQ_BOTH
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 700
#error "vyre_ioq.cuh needs sm_70 or later: earlier GPUs have no memory orderings in PTX"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vyre_ioq.cuh stores words as they are: it needs a little-endian machine"
#endif

namespace vyre_ioq {

typedef unsigned int u32;
typedef unsigned long long u64;

// ---- The numbers of ABI.md. tests/cuda_header.rs ties each of them to the Rust sources. ----

enum : u32 {
    SLOT_BYTES = 64, BARE_SLOT_BYTES = 32, HEADER_BYTES = 4096, HEADER_ALIGN = 4096,
    MAX_SLOTS = 4096, MAX_BARE_SLOTS = 64, GROUP_SLOTS = 64,
    ABI_MAJOR = 1, ABI_MINOR = 0,
    MAGIC_LOW = 0x45525956, MAGIC_HIGH = 0x00514f49,
};
namespace word {
enum : u32 {
    OP = 0, SOURCE = 1, DESTINATION = 2, FILE_OFFSET_LOW = 3, FILE_OFFSET_HIGH = 4,
    COUNT = 5, STATUS = 6, TAG = 7, BUFFER_OFFSET_LOW = 8, BUFFER_OFFSET_HIGH = 9,
    FLAGS = 10, DEADLINE = 11, RESERVED = 12,
};
}  // namespace word
namespace header_word {
enum : u32 {
    MAGIC = 0, MAJOR = 2, MINOR = 3, STRIDE = 4, SLOTS = 5, SLOTS_OFFSET = 6,
    FEATURES = 7, QUEUE_ID = 8, STATE = 16, HEARTBEAT = 17, ASLEEP = 18, DOORBELL = 32,
    IN_USE = 64, END = 128,
};
}  // namespace header_word
namespace op {
enum : u32 {
    READ = 1, WRITE = 2, FENCE = 3, SYNC = 4, PREFETCH = 5,
};
}  // namespace op
namespace status {
enum : u32 {
    EMPTY = 0, PUBLISHED = 1, CLAIMED = 2, OK = 0x10, ERROR = 0x11,
};
}  // namespace status
namespace flag {
enum : u32 {
    DURABLE = 1, EXACT = 2,
};
}  // namespace flag
namespace feature {
enum : u32 {
    DOORBELL = 1,
};
}  // namespace feature
namespace state {
enum : u32 {
    STARTING = 0, RUNNING = 1, DRAINING = 2, STOPPED = 3, FAILED = 4,
};
}  // namespace state
namespace error {  // without their E: <errno.h> has macros of those names
enum : u32 {
    IO = 5, BADF = 9, ACCES = 13, INVAL = 22, NOSPC = 28, RANGE = 34, NODATA = 61,
    TIMEDOUT = 110, CANCELED = 125,
};
}  // namespace error

// ---- What a kernel handles ----

enum : u32 {
    FULL_WARP = 0xffffffff,  // the mask of all lanes
    NO_SLOT = 0xffffffff,
    NO_OUTCOME = 0xffffffff,  // Outcome::error() where there is no outcome
};

// The device's own memory for a queue, which the host end never sees: in GPU memory, zeroed before
// the first kernel, and kept as long as requests are out. A zeroed one is a new device end of the queue
// as it is then: where the host makes a new queue, even in the same memory, zero it again.
struct Local {
    u32 locks[MAX_SLOTS / 32];   // a bit for each slot: 1 from the reservation to the taking
    u32 known[MAX_SLOTS / 32];   // a bit for each slot: 1 once this end has had it; never cleared
    u32 abandoned[MAX_SLOTS / 32];  // a bit for each locked slot whose outcome nobody takes
    u32 marks[MAX_SLOTS / GROUP_SLOTS];  // 1: the host was told to look at the group
    u32 rings;                   // what went into DOORBELL last; 0: nothing by this end
    u32 abandons;                // slots that were abandoned and not taken back
};

// Whom a slot belongs to until its outcome is taken.
struct Ticket {
    u32 slot;
    VYRE_IOQ_BOTH bool is_none() const { return slot == NO_SLOT; }
};

// A request. Handles are numbers that the host gave out; offsets count from their ranges' starts.
struct Request {
    u32 op, source, destination, count, flags, deadline, tag;
    u64 file_offset, buffer_offset;

    // File to buffer. A short count is the end of the file, or where an error came after some bytes: a
    // read of the rest moves nothing at the end, and meets the error otherwise. `exact` makes it an error.
    static VYRE_IOQ_BOTH Request read(u32 file, u64 offset, u32 count, u32 buffer,
                                      u64 buffer_offset) {
        return Request{op::READ, file, buffer, count, 0, 0, 0, offset, buffer_offset};
    }
    // Buffer to file. What other threads wrote to the buffer must happen before the publication.
    static VYRE_IOQ_BOTH Request write(u32 file, u64 offset, u32 count, u32 buffer,
                                       u64 buffer_offset) {
        return Request{op::WRITE, buffer, file, count, 0, 0, 0, offset, buffer_offset};
    }
    // Completes when every request that was published before it has completed, other fences aside.
    static VYRE_IOQ_BOTH Request fence() { return Request{op::FENCE, 0, 0, 0, 0, 0, 0, 0, 0}; }
    // Completes when every earlier WRITE to the file, completed or fenced, is on stable storage.
    static VYRE_IOQ_BOTH Request sync(u32 file) {
        return Request{op::SYNC, 0, file, 0, 0, 0, 0, 0, 0};
    }
    // Starts read-ahead of `count` bytes, and does not wait for them.
    static VYRE_IOQ_BOTH Request prefetch(u32 file, u64 offset, u32 count) {
        return Request{op::PREFETCH, 0, file, count, 0, 0, 0, offset, 0};
    }

    // READ, WRITE: a short count is the error ENODATA.
    VYRE_IOQ_BOTH Request exact() const { return with_flags(flag::EXACT); }
    // WRITE: the bytes are on stable storage when it completes.
    VYRE_IOQ_BOTH Request durable() const { return with_flags(flag::DURABLE); }
    VYRE_IOQ_BOTH Request with_flags(u32 more) const {
        Request changed = *this;
        changed.flags |= more;
        return changed;
    }
    // The host cancels it so many microseconds after its claim; 0 is never.
    VYRE_IOQ_BOTH Request with_deadline(u32 micros) const {
        Request changed = *this;
        changed.deadline = micros;
        return changed;
    }
    // Comes back with the outcome.
    VYRE_IOQ_BOTH Request with_tag(u32 own) const {
        Request changed = *this;
        changed.tag = own;
        return changed;
    }
};

// What became of a request. All zeros, which no outcome is, where there is none.
struct Outcome {
    u32 status, value, tag;
    VYRE_IOQ_BOTH bool ok() const { return status == status::OK; }
    // Bytes moved; 0 after an error.
    VYRE_IOQ_BOTH u32 bytes() const { return ok() ? value : 0; }
    // The Linux errno; 0 for OK alone, and NO_OUTCOME where there is no outcome.
    VYRE_IOQ_BOTH u32 error() const {
        if (ok()) return 0;
        if (status != status::ERROR) return NO_OUTCOME;
        return value == 0 ? (u32)error::IO : value;
    }
    VYRE_IOQ_BOTH bool is_short(u32 asked) const { return ok() && value < asked; }
};

// How a wait ended.
enum class End : u32 {
    PENDING,     // not yet: no wait returns this
    ANSWERED,    // with an outcome; its slot is free again, unless the wait keeps it
    QUEUE_FULL,  // nothing was published
    HOST_GONE,   // the host stopped, failed, or did not move for Limits::standstill
    TIMED_OUT,   // after Limits::nanoseconds or Limits::polls
};

struct Reply {
    End end;
    bool host_moved;  // TIMED_OUT: the heartbeat moved meanwhile, so that waiting on makes sense.
                      // A host beats a few times a second: of a shorter wait, false says nothing
    Ticket ticket;    // HOST_GONE, TIMED_OUT: still holds the request: wait on, or `abandon` it.
                      // ANSWERED by a wait that keeps: the caller's to publish in. Else none
    Outcome outcome;  // ANSWERED; all zeros otherwise
    VYRE_IOQ_BOTH bool ok() const { return end == End::ANSWERED && outcome.ok(); }
};

// How long to wait. Every wait is bounded. Times are those of %globaltimer, which PTX leaves
// unspecified in code that the driver compiles for a GPU other than the PTX's target: a timer that stands
// still ends a wait after STUCK looks at it, and `polls` bounds a wait whatever the timer does.
struct Limits {
    u64 nanoseconds = 30000000000ull;  // by the GPU's timer, looked at every LOOK polls
    u64 standstill = 0;  // nanoseconds that HEARTBEAT may stand still; 0: it is not looked at
    u32 polls = 0;       // 0: no limit. With one, the header is looked at every LOOK polls
    u32 nap = 0;         // nanoseconds to sleep between two polls, after the first LOOK; 0: none.
                         // A GPU sleeps 1 ms at most, whatever is asked for
};
enum : u32 {
    LOOK = 64,  // polls between two looks at the clock
    STUCK = 65536,  // looks that find the same time before the clock counts as broken, some seconds;
                    // with naps, as many fewer as they are longer
    // Nanoseconds between two looks at the header, where no limit asks for more. A GPU has its loads
    // of one address of host memory one after the other, about one in a microsecond, whoever makes
    // them: lanes that all look often wait for each other longer than for their outcomes.
    HEADER_EACH = 10000000,
};

// Why memory cannot be a queue: the rules of ABI.md, section 3, by name.
enum class Attach : u32 {
    Ok, Misaligned, TooShort, BadMagic, MajorVersion, BadStride, BadSlotsOffset, ReservedNotZero,
    BadSlotCount, BareLength,
};

// An aligned unit of 16 bytes. Words 4 to 7 of a slot are one: the outcome beside its status.
struct Unit {
    u32 a, b, c, d;
};
}  // namespace vyre_ioq

// ---- Accesses: to `shared` memory, which the host sees, at system scope and without any
// read-modify-write; to `local` memory, which is the device's own, at device scope. ----

#if defined(__CUDA_ARCH__)
namespace vyre_ioq {
namespace detail {

// A 16-byte access is one access, and may have an order, only as .b128 (at system scope from PTX ISA
// 8.4 on). As .v4 it is four accesses without an order among them, so that STATUS could be seen
// before COUNT and TAG.
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 4)
#define VYRE_IOQ_UNITS 1
#else
#define VYRE_IOQ_UNITS 0
#endif

// The order of each access is in its name, or relaxed.
#define VYRE_IOQ_LOAD(name, order)                                                         \
    VYRE_IOQ_BOTH __forceinline__ u32 name(const u32 *at) {                                \
        u32 value;                                                                         \
        asm volatile("ld." order ".global.u32 %0, [%1];"                                   \
                     : "=r"(value) : "l"(__cvta_generic_to_global(at)) : "memory");        \
        return value;                                                                      \
    }
#define VYRE_IOQ_STORE(name, instruction)                                                  \
    VYRE_IOQ_FN __forceinline__ void name(u32 *at, u32 value) {                            \
        asm volatile(instruction " [%0], %1;"                                              \
                     :: "l"(__cvta_generic_to_global(at)), "r"(value) : "memory");         \
    }
VYRE_IOQ_LOAD(load_shared, "relaxed.sys")
VYRE_IOQ_LOAD(load_shared_acquire, "acquire.sys")
VYRE_IOQ_STORE(store_shared, "st.relaxed.sys.global.u32")
VYRE_IOQ_STORE(store_shared_release, "st.release.sys.global.u32")
VYRE_IOQ_LOAD(load_local, "relaxed.gpu")
VYRE_IOQ_LOAD(load_local_acquire, "acquire.gpu")
VYRE_IOQ_STORE(store_local_release, "st.release.gpu.global.u32")
VYRE_IOQ_STORE(set_local, "red.relaxed.gpu.global.or.b32")
VYRE_IOQ_STORE(set_local_release, "red.release.gpu.global.or.b32")
VYRE_IOQ_STORE(clear_local_release, "red.release.gpu.global.and.b32")
// Without an order: whoever polls makes a fence once there is an outcome.
VYRE_IOQ_LOAD(poll_shared, "relaxed.sys")

VYRE_IOQ_FN __forceinline__ u32 set_local_acquire(u32 *at, u32 bits) {
    u32 before;
    asm volatile("atom.acquire.gpu.global.or.b32 %0, [%1], %2;"
                 : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(bits) : "memory");
    return before;
}
VYRE_IOQ_FN __forceinline__ u32 clear_local_acquire(u32 *at, u32 bits) {
    u32 before;
    asm volatile("atom.acquire.gpu.global.and.b32 %0, [%1], %2;"
                 : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(bits) : "memory");
    return before;
}
VYRE_IOQ_FN __forceinline__ void swap_local(u32 *at, u32 expected, u32 value) {
    u32 before;
    asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
                 : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(expected), "r"(value)
                 : "memory");
    (void)before;
}
VYRE_IOQ_FN __forceinline__ u32 add_local(u32 *at, u32 value) {
    u32 before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(__cvta_generic_to_global(at)), "r"(value) : "memory");
    return before;
}
VYRE_IOQ_FN __forceinline__ void fence_shared() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
// Acquire alone, where there is such a fence (PTX ISA 8.6 of CUDA 12.7, sm_90). Unlike one of both
// directions, it need not wait until this thread's stores have crossed the bus and been acknowledged.
VYRE_IOQ_FN __forceinline__ void fence_shared_acquire() {
#if __CUDA_ARCH__ >= 900 && \
    (__CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 7))
    asm volatile("fence.acquire.sys;" ::: "memory");
#else
    fence_shared();
#endif
}
// Who publishes and then waits does not look at once: no outcome is there before the request has crossed
// the bus, and the look after one that came too early is a round trip of a microsecond later. 800
// cycles, 0.4 us, are where a read out of the page cache fared best of all that were tried (H200).
VYRE_IOQ_FN __forceinline__ void lead() {
    // Unsigned: a clock of another multiprocessor, where the warp may go on, ends the loop if it is
    // behind, and may be ahead.
    u64 began = (u64)clock64();
    while ((u64)clock64() - began < 800) {}
}
VYRE_IOQ_FN __forceinline__ void fence_seq_cst() { asm volatile("fence.sc.sys;" ::: "memory"); }

#if VYRE_IOQ_UNITS
#define VYRE_IOQ_STORE_UNIT(name, order)                                                   \
    VYRE_IOQ_FN __forceinline__ void name(u32 *at, const Unit &unit) {                     \
        asm volatile("{ .reg .b64 low, high; .reg .b128 unit; mov.b64 low, {%1, %2};"      \
                     " mov.b64 high, {%3, %4}; mov.b128 unit, {low, high};"                \
                     " st." order ".sys.global.b128 [%0], unit; }"                         \
                     :: "l"(__cvta_generic_to_global(at)), "r"(unit.a), "r"(unit.b),       \
                        "r"(unit.c), "r"(unit.d) : "memory");                              \
    }
VYRE_IOQ_STORE_UNIT(store_unit, "relaxed")
VYRE_IOQ_STORE_UNIT(publish_unit, "release")
VYRE_IOQ_FN __forceinline__ Unit load_unit(const u32 *at) {
    Unit unit;
    asm volatile("{ .reg .b64 low, high; .reg .b128 unit; ld.relaxed.sys.global.b128 unit, [%4];"
                 " mov.b128 {low, high}, unit; mov.b64 {%0, %1}, low; mov.b64 {%2, %3}, high; }"
                 : "=r"(unit.a), "=r"(unit.b), "=r"(unit.c), "=r"(unit.d)
                 : "l"(__cvta_generic_to_global(at)) : "memory");
    return unit;
}
#endif
}  // namespace detail
}  // namespace vyre_ioq
#else
#include "vyre_ioq_shim.h"
#endif

namespace vyre_ioq {
namespace detail {

// Lanes of a warp. Those in `mask` call each of these together; `sync` orders their memory.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
VYRE_IOQ_FN __forceinline__ u32 lane_id() {
    u32 lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
VYRE_IOQ_FN __forceinline__ u32 ballot(u32 mask, bool vote) { return __ballot_sync(mask, vote); }
VYRE_IOQ_FN __forceinline__ u32 shuffle(u32 mask, u32 value, u32 from) {
    return __shfl_sync(mask, value, from);
}
VYRE_IOQ_FN __forceinline__ void sync(u32 mask) { __syncwarp(mask); }
VYRE_IOQ_FN __forceinline__ u64 now() {
    u64 time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
}
VYRE_IOQ_FN __forceinline__ void nap(u32 nanoseconds) { __nanosleep(nanoseconds); }
VYRE_IOQ_FN __forceinline__ u32 count(u32 bits) { return __popc(bits); }
VYRE_IOQ_FN __forceinline__ u32 lowest(u32 bits) { return __ffs(bits) - 1; }
// The bits that any lane has.
VYRE_IOQ_FN __forceinline__ u32 any_bits(u32 mask, u32 bits) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_or_sync(mask, bits);
#else
    u32 any = bits;
    if (mask == FULL_WARP) {
        for (u32 apart = 16; apart != 0; apart /= 2) any |= shuffle(mask, any, lane_id() ^ apart);
        return any;
    }
    for (u32 left = mask; left != 0; left &= left - 1) any |= shuffle(mask, bits, lowest(left));
    return any;
#endif
}
#endif

// The lowest `many` bits of `bits`; all, if there are fewer.
VYRE_IOQ_FN inline u32 lowest_bits(u32 bits, u32 many) {
    u32 rest = bits;
    for (; many != 0 && rest != 0; --many) rest &= rest - 1;
    return bits & ~rest;
}

// Returns STATE of a header; RUNNING for null, which stands for a bare queue here and below. Acquire,
// paired with the host's release. Any value that has no name means FAILED.
VYRE_IOQ_FN inline u32 host_state(const u32 *header) {
    if (header == nullptr) return state::RUNNING;
    u32 found = load_shared_acquire(header + header_word::STATE);
    return found > state::FAILED ? state::FAILED : found;
}

// Returns HEARTBEAT of a header; 0 for null.
VYRE_IOQ_FN inline u32 host_heartbeat(const u32 *header) {
    return header == nullptr ? 0 : load_shared(header + header_word::HEARTBEAT);
}

// Decides when a wait has lasted long enough.
struct Watch {
    const Limits &limits;
    u64 started = 0, moved_at = 0, looked_at = 0, last_now = 0;
    u32 polls = 0, beat = 0, stuck = 0;
    bool moved = false, knows_beat = false;

    VYRE_IOQ_FN Watch(const Limits &given) : limits(given) {}

    // After each poll that found nothing. `header` is that of the queue; null for a bare queue.
    VYRE_IOQ_FN End look(const u32 *header) {
        bool last = ++polls == limits.polls && limits.polls != 0;  // they may wrap
        if (polls % LOOK != 0 && !last) {
            if (limits.nap != 0 && polls > LOOK) nap(limits.nap);
            return End::PENDING;
        }
        u64 now = detail::now();
        if (started == 0) started = looked_at = now;
        stuck = now == last_now ? stuck + 1 : 0;
        last_now = now;
        bool over = last || now - started >= limits.nanoseconds || stuck >= stuck_looks();
        if (!over && now - looked_at < header_each()) return End::PENDING;
        looked_at = now;
        return look_at_header(header, now, over);
    }

  private:
    VYRE_IOQ_FN End look_at_header(const u32 *header, u64 now, bool over) {
        u32 beat_now = host_heartbeat(header);
        // From the first look on, however late that was: it is no evidence of a standstill.
        if (!knows_beat || beat != beat_now) moved_at = now;
        moved = moved || (knows_beat && beat != beat_now);
        beat = beat_now;
        knows_beat = true;
        if (host_state(header) >= state::STOPPED) return End::HOST_GONE;
        if (limits.standstill != 0 && header != nullptr && now - moved_at >= limits.standstill) {
            return End::HOST_GONE;
        }
        return over ? End::TIMED_OUT : End::PENDING;
    }

    // A poll takes a microsecond, and the nap, which is 1 ms at most.
    VYRE_IOQ_FN u32 stuck_looks() const {
        return STUCK / (1 + (limits.nap < 1000000 ? limits.nap : 1000000) / 1000);
    }

    // Often enough to see a beat move within the limits.
    VYRE_IOQ_FN u64 header_each() const {
        if (limits.polls != 0) return 0;
        u64 each = HEADER_EACH;
        if (limits.nanoseconds / 4 < each) each = limits.nanoseconds / 4;
        if (limits.standstill != 0 && limits.standstill / 4 < each) each = limits.standstill / 4;
        return each;
    }
};
}  // namespace detail
}  // namespace vyre_ioq
#endif  // VYRE_IOQ_PARTS_CUH
