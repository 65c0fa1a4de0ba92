#include "cairn/cli/verbs.h"

namespace cairn {

std::span<const VerbGroup> verb_groups() {
  static const std::vector<VerbGroup> groups = {
      {"Data and tokens", {&kDataVerb}},
  };
  return groups;
}

}  // namespace cairn
