// Folders of files that exist whole or not at all: how checkpoints survive a crash at any moment
// and a full disk. A checkpoint is
//
//   checkpoints/step-00001234/   files, and MANIFEST: "xxh3 size name" for each of them
//   checkpoints/latest           the name of the newest
//
// Writing: files go to tmp-..., each is synced, then MANIFEST, then the folder; a rename gives it
// its name; `latest` follows. A folder without a MANIFEST that agrees with its files does not
// exist.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/function_ref.h"

namespace cairn {

// Which checkpoints stay when a newer one is there.
struct Retention {
  uint64_t keep_last = 2;            // newest ones; at least 1
  uint64_t keep_every = 0;           // multiples of so many steps; 0: none
  std::vector<uint64_t> steps = {};  // and these: the best, branch points
};

class CheckpointStore {
 public:
  // own: makes the folder if needed and removes what a crash left half-written. look: touches
  // nothing, as another process may be writing there; then only newest(), find() and steps().
  enum class Access { own, look };
  explicit CheckpointStore(const Path& folder, Access access = Access::own);

  // Throws Error (checkpoint) when fewer than `bytes` are free for checkpoint `step`.
  void require_space(uint64_t step, uint64_t bytes) const;

  // Writes checkpoint `step`: `fill` puts files into the folder it is given. An existing checkpoint
  // of that step is kept if it is whole. First as require_space(); whatever goes wrong afterwards,
  // in `fill` or on the disk, is an Error (checkpoint): the half-written folder is removed and
  // older checkpoints are untouched.
  Path write(uint64_t step, uint64_t bytes, FunctionRef<void(const Path& folder)> fill);

  // The newest checkpoint that is whole. Newer ones that are not are named in a warning.
  struct Found {
    uint64_t step = 0;
    Path folder;
  };
  std::optional<Found> newest() const;

  // Checkpoint `step`. Throws Error (checkpoint) when there is none that is whole.
  Path find(uint64_t step) const;

  // Where checkpoint `step` is, or would be.
  Path place(uint64_t step) const;

  // Steps that have a folder, rising; not verified.
  std::vector<uint64_t> steps() const;

  // Deletes the checkpoints of later steps, the newest first.
  void forget_after(uint64_t step);

  // Deletes what `retention` does not keep, after a look whether the newest is whole: nothing is
  // deleted when it is not. Only to be called after a write() that succeeded.
  void retain(const Retention& retention);

 private:
  void remove(const Path& folder);
  Path folder_;
};

// Throws Error (checkpoint) naming the first file that MANIFEST and folder disagree about.
void verify_manifest(const Path& folder);

}  // namespace cairn
