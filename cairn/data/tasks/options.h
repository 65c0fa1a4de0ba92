// Reads the options of a task one by one, and refuses what nobody asked for.
#pragma once

#include <string>
#include <vector>

#include "cairn/data/tasks/task.h"

namespace cairn {

class TaskOptionReader {
 public:
  // Borrows `options`.
  explicit TaskOptionReader(const TaskOptions& options) : options_(options) {}

  // Each returns the value of `key`, `otherwise` when it is not given; Error (usage) when it has
  // another type or lies outside [low, high].
  size_t whole(const std::string& key, size_t otherwise, size_t low, size_t high);
  double real(const std::string& key, double otherwise, double low, double high);
  bool flag(const std::string& key, bool otherwise);
  std::string word(const std::string& key, const std::vector<std::string>& words);  // first: usual

  // Error (usage), with a suggestion, when an option was given that none of the above asked for.
  void finish() const;

  [[noreturn]] void refuse(const std::string& key, const std::string& expected,
                           const std::string& found, const std::string& hint = "") const;

 private:
  const OptionValue* find(const std::string& key);

  const TaskOptions& options_;
  std::vector<std::string> known_;
};

}  // namespace cairn
