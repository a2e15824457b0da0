/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads the start of a file through a queue that this program hosts, and writes it to standard output.
 *
 *   read_file FILE [BYTES]
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

/* Ends the program if a call failed. */
static void check(enum vyre_io_result result, const struct vyre_io_error *error)
{
    if (result != VYRE_IO_RESULT_OK) {
        fprintf(stderr, "read_file: %s\n", error->message);
        exit(1);
    }
}

/* The device: another process or a GPU kernel would do the same. Returns the number of bytes, or ends the program. */
static size_t read_block(struct vyre_ioq_queue *queue, uint32_t file, uint32_t pool, uint32_t count)
{
    const struct vyre_ioq_wait_limits limits = { 30000000000u, 2000000000u };
    const struct vyre_ioq_request request = vyre_ioq_prep_read(file, 0, count, pool, 0);
    struct vyre_ioq_outcome outcome;
    uint32_t slot;

    if (vyre_ioq_submit(queue, &request, &slot) != VYRE_IOQ_OK ||
        vyre_ioq_wait(queue, slot, &limits, &outcome, NULL) != VYRE_IOQ_OK) {
        fprintf(stderr, "read_file: the host does not answer\n");
        exit(1);
    }
    if (outcome.status != VYRE_IOQ_STATUS_OK) {
        fprintf(stderr, "read_file: %s\n", strerror((int)outcome.count));
        exit(1);
    }
    return outcome.count;
}

int main(int argc, char **argv)
{
    static struct vyre_ioq_queue device;
    struct vyre_io_file_table *files;
    struct vyre_io_buffer_table *buffers;
    struct vyre_io_buffer *memory;
    struct vyre_io_queue *queue;
    struct vyre_io_loop_builder *builder;
    struct vyre_io_loop *io;
    struct vyre_io_error error;
    uint32_t file, pool;
    size_t moved;
    const uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 4096;
    const int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0) {
        fprintf(stderr, "read_file: %s\n", argc > 1 ? strerror(errno) : "give the name of a file");
        return 1;
    }
    /* What devices may name: one file to read, and one buffer to read it into. */
    check(vyre_io_file_table_new(&files, &error), &error);
    check(vyre_io_file_table_insert(files, fd, VYRE_IO_RIGHT_READ, &file, &error), &error);
    check(vyre_io_buffer_anonymous(count, &memory, &error), &error);
    check(vyre_io_buffer_table_new(&buffers, &error), &error);
    check(vyre_io_buffer_table_insert(buffers, memory, &pool, &error), &error);

    /* A queue, and the thread that serves it. */
    check(vyre_io_queue_new(64, VYRE_IO_QUEUE_DOORBELL, 0, &queue, &error), &error);
    check(vyre_io_loop_builder_new(&builder, &error), &error);
    check(vyre_io_loop_builder_files(builder, files, &error), &error);
    check(vyre_io_loop_builder_buffers(builder, buffers, &error), &error);
    check(vyre_io_loop_builder_queue(builder, queue, &error), &error);
    check(vyre_io_loop_builder_spawn(builder, &io, &error), &error);

    if (vyre_ioq_attach(&device, vyre_io_queue_memory(queue), vyre_io_queue_bytes(queue)) != VYRE_IOQ_ATTACH_OK) {
        fprintf(stderr, "read_file: no queue\n");
        return 1;
    }
    moved = read_block(&device, file, pool, count);
    fwrite(vyre_io_buffer_data(memory), 1, moved, stdout);

    check(vyre_io_loop_stop(io, &error), &error);
    vyre_io_loop_free(io);
    vyre_io_loop_builder_free(builder);
    vyre_io_queue_free(queue);
    vyre_io_buffer_free(memory);
    vyre_io_buffer_table_free(buffers);
    vyre_io_file_table_free(files);
    close(fd);
    return fflush(stdout) == 0 ? 0 : 1;
}
