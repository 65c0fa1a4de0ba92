// Reads the comma-separated golden files of tests/golden/train.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/golden.h"

namespace cairn {

// The rows below the header line, split at commas.
inline std::vector<std::vector<std::string>> read_golden(const std::string& name) {
  const std::string path = (golden_folder() / "train" / name).string();
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::vector<std::vector<std::string>> rows;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::stringstream cells(line);
    rows.emplace_back();
    for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}

}  // namespace cairn
