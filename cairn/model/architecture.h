// The registry of architectures: what Cairn must know to check, build, read and write one. Adding
// an architecture is a file below architectures/ and a line in architecture.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/io/json.h"
#include "cairn/model/config.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {

struct Architecture {
  std::string_view name;  // ModelConfig::architecture
  // The classes of config.json's "architectures" that this reads.
  std::span<const std::string_view> classes;
  // "model_type" where "architectures" is missing.
  std::string_view model_type;

  // The trainable tensors in stored order; `extras` are the attention mechanism's parameters of one
  // layer, named within the attention block.
  std::vector<ParameterSpec> (*parameters)(const ModelConfig& config,
                                           std::span<const ParameterSpec> extras, double init_std);
  // From and to config.json. Reading throws Error (data) naming what is missing, wrong or not
  // supported.
  ModelConfig (*read)(const JsonField& config);
  Json (*write)(const ModelConfig& config, DType dtype);
  // The tensors that files hold as rows of several parameters, without shapes; null where there are
  // none.
  std::vector<StoredRows> (*fused)(const ModelConfig& config) = nullptr;
  // What tensors are called; null where it is as in Llama.
  OuterNames (*outer_names)(const ModelConfig& config) = nullptr;
  LayerNames (*layer_names)(const ModelConfig& config, size_t layer, Stack stack) = nullptr;
  bool reads_a_source = false;  // encoder-decoders
};

// Every tensor of a file in stored order, with its shape: a parameter each, or the fused ones in
// the place of their first part.
std::vector<StoredRows> stored_tensors(const ModelConfig& config);

// The names of all, in the order of the registry.
std::vector<std::string> architecture_names();
// By ModelConfig::architecture; Error (usage) with the known names when there is none.
const Architecture& find_architecture(std::string_view name);

// config.json as a ModelConfig, checked: of a multimodal model, which nests it as "text_config",
// the language model. Throws Error (data) naming the field.
ModelConfig read_model_config(const JsonField& config);

// A ModelConfig as config.json. Reading it back gives an equal (normalized) ModelConfig. `dtype` is
// the type of the weights beside it.
Json write_model_config(const ModelConfig& config, DType dtype);

// generation_config.json: the ids at which generation starts, stops and pads.
Json write_generation_config(const ModelConfig& config);

extern const Architecture kCairnArchitecture;
extern const Architecture kGemma3Architecture;
extern const Architecture kGraniteArchitecture;
extern const Architecture kGraniteMoeArchitecture;
extern const Architecture kGraniteMoeSharedArchitecture;
extern const Architecture kLlamaArchitecture;
extern const Architecture kMistralArchitecture;
extern const Architecture kPhi3Architecture;
extern const Architecture kQwen2Architecture;
extern const Architecture kQwen3Architecture;
extern const Architecture kT5Architecture;

}  // namespace cairn
