#include "cairn/io/toml.h"

#include <toml++/toml.h>

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

std::string at(const std::string& source, uint32_t line, uint32_t column) {
  return source + ":" + std::to_string(line) + ":" + std::to_string(column);
}

[[noreturn]] void refuse(const std::string& place, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading " + place,
               .expected = expected,
               .found = found});
}

// Looks for key paths and nesting that are too deep before the parser sees them: the parser and
// its tables recurse, so a.a.a.a... would exhaust the stack. Knows only as much TOML as it needs:
// strings, comments, brackets and runs of dotted key segments.
class DepthCheck {
 public:
  DepthCheck(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  void run() {
    while (next_ < text_.size()) step();
  }

 private:
  void step() {
    const char c = text_[next_];
    if (c == '"' || c == '\'') return skip_string(c);
    if (c == '#') {
      next_ = std::min(text_.find('\n', next_), text_.size());
      return;
    }
    if (c == '.') {
      limit(++dots_);
    } else if (c == '[' || c == '{') {
      limit(++open_);
    } else if (c == ']' || c == '}') {
      open_ -= open_ > 0 ? 1 : 0;
    }
    if (c == '\n' || c == ',' || c == '=' || c == '[' || c == '{') dots_ = 0;
    ++next_;
  }

  // Past the end of the string that starts here, or of the text.
  void skip_string(char quote) {
    const std::string three(3, quote);
    const bool is_long = text_.compare(next_, 3, three) == 0;
    const std::string_view end = is_long ? std::string_view(three) : std::string_view(&quote, 1);
    next_ += end.size();
    while (next_ < text_.size() && text_.compare(next_, end.size(), end) != 0) {
      if (!is_long && text_[next_] == '\n') return;  // unclosed: the parser will say so
      next_ += quote == '"' && text_[next_] == '\\' ? 2 : 1;
    }
    next_ = std::min(next_ + end.size(), text_.size());
  }

  void limit(size_t depth) const {
    if (depth <= kMaxTomlDepth) return;
    const auto here = text_.begin() + static_cast<ptrdiff_t>(next_);
    const auto line = std::count(text_.begin(), here, '\n') + 1;
    const size_t start = text_.rfind('\n', next_);
    const size_t column = start == std::string_view::npos ? next_ + 1 : next_ - start;
    refuse(at(source_, static_cast<uint32_t>(line), static_cast<uint32_t>(column)),
           "nesting of at most " + std::to_string(kMaxTomlDepth), "deeper nesting");
  }

  std::string_view text_;
  const std::string& source_;
  size_t next_ = 0;
  size_t dots_ = 0;
  size_t open_ = 0;
};

// Flattens the parser's tree.
class Flattener {
 public:
  explicit Flattener(TomlDocument& document) : document_(document) {}

  void add_table(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      if (name.find('.') != std::string::npos || name.empty())
        refuse(place(node), "a key without dots", "\"" + name + "\"");
      add(node, prefix + name);
    }
  }

  TomlValue convert(const toml::node& node) const {
    TomlValue result;
    result.line = node.source().begin.line;
    result.column = node.source().begin.column;
    if (const auto* boolean = node.as_boolean()) {
      result.value = boolean->get();
    } else if (const auto* integer = node.as_integer()) {
      result.value = integer->get();
    } else if (const auto* number = node.as_floating_point()) {
      result.value = number->get();
    } else if (const auto* text = node.as_string()) {
      result.value = text->get();
    } else if (const auto* array = node.as_array()) {
      TomlArray items;
      for (const toml::node& item : *array) items.push_back(convert(item));
      result.value = std::move(items);
    } else {
      refuse(place(node), "a boolean, a number, a string or an array of these",
             node.is_table() ? "a table inside such an array" : "a date or time");
    }
    return result;
  }

 private:
  std::string place(const toml::node& node) const {
    return at(document_.source, node.source().begin.line, node.source().begin.column);
  }

  void add(const toml::node& node, const std::string& path) {
    if (const auto* table = node.as_table()) return add_table(*table, path + ".");
    const auto* array = node.as_array();
    if (array != nullptr && !array->empty() && array->is_array_of_tables()) {
      for (size_t i = 0; i < array->size(); ++i)
        add_table(*(*array)[i].as_table(), path + "." + std::to_string(i) + ".");
      return;
    }
    document_.values.emplace(path, convert(node));
  }

  TomlDocument& document_;
};

// Reads files that include files.
class IncludeReader {
 public:
  TomlDocument read(const Path& path) {
    TomlDocument document = read_toml(path);
    const auto include = document.values.find("include");
    if (include == document.values.end()) return document;
    const TomlValue list = include->second;
    document.values.erase(include);
    TomlDocument merged{.source = document.source};
    for (const std::string& name : names(list, document)) {
      const Path other = path.parent_path() / name;
      enter(other, document.place(list));
      TomlDocument inner = read(other);
      open_.pop_back();
      for (auto& [key, value] : inner.values) {
        if (value.file.empty()) value.file = inner.source;
        merged.values.insert_or_assign(key, std::move(value));
      }
    }
    for (auto& [key, value] : document.values)
      merged.values.insert_or_assign(key, std::move(value));
    return merged;
  }

  // Refuses a circle. `place` is where `path` is included.
  void enter(const Path& path, const std::string& place) {
    std::error_code ignored;
    const Path real = std::filesystem::weakly_canonical(path, ignored);
    if (std::find(open_.begin(), open_.end(), real) != open_.end())
      refuse(place, "files that do not include each other in a circle", path.string() + " again");
    if (++files_ > kMaxTomlIncludes + 1)
      refuse(place, "at most " + std::to_string(kMaxTomlIncludes) + " included files", "more");
    open_.push_back(real);
  }

 private:
  static std::vector<std::string> names(const TomlValue& list, const TomlDocument& document) {
    const std::string expected = "a list of files: include = [\"base.toml\"]";
    const auto* array = std::get_if<TomlArray>(&list.value);
    if (array == nullptr) refuse(document.place(list), expected, std::string(toml_kind(list)));
    std::vector<std::string> names;
    for (const TomlValue& item : *array) {
      const auto* name = std::get_if<std::string>(&item.value);
      if (name == nullptr || name->empty())
        refuse(document.place(item), expected, std::string(toml_kind(item)) + " in it");
      names.push_back(*name);
    }
    return names;
  }

  std::vector<Path> open_;  // from the first file to the one being read
  size_t files_ = 0;
};

void check_size(std::string_view text, const std::string& source) {
  if (text.size() > kMaxTomlBytes)
    refuse(source, "at most " + std::to_string(kMaxTomlBytes) + " bytes",
           std::to_string(text.size()) + " bytes");
}

}  // namespace

std::string TomlDocument::place(const TomlValue& value) const {
  const std::string& name = value.file.empty() ? source : value.file;
  return value.line == 0 ? name : at(name, value.line, value.column);
}

TomlDocument parse_toml(std::string_view text, const std::string& source) {
  check_size(text, source);
  DepthCheck(text, source).run();
  TomlDocument document;
  document.source = source;
  try {
    const toml::table table = toml::parse(text);
    Flattener(document).add_table(table, "");
  } catch (const toml::parse_error& error) {
    refuse(at(source, error.source().begin.line, error.source().begin.column), "valid TOML",
           std::string(error.description()));
  }
  return document;
}

TomlDocument read_toml(const Path& path) {
  return parse_toml(read_file(path, kMaxTomlBytes), path.string());
}

TomlDocument read_toml_with_includes(const Path& path) {
  IncludeReader reader;
  reader.enter(path, path.string());
  return reader.read(path);
}

TomlValue parse_toml_value(std::string_view text, const std::string& source) {
  check_size(text, source);
  if (text.find('\n') == std::string_view::npos) {
    const std::string line = "v = " + std::string(text);
    DepthCheck(line, source).run();
    try {
      const toml::table table = toml::parse(line);
      TomlDocument document;
      document.source = source;
      // "1 # note" and "1, w = 2" are not values: nothing may follow but what belongs to one.
      if (table.size() == 1 && text.find('#') == std::string_view::npos) {
        TomlValue value = Flattener(document).convert(*table.get("v"));
        value.line = value.column = 0;
        return value;
      }
    } catch (const toml::parse_error&) {  // then it is text
    }
  }
  return {std::string(text)};
}

std::string_view toml_kind(const TomlValue& value) {
  constexpr std::string_view kKinds[] = {"a boolean", "an integer", "a number", "a string",
                                         "an array"};
  return kKinds[value.value.index()];
}

}  // namespace cairn
