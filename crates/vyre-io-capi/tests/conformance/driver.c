/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The C host does what a file with cases says, and prints a transcript. README.md describes the lines.
 *
 *   driver CASES auto|threads
 */
#define _GNU_SOURCE

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vyre_io.h"
#include "vyre_ioq_wait.h"

enum { MOST = 16, NAME = 16, MOST_TAGS = 32 };

static const uint64_t LIMIT_NS = 60000000000u;

/* A name, and the number or object that it has. */
struct entry {
    char name[NAME];
    int fd, feed;
    struct vyre_io_buffer *buffer;
    uint32_t handle;
};

struct list {
    struct entry entries[MOST];
    size_t count;
};

struct device {
    struct vyre_ioq_queue end;
    struct vyre_io_queue *queue;
    void *mapping; /* Of a shared queue. */
    size_t bytes;
};

/* All that a case has. */
static struct {
    struct list files, buffers, handles;
    struct vyre_io_file_table *table;
    struct vyre_io_buffer_table *pool;
    struct device devices[MOST];
    size_t count, given, current;
    uint32_t slots[MOST_TAGS];
    size_t queues[MOST_TAGS];
    struct vyre_io_loop_options *options;
    uint32_t loops;
    struct vyre_io_loop *io;
    struct vyre_io_group *group;
} host;

static uint32_t transport;
static struct vyre_io_error error;

static _Noreturn void die(const char *why)
{
    fprintf(stderr, "driver: %s (%s)\n", why, error.message);
    exit(2);
}

/* A call that must succeed. */
static void must(enum vyre_io_result result)
{
    if (result != VYRE_IO_RESULT_OK) {
        die("a call failed");
    }
}

static const char *named(enum vyre_io_result result)
{
    assert(result == error.code);
    assert((result == VYRE_IO_RESULT_OK) == (error.message[0] == '\0'));
    return vyre_io_result_name((uint32_t)result);
}

/* ---- Words ---- */

static const char *word(void)
{
    const char *found = strtok(NULL, " \n");
    if (found == NULL) {
        die("a line is too short");
    }
    return found;
}

static uint64_t number(void)
{
    return strtoull(word(), NULL, 10);
}

static uint64_t end_of_range(void)
{
    const char *found = word();
    return strcmp(found, "-") == 0 ? VYRE_IO_TO_THE_END : strtoull(found, NULL, 10);
}

static struct entry *find(struct list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->entries[i].name, name) == 0) {
            return &list->entries[i];
        }
    }
    die("a name is unknown");
}

static struct entry *add(struct list *list, const char *name)
{
    struct entry *entry = NULL;
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->entries[i].name, name) == 0) {
            return &list->entries[i];
        }
    }
    if (list->count == MOST) {
        die("too many names");
    }
    entry = &list->entries[list->count++];
    memset(entry, 0, sizeof(*entry));
    snprintf(entry->name, NAME, "%s", name);
    entry->fd = entry->feed = -1;
    return entry;
}

static uint32_t handle_of(const char *name)
{
    return name[0] == '#' ? (uint32_t)strtoul(name + 1, NULL, 10) : find(&host.handles, name)->handle;
}

static uint32_t rights(const char *letters)
{
    return (strchr(letters, 'r') ? (uint32_t)VYRE_IO_RIGHT_READ : 0) |
           (strchr(letters, 'w') ? (uint32_t)VYRE_IO_RIGHT_WRITE : 0) |
           (strchr(letters, 's') ? (uint32_t)VYRE_IO_RIGHT_SYNC : 0) |
           (strchr(letters, 'c') ? (uint32_t)VYRE_IO_PAGE_CACHE_READS : 0);
}

/* ---- Bytes ---- */

static unsigned char *pattern(uint64_t seed, uint64_t count)
{
    unsigned char *bytes = malloc(count + 1);
    if (bytes == NULL) {
        die("no memory");
    }
    for (uint64_t i = 0; i < count; i++) {
        bytes[i] = (unsigned char)((seed + 31 * i + i / 256) % 256);
    }
    return bytes;
}

static uint32_t checksum(const unsigned char *bytes, uint64_t count)
{
    uint32_t hash = 0x811c9dc5;
    for (uint64_t i = 0; i < count; i++) {
        hash = (hash ^ bytes[i]) * 0x01000193;
    }
    return hash;
}

static void fill_file(int fd, uint64_t seed, uint64_t count)
{
    unsigned char *bytes = pattern(seed, count);
    if (fd < 0 || write(fd, bytes, count) != (ssize_t)count) {
        die("a file cannot be filled");
    }
    free(bytes);
}

/* ---- A case begins and ends ---- */

static void end_case(void)
{
    vyre_io_loop_free(host.io);
    vyre_io_group_free(host.group);
    for (size_t i = 0; i < host.count; i++) {
        vyre_io_queue_free(host.devices[i].queue);
        if (host.devices[i].mapping != NULL) {
            munmap(host.devices[i].mapping, host.devices[i].bytes);
        }
    }
    for (size_t i = 0; i < host.buffers.count; i++) {
        vyre_io_buffer_free(host.buffers.entries[i].buffer);
    }
    for (size_t i = 0; i < host.files.count; i++) {
        close(host.files.entries[i].fd);
        if (host.files.entries[i].feed >= 0) {
            close(host.files.entries[i].feed);
        }
    }
    vyre_io_loop_options_free(host.options);
    vyre_io_buffer_table_free(host.pool);
    vyre_io_file_table_free(host.table);
    memset(&host, 0, sizeof(host));
}

static void begin_case(void)
{
    end_case();
    must(vyre_io_file_table_new(&host.table, &error));
    must(vyre_io_buffer_table_new(&host.pool, &error));
    must(vyre_io_loop_options_new(&host.options, &error));
    must(vyre_io_loop_options_set_transport(host.options, transport, &error));
}

/* ---- Files and buffers ---- */

static void make_file(int fd)
{
    fill_file(fd, 1, number());
}

static int unnamed(void)
{
    char path[] = "/tmp/vyre-io-case-XXXXXX";
    const int fd = mkstemp(path);
    unlink(path);
    return fd;
}

static void open_again(void)
{
    struct entry *opened = add(&host.files, word());
    const int old = find(&host.files, word())->fd;
    const char *mode = word();
    char path[64];
    int flags = O_PATH;
    if (strcmp(mode, "r") == 0) {
        flags = O_RDONLY;
    } else if (strcmp(mode, "w") == 0) {
        flags = O_WRONLY;
    } else if (strcmp(mode, "append") == 0) {
        flags = O_RDWR | O_APPEND;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", old);
    opened->fd = open(path, flags | O_CLOEXEC);
}

static void make_pipe(void)
{
    struct entry *entry = add(&host.files, word());
    int ends[2];
    if (pipe(ends) != 0) {
        die("no pipe");
    }
    entry->fd = ends[0];
    entry->feed = ends[1];
}

static void insert(void)
{
    const char *name = word();
    const int fd = find(&host.files, word())->fd;
    const uint32_t flags = rights(word());
    const uint64_t start = number(), end = end_of_range();
    uint32_t handle = 0;
    enum vyre_io_result result;
    if (host.io != NULL) {
        result = vyre_io_loop_insert_file(host.io, fd, start, end, flags, &handle, &error);
    } else if (host.group != NULL) {
        result = vyre_io_group_insert_file(host.group, fd, start, end, flags, &handle, &error);
    } else {
        result = vyre_io_file_table_insert_range(host.table, fd, start, end, flags, &handle, &error);
    }
    printf("insert %s %s", name, named(result));
    if (result == VYRE_IO_RESULT_OK) {
        printf(" 0x%" PRIx32, handle);
        add(&host.handles, name)->handle = handle;
    }
    printf("\n");
}

static void window(void)
{
    const char *name = word();
    const struct vyre_io_buffer *buffer = find(&host.buffers, word())->buffer;
    const uint64_t start = number(), end = end_of_range();
    const uint32_t flags = rights(word());
    uint32_t handle = 0;
    enum vyre_io_result result;
    if (host.io != NULL) {
        result = vyre_io_loop_insert_buffer(host.io, buffer, start, end, flags, &handle, &error);
    } else if (host.group != NULL) {
        result = vyre_io_group_insert_buffer(host.group, buffer, start, end, flags, &handle, &error);
    } else {
        result = vyre_io_buffer_table_insert_range(host.pool, buffer, start, end, flags, &handle, &error);
    }
    printf("window %s %s", name, named(result));
    if (result == VYRE_IO_RESULT_OK) {
        printf(" 0x%" PRIx32, handle);
        add(&host.handles, name)->handle = handle;
    }
    printf("\n");
}

static void sum(void)
{
    const struct vyre_io_buffer *buffer = find(&host.buffers, word())->buffer;
    const uint64_t start = number(), count = number();
    unsigned char *bytes = malloc(count + 1);
    must(vyre_io_buffer_read(buffer, start, bytes, count, &error));
    printf("sum %08" PRIx32 "\n", checksum(bytes, count));
    free(bytes);
}

static void file_sum(void)
{
    const int fd = find(&host.files, word())->fd;
    struct stat found;
    unsigned char *bytes;
    if (fstat(fd, &found) != 0 || (bytes = malloc((size_t)found.st_size + 1)) == NULL) {
        die("a file has no size");
    }
    if (pread(fd, bytes, (size_t)found.st_size, 0) != found.st_size) {
        die("a file cannot be read");
    }
    printf("filesum %lld %08" PRIx32 "\n", (long long)found.st_size, checksum(bytes, (uint64_t)found.st_size));
    free(bytes);
}

static void fill(void)
{
    const struct vyre_io_buffer *buffer = find(&host.buffers, word())->buffer;
    const uint64_t start = number(), count = number();
    unsigned char *bytes = pattern(number(), count);
    must(vyre_io_buffer_write(buffer, start, bytes, count, &error));
    free(bytes);
}

static void revoke_handle(int is_file)
{
    const char *name = word();
    const uint32_t handle = handle_of(name);
    const uint64_t within = number() * 1000000u;
    enum vyre_io_result result;
    if (host.group != NULL) {
        result = is_file ? vyre_io_group_revoke_file_within(host.group, handle, within, &error)
                         : vyre_io_group_revoke_buffer_within(host.group, handle, within, &error);
    } else {
        result = is_file ? vyre_io_loop_revoke_file_within(host.io, handle, within, &error)
                         : vyre_io_loop_revoke_buffer_within(host.io, handle, within, &error);
    }
    printf("revoke%s %s %s\n", is_file ? "" : "buffer", name, named(result));
}

/* ---- Queues ---- */

/* Makes a queue and its device end. */
static enum vyre_io_result make_queue(void)
{
    const char *kind = word();
    const uint32_t slots = (uint32_t)number();
    struct device *device = &host.devices[host.count];
    enum vyre_ioq_attach_error attached;
    enum vyre_io_result result;
    const int bare = strcmp(kind, "bare") == 0, counts = strcmp(kind, "counts") == 0;
    uint32_t flags = 0;
    int memfd = -1;
    if (host.count == MOST) {
        die("too many queues");
    }
    flags |= bare || counts ? (uint32_t)VYRE_IO_QUEUE_BARE : 0;
    flags |= counts ? (uint32_t)VYRE_IO_QUEUE_COUNTS : 0;
    flags |= strcmp(kind, "bell") == 0 ? (uint32_t)VYRE_IO_QUEUE_DOORBELL : 0;
    if (strcmp(kind, "shared") == 0) {
        result = vyre_io_queue_shared(slots, flags, 0, &device->queue, &memfd, &error);
        assert((memfd >= 0) == (result == VYRE_IO_RESULT_OK));
    } else {
        result = vyre_io_queue_new(slots, flags, 0, &device->queue, &error);
    }
    assert((device->queue != NULL) == (result == VYRE_IO_RESULT_OK));
    if (result != VYRE_IO_RESULT_OK) {
        return result;
    }
    device->bytes = vyre_io_queue_bytes(device->queue);
    assert(device->bytes == vyre_io_queue_layout_bytes(slots, flags));
    if (memfd >= 0) {
        /* As another process would. */
        device->mapping = mmap(NULL, device->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
        close(memfd);
        attached = vyre_ioq_attach(&device->end, device->mapping, device->bytes);
    } else if (bare) {
        attached = vyre_ioq_attach_bare(&device->end, vyre_io_queue_memory(device->queue), device->bytes);
    } else if (counts) {
        attached =
            vyre_ioq_attach_bare_with_counts(&device->end, vyre_io_queue_memory(device->queue), device->bytes);
    } else {
        attached = vyre_ioq_attach(&device->end, vyre_io_queue_memory(device->queue), device->bytes);
    }
    if (attached != VYRE_IOQ_ATTACH_OK) {
        die("a device end cannot attach");
    }
    host.current = host.count++;
    return VYRE_IO_RESULT_OK;
}

static void add_queue(void)
{
    enum vyre_io_result result = make_queue();
    uint64_t id = 0;
    if (result == VYRE_IO_RESULT_OK) {
        const struct vyre_io_queue *queue = host.devices[host.current].queue;
        result = host.group != NULL ? vyre_io_group_add_queue(host.group, queue, &id, &error)
                                    : vyre_io_loop_add_queue(host.io, queue, &id, &error);
        host.given = host.count;
    }
    printf("add %s", named(result));
    if (result == VYRE_IO_RESULT_OK) {
        printf(" %" PRIu64, id);
    }
    printf("\n");
}

static void print_counters(const struct vyre_io_queue_counters *counters)
{
    printf(" %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, counters->claimed, counters->succeeded,
           counters->failed, counters->bytes_read, counters->bytes_written);
}

static void remove_queue(void)
{
    const uint64_t id = number(), within = number() * 1000000u;
    struct vyre_io_queue_counters counters;
    const enum vyre_io_result result =
        host.group != NULL
            ? vyre_io_group_remove_queue_within(host.group, id, within, &counters, sizeof(counters), &error)
            : vyre_io_loop_remove_queue_within(host.io, id, within, &counters, sizeof(counters), &error);
    printf("remove %" PRIu64 " %s", id, named(result));
    if (result == VYRE_IO_RESULT_OK) {
        print_counters(&counters);
    }
    printf("\n");
}

static struct vyre_io_queue_counters queue_counters(void)
{
    struct vyre_io_queue_counters counters;
    const uint64_t id = host.current;
    must(host.group != NULL
             ? vyre_io_group_get_queue_counters(host.group, id, &counters, sizeof(counters), &error)
             : vyre_io_loop_get_queue_counters(host.io, id, &counters, sizeof(counters), &error));
    return counters;
}

static void pause_a_little(void)
{
    const struct timespec ms = { 0, 1000000 };
    nanosleep(&ms, NULL);
}

/* ---- Loops ---- */

static enum vyre_io_result start_loop(void)
{
    struct vyre_io_loop_builder *builder;
    enum vyre_io_result result;
    must(vyre_io_loop_builder_new(&builder, &error));
    must(vyre_io_loop_builder_files(builder, host.table, &error));
    must(vyre_io_loop_builder_buffers(builder, host.pool, &error));
    must(vyre_io_loop_builder_options(builder, host.options, &error));
    for (; host.given < host.count; host.given++) {
        must(vyre_io_loop_builder_queue(builder, host.devices[host.given].queue, &error));
    }
    result = vyre_io_loop_builder_spawn(builder, &host.io, &error);
    vyre_io_loop_builder_free(builder);
    return result;
}

static enum vyre_io_result start_group(void)
{
    struct vyre_io_group_builder *builder;
    enum vyre_io_result result;
    must(vyre_io_group_builder_new(&builder, &error));
    must(vyre_io_group_builder_files(builder, host.table, &error));
    must(vyre_io_group_builder_buffers(builder, host.pool, &error));
    must(vyre_io_group_builder_options(builder, host.options, &error));
    must(vyre_io_group_builder_loops(builder, host.loops, &error));
    for (; host.given < host.count; host.given++) {
        must(vyre_io_group_builder_queue(builder, host.devices[host.given].queue, &error));
    }
    result = vyre_io_group_builder_spawn(builder, &host.group, &error);
    vyre_io_group_builder_free(builder);
    return result;
}

static void start(void)
{
    const char *option;
    enum vyre_io_result result;
    while ((option = strtok(NULL, " \n")) != NULL) {
        if (strcmp(option, "loops") == 0) {
            host.loops = (uint32_t)number();
        } else if (strcmp(option, "doorbell") == 0) {
            must(vyre_io_loop_options_set_doorbell(host.options, 50, 100000000, &error));
        } else if (strcmp(option, "drain") == 0) {
            must(vyre_io_loop_options_set_drain_timeout(host.options, number() * 1000000u, &error));
        } else if (strcmp(option, "entries") == 0) {
            must(vyre_io_loop_options_set_ring_entries(host.options, (uint32_t)number(), &error));
        } else {
            die("an option is unknown");
        }
    }
    result = host.loops == 0 ? start_loop() : start_group();
    printf("start %s\n", named(result));
}

static void end_loop(const char *how)
{
    const int drains = strcmp(how, "stop") == 0;
    enum vyre_io_result result;
    if (host.group != NULL) {
        result = drains ? vyre_io_group_stop(host.group, &error) : vyre_io_group_abort(host.group, &error);
    } else {
        result = drains ? vyre_io_loop_stop(host.io, &error) : vyre_io_loop_abort(host.io, &error);
    }
    printf("%s %s\n", how, named(result));
}

/* ---- Requests ---- */

static struct vyre_ioq_request transfer(const char *op)
{
    const uint32_t file = handle_of(word());
    const uint64_t offset = number();
    const uint32_t count = (uint32_t)number();
    uint32_t buffer;
    uint64_t place;
    if (strcmp(op, "prefetch") == 0) {
        return vyre_ioq_prep_prefetch(file, offset, count);
    }
    buffer = handle_of(word());
    place = number();
    return strcmp(op, "read") == 0 ? vyre_ioq_prep_read(file, offset, count, buffer, place)
                                   : vyre_ioq_prep_write(file, offset, count, buffer, place);
}

static void submit(void)
{
    const uint32_t tag = (uint32_t)number();
    const char *op = word(), *option;
    struct vyre_ioq_request request;
    if (strcmp(op, "fence") == 0) {
        request = vyre_ioq_prep_fence();
    } else if (strcmp(op, "sync") == 0) {
        request = vyre_ioq_prep_sync(handle_of(word()));
    } else {
        request = transfer(op);
    }
    while ((option = strtok(NULL, " \n")) != NULL) {
        if (strcmp(option, "exact") == 0) {
            request.flags |= VYRE_IOQ_FLAG_EXACT;
        } else if (strcmp(option, "durable") == 0) {
            request.flags |= VYRE_IOQ_FLAG_DURABLE;
        } else if (strcmp(option, "deadline") == 0) {
            request.deadline = (uint32_t)number();
        } else if (strcmp(option, "flag8") == 0) {
            request.flags |= 1u << 8;
        } else {
            die("an option is unknown");
        }
    }
    request.tag = tag;
    if (tag >= MOST_TAGS) {
        die("a tag is too large");
    }
    host.queues[tag] = host.current;
    if (vyre_ioq_submit(&host.devices[host.current].end, &request, &host.slots[tag]) != VYRE_IOQ_OK) {
        printf("submit %" PRIu32 " full\n", tag);
    }
}

static void await(void)
{
    const struct vyre_ioq_wait_limits limits = { LIMIT_NS, 0 };
    const uint32_t tag = (uint32_t)number();
    struct vyre_ioq_outcome outcome;
    struct vyre_ioq_queue *end = &host.devices[host.queues[tag]].end;
    if (vyre_ioq_wait(end, host.slots[tag], &limits, &outcome, NULL) != VYRE_IOQ_OK) {
        printf("%" PRIu32 " gone\n", tag);
        return;
    }
    assert(outcome.tag == tag);
    printf("%" PRIu32 " %s %" PRIu32 "\n", tag, outcome.status == VYRE_IOQ_STATUS_OK ? "ok" : "errno",
           outcome.count);
}

static void state(void)
{
    const char *which = strtok(NULL, " \n");
    const size_t queue = which != NULL ? strtoull(which, NULL, 10) : host.current;
    printf("state %" PRIu32 "\n", vyre_ioq_host_state(&host.devices[queue].end));
}

/* ---- Lines ---- */

/* Lines about files, buffers and handles. */
static int things(const char *command)
{
    const char *name;
    if (strcmp(command, "file") == 0) {
        make_file(add(&host.files, word())->fd = unnamed());
    } else if (strcmp(command, "memfd") == 0) {
        make_file(add(&host.files, word())->fd = memfd_create("case", MFD_CLOEXEC));
    } else if (strcmp(command, "open") == 0) {
        open_again();
    } else if (strcmp(command, "dir") == 0) {
        add(&host.files, word())->fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else if (strcmp(command, "pipe") == 0) {
        make_pipe();
    } else if (strcmp(command, "feed") == 0) {
        const int feed = find(&host.files, word())->feed;
        fill_file(feed, 2, number());
    } else if (strcmp(command, "buffer") == 0) {
        struct entry *entry = add(&host.buffers, word());
        must(vyre_io_buffer_anonymous(number(), &entry->buffer, &error));
    } else if (strcmp(command, "insert") == 0) {
        insert();
    } else if (strcmp(command, "window") == 0) {
        window();
    } else if (strcmp(command, "populate") == 0) {
        name = word();
        printf("populate %s %s\n", name,
               named(vyre_io_file_table_populate(host.table, handle_of(name), 0, VYRE_IO_TO_THE_END, &error)));
    } else if (strcmp(command, "fill") == 0) {
        fill();
    } else if (strcmp(command, "sum") == 0) {
        sum();
    } else if (strcmp(command, "filesum") == 0) {
        file_sum();
    } else if (strcmp(command, "revoke") == 0 || strcmp(command, "revokebuffer") == 0) {
        revoke_handle(strcmp(command, "revoke") == 0);
    } else {
        return 0;
    }
    return 1;
}

/* Lines about queues, loops and requests. */
static int serving(const char *command)
{
    if (strcmp(command, "queue") == 0) {
        printf("queue %s\n", named(make_queue()));
    } else if (strcmp(command, "use") == 0) {
        host.current = number();
    } else if (strcmp(command, "start") == 0) {
        start();
    } else if (strcmp(command, "add") == 0) {
        add_queue();
    } else if (strcmp(command, "remove") == 0) {
        remove_queue();
    } else if (strcmp(command, "loopof") == 0) {
        const uint64_t id = number();
        uint32_t index;
        must(vyre_io_group_loop_of(host.group, id, &index, &error));
        printf("loopof %" PRIu64 " %" PRIu32 "\n", id, index);
    } else if (strcmp(command, "submit") == 0) {
        submit();
    } else if (strcmp(command, "await") == 0) {
        await();
    } else if (strcmp(command, "until") == 0) {
        const uint64_t claimed = number();
        while (queue_counters().claimed < claimed) {
            pause_a_little();
        }
    } else if (strcmp(command, "counters") == 0) {
        struct vyre_io_queue_counters counters = queue_counters();
        while (counters.claimed != counters.succeeded + counters.failed) {
            pause_a_little();
            counters = queue_counters();
        }
        printf("counters");
        print_counters(&counters);
        printf("\n");
    } else if (strcmp(command, "stop") == 0 || strcmp(command, "abort") == 0) {
        end_loop(command);
    } else if (strcmp(command, "state") == 0) {
        state();
    } else {
        return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    char line[512];
    FILE *cases = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (cases == NULL) {
        die("usage: driver CASES auto|threads");
    }
    transport = strcmp(argv[2], "threads") == 0 ? VYRE_IO_TRANSPORT_THREADS : VYRE_IO_TRANSPORT_AUTO;
    while (fgets(line, sizeof(line), cases) != NULL) {
        const char *command;
        if (line[0] == '\n' || line[0] == '#') {
            continue;
        }
        if (strncmp(line, "case ", 5) == 0) {
            begin_case();
            fputs(line, stdout);
            continue;
        }
        command = strtok(line, " \n");
        if (!things(command) && !serving(command)) {
            die("a command is unknown");
        }
    }
    end_case();
    fclose(cases);
    return fflush(stdout) == 0 ? 0 : 1;
}
