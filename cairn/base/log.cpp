#include "cairn/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "cairn/base/progress.h"

namespace cairn {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto created = spdlog::stderr_color_mt("cairn");
    created->set_pattern("%^%l%$: %v");
    return created;
  }();
  return *instance;
}

void log(spdlog::level::level_enum level, std::string_view message) {
  if (!logger().should_log(level)) return;
  interrupt_progress();
  logger().log(level, "{}", message);
}

}  // namespace

void set_log_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return logger().set_level(spdlog::level::debug);
    case LogLevel::info:
      return logger().set_level(spdlog::level::info);
    case LogLevel::warning:
      return logger().set_level(spdlog::level::warn);
    case LogLevel::error:
      return logger().set_level(spdlog::level::err);
    case LogLevel::off:
      return logger().set_level(spdlog::level::off);
  }
}

void log_debug(std::string_view message) {
  log(spdlog::level::debug, message);
}
void log_info(std::string_view message) {
  log(spdlog::level::info, message);
}
void log_warning(std::string_view message) {
  log(spdlog::level::warn, message);
}
void log_error(std::string_view message) {
  log(spdlog::level::err, message);
}

}  // namespace cairn
