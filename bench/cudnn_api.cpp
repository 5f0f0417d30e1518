// cudnn_api: see cudnn_api.h.
#include "cudnn_api.h"

#include <cstdlib>
#include <vector>

#include <dlfcn.h>
#include <glob.h>

namespace cudnn
{

namespace
{

const char *const names[] = {"libcudnn.so.9", "libcudnn.so.8"};

#ifndef CUDA_EMU // the emulator's memory is not a GPU's, so a library for it must be named

// Folders that the loader does not search by itself, with * as in a shell.
std::vector<std::string> folders()
{
    std::vector<std::string> found = {"/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64"};
    for (const char *variable : {"CUDA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME"})
        if (const char *value = std::getenv(variable)) {
            const std::string root = value, user = variable == std::string("HOME") ? "/.local" : "";
            if (variable == std::string("CUDA_HOME")) found.push_back(root + "/lib64");
            else found.push_back(root + user + "/lib/python3*/site-packages/nvidia/cudnn/lib");
        }
    for (const char *root : {"/usr/local/lib", "/usr/lib"})
        for (const char *packages : {"site-packages", "dist-packages"})
            found.push_back(std::string(root) + "/python3*/" + packages + "/nvidia/cudnn/lib");
    return found;
}

void *search(std::string *from)
{
    for (const char *name : names) {
        *from = name;
        if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
        for (const std::string &folder : folders()) {
            glob_t paths;
            void *library = nullptr;
            if (glob((folder + "/" + name).c_str(), 0, nullptr, &paths)) continue;
            for (size_t i = paths.gl_pathc; i-- > 0 && !library;) {
                *from = paths.gl_pathv[i];
                library = dlopen(paths.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
            }
            globfree(&paths);
            if (library) return library;
        }
    }
    return nullptr;
}

#else

void *search(std::string *) { return nullptr; }

#endif

void *open_library(std::string *from)
{
    const char *chosen = std::getenv("PLSTM_CUDNN");
    if (!chosen) return search(from);
    *from = chosen;
    return dlopen(chosen, RTLD_NOW | RTLD_LOCAL);
}

bool load(Api *api, std::string *why_not)
{
    void *library = open_library(&api->from);
    if (!library) {
        *why_not = "no " + std::string(names[0]) + " or " + names[1] +
                   " in the system's folders, on LD_LIBRARY_PATH, in a CUDA toolkit or in a Python "
                   "package";
        if (const char *chosen = std::getenv("PLSTM_CUDNN"))
            *why_not = std::string("no libcudnn: ") + chosen + " cannot be opened";
        return false;
    }
    // The way that POSIX recommends to store an object pointer in a function pointer.
#define CUDNN_FIND(result, name, parameters)                                                       \
    if (!(*(void **)&api->name = dlsym(library, #name))) {                                         \
        *why_not = "the libcudnn that was found has no " #name;                                    \
        return false;                                                                              \
    }
    CUDNN_FUNCTIONS(CUDNN_FIND)
#undef CUDNN_FIND
    return true;
}

} // namespace

const Api *open(std::string *why_not)
{
    static Api api;
    static std::string fault;
    static const bool loaded = load(&api, &fault);
    *why_not = fault;
    return loaded ? &api : nullptr;
}

} // namespace cudnn
