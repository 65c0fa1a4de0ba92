#include "cairn/cli/program.h"
#include "cairn/cli/verbs.h"

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + (count > 0 ? 1 : 0), words + count);
  return cairn::run_program(cairn::verb_groups(), arguments);
}
