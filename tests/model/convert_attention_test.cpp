#include "cairn/model/convert_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "tests/model/tiny.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TEST(RebuildModel, KeepsTensorsOfTheSameNameAndStartsTheOthers) {
  ModelConfig config = tiny_config();
  Model source(config);
  source.initialize(1);
  config.layers += 1;
  const Model more = rebuild_model(config, source, 2);
  Model fresh(config);
  fresh.initialize(2);
  for (const Parameter& parameter : more.parameters()) {
    const auto found = more.values(parameter);
    bool known = false;
    for (const Parameter& old : source.parameters()) known |= old.spec.name == parameter.spec.name;
    const auto expected = known ? std::as_const(source).values(source.find(parameter.spec.name))
                                : std::as_const(fresh).values(parameter);
    EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin())) << parameter.spec.name;
  }
}

TEST(PathFromRope, RefusesATeacherWithoutPlainRotaryPositions) {
  ModelConfig config = tiny_config();
  config.attention.values["position"] = std::string("none");
  const Model bare(config);
  const std::string message = message_of(
      [&] {
        path_from_rope(bare, {"path", {}}, 0);
      },
      ErrorKind::usage);
  EXPECT_THAT(message, HasSubstr("rotary"));
}

TEST(PathFromRope, RefusesOtherRoomsAndOptionsThatFollowFromTheTeacher) {
  const Model teacher(tiny_config());
  const auto refusal = [&](const AttentionOptions& options) {
    return message_of([&] { path_from_rope(teacher, options, 0); }, ErrorKind::usage);
  };
  EXPECT_THAT(refusal({"path_fox", {}}), HasSubstr("found path_fox"));
  EXPECT_THAT(refusal({"path", {{"rope_theta", 5.0}}}), HasSubstr("rope_theta"));
}

}  // namespace
}  // namespace cairn
