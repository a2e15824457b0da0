// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_ioq_types.cuh
/// @brief Requests, outcomes and wait limits of the CUDA header: plain values, for host and device.
///
/// Include vyre_ioq.cuh, which includes this file.
#ifndef VYRE_IOQ_TYPES_CUH
#define VYRE_IOQ_TYPES_CUH

#ifndef VYRE_IOQ_ABI_CUH  // NVRTC gets the texts one after the other, and no include path
#include "vyre_ioq_abi.cuh"
#endif

namespace vyre_ioq {

enum : u32 {
    FULL_WARP = 0xffffffff,   ///< The mask of all 32 lanes of a warp.
    NO_SLOT = 0xffffffff,     ///< The slot of a ticket that names no slot.
    NO_OUTCOME = 0xffffffff,  ///< What Outcome::error() returns if there is no outcome.
};

/// The device's private memory for one queue: locks, marks and counters. The host end never sees it.
///
/// Allocate it in GPU memory, and zero it before the first kernel that uses the queue. Keep it until no
/// request is in flight. A zeroed DeviceState is a new device end of the queue. If the host creates a
/// new queue, even in the same memory, zero it again.
struct DeviceState {
    u32 locks[MAX_SLOTS / 32];           ///< One bit for each reserved slot.
    u32 known[MAX_SLOTS / 32];           ///< One bit for each slot that was ever reserved.
    u32 abandoned[MAX_SLOTS / 32];       ///< One bit for each abandoned slot.
    u32 marks[MAX_SLOTS / GROUP_SLOTS];  ///< 1 for each group that was marked as in use.
    u32 rings;                           ///< The number last stored in DOORBELL; 0: none yet.
    u32 abandons;                        ///< Number of abandoned slots.
};

/// A slot that its holder has reserved, until its outcome is taken.
struct Ticket {
    u32 slot;  ///< The slot number, or NO_SLOT.

    /// Returns whether the ticket names no slot: the queue was full.
    VYRE_IOQ_HOST_DEVICE bool is_none() const { return slot == NO_SLOT; }
};

/// A request for file I/O.
///
/// Handles are numbers that the host assigned to ranges of files and buffers. Offsets count from the
/// start of those ranges.
struct Request {
    u32 op;              ///< OP_READ, OP_WRITE, OP_FENCE, OP_SYNC, OP_PREFETCH or OP_MAP.
    u32 source;          ///< READ: file handle. WRITE: buffer handle.
    u32 destination;     ///< READ: buffer handle. WRITE, SYNC, PREFETCH, MAP: file handle.
    u32 count;           ///< Bytes to transfer.
    u32 flags;           ///< FLAG_DURABLE, FLAG_EXACT.
    u32 deadline;        ///< Microseconds from the host's claim to its cancellation; 0: none.
    u32 tag;             ///< Any value; returned with the outcome.
    u64 file_offset;     ///< In bytes.
    u64 buffer_offset;   ///< In bytes.

    /// Returns a request that reads `count` bytes from a file into a buffer.
    ///
    /// A short count marks the end of the file, or an error after some bytes. To tell them apart, read
    /// the rest: at the end of the file it moves no bytes. With exact(), a short count is an error.
    static VYRE_IOQ_HOST_DEVICE Request read(u32 file, u64 offset, u32 count, u32 buffer,
                                             u64 buffer_offset) {
        return Request{OP_READ, file, buffer, count, 0, 0, 0, offset, buffer_offset};
    }

    /// Returns a request that writes `count` bytes from a buffer into a file.
    ///
    /// Stores to the buffer by other threads must happen before the publication.
    static VYRE_IOQ_HOST_DEVICE Request write(u32 file, u64 offset, u32 count, u32 buffer,
                                              u64 buffer_offset) {
        return Request{OP_WRITE, buffer, file, count, 0, 0, 0, offset, buffer_offset};
    }

    /// Returns a request that completes when every request published before it, other fences
    /// excepted, has completed.
    static VYRE_IOQ_HOST_DEVICE Request fence() {
        return Request{OP_FENCE, 0, 0, 0, 0, 0, 0, 0, 0};
    }

    /// Returns a request that completes when every earlier write to the file, completed or fenced, is
    /// on stable storage.
    static VYRE_IOQ_HOST_DEVICE Request sync(u32 file) {
        return Request{OP_SYNC, 0, file, 0, 0, 0, 0, 0, 0};
    }

    /// Returns a request that starts read-ahead of `count` bytes. It completes without waiting for
    /// the bytes.
    static VYRE_IOQ_HOST_DEVICE Request prefetch(u32 file, u64 offset, u32 count) {
        return Request{OP_PREFETCH, 0, file, count, 0, 0, 0, offset, 0};
    }

    /// Returns a request that lets the device load `count` bytes by itself, and completes once it can: see
    /// vyre_windows.cuh. Fails with EOPNOTSUPP where the host does not have that for the file, and with
    /// ENOBUFS where it keeps no more bytes in memory.
    static VYRE_IOQ_HOST_DEVICE Request map(u32 file, u64 offset, u32 count) {
        return Request{OP_MAP, 0, file, count, 0, 0, 0, offset, 0};
    }

    /// READ, WRITE: returns the same request, for which a short count is the error ENODATA.
    VYRE_IOQ_HOST_DEVICE Request exact() const { return with_flags(FLAG_EXACT); }

    /// WRITE: returns the same request, whose bytes are on stable storage when it completes.
    VYRE_IOQ_HOST_DEVICE Request durable() const { return with_flags(FLAG_DURABLE); }

    /// Returns the same request with more flags.
    VYRE_IOQ_HOST_DEVICE Request with_flags(u32 more) const {
        Request changed = *this;
        changed.flags |= more;
        return changed;
    }

    /// Returns the same request with a deadline, in microseconds from the host's claim; 0: none.
    VYRE_IOQ_HOST_DEVICE Request with_deadline(u32 micros) const {
        Request changed = *this;
        changed.deadline = micros;
        return changed;
    }

    /// Returns the same request with a tag, which is returned with the outcome.
    VYRE_IOQ_HOST_DEVICE Request with_tag(u32 value) const {
        Request changed = *this;
        changed.tag = value;
        return changed;
    }
};

/// The outcome of a request. All zeros if there is none.
struct Outcome {
    u32 status;  ///< STATUS_OK, STATUS_ERROR, or 0 if there is no outcome.
    u32 count;   ///< STATUS_OK: bytes transferred. STATUS_ERROR: a Linux errno.
    u32 tag;     ///< The request's tag.

    /// Returns whether the request succeeded.
    VYRE_IOQ_HOST_DEVICE bool ok() const { return status == STATUS_OK; }

    /// Returns the bytes transferred; 0 after an error.
    VYRE_IOQ_HOST_DEVICE u32 bytes() const { return ok() ? count : 0; }

    /// Returns the Linux errno: 0 only after success, NO_OUTCOME if there is no outcome.
    VYRE_IOQ_HOST_DEVICE u32 error() const {
        if (ok()) return 0;
        if (status != STATUS_ERROR) return NO_OUTCOME;
        return count == 0 ? static_cast<u32>(ERRNO_EIO) : count;
    }

    /// Returns whether the request succeeded with fewer bytes than `requested`.
    VYRE_IOQ_HOST_DEVICE bool is_short(u32 requested) const { return ok() && count < requested; }
};

/// Result of a wait.
enum class WaitStatus : u32 {
    PENDING,     ///< Not yet ended. No wait returns this.
    COMPLETED,   ///< There is an outcome. The slot is free, unless the call keeps it.
    QUEUE_FULL,  ///< No slot was free, and nothing was published.
    HOST_GONE,   ///< The host stopped or failed, or its heartbeat stood still too long.
    TIMED_OUT,   ///< WaitLimits::timeout_ns or WaitLimits::max_polls was reached.
};

/// Returns the name of a wait status, such as "QUEUE_FULL".
VYRE_IOQ_HOST_DEVICE inline const char *name(WaitStatus status) {
    switch (status) {
    case WaitStatus::PENDING: return "PENDING";
    case WaitStatus::COMPLETED: return "COMPLETED";
    case WaitStatus::QUEUE_FULL: return "QUEUE_FULL";
    case WaitStatus::HOST_GONE: return "HOST_GONE";
    case WaitStatus::TIMED_OUT: return "TIMED_OUT";
    }
    return "unknown";
}

/// The result of a wait.
struct WaitResult {
    WaitStatus status;

    /// TIMED_OUT: whether the host's heartbeat moved during the wait, so that waiting again makes
    /// sense. A live host beats a few times a second: false says nothing about a shorter wait.
    bool heartbeat_moved;

    /// HOST_GONE, TIMED_OUT: still holds the request; wait again, or abandon it. COMPLETED by a call
    /// that keeps the slot: ready for the next publication. Otherwise names no slot.
    Ticket ticket;

    /// COMPLETED: the outcome. Otherwise all zeros.
    Outcome outcome;

    /// Returns whether the request completed and succeeded.
    VYRE_IOQ_HOST_DEVICE bool ok() const {
        return status == WaitStatus::COMPLETED && outcome.ok();
    }
};

/// Duration and manner of a wait. Every wait ends.
///
/// Time is that of %globaltimer. PTX does not specify its rate in code that the driver compiles for a
/// GPU other than the one the PTX targets. If the timer stands still, a wait ends after some seconds;
/// `max_polls` bounds a wait without a clock.
struct WaitLimits {
    /// Nanoseconds to wait for the outcome.
    u64 timeout_ns = 30000000000ull;

    /// Nanoseconds that the host's heartbeat may stand still; 0: do not check it.
    u64 heartbeat_timeout_ns = 0;

    /// Number of polls; 0: no limit. If set, the wait checks the queue's header often.
    u32 max_polls = 0;

    /// Nanoseconds to sleep between two polls, after the first 64; 0: do not sleep. A GPU sleeps for
    /// at most 1 ms.
    u32 sleep_ns = 0;

    /// Clock cycles between the publication and the first poll in `perform`, `warp_perform` and
    /// `warp_perform_kept`; 0: poll at once.
    ///
    /// No outcome can exist before the request has crossed the bus, and a poll that comes too early
    /// costs a round trip of about 1 us. The default is 0.4 us at 2 GHz, the best of the values that
    /// were measured for cached reads on an H200.
    u32 first_poll_delay_cycles = 800;
};
}  // namespace vyre_ioq
#endif  // VYRE_IOQ_TYPES_CUH
