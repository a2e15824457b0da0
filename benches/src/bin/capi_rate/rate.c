/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The host and the device in C: random reads of 4 KiB of a file, 32 in flight. Prints the reads of a second.
 *
 *   rate FILE SECONDS LOOP_CORE LANE_CORE
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

enum { BLOCK = 4096, DEPTH = 32 };

static void check(enum vyre_io_result result, const struct vyre_io_error *error)
{
    if (result != VYRE_IO_RESULT_OK) {
        fprintf(stderr, "rate: %s\n", error->message);
        exit(1);
    }
}

/* The same generator as in Rust: xorshift of 64 bits. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double reads(struct vyre_ioq_queue *device, uint32_t file, uint32_t pool, uint64_t blocks, uint64_t ns)
{
    const uint64_t begun = vyre_ioq_priv_now_ns();
    uint64_t state = 0x9e3779b97f4a7c15u, done = 0, now = begun;
    uint32_t slots[DEPTH], i;
    struct vyre_ioq_outcome outcome;
    for (i = 0; i < DEPTH; i++) {
        const struct vyre_ioq_request request =
            vyre_ioq_prep_read(file, next(&state) % blocks * BLOCK, BLOCK, pool, (uint64_t)i * BLOCK);
        if (vyre_ioq_submit(device, &request, &slots[i]) != VYRE_IOQ_OK) {
            exit(1);
        }
    }
    while (now - begun < ns) {
        for (i = 0; i < DEPTH; i++) {
            const struct vyre_ioq_request request =
                vyre_ioq_prep_read(file, next(&state) % blocks * BLOCK, BLOCK, pool, (uint64_t)i * BLOCK);
            while (vyre_ioq_take(device, slots[i], &outcome) != VYRE_IOQ_OK) {
                vyre_ioq_priv_cpu_relax();
            }
            if (outcome.status != VYRE_IOQ_STATUS_OK || outcome.count != BLOCK ||
                vyre_ioq_submit(device, &request, &slots[i]) != VYRE_IOQ_OK) {
                fprintf(stderr, "rate: a read failed\n");
                exit(1);
            }
            done++;
        }
        now = vyre_ioq_priv_now_ns();
    }
    return (double)done * 1e9 / (double)(now - begun);
}

int main(int argc, char **argv)
{
    static struct vyre_ioq_queue device;
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *memory;
    struct vyre_io_queue *queue;
    struct vyre_io_loop_options *options;
    struct vyre_io_loop_builder *builder;
    struct vyre_io_loop *io;
    struct vyre_io_error error;
    struct stat found;
    uint32_t file, pool;
    cpu_set_t core;
    const int fd = argc == 5 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &found) != 0) {
        fprintf(stderr, "usage: rate FILE SECONDS LOOP_CORE LANE_CORE\n");
        return 2;
    }
    check(vyre_io_file_table_new(&files, &error), &error);
    check(vyre_io_file_table_insert(files, fd, VYRE_IO_RIGHT_READ, &file, &error), &error);
    check(vyre_io_buffer_anonymous(DEPTH * BLOCK, &memory, &error), &error);
    check(vyre_io_buffer_table_new(&buffers, &error), &error);
    check(vyre_io_buffer_table_insert(buffers, memory, &pool, &error), &error);
    check(vyre_io_queue_new(64, 0, 0, &queue, &error), &error);
    check(vyre_io_loop_options_new(&options, &error), &error);
    check(vyre_io_loop_options_set_spin(options, &error), &error);
    check(vyre_io_loop_builder_new(&builder, &error), &error);
    check(vyre_io_loop_builder_files(builder, files, &error), &error);
    check(vyre_io_loop_builder_buffers(builder, buffers, &error), &error);
    check(vyre_io_loop_builder_queue(builder, queue, &error), &error);
    check(vyre_io_loop_builder_options(builder, options, &error), &error);
    check(vyre_io_loop_builder_pin_to(builder, (uint32_t)atoi(argv[3]), &error), &error);
    check(vyre_io_loop_builder_spawn(builder, &io, &error), &error);
    CPU_ZERO(&core);
    CPU_SET((size_t)atoi(argv[4]), &core);
    if (sched_setaffinity(0, sizeof(core), &core) != 0 ||
        vyre_ioq_attach(&device, vyre_io_queue_memory(queue), vyre_io_queue_bytes(queue)) != VYRE_IOQ_ATTACH_OK) {
        fprintf(stderr, "rate: no core or no queue\n");
        return 1;
    }
    printf("%.0f\n", reads(&device, file, pool, (uint64_t)found.st_size / BLOCK, (uint64_t)(atof(argv[2]) * 1e9)));
    check(vyre_io_loop_stop(io, &error), &error);
    vyre_io_loop_free(io);
    vyre_io_loop_builder_free(builder);
    vyre_io_loop_options_free(options);
    vyre_io_queue_free(queue);
    vyre_io_buffer_table_free(buffers);
    vyre_io_buffer_free(memory);
    vyre_io_file_table_free(files);
    return 0;
}
