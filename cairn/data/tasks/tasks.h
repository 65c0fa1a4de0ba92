// What registry.cpp makes tasks with, one function a task; each reads its own options.
#pragma once

#include <memory>

#include "cairn/data/tasks/options.h"

namespace cairn {

std::unique_ptr<Task> make_flip_flop(TaskOptionReader& options);
std::unique_ptr<Task> make_shell_game(TaskOptionReader& options);
std::unique_ptr<Task> make_word_problem(TaskOptionReader& options);
std::unique_ptr<Task> make_recall(TaskOptionReader& options);
std::unique_ptr<Task> make_mqrar(TaskOptionReader& options);
std::unique_ptr<Task> make_mqrar_n(TaskOptionReader& options);
std::unique_ptr<Task> make_variable_tracking(TaskOptionReader& options);
std::unique_ptr<Task> make_phone_book(TaskOptionReader& options);
std::unique_ptr<Task> make_stories(TaskOptionReader& options);

}  // namespace cairn
