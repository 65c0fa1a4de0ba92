// A micro-batch: what the loader makes and the model eats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

inline constexpr int32_t kIgnoredTarget = -1;  // this token's loss does not count

// What the encoder of an encoder-decoder reads: as many tokens as its decoder does, cut into as
// many sequences. Sequence i of the decoder reads source i; what pads either stream is a sequence
// too.
struct SourceStream {
  std::vector<int32_t> tokens;     // [sequences * length]
  std::vector<int32_t> offsets;    // as many as Batch::offsets
  std::vector<int32_t> positions;  // [sequences * length]
};

struct Batch {
  size_t sequences = 0;
  size_t length = 0;               // tokens a sequence
  std::vector<int32_t> tokens;     // [sequences * length]
  std::vector<int32_t> targets;    // [sequences * length], the next token or kIgnoredTarget
  std::vector<int32_t> offsets;    // rising cuts, 0 .. sequences * length: at least at every
                                   // sequence, also at documents where attention may not cross them
  std::vector<int32_t> positions;  // [sequences * length]
  SourceStream source;             // empty without an encoder

  // Number of targets that count.
  size_t target_count() const;
};

}  // namespace cairn
