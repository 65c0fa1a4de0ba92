#include "cairn/infer/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <limits>

#include "cairn/base/error.h"
#include "cairn/io/safetensors.h"
#include "cairn/kernels/blocks.h"
#include "cairn/kernels/tiles.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"
#include "tests/infer/reference_decoder.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

// Seven experts and a shared one of another width.
ModelConfig mixture_config() {
  ModelConfig config = small_config();
  config.architecture = "granitemoeshared";
  config.experts = 7;
  config.experts_per_token = 3;
  config.intermediate_size = 40;
  config.shared_intermediate_size = 56;
  return config;
}

constexpr EngineOptions kExact = {.cache = BlockType::f32};  // nothing is rounded below f32

std::vector<float> copy(View1<const float> values) {
  return {values.begin(), values.end()};
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

template <class T>
std::vector<T> stored(const TensorArchive& archive, const char* name) {
  const StoredTensor& tensor = archive.find(name);
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

class EngineGolden : public testing::TestWithParam<const char*> {};

// Expected logits by Hugging Face transformers: tests/golden/make_model_golden.py.
TEST_P(EngineGolden, LogitsAreThoseOfTransformers) {
  const Path folder = golden_folder() / "models" / GetParam();
  const TensorArchive archive(folder / "expected.safetensors");
  const auto tokens = stored<int32_t>(archive, "tokens");
  const auto expected = stored<float>(archive, "logits");
  ThreadTeam team(2, true);
  Engine engine(load_model(folder), team, {.cache = BlockType::f32, .context = tokens.size()});
  EXPECT_LE(largest_difference(all_logits(engine, tokens), expected), 1e-4);
  Session session = engine.start();
  const size_t vocab = engine.config().vocab_size;
  for (size_t t = 0; t < tokens.size(); ++t)
    EXPECT_LE(largest_difference(copy(session.append(tokens[t])),
                                 std::span(expected).subspan(t * vocab, vocab)),
              1e-4)
        << "token " << t;
}

INSTANTIATE_TEST_SUITE_P(Families, EngineGolden,
                         testing::Values("llama", "llama-untied", "llama-biases", "llama-linear",
                                         "llama-yarn", "llama-dynamic", "mistral", "granite",
                                         "granitemoe", "granitemoeshared", "qwen2", "qwen3", "phi3",
                                         "phi3-longrope", "gemma3", "gemma3-multimodal"));

// The losses of nn's forward pass, one target at a time, against the engine's logits.
TEST(Engine, AgreesWithTheTrainingForward) {
  for (const bool tied : {true, false}) {
    ModelConfig config = tied ? small_config() : mixture_config();
    config.tie_embeddings = tied;
    Model model = random_model(config);
    ThreadTeam team(2, true);
    Engine engine(model, team, kExact);
    const auto tokens = random_tokens(40, config.vocab_size);
    const auto logits = all_logits(engine, tokens);
    LanguageModel trainer(model, {.sequences = 1, .length = tokens.size()}, team);
    Batch batch{.sequences = 1, .length = tokens.size(), .tokens = tokens};
    batch.offsets = {0, static_cast<int32_t>(tokens.size())};
    for (size_t i = 0; i < tokens.size(); ++i) batch.positions.push_back(static_cast<int32_t>(i));
    for (const size_t place : {size_t{0}, size_t{1}, size_t{17}, tokens.size() - 1})
      for (const int32_t target : {0, 3, 159}) {
        batch.targets.assign(tokens.size(), kIgnoredTarget);
        batch.targets[place] = target;
        const float* row = logits.data() + place * config.vocab_size;
        double sum = 0;
        for (size_t i = 0; i < config.vocab_size; ++i) sum += std::exp(static_cast<double>(row[i]));
        EXPECT_NEAR(trainer.forward(batch).loss, std::log(sum) - row[target], 1e-4)
            << (tied ? "tied" : "untied") << ", token " << place << ", target " << target;
      }
  }
}

// What each mechanism is held to: the whole text at once in float64, the room's own definition.
TEST(Engine, EveryMechanismAgreesWithItsDefinition) {
  for (const AttentionOptions& attention : every_mechanism()) {
    const Model model = random_model_around(attention, small_config());
    const auto tokens = random_tokens(90, model.config().vocab_size);
    const std::vector<double> expected = reference_logits(model, tokens);
    ThreadTeam team(2, true);
    Engine engine(model, team, kExact);
    const auto found = all_logits(engine, tokens);
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i)
      worst = std::max(worst, std::abs(found[i] - expected[i]));
    EXPECT_LE(worst, 2e-4) << attention.mechanism << " "
                           << (attention.values.empty() ? "" : attention.values.begin()->first);
  }
}

// A model's matrices as blocks of a type, and the model of what those blocks decode to.
struct Quantized {
  Quantized(const Model& model, BlockType type)
      : rounded(rebuild_model(model.config(), model)), weights(decoder_weights(rounded)) {
    const auto encode = [&](StoredMatrix& matrix) {
      const View2<const float> rows(reinterpret_cast<const float*>(matrix.data), matrix.rows,
                                    matrix.cols);
      const size_t bytes = block_row_bytes(type, matrix.cols);
      std::vector<std::byte>& blocks = kept.emplace_back(matrix.rows * bytes);
      for (size_t r = 0; r < matrix.rows; ++r) {
        const auto row = std::span(blocks).subspan(r * bytes, bytes);
        encode_blocks(type, rows[r], row);
        decode_blocks(type, row, {const_cast<float*>(rows[r].data), matrix.cols});
      }
      matrix.type = type;
      matrix.data = blocks.data();
    };
    encode(weights.embedding);
    weights.head = weights.embedding;
    for (DecoderLayerWeights& layer : weights.layers) {
      for (StoredMatrix* matrix :
           {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
        encode(*matrix);
      for (ExpertWeights& expert : layer.experts)
        for (StoredMatrix* matrix : {&expert.gate, &expert.up, &expert.down}) encode(*matrix);
    }
  }

  Model rounded;
  DecoderWeights weights;
  std::deque<std::vector<std::byte>> kept;
};

ModelConfig wide_config(size_t width) {
  ModelConfig config = small_config();
  config.hidden_size = width;
  config.intermediate_size = width;
  config.heads = width / 16;
  config.kv_heads = width / 32;
  config.layers = 2;
  return config;
}

// The relative error of logits against float64 with the same rounding.
double error_of(const Model& model, BlockType type, const ActivationRounding& rounding) {
  const auto tokens = random_tokens(12, model.config().vocab_size);
  const Quantized quantized(model, type);
  const auto expected = reference_logits(quantized.rounded, tokens, rounding);
  ThreadTeam team(2, true);
  Engine engine(quantized.weights, team, kExact);
  const auto found = all_logits(engine, tokens);
  double difference = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    difference += std::pow(found[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(difference / size);
}

// Rounding activations in the reference too leaves only those values that fall on another side of
// a half, a few in a thousand, and the sums of f32.
TEST(Engine, EveryTypeOfWeightsAgreesWithItsRoundedWeightsInFloat64) {
  struct Case {
    BlockType type;
    size_t width;
    ActivationRounding rounding;
    double tolerance;
  };
  std::vector<Case> cases = {{BlockType::f32, 64, {}, 1e-4},
                             {BlockType::f16, 64, {}, 1e-4},
                             {BlockType::bf16, 64, round_to_bf16, 0.02}};
  for (const BlockType type :
       {BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1, BlockType::q8_0})
    cases.push_back({type, 96, round_to_int8, 0.03});
  for (const BlockType type :
       {BlockType::q2_k, BlockType::q3_k, BlockType::q4_k, BlockType::q5_k, BlockType::q6_k})
    cases.push_back({type, 256, round_to_int8, 0.03});
  for (const Case& c : cases)
    EXPECT_LE(error_of(random_model(wide_config(c.width)), c.type, c.rounding), c.tolerance)
        << block_type_name(c.type);
}

TEST(Engine, QuantizedExpertsAgreeWithTheirRoundedWeightsInFloat64) {
  for (const size_t shared : {size_t{0}, size_t{96}}) {
    ModelConfig config = wide_config(96);
    config.architecture = shared > 0 ? "granitemoeshared" : "granitemoe";
    config.experts = 5;
    config.experts_per_token = 2;
    config.shared_intermediate_size = shared;
    for (const BlockType type : {BlockType::q4_0, BlockType::q8_0})
      EXPECT_LE(error_of(random_model(config), type, round_to_int8), 0.03)
          << block_type_name(type) << ", shared " << shared;
  }
}

TEST(Engine, AMixtureOfExpertsHasTheSameBitsForAnySplitAndThreads) {
  for (const size_t shared : {size_t{0}, size_t{56}}) {
    ModelConfig config = mixture_config();
    config.shared_intermediate_size = shared;
    if (shared == 0) config.architecture = "granitemoe";
    const Model model = random_model(config);
    const auto tokens = random_tokens(270, config.vocab_size);
    std::vector<float> expected;
    for (const int threads : {1, 2, 3, 4}) {
      ThreadTeam team(threads, true);
      Engine engine(model, team);
      for (const size_t step :
           {size_t{1}, size_t{3}, size_t{8}, size_t{9}, size_t{100}, size_t{270}}) {
        if (threads > 1 && step == 1) continue;  // slow where threads share a processor
        Session session = engine.start();
        std::vector<float> last;
        for (size_t t = 0; t < tokens.size(); t += step)
          last = copy(session.append(std::span(tokens).subspan(t, std::min(step, 270 - t))));
        if (expected.empty()) expected = last;
        EXPECT_EQ(last, expected) << threads << " threads, steps of " << step;
      }
    }
  }
}

TEST(Engine, ATokenReadsTheExpertsItChoosesAndNoOthers) {
  ModelConfig config = mixture_config();
  ThreadTeam team(2, true);
  const auto bytes = [&] { return Engine(random_model(config), team, kExact).bytes_per_token(); };
  const size_t few = bytes();
  config.experts_per_token = 4;
  // Three groups of 16 rows in each matrix.
  const size_t expert =
      3 * (2 * tile_group_bytes(TileKind::tf32, 48) + tile_group_bytes(TileKind::tf32, 40));
  EXPECT_EQ(bytes() - few, config.layers * expert);
}

TEST(Engine, AnySplitOfATextGivesTheSameBits) {
  for (const EngineOptions& how : {EngineOptions(), EngineOptions{.weights = BlockType::q8_0},
                                   EngineOptions{.cache = BlockType::q8_0}}) {
    ModelConfig config = wide_config(64);
    config.head_dim = 32;
    config.attention.values["window"] = int64_t{150};
    config.local_attention = {"softmax", {{"window", int64_t{70}}, {"rope_theta", 500.0}}};
    config.local_layers = {1, 0};
    const Model model = random_model(config);
    ThreadTeam team(2, true);
    Engine engine(model, team, how);
    const auto tokens = random_tokens(300, model.config().vocab_size);
    Session whole = engine.start();
    const auto expected = copy(whole.append(tokens));
    for (const std::vector<size_t>& cuts : std::vector<std::vector<size_t>>{
             {1}, {7}, {8}, {9, 17}, {31, 33}, {256}, {257, 258, 260}, {60, 68, 128}, {292, 299}}) {
      Session session = engine.start();
      size_t begin = 0;
      for (const size_t cut : cuts) {
        session.append(std::span(tokens).subspan(begin, cut - begin));
        begin = cut;
      }
      EXPECT_EQ(copy(session.append(std::span(tokens).subspan(begin))), expected)
          << "first cut " << cuts[0];
    }
    Session one_by_one = engine.start();
    std::vector<float> last;
    for (const int32_t token : tokens) last = copy(one_by_one.append(token));
    EXPECT_EQ(last, expected);
  }
}

// Long texts merge attention within spans of 512 positions first; short passes hand whole spans to
// threads once there are more.
TEST(Engine, ALongTextHasTheSameBitsForAnySplitAndThreads) {
  ModelConfig config = wide_config(64);
  config.context_length = 1300;
  config.attention.values["window"] = int64_t{1100};
  config.local_attention = {"softmax", {{"window", int64_t{600}}}};
  config.local_layers = {1, 0};
  const Model model = random_model(config);
  const auto tokens = random_tokens(1290, config.vocab_size);
  std::vector<float> expected;
  for (const int threads : {1, 2, 3})
    for (const size_t prompt : {size_t{0}, size_t{500}, size_t{1280}}) {
      if (threads > 1 && prompt == 0) continue;  // slow where threads share a processor
      ThreadTeam team(threads, true);
      Engine engine(model, team);
      Session session = engine.start();
      if (prompt > 0) session.append(std::span(tokens).first(prompt));
      std::vector<float> last;
      const size_t step = prompt == 500 ? 7 : 1;
      for (size_t t = prompt; t < tokens.size(); t += step)
        last = copy(session.append(std::span(tokens).subspan(t, std::min(step, 1290 - t))));
      if (expected.empty()) expected = last;
      EXPECT_EQ(last, expected) << threads << " threads, prompt of " << prompt;
    }
}

TEST(Engine, GivesTheSameBitsForAnyNumberOfThreads) {
  ModelConfig config = small_config();
  config.head_dim = 32;
  Model model = random_model(config);
  const auto tokens = random_tokens(150, model.config().vocab_size);
  for (const BlockType cache : {BlockType::f16, BlockType::q8_0}) {
    std::vector<float> expected;
    for (const int threads : {1, 2, 3, 4}) {
      ThreadTeam team(threads, true);
      Engine engine(model, team, {.cache = cache});
      auto logits = all_logits(engine, std::span(tokens).first(40));
      Session session = engine.start();
      session.append(std::span(tokens).first(140));
      for (size_t t = 140; t < tokens.size(); ++t) {
        const auto row = copy(session.append(tokens[t]));
        logits.insert(logits.end(), row.begin(), row.end());
      }
      if (expected.empty()) expected = logits;
      EXPECT_EQ(logits, expected) << threads << " threads, " << block_type_name(cache);
    }
  }
}

// Odd widths, one head or many, few rows: what a plan has to cut must come out whole.
TEST(Engine, AnyShapeAgreesWithFloat64) {
  const RandomStream stream(11, "shapes");
  for (uint64_t i = 0; i < 12; ++i) {
    const auto draw = [&](uint64_t which, size_t low, size_t high) {
      return low + stream.below(high - low + 1, i, which);
    };
    ModelConfig config = small_config();
    config.kv_heads = draw(0, 1, 3);
    config.heads = config.kv_heads * draw(1, 1, 4);
    config.head_dim = 2 * draw(2, 1, 20);
    config.hidden_size = draw(3, 1, 90);
    config.intermediate_size = draw(4, 1, 300);
    config.vocab_size = draw(5, 2, 100);
    config.layers = draw(6, 1, 3);
    config.tie_embeddings = draw(7, 0, 1) == 1;
    if (i % 3 == 0) {
      config.architecture = "granitemoeshared";
      config.experts = draw(10, 1, 9);
      config.experts_per_token = draw(11, 1, config.experts);
      config.shared_intermediate_size = draw(12, 1, 70);
    }
    const Model model = random_model(config, i);
    const auto tokens = random_tokens(draw(8, 1, 30), config.vocab_size);
    ThreadTeam team(static_cast<int>(draw(9, 1, 8)), true);
    Engine engine(model, team, kExact);
    const auto found = all_logits(engine, tokens);
    const std::vector<double> expected = reference_logits(model, tokens);
    double worst = 0, largest = 1;
    for (size_t j = 0; j < found.size(); ++j) {
      worst = std::max(worst, std::abs(found[j] - expected[j]));
      largest = std::max(largest, std::abs(expected[j]));
    }
    EXPECT_LE(worst, 1e-4 * largest) << "shape " << i;
  }
}

// One thread that walks the rows of all, in passes of a prompt and of single tokens, with and
// without experts.
TEST(Engine, OneThreadOverAllRowsLeavesTheBitsOfTheTeam) {
  ModelConfig experts = small_config();
  experts.architecture = "granitemoeshared";
  experts.experts = 5;
  experts.experts_per_token = 2;
  experts.shared_intermediate_size = 40;
  for (const ModelConfig& config : {small_config(), experts}) {
    const Model model = random_model(config);
    const auto tokens = random_tokens(50, config.vocab_size);
    ThreadTeam team(3, true);
    Engine together(model, team, {.walkers = Walkers::team});
    Engine alone(model, team, {.walkers = Walkers::one});
    Session a = together.start(), b = alone.start();
    EXPECT_EQ(copy(a.append(std::span(tokens).first(40))),
              copy(b.append(std::span(tokens).first(40))));
    for (size_t t = 40; t < tokens.size(); ++t)
      EXPECT_EQ(copy(a.append(tokens[t])), copy(b.append(tokens[t]))) << "token " << t;
    EXPECT_EQ(together.passes_alone(), 0U);
    EXPECT_EQ(alone.passes_alone(), 11U);
    EXPECT_EQ(alone.barriers(), 0U);
  }
}

TEST(Engine, ATokenMeetsFiveBarriersALayerAndTwo) {
  Model model = random_model(small_config());
  ThreadTeam team(2, true);
  Engine engine(model, team);
  Session session = engine.start();
  session.append(1);
  EXPECT_LE(engine.barriers(), 5 * model.config().layers + 2);
}

TEST(Engine, ARoundedCacheStaysCloseToF32) {
  ModelConfig config = small_config();
  config.head_dim = 32;
  Model model = random_model(config);
  ThreadTeam team(1);
  Engine exact(model, team, kExact);
  const auto tokens = random_tokens(70, model.config().vocab_size);
  const auto expected = all_logits(exact, tokens);
  for (const auto& [type, tolerance] :
       {std::pair(BlockType::f16, 0.1), {BlockType::bf16, 0.8}, {BlockType::q8_0, 0.8}}) {
    Engine rounded(model, team, {.cache = type});
    const double difference = largest_difference(all_logits(rounded, tokens), expected);
    EXPECT_GT(difference, 0);
    EXPECT_LE(difference, tolerance) << block_type_name(type);
  }
}

TEST(Engine, RefusesWeightsThatATypeCannotHold) {
  Model model = random_model(small_config());  // 48 wide
  ThreadTeam team(1);
  EXPECT_THROW(Engine(model, team, {.weights = BlockType::q4_0}), Error);
  EXPECT_THROW(Engine(model, team, {.weights = BlockType::iq4_nl}), Error);
}

TEST(Engine, RefusesACacheThatALayerCannotHaveByName) {
  ThreadTeam team(1);
  const auto refusal = [&](const ModelConfig& config, BlockType type) {
    try {
      Engine(random_model(config), team, {.cache = type});
    } catch (const Error& error) {
      return error.problem();
    }
    return Problem();
  };
  EXPECT_EQ(refusal(small_config(), BlockType::i8).found, "i8");
  const Problem narrow = refusal(small_config(), BlockType::q8_0);
  EXPECT_EQ(narrow.subject, "keys and values as q8_0");
  EXPECT_EQ(narrow.found, "16");
  ModelConfig other = small_config();
  other.head_dim = 32;
  EXPECT_EQ(refusal(other, BlockType::q8_0).doing, "");
  other.attention = {"stick_breaking", {}};
  EXPECT_EQ(refusal(other, BlockType::q8_0).found, "q8_0");
  EXPECT_EQ(refusal(other, BlockType::bf16).doing, "");
}

TEST(Engine, ANumberThatIsNotFiniteIsNamedAndTheEngineGoesOn) {
  ModelConfig config = small_config();
  config.tie_embeddings = false;
  Model model = random_model(config);
  const auto tokens = random_tokens(12, model.config().vocab_size);
  Model damaged = rebuild_model(model.config(), model);
  // One row of the embedding is far too large: the square of its sum overflows.
  for (float& value : damaged.matrix("model.embed_tokens.weight")[7]) value = 3e38F;
  ThreadTeam team(2, true);
  Engine engine(damaged, team, kExact);
  for (const size_t before : {3, 10}) {  // in a short pass and in a long one
    Session session = engine.start();
    std::vector<int32_t> text(tokens.begin(), tokens.begin() + static_cast<int64_t>(before));
    std::replace(text.begin(), text.end(), 7, 8);
    const auto expected = copy(session.append(text));
    session.truncate(before - 1);
    const std::vector<int32_t> bad = {text.back(), 7, 9};
    try {
      session.append(bad);
      FAIL() << "nothing noticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.problem().subject, "position " + std::to_string(before) + ", layer 0");
    }
    EXPECT_EQ(session.length(), before - 1);
    EXPECT_EQ(copy(session.append(text.back())), expected);
  }
}

// A model whose layers see 20 tokens, all, 20, and a text many windows long.
struct Windowed {
  explicit Windowed(size_t context = 1600) {
    config = small_config();
    config.context_length = context;
    config.local_attention = {"softmax", {{"window", int64_t{20}}}};
    config.local_layers = {1, 0, 1};
    tokens = random_tokens(context, config.vocab_size);
  }
  std::span<const int32_t> text(size_t begin, size_t end) const {
    return std::span(tokens).subspan(begin, end - begin);
  }

  ModelConfig config;
  std::vector<int32_t> tokens;
};

TEST(SlidingWindow, ALongTextAgreesWithItsDefinition) {
  Windowed example(700);
  const Model model = random_model(example.config);
  ThreadTeam team(2, true);
  Engine engine(model, team, kExact);
  const std::vector<double> expected = reference_logits(model, example.tokens);
  const std::vector<float> found = all_logits(engine, example.tokens);
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  EXPECT_LE(worst, 5e-4);
}

TEST(SlidingWindow, ALayerTakesMemoryForItsWindowAlone) {
  const Windowed example;
  ThreadTeam team(1);
  Engine engine(random_model(example.config), team, {});
  Session session = engine.start(), reserved = engine.start();
  reserved.reserve(1600);
  const size_t most = reserved.cache_bytes();
  const size_t page = 256 * 2 * 2 * 16 * sizeof(f16);  // of a layer
  EXPECT_EQ(most, (7 + 2 * 3) * page);
  for (size_t at = 0; at < 1600; at += 100) {
    session.append(example.text(at, at + 100));
    EXPECT_LE(session.cache_bytes(), most);
  }
  EXPECT_EQ(reserved.append(example.text(0, 1600)).size, 160U);
  EXPECT_EQ(reserved.cache_bytes(), most);
}

TEST(SlidingWindow, ATextIsCutShortWithinWhatIsHeldAndRefusedBeyond) {
  const Windowed example;
  ThreadTeam team(1);
  Engine engine(random_model(example.config), team, {});
  Session session = engine.start(), other = engine.start();
  session.append(example.text(0, 1500));
  other.append(example.text(0, 1245));
  const std::vector<float> expected = copy(other.append(example.text(1245, 1300)));
  session.truncate(1400);
  session.truncate(1244);  // 256 less than it was
  EXPECT_EQ(copy(session.append(example.text(1244, 1300))), expected);
  try {
    session.truncate(500);
    FAIL() << "keys that are gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().found, "800 of 1300");
  }
  EXPECT_EQ(session.length(), 1300U);
  Session fork = session.fork();
  EXPECT_EQ(fork.keep(1200), 1200U);
  EXPECT_EQ(fork.keep(500), 0U);
  EXPECT_EQ(copy(fork.append(example.text(0, 1300))), expected);
  const std::vector<float> next = copy(other.append(3));
  EXPECT_EQ(copy(session.append(3)), next);
  session.truncate(0);
  EXPECT_EQ(copy(session.append(example.text(0, 1300))), expected);
}

TEST(SlidingWindow, ForksGoOnWithTheSameBits) {
  const Windowed example;
  ThreadTeam team(1);
  Engine engine(random_model(example.config), team, {});
  Session session = engine.start();
  session.append(example.text(0, 900));
  Session fork = session.fork();
  const std::vector<float> expected = copy(session.append(example.text(900, 1500)));
  for (size_t at = 900; at < 1400; at += 50) fork.append(example.text(at, at + 50));
  EXPECT_EQ(copy(fork.append(example.text(1400, 1500))), expected);
}

// Its passes before the bad one have let go of what the text before them needs.
TEST(SlidingWindow, AnAppendThatFailsLateLeavesTheTextAsItWas) {
  Windowed example;
  std::replace(example.tokens.begin(), example.tokens.end(), 7, 8);
  example.config.tie_embeddings = false;
  Model model = random_model(example.config);
  for (float& value : model.matrix("model.embed_tokens.weight")[7]) value = 3e38F;
  ThreadTeam team(1);
  Engine engine(model, team, {});
  Session session = engine.start(), other = engine.start();
  session.append(example.text(0, 400));
  other.append(example.text(0, 400));
  std::vector<int32_t> bad(example.tokens.begin() + 400, example.tokens.begin() + 1500);
  bad.back() = 7;
  EXPECT_THROW(session.append(bad), Error);
  EXPECT_EQ(session.length(), 400U);
  const std::vector<float> expected = copy(other.append(9));
  EXPECT_EQ(copy(session.append(9)), expected);
}

TEST(Session, CutAndForkedInEightBitsItHasTheSameBits) {
  ModelConfig config = small_config();
  config.head_dim = 32;
  const Model model = random_model(config);
  ThreadTeam team(2, true);
  Engine engine(model, team, {.cache = BlockType::q8_0});
  const auto tokens = random_tokens(300, config.vocab_size);
  Session session = engine.start(), other = engine.start();
  other.append(std::span(tokens).first(258));
  const auto expected = copy(other.append(7));
  session.append(tokens);
  Session fork = session.fork();
  session.truncate(258);
  fork.append(3);
  EXPECT_EQ(copy(session.append(7)), expected);
  fork.truncate(258);
  EXPECT_EQ(copy(fork.append(7)), expected);
}

TEST(Session, TruncatedItGoesOnAsIfTheRestHadNotBeen) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team);
  const auto tokens = random_tokens(50, model.config().vocab_size);
  Session session = engine.start(), other = engine.start();
  session.append(tokens);
  session.truncate(20);
  EXPECT_EQ(session.length(), 20U);
  other.append(std::span(tokens).first(20));
  const auto expected = copy(other.append(7));
  EXPECT_LE(largest_difference(copy(session.append(7)), expected), 1e-4);
  EXPECT_THROW(session.truncate(22), Error);
}

TEST(Session, AForkIsIndependent) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team);
  const auto tokens = random_tokens(30, model.config().vocab_size);
  Session session = engine.start();
  session.append(tokens);
  Session fork = session.fork();
  const auto expected = copy(session.append(3));
  fork.append(9);
  fork.append(10);
  session.append(4);
  EXPECT_EQ(fork.length(), 32U);
  fork.truncate(30);
  EXPECT_EQ(copy(fork.append(3)), expected);
  EXPECT_EQ(session.tokens().back(), 4);
}

TEST(Session, RefusesWhatDoesNotFitAndStaysAsItWas) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team, {.context = 40});
  const auto tokens = random_tokens(41, model.config().vocab_size);
  Session session = engine.start();
  EXPECT_THROW(session.append(tokens), Error);
  EXPECT_EQ(session.length(), 0U);
  session.append(std::span(tokens).first(40));
  EXPECT_EQ(session.room(), 0U);
  EXPECT_THROW(session.append(1), Error);
  session.truncate(39);
  EXPECT_THROW(session.append(160), Error);
  EXPECT_THROW(session.append(-1), Error);
  EXPECT_THROW(session.append(std::span<const int32_t>()), Error);
  EXPECT_EQ(session.length(), 39U);
  session.append(1);
}

TEST(Session, ReservedMemoryIsThereAndNoMoreThanTheContext) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  Engine engine(model, team);
  Session session = engine.start();
  EXPECT_EQ(session.cache_bytes(), 0U);
  session.reserve(300);
  const size_t bytes = session.cache_bytes();
  EXPECT_GT(bytes, 0U);
  session.append(random_tokens(290, model.config().vocab_size));
  EXPECT_EQ(session.cache_bytes(), bytes);
  EXPECT_THROW(session.reserve(321), Error);
}

TEST(Session, ATextIsRepeatedBehindItsWholePages) {
  ModelConfig config = small_config();
  config.context_length = 1200;
  const Model model = random_model(config);
  ThreadTeam team(2, true);
  Engine engine(model, team);
  const auto tokens = random_tokens(300, config.vocab_size);
  Session session = engine.start();
  session.append(std::span(tokens).first(100));
  EXPECT_FALSE(session.repeat_to(900));  // there is no page yet
  session.append(std::span(tokens).subspan(100));
  ASSERT_TRUE(session.repeat_to(900));
  ASSERT_EQ(session.length(), 900U);
  for (size_t i = 0; i < 900; ++i) ASSERT_EQ(session.tokens()[i], tokens[i % 256]);
  // What is kept is the text that was read.
  Session again = engine.start();
  const auto expected = copy(again.append(std::span(tokens).first(256)));
  session.truncate(255);
  EXPECT_EQ(copy(session.append(tokens[255])), expected);
  EXPECT_THROW(session.repeat_to(1201), Error);

  config.attention = {"stick_breaking", {}};
  Engine other(random_model(config), team);
  Session rooms = other.start();
  rooms.append(tokens);
  EXPECT_FALSE(rooms.repeat_to(900));
  EXPECT_EQ(rooms.length(), 300U);
  EXPECT_GT(rooms.attention_statistics()->visible, rooms.attention_statistics()->visited);
  EXPECT_FALSE(session.attention_statistics());
}

TEST(Engine, RefusesAContextBeyondTheModels) {
  Model model = random_model(small_config());
  ThreadTeam team(1);
  EXPECT_THROW(Engine(model, team, {.context = 321}), Error);
}

}  // namespace
}  // namespace cairn
