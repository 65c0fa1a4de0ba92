// A corpus: the text files below some folders, split by file into a training and a held-out part.
// Which part a file belongs to depends on its path relative to its folder alone, so the split is
// the same on every machine and does not move when other files come or go.
//
// Kept out: binary files, empty ones, symbolic links, exact copies, and held-out files most of
// whose lines stand in training files (Lee et al. 2021, arXiv:2107.06499, on why).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/thread_team.h"

namespace cairn {

struct CorpusOptions {
  std::vector<Path> roots;          // folders, walked in order; a file stands for itself
  double held_out_fraction = 0.05;  // of files
  uint64_t min_file_bytes = 64;     // smaller files say nothing
  uint64_t max_file_bytes = uint64_t{8}
                            << 20;  // inside folders; a root that is a file may be larger
  // A held-out file with more than this share of its lines in training files is refused.
  double near_duplicate_share = 0.5;
};

// A file, or the part of it that belongs to this side of the split.
struct CorpusFile {
  Path path;
  std::string name;  // relative to its root, '/' between folders
  uint64_t bytes = 0;
  uint64_t offset = 0;  // of the first of those bytes in the file
};

// What was left out, in files.
struct CorpusReport {
  uint64_t binary = 0;
  uint64_t too_small = 0;
  uint64_t too_large = 0;
  uint64_t unreadable = 0;       // and folders that cannot be listed
  uint64_t copies = 0;           // of another file, to the byte
  uint64_t near_duplicates = 0;  // held-out files that training would have given away
};

struct Corpus {
  std::vector<CorpusFile> training;  // sorted by name
  std::vector<CorpusFile> held_out;
  CorpusReport report;
  bool held_out_is_a_tail = false;  // no whole file could be held out: gather_corpus
};

// Walks, reads and splits. When no file falls to the held-out side (a corpus of one file, say), the
// last lines of the largest file are held out instead, unless they too are near-duplicates.
// Throws Error (data) when a root does not exist or nothing is left for training; Error (usage) on
// options that make no sense.
Corpus gather_corpus(const CorpusOptions& options, ThreadTeam& team);

uint64_t total_bytes(const std::vector<CorpusFile>& files);

// The content of one file, mapped. Throws Error (data) when it has vanished or shrunk since it was
// gathered.
class CorpusText {
 public:
  explicit CorpusText(const CorpusFile& file);
  std::string_view text() const { return text_; }  // valid as long as the object

 private:
  MappedFile content_;
  std::string_view text_;
};

// The contents of files, read into one block: views stay valid as long as the object.
class Documents {
 public:
  // Errors as CorpusText.
  explicit Documents(const std::vector<CorpusFile>& files);
  const std::vector<std::string_view>& views() const { return views_; }

 private:
  std::string block_;
  std::vector<std::string_view> views_;
};

// True for text: no NUL byte and (almost) no broken UTF-8.
bool looks_like_text(std::string_view bytes);

}  // namespace cairn
