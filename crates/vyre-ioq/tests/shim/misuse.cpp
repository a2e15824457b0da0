// One lane, no host and a clock of its own: what a device end does when a wait reaches its limits, with
// tickets that name no slot or are spent, and when its `DeviceState` is zeroed. Exits with 0, or prints what
// failed and exits with 1.

// Macros of system headers. They stay defined: no name of the headers clashes with them.
#include <utmp.h>
#define OK (0)
#define ERROR 7

#ifdef FIRST
#include FIRST
#endif
#include "vyre_ioq.cuh"

#include <string.h>

static_assert(EMPTY == 0 && OK == 0 && ERROR == 7, "the headers leave macros as they are");

using namespace vyre_ioq;

namespace {

constexpr u64 SECOND = 1000000000;

alignas(HEADER_ALIGN) u32 memory[(HEADER_BYTES + 2 * SLOT_BYTES) / 4];
DeviceState device_state;

void check(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

u32 *slot_words(u32 slot) { return memory + (HEADER_BYTES + slot * SLOT_BYTES) / 4; }

Queue created(u32 slots, u32 features) {
    memset(memory, 0, sizeof memory);
    memset(&device_state, 0, sizeof device_state);
    u32 line[] = {MAGIC_0, MAGIC_1, ABI_MAJOR, 0, SLOT_BYTES, slots, HEADER_BYTES, features};
    memcpy(memory, line, sizeof line);
    memory[HEADER_WORD_STATE] = STATE_RUNNING;
    Queue queue;
    check(Queue::attach(memory, memory, sizeof memory, &device_state, &queue) == AttachError::NONE, "attach");
    return queue;
}

void answer(u32 slot, u32 status, u32 count) {
    slot_words(slot)[WORD_COUNT] = count;
    slot_words(slot)[WORD_STATUS] = status;
}

// ---- The clock: each reading advances it by `step`, during which a live host beats ----

u64 time_now, step, clock_looks;
bool alive;

u64 ticking() {
    time_now += step;
    clock_looks += 1;
    if (alive) memory[HEADER_WORD_HEARTBEAT] += 1;
    return time_now;
}

WaitResult waited(u64 each, bool beats, const WaitLimits &limits) {
    Queue queue = created(1, 0);
    time_now = SECOND;
    step = each;
    clock_looks = 0;
    alive = beats;
    shim::clock() = ticking;
    WaitResult result = queue.wait(queue.submit(Request::fence()), limits);
    shim::clock() = nullptr;
    return result;
}

void waits() {
    WaitLimits limits;
    limits.timeout_ns = 30 * SECOND;
    limits.heartbeat_timeout_ns = SECOND;
    // The lane reads the heartbeat late: each time, or only the first time. The host lives.
    const u64 looks[] = {3 * SECOND / 2, SECOND / 20};
    for (u64 each : looks) {
        WaitResult result = waited(each, true, limits);
        check(result.status == WaitStatus::TIMED_OUT, "a host that beats is not gone");
        check(result.heartbeat_moved, "its heartbeat moved");
        check(result.outcome.error() == NO_OUTCOME, "no outcome, and no success");
    }
    // The host is dead: the heartbeat timeout ends the wait, and counts from the first reading.
    WaitResult result = waited(SECOND / 20, false, limits);
    check(result.status == WaitStatus::HOST_GONE, "a host that stands still");
    check(result.outcome.error() != 0, "no outcome, and no success");
    check(time_now >= 2 * SECOND && time_now < 4 * SECOND, "in about a second");
    result = waited(2 * SECOND, false, limits);
    check(result.status == WaitStatus::HOST_GONE && time_now >= 4 * SECOND, "two looks, at least");
    // A timer that stands still ends no wait at once.
    limits = WaitLimits();
    result = waited(0, true, limits);
    check(result.status == WaitStatus::TIMED_OUT, "a clock that stands still");
    check(clock_looks > detail::STUCK_CHECKS, "not before many looks");
    // With sleeps, checks are rarer, and fewer of them end the wait.
    const u32 naps[] = {1000000, 4000000000};
    for (u32 nap : naps) {
        limits.sleep_ns = nap;
        result = waited(0, true, limits);
        check(result.status == WaitStatus::TIMED_OUT, "a clock that stands still, and sleep");
        check(clock_looks > 10 && clock_looks * detail::POLLS_PER_CHECK * 1000000 < 10 * SECOND, "in seconds");
    }
}

// ---- Tickets ----

void none() {
    Queue queue = created(1, 0);
    Ticket held = queue.submit(Request::fence().with_tag(5));
    check(!held.is_none(), "a free slot");
    u32 before[sizeof memory / 4];
    memcpy(before, memory, sizeof memory);
    DeviceState locks = device_state;
    Ticket none = queue.submit(Request::fence());
    check(none.is_none(), "full");
    Outcome outcome = {};
    check(!queue.poll(none, &outcome) && !queue.take(none, &outcome), "no outcome of none");
    check(outcome.error() == NO_OUTCOME, "no outcome");
    queue.publish(none, Request::fence());
    queue.unreserve(none);
    queue.abandon(none);
    WaitResult result = queue.wait(none, WaitLimits());
    check(result.status == WaitStatus::QUEUE_FULL && result.outcome.error() != 0, "nothing was published");
    check(memcmp(before, memory, sizeof memory) == 0, "none touches no shared memory");
    check(memcmp(&locks, &device_state, sizeof device_state) == 0, "nor the locks");

    answer(0, STATUS_ERROR, 0);
    check(queue.poll(held, &outcome) && outcome.error() != 0, "an error is no success");
    answer(0, STATUS_ERROR, ERRNO_ERANGE);
    check(queue.poll(held, &outcome) && outcome.error() == ERRNO_ERANGE, "the errno");
    answer(0, STATUS_OK, 9);
    check(queue.take(held, &outcome) && outcome.error() == 0 && outcome.bytes() == 9, "OK");
}

// Unreserves the ticket of a published request: the slot stays in use.
void unreserved() {
    Queue queue = created(1, 0);
    for (u32 lap = 1; lap < 4; ++lap) {
        Ticket ticket = queue.submit(Request::fence().with_tag(2 * lap));
        check(!ticket.is_none(), "a free slot");
        WaitLimits limits;
        limits.max_polls = 1;
        check(queue.wait(ticket, limits).status == WaitStatus::TIMED_OUT, "nobody serves");
        slot_words(0)[WORD_STATUS] = lap % 2 == 0 ? STATUS_CLAIMED : STATUS_PUBLISHED;
        queue.unreserve(ticket);
        check(queue.reserve().is_none(), "the host may be serving it");
        check(slot_words(0)[WORD_TAG] == 2 * lap, "its request is as it was");
        answer(0, STATUS_OK, 1);
        ticket = queue.submit(Request::fence().with_tag(2 * lap + 1));
        Outcome outcome;
        check(!ticket.is_none() && !queue.poll(ticket, &outcome), "the outcome of another");
        answer(0, STATUS_OK, 2);
        check(queue.take(ticket, &outcome) && outcome.tag == 2 * lap + 1, "its own");
    }
    Ticket unused = queue.reserve();
    queue.unreserve(unused);
    check(!queue.reserve().is_none(), "given back");
}

// A zeroed `DeviceState` is a new device end: its rings continue from those of the old one.
void zeroed() {
    Queue queue = created(2, FEATURE_DOORBELL);
    memory[HEADER_WORD_ASLEEP] = 1;
    for (u32 lap = 0; lap < 4; ++lap) {
        for (u32 i = 0; i <= lap; ++i) {
            u32 before = memory[HEADER_WORD_DOORBELL];
            check(queue.ring(), "a host that sleeps");
            check(memory[HEADER_WORD_DOORBELL] == before + 1, "a ring is lost");
        }
        memset(&device_state, 0, sizeof device_state);
    }
}
}  // namespace

int main() {
    waits();
    none();
    unreserved();
    zeroed();
    return 0;
}
