/* Uses each function of the C headers once, and prints each name. Compiled as C and as C++ by every
 * compiler and standard, with CLASHES beside the macros of system headers. */

#ifdef CLASHES_BEFORE
#define _POSIX_C_SOURCE 200809L /* as vyre_ioq_wait.h asks for */
#include "clashes.h"
#endif
#include "vyre_ioq_wait.h"
#ifdef CLASHES_AFTER
#include "clashes.h"
#endif

#include <stdio.h>
#include <string.h>

#define SLOTS 64u
#define WORDS ((VYRE_IOQ_HEADER_BYTES + SLOTS * VYRE_IOQ_SLOT_BYTES) / 4)

/* Twice as much, so that a part of it is aligned in any standard. */
static uint32_t memory[2 * WORDS];

static void create(uint32_t *words)
{
    words[VYRE_IOQ_HEADER_WORD_MAGIC] = VYRE_IOQ_MAGIC_0;
    words[VYRE_IOQ_HEADER_WORD_MAGIC + 1] = VYRE_IOQ_MAGIC_1;
    words[VYRE_IOQ_HEADER_WORD_MAJOR] = VYRE_IOQ_ABI_MAJOR;
    words[VYRE_IOQ_HEADER_WORD_MINOR] = VYRE_IOQ_ABI_MINOR;
    words[VYRE_IOQ_HEADER_WORD_STRIDE] = VYRE_IOQ_SLOT_BYTES;
    words[VYRE_IOQ_HEADER_WORD_SLOTS] = SLOTS;
    words[VYRE_IOQ_HEADER_WORD_SLOTS_OFFSET] = VYRE_IOQ_HEADER_BYTES;
    words[VYRE_IOQ_HEADER_WORD_STATE] = VYRE_IOQ_STATE_RUNNING;
}

static int calls(struct vyre_ioq_queue *queue, uint32_t *words)
{
    const struct vyre_ioq_wait_limits limits = { 0, 0 };
    const struct vyre_ioq_request requests[] = {
        vyre_ioq_prep_read(1, 2, 3, 4, 5),   vyre_ioq_prep_write(1, 2, 3, 4, 5),
        vyre_ioq_prep_fence(),               vyre_ioq_prep_sync(1),
        vyre_ioq_prep_prefetch(1, 2, 3),     vyre_ioq_prep_map(1, 2, 3),
    };
    struct vyre_ioq_outcome outcome;
    uint32_t slot, at;
    int moved;

    if (vyre_ioq_attach(queue, words, WORDS * 4) != VYRE_IOQ_ATTACH_OK) {
        return 1;
    }
    for (at = 0; at < 6; at++) {
        if (requests[at].op != at + 1 || vyre_ioq_submit(queue, &requests[at], &slot) != VYRE_IOQ_OK ||
            slot != at) {
            return 2;
        }
    }
    if (vyre_ioq_poll(queue, 0, &outcome) != VYRE_IOQ_PENDING ||
        vyre_ioq_take(queue, SLOTS, &outcome) != VYRE_IOQ_INVALID_SLOT ||
        vyre_ioq_wait(queue, 0, &limits, &outcome, &moved) != VYRE_IOQ_TIMED_OUT || moved != 0) {
        return 3;
    }
    vyre_ioq_abandon(queue, 0);
    if (vyre_ioq_reserve(queue, &slot) != VYRE_IOQ_OK || slot != 6) {
        return 4;
    }
    vyre_ioq_publish(queue, slot, &requests[0]);
    vyre_ioq_unreserve(queue, slot);
    if (vyre_ioq_ring(queue, NULL, NULL) != 0 || vyre_ioq_host_heartbeat(queue) != 0 ||
        vyre_ioq_host_state(queue) != VYRE_IOQ_STATE_RUNNING) {
        return 5;
    }
    if (vyre_ioq_attach_bare(queue, words, VYRE_IOQ_BARE_SLOT_BYTES) != VYRE_IOQ_ATTACH_OK ||
        vyre_ioq_host_state(queue) != VYRE_IOQ_STATE_UNKNOWN || queue->counts != 0) {
        return 6;
    }
    if (vyre_ioq_attach_bare_with_counts(queue, words, 7) != VYRE_IOQ_ATTACH_BARE_LENGTH) {
        return 7;
    }
    return 0;
}

static void names(void)
{
    uint32_t value;
    for (value = 0; value < 256; value++) {
        const char *const found[] = {
            vyre_ioq_op_name(value),
            vyre_ioq_status_name(value),
            vyre_ioq_state_name(value),
            vyre_ioq_errno_name(value),
            value <= VYRE_IOQ_INVALID_SLOT ? vyre_ioq_result_name((enum vyre_ioq_result)value)
                                           : "unknown",
            value <= VYRE_IOQ_ATTACH_BARE_LENGTH
                ? vyre_ioq_attach_error_name((enum vyre_ioq_attach_error)value)
                : "unknown",
        };
        static const char *const kinds[] = { "OP_", "STATUS_", "STATE_", "ERRNO_", "result ", "attach " };
        size_t kind;
        for (kind = 0; kind < sizeof(found) / sizeof(found[0]); kind++) {
            if (strcmp(found[kind], "unknown") != 0) {
                printf("%s%s %lu\n", kinds[kind], found[kind], (unsigned long)value);
            }
        }
    }
}

int main(void)
{
    static struct vyre_ioq_queue queue;
    const size_t past = (uintptr_t)memory % VYRE_IOQ_HEADER_ALIGN;
    uint32_t *words = memory + (past == 0 ? 0 : (VYRE_IOQ_HEADER_ALIGN - past) / 4);
    int wrong;
    create(words);
    wrong = calls(&queue, words);
    names();
    return wrong;
}
