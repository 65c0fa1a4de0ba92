// Synthetic tasks: against golden sequences of an independent generator, against direct solvers,
// and what is promised of samples and scores.
#include "cairn/data/tasks/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "cairn/io/json.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

OptionValue option_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  return value.get<std::string>();
}

struct Sequence {
  std::vector<int32_t> tokens, targets;
};

Sequence generate(const Task& task, SplitMix64& random) {
  Sequence out{std::vector<int32_t>(task.length(), -7), std::vector<int32_t>(task.length(), -7)};
  task.generate(random, out.tokens, out.targets);
  return out;
}

// Calls `check` with a few sequences of the task.
template <class Check>
void for_sequences(const TaskOptions& options, const Check& check) {
  const auto task = make_task(options);
  SplitMix64 random(99);
  for (int i = 0; i < 20; ++i) check(generate(*task, random));
}

TEST(SplitMix64, GivesThePublishedNumbers) {
  SplitMix64 random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317U);
  EXPECT_EQ(random.next(), 3203168211198807973U);
  EXPECT_EQ(random.next(), 9817491932198370423U);
}

TEST(Task, EqualsTheReferenceGeneratorsBitForBit) {
  const Json cases = read_json(golden_folder() / "tasks" / "tasks.json");
  ASSERT_GE(cases.size(), 10U);
  for (const Json& golden : cases) {
    TaskOptions options{golden["task"].get<std::string>(), {}};
    for (const auto& [key, value] : golden["options"].items())
      options.values[key] = option_of(value);
    const auto task = make_task(options);
    SplitMix64 random(golden["seed"].get<uint64_t>());
    for (size_t i = 0; i < golden["tokens"].size(); ++i) {
      const Sequence found = generate(*task, random);
      EXPECT_EQ(found.tokens, golden["tokens"][i].get<std::vector<int32_t>>()) << golden["task"];
      EXPECT_EQ(found.targets, golden["targets"][i].get<std::vector<int32_t>>()) << golden["task"];
    }
  }
}

TEST(Task, AllStayWithinTheirVocabularyAndFillEverySequence) {
  for (const TaskDescription& description : task_descriptions()) {
    const auto task = make_task({description.name, {}});
    SplitMix64 random(3);
    const Sequence sequence = generate(*task, random);
    const auto vocabulary = static_cast<int32_t>(task->vocab_size());
    size_t asked = 0;
    for (size_t t = 0; t < task->length(); ++t) {
      ASSERT_GE(sequence.tokens[t], 0) << description.name;
      ASSERT_LT(sequence.tokens[t], vocabulary) << description.name;
      ASSERT_GE(sequence.targets[t], kIgnoredTarget) << description.name;
      ASSERT_LT(sequence.targets[t], vocabulary) << description.name;
      EXPECT_FALSE(task->token_text(sequence.tokens[t]).empty());
      asked += sequence.targets[t] == kIgnoredTarget ? 0 : 1;
    }
    EXPECT_GT(asked, 0U) << description.name;
    std::set<std::string> texts;
    for (int32_t token = 0; token < vocabulary; ++token) texts.insert(task->token_text(token));
    EXPECT_EQ(texts.size(), task->vocab_size()) << description.name << ": texts must differ";
  }
}

TEST(Task, ShellGameAsksForTheCupOfTheBall) {
  for_sequences({"shell_game", {{"length", int64_t{40}}}}, [](const Sequence& s) {
    std::vector<std::pair<int, int>> swaps;
    for (int a = 0; a < 5; ++a)
      for (int b = a + 1; b < 5; ++b) swaps.emplace_back(a, b);
    std::vector<bool> cups = {true, false, false, false, false};
    EXPECT_EQ(s.tokens[0], 10);
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      if (t > 0) {
        const auto& swap = swaps.at(static_cast<size_t>(s.tokens[t]));
        const bool first = cups[static_cast<size_t>(swap.first)];
        cups[static_cast<size_t>(swap.first)] = cups[static_cast<size_t>(swap.second)];
        cups[static_cast<size_t>(swap.second)] = first;
      }
      EXPECT_TRUE(cups[static_cast<size_t>(s.targets[t] - 11)]) << "token " << t;
    }
  });
}

TEST(Task, RecallAsksEachKeyOnceForItsValue) {
  for_sequences({"recall", {{"pairs", int64_t{11}}, {"keys", int64_t{16}}}}, [](const Sequence& s) {
    std::map<int32_t, int32_t> values;
    for (size_t i = 0; i < 11; ++i) values[s.tokens[2 * i]] = s.tokens[2 * i + 1];
    EXPECT_EQ(values.size(), 11U) << "keys differ";
    EXPECT_EQ(s.tokens[22], 16 + 128);
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      if (t <= 22) {
        EXPECT_EQ(s.targets[t], kIgnoredTarget);
        continue;
      }
      ASSERT_EQ(values.count(s.tokens[t]), 1U) << "asked once";
      EXPECT_EQ(s.targets[t], values[s.tokens[t]]);
      values.erase(s.tokens[t]);
    }
  });
}

TEST(Task, MqrarAsksForTheValueBeforeThisOne) {
  for (const int64_t back : {1, 2, 3}) {
    for_sequences({"mqrar", {{"back", back}}}, [back](const Sequence& s) {
      EXPECT_EQ(s.tokens.size(), 64U);
      std::set<int32_t> assigned;
      for (size_t t = 0; t < s.tokens.size(); t += 2) {
        std::vector<int32_t> earlier;
        for (size_t u = 0; u < t; u += 2)
          if (s.tokens[u] == s.tokens[t]) earlier.push_back(s.tokens[u + 1]);
        const auto n = static_cast<size_t>(back);
        const bool known = t >= 16 && earlier.size() >= n;
        EXPECT_EQ(s.targets[t], known ? earlier[earlier.size() - n] : kIgnoredTarget);
        EXPECT_EQ(s.targets[t + 1], kIgnoredTarget);
        if (t < 16) assigned.insert(s.tokens[t]);
        EXPECT_EQ(assigned.count(s.tokens[t]), 1U);
      }
      EXPECT_EQ(assigned.size(), 8U);
    });
  }
}

TEST(Task, TheIdentityFormSaysYesWhereTheProductIsTheIdentity) {
  const std::map<std::string, OptionValue> few = {{"words", std::string("generators")},
                                                  {"elements", int64_t{200}}};
  auto yes_or_no = few;
  yes_or_no["answer"] = std::string("identity");
  const auto products = make_task({"word_problem", few});
  const auto identities = make_task({"word_problem", yes_or_no});
  SplitMix64 a(5), b(5);
  const Sequence product = generate(*products, a), identity = generate(*identities, b);
  EXPECT_EQ(product.tokens, identity.tokens);
  EXPECT_EQ(products->token_text(product.tokens[0]), "begin");
  EXPECT_EQ(identity.targets[0], kIgnoredTarget);
  size_t yes = 0;
  for (size_t t = 1; t < product.tokens.size(); ++t) {
    EXPECT_EQ(identities->token_text(identity.targets[t]), product.targets[t] == 0 ? "yes" : "no");
    yes += product.targets[t] == 0 ? 1 : 0;
  }
  EXPECT_GT(yes, 0U);
}

TEST(Task, ASampleDependsOnItsNumberAlone) {
  for (const TaskDescription& description : task_descriptions()) {
    const auto task = make_task({description.name, {}});
    const RandomStream stream(4, "task test");
    const Batch many = task_batch(*task, stream, 10, 4);
    const Batch one = task_batch(*task, stream, 12, 1);
    const size_t begin = 2 * task->length();
    EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), many.tokens.data() + begin));
    EXPECT_TRUE(std::equal(one.targets.begin(), one.targets.end(), many.targets.data() + begin));
    EXPECT_NE(task_batch(*task, stream, 13, 1).tokens, one.tokens) << description.name;
    EXPECT_NE(task_batch(*task, RandomStream(5, "task test"), 12, 1).tokens, one.tokens);
    EXPECT_EQ(many.offsets.size(), 5U);
    EXPECT_EQ(many.offsets.back(), static_cast<int32_t>(many.tokens.size()));
    EXPECT_EQ(many.positions[begin + 1], 1);
  }
}

TEST(Task, ScoresAnswersSequencesAndNothingElse) {
  Batch batch{.sequences = 2,
              .length = 3,
              .tokens = {0, 0, 0, 0, 0, 0},
              .targets = {1, kIgnoredTarget, 2, kIgnoredTarget, 3, kIgnoredTarget}};
  TaskScore score;
  score.add(batch, std::vector<int32_t>{1, 9, 0, 9, 3, 9});
  EXPECT_EQ(score.targets, 3U);
  EXPECT_EQ(score.right, 2U);
  EXPECT_EQ(score.sequences, 2U);
  EXPECT_EQ(score.whole, 1U);
  EXPECT_DOUBLE_EQ(score.accuracy(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(score.sequence_accuracy(), 0.5);
  EXPECT_EQ(TaskScore().accuracy(), 0);
}

std::string refusal(const TaskOptions& options) {
  return message_of([&] { make_task(options); }, ErrorKind::usage);
}

TEST(Task, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refusal({"flipflop", {}}), HasSubstr("did you mean \"flip_flop\"?"));
  EXPECT_THAT(refusal({"", {}}), HasSubstr("recall"));
  EXPECT_THAT(refusal({"flip_flop", {{"ignor", 0.5}}}), HasSubstr("did you mean \"ignore\"?"));
  EXPECT_THAT(refusal({"flip_flop", {{"ignore", 1.5}}}), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal({"flip_flop", {{"length", int64_t{7}}}}), HasSubstr("even"));
  EXPECT_THAT(refusal({"flip_flop", {{"length", int64_t{-2}}}}), HasSubstr("-2"));
  EXPECT_THAT(refusal({"recall", {{"pairs", int64_t{129}}}}), HasSubstr("from 1 to 128"));
  EXPECT_THAT(refusal({"word_problem", {{"group", std::string("S4")}}}), HasSubstr("A5 or S5"));
  EXPECT_THAT(refusal({"word_problem", {{"begin", int64_t{1}}}}), HasSubstr("true or false"));
}

}  // namespace
}  // namespace cairn
