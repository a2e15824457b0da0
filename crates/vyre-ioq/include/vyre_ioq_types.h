/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_ioq_types.h
 * @brief Requests, outcomes and results of vyre_ioq.h, and the functions that prepare requests.
 */
#ifndef VYRE_IOQ_TYPES_H
#define VYRE_IOQ_TYPES_H

#include <stdint.h>

#include "vyre_ioq_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

VYRE_IOQ_ASSERT_(sizeof(uint32_t) == sizeof(vyre_ioq_word), "a word is a uint32_t");

/** What a call returned. */
enum vyre_ioq_result {
    VYRE_IOQ_OK = 0,       /**< Success. */
    VYRE_IOQ_PENDING,      /**< The request has no outcome yet. */
    VYRE_IOQ_QUEUE_FULL,   /**< Every slot is in use. Take an outcome, then retry. */
    VYRE_IOQ_HOST_GONE,    /**< The host stopped or failed, or its heartbeat stood still too long. */
    VYRE_IOQ_TIMED_OUT,    /**< The time limit was reached. */
    VYRE_IOQ_INVALID_SLOT  /**< The queue has no slot of that number. */
};

/** The slot number that is stored when no slot was reserved. */
#define VYRE_IOQ_NO_SLOT 0xffffffffu

/** The state of a bare queue's host, which has no word to store it in. See vyre_ioq_host_state. */
#define VYRE_IOQ_STATE_UNKNOWN 0xffffffffu

/**
 * The device end of a queue.
 *
 * It is private memory of the process, and must not move while threads use it. Programs may read the
 * fields marked "readable" after attaching; all others are internal.
 */
struct vyre_ioq_queue {
    uint32_t *words;   /**< The shared memory. */
    uint32_t rings;    /**< The number last stored in DOORBELL. */
    uint32_t arms;     /**< The number last stored in ARMED. */
    uint32_t expects;  /**< 1 once the host was told that threads sleep. */
    uint32_t sleepers; /**< Threads that sleep until the host wakes them. */
    uint32_t first;    /**< Index of the first word of slot 0. */
    uint32_t stride;   /**< Words from one slot to the next. */
    uint32_t slots;    /**< Readable: the number of slots. */
    uint32_t features; /**< Readable: VYRE_IOQ_FEATURE_... bits that both ends support. */
    uint32_t bare;     /**< Readable: 1 for the bare layout, else 0. */
    uint32_t counts;   /**< Readable: 1 if outcomes carry byte counts and errnos, else 0. */
    uint64_t id;       /**< Readable: the creator's name for the queue; 0 for a bare queue. */
    uint32_t locks[VYRE_IOQ_MAX_SLOTS / 32];     /**< One bit for each reserved slot. */
    uint32_t abandoned[VYRE_IOQ_MAX_SLOTS / 32]; /**< One bit for each abandoned slot. */
    uint32_t marked[VYRE_IOQ_MAX_SLOTS / VYRE_IOQ_GROUP_SLOTS]; /**< 1 for each group in use. */
};

/**
 * A request. Make one by a vyre_ioq_prep_ function, then set `flags`, `deadline` and `tag` if needed.
 *
 * A bare queue does not carry `buffer_offset`, `flags` and `deadline`.
 */
struct vyre_ioq_request {
    uint32_t op;            /**< VYRE_IOQ_OP_... */
    uint32_t source;        /**< READ: file handle. WRITE: buffer handle. */
    uint32_t destination;   /**< READ: buffer handle. WRITE, SYNC, PREFETCH, MAP: file handle. */
    uint32_t count;         /**< Bytes to transfer. */
    uint64_t file_offset;   /**< In bytes, from the start of the file handle's range. */
    uint64_t buffer_offset; /**< In bytes, from the start of the buffer handle's range. */
    uint32_t flags;         /**< VYRE_IOQ_FLAG_... bits. */
    uint32_t deadline;      /**< Microseconds from the host's claim to its cancellation; 0: none. */
    uint32_t tag;           /**< Any value; returned with the outcome. */
};

/** The outcome of a request. */
struct vyre_ioq_outcome {
    uint32_t tag;    /**< The request's tag. */
    uint32_t status; /**< VYRE_IOQ_STATUS_OK or VYRE_IOQ_STATUS_ERROR. */
    uint32_t count;  /**< OK: bytes transferred. ERROR: a Linux errno. See vyre_ioq_attach_bare. */
};

/** Returns the name of a result, such as "QUEUE_FULL"; "unknown" for any other number. */
static inline const char *vyre_ioq_result_name(enum vyre_ioq_result result)
{
    switch (result) {
    case VYRE_IOQ_OK:
        return "OK";
    case VYRE_IOQ_PENDING:
        return "PENDING";
    case VYRE_IOQ_QUEUE_FULL:
        return "QUEUE_FULL";
    case VYRE_IOQ_HOST_GONE:
        return "HOST_GONE";
    case VYRE_IOQ_TIMED_OUT:
        return "TIMED_OUT";
    case VYRE_IOQ_INVALID_SLOT:
        return "INVALID_SLOT";
    }
    return "unknown";
}

/**
 * Prepares a read from a file into a buffer.
 *
 * An outcome with fewer bytes than `count` marks the end of the file, or an error after some bytes.
 * VYRE_IOQ_FLAG_EXACT makes a short count an error.
 */
static inline struct vyre_ioq_request vyre_ioq_prep_read(uint32_t file, uint64_t file_offset,
                                                         uint32_t count, uint32_t buffer,
                                                         uint64_t buffer_offset)
{
    const struct vyre_ioq_request request = {
        VYRE_IOQ_OP_READ, file, buffer, count, file_offset, buffer_offset, 0, 0, 0
    };
    return request;
}

/**
 * Prepares a write from a buffer into a file.
 *
 * With VYRE_IOQ_FLAG_DURABLE, the bytes are on stable storage when the request completes.
 */
static inline struct vyre_ioq_request vyre_ioq_prep_write(uint32_t file, uint64_t file_offset,
                                                          uint32_t count, uint32_t buffer,
                                                          uint64_t buffer_offset)
{
    const struct vyre_ioq_request request = {
        VYRE_IOQ_OP_WRITE, buffer, file, count, file_offset, buffer_offset, 0, 0, 0
    };
    return request;
}

/**
 * Prepares a fence. It completes when every request that was published in this queue before it, other
 * fences excepted, has completed.
 */
static inline struct vyre_ioq_request vyre_ioq_prep_fence(void)
{
    const struct vyre_ioq_request request = { VYRE_IOQ_OP_FENCE, 0, 0, 0, 0, 0, 0, 0, 0 };
    return request;
}

/**
 * Prepares a sync. It completes when every earlier write to the file, completed or fenced, is on stable
 * storage.
 */
static inline struct vyre_ioq_request vyre_ioq_prep_sync(uint32_t file)
{
    const struct vyre_ioq_request request = { VYRE_IOQ_OP_SYNC, 0, file, 0, 0, 0, 0, 0, 0 };
    return request;
}

/** Prepares a read-ahead of `count` bytes. It completes once the read-ahead has been started. */
static inline struct vyre_ioq_request vyre_ioq_prep_prefetch(uint32_t file, uint64_t file_offset,
                                                             uint32_t count)
{
    const struct vyre_ioq_request request = {
        VYRE_IOQ_OP_PREFETCH, 0, file, count, file_offset, 0, 0, 0, 0
    };
    return request;
}

/**
 * Prepares a request that lets the device load `count` bytes by itself. It completes once the device can. Both
 * sides must have agreed on how the device finds the bytes. Fails with EOPNOTSUPP where the host does not have that
 * for the file, and with ENOBUFS where it keeps no more bytes in memory.
 */
static inline struct vyre_ioq_request vyre_ioq_prep_map(uint32_t file, uint64_t file_offset, uint32_t count)
{
    const struct vyre_ioq_request request = { VYRE_IOQ_OP_MAP, 0, file, count, file_offset, 0, 0, 0, 0 };
    return request;
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IOQ_TYPES_H */
