// A batch may hold fewer tokens than memory was made for.
#include <gtest/gtest.h>

#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

TEST(AttentionMemory, SufficesForFewerTokens) {
  const AttentionGeometry geometry{
      .hidden_size = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .value_dim = 8};
  for (const AttentionOptions& options : every_kind()) {
    const std::string& name = options.mechanism;
    const auto attention = make_attention(options, geometry, 16384);
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const size_t longest : {32, 16384}) {
        AttentionMemory fewer;
        for (size_t tokens = 32; tokens <= 16384; tokens += 224) {
          const AttentionMemory memory =
              attention->memory(tokens, std::min(longest, tokens), dtype, 2);
          EXPECT_GE(memory.saved, fewer.saved) << name << " " << tokens;
          EXPECT_GE(memory.workspace, fewer.workspace) << name << " " << tokens;
          fewer = memory;
        }
      }
  }
}

TEST(AttentionMemory, OfEveryRoomServesAHalfFilledBatch) {
  ThreadTeam team(2, true);
  for (const AttentionOptions& options : every_kind()) {
    const std::string& name = options.mechanism;
    Problem p;
    p.options = options;
    p.heads = p.kv_heads = 4;
    p.head_dim = p.value_dim = 8;
    p.lengths = std::vector<int>(232, 32);
    if (crosses(options)) p.key_lengths = p.lengths;
    Case c(p);
    const AttentionMemory memory = c.attention->memory(256 * 32, 32, p.dtype, team.size());
    c.saved = AlignedBuffer(memory.saved);
    c.workspace = AlignedBuffer(memory.workspace);
    EXPECT_NO_THROW(c.attention->forward(c.inputs(), c.layout(), c.out.view(),
                                         {c.saved.data(), c.saved.size()},
                                         {c.workspace.data(), c.workspace.size()}, team))
        << name;
    EXPECT_NO_THROW(c.backward(team)) << name;
  }
}

}  // namespace
}  // namespace cairn::attention_test
