#include "cairn/io/hub/runtime_library.h"

#include <dlfcn.h>

#include "cairn/base/error.h"

namespace cairn {

RuntimeLibrary::RuntimeLibrary(const char* file, const char* package)
    : file_(file), handle_(dlopen(file, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ != nullptr) return;
  const char* problem = dlerror();
  throw Error({.doing = "opening " + file_,
               .found = problem != nullptr ? problem : "no such library",
               .hint = std::string("it is in the Debian package ") + package});
}

void* RuntimeLibrary::address(const char* name) const {
  void* found = dlsym(handle_, name);
  if (found == nullptr)
    throw Error({.doing = "opening " + file_,
                 .subject = name,
                 .expected = "this function",
                 .found = "an older library"});
  return found;
}

}  // namespace cairn
