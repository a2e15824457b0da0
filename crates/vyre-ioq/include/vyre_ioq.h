/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_ioq.h
 * @brief The device end of a vyre I/O queue, for processes on the CPU.
 *
 * A device writes requests for file I/O into slots of shared memory. A host serves the requests and
 * stores their outcomes in the same slots. ABI.md in the repository is the normative description.
 *
 *   vyre_ioq_attach                     attach to a queue that a host has created
 *   vyre_ioq_prep_read, _write, ...     describe a request
 *   vyre_ioq_reserve, vyre_ioq_publish  take a slot and publish a request in it
 *   vyre_ioq_submit                     both of these
 *   vyre_ioq_poll, vyre_ioq_take        look for an outcome; take it and free the slot
 *   vyre_ioq_wait                       poll until the outcome is there (vyre_ioq_wait.h)
 *   vyre_ioq_unreserve                  free a slot in which nothing was published
 *   vyre_ioq_abandon                    give up a request without taking its outcome
 *   vyre_ioq_ring                       wake a host that sleeps
 *   vyre_ioq_expect_wakeups, _arm, _wakeups
 *                                       sleep until the host wakes the device
 *
 * A queue has one device end at a time, which is one struct vyre_ioq_queue. Any number of threads may
 * share it; each thread uses the slots that it reserved. The functions allocate no memory, do not set
 * errno and make no system call.
 *
 * Shared words are loaded and stored whole, by atomic accesses of 32 bits. Threads compete for slots by
 * read-modify-writes in struct vyre_ioq_queue, which is private memory; no read-modify-write touches
 * shared memory.
 *
 * Requires C11 or C++14, and gcc or clang. Identifiers that begin with vyre_ioq_priv_, and macros that
 * end in an underscore, are internal and may change in any release.
 */
#ifndef VYRE_IOQ_H
#define VYRE_IOQ_H

#include <stddef.h>
#include <stdint.h>

#include "vyre_ioq_types.h"

#if !defined(__BYTE_ORDER__) || !defined(__ORDER_BIG_ENDIAN__) || !defined(__ORDER_LITTLE_ENDIAN__)
#error "vyre_ioq.h needs a compiler that defines __BYTE_ORDER__, as gcc and clang do"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Internal: shared words -------------------------------------------------------------------- */

/* Converts between the machine's byte order and that of shared words, which is little-endian. */
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

/* Returns the first word of a slot. */
static inline uint32_t *vyre_ioq_priv_slot_words(const struct vyre_ioq_queue *queue, uint32_t slot)
{
    return queue->words + queue->first + (size_t)slot * queue->stride;
}

/* ---- Attach ------------------------------------------------------------------------------------ */

static inline void vyre_ioq_priv_init(struct vyre_ioq_queue *queue, void *memory)
{
    __builtin_memset(queue, 0, sizeof(*queue));
    queue->words = (uint32_t *)memory;
    /* The host always sweeps group 0. */
    queue->marked[0] = 1;
}

/**
 * Attaches to a queue with a header, which a host has created in the `len` bytes at `memory`.
 *
 * The header is read once; later stores to it have no effect on `queue`. The memory must stay mapped
 * while `queue` is in use.
 *
 * @return VYRE_IOQ_ATTACH_OK, or the first rule of ABI.md, section 3, that the memory breaks. After an
 *         error, `queue` must not be used.
 */
static inline enum vyre_ioq_attach_error vyre_ioq_attach(struct vyre_ioq_queue *queue, void *memory,
                                                         size_t len)
{
    struct vyre_ioq_header header;
    uint32_t line[sizeof(header) / sizeof(uint32_t)];
    size_t word;

    vyre_ioq_priv_init(queue, memory);
    if ((uintptr_t)memory % VYRE_IOQ_HEADER_ALIGN != 0) {
        return VYRE_IOQ_ATTACH_MISALIGNED;
    }
    if (len < VYRE_IOQ_HEADER_BYTES) {
        return VYRE_IOQ_ATTACH_TOO_SHORT;
    }
    /* Acquire, paired with the release by which the host stores the magic after all other words of the
     * header. Each word is read once. */
    line[VYRE_IOQ_HEADER_WORD_MAGIC] = vyre_ioq_priv_load_acquire(queue->words);
    for (word = 1; word < sizeof(line) / sizeof(line[0]); word++) {
        line[word] = vyre_ioq_priv_load(queue->words + word);
    }
    __builtin_memcpy(&header, line, sizeof(header));

    if (header.magic[0] != VYRE_IOQ_MAGIC_0 || header.magic[1] != VYRE_IOQ_MAGIC_1) {
        return VYRE_IOQ_ATTACH_BAD_MAGIC;
    }
    if (header.major != VYRE_IOQ_ABI_MAJOR) {
        return VYRE_IOQ_ATTACH_MAJOR_VERSION;
    }
    if (header.stride != VYRE_IOQ_SLOT_BYTES) {
        return VYRE_IOQ_ATTACH_BAD_STRIDE;
    }
    if (header.slots_offset % VYRE_IOQ_SLOT_BYTES != 0 ||
        header.slots_offset < VYRE_IOQ_HEADER_BYTES) {
        return VYRE_IOQ_ATTACH_BAD_SLOTS_OFFSET;
    }
    for (word = 0; word < sizeof(header.reserved) / sizeof(header.reserved[0]); word++) {
        if (header.reserved[word] != 0) {
            return VYRE_IOQ_ATTACH_RESERVED_NOT_ZERO;
        }
    }
    if (header.slots == 0 || header.slots > VYRE_IOQ_MAX_SLOTS) {
        return VYRE_IOQ_ATTACH_BAD_SLOT_COUNT;
    }
    if (len < header.slots_offset || len - header.slots_offset < header.slots * VYRE_IOQ_SLOT_BYTES) {
        return VYRE_IOQ_ATTACH_TOO_SHORT;
    }
    queue->first = header.slots_offset / (uint32_t)sizeof(uint32_t);
    queue->stride = VYRE_IOQ_SLOT_BYTES / (uint32_t)sizeof(uint32_t);
    queue->slots = header.slots;
    queue->counts = 1;
    /* Continue from the numbers that an earlier device end stored. */
    queue->rings = vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_DOORBELL);
    queue->arms = vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_ARMED);
    queue->features = header.features & (VYRE_IOQ_FEATURE_DOORBELL | VYRE_IOQ_FEATURE_WAKE);
    queue->id = header.queue_id[0] | (uint64_t)header.queue_id[1] << 32;
    return VYRE_IOQ_ATTACH_OK;
}

/**
 * Attaches to a queue of the bare layout, which fills the `len` bytes at `memory`.
 *
 * Nothing in the memory identifies it as a queue. The host of a bare queue stores STATUS only, so an
 * outcome's `count` is not a result: for OK it is the count of the request, although the transfer may
 * have been shorter; for ERROR it is always VYRE_IOQ_ERRNO_EIO.
 *
 * @return VYRE_IOQ_ATTACH_OK, MISALIGNED, BARE_LENGTH or BAD_SLOT_COUNT.
 */
static inline enum vyre_ioq_attach_error vyre_ioq_attach_bare(struct vyre_ioq_queue *queue,
                                                              void *memory, size_t len)
{
    vyre_ioq_priv_init(queue, memory);
    if ((uintptr_t)memory % sizeof(uint32_t) != 0) {
        return VYRE_IOQ_ATTACH_MISALIGNED;
    }
    if (len % VYRE_IOQ_BARE_SLOT_BYTES != 0) {
        return VYRE_IOQ_ATTACH_BARE_LENGTH;
    }
    if (len == 0 || len / VYRE_IOQ_BARE_SLOT_BYTES > VYRE_IOQ_MAX_BARE_SLOTS) {
        return VYRE_IOQ_ATTACH_BAD_SLOT_COUNT;
    }
    queue->stride = VYRE_IOQ_BARE_SLOT_BYTES / (uint32_t)sizeof(uint32_t);
    queue->slots = (uint32_t)(len / VYRE_IOQ_BARE_SLOT_BYTES);
    queue->bare = 1;
    return VYRE_IOQ_ATTACH_OK;
}

/**
 * Attaches to a bare queue whose host was configured to store byte counts and errnos in COUNT.
 *
 * With any other host, the counts and errnos of outcomes are meaningless.
 *
 * @return As vyre_ioq_attach_bare.
 */
static inline enum vyre_ioq_attach_error
vyre_ioq_attach_bare_with_counts(struct vyre_ioq_queue *queue, void *memory, size_t len)
{
    const enum vyre_ioq_attach_error error = vyre_ioq_attach_bare(queue, memory, len);
    queue->counts = 1;
    return error;
}

/* ---- Reserve and publish ----------------------------------------------------------------------- */

/* Frees a slot. Release, paired with the acquire in vyre_ioq_reserve: taking the outcome happens before
 * the stores of the slot's next user. */
static inline void vyre_ioq_priv_unlock(struct vyre_ioq_queue *queue, uint32_t slot)
{
    __atomic_fetch_and(&queue->locks[slot / 32], ~(1u << slot % 32), __ATOMIC_RELEASE);
}

/* Returns whether the host serves no request in a slot. A slot that was just locked may hold a request
 * of an earlier device end. An old outcome is no obstacle: the next publication replaces it. */
static inline int vyre_ioq_priv_is_free(struct vyre_ioq_queue *queue, uint32_t slot)
{
    /* Acquire, paired with the host's release of the outcome: the host no longer reads the slot or
     * accesses the buffer. */
    const uint32_t status =
        vyre_ioq_priv_load_acquire(vyre_ioq_priv_slot_words(queue, slot) + VYRE_IOQ_WORD_STATUS);
    return status != VYRE_IOQ_STATUS_PUBLISHED && status != VYRE_IOQ_STATUS_CLAIMED;
}

/* Marks the group of a slot as in use, so that the host sweeps it. */
static inline void vyre_ioq_priv_mark(struct vyre_ioq_queue *queue, uint32_t slot)
{
    const uint32_t group = slot / VYRE_IOQ_GROUP_SLOTS;
    /* Acquire, paired with the release below: another thread's mark happens before this thread's
     * publication, so a host that sees the publication also sees the mark. */
    if (__atomic_load_n(&queue->marked[group], __ATOMIC_ACQUIRE) == 0) {
        vyre_ioq_priv_store(queue->words + VYRE_IOQ_HEADER_WORD_IN_USE + group, 1);
        __atomic_store_n(&queue->marked[group], 1, __ATOMIC_RELEASE);
    }
}

/* Reserves an abandoned slot whose request has an outcome. */
static inline enum vyre_ioq_result vyre_ioq_priv_reclaim(struct vyre_ioq_queue *queue, uint32_t *slot)
{
    uint32_t first;
    for (first = 0; first < queue->slots; first += 32) {
        uint32_t *abandoned = &queue->abandoned[first / 32];
        uint32_t left = __atomic_load_n(abandoned, __ATOMIC_RELAXED);
        while (left != 0) {
            const uint32_t bit = left & (0u - left);
            left &= ~bit;
            /* The thread that clears the bit owns the slot. Acquire, paired with the release in
             * vyre_ioq_abandon: the publication happens before this thread reads the status. */
            if ((__atomic_fetch_and(abandoned, ~bit, __ATOMIC_ACQUIRE) & bit) == 0) {
                continue;
            }
            *slot = first + (uint32_t)__builtin_ctz(bit);
            if (vyre_ioq_priv_is_free(queue, *slot)) {
                return VYRE_IOQ_OK;
            }
            /* Relaxed: a read-modify-write continues the release sequence of vyre_ioq_abandon. */
            __atomic_fetch_or(abandoned, bit, __ATOMIC_RELAXED);
        }
    }
    *slot = VYRE_IOQ_NO_SLOT;
    return VYRE_IOQ_QUEUE_FULL;
}

/**
 * Reserves a slot for the caller.
 *
 * Reserves the lowest free slot, which keeps the host's sweep short. If no slot is free, reuses an
 * abandoned slot whose request has an outcome. The slot belongs to the caller until vyre_ioq_take or
 * vyre_ioq_wait returns its outcome, or until vyre_ioq_unreserve or vyre_ioq_abandon.
 *
 * @param[out] slot The slot, or VYRE_IOQ_NO_SLOT.
 * @return VYRE_IOQ_OK or VYRE_IOQ_QUEUE_FULL.
 */
static inline enum vyre_ioq_result vyre_ioq_reserve(struct vyre_ioq_queue *queue, uint32_t *slot)
{
    uint32_t first;
    for (first = 0; first < queue->slots; first += 32) {
        uint32_t *lock = &queue->locks[first / 32];
        const uint32_t left = queue->slots - first;
        /* Bits past the last slot, and slots that turned out to hold an old request. */
        uint32_t refused = left < 32 ? UINT32_MAX << left : 0;
        for (;;) {
            const uint32_t free = ~(__atomic_load_n(lock, __ATOMIC_RELAXED) | refused);
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
                return VYRE_IOQ_OK;
            }
            vyre_ioq_priv_unlock(queue, first + bit);
            refused |= 1u << bit;
        }
    }
    return vyre_ioq_priv_reclaim(queue, slot);
}

/**
 * Gives up a published request without taking its outcome.
 *
 * The host still serves the request. vyre_ioq_reserve reuses the slot once the request has an outcome
 * and no other slot is free. Until then the request's buffer must not be used, and no call tells when
 * that is. The slot no longer belongs to the caller: abandon it once.
 */
static inline void vyre_ioq_abandon(struct vyre_ioq_queue *queue, uint32_t slot)
{
    if (slot < queue->slots) {
        /* Release, paired with the acquire in vyre_ioq_priv_reclaim. */
        __atomic_fetch_or(&queue->abandoned[slot / 32], 1u << slot % 32, __ATOMIC_RELEASE);
    }
}

/**
 * Frees a reserved slot in which nothing was published.
 *
 * If the slot holds a request, the host may be serving it; the call is then vyre_ioq_abandon.
 */
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

/**
 * Publishes a request in a slot that the caller reserved. Does nothing if the queue has no such slot.
 *
 * Until the request has an outcome, the program must not access the buffer of a READ, and must not
 * modify the buffer of a WRITE.
 */
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
    /* STATUS goes last. Release, paired with the host's acquire load before it claims: it hands over the
     * words above and the bytes that a WRITE will read. */
    vyre_ioq_priv_store_release(words + VYRE_IOQ_WORD_STATUS, VYRE_IOQ_STATUS_PUBLISHED);
}

/**
 * Reserves a slot and publishes a request in it.
 *
 * @param[out] slot The slot, or VYRE_IOQ_NO_SLOT.
 * @return VYRE_IOQ_OK or VYRE_IOQ_QUEUE_FULL.
 */
static inline enum vyre_ioq_result vyre_ioq_submit(struct vyre_ioq_queue *queue,
                                                   const struct vyre_ioq_request *request,
                                                   uint32_t *slot)
{
    const enum vyre_ioq_result reserved = vyre_ioq_reserve(queue, slot);
    if (reserved == VYRE_IOQ_OK) {
        vyre_ioq_publish(queue, *slot, request);
    }
    return reserved;
}

/* ThreadSanitizer does not model fences. No plain memory depends on this one. */
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
static inline void vyre_ioq_priv_fence_seq_cst(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/**
 * Rings the doorbell if the host sleeps. Call it after publishing, once for any number of requests.
 *
 * On Linux, the host waits on the word DOORBELL as on a futex, unless both sides have agreed on something
 * else: vyre_ioq_ring_and_wake of vyre_ioq_wait.h wakes it. Does nothing if the host offers no doorbell.
 *
 * @param wake Called once with `context` if the host must be woken; NULL if the caller wakes it.
 * @return 1 if the host must be woken, or was woken by `wake`; else 0.
 */
static inline int vyre_ioq_ring(struct vyre_ioq_queue *queue, void (*wake)(void *context),
                                void *context)
{
    uint32_t rings;
    if ((queue->features & VYRE_IOQ_FEATURE_DOORBELL) == 0) {
        return 0;
    }
    /* Paired with the host's fence between its store to ASLEEP and its last sweep. Either that sweep
     * finds what was published before this fence, or the load below finds the host asleep. */
    vyre_ioq_priv_fence_seq_cst();
    if (vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_ASLEEP) != 1) {
        return 0;
    }
    /* No two rings store the same number. If two threads each added one to DOORBELL itself, the slower
     * could restore the number that the host sleeps on. Relaxed: only distinctness matters, and the
     * fence orders the publication. */
    rings = __atomic_fetch_add(&queue->rings, 1, __ATOMIC_RELAXED) + 1;
    vyre_ioq_priv_store(queue->words + VYRE_IOQ_HEADER_WORD_DOORBELL, rings);
    if (wake != NULL) {
        wake(context);
    }
    return 1;
}

/* ---- Sleep until there is an outcome ------------------------------------------------------------ */

/* Stores a number to ARMED that was never stored there, and is not zero. If threads added one to the word itself, a slow
 * thread could restore the number from which the host has woken the device. Relaxed: only distinctness matters. */
static inline void vyre_ioq_priv_store_armed(struct vyre_ioq_queue *queue)
{
    uint32_t number = 0;
    while (number == 0) {
        number = __atomic_fetch_add(&queue->arms, 1, __ATOMIC_RELAXED) + 1;
    }
    vyre_ioq_priv_store(queue->words + VYRE_IOQ_HEADER_WORD_ARMED, number);
}

/**
 * Tells the host that threads of this device sleep until there are outcomes. Call it before the first request is
 * published for whose outcome a thread may sleep: once, if all threads that publish have learned of it, or in each of
 * them. On Linux, vyre_ioq_wait sleeps until the host wakes it from then on.
 *
 * @return 1, or 0 if the host wakes nobody.
 */
static inline int vyre_ioq_expect_wakeups(struct vyre_ioq_queue *queue)
{
    if ((queue->features & VYRE_IOQ_FEATURE_WAKE) == 0) {
        return 0;
    }
    vyre_ioq_priv_store_armed(queue);
    __atomic_store_n(&queue->expects, 1, __ATOMIC_RELAXED);
    return 1;
}

/**
 * Returns the number of times that the host woke this device; 0 in a queue that does not offer it. Only a change has a
 * meaning. Whoever sees a change also sees the outcomes that it is for.
 */
static inline uint32_t vyre_ioq_wakeups(const struct vyre_ioq_queue *queue)
{
    if ((queue->features & VYRE_IOQ_FEATURE_WAKE) == 0) {
        return 0;
    }
    return vyre_ioq_priv_load_acquire(queue->words + VYRE_IOQ_HEADER_WORD_WAKEUPS);
}

/**
 * Announces that a thread is about to sleep until there is an outcome. After this, poll every request that the thread
 * waits for, and look at vyre_ioq_host_state. If there is no outcome and the host has neither stopped nor failed, sleep
 * while vyre_ioq_wakeups returns what this returned. One wake-up uses up all announcements before it.
 *
 * On Linux, the host wakes one thread that waits on the word WAKEUPS as on a futex; if several wait, each must wake the
 * others. vyre_ioq_sleep_until_woken of vyre_ioq_wait.h does that. Call vyre_ioq_expect_wakeups before.
 *
 * @return The number of wake-ups so far.
 */
static inline uint32_t vyre_ioq_arm(struct vyre_ioq_queue *queue)
{
    const uint32_t before = vyre_ioq_wakeups(queue);
    if ((queue->features & VYRE_IOQ_FEATURE_WAKE) != 0) {
        vyre_ioq_priv_store_armed(queue);
        /* Paired with the host's fence between its store of an outcome and its load of ARMED. Either the host finds the
         * number, or the caller finds the outcome. */
        vyre_ioq_priv_fence_seq_cst();
    }
    return before;
}

/* ---- Poll and take ------------------------------------------------------------------------------ */

/**
 * Reads the outcome of a published request, if there is one. Does not free the slot.
 *
 * Call it from the thread that published the request, or after synchronizing with it. Otherwise the slot
 * may still show the outcome of an earlier request.
 *
 * @param[out] outcome Set only if the result is VYRE_IOQ_OK.
 * @return VYRE_IOQ_OK, VYRE_IOQ_PENDING or VYRE_IOQ_INVALID_SLOT.
 */
static inline enum vyre_ioq_result vyre_ioq_poll(const struct vyre_ioq_queue *queue, uint32_t slot,
                                                 struct vyre_ioq_outcome *outcome)
{
    const uint32_t *words;
    uint32_t status;
    if (slot >= queue->slots) {
        return VYRE_IOQ_INVALID_SLOT;
    }
    words = vyre_ioq_priv_slot_words(queue, slot);
    /* Acquire, paired with the host's release of the outcome: COUNT, and the bytes of a READ, are
     * visible from here on. */
    status = vyre_ioq_priv_load_acquire(words + VYRE_IOQ_WORD_STATUS);
    if (status != VYRE_IOQ_STATUS_OK && status != VYRE_IOQ_STATUS_ERROR) {
        return VYRE_IOQ_PENDING;
    }
    outcome->status = status;
    outcome->count = vyre_ioq_priv_load(words + VYRE_IOQ_WORD_COUNT);
    if (!queue->counts && status == VYRE_IOQ_STATUS_ERROR) {
        outcome->count = VYRE_IOQ_ERRNO_EIO; /* COUNT still holds the count of the request. */
    }
    outcome->tag = vyre_ioq_priv_load(words + VYRE_IOQ_WORD_TAG);
    return VYRE_IOQ_OK;
}

/**
 * Takes the outcome of a published request, if there is one, and frees the slot.
 *
 * Take an outcome once: after VYRE_IOQ_OK the slot may belong to another thread. The call stores nothing
 * in the slot, whose cache line stays with the host; the next publication replaces the outcome.
 *
 * @param[out] outcome Set only if the result is VYRE_IOQ_OK.
 * @return As vyre_ioq_poll.
 */
static inline enum vyre_ioq_result vyre_ioq_take(struct vyre_ioq_queue *queue, uint32_t slot,
                                                 struct vyre_ioq_outcome *outcome)
{
    const enum vyre_ioq_result polled = vyre_ioq_poll(queue, slot, outcome);
    if (polled == VYRE_IOQ_OK) {
        vyre_ioq_priv_unlock(queue, slot);
    }
    return polled;
}

/* ---- The host ----------------------------------------------------------------------------------- */

/**
 * Returns the host's state: VYRE_IOQ_STATE_..., or VYRE_IOQ_STATE_UNKNOWN for a bare queue.
 *
 * A number that names no state is reported as VYRE_IOQ_STATE_FAILED. Once the state is STOPPED or
 * FAILED, every outcome that the host stored is visible, and no other will follow.
 */
static inline uint32_t vyre_ioq_host_state(const struct vyre_ioq_queue *queue)
{
    uint32_t state;
    if (queue->bare) {
        return VYRE_IOQ_STATE_UNKNOWN;
    }
    /* Acquire, paired with the host's release of STATE. */
    state = vyre_ioq_priv_load_acquire(queue->words + VYRE_IOQ_HEADER_WORD_STATE);
    return state > VYRE_IOQ_STATE_FAILED ? VYRE_IOQ_STATE_FAILED : state;
}

/**
 * Returns the host's heartbeat, a counter that changes while the host lives; 0 for a bare queue.
 *
 * Only a change of the number has a meaning.
 */
static inline uint32_t vyre_ioq_host_heartbeat(const struct vyre_ioq_queue *queue)
{
    return queue->bare ? 0 : vyre_ioq_priv_load(queue->words + VYRE_IOQ_HEADER_WORD_HEARTBEAT);
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IOQ_H */
