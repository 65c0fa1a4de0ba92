#include "tests/support/golden.h"

cairn::Path cairn::golden_folder() {
  return CAIRN_GOLDEN;
}
