// The attention nodes of the tape.
#include <gmock/gmock.h>

#include "cairn/autograd/operations.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TEST(CrossAttention, IsRefusedToMechanismsOfOneStream) {
  const auto softmax = make_attention(
      {}, {.hidden_size = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .value_dim = 8}, 16);
  Tape tape(16, 1);
  MatmulCache products(1);
  Recorder recorder{tape, products, DType::f32, 16, "decoder layer 2"};
  const TokenInputs inputs, source;
  const Value q = tape.value(8, DType::f32), kv = tape.value(16, DType::f32);
  try {
    cross_attention(recorder, *softmax, inputs, source, q, kv, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("decoder layer 2"));
    EXPECT_THAT(error.what(), HasSubstr("attention softmax"));
  }
}

}  // namespace
}  // namespace cairn
