#include "cairn/infer/text_model.h"

#include <gtest/gtest.h>

#include "cairn/model/gguf.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/gguf_keys.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"
#include "tests/support/gguf_files.h"

namespace cairn {
namespace {

constexpr std::string_view kText = "the theme of the other then there: 1 2 3";

// One model as a Hugging Face folder and as a GGUF file: the same tokens, the same logits.
TEST(TextModel, AGgufFileIsTheFolderInOneFile) {
  const TempFolder folder;
  ThreadTeam team(1);
  BpeTrainingOptions training;
  training.vocab_size = 270;
  const TokenizerSpec spec = train_bpe(std::span(&kText, 1), training, team);
  ModelConfig config = small_config();
  config.vocab_size = 270;
  const Model model = random_model(config);
  save_model(model, folder / "hf");
  save_tokenizer(spec, folder / "hf");
  GgufMetadata metadata;
  tokenizer_to_gguf(spec, config.vocab_size, metadata);
  write_gguf_model(model, folder / "m.gguf", BlockType::f32, metadata);

  TextModel from_folder(folder / "hf", team), from_file(folder / "m.gguf", team);
  const std::vector<int32_t> tokens = from_folder.tokenizer().encode(kText);
  EXPECT_EQ(from_file.tokenizer().encode(kText), tokens);
  Session first = from_folder.engine().start(), second = from_file.engine().start();
  const View1<const float> expected = first.append(tokens), found = second.append(tokens);
  for (size_t i = 0; i < expected.size; ++i) EXPECT_EQ(found[i], expected[i]) << i;
}

TEST(TextModel, SaysWhatItExpectsOfAPath) {
  const TempFolder folder;
  ThreadTeam team(1);
  write_file_atomically(folder / "notes.txt", "text");
  EXPECT_THAT(message_of([&] { TextModel model(folder / "notes.txt", team); }),
              testing::HasSubstr("a GGUF file, or a folder"));
  EXPECT_THAT(message_of([&] { TextModel model(folder / "nothing", team); }),
              testing::HasSubstr("no such file or folder"));
}

}  // namespace
}  // namespace cairn
