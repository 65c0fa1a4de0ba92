#include "cairn/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

std::atomic<FileFaults*> g_faults{nullptr};

FileFaults::Outcome outcome(FileFaults::Operation operation, const Path& path, size_t bytes = 0) {
  FileFaults* faults = g_faults.load(std::memory_order_acquire);
  return faults == nullptr ? FileFaults::Outcome{} : faults->before(operation, path, bytes);
}

[[noreturn]] void fail(const std::string& doing, const Path& path, int code,
                       ErrorKind kind = ErrorKind::failed) {
  Problem problem{
      .kind = kind, .doing = doing + " " + path.string(), .found = describe_errno(code)};
  if (code == ENOSPC || code == EDQUOT) problem.hint = "free some space; nothing old was touched";
  throw Error(std::move(problem));
}

// Runs a system call under the installed faults.
template <class Call>
void checked(FileFaults::Operation operation, const std::string& doing, const Path& path,
             Call call) {
  if (const int error = outcome(operation, path).error; error != 0) fail(doing, path, error);
  while (call() != 0) {
    if (errno != EINTR) fail(doing, path, errno);
  }
}

// Closes at the end of its scope.
struct Descriptor {
  explicit Descriptor(int value) : number(value) {}
  ~Descriptor() { ::close(number); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int number;
};

// Mapped files by address, for the handler below. A handler may neither lock nor allocate, so the
// table has a fixed size; a file that finds no place in it is only not guarded.
struct GuardedMap {
  std::atomic<bool> taken{false};
  std::atomic<const std::byte*> begin{nullptr};  // published last
  size_t size = 0;
  std::array<char, 256> name{};
};
std::array<GuardedMap, 256> g_maps;

void say(std::string_view text) {
  static_cast<void>(::write(STDERR_FILENO, text.data(), text.size()) < 0);
}

// Ends the process with the message and the exit code of an Error: nothing else can be done where
// any instruction of any library may have been the one that read.
void on_bus_error(int number, siginfo_t* info, void* /*context*/) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const GuardedMap& map : g_maps) {
    const std::byte* begin = map.begin.load(std::memory_order_acquire);
    if (begin == nullptr || address < begin || address >= begin + map.size) continue;
    say("error: reading ");
    say(map.name.data());
    say("\n  expected the bytes it had when it was opened, found its end\n"
        "  another process has cut it\n");
    ::_exit(static_cast<int>(ErrorKind::data));
  }
  std::signal(number, SIG_DFL);  // none of ours: the instruction runs again, and ends the process
}

void guard(const std::byte* begin, size_t size, const Path& path) {
  static const bool installed = [] {
    struct sigaction before {
    }, action{};
    if (::sigaction(SIGBUS, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) return false;
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  if (!installed) return;
  for (GuardedMap& map : g_maps) {
    if (map.taken.exchange(true, std::memory_order_acquire)) continue;
    map.size = size;
    map.name.fill('\0');
    path.native().copy(map.name.data(), map.name.size() - 1);
    map.begin.store(begin, std::memory_order_release);
    return;
  }
}

void forget(const std::byte* begin) {
  for (GuardedMap& map : g_maps) {
    if (map.begin.load(std::memory_order_acquire) != begin) continue;
    map.begin.store(nullptr, std::memory_order_release);
    map.taken.store(false, std::memory_order_release);
    return;
  }
}

// Opens a regular file for reading and tells its size. Does not wait for the writer of a pipe.
int open_regular(const Path& path, size_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail("opening", path, errno, ErrorKind::data);
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening " + path.string(),
                 .expected = "a regular file",
                 .found = S_ISDIR(info.st_mode) ? "a folder" : "another kind of file"});
  }
  size = static_cast<size_t>(info.st_size);
  return descriptor;
}

}  // namespace

MappedFile::MappedFile(const Path& path) : path_(path) {
  const int descriptor = open_regular(path, size_);
  if (size_ != 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    const int code = errno;
    ::close(descriptor);
    if (mapped == MAP_FAILED) fail("mapping", path, code, ErrorKind::data);
    data_ = static_cast<const std::byte*>(mapped);
    guard(data_, size_, path_);
  } else {
    ::close(descriptor);
  }
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

void MappedFile::will_need(size_t offset, size_t length) const {
  if (data_ == nullptr || offset >= size_) return;
  const size_t page = 4096;
  const size_t begin = offset / page * page;
  const size_t end = offset + std::min(length, size_ - offset);
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_WILLNEED);
}

FileReader::FileReader(const Path& path) : path_(path) {
  size_t size = 0;
  descriptor_ = open_regular(path, size);
  size_ = size;
}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

FileReader& FileReader::operator=(FileReader&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

void FileReader::read(uint64_t offset, void* to, size_t bytes) const {
  auto* next = static_cast<char*>(to);
  uint64_t at = offset;
  while (bytes > 0) {
    const ssize_t taken = ::pread(descriptor_, next, bytes, static_cast<off_t>(at));
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) fail("reading", path_, errno, ErrorKind::data);
    if (taken == 0)
      throw Error({.kind = ErrorKind::data,
                   .doing = "reading " + path_.string(),
                   .expected = std::to_string(size_) + " bytes, as when it was opened",
                   .found = "its end at byte " + std::to_string(at),
                   .hint = "another process has cut it"});
    next += taken;
    at += static_cast<uint64_t>(taken);
    bytes -= static_cast<size_t>(taken);
  }
}

void FileReader::will_need(uint64_t offset, uint64_t bytes) const {
  if (descriptor_ < 0) return;
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                  POSIX_FADV_WILLNEED);
}

FileWriter::FileWriter(const Path& path, Mode mode) : path_(path) {
  if (const int error = outcome(FileFaults::Operation::open, path).error; error != 0)
    fail("creating", path, error);
  const int how = mode == Mode::append ? O_APPEND : O_TRUNC;
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0644);
  if (descriptor_ < 0) fail("creating", path, errno);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      written_(other.written_),
      path_(std::move(other.path_)) {}

void FileWriter::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto fault = outcome(FileFaults::Operation::write, path_, bytes);
    if (fault.error != 0) fail("writing", path_, fault.error);
    const ssize_t taken = ::write(descriptor_, next, std::min(bytes, fault.limit));
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) fail("writing", path_, errno);
    next += taken;
    bytes -= static_cast<size_t>(taken);
    written_ += static_cast<uint64_t>(taken);
  }
}

void FileWriter::sync() {
  checked(FileFaults::Operation::sync, "syncing", path_, [&] { return ::fsync(descriptor_); });
}

void FileWriter::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  if (descriptor < 0) return;
  const int injected = outcome(FileFaults::Operation::close, path_).error;
  const int result = ::close(descriptor);  // never retried: the descriptor is gone either way
  if (injected != 0) fail("closing", path_, injected);
  if (result != 0 && errno != EINTR) fail("closing", path_, errno);
}

std::string read_file(const Path& path, uint64_t max_bytes) {
  size_t size = 0;
  const Descriptor file(open_regular(path, size));
  if (size > max_bytes)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + path.string(),
                 .expected = "at most " + std::to_string(max_bytes) + " bytes",
                 .found = std::to_string(size) + " bytes"});
  // Read, not mapped: a file that shrinks meanwhile then only ends early.
  std::string content(size, '\0');
  size_t filled = 0;
  while (filled < size) {
    const ssize_t taken = ::read(file.number, content.data() + filled, size - filled);
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) fail("reading", path, errno, ErrorKind::data);
    if (taken == 0) break;
    filled += static_cast<size_t>(taken);
  }
  content.resize(filled);
  return content;
}

namespace {

// Said of the file itself, and before the work of filling it: else the temporary one would be
// named, or the end of it all fail.
void check_target(const Path& path) {
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  std::error_code code;
  const bool inside = std::filesystem::is_directory(folder, code);
  if (inside && !std::filesystem::is_directory(std::filesystem::symlink_status(path, code))) return;
  throw Error({.doing = "writing " + path.string(),
               .expected = inside ? "a file to replace, or none" : "the folder " + folder.string(),
               .found = inside ? "a folder" : "no such folder"});
}

}  // namespace

void write_file_atomically(const Path& path, std::string_view content) {
  write_file_atomically(path, [&](FileWriter& writer) { writer.write(content); });
}

void write_file_atomically(const Path& path, FunctionRef<void(FileWriter& writer)> fill) {
  check_target(path);
  const Path temporary = path.string() + ".tmp-" + std::to_string(::getpid());
  try {
    FileWriter writer(temporary);
    fill(writer);
    writer.sync();
    writer.close();
    rename_file(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());  // best effort: the error to report is the first one
    throw;
  }
  sync_folder(path.has_parent_path() ? path.parent_path() : Path("."));
}

void rename_file(const Path& from, const Path& to) {
  checked(FileFaults::Operation::rename, "renaming " + from.string() + " to", to,
          [&] { return ::rename(from.c_str(), to.c_str()); });
}

void sync_folder(const Path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail("opening folder", folder, errno);
  const int injected = outcome(FileFaults::Operation::sync_folder, folder).error;
  const int result = ::fsync(descriptor);
  const int code = errno;
  ::close(descriptor);
  if (injected != 0) fail("syncing folder", folder, injected);
  if (result != 0 && code != EINVAL) fail("syncing folder", folder, code);
}

void make_folders(const Path& folder) {
  if (const int error = outcome(FileFaults::Operation::make_folder, folder).error; error != 0)
    fail("creating folder", folder, error);
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) fail("creating folder", folder, code.value());
}

void truncate_file(const Path& path, uint64_t bytes) {
  checked(FileFaults::Operation::truncate, "truncating", path,
          [&] { return ::truncate(path.c_str(), static_cast<off_t>(bytes)); });
}

uint64_t free_space(const Path& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) fail("asking for the free space of", folder, errno);
  return uint64_t{info.f_bavail} * info.f_frsize;
}

FileLock::FileLock(const Path& path) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("opening lock", path, errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    const std::string id = std::to_string(::getpid()) + "\n";
    if (::ftruncate(descriptor_, 0) != 0 ||
        ::write(descriptor_, id.data(), id.size()) != static_cast<ssize_t>(id.size()))
      return;  // the note about the holder is a courtesy; the lock itself holds
    return;
  }
  char holder[32] = {};
  const ssize_t length = ::pread(descriptor_, holder, sizeof holder - 1, 0);
  ::close(descriptor_);
  descriptor_ = -1;
  std::string id(holder, length > 0 ? static_cast<size_t>(length) : 0);
  while (!id.empty() && id.back() == '\n') id.pop_back();
  throw Error({.doing = "locking " + path.string(),
               .found = "another process holds it" + (id.empty() ? "" : ": process " + id),
               .hint = "wait for it to end, or stop it"});
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

// /proc/locks names files by inode: "3: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF".
bool is_locked(const Path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return false;
  std::string inode(":");
  inode += std::to_string(info.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, advisory, mode, holder, file;
    words >> number >> kind >> advisory >> mode >> holder >> file;
    if (kind == "FLOCK" && file.ends_with(inode)) return true;
  }
  return false;
}

void set_file_faults(FileFaults* faults) {
  g_faults.store(faults, std::memory_order_release);
}

}  // namespace cairn
