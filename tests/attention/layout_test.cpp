// What every room makes of a layout.
#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

TEST(AttentionLayout, KeyOffsetsAreRefusedByRoomsOfOneStream) {
  ThreadTeam team(1);
  for (const AttentionOptions& options : every_kind()) {
    if (crosses(options)) continue;
    const std::string& name = options.mechanism;
    Case c({.options = options});
    c.forward(team);
    TokenLayout layout = c.layout();
    layout.key_offsets = layout.offsets;
    const std::span<std::byte> saved(c.saved.data(), c.saved.size());
    const std::span<std::byte> workspace(c.workspace.data(), c.workspace.size());
    const AttentionGradients gradients{c.dx.matrix().as<float>(), c.dq.view(), c.dk.view(),
                                       c.dv.view(), c.parameters.gradients};
    const auto refuses = [&](const auto& call) {
      try {
        call();
        ADD_FAILURE() << name;
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("key_offsets")) << name;
      }
    };
    refuses(
        [&] { c.attention->forward(c.inputs(), layout, c.out.view(), saved, workspace, team); });
    refuses([&] {
      c.attention->backward(c.inputs(), layout, c.out.view(), c.dout.view(), saved, gradients,
                            workspace, team);
    });
  }
}

}  // namespace
}  // namespace cairn::attention_test
