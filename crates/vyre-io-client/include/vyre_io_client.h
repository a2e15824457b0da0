/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_io_client.h
 * @brief A client of a server of files: it gets queues, buffers and files over a Unix socket. For processes on Linux.
 *
 * Header-only: C11 or C++14, gcc or clang. It allocates no memory of its own. docs/handshake.md in the repository defines
 * the protocol. Includes vyre_ioq_wait.h, which has the device end of a queue: its folder must be in the include path.
 *
 * A client is for one thread at a time. Requests of a queue need none of these functions.
 */
#ifndef VYRE_IO_CLIENT_H
#define VYRE_IO_CLIENT_H

#include "vyre_io_client_conversation.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Sets the milliseconds after which an answer is given up. */
static inline enum vyre_io_client_result vyre_io_client_set_limit(struct vyre_io_client *client, uint32_t limit_ms)
{
    struct timeval limit;
    limit.tv_sec = (time_t)(limit_ms / 1000);
    limit.tv_usec = limit_ms == 0 ? 1 : (suseconds_t)(limit_ms % 1000) * 1000;
    if (setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
        return VYRE_IO_CLIENT_SYSTEM;
    }
    return VYRE_IO_CLIENT_OK;
}

/**
 * Takes over a connected socket of the type SOCK_SEQPACKET, and greets the server.
 *
 * @param name Name of the client for the server's log; at most VYRE_IO_MSG_NAME_BYTES of UTF-8 without control characters.
 * @param limit_ms Milliseconds after which an answer is given up.
 */
static inline enum vyre_io_client_result vyre_io_client_take_socket(struct vyre_io_client *client, int fd,
                                                                    const char *name, uint32_t limit_ms)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_HELLO_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_hello hello;
    enum vyre_io_client_result result;
    memset(client, 0, sizeof(*client));
    client->fd = fd;
    memset(&hello, 0, sizeof(hello));
    hello.major = VYRE_IO_MSG_MAJOR;
    hello.minor = VYRE_IO_MSG_MINOR;
    hello.features = VYRE_IO_MSG_FEATURE_STATUS;
    if (strlen(name) > VYRE_IO_MSG_NAME_BYTES) {
        return VYRE_IO_CLIENT_TOO_LONG;
    }
    strcpy(hello.name, name);
    result = vyre_io_client_set_limit(client, limit_ms);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    vyre_io_msg_put_hello(bytes + VYRE_IO_MSG_HEADER_BYTES, &hello);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_HELLO, VYRE_IO_MSG_HELLO_BYTES, VYRE_IO_MSG_KIND_WELCOME,
                              &answer);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    if (!vyre_io_msg_get_welcome(answer.bytes + VYRE_IO_MSG_HEADER_BYTES, answer.len - VYRE_IO_MSG_HEADER_BYTES,
                             &client->welcome) ||
        client->welcome.major != VYRE_IO_MSG_MAJOR) {
        return vyre_io_priv_impossible(client);
    }
    return VYRE_IO_CLIENT_OK;
}

/**
 * Connects to the server that listens at a path, and greets it. The other parameters are those of
 * vyre_io_client_take_socket. Call vyre_io_client_close afterwards in any case.
 */
static inline enum vyre_io_client_result vyre_io_client_connect(struct vyre_io_client *client, const char *path,
                                                                const char *name, uint32_t limit_ms)
{
    struct sockaddr_un address;
    memset(client, 0, sizeof(*client));
    client->fd = -1;
    client->broken = 1;
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(address.sun_path)) {
        return VYRE_IO_CLIENT_TOO_LONG;
    }
    strcpy(address.sun_path, path);
    client->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || vyre_io_client_set_limit(client, limit_ms) != VYRE_IO_CLIENT_OK ||
        connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return VYRE_IO_CLIENT_SYSTEM;
    }
    return vyre_io_client_take_socket(client, client->fd, name, limit_ms);
}

/** Closes the connection. The server ends the client's queues. Memory stays mapped. */
static inline void vyre_io_client_close(struct vyre_io_client *client)
{
    if (client->fd >= 0) {
        close(client->fd);
    }
    client->fd = -1;
    client->broken = 1;
}

/** Returns 1 if the server has closed the connection: it ended, or was killed; else 0. */
static inline int vyre_io_client_is_host_gone(const struct vyre_io_client *client)
{
    struct pollfd polled;
    polled.fd = client->fd;
    polled.events = 0;
    polled.revents = 0;
    return client->fd < 0 || (poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0);
}

/**
 * Calls a function for each file that the server offers.
 *
 * @param visit Gets each file, and `context`.
 */
static inline enum vyre_io_client_result
vyre_io_client_list(struct vyre_io_client *client, void (*visit)(void *context, const struct vyre_io_msg_file_entry *file),
                    void *context)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_LIST_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_page_head head;
    struct vyre_io_msg_file_entry file;
    struct vyre_io_msg_list list;
    enum vyre_io_client_result result;
    size_t room, at;
    list.cursor = 0;
    do {
        vyre_io_msg_put_list(bytes + VYRE_IO_MSG_HEADER_BYTES, &list);
        result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_LIST, VYRE_IO_MSG_LIST_BYTES, VYRE_IO_MSG_KIND_FILES,
                                  &answer);
        if (result != VYRE_IO_CLIENT_OK) {
            return result;
        }
        room = answer.len - VYRE_IO_MSG_HEADER_BYTES;
        if (!vyre_io_msg_get_page_head(answer.bytes + VYRE_IO_MSG_HEADER_BYTES, room, &head) ||
            (head.next != 0 && head.next <= list.cursor) || !vyre_io_msg_page_fits(&head, room, VYRE_IO_MSG_FILE_ENTRY_BYTES)) {
            return vyre_io_priv_impossible(client);
        }
        for (at = 0; at < head.count; at++) {
            const size_t back = (head.count - at) * (size_t)head.entry_bytes;
            if (!vyre_io_msg_get_file_entry(answer.bytes + answer.len - back, head.entry_bytes, &file)) {
                return vyre_io_priv_impossible(client);
            }
            visit(context, &file);
        }
        list.cursor = head.next;
    } while (list.cursor != 0);
    return VYRE_IO_CLIENT_OK;
}

/**
 * Maps the first `bytes` of a descriptor of a queue or a buffer. The descriptor stays open.
 *
 * @return The memory; NULL if it is not a memfd with the seal F_SEAL_SHRINK, or is shorter.
 */
static inline void *vyre_io_client_map(int fd, uint64_t bytes)
{
    /* F_GET_SEALS and F_SEAL_SHRINK of <fcntl.h>, which strict ISO C hides. */
    const int get_seals = 1034, seal_shrink = 2;
    const int seals = fcntl(fd, get_seals);
    struct stat found;
    void *memory = MAP_FAILED;
    if (seals >= 0 && (seals & seal_shrink) != 0 && fstat(fd, &found) == 0 && found.st_size > 0 && bytes > 0 &&
        bytes <= (uint64_t)found.st_size && bytes <= SIZE_MAX / 2) {
        memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    return memory == MAP_FAILED ? NULL : memory;
}

/**
 * Asks for a queue, and leaves its memory to the caller: vyre_io_client_map maps it, vyre_ioq_attach attaches to it.
 * vyre_io_client_make_queue does both.
 *
 * @param is Gets the number, the slots and the bytes of the queue.
 * @param fd Gets the descriptor of its memory, for the caller to close.
 */
static inline enum vyre_io_client_result vyre_io_client_ask_queue(struct vyre_io_client *client, uint32_t slots,
                                                                  uint32_t features, struct vyre_io_msg_queue_is *is,
                                                                  int *fd)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_QUEUE_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_queue asked;
    enum vyre_io_client_result result;
    asked.slots = slots;
    asked.features = features;
    vyre_io_msg_put_queue(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_QUEUE, VYRE_IO_MSG_QUEUE_BYTES, VYRE_IO_MSG_KIND_QUEUE_IS,
                              &answer);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    if (!vyre_io_msg_get_queue_is(answer.bytes + VYRE_IO_MSG_HEADER_BYTES, answer.len - VYRE_IO_MSG_HEADER_BYTES, is) ||
        is->slots != slots || is->slots > VYRE_IOQ_MAX_SLOTS || is->abi_major != VYRE_IOQ_ABI_MAJOR ||
        is->bytes < VYRE_IOQ_HEADER_BYTES + (uint64_t)is->slots * VYRE_IOQ_SLOT_BYTES ||
        is->bytes > VYRE_IOQ_HEADER_BYTES + (uint64_t)VYRE_IOQ_MAX_SLOTS * VYRE_IOQ_SLOT_BYTES) {
        close(answer.fd);
        return vyre_io_priv_impossible(client);
    }
    *fd = answer.fd;
    return VYRE_IO_CLIENT_OK;
}

/**
 * Asks for memory that requests of a queue may name, and leaves it to the caller, who maps it by vyre_io_client_map.
 * vyre_io_client_make_buffer does so.
 *
 * @param queue Number of the queue.
 * @param is Gets the handle.
 * @param fd Gets the descriptor of the memory, for the caller to close.
 */
static inline enum vyre_io_client_result vyre_io_client_ask_buffer(struct vyre_io_client *client, uint32_t queue,
                                                                   uint64_t size, struct vyre_io_msg_buffer_is *is,
                                                                   int *fd)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_BUFFER_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_buffer asked;
    enum vyre_io_client_result result;
    asked.bytes = size;
    asked.queue = queue;
    vyre_io_msg_put_buffer(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_BUFFER, VYRE_IO_MSG_BUFFER_BYTES, VYRE_IO_MSG_KIND_BUFFER_IS,
                              &answer);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    if (!vyre_io_msg_get_buffer_is(answer.bytes + VYRE_IO_MSG_HEADER_BYTES, answer.len - VYRE_IO_MSG_HEADER_BYTES, is) ||
        is->bytes != size) {
        close(answer.fd);
        return vyre_io_priv_impossible(client);
    }
    *fd = answer.fd;
    return VYRE_IO_CLIENT_OK;
}

/**
 * Asks for a queue and attaches to it.
 *
 * @param slots Number of slots.
 * @param features Features that the client wishes, such as VYRE_IOQ_FEATURE_WAKE.
 */
static inline enum vyre_io_client_result vyre_io_client_make_queue(struct vyre_io_client *client, uint32_t slots,
                                                                   uint32_t features,
                                                                   struct vyre_io_client_queue *queue)
{
    struct vyre_io_msg_queue_is is;
    int fd;
    const enum vyre_io_client_result result = vyre_io_client_ask_queue(client, slots, features, &is, &fd);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    queue->number = is.queue;
    queue->bytes = (size_t)is.bytes;
    queue->memory = vyre_io_client_map(fd, is.bytes);
    close(fd);
    if (queue->memory == NULL) {
        return VYRE_IO_CLIENT_MEMORY;
    }
    if (vyre_ioq_attach(&queue->queue, queue->memory, queue->bytes) != VYRE_IOQ_ATTACH_OK) {
        munmap(queue->memory, queue->bytes);
        queue->memory = NULL;
        return VYRE_IO_CLIENT_MEMORY;
    }
    return VYRE_IO_CLIENT_OK;
}

/** Asks for memory that requests of a queue may name, and maps it. */
static inline enum vyre_io_client_result vyre_io_client_make_buffer(struct vyre_io_client *client,
                                                                    const struct vyre_io_client_queue *queue,
                                                                    uint64_t size,
                                                                    struct vyre_io_client_buffer *buffer)
{
    struct vyre_io_msg_buffer_is is;
    int fd;
    const enum vyre_io_client_result result = vyre_io_client_ask_buffer(client, queue->number, size, &is, &fd);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    buffer->memory = vyre_io_client_map(fd, is.bytes);
    buffer->bytes = (size_t)is.bytes;
    buffer->handle = is.handle;
    buffer->queue = queue->number;
    close(fd);
    return buffer->memory != NULL ? VYRE_IO_CLIENT_OK : VYRE_IO_CLIENT_MEMORY;
}

/**
 * Asks for a handle to a file, for requests of a queue.
 *
 * @param rights VYRE_IO_MSG_RIGHT_READ and so on; 0 for all that the client may have.
 * @param file Gets the handle, its range and its rights.
 */
static inline enum vyre_io_client_result vyre_io_client_open(struct vyre_io_client *client,
                                                             const struct vyre_io_client_queue *queue,
                                                             const char *name, uint32_t rights,
                                                             struct vyre_io_msg_file_is *file)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_OPEN_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_open asked;
    enum vyre_io_client_result result;
    memset(&asked, 0, sizeof(asked));
    asked.queue = queue->number;
    asked.rights = rights;
    if (strlen(name) > VYRE_IO_MSG_NAME_BYTES) {
        return VYRE_IO_CLIENT_TOO_LONG;
    }
    strcpy(asked.name, name);
    vyre_io_msg_put_open(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_OPEN, VYRE_IO_MSG_OPEN_BYTES, VYRE_IO_MSG_KIND_FILE_IS,
                              &answer);
    if (result != VYRE_IO_CLIENT_OK) {
        return result;
    }
    if (!vyre_io_msg_get_file_is(answer.bytes + VYRE_IO_MSG_HEADER_BYTES, answer.len - VYRE_IO_MSG_HEADER_BYTES, file) ||
        file->start > file->end || file->length > file->end - file->start || file->alignment == 0 ||
        (file->alignment & (file->alignment - 1)) != 0 || (rights != 0 && file->rights != rights)) {
        return vyre_io_priv_impossible(client);
    }
    return VYRE_IO_CLIENT_OK;
}

/** Gives a handle to a file back. The answer comes when the transfers that use it have ended. */
static inline enum vyre_io_client_result vyre_io_client_close_file(struct vyre_io_client *client,
                                                                   const struct vyre_io_client_queue *queue,
                                                                   const struct vyre_io_msg_file_is *file)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_CLOSE_FILE_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_close_file asked;
    asked.queue = queue->number;
    asked.handle = file->handle;
    vyre_io_msg_put_close_file(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    return vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_CLOSE_FILE, VYRE_IO_MSG_CLOSE_FILE_BYTES, VYRE_IO_MSG_KIND_DONE,
                            &answer);
}

/** Gives a buffer back, and unmaps it once the server has said that no transfer uses it. */
static inline enum vyre_io_client_result vyre_io_client_close_buffer(struct vyre_io_client *client,
                                                                     struct vyre_io_client_buffer *buffer)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_CLOSE_BUFFER_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_close_buffer asked;
    enum vyre_io_client_result result;
    asked.queue = buffer->queue;
    asked.handle = buffer->handle;
    vyre_io_msg_put_close_buffer(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_CLOSE_BUFFER, VYRE_IO_MSG_CLOSE_BUFFER_BYTES,
                              VYRE_IO_MSG_KIND_DONE, &answer);
    if (result == VYRE_IO_CLIENT_OK) {
        munmap(buffer->memory, buffer->bytes);
        buffer->memory = NULL;
    }
    return result;
}

/** Gives a queue back, with all handles that are bound to it, and unmaps it. */
static inline enum vyre_io_client_result vyre_io_client_close_queue(struct vyre_io_client *client,
                                                                    struct vyre_io_client_queue *queue)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES + VYRE_IO_MSG_CLOSE_QUEUE_BYTES];
    struct vyre_io_priv_answer answer;
    struct vyre_io_msg_close_queue asked;
    enum vyre_io_client_result result;
    asked.queue = queue->number;
    vyre_io_msg_put_close_queue(bytes + VYRE_IO_MSG_HEADER_BYTES, &asked);
    result = vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_CLOSE_QUEUE, VYRE_IO_MSG_CLOSE_QUEUE_BYTES,
                              VYRE_IO_MSG_KIND_DONE, &answer);
    if (result == VYRE_IO_CLIENT_OK) {
        munmap(queue->memory, queue->bytes);
        queue->memory = NULL;
    }
    return result;
}

/** Ends the conversation in order, and closes the connection. */
static inline enum vyre_io_client_result vyre_io_client_goodbye(struct vyre_io_client *client)
{
    unsigned char bytes[VYRE_IO_MSG_HEADER_BYTES];
    struct vyre_io_priv_answer answer;
    const enum vyre_io_client_result result =
        vyre_io_priv_ask(client, bytes, VYRE_IO_MSG_KIND_GOODBYE, 0, VYRE_IO_MSG_KIND_DONE, &answer);
    vyre_io_client_close(client);
    return result;
}

/**
 * Waits for the outcome of a request for at most `timeout_ns` nanoseconds, takes it and frees the slot. Looks at the socket
 * 20 times a second: if the server was killed, the wait ends.
 *
 * @return VYRE_IOQ_OK, VYRE_IOQ_HOST_GONE, VYRE_IOQ_TIMED_OUT or VYRE_IOQ_INVALID_SLOT. Except after VYRE_IOQ_OK, the slot
 *     still holds the request.
 */
static inline enum vyre_ioq_result vyre_io_client_wait(const struct vyre_io_client *client,
                                                       struct vyre_io_client_queue *queue, uint32_t slot,
                                                       uint64_t timeout_ns, struct vyre_ioq_outcome *outcome)
{
    const uint64_t look_ns = 50000000, started = vyre_ioq_priv_now_ns();
    struct vyre_ioq_wait_limits limits;
    enum vyre_ioq_result result;
    uint64_t waited = 0;
    int gone;
    limits.heartbeat_timeout_ns = 0;
    for (;;) {
        gone = vyre_io_client_is_host_gone(client);
        limits.timeout_ns = timeout_ns - waited < look_ns ? timeout_ns - waited : look_ns;
        if (gone) {
            limits.timeout_ns = 0;
        }
        result = vyre_ioq_wait(&queue->queue, slot, &limits, outcome, NULL);
        if (result != VYRE_IOQ_TIMED_OUT) {
            return result;
        }
        waited = vyre_ioq_priv_now_ns() - started;
        if (gone) {
            return VYRE_IOQ_HOST_GONE;
        }
        if (waited >= timeout_ns) {
            return VYRE_IOQ_TIMED_OUT;
        }
    }
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IO_CLIENT_H */
