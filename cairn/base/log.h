// Messages for people, on standard error. The library logs what a user would want to know later
// (a fallback taken, a checkpoint skipped), never per-step data. Thread-safe.
#pragma once

#include <string_view>

namespace cairn {

enum class LogLevel { debug, info, warning, error, off };

void set_log_level(LogLevel level);
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

}  // namespace cairn
