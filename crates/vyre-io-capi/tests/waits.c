/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A device that sleeps until the host wakes it: by the futex, and by a descriptor. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

static struct vyre_io_error error;

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition,   \
                    error.message);                                                       \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

#define OK(call) CHECK((call) == VYRE_IO_RESULT_OK)

/* A loop with one queue and a pipe, whose reads end when the test writes to the other end. */
struct rig {
    struct vyre_io_loop *io;
    struct vyre_io_queue *queue;
    struct vyre_ioq_queue device;
    uint32_t pipe;
    uint32_t pool;
    int writer;
    int event;
};

static void set_up(struct rig *rig, int with_event)
{
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *memory;
    struct vyre_io_loop_builder *builder;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    OK(vyre_io_file_table_new(&files, &error));
    OK(vyre_io_file_table_insert(files, ends[0], VYRE_IO_RIGHT_READ, &rig->pipe, &error));
    OK(vyre_io_buffer_table_new(&buffers, &error));
    OK(vyre_io_buffer_anonymous(4096, &memory, &error));
    OK(vyre_io_buffer_table_insert(buffers, memory, &rig->pool, &error));
    OK(vyre_io_queue_new(8, VYRE_IO_QUEUE_WAKE | VYRE_IO_QUEUE_DOORBELL, 0, &rig->queue, &error));
    rig->event = -1;
    if (with_event) {
        OK(vyre_io_queue_event(rig->queue, &rig->event, &error));
        CHECK(rig->event >= 0);
    }
    OK(vyre_io_loop_builder_new(&builder, &error));
    OK(vyre_io_loop_builder_files(builder, files, &error));
    OK(vyre_io_loop_builder_buffers(builder, buffers, &error));
    OK(vyre_io_loop_builder_queue(builder, rig->queue, &error));
    OK(vyre_io_loop_builder_spawn(builder, &rig->io, &error));
    /* The loop has the host end. */
    CHECK(vyre_io_queue_event(rig->queue, &ends[0], NULL) == VYRE_IO_RESULT_QUEUE_USED && ends[0] == -1);
    rig->writer = ends[1];
    CHECK(vyre_ioq_attach(&rig->device, vyre_io_queue_memory(rig->queue), vyre_io_queue_bytes(rig->queue)) ==
          VYRE_IOQ_ATTACH_OK);
    CHECK(vyre_ioq_expect_wakeups(&rig->device));
    vyre_io_loop_builder_free(builder);
    vyre_io_file_table_free(files);
    vyre_io_buffer_table_free(buffers);
    vyre_io_buffer_free(memory);
}

static void tear_down(struct rig *rig)
{
    OK(vyre_io_loop_stop(rig->io, &error));
    vyre_io_loop_free(rig->io);
    vyre_io_queue_free(rig->queue);
    CHECK(close(rig->writer) == 0);
    if (rig->event >= 0) {
        CHECK(close(rig->event) == 0);
    }
}

static long long nanoseconds(clockid_t clock)
{
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Requests whose outcomes come 100 ms later, and take next to no time of the thread that waits for them. */
static void a_descriptor_becomes_readable(void)
{
    struct rig rig;
    int round;

    set_up(&rig, 1);
    for (round = 0; round < 3; round++) {
        const struct vyre_ioq_request request = vyre_ioq_prep_read(rig.pipe, 0, 7, rig.pool, 0);
        struct vyre_ioq_outcome outcome;
        struct pollfd wait = {rig.event, POLLIN, 0};
        enum vyre_ioq_result result;
        uint64_t count;
        uint32_t slot;
        int looks = 0;

        CHECK(vyre_ioq_submit(&rig.device, &request, &slot) == VYRE_IOQ_OK);
        vyre_ioq_ring_and_wake(&rig.device);
        /* Nothing is there yet, and nothing wakes, except once for the outcome before: the device was armed when it
         * found that one by itself. */
        CHECK(vyre_ioq_poll(&rig.device, slot, &outcome) == VYRE_IOQ_PENDING);
        if (poll(&wait, 1, 20) == 1) {
            CHECK(round > 0 && read(rig.event, &count, sizeof(count)) == sizeof(count) && count == 1);
            CHECK(poll(&wait, 1, 20) == 0);
        }
        for (;;) {
            if (looks == 1) {
                CHECK(write(rig.writer, "seven b", 7) == 7);
            }
            CHECK(read(rig.event, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
            vyre_ioq_arm(&rig.device);
            result = vyre_ioq_poll(&rig.device, slot, &outcome);
            looks++;
            if (result != VYRE_IOQ_PENDING) {
                break;
            }
            /* The first time, nothing comes; then the outcome does. */
            CHECK(poll(&wait, 1, looks == 1 ? 20 : 30000) == (looks == 1 ? 0 : 1));
        }
        CHECK(looks >= 2 && looks <= 4);
        CHECK(result == VYRE_IOQ_OK && outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 7);
        CHECK(vyre_ioq_take(&rig.device, slot, &outcome) == VYRE_IOQ_OK);
    }
    tear_down(&rig);
}

static void a_thread_sleeps_in_wait(void)
{
    const struct vyre_ioq_wait_limits limits = {200000000, 2000000000};
    struct vyre_ioq_outcome outcome;
    struct rig rig;
    uint32_t slot;
    long long used, began;

    set_up(&rig, 0);
    {
        const struct vyre_ioq_request request = vyre_ioq_prep_read(rig.pipe, 0, 7, rig.pool, 0);
        CHECK(vyre_ioq_submit(&rig.device, &request, &slot) == VYRE_IOQ_OK);
    }
    vyre_ioq_ring_and_wake(&rig.device);
    used = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    began = nanoseconds(CLOCK_MONOTONIC);
    CHECK(vyre_ioq_wait(&rig.device, slot, &limits, &outcome, NULL) == VYRE_IOQ_TIMED_OUT);
    used = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - used;
    began = nanoseconds(CLOCK_MONOTONIC) - began;
    /* A spinning wait would use all of it. */
    CHECK(began >= 200000000 && used < began / 2);
    CHECK(write(rig.writer, "seven b", 7) == 7);
    CHECK(vyre_ioq_wait(&rig.device, slot, &limits, &outcome, NULL) == VYRE_IOQ_OK);
    CHECK(outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 7);
    tear_down(&rig);
}

static void a_queue_without_wake_has_no_descriptor(void)
{
    struct vyre_io_queue *queue;
    int fd = 7;

    OK(vyre_io_queue_new(8, VYRE_IO_QUEUE_DOORBELL, 0, &queue, &error));
    CHECK(vyre_io_queue_event(queue, &fd, &error) == VYRE_IO_RESULT_WAKE_NOT_OFFERED && fd == -1);
    CHECK(strstr(error.message, "WAKE") != NULL);
    CHECK(vyre_io_queue_event(NULL, &fd, &error) == VYRE_IO_RESULT_NULL_POINTER && fd == -1);
    CHECK(vyre_io_queue_event(queue, NULL, &error) == VYRE_IO_RESULT_NULL_POINTER);
    vyre_io_queue_free(queue);
    CHECK(vyre_io_queue_new(8, VYRE_IO_QUEUE_BARE | VYRE_IO_QUEUE_WAKE, 0, &queue, &error) ==
          VYRE_IO_RESULT_BAD_ARGUMENT);
}

int main(void)
{
    a_descriptor_becomes_readable();
    a_thread_sleeps_in_wait();
    a_queue_without_wake_has_no_descriptor();
    puts("waits: ok");
    return 0;
}
