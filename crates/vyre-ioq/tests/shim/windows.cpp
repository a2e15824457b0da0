// Windows on a CPU: what a kernel finds, asks for and is told, with a thread as the host. With an argument, a load
// from a window that is not mapped. Exits with 0, or prints what failed and exits with 1.

#include "vyre_windows.cuh"

#include <string.h>

#include <atomic>
#include <thread>
#include <vector>

using namespace vyre_ioq;

namespace {

constexpr u32 SHIFT = 16, COUNT = 40, SLOTS = 64, HANDLE = 7;
constexpr u64 WINDOW = 1 << SHIFT, END = (COUNT - 1) * WINDOW + 1003;  // the last window is not full
alignas(4096) unsigned char pages[COUNT * WINDOW];
alignas(4096) u32 queue_words[(HEADER_BYTES + SLOTS * SLOT_BYTES) / 4];
DeviceState device_state;
u32 mapped[COUNT], states[COUNT];

void check(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

u64 fake_now = 1000000000000ull;
u64 fake_clock() { return __atomic_load_n(&fake_now, __ATOMIC_RELAXED); }

// Answers MAPs as `answer` says: an errno, or 0 for OK.
struct Host {
    std::atomic<bool> stop{false};
    std::atomic<u32> asked{0};
    u32 times[COUNT] = {};  // requests in which a window was the first
    u32 ahead = 0;          // windows that are mapped beyond those of a request
    u32 lies = 0;           // the host answers OK and maps nothing
    u32 error = 0, from = COUNT;  // the errno for windows from `from` on
    std::thread thread;

    Host() {
        memset(queue_words, 0, sizeof queue_words);
        memset(&device_state, 0, sizeof device_state);
        memset(mapped, 0, sizeof mapped);
        memset(states, 0, sizeof states);
        queue_words[HEADER_WORD_STATE] = STATE_RUNNING;
    }
    void start() {
        thread = std::thread([this] {
            while (!stop) {
                for (u32 slot = 0; slot < SLOTS; ++slot) serve(queue_words + (HEADER_BYTES + slot * SLOT_BYTES) / 4);
                std::this_thread::yield();
            }
        });
    }
    void end() {
        stop = true;
        thread.join();
    }
    void serve(u32 *slot) {
        if (__atomic_load_n(slot + WORD_STATUS, __ATOMIC_ACQUIRE) != STATUS_PUBLISHED) return;
        u64 offset = slot[WORD_FILE_OFFSET_LOW] | (u64)slot[WORD_FILE_OFFSET_HIGH] << 32;
        u32 count = mem::load_system(slot + WORD_COUNT);
        check(slot[WORD_OP] == OP_MAP && slot[WORD_DESTINATION] == HANDLE, "a MAP of the file");
        check(count > 0 && offset % WINDOW == 0 && offset + count <= END, "inside the file");
        u32 first = (u32)(offset >> SHIFT), last = (u32)((offset + count - 1) >> SHIFT);
        ++asked;
        ++times[first];
        u32 failed = error != 0 && last >= from ? error : 0;
        u32 limit = error != 0 ? from : COUNT;  // read-ahead maps nothing that a request would be refused
        for (u32 window = first; window <= last + ahead && window < limit && !failed && !lies; ++window) {
            mem::store_system(mapped + window, 1);
        }
        mem::store_system(slot + WORD_COUNT, failed);
        mem::store_system_release(slot + WORD_STATUS, failed ? STATUS_ERROR : STATUS_OK);
    }
};

Queue queue_of() {
    u32 *first = queue_words + HEADER_BYTES / 4;
    return Queue{queue_words, first, &device_state, 0, SLOTS, 0, false, false, true};
}

Windows windows_of() { return Windows{View{pages, END}, mapped, states, SHIFT, 0}; }

// Runs 32 threads for each warp.
template <typename Run>
void warps(u32 many, const Run &run) {
    std::vector<shim::Warp> all(many);
    std::vector<std::thread> threads;
    for (u32 number = 0; number < many * 32; ++number) {
        threads.emplace_back([&, number] {
            shim::Lane lane(&all[number / 32], number % 32);
            run(number / 32);
        });
    }
    for (std::thread &thread : threads) thread.join();
}

// All warps want all windows, each from another one on.
void each_window_is_asked_for_once(u32 ahead) {
    Host host;
    host.ahead = ahead;
    host.start();
    Windows windows = windows_of();
    check(windows.count() == COUNT && windows.window_bytes() == WINDOW, "their number");
    check(!windows.has(0, 1) && windows.has(5, 0), "nothing is mapped");
    warps(3, [&](u32 warp) {
        Queue queue = queue_of();
        for (u32 step = 0; step < COUNT; ++step) {
            u64 offset = ((step + warp * 13) % COUNT) * WINDOW + 100, count = offset + 500 > END ? END - offset : 500;
            MapResult found = windows.warp_map(FULL_WARP, queue, HANDLE, offset, count, warp, WaitLimits());
            check(found.ok(), "mapped");
            check(windows.has(offset, count), "looked up");
            check(windows.load<unsigned char>(offset) == pages[offset], "a byte of the file");
        }
    });
    for (u32 window = 0; window < COUNT; ++window) check(host.times[window] <= 1, "asked for once");
    check(ahead == 0 ? host.asked == COUNT : host.asked <= COUNT / 2, "and not if it was mapped ahead");
    check(windows.has(0, END), "all of them");
    host.end();
}

void a_block_in_several_windows() {
    Host host;
    host.start();
    Windows windows = windows_of();
    Queue queue = queue_of();
    MapResult found = windows.map(queue, HANDLE, 3 * WINDOW - 1, 2 * WINDOW, 0, WaitLimits());
    check(found.ok() && host.asked == 1, "one request");
    check(windows.has(2 * WINDOW, 3 * WINDOW), "for three windows");
    check(!windows.has(2 * WINDOW, 3 * WINDOW + 1) && !windows.has(2 * WINDOW - 1, 2), "and no others");
    host.end();
}

void refusals_are_remembered_for_a_while() {
    Host host;
    host.error = ERRNO_ENOBUFS;
    host.from = 5;
    host.start();
    Windows windows = windows_of();
    Queue queue = queue_of();
    shim::clock() = fake_clock;
    check(windows.map(queue, HANDLE, 4 * WINDOW, 1, 0, WaitLimits()).ok(), "before the limit");
    for (int turn = 0; turn < 3; ++turn) {
        MapResult found = windows.map(queue, HANDLE, 5 * WINDOW, 1, 0, WaitLimits());
        check(!found.ok() && found.status == WaitStatus::COMPLETED && found.error == ERRNO_ENOBUFS, "refused");
    }
    check(host.times[5] == 1 && !windows.has(5 * WINDOW, 1), "asked for once");
    check(windows.map(queue, HANDLE, 4 * WINDOW, WINDOW + 1, 0, WaitLimits()).error == ERRNO_ENOBUFS, "in part");
    host.error = 0;
    __atomic_fetch_add(&fake_now, 2 * WINDOW_RETRY_NS, __ATOMIC_RELAXED);
    check(windows.map(queue, HANDLE, 5 * WINDOW, 1, 0, WaitLimits()).ok(), "asked for again");
    check(host.times[5] == 2, "once more");
    shim::clock() = nullptr;
    host.end();
}

// All warps want all windows, of which the host maps those before the limit.
void each_lane_is_told_of_a_refusal() {
    Host host;
    host.error = ERRNO_ENOBUFS;
    host.from = COUNT / 2;
    host.ahead = 3;
    host.start();
    Windows windows = windows_of();
    for (int launch = 0; launch < 2; ++launch) {
        warps(3, [&](u32 warp) {
            Queue queue = queue_of();
            for (u32 window = 0; window + 1 < COUNT; ++window) {
                u64 offset = window * WINDOW + warp * 1000;
                MapResult found = windows.warp_map(FULL_WARP, queue, HANDLE, offset, 100, warp, WaitLimits());
                check(found.ok() == (window < host.from), "mapped or refused");
                check(found.ok() || found.error == ERRNO_ENOBUFS, "with its errno");
            }
        });
    }
    host.end();
}

// An errno that is none does not pass for success, for those that did not ask either.
void an_odd_errno_is_a_refusal() {
    for (u32 odd : {1024u, 65536u, 0x80000000u}) {
        Host host;
        host.error = odd;
        host.from = 0;
        host.start();
        Windows windows = windows_of();
        Queue queue = queue_of();
        check(windows.map(queue, HANDLE, 0, 1, 0, WaitLimits()).error == odd, "as it is");
        check(windows.map(queue, HANDLE, 0, 1, 0, WaitLimits()).error == ERRNO_EIO, "as it is remembered");
        host.end();
    }
}

void what_the_host_did_not_map_is_not_loaded() {
    Host host;
    host.lies = 1;
    host.start();
    Windows windows = windows_of();
    Queue queue = queue_of();
    check(windows.map(queue, HANDLE, 0, 1, 0, WaitLimits()).error == ERRNO_EIO, "not in the table");
    check(!windows.has(0, 1), "not mapped");
    host.end();
}

void waits_end() {
    Host host;
    Windows windows = windows_of();
    Queue queue = queue_of();
    WaitLimits limits;
    limits.max_polls = 3;
    check(windows.map(queue, HANDLE, 0, 1, 0, limits).status == WaitStatus::TIMED_OUT, "no host");
    check(states[0] == 0, "the next one may ask");
    states[0] = 2;
    check(windows.map(queue, HANDLE, 0, 1, 0, limits).status == WaitStatus::TIMED_OUT, "another one asks");
    states[0] = 0;
    queue_words[HEADER_WORD_STATE] = STATE_STOPPED;
    check(windows.map(queue, HANDLE, 0, 1, 0, limits).status == WaitStatus::HOST_GONE, "the host ended");
}
}  // namespace

int main(int count, char **) {
    for (u64 at = 0; at < END; ++at) pages[at] = (unsigned char)(1 + at * 7 % 251);
    if (count > 1) return windows_of().load<unsigned char>(0) != 1;
    each_window_is_asked_for_once(0);
    each_window_is_asked_for_once(3);
    a_block_in_several_windows();
    refusals_are_remembered_for_a_while();
    each_lane_is_told_of_a_refusal();
    an_odd_errno_is_a_refusal();
    what_the_host_did_not_map_is_not_loaded();
    waits_end();
    return 0;
}
