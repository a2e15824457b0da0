/* Uses each function of vyre_io_client.h. Compiled as C and as C++ under every standard.
 *
 *   golden   prints the golden messages, as the header writes them
 *   echo     reads messages in hexadecimal, one a line, and prints them as it has read and written them
 *   read     is a client on the socket that is its standard input
 *   wait MS  waits on such a socket for an outcome that never comes, and says how the wait ended */

#include "vyre_io_client.h"

#include <stdio.h>
#include <stdlib.h>

static void print(const char *name, unsigned char *bytes, uint16_t kind, uint32_t id, size_t body)
{
    size_t at;
    vyre_io_msg_put_header(bytes, kind, id, body);
    printf("%s", name);
    for (at = 0; at < VYRE_IO_MSG_HEADER_BYTES + body; at++) {
        printf(" %02x", bytes[at]);
    }
    printf("\n");
}

static unsigned char packet[VYRE_IO_MSG_MESSAGE_BYTES];
static unsigned char *const body = packet + VYRE_IO_MSG_HEADER_BYTES;

static void golden_requests(void)
{
    const struct vyre_io_msg_hello hello = { 1, 0, 1, "reader" };
    const struct vyre_io_msg_list list = { 0 };
    const struct vyre_io_msg_queue queue = { 64, 3 };
    const struct vyre_io_msg_buffer buffer = { 65536, 1 };
    const struct vyre_io_msg_open open_file = { 1, 1, "weights" };
    const struct vyre_io_msg_close_file close_file = { 1, 0x01020304 };
    const struct vyre_io_msg_close_buffer close_buffer = { 1, 0x05060708 };
    const struct vyre_io_msg_close_queue close_queue = { 1 };
    const struct vyre_io_msg_status status = { 0 };
    print("HELLO", packet, VYRE_IO_MSG_KIND_HELLO, 1, vyre_io_msg_put_hello(body, &hello));
    print("LIST", packet, VYRE_IO_MSG_KIND_LIST, 2, vyre_io_msg_put_list(body, &list));
    print("QUEUE", packet, VYRE_IO_MSG_KIND_QUEUE, 3, vyre_io_msg_put_queue(body, &queue));
    print("BUFFER", packet, VYRE_IO_MSG_KIND_BUFFER, 4, vyre_io_msg_put_buffer(body, &buffer));
    print("OPEN", packet, VYRE_IO_MSG_KIND_OPEN, 5, vyre_io_msg_put_open(body, &open_file));
    print("CLOSE_FILE", packet, VYRE_IO_MSG_KIND_CLOSE_FILE, 6, vyre_io_msg_put_close_file(body, &close_file));
    print("CLOSE_BUFFER", packet, VYRE_IO_MSG_KIND_CLOSE_BUFFER, 7, vyre_io_msg_put_close_buffer(body, &close_buffer));
    print("CLOSE_QUEUE", packet, VYRE_IO_MSG_KIND_CLOSE_QUEUE, 8, vyre_io_msg_put_close_queue(body, &close_queue));
    print("STATUS", packet, VYRE_IO_MSG_KIND_STATUS, 9, vyre_io_msg_put_status(body, &status));
    print("GOODBYE", packet, VYRE_IO_MSG_KIND_GOODBYE, 10, 0);
}

static void golden_replies(void)
{
    const struct vyre_io_msg_welcome welcome = {
        1, 0, 1, 7, 4, 1024, 256, 32, 268435456, 1000, 10000000, UINT64_MAX, 16, 2,
    };
    const struct vyre_io_msg_page_head files = { 0, 2, VYRE_IO_MSG_FILE_ENTRY_BYTES };
    const struct vyre_io_msg_file_entry weights = { 4096, 8192, 1, 1, "weights" };
    const struct vyre_io_msg_file_entry whole = { 0, UINT64_MAX, 3, 512, "gr\xc3\xb6\xc3\x9f"
                                                                      "e" };
    const struct vyre_io_msg_queue_is queue_is = { 1, 64, 8192, 3, 1, 2 };
    const struct vyre_io_msg_buffer_is buffer_is = { 65536, 0x05060708 };
    const struct vyre_io_msg_file_is file_is = { 0x01020304, 1, 4096, 8192, 1000, 1 };
    const struct vyre_io_msg_page_head peers = { 8, 1, VYRE_IO_MSG_PEER_STATUS_BYTES };
    const struct vyre_io_msg_peer_status peer = {
        7, 1500, 65536, 10, 8, 2, 4096, 512, 1, 3, 1234, 1000, 1, 1, 1, 0, "reader",
    };
    const struct vyre_io_msg_refused refused = { VYRE_IO_MSG_CODE_NO_SUCH_FILE, 1, 0, "no such file" };
    size_t len;
    print("WELCOME", packet, VYRE_IO_MSG_KIND_WELCOME, 1, vyre_io_msg_put_welcome(body, &welcome));
    len = vyre_io_msg_put_page_head(body, &files);
    len += vyre_io_msg_put_file_entry(body + len, &weights);
    len += vyre_io_msg_put_file_entry(body + len, &whole);
    print("FILES", packet, VYRE_IO_MSG_KIND_FILES, 2, len);
    print("QUEUE_IS", packet, VYRE_IO_MSG_KIND_QUEUE_IS, 3, vyre_io_msg_put_queue_is(body, &queue_is));
    print("BUFFER_IS", packet, VYRE_IO_MSG_KIND_BUFFER_IS, 4, vyre_io_msg_put_buffer_is(body, &buffer_is));
    print("FILE_IS", packet, VYRE_IO_MSG_KIND_FILE_IS, 5, vyre_io_msg_put_file_is(body, &file_is));
    print("DONE", packet, VYRE_IO_MSG_KIND_DONE, 6, 0);
    len = vyre_io_msg_put_page_head(body, &peers);
    len += vyre_io_msg_put_peer_status(body + len, &peer);
    print("STATUS_IS", packet, VYRE_IO_MSG_KIND_STATUS_IS, 9, len);
    print("REFUSED", packet, VYRE_IO_MSG_KIND_REFUSED, 5, vyre_io_msg_put_refused(body, &refused));
}

#define AGAIN(name)                                                                                             \
    do {                                                                                                        \
        struct vyre_io_msg_##name value;                                                                            \
        return vyre_io_msg_get_##name(body, have, &value) ? vyre_io_msg_put_##name(body, &value) : (size_t)-1;          \
    } while (0)

/* Reads the entries of a page and writes them anew. */
#define PAGE(name, least)                                                                                       \
    do {                                                                                                        \
        struct vyre_io_msg_page_head head;                                                                          \
        struct vyre_io_msg_##name value;                                                                            \
        size_t at;                                                                                              \
        if (!vyre_io_msg_get_page_head(body, have, &head) || !vyre_io_msg_page_fits(&head, have, least)) {              \
            return (size_t)-1;                                                                                  \
        }                                                                                                       \
        for (at = 0; at < head.count; at++) {                                                                   \
            unsigned char *entry = body + have - (head.count - at) * (size_t)head.entry_bytes;                  \
            if (!vyre_io_msg_get_##name(entry, head.entry_bytes, &value)) {                                         \
                return (size_t)-1;                                                                              \
            }                                                                                                   \
            vyre_io_msg_put_##name(entry, &value);                                                                  \
        }                                                                                                       \
        return have;                                                                                            \
    } while (0)

/* Returns the bytes of the body that was written anew; all bits set if it is malformed. */
static size_t again(uint16_t kind, size_t have)
{
    switch (kind) {
    case VYRE_IO_MSG_KIND_HELLO:
        AGAIN(hello);
    case VYRE_IO_MSG_KIND_LIST:
        AGAIN(list);
    case VYRE_IO_MSG_KIND_QUEUE:
        AGAIN(queue);
    case VYRE_IO_MSG_KIND_BUFFER:
        AGAIN(buffer);
    case VYRE_IO_MSG_KIND_OPEN:
        AGAIN(open);
    case VYRE_IO_MSG_KIND_CLOSE_FILE:
        AGAIN(close_file);
    case VYRE_IO_MSG_KIND_CLOSE_BUFFER:
        AGAIN(close_buffer);
    case VYRE_IO_MSG_KIND_CLOSE_QUEUE:
        AGAIN(close_queue);
    case VYRE_IO_MSG_KIND_STATUS:
        AGAIN(status);
    case VYRE_IO_MSG_KIND_WELCOME:
        AGAIN(welcome);
    case VYRE_IO_MSG_KIND_QUEUE_IS:
        AGAIN(queue_is);
    case VYRE_IO_MSG_KIND_BUFFER_IS:
        AGAIN(buffer_is);
    case VYRE_IO_MSG_KIND_FILE_IS:
        AGAIN(file_is);
    case VYRE_IO_MSG_KIND_REFUSED:
        AGAIN(refused);
    case VYRE_IO_MSG_KIND_FILES:
        PAGE(file_entry, VYRE_IO_MSG_FILE_ENTRY_BYTES);
    case VYRE_IO_MSG_KIND_STATUS_IS:
        PAGE(peer_status, VYRE_IO_MSG_PEER_STATUS_BYTES);
    case VYRE_IO_MSG_KIND_GOODBYE:
    case VYRE_IO_MSG_KIND_DONE:
        return 0;
    default:
        return (size_t)-1;
    }
}

static int echo(void)
{
    static char line[3 * VYRE_IO_MSG_MESSAGE_BYTES + 16];
    while (fgets(line, (int)sizeof(line), stdin) != NULL) {
        char *from = line, *end;
        uint16_t kind;
        uint32_t id;
        size_t len = 0, wrote;
        for (;;) {
            const unsigned long byte = strtoul(from, &end, 16);
            if (end == from || len == sizeof(packet)) {
                break;
            }
            packet[len++] = (unsigned char)byte;
            from = end;
        }
        wrote = vyre_io_msg_get_header(packet, len, &kind, &id) ? again(kind, len - VYRE_IO_MSG_HEADER_BYTES) : (size_t)-1;
        if (wrote == (size_t)-1) {
            printf("malformed\n");
        } else {
            print("again", packet, kind, id, wrote);
        }
    }
    return 0;
}

static int failed(const char *what, enum vyre_io_client_result result)
{
    fprintf(stderr, "%s: %s\n", what, vyre_io_client_result_name(result));
    return 1;
}

#define MUST(call)                                                                                              \
    do {                                                                                                        \
        const enum vyre_io_client_result must = (call);                                                         \
        if (must != VYRE_IO_CLIENT_OK) {                                                                        \
            return failed(#call, must);                                                                         \
        }                                                                                                       \
    } while (0)

static void count(void *context, const struct vyre_io_msg_file_entry *file)
{
    int *files = (int *)context;
    *files += strcmp(file->name, "numbers") == 0;
}

static struct vyre_io_client client;
static struct vyre_io_client_queue queue;

static int is_read(uint32_t file, uint64_t offset, const struct vyre_io_client_buffer *buffer, uint32_t errno_value)
{
    const struct vyre_ioq_request request = vyre_ioq_prep_read(file, offset, 1000, buffer->handle, 24);
    const unsigned char *bytes = (const unsigned char *)buffer->memory + 24;
    struct vyre_ioq_outcome outcome;
    uint32_t slot, at;
    if (vyre_ioq_submit(&queue.queue, &request, &slot) != VYRE_IOQ_OK ||
        vyre_io_client_wait(&client, &queue, slot, 60000000000u, &outcome) != VYRE_IOQ_OK) {
        return 0;
    }
    if (errno_value != 0) {
        return outcome.status == VYRE_IOQ_STATUS_ERROR && outcome.count == errno_value;
    }
    for (at = 0; at < 1000; at++) {
        const uint64_t place = offset + at;
        if (bytes[at] != (unsigned char)(place / 7 + place % 251)) {
            return 0;
        }
    }
    return outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 1000;
}

static int read_file(void)
{
    struct vyre_io_client_buffer buffer;
    struct vyre_io_msg_file_is file;
    enum vyre_io_client_result result;
    int files = 0;
    MUST(vyre_io_client_take_socket(&client, 0, "C", 60000));
    MUST(vyre_io_client_list(&client, count, &files));
    MUST(vyre_io_client_make_queue(&client, 4, VYRE_IOQ_FEATURE_WAKE, &queue));
    MUST(vyre_io_client_make_buffer(&client, &queue, 5000, &buffer));
    MUST(vyre_io_client_open(&client, &queue, "numbers", VYRE_IO_MSG_RIGHT_READ, &file));
    if (files != 1 || client.welcome.peer != 7 || file.length != 16384 ||
        !is_read(file.handle, 0, &buffer, 0) || !is_read(file.handle, 15384, &buffer, 0)) {
        return 2;
    }
    result = vyre_io_client_open(&client, &queue, "secrets", 0, &file);
    if (result != VYRE_IO_CLIENT_REFUSED || client.refused.code != VYRE_IO_MSG_CODE_NO_SUCH_FILE ||
        strcmp(vyre_io_msg_code_name(client.refused.code), "NO_SUCH_FILE") != 0) {
        return 3;
    }
    MUST(vyre_io_client_open(&client, &queue, "numbers", 0, &file));
    MUST(vyre_io_client_close_file(&client, &queue, &file));
    if (!is_read(file.handle, 0, &buffer, VYRE_IOQ_ERRNO_EBADF) || vyre_io_client_is_host_gone(&client)) {
        return 4;
    }
    MUST(vyre_io_client_close_buffer(&client, &buffer));
    MUST(vyre_io_client_close_queue(&client, &queue));
    MUST(vyre_io_client_goodbye(&client));
    return vyre_io_client_is_host_gone(&client) ? 0 : 5;
}

static int wait_for_nothing(const char *milliseconds)
{
    const struct vyre_ioq_request request = vyre_ioq_prep_fence();
    const uint64_t limit = strtoull(milliseconds, NULL, 10) * 1000000u;
    struct vyre_ioq_outcome outcome;
    uint32_t slot;
    MUST(vyre_io_client_take_socket(&client, 0, "C", 60000));
    MUST(vyre_io_client_make_queue(&client, 4, 0, &queue));
    if (vyre_ioq_submit(&queue.queue, &request, &slot) != VYRE_IOQ_OK) {
        return 2;
    }
    printf("waiting\n");
    fflush(stdout);
    printf("%s\n", vyre_ioq_result_name(vyre_io_client_wait(&client, &queue, slot, limit, &outcome)));
    vyre_io_client_close(&client);
    return 0;
}

int main(int words, char **word)
{
    const char *mode = words > 1 ? word[1] : "golden";
    if (strcmp(mode, "echo") == 0) {
        return echo();
    }
    if (strcmp(mode, "read") == 0) {
        return read_file();
    }
    if (strcmp(mode, "wait") == 0 && words > 2) {
        return wait_for_nothing(word[2]);
    }
    if (strcmp(mode, "connect") == 0 && words > 2) {
        const enum vyre_io_client_result result = vyre_io_client_connect(&client, word[2], "C", 1000);
        printf("%s\n", vyre_io_client_result_name(result));
        vyre_io_client_close(&client);
        return 0;
    }
    golden_requests();
    golden_replies();
    return 0;
}
