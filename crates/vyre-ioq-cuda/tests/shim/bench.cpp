// The bench kernel on threads: a warp is 32 of them. src/bench/tests.rs makes the arguments and the
// memory, and reads what the lanes counted, as from a GPU.
//
//     bench ARGS QUEUE DATA OUT
//
// ARGS holds an Args and its LaneQueues as Rust lays them out, with no addresses in it; QUEUE and DATA
// are mapped. OUT gets the Lanes, then the histograms.

#include "vyre_ioq.cuh"
#include "bench.cuh"

#include "common.hpp"

int main(int count, char **args) {
    if (count != 5) fail("four arguments are needed");
    std::string text = contents(args[1]);
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
    queue.queue = attach(memory, local.get(), queue.queue);

    u32 stop = 0;
    std::vector<bench::Lane> lanes(work.lane_count);
    std::vector<u32> histograms((size_t)work.lane_count * bench::BUCKETS);
    if (data.bytes < (u64)work.lane_count * work.block_size) fail("too little memory for blocks");
    // Any address stands for that of a landing.
    std::vector<bench::Pair> landed;
    if (work.landed != nullptr) {
        landed.resize((size_t)work.lane_count * work.block_size / sizeof landed[0]);
        work.landed = (unsigned char *)landed.data();
    }
    work.queues = &queue;
    work.data = (unsigned char *)data.base;
    work.lanes = lanes.data();
    work.histograms = histograms.data();
    work.stop = &stop;

    run_warps(work.lane_count, [&](u32 number) { bench::run_lane(work, number); });

    if (work.lands != 0 && memcmp(work.landed, data.base, landed.size() * sizeof landed[0]) != 0) {
        fail("the last blocks did not land");
    }

    std::ofstream out(args[4], std::ios::binary);
    out.write((const char *)lanes.data(), (std::streamsize)(lanes.size() * sizeof lanes[0]));
    out.write((const char *)histograms.data(), (std::streamsize)(histograms.size() * 4));
    out.flush();
    return out.good() ? 0 : 1;
}
