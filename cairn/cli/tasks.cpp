#include "cairn/cli/tasks.h"

#include <sstream>
#include <unordered_map>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/toml.h"
#include "cairn/train/config.h"

namespace cairn {

TaskOptions task_options(const std::string& name, const std::vector<std::string>& overrides) {
  TaskOptions options{name, {}};
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    if (!text.starts_with("task."))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "reading the options of the task",
                   .expected = "--task.KEY=VALUE",
                   .found = text});
    options.values[text.substr(5, equals - 5)] =
        option_value(parse_toml_value(text.substr(equals + 1), "the command line"));
  }
  return options;
}

std::vector<int32_t> task_tokens(const Task& task, std::string_view text) {
  std::unordered_map<std::string, int32_t> known;
  std::vector<std::string> words;
  for (size_t id = 0; id < task.vocab_size(); ++id) {
    words.push_back(task.token_text(static_cast<int32_t>(id)));
    known.emplace(words.back(), static_cast<int32_t>(id));
  }
  std::vector<int32_t> ids;
  std::istringstream stream{std::string(text)};
  for (std::string word; stream >> word;) {
    const std::string token = word.substr(0, word.find('>'));
    const auto found = known.find(token);
    if (found == known.end())
      throw Error({.kind = ErrorKind::usage,
                   .doing = "reading the words of the task",
                   .subject = "word " + std::to_string(ids.size()),
                   .expected = "one of its " + std::to_string(words.size()) + " words, " +
                               words.front() + " to " + words.back(),
                   .found = "\"" + word + "\"",
                   .hint = did_you_mean(token, words)});
    ids.push_back(found->second);
  }
  return ids;
}

}  // namespace cairn
