/* What the C device end does with invalid slots, without a wake function, and after a wait: one thread, and no
 * host. Exits with 0, or prints what failed and exits with 1. */

#define _POSIX_C_SOURCE 200809L
#include <time.h>

/* Replaces the clock that waits use. */
static int look_at_clock(clockid_t which, struct timespec *now);
#define clock_gettime look_at_clock

#include "vyre_ioq_wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(VYRE_IOQ_HEADER_ALIGN) uint32_t
    memory[(VYRE_IOQ_HEADER_BYTES + VYRE_IOQ_SLOT_BYTES) / 4];
static struct vyre_ioq_queue queue;

static void check(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static uint32_t *slot_word(uint32_t word)
{
    return memory + VYRE_IOQ_HEADER_BYTES / 4 + word;
}

/* Advances by a millisecond at each call. If `answers`, the host beats and stores an outcome meanwhile. */
static int answers;
static int look_at_clock(clockid_t which, struct timespec *now)
{
    static long looks;
    (void)which;
    looks++;
    now->tv_sec = 1 + looks / 1000;
    now->tv_nsec = looks % 1000 * 1000000;
    if (answers) {
        memory[VYRE_IOQ_HEADER_WORD_HEARTBEAT]++;
        *slot_word(VYRE_IOQ_WORD_STATUS) = VYRE_IOQ_STATUS_OK;
    }
    return 0;
}

static void create(void)
{
    memory[0] = VYRE_IOQ_MAGIC_0;
    memory[1] = VYRE_IOQ_MAGIC_1;
    memory[VYRE_IOQ_HEADER_WORD_MAJOR] = VYRE_IOQ_ABI_MAJOR;
    memory[VYRE_IOQ_HEADER_WORD_STRIDE] = VYRE_IOQ_SLOT_BYTES;
    memory[VYRE_IOQ_HEADER_WORD_SLOTS] = 1;
    memory[VYRE_IOQ_HEADER_WORD_SLOTS_OFFSET] = VYRE_IOQ_HEADER_BYTES;
    memory[VYRE_IOQ_HEADER_WORD_FEATURES] = VYRE_IOQ_FEATURE_DOORBELL;
    memory[VYRE_IOQ_HEADER_WORD_STATE] = VYRE_IOQ_STATE_RUNNING;
    check(vyre_ioq_attach(&queue, memory, sizeof(memory)) == VYRE_IOQ_ATTACH_OK, "attach");
}

int main(void)
{
    static uint32_t before[sizeof(memory) / 4];
    const struct vyre_ioq_request fence = vyre_ioq_prep_fence();
    const struct vyre_ioq_wait_limits none = { 0, 0 }, long_ns = { 60000000000u, 0 };
    struct vyre_ioq_outcome outcome = { 1, 2, 3 };
    uint32_t slot = 0, full = 0;
    int moved = 7;

    create();
    check(vyre_ioq_submit(&queue, &fence, &slot) == VYRE_IOQ_OK && slot == 0, "a free slot");
    check(vyre_ioq_submit(&queue, &fence, &full) == VYRE_IOQ_QUEUE_FULL, "full");
    check(full == VYRE_IOQ_NO_SLOT, "no slot");
    memcpy(before, memory, sizeof(memory));
    for (full = 1; full != 0; full = full == 1 ? VYRE_IOQ_NO_SLOT : 0) {
        check(vyre_ioq_poll(&queue, full, &outcome) == VYRE_IOQ_INVALID_SLOT, "poll");
        check(vyre_ioq_take(&queue, full, &outcome) == VYRE_IOQ_INVALID_SLOT, "take");
        vyre_ioq_publish(&queue, full, &fence);
        vyre_ioq_unreserve(&queue, full);
        vyre_ioq_abandon(&queue, full);
        check(vyre_ioq_wait(&queue, full, &long_ns, &outcome, &moved) == VYRE_IOQ_INVALID_SLOT,
              "wait");
    }
    check(memcmp(before, memory, sizeof(memory)) == 0, "no slot, no store");

    /* Without a wake function, the caller wakes the host. */
    memory[VYRE_IOQ_HEADER_WORD_ASLEEP] = 1;
    check(vyre_ioq_ring(&queue, NULL, NULL) == 1, "rung");
    check(memory[VYRE_IOQ_HEADER_WORD_DOORBELL] == 1, "a new number");

    /* Without an outcome, `outcome` is cleared. */
    outcome.status = VYRE_IOQ_STATUS_OK;
    moved = 7;
    check(vyre_ioq_wait(&queue, slot, &none, &outcome, &moved) == VYRE_IOQ_TIMED_OUT, "timed out");
    check(outcome.status == 0 && outcome.count == 0 && moved == 0, "set, without an outcome");

    /* The slot of a request that the host may be serving is not reserved again. */
    vyre_ioq_unreserve(&queue, slot);
    check(vyre_ioq_reserve(&queue, &full) == VYRE_IOQ_QUEUE_FULL, "the host may be serving it");
    *slot_word(VYRE_IOQ_WORD_STATUS) = VYRE_IOQ_STATUS_OK;
    check(vyre_ioq_submit(&queue, &fence, &slot) == VYRE_IOQ_OK, "its outcome is there");
    check(vyre_ioq_poll(&queue, slot, &outcome) == VYRE_IOQ_PENDING, "and not of the next");

    *slot_word(VYRE_IOQ_WORD_STATUS) = VYRE_IOQ_STATUS_OK;
    moved = 7;
    check(vyre_ioq_wait(&queue, slot, &none, &outcome, &moved) == VYRE_IOQ_OK, "an outcome");
    check(outcome.status == VYRE_IOQ_STATUS_OK && moved == 0, "set, with an outcome");
    answers = 1;
    check(vyre_ioq_submit(&queue, &fence, &slot) == VYRE_IOQ_OK, "given back");
    check(vyre_ioq_wait(&queue, slot, &long_ns, &outcome, &moved) == VYRE_IOQ_OK, "an outcome");
    check(moved == 1, "the heartbeat moved before the outcome came");
    check(vyre_ioq_reserve(&queue, &slot) == VYRE_IOQ_OK && slot == 0, "given back");
    vyre_ioq_unreserve(&queue, slot);
    check(vyre_ioq_reserve(&queue, &slot) == VYRE_IOQ_OK && slot == 0, "and again");
    return 0;
}
