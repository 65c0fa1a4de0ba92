// Constrained decoding: what may be said next, given what was said. The generation loop knows
// only this; a grammar is one kind of constraint (grammar_constraint.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/infer/token_mask.h"

namespace cairn {

// One text at a time; not thread-safe.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // The tokens that may come next, of which one always leads on to a whole text. Empty when nothing
  // may. Valid until the next call.
  virtual const TokenMask& allowed() = 0;
  // Takes the next token; false, and nothing has changed, when it is not allowed.
  virtual bool accept(int32_t id) = 0;
  // Forgets the last tokens that were accepted, at most all of them.
  virtual void rollback(size_t tokens) = 0;
  // Whether the text may end here.
  virtual bool complete() const = 0;
  // Whether nothing but its end may follow.
  virtual bool finished() const = 0;
  // Begins a new text.
  virtual void reset() = 0;
};

}  // namespace cairn
