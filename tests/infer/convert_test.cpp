#include "cairn/infer/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "cairn/infer/engine.h"
#include "cairn/model/folder.h"
#include "cairn/model/gguf.h"
#include "cairn/model/model.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

constexpr std::string_view kText = "the theme of the other then there: 1 2 3";

// A folder with a small model, whose matrices are rows of 256 or of 64, and its tokenizer.
class Convert : public testing::Test {
 protected:
  void make_folder(DType dtype, bool tied) {
    ModelConfig config;
    config.vocab_size = 270;
    config.hidden_size = 64;
    config.intermediate_size = 256;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 16;
    config.context_length = 64;
    config.tie_embeddings = tied;
    config.eos_ids = {7};
    save_model(random_model(config), hf(), dtype);
    BpeTrainingOptions training;
    training.vocab_size = 270;
    save_tokenizer(train_bpe(std::span(&kText, 1), training, team_), hf());
  }
  Manifest to_gguf(const Path& from, const char* name, const char* type = nullptr,
                   int threads = 1) {
    ThreadTeam team(threads, true);
    return write_gguf_model(open_as_gguf(from), folder_ / name,
                            type == nullptr ? nullptr : &find_file_type(type), {}, team);
  }
  // The configuration without token ids, to which GGUF adds those that the tokenizer names.
  static ModelConfig shape_of(const Path& path) {
    ModelConfig config = load_model(path).config();
    EXPECT_EQ(config.eos_ids.at(0), 7);
    config.bos_ids.clear();
    config.eos_ids.clear();
    config.pad_id.reset();
    return config;
  }
  Path hf() const { return folder_ / "hf"; }

  TempFolder folder_;
  ThreadTeam team_{1};
};

TEST_F(Convert, FolderToGgufToFolderKeepsEveryBit) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const bool tied : {true, false}) {
      make_folder(dtype, tied);
      to_gguf(hf(), "m.gguf");
      write_hf_model(folder_ / "m.gguf", folder_ / "back", {});
      const TensorArchive before(hf()), after(folder_ / "back");
      ASSERT_EQ(before.tensors().size(), after.tensors().size());
      for (const auto& [name, tensor] : before.tensors()) {
        EXPECT_EQ(after.find(name).dtype, tensor.dtype) << name;
        EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(),
                               after.find(name).bytes.begin(), after.find(name).bytes.end()))
            << name;
      }
      EXPECT_EQ(shape_of(folder_ / "back"), shape_of(hf()));
      EXPECT_EQ(load_tokenizer(folder_ / "back").encode(kText), load_tokenizer(hf()).encode(kText));
    }
}

TEST_F(Convert, GgufToFolderToGgufKeepsEveryBit) {
  make_folder(DType::bf16, false);
  const Manifest before = to_gguf(hf(), "m.gguf");
  write_hf_model(folder_ / "m.gguf", folder_ / "back", {});
  const Manifest after = to_gguf(folder_ / "back", "n.gguf");
  ASSERT_EQ(before.tensors.size(), after.tensors.size());
  for (size_t i = 0; i < before.tensors.size(); ++i) {
    EXPECT_EQ(before.tensors[i].name, after.tensors[i].name);
    EXPECT_EQ(before.tensors[i].type, after.tensors[i].type) << before.tensors[i].name;
    EXPECT_EQ(before.tensors[i].hash, after.tensors[i].hash) << before.tensors[i].name;
  }
  EXPECT_EQ(before.tensors[1].type, "f32") << "vectors are f32 in GGUF";
}

TEST_F(Convert, AConversionIsVerifiedByTheWayBack) {
  make_folder(DType::bf16, false);
  to_gguf(hf(), "m.gguf");
  const RoundTrip folders = verify_conversion(hf(), folder_ / "m.gguf", folder_ / "s", team_);
  EXPECT_EQ(folders.same, load_model(hf()).parameters().size());
  EXPECT_TRUE(folders.different.empty());
  write_hf_model(folder_ / "m.gguf", folder_ / "back", {});
  const RoundTrip files =
      verify_conversion(folder_ / "m.gguf", folder_ / "back", folder_ / "s", team_);
  EXPECT_EQ(files.same, folders.same);
  EXPECT_EQ(files.decoded, 0U);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));

  // A damaged bit is found, and only the float tensors of a quantised file can be the same.
  std::string bytes = read_file(folder_ / "m.gguf");
  bytes.back() ^= 1;
  bytes[bytes.size() - 40] ^= 1;
  write_file_atomically(folder_ / "damaged.gguf", bytes);
  const RoundTrip damaged = verify_conversion(hf(), folder_ / "damaged.gguf", folder_ / "s", team_);
  EXPECT_EQ(damaged.different.size(), 1U);
  to_gguf(hf(), "q.gguf", "q8_0");
  write_hf_model(folder_ / "q.gguf", folder_ / "wide", {});
  const RoundTrip quantised =
      verify_conversion(folder_ / "q.gguf", folder_ / "wide", folder_ / "s", team_);
  EXPECT_EQ(quantised.same, 2 * 2 + 1U) << "the norms";
  EXPECT_EQ(quantised.decoded + quantised.same, folders.same);
  EXPECT_THAT(message_of([&] { verify_conversion(hf(), folder_ / "m.gguf", hf(), team_); },
                         ErrorKind::usage),
              HasSubstr("no such file"));
}

TEST_F(Convert, GgufModelsGiveTheFoldersWeights) {
  make_folder(DType::f32, true);
  to_gguf(hf(), "m.gguf");
  EXPECT_EQ(load_model(folder_ / "m.gguf").weights_hash(), load_model(hf()).weights_hash());
  EXPECT_EQ(shape_of(folder_ / "m.gguf"), shape_of(hf()));
}

TEST_F(Convert, QuantisingIsTheSameForAnyThreadsAndFromAnyFile) {
  make_folder(DType::f32, false);
  to_gguf(hf(), "plain.gguf");
  to_gguf(hf(), "one.gguf", "q4_k_m");
  to_gguf(hf(), "three.gguf", "q4_k_m", 3);
  to_gguf(folder_ / "plain.gguf", "again.gguf", "q4_k_m");
  const std::string one = read_file(folder_ / "one.gguf");
  EXPECT_EQ(read_file(folder_ / "three.gguf"), one);
  EXPECT_EQ(read_file(folder_ / "again.gguf"), one);
  const GgufArchive archive(folder_ / "one.gguf");
  EXPECT_EQ(archive.at("general.file_type").as_integer(), 15);
  EXPECT_EQ(archive.at("general.quantization_version").as_integer(), 2);
  EXPECT_EQ(archive.tensor("blk.0.ffn_up.weight").type, BlockType::q5_0);    // rows of 64
  EXPECT_EQ(archive.tensor("blk.1.ffn_down.weight").type, BlockType::q6_k);  // rows of 256
  EXPECT_EQ(archive.tensor("blk.0.attn_norm.weight").type, BlockType::f32);
  EXPECT_EQ(archive.tensor("output.weight").type, BlockType::q8_0);
}

TEST_F(Convert, EveryTypeStaysNearTheWeights) {
  make_folder(DType::f32, true);
  const Model expected = load_model(hf());
  for (const FileType& type : file_types()) {
    to_gguf(hf(), "m.gguf", type.name.data());
    const Model found = load_model(folder_ / "m.gguf");
    double off = 0, all = 0;
    for (size_t i = 0; i < expected.weights().size(); ++i) {
      const double w = static_cast<double>(expected.weights()[i]);
      off += std::pow(static_cast<double>(found.weights()[i]) - w, 2);
      all += w * w;
    }
    // Noise of b bits a weight is some 2^-b of the weights; two bits of them are the coarsest.
    EXPECT_LT(std::sqrt(off / all), type.name == "f32" ? 1e-12 : 0.25) << type.name;
  }
}

TEST_F(Convert, UnknownMetadataStaysInItsOrder) {
  make_folder(DType::f32, true);
  TensorContent content = open_as_gguf(hf());
  content.metadata.set_string("author.note", "kept");
  write_gguf_model(content, folder_ / "m.gguf", nullptr, {}, team_);
  to_gguf(folder_ / "m.gguf", "n.gguf", "q8_0");
  const GgufArchive before(folder_ / "m.gguf"), after(folder_ / "n.gguf");
  for (size_t i = 0; i < before.metadata().metadata_count(); ++i)
    EXPECT_EQ(after.metadata().metadata(i).key(), before.metadata().metadata(i).key());
  EXPECT_EQ(after.at("author.note").as_string(), "kept");
}

TEST_F(Convert, AnImportanceMatrixIsReadAndMustFit) {
  make_folder(DType::f32, true);
  const auto write_matrix = [&](size_t cols) {
    GgufMetadata metadata;
    metadata.set_string("general.type", "imatrix");
    const std::array<GgufEntry, 2> entries = {
        GgufEntry{"blk.0.ffn_up.weight.in_sum2", BlockType::f32, {1, cols}},
        GgufEntry{"blk.0.ffn_up.weight.counts", BlockType::f32, {1, 1}}};
    std::vector<float> sums(cols, 1.0F);
    sums[3] = 4000;
    const float count = 2;
    write_gguf(folder_ / "i.gguf", metadata, entries, [&](size_t index, ByteSink sink) {
      index == 0 ? sink(sums.data(), 4 * cols) : sink(&count, 4);
    });
    return means_of(read_importance_sums(folder_ / "i.gguf"));
  };
  const ImportanceMatrix matrix = write_matrix(64);
  EXPECT_EQ(matrix.at("blk.0.ffn_up.weight")[3], 2000.0F);
  EXPECT_EQ(matrix.at("blk.0.ffn_up.weight")[4], 0.5F);
  const auto column_error = [&](const ImportanceMatrix& importance) {
    write_gguf_model(open_as_gguf(hf()), folder_ / "m.gguf", &find_file_type("q4_0"), importance,
                     team_);
    Model expected = load_model(hf()), found = load_model(folder_ / "m.gguf");
    const char* name = "model.layers.0.mlp.up_proj.weight";
    double sum = 0;
    for (size_t row = 0; row < 256; ++row)
      sum += std::pow(found.matrix(name)[row][3] - expected.matrix(name)[row][3], 2);
    return sum;
  };
  EXPECT_LT(column_error(matrix), 0.5 * column_error({}));
  EXPECT_THAT(message_of([&] { column_error(write_matrix(32)); }), HasSubstr("64 columns"));
  EXPECT_THAT(message_of([&] { read_importance_sums(folder_ / "m.gguf"); }), HasSubstr("imatrix"));
}

TEST_F(Convert, EachExpertIsWeighedByItsOwnImportance) {
  ModelConfig config = load_model(golden_folder() / "models" / "granitemoe").config();
  config.hidden_size = 32;
  config.head_dim = 8;
  config.experts = 3;
  save_model(random_model(config), hf());
  constexpr const char* kName = "blk.1.ffn_up_exps.weight";
  ImportanceMatrix plain{{kName, std::vector<float>(3 * 32, 1.0F)}}, weighed = plain;
  weighed[kName][32 + 3] = 4000;  // column 3 of the second expert
  const auto write = [&](const ImportanceMatrix& importance) {
    write_gguf_model(open_as_gguf(hf()), folder_ / "m.gguf", &find_file_type("q4_0"), importance,
                     team_);
    const GgufArchive archive(folder_ / "m.gguf");
    const auto bytes = archive.tensor(kName).bytes;
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  const auto before = write(plain), after = write(weighed);
  const size_t expert = before.size() / 3;
  for (size_t e = 0; e < 3; ++e)
    EXPECT_EQ(std::equal(before.begin() + e * expert, before.begin() + (e + 1) * expert,
                         after.begin() + e * expert),
              e != 1)
        << e;
}

TEST_F(Convert, ADiskThatFillsLeavesNoFile) {
  make_folder(DType::f32, true);
  const TensorContent content = open_as_gguf(hf());
  const FaultyFiles faults(20);
  EXPECT_THROW(write_gguf_model(content, folder_ / "m.gguf", nullptr, {}, team_), Error);
  EXPECT_EQ(folder_.files(), 0U);
}

// What Hugging Face transformers says of each family (tests/golden/make_model_golden.py) must come
// out of the GGUF file too, and of the folder made from that.
class ConvertFamily : public testing::TestWithParam<const char*> {
 protected:
  static void expect_golden_logits(const Path& model) {
    const TensorArchive archive(golden_folder() / "models" / GetParam() / "expected.safetensors");
    const auto stored = [&](const char* name) { return archive.find(name).bytes; };
    std::vector<int32_t> tokens(stored("tokens").size() / 4);
    std::memcpy(tokens.data(), stored("tokens").data(), 4 * tokens.size());
    ThreadTeam team(1);
    Engine engine(open_decoder_weights(model), team,
                  {.cache = BlockType::f32, .context = tokens.size()});
    const size_t vocab = engine.config().vocab_size;
    std::vector<float> logits(tokens.size() * vocab), expected(logits.size());
    std::memcpy(expected.data(), stored("logits").data(), 4 * expected.size());
    std::optional<Session> session;
    if (engine.config().has_encoder()) {
      std::vector<int32_t> source(stored("source").size() / 4);
      std::memcpy(source.data(), stored("source").data(), 4 * source.size());
      session = engine.start(source);
    } else {
      session = engine.start();
    }
    session->append(tokens, {logits.data(), tokens.size(), vocab});
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-4) << i;
  }
};

TEST_P(ConvertFamily, KeepsItsLogitsToGgufAndBack) {
  const TempFolder folder;
  ThreadTeam team(1);
  const Path from = golden_folder() / "models" / GetParam();
  write_gguf_model(open_as_gguf(from), folder / "m.gguf", nullptr, {}, team);
  write_hf_model(folder / "m.gguf", folder / "back", {});
  for (const char* copy : {"m.gguf", "back"}) {
    expect_golden_logits(folder / copy);
    Model expected = load_model(from), found = load_model(folder / copy);
    EXPECT_EQ(found.config().architecture, expected.config().architecture);
    for (const Parameter& parameter : expected.parameters()) {
      const View1<float> a = expected.values(parameter), b = found.values(parameter);
      for (size_t i = 0; i < a.size; ++i) ASSERT_NEAR(a[i], b[i], 2e-7) << parameter.spec.name;
    }
  }
  const ModelFolder folder_before = open_model_folder(from);
  const TensorArchive& before = folder_before.archive;
  const TensorArchive after(folder / "back");
  for (const auto& [name, tensor] : before.tensors()) {
    if (name.find("norm") != std::string::npos) continue;  // Gemma's are rounded where 1 is added
    EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), after.find(name).bytes.begin(),
                           after.find(name).bytes.end()))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ConvertFamily,
                         testing::Values("llama", "llama-untied", "llama-biases", "llama-linear",
                                         "llama-yarn", "mistral", "granite", "granitemoe",
                                         "granitemoeshared", "qwen2", "qwen3", "phi3",
                                         "phi3-longrope", "gemma3", "gemma3-multimodal", "t5",
                                         "t5-gated"));

}  // namespace
}  // namespace cairn
