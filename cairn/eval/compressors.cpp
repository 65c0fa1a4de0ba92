#include "cairn/eval/compressors.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "cairn/base/error.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): not every libc declares it

namespace cairn {
namespace {

[[noreturn]] void fail(const Compressor& compressor, const std::string& found) {
  throw Error({.doing = "compressing with " + compressor.name, .found = found});
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  void close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

// Fills an unnamed file in memory and rewinds it.
void fill(const Descriptor& file, std::string_view text, const Compressor& compressor) {
  while (!text.empty()) {
    const ssize_t taken = ::write(file.number(), text.data(), text.size());
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) fail(compressor, describe_errno(errno));
    text.remove_prefix(static_cast<size_t>(taken));
  }
  if (::lseek(file.number(), 0, SEEK_SET) != 0) fail(compressor, describe_errno(errno));
}

// Starts the command; 0 when there is no such program.
pid_t start(const Compressor& compressor, int input, int output) {
  std::vector<char*> arguments;
  arguments.reserve(compressor.command.size() + 1);
  for (const std::string& word : compressor.command)
    arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  pid_t child = 0;
  const int code =
      ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT) return 0;
  if (code != 0) fail(compressor, describe_errno(code));
  return child;
}

uint64_t count_bytes(const Descriptor& pipe) {
  std::array<char, 1 << 16> buffer;
  uint64_t bytes = 0;
  for (;;) {
    const ssize_t got = ::read(pipe.number(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return bytes;
    bytes += static_cast<uint64_t>(got);
  }
}

}  // namespace

const std::vector<Compressor>& reference_compressors() {
  static const std::vector<Compressor> compressors = {
      {"gzip -9", {"gzip", "-9", "-c"}},
      {"xz -9e", {"xz", "-9e", "-c"}},
  };
  return compressors;
}

std::optional<uint64_t> compressed_bytes(const Compressor& compressor, std::string_view text) {
  const Descriptor input(::memfd_create("text", MFD_CLOEXEC));
  std::array<int, 2> ends = {-1, -1};
  if (input.number() < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0)
    fail(compressor, describe_errno(errno));
  const Descriptor from_child(ends[0]);
  Descriptor to_parent(ends[1]);
  fill(input, text, compressor);
  const pid_t child = start(compressor, input.number(), to_parent.number());
  if (child == 0) return std::nullopt;
  to_parent.close();  // so that the pipe ends with the child
  const uint64_t bytes = count_bytes(from_child);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(compressor, "it ended with status " + std::to_string(status));
  return bytes;
}

}  // namespace cairn
