#include "cairn/text/sentencepiece.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/io/protobuf.h"
#include "cairn/text/gguf_tokenizer.h"
#include "cairn/text/vocabulary.h"

namespace cairn {
namespace {

// Types of pieces have the same numbers in both files.
using Type = GgufTokenType;

// Field numbers of sentencepiece_model.proto.
namespace model_field {
constexpr uint32_t kPiece = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
}
namespace piece_field {
constexpr uint32_t kSpelling = 1, kScore = 2, kType = 3;
}
namespace trainer_field {
constexpr uint32_t kModelType = 3, kWhitespaceAsSuffix = 24, kByteFallback = 35;
constexpr uint32_t kUnknownId = 40, kBosId = 41, kEosId = 42, kPadId = 43;
constexpr uint32_t kBos = 46, kEos = 47, kPad = 48;
}  // namespace trainer_field
namespace normalizer_field {
constexpr uint32_t kMap = 2, kPrefix = 3, kCollapse = 4, kEscape = 5;
}

constexpr uint64_t kUnigram = 1, kBpe = 2;
constexpr size_t kMostPieces = size_t{1} << 24;

// What the file says, with the defaults of its definition.
struct File {
  std::vector<std::string> pieces;
  std::vector<double> scores;
  std::vector<Type> types;
  uint64_t model_type = kUnigram;
  bool byte_fallback = false;
  std::string bos = "<s>", eos = "</s>", pad = "<pad>";
  std::string map;
  bool prefix = true, collapse = true;
};

void read_piece(ProtobufReader piece, File& file) {
  std::string spelling;
  float score = 0;
  uint64_t type = static_cast<uint64_t>(Type::normal);
  while (piece.next()) {
    if (piece.field() == piece_field::kSpelling) spelling = piece.as_bytes();
    if (piece.field() == piece_field::kScore) score = piece.as_float();
    if (piece.field() == piece_field::kType) type = piece.as_varint();
  }
  if (spelling.empty()) piece.fail("a piece with a spelling", "an empty one");
  if (type < 1 || type > 6) piece.fail("a type of piece from 1 to 6", std::to_string(type));
  if (file.pieces.size() == kMostPieces)
    piece.fail(fmt::format("at most {} pieces", kMostPieces), "more");
  file.pieces.push_back(std::move(spelling));
  file.scores.push_back(score);
  file.types.push_back(static_cast<Type>(type));
}

void read_trainer(ProtobufReader trainer, File& file) {
  while (trainer.next()) switch (trainer.field()) {
      case trainer_field::kModelType:
        file.model_type = trainer.as_varint();
        if (file.model_type != kUnigram && file.model_type != kBpe)
          trainer.fail("a unigram or BPE model (type 1 or 2)", std::to_string(file.model_type));
        break;
      case trainer_field::kWhitespaceAsSuffix:
        if (trainer.as_bool()) trainer.fail("blanks before words", "treat_whitespace_as_suffix");
        break;
      case trainer_field::kByteFallback:
        file.byte_fallback = trainer.as_bool();
        break;
      case trainer_field::kBos:
        file.bos = trainer.as_bytes();
        break;
      case trainer_field::kEos:
        file.eos = trainer.as_bytes();
        break;
      case trainer_field::kPad:
        file.pad = trainer.as_bytes();
        break;
      default:
        break;
    }
}

void read_normalizer(ProtobufReader normalizer, File& file) {
  while (normalizer.next()) switch (normalizer.field()) {
      case normalizer_field::kMap:
        file.map = normalizer.as_bytes();
        break;
      case normalizer_field::kPrefix:
        file.prefix = normalizer.as_bool();
        break;
      case normalizer_field::kCollapse:
        file.collapse = normalizer.as_bool();
        break;
      case normalizer_field::kEscape:
        if (!normalizer.as_bool()) normalizer.fail("blanks as U+2581", "escape_whitespaces false");
        break;
      default:
        break;
    }
}

// A map from normal text back to another: a decoder that we do not have.
void check_denormalizer(ProtobufReader denormalizer) {
  while (denormalizer.next())
    if (denormalizer.field() == normalizer_field::kMap && !denormalizer.as_bytes().empty())
      denormalizer.fail("text decoded as it is", "a denormalizer");
}

File read_model_file(std::string_view bytes, const std::string& source) {
  File file;
  ProtobufReader model(bytes, source);
  while (model.next()) switch (model.field()) {
      case model_field::kPiece:
        read_piece(model.as_message(), file);
        break;
      case model_field::kTrainer:
        read_trainer(model.as_message(), file);
        break;
      case model_field::kNormalizer:
        read_normalizer(model.as_message(), file);
        break;
      case model_field::kDenormalizer:
        check_denormalizer(model.as_message());
        break;
      default:
        break;
    }
  if (file.pieces.empty()) model.fail("the pieces of a SentencePiece model", "none");
  return file;
}

// The control piece of that spelling; -1: none.
int32_t control_id(const File& file, const std::string& spelling) {
  for (size_t id = 0; id < file.pieces.size(); ++id)
    if (file.types[id] == Type::control && file.pieces[id] == spelling)
      return static_cast<int32_t>(id);
  return -1;
}

void take_pieces(const File& file, TokenizerSpec& spec) {
  // Where nothing but blanks changes, the library looks for user-defined pieces in the normal text;
  // elsewhere in the raw one, whose map and blanks they escape.
  const bool in_normal_text = file.map.empty() && !file.collapse;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string& piece = file.pieces[i];
    switch (file.types[i]) {
      case Type::control:
        spec.added.push_back({.id = id, .content = piece, .special = true});
        break;
      case Type::user_defined:
        spec.added.push_back({.id = id, .content = piece, .normalized = in_normal_text});
        break;
      case Type::unknown:
        spec.unknown_token = piece;
        [[fallthrough]];
      case Type::unused:
      case Type::byte:
        spec.unmatched.push_back(id);
        break;
      case Type::normal:
        break;
    }
  }
}

const NormalizerStep* step_of(const TokenizerSpec& spec) {
  if (spec.normalizer.size() != 1 || !spec.pretokenizer.empty()) return nullptr;
  const NormalizerStep& step = spec.normalizer[0];
  return step.kind == NormalizerStep::Kind::sentencepiece ? &step : nullptr;
}

// The types of all pieces.
std::vector<Type> types_of(const TokenizerSpec& spec) {
  std::vector<Type> types(spec.vocabulary.size(), Type::normal);
  for (const int32_t id : spec.unmatched) {
    const std::string& spelling = spec.vocabulary.at(static_cast<size_t>(id));
    const bool byte = spec.byte_fallback && spelling.size() == 6 && spelling.starts_with("<0x");
    types[static_cast<size_t>(id)] = byte ? Type::byte : Type::unused;
  }
  for (const AddedToken& token : spec.added)
    if (static_cast<size_t>(token.id) < types.size())
      types[static_cast<size_t>(token.id)] = token.special ? Type::control : Type::user_defined;
  for (size_t id = 0; id < types.size(); ++id)  // some configurations add it, too
    if (spec.vocabulary[id] == spec.unknown_token) types[id] = Type::unknown;
  return types;
}

std::string trainer_message(const TokenizerSpec& spec) {
  std::string trainer;
  append_varint_field(trainer_field::kModelType,
                      spec.model == TokenizerModel::unigram ? kUnigram : kBpe, trainer);
  append_varint_field(trainer_field::kByteFallback, spec.byte_fallback, trainer);
  const auto id_of = [&](uint32_t field, int64_t id) {  // negative: none
    append_varint_field(field, static_cast<uint64_t>(id), trainer);
  };
  const auto unknown =
      std::find(spec.vocabulary.begin(), spec.vocabulary.end(), spec.unknown_token);
  id_of(trainer_field::kUnknownId, unknown - spec.vocabulary.begin());
  const auto named = [&](uint32_t id_field, uint32_t field, int32_t id) {
    id_of(id_field, id);
    if (id >= 0) append_bytes_field(field, spec.vocabulary.at(static_cast<size_t>(id)), trainer);
  };
  named(trainer_field::kBosId, trainer_field::kBos, spec.bos_id);
  named(trainer_field::kEosId, trainer_field::kEos, spec.eos_id);
  named(trainer_field::kPadId, trainer_field::kPad, spec.pad_id);
  return trainer;
}

}  // namespace

TokenizerSpec parse_sentencepiece(std::string_view bytes, const std::string& source) {
  File file = read_model_file(bytes, source);
  TokenizerSpec spec;
  spec.model = file.model_type == kBpe ? TokenizerModel::scored_bpe : TokenizerModel::unigram;
  take_pieces(file, spec);
  spec.byte_fallback = file.byte_fallback;
  spec.fuse_unknown = true;
  spec.bos_id = control_id(file, file.bos);
  spec.eos_id = control_id(file, file.eos);
  spec.pad_id = control_id(file, file.pad);
  if (file.model_type == kBpe && spec.bos_id >= 0) spec.prefix = {spec.bos_id};
  if (file.model_type == kUnigram && spec.eos_id >= 0) spec.suffix = {spec.eos_id};
  spec.normalizer = {{.kind = NormalizerStep::Kind::sentencepiece,
                      .content = std::move(file.map),
                      .prefix_blank = file.prefix,
                      .collapse = file.collapse}};
  spec.pretokenizer.clear();
  const std::string mark(kMetaspace);
  spec.decoder = {{.kind = DecoderStep::Kind::replace, .pattern = mark, .content = " "},
                  {.kind = DecoderStep::Kind::byte_fallback},
                  {.kind = DecoderStep::Kind::fuse}};
  if (file.prefix)
    spec.decoder.push_back({.kind = DecoderStep::Kind::strip, .content = " ", .start = 1});
  spec.vocabulary = std::move(file.pieces);
  spec.scores = std::move(file.scores);
  return spec;
}

bool is_sentencepiece(const TokenizerSpec& spec) {
  return step_of(spec) != nullptr;
}

std::string sentencepiece_model(const TokenizerSpec& spec) {
  const NormalizerStep* step = step_of(spec);
  if (step == nullptr)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "writing a SentencePiece model",
                 .expected = "a tokenizer read from one"});
  std::string model;
  const std::vector<Type> types = types_of(spec);
  for (size_t id = 0; id < types.size(); ++id) {
    std::string piece;
    append_bytes_field(piece_field::kSpelling, spec.vocabulary[id], piece);
    append_float_field(piece_field::kScore, static_cast<float>(spec.scores.at(id)), piece);
    append_varint_field(piece_field::kType, static_cast<uint64_t>(types[id]), piece);
    append_bytes_field(model_field::kPiece, piece, model);
  }
  append_bytes_field(model_field::kTrainer, trainer_message(spec), model);
  std::string normalizer;
  append_bytes_field(normalizer_field::kMap, step->content, normalizer);
  append_varint_field(normalizer_field::kPrefix, step->prefix_blank, normalizer);
  append_varint_field(normalizer_field::kCollapse, step->collapse, normalizer);
  append_bytes_field(model_field::kNormalizer, normalizer, model);
  return model;
}

}  // namespace cairn
