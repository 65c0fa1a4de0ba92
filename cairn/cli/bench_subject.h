// What `cairn bench decode` and `cairn bench prefill` measure: an engine with the weights of a file
// or random ones in a shape, around any attention mechanism, and a rival beside it that differs in
// the mechanism alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cairn/cli/bench.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/mechanism_arguments.h"
#include "cairn/infer/engine.h"
#include "cairn/io/json.h"

namespace cairn {

struct SubjectArguments {
  std::string model, shape = "135m", format = "q4_0";
  MechanismArguments mechanism;
  std::string versus;
  EngineArguments engine;
  int64_t blocks = 8, threads = 0;
  bool json = false;

  void declare(Arguments& arguments);
};

struct Subject {
  std::string name, format;
  MechanismArguments mechanism;
  BlockType cache = BlockType::f16;  // of keys and values
  std::unique_ptr<Engine> engine;

  // What tells its line of JSON from others.
  Json facts(int threads) const;
  // "135m q4_0, path, 2 threads"
  std::string title(int threads) const;
};

// The engine that the arguments name, for texts of `tokens` tokens, and its rival if there is one:
// what --versus says, or else plain softmax attention beside any other mechanism of a shape. Both
// keep keys and values in one type: that of --cache-type, or else f32 if a mechanism keeps its own,
// and f16 if none does. `how` has the options beyond those of the arguments. Throws Error (usage).
std::vector<Subject> open_subjects(const SubjectArguments& arguments, EngineOptions how,
                                   size_t tokens, ThreadTeam& team);

// Load, instructions and processor: the end of every line.
Json circumstances();

}  // namespace cairn
