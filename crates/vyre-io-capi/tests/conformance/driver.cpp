// SPDX-License-Identifier: MIT OR Apache-2.0
// The C++ host does what a file with cases says, and prints a transcript. README.md describes the lines.
//
//   driver CASES auto|threads
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>
#include <type_traits>
#include <variant>

#include "vyre_io.hpp"

namespace {

using std::chrono::milliseconds;
using Bytes = std::vector<unsigned char>;

[[noreturn]] void die(const std::string &why)
{
    std::cerr << "driver: " << why << '\n';
    std::exit(2);
}

// ---- Results, with exceptions and without ----

struct Nothing {};

/// The name of a result, and the value of a success.
template <class T>
struct Attempt {
    std::string name = "OK";
    std::optional<T> value;
};

template <class T>
using Kept = std::conditional_t<std::is_void_v<T>, Nothing, T>;

#if VYRE_IO_EXCEPTIONS
template <class Call>
auto attempt(Call call) -> Attempt<Kept<decltype(call())>>
{
    Attempt<Kept<decltype(call())>> made;
    try {
        if constexpr (std::is_void_v<decltype(call())>) {
            call();
            made.value.emplace();
        } else {
            made.value.emplace(call());
        }
    } catch (const vyre_io::Error &error) {
        if (error.what()[0] == '\0') die("an error without a text");
        made.name = error.name();
    }
    return made;
}
#else
template <class T>
T type_of(const vyre_io::Expected<T> &);

template <class Call>
auto attempt(Call call) -> Attempt<Kept<decltype(type_of(call()))>>
{
    Attempt<Kept<decltype(type_of(call()))>> made;
    auto result = call();
    if (!result) {
        if (result.error().what()[0] == '\0') die("an error without a text");
        made.name = result.error().name();
    } else if constexpr (std::is_void_v<decltype(type_of(result))>) {
        made.value.emplace();
    } else {
        made.value.emplace(std::move(result).value());
    }
    return made;
}
#endif

/// The value of a call that must succeed.
template <class Call>
auto must(Call call)
{
    auto made = attempt(call);
    if (!made.value) die(made.name);
    return std::move(*made.value);
}

// ---- Bytes ----

Bytes pattern(std::uint64_t seed, std::uint64_t count)
{
    Bytes bytes(count);
    for (std::uint64_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<unsigned char>((seed + 31 * i + i / 256) % 256);
    }
    return bytes;
}

std::string checksum(const Bytes &bytes)
{
    std::uint32_t hash = 0x811c9dc5;
    for (auto byte : bytes) hash = (hash ^ byte) * 0x01000193;
    char text[16];
    std::snprintf(text, sizeof(text), "%08" PRIx32, hash);
    return text;
}

void write_all(int fd, const Bytes &bytes)
{
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) die("a file cannot be filled");
}

std::uint32_t rights(const std::string &letters)
{
    const auto has = [&](char letter) { return letters.find(letter) != std::string::npos; };
    return (has('r') ? VYRE_IO_RIGHT_READ : 0u) | (has('w') ? VYRE_IO_RIGHT_WRITE : 0u) |
           (has('s') ? VYRE_IO_RIGHT_SYNC : 0u) | (has('c') ? VYRE_IO_PAGE_CACHE_READS : 0u);
}

// ---- The host of a case ----

/// A queue and its device end.
struct Lane {
    vyre_io::Queue queue;
    vyre_io::Device device;
    std::shared_ptr<void> mapping;
};

class Host {
public:
    explicit Host(vyre_io_transport transport)
        : table_(must(vyre_io::FileTable::make)), pool_(must(vyre_io::BufferTable::make))
    {
        options_.transport = transport;
    }

    /// Does what a line says. Returns whether the command is known.
    bool line(const std::string &command, std::istringstream &words)
    {
        words_ = &words;
        const auto found = COMMANDS.find(command);
        if (found == COMMANDS.end()) return false;
        (this->*found->second)();
        return true;
    }

private:
    static const std::map<std::string, void (Host::*)()> COMMANDS;

    std::string word()
    {
        std::string word;
        if (!(*words_ >> word)) die("a line is too short");
        return word;
    }
    std::optional<std::string> option()
    {
        std::string word;
        return *words_ >> word ? std::optional(word) : std::nullopt;
    }
    std::uint64_t number() { return std::stoull(word()); }
    std::uint32_t small() { return static_cast<std::uint32_t>(number()); }
    vyre_io::Range range()
    {
        const auto start = number();
        const auto end = word();
        return end == "-" ? vyre_io::Range{start} : vyre_io::Range{start, std::stoull(end)};
    }
    std::uint32_t handle(const std::string &name)
    {
        return name[0] == '#' ? static_cast<std::uint32_t>(std::stoul(name.substr(1))) : handles_.at(name);
    }

    /// Calls something with the loop or the group that runs, or that has ended.
    template <class Call>
    auto running(Call call)
    {
        return group_ ? call(*group_) : call(loop_);
    }
    bool is_running() const { return group_ || loop_; }

    // ---- Files and buffers ----

    void file()
    {
        char path[] = "/tmp/vyre-io-case-XXXXXX";
        const auto name = word();
        files_[name] = vyre_io::Descriptor(::mkstemp(path));
        ::unlink(path);
        write_all(files_[name].get(), pattern(1, number()));
    }
    void memfd()
    {
        const auto name = word();
        files_[name] = vyre_io::Descriptor(::memfd_create("case", MFD_CLOEXEC));
        write_all(files_[name].get(), pattern(1, number()));
    }
    void open()
    {
        const auto name = word();
        const auto path = "/proc/self/fd/" + std::to_string(files_.at(word()).get());
        const std::map<std::string, int> flags = {
            {"r", O_RDONLY}, {"w", O_WRONLY}, {"append", O_RDWR | O_APPEND}, {"path", O_PATH}};
        files_[name] = vyre_io::Descriptor(::open(path.c_str(), flags.at(word()) | O_CLOEXEC));
    }
    void dir() { files_[word()] = vyre_io::Descriptor(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }
    void pipe()
    {
        const auto name = word();
        int ends[2];
        if (::pipe(ends) != 0) die("no pipe");
        files_[name] = vyre_io::Descriptor(ends[0]);
        feeds_[name] = vyre_io::Descriptor(ends[1]);
    }
    void feed()
    {
        const auto name = word();
        write_all(feeds_.at(name).get(), pattern(2, number()));
    }
    void buffer()
    {
        const auto name = word();
        const auto count = number();
        buffers_[name] = must([&] { return vyre_io::Buffer::anonymous(count); });
    }
    void fill()
    {
        const auto name = word();
        const auto start = number(), count = number();
        const auto bytes = pattern(number(), count);
        must([&] { return buffers_.at(name).write(start, bytes); });
    }
    void sum()
    {
        const auto name = word();
        const auto start = number();
        Bytes bytes(number());
        must([&] { return buffers_.at(name).read(start, bytes); });
        // The same bytes by plain loads: no request is under way.
        const auto plain = buffers_.at(name).bytes().subspan(start).first(bytes.size());
        if (!std::equal(plain.begin(), plain.end(), bytes.begin())) die("two kinds of reads differ");
        std::cout << "sum " << checksum(bytes) << '\n';
    }
    void filesum()
    {
        const int fd = files_.at(word()).get();
        struct stat found = {};
        if (::fstat(fd, &found) != 0) die("a file has no size");
        Bytes bytes(static_cast<std::size_t>(found.st_size));
        if (::pread(fd, bytes.data(), bytes.size(), 0) != found.st_size) die("a file cannot be read");
        std::cout << "filesum " << bytes.size() << ' ' << checksum(bytes) << '\n';
    }

    // ---- Handles ----

    void inserted(const char *command, const std::string &name, const Attempt<std::uint32_t> &made)
    {
        std::cout << command << ' ' << name << ' ' << made.name;
        if (made.value) {
            handles_[name] = *made.value;
            std::cout << " 0x" << std::hex << *made.value << std::dec;
        }
        std::cout << '\n';
    }
    void insert()
    {
        const auto name = word();
        const int fd = files_.at(word()).get();
        const auto flags = rights(word());
        const auto part = range();
        inserted("insert", name,
                 is_running() ? running([&](auto &io) {
                     return attempt([&] { return io.insert_file(fd, flags, part); });
                 })
                              : attempt([&] { return table_.insert(fd, flags, part); }));
    }
    void window()
    {
        const auto name = word();
        const auto &buffer = buffers_.at(word());
        const auto part = range();
        const auto flags = rights(word());
        inserted("window", name,
                 is_running() ? running([&](auto &io) {
                     return attempt([&] { return io.insert_buffer(buffer, flags, part); });
                 })
                              : attempt([&] { return pool_.insert(buffer, flags, part); }));
    }
    void populate()
    {
        const auto name = word();
        const auto made = attempt([&] { return table_.populate(handle(name)); });
        std::cout << "populate " << name << ' ' << made.name << '\n';
    }
    void revoke()
    {
        const auto name = word();
        const auto within = milliseconds(number());
        const auto made = running([&](auto &io) {
            return attempt([&] { return io.revoke_file(handle(name), within); });
        });
        std::cout << "revoke " << name << ' ' << made.name << '\n';
    }
    void revokebuffer()
    {
        const auto name = word();
        const auto within = milliseconds(number());
        const auto made = running([&](auto &io) {
            return attempt([&] { return io.revoke_buffer(handle(name), within); });
        });
        std::cout << "revokebuffer " << name << ' ' << made.name << '\n';
    }

    // ---- Queues ----

    std::string make_queue()
    {
        const auto kind = word();
        const auto slots = small();
        std::shared_ptr<void> mapping;
        vyre_io::Queue queue;
        if (kind == "shared") {
            auto made = attempt([&] { return vyre_io::Queue::shared(slots); });
            if (!made.value) return made.name;
            queue = std::move(made.value->first);
            const auto bytes = queue.bytes();
            void *mapped =
                ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made.value->second.get(), 0);
            mapping = std::shared_ptr<void>(mapped, [bytes](void *memory) { ::munmap(memory, bytes); });
        } else {
            const std::uint32_t flags = kind == "bell"     ? VYRE_IO_QUEUE_DOORBELL
                                        : kind == "bare"   ? VYRE_IO_QUEUE_BARE
                                        : kind == "counts" ? VYRE_IO_QUEUE_BARE | VYRE_IO_QUEUE_COUNTS
                                                           : 0u;
            auto made = attempt([&] { return vyre_io::Queue::make(slots, flags); });
            if (!made.value) return made.name;
            queue = std::move(*made.value);
        }
        void *memory = mapping ? mapping.get() : queue.memory();
        auto attached = vyre_io::Device(memory, queue.bytes());
        if (kind == "bare") attached = vyre_io::Device::bare(memory, queue.bytes());
        if (kind == "counts") attached = vyre_io::Device::bare_with_counts(memory, queue.bytes());
        if (attached.attached() != VYRE_IOQ_ATTACH_OK) die("a device end cannot attach");
        lanes_.push_back(Lane{std::move(queue), std::move(attached), std::move(mapping)});
        current_ = lanes_.size() - 1;
        return "OK";
    }
    void queue() { std::cout << "queue " << make_queue() << '\n'; }
    void add()
    {
        auto name = make_queue();
        if (name == "OK") {
            given_ = lanes_.size();
            const auto made = running([&](auto &io) {
                return attempt([&] { return io.add_queue(lanes_[current_].queue); });
            });
            name = made.name;
            if (made.value) name += " " + std::to_string(*made.value);
        }
        std::cout << "add " << name << '\n';
    }
    void remove()
    {
        const auto id = number();
        const auto within = milliseconds(number());
        const auto made = running([&](auto &io) {
            return attempt([&] { return io.remove_queue_within(id, within); });
        });
        std::cout << "remove " << id << ' ' << made.name;
        if (made.value) print(*made.value);
        std::cout << '\n';
    }
    void loopof()
    {
        const auto id = number();
        std::cout << "loopof " << id << ' ' << must([&] { return group_->loop_of(id); }) << '\n';
    }
    void use() { current_ = number(); }
    void state()
    {
        const auto which = option();
        const auto &lane = lanes_.at(which ? std::stoull(*which) : current_);
        std::cout << "state " << vyre_ioq_host_state(lane.device.get()) << '\n';
    }

    vyre_io_queue_counters queue_counters()
    {
        return running([&](auto &io) { return must([&] { return io.queue_counters(current_); }); });
    }
    static void print(const vyre_io_queue_counters &counters)
    {
        std::cout << ' ' << counters.claimed << ' ' << counters.succeeded << ' ' << counters.failed << ' '
                  << counters.bytes_read << ' ' << counters.bytes_written;
    }
    void until()
    {
        const auto claimed = number();
        while (queue_counters().claimed < claimed) std::this_thread::sleep_for(milliseconds(1));
    }
    void counters()
    {
        auto found = queue_counters();
        while (found.claimed != found.succeeded + found.failed) {
            std::this_thread::sleep_for(milliseconds(1));
            found = queue_counters();
        }
        std::cout << "counters";
        print(found);
        std::cout << '\n';
    }

    // ---- Loops ----

    void start()
    {
        std::uint32_t loops = 0;
        while (const auto found = option()) {
            if (*found == "loops") {
                loops = small();
            } else if (*found == "doorbell") {
                options_.wait_policy = vyre_io::WaitPolicy::doorbell();
            } else if (*found == "drain") {
                options_.drain_timeout = milliseconds(number());
            } else if (*found == "entries") {
                options_.ring_entries = small();
            } else {
                die("an option is unknown");
            }
        }
        std::cout << "start " << (loops == 0 ? start_loop() : start_group(loops)) << '\n';
    }
    std::string start_loop()
    {
        vyre_io::LoopBuilder builder;
        builder.files(table_).buffers(pool_).options(options_);
        for (; given_ < lanes_.size(); ++given_) builder.queue(lanes_[given_].queue);
        auto made = attempt([&] { return builder.spawn(); });
        if (made.value) loop_ = std::move(*made.value);
        return made.name;
    }
    std::string start_group(std::uint32_t loops)
    {
        vyre_io::GroupBuilder builder;
        builder.files(table_).buffers(pool_).options(options_).loops(loops);
        for (; given_ < lanes_.size(); ++given_) builder.queue(lanes_[given_].queue);
        auto made = attempt([&] { return builder.spawn(); });
        if (made.value) group_ = std::move(*made.value);
        return made.name;
    }
    void stop()
    {
        std::cout << "stop " << running([](auto &io) { return attempt([&] { return io.stop(); }).name; }) << '\n';
    }
    void abort()
    {
        std::cout << "abort " << running([](auto &io) { return attempt([&] { return io.abort(); }).name; }) << '\n';
    }

    // ---- Requests ----

    vyre_ioq_request request()
    {
        const auto op = word();
        if (op == "fence") return vyre_ioq_prep_fence();
        const auto file = handle(word());
        if (op == "sync") return vyre_ioq_prep_sync(file);
        const auto offset = number();
        const auto count = small();
        if (op == "prefetch") return vyre_ioq_prep_prefetch(file, offset, count);
        const auto buffer = handle(word());
        const auto place = number();
        return op == "read" ? vyre_ioq_prep_read(file, offset, count, buffer, place)
                            : vyre_ioq_prep_write(file, offset, count, buffer, place);
    }
    void submit()
    {
        const auto tag = small();
        auto made = request();
        while (const auto found = option()) {
            if (*found == "exact") {
                made.flags |= VYRE_IOQ_FLAG_EXACT;
            } else if (*found == "durable") {
                made.flags |= VYRE_IOQ_FLAG_DURABLE;
            } else if (*found == "deadline") {
                made.deadline = small();
            } else if (*found == "flag8") {
                made.flags |= 1u << 8;
            } else {
                die("an option is unknown");
            }
        }
        made.tag = tag;
        if (const auto slot = lanes_.at(current_).device.submit(made)) {
            slots_[tag] = {current_, *slot};
        } else {
            std::cout << "submit " << tag << " full\n";
        }
    }
    void await()
    {
        const auto tag = small();
        const auto [lane, slot] = slots_.at(tag);
        const auto waited = lanes_.at(lane).device.wait(slot, std::chrono::seconds(60));
        if (waited.result != VYRE_IOQ_OK) {
            std::cout << tag << " gone\n";
        } else if (waited.ok()) {
            std::cout << tag << " ok " << waited.bytes() << '\n';
        } else {
            std::cout << tag << " errno " << waited.os_errno() << '\n';
        }
    }

    std::istringstream *words_ = nullptr;
    std::map<std::string, vyre_io::Descriptor> files_, feeds_;
    std::map<std::string, vyre_io::Buffer> buffers_;
    std::map<std::string, std::uint32_t> handles_;
    vyre_io::FileTable table_;
    vyre_io::BufferTable pool_;
    std::vector<Lane> lanes_;
    std::size_t current_ = 0, given_ = 0;
    std::map<std::uint32_t, std::pair<std::size_t, std::uint32_t>> slots_;
    vyre_io::LoopOptions options_;
    // Last, so that they end first.
    vyre_io::Loop loop_;
    std::optional<vyre_io::Group> group_;
};

const std::map<std::string, void (Host::*)()> Host::COMMANDS = {
    {"abort", &Host::abort},       {"add", &Host::add},       {"await", &Host::await},
    {"buffer", &Host::buffer},     {"counters", &Host::counters}, {"dir", &Host::dir},
    {"feed", &Host::feed},         {"file", &Host::file},     {"filesum", &Host::filesum},
    {"fill", &Host::fill},         {"insert", &Host::insert}, {"loopof", &Host::loopof},
    {"memfd", &Host::memfd},       {"open", &Host::open},     {"pipe", &Host::pipe},
    {"populate", &Host::populate}, {"queue", &Host::queue},   {"remove", &Host::remove},
    {"revoke", &Host::revoke},     {"revokebuffer", &Host::revokebuffer}, {"start", &Host::start},
    {"state", &Host::state},       {"stop", &Host::stop},     {"submit", &Host::submit},
    {"sum", &Host::sum},           {"until", &Host::until},   {"use", &Host::use},
    {"window", &Host::window},
};

/// A Device that was moved from is attached to nothing.
void check_a_moved_device()
{
    const auto queue = must([] { return vyre_io::Queue::make(4); });
    vyre_io::Device device(queue);
    const auto request = vyre_ioq_prep_read(0, 0, 0, 0, 0);
    const auto moved = std::move(device);
    if (moved.attached() != VYRE_IOQ_ATTACH_OK || !moved.submit(request)) die("a device does not move");
    if (device.attached() == VYRE_IOQ_ATTACH_OK || device.submit(request) || device.wait(0).result == VYRE_IOQ_OK ||
        device.perform(request).ok()) {
        die("a device that was moved from is attached");
    }
}

}  // namespace

int main(int argc, char **argv)
{
    check_a_moved_device();
    std::ifstream cases(argc == 3 ? argv[1] : "");
    if (!cases) die("usage: driver CASES auto|threads");
    const auto transport = argv[2] == std::string("threads") ? VYRE_IO_TRANSPORT_THREADS : VYRE_IO_TRANSPORT_AUTO;
    std::unique_ptr<Host> host;
    for (std::string line; std::getline(cases, line);) {
        if (line.empty() || line[0] == '#') continue;
        if (line.rfind("case ", 0) == 0) {
            host.reset();
            host = std::make_unique<Host>(transport);
            std::cout << line << '\n';
            continue;
        }
        std::istringstream words(line);
        std::string command;
        words >> command;
        if (!host->line(command, words)) die(command + " is no command");
    }
    host.reset();
    return std::cout.flush() ? 0 : 1;
}
