// Uses each function of the CUDA header once, on a thread and as a warp of one lane, and prints each name.
// Compiled by every compiler and standard, with CLASHES beside the macros of system headers.

#ifdef CLASHES_BEFORE
#include "clashes.h"
#endif
#include "vyre_ioq.cuh"
#include "vyre_view.cuh"
#ifdef CLASHES_AFTER
#include "clashes.h"
#endif

#include <stdio.h>
#include <string.h>

namespace {
using namespace vyre_ioq;

constexpr u32 SLOT_COUNT = 64;
alignas(HEADER_ALIGN) u32 words[(HEADER_BYTES + SLOT_COUNT * SLOT_BYTES) / 4];
DeviceState device_state;

void create() {
    words[HEADER_WORD_MAGIC] = MAGIC_0;
    words[HEADER_WORD_MAGIC + 1] = MAGIC_1;
    words[HEADER_WORD_MAJOR] = ABI_MAJOR;
    words[HEADER_WORD_STRIDE] = SLOT_BYTES;
    words[HEADER_WORD_SLOTS] = SLOT_COUNT;
    words[HEADER_WORD_SLOTS_OFFSET] = HEADER_BYTES;
    words[HEADER_WORD_STATE] = STATE_RUNNING;
}

int threads(const Queue &queue, const WaitLimits &limits) {
    const Request requests[] = {
        Request::read(1, 2, 3, 4, 5).exact(), Request::write(1, 2, 3, 4, 5).durable(),
        Request::fence().with_tag(1),         Request::sync(1).with_deadline(1),
        Request::prefetch(1, 2, 3),           Request::map(1, 2, 3),
    };
    for (u32 i = 0; i < 6; ++i) {
        Ticket ticket = queue.submit(requests[i]);
        if (requests[i].op != i + 1 || ticket.slot != i) return 2;
    }
    Outcome outcome = {};
    if (queue.poll(Ticket{0}, &outcome) || queue.take(Ticket{0}, &outcome)) return 3;
    if (queue.wait(Ticket{0}, limits).status != WaitStatus::TIMED_OUT) return 4;
    if (queue.perform(Request::fence(), 9, limits).ticket.slot != 9) return 5;
    queue.abandon(Ticket{0});
    Ticket ticket = queue.reserve();
    queue.publish(ticket, requests[0]);
    queue.unreserve(ticket);
    if (ticket.slot != 6 || queue.ring() || queue.host_heartbeat() != 0) return 6;
    return queue.host_state() == STATE_RUNNING ? 0 : 7;
}

int warps(const Queue &queue, const WaitLimits &limits) {
    static shim::Warp warp;
    shim::Lane lane(&warp, 0);
    Ticket ticket = queue.warp_submit(1, Request::fence(), 32);
    if (queue.warp_wait(1, ticket, limits).status != WaitStatus::TIMED_OUT) return 12;
    if (queue.warp_perform(1, Request::fence(), 32, limits).status != WaitStatus::TIMED_OUT) return 13;
    Ticket kept = queue.warp_reserve(1, 32);
    if (queue.warp_perform_kept(1, kept, Request::fence(), limits).ok()) return 14;
    WaitResult read = queue.warp_read(1, 1, 2, 3, 4, 5, 32, limits);
    return read.outcome.is_short(4) || read.outcome.bytes() != 0 ? 15 : 0;
}

int bare() {
    Queue queue;
    if (Queue::attach_bare(words, BARE_SLOT_BYTES, &device_state, &queue) != AttachError::NONE) return 20;
    if (queue.counts || queue.host_state() != STATE_RUNNING) return 21;
    AttachError error = Queue::attach_bare_with_counts(words, 7, &device_state, &queue);
    return error == AttachError::BARE_LENGTH ? 0 : 22;
}

int views() {
    alignas(16) static const unsigned char bytes[32] = {1, 2, 3};
    alignas(16) static unsigned char copy[32];
    static shim::Warp warp;
    shim::Lane lane(&warp, 0);
    vyre::view view = {bytes, 20};
    if (!view.contains(4, 16) || view.contains(5, 16) || view.elements<u32>() != 5) return 30;
    if (view.element<u32>(0) != 0x30201 || view.load<unsigned short>(2) != 3) return 31;
    if (view.quad(16).x != 0) return 33;
    u64 quads = 0;
    view.warp_read(1, 0, 20, [&](u64, const Quad &) { ++quads; });
    view.warp_copy(1, 0, 20, copy);
    return quads == 2 && memcmp(bytes, copy, 20) == 0 ? 0 : 32;
}

void names() {
    for (u32 value = 0; value < 256; ++value) {
        const char *const found[] = {
            op_name(value),
            status_name(value),
            state_name(value),
            errno_name(value),
            value <= (u32)WaitStatus::TIMED_OUT ? name((WaitStatus)value) : "unknown",
            value <= (u32)AttachError::BARE_LENGTH ? name((AttachError)value) : "unknown",
        };
        static const char *const kinds[] = {"OP_", "STATUS_", "STATE_", "ERRNO_", "wait ", "attach "};
        for (u32 kind = 0; kind < 6; ++kind) {
            if (strcmp(found[kind], "unknown") != 0) {
                printf("%s%s %u\n", kinds[kind], found[kind], value);
            }
        }
    }
}
}  // namespace

int main() {
    Queue queue;
    WaitLimits limits;
    limits.max_polls = 1;
    create();
    AttachError error = Queue::attach(words, words, sizeof words, &device_state, &queue);
    int wrong = error == AttachError::NONE ? threads(queue, limits) : 1;
    if (wrong == 0) wrong = warps(queue, limits);
    if (wrong == 0) wrong = bare();
    if (wrong == 0) wrong = views();
    names();
    return wrong;
}
