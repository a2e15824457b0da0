/* Checks the orderings of the C headers by ThreadSanitizer: threads of a device and a host in one process pass
 * plain memory to each other. Only the queue orders the accesses, so a missing ordering is a data race, which
 * ends the program with an error. ThreadSanitizer does not model fences, so the doorbell is not tested here. */

#include "vyre_ioq_wait.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 3
#define THREADS 4
#define EACH 500u

static struct vyre_ioq_queue queue;
static uint32_t *words; /* of the shared memory */

/* Plain memory. Not static: under ThreadSanitizer, gcc treats atomic accesses as calls of leaf functions, and
 * keeps the value of a static variable across them. */
uint32_t bytes[SLOTS]; /* buffers of READs and WRITEs */
uint32_t users[SLOTS]; /* uses of each slot; owned by whoever reserved it */
uint32_t answered;     /* requests completed when the host stopped */

static uint32_t *slot_words(uint32_t slot)
{
    return words + (VYRE_IOQ_HEADER_BYTES + slot * VYRE_IOQ_SLOT_BYTES) / sizeof(uint32_t);
}

/* A host end that follows ABI.md. */
static void *host(void *context)
{
    uint32_t done = 0;
    while (done < THREADS * EACH) {
        uint32_t slot;
        for (slot = 0; slot < SLOTS; slot++) {
            uint32_t *status = slot_words(slot) + VYRE_IOQ_WORD_STATUS;
            if (__atomic_load_n(status, __ATOMIC_ACQUIRE) != VYRE_IOQ_STATUS_PUBLISHED) {
                continue;
            }
            if (slot % 2 == 0) { /* A host may announce a claim. */
                __atomic_store_n(status, VYRE_IOQ_STATUS_CLAIMED, __ATOMIC_RELAXED);
            }
            bytes[slot] = bytes[slot] * 3 + 1;
            done++;
            if (done == THREADS * EACH) {
                /* The last request gets no outcome: its wait ends by STATE. */
                break;
            }
            __atomic_store_n(slot_words(slot) + VYRE_IOQ_WORD_COUNT, done, __ATOMIC_RELAXED);
            __atomic_store_n(status, VYRE_IOQ_STATUS_OK, __ATOMIC_RELEASE);
        }
        sched_yield();
    }
    answered = done;
    __atomic_store_n(words + VYRE_IOQ_HEADER_WORD_STATE, VYRE_IOQ_STATE_STOPPED, __ATOMIC_RELEASE);
    return context;
}

static void *device(void *context)
{
    const struct vyre_ioq_wait_limits limits = { UINT64_C(60000000000), 0 };
    uint32_t turn, *gone = (uint32_t *)context;
    for (turn = 0; turn < EACH; turn++) {
        const struct vyre_ioq_request request = vyre_ioq_prep_fence();
        struct vyre_ioq_outcome outcome;
        enum vyre_ioq_result result;
        uint32_t slot;
        while (vyre_ioq_reserve(&queue, &slot) != VYRE_IOQ_OK) {
            if (vyre_ioq_host_state(&queue) == VYRE_IOQ_STATE_STOPPED) {
                return NULL;
            }
            sched_yield();
        }
        users[slot]++;
        bytes[slot] = turn;
        vyre_ioq_publish(&queue, slot, &request);
        result = vyre_ioq_wait(&queue, slot, &limits, &outcome, NULL);
        if (result == VYRE_IOQ_HOST_GONE) {
            /* The state was loaded with acquire: what the host did before is visible. */
            *gone = answered;
            return NULL;
        }
        if (result != VYRE_IOQ_OK || outcome.status != VYRE_IOQ_STATUS_OK) {
            fprintf(stderr, "no outcome\n");
            exit(1);
        }
    }
    return NULL;
}

/* Polls instead of waiting, and reads the bytes before it frees the slot. */
static void *reader(void *context)
{
    uint32_t turn;
    for (turn = 0; turn < EACH; turn++) {
        const struct vyre_ioq_request request = vyre_ioq_prep_fence();
        struct vyre_ioq_outcome outcome;
        uint32_t slot;
        while (vyre_ioq_reserve(&queue, &slot) != VYRE_IOQ_OK) {
            sched_yield();
        }
        users[slot]++;
        bytes[slot] = turn;
        vyre_ioq_publish(&queue, slot, &request);
        while (vyre_ioq_poll(&queue, slot, &outcome) != VYRE_IOQ_OK) {
            if (vyre_ioq_host_state(&queue) == VYRE_IOQ_STATE_STOPPED) {
                return NULL;
            }
            sched_yield();
        }
        if (bytes[slot] != turn * 3 + 1) {
            fprintf(stderr, "torn bytes\n");
            exit(1);
        }
        if (vyre_ioq_take(&queue, slot, &outcome) != VYRE_IOQ_OK) {
            fprintf(stderr, "no outcome any more\n");
            exit(1);
        }
    }
    return context;
}

/* Stores the constants of the header, from a thread other than the one that attaches. */
static void *create(void *context)
{
    const uint32_t line[8] = { VYRE_IOQ_MAGIC_0, VYRE_IOQ_MAGIC_1, VYRE_IOQ_ABI_MAJOR, 0,
                               VYRE_IOQ_SLOT_BYTES, SLOTS, VYRE_IOQ_HEADER_BYTES, 0 };
    uint32_t word;
    answered = 77;
    for (word = 1; word < 8; word++) {
        __atomic_store_n(words + word, line[word], __ATOMIC_RELAXED);
    }
    __atomic_store_n(words, line[0], __ATOMIC_RELEASE);
    return context;
}

int main(void)
{
    pthread_t threads[THREADS + 2];
    uint32_t thread, used = 0, gone = 0;
    const size_t len = VYRE_IOQ_HEADER_BYTES + SLOTS * VYRE_IOQ_SLOT_BYTES;
    words = (uint32_t *)aligned_alloc(VYRE_IOQ_HEADER_ALIGN, 2 * VYRE_IOQ_HEADER_BYTES);
    if (words == NULL) {
        return 1;
    }
    memset(words, 0, 2 * VYRE_IOQ_HEADER_BYTES);
    pthread_create(&threads[0], NULL, create, NULL);
    while (vyre_ioq_attach(&queue, words, len) != VYRE_IOQ_ATTACH_OK) {
        sched_yield();
    }
    if (answered != 77) {
        fprintf(stderr, "the magic came before the rest\n");
        return 1;
    }
    pthread_create(&threads[1], NULL, host, NULL);
    for (thread = 0; thread < THREADS; thread++) {
        pthread_create(&threads[thread + 2], NULL, thread % 2 == 0 ? device : reader, &gone);
    }
    for (thread = 0; thread < THREADS + 2; thread++) {
        pthread_join(threads[thread], NULL);
    }
    for (thread = 0; thread < SLOTS; thread++) {
        used += users[thread];
    }
    printf("%u requests in %d slots, %u seen at the end\n", used, SLOTS, gone);
    return used == THREADS * EACH ? 0 : 1;
}
