/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * @file vyre_ioq_wait.h
 * @brief Waiting for the outcome of a request, with a clock. For processes on Linux.
 *
 * Includes vyre_ioq.h, which has the rest of the device end.
 */
#ifndef VYRE_IOQ_WAIT_H
#define VYRE_IOQ_WAIT_H

/* Strict ISO C hides clock_gettime and clock_nanosleep. */
#if defined(__STRICT_ANSI__) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <sched.h>
#include <time.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "vyre_ioq.h"

#ifndef CLOCK_MONOTONIC
#error "define _POSIX_C_SOURCE as 200809L before the first #include, or include vyre_ioq_wait.h first"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** How long vyre_ioq_wait waits. */
struct vyre_ioq_wait_limits {
    /** Nanoseconds to wait for the outcome; UINT64_MAX: without a limit. */
    uint64_t timeout_ns;
    /**
     * Nanoseconds that the host's heartbeat may stand still; 0: do not check it. A host that sleeps
     * beats late, so allow at least one second.
     */
    uint64_t heartbeat_timeout_ns;
};

/* Returns the time of CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t vyre_ioq_priv_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Backs off once, after `waited` of at most `limit` nanoseconds: spins for as long as a cached read
 * takes, then yields for as long as a fast drive takes, then sleeps for a sixteenth of the time waited,
 * at most 1 ms. */
static inline void vyre_ioq_priv_back_off(uint64_t waited, uint64_t limit)
{
    const uint64_t spin_ns = 20000, yield_ns = 100000, longest_sleep_ns = 1000000;
    struct timespec sleep;
    uint64_t ns = waited / 16;
    if (waited < spin_ns) {
        return;
    }
    if (waited < yield_ns) {
        sched_yield();
        return;
    }
    ns = ns < longest_sleep_ns ? ns : longest_sleep_ns;
    ns = ns < limit - waited ? ns : limit - waited;
    sleep.tv_sec = 0;
    sleep.tv_nsec = (long)ns;
    /* A signal that interrupts the sleep only makes the next poll come sooner. */
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, NULL);
}

/* Tells the CPU that the thread spins. */
static inline void vyre_ioq_priv_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#ifdef __linux__
/* The function `syscall` of the C library, which strict ISO C hides. */
extern long vyre_ioq_priv_syscall(long number, ...) __asm__("syscall");

/**
 * Wakes a host that sleeps on the doorbell of a queue. For the second parameter of vyre_ioq_ring, with
 * the queue as the third one.
 *
 * @param context The queue, a struct vyre_ioq_queue.
 */
static inline void vyre_ioq_wake_host(void *context)
{
    struct vyre_ioq_queue *queue = (struct vyre_ioq_queue *)context;
    /* FUTEX_WAKE, and INT_MAX waiters: another waiter must not get the host's wake-up. */
    (void)vyre_ioq_priv_syscall(SYS_futex, queue->words + VYRE_IOQ_HEADER_WORD_DOORBELL, 1, 0x7fffffff,
                                (void *)0, (void *)0, 0);
}

/**
 * Rings the doorbell if the host sleeps, and wakes the host. Call it after publishing, once for any
 * number of requests. A host that is awake costs no system call. vyre_ioq_wait calls this first.
 *
 * @return 1 if the host slept, else 0.
 */
static inline int vyre_ioq_ring_and_wake(struct vyre_ioq_queue *queue)
{
    return vyre_ioq_ring(queue, vyre_ioq_wake_host, queue);
}

/**
 * Sleeps until the host wakes this device by the futex, for `limit_ns` nanoseconds at most. Returns at once if the host
 * has woken the device since vyre_ioq_arm returned `before`. May return early for other reasons. A thread that was woken
 * wakes the other threads that sleep here.
 */
static inline void vyre_ioq_sleep_until_woken(struct vyre_ioq_queue *queue, uint32_t before,
                                              uint64_t limit_ns)
{
    uint32_t *word = queue->words + VYRE_IOQ_HEADER_WORD_WAKEUPS;
    const uint64_t second = 1000000000u;
    struct timespec limit;
    limit.tv_sec = (time_t)(limit_ns / second < 1000000000u ? limit_ns / second : 1000000000u);
    limit.tv_nsec = (long)(limit_ns % second);
    /* Relaxed: a read-modify-write finds the last value. Who waits in the kernel has counted itself. */
    (void)__atomic_fetch_add(&queue->sleepers, 1, __ATOMIC_RELAXED);
    /* FUTEX_WAIT. The kernel compares the word as it is in memory. */
    (void)vyre_ioq_priv_syscall(SYS_futex, word, 0, vyre_ioq_priv_le(before), &limit, (void *)0, 0);
    if (__atomic_fetch_sub(&queue->sleepers, 1, __ATOMIC_RELAXED) > 1 &&
        vyre_ioq_wakeups(queue) != before) {
        (void)vyre_ioq_priv_syscall(SYS_futex, word, 1, 0x7fffffff, (void *)0, (void *)0, 0);
    }
}

/* Sleeps until the host wakes the device, unless there is an outcome or the host has gone. */
static inline void vyre_ioq_priv_sleep_armed(struct vyre_ioq_queue *queue, uint32_t slot, uint64_t left)
{
    /* A host that may be dead wakes nobody: its heartbeat is looked at. */
    const uint64_t longest_ns = 100000000;
    struct vyre_ioq_outcome outcome;
    const uint32_t before = vyre_ioq_arm(queue);
    const uint32_t state = vyre_ioq_host_state(queue);
    if (state != VYRE_IOQ_STATE_STOPPED && state != VYRE_IOQ_STATE_FAILED &&
        vyre_ioq_poll(queue, slot, &outcome) == VYRE_IOQ_PENDING) {
        vyre_ioq_sleep_until_woken(queue, before, left < longest_ns ? left : longest_ns);
    }
}
#endif

/**
 * Waits for the outcome of a request that the caller published, takes it and frees the slot.
 *
 * On Linux, rings the doorbell first if the host sleeps, as vyre_ioq_ring_and_wake does. After
 * vyre_ioq_expect_wakeups, sleeps until the host wakes it.
 *
 * Without an outcome the slot still holds the request. Wait for it again, or give it up by
 * vyre_ioq_abandon. Its buffer must not be used until there is an outcome, or until whoever started the
 * host reports that it has ended.
 *
 * @param[out] outcome All zeros, which is no outcome, unless the result is VYRE_IOQ_OK.
 * @param[out] heartbeat_moved May be NULL. Set to 1 if the heartbeat moved during the wait, else 0. A
 *             live host beats a few times a second, so 0 says nothing about a shorter wait. Always 0
 *             for a bare queue.
 * @return VYRE_IOQ_OK;
 *         VYRE_IOQ_HOST_GONE if the host stopped or failed, or if its heartbeat stood still for
 *         `heartbeat_timeout_ns`;
 *         VYRE_IOQ_TIMED_OUT after `timeout_ns`;
 *         VYRE_IOQ_INVALID_SLOT if the queue has no such slot.
 */
static inline enum vyre_ioq_result vyre_ioq_wait(struct vyre_ioq_queue *queue, uint32_t slot,
                                                 const struct vyre_ioq_wait_limits *limits,
                                                 struct vyre_ioq_outcome *outcome,
                                                 int *heartbeat_moved)
{
    const uint32_t first_beat = vyre_ioq_host_heartbeat(queue);
    uint32_t beat = first_beat;
    uint64_t start = 0, beat_at = 0, waited = 0;
    int polls;
    enum vyre_ioq_result result = VYRE_IOQ_PENDING;

    __builtin_memset(outcome, 0, sizeof(*outcome));
    if (heartbeat_moved != NULL) {
        *heartbeat_moved = 0;
    }
    if (slot >= queue->slots) {
        return VYRE_IOQ_INVALID_SLOT;
    }
#ifdef __linux__
    (void)vyre_ioq_ring_and_wake(queue);
#endif
    while (result == VYRE_IOQ_PENDING) {
        uint32_t state, beat_now;
        uint64_t now;
        for (polls = 0; polls < 64; polls++) {
            if (vyre_ioq_take(queue, slot, outcome) == VYRE_IOQ_OK) {
                if (heartbeat_moved != NULL) {
                    *heartbeat_moved = vyre_ioq_host_heartbeat(queue) != first_beat;
                }
                return VYRE_IOQ_OK;
            }
            vyre_ioq_priv_cpu_relax();
        }
        now = vyre_ioq_priv_now_ns();
        start = start == 0 ? now : start;
        waited = now - start;
        beat_now = vyre_ioq_host_heartbeat(queue);
        if (beat_now != beat || beat_at == 0) {
            beat = beat_now;
            beat_at = now;
        }
        state = vyre_ioq_host_state(queue);
        if (state == VYRE_IOQ_STATE_STOPPED || state == VYRE_IOQ_STATE_FAILED ||
            (!queue->bare && limits->heartbeat_timeout_ns != 0 &&
             now - beat_at >= limits->heartbeat_timeout_ns)) {
            result = VYRE_IOQ_HOST_GONE;
        } else if (waited >= limits->timeout_ns) {
            result = VYRE_IOQ_TIMED_OUT;
        } else {
#ifdef __linux__
            if (waited >= 100000 && __atomic_load_n(&queue->expects, __ATOMIC_RELAXED) != 0) {
                vyre_ioq_priv_sleep_armed(queue, slot, limits->timeout_ns - waited);
                continue;
            }
#endif
            vyre_ioq_priv_back_off(waited, limits->timeout_ns);
        }
    }
    if (heartbeat_moved != NULL) {
        *heartbeat_moved = beat != first_beat;
    }
    /* STATE was loaded with acquire: an outcome that the host stored before it is visible now. */
    return vyre_ioq_take(queue, slot, outcome) == VYRE_IOQ_OK ? VYRE_IOQ_OK : result;
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IOQ_WAIT_H */
