// A stand-in for libcuda.so: as much of the driver's rules as the tests beside it are about. It runs no
// kernel. Each call leaves its name in the file FAKE_CUDA_LOG.
//
// Every thread begins with a context of somebody else's as its current one, as in a process that uses
// CUDA for other things besides. A call that needs this library's context fails without it, and so does
// any that would wait for ever: while the file FAKE_CUDA_STUCK exists, streams do not get on.

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int Result;
typedef void *Handle;
typedef unsigned long long Address;
typedef unsigned int Word;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    JIT_COMPILER_NOT_FOUND = 221,
    UNSUPPORTED_PTX_VERSION = 222,
    NOT_READY = 600,
    COOPERATIVE_LAUNCH_TOO_LARGE = 720,
};

enum { MULTIPROCESSORS = 4, BLOCKS_EACH = 2, STATIC_SHARED = 20000, SHARED_OPTIN = 166912 };

static char primary[8], somebodys[8];
static _Thread_local Handle stack[64] = {somebodys};
static _Thread_local int top;

// The context that a program gives to the crate: somebody's, if FAKE_CUDA_LENT is set.
static Handle lent(void) { return getenv("FAKE_CUDA_LENT") != NULL ? somebodys : primary; }

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : otherwise;
}

static void note(const char *format, ...) {
    const char *path = getenv("FAKE_CUDA_LOG");
    if (path == NULL) return;
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length) abort();
    close(file);
}

static int is_stuck(void) {
    const char *path = getenv("FAKE_CUDA_STUCK");
    return path != NULL && access(path, F_OK) == 0;
}

#define CALL(...) note(__VA_ARGS__)
#define CALL_IN_CONTEXT(...)                                    \
    do {                                                        \
        note(__VA_ARGS__);                                      \
        if (stack[top] != primary && stack[top] != lent()) return INVALID_CONTEXT; \
    } while (0)

Result cuInit(Word flags) { return flags == 0 ? SUCCESS : INVALID_VALUE; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
Result cuDriverGetVersion(int *version) {
    *version = number("FAKE_CUDA_VERSION", 13000);
    return SUCCESS;
}
Result cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "a stand-in");
    return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    int compute = number("FAKE_CUDA_COMPUTE", 90);
    switch (which) {
    case 16: *value = MULTIPROCESSORS; break;
    case 75: *value = compute / 10; break;
    case 76: *value = compute % 10; break;
    case 97: *value = SHARED_OPTIN; break;
    case 91: *value = number("FAKE_CUDA_OTHER_POINTERS", 0) == 0; break;
    case 113: *value = number("FAKE_CUDA_NO_READ_ONLY", 0) == 0; break;
    default: *value = 1;
    }
    return SUCCESS;
}
Result cuGetErrorName(int error, const char **name) {
    static _Thread_local char text[32];
    snprintf(text, sizeof text, "FAKE_ERROR_%d", error);
    *name = text;
    return SUCCESS;
}

// ---- Contexts ----

Result cuDevicePrimaryCtxRetain(Handle *context, int device) {
    (void)device;
    CALL("cuDevicePrimaryCtxRetain");
    *context = primary;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    CALL("cuDevicePrimaryCtxRelease");
    return SUCCESS;
}
Result cuCtxGetDevice(int *device) {
    CALL("cuCtxGetDevice");
    return stack[top] == NULL ? INVALID_CONTEXT : (*device = 0, SUCCESS);
}
Result cuCtxGetCurrent(Handle *context) { return *context = stack[top], SUCCESS; }
Result cuCtxSetCurrent(Handle context) { return stack[top] = context, SUCCESS; }
Result cuCtxPushCurrent_v2(Handle context) {
    if (top + 1 == sizeof stack / sizeof *stack) return INVALID_VALUE;
    stack[++top] = context;
    return SUCCESS;
}
// While the file FAKE_CUDA_RUNNING exists, a kernel runs on a stream of its own.
Result cuCtxSynchronize(void) {
    CALL_IN_CONTEXT("cuCtxSynchronize");
    const char *path = getenv("FAKE_CUDA_RUNNING");
    for (int turn = 0; path != NULL && access(path, F_OK) == 0; ++turn) {
        if (turn == 10000) {
            fprintf(stderr, "this wait would never end\n");
            abort();
        }
        usleep(1000);
    }
    return SUCCESS;
}
Result cuCtxPopCurrent_v2(Handle *context) {
    if (top == 0) return INVALID_CONTEXT;
    *context = stack[top--];
    return SUCCESS;
}

// ---- Memory ----

enum { READ_ONLY = 8, PAGE = 4096 };

// Whole pages alone can be pinned read-only. A page past the end of its file faults, as it does here.
Result cuMemHostRegister_v2(void *base, size_t bytes, Word flags) {
    if ((flags & READ_ONLY) == 0) {
        CALL_IN_CONTEXT("cuMemHostRegister");
        return SUCCESS;
    }
    CALL_IN_CONTEXT("cuMemHostRegister read-only %zu", bytes);
    if ((size_t)base % PAGE != 0 || bytes % PAGE != 0 || bytes == 0) return INVALID_VALUE;
    int refused = madvise(base, bytes, MADV_POPULATE_READ);
    return refused == 0 ? SUCCESS : INVALID_VALUE;
}
Result cuMemHostGetDevicePointer_v2(Address *device, void *base, Word flags) {
    (void)flags;
    CALL_IN_CONTEXT("cuMemHostGetDevicePointer");
    if (number("FAKE_CUDA_NOT_PINNED", 0) != 0) return INVALID_VALUE;
    *device = (Address)base;
    return SUCCESS;
}
Result cuMemHostUnregister(void *base) {
    (void)base;
    CALL_IN_CONTEXT("cuMemHostUnregister");
    return number("FAKE_CUDA_NO_UNREGISTER", 0) != 0 ? INVALID_VALUE : SUCCESS;
}
Result cuMemAlloc_v2(Address *address, size_t bytes) {
    CALL_IN_CONTEXT("cuMemAlloc");
    if (bytes == 0) return INVALID_VALUE;
    *address = (Address)calloc(1, bytes);
    return SUCCESS;
}
Result cuMemFree_v2(Address address) {
    CALL_IN_CONTEXT("cuMemFree");
    free((void *)address);
    return SUCCESS;
}
Result cuMemsetD8_v2(Address address, unsigned char byte, size_t bytes) {
    CALL_IN_CONTEXT("cuMemsetD8");
    memset((void *)address, byte, bytes);
    return SUCCESS;
}
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    CALL_IN_CONTEXT("cuMemcpyHtoD");
    memcpy((void *)to, from, bytes);
    return SUCCESS;
}
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    CALL_IN_CONTEXT("cuMemcpyDtoH");
    memcpy(to, (void *)from, bytes);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle stream) {
    (void)stream;
    CALL_IN_CONTEXT("cuMemcpyHtoDAsync");
    if (!is_stuck()) memcpy((void *)to, from, bytes);
    return SUCCESS;
}

Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle stream) {
    (void)stream;
    CALL_IN_CONTEXT("cuMemcpyDtoHAsync");
    if (!is_stuck()) memcpy(to, (void *)from, bytes);
    return SUCCESS;
}

// ---- Streams and events ----

static Result created(Handle *handle, const char *call) {
    CALL_IN_CONTEXT("%s", call);
    *handle = malloc(1);
    return SUCCESS;
}
static Result destroyed(Handle handle, const char *call) {
    CALL_IN_CONTEXT("%s", call);
    free(handle);
    return SUCCESS;
}
Result cuStreamCreate(Handle *stream, Word flags) {
    return flags == 1 ? created(stream, "cuStreamCreate") : INVALID_VALUE;
}
Result cuStreamDestroy_v2(Handle stream) { return destroyed(stream, "cuStreamDestroy"); }
Result cuStreamQuery(Handle stream) {
    (void)stream;
    CALL_IN_CONTEXT("cuStreamQuery");
    return is_stuck() ? NOT_READY : SUCCESS;
}
Result cuStreamSynchronize(Handle stream) {
    CALL_IN_CONTEXT("cuStreamSynchronize");
    if (stream != NULL && is_stuck()) {
        fprintf(stderr, "this wait would never end\n");
        abort();
    }
    return SUCCESS;
}
Result cuEventCreate(Handle *event, Word flags) {
    return flags == 2 ? created(event, "cuEventCreate") : INVALID_VALUE;
}
Result cuEventDestroy_v2(Handle event) { return destroyed(event, "cuEventDestroy"); }
Result cuEventRecord(Handle event, Handle stream) {
    (void)event, (void)stream;
    CALL_IN_CONTEXT("cuEventRecord");
    return number("FAKE_CUDA_NO_RECORD", 0) != 0 ? INVALID_VALUE : SUCCESS;
}
Result cuEventSynchronize(Handle event) {
    (void)event;
    CALL_IN_CONTEXT("cuEventSynchronize");
    if (is_stuck()) {
        fprintf(stderr, "this wait would never end\n");
        abort();
    }
    return SUCCESS;
}
Result cuEventQuery(Handle event) {
    (void)event;
    CALL_IN_CONTEXT("cuEventQuery");
    return is_stuck() ? NOT_READY : SUCCESS;
}

// ---- Code ----

// What a block may have without being allowed to, the kernel's own variables included.
static Word dynamic_shared = 49152 - STATIC_SHARED;

// PTX 8.4 came with CUDA 12.4, 9.0 with 13.0.
static Result load_ptx(const char *text) {
    int major, minor, target;
    const char *version = strstr(text, ".version "), *is_for = strstr(text, ".target sm_");
    if (version == NULL || sscanf(version, ".version %d.%d", &major, &minor) != 2 ||
        is_for == NULL || sscanf(is_for, ".target sm_%d", &target) != 1) {
        return INVALID_IMAGE;
    }
    if (number("FAKE_CUDA_NO_JIT", 0) != 0) return JIT_COMPILER_NOT_FOUND;
    int driver = number("FAKE_CUDA_VERSION", 13000);
    if ((major + 4) * 1000 + minor * 10 > driver) return UNSUPPORTED_PTX_VERSION;
    return target > number("FAKE_CUDA_COMPUTE", 90) ? NO_BINARY_FOR_GPU : SUCCESS;
}
// As the NVRTC beside this file writes it; any other is taken.
static Result load_cubin(const char *image) {
    int target, major, compute = number("FAKE_CUDA_COMPUTE", 90);
    if (sscanf(image + 4, " sm_%d of CUDA %d", &target, &major) != 2) return SUCCESS;
    if (major > number("FAKE_CUDA_VERSION", 13000) / 1000) return INVALID_IMAGE;
    return target / 10 == compute / 10 && target <= compute ? SUCCESS : NO_BINARY_FOR_GPU;
}
Result cuModuleLoadData(Handle *module, const void *image) {
    int is_cubin = memcmp(image, "\177ELF", 4) == 0;
    CALL_IN_CONTEXT("cuModuleLoadData %s", is_cubin ? "cubin" : "ptx");
    *module = primary;
    return is_cubin ? load_cubin(image) : load_ptx(image);
}
Result cuModuleUnload(Handle module) {
    (void)module;
    CALL_IN_CONTEXT("cuModuleUnload");
    return SUCCESS;
}
Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    (void)module, (void)name;
    CALL_IN_CONTEXT("cuModuleGetFunction");
    *function = primary;
    return SUCCESS;
}
Result cuFuncGetAttribute(int *value, int which, Handle function) {
    (void)function;
    CALL_IN_CONTEXT("cuFuncGetAttribute");
    *value = which == 1 ? STATIC_SHARED : 1;
    return SUCCESS;
}
Result cuFuncSetAttribute(Handle function, int which, int value) {
    (void)function;
    CALL_IN_CONTEXT("cuFuncSetAttribute %d %d", which, value);
    if (which != 8 || value + STATIC_SHARED > SHARED_OPTIN) return INVALID_VALUE;
    dynamic_shared = (Word)value;
    return SUCCESS;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Handle function, int threads,
                                                   size_t shared) {
    (void)function, (void)threads;
    CALL_IN_CONTEXT("cuOccupancyMaxActiveBlocksPerMultiprocessor");
    *blocks = shared > dynamic_shared ? 0 : BLOCKS_EACH;
    return SUCCESS;
}
typedef struct {
    Word id, pad;
    union {
        int is_cooperative;
        char bytes[64];
    } value;
} Attribute;
typedef struct {
    Word blocks[3], threads[3], shared;
    Handle stream;
    Attribute *attributes;
    Word attribute_count;
} Config;
Result cuLaunchKernelEx(const Config *config, Handle function, void **parameters, void **extra) {
    (void)function, (void)parameters, (void)extra;
    const Word *blocks = config->blocks, *threads = config->threads;
    int is_cooperative = 0;
    for (Word i = 0; i < config->attribute_count; ++i) {
        if (config->attributes[i].id != 2) return INVALID_VALUE;
        is_cooperative = config->attributes[i].value.is_cooperative;
    }
    CALL_IN_CONTEXT("cuLaunchKernelEx %u %u %u, %u %u %u, %u", blocks[0], blocks[1], blocks[2],
                    threads[0], threads[1], threads[2], config->shared);
    if (config->shared > dynamic_shared) return INVALID_VALUE;
    Word count = blocks[0] * blocks[1] * blocks[2];
    return is_cooperative && count > MULTIPROCESSORS * BLOCKS_EACH ? COOPERATIVE_LAUNCH_TOO_LARGE
                                                                   : SUCCESS;
}
