// Strict JSON (RFC 8259) over nlohmann-json: reading files that strangers wrote, with errors that
// say where, and writing the same bytes for the same value every time.
//
//   const Json document = read_json(folder / "config.json");
//   const JsonField config(document, "config.json");
//   const size_t width = config.member("hidden_size").as_positive();
//   // Error: "config.json: hidden_size, expected a positive integer, found "abc""
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

using Json = nlohmann::json;  // objects are sorted by key

// Containers may be nested this deep.
inline constexpr size_t kMaxJsonDepth = 128;

// Parses one document. `source` is what errors call it. Refuses duplicate keys, bad UTF-8, NUL
// bytes, numbers beyond a double, nesting beyond kMaxJsonDepth, anything after the value, and
// documents that would need more than 32 bytes of memory a byte of text plus 1 MiB.
// Throws Error (data) with source, line and byte offset.
Json parse_json(std::string_view text, const std::string& source);

// The same for a file; errors name its path. Throws Error (data) above `max_bytes` too.
Json read_json(const Path& path, uint64_t max_bytes = uint64_t{1} << 30);

// Two-space indent, keys sorted, non-ASCII text kept, shortest numbers that read back equal, a
// newline at the end. NaN and infinities become null (JSON has none).
// Throws Error (data) when a string is not UTF-8.
std::string write_json(const Json& value);

// The same on one line, newline included: a record of a JSON-lines file.
std::string json_line(const Json& value);

// `text` in quotes for a message: control and broken bytes escaped, cut after `max_bytes`.
std::string in_quotes(std::string_view text, size_t max_bytes = 80);

// A value inside a document together with where it stands. Borrows the document, which must
// outlive it. Every accessor throws Error (data) "SOURCE: PATH, expected ..., found ...".
class JsonField {
 public:
  JsonField(const Json& document, std::string source);

  const Json& value() const { return *value_; }
  const std::string& source() const { return source_; }
  // "rope_parameters.rope_theta", "eos_token_id[1]"; empty for the document itself.
  const std::string& path() const { return path_; }

  // Whether this is an object that holds `key` with something other than null.
  bool has(std::string_view key) const;
  // The member of that name; an error when absent (null counts as present).
  JsonField member(std::string_view key) const;
  // The member of that name; empty when absent or null.
  std::optional<JsonField> find(std::string_view key) const;
  // The elements of an array, in order.
  std::vector<JsonField> elements() const;
  // The keys of an object, sorted.
  std::vector<std::string> keys() const;

  bool as_bool() const;
  std::string as_string() const;
  // Any number: 1e-05, or an integer where a float is meant.
  double as_number() const;
  // An integer in [low, high]; 4.0 is one too, as some writers print integers so.
  int64_t as_integer(int64_t low = INT64_MIN, int64_t high = INT64_MAX) const;
  size_t as_positive(size_t high = size_t{1} << 53) const;

  // Throws the error: "SOURCE: PATH, expected EXPECTED, found (this value)".
  [[noreturn]] void fail(const std::string& expected, const std::string& hint = "") const;

 private:
  JsonField(const Json& value, std::string source, std::string path);

  const Json* value_;
  std::string source_;
  std::string path_;
};

}  // namespace cairn
