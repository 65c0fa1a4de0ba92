#include "cairn/io/json.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// "line 3, byte 57": where `at` stands in `text`, counted from 1 and from 0.
std::string place(std::string_view text, size_t at) {
  at = std::min(at, text.size());
  const auto lines = std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n');
  return "line " + std::to_string(lines + 1) + ", byte " + std::to_string(at);
}

[[noreturn]] void fail_at(std::string_view text, const std::string& source, size_t at,
                          const std::string& expected, const std::string& found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + source,
               .subject = place(text, at),
               .expected = expected,
               .found = found});
}

// Walks the text and reports how far it has come: the parser's own events carry no position.
class CountingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

// Builds the value from the parser's events, counting the memory it takes. The figures are those
// of libstdc++ and glibc: what malloc hands out for a map, a node, a string.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::string& source)
      : text_(text), source_(source), seen_(text.data()), budget_(32 * text.size() + (1U << 20)) {}

  const char** seen() { return &seen_; }
  Json take() { return std::move(root_); }

  bool null() override { return put(Json(nullptr)), true; }
  bool boolean(bool value) override { return put(Json(value)), true; }
  bool number_integer(number_integer_t value) override { return put(Json(value)), true; }
  bool number_unsigned(number_unsigned_t value) override { return put(Json(value)), true; }
  bool number_float(number_float_t value, const string_t&) override {
    return put(Json(value)), true;
  }
  bool string(string_t& value) override {
    spend(48 + string_bytes(value));
    return put(Json(std::move(value))), true;
  }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(std::size_t) override { return open(Json::object(), 64); }
  bool start_array(std::size_t) override { return open(Json::array(), 32); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    spend(96 + string_bytes(name));
    auto& members = stack_.back()->get_ref<Json::object_t&>();
    const auto [place, fresh] = members.try_emplace(std::move(name));
    if (!fresh) refuse("each key once in an object", "key " + in_quotes(place->first) + " again");
    member_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& problem) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    std::string_view message = problem.what();
    for (const std::string_view cut : {"] ", ": "}) {
      if (const size_t at = message.find(cut); at != std::string_view::npos)
        message.remove_prefix(at + cut.size());
    }
    message = message.substr(0, message.find("; last read"));  // the place says it better
    const size_t at = position == 0 ? 0 : position - 1;
    std::string found = in_quotes(message, 160);
    fail_at(text_, source_, at, "valid JSON", found.substr(1, found.size() - 2));
  }

 private:
  static size_t string_bytes(const std::string& text) {
    return text.size() < 16 ? 0 : text.capacity() + 17;
  }

  size_t offset() const { return static_cast<size_t>(seen_ - text_.data()); }

  [[noreturn]] void refuse(const std::string& expected, const std::string& found) {
    fail_at(text_, source_, offset(), expected, found);
  }

  void spend(size_t bytes, size_t passing = 0) {
    spent_ += bytes;
    if (spent_ + passing > budget_)
      refuse("a document that fits in 32 times its size of memory", "more tiny values than that");
  }

  Json* put(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (member_ != nullptr) {
      *member_ = std::move(value);
      return std::exchange(member_, nullptr);
    }
    auto& items = stack_.back()->get_ref<Json::array_t&>();
    if (items.size() == items.capacity()) {
      const size_t old = items.capacity();
      const size_t wanted = old + old / 2 + 1;
      spend((wanted - old) * sizeof(Json), old * sizeof(Json));
      items.reserve(wanted);
    }
    items.push_back(std::move(value));
    return &items.back();
  }

  bool open(Json container, size_t bytes) {
    if (stack_.size() == kMaxJsonDepth)
      refuse("nesting of at most " + std::to_string(kMaxJsonDepth), "deeper nesting");
    spend(bytes);
    stack_.push_back(put(std::move(container)));
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& source_;
  const char* seen_;
  size_t budget_;
  size_t spent_ = 0;
  Json root_;
  std::vector<Json*> stack_;  // open containers; an open one's address does not change
  Json* member_ = nullptr;    // the member whose value comes next
};

std::string dump(const Json& value, int indent) {
  try {
    return value.dump(indent, ' ', false, Json::error_handler_t::strict) + "\n";
  } catch (const Json::exception&) {
    throw Error({.kind = ErrorKind::data, .doing = "writing JSON", .expected = "text in UTF-8"});
  }
}

// What a value is, for messages: scalars as written, containers by kind and size.
std::string describe(const Json& value) {
  if (value.is_object()) return "an object of " + std::to_string(value.size()) + " members";
  if (value.is_array()) return "an array of " + std::to_string(value.size()) + " elements";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  if (const size_t at = text.find('\0'); at != std::string_view::npos)
    fail_at(text, source, at, "valid JSON", "a NUL byte");  // the parser would take it for the end
  Builder builder(text, source);
  // The parser reads through this iterator and has the end of its own; both report to the builder.
  const CountingIterator begin(text.data(), builder.seen());
  const CountingIterator end(text.data() + text.size(), builder.seen());
  Json::sax_parse(begin, end, &builder);
  return builder.take();
}

Json read_json(const Path& path, uint64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

std::string write_json(const Json& value) {
  return dump(value, 2);
}

std::string json_line(const Json& value) {
  return dump(value, -1);
}

std::string in_quotes(std::string_view text, size_t max_bytes) {
  std::string cut(text.substr(0, max_bytes));
  while (cut.size() < text.size() && !cut.empty() &&
         (static_cast<unsigned char>(text[cut.size()]) & 0xC0U) == 0x80U)
    cut.pop_back();  // not through the middle of a character
  const bool shortened = cut.size() < text.size();
  std::string result = Json(std::move(cut)).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shortened) result.insert(result.size() - 1, "...");
  return result;
}

JsonField::JsonField(const Json& document, std::string source)
    : JsonField(document, std::move(source), "") {}

JsonField::JsonField(const Json& value, std::string source, std::string path)
    : value_(&value), source_(std::move(source)), path_(std::move(path)) {}

bool JsonField::has(std::string_view key) const {
  if (!value_->is_object()) return false;
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonField JsonField::member(std::string_view key) const {
  if (!value_->is_object()) fail("an object");
  const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  const auto found = value_->find(key);
  if (found == value_->end())
    throw Error({.kind = ErrorKind::data,
                 .doing = source_,
                 .subject = path,
                 .expected = "a value",
                 .found = "no such key"});
  return {*found, source_, path};
}

std::optional<JsonField> JsonField::find(std::string_view key) const {
  if (!value_->is_object()) fail("an object");
  if (!has(key)) return std::nullopt;
  return member(key);
}

std::vector<JsonField> JsonField::elements() const {
  if (!value_->is_array()) fail("an array");
  std::vector<JsonField> result;
  result.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i)
    result.push_back(JsonField((*value_)[i], source_, path_ + "[" + std::to_string(i) + "]"));
  return result;
}

std::vector<std::string> JsonField::keys() const {
  if (!value_->is_object()) fail("an object");
  std::vector<std::string> result;
  for (const auto& member : value_->items()) result.push_back(member.key());
  return result;
}

bool JsonField::as_bool() const {
  if (!value_->is_boolean()) fail("true or false");
  return value_->get<bool>();
}

std::string JsonField::as_string() const {
  if (!value_->is_string()) fail("a string");
  return value_->get<std::string>();
}

double JsonField::as_number() const {
  if (!value_->is_number()) fail("a number");
  return value_->get<double>();
}

int64_t JsonField::as_integer(int64_t low, int64_t high) const {
  int64_t result = 0;
  bool whole = value_->is_number();
  if (value_->is_number_unsigned()) {
    const auto number = value_->get<uint64_t>();
    whole = number <= static_cast<uint64_t>(INT64_MAX);
    result = static_cast<int64_t>(number);
  } else if (value_->is_number_integer()) {
    result = value_->get<int64_t>();
  } else if (value_->is_number_float()) {
    const auto number = value_->get<double>();
    whole = number == std::floor(number) && std::fabs(number) <= 0x1p53;
    if (whole) result = static_cast<int64_t>(number);
  }
  if (whole && result >= low && result <= high) return result;
  if (low == 1)
    fail(high >= (int64_t{1} << 53) ? "a positive integer"
                                    : "an integer from 1 to " + std::to_string(high));
  if (low == INT64_MIN) fail("an integer");
  fail("an integer from " + std::to_string(low) + " to " + std::to_string(high));
}

size_t JsonField::as_positive(size_t high) const {
  const size_t bound = std::min(high, static_cast<size_t>(INT64_MAX));
  return static_cast<size_t>(as_integer(1, static_cast<int64_t>(bound)));
}

void JsonField::fail(const std::string& expected, const std::string& hint) const {
  throw Error({.kind = ErrorKind::data,
               .doing = source_,
               .subject = path_.empty() ? "the document" : path_,
               .expected = expected,
               .found = describe(*value_),
               .hint = hint});
}

}  // namespace cairn
