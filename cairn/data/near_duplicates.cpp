#include "cairn/data/near_duplicates.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "cairn/base/hash.h"

namespace cairn {
namespace {

bool is_blank(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

void normalise(std::string_view line, std::string& out) {
  out.clear();
  bool gap = false;
  for (const char byte : line) {
    if (is_blank(byte)) {
      gap = true;
      continue;
    }
    if (gap && !out.empty()) out.push_back(' ');
    gap = false;
    out.push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + ('a' - 'A')) : byte);
  }
}

}  // namespace

void for_each_line_hash(std::string_view text, FunctionRef<void(uint64_t)> visit) {
  std::string line;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    normalise(text.substr(0, end), line);
    if (line.size() >= kMinLineBytes) visit(hash64(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::vector<double> shared_line_fractions(std::span<const CorpusFile> candidates,
                                          std::span<const CorpusFile> others, ThreadTeam& team) {
  std::vector<std::vector<uint64_t>> lines(candidates.size());
  team.run(candidates.size(), [&](size_t file, int) {
    const CorpusText text(candidates[file]);
    for_each_line_hash(text.text(), [&](uint64_t hash) { lines[file].push_back(hash); });
  });

  std::vector<uint64_t> wanted;  // sorted, each once
  for (const auto& hashes : lines) wanted.insert(wanted.end(), hashes.begin(), hashes.end());
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  const auto place = [&](uint64_t hash) {
    return static_cast<size_t>(std::lower_bound(wanted.begin(), wanted.end(), hash) -
                               wanted.begin());
  };

  // Threads only ever set flags, so their order does not matter.
  std::vector<std::atomic<bool>> found(wanted.size());
  team.run(others.size(), [&](size_t file, int) {
    const CorpusText text(others[file]);
    for_each_line_hash(text.text(), [&](uint64_t hash) {
      const size_t at = place(hash);
      if (at < wanted.size() && wanted[at] == hash)
        found[at].store(true, std::memory_order_relaxed);
    });
  });

  std::vector<double> shares;
  for (const auto& hashes : lines) {
    const auto shared = std::count_if(hashes.begin(), hashes.end(),
                                      [&](uint64_t hash) { return found[place(hash)].load(); });
    shares.push_back(
        hashes.empty() ? 0.0 : static_cast<double>(shared) / static_cast<double>(hashes.size()));
  }
  return shares;
}

}  // namespace cairn
