/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_io.h
 * @brief Hosts vyre I/O queues: loops that serve the requests of devices with files and buffers.
 *
 * A device, such as another process or a GPU kernel, writes requests for file I/O into the slots of a queue. A loop is a
 * thread that serves queues. This header is for the program that runs loops; vyre_ioq.h, vyre_ioq_wait.h and vyre_ioq.cuh
 * are for devices, and work beside it in one program. vyre_io.hpp wraps this header for C++.
 *
 *   vyre_io_file_table_..., vyre_io_buffer_...   what devices may name: files and memory
 *   vyre_io_queue_...                            queues: own, shared with a process, in memory of the program's
 *   vyre_io_loop_builder_..., vyre_io_loop_...   a loop
 *   vyre_io_group_...                            several loops that share files and buffers
 *   vyre_io_gpu_..., vyre_io_view_..., vyre_io_windows_...
 *                                                files that CUDA kernels read by themselves
 *
 * Results: a function that can fail returns an enum vyre_io_result, and takes a place for a struct vyre_io_error as its
 * last parameter, which may be NULL. No state is kept between calls. No panic crosses the boundary: it becomes
 * VYRE_IO_RESULT_PANIC.
 *
 * Pointers: a pointer is NULL or points to an object of its type that has not been freed. NULL is checked: it is an error
 * or does nothing, as each function says. Places for results may be uninitialised, and must not overlap. A place for an
 * object holds NULL after an error.
 *
 * Ownership: an object is freed by the function of its type, once, in any order: what a loop needs, it keeps. Descriptors
 * that a function takes stay the caller's; those that it returns become the caller's, unless it says otherwise.
 *
 * Threads: each type says what several threads may do. Objects belong to no thread: one may free what another made.
 *
 * Times are in nanoseconds, and lengths and offsets in bytes. A time limit of UINT64_MAX is 584 years.
 *
 * Requires C99 or C++11, on Linux. cbindgen generates this file from the sources of the crate vyre-io-capi.
 */

#ifndef VYRE_IO_H
#define VYRE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header. vyre_io_version returns that of the library. */
#define VYRE_IO_VERSION "0.1.0"

/**
 * Right to read: of a file, by READ and PREFETCH requests; of a buffer, by WRITE requests.
 */
#define VYRE_IO_RIGHT_READ 1

/**
 * Right to write: of a file, by WRITE requests; of a buffer, by READ requests.
 */
#define VYRE_IO_RIGHT_WRITE 2

/**
 * Right to SYNC requests and DURABLE writes. For files alone.
 */
#define VYRE_IO_RIGHT_SYNC 4

/**
 * Beside the rights of a file: READs of bytes that are in memory are copied out of a mapping of the file, without a
 * system call. For regular files on ext4 and tmpfs; an insertion of any other fails with PAGE_CACHE. The process gets a
 * handler of SIGBUS, which passes what is not its own on to the handler before it.
 */
#define VYRE_IO_PAGE_CACHE_READS 256

/**
 * The end of a range that covers the rest of the file, even if the file grows, or the rest of the buffer.
 */
#define VYRE_IO_TO_THE_END UINT64_MAX

/**
 * The number of no queue: a handle that is inserted for it can be named by every queue.
 */
#define VYRE_IO_ANY_QUEUE UINT64_MAX

/**
 * The queue offers the doorbell: its device may wake a loop that sleeps. See vyre_ioq_ring_and_wake.
 */
#define VYRE_IO_QUEUE_DOORBELL 1

/**
 * The queue has the bare layout of vyre 0.7: no header, and slots of 32 bytes.
 */
#define VYRE_IO_QUEUE_BARE 2

/**
 * With VYRE_IO_QUEUE_BARE: the host stores byte counts and errnos, as in a queue with a header. Its device must attach
 * by vyre_ioq_attach_bare_with_counts.
 */
#define VYRE_IO_QUEUE_COUNTS 4

/**
 * The queue offers wake-ups: its host may wake a device that sleeps. See vyre_ioq_wait, vyre_ioq_arm and
 * vyre_io_queue_event.
 */
#define VYRE_IO_QUEUE_WAKE 8

/**
 * Result of a call: VYRE_IO_RESULT_OK, or the reason that it failed. Later versions add numbers; none changes its
 * meaning.
 */
enum vyre_io_result {
    /**
     * Success.
     */
    VYRE_IO_RESULT_OK = 0,
    /**
     * A pointer that is needed is NULL. The message names the parameter.
     */
    VYRE_IO_RESULT_NULL_POINTER = 1,
    /**
     * A number, a flag or a text is not one that the parameter takes.
     */
    VYRE_IO_RESULT_BAD_ARGUMENT = 2,
    /**
     * The host end of the queue was given to a builder already.
     */
    VYRE_IO_RESULT_QUEUE_USED = 3,
    /**
     * Another thread changes the loop or group: it cannot be stopped before that call returns.
     */
    VYRE_IO_RESULT_BUSY = 4,
    /**
     * The loop or group was stopped, or every loop of it has ended.
     */
    VYRE_IO_RESULT_ENDED = 5,
    /**
     * A bug in the library: a panic, which was stopped at the boundary. The object should not be used further.
     */
    VYRE_IO_RESULT_PANIC = 6,
    /**
     * A reason that has no number in this version. The message has it.
     */
    VYRE_IO_RESULT_OTHER = 7,
    /**
     * A buffer needs at least one byte.
     */
    VYRE_IO_RESULT_EMPTY = 16,
    /**
     * The length does not fit the address space.
     */
    VYRE_IO_RESULT_TOO_LONG = 17,
    /**
     * The kernel refused the mapping.
     */
    VYRE_IO_RESULT_MAP = 18,
    /**
     * The kernel refused to keep the memory out of forked children.
     */
    VYRE_IO_RESULT_DONT_FORK = 19,
    /**
     * The kernel refused a memfd.
     */
    VYRE_IO_RESULT_MEMFD = 20,
    /**
     * The kernel refused the length of the memfd.
     */
    VYRE_IO_RESULT_RESIZE = 21,
    /**
     * The descriptor is not one of a memfd.
     */
    VYRE_IO_RESULT_NOT_MEMFD = 22,
    /**
     * The memfd is not sealed against shrinking.
     */
    VYRE_IO_RESULT_CAN_SHRINK = 23,
    /**
     * The memfd took no seals.
     */
    VYRE_IO_RESULT_SEAL = 24,
    /**
     * The range of bytes is not inside the buffer.
     */
    VYRE_IO_RESULT_OUT_OF_RANGE = 25,
    /**
     * The descriptor could not be duplicated: it is not open, or there are too many.
     */
    VYRE_IO_RESULT_DESCRIPTOR = 26,
    /**
     * The memory is not aligned enough for a queue.
     */
    VYRE_IO_RESULT_MISALIGNED = 32,
    /**
     * The memory is shorter than the queue.
     */
    VYRE_IO_RESULT_TOO_SHORT = 33,
    /**
     * A queue of this layout cannot have this number of slots.
     */
    VYRE_IO_RESULT_BAD_SLOT_COUNT = 34,
    /**
     * The length of a bare queue is no whole number of slots.
     */
    VYRE_IO_RESULT_BARE_LENGTH = 35,
    /**
     * There is no memory for the queue.
     */
    VYRE_IO_RESULT_OUT_OF_MEMORY = 36,
    /**
     * The file is not open for reading.
     */
    VYRE_IO_RESULT_NOT_READABLE = 48,
    /**
     * The file is not open for writing.
     */
    VYRE_IO_RESULT_NOT_WRITABLE = 49,
    /**
     * The file is open for appending, where offsets mean nothing.
     */
    VYRE_IO_RESULT_APPENDING = 50,
    /**
     * The descriptor is open with O_PATH.
     */
    VYRE_IO_RESULT_PATH_ONLY = 51,
    /**
     * A directory has no bytes to read.
     */
    VYRE_IO_RESULT_DIRECTORY = 52,
    /**
     * The range is reversed, or ends past the largest file or past the buffer.
     */
    VYRE_IO_RESULT_BAD_RANGE = 53,
    /**
     * The pages have no bytes, or the buffer is smaller than one of them.
     */
    VYRE_IO_RESULT_BAD_PAGE = 54,
    /**
     * The chosen handle is in use.
     */
    VYRE_IO_RESULT_HANDLE_TAKEN = 55,
    /**
     * Every handle of the table is in use.
     */
    VYRE_IO_RESULT_TABLE_FULL = 56,
    /**
     * The kernel did not say what the descriptor refers to.
     */
    VYRE_IO_RESULT_EXAMINE = 57,
    /**
     * The file cannot be read out of the page cache.
     */
    VYRE_IO_RESULT_PAGE_CACHE = 58,
    /**
     * The loop has no room for another file or buffer: see vyre_io_loop_options_set_live_entries.
     */
    VYRE_IO_RESULT_NO_ROOM = 59,
    /**
     * The kernel refused the file or the buffer.
     */
    VYRE_IO_RESULT_REGISTER = 60,
    /**
     * The handle names nothing.
     */
    VYRE_IO_RESULT_UNKNOWN_HANDLE = 61,
    /**
     * The handle is revoked, or the queue removed, but the kernel still holds requests of it.
     */
    VYRE_IO_RESULT_IN_FLIGHT = 62,
    /**
     * The thread of the loop did not answer in time.
     */
    VYRE_IO_RESULT_UNRESPONSIVE = 63,
    /**
     * The loop has ended while the kernel held operations, perhaps of this handle or queue.
     */
    VYRE_IO_RESULT_HELD = 64,
    /**
     * The loop or group serves no such queue: it was removed, or is being removed.
     */
    VYRE_IO_RESULT_UNKNOWN_QUEUE = 80,
    /**
     * The system created no thread.
     */
    VYRE_IO_RESULT_THREAD = 81,
    /**
     * The thread cannot block signals.
     */
    VYRE_IO_RESULT_SIGNALS = 82,
    /**
     * The thread cannot be bound to the core.
     */
    VYRE_IO_RESULT_PIN = 83,
    /**
     * The thread panicked while it started.
     */
    VYRE_IO_RESULT_DIED = 84,
    /**
     * The group has no loop to serve with.
     */
    VYRE_IO_RESULT_NO_LOOP = 85,
    /**
     * The queue is for a loop that the group does not have.
     */
    VYRE_IO_RESULT_NO_SUCH_LOOP = 86,
    /**
     * A transport cannot have this number of entries.
     */
    VYRE_IO_RESULT_ENTRIES = 87,
    /**
     * A table of the transport cannot be this large.
     */
    VYRE_IO_RESULT_TABLE_SIZE = 88,
    /**
     * A pool cannot have this number of workers.
     */
    VYRE_IO_RESULT_WORKERS = 89,
    /**
     * No thread could be started for a pool.
     */
    VYRE_IO_RESULT_NO_WORKER = 90,
    /**
     * The kernel or a sandbox forbids io_uring.
     */
    VYRE_IO_RESULT_FORBIDDEN = 91,
    /**
     * The kernel has no io_uring.
     */
    VYRE_IO_RESULT_UNAVAILABLE = 92,
    /**
     * There is no memory for the ring: RLIMIT_MEMLOCK.
     */
    VYRE_IO_RESULT_NO_MEMORY = 93,
    /**
     * There is no descriptor for the ring: RLIMIT_NOFILE.
     */
    VYRE_IO_RESULT_NO_DESCRIPTORS = 94,
    /**
     * The io_uring of this kernel is too old.
     */
    VYRE_IO_RESULT_TOO_OLD = 95,
    /**
     * The ring was made, but a trial operation failed.
     */
    VYRE_IO_RESULT_TRIAL = 96,
    /**
     * The io_uring of this kernel lacks an operation.
     */
    VYRE_IO_RESULT_MISSING_OPERATION = 97,
    /**
     * The set-up of the ring failed with the errno.
     */
    VYRE_IO_RESULT_SETUP = 98,
    /**
     * The loop serves as many queues as it can: see vyre_io_loop_options_set_ring_entries.
     */
    VYRE_IO_RESULT_QUEUES_FULL = 99,
    /**
     * The memory of the queue is in use by another queue of the loop or group.
     */
    VYRE_IO_RESULT_QUEUE_OVERLAPS = 100,
    /**
     * The host end owes requests an outcome, or has ended.
     */
    VYRE_IO_RESULT_QUEUE_SPENT = 101,
    /**
     * The kernel did not give operations back in time. Their buffers were leaked, since it may write to them yet.
     */
    VYRE_IO_RESULT_STUCK = 112,
    /**
     * The ring became unusable.
     */
    VYRE_IO_RESULT_RING_FAILED = 113,
    /**
     * The thread of the loop panicked.
     */
    VYRE_IO_RESULT_LOOP_PANICKED = 114,
    /**
     * The loop runs in the process that this one was forked from.
     */
    VYRE_IO_RESULT_FORKED = 115,
    /**
     * CUDA's driver is not there, or cannot be loaded.
     */
    VYRE_IO_RESULT_NO_DRIVER = 128,
    /**
     * No GPU is visible, or none with this number.
     */
    VYRE_IO_RESULT_NO_DEVICE = 129,
    /**
     * The GPU is too old, or lacks what is needed.
     */
    VYRE_IO_RESULT_GPU_UNFIT = 130,
    /**
     * The calling thread has no current CUDA context, or one that is not primary.
     */
    VYRE_IO_RESULT_NO_CONTEXT = 131,
    /**
     * A call of CUDA's driver failed. The message has its name for the error.
     */
    VYRE_IO_RESULT_DRIVER = 132,
    /**
     * The file cannot be mapped: it is not regular, its file system is not one on which mappings show the file, or the range
     * is empty.
     */
    VYRE_IO_RESULT_NOT_MAPPABLE = 133,
    /**
     * The range does not consist of whole pages.
     */
    VYRE_IO_RESULT_NOT_PAGES = 134,
    /**
     * The range begins past the end of the file.
     */
    VYRE_IO_RESULT_PAST_END = 135,
    /**
     * The view was cancelled while its pages were read in.
     */
    VYRE_IO_RESULT_CANCELLED = 136,
    /**
     * The kernel could not read a page of the file.
     */
    VYRE_IO_RESULT_POPULATE = 137,
    /**
     * The file could not be read, or ends before the range does.
     */
    VYRE_IO_RESULT_READ_FAILED = 138,
    /**
     * More bytes would be pinned than vyre_io_pin_limit allows.
     */
    VYRE_IO_RESULT_PIN_LIMIT = 139,
    /**
     * The driver refused to pin pages of the file.
     */
    VYRE_IO_RESULT_PIN_REFUSED = 140,
    /**
     * The queue was made without VYRE_IO_QUEUE_WAKE.
     */
    VYRE_IO_RESULT_WAKE_NOT_OFFERED = 141,
};

/**
 * Result of a check of a view or of windows.
 */
enum vyre_io_view_condition {
    /**
     * The view shows the file.
     */
    VYRE_IO_VIEW_CONDITION_CURRENT = 0,
    /**
     * The file ends before the view does. The view shows what was there before.
     */
    VYRE_IO_VIEW_CONDITION_SHORTER = 1,
    /**
     * A page may have left the file. Make a new view.
     */
    VYRE_IO_VIEW_CONDITION_DETACHED = 2,
    /**
     * Something else, which this version of the library has no number for. Make a new view.
     */
    VYRE_IO_VIEW_CONDITION_CHANGED = 3,
};

/**
 * Means by which a loop performs operations.
 */
enum vyre_io_transport {
    /**
     * io_uring, or threads where the kernel or a sandbox refuses it. This is the default.
     */
    VYRE_IO_TRANSPORT_AUTO = 0,
    /**
     * io_uring, or the loop does not start.
     */
    VYRE_IO_TRANSPORT_RING = 1,
    /**
     * Threads.
     */
    VYRE_IO_TRANSPORT_THREADS = 2,
};

/**
 * Means by which a device that rings the doorbell wakes a loop.
 */
enum vyre_io_means {
    /**
     * By FUTEX_WAKE on the doorbell word, as vyre_ioq_ring_and_wake does. The loop needs Linux 6.7 for it, or Linux 5.16
     * on threads, and otherwise sleeps for short times only. This is the default.
     */
    VYRE_IO_MEANS_FUTEX = 0,
    /**
     * By vyre_io_loop_wake, or by the descriptor of vyre_io_loop_wake_fd in another process.
     */
    VYRE_IO_MEANS_WAKER = 1,
};

/**
 * Means by which vyre_io_view_load brings bytes to memory of the GPU.
 */
enum vyre_io_way {
    /**
     * The faster of the other two.
     */
    VYRE_IO_WAY_AUTO = 0,
    /**
     * The file's pages are pinned piece by piece, and the copy engine copies them.
     */
    VYRE_IO_WAY_PINNED = 1,
    /**
     * Threads read the file into pinned memory, and the copy engine copies from there. It works for every file that can be
     * read.
     */
    VYRE_IO_WAY_STAGING = 2,
};

/**
 * Keeps loops from sleeping for long until it is freed. Several may exist at once.
 */
struct vyre_io_active_guard;

/**
 * Memory that requests read and write. A table that has it keeps it, so the object can be freed once the program no
 * longer needs its address.
 *
 * While a request is under way that names a part of the memory, the program neither writes that part nor, for a READ,
 * reads it by plain loads. After the outcome was taken, it may.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after
 * `vyre_io_buffer_free`.
 */
struct vyre_io_buffer;

/**
 * The buffers that devices may name, each with a byte range and rights.
 *
 * A loop takes a copy of the table, so the table can be changed, used again or freed afterwards. The memory itself
 * exists once.
 *
 * Threads: one at a time.
 */
struct vyre_io_buffer_table;

/**
 * The files that devices may name, each with a byte range and rights. A device names a handle, never a descriptor.
 *
 * A loop takes a copy of the table, so the table can be changed, used again or freed afterwards. Descriptors stay the
 * caller's: the table keeps duplicates.
 *
 * Threads: one at a time.
 */
struct vyre_io_file_table;

/**
 * An NVIDIA GPU and a context of it, for views and windows. The library loads CUDA's driver when the first one is opened;
 * without it, everything else works.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_gpu_free.
 */
struct vyre_io_gpu;

/**
 * Several threads that serve queues. A handle means the same file or buffer in all of them.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_group_free. A stop
 * or an abort fails with BUSY while another thread inserts, adds, revokes or removes, and with ENDED once the group was stopped.
 *
 * Forks: as for a loop.
 */
struct vyre_io_group;

/**
 * Builds a group of loops, which share files and buffers: give it tables and queues, then call vyre_io_group_builder_spawn.
 *
 * Threads: one at a time.
 */
struct vyre_io_group_builder;

/**
 * A thread that serves queues.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_loop_free. A stop
 * or an abort fails with BUSY while another thread inserts, adds, revokes or removes, and with ENDED once the loop was stopped.
 *
 * Forks: in a forked child, the loop has ended, and vyre_io_loop_free only frees the object.
 */
struct vyre_io_loop;

/**
 * Builds a loop: give it tables and queues, then call vyre_io_loop_builder_spawn.
 *
 * Threads: one at a time.
 */
struct vyre_io_loop_builder;

/**
 * Settings of a loop or of each loop of a group. A builder takes a copy.
 *
 * Threads: one at a time.
 */
struct vyre_io_loop_options;

/**
 * A view whose pages a thread reads in.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_preparing_free or
 * vyre_io_preparing_pin.
 */
struct vyre_io_preparing;

/**
 * A queue. Its host end goes to a loop, once. Its device end is in vyre_ioq.h, or in vyre_ioq.cuh for CUDA: attach it to
 * the memory that vyre_io_queue_memory returns, or that another process maps.
 *
 * The object keeps the memory mapped in this process. Free it after the device ends of this process; the loop keeps the
 * memory for itself.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_queue_free. A
 * queue is given to one builder, by one thread.
 */
struct vyre_io_queue;

/**
 * A range of a file whose pages are pinned in the page cache, and mapped read-only for kernels. A kernel loads the bytes over
 * the bus, without a request and without a thread. It must not write to them: that is a fault, which ends its context.
 *
 * Others' writes through the page cache show at once. After a truncation, a punched hole or a write past the page cache,
 * the view shows what was there before: see vyre_io_view_check.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_view_free.
 */
struct vyre_io_view;

/**
 * A copy of a part of a view that was started on a stream. It keeps the view.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_view_copy_free.
 */
struct vyre_io_view_copy;

/**
 * The windows of one file. A kernel asks for those that it needs by MAP, through a queue of a loop that was built with them;
 * a thread pins their pages, and the kernel reads them by loads from then on. What is never asked for is not pinned.
 *
 * Threads: all functions may be called from several threads at once, but none beside or after vyre_io_windows_free.
 */
struct vyre_io_windows;

/**
 * Reason that a call failed. Every function that can fail takes a place for one as its last parameter, which may be NULL. It
 * owns nothing, and may be copied and thrown away. After success, `code` is VYRE_IO_RESULT_OK and the rest is zero.
 */
struct vyre_io_error {
    /**
     * Result that the call returned.
     */
    enum vyre_io_result code;
    /**
     * The errno of the system call that failed, or 0.
     */
    int32_t os_errno;
    /**
     * The number of operations or requests that the kernel still holds, where the code is about them, or 0.
     */
    uint32_t held;
    /**
     * Text that says what happened and what to do, in English and UTF-8, ended by NUL. A text that is too long is cut.
     */
    char message[500];
};

/**
 * Address and length of a view for kernels: the layout of vyre::view, in vyre_view.cuh. It does not keep the pages pinned.
 */
struct vyre_io_device_view {
    /**
     * Address of the first byte for kernels.
     */
    uint64_t base;
    /**
     * Number of bytes up to the end of the view.
     */
    uint64_t len;
};

/**
 * The state of a view or of windows.
 */
struct vyre_io_view_state {
    /**
     * Condition of the view.
     */
    enum vyre_io_view_condition condition;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * With SHORTER, the size of the file in bytes; with DETACHED, the offset in the file of the first page that may have left
     * it; else 0.
     */
    uint64_t at;
};

/**
 * Addresses of windows and their tables for kernels: the layout of vyre_ioq::Windows, in vyre_windows.cuh. It keeps nothing.
 */
struct vyre_io_device_windows {
    /**
     * Address of the file's first byte.
     */
    uint64_t base;
    /**
     * Number of bytes of the file.
     */
    uint64_t len;
    /**
     * Address of the host's table.
     */
    uint64_t mapped;
    /**
     * Address of the kernels' own table.
     */
    uint64_t states;
    /**
     * The logarithm of the bytes of a window.
     */
    uint32_t shift;
    /**
     * 0.
     */
    uint32_t padding;
};

/**
 * Counts of what became of the requests for windows. Later versions add fields at the end.
 */
struct vyre_io_window_counters {
    /**
     * MAPs of at least one byte.
     */
    uint64_t asked;
    /**
     * MAPs whose windows were all mapped already.
     */
    uint64_t hits;
    /**
     * Windows that were mapped.
     */
    uint64_t mapped;
    /**
     * Windows among them that were mapped before a kernel asked for them.
     */
    uint64_t ahead;
    /**
     * Calls of the driver by which they were mapped.
     */
    uint64_t calls;
    /**
     * Attempts to map for which a limit left no room.
     */
    uint64_t refused;
    /**
     * Attempts to map that failed for another reason.
     */
    uint64_t failed;
};

/**
 * Counts of one queue since its loop began to serve it. Later versions add fields at the end.
 */
struct vyre_io_queue_counters {
    /**
     * Requests claimed.
     */
    uint64_t claimed;
    /**
     * Requests completed with OK.
     */
    uint64_t succeeded;
    /**
     * Requests completed with ERROR, whatever the errno.
     */
    uint64_t failed;
    /**
     * Bytes moved by READ requests.
     */
    uint64_t bytes_read;
    /**
     * Bytes moved by WRITE requests.
     */
    uint64_t bytes_written;
    /**
     * Violations of the protocol by the device.
     */
    uint64_t device_faults;
};

/**
 * Counts of one loop since it started, or the sum of several. Later versions add fields at the end.
 */
struct vyre_io_loop_counters {
    /**
     * Passes that did some work.
     */
    uint64_t busy_passes;
    /**
     * Sleeps of the thread.
     */
    uint64_t sleeps;
    /**
     * Operations given to the transport. A request may take several or none.
     */
    uint64_t operations;
    /**
     * Operations that moved only a part of a request's bytes and were followed by another.
     */
    uint64_t resumed;
    /**
     * Operations that were retried after EINTR or EAGAIN.
     */
    uint64_t retried;
    /**
     * Requests that waited in the host.
     */
    uint64_t waited;
    /**
     * READ operations that were copied out of the page cache.
     */
    uint64_t page_cache_reads;
    /**
     * READ operations of files with VYRE_IO_PAGE_CACHE_READS that could not be copied.
     */
    uint64_t page_cache_passed_on;
    /**
     * READ operations whose copy raised SIGBUS, and which the transport then performed.
     */
    uint64_t page_cache_faults;
    /**
     * Requests whose deadline passed.
     */
    uint64_t timed_out;
    /**
     * Completions that match no operation in flight. Any at all is a bug of the library.
     */
    uint64_t stray;
};

/**
 * Result of the set-up of a loop's transport. Later versions add fields at the end. vyre_io_loop_report_text has all
 * of it, with reasons.
 */
struct vyre_io_report {
    /**
     * VYRE_IO_TRANSPORT_RING or VYRE_IO_TRANSPORT_THREADS.
     */
    uint32_t transport;
    /**
     * Operations that can be in flight at once.
     */
    uint32_t entries;
    /**
     * 1 if files are registered with the ring, else 0.
     */
    uint32_t registered_files;
    /**
     * 1 if buffers can be registered with the ring, else 0.
     */
    uint32_t registered_buffers;
    /**
     * Buffers that the kernel refused to register. They are served by plain reads and writes.
     */
    uint32_t plain_buffers;
    /**
     * The largest number of worker threads for files with offsets, or 0 if the kernel did not say.
     */
    uint32_t workers;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the library, such as "0.1.0". Programs that were compiled with an earlier header of the same
 * first number, or the same second one while the first is 0, work with it. The text lives as long as the library.
 */
const char *vyre_io_version(void);

/**
 * Returns the name of a result without its prefix, such as "NOT_READABLE", or "unknown". The text lives as long as the
 * library.
 */
const char *vyre_io_result_name(uint32_t result);

/**
 * Maps zeroed memory of `len` bytes, aligned to a page, in huge pages where the kernel has them. Forked children do not
 * have it.
 *
 * @param[out] buffer The buffer, or NULL after an error. Free it with vyre_io_buffer_free.
 * @return EMPTY, TOO_LONG, MAP or DONT_FORK after an error.
 */
enum vyre_io_result vyre_io_buffer_anonymous(size_t len, struct vyre_io_buffer **buffer, struct vyre_io_error *error);

/**
 * Makes zeroed memory of `len` bytes that other processes can map: a memfd, sealed so that nobody can shrink it.
 *
 * @param[out] buffer The buffer, or NULL after an error.
 * @param[out] memfd  A descriptor of the memory, to send to the other process, or -1 after an error. The caller closes
 *                    it. It is closed on exec.
 * @return EMPTY, TOO_LONG, MEMFD, RESIZE, SEAL or MAP after an error.
 */
enum vyre_io_result vyre_io_buffer_memfd(size_t len,
                                         struct vyre_io_buffer **buffer,
                                         int *memfd,
                                         struct vyre_io_error *error);

/**
 * Maps all of a memfd that another process made by vyre_io_buffer_memfd or a queue's. The descriptor stays the caller's.
 *
 * @param[out] buffer The buffer, or NULL after an error.
 * @return DESCRIPTOR, NOT_MEMFD, CAN_SHRINK, EMPTY, TOO_LONG or MAP after an error.
 */
enum vyre_io_result vyre_io_buffer_from_memfd(int memfd,
                                              struct vyre_io_buffer **buffer,
                                              struct vyre_io_error *error);

/**
 * Uses memory that the program allocated, such as pinned memory of a GPU runtime.
 *
 * The memory must be readable and writable until `release` is called, and without a `release` until the process ends.
 * The call takes the memory over, even if it fails: `release` is called once in any case, with `context`, on whichever
 * thread uses the memory last, such as that of a loop. It must not throw, and must not wait for a loop.
 *
 * @param release May be NULL.
 * @param[out] buffer The buffer, or NULL after an error.
 * @return NULL_POINTER, EMPTY or TOO_LONG after an error.
 *
 * # Safety
 * `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
 */
enum vyre_io_result vyre_io_buffer_from_memory(void *memory,
                                               size_t len,
                                               void (*release)(void *context),
                                               void *context,
                                               struct vyre_io_buffer **buffer,
                                               struct vyre_io_error *error);

/**
 * Returns the address of the first byte, or NULL for NULL. It stays valid until the buffer is freed, and as long as a
 * table or a loop has the buffer.
 */
void *vyre_io_buffer_data(const struct vyre_io_buffer *buffer);

/**
 * Returns the number of bytes, or 0 for NULL.
 */
size_t vyre_io_buffer_len(const struct vyre_io_buffer *buffer);

/**
 * Copies bytes out of the buffer by atomic loads. Unlike a plain load, it may be called while requests write the bytes:
 * each byte then has its old or its new value.
 *
 * @param to    Room for `count` bytes. May be NULL if `count` is 0.
 * @return OUT_OF_RANGE if the range leaves the buffer; nothing was copied.
 *
 * # Safety
 * `to` is NULL or has room for `count` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_buffer_read(const struct vyre_io_buffer *buffer,
                                        size_t offset,
                                        void *to,
                                        size_t count,
                                        struct vyre_io_error *error);

/**
 * Copies bytes into the buffer by atomic stores. It may be called while requests read the bytes or write others beside
 * them.
 *
 * @param from  `count` bytes. May be NULL if `count` is 0.
 * @return OUT_OF_RANGE if the range leaves the buffer; nothing was copied.
 *
 * # Safety
 * `from` is NULL or points to `count` bytes, which nobody writes during the call.
 */
enum vyre_io_result vyre_io_buffer_write(const struct vyre_io_buffer *buffer,
                                         size_t offset,
                                         const void *from,
                                         size_t count,
                                         struct vyre_io_error *error);

/**
 * Has the kernel provide all pages of the buffer now, so that no later call or request waits for that. Does nothing for
 * NULL.
 */
void vyre_io_buffer_populate(const struct vyre_io_buffer *buffer);

/**
 * Frees the object. The memory stays while a table or a loop has it. Does nothing for NULL.
 */
void vyre_io_buffer_free(struct vyre_io_buffer *buffer);

/**
 * Makes an empty table.
 *
 * @param[out] table The table, or NULL after an error. Free it with vyre_io_file_table_free.
 */
enum vyre_io_result vyre_io_file_table_new(struct vyre_io_file_table **table, struct vyre_io_error *error);

/**
 * Adds a whole file, even if it grows.
 *
 * @param fd    A descriptor that is open for what the rights allow.
 * @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
 * @param[out] handle What devices name the file by.
 * @return DESCRIPTOR, NOT_READABLE, NOT_WRITABLE, APPENDING, PATH_ONLY, DIRECTORY, EXAMINE, PAGE_CACHE, TABLE_FULL or
 *         BAD_ARGUMENT after an error.
 */
enum vyre_io_result vyre_io_file_table_insert(struct vyre_io_file_table *table,
                                              int fd,
                                              uint32_t flags,
                                              uint32_t *handle,
                                              struct vyre_io_error *error);

/**
 * Adds the bytes `start` to `end` of a file. Offsets in requests count from `start`.
 *
 * @param end   One past the last byte, or VYRE_IO_TO_THE_END.
 * @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
 * @param[out] handle What devices name the range by.
 * @return As for vyre_io_file_table_insert, or BAD_RANGE.
 */
enum vyre_io_result vyre_io_file_table_insert_range(struct vyre_io_file_table *table,
                                                    int fd,
                                                    uint64_t start,
                                                    uint64_t end,
                                                    uint32_t flags,
                                                    uint32_t *handle,
                                                    struct vyre_io_error *error);

/**
 * Adds a range of a file as vyre_io_file_table_insert_range does, for one queue: requests of other queues that name the
 * handle get EBADF, as if it did not exist.
 *
 * @param only_for The number of the queue: builders number their queues from 0. Or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_file_table_insert_for(struct vyre_io_file_table *table,
                                                  uint64_t only_for,
                                                  int fd,
                                                  uint64_t start,
                                                  uint64_t end,
                                                  uint32_t flags,
                                                  uint32_t *handle,
                                                  struct vyre_io_error *error);

/**
 * Adds a range of a file under a handle of the caller's choice, for devices with handles that are compiled in. The low
 * 20 bits are an index; keep it small, since the table has a place for each index up to the highest.
 *
 * @return As for vyre_io_file_table_insert_range, or HANDLE_TAKEN.
 */
enum vyre_io_result vyre_io_file_table_insert_at(struct vyre_io_file_table *table,
                                                 uint32_t handle,
                                                 int fd,
                                                 uint64_t start,
                                                 uint64_t end,
                                                 uint32_t flags,
                                                 struct vyre_io_error *error);

/**
 * Reads a part of a file into memory and maps it, so that its page-cache reads need no system call from the start.
 * Blocks until that is done. The file must have been added with VYRE_IO_PAGE_CACHE_READS.
 *
 * A file of another user has page-cache reads only of the pages that this process has mapped so.
 *
 * @param start Offset in the file, not in the range of the handle.
 * @param end   As for vyre_io_file_table_insert_range.
 * @return UNKNOWN_HANDLE if the handle has no page-cache reads; BAD_RANGE if the part is outside the handle's range or
 *         past the end of the file; EXAMINE with the errno if the kernel refuses, as before Linux 5.14.
 */
enum vyre_io_result vyre_io_file_table_populate(const struct vyre_io_file_table *table,
                                                uint32_t handle,
                                                uint64_t start,
                                                uint64_t end,
                                                struct vyre_io_error *error);

/**
 * Finds out how many pages of a file are in memory, as far as the last scan found. For files that were added with
 * VYRE_IO_PAGE_CACHE_READS.
 *
 * @param[out] pages The number of pages of the handle's range.
 * @return UNKNOWN_HANDLE if the handle has no page-cache reads.
 */
enum vyre_io_result vyre_io_file_table_resident_pages(const struct vyre_io_file_table *table,
                                                      uint32_t handle,
                                                      uint64_t *pages,
                                                      struct vyre_io_error *error);

/**
 * Frees the table. Loops that took a copy keep their files. Does nothing for NULL.
 */
void vyre_io_file_table_free(struct vyre_io_file_table *table);

/**
 * Makes an empty table.
 *
 * @param[out] table The table, or NULL after an error. Free it with vyre_io_buffer_table_free.
 */
enum vyre_io_result vyre_io_buffer_table_new(struct vyre_io_buffer_table **table, struct vyre_io_error *error);

/**
 * Adds a whole buffer, for both directions.
 *
 * @param[out] handle What devices name the buffer by.
 * @return TABLE_FULL after an error.
 */
enum vyre_io_result vyre_io_buffer_table_insert(struct vyre_io_buffer_table *table,
                                                const struct vyre_io_buffer *buffer,
                                                uint32_t *handle,
                                                struct vyre_io_error *error);

/**
 * Adds the bytes `start` to `end` of a buffer. Offsets in requests count from `start`.
 *
 * @param end    One past the last byte, or VYRE_IO_TO_THE_END.
 * @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
 * @param[out] handle What devices name the range by.
 * @return BAD_RANGE, TABLE_FULL or BAD_ARGUMENT after an error.
 */
enum vyre_io_result vyre_io_buffer_table_insert_range(struct vyre_io_buffer_table *table,
                                                      const struct vyre_io_buffer *buffer,
                                                      uint64_t start,
                                                      uint64_t end,
                                                      uint32_t rights,
                                                      uint32_t *handle,
                                                      struct vyre_io_error *error);

/**
 * Adds a range of a buffer as vyre_io_buffer_table_insert_range does, for one queue.
 *
 * @param only_for The number of the queue: builders number their queues from 0. Or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_buffer_table_insert_for(struct vyre_io_buffer_table *table,
                                                    uint64_t only_for,
                                                    const struct vyre_io_buffer *buffer,
                                                    uint64_t start,
                                                    uint64_t end,
                                                    uint32_t rights,
                                                    uint32_t *handle,
                                                    struct vyre_io_error *error);

/**
 * Adds a range of a buffer under a handle of the caller's choice. The low 20 bits are an index; keep it small.
 *
 * @return As for vyre_io_buffer_table_insert_range, or HANDLE_TAKEN.
 */
enum vyre_io_result vyre_io_buffer_table_insert_at(struct vyre_io_buffer_table *table,
                                                   uint32_t handle,
                                                   const struct vyre_io_buffer *buffer,
                                                   uint64_t start,
                                                   uint64_t end,
                                                   uint32_t rights,
                                                   struct vyre_io_error *error);

/**
 * Adds a buffer as pages of equal size, each under its own handle, in order. This is for devices that cannot give a
 * buffer offset, as in the bare layout. A partial page at the end is left out.
 *
 * @param page     Bytes of a page.
 * @param rights   VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
 * @param handles  Room for `capacity` handles.
 * @param capacity At least the length of the buffer divided by `page`.
 * @return BAD_PAGE, TABLE_FULL or BAD_ARGUMENT after an error. Nothing was added then.
 *
 * # Safety
 * `handles` is NULL or has room for `capacity` numbers, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_buffer_table_insert_pages(struct vyre_io_buffer_table *table,
                                                      const struct vyre_io_buffer *buffer,
                                                      uint64_t page,
                                                      uint32_t rights,
                                                      uint32_t *handles,
                                                      size_t capacity,
                                                      struct vyre_io_error *error);

/**
 * Frees the table. Loops that took a copy keep their buffers. Does nothing for NULL.
 */
void vyre_io_buffer_table_free(struct vyre_io_buffer_table *table);

/**
 * Makes an empty queue in memory of this process, for devices that are its threads.
 *
 * @param slots 1 to VYRE_IOQ_MAX_SLOTS, or to VYRE_IOQ_MAX_BARE_SLOTS.
 * @param flags VYRE_IO_QUEUE_... bits.
 * @param id    An identifier for logs, which the header stores; 0 for a bare queue.
 * @param[out] queue The queue, or NULL after an error. Free it with vyre_io_queue_free.
 * @return BAD_SLOT_COUNT, OUT_OF_MEMORY or BAD_ARGUMENT after an error.
 */
enum vyre_io_result vyre_io_queue_new(uint32_t slots,
                                      uint32_t flags,
                                      uint64_t id,
                                      struct vyre_io_queue **queue,
                                      struct vyre_io_error *error);

/**
 * Makes an empty queue in memory that another process can map. Whoever has the descriptor is the device, and may be
 * hostile: it can spoil its own requests and nothing else.
 *
 * The parameters are those of vyre_io_queue_new, and:
 *
 * @param[out] memfd A descriptor of the memory, to send to the other process, or -1 after an error. The caller closes
 *                   it. It is closed on exec.
 * @return BAD_SLOT_COUNT, BAD_ARGUMENT, MEMFD, RESIZE, SEAL or MAP after an error.
 */
enum vyre_io_result vyre_io_queue_shared(uint32_t slots,
                                         uint32_t flags,
                                         uint64_t id,
                                         struct vyre_io_queue **queue,
                                         int *memfd,
                                         struct vyre_io_error *error);

/**
 * Makes an empty queue at the start of memory that the program allocated, such as memory that a GPU maps. What it held is
 * lost.
 *
 * The memory must be readable and writable until `release` is called, and without a `release` until the process ends.
 * The call takes the memory over, even if it fails: `release` is called once in any case, with `context`, on whichever
 * thread uses the memory last, such as that of a loop. It must not throw, and must not wait for a loop. Meanwhile the
 * process accesses the memory through device ends only.
 *
 * The parameters are those of vyre_io_queue_new, and:
 *
 * @param memory  Aligned to VYRE_IOQ_HEADER_ALIGN bytes, or to 4 for a bare queue.
 * @param len     At least vyre_io_queue_layout_bytes.
 * @param release May be NULL.
 * @return NULL_POINTER, MISALIGNED, TOO_SHORT, BAD_SLOT_COUNT or BAD_ARGUMENT after an error.
 *
 * # Safety
 * `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
 */
enum vyre_io_result vyre_io_queue_in_memory(void *memory,
                                            size_t len,
                                            uint32_t slots,
                                            uint32_t flags,
                                            uint64_t id,
                                            void (*release)(void *context),
                                            void *context,
                                            struct vyre_io_queue **queue,
                                            struct vyre_io_error *error);

/**
 * Takes over a bare queue that a device has created and that fills memory of the program's. Requests that are already
 * published are kept.
 *
 * @param flags  VYRE_IO_QUEUE_COUNTS, if the device stores COUNT with each request and expects counts and errnos, or 0.
 * @param memory As for vyre_io_queue_in_memory, also for what follows.
 * @return NULL_POINTER, MISALIGNED, BARE_LENGTH, BAD_SLOT_COUNT or BAD_ARGUMENT after an error.
 *
 * # Safety
 * `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
 */
enum vyre_io_result vyre_io_queue_attach_bare(void *memory,
                                              size_t len,
                                              uint32_t flags,
                                              void (*release)(void *context),
                                              void *context,
                                              struct vyre_io_queue **queue,
                                              struct vyre_io_error *error);

/**
 * Makes a descriptor that becomes readable when the host wakes the device, for poll, epoll and the event loops around them.
 * It takes the place of the wake-up by futex. Call it before the queue is given to a builder or a loop.
 *
 * The device calls vyre_ioq_expect_wakeups once. Then, to wait: read 8 bytes from the descriptor, which is non-blocking,
 * so that it is unreadable; call vyre_ioq_arm; look once more for outcomes; and wait until it is readable.
 *
 * Do not pass the descriptor to a process that you do not trust. It could fill the counter, make the descriptor a blocking
 * one, and so hang the loop.
 *
 * @param[out] fd An eventfd, or -1 after an error. The caller closes it. It is closed on exec.
 * @return WAKE_NOT_OFFERED without VYRE_IO_QUEUE_WAKE, QUEUE_USED if a builder or a loop has the host end, or DESCRIPTOR.
 */
enum vyre_io_result vyre_io_queue_event(const struct vyre_io_queue *queue,
                                        int *fd,
                                        struct vyre_io_error *error);

/**
 * Limits what the requests of a queue may use. Call it before the queue is given to a builder or a loop. A request beyond a
 * limit waits in the host until it is its turn; none is rejected for it.
 *
 * @param operations_per_second Operations that may start in a second, or UINT64_MAX. A READ or WRITE of up to 1 MiB is one
 *                              operation.
 * @param bytes_per_second      Bytes that operations may ask for in a second, or UINT64_MAX.
 * @param operations_in_flight  Operations that may be in flight at a time, or UINT32_MAX.
 * @param bytes_in_flight       Bytes of buffers that these may use, or UINT64_MAX.
 * @return QUEUE_USED if a builder or a loop has the host end: see vyre_io_loop_set_queue_limits.
 */
enum vyre_io_result vyre_io_queue_set_limits(const struct vyre_io_queue *queue,
                                             uint64_t operations_per_second,
                                             uint64_t bytes_per_second,
                                             uint32_t operations_in_flight,
                                             uint64_t bytes_in_flight,
                                             struct vyre_io_error *error);

/**
 * Returns the number of bytes that a queue takes.
 *
 * @param flags VYRE_IO_QUEUE_... bits.
 */
size_t vyre_io_queue_layout_bytes(uint32_t slots, uint32_t flags);

/**
 * Returns the address of the queue's memory in this process, for vyre_ioq_attach, or NULL for NULL. The memory has
 * vyre_io_queue_bytes bytes, and stays until the queue is freed.
 */
void *vyre_io_queue_memory(const struct vyre_io_queue *queue);

/**
 * Returns the number of bytes of the queue, or 0 for NULL.
 */
size_t vyre_io_queue_bytes(const struct vyre_io_queue *queue);

/**
 * Frees the object. A loop that serves the queue keeps its memory. If no loop has the queue, its devices see FAILED. Does
 * nothing for NULL.
 */
void vyre_io_queue_free(struct vyre_io_queue *queue);

/**
 * Opens a GPU and its primary context, which the CUDA runtime uses. GPUs are numbered from 0; CUDA_VISIBLE_DEVICES chooses
 * them.
 *
 * @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
 * @return NO_DRIVER, NO_DEVICE, GPU_UNFIT or DRIVER after an error.
 */
enum vyre_io_result vyre_io_gpu_open(uint32_t ordinal,
                                     struct vyre_io_gpu **gpu,
                                     struct vyre_io_error *error);

/**
 * Opens the GPU of the calling thread's current context, as the CUDA runtime leaves it.
 *
 * @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
 * @return As for vyre_io_gpu_open, or NO_CONTEXT if the thread has no current context, or one that is not primary: see
 *         vyre_io_gpu_from_context.
 */
enum vyre_io_result vyre_io_gpu_current(struct vyre_io_gpu **gpu, struct vyre_io_error *error);

/**
 * Takes a context that the program made.
 *
 * @param context A CUcontext. It must exist until the GPU, and the views and windows that were made with it, are freed.
 * @param[out] gpu The GPU, or NULL after an error. Free it with vyre_io_gpu_free.
 * @return As for vyre_io_gpu_open.
 *
 * # Safety
 * The context exists for as long as was said above.
 */
enum vyre_io_result vyre_io_gpu_from_context(void *context, struct vyre_io_gpu **gpu, struct vyre_io_error *error);

/**
 * Frees the object. Views and windows keep what they need of it. Does nothing for NULL.
 */
void vyre_io_gpu_free(struct vyre_io_gpu *gpu);

/**
 * Pins a range of a file. The driver reads in the pages that are not in memory, while this call waits; see
 * vyre_io_view_prepare. The call does not wait for running kernels.
 *
 * @param fd    A descriptor of a regular file on a local file system, open for reading.
 * @param start The first byte, at the start of a page.
 * @param end   The end, at the start of a page, or VYRE_IO_TO_THE_END. The view ends with the file if that is earlier.
 * @param[out] view The view, or NULL after an error. Free it with vyre_io_view_free.
 * @return DESCRIPTOR, NOT_MAPPABLE, NOT_PAGES, PAST_END, GPU_UNFIT, PIN_LIMIT, PIN_REFUSED or DRIVER after an error: read the
 *         file through a queue instead.
 */
enum vyre_io_result vyre_io_view_new(const struct vyre_io_gpu *gpu,
                                     int fd,
                                     uint64_t start,
                                     uint64_t end,
                                     struct vyre_io_view **view,
                                     struct vyre_io_error *error);

/**
 * Has a thread read a range of a file into the page cache, so that pinning it takes little time. The range is that of
 * vyre_io_view_new.
 *
 * @param[out] preparing The view to be, or NULL after an error. Give it to vyre_io_preparing_pin, or free it with
 *                       vyre_io_preparing_free.
 * @return DESCRIPTOR, NOT_MAPPABLE, NOT_PAGES, PAST_END or THREAD after an error.
 */
enum vyre_io_result vyre_io_view_prepare(int fd,
                                         uint64_t start,
                                         uint64_t end,
                                         struct vyre_io_preparing **preparing,
                                         struct vyre_io_error *error);

/**
 * Returns the number of bytes of the range, or 0 for NULL.
 */
uint64_t vyre_io_preparing_bytes(const struct vyre_io_preparing *preparing);

/**
 * Returns how many bytes of the range are in memory, or 0 for NULL.
 */
uint64_t vyre_io_preparing_done(const struct vyre_io_preparing *preparing);

/**
 * Returns whether vyre_io_preparing_pin does not have to wait for the thread. True for NULL.
 */
bool vyre_io_preparing_is_ready(const struct vyre_io_preparing *preparing);

/**
 * Has the thread end after the 16 MiB that it reads now. Does nothing for NULL.
 */
void vyre_io_preparing_cancel(const struct vyre_io_preparing *preparing);

/**
 * Waits for the thread, pins the range, and frees `preparing` in any case.
 *
 * @param[out] view The view, or NULL after an error. Free it with vyre_io_view_free.
 * @return As for vyre_io_view_new, CANCELLED, or POPULATE if the kernel could not read a page.
 */
enum vyre_io_result vyre_io_preparing_pin(struct vyre_io_preparing *preparing,
                                          const struct vyre_io_gpu *gpu,
                                          struct vyre_io_view **view,
                                          struct vyre_io_error *error);

/**
 * Frees the object, and cancels the thread without waiting for it. Does nothing for NULL.
 */
void vyre_io_preparing_free(struct vyre_io_preparing *preparing);

/**
 * Stores what kernels of a GPU need to read the bytes. It may be another GPU than that for which the view was made.
 *
 * @param[out] device Zero after an error.
 * @return DRIVER after an error.
 */
enum vyre_io_result vyre_io_view_device(const struct vyre_io_view *view,
                                        const struct vyre_io_gpu *gpu,
                                        struct vyre_io_device_view *device,
                                        struct vyre_io_error *error);

/**
 * Returns the offset in the file of the view's first byte, or 0 for NULL.
 */
uint64_t vyre_io_view_start(const struct vyre_io_view *view);

/**
 * Returns the number of bytes of the view, or 0 for NULL.
 */
uint64_t vyre_io_view_bytes(const struct vyre_io_view *view);

/**
 * Finds out whether the view still shows the file. Costs one system call if the file has not changed since, and else some
 * 2 ms for 1 GiB.
 *
 * @return EXAMINE after an error.
 */
enum vyre_io_result vyre_io_view_check(const struct vyre_io_view *view,
                                       struct vyre_io_view_state *state,
                                       struct vyre_io_error *error);

/**
 * Has the copy engine copy a part of the file to memory of a GPU, after what was started on the stream before. What is
 * started on the stream later finds the bytes there.
 *
 * @param start  The first byte of the file. It must be inside the view, and so must the last.
 * @param to     A CUdeviceptr, or what cudaMalloc stored: memory with room for the bytes, which stays until the copy is freed.
 * @param stream A CUstream or cudaStream_t of the GPU's context, which exists until the copy is freed. NULL is the default
 *               stream.
 * @param[out] copy The copy, or NULL after an error. Free it with vyre_io_view_copy_free.
 * @return OUT_OF_RANGE or DRIVER after an error.
 *
 * # Safety
 * `to` and `stream` are as said above.
 */
enum vyre_io_result vyre_io_view_copy_to(const struct vyre_io_view *view,
                                         const struct vyre_io_gpu *gpu,
                                         uint64_t start,
                                         uint64_t end,
                                         uint64_t to,
                                         void *stream,
                                         struct vyre_io_view_copy **copy,
                                         struct vyre_io_error *error);

/**
 * Stores whether the copy has ended.
 *
 * @return DRIVER if the copy, or what came before it on the stream, failed.
 */
enum vyre_io_result vyre_io_view_copy_is_done(const struct vyre_io_view_copy *copy,
                                              bool *done,
                                              struct vyre_io_error *error);

/**
 * Waits until the copy has ended.
 *
 * @return DRIVER if the copy, or what came before it on the stream, failed.
 */
enum vyre_io_result vyre_io_view_copy_wait(const struct vyre_io_view_copy *copy, struct vyre_io_error *error);

/**
 * Waits until the copy has ended, and frees the object. Does nothing for NULL.
 */
void vyre_io_view_copy_free(struct vyre_io_view_copy *copy);

/**
 * Copies a range of a file to memory of a GPU, and returns once every byte is there. It is made for files in the page cache,
 * and needs no view.
 *
 * @param to  A CUdeviceptr, or what cudaMalloc stored: memory with room for the bytes.
 * @param way AUTO, or the way to take.
 * @return DESCRIPTOR, NOT_MAPPABLE, READ_FAILED, GPU_UNFIT, PIN_LIMIT, PIN_REFUSED or DRIVER after an error.
 *
 * # Safety
 * `to` is as said above until the function returns.
 */
enum vyre_io_result vyre_io_view_load(const struct vyre_io_gpu *gpu,
                                      int fd,
                                      uint64_t start,
                                      uint64_t end,
                                      uint64_t to,
                                      uint32_t way,
                                      struct vyre_io_error *error);

/**
 * Frees the object. Waits for everything that runs on the GPUs for which the view was used, and gives the pages back, unless
 * a copy or a launch of the library still keeps them. So do not call it on a thread for which a running kernel waits. Does
 * nothing for NULL.
 */
void vyre_io_view_free(struct vyre_io_view *view);

/**
 * Returns the number of bytes of files that views and windows of this process have pinned.
 */
uint64_t vyre_io_pinned_bytes(void);

/**
 * Returns the limit of vyre_io_pinned_bytes: half of the machine's memory, unless vyre_io_set_pin_limit set another one.
 */
uint64_t vyre_io_pin_limit(void);

/**
 * Sets the limit of vyre_io_pinned_bytes in this process. What is pinned already stays pinned.
 */
void vyre_io_set_pin_limit(uint64_t bytes);

/**
 * Makes windows of a file, up to its present end, and starts their thread. Nothing is pinned yet.
 *
 * @param fd           A descriptor of a regular file on a local file system, open for reading. The files of the loop must
 *                     include it: kernels name it by its handle.
 * @param window_bytes The bytes of a window, a power of two from 64 KiB to 1 GiB, or 0 for 2 MiB.
 * @param read_ahead   The bytes that are mapped ahead at most where kernels ask in sequence; 0 maps nothing ahead. 64 MiB is a
 *                     good choice.
 * @param limit        The bytes of the file that are pinned at most, or UINT64_MAX. Beyond it MAP fails with ENOBUFS, and the
 *                     kernel goes on by READ. vyre_io_pin_limit bounds them in any case.
 * @param[out] windows The windows, or NULL after an error. Free them with vyre_io_windows_free.
 * @return DESCRIPTOR, BAD_ARGUMENT, NOT_MAPPABLE, PAST_END, GPU_UNFIT, THREAD or DRIVER after an error.
 */
enum vyre_io_result vyre_io_windows_new(const struct vyre_io_gpu *gpu,
                                        int fd,
                                        uint64_t window_bytes,
                                        uint64_t read_ahead,
                                        uint64_t limit,
                                        struct vyre_io_windows **windows,
                                        struct vyre_io_error *error);

/**
 * Stores what kernels need. It is valid until the windows are closed or freed.
 *
 * @param[out] device Zero after an error.
 */
enum vyre_io_result vyre_io_windows_device(const struct vyre_io_windows *windows,
                                           struct vyre_io_device_windows *device,
                                           struct vyre_io_error *error);

/**
 * Stores the counts. The thread lags behind.
 *
 * @param[out] counters A struct vyre_io_window_counters.
 * @param      size     Its sizeof.
 *
 * # Safety
 * `counters` has room for `size` bytes.
 */
enum vyre_io_result vyre_io_windows_counters(const struct vyre_io_windows *windows,
                                             struct vyre_io_window_counters *counters,
                                             size_t size,
                                             struct vyre_io_error *error);

/**
 * Finds out whether the mapped windows still show the file.
 *
 * @return EXAMINE after an error.
 */
enum vyre_io_result vyre_io_windows_check(const struct vyre_io_windows *windows,
                                          struct vyre_io_view_state *state,
                                          struct vyre_io_error *error);

/**
 * Gives the pages back: waits for everything that runs on the GPU. Every MAP then fails with EOPNOTSUPP, also those that wait
 * now. Call it after the kernels have ended, and not on a thread for which one waits. A second call does nothing.
 */
enum vyre_io_result vyre_io_windows_close(const struct vyre_io_windows *windows,
                                          struct vyre_io_error *error);

/**
 * Frees the object. Loops that were built with the windows keep them. After the last one, their thread gives the pages back,
 * which waits for the kernels that run. Does nothing for NULL.
 */
void vyre_io_windows_free(struct vyre_io_windows *windows);

/**
 * Makes options with the defaults that each function states.
 *
 * @param[out] options The options, or NULL after an error. Free them with vyre_io_loop_options_free.
 */
enum vyre_io_result vyre_io_loop_options_new(struct vyre_io_loop_options **options, struct vyre_io_error *error);

/**
 * The loop never sleeps: the latency is lowest, and the cost is a core.
 */
enum vyre_io_result vyre_io_loop_options_set_spin(struct vyre_io_loop_options *options, struct vyre_io_error *error);

/**
 * The loop polls, and then sleeps for a sixteenth of the time since there was work. This is the default, with 2,000 spins
 * and a cap of 10 ms.
 *
 * @param spins  Passes without work before the first sleep.
 * @param cap_ns The longest sleep in nanoseconds.
 */
enum vyre_io_result vyre_io_loop_options_set_adaptive(struct vyre_io_loop_options *options,
                                                      uint32_t spins,
                                                      uint64_t cap_ns,
                                                      struct vyre_io_error *error);

/**
 * The loop polls, and then sleeps until a device rings. Devices that cannot ring, such as GPUs, need a guard from
 * vyre_io_loop_active while they run. Queues need VYRE_IO_QUEUE_DOORBELL.
 *
 * @param spins    Passes without work before a sleep; 50 is a good number.
 * @param bound_ns The longest sleep in nanoseconds; 100 ms is a good one. Devices see a heartbeat before each sleep, so
 *                 it should be below a second.
 */
enum vyre_io_result vyre_io_loop_options_set_doorbell(struct vyre_io_loop_options *options,
                                                      uint32_t spins,
                                                      uint64_t bound_ns,
                                                      struct vyre_io_error *error);

/**
 * Sets what performs the operations.
 *
 * @param transport A VYRE_IO_TRANSPORT_... number.
 * @return BAD_ARGUMENT for any other number.
 */
enum vyre_io_result vyre_io_loop_options_set_transport(struct vyre_io_loop_options *options,
                                                       uint32_t transport,
                                                       struct vyre_io_error *error);

/**
 * Sets how devices that ring wake the loop.
 *
 * @param means A VYRE_IO_MEANS_... number.
 * @return BAD_ARGUMENT for any other number.
 */
enum vyre_io_result vyre_io_loop_options_set_rung_by(struct vyre_io_loop_options *options,
                                                     uint32_t means,
                                                     struct vyre_io_error *error);

/**
 * Sets how many operations of a loop can be in flight. The default is 256. Further requests wait in the host; none is
 * rejected. A number that no ring can have is an error of the spawn: ENTRIES.
 */
enum vyre_io_result vyre_io_loop_options_set_ring_entries(struct vyre_io_loop_options *options,
                                                          uint32_t entries,
                                                          struct vyre_io_error *error);

/**
 * Sets how many files, and how many buffers, can be added while the loop runs. The default is 64 of each.
 */
enum vyre_io_result vyre_io_loop_options_set_live_entries(struct vyre_io_loop_options *options,
                                                          uint32_t entries,
                                                          struct vyre_io_error *error);

/**
 * Sets how long a stop lets claimed requests run before it cancels them. The default is 30 seconds.
 */
enum vyre_io_result vyre_io_loop_options_set_drain_timeout(struct vyre_io_loop_options *options,
                                                           uint64_t timeout_ns,
                                                           struct vyre_io_error *error);

/**
 * Sets how long the loop waits for the kernel to give cancelled requests back before it leaks their buffers. The default
 * is 5 seconds.
 */
enum vyre_io_result vyre_io_loop_options_set_abort_timeout(struct vyre_io_loop_options *options,
                                                           uint64_t timeout_ns,
                                                           struct vyre_io_error *error);

/**
 * Frees the options. Does nothing for NULL.
 */
void vyre_io_loop_options_free(struct vyre_io_loop_options *options);

/**
 * Makes a builder without files, buffers and queues.
 *
 * @param[out] builder The builder, or NULL after an error. Free it with vyre_io_loop_builder_free.
 */
enum vyre_io_result vyre_io_loop_builder_new(struct vyre_io_loop_builder **builder, struct vyre_io_error *error);

/**
 * Sets the files that devices may name: a copy of the table.
 */
enum vyre_io_result vyre_io_loop_builder_files(struct vyre_io_loop_builder *builder,
                                               const struct vyre_io_file_table *files,
                                               struct vyre_io_error *error);

/**
 * Sets the buffers that devices may name: a copy of the table.
 */
enum vyre_io_result vyre_io_loop_builder_buffers(struct vyre_io_loop_builder *builder,
                                                 const struct vyre_io_buffer_table *buffers,
                                                 struct vyre_io_error *error);

/**
 * Adds a queue to serve, and takes its host end. A loop may start without one. Queues are numbered from 0, in the order of these calls.
 *
 * @return QUEUE_USED if a builder has its host end already.
 */
enum vyre_io_result vyre_io_loop_builder_queue(struct vyre_io_loop_builder *builder,
                                               const struct vyre_io_queue *queue,
                                               struct vyre_io_error *error);

/**
 * Adds windows, in which kernels of the queues map parts of a file. The loop serves MAP for them, and keeps them.
 */
enum vyre_io_result vyre_io_loop_builder_windows(struct vyre_io_loop_builder *builder,
                                                 const struct vyre_io_windows *windows,
                                                 struct vyre_io_error *error);

/**
 * Sets the options: a copy.
 */
enum vyre_io_result vyre_io_loop_builder_options(struct vyre_io_loop_builder *builder,
                                                 const struct vyre_io_loop_options *options,
                                                 struct vyre_io_error *error);

/**
 * Binds the thread of the loop to a core.
 */
enum vyre_io_result vyre_io_loop_builder_pin_to(struct vyre_io_loop_builder *builder,
                                                uint32_t core,
                                                struct vyre_io_error *error);

/**
 * Sets the name of the loop's thread, of which Linux shows the first 15 bytes. The default is "vyre-io".
 *
 * @param name UTF-8, ended by NUL.
 *
 * # Safety
 * `name` is NULL or points to a text that ends with NUL, which nobody writes during the call.
 */
enum vyre_io_result vyre_io_loop_builder_name(struct vyre_io_loop_builder *builder,
                                              const char *name,
                                              struct vyre_io_error *error);

/**
 * Starts the loop. When it returns, the ring is set up and devices see RUNNING. The thread of the loop blocks signals.
 *
 * Whatever the result, the builder is empty afterwards, and the queues are used up: devices of a loop that did not start
 * see FAILED. The builder must still be freed.
 *
 * @param[out] io The loop, or NULL after an error. Free it with vyre_io_loop_free.
 * @return QUEUE_OVERLAPS, THREAD, SIGNALS, PIN, DIED, REGISTER, ENTRIES, TABLE_SIZE, FORBIDDEN, UNAVAILABLE, NO_MEMORY,
 *         NO_DESCRIPTORS, TOO_OLD, TRIAL, MISSING_OPERATION, SETUP or NO_WORKER after an error.
 */
enum vyre_io_result vyre_io_loop_builder_spawn(struct vyre_io_loop_builder *builder,
                                               struct vyre_io_loop **io,
                                               struct vyre_io_error *error);

/**
 * Frees the builder. Devices of queues that it still has see FAILED. Does nothing for NULL.
 */
void vyre_io_loop_builder_free(struct vyre_io_loop_builder *builder);

/**
 * Shuts the loop down in order: claimed requests are finished, and unclaimed ones get ECANCELED. What has not ended after
 * the drain timeout is cancelled, for which the kernel has the abort timeout. It returns after at most these times and 5
 * seconds, whatever the kernel does. After success, the kernel can access no buffer any more.
 *
 * The object must still be freed.
 *
 * @return BUSY or ENDED if there was nothing to stop yet or any more; RING_FAILED, LOOP_PANICKED, STUCK, UNRESPONSIVE or
 *         FORKED if the loop did not end in order. `held` of the error says how many operations the kernel still has.
 */
enum vyre_io_result vyre_io_loop_stop(const struct vyre_io_loop *io,
                                      struct vyre_io_error *error);

/**
 * Shuts the loop down at once: every request is cancelled and gets ECANCELED. The rest is as for vyre_io_loop_stop.
 */
enum vyre_io_result vyre_io_loop_abort(const struct vyre_io_loop *io, struct vyre_io_error *error);

/**
 * Frees the object. A loop that was not stopped is stopped first, which may take as long as vyre_io_loop_stop does. Does
 * nothing for NULL.
 */
void vyre_io_loop_free(struct vyre_io_loop *io);

/**
 * Returns whether the loop serves. It ends by itself only if the ring fails or the thread panics; vyre_io_loop_stop then
 * returns the reason.
 */
bool vyre_io_loop_is_running(const struct vyre_io_loop *io);

/**
 * Returns the kernel's ID of the loop's thread, or 0 once the loop was stopped.
 */
uint32_t vyre_io_loop_thread_id(const struct vyre_io_loop *io);

/**
 * Adds the bytes `start` to `end` of a file while the loop runs. The descriptor stays the caller's. It has no time limit:
 * it waits for the loop's thread.
 *
 * @param end   One past the last byte, or VYRE_IO_TO_THE_END.
 * @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
 * @param[out] handle What devices name the range by.
 * @return As for vyre_io_file_table_insert_range, or NO_ROOM, REGISTER or ENDED.
 */
enum vyre_io_result vyre_io_loop_insert_file(const struct vyre_io_loop *io,
                                             int fd,
                                             uint64_t start,
                                             uint64_t end,
                                             uint32_t flags,
                                             uint32_t *handle,
                                             struct vyre_io_error *error);

/**
 * Adds a range of a file as vyre_io_loop_insert_file does, for one queue: requests of other queues that name the handle get
 * EBADF.
 *
 * @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_loop_insert_file_for(const struct vyre_io_loop *io,
                                                 uint64_t only_for,
                                                 int fd,
                                                 uint64_t start,
                                                 uint64_t end,
                                                 uint32_t flags,
                                                 uint32_t *handle,
                                                 struct vyre_io_error *error);

/**
 * Adds the bytes `start` to `end` of a buffer while the loop runs. The calling thread first provides all pages of the
 * buffer, which takes seconds for gigabytes of untouched memory.
 *
 * @param end    One past the last byte, or VYRE_IO_TO_THE_END.
 * @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
 * @param[out] handle What devices name the range by.
 * @return As for vyre_io_buffer_table_insert_range, or NO_ROOM, REGISTER or ENDED.
 */
enum vyre_io_result vyre_io_loop_insert_buffer(const struct vyre_io_loop *io,
                                               const struct vyre_io_buffer *buffer,
                                               uint64_t start,
                                               uint64_t end,
                                               uint32_t rights,
                                               uint32_t *handle,
                                               struct vyre_io_error *error);

/**
 * Adds a range of a buffer as vyre_io_loop_insert_buffer does, for one queue.
 *
 * @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_loop_insert_buffer_for(const struct vyre_io_loop *io,
                                                   uint64_t only_for,
                                                   const struct vyre_io_buffer *buffer,
                                                   uint64_t start,
                                                   uint64_t end,
                                                   uint32_t rights,
                                                   uint32_t *handle,
                                                   struct vyre_io_error *error);

/**
 * Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in flight on it. Requests on it
 * have the drain timeout to end; then they are cancelled and get ECANCELED.
 *
 * @return UNKNOWN_HANDLE or ENDED if there is nothing to revoke; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
 *         returned everything. The handle is revoked even so.
 */
enum vyre_io_result vyre_io_loop_revoke_file(const struct vyre_io_loop *io,
                                             uint32_t handle,
                                             struct vyre_io_error *error);

/**
 * Revokes a file handle as vyre_io_loop_revoke_file does, with a time limit in place of the drain timeout. A limit of 0 cancels at once.
 */
enum vyre_io_result vyre_io_loop_revoke_file_within(const struct vyre_io_loop *io,
                                                    uint32_t handle,
                                                    uint64_t timeout_ns,
                                                    struct vyre_io_error *error);

/**
 * Revokes a buffer handle, as vyre_io_loop_revoke_file does a file's. After success, the bytes are the caller's again.
 * After IN_FLIGHT, UNRESPONSIVE or HELD, the kernel may still write to them.
 */
enum vyre_io_result vyre_io_loop_revoke_buffer(const struct vyre_io_loop *io,
                                               uint32_t handle,
                                               struct vyre_io_error *error);

/**
 * Revokes a buffer handle as vyre_io_loop_revoke_buffer does, with a time limit in place of the drain timeout.
 */
enum vyre_io_result vyre_io_loop_revoke_buffer_within(const struct vyre_io_loop *io,
                                                      uint32_t handle,
                                                      uint64_t timeout_ns,
                                                      struct vyre_io_error *error);

/**
 * Adds a queue while the loop runs, and takes its host end. When it returns, devices of the queue see
 * RUNNING. Other queues are served meanwhile.
 *
 * @param[out] number The number of the queue. No other queue of the loop has it, ever.
 * @return QUEUE_USED, QUEUES_FULL, QUEUE_OVERLAPS or ENDED after an error. Devices of the queue then see FAILED.
 */
enum vyre_io_result vyre_io_loop_add_queue(const struct vyre_io_loop *io,
                                           const struct vyre_io_queue *queue,
                                           uint64_t *number,
                                           struct vyre_io_error *error);

/**
 * Removes a queue while the loop runs, as a stop ends a loop: claimed requests have the drain timeout to end, and
 * unclaimed ones get ECANCELED. Then devices see STOPPED, and nothing accesses the queue's memory but its devices.
 *
 * @param number The number of the queue, in the order in which the builder got the queues, or of an addition.
 * @return UNKNOWN_QUEUE or ENDED if there is nothing to remove; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
 *         returned everything: it may still write to the buffers of these requests.
 */
enum vyre_io_result vyre_io_loop_remove_queue(const struct vyre_io_loop *io,
                                              uint64_t number,
                                              struct vyre_io_error *error);

/**
 * Removes a queue as vyre_io_loop_remove_queue does, with a time limit of its own in place of the drain timeout, and copies
 * its last counters. A limit of 0 cancels at once.
 *
 * @param[out] counters A struct of `size` bytes, or NULL.
 * @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_loop_remove_queue_within(const struct vyre_io_loop *io,
                                                     uint64_t number,
                                                     uint64_t timeout_ns,
                                                     struct vyre_io_queue_counters *counters,
                                                     size_t size,
                                                     struct vyre_io_error *error);

/**
 * Changes the limits of a queue while the loop runs.
 *
 * @param number The number of the queue. The other parameters are those of vyre_io_queue_set_limits.
 * @return UNKNOWN_QUEUE or ENDED if there is no such queue.
 */
enum vyre_io_result vyre_io_loop_set_queue_limits(const struct vyre_io_loop *io,
                                                  uint64_t number,
                                                  uint64_t operations_per_second,
                                                  uint64_t bytes_per_second,
                                                  uint32_t operations_in_flight,
                                                  uint64_t bytes_in_flight,
                                                  struct vyre_io_error *error);

/**
 * Keeps a loop that sleeps until a device rings from sleeping for long, until the guard is freed. Take one before a
 * kernel is launched that makes requests, since a GPU cannot ring.
 *
 * @param[out] active The guard, or NULL after an error. Free it with vyre_io_active_guard_free.
 */
enum vyre_io_result vyre_io_loop_active(const struct vyre_io_loop *io,
                                        struct vyre_io_active_guard **active,
                                        struct vyre_io_error *error);

/**
 * Ends a sleep of the loop, if its transport can be woken. Call it when vyre_ioq_ring has returned 1, for a loop with
 * VYRE_IO_MEANS_WAKER. Does nothing for NULL, and after a stop.
 */
void vyre_io_loop_wake(const struct vyre_io_loop *io);

/**
 * Returns the eventfd by which devices in other processes wake the loop, or -1 if there is none: it needs
 * VYRE_IO_MEANS_WAKER and io_uring. They write the number 1 to it, as 8 bytes. The descriptor is the loop's and stays
 * open until the loop is stopped.
 */
int vyre_io_loop_wake_fd(const struct vyre_io_loop *io);

/**
 * Copies the loop's counters, which lag the loop by at most one pass.
 *
 * @param[out] counters A struct of `size` bytes.
 * @param size          sizeof(struct vyre_io_loop_counters), as the program knows it.
 * @return ENDED after a stop.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_loop_get_counters(const struct vyre_io_loop *io,
                                              struct vyre_io_loop_counters *counters,
                                              size_t size,
                                              struct vyre_io_error *error);

/**
 * Copies the counters of a queue.
 *
 * @param queue         Its number: in the order in which the builder got the queues, or of an addition.
 * @param[out] counters A struct of `size` bytes.
 * @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
 * @return UNKNOWN_QUEUE if there is no such queue; ENDED after a stop.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_loop_get_queue_counters(const struct vyre_io_loop *io,
                                                    uint64_t queue,
                                                    struct vyre_io_queue_counters *counters,
                                                    size_t size,
                                                    struct vyre_io_error *error);

/**
 * Copies the report on the set-up of the loop's transport.
 *
 * @param[out] report A struct of `size` bytes.
 * @param size        sizeof(struct vyre_io_report), as the program knows it.
 * @return ENDED after a stop.
 *
 * # Safety
 * `report` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_loop_get_report(const struct vyre_io_loop *io,
                                            struct vyre_io_report *report,
                                            size_t size,
                                            struct vyre_io_error *error);

/**
 * Writes the report on the set-up as a text of a few lines: what the transport was built with, and why not with more.
 *
 * @param text     Room for `capacity` bytes, or NULL. A text that is too long is cut; a NUL always ends it.
 * @return The number of bytes of the whole text without its NUL, or 0 after a stop.
 *
 * # Safety
 * `text` is NULL or has room for `capacity` bytes, which nobody else uses during the call.
 */
size_t vyre_io_loop_report_text(const struct vyre_io_loop *io, char *text, size_t capacity);

/**
 * Makes a builder without files, buffers and queues.
 *
 * @param[out] builder The builder, or NULL after an error. Free it with vyre_io_group_builder_free.
 */
enum vyre_io_result vyre_io_group_builder_new(struct vyre_io_group_builder **builder, struct vyre_io_error *error);

/**
 * Sets the files that the devices of all queues may name: a copy of the table.
 */
enum vyre_io_result vyre_io_group_builder_files(struct vyre_io_group_builder *builder,
                                                const struct vyre_io_file_table *files,
                                                struct vyre_io_error *error);

/**
 * Sets the buffers that the devices of all queues may name: a copy of the table.
 */
enum vyre_io_result vyre_io_group_builder_buffers(struct vyre_io_group_builder *builder,
                                                  const struct vyre_io_buffer_table *buffers,
                                                  struct vyre_io_error *error);

/**
 * Adds a queue to serve, and takes its host end. The first goes to loop 0, the next to loop 1, and so on, in turn.
 * Queues are numbered from 0, in the order in which the builder got them.
 *
 * @return QUEUE_USED if a builder has its host end already.
 */
enum vyre_io_result vyre_io_group_builder_queue(struct vyre_io_group_builder *builder,
                                                const struct vyre_io_queue *queue,
                                                struct vyre_io_error *error);

/**
 * Adds a queue for a certain loop, and takes its host end. It does not affect the turns of vyre_io_group_builder_queue.
 *
 * @param index The number of the loop. One that the group does not have is an error of the spawn: NO_SUCH_LOOP.
 * @return QUEUE_USED if a builder has its host end already.
 */
enum vyre_io_result vyre_io_group_builder_queue_on(struct vyre_io_group_builder *builder,
                                                   uint32_t index,
                                                   const struct vyre_io_queue *queue,
                                                   struct vyre_io_error *error);

/**
 * Adds windows, in which kernels of the queues map parts of a file. The loops serve MAP for them, and keep them.
 */
enum vyre_io_result vyre_io_group_builder_windows(struct vyre_io_group_builder *builder,
                                                  const struct vyre_io_windows *windows,
                                                  struct vyre_io_error *error);

/**
 * Sets the options: a copy.
 */
enum vyre_io_result vyre_io_group_builder_options(struct vyre_io_group_builder *builder,
                                                  const struct vyre_io_loop_options *options,
                                                  struct vyre_io_error *error);

/**
 * Sets the number of loops. The default is one. The last call of this and of vyre_io_group_builder_pin_to takes effect.
 *
 * @return BAD_ARGUMENT for more than 65536. None is an error of the spawn: NO_LOOP.
 */
enum vyre_io_result vyre_io_group_builder_loops(struct vyre_io_group_builder *builder,
                                                uint32_t loops,
                                                struct vyre_io_error *error);

/**
 * Sets one loop for each of `count` cores, with its thread bound to that core. The last call of this and of
 * vyre_io_group_builder_loops takes effect.
 *
 * @param cores The numbers of the cores. May be NULL if `count` is 0.
 *
 * # Safety
 * `cores` is NULL or points to `count` numbers, which nobody writes during the call.
 */
enum vyre_io_result vyre_io_group_builder_pin_to(struct vyre_io_group_builder *builder,
                                                 const uint32_t *cores,
                                                 size_t count,
                                                 struct vyre_io_error *error);

/**
 * Sets the prefix of the threads' names, which the number of the loop follows. The default is "vyre-io".
 *
 * @param name UTF-8, ended by NUL.
 *
 * # Safety
 * `name` is NULL or points to a text that ends with NUL, which nobody writes during the call.
 */
enum vyre_io_result vyre_io_group_builder_name(struct vyre_io_group_builder *builder,
                                               const char *name,
                                               struct vyre_io_error *error);

/**
 * Starts all loops. When it returns, every ring is set up and devices see RUNNING. If one loop does not start, none runs.
 *
 * Whatever the result, the builder is empty afterwards, and the queues are used up: devices of a group that did not start
 * see FAILED or STOPPED. The builder must still be freed.
 *
 * @param[out] group The group, or NULL after an error. Free it with vyre_io_group_free.
 * @return NO_LOOP, NO_SUCH_LOOP, or as for vyre_io_loop_builder_spawn after an error.
 */
enum vyre_io_result vyre_io_group_builder_spawn(struct vyre_io_group_builder *builder,
                                                struct vyre_io_group **group,
                                                struct vyre_io_error *error);

/**
 * Frees the builder. Devices of queues that it still has see FAILED. Does nothing for NULL.
 */
void vyre_io_group_builder_free(struct vyre_io_group_builder *builder);

/**
 * Shuts all loops down at once and in order: claimed requests are finished, and unclaimed ones get ECANCELED. What has not ended after
 * the drain timeout is cancelled, for which the kernel has the abort timeout. It returns after at most these times and 5
 * seconds, whatever the kernel does. After success, the kernel can access no buffer any more.
 *
 * The object must still be freed.
 *
 * @return BUSY or ENDED if there was nothing to stop yet or any more; RING_FAILED, LOOP_PANICKED, STUCK, UNRESPONSIVE or
 *         FORKED if a loop did not end in order: the reason of the first one. The
 *         message names all. `held` of the error says how many operations the kernel still has.
 */
enum vyre_io_result vyre_io_group_stop(const struct vyre_io_group *group,
                                       struct vyre_io_error *error);

/**
 * Shuts all loops down: every request is cancelled and gets ECANCELED. The rest is as for vyre_io_group_stop.
 */
enum vyre_io_result vyre_io_group_abort(const struct vyre_io_group *group, struct vyre_io_error *error);

/**
 * Frees the object. A group that was not stopped is stopped first, which may take as long as vyre_io_group_stop does. Does
 * nothing for NULL.
 */
void vyre_io_group_free(struct vyre_io_group *group);

/**
 * Returns the number of loops, including those that have ended, or 0 once the group was stopped.
 */
uint32_t vyre_io_group_loops(const struct vyre_io_group *group);

/**
 * Finds out which loop serves a queue.
 *
 * @param queue      Its number: in the order in which the builder got the queues, or of an addition.
 * @param[out] index The number of the loop.
 * @return UNKNOWN_QUEUE if there is no such queue; ENDED after a stop.
 */
enum vyre_io_result vyre_io_group_loop_of(const struct vyre_io_group *group,
                                          uint64_t queue,
                                          uint32_t *index,
                                          struct vyre_io_error *error);

/**
 * Returns whether a loop of the group serves. A loop that ends by itself does not affect the others.
 */
bool vyre_io_group_is_running(const struct vyre_io_group *group, uint32_t index);

/**
 * Returns the kernel's ID of a loop's thread, or 0 if there is none or the group was stopped.
 */
uint32_t vyre_io_group_thread_id(const struct vyre_io_group *group, uint32_t index);

/**
 * Adds the bytes `start` to `end` of a file while the loops run. The descriptor stays the caller's. It has no time limit:
 * it waits for the threads.
 *
 * @param end   One past the last byte, or VYRE_IO_TO_THE_END.
 * @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
 * @param[out] handle What devices name the range by.
 * @return As for vyre_io_file_table_insert_range, or NO_ROOM, REGISTER or ENDED.
 */
enum vyre_io_result vyre_io_group_insert_file(const struct vyre_io_group *group,
                                              int fd,
                                              uint64_t start,
                                              uint64_t end,
                                              uint32_t flags,
                                              uint32_t *handle,
                                              struct vyre_io_error *error);

/**
 * Adds a range of a file as vyre_io_group_insert_file does, for one queue: requests of other queues that name the handle get
 * EBADF.
 *
 * @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_group_insert_file_for(const struct vyre_io_group *group,
                                                  uint64_t only_for,
                                                  int fd,
                                                  uint64_t start,
                                                  uint64_t end,
                                                  uint32_t flags,
                                                  uint32_t *handle,
                                                  struct vyre_io_error *error);

/**
 * Adds the bytes `start` to `end` of a buffer while the loops run. The calling thread first provides all pages of the
 * buffer, which takes seconds for gigabytes of untouched memory.
 *
 * @param end    One past the last byte, or VYRE_IO_TO_THE_END.
 * @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
 * @param[out] handle What devices name the range by.
 * @return As for vyre_io_buffer_table_insert_range, or NO_ROOM, REGISTER or ENDED.
 */
enum vyre_io_result vyre_io_group_insert_buffer(const struct vyre_io_group *group,
                                                const struct vyre_io_buffer *buffer,
                                                uint64_t start,
                                                uint64_t end,
                                                uint32_t rights,
                                                uint32_t *handle,
                                                struct vyre_io_error *error);

/**
 * Adds a range of a buffer as vyre_io_group_insert_buffer does, for one queue.
 *
 * @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
 */
enum vyre_io_result vyre_io_group_insert_buffer_for(const struct vyre_io_group *group,
                                                    uint64_t only_for,
                                                    const struct vyre_io_buffer *buffer,
                                                    uint64_t start,
                                                    uint64_t end,
                                                    uint32_t rights,
                                                    uint32_t *handle,
                                                    struct vyre_io_error *error);

/**
 * Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in flight on it. Requests on it
 * have the drain timeout to end; then they are cancelled and get ECANCELED.
 *
 * @return UNKNOWN_HANDLE or ENDED if there is nothing to revoke; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
 *         returned everything. The handle is revoked even so.
 */
enum vyre_io_result vyre_io_group_revoke_file(const struct vyre_io_group *group,
                                              uint32_t handle,
                                              struct vyre_io_error *error);

/**
 * Revokes a file handle as vyre_io_group_revoke_file does, with a time limit in place of the drain timeout. A limit of 0 cancels at once.
 */
enum vyre_io_result vyre_io_group_revoke_file_within(const struct vyre_io_group *group,
                                                     uint32_t handle,
                                                     uint64_t timeout_ns,
                                                     struct vyre_io_error *error);

/**
 * Revokes a buffer handle, as vyre_io_group_revoke_file does a file's. After success, the bytes are the caller's again.
 * After IN_FLIGHT, UNRESPONSIVE or HELD, the kernel may still write to them.
 */
enum vyre_io_result vyre_io_group_revoke_buffer(const struct vyre_io_group *group,
                                                uint32_t handle,
                                                struct vyre_io_error *error);

/**
 * Revokes a buffer handle as vyre_io_group_revoke_buffer does, with a time limit in place of the drain timeout.
 */
enum vyre_io_result vyre_io_group_revoke_buffer_within(const struct vyre_io_group *group,
                                                       uint32_t handle,
                                                       uint64_t timeout_ns,
                                                       struct vyre_io_error *error);

/**
 * Adds a queue while the loops run: to the one that has the fewest, and takes its host end. When it returns, devices of the queue see
 * RUNNING. Other queues are served meanwhile.
 *
 * @param[out] number The number of the queue. No other queue of the group has it, ever.
 * @return QUEUE_USED, QUEUES_FULL, QUEUE_OVERLAPS or ENDED after an error. Devices of the queue then see FAILED.
 */
enum vyre_io_result vyre_io_group_add_queue(const struct vyre_io_group *group,
                                            const struct vyre_io_queue *queue,
                                            uint64_t *number,
                                            struct vyre_io_error *error);

/**
 * Adds a queue to a certain loop: see vyre_io_group_add_queue.
 *
 * @param index The number of the loop.
 * @return As for vyre_io_group_add_queue, or NO_SUCH_LOOP.
 */
enum vyre_io_result vyre_io_group_add_queue_on(const struct vyre_io_group *group,
                                               uint32_t index,
                                               const struct vyre_io_queue *queue,
                                               uint64_t *number,
                                               struct vyre_io_error *error);

/**
 * Removes a queue while its loop runs, as a stop ends a loop: claimed requests have the drain timeout to end, and
 * unclaimed ones get ECANCELED. Then devices see STOPPED, and nothing accesses the queue's memory but its devices.
 *
 * @param number The number of the queue, in the order in which the builder got the queues, or of an addition.
 * @return UNKNOWN_QUEUE or ENDED if there is nothing to remove; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
 *         returned everything: it may still write to the buffers of these requests.
 */
enum vyre_io_result vyre_io_group_remove_queue(const struct vyre_io_group *group,
                                               uint64_t number,
                                               struct vyre_io_error *error);

/**
 * Removes a queue as vyre_io_group_remove_queue does, with a time limit of its own in place of the drain timeout, and copies
 * its last counters. A limit of 0 cancels at once.
 *
 * @param[out] counters A struct of `size` bytes, or NULL.
 * @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_group_remove_queue_within(const struct vyre_io_group *group,
                                                      uint64_t number,
                                                      uint64_t timeout_ns,
                                                      struct vyre_io_queue_counters *counters,
                                                      size_t size,
                                                      struct vyre_io_error *error);

/**
 * Changes the limits of a queue while its loop runs.
 *
 * @param number The number of the queue. The other parameters are those of vyre_io_queue_set_limits.
 * @return UNKNOWN_QUEUE or ENDED if there is no such queue.
 */
enum vyre_io_result vyre_io_group_set_queue_limits(const struct vyre_io_group *group,
                                                   uint64_t number,
                                                   uint64_t operations_per_second,
                                                   uint64_t bytes_per_second,
                                                   uint32_t operations_in_flight,
                                                   uint64_t bytes_in_flight,
                                                   struct vyre_io_error *error);

/**
 * Keeps a loop that sleeps until a device rings from sleeping for long, until the guard is freed. Take one before a
 * kernel is launched that makes requests, since a GPU cannot ring.
 *
 * @param[out] active The guard, or NULL after an error. Free it with vyre_io_active_guard_free.
 */
enum vyre_io_result vyre_io_group_active(const struct vyre_io_group *group,
                                         struct vyre_io_active_guard **active,
                                         struct vyre_io_error *error);

/**
 * Ends a sleep of one loop: see vyre_io_loop_wake.
 */
void vyre_io_group_wake(const struct vyre_io_group *group, uint32_t index);

/**
 * Returns the eventfd of one loop, or -1: see vyre_io_loop_wake_fd.
 */
int vyre_io_group_wake_fd(const struct vyre_io_group *group, uint32_t index);

/**
 * Copies the sum of all loops' counters, which lag the loops by at most one pass.
 *
 * @param[out] counters A struct of `size` bytes.
 * @param size          sizeof(struct vyre_io_loop_counters), as the program knows it.
 * @return ENDED after a stop.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_group_get_counters(const struct vyre_io_group *group,
                                               struct vyre_io_loop_counters *counters,
                                               size_t size,
                                               struct vyre_io_error *error);

/**
 * Copies the counters of one loop.
 *
 * @param index The number of the loop.
 * @return NO_SUCH_LOOP; ENDED after a stop. The rest is as for vyre_io_group_get_counters.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_group_get_loop_counters(const struct vyre_io_group *group,
                                                    uint32_t index,
                                                    struct vyre_io_loop_counters *counters,
                                                    size_t size,
                                                    struct vyre_io_error *error);

/**
 * Copies the counters of a queue.
 *
 * @param queue         Its number: in the order in which the builder got the queues, or of an addition.
 * @param[out] counters A struct of `size` bytes.
 * @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
 * @return UNKNOWN_QUEUE if there is no such queue; ENDED after a stop.
 *
 * # Safety
 * `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_group_get_queue_counters(const struct vyre_io_group *group,
                                                     uint64_t queue,
                                                     struct vyre_io_queue_counters *counters,
                                                     size_t size,
                                                     struct vyre_io_error *error);

/**
 * Copies the report on the set-up of one loop's transport.
 *
 * @param index       The number of the loop.
 * @param[out] report A struct of `size` bytes.
 * @param size        sizeof(struct vyre_io_report), as the program knows it.
 * @return NO_SUCH_LOOP; ENDED after a stop.
 *
 * # Safety
 * `report` is NULL or has room for `size` bytes, which nobody else uses during the call.
 */
enum vyre_io_result vyre_io_group_get_report(const struct vyre_io_group *group,
                                             uint32_t index,
                                             struct vyre_io_report *report,
                                             size_t size,
                                             struct vyre_io_error *error);

/**
 * Writes the report on the set-up of one loop as a text of a few lines.
 *
 * @param index    The number of the loop.
 * @param text     Room for `capacity` bytes, or NULL. A text that is too long is cut; a NUL always ends it.
 * @return The number of bytes of the whole text without its NUL, or 0 if there is no such loop, or after a stop.
 *
 * # Safety
 * `text` is NULL or has room for `capacity` bytes, which nobody else uses during the call.
 */
size_t vyre_io_group_report_text(const struct vyre_io_group *group, uint32_t index, char *text, size_t capacity);

/**
 * Frees the guard: the loops may sleep again. Also after the loop was stopped or freed. Does nothing for NULL.
 */
void vyre_io_active_guard_free(struct vyre_io_active_guard *active);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VYRE_IO_H */
