/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Misuse that the library finds, and what it does with memory of the program's. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

static int checks;

/* Not assert, which NDEBUG takes away. */
#define CHECK(condition)                                                                  \
    do {                                                                                  \
        checks++;                                                                         \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition,   \
                    error.message);                                                       \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* A call must fail with a result, and say so in `error` and without it. */
#define FAILS(result, call_with_error, call_without)                                      \
    do {                                                                                  \
        memset(&error, 0xff, sizeof(error));                                              \
        CHECK((call_with_error) == VYRE_IO_RESULT_##result);                              \
        CHECK(error.code == VYRE_IO_RESULT_##result && error.message[0] != '\0');         \
        CHECK((call_without) == VYRE_IO_RESULT_##result);                                 \
    } while (0)

#define OK(call) CHECK((call) == VYRE_IO_RESULT_OK)

static struct vyre_io_error error;

static struct vyre_io_loop *loop_with(struct vyre_io_file_table *files, struct vyre_io_buffer_table *buffers,
                                      struct vyre_io_queue *queue)
{
    struct vyre_io_loop_builder *builder;
    struct vyre_io_loop *io;
    OK(vyre_io_loop_builder_new(&builder, &error));
    if (files != NULL) {
        OK(vyre_io_loop_builder_files(builder, files, &error));
    }
    if (buffers != NULL) {
        OK(vyre_io_loop_builder_buffers(builder, buffers, &error));
    }
    if (queue != NULL) {
        OK(vyre_io_loop_builder_queue(builder, queue, &error));
    }
    OK(vyre_io_loop_builder_spawn(builder, &io, &error));
    vyre_io_loop_builder_free(builder);
    return io;
}

/* ---- NULL ---- */

static void null_is_named(void)
{
    struct vyre_io_buffer *buffer = (struct vyre_io_buffer *)&error;
    struct vyre_io_queue *queue = (struct vyre_io_queue *)&error;
    struct vyre_io_loop *io = (struct vyre_io_loop *)&error;
    uint32_t handle = 7;
    int fd = 7;

    FAILS(NULL_POINTER, vyre_io_buffer_anonymous(1, NULL, &error), vyre_io_buffer_anonymous(1, NULL, NULL));
    CHECK(strcmp(error.message, "buffer is NULL") == 0);
    FAILS(NULL_POINTER, vyre_io_buffer_memfd(1, &buffer, NULL, &error), vyre_io_buffer_memfd(1, NULL, &fd, NULL));
    CHECK(buffer == NULL && strcmp(error.message, "memfd is NULL") == 0);
    FAILS(NULL_POINTER, vyre_io_file_table_insert(NULL, 0, 0, &handle, &error),
          vyre_io_file_table_insert(NULL, 0, 0, NULL, NULL));
    CHECK(strcmp(error.message, "table is NULL") == 0);
    FAILS(NULL_POINTER, vyre_io_loop_builder_spawn(NULL, &io, &error), vyre_io_loop_builder_spawn(NULL, NULL, NULL));
    CHECK(io == NULL);
    FAILS(NULL_POINTER, vyre_io_queue_new(4, 0, 0, NULL, &error), vyre_io_queue_shared(4, 0, 0, &queue, NULL, NULL));
    CHECK(queue == NULL);
    FAILS(NULL_POINTER, vyre_io_loop_stop(NULL, &error), vyre_io_group_abort(NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_loop_options_set_spin(NULL, &error), vyre_io_loop_options_set_spin(NULL, NULL));

    /* What cannot fail takes NULL, too. */
    vyre_io_buffer_free(NULL);
    vyre_io_buffer_populate(NULL);
    vyre_io_file_table_free(NULL);
    vyre_io_buffer_table_free(NULL);
    vyre_io_queue_free(NULL);
    vyre_io_loop_options_free(NULL);
    vyre_io_loop_builder_free(NULL);
    vyre_io_group_builder_free(NULL);
    vyre_io_loop_free(NULL);
    vyre_io_group_free(NULL);
    vyre_io_active_guard_free(NULL);
    vyre_io_loop_wake(NULL);
    vyre_io_group_wake(NULL, 3);
    CHECK(vyre_io_buffer_data(NULL) == NULL && vyre_io_buffer_len(NULL) == 0);
    CHECK(vyre_io_queue_memory(NULL) == NULL && vyre_io_queue_bytes(NULL) == 0);
    CHECK(!vyre_io_loop_is_running(NULL) && vyre_io_loop_thread_id(NULL) == 0 && vyre_io_loop_wake_fd(NULL) == -1);
    CHECK(!vyre_io_group_is_running(NULL, 0) && vyre_io_group_loops(NULL) == 0);
    CHECK(vyre_io_loop_report_text(NULL, NULL, 0) == 0 && vyre_io_group_report_text(NULL, 0, NULL, 0) == 0);
    CHECK(strcmp(vyre_io_version(), VYRE_IO_VERSION) == 0);
    CHECK(strcmp(vyre_io_result_name(VYRE_IO_RESULT_NOT_READABLE), "NOT_READABLE") == 0);
}

static void null_is_named_for_gpus(void)
{
    struct vyre_io_gpu *gpu = (struct vyre_io_gpu *)&error;
    struct vyre_io_view *view = (struct vyre_io_view *)&error;
    struct vyre_io_windows *windows = (struct vyre_io_windows *)&error;
    struct vyre_io_device_view device = {1, 1};
    struct vyre_io_window_counters counters;
    struct vyre_io_view_state state;
    bool done = true;

    FAILS(NULL_POINTER, vyre_io_gpu_open(0, NULL, &error), vyre_io_gpu_open(0, NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_gpu_from_context(NULL, &gpu, &error), vyre_io_gpu_from_context(NULL, &gpu, NULL));
    CHECK(gpu == NULL);
    FAILS(NULL_POINTER, vyre_io_view_new(NULL, 0, 0, 1, &view, &error), vyre_io_view_new(NULL, 0, 0, 1, NULL, NULL));
    CHECK(view == NULL);
    FAILS(NULL_POINTER, vyre_io_view_prepare(0, 0, 1, NULL, &error), vyre_io_view_prepare(0, 0, 1, NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_preparing_pin(NULL, NULL, &view, &error),
          vyre_io_preparing_pin(NULL, NULL, NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_view_device(NULL, NULL, &device, &error),
          vyre_io_view_device(NULL, NULL, NULL, NULL));
    CHECK(device.base == 0 && device.len == 0);
    FAILS(NULL_POINTER, vyre_io_view_check(NULL, &state, &error), vyre_io_view_check(NULL, NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_view_copy_is_done(NULL, &done, &error), vyre_io_view_copy_is_done(NULL, NULL, NULL));
    CHECK(!done);
    FAILS(NULL_POINTER, vyre_io_view_copy_wait(NULL, &error), vyre_io_view_copy_wait(NULL, NULL));
    FAILS(NULL_POINTER, vyre_io_view_load(NULL, 0, 0, 1, 1, 0, &error), vyre_io_view_load(NULL, 0, 0, 1, 1, 0, NULL));
    FAILS(NULL_POINTER, vyre_io_windows_new(NULL, 0, 0, 0, 0, &windows, &error),
          vyre_io_windows_new(NULL, 0, 0, 0, 0, NULL, NULL));
    CHECK(windows == NULL);
    FAILS(NULL_POINTER, vyre_io_windows_counters(NULL, &counters, sizeof(counters), &error),
          vyre_io_windows_counters(NULL, NULL, sizeof(counters), NULL));
    FAILS(NULL_POINTER, vyre_io_windows_close(NULL, &error), vyre_io_windows_close(NULL, NULL));
    CHECK(vyre_io_view_bytes(NULL) == 0 && vyre_io_view_start(NULL) == 0);
    CHECK(vyre_io_preparing_bytes(NULL) == 0 && vyre_io_preparing_done(NULL) == 0 && vyre_io_preparing_is_ready(NULL));
    vyre_io_preparing_cancel(NULL);
    vyre_io_preparing_free(NULL);
    vyre_io_view_copy_free(NULL);
    vyre_io_view_free(NULL);
    vyre_io_windows_free(NULL);
    vyre_io_gpu_free(NULL);
}

/* ---- Arguments ---- */

static void arguments_are_checked(void)
{
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *buffer;
    struct vyre_io_loop_options *options;
    struct vyre_io_loop_builder *builder;
    struct vyre_io_group_builder *group;
    struct vyre_io_queue *queue;
    uint32_t handle, pages[4];
    unsigned char byte[4] = "abc", big[64];
    memset(big, 5, sizeof(big));

    OK(vyre_io_file_table_new(&files, &error));
    FAILS(BAD_ARGUMENT, vyre_io_file_table_insert(files, 0, 8, &handle, &error),
          vyre_io_file_table_insert(files, 0, 1u << 31, &handle, NULL));
    FAILS(DESCRIPTOR, vyre_io_file_table_insert(files, -1, VYRE_IO_RIGHT_SYNC, &handle, &error),
          vyre_io_file_table_insert(files, 123456, VYRE_IO_RIGHT_SYNC, &handle, NULL));
    CHECK(error.os_errno == EBADF && handle == 0);
    OK(vyre_io_file_table_insert_at(files, 5, 0, 0, VYRE_IO_TO_THE_END, 0, &error));
    FAILS(HANDLE_TAKEN, vyre_io_file_table_insert_at(files, 5, 0, 0, VYRE_IO_TO_THE_END, 0, &error),
          vyre_io_file_table_insert_at(files, 5, 0, 0, 10, 0, NULL));
    FAILS(UNKNOWN_HANDLE, vyre_io_file_table_populate(files, 5, 0, 1, &error),
          vyre_io_file_table_populate(files, 9, 0, 1, NULL));

    FAILS(EMPTY, vyre_io_buffer_anonymous(0, &buffer, &error), vyre_io_buffer_anonymous(0, &buffer, NULL));
    FAILS(TOO_LONG, vyre_io_buffer_anonymous(SIZE_MAX, &buffer, &error),
          vyre_io_buffer_anonymous(SIZE_MAX, &buffer, NULL));
    FAILS(NOT_MEMFD, vyre_io_buffer_from_memfd(0, &buffer, &error), vyre_io_buffer_from_memfd(0, &buffer, NULL));
    OK(vyre_io_buffer_anonymous(10, &buffer, &error));
    CHECK(vyre_io_buffer_len(buffer) == 10 && vyre_io_buffer_data(buffer) != NULL);
    OK(vyre_io_buffer_write(buffer, 7, byte, 3, &error));
    FAILS(OUT_OF_RANGE, vyre_io_buffer_write(buffer, 8, byte, 3, &error),
          vyre_io_buffer_write(buffer, SIZE_MAX, byte, 3, NULL));
    FAILS(OUT_OF_RANGE, vyre_io_buffer_read(buffer, 8, byte, 3, &error),
          vyre_io_buffer_read(buffer, SIZE_MAX, byte, 3, NULL));
    CHECK(memcmp(byte, "abc", 3) == 0);
    OK(vyre_io_buffer_read(buffer, 7, big, 3, &error));
    CHECK(memcmp(big, "abc\5", 4) == 0);
    OK(vyre_io_buffer_read(buffer, 10, NULL, 0, &error));
    FAILS(NULL_POINTER, vyre_io_buffer_read(buffer, 0, NULL, 1, &error), vyre_io_buffer_write(buffer, 0, NULL, 1, NULL));

    OK(vyre_io_buffer_table_new(&buffers, &error));
    FAILS(BAD_ARGUMENT, vyre_io_buffer_table_insert_range(buffers, buffer, 0, 1, 4096, &handle, &error),
          vyre_io_buffer_table_insert_range(buffers, buffer, 0, 1, 4096, &handle, NULL));
    FAILS(BAD_PAGE, vyre_io_buffer_table_insert_pages(buffers, buffer, 0, 3, pages, 4, &error),
          vyre_io_buffer_table_insert_pages(buffers, buffer, 11, 3, pages, 4, NULL));
    FAILS(BAD_ARGUMENT, vyre_io_buffer_table_insert_pages(buffers, buffer, 2, 3, pages, 4, &error),
          vyre_io_buffer_table_insert_pages(buffers, buffer, 1, 3, pages, 4, NULL));
    OK(vyre_io_buffer_table_insert_pages(buffers, buffer, 3, 3, pages, 4, &error));
    CHECK(pages[0] == 1 && pages[1] == 2 && pages[2] == 3);

    OK(vyre_io_loop_options_new(&options, &error));
    FAILS(BAD_ARGUMENT, vyre_io_loop_options_set_transport(options, 3, &error),
          vyre_io_loop_options_set_rung_by(options, 2, NULL));

    FAILS(BAD_ARGUMENT, vyre_io_queue_new(4, 16, 0, &queue, &error), vyre_io_queue_new(4, 16, 0, &queue, NULL));
    FAILS(BAD_ARGUMENT, vyre_io_queue_new(4, VYRE_IO_QUEUE_BARE, 9, &queue, &error),
          vyre_io_queue_new(4, VYRE_IO_QUEUE_BARE | VYRE_IO_QUEUE_DOORBELL, 0, &queue, NULL));

    OK(vyre_io_loop_builder_new(&builder, &error));
    FAILS(BAD_ARGUMENT, vyre_io_loop_builder_name(builder, "\xff", &error),
          vyre_io_loop_builder_name(builder, "a\xc3", NULL));
    OK(vyre_io_group_builder_new(&group, &error));
    FAILS(BAD_ARGUMENT, vyre_io_group_builder_loops(group, UINT32_MAX, &error),
          vyre_io_group_builder_loops(group, 65537, NULL));
    OK(vyre_io_group_builder_loops(group, 0, &error));
    {
        struct vyre_io_group *none;
        CHECK(vyre_io_group_builder_spawn(group, &none, &error) == VYRE_IO_RESULT_NO_LOOP && none == NULL);
    }
    OK(vyre_io_group_builder_loops(group, 2, &error));
    {
        struct vyre_io_group *running;
        struct vyre_io_loop_counters counters;
        struct vyre_io_report report;
        OK(vyre_io_group_builder_spawn(group, &running, &error));
        OK(vyre_io_group_get_loop_counters(running, 1, &counters, sizeof counters, &error));
        FAILS(NO_SUCH_LOOP, vyre_io_group_get_loop_counters(running, 2, &counters, sizeof counters, &error),
              vyre_io_group_get_report(running, UINT32_MAX, &report, sizeof report, NULL));
        OK(vyre_io_group_stop(running, &error));
        vyre_io_group_free(running);
    }
    vyre_io_group_builder_free(group);
    vyre_io_loop_builder_free(builder);
    vyre_io_loop_options_free(options);
    vyre_io_buffer_table_free(buffers);
    vyre_io_buffer_free(buffer);
    vyre_io_file_table_free(files);
}

/* ---- Loops ---- */

static void queues_are_used_once(void)
{
    struct vyre_ioq_queue device;
    struct vyre_io_loop_builder *builder;
    struct vyre_io_queue *queue;
    uint64_t number;
    struct vyre_io_loop *io = loop_with(NULL, NULL, NULL);

    OK(vyre_io_queue_new(4, 0, 77, &queue, &error));
    CHECK(vyre_ioq_attach(&device, vyre_io_queue_memory(queue), vyre_io_queue_bytes(queue)) == VYRE_IOQ_ATTACH_OK);
    CHECK(device.id == 77 && vyre_ioq_host_state(&device) == VYRE_IOQ_STATE_STARTING);
    OK(vyre_io_loop_builder_new(&builder, &error));
    OK(vyre_io_loop_builder_queue(builder, queue, &error));
    FAILS(QUEUE_USED, vyre_io_loop_builder_queue(builder, queue, &error),
          vyre_io_loop_add_queue(io, queue, &number, NULL));
    /* A builder that is thrown away tells its devices. */
    vyre_io_loop_builder_free(builder);
    CHECK(vyre_ioq_host_state(&device) == VYRE_IOQ_STATE_FAILED);
    vyre_io_queue_free(queue);
    OK(vyre_io_loop_stop(io, &error));
    FAILS(ENDED, vyre_io_loop_stop(io, &error), vyre_io_loop_abort(io, NULL));
    CHECK(!vyre_io_loop_is_running(io) && vyre_io_loop_wake_fd(io) == -1);
    vyre_io_loop_wake(io);
    vyre_io_loop_free(io);
}

/* Nothing undoes a removal, so its place for counters is checked first. */
static void a_bad_place_removes_nothing(void)
{
    struct vyre_io_queue_counters counters;
    struct vyre_io_queue *queue;
    struct vyre_io_loop *io = loop_with(NULL, NULL, NULL);
    uint64_t number;

    OK(vyre_io_queue_new(4, 0, 0, &queue, &error));
    OK(vyre_io_loop_add_queue(io, queue, &number, &error));
    FAILS(BAD_ARGUMENT, vyre_io_loop_remove_queue_within(io, number, 0, &counters, 0, &error),
          vyre_io_loop_remove_queue_within(io, number, 0, &counters, SIZE_MAX, NULL));
    OK(vyre_io_loop_remove_queue_within(io, number, 0, &counters, sizeof(counters), &error));
    CHECK(counters.claimed == 0);
    FAILS(UNKNOWN_QUEUE, vyre_io_loop_remove_queue_within(io, number, 0, NULL, 0, &error),
          vyre_io_loop_remove_queue(io, number, NULL));
    OK(vyre_io_loop_stop(io, &error));
    vyre_io_loop_free(io);
    vyre_io_queue_free(queue);
}

static void structs_may_grow(void)
{
    unsigned char bytes[sizeof(struct vyre_io_loop_counters) + 16];
    struct vyre_io_report report;
    char text[64], whole[4096];
    struct vyre_io_loop *io = loop_with(NULL, NULL, NULL);
    struct vyre_io_loop_counters *counters = (struct vyre_io_loop_counters *)(void *)bytes;
    size_t length, i;

    memset(bytes, 0xee, sizeof(bytes));
    /* An older program knows the first two fields. */
    OK(vyre_io_loop_get_counters(io, counters, 16, &error));
    for (i = 16; i < sizeof(bytes); i++) {
        CHECK(bytes[i] == 0xee);
    }
    /* A newer one knows more: zeros. */
    OK(vyre_io_loop_get_counters(io, counters, sizeof(bytes), &error));
    CHECK(counters->stray == 0 && bytes[sizeof(bytes) - 1] == 0 && bytes[sizeof(bytes) - 16] == 0);
    FAILS(BAD_ARGUMENT, vyre_io_loop_get_counters(io, counters, 0, &error),
          vyre_io_loop_get_counters(io, counters, SIZE_MAX, NULL));
    FAILS(NULL_POINTER, vyre_io_loop_get_counters(io, NULL, sizeof(bytes), &error),
          vyre_io_loop_get_report(io, NULL, 24, NULL));
    FAILS(UNKNOWN_QUEUE, vyre_io_loop_get_queue_counters(io, 0, NULL, 8, &error),
          vyre_io_loop_remove_queue(io, 3, NULL));
    OK(vyre_io_loop_get_report(io, &report, sizeof(report), &error));
    CHECK(report.transport == VYRE_IO_TRANSPORT_RING || report.transport == VYRE_IO_TRANSPORT_THREADS);
    CHECK(report.entries >= 256);

    memset(text, 'x', sizeof(text));
    length = vyre_io_loop_report_text(io, text, 9);
    CHECK(length > 9 && text[8] == '\0' && text[9] == 'x' && strlen(text) == 8);
    CHECK(vyre_io_loop_report_text(io, whole, sizeof(whole)) == length && strlen(whole) == length);
    CHECK(memcmp(whole, text, 8) == 0 && vyre_io_loop_report_text(io, NULL, 0) == length);
    vyre_io_loop_free(io);
}

struct revocation {
    struct vyre_io_loop *io;
    uint32_t handle;
    enum vyre_io_result result;
};

static void *revokes(void *context)
{
    struct revocation *revocation = context;
    revocation->result = vyre_io_loop_revoke_file(revocation->io, revocation->handle, NULL);
    return NULL;
}

/* A stop beside a call of another thread is refused, and takes nothing away. */
static void a_stop_does_not_overtake(void)
{
    static struct vyre_ioq_queue device;
    struct vyre_ioq_wait_limits limits = { 30000000000u, 0 };
    struct vyre_ioq_outcome outcome;
    struct vyre_ioq_request request;
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *memory;
    struct vyre_io_queue *queue;
    struct vyre_io_queue_counters counters;
    struct revocation revocation = { NULL, 0, VYRE_IO_RESULT_OTHER };
    enum vyre_io_result result;
    pthread_t thread;
    uint32_t pool, slot;
    int ends[2];

    CHECK(pipe(ends) == 0);
    OK(vyre_io_file_table_new(&files, &error));
    OK(vyre_io_file_table_insert(files, ends[0], VYRE_IO_RIGHT_READ, &revocation.handle, &error));
    OK(vyre_io_buffer_anonymous(4096, &memory, &error));
    OK(vyre_io_buffer_table_new(&buffers, &error));
    OK(vyre_io_buffer_table_insert(buffers, memory, &pool, &error));
    OK(vyre_io_queue_new(4, 0, 0, &queue, &error));
    revocation.io = loop_with(files, buffers, queue);
    CHECK(vyre_ioq_attach(&device, vyre_io_queue_memory(queue), vyre_io_queue_bytes(queue)) == VYRE_IOQ_ATTACH_OK);
    request = vyre_ioq_prep_read(revocation.handle, 0, 16, pool, 0);
    CHECK(vyre_ioq_submit(&device, &request, &slot) == VYRE_IOQ_OK);

    do {
        OK(vyre_io_loop_get_queue_counters(revocation.io, 0, &counters, sizeof(counters), &error));
    } while (counters.claimed == 0);
    CHECK(pthread_create(&thread, NULL, revokes, &revocation) == 0);
    /* The handle is unknown once the revocation is under way, which then waits for the request. */
    do {
        static struct vyre_ioq_request probe;
        uint32_t second;
        probe = vyre_ioq_prep_read(revocation.handle, 0, 0, pool, 0);
        CHECK(vyre_ioq_submit(&device, &probe, &second) == VYRE_IOQ_OK);
        CHECK(vyre_ioq_wait(&device, second, &limits, &outcome, NULL) == VYRE_IOQ_OK);
    } while (outcome.status == VYRE_IOQ_STATUS_OK);
    CHECK(outcome.count == VYRE_IOQ_ERRNO_EBADF);
    result = vyre_io_loop_stop(revocation.io, &error);
    CHECK(result == VYRE_IO_RESULT_BUSY && vyre_io_loop_is_running(revocation.io));

    CHECK(write(ends[1], "0123456789abcdef", 16) == 16);
    CHECK(pthread_join(thread, NULL) == 0 && revocation.result == VYRE_IO_RESULT_OK);
    CHECK(vyre_ioq_wait(&device, slot, &limits, &outcome, NULL) == VYRE_IOQ_OK && outcome.count == 16);
    OK(vyre_io_loop_stop(revocation.io, &error));
    CHECK(memcmp(vyre_io_buffer_data(memory), "0123456789abcdef", 16) == 0);

    vyre_io_loop_free(revocation.io);
    vyre_io_queue_free(queue);
    vyre_io_buffer_table_free(buffers);
    vyre_io_buffer_free(memory);
    vyre_io_file_table_free(files);
    close(ends[0]);
    close(ends[1]);
}

/* ---- Memory of the program's ---- */

static int released;

static void release(void *context)
{
    released += 1;
    free(context);
}

static void *aligned(size_t len)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, len) != 0) {
        abort();
    }
    memset(memory, 0, len);
    return memory;
}

/* `release` is called once: at the end, and also if the call fails. */
static void memory_is_released_once(void)
{
    static struct vyre_ioq_queue device;
    struct vyre_ioq_wait_limits limits = { 30000000000u, 0 };
    struct vyre_ioq_outcome outcome;
    const struct vyre_ioq_request fence = vyre_ioq_prep_fence();
    struct vyre_io_buffer *buffer;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_queue *queue;
    struct vyre_io_loop *io;
    const size_t bytes = vyre_io_queue_layout_bytes(8, 0);
    char *memory = aligned(bytes);
    uint32_t pool, slot;

    CHECK(bytes == 4096 + 8 * 64 && vyre_io_queue_layout_bytes(8, VYRE_IO_QUEUE_BARE) == 8 * 32);
    released = 0;
    CHECK(vyre_io_queue_in_memory(memory, bytes - 1, 8, 0, 0, release, memory, &queue, &error) ==
          VYRE_IO_RESULT_TOO_SHORT);
    CHECK(released == 1 && queue == NULL);
    memory = aligned(bytes + 4);
    CHECK(vyre_io_queue_in_memory(memory + 4, bytes, 8, 0, 0, release, memory, &queue, &error) ==
          VYRE_IO_RESULT_MISALIGNED);
    CHECK(released == 2);
    CHECK(vyre_io_queue_in_memory(NULL, bytes, 8, 0, 0, release, NULL, &queue, &error) ==
          VYRE_IO_RESULT_NULL_POINTER);
    memory = aligned(1);
    CHECK(vyre_io_buffer_from_memory(memory, 0, release, memory, &buffer, &error) == VYRE_IO_RESULT_EMPTY);
    CHECK(released == 4);
    CHECK(vyre_io_queue_attach_bare(NULL, 0, 0, NULL, NULL, &queue, &error) == VYRE_IO_RESULT_NULL_POINTER);
    {
        uint32_t words[12];
        CHECK(vyre_io_queue_attach_bare(words, 33, 0, NULL, NULL, &queue, &error) == VYRE_IO_RESULT_BARE_LENGTH);
        CHECK(vyre_io_queue_attach_bare(words, 32, 1, NULL, NULL, &queue, &error) == VYRE_IO_RESULT_BAD_ARGUMENT);
    }

    released = 0;
    memory = aligned(bytes);
    OK(vyre_io_queue_in_memory(memory, bytes, 8, 0, 0, release, memory, &queue, &error));
    CHECK(vyre_io_queue_memory(queue) == memory && vyre_io_queue_bytes(queue) == bytes);
    memory = aligned(8192);
    OK(vyre_io_buffer_from_memory(memory, 8192, release, memory, &buffer, &error));
    CHECK(vyre_io_buffer_data(buffer) == memory);
    OK(vyre_io_buffer_table_new(&buffers, &error));
    OK(vyre_io_buffer_table_insert(buffers, buffer, &pool, &error));
    io = loop_with(NULL, buffers, queue);
    CHECK(vyre_ioq_attach(&device, vyre_io_queue_memory(queue), bytes) == VYRE_IOQ_ATTACH_OK);
    CHECK(vyre_ioq_submit(&device, &fence, &slot) == VYRE_IOQ_OK);
    CHECK(vyre_ioq_wait(&device, slot, &limits, &outcome, NULL) == VYRE_IOQ_OK);
    CHECK(outcome.status == VYRE_IOQ_STATUS_OK);
    vyre_io_buffer_free(buffer);
    vyre_io_buffer_table_free(buffers);
    vyre_io_queue_free(queue);
    CHECK(released == 0);
    vyre_io_loop_free(io);
    CHECK(released == 2);
}

/* ---- Handles and limits of one queue ---- */

static enum vyre_ioq_result perform(struct vyre_ioq_queue *device, const struct vyre_ioq_request *request,
                                    struct vyre_ioq_outcome *outcome)
{
    const struct vyre_ioq_wait_limits limits = { 30000000000u, 0 };
    uint32_t slot;
    const enum vyre_ioq_result submitted = vyre_ioq_submit(device, request, &slot);
    return submitted != VYRE_IOQ_OK ? submitted : vyre_ioq_wait(device, slot, &limits, outcome, NULL);
}

static void what_belongs_to_one_queue(void)
{
    static struct vyre_ioq_queue devices[2];
    struct vyre_ioq_outcome outcome;
    struct vyre_ioq_request request;
    struct vyre_io_queue *queues[2];
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *memory;
    struct vyre_io_loop *io;
    uint32_t file, pool, live, other;
    uint64_t number;
    size_t i;
    char path[] = "/tmp/vyre-io-misuse-XXXXXX";
    const int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && write(fd, "0123456789abcdef", 16) == 16);

    OK(vyre_io_file_table_new(&files, &error));
    OK(vyre_io_file_table_insert_for(files, 0, fd, 0, VYRE_IO_TO_THE_END, VYRE_IO_RIGHT_READ, &file, &error));
    OK(vyre_io_buffer_anonymous(4096, &memory, &error));
    OK(vyre_io_buffer_table_new(&buffers, &error));
    OK(vyre_io_buffer_table_insert_for(buffers, VYRE_IO_ANY_QUEUE, memory, 0, VYRE_IO_TO_THE_END,
                                       VYRE_IO_RIGHT_WRITE, &pool, &error));
    for (i = 0; i < 2; i++) {
        OK(vyre_io_queue_new(4, 0, 0, &queues[i], &error));
        CHECK(vyre_ioq_attach(&devices[i], vyre_io_queue_memory(queues[i]), vyre_io_queue_bytes(queues[i])) ==
              VYRE_IOQ_ATTACH_OK);
    }
    OK(vyre_io_queue_set_limits(queues[0], 1000000, UINT64_MAX, 1, 4096, &error));
    io = loop_with(files, buffers, queues[0]);
    FAILS(QUEUE_USED, vyre_io_queue_set_limits(queues[0], 1, 1, 1, 1, &error),
          vyre_io_queue_set_limits(queues[0], 1, 1, 1, 1, NULL));
    OK(vyre_io_loop_add_queue(io, queues[1], &number, &error));
    CHECK(number == 1);
    OK(vyre_io_loop_set_queue_limits(io, 1, UINT64_MAX, 100000000, UINT32_MAX, UINT64_MAX, &error));
    FAILS(UNKNOWN_QUEUE, vyre_io_loop_set_queue_limits(io, 2, 1, 1, 1, 1, &error),
          vyre_io_loop_set_queue_limits(io, 3, 1, 1, 1, 1, NULL));
    OK(vyre_io_loop_insert_file_for(io, 1, fd, 0, VYRE_IO_TO_THE_END, VYRE_IO_RIGHT_READ, &live, &error));
    OK(vyre_io_loop_insert_buffer_for(io, 1, memory, 0, VYRE_IO_TO_THE_END, VYRE_IO_RIGHT_WRITE, &other, &error));
    for (i = 0; i < 2; i++) {
        /* The file of the table is for queue 0; the file and the buffer that were added are for queue 1. */
        request = vyre_ioq_prep_read(file, 0, 16, pool, 0);
        CHECK(perform(&devices[i], &request, &outcome) == VYRE_IOQ_OK);
        CHECK(outcome.count == (i == 0 ? 16 : VYRE_IOQ_ERRNO_EBADF));
        request = vyre_ioq_prep_read(live, 0, 16, pool, 0);
        CHECK(perform(&devices[i], &request, &outcome) == VYRE_IOQ_OK);
        CHECK(outcome.count == (i == 1 ? 16 : VYRE_IOQ_ERRNO_EBADF));
        request = vyre_ioq_prep_read(i == 0 ? file : live, 0, 16, other, 0);
        CHECK(perform(&devices[i], &request, &outcome) == VYRE_IOQ_OK);
        CHECK(outcome.count == (i == 1 ? 16 : VYRE_IOQ_ERRNO_EBADF));
    }
    vyre_io_loop_free(io);
    for (i = 0; i < 2; i++) {
        vyre_io_queue_free(queues[i]);
    }
    vyre_io_buffer_table_free(buffers);
    vyre_io_buffer_free(memory);
    vyre_io_file_table_free(files);
    close(fd);
}

/* ---- Wake-ups, guards and forks ---- */

static void wakers_and_guards(void)
{
    struct vyre_io_loop_options *options;
    struct vyre_io_loop_builder *builder;
    struct vyre_io_active_guard *first, *second;
    struct vyre_io_loop *io;
    struct vyre_io_report report;

    OK(vyre_io_loop_options_new(&options, &error));
    OK(vyre_io_loop_options_set_rung_by(options, VYRE_IO_MEANS_WAKER, &error));
    OK(vyre_io_loop_options_set_doorbell(options, 10, 50000000, &error));
    OK(vyre_io_loop_options_set_live_entries(options, 1, &error));
    OK(vyre_io_loop_options_set_abort_timeout(options, 1000000000, &error));
    OK(vyre_io_loop_builder_new(&builder, &error));
    OK(vyre_io_loop_builder_options(builder, options, &error));
    OK(vyre_io_loop_builder_name(builder, "a-loop", &error));
    OK(vyre_io_loop_builder_spawn(builder, &io, &error));
    OK(vyre_io_loop_get_report(io, &report, sizeof(report), &error));
    CHECK(report.transport == VYRE_IO_TRANSPORT_THREADS || vyre_io_loop_wake_fd(io) >= 0);
    {
        char path[64], name[16] = "";
        FILE *comm;
        snprintf(path, sizeof(path), "/proc/self/task/%u/comm", vyre_io_loop_thread_id(io));
        comm = fopen(path, "r");
        CHECK(comm != NULL && fgets(name, sizeof(name), comm) != NULL && strcmp(name, "a-loop\n") == 0);
        fclose(comm);
    }
    vyre_io_loop_wake(io);
    OK(vyre_io_loop_active(io, &first, &error));
    OK(vyre_io_loop_active(io, &second, &error));
    vyre_io_active_guard_free(first);
    {
        uint32_t handle;
        OK(vyre_io_loop_insert_file(io, 0, 0, VYRE_IO_TO_THE_END, 0, &handle, &error));
        CHECK(vyre_io_loop_insert_file(io, 0, 0, VYRE_IO_TO_THE_END, 0, &handle, &error) == VYRE_IO_RESULT_NO_ROOM);
    }
    OK(vyre_io_loop_stop(io, &error));
    CHECK(vyre_io_loop_active(io, &first, &error) == VYRE_IO_RESULT_ENDED && first == NULL);
    vyre_io_loop_free(io);
    vyre_io_active_guard_free(second);
    vyre_io_loop_builder_free(builder);
    vyre_io_loop_options_free(options);
}

static void a_fork_has_no_loop(void)
{
    struct vyre_io_loop *io = loop_with(NULL, NULL, NULL);
    int status = 0, ends[2];
    char answer = 'n';
    pid_t child;
    CHECK(pipe(ends) == 0);
    child = fork();
    if (child == 0) {
        const int right = !vyre_io_loop_is_running(io) && vyre_io_loop_stop(io, NULL) == VYRE_IO_RESULT_FORKED;
        vyre_io_loop_free(io);
        if (right && write(ends[1], "y", 1) != 1) {
            abort();
        }
        /* At an exit, tools would look for the memory of the loop's thread, which the fork does not have. */
        kill(getpid(), SIGKILL);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    close(ends[1]);
    CHECK(read(ends[0], &answer, 1) == 1 && answer == 'y');
    close(ends[0]);
    CHECK(vyre_io_loop_is_running(io));
    OK(vyre_io_loop_stop(io, &error));
    vyre_io_loop_free(io);
}

int main(void)
{
    null_is_named();
    null_is_named_for_gpus();
    arguments_are_checked();
    queues_are_used_once();
    a_bad_place_removes_nothing();
    structs_may_grow();
    a_stop_does_not_overtake();
    memory_is_released_once();
    what_belongs_to_one_queue();
    wakers_and_guards();
    a_fork_has_no_loop();
    printf("%d checks\n", checks);
    return 0;
}
