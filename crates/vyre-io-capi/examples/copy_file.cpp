// SPDX-License-Identifier: MIT OR Apache-2.0
// Copies a file through a queue that this program hosts, with several blocks in flight, and syncs the copy.
//
//   copy_file FROM TO
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "vyre_io.hpp"

namespace {

constexpr std::uint32_t BLOCK = 1 << 18, DEPTH = 8;

/// Performs one request in each slot of the buffer, and returns the largest errno.
template <class Make>
int round(const vyre_io::Device &device, std::uint64_t blocks, Make make)
{
    std::vector<std::uint32_t> slots;
    for (std::uint64_t block = 0; block < blocks; ++block) slots.push_back(device.submit(make(block)).value());
    int worst = 0;
    for (auto slot : slots) worst = std::max(worst, device.wait(slot).os_errno());
    return worst;
}

int copy(const char *from, const char *to)
{
    const vyre_io::Descriptor source(::open(from, O_RDONLY | O_CLOEXEC));
    const vyre_io::Descriptor target(::open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    struct stat found = {};
    if (!source || !target || ::fstat(source.get(), &found) != 0) {
        std::perror("copy_file");
        return 1;
    }
    auto files = vyre_io::FileTable::make();
    const auto in = files.insert(source.get(), VYRE_IO_RIGHT_READ);
    const auto out = files.insert(target.get(), VYRE_IO_RIGHT_WRITE | VYRE_IO_RIGHT_SYNC);
    auto buffers = vyre_io::BufferTable::make();
    const auto memory = vyre_io::Buffer::anonymous(std::size_t{BLOCK} * DEPTH);
    const auto pool = buffers.insert(memory);

    const auto queue = vyre_io::Queue::make(DEPTH, VYRE_IO_QUEUE_DOORBELL);
    vyre_io::LoopOptions options;
    options.wait_policy = vyre_io::WaitPolicy::doorbell();
    auto io = vyre_io::LoopBuilder().files(files).buffers(buffers).queue(queue).options(options).spawn();

    const vyre_io::Device device(queue);
    const auto size = static_cast<std::uint64_t>(found.st_size);
    for (std::uint64_t at = 0; at < size; at += std::uint64_t{BLOCK} * DEPTH) {
        const auto blocks = std::min<std::uint64_t>(DEPTH, (size - at + BLOCK - 1) / BLOCK);
        const auto request = [&](auto prepare, std::uint32_t file) {
            return [=](std::uint64_t block) {
                const auto place = block * BLOCK;
                const auto count = std::min<std::uint64_t>(BLOCK, size - at - place);
                auto made = prepare(file, at + place, static_cast<std::uint32_t>(count), pool, place);
                made.flags = VYRE_IOQ_FLAG_EXACT;
                return made;
            };
        };
        const auto read = [](auto file, auto offset, auto count, auto buffer, auto place) {
            return vyre_ioq_prep_read(file, offset, count, buffer, place);
        };
        const auto write = [](auto file, auto offset, auto count, auto buffer, auto place) {
            return vyre_ioq_prep_write(file, offset, count, buffer, place);
        };
        int failed = round(device, blocks, request(read, in));
        if (failed == 0) failed = round(device, blocks, request(write, out));
        if (failed != 0) {
            std::fprintf(stderr, "copy_file: %s\n", std::strerror(failed));
            return 1;
        }
    }
    if (const auto synced = device.perform(vyre_ioq_prep_sync(out)); !synced.ok()) {
        std::fprintf(stderr, "copy_file: the copy may not be on the drive: %s\n", std::strerror(synced.os_errno()));
        return 1;
    }
    io.stop();
    return 0;
}

}  // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: copy_file FROM TO\n");
        return 2;
    }
    try {
        return copy(argv[1], argv[2]);
    } catch (const vyre_io::Error &error) {
        std::fprintf(stderr, "copy_file: %s\n", error.what());
        return 1;
    }
}
