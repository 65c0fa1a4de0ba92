// Models as Hugging Face folders.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/model.h"
#include "tests/model/tiny.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

Model random_model(const ModelConfig& config = tiny_config()) {
  Model model(config);
  model.initialize(5);
  return model;
}

std::string load_message(const Path& folder) {
  return message_of([&] { load_model(folder); });
}

// A saved model whose config.json and tensors a test can change.
class SavedModel : public testing::Test {
 protected:
  void SetUp() override { save_model(model_, folder_.path()); }

  void change_config(const std::string& key, const Json& value) {
    Json config = read_json(folder_ / "config.json");
    config[key] = value;
    write_file_atomically(folder_ / "config.json", write_json(config));
  }

  // Writes the tensors again, in `dtype`, as `change` leaves their list; values repeat `fill`.
  template <class Change>
  void change_tensors(Change change, DType dtype = DType::f32) {
    std::vector<TensorEntry> entries;
    for (const Parameter& parameter : model_.parameters())
      entries.push_back({parameter.spec.name, dtype, parameter.spec.shape});
    change(entries);
    write_tensor_archive(folder_.path(), "model", entries, [&](size_t index, ByteSink sink) {
      const std::string bytes = bytes_of(entries[index]);
      sink(bytes.data(), bytes.size());
    });
  }

  // The model's own values where it has the tensor as f32, zeros elsewhere.
  std::string bytes_of(const TensorEntry& entry) {
    std::string bytes(element_count(entry.shape) * dtype_size(entry.dtype), '\0');
    for (const Parameter& parameter : model_.parameters())
      if (parameter.spec.name == entry.name && entry.dtype == DType::f32 &&
          parameter.size * sizeof(float) == bytes.size())
        std::memcpy(bytes.data(), model_.values(parameter).data, bytes.size());
    return bytes;
  }

  TempFolder folder_;
  Model model_ = random_model();
};

TEST_F(SavedModel, IsTheSameWhenItIsLoaded) {
  const Model loaded = load_model(folder_.path());
  EXPECT_EQ(loaded.config(), model_.config());
  EXPECT_EQ(loaded.weights_hash(), model_.weights_hash());
  EXPECT_EQ(folder_.files(), 3U);
}

TEST_F(SavedModel, IsAPlainLlamaFolder) {
  const Json config = read_json(folder_ / "config.json");
  EXPECT_EQ(config["architectures"], Json::array({"LlamaForCausalLM"}));
  EXPECT_EQ(config["model_type"], "llama");
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["dtype"], "float32");
  EXPECT_EQ(config["rope_theta"], 10000.0);
  EXPECT_EQ(config["head_dim"], 4);
  EXPECT_EQ(config["eos_token_id"], 2);
  EXPECT_TRUE(config["pad_token_id"].is_null());
  EXPECT_FALSE(config.contains("attention"));
  const Json generation = read_json(folder_ / "generation_config.json");
  EXPECT_EQ(generation["bos_token_id"], 1);
  EXPECT_EQ(generation["eos_token_id"], 2);
  EXPECT_FALSE(generation.contains("pad_token_id"));
}

// Puts a saved model into a folder as the language model of one that sees, whose tensors' names
// begin with `prefix`; `more` are others.
void nest(const Path& folder, const std::string& prefix, const std::vector<TensorEntry>& more) {
  const Json text = read_json(folder / "config.json");
  write_file_atomically(folder / "config.json",
                        write_json({{"architectures", {"SeeingForConditionalGeneration"}},
                                    {"model_type", "seeing"},
                                    {"eos_token_id", {3, 4}},
                                    {"text_config", text}}));
  std::vector<TensorEntry> entries;
  std::vector<std::string> bytes;
  {
    const TensorArchive archive(folder);
    for (const auto& [name, tensor] : archive.tensors()) {
      entries.push_back(
          {prefix + name.substr(std::string("model.").size()), *tensor.type, tensor.shape});
      bytes.emplace_back(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    }
  }
  for (const TensorEntry& entry : more) {
    entries.push_back(entry);
    bytes.emplace_back(element_count(entry.shape) * dtype_size(entry.dtype), '\0');
  }
  write_tensor_archive(folder, "model", entries, [&](size_t index, ByteSink sink) {
    sink(bytes[index].data(), bytes[index].size());
  });
}

TEST(ModelFiles, OfMultimodalModelsAreTheTextPart) {
  const Model model = random_model();
  for (const char* prefix :
       {"language_model.model.", "model.language_model.", "model.text_model."}) {
    const TempFolder folder;
    save_model(model, folder.path());
    nest(folder.path(), prefix,
         {{"vision_tower.patch.weight", DType::i8, {3, 3}}, {"model.connector.weight", {}, {2}}});
    const Model loaded = load_model(folder.path());
    EXPECT_EQ(loaded.weights_hash(), model.weights_hash()) << prefix;
    EXPECT_EQ(loaded.config().eos_ids, (std::vector<int32_t>{3, 4}));
  }
}

TEST(ModelFiles, OfMultimodalModelsMayNotHoldWhatTheTextPartDoesNotSay) {
  const TempFolder folder;
  save_model(random_model(), folder.path());
  nest(folder.path(), "model.language_model.",
       {{"model.language_model.layers.0.cross_attn.weight", DType::f32, {2}}});
  EXPECT_THAT(load_message(folder.path()), HasSubstr("layers.0.cross_attn.weight"));
}

TEST(ModelFiles, KeepUntiedHeadsListsOfIdsAndPadding) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  config.eos_ids = {2, 7};
  config.bos_ids = {};
  config.pad_id = 0;
  config.rms_norm_eps = 1e-6;
  config.attention.values["rope_theta"] = 123456.789;
  const TempFolder folder;
  const Model model = random_model(config);
  save_model(model, folder.path());
  const Model loaded = load_model(folder.path());
  EXPECT_EQ(loaded.config(), config);
  EXPECT_EQ(loaded.weights_hash(), model.weights_hash());
}

TEST(ModelFiles, KeepAttentionThatLlamaCannotSay) {
  ModelConfig config = tiny_config();
  config.attention.values = {{"position", std::string("none")}};
  const TempFolder folder;
  save_model(random_model(config), folder.path());
  EXPECT_EQ(read_json(folder / "config.json")["architectures"][0], "CairnForCausalLM");
  EXPECT_EQ(load_model(folder.path()).config(), config);
}

TEST(ModelFiles, RoundToTheNearestBfloat16) {
  const TempFolder folder;
  const Model model = random_model();
  save_model(model, folder.path(), DType::bf16);
  const Model loaded = load_model(folder.path());
  EXPECT_EQ(read_json(folder / "config.json")["torch_dtype"], "bfloat16");
  for (const Parameter& parameter : model.parameters())
    for (size_t i = 0; i < parameter.size; ++i)
      EXPECT_EQ(loaded.values(parameter)[i],
                bf16::from_float(model.values(parameter)[i]).to_float());
}

TEST(ModelFiles, RefuseOtherTypesForSaving) {
  const TempFolder folder;
  EXPECT_THAT(
      message_of([&] { save_model(random_model(), folder.path(), DType::f16); }, ErrorKind::usage),
      HasSubstr("f32 or bf16"));
}

TEST(ModelFiles, ReadEveryHalf) {
  ModelConfig config = tiny_config();
  config.vocab_size = 256;
  config.hidden_size = 256;
  const TempFolder folder;
  const Model model = random_model(config);
  save_model(model, folder.path());
  std::vector<TensorEntry> entries;
  for (const Parameter& parameter : model.parameters())
    entries.push_back({parameter.spec.name, DType::f16, parameter.spec.shape});
  write_tensor_archive(folder.path(), "model", entries, [&](size_t index, ByteSink sink) {
    std::vector<uint16_t> halves(model.parameters()[index].size);
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
    sink(halves.data(), 2 * halves.size());
  });
  const Model loaded = load_model(folder.path());
  const View1<const float> values = loaded.values(loaded.find("model.embed_tokens.weight"));
  ASSERT_EQ(values.size, 65536U);
  for (size_t i = 0; i < values.size; ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31U);
    const auto fraction = static_cast<double>(i & 1023U);
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    const double expected = i < 32768 ? magnitude : -magnitude;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(values[i]), fraction != 0) << i;
      EXPECT_EQ(std::isinf(values[i]), fraction == 0) << i;
    } else {
      EXPECT_EQ(values[i], expected) << i;
    }
    EXPECT_EQ(std::signbit(values[i]), i >= 32768) << i;
  }
}

TEST_F(SavedModel, LoadsFromShards) {
  std::vector<TensorEntry> entries;
  for (const Parameter& parameter : model_.parameters())
    entries.push_back({parameter.spec.name, DType::f32, parameter.spec.shape});
  const auto files = write_tensor_archive(
      folder_.path(), "model", entries,
      [&](size_t index, ByteSink sink) {
        const View1<float> values = model_.values(model_.parameters()[index]);
        sink(values.data, values.size * sizeof(float));
      },
      1000);
  EXPECT_GT(files.size(), 3U);
  EXPECT_EQ(load_model(folder_.path()).weights_hash(), model_.weights_hash());
  std::filesystem::remove(folder_ / files[1]);
  EXPECT_THAT(load_message(folder_.path()), HasSubstr(files[1]));
}

TEST_F(SavedModel, AcceptsATiedHeadThatIsStoredTooButNotAnother) {
  change_tensors([](auto& entries) {
    entries.push_back({"lm_head.weight", DType::f32, entries[0].shape});
  });  // zeros
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("tie_word_embeddings"));
  for (float& value : model_.weights()) value = 0;
  change_tensors([](auto& entries) {
    entries.push_back({"lm_head.weight", DType::f32, entries[0].shape});
  });
  EXPECT_TRUE(load_model(folder_.path()).config().tie_embeddings);
}

TEST_F(SavedModel, TakesAMissingHeadForATiedOne) {
  change_config("tie_word_embeddings", false);
  EXPECT_TRUE(load_model(folder_.path()).config().tie_embeddings);
}

TEST_F(SavedModel, NamesAMissingTensor) {
  change_tensors([](auto& entries) { entries.erase(entries.begin() + 3); });
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("model.layers.0.self_attn.k_proj.weight"));
}

TEST_F(SavedModel, NamesATensorOfTheWrongShapeWithBothShapes) {
  change_tensors([](auto& entries) { entries[3].shape = {16, 12}; });
  const std::string message = load_message(folder_.path());
  EXPECT_THAT(message, HasSubstr("model.layers.0.self_attn.k_proj.weight"));
  EXPECT_THAT(message, HasSubstr("expected [8, 12] (by config.json), found [16, 12]"));
}

TEST_F(SavedModel, RefusesATensorThatItWouldIgnore) {
  change_tensors([](auto& entries) {
    entries.push_back({"model.layers.0.self_attn.q_proj.bias", DType::f32, {16}});
  });
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("model.layers.0.self_attn.q_proj.bias"));
}

TEST_F(SavedModel, IgnoresTablesThatFollowFromTheConfiguration) {
  change_tensors([](auto& entries) {
    entries.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {2}});
  });
  EXPECT_EQ(load_model(folder_.path()).weights_hash(), model_.weights_hash());
}

TEST_F(SavedModel, RefusesTypesThatAreNoWeights) {
  change_tensors([](auto&) {}, DType::i32);
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("expected F32, F16 or BF16, found I32"));
}

TEST_F(SavedModel, TakesNoMemoryForAConfigThatLiesAboutItsSize) {
  change_config("vocab_size", 60'000'000);
  change_config("hidden_size", 1'000'000);
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("found [11, 12]"));
}

TEST_F(SavedModel, NamesAMissingFile) {
  std::filesystem::remove(folder_ / "model.safetensors");
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("model.safetensors"));
  std::filesystem::remove(folder_ / "config.json");
  EXPECT_THAT(load_message(folder_.path()), HasSubstr("config.json"));
}

TEST_F(SavedModel, StaysWholeWhereverSavingFails) {
  Model next(tiny_config());
  next.initialize(6);
  size_t operations = 0;
  {
    const TempFolder other;
    const FaultyFiles none;
    save_model(next, other.path());
    operations = none.seen();
  }
  for (size_t fail_at = 0; fail_at < operations; ++fail_at) {
    {
      const FaultyFiles faults(fail_at);
      EXPECT_THAT(message_of([&] { save_model(next, folder_.path()); }, ErrorKind::failed),
                  HasSubstr("No space left"));
    }
    const uint64_t hash = load_model(folder_.path()).weights_hash();
    EXPECT_TRUE(hash == model_.weights_hash() || hash == next.weights_hash()) << fail_at;
  }
  save_model(next, folder_.path());
  EXPECT_EQ(load_model(folder_.path()).weights_hash(), next.weights_hash());
}

}  // namespace
}  // namespace cairn
