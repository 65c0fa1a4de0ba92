#include "cairn/text/grammar/states.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {

constexpr size_t kMostPlaces = 10'000;
constexpr uint32_t kDeepest = 4096;

uint64_t pair_key(uint32_t a, uint32_t b) {
  return uint64_t{a} << 32 | b;
}

[[noreturn]] void refuse(const char* expected, const char* found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading by a grammar",
               .expected = expected,
               .found = found,
               .hint = "its rules can match the same text in too many ways"});
}

}  // namespace

GrammarStates::GrammarStates(std::shared_ptr<const GrammarAutomaton> automaton, size_t most_bytes)
    : automaton_(std::move(automaton)),
      most_bytes_(most_bytes),
      classes_(automaton_->byte_classes()) {
  clear();
}

void GrammarStates::clear() {
  frames_.assign(1, {0, 0, 0});
  frame_numbers_.clear();
  states_.clear();
  places_.clear();
  next_.clear();
  state_numbers_.clear();
  gathered_.clear();
  complete_ = false;
  intern();  // kDead, whose steps all lead to itself
  std::fill(next_.begin(), next_.end(), kDead);
  close({automaton_->root_entry(), kNoFrame});
  start_ = intern();
}

size_t GrammarStates::bytes() const {
  constexpr size_t kEntry = 48;  // of a hash table
  return frames_.size() * (sizeof(Frame) + kEntry) + states_.size() * (sizeof(State) + kEntry) +
         places_.size() * sizeof(Place) + next_.size() * sizeof(uint32_t);
}

uint32_t GrammarStates::find_step(uint32_t state, uint8_t byte) {
  if (bytes() > most_bytes_) refuse("states that fit into memory", "more");
  gathered_.clear();
  complete_ = false;
  for (size_t i = states_[state].begin; i < states_[state].end; ++i) {
    const Place place = places_[i];
    for (const auto& edge : automaton_->nodes()[place.node].bytes)
      if (edge.low <= byte && byte <= edge.high) close({edge.target, place.frame});
  }
  const uint32_t found = gathered_.empty() && !complete_ ? kDead : intern();
  next_[state * classes_ + automaton_->byte_class(byte)] = found;
  return found;
}

void GrammarStates::visit(Place place) {
  if (visited_.emplace(pair_key(place.node, place.frame), true).second) pending_.push_back(place);
}

void GrammarStates::close(Place from) {
  // visited_ lasts for one state: places that several edges reach are followed once.
  if (gathered_.empty() && !complete_) visited_.clear();
  visit(from);
  while (!pending_.empty()) {
    const Place place = pending_.back();
    pending_.pop_back();
    const GrammarAutomaton::Node& node = automaton_->nodes()[place.node];
    if (!node.bytes.empty()) gathered_.push_back(place);
    if (gathered_.size() > kMostPlaces) refuse("states of at most 10000 places", "more");
    for (const uint32_t target : node.empty) visit({target, place.frame});
    for (const auto& call : node.calls) {
      // A call with which its rule ends returns to where that rule returns to: loops that are
      // written as recursion need no memory.
      const bool tail = automaton_->nodes()[call.target].tail;
      if (!tail && frames_[place.frame].depth >= kDeepest) continue;
      visit({automaton_->entry(call.rule),
             tail ? place.frame : push_frame(call.target, place.frame)});
    }
    if (!node.exit) continue;
    if (place.frame == kNoFrame)
      complete_ = true;
    else
      visit({frames_[place.frame].node, frames_[place.frame].outer});
  }
}

uint32_t GrammarStates::push_frame(uint32_t node, uint32_t outer) {
  const auto [entry, fresh] =
      frame_numbers_.emplace(pair_key(node, outer), static_cast<uint32_t>(frames_.size()));
  if (fresh) frames_.push_back({node, outer, frames_[outer].depth + 1});
  return entry->second;
}

uint32_t GrammarStates::intern() {
  std::sort(gathered_.begin(), gathered_.end(), [](const Place& a, const Place& b) {
    return pair_key(a.node, a.frame) < pair_key(b.node, b.frame);
  });
  const uint64_t hash =
      hash64(gathered_.data(), gathered_.size() * sizeof(Place), complete_ ? 1 : 0);
  const auto [first, last] = state_numbers_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const State& known = states_[it->second];
    if (known.complete == complete_ &&
        std::equal(gathered_.begin(), gathered_.end(),
                   places_.begin() + static_cast<ptrdiff_t>(known.begin),
                   places_.begin() + static_cast<ptrdiff_t>(known.end)))
      return it->second;
  }
  const auto number = static_cast<uint32_t>(states_.size());
  states_.push_back({places_.size(), places_.size() + gathered_.size(), complete_});
  places_.insert(places_.end(), gathered_.begin(), gathered_.end());
  next_.resize(next_.size() + classes_, kUnknown);
  state_numbers_.emplace(hash, number);
  return number;
}

void GrammarStates::forget(std::span<uint32_t> kept) {
  GrammarStates fresh(automaton_, most_bytes_);
  std::unordered_map<uint32_t, uint32_t> frames = {{kNoFrame, kNoFrame}}, done;
  // A frame is younger than the one around it, so outer frames come first.
  std::vector<uint32_t> chain;
  const auto move_frame = [&](uint32_t frame) {
    chain.clear();
    for (uint32_t f = frame; !frames.contains(f); f = frames_[f].outer) chain.push_back(f);
    for (auto it = chain.rbegin(); it != chain.rend(); ++it)
      frames[*it] = fresh.push_frame(frames_[*it].node, frames.at(frames_[*it].outer));
    return frames.at(frame);
  };
  for (uint32_t& state : kept) {
    const auto [entry, first] = done.emplace(state, kDead);
    if (first && state != kDead) {
      fresh.gathered_.clear();
      for (size_t i = states_[state].begin; i < states_[state].end; ++i)
        fresh.gathered_.push_back({places_[i].node, move_frame(places_[i].frame)});
      fresh.complete_ = states_[state].complete;
      entry->second = fresh.intern();
    }
    state = entry->second;
  }
  *this = std::move(fresh);
}

}  // namespace cairn
