/* A peer of `vyre-io serve` in C. Its argument is the socket. Reads 4,000 bytes from byte 96 of "weights" and prints
 * them, writes them to the start of "scratch", and says goodbye. Exits with 0, or says what failed. */

#include "vyre_io_client.h"

#include <stdio.h>

#define BYTES 4000u
#define SKIPPED 96u

static struct vyre_io_client client;
static struct vyre_io_client_queue queue;
static struct vyre_io_client_buffer buffer;

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, client.refused.text);
    return 1;
}

/* Performs a request. Sleeps until its outcome is there. */
static int is_done(struct vyre_ioq_request request, uint32_t count)
{
    const uint64_t timeout_ns = UINT64_C(30000000000);
    struct vyre_ioq_outcome outcome;
    uint32_t slot;
    return vyre_ioq_submit(&queue.queue, &request, &slot) == VYRE_IOQ_OK &&
           vyre_io_client_wait(&client, &queue, slot, timeout_ns, &outcome) == VYRE_IOQ_OK &&
           outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == count;
}

static void count_file(void *context, const struct vyre_io_msg_file_entry *file)
{
    (void)file;
    ++*(int *)context;
}

int main(int count, char **words)
{
    struct vyre_io_msg_file_is weights, scratch, none;
    int files = 0;
    if (count < 2 || vyre_io_client_connect(&client, words[1], "C", 30000) != VYRE_IO_CLIENT_OK) {
        return failed("no welcome");
    }
    if (vyre_io_client_list(&client, count_file, &files) != VYRE_IO_CLIENT_OK || files != 2) {
        return failed("the list of files");
    }
    if (vyre_io_client_make_queue(&client, 4, VYRE_IOQ_FEATURE_WAKE, &queue) != VYRE_IO_CLIENT_OK ||
        vyre_io_client_make_buffer(&client, &queue, 8192, &buffer) != VYRE_IO_CLIENT_OK) {
        return failed("a queue and a buffer");
    }
    if (vyre_io_client_open(&client, &queue, "nothing", 0, &none) != VYRE_IO_CLIENT_REFUSED ||
        client.refused.code != VYRE_IO_MSG_CODE_NO_SUCH_FILE) {
        return failed("a file that is not served");
    }
    if (vyre_io_client_open(&client, &queue, "weights", VYRE_IO_MSG_RIGHT_WRITE, &none) != VYRE_IO_CLIENT_REFUSED ||
        client.refused.code != VYRE_IO_MSG_CODE_NOT_PERMITTED) {
        return failed("a right that is not given");
    }
    if (vyre_io_client_open(&client, &queue, "weights", 0, &weights) != VYRE_IO_CLIENT_OK ||
        vyre_io_client_open(&client, &queue, "scratch", 0, &scratch) != VYRE_IO_CLIENT_OK) {
        return failed("the files");
    }
    if (!is_done(vyre_ioq_prep_read(weights.handle, SKIPPED, BYTES, buffer.handle, 64), BYTES) ||
        !is_done(vyre_ioq_prep_write(scratch.handle, 0, BYTES, buffer.handle, 64), BYTES) ||
        !is_done(vyre_ioq_prep_sync(scratch.handle), 0)) {
        return failed("the transfers");
    }
    fwrite((const unsigned char *)buffer.memory + 64, 1, BYTES, stdout);
    if (vyre_io_client_close_file(&client, &queue, &weights) != VYRE_IO_CLIENT_OK ||
        vyre_io_client_close_buffer(&client, &buffer) != VYRE_IO_CLIENT_OK ||
        vyre_io_client_close_queue(&client, &queue) != VYRE_IO_CLIENT_OK ||
        vyre_io_client_goodbye(&client) != VYRE_IO_CLIENT_OK) {
        return failed("the end");
    }
    vyre_io_client_close(&client);
    return 0;
}
