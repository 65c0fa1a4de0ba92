// The runs of a study: which there are, which are missing, and making them one after another. Each
// is an ordinary training session, so that a run that was cut off goes on from its checkpoint; what
// is finished and tested stands in the results and is not made again.
#pragma once

#include <string>
#include <vector>

#include "cairn/study/config.h"
#include "cairn/study/results.h"
#include "cairn/train/stop_request.h"

namespace cairn {

struct StudyRun {
  const StudyMechanism* mechanism = nullptr;  // of the study
  uint64_t seed = 0;
  double lr = 0;
  TrainConfig config;
  // Of everything that decides what is learned: every value that is not the default one, but
  // folders, threads, checkpoints and logs.
  std::string hash;

  std::string title() const;  // "rope  lr 0.003  seed 1"
};

struct StudyPlan {
  std::vector<StudyRun> runs;  // seed by seed, so that a first table comes early
  // Runs that wait for a sweep to choose their learning rate.
  uint64_t waiting = 0;
};

// All runs that are known when `results` are. A mechanism with several learning rates tries each
// with seed 0; the lowest held-out loss chooses for the other seeds. Throws Error (usage) when a
// configuration does not fit together. `folder` is where runs are kept.
StudyPlan plan_study(const Study& study, const StudyResults& results, const Path& folder);

// The learning rate that `mechanism` is judged by: its only one, or the sweep's choice; 0 while
// that is open.
double chosen_rate(const Study& study, const StudyMechanism& mechanism,
                   const StudyResults& results);

// Whether the run and all its tests are done.
bool is_done(const Study& study, const StudyRun& run, const StudyResults& results);

// A hash of a test as `run` takes it.
std::string test_hash(const StudyTest& test, const StudyRun& run);

// Makes what is missing, in order. Returns false when a signal, a STOP file in the run's folder or
// the deadline ended it before; the same call goes on. A diverged run is a result. One process at a
// time; throws Error as train() does.
bool run_study(const Study& study, StudyResults& results, const Path& folder, Deadline deadline);

}  // namespace cairn
