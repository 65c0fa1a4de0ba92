#include "cairn/infer/constraint/grammar_constraint.h"

#include <algorithm>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kMostMaskBytes = size_t{32} << 20;

}  // namespace

GrammarConstraint::GrammarConstraint(std::shared_ptr<const GrammarAutomaton> automaton,
                                     std::shared_ptr<const VocabularyTrie> trie,
                                     const Tokenizer& tokenizer, std::span<const int32_t> ends)
    : states_(std::move(automaton)),
      trie_(std::move(trie)),
      tokenizer_(tokenizer),
      history_{states_.start()},
      path_(trie_->deepest() + 1),
      nothing_(trie_->vocab_size()) {
  for (const int32_t id : ends)
    if (id >= 0 && static_cast<size_t>(id) < trie_->vocab_size()) ends_.push_back(id);
}

const TokenMask& GrammarConstraint::allowed() {
  tidy();
  const uint32_t state = history_.back();
  if (state == kEnded) return nothing_;
  auto known = masks_.find(state);
  if (known == masks_.end()) {
    TokenMask mask = make_mask(state);
    if ((masks_.size() + 1) * mask.bytes() > kMostMaskBytes) masks_.clear();
    known = masks_.emplace(state, std::move(mask)).first;
  }
  return known->second;
}

TokenMask GrammarConstraint::make_mask(uint32_t state) {
  TokenMask mask(trie_->vocab_size());
  const std::span<const VocabularyTrie::Node> nodes = trie_->nodes();
  const std::span<const int32_t> tokens = trie_->tokens();
  path_[0] = state;
  for (size_t i = 0; i + 1 < nodes.size();) {
    const VocabularyTrie::Node& node = nodes[i];
    const uint32_t next = states_.step(path_[node.depth - 1U], node.byte);
    if (next == GrammarStates::kDead) {
      i = node.skip;
      continue;
    }
    path_[node.depth] = next;
    for (uint32_t t = node.first_token; t < nodes[i + 1].first_token; ++t) mask.insert(tokens[t]);
    ++i;
  }
  if (states_.complete(state))
    for (const int32_t id : ends_) mask.insert(id);
  return mask;
}

bool GrammarConstraint::accept(int32_t id) {
  tidy();
  uint32_t state = history_.back();
  if (state == kEnded) return false;
  if (std::find(ends_.begin(), ends_.end(), id) != ends_.end()) {
    if (!states_.complete(state)) return false;
    history_.push_back(kEnded);
    return true;
  }
  if (id < 0 || static_cast<size_t>(id) >= trie_->vocab_size() || tokenizer_.is_special(id))
    return false;
  const std::string_view bytes = tokenizer_.token_bytes(id);
  if (bytes.empty()) return false;
  for (const char byte : bytes) {
    state = states_.step(state, static_cast<uint8_t>(byte));
    if (state == GrammarStates::kDead) return false;
  }
  history_.push_back(state);
  return true;
}

void GrammarConstraint::rollback(size_t tokens) {
  history_.resize(history_.size() - std::min(tokens, history_.size() - 1));
}

bool GrammarConstraint::complete() const {
  return history_.back() == kEnded || states_.complete(history_.back());
}

bool GrammarConstraint::finished() const {
  return history_.back() == kEnded ||
         (states_.complete(history_.back()) && !states_.open(history_.back()));
}

void GrammarConstraint::reset() {
  history_.assign(1, states_.start());
}

// Between two tokens, when no state but those of the history is in use.
void GrammarConstraint::tidy() {
  if (!states_.full()) return;
  const bool ended = history_.back() == kEnded;
  states_.forget(std::span(history_).first(history_.size() - (ended ? 1 : 0)));
  masks_.clear();
}

}  // namespace cairn
