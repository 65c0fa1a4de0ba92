#include "cairn/infer/speculation/lookup.h"

#include <algorithm>

#include "cairn/base/hash.h"

namespace cairn {
namespace {

uint64_t key_of(std::span<const int32_t> tokens) {
  return hash64(tokens.data(), tokens.size_bytes());
}

}  // namespace

void NgramIndex::extend(std::span<const int32_t> tokens) {
  const size_t known = text_.size();
  text_.insert(text_.end(), tokens.begin(), tokens.end());
  const std::span<const int32_t> all = text_;
  // Sequences that end before `end` have a token behind them now.
  for (size_t end = std::max<size_t>(known, 1); end < all.size(); ++end)
    for (size_t length = 1; length <= std::min(kLongest, end); ++length)
      places_[length - 1][key_of(all.subspan(end - length, length))] = static_cast<uint32_t>(end);
}

size_t NgramIndex::find(std::span<const int32_t> history, size_t length) const {
  if (history.size() < length) return 0;
  const std::span<const int32_t> wanted = history.last(length);
  const auto found = places_[length - 1].find(key_of(wanted));
  if (found == places_[length - 1].end()) return 0;
  const size_t end = found->second;  // two sequences may share a hash
  return std::equal(wanted.begin(), wanted.end(),
                    text_.begin() + static_cast<ptrdiff_t>(end - length))
             ? end
             : 0;
}

LookupProposer::LookupProposer(std::span<const int32_t> earlier) {
  earlier_.extend(earlier);
}

void LookupProposer::propose(std::span<const int32_t> history, size_t most, Proposal& proposal) {
  proposal.clear();
  const std::span<const int32_t> known = own_.text();
  if (known.size() > history.size() || !std::equal(known.begin(), known.end(), history.begin()))
    own_ = NgramIndex();  // another text
  own_.extend(history.subspan(own_.text().size()));
  for (size_t length = NgramIndex::kLongest; length > 0; --length) {
    for (const NgramIndex* index : {&own_, &earlier_}) {
      const size_t place = index->find(history, length);
      if (place == 0) continue;
      const std::span<const int32_t> follows = index->text().subspan(place);
      const size_t count = std::min(most, follows.size());
      proposal.tokens.assign(follows.begin(), follows.begin() + static_cast<ptrdiff_t>(count));
      proposal.kind = length - 1;
      return;
    }
  }
}

}  // namespace cairn
