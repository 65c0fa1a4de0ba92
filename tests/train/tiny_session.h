// A run of `train` on a tiny dataset, in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "cairn/train/session.h"
#include "tiny_dataset.h"
#include "tiny_run.h"

namespace cairn {

class TinySession : public testing::Test {
 protected:
  TinySession() { write_tiny_dataset(data()); }
  Path data() const { return folder_.path() / "data"; }
  Path run() const { return folder_.path() / "run"; }
  TrainConfig config(std::vector<std::string> overrides = {}) const {
    overrides.push_back("data.folder=" + data().string());
    overrides.push_back("run.folder=" + run().string());
    overrides.push_back("run.threads=1");
    return tiny_config(overrides);
  }
  // The error that `config` ends in.
  Problem problem_of(const TrainConfig& config) const {
    try {
      train(config);
    } catch (const Error& error) {
      return error.problem();
    }
    ADD_FAILURE() << "no error";
    return {};
  }
  TemporaryFolder folder_;
};

}  // namespace cairn
