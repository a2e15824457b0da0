/* SPDX-License-Identifier: MIT OR Apache-2.0 */
// Views and windows by vyre_io.hpp, on a stand-in for CUDA's driver, whose GPU memory is the host's. Without an argument, on
// the machine's driver, which most machines lack.

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "vyre_io.hpp"

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                             \
        }                                                                             \
    } while (0)

namespace {

constexpr std::size_t window = 64 << 10;
constexpr std::size_t bytes = 3 * window + 5000;

/// Calls must fail with this result, and say what to do.
void fails(vyre_io_result result, const std::function<void()> &call)
{
    try {
        call();
    } catch (const vyre_io::Error &error) {
        if (error.code() != result) std::fprintf(stderr, "%s: %s\n", error.name(), error.what());
        CHECK(error.code() == result && std::strlen(error.what()) > 0);
        return;
    }
    std::fprintf(stderr, "the call succeeded, which should fail with %d\n", static_cast<int>(result));
    std::abort();
}

/// A file with bytes of its own, which a test removes at its end.
struct File {
    std::string path;
    vyre_io::Descriptor fd;
    std::vector<char> content;

    explicit File(std::string at) : path(std::move(at)), fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600))
    {
        CHECK(fd.get() >= 0);
        for (std::size_t i = 0; i < bytes; i++) content.push_back(static_cast<char>(i * 7 + i / 4096));
        CHECK(::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    }
    ~File() { ::unlink(path.c_str()); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;
};

std::uint64_t address(const std::vector<char> &memory) { return reinterpret_cast<std::uintptr_t>(memory.data()); }

/// In this process the address for kernels is that of the host.
const char *at(std::uint64_t base) { return reinterpret_cast<const char *>(static_cast<std::uintptr_t>(base)); }

void a_view_shows_its_file(const vyre_io::Gpu &gpu, const File &file)
{
    const auto before = vyre_io_pinned_bytes();
    {
        const auto view = vyre_io::View::make(gpu, file.fd.get(), {4096, VYRE_IO_TO_THE_END});
        CHECK(view.start() == 4096 && view.bytes() == bytes - 4096);
        CHECK(vyre_io_pinned_bytes() > before);
        const auto device = view.device(gpu);
        CHECK(device.len == view.bytes() && std::memcmp(at(device.base), &file.content[4096], device.len) == 0);
        CHECK(view.check().condition == VYRE_IO_VIEW_CONDITION_CURRENT);

        std::vector<char> to(8192);
        auto copy = view.copy_to(gpu, {8192, 16384}, address(to));
        copy.wait();
        CHECK(copy.is_done() && std::memcmp(to.data(), &file.content[8192], 8192) == 0);
        fails(VYRE_IO_RESULT_OUT_OF_RANGE, [&] { (void)view.copy_to(gpu, {0, 4096}, address(to)); });
        fails(VYRE_IO_RESULT_BAD_ARGUMENT, [&] { (void)view.copy_to(gpu, {8192, 4096}, address(to)); });
        fails(VYRE_IO_RESULT_NULL_POINTER, [&] { (void)view.copy_to(gpu, {4096, 8192}, 0); });
    }
    CHECK(vyre_io_pinned_bytes() == before);
}

void a_view_is_prepared(const vyre_io::Gpu &gpu, const File &file)
{
    auto preparing = vyre_io::Preparing::make(file.fd.get());
    CHECK(preparing.bytes() == bytes);
    const auto view = preparing.pin(gpu);
    CHECK(view.bytes() == bytes && !preparing && preparing.is_ready() && preparing.done() == 0);
    auto cancelled = vyre_io::Preparing::make(file.fd.get());
    cancelled.cancel();
    // The thread may have ended before.
    try {
        (void)cancelled.pin(gpu);
    } catch (const vyre_io::Error &error) {
        CHECK(error.code() == VYRE_IO_RESULT_CANCELLED);
    }
}

void refusals_have_codes(const vyre_io::Gpu &gpu, const File &file)
{
    fails(VYRE_IO_RESULT_NOT_PAGES, [&] { (void)vyre_io::View::make(gpu, file.fd.get(), {1, 4096}); });
    fails(VYRE_IO_RESULT_PAST_END, [&] { (void)vyre_io::View::make(gpu, file.fd.get(), {1 << 30, VYRE_IO_TO_THE_END}); });
    fails(VYRE_IO_RESULT_NOT_MAPPABLE, [&] { (void)vyre_io::View::make(gpu, file.fd.get(), {4096, 4096}); });
    fails(VYRE_IO_RESULT_DESCRIPTOR, [&] { (void)vyre_io::View::make(gpu, -1); });
    fails(VYRE_IO_RESULT_NULL_POINTER, [&] { (void)vyre_io::View::make(vyre_io::Gpu(), file.fd.get()); });
    fails(VYRE_IO_RESULT_NO_DEVICE, [&] { (void)vyre_io::Gpu::open(99); });
    fails(VYRE_IO_RESULT_NULL_POINTER, [&] { (void)vyre_io::Gpu::from_context(nullptr); });
    int ends[2];
    CHECK(::pipe(ends) == 0);
    const vyre_io::Descriptor reader(ends[0]), writer(ends[1]);
    fails(VYRE_IO_RESULT_NOT_MAPPABLE, [&] { (void)vyre_io::View::make(gpu, reader.get()); });

    const auto limit = vyre_io_pin_limit();
    vyre_io_set_pin_limit(4096);
    fails(VYRE_IO_RESULT_PIN_LIMIT, [&] { (void)vyre_io::View::make(gpu, file.fd.get()); });
    vyre_io_set_pin_limit(limit);
    CHECK(vyre_io_pin_limit() == limit);

    vyre_io::WindowOptions odd;
    odd.window_bytes = 12345;
    fails(VYRE_IO_RESULT_BAD_ARGUMENT, [&] { (void)vyre_io::Windows::make(gpu, file.fd.get(), odd); });
}

void a_truncated_file_is_told(const vyre_io::Gpu &gpu, const std::string &path)
{
    const File file(path);
    const auto view = vyre_io::View::make(gpu, file.fd.get());
    CHECK(::ftruncate(file.fd.get(), 4096) == 0);
    const auto state = view.check();
    CHECK(state.condition == VYRE_IO_VIEW_CONDITION_SHORTER && state.at == 4096);
}

void a_file_is_loaded(const vyre_io::Gpu &gpu, const File &file)
{
    for (const auto way : {VYRE_IO_WAY_AUTO, VYRE_IO_WAY_PINNED, VYRE_IO_WAY_STAGING}) {
        std::vector<char> to(bytes);
        vyre_io::View::load(gpu, file.fd.get(), {0, bytes}, address(to), way);
        CHECK(to == file.content);
    }
    std::vector<char> to(bytes + 1);
    fails(VYRE_IO_RESULT_READ_FAILED, [&] {
        vyre_io::View::load(gpu, file.fd.get(), {0, bytes + 1}, address(to), VYRE_IO_WAY_STAGING);
    });
    vyre_io_error error;
    CHECK(vyre_io_view_load(gpu.get(), file.fd.get(), 0, bytes, address(to), 9, &error) ==
          VYRE_IO_RESULT_BAD_ARGUMENT);
}

/// Maps parts of a file through a queue, as a kernel does.
template <class Builder> void windows_are_mapped(const vyre_io::Gpu &gpu, const File &file)
{
    vyre_io::WindowOptions options;
    options.window_bytes = window;
    options.read_ahead = 0;
    options.limit = 2 * window;
    auto windows = vyre_io::Windows::make(gpu, file.fd.get(), options);
    auto files = vyre_io::FileTable::make();
    const auto handle = files.insert(file.fd.get(), VYRE_IO_RIGHT_READ);
    const auto queue = vyre_io::Queue::make(8);
    auto io = Builder().files(files).windows(windows).queue(queue).spawn();
    const vyre_io::Device device(queue);

    const auto seen = windows.device();
    CHECK(seen.len == bytes && seen.shift == 16);
    const auto mapped = reinterpret_cast<const volatile std::uint32_t *>(static_cast<std::uintptr_t>(seen.mapped));
    CHECK(mapped[0] == 0 && mapped[1] == 0);
    CHECK(device.perform(vyre_ioq_prep_map(handle, window + 3, 10)).ok());
    CHECK(mapped[0] == 0 && mapped[1] == 1);
    CHECK(std::memcmp(at(seen.base + window), &file.content[window], window) == 0);
    CHECK(device.perform(vyre_ioq_prep_map(handle, window, 1)).ok());
    CHECK(device.perform(vyre_ioq_prep_map(handle, 0, 1)).ok());
    CHECK(device.perform(vyre_ioq_prep_map(handle, 2 * window, 1)).os_errno() == ENOBUFS);
    const auto counters = windows.counters();
    CHECK(counters.asked == 4 && counters.hits == 1 && counters.mapped == 2 && counters.refused == 1);
    CHECK(windows.check().condition == VYRE_IO_VIEW_CONDITION_CURRENT);
    windows.close();
    CHECK(device.perform(vyre_ioq_prep_map(handle, 0, 1)).os_errno() == EOPNOTSUPP);
    io.stop();
}

void a_device_without_a_queue_says_so()
{
    const vyre_io::Device device(nullptr, 0);
    CHECK(device.attached() != VYRE_IOQ_ATTACH_OK && !device.submit(vyre_ioq_prep_fence()));
    CHECK(device.perform(vyre_ioq_prep_fence()).result == VYRE_IOQ_INVALID_SLOT);
}

}  // namespace

int main(int argc, char **argv)
{
    a_device_without_a_queue_says_so();
    if (argc < 2) {
        try {
            (void)vyre_io::Gpu::open();
            std::puts("views: there is a GPU");
        } catch (const vyre_io::Error &error) {
            CHECK(error.code() == VYRE_IO_RESULT_NO_DRIVER || error.code() == VYRE_IO_RESULT_NO_DEVICE ||
                  error.code() == VYRE_IO_RESULT_GPU_UNFIT);
            std::printf("views: %s\n", error.what());
        }
        return 0;
    }
    const std::string path = argv[1];
    const auto gpu = vyre_io::Gpu::open();
    const File file(path);
    a_view_shows_its_file(gpu, file);
    a_view_is_prepared(gpu, file);
    refusals_have_codes(gpu, file);
    a_truncated_file_is_told(gpu, path + ".short");
    a_file_is_loaded(gpu, file);
    windows_are_mapped<vyre_io::LoopBuilder>(gpu, file);
    windows_are_mapped<vyre_io::GroupBuilder>(gpu, file);
    std::puts("views: ok");
    return 0;
}
