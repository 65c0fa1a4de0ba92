// A shared library that is opened when it is first needed: what only one verb uses must not make
// every start of the program slower (libcurl brings thirty libraries along).
#pragma once

#include <string>

namespace cairn {

class RuntimeLibrary {
 public:
  // Throws Error (failed) naming the library and the Debian package that holds it.
  RuntimeLibrary(const char* file, const char* package);
  RuntimeLibrary(const RuntimeLibrary&) = delete;
  RuntimeLibrary& operator=(const RuntimeLibrary&) = delete;

  // Sets `function` to the symbol of that name; Function is its type, taken from the header:
  //   decltype(&curl_easy_init) init; library.find("curl_easy_init", init);
  // Throws Error (failed) when there is none.
  template <class Function>
  void find(const char* name, Function& function) const {
    function = reinterpret_cast<Function>(address(name));
  }

 private:
  void* address(const char* name) const;

  std::string file_;
  void* handle_;  // never closed: libraries may have threads and exit handlers
};

}  // namespace cairn
