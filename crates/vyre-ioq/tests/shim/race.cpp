// Lanes and a host in one process, for ThreadSanitizer. All memory that the queue must order is plain memory, so
// an ordering that the header lacks is a data race. The host is a mock written from ABI.md. The argument is the
// number of laps. Exits with 0, or prints what failed and exits with 1.

#include "vyre_ioq.cuh"

#include <pthread.h>

using namespace vyre_ioq;

// Owned by the lane that has reserved the slot. Plain memory, and outside the anonymous namespace, where a
// compiler that sees every access could remove some.
u32 notes[70];

namespace {

constexpr u32 SLOTS = 70, THREADS = 4, WARPS = 2, WIDTH = 4, BLOCK = 8;
constexpr u32 LANES = THREADS + WARPS * WIDTH;
constexpr u32 MASK = (1u << WIDTH) - 1;
static_assert(sizeof notes == SLOTS * sizeof(u32), "a note for each slot");

alignas(HEADER_ALIGN) u32 memory[(HEADER_BYTES + SLOTS * SLOT_BYTES) / 4];
DeviceState device_state;
u32 laps = 100;
u32 quit;  // by __atomic builtins

// Plain memory. The blocks are buffers of requests: one for each lane and one for each warp.
u32 blocks[LANES + WARPS][BLOCK];
u32 greeting, farewell;

void check(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

u32 mix(u32 x) {
    x = (x ^ x >> 16) * 0x7feb352d;
    return x ^ x >> 15;
}

// ---- The host ----

void store(u32 *at, u32 value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }
u32 load(const u32 *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

void create() {
    store(memory + HEADER_WORD_MAGIC + 1, MAGIC_1);
    store(memory + HEADER_WORD_MAJOR, ABI_MAJOR);
    store(memory + HEADER_WORD_STRIDE, SLOT_BYTES);
    store(memory + HEADER_WORD_SLOTS, SLOTS);
    store(memory + HEADER_WORD_SLOTS_OFFSET, HEADER_BYTES);
    greeting = 42;
    __atomic_store_n(memory + HEADER_WORD_MAGIC, MAGIC_0, __ATOMIC_RELEASE);
}

void serve(u32 *slot) {
    u32 words[16];
    for (u32 i = 0; i < 16; ++i) words[i] = load(slot + i);
    u32 tag = words[WORD_TAG], count = words[WORD_COUNT];
    if (mix(tag) % 2 == 0) store(slot + WORD_STATUS, STATUS_CLAIMED);  // a host may announce a claim
    bool reads = words[WORD_OP] == OP_READ;
    u32 buffer = words[reads ? WORD_DESTINATION : WORD_SOURCE];
    check(reads || words[WORD_OP] == OP_WRITE, "an operation that nobody asked for");
    check(buffer < LANES + WARPS && count <= BLOCK, "a torn request");
    check(words[WORD_FILE_OFFSET_LOW] == mix(tag), "a torn request");
    check(words[WORD_FILE_OFFSET_HIGH] == buffer, "a torn request");
    check(words[WORD_BUFFER_OFFSET_LOW] == mix(tag + 1), "a torn request");
    check(words[WORD_DEADLINE] == tag, "a torn request");
    for (u32 i = 0; i < count; ++i) {
        if (reads) {
            blocks[buffer][i] = mix(tag + i);
        } else {
            check(blocks[buffer][i] == mix(tag + i), "bytes of a WRITE that are not there");
        }
    }
    store(slot + WORD_COUNT, tag % 5 == 0 ? ERRNO_EIO : count);
    u32 outcome = tag % 5 == 0 ? STATUS_ERROR : STATUS_OK;
    __atomic_store_n(slot + WORD_STATUS, outcome, __ATOMIC_RELEASE);
}

void *host(void *) {
    create();
    store(memory + HEADER_WORD_STATE, STATE_RUNNING);
    while (__atomic_load_n(&quit, __ATOMIC_RELAXED) == 0) {
        for (u32 i = 0; i < SLOTS; ++i) {
            u32 group = i / GROUP_SLOTS;
            if (group != 0 && load(memory + HEADER_WORD_IN_USE + group) == 0) break;
            u32 *slot = memory + (HEADER_BYTES + i * SLOT_BYTES) / 4;
            if (__atomic_load_n(slot + WORD_STATUS, __ATOMIC_ACQUIRE) == STATUS_PUBLISHED) {
                serve(slot);
            }
        }
        sched_yield();
    }
    farewell = 7;
    __atomic_store_n(memory + HEADER_WORD_STATE, STATE_STOPPED, __ATOMIC_RELEASE);
    return nullptr;
}

// ---- The device ----

Queue attached() {
    Queue queue;
    u64 began = simt::now_ns();
    while (Queue::attach(memory, memory, sizeof memory, &device_state, &queue) != AttachError::NONE) {
        check(simt::now_ns() - began < 30000000000ull, "the queue is never there");
        sched_yield();
    }
    check(greeting == 42, "what came before the magic");
    return queue;
}

WaitLimits wait_limits() {
    WaitLimits limits;
    limits.sleep_ns = 1000;
    return limits;
}

Request asking(bool reads, u32 tag, u32 buffer, u32 count) {
    u64 offset = mix(tag) | (u64)buffer << 32;
    Request request = reads ? Request::read(1, offset, count, buffer, mix(tag + 1))
                            : Request::write(1, offset, count, buffer, mix(tag + 1));
    return request.with_tag(tag).with_deadline(tag);
}

void check_reply(const WaitResult &result, u32 tag, u32 count) {
    check(result.status == WaitStatus::COMPLETED && result.outcome.tag == tag, "no outcome, or another's");
    check(result.outcome.bytes() == (tag % 5 == 0 ? 0 : count), "a wrong count");
    check(result.outcome.error() == (tag % 5 == 0 ? ERRNO_EIO : 0u), "a wrong errno");
}

// Also tries slots past the first group.
u32 hint(u32 lane, u32 lap) { return lap % 2 == 0 ? lane : GROUP_SLOTS + lane; }

void *thread(void *argument) {
    u32 lane = (u32)(u64)argument;
    Queue queue = attached();
    for (u32 lap = 0; lap < laps; ++lap) {
        u32 tag = lane << 24 | lap << 8;
        bool reads = lap % 3 != 0;
        // Sleeps so that it may get the slot that another lane has just freed: only the lock orders the two.
        simt::sleep(mix(tag) % 200000);
        Ticket ticket = queue.reserve(lap % 3 != 0 ? 0 : hint(lap % LANES, lap));
        check(!ticket.is_none(), "full, with a slot for each lane");
        notes[ticket.slot] = tag;
        for (u32 i = 0; i < BLOCK; ++i) blocks[lane][i] = reads ? 0 : mix(tag + i);
        queue.publish(ticket, asking(reads, tag, lane, BLOCK));
        Outcome outcome;
        u64 began = simt::now_ns();
        while (!queue.poll(ticket, &outcome)) {
            check(simt::now_ns() - began < 30000000000ull, "no outcome");
            sched_yield();
        }
        for (u32 i = 0; i < BLOCK; ++i) {
            check(blocks[lane][i] == mix(tag + i), "bytes of a READ that are not there");
        }
        check(notes[ticket.slot] == tag, "a slot with two users");
        // The last store for this slot: only the lock orders it before the next user's.
        notes[ticket.slot] = 0;
        check_reply(queue.wait(ticket, wait_limits()), tag, BLOCK);
    }
    return nullptr;
}

// Each lane submits its own request. Then it reads the bytes of its neighbour's READ.
void together(const Queue &queue, u32 first, u32 lane, u32 lap) {
    u32 tag = (first + lane) << 24 | lap << 8, next = (lane + 1) % WIDTH;
    simt::sleep(mix(lap) % 200000);
    Ticket ticket = queue.warp_reserve(MASK, hint(first, lap));
    check(!ticket.is_none(), "full, with a slot for each lane");
    notes[ticket.slot] = tag;
    queue.publish(ticket, asking(true, tag, first + lane, BLOCK));
    check_reply(queue.warp_wait(MASK, ticket, wait_limits()), tag, BLOCK);
    u32 other = (first + next) << 24 | lap << 8;
    for (u32 i = 0; i < BLOCK; ++i) {
        check(blocks[first + next][i] == mix(other + i), "bytes of a neighbour's READ");
    }
    simt::sync(MASK);
}

// Requests that the warp shares: a WRITE of bytes from every lane, and a READ of which every lane reads the
// bytes. `perform` issues the request, in a new slot or in one that the warp keeps.
template <typename Perform>
void shared(const Perform &perform, u32 tag, u32 warp, u32 lane) {
    u32 *block = blocks[LANES + warp];
    block[lane] = mix(tag + lane);
    check_reply(perform(asking(false, tag, LANES + warp, WIDTH)), tag, WIDTH);
    tag += 0x40;
    check_reply(perform(asking(true, tag, LANES + warp, WIDTH)), tag, WIDTH);
    u32 next = (lane + 1) % WIDTH;
    check(block[next] == mix(tag + next), "bytes of a READ that the warp shares");
    simt::sync(MASK);
}

shim::Warp warps[WARPS];

void *lane_of_warp(void *argument) {
    u32 number = (u32)(u64)argument, warp = number / WIDTH, lane = number % WIDTH;
    shim::Lane joined(&warps[warp], lane);
    Queue queue = attached();
    u32 first = THREADS + warp * WIDTH;
    Ticket kept = lane == 0 ? queue.reserve(first) : Ticket{NO_SLOT};
    for (u32 lap = 0; lap < laps; ++lap) {
        together(queue, first, lane, lap);
        auto once = [&](const Request &request) {
            return queue.warp_perform(MASK, request, first, wait_limits());
        };
        shared(once, first << 24 | lap << 8, warp, lane);
        auto again = [&](const Request &request) {
            return queue.warp_perform_kept(MASK, kept, request, wait_limits());
        };
        shared(again, first << 24 | lap << 8 | 0x80, warp, lane);
    }
    if (lane == 0) queue.unreserve(kept);
    return nullptr;
}

// Abandons requests, in slots that become free in no other way. Each lane writes its note after the publication,
// so only the abandoning orders it before the next user's.
void *abandoner(void *argument) {
    u32 lane = (u32)(u64)argument;
    Queue queue = attached();
    for (u32 lap = 0; lap < laps; ++lap) {
        u32 tag = lane << 24 | lap << 8;
        u64 began = simt::now_ns();
        Ticket ticket = queue.reserve(lane);
        while (ticket.is_none()) {
            check(simt::now_ns() - began < 30000000000ull, "an abandoned slot does not come back");
            sched_yield();
            ticket = queue.reserve(lane);
        }
        u32 found = load(memory + (HEADER_BYTES + ticket.slot * SLOT_BYTES) / 4 + WORD_STATUS);
        check(found != STATUS_PUBLISHED && found != STATUS_CLAIMED, "a slot of a request");
        notes[ticket.slot] = tag;
        queue.publish(ticket, asking(true, tag, 0, 0));
        check(notes[ticket.slot] == tag, "a slot with two users");
        notes[ticket.slot] = 0;
        queue.abandon(ticket);
    }
    return nullptr;
}

void abandoning() {
    Queue queue = attached();
    Ticket held[SLOTS];
    for (u32 i = 0; i < SLOTS - 2; ++i) held[i] = queue.reserve();
    pthread_t abandoners[THREADS];
    for (u64 lane = 0; lane < THREADS; ++lane) {
        pthread_create(&abandoners[lane], nullptr, abandoner, (void *)lane);
    }
    for (pthread_t thread : abandoners) pthread_join(thread, nullptr);
    for (u32 i = 0; i < SLOTS - 2; ++i) queue.unreserve(held[i]);
}

// Waits for a host that stops. What the host did before is visible then.
void *mourner(void *) {
    Queue queue = attached();
    WaitResult result;
    do {
        result = queue.perform(asking(true, 1, 0, 0), 0, wait_limits());
    } while (result.status == WaitStatus::COMPLETED);
    check(result.status == WaitStatus::HOST_GONE, "a host that stopped, and nobody sees it");
    check(farewell == 7, "what came before STOPPED");
    return nullptr;
}
#if !defined(__SANITIZE_THREAD__)
// Lanes ring a host that sleeps: no two rings use the same number, or one that an earlier device end used. Not
// under ThreadSanitizer, which does not model fences: gcc rejects them with it.
constexpr u32 RINGS = 200000;
DeviceState others;

void *ringer(void *argument) {
    const Queue *queue = (const Queue *)argument;
    for (u32 i = 0; i < RINGS; ++i) check(queue->ring(), "a host that sleeps, and no ring");
    return nullptr;
}

void rings() {
    store(memory + HEADER_WORD_FEATURES, FEATURE_DOORBELL);
    store(memory + HEADER_WORD_ASLEEP, 1);
    Queue queue = attached(), next;
    pthread_t ringers[THREADS];
    for (pthread_t &thread : ringers) pthread_create(&thread, nullptr, ringer, &queue);
    for (pthread_t thread : ringers) pthread_join(thread, nullptr);
    check(load(&device_state.rings) == THREADS * RINGS, "two rings with one number");
    store(memory + HEADER_WORD_DOORBELL, 77);
    check(Queue::attach(memory, memory, sizeof memory, &others, &next) == AttachError::NONE, "no queue");
    check(next.ring() && load(memory + HEADER_WORD_DOORBELL) == 78, "a ring with an old number");
}
#else
void rings() {}
#endif
}  // namespace

int main(int count, char **arguments) {
    if (count > 1) laps = (u32)atoi(arguments[1]);
    check(laps > 0 && laps < 0x10000, "laps: 1 to 65535");
    pthread_t serving, mourning, lanes[LANES];
    pthread_create(&serving, nullptr, host, nullptr);
    for (u64 lane = 0; lane < LANES; ++lane) {
        bool alone = lane < THREADS;
        pthread_create(&lanes[lane], nullptr, alone ? thread : lane_of_warp,
                       (void *)(alone ? lane : lane - THREADS));
    }
    for (pthread_t lane : lanes) pthread_join(lane, nullptr);
    abandoning();
    pthread_create(&mourning, nullptr, mourner, nullptr);
    __atomic_store_n(&quit, 1, __ATOMIC_RELAXED);
    pthread_join(mourning, nullptr);
    pthread_join(serving, nullptr);
    rings();
    printf("%u laps of %u lanes: every outcome right\n", laps, LANES);
    return 0;
}
