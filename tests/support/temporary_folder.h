// A folder of a test's own, removed with all it holds at the end of the test.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace cairn {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    // In memory where there is such a place: what is tested syncs often.
    const bool memory = ::access("/dev/shm", W_OK) == 0;
    const auto base = memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (base / "cairn-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace cairn
