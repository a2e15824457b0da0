// SPDX-License-Identifier: MIT OR Apache-2.0
/// @file vyre_ioq.cuh
/// @brief The device end of a vyre I/O queue, for CUDA kernels.
///
/// Threads and warps request file I/O in the middle of a kernel; a host serves the requests. ABI.md in
/// the repository is the normative description, and docs/gpu-kernels.md is the guide.
///
///     __global__ void load(vyre_ioq::Queue queue, unsigned file, unsigned pool) {
///         using namespace vyre_ioq;
///         u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
///         Request block = Request::read(file, warp * 65536ull, 65536, pool, warp * 65536ull);
///         WaitResult result = queue.warp_perform(FULL_WARP, block.exact(), warp, WaitLimits());
///         if (!result.ok()) { ... }  // result.status, result.outcome.error()
///         ...                        // every lane of the warp may read the block
///     }
///
/// Requires sm_70. Compiles with nvcc (C++14 or later) and with NVRTC: give NVRTC the texts of
/// vyre_ioq_abi.cuh, vyre_ioq_types.cuh, vyre_ioq_device.cuh and this file, one after the other; no
/// include path is needed. With g++ or clang++, CPU threads stand in for lanes: see vyre_ioq_shim.h.
///
/// Rules for the caller:
///
/// 1. All kernels of a queue share one DeviceState, which is zeroed before the first. It is private
///    memory of the device: a GPU and a CPU do not exclude each other's atomics on shared memory.
/// 2. Until a request has an outcome, nobody accesses the buffer of a READ or modifies the buffer of a
///    WRITE. This also holds after HOST_GONE and TIMED_OUT.
/// 3. Whoever gets a ticket takes its outcome or abandons it. A lost ticket takes its slot out of use.
/// 4. If the queue is full, collect outcomes before retrying: other lanes may also be waiting.
///
/// The namespace `detail` and macros that end in an underscore are internal.
#ifndef VYRE_IOQ_CUH
#define VYRE_IOQ_CUH

#ifndef VYRE_IOQ_DEVICE_CUH  // NVRTC gets the texts one after the other, and no include path
#include "vyre_ioq_device.cuh"
#endif

namespace vyre_ioq {

/// The device end of a queue. Kernels take it by value.
struct Queue {
    u32 *base;                  ///< First byte of the queue, as the device sees it.
    u32 *first;                 ///< First byte of slot 0, as the device sees it.
    DeviceState *device_state;  ///< The device's private memory.
    u64 id;                     ///< The creator's name for the queue; 0 for a bare queue.
    u32 slots;                  ///< Number of slots.
    u32 features;               ///< FEATURE_... bits that both ends support.
    bool bare;                  ///< Whether the queue has the bare layout.
    bool units;                 ///< Whether slots are accessed in units of 16 bytes, where the compiler
                                ///< allows. Set it to false to access words only: ABI.md, section 5.
    bool counts;                ///< Whether outcomes carry byte counts and errnos.

    // ---- Attach, on the CPU that launches the kernels or on the device ----

    /// Attaches to a queue with a header.
    ///
    /// @param here   First byte of the queue, as the caller sees it.
    /// @param device First byte of the queue, as kernels will see it.
    /// @param bytes  Length of the memory.
    /// @param state  Zeroed GPU memory for this queue; kernels on one GPU, in one memory synchronization
    ///               domain, may share it.
    /// @param[out] queue Set if the result is NONE.
    /// @return AttachError::NONE, or the first rule of ABI.md, section 3, that the memory breaks.
    static VYRE_IOQ_HOST_DEVICE AttachError attach(const void *here, void *device, u64 bytes,
                                                   DeviceState *state, Queue *queue) {
        if (((u64)here | (u64)device) % HEADER_ALIGN != 0) return AttachError::MISALIGNED;
        if (bytes < HEADER_BYTES) return AttachError::TOO_SHORT;
        const u32 *header = (const u32 *)here;
        u32 line[16];
        // Acquire, paired with the release by which the host stores the magic after the other words.
        line[HEADER_WORD_MAGIC] = mem::load_system_acquire(header);
        for (u32 i = 1; i < 16; ++i) line[i] = mem::load_system(header + i);
        if (line[0] != MAGIC_0 || line[1] != MAGIC_1) return AttachError::BAD_MAGIC;
        if (line[HEADER_WORD_MAJOR] != ABI_MAJOR) return AttachError::MAJOR_VERSION;
        if (line[HEADER_WORD_STRIDE] != SLOT_BYTES) return AttachError::BAD_STRIDE;
        u32 offset = line[HEADER_WORD_SLOTS_OFFSET], slot_count = line[HEADER_WORD_SLOTS];
        if (offset % SLOT_BYTES != 0 || offset < HEADER_BYTES) return AttachError::BAD_SLOTS_OFFSET;
        for (u32 i = HEADER_WORD_QUEUE_ID + 2; i < 16; ++i) {
            if (line[i] != 0) return AttachError::RESERVED_NOT_ZERO;
        }
        if (slot_count == 0 || slot_count > MAX_SLOTS) return AttachError::BAD_SLOT_COUNT;
        if (bytes < offset + (u64)slot_count * SLOT_BYTES) return AttachError::TOO_SHORT;
        u64 id = line[HEADER_WORD_QUEUE_ID] | (u64)line[HEADER_WORD_QUEUE_ID + 1] << 32;
        u32 *base = (u32 *)device;
        // No GPU thread sleeps until the host wakes it, so ARMED stays as it is.
        u32 common = line[HEADER_WORD_FEATURES] & (FEATURE_DOORBELL | FEATURE_WAKE);
        *queue = Queue{base, base + offset / 4, state, id, slot_count, common, false, true, true};
        return AttachError::NONE;
    }

    /// Attaches to a queue of the bare layout, which fills the memory.
    ///
    /// The host of a bare queue stores STATUS only, so an outcome's `count` is not a result: for
    /// STATUS_OK it is the count of the request, although the transfer may have been shorter; for
    /// STATUS_ERROR it is always ERRNO_EIO.
    ///
    /// @param device, bytes, state, queue As for attach().
    /// @return AttachError::NONE, MISALIGNED, BARE_LENGTH or BAD_SLOT_COUNT.
    static VYRE_IOQ_HOST_DEVICE AttachError attach_bare(void *device, u64 bytes, DeviceState *state,
                                                        Queue *queue) {
        u64 slot_count = bytes / BARE_SLOT_BYTES, address = (u64)device;
        if (address % 4 != 0) return AttachError::MISALIGNED;
        if (bytes % BARE_SLOT_BYTES != 0) return AttachError::BARE_LENGTH;
        if (slot_count == 0 || slot_count > MAX_BARE_SLOTS) return AttachError::BAD_SLOT_COUNT;
        u32 *base = (u32 *)device;
        *queue = Queue{base, base, state, 0, (u32)slot_count, 0, true, address % 16 == 0, false};
        return AttachError::NONE;
    }

    /// Attaches to a bare queue whose host was configured to store byte counts and errnos in COUNT.
    ///
    /// With any other host, the counts and errnos of outcomes are meaningless.
    ///
    /// @return As attach_bare().
    static VYRE_IOQ_HOST_DEVICE AttachError attach_bare_with_counts(void *device, u64 bytes,
                                                                    DeviceState *state,
                                                                    Queue *queue) {
        AttachError error = attach_bare(device, bytes, state, queue);
        if (error == AttachError::NONE) queue->counts = true;
        return error;
    }

    // ---- Threads: each thread calls these for itself ----

    /// Reserves a slot.
    ///
    /// Tries slot `hint` (modulo the number of slots) first, then the lowest free slot of the same 32,
    /// then the next 32. If no slot is free, reuses an abandoned slot whose request has an outcome.
    ///
    /// With hint 0 the slots in use lie close together, which keeps the host's sweep short, but many
    /// lanes compete for one lock word. Lanes that are numbered from 0 and pass their numbers avoid both.
    ///
    /// @return A ticket; its is_none() is true if the queue is full.
    VYRE_IOQ_DEVICE Ticket reserve(u32 hint = 0) const {
        u32 lock_words = (slots + 31) / 32, start = hint % slots;
        u32 preferred = 1u << start % 32;
        for (u32 i = 0; i < lock_words; ++i, preferred = 0) {
            u32 index = (start / 32 + i) % lock_words;
            // Relaxed, and together with the lock word: is_usable() says why an old value is correct.
            u32 known = mem::load_device(&device_state->known[index]);
            u32 busy = mem::load_device(&device_state->locks[index]) | absent(index);
            while (busy != 0xffffffff) {
                u32 bit = preferred & ~busy ? preferred : ~busy & (busy + 1);
                // Acquire, paired with the release in unlock(): taking the last outcome happens before
                // the next publication.
                u32 before = mem::fetch_or_device_acquire(&device_state->locks[index], bit);
                busy |= before | bit;
                if (before & bit) continue;
                Ticket ticket{index * 32 + simt::lowest_bit(bit)};
                if (is_usable(ticket.slot, known)) return ticket;
                unlock(ticket.slot);
            }
        }
        return reclaim();
    }

    /// Publishes a request in a reserved slot. Does nothing for a ticket that names no slot.
    ///
    /// Everything that happened before is visible to the host, including the bytes of a WRITE. A bare
    /// queue does not carry the buffer offset, the flags and the deadline.
    VYRE_IOQ_DEVICE void publish(Ticket ticket, const Request &request) const {
        if (ticket.is_none()) return;
        u32 *at = slot_words(ticket.slot);
        // Words 12 to 15 are zero from the start, and nobody writes them.
        if (!bare) {
            detail::store_unit(at + WORD_BUFFER_OFFSET_LOW,
                               {(u32)request.buffer_offset, (u32)(request.buffer_offset >> 32),
                                request.flags, request.deadline},
                               units);
        }
        detail::store_unit(
            at, {request.op, request.source, request.destination, (u32)request.file_offset}, units);
        // Release at system scope, paired with the host's acquire load before it claims.
        detail::publish_unit(at + WORD_FILE_OFFSET_HIGH,
                             {(u32)(request.file_offset >> 32), request.count, STATUS_PUBLISHED,
                              request.tag},
                             units);
    }

    /// Reserves a slot and publishes a request in it.
    ///
    /// @param hint As for reserve().
    /// @return A ticket; its is_none() is true if the queue is full.
    VYRE_IOQ_DEVICE Ticket submit(const Request &request, u32 hint = 0) const {
        Ticket ticket = reserve(hint);
        if (!ticket.is_none()) publish(ticket, request);
        return ticket;
    }

    /// Reads the outcome of a published request, if there is one. Does not free the slot.
    ///
    /// Call it from the thread that published the request, or after synchronizing with it. Otherwise
    /// the slot may still show the outcome of an earlier request. After true, the bytes of a READ are
    /// visible to this thread, and to threads that it then synchronizes with.
    ///
    /// @param[out] outcome Set if the result is true.
    /// @return Whether there is an outcome.
    VYRE_IOQ_DEVICE bool poll(Ticket ticket, Outcome *outcome) const {
        if (ticket.is_none()) return false;
        const u32 *at = slot_words(ticket.slot) + WORD_FILE_OFFSET_HIGH;
        if (!detail::poll_unit(at, units, outcome)) return false;
        // COUNT still holds the count of the request.
        if (bare && !counts && !outcome->ok()) outcome->count = ERRNO_EIO;
        return true;
    }

    /// Takes the outcome of a published request, if there is one, and frees the slot.
    ///
    /// After true, the ticket must not be used again. The call stores nothing in the slot, whose cache
    /// line stays with the host; the next publication replaces the outcome.
    ///
    /// @return As poll().
    VYRE_IOQ_DEVICE bool take(Ticket ticket, Outcome *outcome) const {
        if (!poll(ticket, outcome)) return false;
        unlock(ticket.slot);
        return true;
    }

    /// Frees a reserved or kept slot in which nothing was published since.
    ///
    /// If the slot holds a request, the host may be serving it; the call is then abandon(). Loads the
    /// slot's status, which is a round trip over the bus.
    VYRE_IOQ_DEVICE void unreserve(Ticket ticket) const {
        if (ticket.is_none()) return;
        if (holds_request(ticket.slot)) return abandon(ticket);
        unlock(ticket.slot);
    }

    /// Gives up a published request without taking its outcome.
    ///
    /// The host still serves the request. Its slot is reused once it has an outcome and no other
    /// slot is free. Until then the request's buffer must not be used, and no call tells when that
    /// is. If several lanes share a ticket, one of them abandons it, once.
    VYRE_IOQ_DEVICE void abandon(Ticket ticket) const {
        if (ticket.is_none()) return;
        // Release, paired with the acquire in reclaim(): the publication happens before the status is
        // read there.
        mem::or_device_release(&device_state->abandoned[ticket.slot / 32], 1u << ticket.slot % 32);
        mem::fetch_add_device(&device_state->abandons, 1);
    }

    /// Waits for the outcome of a published request, takes it and frees the slot.
    VYRE_IOQ_DEVICE WaitResult wait(Ticket ticket, const WaitLimits &limits) const {
        WaitResult result = wait_and_keep(ticket, limits);
        if (result.status == WaitStatus::COMPLETED) {
            unlock(result.ticket.slot);
            result.ticket.slot = NO_SLOT;
        }
        return result;
    }

    /// Waits for the outcome of a published request and keeps the slot.
    ///
    /// After COMPLETED, the ticket is ready for the next publish(). A lane that issues one request after
    /// the other saves the locking, about half a microsecond each time.
    VYRE_IOQ_DEVICE WaitResult wait_and_keep(Ticket ticket, const WaitLimits &limits) const {
        WaitResult result = initial_result(ticket);
        detail::WaitTimer timer(limits);
        while (result.status == WaitStatus::PENDING) {
            poll_into(&result);
            if (result.status == WaitStatus::PENDING) result.status = timer.check(header());
        }
        // STATE was loaded with acquire: an outcome that the host stored before it is visible now.
        if (result.status == WaitStatus::HOST_GONE || result.status == WaitStatus::TIMED_OUT) {
            poll_into(&result);
        }
        result.heartbeat_moved = timer.heartbeat_moved;
        return result;
    }

    /// Submits a request and waits for its outcome.
    ///
    /// Does not ring the doorbell: a host that sleeps without a bound does not notice the request.
    VYRE_IOQ_DEVICE WaitResult perform(const Request &request, u32 hint,
                                       const WaitLimits &limits) const {
        Ticket ticket = submit(request, hint);
        if (!ticket.is_none()) detail::delay_first_poll(limits.first_poll_delay_cycles);
        return wait(ticket, limits);
    }

    /// Rings the doorbell if the host sleeps. Call it after publishing, once for any number of requests.
    ///
    /// No other function rings, since a host that polls, or sleeps only with a bound, does not need it.
    ///
    /// @return Whether the host must now be woken. A GPU thread cannot do that: the program that launched the
    ///         kernel keeps the host awake meanwhile.
    VYRE_IOQ_DEVICE bool ring() const {
        if ((features & FEATURE_DOORBELL) == 0) return false;
        // Paired with the host's fence between its store to ASLEEP and its last sweep: either that sweep
        // finds what was published, or this load finds the host asleep.
        mem::fence_system_seq_cst();
        if (mem::load_system(base + HEADER_WORD_ASLEEP) != 1) return false;
        // The first ring continues from the number that an earlier device end stored. If several
        // lanes come first, one of them sets it.
        if (mem::load_device(&device_state->rings) == 0) {
            u32 previous = mem::load_system(base + HEADER_WORD_DOORBELL);
            mem::compare_exchange_device(&device_state->rings, 0, previous);
        }
        // No two rings store the same number. If two lanes each added one to DOORBELL itself, the slower
        // could restore the number that the host sleeps on.
        u32 rings = mem::fetch_add_device(&device_state->rings, 1) + 1;
        mem::store_system(base + HEADER_WORD_DOORBELL, rings);
        return true;
    }

    // ---- Warps: all lanes of `mask` call these together, with the same mask ----

    /// Submits one request for each lane.
    ///
    /// Takes one atomic for all lanes if neighbouring slots are free.
    ///
    /// @param hint That of the lowest lane: as for reserve().
    /// @return The lane's ticket; its is_none() is true if no slot was left for the lane.
    VYRE_IOQ_DEVICE Ticket warp_submit(u32 mask, const Request &request, u32 hint = 0) const {
        Ticket ticket = warp_reserve(mask, hint);
        if (!ticket.is_none()) publish(ticket, request);
        return ticket;
    }

    /// Waits until each lane has the outcome of its own ticket, takes them and frees the slots.
    ///
    /// A lane whose ticket names no slot waits for nothing. The first limit that is reached ends the
    /// wait of all lanes. After the return, each lane sees the bytes of all lanes' READs.
    VYRE_IOQ_DEVICE WaitResult warp_wait(u32 mask, Ticket ticket, const WaitLimits &limits) const {
        WaitResult result = warp_wait_and_keep(mask, ticket, limits);
        // The leader frees the slots of each lock word by one release. The sync in warp_wait_and_keep()
        // handed every lane's acquire on to it.
        bool locked = result.status == WaitStatus::COMPLETED;
        while (u32 left = simt::ballot(mask, locked)) {
            u32 index = simt::shuffle(mask, result.ticket.slot / 32, simt::lowest_bit(left));
            bool now = locked && result.ticket.slot / 32 == index;
            u32 bits = simt::reduce_or(mask, now ? 1u << result.ticket.slot % 32 : 0);
            if (simt::lane_id() == simt::lowest_bit(mask)) {
                mem::and_device_release(&device_state->locks[index], ~bits);
            }
            if (now) result.ticket.slot = NO_SLOT;
            locked = locked && !now;
        }
        simt::sync(mask);  // a lane that reserves next finds its slot free
        return result;
    }

    /// Waits as warp_wait() does, but each lane keeps its slot, as with wait_and_keep().
    VYRE_IOQ_DEVICE WaitResult warp_wait_and_keep(u32 mask, Ticket ticket,
                                                  const WaitLimits &limits) const {
        u32 leader = simt::lowest_bit(mask), lane = simt::lane_id();
        WaitResult result = initial_result(ticket);
        detail::WaitTimer timer(limits);
        WaitStatus end = WaitStatus::PENDING;
        while (end == WaitStatus::PENDING) {
            if (result.status == WaitStatus::PENDING) poll_into(&result);
            if (simt::ballot(mask, result.status == WaitStatus::PENDING) == 0) break;
            if (lane == leader) end = timer.check(header());
            end = (WaitStatus)simt::shuffle(mask, (u32)end, leader);
        }
        if (end != WaitStatus::PENDING) {  // the same for all lanes
            // Hands on the leader's acquire of STATE before the last poll. A shuffle would not.
            simt::sync(mask);
            if (result.status == WaitStatus::PENDING) {
                result.status = end;
                poll_into(&result);
            }
        }
        result.heartbeat_moved = simt::shuffle(mask, timer.heartbeat_moved, leader) != 0;
        simt::sync(mask);  // hands on every lane's acquire of its outcome
        return result;
    }

    /// Submits one request for the warp, the lowest lane's, and waits for its outcome.
    ///
    /// All lanes get the same result. Stores by any lane before the call are visible to the host, and the
    /// bytes of a READ are visible to all lanes. Like perform(), does not ring the doorbell.
    VYRE_IOQ_DEVICE WaitResult warp_perform(u32 mask, const Request &request, u32 hint,
                                            const WaitLimits &limits) const {
        WaitResult result = {};
        simt::sync(mask);  // every lane's stores, before the leader's release
        if (simt::lane_id() == simt::lowest_bit(mask)) result = perform(request, hint, limits);
        return broadcast(mask, result);
    }

    /// Performs a request as warp_perform() does, in a slot that the warp has reserved and keeps.
    ///
    /// After HOST_GONE or TIMED_OUT the slot still holds the request; publish nothing in it before
    /// wait_and_keep() has returned its outcome.
    ///
    /// @param ticket The ticket of the lowest lane.
    VYRE_IOQ_DEVICE WaitResult warp_perform_kept(u32 mask, Ticket ticket, const Request &request,
                                                 const WaitLimits &limits) const {
        WaitResult result = {};
        simt::sync(mask);  // every lane's stores, before the leader publishes
        if (simt::lane_id() == simt::lowest_bit(mask)) {
            if (!ticket.is_none()) {
                publish(ticket, request);
                detail::delay_first_poll(limits.first_poll_delay_cycles);
            }
            result = wait_and_keep(ticket, limits);
        }
        return broadcast(mask, result);
    }

    /// Reads `count` bytes for all lanes: warp_perform() with Request::read().
    VYRE_IOQ_DEVICE WaitResult warp_read(u32 mask, u32 file, u64 offset, u32 count, u32 buffer,
                                         u64 buffer_offset, u32 hint,
                                         const WaitLimits &limits) const {
        return warp_perform(mask, Request::read(file, offset, count, buffer, buffer_offset), hint,
                            limits);
    }

    /// Reserves one slot for each lane.
    ///
    /// @param hint That of the lowest lane: as for reserve().
    /// @return The lane's ticket; its is_none() is true if no slot was left for the lane.
    VYRE_IOQ_DEVICE Ticket warp_reserve(u32 mask, u32 hint = 0) const {
        u32 lane = simt::lane_id(), leader = simt::lowest_bit(mask);
        u32 rank = simt::popcount(mask & ((1u << lane) - 1)), lanes = simt::popcount(mask);
        u32 lock_words = (slots + 31) / 32, start = simt::shuffle(mask, hint, leader) % slots / 32;
        u32 given = 0, known = 0;
        Ticket mine{NO_SLOT};
        for (u32 i = 0; i < lock_words && given < lanes; ++i) {
            u32 index = (start + i) % lock_words;
            u32 seen = mem::load_device(&device_state->known[index]);
            u32 locked = lane == leader ? lock_several(index, lanes - given) : 0;
            locked = simt::shuffle(mask, locked, leader);
            if (rank >= given && rank - given < simt::popcount(locked)) {
                u32 below = detail::lowest_bits(locked, rank - given);
                mine.slot = index * 32 + simt::lowest_bit(locked & ~below);
                known = seen;
            }
            given += simt::popcount(locked);
        }
        simt::sync(mask);  // hands on the leader's acquire of the locks
        if (mine.is_none()) return reclaim();
        if (!is_usable(mine.slot, known)) {
            unlock(mine.slot);
            mine = reserve(hint);
        }
        return mine;
    }

    // ---- The host ----

    /// Returns the host's state, STATE_...; STATE_RUNNING for a bare queue.
    ///
    /// A number that names no state is reported as STATE_FAILED. Once the state is STATE_STOPPED or
    /// STATE_FAILED, every outcome that the host stored is visible, and no other will follow.
    VYRE_IOQ_DEVICE u32 host_state() const { return detail::host_state(header()); }

    /// Returns the host's heartbeat, a counter that changes while the host lives; 0 for a bare queue.
    VYRE_IOQ_DEVICE u32 host_heartbeat() const { return detail::host_heartbeat(header()); }

  private:
    VYRE_IOQ_DEVICE const u32 *header() const { return bare ? nullptr : base; }

    VYRE_IOQ_DEVICE u32 *slot_words(u32 slot) const {
        return first + (u64)slot * ((bare ? BARE_SLOT_BYTES : SLOT_BYTES) / 4);
    }

    // Returns the bits of a lock word that stand for no slot.
    VYRE_IOQ_DEVICE u32 absent(u32 index) const {
        u32 present = slots - index * 32;
        return present < 32 ? 0xffffffff << present : 0;
    }

    // Locks up to `many` free slots of a lock word, the lowest first. Acquire, as in reserve().
    VYRE_IOQ_DEVICE u32 lock_several(u32 index, u32 many) const {
        u32 locked = 0, busy = mem::load_device(&device_state->locks[index]) | absent(index);
        while (many != 0 && busy != 0xffffffff) {
            u32 wanted = detail::lowest_bits(~busy, many);
            u32 before = mem::fetch_or_device_acquire(&device_state->locks[index], wanted);
            locked |= wanted & ~before;
            many -= simt::popcount(wanted & ~before);
            busy |= before | wanted;
        }
        return locked;
    }

    // Release, paired with the acquire in reserve() and lock_several(). Clears only the caller's bit.
    VYRE_IOQ_DEVICE void unlock(u32 slot) const {
        mem::and_device_release(&device_state->locks[slot / 32], ~(1u << slot % 32));
    }

    // Returns whether a slot that was just locked can be used: it cannot if it still holds a request of
    // an earlier device end. `known` is a value that its word had at some time. If the bit is set there,
    // an earlier holder set it before it unlocked, and this lane's acquire of the lock came later: that
    // holder took its outcome and marked the group. Loading the status instead would cost a round trip
    // over the bus.
    VYRE_IOQ_DEVICE bool is_usable(u32 slot, u32 known) const {
        u32 bit = 1u << slot % 32;
        if (known & bit) return true;
        if (holds_request(slot)) return false;
        // The next publication replaces an outcome that nobody took, and any invalid status.
        mark_in_use(slot / GROUP_SLOTS);
        mem::or_device(&device_state->known[slot / 32], bit);
        return true;
    }

    // Acquire, paired with the host's release of the outcome: it no longer accesses the slot's buffer.
    VYRE_IOQ_DEVICE bool holds_request(u32 slot) const {
        u32 status = mem::load_system_acquire(slot_words(slot) + WORD_STATUS);
        return status == STATUS_PUBLISHED || status == STATUS_CLAIMED;
    }

    // Reserves an abandoned slot whose request has an outcome.
    VYRE_IOQ_DEVICE Ticket reclaim() const {
        if (mem::load_device(&device_state->abandons) == 0) return Ticket{NO_SLOT};
        for (u32 index = 0; index < (slots + 31) / 32; ++index) {
            u32 *abandoned = &device_state->abandoned[index];
            for (u32 left = mem::load_device(abandoned); left != 0; left &= left - 1) {
                u32 slot = index * 32 + simt::lowest_bit(left), bit = left & (0 - left);
                // The lane that clears the bit owns the slot. Acquire, paired with the release in
                // abandon().
                if ((mem::fetch_and_device_acquire(abandoned, ~bit) & bit) == 0) continue;
                if (!holds_request(slot)) {
                    mem::fetch_add_device(&device_state->abandons, 0xffffffff);
                    return Ticket{slot};
                }
                mem::or_device_release(abandoned, bit);
            }
        }
        return Ticket{NO_SLOT};
    }

    // Marks a group as in use, so that the host sweeps it. The host always sweeps group 0.
    VYRE_IOQ_DEVICE void mark_in_use(u32 group) const {
        if (bare || group == 0) return;
        // Acquire, paired with the release below: another lane's mark happens before this lane's
        // publication.
        if (mem::load_device_acquire(&device_state->marks[group]) != 0) return;
        mem::store_system(base + HEADER_WORD_IN_USE + group, 1);
        mem::fence_system();
        mem::store_device_release(&device_state->marks[group], 1);
    }

    // Returns the leader's result, for all lanes.
    VYRE_IOQ_DEVICE static WaitResult broadcast(u32 mask, WaitResult result) {
        u32 leader = simt::lowest_bit(mask);
        result.status = (WaitStatus)simt::shuffle(mask, (u32)result.status, leader);
        result.heartbeat_moved = simt::shuffle(mask, result.heartbeat_moved, leader) != 0;
        result.ticket.slot = simt::shuffle(mask, result.ticket.slot, leader);
        result.outcome.status = simt::shuffle(mask, result.outcome.status, leader);
        result.outcome.count = simt::shuffle(mask, result.outcome.count, leader);
        result.outcome.tag = simt::shuffle(mask, result.outcome.tag, leader);
        simt::sync(mask);  // the leader's acquire, before the other lanes read the bytes
        return result;
    }

    // Returns the result before the first poll. There is nothing to wait for without a slot.
    VYRE_IOQ_DEVICE static WaitResult initial_result(Ticket ticket) {
        WaitStatus status = ticket.is_none() ? WaitStatus::QUEUE_FULL : WaitStatus::PENDING;
        return WaitResult{status, false, ticket, Outcome{}};
    }

    VYRE_IOQ_DEVICE void poll_into(WaitResult *result) const {
        if (poll(result->ticket, &result->outcome)) result->status = WaitStatus::COMPLETED;
    }
};
}  // namespace vyre_ioq
#endif  // VYRE_IOQ_CUH
