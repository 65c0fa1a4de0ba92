// Reading a text by a grammar, byte by byte: the deterministic automaton of GrammarAutomaton, made
// while it is used. A state is everything that may go on from here: a set of places in rules, each
// with the calls that it returns to. States that are the same have the same number, and where a
// byte leads from a state is worked out once.
//
//   GrammarStates states(automaton);
//   uint32_t at = states.start();
//   for (const uint8_t byte : text) at = states.step(at, byte);   // kDead: no such text
//   bool whole = states.complete(at);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "cairn/text/grammar/automaton.h"

namespace cairn {

// One thread at a time.
class GrammarStates {
 public:
  static constexpr uint32_t kDead = 0;

  // `most_bytes` bounds the memory: an Error (data) says when a grammar needs more at once.
  explicit GrammarStates(std::shared_ptr<const GrammarAutomaton> automaton,
                         size_t most_bytes = size_t{256} << 20);

  uint32_t start() const { return start_; }
  // Throws Error (data) when the grammar is so ambiguous that a state would need more than ten
  // thousand places. Calls nested deeper than 4096 lead nowhere.
  uint32_t step(uint32_t state, uint8_t byte) {
    uint32_t& next = next_[state * classes_ + automaton_->byte_class(byte)];
    if (next == kUnknown) return find_step(state, byte);
    return next;
  }
  // Whether the text so far is one of the grammar's.
  bool complete(uint32_t state) const { return states_[state].complete; }
  // Whether any byte may follow.
  bool open(uint32_t state) const { return states_[state].end > states_[state].begin; }

  // Whether so much is known by now that forget() is due.
  bool full() const { return bytes() > most_bytes_ / 2; }
  // Forgets all states but those named, whose numbers change in place, and the start.
  void forget(std::span<uint32_t> kept);

  size_t bytes() const;

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;
  static constexpr uint32_t kNoFrame = 0;

  // A call to return from: where to go on, and the call around it.
  struct Frame {
    uint32_t node, outer, depth;
  };
  struct Place {
    uint32_t node, frame;
    bool operator==(const Place&) const = default;
  };
  struct State {
    size_t begin, end;  // of places_
    bool complete;
  };

  void clear();
  uint32_t find_step(uint32_t state, uint8_t byte);
  // Adds what is reached from (node, frame) without a byte.
  void close(Place from);
  void visit(Place place);
  uint32_t push_frame(uint32_t node, uint32_t outer);
  // The number of the state made of gathered_ and complete_.
  uint32_t intern();

  std::shared_ptr<const GrammarAutomaton> automaton_;
  size_t most_bytes_, classes_;
  uint32_t start_ = 0;
  std::vector<Frame> frames_;  // 0: none
  std::unordered_map<uint64_t, uint32_t> frame_numbers_;
  std::vector<State> states_;  // 0: dead
  std::vector<Place> places_;
  std::vector<uint32_t> next_;                                 // [states, classes]
  std::unordered_multimap<uint64_t, uint32_t> state_numbers_;  // by hash

  // Of the state that is being made.
  std::vector<Place> gathered_, pending_;
  std::unordered_map<uint64_t, bool> visited_;
  bool complete_ = false;
};

}  // namespace cairn
