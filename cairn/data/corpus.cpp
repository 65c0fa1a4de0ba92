#include "cairn/data/corpus.h"

#include <utf8proc.h>

#include <algorithm>
#include <system_error>
#include <unordered_set>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/log.h"
#include "cairn/data/near_duplicates.h"

namespace cairn {
namespace {

constexpr uint64_t kSplitSeed = 0x5eed;  // of the hash that splits: part of the format

enum class Fate { kept, binary, too_small, too_large, unreadable };

struct Candidate {
  CorpusFile file;
  bool named = false;  // a root itself: may have any size
  bool held_out = false;
  Fate fate = Fate::kept;
  uint64_t content_hash = 0;
};

// Adds the files below `folder`. Links are not followed: they lead in circles or outside. Folders
// that cannot be listed become unreadable candidates.
void walk(const Path& folder, const std::string& prefix, std::vector<Candidate>& found) {
  std::error_code code;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end;
       it.increment(code)) {
    std::error_code ignored;  // a file that vanishes now is found unreadable later
    const auto status = it->symlink_status(ignored);
    const std::string name = prefix + it->path().filename().string();
    if (std::filesystem::is_directory(status)) {
      walk(it->path(), name + "/", found);
    } else if (std::filesystem::is_regular_file(status)) {
      found.emplace_back().file = {it->path(), name, it->file_size(ignored)};
    }
  }
  if (!code) return;
  if (prefix.empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "gathering a corpus from " + folder.string(),
                 .found = code.message()});
  log_warning(folder.string() + " is left out: " + code.message());
  found.push_back({.file = {folder, prefix, 0}, .fate = Fate::unreadable});
}

std::vector<Candidate> walk_roots(const std::vector<Path>& roots) {
  std::vector<Candidate> found;
  for (const Path& root : roots) {
    std::error_code code;
    const auto status = std::filesystem::status(root, code);
    if (std::filesystem::is_directory(status)) {
      walk(root, "", found);
    } else if (std::filesystem::is_regular_file(status)) {
      found.push_back({.file = {root, root.filename().string(), 0}, .named = true});
      found.back().file.bytes = MappedFile(root).size();  // says why when it cannot be read
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

void examine(Candidate& candidate, const CorpusOptions& options) {
  candidate.held_out = is_held_out(candidate.file.name, options.held_out_fraction);
  if (candidate.fate != Fate::kept) return;
  if (candidate.file.bytes < options.min_file_bytes) {
    candidate.fate = Fate::too_small;
  } else if (candidate.file.bytes > options.max_file_bytes && !candidate.named) {
    candidate.fate = Fate::too_large;
  } else {
    try {
      const MappedFile content(candidate.file.path);
      candidate.file.bytes = content.size();
      candidate.content_hash = hash64(content.text());
      if (!looks_like_text(content.text())) candidate.fate = Fate::binary;
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

// Drops the held-out files that share too many lines with training files.
void refuse_near_duplicates(Corpus& corpus, double share, ThreadTeam& team) {
  const std::vector<double> shares = shared_line_fractions(corpus.held_out, corpus.training, team);
  std::vector<CorpusFile> kept;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] > share)
      ++corpus.report.near_duplicates;
    else
      kept.push_back(std::move(corpus.held_out[i]));
  }
  corpus.held_out = std::move(kept);
}

// Where the last `fraction` of `text` begins: after a line end, or else at a character.
size_t tail_start(std::string_view text, double fraction) {
  auto start = static_cast<size_t>(static_cast<double>(text.size()) * (1.0 - fraction));
  const size_t line_end = text.find('\n', start);
  if (line_end != std::string_view::npos && line_end + 1 < text.size()) return line_end + 1;
  while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) ++start;
  return start;
}

// Moves the end of the largest training file to the held-out side.
void hold_out_a_tail(Corpus& corpus, const CorpusOptions& options, ThreadTeam& team) {
  CorpusFile& largest =
      *std::max_element(corpus.training.begin(), corpus.training.end(),
                        [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  const Documents content({largest});
  const size_t start = tail_start(content.views()[0], options.held_out_fraction);
  if (start == 0 || start >= largest.bytes) return;
  CorpusFile tail = largest;
  tail.offset = start;
  tail.bytes = largest.bytes - start;
  largest.bytes = start;
  corpus.held_out.push_back(tail);
  refuse_near_duplicates(corpus, options.near_duplicate_share, team);
  corpus.held_out_is_a_tail = !corpus.held_out.empty();
  if (corpus.held_out.empty()) largest.bytes += tail.bytes;
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
  std::unordered_set<uint64_t> contents;
  for (const bool held_out : {false, true}) {  // of two equal files, training keeps its own
    for (Candidate& candidate : candidates) {
      if (candidate.held_out != held_out) continue;
      if (candidate.fate != Fate::kept)
        count(candidate, corpus.report);
      else if (!contents.insert(candidate.content_hash).second)
        ++corpus.report.copies;
      else
        (held_out ? corpus.held_out : corpus.training).push_back(std::move(candidate.file));
    }
  }
  if (corpus.training.empty()) std::swap(corpus.training, corpus.held_out);  // of one file, say
  if (corpus.training.empty())
    throw Error(
        {.kind = ErrorKind::data,
         .doing = "gathering a corpus from " + options.roots.front().string(),
         .expected = "text files to train on",
         .found = candidates.empty() ? "no files" : "none (" + left_out(corpus.report) + ")"});
  if (options.held_out_fraction == 0) return corpus;
  refuse_near_duplicates(corpus, options.near_duplicate_share, team);
  if (corpus.held_out.empty()) hold_out_a_tail(corpus, options, team);
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
    const size_t begin = block_.size();
    block_ += CorpusText(file).text();
    views_.emplace_back(block_.data() + begin, block_.size() - begin);
  }
}

CorpusText::CorpusText(const CorpusFile& file) : content_(file.path) {
  // A training part ends before the held-out tail, so only the file's end is known.
  const uint64_t end = file.offset + file.bytes;
  if (content_.size() < end)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + file.path.string(),
                 .expected = "at least " + std::to_string(end) + " bytes, as when it was gathered",
                 .found = std::to_string(content_.size())});
  text_ = content_.text().substr(file.offset, file.bytes);
}

}  // namespace cairn
