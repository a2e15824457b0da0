/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The device's end of a vyre I/O queue, for a process on the CPU. C11 or C++17, gcc or clang.
 *
 * A device writes requests for file I/O into slots of shared memory. A host serves them and writes
 * the outcomes back. ABI.md in the repository is the normative text; this header is one reading of it.
 *
 *   reserve, publish     or submit, which is both
 *   poll, take           or wait, which takes as soon as it can: vyre_ioq_wait.h
 *   unreserve, abandon   for a slot that is not needed, and a request whose outcome nobody takes
 *
 * One struct vyre_ioq_queue is the device's end, and a queue has one at a time. Any number of threads
 * may share it, each for slots that it reserved. Nothing is allocated, nothing is said through errno,
 * and nothing here enters the kernel.
 *
 * Each shared word is accessed whole, by an atomic access of 32 bits. No read-modify-write touches
 * shared memory: threads of the device compete for slots in the queue struct, which is private.
 *
 * What begins with vyre_ioq_priv_ is for the functions here alone, and may change. */

#ifndef VYRE_IOQ_H
#define VYRE_IOQ_H

#include <stddef.h>
#include <stdint.h>

#include "vyre_ioq_abi.h"

#if !defined(__BYTE_ORDER__) || !defined(__ORDER_BIG_ENDIAN__) || !defined(__ORDER_LITTLE_ENDIAN__)
#error "vyre_ioq.h needs a compiler that defines __BYTE_ORDER__, as gcc and clang do"
#endif

#ifdef __cplusplus
extern "C" {
#endif

VYRE_IOQ_ASSERT(sizeof(uint32_t) == sizeof(vyre_ioq_word), "one kind of word");

/* What a call came to: one code for each cause. */
enum vyre_ioq_result {
    VYRE_IOQ_DONE = 0,
    /* There is no outcome yet. */
    VYRE_IOQ_PENDING,
    /* Every slot is in use: take an outcome first. */
    VYRE_IOQ_QUEUE_FULL,
    /* The host stopped, failed, or stood still for longer than the caller bears. */
    VYRE_IOQ_HOST_GONE,
    /* The time is over. */
    VYRE_IOQ_TIMED_OUT,

    /* Attach: the rule that the memory breaks. See ABI.md, section 3. */
    VYRE_IOQ_MISALIGNED,
    VYRE_IOQ_TOO_SHORT,
    VYRE_IOQ_BAD_MAGIC,
    VYRE_IOQ_MAJOR_VERSION,
    VYRE_IOQ_BAD_STRIDE,
    VYRE_IOQ_BAD_SLOTS_OFFSET,
    VYRE_IOQ_RESERVED_NOT_ZERO,
    VYRE_IOQ_BAD_SLOT_COUNT,
    VYRE_IOQ_BARE_LENGTH,

    /* The number names no slot of the queue: that of a submission that failed, perhaps. */
    VYRE_IOQ_NO_SUCH_SLOT
};

/* What vyre_ioq_reserve and vyre_ioq_submit store as the slot when there is none. */
#define VYRE_IOQ_NO_SLOT 0xffffffffu

/* What vyre_ioq_host_state returns for a bare queue, whose host says nothing of itself. */
#define VYRE_IOQ_STATE_UNTOLD 0xffffffffu

/* The device's end. Private memory of this process; it must stay where it is while threads use it.
 * The fields are for the functions below, but for those that say otherwise. */
struct vyre_ioq_queue {
    uint32_t *words;   /* the shared memory */
    uint32_t rings;    /* the number that went into DOORBELL last */
    uint32_t first;    /* number of the first word of slot 0 */
    uint32_t stride;   /* words from one slot to the next */
    uint32_t slots;    /* to be read: how many there are */
    uint32_t features; /* to be read: features that both sides know */
    uint32_t bare;     /* to be read: 1 for the bare layout */
    uint32_t counts;   /* to be read: 1 if outcomes carry bytes moved and errnos */
    uint64_t id;       /* to be read: the creator's name for the queue; 0 for a bare one */
    uint32_t locks[VYRE_IOQ_MAX_SLOTS / 32];                  /* a bit for each slot in use */
    uint32_t abandoned[VYRE_IOQ_MAX_SLOTS / 32]; /* of those, the ones whose outcome nobody takes */
    uint32_t marked[VYRE_IOQ_MAX_SLOTS / VYRE_IOQ_GROUP_SLOTS]; /* groups shown to the host */
};

/* What is asked for. Made by the functions below; flags, deadline and tag may be set afterwards. */
struct vyre_ioq_request {
    uint32_t op;
    uint32_t source;
    uint32_t destination;
    uint32_t count;
    uint64_t file_offset;
    uint64_t buffer_offset; /* not carried by a bare queue, like the next two */
    uint32_t flags;         /* VYRE_IOQ_FLAG_… */
    uint32_t deadline;      /* microseconds from the host's claim; 0 is none */
    uint32_t tag;           /* the device's own: comes back with the outcome */
};

/* What became of a request. */
struct vyre_ioq_outcome {
    uint32_t tag;
    uint32_t status; /* VYRE_IOQ_STATUS_OK or VYRE_IOQ_STATUS_ERROR */
    uint32_t count;  /* OK: bytes moved. ERROR: a Linux errno value. See vyre_ioq_attach_bare */
};

/* Reads `count` bytes at `file_offset` of a file handle, to `buffer_offset` of a buffer handle. */
static inline struct vyre_ioq_request vyre_ioq_read(uint32_t file, uint64_t file_offset,
                                                    uint32_t count, uint32_t buffer,
                                                    uint64_t buffer_offset)
{
    struct vyre_ioq_request request;
    __builtin_memset(&request, 0, sizeof(request));
    request.op = VYRE_IOQ_OP_READ;
    request.source = file;
    request.destination = buffer;
    request.count = count;
    request.file_offset = file_offset;
    request.buffer_offset = buffer_offset;
    return request;
}

/* Writes `count` bytes at `file_offset` of a file handle, from `buffer_offset` of a buffer handle. */
static inline struct vyre_ioq_request vyre_ioq_write(uint32_t file, uint64_t file_offset,
                                                     uint32_t count, uint32_t buffer,
                                                     uint64_t buffer_offset)
{
    struct vyre_ioq_request request = vyre_ioq_read(buffer, file_offset, count, file, buffer_offset);
    request.op = VYRE_IOQ_OP_WRITE;
    return request;
}

/* Completes when every request of the queue that was published before it has completed, other fences
   aside. */
static inline struct vyre_ioq_request vyre_ioq_fence(void)
{
    struct vyre_ioq_request request = vyre_ioq_read(0, 0, 0, 0, 0);
    request.op = VYRE_IOQ_OP_FENCE;
    return request;
}

/* Completes when every earlier WRITE to the file, completed or fenced, is on stable storage. */
static inline struct vyre_ioq_request vyre_ioq_sync(uint32_t file)
{
    struct vyre_ioq_request request = vyre_ioq_fence();
    request.op = VYRE_IOQ_OP_SYNC;
    request.destination = file;
    return request;
}

/* Starts read-ahead of `count` bytes at `file_offset` of a file handle, and does not wait for them. */
static inline struct vyre_ioq_request vyre_ioq_prefetch(uint32_t file, uint64_t file_offset,
                                                        uint32_t count)
{
    struct vyre_ioq_request request = vyre_ioq_sync(file);
    request.op = VYRE_IOQ_OP_PREFETCH;
    request.file_offset = file_offset;
    request.count = count;
    return request;
}

/* ---- Shared words ------------------------------------------------------------------------------ */

/* Words are little-endian in memory, whatever the machine. */
static inline uint32_t vyre_ioq_priv_le(uint32_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap32(word);
#else
    return word;
#endif
}

static inline uint32_t vyre_ioq_priv_load(const uint32_t *word)
{
    return vyre_ioq_priv_le(__atomic_load_n(word, __ATOMIC_RELAXED));
}

static inline uint32_t vyre_ioq_priv_load_acquire(const uint32_t *word)
{
    return vyre_ioq_priv_le(__atomic_load_n(word, __ATOMIC_ACQUIRE));
}

static inline void vyre_ioq_priv_store(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, vyre_ioq_priv_le(value), __ATOMIC_RELAXED);
}

static inline void vyre_ioq_priv_store_release(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, vyre_ioq_priv_le(value), __ATOMIC_RELEASE);
}

/* First word of a slot. */
static inline uint32_t *vyre_ioq_priv_slot_words(const struct vyre_ioq_queue *queue, uint32_t slot)
{
    return queue->words + queue->first + (size_t)slot * queue->stride;
}

/* ---- Attach ------------------------------------------------------------------------------------ */

static inline void vyre_ioq_priv_begin(struct vyre_ioq_queue *queue, void *memory)
{
    __builtin_memset(queue, 0, sizeof(*queue));
    queue->words = (uint32_t *)memory;
    /* The host looks at group 0 unasked. */
    queue->marked[0] = 1;
}

/* Attaches to a queue with a header, which a host has created in the `len` bytes at `memory`. What
 * others store in the header later moves nothing. The memory must stay mapped while `queue` is used.
 *
 * Returns VYRE_IOQ_DONE, or the first rule broken, and then `queue` must not be used. */
static inline enum vyre_ioq_result vyre_ioq_attach(struct vyre_ioq_queue *queue, void *memory,
                                                   size_t len)
{
    struct vyre_ioq_header header;
    uint32_t line[sizeof(header) / sizeof(uint32_t)];
    size_t word;

    vyre_ioq_priv_begin(queue, memory);
    if ((uintptr_t)memory % VYRE_IOQ_HEADER_ALIGN != 0) {
        return VYRE_IOQ_MISALIGNED;
    }
    if (len < VYRE_IOQ_HEADER_BYTES) {
        return VYRE_IOQ_TOO_SHORT;
    }
    /* Acquire, paired with the release by which the host stores the magic last: whoever sees it sees
     * the rest. Each word is read once. */
    line[VYRE_IOQ_HEADER_WORD_MAGIC] = vyre_ioq_priv_load_acquire(queue->words);
    for (word = 1; word < sizeof(line) / sizeof(line[0]); word++) {
        line[word] = vyre_ioq_priv_load(queue->words + word);
    }
    __builtin_memcpy(&header, line, sizeof(header));

    if (header.magic[0] != VYRE_IOQ_MAGIC_0 || header.magic[1] != VYRE_IOQ_MAGIC_1) {
        return VYRE_IOQ_BAD_MAGIC;
    }
    if (header.major != VYRE_IOQ_ABI_MAJOR) {
        return VYRE_IOQ_MAJOR_VERSION;
    }
    if (header.stride != VYRE_IOQ_SLOT_BYTES) {
        return VYRE_IOQ_BAD_STRIDE;
    }
    if (header.slots_offset % VYRE_IOQ_SLOT_BYTES != 0 ||
        header.slots_offset < VYRE_IOQ_HEADER_BYTES) {
        return VYRE_IOQ_BAD_SLOTS_OFFSET;
    }
    for (word = 0; word < sizeof(header.reserved) / sizeof(header.reserved[0]); word++) {
        if (header.reserved[word] != 0) {
            return VYRE_IOQ_RESERVED_NOT_ZERO;
        }
    }
    if (header.slots == 0 || header.slots > VYRE_IOQ_MAX_SLOTS) {
        return VYRE_IOQ_BAD_SLOT_COUNT;
    }
    if (len < header.slots_offset || len - header.slots_offset < header.slots * VYRE_IOQ_SLOT_BYTES) {
        return VYRE_IOQ_TOO_SHORT;
    }
    queue->first = header.slots_offset / (uint32_t)sizeof(uint32_t);
    queue->stride = VYRE_IOQ_SLOT_BYTES / (uint32_t)sizeof(uint32_t);
    queue->slots = header.slots;
    queue->counts = 1;
    /* Rings go on from where an earlier device end left off. */
    queue->rings = vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_DOORBELL);
    queue->features = header.features & VYRE_IOQ_FEATURE_DOORBELL;
    queue->id = header.queue_id[0] | (uint64_t)header.queue_id[1] << 32;
    return VYRE_IOQ_DONE;
}

/* Attaches to a queue of the bare layout, which fills the `len` bytes at `memory`. As
 * vyre_ioq_attach, but nothing in the memory says that it is a queue. The host writes STATUS alone:
 * the count of an outcome is that of the request if it is OK, of which fewer bytes were moved at the end
 * of a file or where an error came after some bytes, and VYRE_IOQ_ERRNO_EIO for every error. */
static inline enum vyre_ioq_result vyre_ioq_attach_bare(struct vyre_ioq_queue *queue, void *memory,
                                                        size_t len)
{
    vyre_ioq_priv_begin(queue, memory);
    if ((uintptr_t)memory % sizeof(uint32_t) != 0) {
        return VYRE_IOQ_MISALIGNED;
    }
    if (len % VYRE_IOQ_BARE_SLOT_BYTES != 0) {
        return VYRE_IOQ_BARE_LENGTH;
    }
    if (len == 0 || len / VYRE_IOQ_BARE_SLOT_BYTES > VYRE_IOQ_MAX_BARE_SLOTS) {
        return VYRE_IOQ_BAD_SLOT_COUNT;
    }
    queue->stride = VYRE_IOQ_BARE_SLOT_BYTES / (uint32_t)sizeof(uint32_t);
    queue->slots = (uint32_t)(len / VYRE_IOQ_BARE_SLOT_BYTES);
    queue->bare = 1;
    return VYRE_IOQ_DONE;
}

/* As vyre_ioq_attach_bare, for a host that was told to store bytes moved and errnos in COUNT. With any
 * other host, an errno means nothing. */
static inline enum vyre_ioq_result vyre_ioq_attach_bare_with_counts(struct vyre_ioq_queue *queue,
                                                                    void *memory, size_t len)
{
    enum vyre_ioq_result attached = vyre_ioq_attach_bare(queue, memory, len);
    queue->counts = 1;
    return attached;
}

/* ---- Reserve and publish ----------------------------------------------------------------------- */

/* Gives a slot back. Release, paired with the acquire in vyre_ioq_reserve: the outcome that was taken
 * comes before what the slot's next user stores. */
static inline void vyre_ioq_priv_unlock(struct vyre_ioq_queue *queue, uint32_t slot)
{
    __atomic_fetch_and(&queue->locks[slot / 32], ~(1u << slot % 32), __ATOMIC_RELEASE);
}

/* Whether a slot that was just locked can be used. Not so if it holds a request of an earlier device
 * end. An outcome is replaced by what is published next. */
static inline int vyre_ioq_priv_is_free(struct vyre_ioq_queue *queue, uint32_t slot)
{
    /* Acquire, paired with the host's release when it completes: it has read the slot for the last
     * time, and is done with the buffer. */
    uint32_t status =
        vyre_ioq_priv_load_acquire(vyre_ioq_priv_slot_words(queue, slot) + VYRE_IOQ_WORD_STATUS);
    return status != VYRE_IOQ_STATUS_PUBLISHED && status != VYRE_IOQ_STATUS_CLAIMED;
}

/* Has the host look at the group of a slot, before anything is published there. */
static inline void vyre_ioq_priv_mark(struct vyre_ioq_queue *queue, uint32_t slot)
{
    uint32_t group = slot / VYRE_IOQ_GROUP_SLOTS;
    /* Acquire, paired with the release below: another thread's mark comes before what this one
     * publishes, so that a host which sees the one sees the other. */
    if (__atomic_load_n(&queue->marked[group], __ATOMIC_ACQUIRE) == 0) {
        vyre_ioq_priv_store(queue->words + VYRE_IOQ_HEADER_WORD_IN_USE + group, 1);
        __atomic_store_n(&queue->marked[group], 1, __ATOMIC_RELEASE);
    }
}

/* Takes back an abandoned slot whose outcome is there. */
static inline enum vyre_ioq_result vyre_ioq_priv_reclaim(struct vyre_ioq_queue *queue, uint32_t *slot)
{
    uint32_t first;
    for (first = 0; first < queue->slots; first += 32) {
        uint32_t *abandoned = &queue->abandoned[first / 32];
        uint32_t left = __atomic_load_n(abandoned, __ATOMIC_RELAXED);
        while (left != 0) {
            const uint32_t bit = left & (0u - left);
            left &= ~bit;
            /* Whoever clears the bit has the slot. Acquire, paired with the release in
             * vyre_ioq_abandon: the publication comes before the look at the status. */
            if ((__atomic_fetch_and(abandoned, ~bit, __ATOMIC_ACQUIRE) & bit) == 0) {
                continue;
            }
            *slot = first + (uint32_t)__builtin_ctz(bit);
            if (vyre_ioq_priv_is_free(queue, *slot)) {
                return VYRE_IOQ_DONE;
            }
            /* Relaxed: a read-modify-write hands on the release of vyre_ioq_abandon. */
            __atomic_fetch_or(abandoned, bit, __ATOMIC_RELAXED);
        }
    }
    *slot = VYRE_IOQ_NO_SLOT;
    return VYRE_IOQ_QUEUE_FULL;
}

/* Reserves the lowest slot that is free, so that the slots in use lie together; if there is none, takes
 * back an abandoned one whose outcome is there. It is the caller's until vyre_ioq_take or vyre_ioq_wait
 * returns its outcome, or until it is given back by vyre_ioq_unreserve or vyre_ioq_abandon.
 * VYRE_IOQ_DONE or VYRE_IOQ_QUEUE_FULL. */
static inline enum vyre_ioq_result vyre_ioq_reserve(struct vyre_ioq_queue *queue, uint32_t *slot)
{
    uint32_t first;
    for (first = 0; first < queue->slots; first += 32) {
        uint32_t *lock = &queue->locks[first / 32];
        uint32_t left = queue->slots - first;
        /* Slots that there are not, and those that turned out to hold an old request. */
        uint32_t refused = left < 32 ? UINT32_MAX << left : 0;
        for (;;) {
            uint32_t free = ~(__atomic_load_n(lock, __ATOMIC_RELAXED) | refused);
            uint32_t bit;
            if (free == 0) {
                break;
            }
            bit = (uint32_t)__builtin_ctz(free);
            /* Acquire, paired with the release in vyre_ioq_priv_unlock. */
            if (__atomic_fetch_or(lock, 1u << bit, __ATOMIC_ACQUIRE) & 1u << bit) {
                continue;
            }
            if (vyre_ioq_priv_is_free(queue, first + bit)) {
                vyre_ioq_priv_mark(queue, first + bit);
                *slot = first + bit;
                return VYRE_IOQ_DONE;
            }
            vyre_ioq_priv_unlock(queue, first + bit);
            refused |= 1u << bit;
        }
    }
    return vyre_ioq_priv_reclaim(queue, slot);
}

/* Gives up a request that the caller published: nobody takes its outcome. It is still served. Once it
 * has an outcome, vyre_ioq_reserve takes the slot back when it finds no free one. Until then the
 * request's buffer must not be used, and nobody is told when it may be. A slot is abandoned once, and is
 * not the caller's any more. */
static inline void vyre_ioq_abandon(struct vyre_ioq_queue *queue, uint32_t slot)
{
    if (slot < queue->slots) {
        /* Release, paired with the acquire in vyre_ioq_priv_reclaim. */
        __atomic_fetch_or(&queue->abandoned[slot / 32], 1u << slot % 32, __ATOMIC_RELEASE);
    }
}

/* Gives back a slot that was reserved and in which nothing was published since. If something was, this
 * is vyre_ioq_abandon: the host may be serving it. */
static inline void vyre_ioq_unreserve(struct vyre_ioq_queue *queue, uint32_t slot)
{
    if (slot >= queue->slots) {
        return;
    }
    if (vyre_ioq_priv_is_free(queue, slot)) {
        vyre_ioq_priv_unlock(queue, slot);
    } else {
        vyre_ioq_abandon(queue, slot);
    }
}

/* Publishes a request in a slot that the caller reserved; does nothing if the queue has no such slot.
 * From here on, until there is an outcome, a READ's buffer must not be touched and a WRITE's not be
 * changed. */
static inline void vyre_ioq_publish(struct vyre_ioq_queue *queue, uint32_t slot,
                                    const struct vyre_ioq_request *request)
{
    struct vyre_ioq_slot image;
    uint32_t copy[sizeof(image) / sizeof(uint32_t)];
    uint32_t *words;
    uint32_t word;

    if (slot >= queue->slots) {
        return;
    }
    words = vyre_ioq_priv_slot_words(queue, slot);
    __builtin_memset(&image, 0, sizeof(image));
    image.op = request->op;
    image.source = request->source;
    image.destination = request->destination;
    image.file_offset_low = (uint32_t)request->file_offset;
    image.file_offset_high = (uint32_t)(request->file_offset >> 32);
    image.count = request->count;
    image.tag = request->tag;
    image.buffer_offset_low = (uint32_t)request->buffer_offset;
    image.buffer_offset_high = (uint32_t)(request->buffer_offset >> 32);
    image.flags = request->flags;
    image.deadline = request->deadline;
    __builtin_memcpy(copy, &image, sizeof(copy));
    for (word = 0; word < queue->stride; word++) {
        if (word != VYRE_IOQ_WORD_STATUS) {
            vyre_ioq_priv_store(words + word, copy[word]);
        }
    }
    /* Last, and release: paired with the acquire of the host before it claims. It hands over the
     * words above, and the bytes that a WRITE will read. */
    vyre_ioq_priv_store_release(words + VYRE_IOQ_WORD_STATUS, VYRE_IOQ_STATUS_PUBLISHED);
}

/* Reserves a slot and publishes a request in it. VYRE_IOQ_DONE or VYRE_IOQ_QUEUE_FULL. */
static inline enum vyre_ioq_result vyre_ioq_submit(struct vyre_ioq_queue *queue,
                                                   const struct vyre_ioq_request *request,
                                                   uint32_t *slot)
{
    enum vyre_ioq_result reserved = vyre_ioq_reserve(queue, slot);
    if (reserved == VYRE_IOQ_DONE) {
        vyre_ioq_publish(queue, *slot, request);
    }
    return reserved;
}

/* Rings the doorbell of a host that sleeps: after publishing, once for however many requests. Where
 * the host must be woken, calls `wake` with `context`, once, and returns 1; else returns 0. If `wake` is
 * NULL, the caller wakes the host after 1. What wakes the host is agreed on outside the queue. Does
 * nothing where the host offers no doorbell. */
static inline int vyre_ioq_ring(struct vyre_ioq_queue *queue, void (*wake)(void *context),
                                void *context)
{
    uint32_t rings;
    if ((queue->features & VYRE_IOQ_FEATURE_DOORBELL) == 0) {
        return 0;
    }
    /* Paired with the host's fence between its store to ASLEEP and its last look at the slots. Either
     * that look finds what was published before this fence, or the load below finds the host asleep. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_ASLEEP) != 1) {
        return 0;
    }
    /* No two rings store the same number. Had two threads added one to the word itself, the slower
     * could bring back what the host sleeps on after the faster one rang. Relaxed: only that the
     * numbers differ matters, and what was published comes before the fence. */
    rings = __atomic_fetch_add(&queue->rings, 1, __ATOMIC_RELAXED) + 1;
    vyre_ioq_priv_store(queue->words + VYRE_IOQ_HEADER_WORD_DOORBELL, rings);
    if (wake != NULL) {
        wake(context);
    }
    return 1;
}

/* ---- Poll and take ------------------------------------------------------------------------------ */

/* Looks at a request that the caller published, or whose publication it has learnt of since: a slot
 * may still hold the outcome of the request before. VYRE_IOQ_DONE, and its outcome; or
 * VYRE_IOQ_PENDING, or VYRE_IOQ_NO_SUCH_SLOT, and `*outcome` is left as it is. */
static inline enum vyre_ioq_result vyre_ioq_poll(const struct vyre_ioq_queue *queue, uint32_t slot,
                                                 struct vyre_ioq_outcome *outcome)
{
    const uint32_t *words;
    uint32_t status;
    if (slot >= queue->slots) {
        return VYRE_IOQ_NO_SUCH_SLOT;
    }
    words = vyre_ioq_priv_slot_words(queue, slot);
    /* Acquire, paired with the host's release when it completes: COUNT, and the bytes that a READ
     * moved, are visible now. */
    status = vyre_ioq_priv_load_acquire(words + VYRE_IOQ_WORD_STATUS);
    if (status != VYRE_IOQ_STATUS_OK && status != VYRE_IOQ_STATUS_ERROR) {
        return VYRE_IOQ_PENDING;
    }
    outcome->status = status;
    outcome->count = vyre_ioq_priv_load(words + VYRE_IOQ_WORD_COUNT);
    if (!queue->counts && status == VYRE_IOQ_STATUS_ERROR) {
        outcome->count = VYRE_IOQ_ERRNO_EIO; /* COUNT is the request's; the cause is not told */
    }
    outcome->tag = vyre_ioq_priv_load(words + VYRE_IOQ_WORD_TAG);
    return VYRE_IOQ_DONE;
}

/* As vyre_ioq_poll; if there is an outcome, gives the slot back as well. So an outcome must be taken
 * once: the slot is another's then. Nothing is stored in the slot: the next publication replaces the
 * outcome, and each store would take the slot's cache line away from the host. */
static inline enum vyre_ioq_result vyre_ioq_take(struct vyre_ioq_queue *queue, uint32_t slot,
                                                 struct vyre_ioq_outcome *outcome)
{
    enum vyre_ioq_result polled = vyre_ioq_poll(queue, slot, outcome);
    if (polled == VYRE_IOQ_DONE) {
        vyre_ioq_priv_unlock(queue, slot);
    }
    return polled;
}

/* What the host says of itself: VYRE_IOQ_STATE_…. Acquire, paired with the host's release: who sees
 * STOPPED or FAILED sees every outcome that was stored before. */
static inline uint32_t vyre_ioq_host_state(const struct vyre_ioq_queue *queue)
{
    uint32_t state;
    if (queue->bare) {
        return VYRE_IOQ_STATE_UNTOLD;
    }
    state = vyre_ioq_priv_load_acquire(queue->words + VYRE_IOQ_HEADER_WORD_STATE);
    return state > VYRE_IOQ_STATE_FAILED ? VYRE_IOQ_STATE_FAILED : state;
}

/* A counter that moves while the host lives; 0 for a bare queue. Only change means anything. */
static inline uint32_t vyre_ioq_host_heartbeat(const struct vyre_ioq_queue *queue)
{
    return queue->bare ? 0 : vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_HEARTBEAT);
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IOQ_H */
