// The bench kernel on threads: a warp is 32 of them. src/bench/tests.rs makes the arguments and the
// memory, and reads what the lanes counted, as from a GPU.
//
//     bench ARGS QUEUE DATA OUT
//
// ARGS holds an Args and its LaneQueues as Rust lays them out, with no addresses in it; QUEUE and DATA
// are mapped. OUT gets the Lanes, then the histograms.

#include "vyre_ioq.cuh"
#include "bench.cuh"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace vyre_ioq;

namespace {

[[noreturn]] void fail(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

struct Mapped {
    char *base;
    u64 bytes;
    explicit Mapped(const char *path) {
        int file = open(path, O_RDWR);
        struct stat stat;
        if (file < 0 || fstat(file, &stat) != 0) fail("cannot open the memory");
        bytes = (u64)stat.st_size;
        void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at == MAP_FAILED) fail("cannot map the memory");
        base = (char *)at;
    }
};

// What Rust made of a queue, against what the header makes of it.
void check_view(const Queue &ours, const Queue &theirs) {
    u64 offset = (u64)((char *)ours.first - (char *)ours.base);
    if ((u64)theirs.first - (u64)theirs.base != offset) fail("another offset of the slots");
    if (theirs.id != ours.id || theirs.slots != ours.slots) fail("another queue");
    if (theirs.features != ours.features) fail("other features");
    if (theirs.bare != ours.bare || theirs.units != ours.units) fail("another layout");
}
}  // namespace

int main(int count, char **args) {
    if (count != 5) fail("four arguments are needed");
    std::ifstream in(args[1], std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    bench::Args work;
    if (text.size() < sizeof work) fail("no arguments");
    memcpy((void *)&work, text.data(), sizeof work);
    bench::LaneQueue queue;
    if (text.size() != sizeof work + work.queue_count * sizeof queue || work.queue_count != 1) {
        fail("the structures have other sizes in Rust");
    }
    memcpy((void *)&queue, text.data() + sizeof work, sizeof queue);

    Mapped memory(args[2]), data(args[3]);
    auto local = std::make_unique<Local>();
    Queue attached;
    Attach rule = Queue::attach(memory.base, memory.base, memory.bytes, local.get(), &attached);
    if (rule != Attach::Ok) fail("not a queue");
    check_view(attached, queue.queue);
    queue.queue = attached;

    u32 stop = 0, stopped = 0;
    std::vector<bench::Lane> lanes(work.lane_count);
    std::vector<u32> histograms((size_t)work.lane_count * bench::BUCKETS);
    if (data.bytes < (u64)work.lane_count * work.block_size) fail("too little memory for blocks");
    work.queues = &queue;
    work.data = (unsigned char *)data.base;
    work.lanes = lanes.data();
    work.histograms = histograms.data();
    work.stop = &stop;
    work.stopped = &stopped;

    std::vector<shim::Warp> warps(work.lane_count);
    std::vector<std::thread> threads;
    for (u32 number = 0; number < work.lane_count * 32; ++number) {
        threads.emplace_back([&, number] {
            shim::Lane lane(&warps[number / 32], number % 32);
            bench::run_lane(work, number / 32);
        });
    }
    for (std::thread &thread : threads) thread.join();

    std::ofstream out(args[4], std::ios::binary);
    out.write((const char *)lanes.data(), (std::streamsize)(lanes.size() * sizeof lanes[0]));
    out.write((const char *)histograms.data(), (std::streamsize)(histograms.size() * 4));
    out.flush();
    return out.good() ? 0 : 1;
}
