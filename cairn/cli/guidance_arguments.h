// The arguments with which `cairn run` and `cairn chat` hold a text to a grammar or a JSON Schema,
// and have tokens proposed by lookup or a draft model.
#pragma once

#include <memory>
#include <string>

#include "cairn/cli/verb.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/text_model.h"

namespace cairn {

// What the arguments ask for. `apply` lends it to options, which it must outlive.
struct Guidance {
  std::unique_ptr<TokenConstraint> constraint;
  std::unique_ptr<TextModel> draft;
  std::unique_ptr<Proposer> proposer;
  void apply(GenerateOptions& options) const;
};

class GuidanceArguments {
 public:
  void declare(Arguments& arguments);
  // Throws Error (usage) for what does not go together, before a model is read.
  void check() const;
  // `how`: the sampling that a draft model follows, and the tokens that end a text. Throws Error
  // (data) for a grammar or schema that is not understood.
  Guidance make(TextModel& model, ThreadTeam& team, const GenerateOptions& how) const;
  size_t most_proposed() const { return static_cast<size_t>(draft_max_); }

 private:
  std::string grammar_, schema_, lookup_file_, draft_;
  bool lookup_ = false;
  int64_t draft_max_ = 7;
};

}  // namespace cairn
