/* The driver of the conformance suite for the C headers: see PROTOCOL.md. It is compiled as C and as C++. */

#include "vyre_ioq_wait.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MOST_WORDS 16
#define IN_FLIGHT 8
#define MOST_THREADS 64

static struct vyre_ioq_queue queue;

struct line {
    char *words[MOST_WORDS];
    size_t count;
};

static void split(char *text, struct line *line)
{
    char *rest = NULL;
    char *word = strtok_r(text, " \n", &rest);
    line->count = 0;
    while (word != NULL && line->count < MOST_WORDS) {
        line->words[line->count++] = word;
        word = strtok_r(NULL, " \n", &rest);
    }
}

static uint64_t number(const struct line *line, size_t word)
{
    return word < line->count ? strtoull(line->words[word], NULL, 10) : 0;
}

static uint32_t number32(const struct line *line, size_t word)
{
    return (uint32_t)number(line, word);
}

/* A name as PROTOCOL.md has it: TOO_SHORT is TooShort. */
static const char *camel(const char *name)
{
    static char text[32];
    size_t at, end = 0;
    for (at = 0; name[at] != '\0' && end + 1 < sizeof(text); at++) {
        if (name[at] != '_') {
            const int is_first = at == 0 || name[at - 1] == '_';
            text[end++] = (char)(is_first ? name[at] : name[at] - 'A' + 'a');
        }
    }
    text[end] = '\0';
    return text;
}

static const char *name(enum vyre_ioq_result result)
{
    return camel(vyre_ioq_result_name(result));
}

static void attach(const struct line *line)
{
    static void *mapped;
    static size_t mapped_len;
    const int fd = (int)number(line, 1);
    const size_t offset = number(line, 2), len = number(line, 3);
    enum vyre_ioq_attach_error error;
    struct stat stat;
    char *memory;

    if (mapped != NULL) {
        munmap(mapped, mapped_len);
        mapped = NULL;
    }
    if (fstat(fd, &stat) != 0 || offset + len > (size_t)stat.st_size) {
        printf("err Protocol the file is shorter than the queue\n");
        return;
    }
    mapped_len = (size_t)stat.st_size;
    mapped = mmap(NULL, mapped_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        mapped = NULL;
        printf("err Protocol cannot map the file\n");
        return;
    }
    memory = (char *)mapped + offset;
    if (strcmp(line->words[4], "bare") == 0) {
        error = vyre_ioq_attach_bare(&queue, memory, len);
    } else if (strcmp(line->words[4], "bare-counts") == 0) {
        error = vyre_ioq_attach_bare_with_counts(&queue, memory, len);
    } else {
        error = vyre_ioq_attach(&queue, memory, len);
    }
    if (error == VYRE_IOQ_ATTACH_OK) {
        printf("ok %" PRIu32 " %" PRIu32 " %" PRIu64 "\n", queue.slots, queue.features, queue.id);
    } else {
        printf("err %s\n", camel(vyre_ioq_attach_error_name(error)));
    }
}

/* Parses the request that begins at a word of the line. */
static struct vyre_ioq_request request_at(const struct line *line, size_t at)
{
    const uint32_t file = number32(line, at + 1), count = number32(line, at + 3);
    const uint64_t offset = number(line, at + 2);
    struct vyre_ioq_request request = vyre_ioq_prep_fence();
    switch (number32(line, at)) {
    case VYRE_IOQ_OP_READ:
        request = vyre_ioq_prep_read(file, offset, count, number32(line, at + 4), number(line, at + 5));
        break;
    case VYRE_IOQ_OP_WRITE:
        request = vyre_ioq_prep_write(file, offset, count, number32(line, at + 4), number(line, at + 5));
        break;
    case VYRE_IOQ_OP_SYNC:
        request = vyre_ioq_prep_sync(file);
        break;
    case VYRE_IOQ_OP_PREFETCH:
        request = vyre_ioq_prep_prefetch(file, offset, count);
        break;
    case VYRE_IOQ_OP_MAP:
        request = vyre_ioq_prep_map(file, offset, count);
        break;
    default:
        break;
    }
    request.flags = number32(line, at + 6);
    request.deadline = number32(line, at + 7);
    request.tag = number32(line, at + 8);
    return request;
}

static void say_slot(enum vyre_ioq_result result, uint32_t slot)
{
    if (result == VYRE_IOQ_OK) {
        printf("ok %" PRIu32 "\n", slot);
    } else {
        printf("err %s\n", name(result));
    }
}

static void say_outcome(enum vyre_ioq_result result, const struct vyre_ioq_outcome *outcome)
{
    if (result == VYRE_IOQ_OK) {
        printf("ok %" PRIu32 " %s %" PRIu32 "\n", outcome->tag,
               outcome->status == VYRE_IOQ_STATUS_OK ? "OK" : "ERROR", outcome->count);
    } else {
        printf("ok pending\n");
    }
}

static void wait_for(const struct line *line)
{
    struct vyre_ioq_wait_limits limits;
    struct vyre_ioq_outcome outcome;
    enum vyre_ioq_result result;
    int moved = 0;
    limits.timeout_ns = number(line, 2) * 1000;
    limits.heartbeat_timeout_ns = number(line, 3) * 1000;
    result = vyre_ioq_wait(&queue, number32(line, 1), &limits, &outcome, &moved);
    if (result == VYRE_IOQ_OK) {
        say_outcome(result, &outcome);
    } else if (result == VYRE_IOQ_TIMED_OUT) {
        printf("err TimedOut %s\n", moved ? "alive" : "still");
    } else {
        printf("err %s\n", name(result));
    }
}

static void say_state(void)
{
    static const char *const names[] = { "Starting", "Running", "Draining", "Stopped", "Failed" };
    const uint32_t state = vyre_ioq_host_state(&queue);
    if (state == VYRE_IOQ_STATE_UNKNOWN) {
        printf("ok none\n");
    } else {
        printf("ok %s %" PRIu32 "\n", names[state], vyre_ioq_host_heartbeat(&queue));
    }
}

static void woken(void *context)
{
    *(int *)context += 1;
}

static void ring(void)
{
    int calls = 0;
    const int rung = vyre_ioq_ring(&queue, woken, &calls);
    if (rung != calls) {
        printf("err Protocol %d calls, and %d returned\n", calls, rung);
    } else {
        printf("ok %s\n", rung ? "woken" : "quiet");
    }
}

/* ---- threads ----------------------------------------------------------------------------------- */

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ x >> 16;
}

static struct vyre_ioq_request numbered(uint32_t tag)
{
    uint32_t f[8], sum = 0, word;
    struct vyre_ioq_request request;
    for (word = 0; word < 8; word++) {
        f[word] = mix(tag * 16 + word);
    }
    if (queue.bare) {
        f[4] = f[5] = f[6] = f[7] = 0;
    }
    const uint32_t words[16] = { VYRE_IOQ_OP_READ, f[0], 0, f[1], f[2], f[3], 0, tag,
                                 f[4], f[5], f[6] & 2, f[7], 0, 0, 0, 0 };
    for (word = 0; word < queue.stride; word++) {
        if (word != VYRE_IOQ_WORD_DESTINATION && word != VYRE_IOQ_WORD_STATUS) {
            sum += mix(words[word] + word);
        }
    }
    request = vyre_ioq_prep_read(f[0], f[1] | (uint64_t)f[2] << 32, f[3], sum,
                            f[4] | (uint64_t)f[5] << 32);
    request.flags = f[6] & 2;
    request.deadline = f[7];
    request.tag = tag;
    return request;
}

struct lane {
    pthread_t thread;
    uint32_t first, end, done;
    const char *wrong;
};

/* Returns whether an outcome is the one that the host stores for this tag. */
static int is_right(uint32_t tag, const struct vyre_ioq_outcome *outcome)
{
    const uint32_t status = tag % 7 == 0 ? VYRE_IOQ_STATUS_ERROR : VYRE_IOQ_STATUS_OK;
    return outcome->tag == tag && outcome->status == status && outcome->count == mix(tag * 16 + 8);
}

static void *run_lane(void *context)
{
    struct lane *lane = (struct lane *)context;
    uint32_t slots[IN_FLIGHT], tags[IN_FLIGHT], held = 0, next = lane->first;
    /* The limit is between two outcomes: how many come in a second is up to the machine. */
    uint64_t latest = vyre_ioq_priv_now_ns();
    int calls = 0;
    while (next < lane->end || held > 0) {
        uint32_t at = 0;
        while (held < IN_FLIGHT && next < lane->end) {
            struct vyre_ioq_request request = numbered(next);
            if (vyre_ioq_submit(&queue, &request, &slots[held]) != VYRE_IOQ_OK) {
                break;
            }
            (void)vyre_ioq_ring(&queue, woken, &calls);
            tags[held++] = next++;
        }
        while (at < held) {
            struct vyre_ioq_outcome outcome;
            if (vyre_ioq_take(&queue, slots[at], &outcome) != VYRE_IOQ_OK) {
                at++;
                continue;
            }
            if (!is_right(tags[at], &outcome)) {
                lane->wrong = "a wrong outcome";
                return NULL;
            }
            lane->done++;
            latest = vyre_ioq_priv_now_ns();
            held--;
            slots[at] = slots[held];
            tags[at] = tags[held];
        }
        if (vyre_ioq_priv_now_ns() - latest > UINT64_C(60000000000)) {
            lane->wrong = "an outcome that never came";
            return NULL;
        }
        sched_yield();
    }
    return NULL;
}

static void threads(const struct line *line)
{
    static struct lane lanes[MOST_THREADS];
    const uint32_t count = number32(line, 1), each = number32(line, 2);
    const char *wrong = count > MOST_THREADS ? "too many threads" : NULL;
    uint32_t lane, started = 0, done = 0;
    for (lane = 0; lane < count && wrong == NULL; lane++) {
        lanes[lane].first = lane * each;
        lanes[lane].end = lanes[lane].first + each;
        lanes[lane].done = 0;
        lanes[lane].wrong = NULL;
        if (pthread_create(&lanes[lane].thread, NULL, run_lane, &lanes[lane]) != 0) {
            wrong = "no thread";
        } else {
            started++;
        }
    }
    for (lane = 0; lane < started; lane++) {
        pthread_join(lanes[lane].thread, NULL);
        done += lanes[lane].done;
        wrong = lanes[lane].wrong != NULL ? lanes[lane].wrong : wrong;
    }
    if (wrong != NULL) {
        printf("err Threads %s\n", wrong);
    } else {
        printf("ok %" PRIu32 "\n", done);
    }
}

/* Carries out a command. Returns whether it was the last. */
static int obey(const struct line *line)
{
    const char *command = line->count > 0 ? line->words[0] : "";
    struct vyre_ioq_request request;
    struct vyre_ioq_outcome outcome;
    uint32_t slot = number32(line, 1);
    enum vyre_ioq_result result;
    if (strcmp(command, "hello") == 0) {
        printf("ok %s heartbeat_timeout doorbell futex\n", DRIVER);
    } else if (strcmp(command, "attach") == 0 && line->count == 5) {
        attach(line);
    } else if (strcmp(command, "reserve") == 0) {
        result = vyre_ioq_reserve(&queue, &slot);
        say_slot(result, slot);
    } else if (strcmp(command, "publish") == 0 && line->count == 11) {
        request = request_at(line, 2);
        vyre_ioq_publish(&queue, slot, &request);
        printf("ok\n");
    } else if (strcmp(command, "submit") == 0 && line->count == 10) {
        request = request_at(line, 1);
        result = vyre_ioq_submit(&queue, &request, &slot);
        say_slot(result, slot);
    } else if (strcmp(command, "unreserve") == 0) {
        vyre_ioq_unreserve(&queue, slot);
        printf("ok\n");
    } else if (strcmp(command, "abandon") == 0) {
        vyre_ioq_abandon(&queue, slot);
        printf("ok\n");
    } else if (strcmp(command, "poll") == 0) {
        result = vyre_ioq_poll(&queue, slot, &outcome);
        say_outcome(result, &outcome);
    } else if (strcmp(command, "take") == 0) {
        result = vyre_ioq_take(&queue, slot, &outcome);
        say_outcome(result, &outcome);
    } else if (strcmp(command, "wait") == 0 && line->count == 4) {
        wait_for(line);
    } else if (strcmp(command, "state") == 0) {
        say_state();
    } else if (strcmp(command, "wake") == 0) {
        printf("ok %s\n", vyre_ioq_ring_and_wake(&queue) ? "woken" : "quiet");
    } else if (strcmp(command, "expect") == 0) {
        printf("ok %s\n", vyre_ioq_expect_wakeups(&queue) ? "yes" : "no");
    } else if (strcmp(command, "ring") == 0) {
        ring();
    } else if (strcmp(command, "threads") == 0 && line->count == 3) {
        threads(line);
    } else if (strcmp(command, "quit") == 0) {
        printf("ok\n");
    } else {
        printf("err Protocol unknown command\n");
    }
    fflush(stdout);
    return strcmp(command, "quit") == 0;
}

int main(void)
{
    char text[512];
    struct line line;
    while (fgets(text, sizeof(text), stdin) != NULL) {
        split(text, &line);
        if (obey(&line)) {
            break;
        }
    }
    return 0;
}
