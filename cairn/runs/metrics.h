// metrics.jsonl: what a run measured, one JSON object a line, written as it happens and read by
// plots and reports. Every line has "step"; a line of training has "loss", one of evaluation has
// "val_loss".
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/io/json.h"

namespace cairn {

// One number of a line.
struct MetricField {
  template <class Number>
  MetricField(std::string_view field, Number number) : name(field) {
    if constexpr (std::is_integral_v<Number>)
      value = static_cast<int64_t>(number);
    else
      value = double{number};
  }
  std::string_view name;  // plain ASCII
  std::variant<int64_t, double> value;
};

// Appends lines. Each line reaches the operating system before write() returns, so that a killed
// process loses none.
class MetricsLog {
 public:
  explicit MetricsLog(const Path& file) : writer_(file, FileWriter::Mode::append) {}
  void write(const Json& record);  // Error (failed) when the disk refuses
  // The same for numbers alone, for every step: allocates nothing once lines have their length.
  void write(std::initializer_list<MetricField> fields);

 private:
  FileWriter writer_;
  std::string line_;
};

// Lines of `file` in order; a torn last line is left out. Empty when there is no file. Throws
// Error (data) naming file and line when another line is not a JSON object with a step.
std::vector<Json> read_metrics(const Path& file);

// Removes the lines whose step is above `step` (`all`: every line), and a torn last one, before a
// run is resumed there. What is removed is kept beside the file as metrics.jsonl.orphan-N; a crash
// on the way loses nothing. Returns the removed whole lines.
std::vector<Json> rewind_metrics(const Path& file, uint64_t step, bool all = false);

// A column: the values of one field over the lines that have it as a number.
struct Series {
  std::vector<double> x, y;
};
// `x` and `y` name fields, "tokens" and "loss". Lines without both are left out.
Series series(const std::vector<Json>& metrics, std::string_view x, std::string_view y);

}  // namespace cairn
