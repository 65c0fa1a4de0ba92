// A verb run as from the command line, with what it printed.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "cairn/cli/program.h"

namespace cairn {

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

inline Ran run_captured(const std::vector<VerbGroup>& groups,
                        const std::vector<std::string>& arguments) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.code = run_program(groups, arguments);
  std::fflush(stdout);
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

}  // namespace cairn
