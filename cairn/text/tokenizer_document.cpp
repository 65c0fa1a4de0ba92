#include "cairn/text/tokenizer_document.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/text/string_index.h"

namespace cairn {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr int64_t kMostIds = 1 << 24;

class Reader {
 public:
  Reader(const std::string& source, size_t bytes, TokenizerSpec& spec)
      : source_(source), budget_(16 * bytes + (size_t{1} << 20)), spec_(spec) {}

  Json document(const element& root) {
    added_ = 0;
    simdjson::dom::array added;
    if (root["added_tokens"].get(added) == simdjson::SUCCESS) added_ = added.size();
    Json result = convert(root, "", Where::document);
    if (has_merges_) read_merges(merges_);
    return result;
  }

 private:
  // What an object is, for the two members that are read apart.
  enum class Where { document, model, other };

  [[noreturn]] void fail(const std::string& path, const std::string& expected,
                         const std::string& found) const {
    throw Error({.kind = ErrorKind::data,
                 .doing = source_,
                 .subject = path,
                 .expected = expected,
                 .found = found});
  }

  static std::string shown(const element& value) {
    if (value.is_object()) return "an object";
    if (value.is_array()) return "an array";
    std::string text = simdjson::minify(value);
    return value.is_string() ? in_quotes(std::string_view(value)) : text.substr(0, 80);
  }

  // What a value costs in the general representation; the bound is what parse_json keeps to.
  void spend(size_t bytes) {
    spent_ += bytes;
    if (spent_ > budget_) {
      fail("the document", "one that fits in 32 times its size of memory",
           "more tiny values than that");
    }
  }

  Json convert(const element& value, const std::string& path, Where where) {
    spend(64);
    switch (value.type()) {
      case element_type::OBJECT:
        return convert_object(value, path, where);
      case element_type::ARRAY: {
        Json items = Json::array();
        for (const element item : simdjson::dom::array(value)) {
          items.push_back(convert(item, path, Where::other));
        }
        return items;
      }
      case element_type::STRING:
        return std::string(std::string_view(value));
      case element_type::INT64:
        return int64_t(value);
      case element_type::UINT64:
        return uint64_t(value);
      case element_type::DOUBLE:
        return double(value);
      case element_type::BOOL:
        return bool(value);
      case element_type::NULL_VALUE:
        break;
    }
    return nullptr;
  }

  Json convert_object(const element& value, const std::string& path, Where where) {
    Json members = Json::object();
    for (const auto field : simdjson::dom::object(value)) {
      const std::string key(field.key);
      spend(96 + key.size());
      const std::string inner = path.empty() ? key : path + "." + key;
      if (members.contains(key)) fail(inner, "each key once in an object", "the key again");
      const bool model = where == Where::document && key == "model";
      if (where == Where::model && key == "vocab") {
        read_vocabulary(field.value);
        members[key] = nullptr;  // so that a second one is seen
      } else if (where == Where::model && key == "merges") {
        merges_ = field.value;
        has_merges_ = true;
        members[key] = nullptr;
      } else {
        members[key] = convert(field.value, inner, model ? Where::model : Where::other);
      }
    }
    return members;
  }

  void read_vocabulary(const element& value) {
    simdjson::dom::object entries;
    simdjson::dom::array pieces;
    if (value.get(entries) == simdjson::SUCCESS) {
      read_ids(entries);
    } else if (value.get(pieces) == simdjson::SUCCESS) {
      read_pieces(pieces);
    } else {
      fail("model.vocab", "an object of tokens and ids, or an array of tokens and scores",
           shown(value));
    }
  }

  void read_ids(simdjson::dom::object entries) {
    size_t count = 0;
    for ([[maybe_unused]] const auto entry : entries) ++count;  // size() saturates
    const int64_t limit = id_limit(count + added_);
    std::vector<std::string>& vocabulary = spec_.vocabulary;
    vocabulary.reserve(count);
    for (const auto entry : entries) {
      int64_t id = -1;
      if (entry.value.get(id) != simdjson::SUCCESS || id < 0 || id >= limit) {
        fail("model.vocab." + std::string(entry.key), fmt::format("an id in [0, {})", limit),
             shown(entry.value));
      }
      const auto at = static_cast<size_t>(id);
      if (at >= vocabulary.size()) vocabulary.resize(at + 1);
      if (!vocabulary[at].empty()) {
        fail("model.vocab." + std::string(entry.key), "an id of its own",
             "token \"" + vocabulary[at] + "\" has it too");
      }
      if (entry.key.empty()) fail("model.vocab", "tokens that are not empty", "\"\"");
      vocabulary[at] = entry.key;
    }
    index_vocabulary();
  }

  void read_pieces(simdjson::dom::array pieces) {
    for (const element entry : pieces) {
      simdjson::dom::array pair;
      std::string_view piece;
      double score = 0;
      const bool good = entry.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
                        pair.at(0).get(piece) == simdjson::SUCCESS &&
                        pair.at(1).get(score) == simdjson::SUCCESS;
      if (!good) {
        fail(fmt::format("model.vocab[{}]", spec_.vocabulary.size()), "[token, score]",
             shown(entry));
      }
      spec_.vocabulary.emplace_back(piece);
      spec_.scores.push_back(score);
    }
    index_vocabulary();
  }

  void index_vocabulary() {
    ids_ = StringIndex(spec_.vocabulary.size());
    for (size_t id = 0; id < spec_.vocabulary.size(); ++id) {
      const std::string& token = spec_.vocabulary[id];
      if (token.empty()) continue;
      if (ids_.insert(token, static_cast<int32_t>(id)) >= 0) {
        fail("model.vocab", "each token once", in_quotes(token) + " again");
      }
    }
  }

  // The ids of one entry of `merges`, -1 where there is none.
  std::pair<int32_t, int32_t> merge_of(const element& entry) const {
    std::string_view left, right;
    simdjson::dom::array pair;
    if (entry.get(left) == simdjson::SUCCESS) {
      const size_t blank = left.find(' ');
      if (blank == left.npos || left.find(' ', blank + 1) != left.npos) return {-1, -1};
      right = left.substr(blank + 1);
      left = left.substr(0, blank);
    } else if (entry.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
               pair.at(0).get(left) != simdjson::SUCCESS ||
               pair.at(1).get(right) != simdjson::SUCCESS) {
      return {-1, -1};
    }
    return {ids_.find(left), ids_.find(right)};
  }

  void read_merges(const element& value) {
    simdjson::dom::array entries;
    if (value.get(entries) != simdjson::SUCCESS) {
      fail("model.merges", "an array of merges", shown(value));
    }
    spec_.merges.reserve(std::min<size_t>(entries.size(), spec_.vocabulary.size() * 4));
    for (const element entry : entries) {
      const auto merge = merge_of(entry);
      if (merge.first < 0 || merge.second < 0) {
        fail(fmt::format("model.merges[{}]", spec_.merges.size()),
             "two tokens of the vocabulary, \"a b\" or [\"a\", \"b\"]", shown(entry));
      }
      spec_.merges.push_back(merge);
    }
  }

  const std::string& source_;
  size_t budget_;  // bytes; simdjson takes about as much again
  size_t spent_ = 0;
  TokenizerSpec& spec_;
  size_t added_ = 0;
  element merges_;  // read last: it may stand before the vocabulary
  bool has_merges_ = false;
  StringIndex ids_;
};

}  // namespace

int64_t id_limit(size_t entries) {
  return std::min<int64_t>(kMostIds, 65536 + 4 * static_cast<int64_t>(entries));
}

Json read_tokenizer_document(std::string_view text, const std::string& source,
                             TokenizerSpec& spec) {
  simdjson::dom::parser parser;
  element root;
  auto code = parser.allocate(std::max<size_t>(text.size(), 64), kMaxJsonDepth);
  if (code == simdjson::SUCCESS) code = parser.parse(text.data(), text.size()).get(root);
  if (code != simdjson::SUCCESS) {
    parse_json(text, source);  // says where
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + source,
                 .expected = "valid JSON",
                 .found = simdjson::error_message(code)});
  }
  return Reader(source, text.size(), spec).document(root);
}

}  // namespace cairn
