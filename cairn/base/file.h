// The one layer through which files are read and written. Errors name the path and what the
// operating system said. Tests install FileFaults to see short writes, a full disk and crashes at
// every point (tests may run as root, where an unwritable folder is writable).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"

namespace cairn {

using Path = std::filesystem::path;

// A file mapped read-only into memory. Movable; unmaps at destruction. The bytes stay valid as long
// as the object lives. An empty file maps to an empty span. Another process that cuts the file
// meanwhile takes bytes away under the reader: the kernel answers with SIGBUS, and the process then
// ends with a message that names the file and exit code 3 (data), unless somebody else handles that
// signal. Files that are read for long are better read through FileReader.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error (data) when the file is absent, not a regular file, or cannot be mapped.
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  size_t size() const { return size_; }
  const Path& path() const { return path_; }

  // Tells the kernel that [offset, offset + length) will be read soon.
  void will_need(size_t offset, size_t length) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  Path path_;
};

// A regular file read at any place. Unlike a MappedFile it may be cut by others meanwhile: a read
// then ends in an Error instead of a signal. Movable; thread-safe.
class FileReader {
 public:
  FileReader() = default;
  // Throws Error (data) when the file is absent or not a regular one.
  explicit FileReader(const Path& path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) noexcept;

  uint64_t size() const { return size_; }  // when it was opened
  const Path& path() const { return path_; }

  // Copies [offset, offset + bytes). Throws Error (data) when the file has fewer by now, or the
  // disk cannot read them.
  void read(uint64_t offset, void* to, size_t bytes) const;
  // Tells the kernel that [offset, offset + bytes) will be read soon.
  void will_need(uint64_t offset, uint64_t bytes) const;

 private:
  int descriptor_ = -1;
  uint64_t size_ = 0;
  Path path_;
};

// A file being written from its start. Every byte given to write() is on its way to the file or an
// Error has been thrown (kind failed; disk full says so). close() must be called; a writer
// destroyed without it leaves an incomplete file behind, which is why finished files are renamed
// into place.
class FileWriter {
 public:
  enum class Mode { create, append };
  explicit FileWriter(const Path& path, Mode mode = Mode::create);
  ~FileWriter();
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void sync();   // fsync
  void close();  // reports errors that the kernel kept until now
  uint64_t written() const { return written_; }

 private:
  int descriptor_ = -1;
  uint64_t written_ = 0;
  Path path_;
};

// The whole file. Throws Error (data) when it is absent or larger than `max_bytes`.
std::string read_file(const Path& path, uint64_t max_bytes = uint64_t{1} << 32);

// Replaces `path` (a symbolic link itself, not what it points to) so that a crash leaves either the
// old or the new content: write to a sibling temporary file (PATH.tmp-PROCESS), sync, rename, sync
// the folder. Errors remove the temporary file, a crash leaves it behind. One writer of a path at a
// time in a process.
void write_file_atomically(const Path& path, std::string_view content);
// The same for content that streams: `fill` writes it; what it throws leaves the old content.
void write_file_atomically(const Path& path, FunctionRef<void(FileWriter& writer)> fill);

void rename_file(const Path& from,
                 const Path& to);      // atomic within a file system; files or folders
void sync_folder(const Path& folder);  // makes renames and new names durable
void make_folders(const Path& folder);
void truncate_file(const Path& path, uint64_t bytes);
uint64_t free_space(const Path& folder);  // bytes available to this user

// Whether the process holds `path` locked; released at destruction or death of the process.
// Throws Error (failed) naming the holder's process when another process holds it.
class FileLock {
 public:
  explicit FileLock(const Path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Whether some process, this one included, holds `path` locked as FileLock does. Takes no lock.
bool is_locked(const Path& path);

// What a test lets happen to a file operation. `before` sees each one and answers how it goes.
class FileFaults {
 public:
  enum class Operation { open, write, sync, close, rename, sync_folder, make_folder, truncate };
  struct Outcome {
    int error = 0;            // errno to fail with; 0: go on
    size_t limit = SIZE_MAX;  // bytes that this write(2) call may take (short write)
  };
  virtual ~FileFaults() = default;
  // May also end the process, to test a crash at this point. Called under no lock.
  virtual Outcome before(Operation operation, const Path& path, size_t bytes) = 0;
};

// Installs (or, with nullptr, removes) the faults of the process. Not owned. For tests.
void set_file_faults(FileFaults* faults);

}  // namespace cairn
