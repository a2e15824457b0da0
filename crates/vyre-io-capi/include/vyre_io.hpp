/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/// @file vyre_io.hpp
/// @brief vyre_io.h for C++17: objects that free themselves, and errors as exceptions or as values.
///
/// A class that has a `release` owns one object of vyre_io.h, whose documentation has the rules. After that, or once it
/// was moved from, it is empty: calls of it fail with VYRE_IO_RESULT_NULL_POINTER.
///
/// Errors: a function that can fail returns a Result<T>. With exceptions, that is T, and the function throws an Error.
/// Without, or if VYRE_IO_EXCEPTIONS is defined as 0, it is an Expected<T>, which holds a T or an Error.
///
/// Header-only. Link with libvyre_io.
#ifndef VYRE_IO_HPP
#define VYRE_IO_HPP

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>
#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

#ifndef VYRE_IO_EXCEPTIONS
#if defined(__cpp_exceptions)
#define VYRE_IO_EXCEPTIONS 1
#else
#define VYRE_IO_EXCEPTIONS 0
#endif
#endif

namespace vyre_io {

// ---- Errors ----

/// Reason that a call failed.
class Error : public std::exception {
public:
    explicit Error(const vyre_io_error &error) noexcept : error_(error) {}

    /// Returns the result of the call.
    vyre_io_result code() const noexcept { return error_.code; }
    /// Returns the errno of the system call that failed, or 0.
    int os_errno() const noexcept { return error_.os_errno; }
    /// Returns the number of operations or requests that the kernel still holds, or 0.
    std::uint32_t held() const noexcept { return error_.held; }
    /// Returns the name of the result, such as "NOT_READABLE".
    const char *name() const noexcept { return vyre_io_result_name(error_.code); }
    /// Returns the text that says what happened and what to do.
    const char *what() const noexcept override { return error_.message; }

private:
    vyre_io_error error_;
};

/// A value, or the reason that there is none.
template <class T>
class [[nodiscard]] Expected {
public:
    Expected(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    Expected(const Error &error) : content_(std::in_place_index<1>, error) {}

    bool has_value() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    /// Returns the value. Ends the program if there is none.
    T &value() & { return const_cast<T &>(std::as_const(*this).value()); }
    const T &value() const &
    {
        if (!has_value()) std::abort();
        return *std::get_if<0>(&content_);
    }
    T &&value() && { return std::move(value()); }

    /// Returns the error. Ends the program if there is a value.
    const Error &error() const
    {
        if (has_value()) std::abort();
        return *std::get_if<1>(&content_);
    }

private:
    std::variant<T, Error> content_;
};

/// Success, or the reason of a failure.
template <>
class [[nodiscard]] Expected<void> {
public:
    Expected() = default;
    Expected(const Error &error) : error_(error) {}

    bool has_value() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return has_value(); }

    /// Ends the program if there is an error.
    void value() const
    {
        if (error_) std::abort();
    }
    /// Returns the error. Ends the program if there is none.
    const Error &error() const
    {
        if (!error_) std::abort();
        return *error_;
    }

private:
    std::optional<Error> error_;
};

#if VYRE_IO_EXCEPTIONS
template <class T>
using Result = T;
#else
template <class T>
using Result = Expected<T>;
#endif

namespace detail {

/// Returns the value of a call that succeeded.
template <class T>
Result<T> finish(vyre_io_result result, const vyre_io_error &error, T &&value)
{
    if (result != VYRE_IO_RESULT_OK) {
#if VYRE_IO_EXCEPTIONS
        throw Error(error);
#else
        return Error(error);
#endif
    }
    return std::forward<T>(value);
}

inline Result<void> finish(vyre_io_result result, const vyre_io_error &error)
{
    if (result != VYRE_IO_RESULT_OK) {
#if VYRE_IO_EXCEPTIONS
        throw Error(error);
#else
        return Error(error);
#endif
    }
    return Result<void>();
}

/// Owns an object of the library.
template <class T, void (*Free)(T *)>
class Handle {
public:
    Handle() = default;
    explicit Handle(T *object) noexcept : object_(object) {}

    /// Returns the object for functions of vyre_io.h. It stays owned.
    T *get() const noexcept { return object_.get(); }
    /// Gives the object away: whoever gets it frees it.
    T *release() noexcept { return object_.release(); }
    explicit operator bool() const noexcept { return object_ != nullptr; }

private:
    struct Freer {
        void operator()(T *object) const noexcept { Free(object); }
    };
    std::unique_ptr<T, Freer> object_;
};

inline std::uint64_t nanoseconds(std::chrono::nanoseconds time)
{
    return time.count() < 0 ? 0 : static_cast<std::uint64_t>(time.count());
}

/// Frees what keeps memory of the program's. The library calls it.
inline void release_owner(void *context) { delete static_cast<std::shared_ptr<void> *>(context); }

inline void *boxed(std::shared_ptr<void> owner) { return new std::shared_ptr<void>(std::move(owner)); }

}  // namespace detail

// ---- Bytes ----

#if defined(__cpp_lib_span)
template <class T>
using Span = std::span<T>;
#else
/// A pointer and a number of elements: the part of std::span of C++20 that is used here.
template <class T>
class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N>
    constexpr Span(T (&array)[N]) noexcept : data_(array), size_(N) {}
    template <class C, class = decltype(static_cast<T *>(std::declval<C &>().data()))>
    constexpr Span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T &operator[](std::size_t index) const { return data_[index]; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr Span first(std::size_t count) const { return Span(data_, count); }
    constexpr Span subspan(std::size_t offset) const { return Span(data_ + offset, size_ - offset); }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

/// A file descriptor, which is closed at the end.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor &&other) noexcept : fd_(other.release()) {}
    Descriptor &operator=(Descriptor &&other) noexcept
    {
        if (this != &other) {
            reset();
            fd_ = other.release();
        }
        return *this;
    }
    ~Descriptor() { reset(); }

    int get() const noexcept { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }
    explicit operator bool() const noexcept { return fd_ >= 0; }

private:
    void reset() noexcept
    {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    int fd_ = -1;
};

/// The bytes `start` to `end` of a file or buffer. Without an end, they reach to its end.
struct Range {
    std::uint64_t start = 0;
    std::uint64_t end = VYRE_IO_TO_THE_END;
};

// ---- What devices may name ----

/// Memory that requests read and write.
class Buffer : public detail::Handle<vyre_io_buffer, vyre_io_buffer_free> {
public:
    using Handle::Handle;

    /// Maps zeroed memory.
    static Result<Buffer> anonymous(std::size_t len)
    {
        vyre_io_buffer *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_buffer_anonymous(len, &made, &error);
        return detail::finish(result, error, Buffer(made));
    }

    /// Makes zeroed memory that other processes can map by the descriptor.
    static Result<std::pair<Buffer, Descriptor>> memfd(std::size_t len)
    {
        vyre_io_buffer *made = nullptr;
        int fd = -1;
        vyre_io_error error;
        const auto result = vyre_io_buffer_memfd(len, &made, &fd, &error);
        return detail::finish(result, error, std::make_pair(Buffer(made), Descriptor(fd)));
    }

    /// Maps all of a memfd that another process made.
    static Result<Buffer> from_memfd(int memfd)
    {
        vyre_io_buffer *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_buffer_from_memfd(memfd, &made, &error);
        return detail::finish(result, error, Buffer(made));
    }

    /// Uses memory that the program allocated. `owner` keeps it, and is dropped when nothing uses it any more, on
    /// whichever thread that is.
    static Result<Buffer> from_memory(void *memory, std::size_t len, std::shared_ptr<void> owner)
    {
        vyre_io_buffer *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_buffer_from_memory(memory, len, detail::release_owner,
                                                       detail::boxed(std::move(owner)), &made, &error);
        return detail::finish(result, error, Buffer(made));
    }

    void *data() const noexcept { return vyre_io_buffer_data(get()); }
    std::size_t size() const noexcept { return vyre_io_buffer_len(get()); }

    /// Returns the bytes for plain accesses: only while no request is under way that names them.
    Span<unsigned char> bytes() const noexcept { return {static_cast<unsigned char *>(data()), size()}; }

    /// Copies bytes out, also while requests write them.
    Result<void> read(std::size_t offset, Span<unsigned char> to) const
    {
        vyre_io_error error;
        const auto result = vyre_io_buffer_read(get(), offset, to.data(), to.size(), &error);
        return detail::finish(result, error);
    }
    /// Copies bytes in, also while requests read them.
    Result<void> write(std::size_t offset, Span<const unsigned char> from) const
    {
        vyre_io_error error;
        const auto result = vyre_io_buffer_write(get(), offset, from.data(), from.size(), &error);
        return detail::finish(result, error);
    }
    void populate() const noexcept { vyre_io_buffer_populate(get()); }
};

/// The files that devices may name.
class FileTable : public detail::Handle<vyre_io_file_table, vyre_io_file_table_free> {
public:
    using Handle::Handle;

    static Result<FileTable> make()
    {
        vyre_io_file_table *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_file_table_new(&made, &error);
        return detail::finish(result, error, FileTable(made));
    }

    /// Adds a range of a file, and returns its handle. `flags` are VYRE_IO_RIGHT_... and VYRE_IO_PAGE_CACHE_READS.
    /// With `only_for`, queues of other numbers cannot name it.
    Result<std::uint32_t> insert(int fd, std::uint32_t flags, Range range = {},
                                 std::uint64_t only_for = VYRE_IO_ANY_QUEUE)
    {
        std::uint32_t handle = 0;
        vyre_io_error error;
        const auto result =
            vyre_io_file_table_insert_for(get(), only_for, fd, range.start, range.end, flags, &handle, &error);
        return detail::finish(result, error, std::move(handle));
    }
    Result<void> insert_at(std::uint32_t handle, int fd, std::uint32_t flags, Range range = {})
    {
        vyre_io_error error;
        const auto result =
            vyre_io_file_table_insert_at(get(), handle, fd, range.start, range.end, flags, &error);
        return detail::finish(result, error);
    }
    /// Reads a part of a file with page-cache reads into memory, and maps it.
    Result<void> populate(std::uint32_t handle, Range part = {}) const
    {
        vyre_io_error error;
        return detail::finish(vyre_io_file_table_populate(get(), handle, part.start, part.end, &error), error);
    }
    Result<std::uint64_t> resident_pages(std::uint32_t handle) const
    {
        std::uint64_t pages = 0;
        vyre_io_error error;
        const auto result = vyre_io_file_table_resident_pages(get(), handle, &pages, &error);
        return detail::finish(result, error, std::move(pages));
    }
};

/// The buffers that devices may name.
class BufferTable : public detail::Handle<vyre_io_buffer_table, vyre_io_buffer_table_free> {
public:
    using Handle::Handle;

    static Result<BufferTable> make()
    {
        vyre_io_buffer_table *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_buffer_table_new(&made, &error);
        return detail::finish(result, error, BufferTable(made));
    }

    /// Adds a range of a buffer, and returns its handle.
    Result<std::uint32_t> insert(const Buffer &buffer,
                                 std::uint32_t rights = VYRE_IO_RIGHT_READ | VYRE_IO_RIGHT_WRITE,
                                 Range range = {}, std::uint64_t only_for = VYRE_IO_ANY_QUEUE)
    {
        std::uint32_t handle = 0;
        vyre_io_error error;
        const auto result = vyre_io_buffer_table_insert_for(get(), only_for, buffer.get(), range.start, range.end,
                                                            rights, &handle, &error);
        return detail::finish(result, error, std::move(handle));
    }
    Result<void> insert_at(std::uint32_t handle, const Buffer &buffer, std::uint32_t rights, Range range = {})
    {
        vyre_io_error error;
        const auto result = vyre_io_buffer_table_insert_at(get(), handle, buffer.get(), range.start, range.end,
                                                           rights, &error);
        return detail::finish(result, error);
    }
    /// Adds a buffer as pages of equal size, and returns their handles.
    Result<std::vector<std::uint32_t>> insert_pages(const Buffer &buffer, std::uint64_t page,
                                                    std::uint32_t rights)
    {
        std::vector<std::uint32_t> handles(page == 0 ? 1 : static_cast<std::size_t>(buffer.size() / page) + 1);
        vyre_io_error error;
        const auto result = vyre_io_buffer_table_insert_pages(get(), buffer.get(), page, rights, handles.data(),
                                                              handles.size(), &error);
        handles.pop_back();
        return detail::finish(result, error, std::move(handles));
    }
};

// ---- Queues ----

/// The most that the requests of a queue may use. By default there are no limits.
struct QueueLimits {
    std::uint64_t operations_per_second = UINT64_MAX;
    std::uint64_t bytes_per_second = UINT64_MAX;
    std::uint32_t operations_in_flight = UINT32_MAX;
    std::uint64_t bytes_in_flight = UINT64_MAX;
};

/// A queue. Its host end goes to a loop, once; a Device attaches to its memory.
class Queue : public detail::Handle<vyre_io_queue, vyre_io_queue_free> {
public:
    using Handle::Handle;

    /// Makes an empty queue in memory of this process. `flags` are VYRE_IO_QUEUE_...
    static Result<Queue> make(std::uint32_t slots, std::uint32_t flags = 0, std::uint64_t id = 0)
    {
        vyre_io_queue *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_queue_new(slots, flags, id, &made, &error);
        return detail::finish(result, error, Queue(made));
    }
    /// Makes an empty queue in memory that another process maps by the descriptor.
    static Result<std::pair<Queue, Descriptor>> shared(std::uint32_t slots, std::uint32_t flags = 0,
                                                       std::uint64_t id = 0)
    {
        vyre_io_queue *made = nullptr;
        int memfd = -1;
        vyre_io_error error;
        const auto result = vyre_io_queue_shared(slots, flags, id, &made, &memfd, &error);
        return detail::finish(result, error, std::make_pair(Queue(made), Descriptor(memfd)));
    }
    /// Makes an empty queue in memory that the program allocated, which `owner` keeps.
    static Result<Queue> in_memory(void *memory, std::size_t len, std::shared_ptr<void> owner,
                                   std::uint32_t slots, std::uint32_t flags = 0, std::uint64_t id = 0)
    {
        vyre_io_queue *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_queue_in_memory(memory, len, slots, flags, id, detail::release_owner,
                                                    detail::boxed(std::move(owner)), &made, &error);
        return detail::finish(result, error, Queue(made));
    }
    /// Takes over a bare queue that a device has created. `flags` is VYRE_IO_QUEUE_COUNTS or 0.
    static Result<Queue> attach_bare(void *memory, std::size_t len, std::shared_ptr<void> owner,
                                     std::uint32_t flags = 0)
    {
        vyre_io_queue *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_queue_attach_bare(memory, len, flags, detail::release_owner,
                                                      detail::boxed(std::move(owner)), &made, &error);
        return detail::finish(result, error, Queue(made));
    }

    /// Returns the bytes that a queue takes.
    static std::size_t layout_bytes(std::uint32_t slots, std::uint32_t flags = 0) noexcept
    {
        return vyre_io_queue_layout_bytes(slots, flags);
    }

    /// Limits what requests may use, before the queue is given to a builder or a loop.
    Result<void> set_limits(const QueueLimits &limits)
    {
        vyre_io_error error;
        return detail::finish(vyre_io_queue_set_limits(get(), limits.operations_per_second, limits.bytes_per_second,
                                                       limits.operations_in_flight, limits.bytes_in_flight, &error),
                              error);
    }

    /// Makes an eventfd that becomes readable when the host wakes the device, before the queue is given to a builder or a loop.
    Result<Descriptor> event()
    {
        int fd = -1;
        vyre_io_error error;
        const auto result = vyre_io_queue_event(get(), &fd, &error);
        return detail::finish(result, error, Descriptor(fd));
    }

    void *memory() const noexcept { return vyre_io_queue_memory(get()); }
    std::size_t bytes() const noexcept { return vyre_io_queue_bytes(get()); }
};

/// Result of a wait of a Device.
struct Waited {
    vyre_ioq_result result = VYRE_IOQ_PENDING;
    vyre_ioq_outcome outcome = {0, 0, 0};

    /// Returns whether the request succeeded.
    bool ok() const noexcept { return result == VYRE_IOQ_OK && outcome.status == VYRE_IOQ_STATUS_OK; }
    /// Returns the bytes moved, or 0.
    std::uint32_t bytes() const noexcept { return ok() ? outcome.count : 0; }
    /// Returns the errno of the request, 0 after success, or ENOTCONN if there is no outcome.
    int os_errno() const noexcept
    {
        if (ok()) return 0;
        return result == VYRE_IOQ_OK ? static_cast<int>(outcome.count) : ENOTCONN;
    }
};

/// The device end of a queue for threads of this process: vyre_ioq.h with an owner. The memory of the queue must outlive
/// it. The threads of a program share one. One that was moved from is attached to nothing.
class Device {
public:
    /// Attaches to a queue with a header. `attached` says whether that succeeded.
    explicit Device(const Queue &queue) : Device(queue.memory(), queue.bytes()) {}
    Device(void *memory, std::size_t len) : Device(vyre_ioq_attach, memory, len) {}

    /// Attaches to a bare queue, whose outcomes carry no counts and errnos.
    static Device bare(void *memory, std::size_t len) { return Device(vyre_ioq_attach_bare, memory, len); }
    /// Attaches to a bare queue with VYRE_IO_QUEUE_COUNTS.
    static Device bare_with_counts(void *memory, std::size_t len)
    {
        return Device(vyre_ioq_attach_bare_with_counts, memory, len);
    }

    vyre_ioq_attach_error attached() const noexcept { return queue_ ? attached_ : VYRE_IOQ_ATTACH_TOO_SHORT; }
    vyre_ioq_queue *get() const noexcept { return queue_.get(); }

    /// Publishes a request. Returns its slot, or nothing if every slot is in use.
    std::optional<std::uint32_t> submit(const vyre_ioq_request &request) const
    {
        std::uint32_t slot = VYRE_IOQ_NO_SLOT;
        if (attached() != VYRE_IOQ_ATTACH_OK || vyre_ioq_submit(get(), &request, &slot) != VYRE_IOQ_OK) {
            return std::nullopt;
        }
        return slot;
    }
    /// Waits for an outcome, and frees the slot if there is one.
    Waited wait(std::uint32_t slot, std::chrono::nanoseconds limit = std::chrono::seconds(30)) const
    {
        const vyre_ioq_wait_limits limits = {detail::nanoseconds(limit), 2000000000u};
        Waited waited;
        waited.result = VYRE_IOQ_INVALID_SLOT;
        if (attached() != VYRE_IOQ_ATTACH_OK) return waited;
        waited.result = vyre_ioq_wait(get(), slot, &limits, &waited.outcome, nullptr);
        return waited;
    }
    /// Publishes a request and waits for its outcome. A request that gets none in time is given up. A device that is attached
    /// to nothing says VYRE_IOQ_INVALID_SLOT, as `wait` does.
    Waited perform(const vyre_ioq_request &request,
                   std::chrono::nanoseconds limit = std::chrono::seconds(30)) const
    {
        Waited waited;
        if (attached() != VYRE_IOQ_ATTACH_OK) {
            waited.result = VYRE_IOQ_INVALID_SLOT;
            return waited;
        }
        const auto slot = submit(request);
        if (!slot) {
            waited.result = VYRE_IOQ_QUEUE_FULL;
            return waited;
        }
        waited = wait(*slot, limit);
        if (waited.result != VYRE_IOQ_OK) vyre_ioq_abandon(get(), *slot);
        return waited;
    }

private:
    using Attach = vyre_ioq_attach_error (*)(vyre_ioq_queue *, void *, std::size_t);

    Device(Attach attach, void *memory, std::size_t len)
        : queue_(std::make_unique<vyre_ioq_queue>()), attached_(VYRE_IOQ_ATTACH_TOO_SHORT)
    {
        if (memory) attached_ = attach(queue_.get(), memory, len);
    }

    std::unique_ptr<vyre_ioq_queue> queue_;
    vyre_ioq_attach_error attached_;
};

// ---- Settings ----

/// The way in which a loop waits for work.
struct WaitPolicy {
    enum class Kind { Spin, Adaptive, Doorbell };

    Kind kind = Kind::Adaptive;
    std::uint32_t spins = 2000;
    std::chrono::nanoseconds longest = std::chrono::milliseconds(10);

    static WaitPolicy spin() { return {Kind::Spin, 0, {}}; }
    static WaitPolicy adaptive(std::uint32_t spins = 2000,
                               std::chrono::nanoseconds cap = std::chrono::milliseconds(10))
    {
        return {Kind::Adaptive, spins, cap};
    }
    static WaitPolicy doorbell(std::uint32_t spins = 50,
                               std::chrono::nanoseconds bound = std::chrono::milliseconds(100))
    {
        return {Kind::Doorbell, spins, bound};
    }
};

/// Settings of a loop, with their defaults.
struct LoopOptions {
    WaitPolicy wait_policy = {};
    vyre_io_transport transport = VYRE_IO_TRANSPORT_AUTO;
    vyre_io_means rung_by = VYRE_IO_MEANS_FUTEX;
    std::uint32_t ring_entries = 256;
    std::uint32_t live_entries = 64;
    std::chrono::nanoseconds drain_timeout = std::chrono::seconds(30);
    std::chrono::nanoseconds abort_timeout = std::chrono::seconds(5);
};

namespace detail {

/// The first error of several calls, which later calls do not run after.
struct Chain {
    vyre_io_result result = VYRE_IO_RESULT_OK;
    vyre_io_error error = {};

    template <class Call, class... Args>
    void then(Call call, Args... args)
    {
        if (result == VYRE_IO_RESULT_OK) result = call(args..., &error);
    }
};

using Options = Handle<vyre_io_loop_options, vyre_io_loop_options_free>;

inline Options options(const LoopOptions &from, Chain &chain)
{
    vyre_io_loop_options *made = nullptr;
    chain.then(vyre_io_loop_options_new, &made);
    const auto [kind, spins, bound] = from.wait_policy;
    const auto longest = nanoseconds(bound);
    switch (kind) {
    case WaitPolicy::Kind::Spin:
        chain.then(vyre_io_loop_options_set_spin, made);
        break;
    case WaitPolicy::Kind::Doorbell:
        chain.then(vyre_io_loop_options_set_doorbell, made, spins, longest);
        break;
    case WaitPolicy::Kind::Adaptive:
        chain.then(vyre_io_loop_options_set_adaptive, made, spins, longest);
        break;
    }
    chain.then(vyre_io_loop_options_set_transport, made, from.transport);
    chain.then(vyre_io_loop_options_set_rung_by, made, from.rung_by);
    chain.then(vyre_io_loop_options_set_ring_entries, made, from.ring_entries);
    chain.then(vyre_io_loop_options_set_live_entries, made, from.live_entries);
    chain.then(vyre_io_loop_options_set_drain_timeout, made, nanoseconds(from.drain_timeout));
    chain.then(vyre_io_loop_options_set_abort_timeout, made, nanoseconds(from.abort_timeout));
    return Options(made);
}

}  // namespace detail

// ---- Files that kernels read by themselves ----

/// A GPU and a context of it.
class Gpu : public detail::Handle<vyre_io_gpu, vyre_io_gpu_free> {
public:
    using Handle::Handle;

    /// Opens a GPU and its primary context.
    static Result<Gpu> open(std::uint32_t ordinal = 0) { return make(vyre_io_gpu_open, ordinal); }
    /// Opens the GPU of the thread's current context.
    static Result<Gpu> current() { return make(vyre_io_gpu_current); }
    /// Takes a CUcontext, which must outlive what is made with the GPU.
    static Result<Gpu> from_context(void *context) { return make(vyre_io_gpu_from_context, context); }

private:
    template <class Call, class... Args>
    static Result<Gpu> make(Call call, Args... args)
    {
        vyre_io_gpu *made = nullptr;
        vyre_io_error error;
        const auto result = call(args..., &made, &error);
        return detail::finish(result, error, Gpu(made));
    }
};

/// A copy of a part of a view. Its destructor waits until it has ended.
class ViewCopy : public detail::Handle<vyre_io_view_copy, vyre_io_view_copy_free> {
public:
    using Handle::Handle;

    Result<bool> is_done() const
    {
        bool done = false;
        vyre_io_error error;
        const auto result = vyre_io_view_copy_is_done(get(), &done, &error);
        return detail::finish(result, error, std::move(done));
    }
    Result<void> wait() const
    {
        vyre_io_error error;
        return detail::finish(vyre_io_view_copy_wait(get(), &error), error);
    }
};

/// A range of a file whose pages kernels read over the bus. Its destructor waits for what runs on its GPUs.
class View : public detail::Handle<vyre_io_view, vyre_io_view_free> {
public:
    using Handle::Handle;

    /// Pins a range of a file, of whole pages.
    static Result<View> make(const Gpu &gpu, int fd, Range range = {})
    {
        vyre_io_view *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_view_new(gpu.get(), fd, range.start, range.end, &made, &error);
        return detail::finish(result, error, View(made));
    }
    /// Copies a range of a file to memory of the GPU, without a view.
    static Result<void> load(const Gpu &gpu, int fd, Range range, std::uint64_t to, vyre_io_way way = VYRE_IO_WAY_AUTO)
    {
        vyre_io_error error;
        return detail::finish(vyre_io_view_load(gpu.get(), fd, range.start, range.end, to, way, &error), error);
    }

    std::uint64_t start() const noexcept { return vyre_io_view_start(get()); }
    std::uint64_t bytes() const noexcept { return vyre_io_view_bytes(get()); }
    /// Returns what kernels of the GPU need.
    Result<vyre_io_device_view> device(const Gpu &gpu) const
    {
        vyre_io_device_view device = {0, 0};
        vyre_io_error error;
        const auto result = vyre_io_view_device(get(), gpu.get(), &device, &error);
        return detail::finish(result, error, std::move(device));
    }
    /// Finds out whether the view still shows the file.
    Result<vyre_io_view_state> check() const
    {
        vyre_io_view_state state = {VYRE_IO_VIEW_CONDITION_CURRENT, 0, 0};
        vyre_io_error error;
        const auto result = vyre_io_view_check(get(), &state, &error);
        return detail::finish(result, error, std::move(state));
    }
    /// Copies a range of the file to memory of the GPU, on a CUstream or cudaStream_t.
    Result<ViewCopy> copy_to(const Gpu &gpu, Range range, std::uint64_t to, void *stream = nullptr) const
    {
        vyre_io_view_copy *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_view_copy_to(get(), gpu.get(), range.start, range.end, to, stream, &made, &error);
        return detail::finish(result, error, ViewCopy(made));
    }
};

/// A view whose pages a thread reads in. Its destructor cancels the thread.
class Preparing : public detail::Handle<vyre_io_preparing, vyre_io_preparing_free> {
public:
    using Handle::Handle;

    static Result<Preparing> make(int fd, Range range = {})
    {
        vyre_io_preparing *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_view_prepare(fd, range.start, range.end, &made, &error);
        return detail::finish(result, error, Preparing(made));
    }

    std::uint64_t bytes() const noexcept { return vyre_io_preparing_bytes(get()); }
    std::uint64_t done() const noexcept { return vyre_io_preparing_done(get()); }
    bool is_ready() const noexcept { return vyre_io_preparing_is_ready(get()); }
    void cancel() noexcept { vyre_io_preparing_cancel(get()); }
    /// Waits for the thread, and pins the range. The object is empty afterwards.
    Result<View> pin(const Gpu &gpu)
    {
        vyre_io_view *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_preparing_pin(release(), gpu.get(), &made, &error);
        return detail::finish(result, error, View(made));
    }
};

/// Settings of windows.
struct WindowOptions {
    std::uint64_t window_bytes = 2u << 20;
    std::uint64_t read_ahead = 64u << 20;
    std::uint64_t limit = UINT64_MAX;
};

/// The windows of a file, which kernels map while they run.
class Windows : public detail::Handle<vyre_io_windows, vyre_io_windows_free> {
public:
    using Handle::Handle;

    static Result<Windows> make(const Gpu &gpu, int fd, const WindowOptions &options = {})
    {
        vyre_io_windows *made = nullptr;
        vyre_io_error error;
        const auto result = vyre_io_windows_new(gpu.get(), fd, options.window_bytes, options.read_ahead,
                                                options.limit, &made, &error);
        return detail::finish(result, error, Windows(made));
    }

    /// Returns what kernels need.
    Result<vyre_io_device_windows> device() const
    {
        vyre_io_device_windows device = {0, 0, 0, 0, 0, 0};
        vyre_io_error error;
        const auto result = vyre_io_windows_device(get(), &device, &error);
        return detail::finish(result, error, std::move(device));
    }
    Result<vyre_io_window_counters> counters() const
    {
        vyre_io_window_counters counters;
        vyre_io_error error;
        const auto result = vyre_io_windows_counters(get(), &counters, sizeof(counters), &error);
        return detail::finish(result, error, std::move(counters));
    }
    Result<vyre_io_view_state> check() const
    {
        vyre_io_view_state state = {VYRE_IO_VIEW_CONDITION_CURRENT, 0, 0};
        vyre_io_error error;
        const auto result = vyre_io_windows_check(get(), &state, &error);
        return detail::finish(result, error, std::move(state));
    }
    /// Gives the pages back, after the kernels have ended.
    Result<void> close()
    {
        vyre_io_error error;
        return detail::finish(vyre_io_windows_close(get(), &error), error);
    }
};

// ---- Loops ----

/// Keeps loops from sleeping for long while it exists.
class ActiveGuard : public detail::Handle<vyre_io_active_guard, vyre_io_active_guard_free> {
public:
    using Handle::Handle;
};

namespace detail {

/// The functions of a running loop.
struct LoopCalls {
    using Object = vyre_io_loop;
    static constexpr auto free_object = vyre_io_loop_free;
    static constexpr auto stop = vyre_io_loop_stop;
    static constexpr auto abort = vyre_io_loop_abort;
    static constexpr auto insert_file_for = vyre_io_loop_insert_file_for;
    static constexpr auto insert_buffer_for = vyre_io_loop_insert_buffer_for;
    static constexpr auto revoke_file_within = vyre_io_loop_revoke_file_within;
    static constexpr auto revoke_file = vyre_io_loop_revoke_file;
    static constexpr auto revoke_buffer_within = vyre_io_loop_revoke_buffer_within;
    static constexpr auto revoke_buffer = vyre_io_loop_revoke_buffer;
    static constexpr auto add_queue = vyre_io_loop_add_queue;
    static constexpr auto set_queue_limits = vyre_io_loop_set_queue_limits;
    static constexpr auto remove_queue = vyre_io_loop_remove_queue;
    static constexpr auto remove_queue_within = vyre_io_loop_remove_queue_within;
    static constexpr auto active = vyre_io_loop_active;
    static constexpr auto get_counters = vyre_io_loop_get_counters;
    static constexpr auto get_queue_counters = vyre_io_loop_get_queue_counters;
};

/// The functions of a running group.
struct GroupCalls {
    using Object = vyre_io_group;
    static constexpr auto free_object = vyre_io_group_free;
    static constexpr auto stop = vyre_io_group_stop;
    static constexpr auto abort = vyre_io_group_abort;
    static constexpr auto insert_file_for = vyre_io_group_insert_file_for;
    static constexpr auto insert_buffer_for = vyre_io_group_insert_buffer_for;
    static constexpr auto revoke_file_within = vyre_io_group_revoke_file_within;
    static constexpr auto revoke_file = vyre_io_group_revoke_file;
    static constexpr auto revoke_buffer_within = vyre_io_group_revoke_buffer_within;
    static constexpr auto revoke_buffer = vyre_io_group_revoke_buffer;
    static constexpr auto add_queue = vyre_io_group_add_queue;
    static constexpr auto set_queue_limits = vyre_io_group_set_queue_limits;
    static constexpr auto remove_queue = vyre_io_group_remove_queue;
    static constexpr auto remove_queue_within = vyre_io_group_remove_queue_within;
    static constexpr auto active = vyre_io_group_active;
    static constexpr auto get_counters = vyre_io_group_get_counters;
    static constexpr auto get_queue_counters = vyre_io_group_get_queue_counters;
};

/// The part that a loop and a group share. `C` has the functions.
template <class C>
class Running : public Handle<typename C::Object, C::free_object> {
    using Owner = Handle<typename C::Object, C::free_object>;

public:
    using Owner::Owner;

    /// Shuts down in order: claimed requests are finished, and unclaimed ones get ECANCELED.
    Result<void> stop()
    {
        vyre_io_error error;
        return detail::finish(C::stop(this->get(), &error), error);
    }
    /// Shuts down at once: every request is cancelled and gets ECANCELED.
    Result<void> abort()
    {
        vyre_io_error error;
        return detail::finish(C::abort(this->get(), &error), error);
    }
    /// Adds a range of a file, and returns its handle.
    Result<std::uint32_t> insert_file(int fd, std::uint32_t flags, Range range = {},
                                      std::uint64_t only_for = VYRE_IO_ANY_QUEUE)
    {
        std::uint32_t handle = 0;
        vyre_io_error error;
        const auto result =
            C::insert_file_for(this->get(), only_for, fd, range.start, range.end, flags, &handle, &error);
        return detail::finish(result, error, std::move(handle));
    }
    /// Adds a range of a buffer, and returns its handle.
    Result<std::uint32_t> insert_buffer(const Buffer &buffer,
                                        std::uint32_t rights = VYRE_IO_RIGHT_READ | VYRE_IO_RIGHT_WRITE,
                                        Range range = {}, std::uint64_t only_for = VYRE_IO_ANY_QUEUE)
    {
        std::uint32_t handle = 0;
        vyre_io_error error;
        const auto result = C::insert_buffer_for(this->get(), only_for, buffer.get(), range.start, range.end, rights,
                                                 &handle, &error);
        return detail::finish(result, error, std::move(handle));
    }
    /// Revokes a file handle; without a time, within the drain timeout.
    Result<void> revoke_file(std::uint32_t handle, std::optional<std::chrono::nanoseconds> within = {})
    {
        vyre_io_error error;
        return detail::finish(
            within ? C::revoke_file_within(this->get(), handle, detail::nanoseconds(*within), &error)
                   : C::revoke_file(this->get(), handle, &error),
            error);
    }
    /// Revokes a buffer handle; without a time, within the drain timeout.
    Result<void> revoke_buffer(std::uint32_t handle, std::optional<std::chrono::nanoseconds> within = {})
    {
        vyre_io_error error;
        return detail::finish(
            within ? C::revoke_buffer_within(this->get(), handle, detail::nanoseconds(*within), &error)
                   : C::revoke_buffer(this->get(), handle, &error),
            error);
    }
    /// Adds a queue, and returns its number.
    Result<std::uint64_t> add_queue(const Queue &queue)
    {
        std::uint64_t number = 0;
        vyre_io_error error;
        const auto result = C::add_queue(this->get(), queue.get(), &number, &error);
        return detail::finish(result, error, std::move(number));
    }
    /// Changes the limits of a queue.
    Result<void> set_queue_limits(std::uint64_t number, const QueueLimits &limits)
    {
        vyre_io_error error;
        const auto result =
            C::set_queue_limits(this->get(), number, limits.operations_per_second, limits.bytes_per_second,
                                limits.operations_in_flight, limits.bytes_in_flight, &error);
        return detail::finish(result, error);
    }
    /// Removes a queue within the drain timeout.
    Result<void> remove_queue(std::uint64_t number)
    {
        vyre_io_error error;
        return detail::finish(C::remove_queue(this->get(), number, &error), error);
    }
    /// Removes a queue within a time, and returns its last counters.
    Result<vyre_io_queue_counters> remove_queue_within(std::uint64_t number, std::chrono::nanoseconds within)
    {
        vyre_io_queue_counters counters = {};
        vyre_io_error error;
        const auto result = C::remove_queue_within(this->get(), number, detail::nanoseconds(within), &counters,
                                                   sizeof(counters), &error);
        return detail::finish(result, error, std::move(counters));
    }
    /// Keeps loops that sleep until a device rings from sleeping for long, while the guard exists.
    Result<ActiveGuard> active() const
    {
        vyre_io_active_guard *made = nullptr;
        vyre_io_error error;
        const auto result = C::active(this->get(), &made, &error);
        return detail::finish(result, error, ActiveGuard(made));
    }
    Result<vyre_io_loop_counters> counters() const
    {
        vyre_io_loop_counters counters = {};
        vyre_io_error error;
        const auto result = C::get_counters(this->get(), &counters, sizeof(counters), &error);
        return detail::finish(result, error, std::move(counters));
    }
    Result<vyre_io_queue_counters> queue_counters(std::uint64_t number) const
    {
        vyre_io_queue_counters counters = {};
        vyre_io_error error;
        const auto result = C::get_queue_counters(this->get(), number, &counters, sizeof(counters), &error);
        return detail::finish(result, error, std::move(counters));
    }
};

}  // namespace detail

/// A thread that serves queues. A destructor stops it first.
class Loop : public detail::Running<detail::LoopCalls> {
public:
    using Running::Running;

    bool is_running() const noexcept { return vyre_io_loop_is_running(get()); }
    std::uint32_t thread_id() const noexcept { return vyre_io_loop_thread_id(get()); }
    void wake() const noexcept { vyre_io_loop_wake(get()); }
    int wake_fd() const noexcept { return vyre_io_loop_wake_fd(get()); }

    Result<vyre_io_report> report() const
    {
        vyre_io_report report = {};
        vyre_io_error error;
        const auto result = vyre_io_loop_get_report(get(), &report, sizeof(report), &error);
        return detail::finish(result, error, std::move(report));
    }
    std::string report_text() const
    {
        std::string text(vyre_io_loop_report_text(get(), nullptr, 0), '\0');
        vyre_io_loop_report_text(get(), text.data(), text.size() + 1);
        return text;
    }
};

/// Several loops that share files and buffers. A destructor stops them first.
class Group : public detail::Running<detail::GroupCalls> {
public:
    using Running::Running;

    std::uint32_t loops() const noexcept { return vyre_io_group_loops(get()); }
    bool is_running(std::uint32_t index) const noexcept { return vyre_io_group_is_running(get(), index); }
    std::uint32_t thread_id(std::uint32_t index) const noexcept { return vyre_io_group_thread_id(get(), index); }
    void wake(std::uint32_t index) const noexcept { vyre_io_group_wake(get(), index); }
    int wake_fd(std::uint32_t index) const noexcept { return vyre_io_group_wake_fd(get(), index); }

    /// Adds a queue to a certain loop, and returns its number.
    Result<std::uint64_t> add_queue_on(std::uint32_t index, const Queue &queue)
    {
        std::uint64_t number = 0;
        vyre_io_error error;
        const auto result = vyre_io_group_add_queue_on(get(), index, queue.get(), &number, &error);
        return detail::finish(result, error, std::move(number));
    }
    /// Returns the loop that serves a queue.
    Result<std::uint32_t> loop_of(std::uint64_t number) const
    {
        std::uint32_t index = 0;
        vyre_io_error error;
        const auto result = vyre_io_group_loop_of(get(), number, &index, &error);
        return detail::finish(result, error, std::move(index));
    }
    Result<vyre_io_loop_counters> loop_counters(std::uint32_t index) const
    {
        vyre_io_loop_counters counters = {};
        vyre_io_error error;
        const auto result =
            vyre_io_group_get_loop_counters(get(), index, &counters, sizeof(counters), &error);
        return detail::finish(result, error, std::move(counters));
    }
    Result<vyre_io_report> report(std::uint32_t index) const
    {
        vyre_io_report report = {};
        vyre_io_error error;
        const auto result = vyre_io_group_get_report(get(), index, &report, sizeof(report), &error);
        return detail::finish(result, error, std::move(report));
    }
    std::string report_text(std::uint32_t index) const
    {
        std::string text(vyre_io_group_report_text(get(), index, nullptr, 0), '\0');
        vyre_io_group_report_text(get(), index, text.data(), text.size() + 1);
        return text;
    }
};

namespace detail {

/// The functions of a builder of a loop.
struct LoopBuilderCalls {
    using Object = vyre_io_loop_builder;
    using Running = vyre_io_loop;
    static constexpr auto make = vyre_io_loop_builder_new;
    static constexpr auto free_object = vyre_io_loop_builder_free;
    static constexpr auto files = vyre_io_loop_builder_files;
    static constexpr auto buffers = vyre_io_loop_builder_buffers;
    static constexpr auto queue = vyre_io_loop_builder_queue;
    static constexpr auto windows = vyre_io_loop_builder_windows;
    static constexpr auto options = vyre_io_loop_builder_options;
    static constexpr auto name = vyre_io_loop_builder_name;
    static constexpr auto spawn = vyre_io_loop_builder_spawn;
};

/// The functions of a builder of a group.
struct GroupBuilderCalls {
    using Object = vyre_io_group_builder;
    using Running = vyre_io_group;
    static constexpr auto make = vyre_io_group_builder_new;
    static constexpr auto free_object = vyre_io_group_builder_free;
    static constexpr auto files = vyre_io_group_builder_files;
    static constexpr auto buffers = vyre_io_group_builder_buffers;
    static constexpr auto queue = vyre_io_group_builder_queue;
    static constexpr auto windows = vyre_io_group_builder_windows;
    static constexpr auto options = vyre_io_group_builder_options;
    static constexpr auto name = vyre_io_group_builder_name;
    static constexpr auto spawn = vyre_io_group_builder_spawn;
};

/// The part that the builders of a loop and of a group share. `Self` is the builder, `Built` is what it builds, and `C` has
/// the functions.
template <class Self, class Built, class C>
class Builder {
public:
    Builder()
    {
        typename C::Object *made = nullptr;
        chain_.then(C::make, &made);
        builder_ = Owner(made);
    }

    Self &files(const FileTable &table) { return then(C::files, table.get()); }
    Self &buffers(const BufferTable &table) { return then(C::buffers, table.get()); }
    Self &queue(const Queue &queue) { return then(C::queue, queue.get()); }
    Self &windows(const Windows &windows) { return then(C::windows, windows.get()); }
    Self &options(const LoopOptions &options)
    {
        const auto made = detail::options(options, chain_);
        return then(C::options, made.get());
    }
    Self &name(const std::string &name) { return then(C::name, name.c_str()); }

    /// Starts what was built. The builder is used up.
    Result<Built> spawn()
    {
        typename C::Running *made = nullptr;
        then(C::spawn, &made);
        return finish(chain_.result, chain_.error, Built(made));
    }

protected:
    template <class Call, class... Args>
    Self &then(Call call, Args... args)
    {
        chain_.then(call, builder_.get(), args...);
        return static_cast<Self &>(*this);
    }

private:
    using Owner = Handle<typename C::Object, C::free_object>;

    Chain chain_;
    Owner builder_;
};

}  // namespace detail

/// Builds a loop. The first call that fails decides what `spawn` says.
class LoopBuilder : public detail::Builder<LoopBuilder, Loop, detail::LoopBuilderCalls> {
public:
    LoopBuilder &pin_to(std::uint32_t core) { return then(vyre_io_loop_builder_pin_to, core); }
};

/// Builds a group. The first call that fails decides what `spawn` says.
class GroupBuilder : public detail::Builder<GroupBuilder, Group, detail::GroupBuilderCalls> {
public:
    GroupBuilder &loops(std::uint32_t loops) { return then(vyre_io_group_builder_loops, loops); }
    GroupBuilder &pin_to(Span<const std::uint32_t> cores)
    {
        return then(vyre_io_group_builder_pin_to, cores.data(), cores.size());
    }
    GroupBuilder &queue_on(std::uint32_t index, const Queue &queue)
    {
        return then(vyre_io_group_builder_queue_on, index, queue.get());
    }
};

}  // namespace vyre_io

#endif  // VYRE_IO_HPP
