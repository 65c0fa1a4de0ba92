// `cairn attention show`: which earlier tokens a token attends to.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/cli/tasks.h"
#include "cairn/cli/usage.h"
#include "cairn/cli/verbs.h"
#include "cairn/eval/attention_map.h"
#include "cairn/eval/attention_picture.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

struct Options {
  std::string model, text, file;
  std::string layer = "all", head = "mean", token = "last";
  std::string svg, task;
  std::vector<std::string> task_options;
  int64_t threads = 0, top = 8;
  bool json = false;
};

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  refuse_argument("cairn attention show", subject, expected, found);
}

// A number below `count`; a negative one counts from the end.
size_t index_of(const std::string& name, const std::string& word, size_t count,
                const std::string& words) {
  int64_t number = 0;
  const char* end = word.data() + word.size();
  const auto read = std::from_chars(word.data(), end, number);
  const auto whole = static_cast<int64_t>(count);
  if (read.ec != std::errc() || read.ptr != end || number >= whole || number < -whole)
    refuse(name, fmt::format("{}, or 0 to {} (-1: the last)", words, count - 1), word);
  return static_cast<size_t>(number < 0 ? number + whole : number);
}

std::vector<size_t> wanted_layers(const std::string& word, size_t count) {
  if (word != "all") return {index_of("--layer", word, count, "all")};
  std::vector<size_t> layers(count);
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

std::vector<AttentionPanel> panels_of(const LayerWeights& layer, const std::string& head) {
  const size_t heads = layer.weights.heads;
  const auto name = [&](const std::string& which) {
    return fmt::format("layer {}, {}", layer.layer, which);
  };
  if (head == "mean" && heads > 1)
    return {
        {layer.layer, name(fmt::format("mean of {} heads", heads)), mean_of_heads(layer.weights)}};
  if (head == "max" && heads > 1)
    return {{layer.layer, name(fmt::format("strongest of {} heads", heads)),
             strongest_of_heads(layer.weights)}};
  std::vector<AttentionPanel> panels;
  const bool each = head == "all" || head == "mean" || head == "max";
  const size_t only = each ? 0 : index_of("--head", head, heads, "mean, max, all");
  for (size_t h = each ? 0 : only; h < (each ? heads : only + 1); ++h)
    panels.push_back({layer.layer, name(fmt::format("head {}", h)), one_head(layer.weights, h)});
  return panels;
}

// The keys of a query, the heaviest first.
std::vector<size_t> heaviest(const AttentionWeights& w, size_t query, size_t most) {
  std::vector<size_t> keys(query + 1);
  std::iota(keys.begin(), keys.end(), 0);
  std::stable_sort(keys.begin(), keys.end(), [&](size_t a, size_t b) {
    return w.weights[w.at(0, query, a)] > w.weights[w.at(0, query, b)];
  });
  keys.resize(std::min(keys.size(), most));
  return keys;
}

double left_over(const AttentionWeights& w, size_t query) {
  double rest = 1;
  for (size_t key = 0; key <= query; ++key) rest -= w.weights[w.at(0, query, key)];
  return rest;
}

void print_query(const AttentionPicture& picture, const AttentionPanel& panel, size_t query,
                 size_t most) {
  const AttentionWeights& w = panel.weights;
  fmt::print("{}: token {} \"{}\" attends to\n", panel.name, query, picture.tokens[query]);
  constexpr double kBar = 24;
  for (const size_t key : heaviest(w, query, most)) {
    const double weight = w.weights[w.at(0, query, key)];
    if (weight < 0.0005) break;
    std::string bar;
    for (int i = 0; i < std::lround(kBar * weight); ++i) bar += "█";
    std::string extras;
    for (const AttentionWeights::Extra& extra : w.extras)
      extras += fmt::format("  {} {:.3f}", extra.name, extra.values[w.at(0, query, key)]);
    fmt::print("  {:5.1f} %  {:4}  {:<16}{}  {}\n", 100 * weight, key,
               "\"" + picture.tokens[key] + "\"", extras, bar);
  }
  if (const double rest = left_over(w, query); rest > 0.0005)
    fmt::print("  {:5.1f} %  given to no token\n", 100 * rest);
}

void print_all(const AttentionPicture& picture, const AttentionPanel& panel) {
  fmt::print("{}\n", panel.name);
  for (size_t query = 0; query < picture.tokens.size(); ++query) {
    std::string line;
    for (const size_t key : heaviest(panel.weights, query, 3)) {
      const double weight = panel.weights.weights[panel.weights.at(0, query, key)];
      if (weight >= 0.005)
        line += fmt::format("  {:2.0f} % {} \"{}\"", 100 * weight, key, picture.tokens[key]);
    }
    fmt::print("{:4}  {:<16} {}\n", query, "\"" + picture.tokens[query] + "\"", line);
  }
}

// Rows of the queries asked for, each up to its own token.
Json rows_json(const AttentionWeights& w, const std::vector<double>& values,
               std::optional<size_t> query) {
  const auto row = [&](size_t q) {
    const auto first = values.begin() + static_cast<ptrdiff_t>(w.at(0, q, 0));
    return Json(std::vector<double>(first, first + static_cast<ptrdiff_t>(q) + 1));
  };
  if (query) return row(*query);
  Json rows = Json::array();
  for (size_t q = 0; q < w.tokens; ++q) rows.push_back(row(q));
  return rows;
}

Json picture_json(const AttentionPicture& picture, std::span<const int32_t> ids,
                  const std::vector<LayerWeights>& layers) {
  Json tokens = Json::array(), panels = Json::array();
  for (size_t i = 0; i < ids.size(); ++i)
    tokens.push_back({{"id", ids[i]}, {"text", picture.tokens[i]}});
  for (const AttentionPanel& panel : picture.panels) {
    const auto layer = std::find_if(layers.begin(), layers.end(), [&](const LayerWeights& some) {
      return some.layer == panel.layer;
    });
    Json extras = Json::object();
    for (const AttentionWeights::Extra& extra : panel.weights.extras)
      extras[extra.name] = rows_json(panel.weights, extra.values, picture.query);
    panels.push_back({{"layer", panel.layer},
                      {"name", panel.name},
                      {"mechanism", layer->mechanism},
                      {"weights", rows_json(panel.weights, panel.weights.weights, picture.query)},
                      {"extras", std::move(extras)}});
  }
  Json out = {{"tokens", std::move(tokens)}, {"panels", std::move(panels)}};
  if (picture.query) out["token"] = *picture.query;
  return out;
}

std::string read_text(const Options& options) {
  if (options.text.empty() == options.file.empty())
    refuse("TEXT", "a TEXT or a file (-f)", options.text.empty() ? "neither" : "both");
  return options.file.empty() ? options.text : read_file(options.file);
}

void show(const Options& options, const AttentionPicture& picture, std::span<const int32_t> ids,
          const std::vector<LayerWeights>& layers) {
  if (!options.svg.empty()) write_file_atomically(options.svg, draw_attention(picture));
  if (options.json) {
    fmt::print("{}", json_line(picture_json(picture, ids, layers)));
    return;
  }
  for (const AttentionPanel& panel : picture.panels) {
    if (picture.query)
      print_query(picture, panel, *picture.query, static_cast<size_t>(options.top));
    else
      print_all(picture, panel);
  }
  if (!options.svg.empty()) fmt::print("{}\n", options.svg);
}

// The text as the model reads it, and as people do.
struct Tokens {
  std::vector<int32_t> ids;
  std::vector<std::string> texts;
};

Tokens tokens_of(const Options& options, const std::string& text) {
  Tokens tokens;
  if (!options.task.empty()) {
    const auto task = make_task(task_options(options.task, options.task_options));
    tokens.ids = task_tokens(*task, text);
    for (const int32_t id : tokens.ids) tokens.texts.push_back(task->token_text(id));
    return tokens;
  }
  if (!options.task_options.empty()) refuse("--task.KEY=VALUE", "--task NAME with it", "none");
  const Tokenizer tokenizer = open_tokenizer(options.model);
  tokens.ids = encode_prompt(tokenizer, text);
  for (const int32_t id : tokens.ids) {
    const std::string shown = visible_token(tokenizer.token_bytes(id));
    tokens.texts.push_back(shown.empty() ? fmt::format("<{}>", id) : shown);
  }
  return tokens;
}

std::optional<size_t> wanted_token(const std::string& word, size_t count) {
  if (word == "all") return std::nullopt;
  if (word == "last") return count - 1;
  return index_of("--token", word, count, "last, all");
}

int run_show(const Options& options) {
  if (options.threads < 0) refuse("--threads", "0 or more", std::to_string(options.threads));
  if (options.top < 1) refuse("--top", "1 or more", std::to_string(options.top));
  const Tokens tokens = tokens_of(options, read_text(options));
  if (tokens.ids.empty()) refuse("TEXT", "at least one token", "none");
  Model model = load_model(options.model);
  ThreadTeam team(static_cast<int>(options.threads));
  AttentionPicture picture{.tokens = tokens.texts,
                           .query = wanted_token(options.token, tokens.ids.size())};
  const std::vector<size_t> wanted = wanted_layers(options.layer, model.config().layers);
  const std::vector<LayerWeights> layers = read_attention(model, tokens.ids, wanted, team);
  for (const LayerWeights& layer : layers)
    for (AttentionPanel& panel : panels_of(layer, options.head))
      picture.panels.push_back(std::move(panel));
  picture.title = layers.front().mechanism + " attention";
  if (picture.query)
    picture.title +=
        fmt::format(" of token {} \"{}\"", *picture.query, picture.tokens[*picture.query]);
  show(options, picture, tokens.ids, layers);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  arguments.positional("MODEL", "a GGUF file, or a folder of a trained model", o.model);
  arguments.positional("TEXT", "what it reads, at most 512 tokens (or give -f)", o.text, false);
  arguments.option("-f,--file", "a file with the text", o.file);
  arguments.option("--layer", "a layer from 0 on, or all", o.layer);
  arguments.option("--head", "a head from 0 on, mean, max (the strongest) or all", o.head);
  arguments.option("--token", "whose attention: a token from 0 on, last or all", o.token);
  arguments.option(
      "--task", "TEXT is in the words of a synthetic task, as `cairn data sample` has it", o.task);
  arguments.overrides("sets an option of the task: --task.keys=128", o.task_options);
  arguments.option("--top", "how many tokens are named", o.top);
  arguments.option("--svg", "where to draw a picture", o.svg);
  arguments.option("--threads", "0: as many as the machine allows", o.threads);
  arguments.flag("--json", "print all weights as JSON", o.json);
  return [options] { return run_show(*options); };
}

}  // namespace

const Verb kAttentionVerb{
    .name = "attention",
    .does = "Look at what a model's attention does",
    .example = "cairn attention show demo/model \"int main(int argc, char **\" --svg look.svg",
    .subverbs = {
        {.name = "show",
         .does = "Show which earlier tokens a token attends to, as text and as a picture",
         .example = "cairn attention show demo/model \"int main(int argc, char **\" --layer 0\n"
                    "cairn attention show demo/model -f story.txt --token all --svg story.svg\n"
                    "cairn attention show runs/study/flip-flop/PaTH-.../model \"w 1 i 0 r\" --task "
                    "flip_flop\n"
                    "Beside the weights: what is left of the stick (stick-breaking), what the maps "
                    "between two\ntokens do to the query (PaTH), what gates let pass (FoX).",
         .prepare = prepare},
    }};

}  // namespace cairn
