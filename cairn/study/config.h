// A study: the same training for several attention mechanisms, seeds and learning rates, and the
// tests that every trained model takes. A TOML file: the sections of a training configuration
// (train/config.h), which every run shares, and
//
//   [study]
//   name = "flip_flop"    # of the results file; the file's own name unless given
//   seeds = 3             # runs of each mechanism: first weights and samples
//   score = "error"       # what tables show: accuracy, error, sequence_accuracy or loss
//
//   [[mechanism]]
//   name = "rope"         # of the row, without a comma
//   attention = "softmax" # the room; options = {KEY = VALUE} are its options
//   lr = [1e-3, 3e-3]     # several: one seed tries all, the others take the best
//   optim = {beta2 = 0.99}  # any section: what this mechanism alone has otherwise
//
//   [[test]]
//   name = "sparse"
//   sequences = 1000
//   task = {ignore = 0.98}      # what is other than in training
//   attention = {gate_floor = 0.1}
//   only = ["stick_breaking"]   # the mechanisms that take it; all unless given
//
// With data.folder in place of a task, tests are of held-out text: `sequences` windows of `length`
// tokens that begin `stride` tokens after one another.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "cairn/io/toml.h"
#include "cairn/train/config.h"

namespace cairn {

struct StudyMechanism {
  std::string name;
  TomlValues settings;     // keys of a training configuration
  std::vector<double> lr;  // empty: the one of the study
};

struct StudyTest {
  std::string name;
  uint64_t sequences = 1000;
  uint64_t length = 0, stride = 0;  // of text: the length of training, windows side by side
  std::map<std::string, OptionValue> task, attention;
  std::vector<std::string> only;

  bool taken_by(const std::string& mechanism) const;
};

struct Study {
  std::string name;
  std::string title;  // above tables and pictures
  uint64_t seeds = 3;
  std::string score = "accuracy";
  TomlDocument training;               // what all runs share
  std::vector<std::string> overrides;  // "section.key=value", for all runs
  std::vector<StudyMechanism> mechanisms;
  std::vector<StudyTest> tests;
};

// What the command line may say beside or in place of a file.
struct StudyRequest {
  Path file;         // may be empty
  std::string task;  // replaces data.task
  std::vector<std::string>
      mechanisms;      // of the file, or rooms; empty: all of the file, else all rooms
  uint64_t seeds = 0;  // 0: as the file says
  std::vector<std::string> overrides;
};

// Throws Error (usage) naming place, key, what was expected and what was found.
Study load_study(const StudyRequest& request);

}  // namespace cairn
