#include "cairn/model/convert_attention.h"

#include "cairn/base/error.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found, const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = "converting a model to PaTH attention",
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// The teacher's rotary base; its attention must be nothing but softmax with rotary positions.
double rope_theta_of(const Model& teacher) {
  const AttentionOptions& attention = teacher.config().attention;  // normalized
  const auto theta = attention.values.find("rope_theta");
  if (attention.mechanism != "softmax" || attention.values.size() != 1 ||
      theta == attention.values.end())
    refuse("the model's attention", "softmax with rotary positions and no other option",
           attention.mechanism + " with " + std::to_string(attention.values.size()) + " options");
  return std::get<double>(theta->second);
}

}  // namespace

Model path_from_rope(const Model& teacher, AttentionOptions options, uint64_t seed) {
  const double theta = rope_theta_of(teacher);
  if (options.mechanism != "path")
    refuse(
        "attention", "path", options.mechanism,
        "a forget gate is open only half when it starts: \"path_fox\" would not begin as the model "
        "does");
  for (const char* fixed : {"rope_on_w", "rope_theta"})
    if (options.values.count(fixed) != 0)
      refuse(fixed, "nothing", "a value", "it follows from the model");
  options.values["rope_on_w"] = true;
  options.values["rope_theta"] = theta;
  ModelConfig config = teacher.config();
  config.attention = std::move(options);
  return rebuild_model(config, teacher, seed);
}

}  // namespace cairn
