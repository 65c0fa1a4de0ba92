// Where the committed files stand that tests compare with.
#pragma once

#include "cairn/base/file.h"

namespace cairn {

// tests/golden in the source tree.
Path golden_folder();

}  // namespace cairn
