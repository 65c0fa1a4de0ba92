#include "cairn/runs/metrics.h"

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// The lines of a file, whether each is whole, and where it starts.
struct Line {
  size_t begin = 0;
  size_t end = 0;  // behind the newline
  Json value;
};

std::vector<Line> parse_lines(std::string_view text, const Path& file) {
  std::vector<Line> lines;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t newline = text.find('\n', begin);
    if (newline == std::string_view::npos) break;  // torn: the process died in the middle of it
    const std::string source = file.string() + " line " + std::to_string(lines.size() + 1);
    Json value = parse_json(text.substr(begin, newline - begin), source);
    JsonField(value, source).member("step").as_integer(0);
    lines.push_back({begin, newline + 1, std::move(value)});
    begin = newline + 1;
  }
  return lines;
}

// As the JSON writer would: the shortest digits that read back as the same number, with a point
// when it is no integer; null for what JSON has no number for.
void append_number(std::string& out, const std::variant<int64_t, double>& value) {
  std::array<char, 32> text;
  char* const end = text.data() + text.size();
  if (const int64_t* whole = std::get_if<int64_t>(&value)) {
    out.append(text.data(), std::to_chars(text.data(), end, *whole).ptr);
    return;
  }
  const double number = std::get<double>(value);
  if (!std::isfinite(number)) {
    out += "null";
    return;
  }
  const std::string_view digits(
      text.data(), static_cast<size_t>(std::to_chars(text.data(), end, number).ptr - text.data()));
  out += digits;
  if (digits.find_first_of(".e") == std::string_view::npos) out += ".0";
}

Path orphan_path(const Path& file) {
  for (int n = 1;; ++n) {
    Path path = file.string() + ".orphan-" + std::to_string(n);
    if (!std::filesystem::exists(path)) return path;
  }
}

}  // namespace

void MetricsLog::write(const Json& record) {
  writer_.write(json_line(record));
}

void MetricsLog::write(std::initializer_list<MetricField> fields) {
  // Room for the longest line at once: later ones then allocate nothing.
  constexpr size_t kLongestNumber = 32;
  size_t longest = 3;
  for (const MetricField& field : fields)
    longest += std::string_view(field.name).size() + kLongestNumber;
  line_.reserve(longest);
  line_.clear();
  line_ += '{';
  for (const MetricField& field : fields) {
    if (line_.size() > 1) line_ += ',';
    line_ += '"';
    line_ += field.name;
    line_ += '"';
    line_ += ':';
    append_number(line_, field.value);
  }
  line_ += '}';
  line_ += '\n';
  writer_.write(line_);
}

std::vector<Json> read_metrics(const Path& file) {
  std::vector<Json> records;
  if (!std::filesystem::exists(file)) return records;
  const std::string text = read_file(file);
  for (Line& line : parse_lines(text, file)) records.push_back(std::move(line.value));
  return records;
}

std::vector<Json> rewind_metrics(const Path& file, uint64_t step, bool all) {
  std::vector<Json> removed;
  if (!std::filesystem::exists(file)) return removed;
  const std::string text = read_file(file);
  size_t keep = 0;
  for (Line& line : parse_lines(text, file)) {
    if (removed.empty() && !all && line.value.at("step").get<uint64_t>() <= step)
      keep = line.end;
    else
      removed.push_back(std::move(line.value));
  }
  if (keep == text.size()) return removed;
  write_file_atomically(orphan_path(file), std::string_view(text).substr(keep));
  truncate_file(file, keep);
  return removed;
}

Series series(const std::vector<Json>& metrics, std::string_view x, std::string_view y) {
  Series out;
  for (const Json& record : metrics) {
    const auto at_x = record.find(x), at_y = record.find(y);
    if (at_x == record.end() || at_y == record.end()) continue;
    if (!at_x->is_number() || !at_y->is_number()) continue;
    out.x.push_back(at_x->get<double>());
    out.y.push_back(at_y->get<double>());
  }
  return out;
}

}  // namespace cairn
