// The copy kernel on threads: a warp is 32 of them. src/copy/tests.rs makes the arguments and the
// memory, and reads how the lanes fared, as from a GPU.
//
//     copy ARGS QUEUE DATA OUT
//
// ARGS holds an Args as Rust lays it out, with no addresses in it; QUEUE and DATA are mapped. OUT gets
// the Faults, then the words of the blocks copied.

#include "vyre_ioq.cuh"
#include "copy.cuh"

#include "common.hpp"

int main(int count, char **args) {
    if (count != 5) fail("four arguments are needed");
    std::string text = contents(args[1]);
    copy::Args work;
    if (text.size() != sizeof work) fail("Args has another size in Rust");
    memcpy((void *)&work, text.data(), sizeof work);

    Mapped memory(args[2]), data(args[3]);
    auto local = std::make_unique<Local>();
    work.queue = attach(memory, local.get(), work.queue);
    if (data.bytes < (u64)work.lane_count * work.block_size) fail("too little memory for blocks");
    copy::Shared shared = {};
    std::vector<copy::Fault> faults(work.lane_count);
    std::vector<u32> copied(work.lane_count);
    work.data = (unsigned char *)data.base;
    work.shared = &shared;
    work.faults = faults.data();
    work.copied = copied.data();
    run_warps(work.lane_count, [&](u32 number) { copy::run_lane(work, number); });

    std::ofstream out(args[4], std::ios::binary);
    out.write((const char *)faults.data(), (std::streamsize)(faults.size() * sizeof faults[0]));
    out.write((const char *)copied.data(), (std::streamsize)(copied.size() * 4));
    out.flush();
    return out.good() ? 0 : 1;
}
