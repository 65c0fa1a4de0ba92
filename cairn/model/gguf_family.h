// Which families of models GGUF files have, and what theirs do otherwise. Internal to model/gguf*.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cairn/attention/softmax/options.h"
#include "cairn/io/gguf.h"
#include "cairn/model/config.h"

namespace cairn {

struct GgufFamily {
  std::string_view architecture;  // ModelConfig::architecture
  std::string_view name;          // general.architecture
  bool adjacent;                  // rotates neighbouring pairs: rows of q and k change places
};

// By ModelConfig::architecture; Error (usage) for a family that GGUF has no word for.
const GgufFamily& gguf_family(const ModelConfig& config);
// The first family of that general.architecture; Error (data) with the known names otherwise.
const GgufFamily& gguf_family(const GgufArchive& archive);

// The keys of one architecture, such as "llama.block_count", in a file that is read.
class GgufKeys {
 public:
  GgufKeys(const GgufArchive& archive, std::string_view family)
      : archive_(archive), prefix_(std::string(family) + ".") {}

  const GgufArchive& archive() const { return archive_; }
  std::optional<GgufValue> find(std::string_view key) const {
    return archive_.find(prefix_ + std::string(key));
  }
  GgufValue at(std::string_view key) const { return archive_.at(prefix_ + std::string(key)); }
  // A positive number, or one a layer where these are all the same.
  size_t size(std::string_view key) const;
  size_t size(std::string_view key, size_t otherwise) const;
  // A number; an f32 is the shortest decimal that names it, the number that was meant.
  double number(std::string_view key, double otherwise) const;

 private:
  const GgufArchive& archive_;
  std::string prefix_;
};

double gguf_decimal(const GgufValue& value);

// Throws Error (usage): GGUF cannot say `subject` of a model.
[[noreturn]] void refuse_for_gguf(const std::string& subject, const std::string& expected,
                                  const std::string& found);

// T5 (gguf_t5.cpp): what its keys say beyond those of all families, and the names of its tensors
// (`hf` is one of them). Writing throws Error (usage) for a model that the keys cannot say.
void read_gguf_t5(const GgufKeys& keys, ModelConfig& config);
void write_gguf_t5(const ModelConfig& config, GgufMetadata& metadata);
std::string gguf_t5_name(std::string_view hf);

// Rotary positions, into options of softmax attention, and back (gguf_rope.cpp). `context` is the
// model's.
AttentionOptions read_gguf_rope(const GgufKeys& keys, size_t head_dim, size_t context);
void write_gguf_rope(const ModelConfig& config, std::string_view family, GgufMetadata& metadata);
// The options of the model's attention, whose mechanism is softmax.
SoftmaxOptions gguf_softmax_options(const AttentionOptions& options, const ModelConfig& config);

}  // namespace cairn
