// The device's end of a vyre I/O queue, for CUDA kernels: threads and warps ask the host for file
// I/O in the middle of their work. ABI 1.0, as ABI.md has it; docs/gpu-kernels.md is the guide.
//
//     __global__ void load(vyre_ioq::Queue queue, unsigned file, unsigned pool) {
//         using namespace vyre_ioq;
//         u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
//         Request block = Request::read(file, warp * 65536ull, 65536, pool, warp * 65536ull);
//         Reply reply = queue.warp_perform(FULL_WARP, block.exact(), warp, Limits());
//         if (!reply.ok()) { ... }  // reply.end, reply.outcome.error()
//         ...                       // the block is there, for every lane of the warp
//     }
//
// Compiles under nvcc, under NVRTC (the texts of vyre_ioq_parts.cuh and of this file, one after the
// other, need no include), and under g++ or clang++, where threads stand in for lanes
// (vyre_ioq_shim.h). Needs sm_70. Four rules for the caller:
//
// 1. One `Local` for all kernels of a queue, zeroed before the first. It is the device's own
//    memory: a GPU and a CPU do not exclude each other's atomics on memory that they share.
// 2. Until there is an outcome, nobody touches what a READ fills or changes what a WRITE reads,
//    not even after HOST_GONE or TIMED_OUT.
// 3. Whoever gets a ticket takes its outcome, or abandons it. A ticket that is lost takes its slot out
//    of use.
// 4. Who finds the queue full takes outcomes before asking again: others may be waiting likewise.
#ifndef VYRE_IOQ_CUH
#define VYRE_IOQ_CUH

// <utmp.h> and <curses.h> have macros of these names. They are theirs again at the end of this file.
#if !defined(__CUDACC_RTC__)  // which has no system headers
#pragma push_macro("EMPTY")
#pragma push_macro("OK")
#pragma push_macro("ERROR")
#undef EMPTY
#undef OK
#undef ERROR
#endif

#ifndef VYRE_IOQ_PARTS_CUH
#include "vyre_ioq_parts.cuh"
#endif

namespace vyre_ioq {

// The device's end of a queue: a view that kernels take by value.
struct Queue {
    u32 *base;     // first byte of the queue, as the device sees it
    u32 *first;    // first byte of slot 0, likewise
    Local *local;  // the device's own memory
    u64 id;        // the creator's name for the queue
    u32 slots;
    u32 features;  // those that both sides know
    bool bare;
    bool units;        // slots are aligned to 16 bytes, and accessed so where CUDA can: see ABI.md,
                       // section 5. Set it to false to access words alone
    bool counts;       // a bare queue: outcomes carry bytes moved and errnos

    // ---- Attaching: on the CPU that starts the kernels, or on the device. ----
    //
    // `local` must be zeros when the first kernel uses the queue: attach anew and zero it anew where
    // the host has made a new queue. Kernels that share it must be of one GPU, and of one memory
    // synchronization domain.

    // A queue with a header. `here` is its first byte as the caller sees it and `device` as kernels
    // will; `bytes` is the length of the memory. `queue` is set if the answer is Ok.
    static VYRE_IOQ_BOTH Attach attach(const void *here, void *device, u64 bytes, Local *local,
                                       Queue *queue) {
        if (((u64)here | (u64)device) % HEADER_ALIGN != 0) return Attach::Misaligned;
        if (bytes < HEADER_BYTES) return Attach::TooShort;
        const u32 *header = (const u32 *)here;
        u32 line[16];
        // Acquire, paired with the host's release of the magic: who sees it sees the rest.
        line[header_word::MAGIC] = detail::load_shared_acquire(header);
        for (u32 i = 1; i < 16; ++i) line[i] = detail::load_shared(header + i);
        if (line[0] != MAGIC_LOW || line[1] != MAGIC_HIGH) return Attach::BadMagic;
        if (line[header_word::MAJOR] != ABI_MAJOR) return Attach::MajorVersion;
        if (line[header_word::STRIDE] != SLOT_BYTES) return Attach::BadStride;
        u32 offset = line[header_word::SLOTS_OFFSET], slots = line[header_word::SLOTS];
        if (offset % SLOT_BYTES != 0 || offset < HEADER_BYTES) return Attach::BadSlotsOffset;
        for (u32 i = header_word::QUEUE_ID + 2; i < 16; ++i) {
            if (line[i] != 0) return Attach::ReservedNotZero;
        }
        if (slots == 0 || slots > MAX_SLOTS) return Attach::BadSlotCount;
        if (bytes < offset + (u64)slots * SLOT_BYTES) return Attach::TooShort;
        u64 id = line[header_word::QUEUE_ID] | (u64)line[header_word::QUEUE_ID + 1] << 32;
        u32 *base = (u32 *)device;
        u32 features = line[header_word::FEATURES] & feature::DOORBELL;
        *queue = Queue{base, base + offset / 4, local, id, slots, features, false, true, true};
        return Attach::Ok;
    }

    // A bare queue that fills the memory. The host writes STATUS alone: the value of an outcome is the
    // request's count if it is OK, of which fewer bytes were moved at the end of a file or where an
    // error came after some bytes, and error::IO for every error.
    static VYRE_IOQ_BOTH Attach attach_bare(void *device, u64 bytes, Local *local, Queue *queue) {
        u64 slots = bytes / BARE_SLOT_BYTES, address = (u64)device;
        if (address % 4 != 0) return Attach::Misaligned;
        if (bytes % BARE_SLOT_BYTES != 0) return Attach::BareLength;
        if (slots == 0 || slots > MAX_BARE_SLOTS) return Attach::BadSlotCount;
        u32 *base = (u32 *)device;
        *queue = Queue{base, base, local, 0, (u32)slots, 0, true, address % 16 == 0, false};
        return Attach::Ok;
    }

    // As `attach_bare`, for a host that was told to store bytes moved and errnos in COUNT. With any
    // other host, an errno means nothing.
    static VYRE_IOQ_BOTH Attach attach_bare_with_counts(void *device, u64 bytes, Local *local,
                                                        Queue *queue) {
        Attach attached = attach_bare(device, bytes, local, queue);
        if (attached == Attach::Ok) queue->counts = true;
        return attached;
    }

    // ---- Threads: each for itself, whatever the others of its warp do. ----

    // Reserves a slot, or none if each was in use when it was looked at. It begins at slot `hint`
    // (modulo the slots), then takes the lowest free of the same 32, then goes on to the next 32.
    // With hint 0 the slots in use lie closest together, which the host's sweep likes best, but
    // many lanes fight over one word. Lanes numbered from 0 that give their numbers do neither. If
    // none is free, takes back an abandoned slot whose outcome is there.
    VYRE_IOQ_FN Ticket reserve(u32 hint = 0) const {
        u32 words = (slots + 31) / 32, at = hint % slots;
        u32 preferred = 1u << at % 32;
        for (u32 i = 0; i < words; ++i, preferred = 0) {
            u32 index = (at / 32 + i) % words;
            // Relaxed, and at once with the lock word: `is_usable` says why an old value will do.
            u32 known = detail::load_local(&local->known[index]);
            u32 busy = detail::load_local(&local->locks[index]) | absent(index);
            while (busy != 0xffffffff) {
                u32 bit = preferred & ~busy ? preferred : ~busy & (busy + 1);
                // Acquire, paired with the release in `unlock`: the outcome that the last user took
                // comes before what is published next.
                u32 before = detail::set_local_acquire(&local->locks[index], bit);
                busy |= before | bit;
                if (before & bit) continue;
                Ticket ticket{index * 32 + detail::lowest(bit)};
                if (is_usable(ticket.slot, known)) return ticket;
                unlock(ticket.slot);
            }
        }
        return reclaim();
    }

    // Publishes a request in a reserved slot. STATUS goes last, or in one with its unit, and with
    // release at system scope: it pairs with the acquire load by which the host claims, and all
    // that happened before, the bytes for a WRITE included, is the host's to see. A bare slot has
    // no room for the buffer offset, the flags and the deadline.
    VYRE_IOQ_FN void publish(Ticket ticket, const Request &request) const {
        if (ticket.is_none()) return;
        u32 *at = slot(ticket.slot);
        // Words 12 to 15 are zero from the start, and nobody writes them.
        if (!bare) {
            store_unit(at + word::BUFFER_OFFSET_LOW,
                       Unit{(u32)request.buffer_offset, (u32)(request.buffer_offset >> 32),
                            request.flags, request.deadline});
        }
        store_unit(at, Unit{request.op, request.source, request.destination,
                            (u32)request.file_offset});
        publish_unit(at + word::FILE_OFFSET_HIGH,
                     Unit{(u32)(request.file_offset >> 32), request.count, status::PUBLISHED,
                          request.tag});
    }

    // Reserves a slot and publishes in it; none if the queue is full.
    VYRE_IOQ_FN Ticket submit(const Request &request, u32 hint = 0) const {
        Ticket ticket = reserve(hint);
        if (!ticket.is_none()) publish(ticket, request);
        return ticket;
    }

    // Looks for the outcome, and changes nothing. For whoever published, or has learnt of it since by
    // a synchronisation: the slot may still hold the outcome of the request before. Once it answers
    // true, what a READ moved is there too: for this thread, and for those that it then synchronises
    // with.
    VYRE_IOQ_FN bool poll(Ticket ticket, Outcome *outcome) const {
        if (ticket.is_none()) return false;
        if (!look(slot(ticket.slot) + word::FILE_OFFSET_HIGH, outcome)) return false;
        // COUNT is the request's, and the cause is not told.
        if (bare && !counts && !outcome->ok()) outcome->value = error::IO;
        return true;
    }

    // As `poll`, and gives the slot back once there is an outcome: the ticket is spent, and must not
    // be used again.
    VYRE_IOQ_FN bool take(Ticket ticket, Outcome *outcome) const {
        if (!poll(ticket, outcome)) return false;
        // No store to the slot, which would take its line away from the host: the next publication
        // replaces the outcome.
        unlock(ticket.slot);
        return true;
    }

    // Gives back a slot without an outcome to take: one that was reserved or kept, and in which
    // nothing was published since. If it holds a request, this is `abandon`. Looks at the slot's
    // status, a round trip over the bus.
    VYRE_IOQ_FN void unreserve(Ticket ticket) const {
        if (ticket.is_none()) return;
        if (holds_request(ticket.slot)) return abandon(ticket);
        unlock(ticket.slot);
    }

    // Gives up a request: nobody takes its outcome. The ticket is spent. The request is still served,
    // and once it has an outcome, its slot is handed out again where no other is free. Until then its
    // buffer must not be used, and nobody is told when it may be. One lane does it, once, for a ticket
    // that several share; lanes of a warp with tickets of their own each call it.
    VYRE_IOQ_FN void abandon(Ticket ticket) const {
        if (ticket.is_none()) return;
        // Release, paired with the acquire in `reclaim`: the publication comes before the look at its
        // outcome.
        detail::set_local_release(&local->abandoned[ticket.slot / 32], 1u << ticket.slot % 32);
        detail::add_local(&local->abandons, 1);
    }

    // Waits for the outcome and takes it.
    VYRE_IOQ_FN Reply wait(Ticket ticket, const Limits &limits) const {
        Reply reply = wait_and_keep(ticket, limits);
        if (reply.end == End::ANSWERED) spend(&reply);
        return reply;
    }

    // Waits for the outcome, and keeps the slot: after ANSWERED the ticket is good for another
    // `publish`. A lane that asks again and again saves the locking, half a microsecond each time.
    VYRE_IOQ_FN Reply wait_and_keep(Ticket ticket, const Limits &limits) const {
        Reply reply = began(ticket);
        detail::Watch watch(limits);
        while (reply.end == End::PENDING) {
            answered(&reply);
            if (reply.end == End::PENDING) reply.end = watch.look(header());
        }
        // The acquire of STATE came first: an outcome that the host stored before is visible now.
        if (reply.end == End::HOST_GONE || reply.end == End::TIMED_OUT) answered(&reply);
        reply.host_moved = watch.moved;
        return reply;
    }

    // Submits and waits. It does not ring: a host that sleeps without a bound never answers it.
    VYRE_IOQ_FN Reply perform(const Request &request, u32 hint, const Limits &limits) const {
        Ticket ticket = submit(request, hint);
        if (!ticket.is_none()) detail::lead();
        return wait(ticket, limits);
    }

    // Rings the doorbell if the host sleeps: true if it must be woken now, by the means agreed on
    // outside the queue. A kernel seldom has one, and a host that does not sleep without a bound
    // does not need it, so no other function rings. After publishing; one ring does for many.
    VYRE_IOQ_FN bool ring() const {
        if ((features & feature::DOORBELL) == 0) return false;
        // Paired with the host's fence between its store to ASLEEP and its last look at the slots:
        // either that look finds what was published, or this load finds the host asleep.
        detail::fence_seq_cst();
        if (detail::load_shared(base + header_word::ASLEEP) != 1) return false;
        // This end's first ring goes on from what an earlier end left. Of several lanes that come
        // first, one sets that: the others find the word set, and none has rung before.
        if (detail::load_local(&local->rings) == 0) {
            u32 left = detail::load_shared(base + header_word::DOORBELL);
            detail::swap_local(&local->rings, 0, left);
        }
        // No two rings store the same. Had two lanes added one to the word itself, the slower could
        // bring back what the host sleeps on after the faster one rang.
        u32 rings = detail::add_local(&local->rings, 1) + 1;
        detail::store_shared(base + header_word::DOORBELL, rings);
        return true;
    }

    // ---- Warps: the lanes of `mask`, all of them, call these together, with one mask. ----

    // Each lane publishes a request of its own: one atomic for as many slots as there are lanes, if
    // 32 neighbours are free. `hint` is that of the lowest lane. Lanes for which there is no slot
    // get none.
    VYRE_IOQ_FN Ticket warp_submit(u32 mask, const Request &request, u32 hint = 0) const {
        Ticket ticket = warp_reserve(mask, hint);
        if (!ticket.is_none()) publish(ticket, request);
        return ticket;
    }

    // Each lane waits for its own ticket, or for nothing if it is none. When the first limit is
    // reached, the wait of all ends. Each lane sees what its own READ moved, and after the return
    // what the others' moved.
    VYRE_IOQ_FN Reply warp_wait(u32 mask, Ticket ticket, const Limits &limits) const {
        Reply reply = warp_wait_and_keep(mask, ticket, limits);
        // One release for the slots of a lock word: the leader's, after the `sync` in there, which
        // handed on what each lane had acquired.
        bool mine = reply.end == End::ANSWERED;
        while (u32 left = detail::ballot(mask, mine)) {
            u32 index = detail::shuffle(mask, reply.ticket.slot / 32, detail::lowest(left));
            bool now = mine && reply.ticket.slot / 32 == index;
            u32 bits = detail::any_bits(mask, now ? 1u << reply.ticket.slot % 32 : 0);
            if (detail::lane_id() == detail::lowest(mask)) {
                detail::clear_local_release(&local->locks[index], ~bits);
            }
            if (now) reply.ticket.slot = NO_SLOT;
            mine = mine && !now;
        }
        detail::sync(mask);  // a lane that reserves next finds its slot free
        return reply;
    }

    // As `warp_wait`, and each lane keeps its slot, as in `wait_and_keep`.
    VYRE_IOQ_FN Reply warp_wait_and_keep(u32 mask, Ticket ticket, const Limits &limits) const {
        u32 leader = detail::lowest(mask), lane = detail::lane_id();
        Reply reply = began(ticket);
        detail::Watch watch(limits);
        End end = End::PENDING;
        while (end == End::PENDING) {
            if (reply.end == End::PENDING) answered(&reply);
            if (detail::ballot(mask, reply.end == End::PENDING) == 0) break;
            if (lane == leader) end = watch.look(header());
            end = (End)detail::shuffle(mask, (u32)end, leader);
        }
        if (end != End::PENDING) {  // for all lanes, or for none
            // Hands on the leader's acquire of STATE, before the last look. A shuffle would not.
            detail::sync(mask);
            if (reply.end == End::PENDING) {
                reply.end = end;
                answered(&reply);
            }
        }
        reply.host_moved = detail::shuffle(mask, watch.moved, leader) != 0;
        detail::sync(mask);  // hands on every lane's acquire of its outcome
        return reply;
    }

    // The lanes share one request, the lowest lane's, and its reply. What any of them wrote before
    // is the host's to see, and what a READ moved is there for all of them. Like `perform`, this and
    // those below do not ring.
    VYRE_IOQ_FN Reply warp_perform(u32 mask, const Request &request, u32 hint,
                                   const Limits &limits) const {
        Reply reply = {};
        detail::sync(mask);  // what the lanes wrote, before the leader's release
        if (detail::lane_id() == detail::lowest(mask)) reply = perform(request, hint, limits);
        return shared_reply(mask, reply);
    }

    // As `warp_perform`, in a slot that the warp has reserved and goes on to keep: `ticket` is the
    // lowest lane's. After HOST_GONE or TIMED_OUT the slot still holds the request, and nothing may be
    // published there before `wait_and_keep` has had its outcome.
    VYRE_IOQ_FN Reply warp_perform_kept(u32 mask, Ticket ticket, const Request &request,
                                        const Limits &limits) const {
        Reply reply = {};
        detail::sync(mask);  // what the lanes wrote, before the leader publishes
        if (detail::lane_id() == detail::lowest(mask)) {
            if (!ticket.is_none()) {
                publish(ticket, request);
                detail::lead();
            }
            reply = wait_and_keep(ticket, limits);
        }
        return shared_reply(mask, reply);
    }

    // One READ for all lanes.
    VYRE_IOQ_FN Reply warp_read(u32 mask, u32 file, u64 offset, u32 count, u32 buffer,
                                u64 buffer_offset, u32 hint, const Limits &limits) const {
        return warp_perform(mask, Request::read(file, offset, count, buffer, buffer_offset), hint,
                            limits);
    }

    // As `reserve`, a slot for each lane.
    VYRE_IOQ_FN Ticket warp_reserve(u32 mask, u32 hint = 0) const {
        u32 lane = detail::lane_id(), leader = detail::lowest(mask);
        u32 rank = detail::count(mask & ((1u << lane) - 1)), lanes = detail::count(mask);
        u32 words = (slots + 31) / 32, at = detail::shuffle(mask, hint, leader) % slots / 32;
        u32 given = 0, known = 0;
        Ticket mine{NO_SLOT};
        for (u32 i = 0; i < words && given < lanes; ++i) {
            u32 index = (at + i) % words;
            u32 seen = detail::load_local(&local->known[index]);
            u32 got = lane == leader ? lock_several(index, lanes - given) : 0;
            got = detail::shuffle(mask, got, leader);
            if (rank >= given && rank - given < detail::count(got)) {
                u32 below = detail::lowest_bits(got, rank - given);
                mine.slot = index * 32 + detail::lowest(got & ~below);
                known = seen;
            }
            given += detail::count(got);
        }
        detail::sync(mask);  // hands on the leader's acquire of the locks
        if (mine.is_none()) return reclaim();
        if (!is_usable(mine.slot, known)) {
            unlock(mine.slot);
            mine = reserve(hint);
        }
        return mine;
    }

    // ---- What the host says of itself. A bare queue has no header: RUNNING, and no beat. ----

    // Acquire, paired with the host's release: who sees STOPPED or FAILED sees every outcome that
    // was stored before. Any value that has no name means FAILED.
    VYRE_IOQ_FN u32 host_state() const { return detail::host_state(header()); }

    VYRE_IOQ_FN u32 host_heartbeat() const { return detail::host_heartbeat(header()); }

  private:
    VYRE_IOQ_FN const u32 *header() const { return bare ? nullptr : base; }

    VYRE_IOQ_FN u32 *slot(u32 number) const {
        return first + (u64)number * ((bare ? BARE_SLOT_BYTES : SLOT_BYTES) / 4);
    }

    // Units of 16 bytes: as one access where that can be had, else as words.
    VYRE_IOQ_FN void store_unit(u32 *at, const Unit &unit) const {
#if VYRE_IOQ_UNITS
        if (units) return detail::store_unit(at, unit);
#endif
        detail::store_shared(at, unit.a);
        detail::store_shared(at + 1, unit.b);
        detail::store_shared(at + 2, unit.c);
        detail::store_shared(at + 3, unit.d);
    }

    // Words 4 to 7 of a slot, with release. STATUS, the third, goes last.
    VYRE_IOQ_FN void publish_unit(u32 *at, const Unit &unit) const {
#if VYRE_IOQ_UNITS
        if (units) return detail::publish_unit(at, unit);
#endif
        detail::store_shared(at, unit.a);
        detail::store_shared(at + 1, unit.b);
        detail::store_shared(at + 3, unit.d);
        detail::store_shared_release(at + 2, unit.c);
    }

    VYRE_IOQ_FN static bool is_outcome(u32 found) {
        return found == status::OK || found == status::ERROR;
    }

    // Looks at words 4 to 7 of a slot. The fence makes the relaxed load an acquire, paired with the
    // host's release of the outcome. It comes after an outcome was found, since polls that find
    // nothing need no order.
    VYRE_IOQ_FN bool look(const u32 *at, Outcome *outcome) const {
#if VYRE_IOQ_UNITS
        if (units) {
            Unit unit = detail::load_unit(at);
            if (!is_outcome(unit.c)) return false;
            detail::fence_shared_acquire();
            *outcome = Outcome{unit.c, unit.b, unit.d};
            return true;
        }
#endif
        u32 found = detail::poll_shared(at + 2);
        if (!is_outcome(found)) return false;
        detail::fence_shared_acquire();
        *outcome = Outcome{found, detail::load_shared(at + 1), detail::load_shared(at + 3)};
        return true;
    }

    // Bits of a lock word that stand for no slot.
    VYRE_IOQ_FN u32 absent(u32 index) const {
        u32 there = slots - index * 32;
        return there < 32 ? 0xffffffff << there : 0;
    }

    // Locks up to `many` of the free slots of a lock word, the lowest; acquire as in `reserve`.
    VYRE_IOQ_FN u32 lock_several(u32 index, u32 many) const {
        u32 got = 0, busy = detail::load_local(&local->locks[index]) | absent(index);
        while (many != 0 && busy != 0xffffffff) {
            u32 wanted = detail::lowest_bits(~busy, many);
            u32 before = detail::set_local_acquire(&local->locks[index], wanted);
            got |= wanted & ~before;
            many -= detail::count(wanted & ~before);
            busy |= before | wanted;
        }
        return got;
    }

    // Release, paired with the acquire in `reserve` and `lock_several`. One bit, and the caller's.
    VYRE_IOQ_FN void unlock(u32 number) const {
        detail::clear_local_release(&local->locks[number / 32], ~(1u << number % 32));
    }

    // Whether a slot that was just locked can be used: not so, if it still holds a request of an
    // earlier device end. `known` is a value that its word had. If the bit is set, another holder
    // set it before unlocking, so this one's acquire of the lock comes after: that one's outcome was
    // taken, and the group is marked. Loading the status would cost a round trip over the bus.
    VYRE_IOQ_FN bool is_usable(u32 number, u32 known) const {
        u32 bit = 1u << number % 32;
        if (known & bit) return true;
        if (holds_request(number)) return false;
        // An outcome that nobody took is replaced by what is published next, and so is what no end
        // can have stored.
        mark_in_use(number / GROUP_SLOTS);
        detail::set_local(&local->known[number / 32], bit);
        return true;
    }

    // Acquire, paired with the host's release when it completes: it is done with the slot's buffer.
    VYRE_IOQ_FN bool holds_request(u32 number) const {
        u32 found = detail::load_shared_acquire(slot(number) + word::STATUS);
        return found == status::PUBLISHED || found == status::CLAIMED;
    }

    // Takes back an abandoned slot whose outcome is there.
    VYRE_IOQ_FN Ticket reclaim() const {
        if (detail::load_local(&local->abandons) == 0) return Ticket{NO_SLOT};
        for (u32 index = 0; index < (slots + 31) / 32; ++index) {
            u32 left = detail::load_local(&local->abandoned[index]);
            for (; left != 0; left &= left - 1) {
                u32 number = index * 32 + detail::lowest(left), bit = left & (0 - left);
                // Whoever clears the bit has the slot. Acquire, paired with the release in `abandon`.
                if ((detail::clear_local_acquire(&local->abandoned[index], ~bit) & bit) == 0) continue;
                if (!holds_request(number)) {
                    detail::add_local(&local->abandons, 0xffffffff);
                    return Ticket{number};
                }
                detail::set_local_release(&local->abandoned[index], bit);
            }
        }
        return Ticket{NO_SLOT};
    }

    // Makes sure that the host looks at a group before anything is published there.
    VYRE_IOQ_FN void mark_in_use(u32 group) const {
        if (bare || group == 0) return;  // the host looks at the first unasked
        // Acquire, paired with the release below: another lane's store to the host's word comes
        // before what this one publishes.
        if (detail::load_local_acquire(&local->marks[group]) != 0) return;
        detail::store_shared(base + header_word::IN_USE + group, 1);
        detail::fence_shared();
        detail::store_local_release(&local->marks[group], 1);
    }

    // The leader's reply, for all lanes.
    VYRE_IOQ_FN static Reply shared_reply(u32 mask, Reply reply) {
        u32 leader = detail::lowest(mask);
        reply.end = (End)detail::shuffle(mask, (u32)reply.end, leader);
        reply.host_moved = detail::shuffle(mask, reply.host_moved, leader) != 0;
        reply.ticket.slot = detail::shuffle(mask, reply.ticket.slot, leader);
        reply.outcome.status = detail::shuffle(mask, reply.outcome.status, leader);
        reply.outcome.value = detail::shuffle(mask, reply.outcome.value, leader);
        reply.outcome.tag = detail::shuffle(mask, reply.outcome.tag, leader);
        detail::sync(mask);  // the leader's acquire, before what the lanes read
        return reply;
    }

    // A reply that is not there yet. Without a ticket, there is nothing to wait for.
    VYRE_IOQ_FN static Reply began(Ticket ticket) {
        return Reply{ticket.is_none() ? End::QUEUE_FULL : End::PENDING, false, ticket, Outcome{}};
    }

    VYRE_IOQ_FN void answered(Reply *reply) const {
        if (poll(reply->ticket, &reply->outcome)) reply->end = End::ANSWERED;
    }

    VYRE_IOQ_FN void spend(Reply *reply) const {
        unlock(reply->ticket.slot);
        reply->ticket.slot = NO_SLOT;
    }
};
}  // namespace vyre_ioq

#if !defined(__CUDACC_RTC__)
#pragma pop_macro("ERROR")
#pragma pop_macro("OK")
#pragma pop_macro("EMPTY")
#endif
#endif  // VYRE_IOQ_CUH
