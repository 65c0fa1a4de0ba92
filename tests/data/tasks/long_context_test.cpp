// Tasks of long contexts: every answer is found again from the words alone, as a reader would.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "cairn/data/tasks/task.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;
using Options = std::map<std::string, OptionValue>;

struct Text {
  Words words;
  Words answers;  // behind each word; empty where nothing is asked
};

std::vector<Text> texts(const TaskOptions& options, int count = 40) {
  const auto task = make_task(options);
  SplitMix64 random(7);
  std::vector<Text> out;
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> tokens(task->length(), -7), targets(task->length(), -7);
    task->generate(random, tokens, targets);
    Text text;
    for (size_t t = 0; t < tokens.size(); ++t) {
      text.words.push_back(task->token_text(tokens[t]));
      text.answers.push_back(targets[t] == kIgnoredTarget ? "" : task->token_text(targets[t]));
    }
    out.push_back(std::move(text));
  }
  return out;
}

size_t questions_of(const Text& text) {
  return text.answers.size() -
         static_cast<size_t>(std::count(text.answers.begin(), text.answers.end(), ""));
}

TEST(VariableTracking, AsksEveryVariableForTheValueAtTheEndOfItsChain) {
  for (const int64_t hops : {0, 1, 4}) {
    for (const Text& text :
         texts({"variable_tracking", {{"hops", hops}, {"chains", int64_t{3}}}})) {
      std::map<std::string, std::string> stands_for;
      const auto& w = text.words;
      size_t t = 0;
      for (; w[t] != "?"; ++t) {
        if (w[t] != "=") continue;
        EXPECT_TRUE(stands_for.emplace(w[t - 1], w[t + 1]).second) << "once each";
      }
      const auto variables = static_cast<size_t>(3 * (hops + 1));
      EXPECT_EQ(stands_for.size(), variables);
      EXPECT_EQ(questions_of(text), variables);
      std::set<std::string> asked;
      size_t deepest = 0;
      for (++t; t < w.size(); ++t) {
        std::string value = w[t];
        size_t steps = 0;
        for (; stands_for.count(value) == 1; ++steps) value = stands_for[value];
        EXPECT_EQ(text.answers[t], value) << w[t];
        deepest = std::max(deepest, steps);
        asked.insert(w[t]);
      }
      EXPECT_EQ(asked.size(), variables);
      EXPECT_EQ(deepest, static_cast<size_t>(hops + 1));
    }
  }
}

TEST(VariableTracking, AVariableIsGivenBeforeItIsHandedOn) {
  for (const Text& text : texts({"variable_tracking", {}})) {
    std::set<std::string> known;
    for (size_t t = 0; text.words[t] != "?"; ++t) {
      if (text.words[t] != "=") continue;
      const std::string& source = text.words[t + 1];
      EXPECT_TRUE(source[0] == 'v' || known.count(source) == 1) << source;
      known.insert(text.words[t - 1]);
    }
  }
}

TEST(Filler, FactsStandEverywhere) {
  // One fact of three tokens in 97 places, drawn 400 times: every quarter gets about 100.
  std::array<int, 4> quarters{};
  for (const Text& text :
       texts({"variable_tracking",
              {{"length", int64_t{101}}, {"chains", int64_t{1}}, {"hops", int64_t{0}}}},
             400)) {
    const auto at = std::find(text.words.begin(), text.words.end(), "=") - text.words.begin();
    ++quarters.at(static_cast<size_t>((at - 1) * 4 / 97));
  }
  for (const int count : quarters) EXPECT_NEAR(count, 100, 40);
}

TEST(PhoneBook, AsksForTheNumbersOfPeopleInTheBook) {
  for (const Text& text :
       texts({"phone_book", {{"digits", int64_t{5}}, {"length", int64_t{230}}}})) {
    std::map<std::string, Words> book;
    const auto& w = text.words;
    size_t t = 6;  // 230 = 28 * 8 + 6
    for (size_t i = 0; i < t; ++i) EXPECT_EQ(w[i], ";");
    for (; w[t] != "?"; t += 8) {
      EXPECT_EQ(w[t + 7], ";");
      const Words digits(w.begin() + static_cast<ptrdiff_t>(t) + 2,
                         w.begin() + static_cast<ptrdiff_t>(t) + 7);
      EXPECT_TRUE(book.emplace(w[t] + w[t + 1], digits).second) << "different people";
    }
    EXPECT_EQ(book.size(), 24U);
    EXPECT_EQ(questions_of(text), 4U * 5U);
    std::set<std::string> asked;
    for (; t < w.size(); t += 8) {
      EXPECT_EQ(w[t], "?");
      const Words& digits = book.at(w[t + 1] + w[t + 2]);
      asked.insert(w[t + 1] + w[t + 2]);
      for (size_t d = 0; d < 5; ++d) {
        EXPECT_EQ(text.answers[t + 2 + d], digits[d]);
        EXPECT_EQ(w[t + 3 + d], digits[d]) << "read on from what was right";
      }
    }
    EXPECT_EQ(asked.size(), 4U);
  }
}

// Sentences and questions of a story, without filler.
struct Told {
  std::vector<Words> sentences;
  std::vector<std::pair<Words, std::string>> questions;
};

bool is_filler(const std::string& word) {
  return word.size() > 1 && word[0] == 'f' && std::isdigit(static_cast<unsigned char>(word[1]));
}

Told told(const Text& text) {
  Told out;
  Words now;
  for (size_t t = 0; t < text.words.size(); ++t) {
    if (is_filler(text.words[t])) continue;
    now.push_back(text.words[t]);
    if (now.back() == ".") out.sentences.push_back(std::exchange(now, {}));
    if (!now.empty() && now.back() == "?")
      out.questions.emplace_back(std::exchange(now, {}), text.answers[t]);
  }
  EXPECT_TRUE(now.empty());
  return out;
}

// Plays a story back from its first sentence: where each person and thing was, one after another.
std::map<std::string, Words> places_of(const Told& story) {
  std::map<std::string, Words> places;
  std::map<std::string, std::string> holder;
  for (const Words& s : story.sentences) {
    if (s[1] == "went") {
      places[s[0]].push_back(s[2]);
      for (const auto& [thing, who] : holder)
        if (who == s[0]) places[thing].push_back(s[2]);
    } else if (s[1] == "took") {
      EXPECT_EQ(holder.count(s[2]), 0U) << s[2] << " is held already";
      const std::string& here = places.at(s[0]).back();
      if (places[s[2]].empty()) places[s[2]].push_back(here);
      EXPECT_EQ(places[s[2]].back(), here) << s[2] << " must be at hand";
      holder[s[2]] = s[0];
    } else if (s[1] == "dropped") {
      EXPECT_EQ(holder.at(s[2]), s[0]);
      holder.erase(s[2]);
    } else {
      EXPECT_EQ(s[1], "gave");
      EXPECT_EQ(holder.at(s[2]), s[0]);
      EXPECT_EQ(places.at(s[0]).back(), places.at(s[4]).back()) << "face to face";
      holder[s[2]] = s[4];
    }
  }
  return places;
}

std::vector<Told> stories(int64_t kind, int count = 60) {
  std::vector<Told> out;
  for (const Text& text : texts({"stories", {{"kind", kind}}}, count)) {
    out.push_back(told(text));
    EXPECT_GE(out.back().questions.size(), 1U);
    EXPECT_LE(out.back().questions.size(), 2U);
    EXPECT_EQ(questions_of(text), out.back().questions.size());
  }
  return out;
}

TEST(Stories, Kinds1And2AskWhereSomebodyOrSomethingIs) {
  for (const int64_t kind : {1, 2}) {
    for (const Told& story : stories(kind)) {
      const auto places = places_of(story);
      for (const auto& [question, answer] : story.questions) {
        EXPECT_EQ(question.front(), "where");
        EXPECT_EQ(answer, places.at(question[2]).back());
      }
    }
  }
}

TEST(Stories, Kind3AsksWhereSomethingWasBefore) {
  for (const Told& story : stories(3)) {
    const auto places = places_of(story);
    for (const auto& [question, answer] : story.questions) {
      const Words& been = places.at(question[2]);
      const auto last = std::find(been.rbegin(), been.rend(), question[4]);
      ASSERT_NE(last, been.rend());
      ASSERT_NE(last + 1, been.rend());
      EXPECT_EQ(answer, *(last + 1));
      EXPECT_NE(answer, question[4]);
    }
  }
}

TEST(Stories, Kind4AsksForNeighbours) {
  const std::map<std::string, std::string> opposite = {
      {"north", "south"}, {"south", "north"}, {"east", "west"}, {"west", "east"}};
  size_t turned = 0;
  for (const Told& story : stories(4)) {
    std::map<std::pair<std::string, std::string>, std::string> map;
    std::set<std::pair<std::string, std::string>> as_told;
    for (const Words& s : story.sentences) {
      EXPECT_TRUE(map.emplace(std::pair(s[2], s[4]), s[0]).second);
      EXPECT_TRUE(map.emplace(std::pair(opposite.at(s[2]), s[0]), s[4]).second);
      as_told.emplace(s[2], s[4]);
    }
    for (const auto& [question, answer] : story.questions) {
      EXPECT_EQ(answer, map.at({question[2], question[4]}));
      turned += 1 - as_told.count({question[2], question[4]});
    }
  }
  EXPECT_GT(turned, 20U) << "about half of 120 are asked the other way round";
  EXPECT_LT(turned, 100U);
}

TEST(Stories, Kind5AsksWhoGaveWhatToWhom) {
  std::set<std::string> forms;
  for (const Told& story : stories(5)) {
    places_of(story);
    for (const auto& [question, answer] : story.questions) {
      std::string expected;
      for (const Words& s : story.sentences) {
        if (s[1] != "gave") continue;
        const bool of_object = s[2] == question[question[0] == "who" ? 2 : 0];
        if (question[0] == "who" && of_object) expected = s[0];
        if (question[1] == "to" && of_object) expected = s[4];
        if (question[1] == "gave" && question[0] == s[0] && question[2] == s[4]) expected = s[2];
      }
      EXPECT_EQ(answer, expected);
      forms.insert(question[0] == "who" ? "who" : question[1]);
    }
  }
  EXPECT_EQ(forms.size(), 3U);
}

TEST(Stories, TheSameSeedTellsTheSame) {
  for (const char* name : {"stories", "variable_tracking", "phone_book"}) {
    const auto once = texts({name, {}}, 3), again = texts({name, {}}, 3);
    for (size_t i = 0; i < once.size(); ++i) {
      EXPECT_EQ(once[i].words, again[i].words);
      EXPECT_EQ(once[i].answers, again[i].answers);
    }
    EXPECT_NE(once[0].words, once[1].words);
  }
}

std::string refusal(const TaskOptions& options) {
  return message_of([&] { make_task(options); }, ErrorKind::usage);
}

TEST(LongContext, RefusesWhatDoesNotFit) {
  EXPECT_THAT(refusal({"variable_tracking", {{"length", int64_t{40}}}}), HasSubstr("at least 41"));
  EXPECT_THAT(refusal({"variable_tracking", {{"names", int64_t{9}}}}), HasSubstr("from 10"));
  EXPECT_THAT(refusal({"stories", {{"kind", int64_t{6}}}}), HasSubstr("from 1 to 5"));
  EXPECT_THAT(refusal({"stories", {{"length", int64_t{59}}}}), HasSubstr("at least 60"));
  EXPECT_THAT(refusal({"phone_book", {{"questions", int64_t{19}}}}), HasSubstr("from 1 to 18"));
  EXPECT_THAT(refusal({"phone_book", {{"names", int64_t{1}}}}), HasSubstr("at most 1"));
  // The least lengths do.
  EXPECT_EQ(texts({"variable_tracking", {{"length", int64_t{41}}}}, 1)[0].words.size(), 41U);
  EXPECT_EQ(texts({"stories", {{"length", int64_t{60}}}}, 1)[0].words.size(), 60U);
}

}  // namespace
}  // namespace cairn
