#include "cairn/text/gguf_keys.h"

#include "cairn/base/error.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/tokenizer.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kText =
    "The year 2025, it's 42 km/h!\n\n  int main() { return 0; }\n naïve café \xff <|end|>";

TokenizerSpec trained(std::vector<PretokenizerStep> steps) {
  ThreadTeam team(1);
  BpeTrainingOptions options;
  options.vocab_size = 300;
  TokenizerSpec spec = train_bpe(std::span(&kText, 1), options, team);
  spec.pretokenizer = std::move(steps);
  AddedToken end;
  end.id = static_cast<int32_t>(spec.vocabulary.size());
  end.content = "<|end|>";
  end.special = true;
  spec.added = {end};
  spec.bos_id = spec.eos_id = end.id;
  spec.prefix = {end.id};
  spec.chat_template = "{{ messages }}";
  spec.named_templates = {{"rag", "{{ documents }}"}, {"tool_use", "{{ tools }}"}};
  return spec;
}

void write(const Path& path, const GgufMetadata& metadata) {
  write_gguf(path, metadata, {}, [](size_t, ByteSink) {});
}

TEST(GgufKeys, ATokenizerComesBackWithTheSameIds) {
  for (const auto& steps : {Pretokenizer::gpt2(), Pretokenizer::smollm()}) {
    const TempFolder folder;
    const TokenizerSpec spec = trained(steps);
    GgufMetadata metadata;
    tokenizer_to_gguf(spec, 320, metadata);
    write(folder / "v.gguf", metadata);
    const Tokenizer before(spec);
    const Tokenizer after(tokenizer_from_gguf(GgufArchive(folder / "v.gguf")));
    for (const bool special : {false, true}) {
      const EncodeOptions options{.parse_special = special, .add_special = special};
      const std::vector<int32_t> ids = before.encode(kText, options);
      EXPECT_EQ(after.encode(kText, options), ids);
      EXPECT_EQ(after.decode(ids), before.decode(ids));
    }
    EXPECT_EQ(after.eos_id(), before.eos_id());
    EXPECT_EQ(after.spec().prefix, spec.prefix);
    EXPECT_EQ(after.spec().chat_template, spec.chat_template);
    EXPECT_EQ(after.spec().named_templates, spec.named_templates);
    EXPECT_EQ(after.vocab_size(), 320U);  // padded to the rows of the embedding
    EXPECT_THAT(after.encode("[PAD310]"), testing::Not(testing::Contains(310)));
  }
}

TEST(GgufKeys, LongDigitsFollowTheNamedRule) {
  const TempFolder folder;
  GgufMetadata metadata;
  tokenizer_to_gguf(trained(Pretokenizer::gpt2()), 0, metadata);
  const auto words = [&](const char* pre) {
    metadata.set_string("tokenizer.ggml.pre", pre);
    write(folder / "v.gguf", metadata);
    const Pretokenizer rule(tokenizer_from_gguf(GgufArchive(folder / "v.gguf")).pretokenizer);
    std::vector<std::string> pieces;
    rule.for_each_word("ab 12345", [&](std::string_view word) { pieces.emplace_back(word); });
    return pieces;
  };
  using testing::ElementsAre;
  EXPECT_THAT(words("gpt-2"), ElementsAre("ab", " 12345"));
  EXPECT_THAT(words("smollm"), ElementsAre("ab", " ", "1", "2", "3", "4", "5"));
  EXPECT_THAT(words("refact"), ElementsAre("ab", " ", "1", "2", "3", "4", "5"));
  EXPECT_THAT(words("llama-bpe"), ElementsAre("ab", " ", "123", "45"));
  EXPECT_THAT(words("qwen2"), ElementsAre("ab", " ", "1", "2", "3", "4", "5"));
}

TEST(GgufKeys, RefusesByKeyWhatItDoesNotKnow) {
  const TempFolder folder;
  const auto refusal = [&](auto&& change) {
    GgufMetadata metadata;
    tokenizer_to_gguf(trained(Pretokenizer::gpt2()), 0, metadata);
    change(metadata);
    write(folder / "v.gguf", metadata);
    return message_of([&] { tokenizer_from_gguf(GgufArchive(folder / "v.gguf")); });
  };
  EXPECT_THAT(refusal([](auto& m) { m.set_string("tokenizer.ggml.model", "spiral"); }),
              HasSubstr("tokenizer.ggml.model"));
  EXPECT_THAT(refusal([](auto& m) { m.set_string("tokenizer.ggml.pre", "smolm"); }),
              HasSubstr("smollm"));
  EXPECT_THAT(refusal([](auto& m) { m.remove("tokenizer.ggml.tokens"); }),
              HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(refusal([](auto& m) {
                m.set_strings("tokenizer.ggml.merges", std::vector<std::string>{"a b c", "ab"});
              }),
              HasSubstr("tokenizer.ggml.merges"));
  EXPECT_THAT(
      refusal([](auto& m) { m.set_i32s("tokenizer.ggml.token_type", std::vector<int32_t>{1}); }),
      HasSubstr("tokenizer.ggml.token_type"));
  EXPECT_THAT(refusal([](auto& m) { m.set_u32("tokenizer.ggml.eos_token_id", 100000); }),
              HasSubstr("eos_token_id"));
  TokenizerSpec odd = trained({PretokenizerStep{.kind = PretokenizerStep::Kind::digits}});
  GgufMetadata metadata;
  EXPECT_THROW(tokenizer_to_gguf(odd, 0, metadata), Error);
}

}  // namespace
}  // namespace cairn
