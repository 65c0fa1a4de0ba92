// Speculation changes the speed, not the text.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "cairn/infer/constraint/grammar_constraint.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/speculation/draft.h"
#include "cairn/infer/speculation/lookup.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/grammar/gbnf.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

constexpr int32_t kEnd = 159;

TokenizerSpec byte_spec() {
  TokenizerSpec spec;
  for (int i = 0; i < kEnd; ++i)
    spec.vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(i))));
  spec.vocabulary.push_back("<|end|>");
  spec.added.push_back({.id = kEnd, .content = "<|end|>", .special = true});
  spec.eos_id = kEnd;
  return spec;
}

// Proposes now the right, now a wrong continuation of a text that it knows.
class Heckler final : public Proposer {
 public:
  explicit Heckler(std::vector<int32_t> right) : right_(std::move(right)) {}
  void propose(std::span<const int32_t> history, size_t most, Proposal& proposal) override {
    proposal.clear();
    const RandomStream stream(1, "heckler");
    for (size_t i = history.size(); i < std::min(right_.size(), history.size() + most); ++i)
      proposal.tokens.push_back(stream.below(4, i, history.size()) == 0 ? 7 : right_[i]);
  }

 private:
  std::vector<int32_t> right_;
};

class Speculation : public testing::Test {
 protected:
  Generation run(const GenerateOptions& how, std::span<const int32_t> prompt) {
    Session session = engine.start();
    const Generation result = generate(session, tokenizer, prompt, how);
    // What the session holds is what was said, but for what was not read.
    const std::span<const int32_t> read = session.tokens().subspan(prompt.size());
    EXPECT_LT(read.size(), result.tokens.size());
    EXPECT_TRUE(std::equal(read.begin(), read.end(), result.tokens.begin()));
    return result;
  }
  static GenerateOptions settings(double temperature) {
    GenerateOptions how;
    how.sampling.temperature = temperature;
    how.sampling.top_k = 12;
    how.sampling.repetition_penalty = 1.1;
    how.sampling.dry_multiplier = 0.2;
    how.sampling.seed = 3;
    how.max_tokens = 90;
    how.ignore_eos = true;
    return how;
  }

  ThreadTeam team{2, true};
  Engine engine{random_model(small_config()), team};
  Tokenizer tokenizer{byte_spec()};
};

TEST_F(Speculation, TheTextIsTheSameWithAndWithoutProposals) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const std::vector<int32_t> prompt = random_tokens(30, 150, seed);
    for (const double temperature : {0.0, 0.7}) {
      GenerateOptions how = settings(temperature);
      const Generation plain = run(how, prompt);
      std::vector<int32_t> right = prompt;
      right.insert(right.end(), plain.tokens.begin(), plain.tokens.end());
      Heckler heckler(right);
      LookupProposer lookup(right);
      for (Proposer* proposer : std::initializer_list<Proposer*>{&heckler, &lookup}) {
        how.proposer = proposer;
        const Generation fast = run(how, prompt);
        ASSERT_EQ(fast.tokens, plain.tokens) << seed << " " << temperature;
        EXPECT_GT(fast.accepted, 0U);
        EXPECT_LT(fast.passes, plain.passes);
        EXPECT_EQ(fast.read_tokens, plain.read_tokens);
      }
    }
  }
}

TEST_F(Speculation, LimitsStopsAndGrammarsHoldInsideAPass) {
  const std::vector<int32_t> prompt = random_tokens(20, 150, 8);
  GenerateOptions how = settings(0.9);
  const Generation plain = run(how, prompt);
  std::vector<int32_t> right = prompt;
  right.insert(right.end(), plain.tokens.begin(), plain.tokens.end());
  LookupProposer lookup(right);
  how.proposer = &lookup;
  for (const size_t most : {1, 2, 3, 10, 17}) {
    how.max_tokens = most;
    const Generation cut = run(how, prompt);
    EXPECT_EQ(cut.tokens,
              std::vector<int32_t>(plain.tokens.begin(),
                                   plain.tokens.begin() + static_cast<ptrdiff_t>(most)));
    EXPECT_EQ(cut.reason, StopReason::max_tokens);
  }
  how.max_tokens = 90;
  how.ignore_eos = false;
  how.end_ids = {plain.tokens[21]};
  const auto first = std::find(plain.tokens.begin(), plain.tokens.end(), plain.tokens[21]);
  EXPECT_EQ(run(how, prompt).tokens, std::vector<int32_t>(plain.tokens.begin(), first + 1));
}

TEST_F(Speculation, AGrammarGivesTheSameTextWithProposals) {
  const auto automaton = std::make_shared<GrammarAutomaton>(
      parse_gbnf("root ::= ([a-f] [0-9]{1,3} \",\")* \"end\"", "test"), "test");
  const auto trie = std::make_shared<VocabularyTrie>(tokenizer, 160);
  GrammarConstraint constraint(automaton, trie, tokenizer, std::vector<int32_t>{kEnd});
  const std::vector<int32_t> prompt = random_tokens(20, 150, 9);
  size_t accepted = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    GenerateOptions how = settings(1.5);
    how.sampling.top_k = 0;
    how.sampling.seed = seed;
    how.constraint = &constraint;
    const Generation plain = run(how, prompt);
    std::vector<int32_t> right = prompt;
    right.insert(right.end(), plain.tokens.begin(), plain.tokens.end());
    Heckler heckler(right);
    how.proposer = &heckler;
    const Generation fast = run(how, prompt);
    EXPECT_EQ(fast.tokens, plain.tokens);
    EXPECT_EQ(fast.reason, plain.reason);
    accepted += fast.accepted;
    for (const char c : plain.text)
      EXPECT_NE(std::string("abcdef0123456789,en").find(c), std::string::npos);
    if (plain.reason == StopReason::complete) {
      EXPECT_TRUE(plain.text.ends_with("end"));
    }
  }
  EXPECT_GT(accepted, 0U);
}

// Log-probabilities need all logits; without them the head gives the highest of those allowed.
TEST_F(Speculation, WhatTheHeadIsAskedChangesNoToken) {
  const auto automaton = std::make_shared<GrammarAutomaton>(
      parse_gbnf("root ::= ([a-f] [0-9]{1,3} \",\" [^\"]{2} \"\\\"\")* \"end\"", "test"), "test");
  const auto trie = std::make_shared<VocabularyTrie>(tokenizer, 160);
  GrammarConstraint constraint(automaton, trie, tokenizer, std::vector<int32_t>{kEnd});
  const std::vector<int32_t> prompt = random_tokens(20, 150, 9);
  std::vector<SamplingOptions> all = {
      {.temperature = 0},
      {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05},
      {.temperature = 1.5, .top_p = 0.9},
      {.temperature = 1.2, .top_k = 9, .top_n_sigma = 1}};
  for (SamplingOptions penalties : std::vector<SamplingOptions>(all)) {
    penalties.repetition_penalty = 1.2;
    penalties.frequency_penalty = 0.1;
    all.push_back(penalties);
  }
  const size_t skipped = engine.skipped_bytes();
  for (const SamplingOptions& sampling : all)
    for (TokenConstraint* allowed :
         {static_cast<TokenConstraint*>(nullptr), static_cast<TokenConstraint*>(&constraint)}) {
      GenerateOptions how = settings(0);
      how.sampling = sampling;
      how.max_tokens = 40;
      how.constraint = allowed;
      how.logprobs = true;
      const Generation whole = run(how, prompt);
      how.logprobs = false;
      EXPECT_EQ(run(how, prompt).tokens, whole.tokens);
      std::vector<int32_t> right = prompt;
      right.insert(right.end(), whole.tokens.begin(), whole.tokens.end());
      Heckler heckler(right);
      how.proposer = &heckler;
      for (const size_t most : {1, 7, 12}) {
        how.most_proposed = most;
        EXPECT_EQ(run(how, prompt).tokens, whole.tokens) << most;
      }
    }
  EXPECT_GT(engine.skipped_bytes(), skipped);
}

// With a draft model the text is another draw from the same distribution: tokens are counted over
// many seeds.
TEST_F(Speculation, ADraftModelLeavesTheDistributionAsItIs) {
  const TempFolder folder;
  ModelConfig config = small_config();
  config.layers = 1;
  save_model(random_model(config, 6), folder / "draft");
  save_tokenizer(byte_spec(), folder / "draft");
  TextModel draft(folder / "draft", team);
  const std::vector<int32_t> prompt = random_tokens(5, 150, 4);
  GenerateOptions how = settings(0.8);
  how.sampling = {.temperature = 3, .top_k = 4};
  how.max_tokens = 3;
  std::map<std::vector<int32_t>, double> plain, fast;
  size_t accepted = 0, proposed = 0;
  constexpr int kTexts = 3000;
  for (int seed = 0; seed < kTexts; ++seed) {
    how.sampling.seed = static_cast<uint64_t>(seed);
    how.proposer = nullptr;
    Session session = engine.start();
    ++plain[generate(session, tokenizer, prompt, how).tokens];
    how.sampling.seed += 1'000'000;
    DraftProposer proposer(draft, tokenizer, how.sampling);
    how.proposer = &proposer;
    Session other = engine.start();
    const Generation generation = generate(other, tokenizer, prompt, how);
    ++fast[generation.tokens];
    accepted += generation.accepted;
    proposed += generation.proposed;
  }
  EXPECT_GT(accepted, 100U);
  EXPECT_LT(accepted, proposed);
  // Two samples of the same size: sum (a - b)^2 / (a + b) is chi-squared.
  double chi = 0;
  size_t cells = 0;
  for (auto& [tokens, count] : plain) fast.try_emplace(tokens, 0.0);
  for (const auto& [tokens, count] : fast) {
    const double other = plain[tokens];
    if (count + other < 10) continue;
    chi += (count - other) * (count - other) / (count + other);
    ++cells;
  }
  const auto freedom = static_cast<double>(cells);
  EXPECT_GT(cells, 20U);
  EXPECT_LT(chi, freedom + 4 * std::sqrt(2 * freedom));
}

TEST_F(Speculation, AGreedyDraftGivesTheSameText) {
  const TempFolder folder;
  save_model(random_model(small_config()), folder / "draft");
  save_tokenizer(byte_spec(), folder / "draft");
  TextModel draft(folder / "draft", team);
  const std::vector<int32_t> prompt = random_tokens(30, 150, 5);
  GenerateOptions how = settings(0);
  const Generation plain = run(how, prompt);
  DraftProposer proposer(draft, tokenizer, how.sampling);
  how.proposer = &proposer;
  const Generation fast = run(how, prompt);
  EXPECT_EQ(fast.tokens, plain.tokens);
  EXPECT_GT(fast.accepted, fast.proposed * 9 / 10) << "the draft is the model itself";
  TokenizerSpec other = byte_spec();
  std::swap(other.vocabulary[65], other.vocabulary[66]);
  EXPECT_THROW(DraftProposer(draft, Tokenizer(other), how.sampling), Error);
}

TEST(LookupProposer, ProposesWhatFollowedTheLongestLatestMatch) {
  LookupProposer lookup;
  Proposal proposal;
  //                              0  1  2  3  4  5  6  7  8  9 10
  const std::vector<int32_t> t = {1, 2, 3, 4, 9, 2, 3, 5, 8, 2, 3};
  lookup.propose(t, 3, proposal);
  EXPECT_EQ(proposal.tokens, (std::vector<int32_t>{5, 8, 2})) << "the later of two";
  EXPECT_EQ(proposal.kind, 1U);
  lookup.propose(std::span(t).first(7), 7, proposal);
  EXPECT_EQ(proposal.tokens, (std::vector<int32_t>{4, 9, 2, 3})) << "another, shorter text";
  lookup.propose(std::vector<int32_t>{5, 6, 7}, 7, proposal);
  EXPECT_TRUE(proposal.tokens.empty());
  lookup.propose(std::vector<int32_t>{5, 6, 7, 6}, 1, proposal);
  EXPECT_EQ(proposal.tokens, std::vector<int32_t>{7});
}

TEST(LookupProposer, QuotesEarlierTexts) {
  LookupProposer lookup(std::vector<int32_t>{1, 2, 3, 4, 5, 6});
  Proposal proposal;
  lookup.propose(std::vector<int32_t>{9, 2, 3}, 2, proposal);
  EXPECT_EQ(proposal.tokens, (std::vector<int32_t>{4, 5}));
}

}  // namespace
}  // namespace cairn
