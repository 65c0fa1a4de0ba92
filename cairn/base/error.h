// The one family of errors. An error says what was being done, to which file, tensor or key, what
// was expected and what was found; the program prints it whole and ends with its exit code.
//
//   throw Error({.kind = ErrorKind::data, .doing = "loading model.safetensors",
//                .subject = "tensor model.norm.weight", .expected = "[512] (hidden_size)",
//                .found = "[2048]", .hint = "is config.json from another model?"});
#pragma once

#include <exception>
#include <string>

namespace cairn {

// What went wrong, as the exit code of the program (DESIGN section 7).
enum class ErrorKind {
  failed = 1,      // the machine or the operating system refused
  usage = 2,       // wrong command line, configuration or argument
  data = 3,        // a corpus, shard, model or other file is not what it should be
  diverged = 4,    // training produced a non-finite or exploding loss
  checkpoint = 5,  // a checkpoint cannot be written or trusted
};

// The parts of a message. Only `doing` must be given; empty parts are left out.
struct Problem {
  ErrorKind kind = ErrorKind::failed;
  std::string doing;     // "loading granite.safetensors"
  std::string subject;   // "tensor layers.7.attn.k_proj.weight"
  std::string expected;  // "[512, 2048] (kv_heads 8 x head_dim 64, hidden_size)"
  std::string found;     // "[2048, 2048]"
  std::string hint;      // what to try next
};

class Error : public std::exception {
 public:
  explicit Error(Problem problem);

  const Problem& problem() const { return problem_; }
  ErrorKind kind() const { return problem_.kind; }
  int exit_code() const { return static_cast<int>(problem_.kind); }

  // The message over one to three lines, without the leading "error: ".
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  Problem problem_;
  std::string message_;
};

// The description of an errno value ("No space left on device"). Thread-safe.
std::string describe_errno(int code);

}  // namespace cairn
