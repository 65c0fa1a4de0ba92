#include "cairn/data/corpus.h"

#include <utf8proc.h>

#include <algorithm>
#include <system_error>
#include <unordered_set>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {

constexpr uint64_t kSplitSeed = 0x5eed;  // of the hash that splits: part of the format
constexpr size_t kShortLine = 12;        // lines as short as "#endif" stand everywhere

enum class Fate { kept, binary, too_small, too_large, unreadable };

struct Candidate {
  CorpusFile file;
  bool held_out = false;
  Fate fate = Fate::kept;
  uint64_t content_hash = 0;
  std::vector<uint64_t> lines;  // hashes of normalised lines, each once
};

// Files below `root` in a fixed order. Links are not followed: they lead in circles or outside.
void walk(const Path& folder, const std::string& prefix, std::vector<Candidate>& found) {
  std::error_code code;
  std::vector<std::filesystem::directory_entry> entries;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end;
       it.increment(code))
    entries.push_back(*it);
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.path() < b.path(); });
  for (const auto& entry : entries) {
    const auto status = entry.symlink_status(code);
    const std::string name = prefix + entry.path().filename().string();
    if (std::filesystem::is_directory(status)) {
      walk(entry.path(), name + "/", found);
    } else if (std::filesystem::is_regular_file(status)) {
      found.emplace_back().file = {entry.path(), name, entry.file_size(code)};
    }
  }
}

std::vector<Candidate> walk_roots(const std::vector<Path>& roots) {
  std::vector<Candidate> found;
  for (const Path& root : roots) {
    std::error_code code;
    const auto status = std::filesystem::status(root, code);
    if (std::filesystem::is_directory(status)) {
      walk(root, "", found);
    } else if (std::filesystem::is_regular_file(status)) {
      found.emplace_back().file = {root, root.filename().string(),
                                   std::filesystem::file_size(root, code)};
    } else {
      throw Error({.kind = ErrorKind::data,
                   .doing = "gathering a corpus",
                   .subject = root.string(),
                   .expected = "a folder or a file",
                   .found = std::filesystem::exists(status) ? "something else" : "nothing there"});
    }
  }
  return found;
}

bool is_held_out(const std::string& name, double fraction) {
  return static_cast<double>(hash64(name, kSplitSeed) >> 11) * 0x1.0p-53 < fraction;
}

// Hashes of the lines with white space dropped, short ones left out, sorted, each once.
std::vector<uint64_t> line_hashes(std::string_view text) {
  std::vector<uint64_t> hashes;
  std::string line;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    line.clear();
    for (size_t i = begin; i < end; ++i)
      if (static_cast<unsigned char>(text[i]) > ' ') line += text[i];
    if (line.size() >= kShortLine) hashes.push_back(hash64(line));
    begin = end + 1;
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  return hashes;
}

void examine(Candidate& candidate, const CorpusOptions& options) {
  candidate.held_out = is_held_out(candidate.file.name, options.held_out_fraction);
  if (candidate.file.bytes < options.min_file_bytes) {
    candidate.fate = Fate::too_small;
  } else if (candidate.file.bytes > options.max_file_bytes) {
    candidate.fate = Fate::too_large;
  } else {
    try {
      const MappedFile content(candidate.file.path);
      candidate.file.bytes = content.size();
      candidate.content_hash = hash64(content.text());
      if (!looks_like_text(content.text()))
        candidate.fate = Fate::binary;
      else
        candidate.lines = line_hashes(content.text());
    } catch (const Error&) {
      candidate.fate = Fate::unreadable;
    }
  }
}

void count(const Candidate& candidate, CorpusReport& report) {
  report.binary += candidate.fate == Fate::binary ? 1 : 0;
  report.too_small += candidate.fate == Fate::too_small ? 1 : 0;
  report.too_large += candidate.fate == Fate::too_large ? 1 : 0;
  report.unreadable += candidate.fate == Fate::unreadable ? 1 : 0;
}

bool mostly_known(const std::vector<uint64_t>& lines, const std::unordered_set<uint64_t>& known,
                  double share) {
  const auto hits = std::count_if(lines.begin(), lines.end(),
                                  [&](uint64_t line) { return known.count(line) != 0; });
  return !lines.empty() && static_cast<double>(hits) > share * static_cast<double>(lines.size());
}

void check_options(const CorpusOptions& options) {
  if (options.roots.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "gathering a corpus",
                 .expected = "at least one folder (--from)"});
  if (!(options.held_out_fraction >= 0 && options.held_out_fraction < 1))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "gathering a corpus",
                 .subject = "held-out fraction",
                 .expected = "0 to below 1",
                 .found = std::to_string(options.held_out_fraction)});
}

std::string left_out(const CorpusReport& report) {
  return std::to_string(report.binary) + " binary, " + std::to_string(report.too_small) +
         " too small, " + std::to_string(report.too_large) + " too large, " +
         std::to_string(report.unreadable) + " unreadable";
}

// Bytes that belong to no UTF-8 character.
size_t broken_utf8_bytes(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  size_t broken = 0;
  for (utf8proc_ssize_t i = 0; i < size;) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes + i, size - i, &code_point);
    broken += length > 0 ? 0 : 1;
    i += length > 0 ? length : 1;
  }
  return broken;
}

}  // namespace

bool looks_like_text(std::string_view bytes) {
  if (bytes.find('\0') != std::string_view::npos) return false;
  return broken_utf8_bytes(bytes) * 100 <= bytes.size();
}

Corpus gather_corpus(const CorpusOptions& options, ThreadTeam& team) {
  check_options(options);
  std::vector<Candidate> candidates = walk_roots(options.roots);
  team.run(candidates.size(), [&](size_t i, int) { examine(candidates[i], options); });
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.file.name != b.file.name ? a.file.name < b.file.name : a.file.path < b.file.path;
  });

  Corpus corpus;
  std::unordered_set<uint64_t> contents, training_lines;
  const auto take = [&](bool held_out) {
    for (Candidate& candidate : candidates) {
      if (candidate.held_out != held_out) continue;
      if (candidate.fate != Fate::kept) {
        count(candidate, corpus.report);
      } else if (!contents.insert(candidate.content_hash).second) {
        ++corpus.report.copies;
      } else if (!held_out) {
        training_lines.insert(candidate.lines.begin(), candidate.lines.end());
        corpus.training.push_back(std::move(candidate.file));
      } else if (mostly_known(candidate.lines, training_lines, options.near_duplicate_share)) {
        ++corpus.report.near_duplicates;
      } else {
        corpus.held_out.push_back(std::move(candidate.file));
      }
    }
  };
  take(false);
  take(true);
  if (corpus.training.empty())
    throw Error(
        {.kind = ErrorKind::data,
         .doing = "gathering a corpus from " + options.roots.front().string(),
         .expected = "text files to train on",
         .found = candidates.empty() ? "no files" : "none (" + left_out(corpus.report) + ")"});
  return corpus;
}

uint64_t total_bytes(const std::vector<CorpusFile>& files) {
  uint64_t total = 0;
  for (const CorpusFile& file : files) total += file.bytes;
  return total;
}

Documents::Documents(const std::vector<CorpusFile>& files) {
  block_.reserve(total_bytes(files));
  views_.reserve(files.size());
  for (const CorpusFile& file : files) {
    const MappedFile content(file.path);
    if (content.size() != file.bytes)
      throw Error({.kind = ErrorKind::data,
                   .doing = "reading " + file.path.string(),
                   .expected = std::to_string(file.bytes) + " bytes, as when it was gathered",
                   .found = std::to_string(content.size())});
    const size_t begin = block_.size();
    block_ += content.text();
    views_.emplace_back(block_.data() + begin, content.size());
  }
}

}  // namespace cairn
