// The steady decode loop allocates nothing: every allocation of this test program is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "cairn/infer/engine.h"
#include "cairn/infer/next_tokens.h"
#include "cairn/infer/sampler.h"
#include "tests/infer/model_files.h"

namespace {

std::atomic<size_t> allocations{0};

void* counted(size_t bytes, size_t alignment) {
  ++allocations;
  void* memory =
      alignment <= alignof(std::max_align_t)
          ? std::malloc(bytes)
          : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) {
  return counted(bytes, 1);
}
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t /*bytes*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace cairn {
namespace {

TEST(Decoding, TheSteadyLoopAllocatesNothing) {
  for (const BlockType type : {BlockType::f32, BlockType::bf16}) {
    ModelConfig config = small_config();
    if (type == BlockType::bf16) {
      config.architecture = "granitemoe";
      config.experts = 8;
      config.experts_per_token = 2;
    }
    Model model = random_model(config);
    ThreadTeam team(2, true);
    Engine engine(model, team, {.weights = type, .cache = type});
    Session session = engine.start();
    Sampler sampler({.top_k = 50, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.1},
                    model.config().vocab_size);
    View1<const float> logits = session.append(random_tokens(40, model.config().vocab_size));
    logits = session.append(sampler.sample(logits, session.tokens()));
    const size_t before = allocations;
    EXPECT_GT(before, 0U);
    for (int i = 0; i < 100; ++i) logits = session.append(sampler.sample(logits, session.tokens()));
    EXPECT_EQ(allocations - before, 0U) << block_type_name(type);

    NextTokens next(sampler.options(), model.config().vocab_size);
    int32_t token = 1;
    next.read(session, {&token, 1});
    const size_t then = allocations;
    for (int i = 0; i < 100; ++i) {
      token = next.draw(session.tokens());
      next.read(session, {&token, 1});
    }
    EXPECT_EQ(allocations - then, 0U) << block_type_name(type) << ", from lists";
  }
}

}  // namespace
}  // namespace cairn
