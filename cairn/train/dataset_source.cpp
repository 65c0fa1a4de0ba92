#include "cairn/train/dataset_source.h"

#include <algorithm>
#include <array>
#include <set>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"

namespace cairn {
namespace {

// A shard's header vouches for the whole file (data/shard.h).
constexpr size_t kShardHeader = 128;

}  // namespace

uint64_t fingerprint_of(const TokenStream& stream) {
  Hasher hasher;
  for (size_t i = 0; i < stream.shards(); ++i) {
    const FileReader file(stream.shard(i).path());
    std::array<std::byte, kShardHeader> header{};
    file.read(0, header.data(), header.size());  // an open shard has one
    hasher.update(header.data(), header.size());
  }
  return hasher.digest();
}

DatasetSource::DatasetSource(const Path& folder, const LoaderOptions& options)
    : options_(options), training_(folder, Split::training), maker_(training_, options_) {
  fingerprint_ = fingerprint_of(training_);
  if (info().held_out.tokens < 2) {
    log_warning(folder.string() + " holds no held-out text: nothing to evaluate on");
    return;
  }
  held_out_.emplace(folder, Split::held_out);
  held_out_windows_.emplace(
      token_source(*held_out_),
      WindowOptions{.length = options_.length, .mask_documents = options_.mask_documents});
}

DatasetSource::~DatasetSource() = default;

void DatasetSource::seek(uint64_t first) {
  loader_.reset();
  loader_ = std::make_unique<DataLoader>(maker_, first / options_.sequences);
}

Batch DatasetSource::next() {
  if (!loader_) seek(0);
  return loader_->next();
}

void DatasetSource::recycle(Batch&& used) {
  if (loader_) loader_->recycle(std::move(used));
}

std::vector<std::string> DatasetSource::files(uint64_t first, uint64_t count) const {
  std::vector<std::string> all;
  std::set<std::string> seen;
  const uint64_t end = (first + count + options_.sequences - 1) / options_.sequences;
  for (uint64_t batch = first / options_.sequences; batch < end; ++batch)
    for (std::string& file : maker_.files(batch))
      if (seen.insert(file).second) all.push_back(std::move(file));
  return all;
}

uint64_t DatasetSource::held_out_windows() const {
  return held_out_windows_ ? held_out_windows_->size() : 0;
}

Batch DatasetSource::held_out(uint64_t first, uint64_t count) const {
  return held_out_windows_->batch(first, count);
}

double DatasetSource::bytes_per_token() const {
  const SplitInfo& split = info().held_out;
  return split.tokens == 0 ? 0
                           : static_cast<double>(split.bytes) / static_cast<double>(split.tokens);
}

}  // namespace cairn
