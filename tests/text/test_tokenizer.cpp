#include "cairn/text/tokenizer.h"

#include <random>
#include <thread>

#include "cairn/base/error.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/string_index.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kSample =
    "The quick brown fox, it's 42 km/h!\n\n  int main(int argc, char** argv) { return 0; }\n"
    "naïve café — 中文字符 日本語 한국어 "
    "😀👩‍💻 Ελληνικά\t\ttabs\r\n   trailing   \n";

TokenizerSpec trained_spec(size_t vocabulary = 400) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += kSample;
  ThreadTeam team(1);
  BpeTrainingOptions options;
  options.vocab_size = vocabulary;
  const std::string_view view = text;
  return train_bpe(std::span(&view, 1), options, team);
}

const Tokenizer& trained() {
  static const Tokenizer tokenizer(trained_spec());
  return tokenizer;
}

int32_t add(TokenizerSpec& spec, AddedToken token) {
  token.id = static_cast<int32_t>(spec.vocabulary.size() + spec.added.size());
  spec.added.push_back(token);
  return token.id;
}

// BPE of one word by its definition: look at all pairs, merge the leftmost of the lowest rank.
std::vector<int32_t> plain_bpe(const TokenizerSpec& spec, std::string_view word) {
  const Tokenizer tokenizer(spec);
  std::vector<int32_t> ids;
  for (const char c : word) ids.push_back(tokenizer.id_of(to_byte_level(std::string(1, c))));
  for (;;) {
    size_t best_rank = spec.merges.size();
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (spec.merges[rank] == std::pair(ids[i], ids[i + 1])) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == spec.merges.size()) return ids;
    const std::string joined = spec.vocabulary[static_cast<size_t>(ids[best_at])] +
                               spec.vocabulary[static_cast<size_t>(ids[best_at + 1])];
    ids[best_at] = tokenizer.id_of(joined);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

TEST(Tokenizer, DecodesWhatItEncoded) {
  EXPECT_EQ(trained().decode(trained().encode(kSample)), kSample);
  EXPECT_LT(trained().encode(kSample).size(), kSample.size());
  EXPECT_TRUE(trained().encode("").empty());
}

TEST(Tokenizer, GivesBackAnyBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 80, '\0');
    for (char& c : text) c = static_cast<char>(random() % 2 ? random() : ' ' + random() % 90);
    ASSERT_EQ(trained().decode(trained().encode(text)), text);
  }
}

TEST(Tokenizer, ShortAndLongWordsMergeByTheDefinition) {
  // A vocabulary full of overlaps, words on both sides of the switch from scanning to a heap.
  std::mt19937 random(2);
  std::string text;
  for (int i = 0; i < 4000; ++i) text += random() % 7 == 0 ? ' ' : "aab"[random() % 3];
  ThreadTeam team(1);
  BpeTrainingOptions options;
  options.vocab_size = 320;
  const std::string_view view = text;
  const TokenizerSpec spec = train_bpe(std::span(&view, 1), options, team);
  const Tokenizer tokenizer(spec);
  for (size_t length : {1, 2, 3, 15, 16, 17, 40, 47, 48, 49, 50, 64, 97, 300}) {
    for (int round = 0; round < 8; ++round) {
      std::string word;
      for (size_t i = 0; i < length; ++i) word += round == 0 ? 'a' : "aab"[random() % 3];
      ASSERT_EQ(tokenizer.encode(word), plain_bpe(spec, word)) << word;
    }
  }
}

TEST(Tokenizer, TheCacheChangesNothing) {
  std::string text;
  std::mt19937 random(4);
  for (int i = 0; i < 60000; ++i) {
    const size_t from = random() % kSample.size();
    text += kSample.substr(from, random() % 9);
    if (random() % 3 == 0) text += ' ';
  }
  std::vector<int32_t> cold;
  std::vector<int32_t> warm;
  EncodeScratch scratch;
  trained().encode(text, warm, scratch);
  warm.clear();
  trained().encode(text, warm, scratch);
  // Pieces too short for the cache, cut where no word is changed.
  size_t done = 0;
  while (done < text.size()) {
    size_t cut = std::min(text.size(), done + 2000);
    while (cut < text.size() && !(text[cut] == ' ' && text[cut - 1] > ' ')) ++cut;
    const auto ids = trained().encode(std::string_view(text).substr(done, cut - done));
    cold.insert(cold.end(), ids.begin(), ids.end());
    done = cut;
  }
  EXPECT_EQ(warm, cold);
}

TEST(Tokenizer, AMegabyteOfOneLetterEncodes) {
  // Would take hours were it quadratic.
  const std::string text(1 << 20, 'e');
  const auto ids = trained().encode(text);
  EXPECT_EQ(trained().decode(ids), text);
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const auto expected = trained().encode(kSample);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      EncodeScratch scratch;
      for (int i = 0; i < 200; ++i) {
        std::vector<int32_t> ids;
        trained().encode(kSample, ids, scratch);
        wrong[t] += ids != expected;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Tokenizer, SpecialTokensInTextAreTextUnlessAsked) {
  const std::string text = "a<|endoftext|>b";
  const auto plain = trained().encode(text);
  EXPECT_THAT(plain, ::testing::Not(::testing::Contains(0)));
  EXPECT_EQ(trained().decode(plain), text);
  const auto parsed = trained().encode(text, {.parse_special = true});
  EXPECT_THAT(parsed, ElementsAre(trained().id_of("a"), 0, trained().id_of("b")));
  EXPECT_EQ(trained().decode(parsed), text);
  EXPECT_EQ(trained().decode(parsed, true), "ab");
}

TEST(Tokenizer, TheLongestAddedTokenWins) {
  TokenizerSpec spec = trained_spec();
  const int32_t two = add(spec, {.content = "<<"});
  const int32_t three = add(spec, {.content = "<<<"});
  const int32_t word = add(spec, {.content = "<<x"});
  const Tokenizer tokenizer(spec);
  EXPECT_THAT(tokenizer.encode("<<<<<"), ElementsAre(three, two));
  EXPECT_THAT(tokenizer.encode("<<x<<"), ElementsAre(word, two));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("<<x<<")), "<<x<<");
}

TEST(Tokenizer, AddedTokensMaySwallowWhiteSpaceOrAskToStandAlone) {
  TokenizerSpec spec = trained_spec();
  const int32_t both = add(spec, {.content = "[M]", .lstrip = true, .rstrip = true});
  const int32_t alone = add(spec, {.content = "foo", .single_word = true});
  const Tokenizer tokenizer(spec);
  const int32_t a = tokenizer.id_of("a");
  EXPECT_THAT(tokenizer.encode("a \n[M]\u3000 a"), ElementsAre(a, both, a));
  EXPECT_THAT(tokenizer.encode("foo"), ElementsAre(alone));
  EXPECT_THAT(tokenizer.encode("(foo)"), ::testing::Contains(alone));
  EXPECT_THAT(tokenizer.encode("food"), ::testing::Not(::testing::Contains(alone)));
  EXPECT_THAT(tokenizer.encode("éfoo"), ::testing::Not(::testing::Contains(alone)));
}

TEST(Tokenizer, PrefixAndSuffixComeOnRequest) {
  TokenizerSpec spec = trained_spec();
  spec.prefix = {0};
  spec.suffix = {0, 0};
  const Tokenizer tokenizer(spec);
  const int32_t a = tokenizer.id_of("a");
  EXPECT_THAT(tokenizer.encode("a", {.add_special = true}), ElementsAre(0, a, 0, 0));
  EXPECT_THAT(tokenizer.encode("a"), ElementsAre(a));
}

TEST(Tokenizer, APrefixBlankIsAddedOnlyWhereNoneIs) {
  TokenizerSpec spec = trained_spec();
  spec.pretokenizer.insert(spec.pretokenizer.begin(),
                           {.kind = PretokenizerStep::Kind::prefix_blank});
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("fox"), trained().encode(" fox"));
  EXPECT_EQ(tokenizer.encode(" fox"), trained().encode(" fox"));
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  TokenizerSpec spec = trained_spec();
  spec.vocabulary.push_back("zqx");
  EXPECT_EQ(Tokenizer(spec).encode("zqx").size(), 3u);
  spec.ignore_merges = true;
  EXPECT_EQ(Tokenizer(spec).encode("zqx").size(), 1u);
}

TEST(Tokenizer, IgnoreMergesFindsWordsOfAnyBytes) {
  TokenizerSpec spec = trained_spec(257);
  spec.ignore_merges = true;
  ASSERT_TRUE(spec.merges.empty());  // a word is one token, or as many as it has bytes
  for (const char* word : {"é", "中", "\xFF\xC3", "Ġ"})
    spec.vocabulary.push_back(to_byte_level(word));
  const Tokenizer tokenizer(spec);
  const auto last = static_cast<int32_t>(spec.vocabulary.size()) - 1;
  EXPECT_THAT(tokenizer.encode("é"), ElementsAre(last - 3));
  EXPECT_THAT(tokenizer.encode("中"), ElementsAre(last - 2));
  EXPECT_THAT(tokenizer.encode("\xFF\xC3"), ElementsAre(last - 1));
  EXPECT_THAT(tokenizer.encode("Ġ"), ElementsAre(last));
  // The letter that a blank is spelled with stands for that letter only.
  EXPECT_THAT(tokenizer.encode(" "), ElementsAre(tokenizer.id_of("Ġ")));
  EXPECT_EQ(tokenizer.encode("à").size(), 2u);
}

TEST(Tokenizer, MergesGiveTheSameTokensWhateverTheIdsOfWhatTheyMake) {
  const TokenizerSpec spec = trained_spec();
  const size_t size = spec.vocabulary.size();
  const std::vector<int32_t> ids = Tokenizer(spec).encode(kSample);
  for (const unsigned seed : {0u, 1u, 2u}) {  // 0: backwards
    std::vector<int32_t> place(size);
    for (size_t i = 0; i < size; ++i) place[i] = static_cast<int32_t>(size - 1 - i);
    if (seed > 0) std::shuffle(place.begin(), place.end(), std::mt19937(seed));
    const auto moved = [&](int32_t id) { return place[static_cast<size_t>(id)]; };
    TokenizerSpec other = spec;
    for (size_t i = 0; i < size; ++i)
      other.vocabulary[static_cast<size_t>(place[i])] = spec.vocabulary[i];
    for (auto& [left, right] : other.merges) left = moved(left), right = moved(right);
    for (AddedToken& token : other.added) token.id = moved(token.id);
    for (int32_t* id : {&other.bos_id, &other.eos_id, &other.pad_id})
      if (*id >= 0) *id = moved(*id);
    std::vector<int32_t> expected = ids;
    for (int32_t& id : expected) id = moved(id);
    EXPECT_EQ(Tokenizer(other).encode(kSample), expected) << seed;
  }
}

TEST(Tokenizer, RefusesPartsThatDoNotFit) {
  const auto refusal = [](const TokenizerSpec& spec) -> std::string {
    try {
      Tokenizer{spec};
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  TokenizerSpec spec = trained_spec();
  spec.merges.emplace_back(1, 99999);
  EXPECT_THAT(refusal(spec), HasSubstr("99999"));
  spec = trained_spec();
  spec.merges.emplace_back(1, 1);
  spec.merges.emplace_back(2, 2);
  EXPECT_THAT(refusal(spec), HasSubstr("merge "));
  spec = trained_spec();
  spec.vocabulary.push_back("a");
  EXPECT_THAT(refusal(spec), HasSubstr("spelling"));
  spec = trained_spec();
  spec.added.push_back({.id = 5, .content = "other"});
  EXPECT_THAT(refusal(spec), HasSubstr("added token 5"));
  spec = trained_spec();
  spec.added.push_back({.id = static_cast<int32_t>(spec.vocabulary.size()), .content = "a"});
  EXPECT_THAT(refusal(spec), HasSubstr("as in the vocabulary"));
  spec = trained_spec();
  spec.eos_id = 100000;
  EXPECT_THAT(refusal(spec), HasSubstr("eos_id"));
  spec = trained_spec();
  spec.vocabulary.resize(spec.vocabulary.size() + 2);  // a gap, as files of other makers have
  spec.vocabulary.back() = "zqx";
  spec.suffix = {static_cast<int32_t>(spec.vocabulary.size()) - 2};
  EXPECT_THAT(refusal(spec), HasSubstr("suffix"));
}

TEST(Tokenizer, AByteThatHasNoTokenIsUnknownOrCounted) {
  TokenizerSpec spec = trained_spec(257);
  spec.vocabulary.back().clear();  // of byte 0xad
  EXPECT_EQ(trained().bytes_without_token(), 0u);
  EXPECT_EQ(Tokenizer(spec).bytes_without_token(), 1u);
  EXPECT_EQ(Tokenizer(spec).encode("a\xad"), Tokenizer(spec).encode("a"));
  spec.unknown_token = "b";
  EXPECT_EQ(Tokenizer(spec).bytes_without_token(), 0u);
  EXPECT_EQ(Tokenizer(spec).encode("a\xad"), Tokenizer(spec).encode("ab"));
}

TEST(Tokenizer, DecodingRefusesUnknownIds) {
  const std::vector<int32_t> below = {-1};
  const std::vector<int32_t> above = {static_cast<int32_t>(trained().vocab_size())};
  EXPECT_THROW(trained().decode(below), Error);
  EXPECT_THROW(trained().decode(above), Error);
}

TEST(Tokenizer, FingerprintsTellTokenizersApart) {
  TokenizerSpec spec = trained_spec();
  const uint64_t print = Tokenizer(spec).fingerprint();
  EXPECT_EQ(print, Tokenizer(spec).fingerprint());
  std::swap(spec.merges[0], spec.merges[1]);
  EXPECT_NE(print, Tokenizer(spec).fingerprint());
  spec = trained_spec();
  spec.pretokenizer = Pretokenizer::smollm();
  EXPECT_NE(print, Tokenizer(spec).fingerprint());
}

TEST(StreamDecoder, NeverGivesHalfACharacter) {
  // Single bytes, so every character of more than one byte arrives in parts.
  const Tokenizer bytes(trained_spec(257));
  StreamDecoder decoder(bytes);
  std::string shown;
  for (const int32_t id : bytes.encode(kSample)) {
    const std::string piece = decoder.push(id);
    ASSERT_TRUE(is_utf8(piece));
    shown += piece;
  }
  EXPECT_EQ(shown, kSample);
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, PiecesJoinedAreTheDecodedBytesWhateverTheyAre) {
  const Tokenizer bytes(trained_spec(257));
  std::mt19937 random(6);
  for (int round = 0; round < 4000; ++round) {
    std::string text(random() % 12, '\0');
    for (char& c : text) c = static_cast<char>(random() % 3 ? 0x80 + random() % 0x80 : random());
    StreamDecoder decoder(bytes);
    std::string shown;
    for (const int32_t id : bytes.encode(text)) {
      shown += decoder.push(id);
    }
    shown += decoder.finish();
    ASSERT_EQ(shown, text);
  }
}

TEST(StreamDecoder, HoldsBackOnlyWhatMayStillBecomeACharacter) {
  const Tokenizer bytes(trained_spec(257));
  StreamDecoder decoder(bytes);
  const auto push = [&](char byte) {
    return decoder.push(bytes.id_of(to_byte_level(std::string(1, byte))));
  };
  EXPECT_EQ(push('\xE2'), "");
  EXPECT_EQ(push('\x82'), "");
  EXPECT_EQ(push('\xAC'), "€");
  EXPECT_EQ(push('\xFF'), "\xFF");
  EXPECT_EQ(push('\xE0'), "");
  EXPECT_EQ(push('\x80'), "\xE0\x80");  // an overlong form never becomes a character
  EXPECT_EQ(push('\xF0'), "");
  EXPECT_EQ(decoder.finish(), "\xF0");
}

TEST(StreamDecoder, LeavesSpecialTokensOutOnRequest) {
  StreamDecoder decoder(trained(), true);
  EXPECT_EQ(decoder.push(0), "");
  StreamDecoder all(trained());
  EXPECT_EQ(all.push(0), "<|endoftext|>");
}

TEST(ByteLevel, MapsEveryByteThereAndBack) {
  std::string all(256, '\0');
  for (size_t i = 0; i < 256; ++i) all[i] = static_cast<char>(i);
  EXPECT_EQ(from_byte_level(to_byte_level(all)), all);
  EXPECT_EQ(to_byte_level(" \n!"), "ĠĊ!");
  EXPECT_EQ(from_byte_level("a b"), std::nullopt);
  EXPECT_EQ(from_byte_level("中"), std::nullopt);
}

TEST(ByteLevel, RefusesWhatIsNoCharacterOfTheAlphabet) {
  // The last character is U+0143; a control character, broken UTF-8, one that is cut, an overlong
  // one.
  EXPECT_NE(from_byte_level("\xC5\x83"), std::nullopt);
  for (const char* text : {"\xC5\x84", "\xC2\x80", "\x7F", "\xFF", "a\xC4", "\xC4z", "\xC1\xA1",
                           "\xE0\x84\xA0", "\xF0\x90\x80\x80", "\xA1"})
    EXPECT_EQ(from_byte_level(text), std::nullopt) << text;
}

TEST(StringIndex, FindsWhatWasInsertedThroughAllItsGrowth) {
  std::vector<std::string> texts(5000);
  for (size_t i = 0; i < texts.size(); ++i) texts[i] = std::string(i % 50, 'x') + std::to_string(i);
  StringIndex index;  // with room for none
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(index.insert(texts[i], static_cast<int32_t>(7 * i)), -1);
    EXPECT_EQ(index.insert(texts[i], 1), static_cast<int32_t>(7 * i)) << "keeps the first id";
  }
  EXPECT_EQ(index.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i)
    EXPECT_EQ(index.find(texts[i]), 7 * static_cast<int>(i));
  EXPECT_EQ(index.find("x"), -1);
  EXPECT_EQ(index.find(""), -1);
}

}  // namespace
}  // namespace cairn
