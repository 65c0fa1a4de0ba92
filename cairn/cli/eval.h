// What the suites of `cairn eval` share: their options and the text that they read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cairn/data/dataset.h"
#include "cairn/data/evaluation_windows.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

struct EvalOptions {
  std::string model;
  std::string suite;
  std::string file;
  std::string data;
  std::string reference;
  std::string precision = "f32";
  std::string cache_type;
  int64_t length = 0;
  int64_t stride = 0;
  int64_t windows = 0;
  int64_t threads = 0;
  bool compare = false;
  bool json = false;
};

// Throws Error (usage).
[[noreturn]] void wrong_use(const std::string& expected, const std::string& found,
                            const std::string& hint = "");
size_t not_negative(int64_t value, const std::string& option);

// What is scored: a file, or the held-out part of a dataset.
struct EvalText {
  std::string name;
  TokenSource tokens;
  std::unique_ptr<TokenStream> stream;  // behind `tokens`, for a dataset
};

// Throws Error: usage unless exactly one of a file and a dataset is given, data when it cannot be
// read.
EvalText open_eval_text(const EvalOptions& options, const Tokenizer& tokenizer);

// How the text is cut for a model of this context: as asked for, or the usual way.
WindowOptions eval_windows(const EvalOptions& options, const EvalText& text, size_t context);

// `cairn eval MODEL kl FILE --reference REFERENCE`.
int run_divergence(const EvalOptions& options);

}  // namespace cairn
