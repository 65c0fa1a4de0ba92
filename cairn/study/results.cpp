#include "cairn/study/results.h"

#include <fmt/core.h>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 28;

}  // namespace

StudyResults::StudyResults(const Path& file) : file_(file) {
  if (!std::filesystem::exists(file)) return;
  const std::string text = read_file(file, kMaxBytes);
  size_t begin = 0;
  for (size_t number = 1; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string source = fmt::format("{}:{}", file.string(), number);
    Json line = parse_json(std::string_view(text).substr(begin, end - begin), source);
    const std::string config = JsonField(line, source).member("config").as_string();
    by_config_[config] = std::move(line);
    begin = end + 1;
  }
  whole_bytes_ = begin;
  torn_ = begin != text.size();
}

const Json* StudyResults::find(const std::string& config) const {
  const auto found = by_config_.find(config);
  return found == by_config_.end() ? nullptr : &found->second;
}

void StudyResults::append(const Json& line) {
  if (torn_) truncate_file(file_, whole_bytes_);
  torn_ = false;
  if (file_.has_parent_path()) make_folders(file_.parent_path());
  const std::string text = json_line(line);
  FileWriter writer(file_, FileWriter::Mode::append);
  writer.write(text);
  writer.sync();
  writer.close();
  whole_bytes_ += text.size();
  by_config_[line.at("config").get<std::string>()] = line;
}

}  // namespace cairn
