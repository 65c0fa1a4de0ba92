// Everything that the registries name goes through the engine: texts cut in several ways are held
// to the forward pass of training. A new mechanism or family of decoders is held to it by its line
// in the registry alone.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "cairn/infer/engine.h"
#include "cairn/model/architecture.h"
#include "cairn/nn/language_model.h"
#include "tests/infer/model_files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

// Long enough for a closed block of PaTH's cache, and for several passes.
constexpr size_t kLongText = 560;

std::vector<Path> golden_models() {
  std::vector<Path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder() / "models"))
    folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

// -log p of each next token, from the logits of a session that reads the text in these pieces; the
// last length goes on to the end.
std::vector<double> losses_in_pieces(Engine& engine, std::span<const int32_t> tokens,
                                     std::span<const int32_t> targets,
                                     const std::vector<size_t>& pieces) {
  const size_t vocab = engine.config().vocab_size;
  std::vector<float> logits(tokens.size() * vocab);
  Session session = engine.start();
  for (size_t begin = 0, i = 0; begin < tokens.size(); ++i) {
    const size_t piece = pieces[std::min(i, pieces.size() - 1)];
    const size_t count = std::min(piece, tokens.size() - begin);
    session.append(tokens.subspan(begin, count), {logits.data() + begin * vocab, count, vocab});
    begin += count;
  }
  std::vector<double> losses;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const float* row = logits.data() + t * vocab;
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(row[i]));
    losses.push_back(std::log(sum) - row[targets[t]]);
  }
  return losses;
}

// The loss of the forward pass of training at some places of the text, and of the whole.
struct Trained {
  std::vector<std::pair<size_t, double>> at;
  double whole = 0;
};

Trained trained_losses(Model& model, std::span<const int32_t> tokens,
                       std::span<const int32_t> targets, ThreadTeam& team) {
  LanguageModel trainer(model, {.sequences = 1, .length = tokens.size()}, team);
  Batch batch{.sequences = 1, .length = tokens.size()};
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.offsets = {0, static_cast<int32_t>(tokens.size())};
  for (size_t i = 0; i < tokens.size(); ++i) batch.positions.push_back(static_cast<int32_t>(i));
  batch.targets.assign(targets.begin(), targets.end());
  Trained trained;
  trained.whole = trainer.forward(batch).loss;
  for (const size_t place :
       {size_t{0}, size_t{1}, size_t{9}, tokens.size() / 2, tokens.size() - 3, tokens.size() - 1}) {
    batch.targets.assign(tokens.size(), kIgnoredTarget);
    batch.targets[place] = targets[place];
    trained.at.emplace_back(place, trainer.forward(batch).loss);
  }
  return trained;
}

void expect_the_engine_agrees_with_training(Model& model, size_t length, const std::string& name) {
  const auto tokens = random_tokens(length + 1, model.config().vocab_size);
  const std::span<const int32_t> text(tokens.data(), length), targets(tokens.data() + 1, length);
  ThreadTeam team(2, true);
  const Trained trained = trained_losses(model, text, targets, team);
  Engine engine(model, team, {.cache = BlockType::f32, .context = length});
  for (const std::vector<size_t>& pieces : std::vector<std::vector<size_t>>{
           {length}, {1}, {7}, {1, 100}, {9, 8, 200}, {length - 20, 1}}) {
    const auto losses = losses_in_pieces(engine, text, targets, pieces);
    double whole = 0;
    for (const double loss : losses) whole += loss;
    EXPECT_NEAR(whole, trained.whole, 1e-5 * trained.whole) << name << ", first " << pieces[0];
    for (const auto& [place, loss] : trained.at)
      EXPECT_NEAR(losses[place], loss, 5e-4) << name << ", token " << place << ", pieces of "
                                             << pieces.front() << " to " << pieces.back();
  }
}

TEST(Registry, EveryMechanismDecodesWhatItTrainsHoweverATextIsCut) {
  for (const AttentionOptions& attention : every_mechanism()) {
    ModelConfig config = small_config();
    config.layers = 2;
    config.context_length = kLongText;
    Model model = random_model_around(attention, config);
    expect_the_engine_agrees_with_training(
        model, kLongText,
        attention.mechanism +
            (attention.values.empty() ? "" : " " + attention.values.begin()->first));
  }
}

TEST(Registry, EveryFamilyOfDecodersDecodesWhatItTrainsHoweverATextIsCut) {
  for (const Path& folder : golden_models()) {
    Model model = load_model(folder);
    if (model.config().has_encoder()) continue;  // encoder_decoder_test.cpp
    const size_t length = std::min<size_t>(usual_context(model.config()), 120);
    expect_the_engine_agrees_with_training(model, length, folder.filename().string());
  }
}

TEST(Registry, EveryArchitectureHasAModelThatTheEngineIsHeldTo) {
  std::set<std::string> held = {"cairn"};  // by its mechanisms
  for (const Path& folder : golden_models()) held.insert(load_model(folder).config().architecture);
  for (const std::string& name : architecture_names())
    EXPECT_EQ(held.count(name), 1U) << name << " has no folder in tests/golden/models";
}

}  // namespace
}  // namespace cairn
