/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Waiting for the outcome of a request, with a clock: for processes on Linux. The rest of the
 * device's end is in vyre_ioq.h, which this header includes. */

#ifndef VYRE_IOQ_WAIT_H
#define VYRE_IOQ_WAIT_H

/* clock_gettime and clock_nanosleep, for whoever compiles for strict ISO C. */
#if defined(__STRICT_ANSI__) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <sched.h>
#include <time.h>

#include "vyre_ioq.h"

#ifndef CLOCK_MONOTONIC
#error "define _POSIX_C_SOURCE as 200809L before the first #include, or include vyre_ioq_wait.h first"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* How long vyre_ioq_wait waits. */
struct vyre_ioq_patience {
    uint64_t limit_ns;      /* for the outcome; UINT64_MAX is for ever */
    uint64_t standstill_ns; /* for a heartbeat to move; 0: look at the host's state alone. A host that
                             * sleeps beats late: allow it a second */
};

static inline uint64_t vyre_ioq_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One step of a wait that has lasted for `waited` of at most `limit` nanoseconds: spins while a cached
 * read takes, yields while a fast drive takes, then sleeps a sixteenth of the time waited, at most 1 ms. */
static inline void vyre_ioq_priv_pause(uint64_t waited, uint64_t limit)
{
    const uint64_t spin = 20000, yield = 100000, nap = 1000000;
    struct timespec sleep;
    uint64_t ns = waited / 16;
    if (waited < spin) {
        return;
    }
    if (waited < yield) {
        sched_yield();
        return;
    }
    ns = ns < nap ? ns : nap;
    ns = ns < limit - waited ? ns : limit - waited;
    sleep.tv_sec = 0;
    sleep.tv_nsec = (long)ns;
    /* Cut short by a signal, it only looks sooner. */
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, NULL);
}

/* Waits for the outcome of a request that the caller published, takes it and gives the slot back.
 *
 * VYRE_IOQ_DONE       there is the outcome.
 * VYRE_IOQ_HOST_GONE  the host's state is STOPPED, FAILED or unknown; or its heartbeat stood still for
 *                     `standstill_ns`, and it is dead or late.
 * VYRE_IOQ_TIMED_OUT  `limit_ns` are over.
 * VYRE_IOQ_NO_SUCH_SLOT  the queue has no such slot.
 *
 * `*moved`, if given, says whether the heartbeat moved during the wait: 0 for a bare queue, which has
 * none, and whose waits end by the limit alone. A host that lives beats a few times a second: of a
 * shorter wait, 0 says nothing. Without an outcome, `*outcome` is all zeros, which no outcome is.
 *
 * Without an outcome the slot still holds the request: it may be waited for again, and its buffer must
 * not be used until there is an outcome, or until whoever started the host says that it has ended. */
static inline enum vyre_ioq_result vyre_ioq_wait(struct vyre_ioq_queue *queue, uint32_t slot,
                                                 const struct vyre_ioq_patience *patience,
                                                 struct vyre_ioq_outcome *outcome, int *moved)
{
    const uint32_t first = vyre_ioq_host_heartbeat(queue);
    uint32_t beat = first;
    uint64_t start = 0, beaten = 0, waited = 0;
    int polls;
    enum vyre_ioq_result end = VYRE_IOQ_PENDING;

    __builtin_memset(outcome, 0, sizeof(*outcome));
    if (moved != NULL) {
        *moved = 0;
    }
    if (slot >= queue->slots) {
        return VYRE_IOQ_NO_SUCH_SLOT;
    }
    while (end == VYRE_IOQ_PENDING) {
        uint32_t state, heard;
        uint64_t now;
        for (polls = 0; polls < 64; polls++) {
            if (vyre_ioq_take(queue, slot, outcome) == VYRE_IOQ_DONE) {
                if (moved != NULL) {
                    *moved = vyre_ioq_host_heartbeat(queue) != first;
                }
                return VYRE_IOQ_DONE;
            }
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ __volatile__("yield");
#endif
        }
        now = vyre_ioq_now_ns();
        start = start == 0 ? now : start;
        waited = now - start;
        heard = vyre_ioq_host_heartbeat(queue);
        if (heard != beat || beaten == 0) {
            beat = heard;
            beaten = now;
        }
        state = vyre_ioq_host_state(queue);
        if (state == VYRE_IOQ_STATE_STOPPED || state == VYRE_IOQ_STATE_FAILED ||
            (!queue->bare && patience->standstill_ns != 0 &&
             now - beaten >= patience->standstill_ns)) {
            end = VYRE_IOQ_HOST_GONE;
        } else if (waited >= patience->limit_ns) {
            end = VYRE_IOQ_TIMED_OUT;
        } else {
            vyre_ioq_priv_pause(waited, patience->limit_ns);
        }
    }
    if (moved != NULL) {
        *moved = beat != first;
    }
    /* The state's acquire came first: an outcome that was stored before it is visible now. */
    return vyre_ioq_take(queue, slot, outcome) == VYRE_IOQ_DONE ? VYRE_IOQ_DONE : end;
}

#ifdef __cplusplus
}
#endif

#endif /* VYRE_IOQ_WAIT_H */
