// A grammar compiled for reading byte by byte: a recursive transition network. Every rule is a
// nondeterministic automaton over bytes whose edges may also call other rules; characters have
// become ranges of UTF-8 bytes, so that a text may stop inside a character.
//
// What can never end is cut away (a rule that always calls itself again), so from every place that
// can be reached a text can be completed. Rules that call themselves first, `a ::= a "x" | "y"`,
// become repetitions; where rules do so through each other, the grammar is refused.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

// Immutable; any thread may use it.
class GrammarAutomaton {
 public:
  struct ByteEdge {
    uint8_t low, high;
    uint32_t target;
  };
  struct Call {
    uint32_t rule;
    uint32_t target;  // where the caller goes on
  };
  struct Node {
    std::vector<ByteEdge> bytes;
    std::vector<uint32_t> empty;  // targets reached without a byte
    std::vector<Call> calls;
    bool exit = false;  // the rule is complete
    bool tail = false;  // nothing but the exit follows: a call from here need not come back
  };

  // Throws Error (data): a grammar of which no text is complete, rules that call themselves first
  // through one another, and grammars of more than 200 thousand nodes. `source` is what errors call
  // it.
  GrammarAutomaton(Grammar grammar, const std::string& source);

  const std::vector<Node>& nodes() const { return nodes_; }
  uint32_t entry(uint32_t rule) const { return entries_[rule]; }
  uint32_t root_entry() const { return entries_[root_]; }

  // Bytes that no edge tells apart share a class.
  size_t byte_classes() const { return classes_; }
  uint8_t byte_class(uint8_t byte) const { return class_of_[byte]; }
  // A byte of each class.
  uint8_t class_byte(size_t byte_class) const { return class_byte_[byte_class]; }

 private:
  using Expression = GrammarExpression;

  uint32_t add_node();
  void build(const Expression& expression, uint32_t from, uint32_t to);
  void build_characters(const std::vector<CharRange>& ranges, uint32_t from, uint32_t to);
  void build_repeat(const Expression& expression, uint32_t from, uint32_t to);
  void cut_what_never_ends();
  void mark_tails();
  void refuse_left_recursion(const Grammar& grammar) const;
  void divide_bytes();
  [[noreturn]] void fail(const std::string& expected, const std::string& found,
                         const std::string& hint = "") const;

  std::string source_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> entries_;     // by rule
  std::vector<uint32_t> node_rule_;   // the rule that a node belongs to
  uint32_t root_ = 0, building_ = 0;  // rules
  size_t classes_ = 0;
  std::array<uint8_t, 256> class_of_{}, class_byte_{};
};

}  // namespace cairn
