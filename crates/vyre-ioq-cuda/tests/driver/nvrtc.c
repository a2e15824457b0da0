// A stand-in for libnvrtc.so, of the version FAKE_NVRTC: it knows the architectures that the real one
// of that version knows, and writes the first lines of what that would write.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;

enum {
    SUCCESS = 0,
    INVALID_OPTION = 5,
    COMPILATION = 6,
    BUILTIN_OPERATION_FAILURE = 7,
};

typedef struct {
    int is_wrong;
    char log[128], ptx[128], cubin[128];
} Program;

static const int of_12[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90};
static const int of_13[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 107, 110, 120, 121};

static void version(int *major, int *minor) {
    const char *text = getenv("FAKE_NVRTC");
    if (text == NULL || sscanf(text, "%d.%d", major, minor) != 2) abort();
}
static const int *architectures(int *count) {
    int major, minor;
    version(&major, &minor);
    *count = major < 13 ? sizeof of_12 / sizeof *of_12 : sizeof of_13 / sizeof *of_13;
    return major < 13 ? of_12 : of_13;
}

Result nvrtcVersion(int *major, int *minor) { return version(major, minor), SUCCESS; }
Result nvrtcGetNumSupportedArchs(int *count) { return architectures(count), SUCCESS; }
Result nvrtcGetSupportedArchs(int *found) {
    int count;
    const int *known = architectures(&count);
    memcpy(found, known, (size_t)count * sizeof *known);
    return SUCCESS;
}
Result nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers,
                          const char *const *texts, const char *const *names) {
    (void)name, (void)headers, (void)texts, (void)names;
    *program = calloc(1, sizeof **program);
    (*program)->is_wrong = strstr(source, "nonsense!") != NULL;
    return SUCCESS;
}
Result nvrtcDestroyProgram(Program **program) { return free(*program), *program = NULL, SUCCESS; }
Result nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    int major, minor, many, target = 0, is_known = 0;
    version(&major, &minor);
    for (int i = 0; i < count; ++i) {
        sscanf(options[i], "--gpu-architecture=compute_%d", &target);
        sscanf(options[i], "--gpu-architecture=sm_%d", &target);
    }
    const int *known = architectures(&many);
    for (int i = 0; i < many; ++i) is_known |= known[i] == target;
    if (!is_known) {
        strcpy(program->log, "nvrtc: error: invalid value for --gpu-architecture (-arch)\n");
        return INVALID_OPTION;
    }
    if (getenv("FAKE_NVRTC_BROKEN") != NULL) return BUILTIN_OPERATION_FAILURE;
    if (program->is_wrong) {
        strcpy(program->log, "error: identifier \"nonsense\" is undefined\n");
        return COMPILATION;
    }
    sprintf(program->ptx, ".version %d.%d\n.target sm_%d\n", major - 4, minor, target);
    sprintf(program->cubin, "\177ELF sm_%d of CUDA %d", target, major);
    return SUCCESS;
}

#define GIVES(what, field)                                                          \
    Result nvrtcGet##what##Size(const Program *program, size_t *size) {             \
        *size = strlen(program->field) + 1;                                         \
        return SUCCESS;                                                             \
    }                                                                               \
    Result nvrtcGet##what(const Program *program, char *into) {                     \
        strcpy(into, program->field);                                               \
        return SUCCESS;                                                             \
    }
GIVES(ProgramLog, log)
GIVES(PTX, ptx)
GIVES(CUBIN, cubin)
