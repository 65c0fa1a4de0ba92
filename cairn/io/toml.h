// TOML 1.0 files as flat maps from "section.key" to value, each with the line and column it came
// from, so that whoever checks a configuration can point at the spot. Over toml++.
//
//   const TomlDocument run = read_toml("train.toml");
//   run.at("optimizer.lr")  -> 0.003 at train.toml:12:6
//
// Nested and dotted tables flatten alike; arrays of tables flatten with their index:
// [[data.sources]] path = "a"  is  "data.sources.0.path".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

struct TomlValue;
using TomlArray = std::vector<TomlValue>;

// A value and where it stands; line and column count from 1, 0 when it came from no file.
struct TomlValue {
  std::variant<bool, int64_t, double, std::string, TomlArray> value;
  uint32_t line = 0;
  uint32_t column = 0;
  std::string file = {};  // the included file that it stands in; empty: the document itself
};

using TomlValues = std::map<std::string, TomlValue, std::less<>>;

struct TomlDocument {
  std::string source;  // what errors call it
  TomlValues values;   // by dotted path, sorted

  // "train.toml:12:6".
  std::string place(const TomlValue& value) const;
};

// The most bytes a document may have, and how deep tables and arrays may be nested.
inline constexpr size_t kMaxTomlBytes = size_t{1} << 20;
inline constexpr size_t kMaxTomlDepth = 32;

// Throws Error (usage, as configurations are the user's) "SOURCE:LINE:COLUMN ..." for anything that
// is not TOML: duplicate keys, bad UTF-8, documents too large or too deep. Dates and times are
// refused: no setting is one. Keys that hold a dot themselves are refused, as they could be
// confused with a path.
TomlDocument parse_toml(std::string_view text, const std::string& source);

TomlDocument read_toml(const Path& path);

// A file that may build upon others:
//
//   include = ["base.toml", "../data.toml"]   at its top, relative to the file itself
//
// Included files are read first, in their order and with their own includes; what comes later wins,
// the file itself last. Each value knows the file it came from. Throws Error (usage) as
// parse_toml(), and when files include each other in a circle, more than kMaxTomlIncludes deep or
// more than that many in all.
inline constexpr size_t kMaxTomlIncludes = 32;
TomlDocument read_toml_with_includes(const Path& path);

// One value as it would stand right of an equals sign ("0.1", "true", "[1, 2]"); text that is no
// TOML value counts as a string, so that --run.name=try-1 needs no quotes. Throws Error (usage).
TomlValue parse_toml_value(std::string_view text, const std::string& source);

// "a boolean", "an integer", ...: the kind of a value, for messages.
std::string_view toml_kind(const TomlValue& value);

}  // namespace cairn
