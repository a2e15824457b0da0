/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_io_client_conversation.h
 * @brief The types of vyre_io_client.h, which includes it, and how a client asks a server and judges its answers.
 *
 * Functions whose names begin with vyre_io_priv_ are for vyre_io_client.h alone.
 */
#ifndef VYRE_IO_CLIENT_CONVERSATION_H
#define VYRE_IO_CLIENT_CONVERSATION_H

#include "vyre_ioq_wait.h"

#include "vyre_io_client_messages.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Outcome of a function of the client. */
enum vyre_io_client_result {
    /** It is done. */
    VYRE_IO_CLIENT_OK = 0,
    /** The server refused: `refused` of the client says why. The connection goes on. */
    VYRE_IO_CLIENT_REFUSED,
    /** The server ended the connection: `refused` of the client says why. */
    VYRE_IO_CLIENT_CUT_OFF,
    /** The server has closed the connection: it ended, or was killed. */
    VYRE_IO_CLIENT_HOST_GONE,
    /** The server did not answer in time. The connection is of no further use. */
    VYRE_IO_CLIENT_TIMED_OUT,
    /** The server does not keep to the protocol. The connection is of no further use. */
    VYRE_IO_CLIENT_PROTOCOL,
    /** The server sent memory that can shrink, is too short, or holds no queue. */
    VYRE_IO_CLIENT_MEMORY,
    /** A call of the system failed: errno says how. */
    VYRE_IO_CLIENT_SYSTEM,
    /** A path or a name is too long. */
    VYRE_IO_CLIENT_TOO_LONG,
    /** The connection failed before: connect anew. */
    VYRE_IO_CLIENT_BROKEN
};

/** Returns the name of a result, such as "HOST_GONE". */
static inline const char *vyre_io_client_result_name(enum vyre_io_client_result result)
{
    switch (result) {
    case VYRE_IO_CLIENT_OK:
        return "OK";
    case VYRE_IO_CLIENT_REFUSED:
        return "REFUSED";
    case VYRE_IO_CLIENT_CUT_OFF:
        return "CUT_OFF";
    case VYRE_IO_CLIENT_HOST_GONE:
        return "HOST_GONE";
    case VYRE_IO_CLIENT_TIMED_OUT:
        return "TIMED_OUT";
    case VYRE_IO_CLIENT_PROTOCOL:
        return "PROTOCOL";
    case VYRE_IO_CLIENT_MEMORY:
        return "MEMORY";
    case VYRE_IO_CLIENT_SYSTEM:
        return "SYSTEM";
    case VYRE_IO_CLIENT_TOO_LONG:
        return "TOO_LONG";
    case VYRE_IO_CLIENT_BROKEN:
        return "BROKEN";
    default:
        return "unknown";
    }
}

/** A connection to a server. */
struct vyre_io_client {
    /** The socket. */
    int fd;
    /** Set once the connection is of no further use. */
    int broken;
    /** Number of the last request. */
    uint32_t last_id;
    /** Version, features and limits that the server has told. */
    struct vyre_io_msg_welcome welcome;
    /** Last refusal. */
    struct vyre_io_msg_refused refused;
};

/** A queue of the server. */
struct vyre_io_client_queue {
    /** The device end: vyre_ioq_submit, vyre_ioq_take and the others take it. */
    struct vyre_ioq_queue queue;
    /** Number of the queue on its connection. */
    uint32_t number;
    /** Where it is mapped. */
    void *memory;
    /** Bytes of the mapping. */
    size_t bytes;
};

/** Memory that the server shares, which requests of one queue may name. */
struct vyre_io_client_buffer {
    /** Where it is mapped. The server may write there at any time. */
    void *memory;
    /** Bytes of the buffer. */
    size_t bytes;
    /** Buffer handle for requests of the queue. */
    uint32_t handle;
    /** Number of the queue. */
    uint32_t queue;
};

/* A message that was received, with its descriptor. */
struct vyre_io_priv_answer {
    unsigned char bytes[VYRE_IO_MSG_MESSAGE_BYTES];
    size_t len;
    int fd;
};

/* Closes what came with a message. Returns the number of descriptors, and keeps the first of them. */
static inline int vyre_io_priv_descriptors(struct msghdr *message, int *kept)
{
    struct cmsghdr *part;
    int count = 0, fd;
    size_t at;
    *kept = -1;
    for (part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (at = 0; at + sizeof(fd) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(fd)) {
            memcpy(&fd, CMSG_DATA(part) + at, sizeof(fd));
            if (count++ == 0) {
                *kept = fd;
            } else {
                close(fd);
            }
        }
    }
    return count;
}

static inline enum vyre_io_client_result vyre_io_priv_failure(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return VYRE_IO_CLIENT_TIMED_OUT;
    }
    return errno == EPIPE || errno == ECONNRESET ? VYRE_IO_CLIENT_HOST_GONE : VYRE_IO_CLIENT_SYSTEM;
}

/* Receives a packet. `fds` becomes the number of its descriptors, of which the first is kept. */
static inline enum vyre_io_client_result vyre_io_priv_receive(int socket, struct vyre_io_priv_answer *answer,
                                                              int *fds)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec place;
    struct msghdr message;
    ssize_t len;
    place.iov_base = answer->bytes;
    place.iov_len = sizeof(answer->bytes);
    memset(&message, 0, sizeof(message));
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    do {
        len = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (len < 0 && errno == EINTR);
    if (len < 0) {
        return vyre_io_priv_failure();
    }
    *fds = vyre_io_priv_descriptors(&message, &answer->fd);
    answer->len = (size_t)len;
    if (len == 0) {
        return VYRE_IO_CLIENT_HOST_GONE;
    }
    return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ? VYRE_IO_CLIENT_PROTOCOL : VYRE_IO_CLIENT_OK;
}

/* Judges an answer to the last request: its header, its kind and its descriptors. */
static inline enum vyre_io_client_result vyre_io_priv_judge(struct vyre_io_client *client, uint16_t expected,
                                                            const struct vyre_io_priv_answer *answer, int fds)
{
    const unsigned char *body = answer->bytes + VYRE_IO_MSG_HEADER_BYTES;
    const int has_fd = expected == VYRE_IO_MSG_KIND_QUEUE_IS || expected == VYRE_IO_MSG_KIND_BUFFER_IS;
    uint32_t id, code;
    uint16_t kind;
    if (!vyre_io_msg_get_header(answer->bytes, answer->len, &kind, &id)) {
        return VYRE_IO_CLIENT_PROTOCOL;
    }
    if (kind == VYRE_IO_MSG_KIND_REFUSED) {
        if (!vyre_io_msg_get_refused(body, answer->len - VYRE_IO_MSG_HEADER_BYTES, &client->refused) ||
            (id != 0 && id != client->last_id) || fds != 0) {
            return VYRE_IO_CLIENT_PROTOCOL;
        }
        code = client->refused.code;
        return id == 0 || expected == VYRE_IO_MSG_KIND_WELCOME || vyre_io_msg_code_cuts(code) ? VYRE_IO_CLIENT_CUT_OFF
                                                                                      : VYRE_IO_CLIENT_REFUSED;
    }
    return kind == expected && id == client->last_id && fds == has_fd ? VYRE_IO_CLIENT_OK
                                                                      : VYRE_IO_CLIENT_PROTOCOL;
}

/* Sends a request with a body of `body` bytes, which is in `bytes` behind the room for a header, and receives the answer. */
static inline enum vyre_io_client_result vyre_io_priv_ask(struct vyre_io_client *client, unsigned char *bytes,
                                                          uint16_t kind, size_t body, uint16_t expected,
                                                          struct vyre_io_priv_answer *answer)
{
    enum vyre_io_client_result result;
    ssize_t sent;
    int fds = 0;
    answer->fd = -1;
    if (client->broken) {
        return VYRE_IO_CLIENT_BROKEN;
    }
    client->last_id = client->last_id == UINT32_MAX ? 1 : client->last_id + 1;
    vyre_io_msg_put_header(bytes, kind, client->last_id, body);
    do {
        sent = send(client->fd, bytes, VYRE_IO_MSG_HEADER_BYTES + body, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    result = sent < 0 ? vyre_io_priv_failure() : VYRE_IO_CLIENT_OK;
    /* A server that has cut this client off has said why before it closed. */
    if (result == VYRE_IO_CLIENT_OK || result == VYRE_IO_CLIENT_HOST_GONE) {
        result = vyre_io_priv_receive(client->fd, answer, &fds);
    }
    if (result == VYRE_IO_CLIENT_OK) {
        result = vyre_io_priv_judge(client, expected, answer, fds);
    }
    if (result != VYRE_IO_CLIENT_OK && answer->fd >= 0) {
        close(answer->fd);
        answer->fd = -1;
    }
    client->broken = result != VYRE_IO_CLIENT_OK && result != VYRE_IO_CLIENT_REFUSED;
    return result;
}

/* Ends the use of a connection, since an answer has impossible fields. */
static inline enum vyre_io_client_result vyre_io_priv_impossible(struct vyre_io_client *client)
{
    client->broken = 1;
    return VYRE_IO_CLIENT_PROTOCOL;
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IO_CLIENT_CONVERSATION_H */
