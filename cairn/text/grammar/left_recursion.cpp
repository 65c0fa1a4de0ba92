// Whether reading a grammar could push calls without end and without reading a byte: rules that
// call themselves before anything else. Such a way is a cycle in the graph of what can be reached
// without a byte, over a call that has to come back.
#include <algorithm>
#include <string>
#include <vector>

#include "cairn/text/grammar/automaton.h"

namespace cairn {
namespace {

using Nodes = std::vector<GrammarAutomaton::Node>;

// Rules that may be the empty text, by their exits reached without a byte.
std::vector<bool> empty_rules(const Nodes& nodes, const std::vector<uint32_t>& entries,
                              const std::vector<uint32_t>& rule_of) {
  std::vector<std::vector<uint32_t>> waiting(entries.size());  // targets of calls of a rule
  std::vector<bool> empty(entries.size()), seen(nodes.size());
  std::vector<uint32_t> fresh(entries.begin(), entries.end());
  for (const uint32_t entry : entries) seen[entry] = true;
  const auto reach = [&](uint32_t node) {
    if (!seen[node]) fresh.push_back(node);
    seen[node] = true;
  };
  // Marks what follows entries without a byte; a call that waits goes on once its rule is empty.
  // A node belongs to one rule and is reached from that rule's entry only.
  while (!fresh.empty()) {
    const uint32_t n = fresh.back();
    fresh.pop_back();
    for (const uint32_t target : nodes[n].empty) reach(target);
    for (const auto& call : nodes[n].calls) {
      if (empty[call.rule])
        reach(call.target);
      else
        waiting[call.rule].push_back(call.target);
    }
    if (!nodes[n].exit || empty[rule_of[n]]) continue;
    empty[rule_of[n]] = true;
    for (const uint32_t target : waiting[rule_of[n]]) reach(target);
  }
  return empty;
}

// Strongly connected components (Tarjan 1972), without recursion: grammars may be deep.
class Components {
 public:
  explicit Components(const std::vector<std::vector<uint32_t>>& edges)
      : edges_(edges), order_(edges.size()), low_(edges.size()), component_(edges.size()) {
    for (uint32_t n = 0; n < edges.size(); ++n)
      if (order_[n] == 0) visit(n);
  }
  uint32_t of(uint32_t node) const { return component_[node]; }

 private:
  void open(uint32_t node) {
    order_[node] = low_[node] = ++last_;
    stack_.push_back(node);
    path_.push_back({node, 0});
  }
  void visit(uint32_t start) {
    open(start);
    while (!path_.empty()) {
      const uint32_t node = path_.back().node;
      if (path_.back().next < edges_[node].size()) {
        const uint32_t target = edges_[node][path_.back().next++];
        if (order_[target] == 0)
          open(target);
        else if (component_[target] == 0)
          low_[node] = std::min(low_[node], order_[target]);
        continue;
      }
      path_.pop_back();
      if (!path_.empty()) low_[path_.back().node] = std::min(low_[path_.back().node], low_[node]);
      if (low_[node] == order_[node]) close(node);
    }
  }
  void close(uint32_t node) {
    ++components_;
    while (true) {
      const uint32_t member = stack_.back();
      stack_.pop_back();
      component_[member] = components_;
      if (member == node) return;
    }
  }

  struct Step {
    uint32_t node;
    size_t next;
  };
  const std::vector<std::vector<uint32_t>>& edges_;
  std::vector<uint32_t> order_, low_, component_;  // 0: not yet
  std::vector<uint32_t> stack_;
  std::vector<Step> path_;
  uint32_t last_ = 0, components_ = 0;
};

}  // namespace

void GrammarAutomaton::refuse_left_recursion(const Grammar& grammar) const {
  const std::vector<bool> empty = empty_rules(nodes_, entries_, node_rule_);
  std::vector<std::vector<uint32_t>> edges(nodes_.size());
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    edges[n] = nodes_[n].empty;
    for (const Call& call : nodes_[n].calls) {
      edges[n].push_back(entries_[call.rule]);
      if (empty[call.rule]) edges[n].push_back(call.target);
    }
  }
  const Components components(edges);
  for (uint32_t n = 0; n < nodes_.size(); ++n)
    for (const Call& call : nodes_[n].calls)
      if (!nodes_[call.target].tail && components.of(n) == components.of(entries_[call.rule]))
        fail("rules that read something before they call themselves",
             "rule \"" + grammar.rules[node_rule_[n]].name + "\" calls itself first, by way of \"" +
                 grammar.rules[call.rule].name + "\"",
             "write it as a repetition: a ::= b (\",\" b)* instead of a ::= a \",\" b | b");
}

}  // namespace cairn
