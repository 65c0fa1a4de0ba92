// The arguments that all verbs which decode have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cairn/cli/arguments.h"
#include "cairn/infer/engine.h"

namespace cairn {

// The type of keys and values that --cache-type names; empty for no word. Throws Error (usage).
std::optional<BlockType> cache_type_argument(const std::string& word);

struct EngineArguments {
  std::string precision, cache_type;
  int64_t context = 0;

  // --precision, --cache-type and --context.
  void declare(Arguments& arguments);
  // Throws Error (usage) on words that name no type.
  EngineOptions options() const;
};

}  // namespace cairn
