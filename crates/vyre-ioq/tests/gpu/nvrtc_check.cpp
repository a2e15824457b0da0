// Checks that NVRTC compiles the headers as one text, without an include path: see selftest.cu.
// Arguments: the folder of the headers, and an architecture such as sm_90.

#include <nvrtc.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

static const char KERNEL[] = R"(
extern "C" __global__ void load(vyre_ioq::Queue queue, unsigned file, unsigned pool) {
    using namespace vyre_ioq;
    u32 warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    Request block = Request::read(file, warp * 65536ull, 65536, pool, warp * 65536ull);
    queue.warp_perform(FULL_WARP, block.exact(), warp, WaitLimits());
    queue.warp_wait(FULL_WARP, queue.warp_submit(FULL_WARP, Request::fence(), warp), WaitLimits());
    queue.perform(Request::sync(file), warp, WaitLimits());
    queue.ring();
}
)";

static std::string text(const std::string &path) {
    std::ifstream file(path);
    std::stringstream all;
    all << file.rdbuf();
    if (!file || all.str().empty()) {
        std::cerr << "FAIL: cannot read " << path << '\n';
        exit(1);
    }
    return all.str();
}

int main(int count, char **arguments) {
    if (count != 3) {
        std::cerr << "usage: nvrtc_check FOLDER ARCHITECTURE\n";
        return 2;
    }
    std::string folder = arguments[1], option = std::string("-arch=") + arguments[2];
    std::string source;
    for (const char *name : {"abi", "types", "device"}) {
        source += text(folder + "/vyre_ioq_" + name + ".cuh");
    }
    source += text(folder + "/vyre_ioq.cuh") + KERNEL;
    nvrtcProgram program;
    nvrtcResult made = nvrtcCreateProgram(&program, source.c_str(), "load.cu", 0, nullptr, nullptr);
    if (made != NVRTC_SUCCESS) {
        std::cerr << "FAIL: no program: " << nvrtcGetErrorString(made) << '\n';
        return 1;
    }
    const char *options[] = {option.c_str(), "-std=c++17"};
    nvrtcResult result = nvrtcCompileProgram(program, 2, options);
    size_t length = 0;
    nvrtcGetProgramLogSize(program, &length);
    std::string log(length, '\0');
    nvrtcGetProgramLog(program, &log[0]);
    std::cout << log.c_str() << (result == NVRTC_SUCCESS ? "PASS" : "FAIL") << ": NVRTC, "
              << arguments[2] << ": " << nvrtcGetErrorString(result) << '\n';
    nvrtcDestroyProgram(&program);
    return result == NVRTC_SUCCESS ? 0 : 1;
}
