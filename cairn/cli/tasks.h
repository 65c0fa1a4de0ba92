// What verbs that take a synthetic task share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cairn/data/tasks/task.h"

namespace cairn {

// "flip_flop" and {"task.ignore=0.98"} as what make_task() takes. Throws Error (usage).
TaskOptions task_options(const std::string& name, const std::vector<std::string>& overrides);

// The tokens of "w 0 i 1 r": words of the task between blanks. Of "r>0", as `cairn data sample`
// prints what is asked for, the part before the sign counts. Throws Error (usage) naming the first
// word that the task does not have.
std::vector<int32_t> task_tokens(const Task& task, std::string_view text);

}  // namespace cairn
