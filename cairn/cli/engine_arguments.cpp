#include "cairn/cli/engine_arguments.h"

#include "cairn/base/error.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const char* subject, const char* expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line",
               .subject = subject,
               .expected = expected,
               .found = "\"" + found + "\""});
}

}  // namespace

std::optional<BlockType> cache_type_argument(const std::string& word) {
  if (word.empty()) return std::nullopt;
  for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16, BlockType::q8_0})
    if (word == block_type_name(type)) return type;
  refuse("--cache-type", "f32, f16, bf16 or q8_0", word);
}

void EngineArguments::declare(Arguments& arguments) {
  arguments.option("--precision",
                   "of the weights in memory: f32, f16, bf16, q8_0, q4_0, ...; default: as stored",
                   precision);
  arguments.option("--cache-type", "of keys and values: f32, f16, bf16 or q8_0; default: f16",
                   cache_type);
  arguments.option("-c,--context,--ctx-size", "most tokens of prompt and text; 0: the model's",
                   context);
}

EngineOptions EngineArguments::options() const {
  EngineOptions result;
  if (!precision.empty()) {
    const BlockTypeInfo* info = find_block_type(precision);
    if (info == nullptr) refuse("--precision", "f32, f16, bf16, q8_0, q4_0, ...", precision);
    result.weights = info->type;
  }
  result.cache = cache_type_argument(cache_type);
  if (context < 0) refuse("--context", "0 or more", std::to_string(context));
  result.context = static_cast<size_t>(context);
  return result;
}

}  // namespace cairn
