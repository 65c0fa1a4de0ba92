// Stories of a small world, after tasks 1 to 5 of bAbI (Weston et al. 2015, arXiv:1502.05698),
// spread over filler as in BABILong (Kuratov et al. 2024, arXiv:2406.10149). World and words are
// our own.
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "cairn/data/tasks/filler.h"
#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

constexpr int32_t kActors = 8, kPlaces = 8, kObjects = 8, kDirections = 4;
constexpr std::array kWords = {
    "anna",   "bruno", "clara",   "david",  "elsa",   "frank", "greta",   "henry",   // actors
    "attic",  "barn",  "cellar",  "garage", "garden", "hall",  "kitchen", "office",  // places
    "apple",  "ball",  "book",    "coin",   "cup",    "key",   "lamp",    "rope",    // objects
    "north",  "east",  "south",   "west",                                            // directions
    "went",   "took",  "dropped", "gave",   "to",     "is",    "was",     "of",
    "before", "where", "what",    "who",    ".",      "?"};
constexpr int32_t kActor = 0, kPlace = kActor + kActors, kObject = kPlace + kPlaces,
                  kDirection = kObject + kObjects;
enum Word : int32_t {
  kWent = kDirection + kDirections,
  kTook,
  kDropped,
  kGave,
  kTo,
  kIs,
  kWas,
  kOf,
  kBefore,
  kWhere,
  kWhat,
  kWho,
  kStop,
  kAsk,
  kFiller
};
static_assert(kWords.size() == kFiller);

struct Question {
  Sentence words;  // the answer belongs behind the last
  int32_t answer = 0;
};

struct Story {
  std::vector<Sentence> sentences;
  std::vector<Question> questions;  // all that can be asked of it, in no particular order
};

// Actors walk, take, drop and give. Who or what was never heard of is nowhere that a reader knows;
// an object lies somewhere from the start, which its first taking reveals.
class World {
 public:
  explicit World(SplitMix64& random) : random_(random) {
    for (int32_t& place : lies_) place = below(kPlaces);
  }

  void walk() {
    const int32_t actor = below(kActors);
    int32_t place = below(kPlaces);
    if (place == at_[index(actor)]) place = (place + 1) % kPlaces;
    at_[index(actor)] = place;
    for (int32_t object = 0; object < kObjects; ++object)
      if (holder_[index(object)] == actor) seen_[index(object)].push_back(place);
    story_.sentences.push_back({kActor + actor, kWent, kPlace + place, kStop});
  }
  // Somebody takes, drops or (with `gives`, instead) hands on an object, one such deed that is
  // possible now being as likely as another. Returns whether there was one.
  bool act(bool gives) {
    const std::vector<Deed> deeds = possible_deeds(gives);
    if (deeds.empty()) return false;
    const Deed deed = deeds[random_.below(deeds.size())];
    const int32_t actor = kActor + deed.actor, object = kObject + deed.object;
    int32_t& holder = holder_[index(deed.object)];
    if (deed.receiver != kNobody) {
      gifts_.push_back(deed);
      story_.sentences.push_back({actor, kGave, object, kTo, kActor + deed.receiver, kStop});
      holder = deed.receiver;
    } else if (holder == kNobody) {
      auto& places = seen_[index(deed.object)];
      if (places.empty()) places.push_back(at_[index(deed.actor)]);
      story_.sentences.push_back({actor, kTook, object, kStop});
      holder = deed.actor;
    } else {
      story_.sentences.push_back({actor, kDropped, object, kStop});
      lies_[index(deed.object)] = at_[index(deed.actor)];
      holder = kNobody;
    }
    return true;
  }

  size_t sentences() const { return story_.sentences.size(); }

  // The story so far with the questions of `kind`.
  Story tell(size_t kind) {
    story_.questions.clear();
    if (kind == 1) ask_for_actors();
    if (kind == 2) ask_for_objects();
    if (kind == 3) ask_for_places_before();
    if (kind == 5) ask_for_gifts();
    return story_;
  }

 private:
  static constexpr int32_t kNobody = -1, kNowhere = -1;
  struct Deed {
    int32_t actor, object, receiver = kNobody;
  };

  std::vector<Deed> possible_deeds(bool gives) const {
    std::vector<Deed> deeds;
    for (int32_t actor = 0; actor < kActors; ++actor)
      for (int32_t object = 0; object < kObjects; ++object) {
        const int32_t here = at_[index(actor)], holder = holder_[index(object)];
        const bool at_hand = holder == kNobody && here != kNowhere && lies_[index(object)] == here;
        if (at_hand || (holder == actor && !gives)) deeds.push_back({actor, object});
        if (holder != actor || !gives) continue;
        for (int32_t other = 0; other < kActors; ++other)
          if (other != actor && at_[index(other)] == here) deeds.push_back({actor, object, other});
      }
    return deeds;
  }

  int32_t below(int32_t bound) {
    return static_cast<int32_t>(random_.below(static_cast<uint64_t>(bound)));
  }
  static size_t index(int32_t id) { return static_cast<size_t>(id); }
  void ask(Sentence words, int32_t answer) {
    story_.questions.push_back({std::move(words), answer});
  }

  void ask_for_actors() {
    for (int32_t actor = 0; actor < kActors; ++actor)
      if (at_[index(actor)] != kNowhere)
        ask({kWhere, kIs, kActor + actor, kAsk}, kPlace + at_[index(actor)]);
  }
  void ask_for_objects() {
    for (int32_t object = 0; object < kObjects; ++object)
      if (const auto& places = seen_[index(object)]; !places.empty())
        ask({kWhere, kIs, kObject + object, kAsk}, kPlace + places.back());
  }
  // Where an object was before it last came to a place.
  void ask_for_places_before() {
    for (int32_t object = 0; object < kObjects; ++object)
      for (int32_t place = 0; place < kPlaces; ++place) {
        const auto& places = seen_[index(object)];
        for (size_t i = places.size(); i-- > 1;)
          if (places[i] == place) {
            ask({kWhere, kWas, kObject + object, kBefore, kPlace + place, kAsk},
                kPlace + places[i - 1]);
            break;
          }
      }
  }
  // Of the latest gift of an object, so that one question has one answer: giver, receiver or, when
  // it is also the latest between the two, the object.
  void ask_for_gifts() {
    for (size_t i = 0; i < gifts_.size(); ++i) {
      const Deed& gift = gifts_[i];
      const auto none_after = [&](auto same) {
        return std::none_of(gifts_.begin() + static_cast<ptrdiff_t>(i) + 1, gifts_.end(), same);
      };
      const int32_t giver = kActor + gift.actor, receiver = kActor + gift.receiver;
      const int32_t object = kObject + gift.object;
      if (none_after([&](const Deed& g) { return g.object == gift.object; })) {
        ask({kWho, kGave, object, kAsk}, giver);
        ask({object, kTo, kWho, kAsk}, receiver);
      }
      if (none_after(
              [&](const Deed& g) { return g.actor == gift.actor && g.receiver == gift.receiver; }))
        ask({giver, kGave, receiver, kWhat, kAsk}, object);
    }
  }

  SplitMix64& random_;
  Story story_;
  std::array<int32_t, kActors> at_ = {-1, -1, -1, -1, -1, -1, -1, -1};
  std::array<int32_t, kObjects> holder_ = {-1, -1, -1, -1, -1, -1, -1, -1};
  std::array<int32_t, kObjects> lies_{};                  // where, while nobody holds it
  std::array<std::vector<int32_t>, kObjects> seen_ = {};  // places one after another, once taken
  std::vector<Deed> gifts_;
};

// Kind 4: the places on a grid of three by three, one cell free; neighbours are told either way
// round and may be asked for the other way round.
Story tell_map(SplitMix64& random, size_t facts) {
  constexpr size_t kSide = 3;
  std::array<int32_t, kSide* kSide> cells = {0, 1, 2, 3, 4, 5, 6, 7, -1};
  for (size_t i = 0; i + 1 < cells.size(); ++i)
    std::swap(cells[i], cells[i + random.below(cells.size() - i)]);
  struct Neighbours {
    int32_t place, direction, other;  // place lies in that direction of other
  };
  std::vector<Neighbours> all;
  for (size_t i = 0; i < cells.size(); ++i) {
    constexpr int32_t kNorth = 0, kWest = 3;
    if (cells[i] < 0) continue;
    if (i % kSide + 1 < kSide && cells[i + 1] >= 0) all.push_back({cells[i], kWest, cells[i + 1]});
    if (i + kSide < cells.size() && cells[i + kSide] >= 0)
      all.push_back({cells[i], kNorth, cells[i + kSide]});
  }
  for (size_t i = 0; i + 1 < all.size(); ++i)
    std::swap(all[i], all[i + random.below(all.size() - i)]);
  all.resize(std::min(all.size(), facts));
  Story story;
  for (const Neighbours& n : all) {
    const Neighbours back{n.other, (n.direction + 2) % kDirections, n.place};
    const Neighbours& told = random.below(2) == 0 ? n : back;
    story.sentences.push_back(
        {kPlace + told.place, kIs, kDirection + told.direction, kOf, kPlace + told.other, kStop});
    for (const Neighbours& q : {n, back})
      story.questions.push_back(
          {{kWhat, kIs, kDirection + q.direction, kOf, kPlace + q.other, kAsk}, kPlace + q.place});
  }
  return story;
}

struct StorySize {
  size_t length, kind, facts, questions, filler;
};

// A story of at most `facts` sentences spread over filler, then up to `questions` questions, all
// different. Stories that leave nothing to ask are drawn again. Draws: the story, the questions,
// what filler.h draws. Tokens: kWords, then the filler.
class Stories final : public Task {
 public:
  explicit Stories(const StorySize& size) : Task(size.length, kFiller + size.filler), size_(size) {}

  // Tokens of the longest sentence and of the longest question.
  static constexpr size_t kLongest = 6;

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    std::fill(targets.begin(), targets.end(), kIgnoredTarget);
    Story story;
    while (story.questions.empty()) story = draw(random);
    std::vector<Question>& questions = story.questions;
    const size_t asked = std::min(questions.size(), size_.questions);
    size_t story_tokens = length();
    for (size_t i = 0; i < asked; ++i) {
      std::swap(questions[i], questions[i + random.below(questions.size() - i)]);
      story_tokens -= questions[i].words.size();
    }
    spread_over_filler(random, story.sentences, kFiller, size_.filler, tokens.first(story_tokens));
    size_t at = story_tokens;
    for (size_t i = 0; i < asked; ++i) {
      for (const int32_t word : questions[i].words) tokens[at++] = word;
      targets[at - 1] = questions[i].answer;
    }
  }
  std::string token_text(int32_t token) const override {
    return token < kFiller ? kWords.at(static_cast<size_t>(token))
                           : fmt::format("f{}", token - kFiller);
  }

 private:
  Story draw(SplitMix64& random) const {
    if (size_.kind == 4) return tell_map(random, size_.facts);
    World world(random);
    while (world.sentences() < size_.facts) {
      const bool walk = size_.kind == 1 || random.below(2) == 0;
      if (walk || !world.act(size_.kind == 5)) world.walk();
    }
    return world.tell(size_.kind);
  }

  StorySize size_;
};

}  // namespace

std::unique_ptr<Task> make_stories(TaskOptionReader& options) {
  StorySize size{};
  size.length = options.whole("length", 256, 1, size_t{1} << 20);
  size.kind = options.whole("kind", 1, 1, 5);
  constexpr std::array kUsualFacts = {8, 16, 24, 6, 24};
  size.facts = options.whole("facts", static_cast<size_t>(kUsualFacts.at(size.kind - 1)),
                             size.kind == 1 || size.kind == 4 ? 1 : 8, 1024);
  size.questions = options.whole("questions", 2, 1, 16);
  size.filler = options.whole("filler", 64, 1, size_t{1} << 20);
  const size_t least = Stories::kLongest * (size.facts + size.questions);
  if (size.length < least)
    options.refuse("length", fmt::format("at least {} for facts and questions", least),
                   std::to_string(size.length));
  return std::make_unique<Stories>(size);
}

}  // namespace cairn
