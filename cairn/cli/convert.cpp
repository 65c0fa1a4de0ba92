// `cairn convert` and `cairn quantize`: models from one kind of file to another.
#include <fmt/core.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/progress.h"
#include "cairn/cli/verbs.h"
#include "cairn/infer/convert.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"
#include "cairn/io/toml.h"
#include "cairn/model/convert_attention.h"
#include "cairn/train/checkpoint.h"
#include "cairn/train/config.h"

namespace cairn {
namespace {

struct Options {
  std::string model, out, to, type, imatrix, imatrix_out, attention;
  std::vector<std::string> attention_options;  // "attention.path_rank=16"
  int64_t seed = 0;
  int64_t imatrix_chunks = 0;
  int64_t threads = 0;
  bool json = false;
  bool verify = false;
};

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line",
               .subject = subject,
               .expected = expected,
               .found = found});
}

Json to_json(const Manifest& manifest, const std::string& path,
             const std::optional<RoundTrip>& back) {
  Json tensors = Json::array();
  for (const WrittenTensor& tensor : manifest.tensors)
    tensors.push_back({{"name", tensor.name},
                       {"type", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes},
                       {"xxh3", hex64(tensor.hash)}});
  Json result = {{"path", path}, {"bytes", manifest.file_bytes}, {"tensors", tensors}};
  if (back)
    result["round_trip"] = {
        {"same", back->same}, {"decoded", back->decoded}, {"different", back->different}};
  return result;
}

// One line a tensor with the hash of its bytes, so that two files can be compared without both.
void print(const Manifest& manifest, const Options& options,
           const std::optional<RoundTrip>& back = {}) {
  if (options.json) {
    fmt::print("{}", write_json(to_json(manifest, options.out, back)));
    return;
  }
  size_t width = 0;
  double bits = 0, elements = 0;
  for (const WrittenTensor& tensor : manifest.tensors) {
    width = std::max(width, tensor.name.size());
    bits += 8 * static_cast<double>(tensor.bytes);
    elements += static_cast<double>(element_count(tensor.shape));
  }
  for (const WrittenTensor& tensor : manifest.tensors)
    fmt::print("{}  {:<{}}  {:<6}  {}\n", hex64(tensor.hash), tensor.name, width, tensor.type,
               to_string(tensor.shape));
  fmt::print("{}: {}, {} tensors, {:.2f} bits a weight\n", options.out,
             format_bytes(manifest.file_bytes), manifest.tensors.size(),
             elements > 0 ? bits / elements : 0.0);
  if (!back) return;
  fmt::print("converted back: {} tensors with the same bytes, {} others", back->same,
             back->different.size());
  if (back->decoded > 0) fmt::print("; {} quantised ones are not compared", back->decoded);
  fmt::print("\n");
  for (const std::string& name : back->different) fmt::print("  {}\n", name);
}

// Runs the model over a text.
ImportanceSums measure_importance(const Options& options, ThreadTeam& team) {
  const Tokenizer tokenizer = open_tokenizer(options.model);
  const MappedFile file(options.imatrix);
  if (file.text().find('\0') != std::string_view::npos)
    refuse("--imatrix", "a text, or a GGUF file of an importance matrix", "another file");
  std::vector<int32_t> tokens;
  EncodeScratch scratch;
  tokenizer.encode(file.text(), tokens, scratch, {.add_special = true});
  ImportanceOptions cut;
  cut.chunks = static_cast<uint64_t>(options.imatrix_chunks);
  const std::vector<int32_t> frame = tokenizer.encode("", {.add_special = true});
  if (!frame.empty() && frame.front() == tokenizer.bos_id()) cut.begin = frame.front();
  uint64_t count = tokens.size() / cut.chunk_tokens * cut.chunk_tokens;
  if (cut.chunks != 0) count = std::min<uint64_t>(count, cut.chunks * cut.chunk_tokens);
  ProgressCount progress(
      "weighing columns", std::max<uint64_t>(count, 1), "tokens",
      options.json ? ProgressLine::Style::quiet : ProgressLine::Style::automatic);
  ImportanceSums sums = gather_importance(options.model, tokens, cut, team,
                                          [&](uint64_t read) { progress.advance(read); });
  progress.finish();
  sums.text = options.imatrix;
  return sums;
}

// A matrix from a file or by running the model, kept where asked for.
ImportanceMatrix importance_of(const Options& options, ThreadTeam& team) {
  if (options.imatrix_chunks < 0)
    refuse("--imatrix-chunks", "0 or more", std::to_string(options.imatrix_chunks));
  if (options.imatrix.empty()) {
    if (!options.imatrix_out.empty()) refuse("--imatrix-out", "--imatrix TEXT before it", "none");
    return {};
  }
  const ImportanceSums sums = is_gguf(options.imatrix) ? read_importance_sums(options.imatrix)
                                                       : measure_importance(options, team);
  if (!options.imatrix_out.empty()) write_importance_sums(options.imatrix_out, sums);
  return means_of(sums);
}

Manifest write_gguf(const Options& options, const FileType* type) {
  ThreadTeam team(static_cast<int>(options.threads));
  const ImportanceMatrix importance = importance_of(options, team);
  return write_gguf_model(open_as_gguf(options.model), options.out, type, importance, team);
}

std::optional<DType> read_dtype(const std::string& word) {
  if (word.empty()) return std::nullopt;
  if (word == "f32") return DType::f32;
  if (word == "f16") return DType::f16;
  if (word == "bf16") return DType::bf16;
  refuse("--type", "f32, f16 or bf16 (a Hugging Face folder holds no others)", in_quotes(word));
}

AttentionOptions wanted_attention(const Options& options) {
  constexpr std::string_view kPrefix = "attention.";
  AttentionOptions wanted{options.attention, {}};
  for (const std::string& text : options.attention_options) {
    const size_t equals = text.find('=');
    if (text.compare(0, kPrefix.size(), kPrefix) != 0 || equals == std::string::npos)
      refuse("--" + text, "--attention.KEY=VALUE", in_quotes(text));
    wanted.values[text.substr(kPrefix.size(), equals - kPrefix.size())] =
        option_value(parse_toml_value(text.substr(equals + 1), "the command line"));
  }
  return wanted;
}

// Another attention mechanism in a folder of its own, the tokenizer's files beside it.
int convert_attention(const Options& options) {
  if (options.to != "hf") refuse("--to", "hf with --attention", in_quotes(options.to));
  if (options.seed < 0) refuse("--seed", "0 or more", std::to_string(options.seed));
  const Model teacher = load_model(options.model);
  const Model model =
      path_from_rope(teacher, wanted_attention(options), static_cast<uint64_t>(options.seed));
  save_model(model, options.out, DType::f32);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
    if (const Path file = Path(options.model) / name; std::filesystem::is_regular_file(file))
      copy_durably(file, Path(options.out) / name);
  const size_t before = parameter_count(teacher.config()), after = parameter_count(model.config());
  if (options.json)
    fmt::print("{}", json_line({{"model", options.out},
                                {"attention", options.attention},
                                {"parameters", after},
                                {"parameters_before", before}}));
  else
    fmt::print("{}: {} parameters, {} of them new; it computes what {} does until it is trained\n",
               options.out, after, after - before, options.model);
  return 0;
}

int run_convert(const Options& options) {
  if (!options.attention.empty()) return convert_attention(options);
  if (!options.attention_options.empty())
    refuse("--" + options.attention_options.front(), "--attention NAME before its options", "none");
  if (options.to != "gguf" && options.to != "hf")
    refuse("--to", "gguf or hf", in_quotes(options.to));
  if (options.verify && !options.type.empty())
    refuse("--verify", "a conversion that keeps types (no --type)", "--type " + options.type);
  const Manifest manifest =
      options.to == "hf"
          ? write_hf_model(options.model, options.out, read_dtype(options.type))
          : write_gguf(options, options.type.empty() ? nullptr : &find_file_type(options.type));
  std::optional<RoundTrip> back;
  if (options.verify) {
    ThreadTeam team(static_cast<int>(options.threads));
    back = verify_conversion(options.model, options.out, options.out + ".verify", team);
  }
  print(manifest, options, back);
  return back && !back->different.empty() ? 1 : 0;
}

int run_quantize(const Options& options) {
  print(write_gguf(options, &find_file_type(options.type)), options);
  return 0;
}

void declare_common(Arguments& arguments, Options& options) {
  arguments.positional("MODEL", "a model folder or a GGUF file", options.model);
  arguments.positional("OUT", "the file, or with --to hf the folder, to write", options.out);
  arguments.option("--threads", "0: as many as the machine allows", options.threads);
  arguments.flag("--json", "print the manifest as JSON", options.json);
}

std::function<int()> prepare_convert(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  declare_common(arguments, *options);
  arguments.option("--to", "gguf or hf (a Hugging Face folder)", options->to);
  arguments.option("--type", "of matrices: f32, f16, bf16; to gguf also q8_0 ... (as they are)",
                   options->type);
  arguments.flag("--verify", "convert back as well and compare every tensor; 1 if one differs",
                 options->verify);
  arguments.option("--attention", "path: PaTH attention that begins as the model's rotary one",
                   options->attention);
  arguments.overrides("sets an option of the new attention: --attention.path_rank=16",
                      options->attention_options);
  arguments.option("--seed", "of the weights that the new attention adds", options->seed);
  return [options] { return run_convert(*options); };
}

std::function<int()> prepare_quantize(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  options->type = "q4_k_m";
  declare_common(arguments, *options);
  arguments.option("-t,--type",
                   "q8_0, q6_k, q5_k_m, q5_0, q4_k_m, q4_0, q3_k_m, q2_k, ... (q4_k_m)",
                   options->type);
  arguments.option("--imatrix",
                   "importance of columns: a text to run the model over, or a GGUF file of it",
                   options->imatrix);
  arguments.option("--imatrix-out", "keeps that file, which llama.cpp reads too",
                   options->imatrix_out);
  arguments.option("--imatrix-chunks", "of 512 tokens, at most (0: all of the text)",
                   options->imatrix_chunks);
  return [options] { return run_quantize(*options); };
}

}  // namespace

const Verb kConvertVerb{
    .name = "convert",
    .does = "Turn a model folder into a GGUF file, or back, or change its attention",
    .example =
        "cairn convert demo/model demo.gguf --to gguf --type bf16\n"
        "cairn convert smollm2.gguf smollm2 --to hf\n"
        "cairn convert demo/model demo-path --to hf --attention path",
    .prepare = prepare_convert};

const Verb kQuantizeVerb{.name = "quantize",
                         .does = "Write a model with fewer bits a weight, as GGUF",
                         .example =
                             "cairn quantize demo/model demo-q4.gguf -t q4_k_m\n"
                             "cairn quantize big.gguf small.gguf -t q4_0 --imatrix notes.txt",
                         .prepare = prepare_quantize};

}  // namespace cairn
