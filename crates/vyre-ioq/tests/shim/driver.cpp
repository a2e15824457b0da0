// A driver of the conformance suite (tests/conformance/PROTOCOL.md) for the CUDA header, compiled by g++. The
// command `threads` runs independent lanes, or warps of eight lanes if the argument of the program is `warps`.

#include "vyre_ioq.cuh"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using namespace vyre_ioq;

namespace {

constexpr u32 WIDTH = 8;      // lanes of a warp
constexpr u32 IN_FLIGHT = 8;  // requests of a lane that has several
constexpr u64 TIMEOUT_NS = 60000000000ull;

Queue queue;
std::unique_ptr<DeviceState> device_state;
bool as_warps = false;

// Words of a line, as numbers.
struct Line {
    std::istringstream rest;
    u64 number() {
        u64 value = 0;
        rest >> value;
        return value;
    }
    u32 word() { return (u32)number(); }
};

// A name as PROTOCOL.md has it: TOO_SHORT is TooShort.
std::string camel(const char *name) {
    std::string text;
    for (const char *at = name; *at != '\0'; ++at) {
        if (*at == '_') continue;
        bool first = at == name || at[-1] == '_';
        text += first ? *at : (char)(*at - 'A' + 'a');
    }
    return text;
}

std::string attach(Line &line) {
    static void *mapped = nullptr;
    static size_t length = 0;
    int file = (int)line.number();
    u64 offset = line.number(), bytes = line.number();
    std::string layout;
    line.rest >> layout;
    struct stat stat;
    if (fstat(file, &stat) != 0 || offset + bytes > (u64)stat.st_size) {
        return "err Protocol the file is shorter than the queue";
    }
    if (mapped != nullptr) munmap(mapped, length);
    length = (size_t)stat.st_size;
    mapped = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        mapped = nullptr;
        return "err Protocol cannot map the file";
    }
    device_state = std::make_unique<DeviceState>();  // a new device end
    char *base = (char *)mapped + offset;
    AttachError rule = Queue::attach(base, base, bytes, device_state.get(), &queue);
    if (layout == "bare") rule = Queue::attach_bare(base, bytes, device_state.get(), &queue);
    if (layout == "bare-counts") {
        rule = Queue::attach_bare_with_counts(base, bytes, device_state.get(), &queue);
    }
    if (rule != AttachError::NONE) return "err " + camel(name(rule));
    std::ostringstream answer;
    answer << "ok " << queue.slots << ' ' << queue.features << ' ' << queue.id;
    return answer.str();
}

Request request(Line &line) {
    u32 op = line.word(), file = line.word();
    u64 offset = line.number();
    u32 count = line.word(), buffer = line.word();
    u64 buffer_offset = line.number();
    u32 flags = line.word(), deadline = line.word(), tag = line.word();
    Request made = Request::fence();
    if (op == OP_READ) made = Request::read(file, offset, count, buffer, buffer_offset);
    if (op == OP_WRITE) made = Request::write(file, offset, count, buffer, buffer_offset);
    if (op == OP_SYNC) made = Request::sync(file);
    if (op == OP_PREFETCH) made = Request::prefetch(file, offset, count);
    if (op == OP_MAP) made = Request::map(file, offset, count);
    if (flags & FLAG_EXACT) made = made.exact();
    if (flags & FLAG_DURABLE) made = made.durable();
    return made.with_deadline(deadline).with_tag(tag);
}

std::string said(Ticket ticket) {
    return ticket.is_none() ? "err QueueFull" : "ok " + std::to_string(ticket.slot);
}

std::string said(bool there, const Outcome &outcome) {
    if (!there) return "ok pending";
    std::ostringstream answer;
    answer << "ok " << outcome.tag << (outcome.ok() ? " OK " : " ERROR ")
           << (outcome.ok() ? outcome.bytes() : outcome.count);
    return answer.str();
}

std::string waited(Line &line) {
    Ticket ticket{line.word()};
    WaitLimits limits;
    limits.timeout_ns = line.number() * 1000;
    limits.heartbeat_timeout_ns = line.number() * 1000;
    WaitResult result = queue.wait(ticket, limits);
    if (result.status == WaitStatus::HOST_GONE) return "err HostGone";
    if (result.status == WaitStatus::TIMED_OUT) {
        return result.heartbeat_moved ? "err TimedOut alive" : "err TimedOut still";
    }
    return said(result.status == WaitStatus::COMPLETED, result.outcome);
}

std::string said_of_host() {
    static const char *const NAMES[] = {"Starting", "Running", "Draining", "Stopped", "Failed"};
    if (queue.bare) return "ok none";
    std::ostringstream answer;
    answer << "ok " << NAMES[queue.host_state()] << ' ' << queue.host_heartbeat();
    return answer.str();
}

// ---- Many lanes at once ----

u32 mix(u32 x) {
    x ^= x >> 16;
    x *= 0x7feb352d;
    x ^= x >> 15;
    x *= 0x846ca68b;
    return x ^ x >> 16;
}

Request numbered(u32 tag) {
    u32 f[8];
    for (u32 i = 0; i < 8; ++i) f[i] = queue.bare && i >= 4 ? 0 : mix(tag * 16 + i);
    u32 words[16] = {OP_READ, f[0], 0,    f[1],     f[2], f[3], 0, tag,
                     f[4],     f[5], f[6] & 2, f[7], 0,    0,    0, 0};
    u32 sum = 0;
    for (u32 i = 0; i < (queue.bare ? 8u : 16u); ++i) {
        if (i != WORD_DESTINATION && i != WORD_STATUS) sum += mix(words[i] + i);
    }
    u64 file_offset = f[1] | (u64)f[2] << 32, buffer_offset = f[4] | (u64)f[5] << 32;
    Request request = Request::read(f[0], file_offset, f[3], sum, buffer_offset);
    return request.with_flags(f[6] & 2).with_deadline(f[7]).with_tag(tag);
}

bool is_right(u32 tag, const Outcome &outcome) {
    u32 status = tag % 7 == 0 ? STATUS_ERROR : STATUS_OK;
    return outcome.tag == tag && outcome.status == status && outcome.count == mix(tag * 16 + 8);
}

// What went wrong, and the number of correct outcomes.
struct Tally {
    std::atomic<const char *> wrong{nullptr};
    std::atomic<u32> done{0};

    void check(u32 tag, const Outcome &outcome) {
        if (is_right(tag, outcome)) {
            done += 1;
        } else {
            wrong = "a wrong outcome";
        }
    }
};

// An independent lane, with several requests in flight.
void run_thread(Tally &tally, u32 lane, u32 each) {
    std::vector<std::pair<Ticket, u32>> held;
    u32 next = lane * each, end = next + each;
    // The limit is between two outcomes: how many come in a second is up to the machine.
    u64 latest = simt::now_ns();
    while ((next < end || !held.empty()) && tally.wrong == nullptr) {
        while (held.size() < IN_FLIGHT && next < end) {
            Ticket ticket = queue.submit(numbered(next), next % 3 == 0 ? 0 : lane * IN_FLIGHT);
            if (ticket.is_none()) break;
            queue.ring();
            held.emplace_back(ticket, next++);
        }
        for (size_t i = 0; i < held.size();) {
            Outcome outcome;
            if (!queue.take(held[i].first, &outcome)) {
                ++i;
                continue;
            }
            tally.check(held[i].second, outcome);
            latest = simt::now_ns();
            held[i] = held.back();
            held.pop_back();
        }
        if (simt::now_ns() - latest > TIMEOUT_NS) tally.wrong = "an outcome that never came";
        sched_yield();
    }
}

WaitLimits wait_limits() {
    WaitLimits limits;
    limits.timeout_ns = TIMEOUT_NS;
    limits.sleep_ns = 1000;
    return limits;
}

// Each lane of the mask submits its own request. Lanes that find the queue full retry.
void submit_together(Tally &tally, u32 mask, u32 hint, u32 tag) {
    bool done = false;
    while (u32 left = simt::ballot(mask, !done)) {
        if (done) continue;
        Ticket ticket = queue.warp_submit(left, numbered(tag), hint);
        if (!ticket.is_none()) queue.ring();
        WaitResult result = queue.warp_wait(left, ticket, wait_limits());
        if (result.status == WaitStatus::QUEUE_FULL) {
            sched_yield();
            continue;
        }
        done = true;
        if (result.status == WaitStatus::COMPLETED) {
            tally.check(tag, result.outcome);
        } else {
            tally.wrong = "an outcome that never came";
        }
    }
}

// The lanes share one request after another: lane 0's; then lane 1's, without lane 0; and so on.
void share(Tally &tally, u32 mask, u32 lane, u32 hint, const std::vector<u32> &tags) {
    for (u32 leader = 0; leader < tags.size(); ++leader) {
        u32 sharing = mask & (0xffffffff << leader);
        if ((sharing >> lane & 1) == 0) break;
        WaitResult result;
        do {
            result = queue.warp_perform(sharing, numbered(tags[lane]), hint, wait_limits());
        } while (result.status == WaitStatus::QUEUE_FULL);
        if (result.status != WaitStatus::COMPLETED || !is_right(tags[leader], result.outcome)) {
            tally.wrong = "a result that the warp does not share";
        } else if (lane == leader) {
            tally.done += 1;
        }
    }
    simt::sync(mask);
}

void run_lane_of_warp(Tally &tally, shim::Warp *warp, u32 first, u32 lanes, u32 lane, u32 each) {
    shim::Lane joined(warp, lane);
    u32 mask = 0xffffffff >> (32 - lanes), mine = (first + lane) * each;
    for (u32 i = 0; i < each; ++i) {
        u32 tag = mine + i;
        if (i % 4 == 0) {
            std::vector<u32> tags;
            for (u32 other = 0; other < lanes; ++other) tags.push_back((first + other) * each + i);
            share(tally, mask, lane, first, tags);
        } else if (i % 4 == 1) {
            // Two halves of the warp, apart.
            u32 even = mask & 0x55555555;
            submit_together(tally, lane % 2 == 0 ? even : mask & ~even, first, tag);
            simt::sync(mask);
        } else {
            submit_together(tally, mask, i % 4 == 2 ? 0 : first, tag);
        }
    }
}

std::string threads(Line &line) {
    u32 lanes = line.word(), each = line.word();
    std::vector<std::thread> running;
    std::vector<std::unique_ptr<shim::Warp>> warps;
    Tally tally;
    for (u32 lane = 0; lane < lanes; ++lane) {
        if (!as_warps) {
            running.emplace_back([&, lane] { run_thread(tally, lane, each); });
            continue;
        }
        u32 first = lane / WIDTH * WIDTH;
        if (lane == first) warps.push_back(std::make_unique<shim::Warp>());
        shim::Warp *warp = warps.back().get();
        u32 width = lanes - first < WIDTH ? lanes - first : WIDTH;
        running.emplace_back(
            [&tally, warp, first, width, lane, each] {
                run_lane_of_warp(tally, warp, first, width, lane - first, each);
            });
    }
    for (std::thread &thread : running) thread.join();
    if (tally.wrong != nullptr) return std::string("err Threads ") + tally.wrong.load();
    return "ok " + std::to_string(tally.done.load());
}

std::string obey(const std::string &command, Line &line) {
    Outcome outcome = {};
    if (command == "hello") {
        return std::string("ok shim-") + (as_warps ? "warps" : "threads") + " heartbeat_timeout doorbell";
    }
    if (command == "attach") return attach(line);
    if (command == "reserve") return said(queue.reserve());
    if (command == "submit") return said(queue.submit(request(line)));
    if (command == "publish") {
        Ticket ticket{line.word()};
        queue.publish(ticket, request(line));
        return "ok";
    }
    if (command == "unreserve") {
        queue.unreserve(Ticket{line.word()});
        return "ok";
    }
    if (command == "abandon") {
        queue.abandon(Ticket{line.word()});
        return "ok";
    }
    if (command == "poll") {
        bool there = queue.poll(Ticket{line.word()}, &outcome);
        return said(there, outcome);
    }
    if (command == "take") {
        bool there = queue.take(Ticket{line.word()}, &outcome);
        return said(there, outcome);
    }
    if (command == "wait") return waited(line);
    if (command == "state") return said_of_host();
    if (command == "ring") return queue.ring() ? "ok woken" : "ok quiet";
    if (command == "threads") return threads(line);
    if (command == "quit") return "ok";
    return "err Protocol unknown command";
}
}  // namespace

int main(int count, char **arguments) {
    as_warps = count > 1 && std::string(arguments[1]) == "warps";
    std::string text, command;
    while (command != "quit" && std::getline(std::cin, text)) {
        Line line{std::istringstream(text)};
        line.rest >> command;
        std::cout << obey(command, line) << std::endl;
    }
    return 0;
}
