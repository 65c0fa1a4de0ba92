// `cairn eval`: what it refuses before a model is opened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/base/thread_team.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(EvalVerb, ATextWithoutTokensIsNamed) {
  const TempFolder folder;
  ThreadTeam team(1);
  const std::string_view text = "some text";
  save_tokenizer(train_bpe(std::span(&text, 1), {.vocab_size = 260}, team), folder / "model");
  write_file_atomically(folder / "empty.txt", "");
  const Ran ran = run_captured(
      {{"all", {&kEvalVerb}}},
      {"eval", (folder / "model").string(), "perplexity", (folder / "empty.txt").string()});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("empty.txt"), HasSubstr("at least two tokens")));
}

}  // namespace
}  // namespace cairn
