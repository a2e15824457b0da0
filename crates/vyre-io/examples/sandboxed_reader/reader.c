/* The reader of the example `sandboxed_reader`: see main.rs. It links nothing but the C library, gives
 * up its privileges first, and gets all it has by the handshake on the socket that is its standard input.
 *
 *   show           reads what it may, and tries what it may not
 *   churn          reads for ever
 *   stop-at STATE  brings a slot into a state, says so, and waits to be killed
 *   await MS       waits for what never comes, until the host's heart stood still for so long */

#define _GNU_SOURCE

#include "vyre_io_client.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define NOBODY 65534

static struct vyre_io_client client;
static struct vyre_ioq_queue queue;
static const unsigned char *buffer; /* what the host reads into */
static int queue_fd, buffer_fd;
static uint32_t file, pool, endless; /* handles */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "reader: %s\n", what);
    exit(2);
}

static void say(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

/* From root to nobody, with no way back. Whoever is not root is nobody in particular already. */
static void give_up_privileges(void)
{
    if (geteuid() != 0) {
        return;
    }
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0 || setuid(0) == 0) {
        die("cannot give up its privileges");
    }
}

/* Asks for something, which the host must give. */
static void must(enum vyre_io_client_result result, const char *what)
{
    if (result != VYRE_IO_CLIENT_OK) {
        fprintf(stderr, "reader: %s: %s %s\n", what, vyre_io_client_result_name(result), client.refused.text);
        exit(2);
    }
}

/* Returns a handle to a file, or 0 if the host offers none of this name. */
static uint32_t opened(const struct vyre_io_client_queue *of, const char *name)
{
    struct vyre_io_msg_file_is is;
    const enum vyre_io_client_result result = vyre_io_client_open(&client, of, name, 0, &is);
    if (result == VYRE_IO_CLIENT_REFUSED && client.refused.code == VYRE_IO_MSG_CODE_NO_SUCH_FILE) {
        return 0;
    }
    must(result, name);
    return is.handle;
}

/* Gets the queue, the buffer and the files. Keeps the descriptors, to try what they allow. */
static void receive(void)
{
    struct vyre_io_client_queue of;
    struct vyre_io_msg_buffer_is buffer_is;
    struct vyre_io_msg_queue_is is;
    void *memory;

    must(vyre_io_client_take_socket(&client, STDIN_FILENO, "sandboxed reader", 30000), "no welcome");
    must(vyre_io_client_ask_queue(&client, 16, 0, &is, &queue_fd), "no queue");
    must(vyre_io_client_ask_buffer(&client, is.queue, 65536, &buffer_is, &buffer_fd), "no buffer");
    memset(&of, 0, sizeof(of));
    of.number = is.queue;
    file = opened(&of, "secret");
    endless = opened(&of, "endless");
    pool = buffer_is.handle;
    memory = vyre_io_client_map(queue_fd, is.bytes);
    buffer = (const unsigned char *)vyre_io_client_map(buffer_fd, buffer_is.bytes);
    if (memory == NULL || buffer == NULL) {
        die("cannot map the shared memory");
    }
    if (vyre_ioq_attach(&queue, memory, (size_t)is.bytes) != VYRE_IOQ_ATTACH_OK) {
        die("there is no queue");
    }
}

/* Submits a request and waits for its outcome. */
static struct vyre_ioq_outcome serve(struct vyre_ioq_request request)
{
    const struct vyre_ioq_wait_limits limits = { UINT64_C(30000000000), UINT64_C(5000000000) };
    struct vyre_ioq_outcome outcome;
    uint32_t slot;
    if (vyre_ioq_submit(&queue, &request, &slot) != VYRE_IOQ_OK) {
        die("the queue is full");
    }
    if (vyre_ioq_wait(&queue, slot, &limits, &outcome, NULL) != VYRE_IOQ_OK) {
        die("the host does not answer");
    }
    return outcome;
}

/* A byte of the secret file, as the host wrote it. */
static unsigned char expected(uint64_t at)
{
    return (unsigned char)(at / 7 + at % 251);
}

static int wrong;

static void check(int right, const char *what)
{
    printf("%s %s\n", right ? "ok   " : "WRONG", what);
    wrong += !right;
}

static int refused(struct vyre_ioq_request request, uint32_t with)
{
    const struct vyre_ioq_outcome outcome = serve(request);
    return outcome.status == VYRE_IOQ_STATUS_ERROR && outcome.count == with;
}

static int is_secret(uint64_t offset, uint32_t count)
{
    uint32_t at;
    for (at = 0; at < count; at++) {
        if (buffer[at] != expected(4096 + offset + at)) {
            return 0;
        }
    }
    return 1;
}

static int show(void)
{
    const char *path = getenv("SECRET");
    struct vyre_ioq_outcome outcome;
    check(open(path != NULL ? path : "/", O_RDONLY) == -1 && errno == EACCES,
          "the file cannot be opened by its name");

    outcome = serve(vyre_ioq_prep_read(file, 0, 4096, pool, 0));
    check(outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 4096 && is_secret(0, 4096),
          "its second page can be read");
    outcome = serve(vyre_ioq_prep_read(file, 1000, 96, pool, 0));
    check(outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 96 && is_secret(1000, 96),
          "and a part of it");

    check(refused(vyre_ioq_prep_read(file, 1, 4096, pool, 0), VYRE_IOQ_ERRNO_ERANGE),
          "the byte after it: ERANGE");
    check(refused(vyre_ioq_prep_read(file, 4096, 1, pool, 0), VYRE_IOQ_ERRNO_ERANGE),
          "the page after it: ERANGE");
    check(refused(vyre_ioq_prep_read(file, (uint64_t)0 - 4096, 1, pool, 0), VYRE_IOQ_ERRNO_ERANGE),
          "the page before it: ERANGE");
    check(refused(vyre_ioq_prep_read(file + 100, 0, 1, pool, 0), VYRE_IOQ_ERRNO_EBADF),
          "a file handle that is none: EBADF");
    check(refused(vyre_ioq_prep_read(0, 0, 1, pool, 0), VYRE_IOQ_ERRNO_EBADF), "handle 0: EBADF");
    check(refused(vyre_ioq_prep_read(file, 0, 1, pool + 100, 0), VYRE_IOQ_ERRNO_EBADF),
          "a buffer handle that is none: EBADF");
    check(refused(vyre_ioq_prep_read(file, 0, 2, pool, 65535), VYRE_IOQ_ERRNO_ERANGE),
          "past the end of the buffer: ERANGE");
    check(refused(vyre_ioq_prep_write(file, 0, 1, pool, 0), VYRE_IOQ_ERRNO_EACCES), "a write: EACCES");
    check(refused(vyre_ioq_prep_sync(file), VYRE_IOQ_ERRNO_EACCES), "a sync: EACCES");

    check(ftruncate(queue_fd, 0) == -1 && errno == EPERM, "the queue cannot be shrunk");
    check(ftruncate(buffer_fd, 0) == -1 && errno == EPERM, "nor the buffer");
    check(fcntl(buffer_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1 && errno == EPERM,
          "nor can they be sealed against writing");

    outcome = serve(vyre_ioq_prep_read(file, 4000, 96, pool, 0));
    check(outcome.status == VYRE_IOQ_STATUS_OK && outcome.count == 96 && is_secret(4000, 96),
          "and after all that the host still serves");
    return wrong == 0 ? 0 : 1;
}

/* Reads for ever, at least one request open at any time, each step its own. */
static _Noreturn void churn(void)
{
    uint32_t slots[8], held = 0, at, turn = 0;
    struct vyre_ioq_outcome outcome;
    say("churning");
    for (;;) {
        const uint32_t depth = 1 + turn % 8;
        while (held < depth) {
            const uint32_t skip = turn++ % 4096;
            struct vyre_ioq_request request =
                vyre_ioq_prep_read(file, skip, 4096 - skip, pool, held * 4096);
            if (vyre_ioq_reserve(&queue, &slots[held]) != VYRE_IOQ_OK) {
                break;
            }
            vyre_ioq_publish(&queue, slots[held++], &request);
        }
        for (at = 0; at < held;) {
            if (vyre_ioq_take(&queue, slots[at], &outcome) == VYRE_IOQ_OK) {
                slots[at] = slots[--held];
            } else {
                at++;
            }
        }
    }
}

/* Brings one slot into a state and stays. */
static _Noreturn void stop_at(const char *state)
{
    const struct vyre_ioq_request request =
        vyre_ioq_prep_read(strcmp(state, "claimed") == 0 ? endless : file, 0, 64, pool, 0);
    struct vyre_ioq_outcome outcome;
    uint32_t slot;
    if (vyre_ioq_reserve(&queue, &slot) != VYRE_IOQ_OK) {
        die("the queue is full");
    }
    if (strcmp(state, "half-written") == 0) {
        vyre_ioq_priv_store(vyre_ioq_priv_slot_words(&queue, slot), request.op);
    } else if (strcmp(state, "reserved") != 0) {
        vyre_ioq_publish(&queue, slot, &request);
    }
    /* Hosts tell of requests that take long, and need not: so not for ever. */
    const uint64_t give_up = vyre_ioq_priv_now_ns() + 2000000000u;
    while (strcmp(state, "claimed") == 0 && vyre_ioq_priv_now_ns() < give_up &&
           vyre_ioq_priv_load(vyre_ioq_priv_slot_words(&queue, slot) + VYRE_IOQ_WORD_STATUS) !=
               VYRE_IOQ_STATUS_CLAIMED) {
    }
    while (strcmp(state, "answered") == 0 &&
           vyre_ioq_poll(&queue, slot, &outcome) != VYRE_IOQ_OK) {
    }
    say(state);
    for (;;) {
        pause();
    }
}

/* Waits for a read that never ends. */
static int await_end(const char *milliseconds)
{
    struct vyre_ioq_request request = vyre_ioq_prep_read(endless, 0, 64, pool, 0);
    struct vyre_ioq_wait_limits limits;
    struct vyre_ioq_outcome outcome;
    enum vyre_ioq_result result;
    uint32_t slot;
    limits.timeout_ns = UINT64_C(60000000000);
    limits.heartbeat_timeout_ns = strtoull(milliseconds, NULL, 10) * 1000000;
    if (vyre_ioq_submit(&queue, &request, &slot) != VYRE_IOQ_OK) {
        die("the queue is full");
    }
    say("waiting");
    result = vyre_ioq_wait(&queue, slot, &limits, &outcome, NULL);
    say(result == VYRE_IOQ_HOST_GONE   ? "host gone"
        : result == VYRE_IOQ_TIMED_OUT ? "timed out"
                                       : "an outcome");
    return 0;
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "show";
    give_up_privileges();
    receive();
    if (strcmp(mode, "churn") == 0) {
        churn();
    }
    if (strcmp(mode, "stop-at") == 0 && count > 2) {
        stop_at(words[2]);
    }
    if (strcmp(mode, "await") == 0 && count > 2) {
        return await_end(words[2]);
    }
    return show();
}
