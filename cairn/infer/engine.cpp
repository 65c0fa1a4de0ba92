#include "cairn/infer/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/infer/decode_program.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

size_t checked_context(const ModelConfig& config, size_t wanted) {
  if (wanted <= config.context_length) return wanted == 0 ? usual_context(config) : wanted;
  throw Error({.kind = ErrorKind::usage,
               .doing = "preparing to decode",
               .subject = "context",
               .expected = fmt::format("at most {} (the model's)", config.context_length),
               .found = std::to_string(wanted)});
}

DType room_cache_type(std::optional<BlockType> wanted) {
  const std::optional<DType> dtype = block_type_info(wanted.value_or(BlockType::f32)).dtype;
  if (dtype == DType::f32 || dtype == DType::bf16) return *dtype;
  throw Error({.kind = ErrorKind::usage,
               .doing = "preparing to decode",
               .subject = "type of keys and values",
               .expected = "f32 or bf16, as this attention mechanism keeps its own",
               .found = std::string(block_type_name(*wanted))});
}

void refuse_request(const std::string& expected, size_t found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "asking what may follow a text",
               .expected = expected,
               .found = std::to_string(found)});
}

void check_request(const HeadRequest& head, size_t tokens, size_t vocab_size) {
  static_assert(HeadRequest::kMostPlaces == DecodeProgram::kFewTokens);
  const size_t places = head.places();
  if (places != 1 && (places != tokens || places > HeadRequest::kMostPlaces))
    refuse_request(fmt::format("one place, or one behind each of the {} tokens, at most {}", tokens,
                               HeadRequest::kMostPlaces),
                   places);
  if (!head.allowed.empty() && head.allowed.size() != places)
    refuse_request(fmt::format("a mask for each of {} places", places), head.allowed.size());
  if (head.best.empty())
    check_shape("asking what may follow a text", "logits", {places, vocab_size},
                {head.logits.rows, head.logits.cols});
  else if (head.k == 0 || head.k > HeadRequest::kMostBest)
    refuse_request(fmt::format("1 to {} of the highest logits", HeadRequest::kMostBest), head.k);
}

}  // namespace

struct Engine::Implementation {
  Implementation(const DecoderWeights& weights, ThreadTeam& team, const EngineOptions& options)
      : context(checked_context(weights.config, options.context)),
        cache(options.cache),
        program(weights, options.weights, context, team, options.walkers, options.parts),
        logits(program.config().vocab_size) {
    for (size_t i = 0; i < program.layers(); ++i)
      if (!program.is_plain(i)) room_cache = room_cache_type(cache);
    PagedCache(program.cache_shape(cache.value_or(BlockType::f16)));  // refuses what it cannot hold
    if (weights.encoder)
      encoder.emplace(*weights.encoder, options.weights, context, team, options.walkers,
                      options.parts, &program);
  }

  const ModelConfig& config() const { return program.config(); }
  // `length`: tokens read before.
  void check(size_t length, std::span<const int32_t> tokens) const;
  std::unique_ptr<Session::Implementation> start();

  size_t context;
  std::optional<BlockType> cache;
  DType room_cache = DType::f32;  // of mechanisms with a cache of their own
  DecodeProgram program;
  std::optional<DecodeProgram> encoder;
  std::vector<float> logits;  // of the last call
};

struct Session::Implementation {
  Implementation(Engine::Implementation* the_engine)  // NOLINT: internal
      : engine(the_engine),
        cache(engine->program.cache_shape(engine->cache.value_or(BlockType::f16))) {
    tokens.reserve(engine->context);
  }

  // Reads tokens in passes of at most kMostTokens; all or none. head_of(first, count) says what
  // the pass over these is asked.
  void read(std::span<const int32_t> text, FunctionRef<HeadRequest(size_t, size_t)> head_of,
            ActivationSquares* squares = nullptr);
  // The same, where only the last pass is asked anything.
  void read(std::span<const int32_t> text, const HeadRequest& head);

  // Forgets all tokens from `length` on, and what a pass that failed has left in the rooms.
  void forget(size_t length) {
    for (const auto& room : rooms)
      if (room && room->length() > length) room->truncate(length);
    cache.truncate(length);
    tokens.resize(length);
  }

  Engine::Implementation* engine;
  std::vector<int32_t> tokens;
  PagedCache cache;                                    // of the layers with plain attention
  std::vector<std::unique_ptr<AttentionCache>> rooms;  // one a layer; null in plain ones
  // One a layer that reads the source; not changed any more, so shared by forks.
  std::vector<std::shared_ptr<AttentionCache>> source;
};

std::unique_ptr<Session::Implementation> Engine::Implementation::start() {
  auto session = std::make_unique<Session::Implementation>(this);
  for (size_t i = 0; i < program.layers(); ++i)
    session->rooms.push_back(program.is_plain(i) || program.reads_source(i)
                                 ? nullptr
                                 : program.attention(i).make_cache(context, room_cache));
  return session;
}

void Session::Implementation::read(std::span<const int32_t> text,
                                   FunctionRef<HeadRequest(size_t, size_t)> head_of,
                                   ActivationSquares* squares) {
  static_assert(DecodeProgram::kMostTokens <= PagedCache::kRewind);
  engine->check(tokens.size(), text);
  const size_t before = tokens.size();
  try {
    for (size_t done = 0; done < text.size();) {
      const size_t count = std::min(text.size() - done, DecodeProgram::kMostTokens);
      const std::span<const int32_t> some = text.subspan(done, count);
      cache.prepare(tokens.size(), tokens.size() + count, before);
      engine->program.run(
          {some, tokens.size(), &cache, rooms, source, head_of(done, count), squares});
      tokens.insert(tokens.end(), some.begin(), some.end());
      done += count;
    }
  } catch (...) {
    forget(before);
    throw;
  }
}

void Session::Implementation::read(std::span<const int32_t> text, const HeadRequest& head) {
  const auto head_of = [&](size_t first, size_t count) {
    return first + count == text.size() ? head : HeadRequest();
  };
  read(text, head_of);
}

void Engine::Implementation::check(size_t length, std::span<const int32_t> tokens) const {
  if (tokens.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading tokens",
                 .expected = "at least one token",
                 .found = "none"});
  if (tokens.size() > context - length)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading tokens",
                 .expected = fmt::format("at most {} tokens (the context)", context),
                 .found = fmt::format("{} behind {} read before", tokens.size(), length),
                 .hint = "shorten the text, or use a model with a longer context"});
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<size_t>(tokens[i]) >= config().vocab_size)
      throw Error({.kind = ErrorKind::data,
                   .doing = "reading tokens",
                   .subject = fmt::format("token {} of {}", i, tokens.size()),
                   .expected = fmt::format("0 to {} (vocab_size {})", config().vocab_size - 1,
                                           config().vocab_size),
                   .found = std::to_string(tokens[i]),
                   .hint = "is the tokenizer from another model?"});
}

Session::Session(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

View1<const float> Session::append(std::span<const int32_t> tokens) {
  std::vector<float>& logits = implementation_->engine->logits;
  const View2<float> last(logits.data(), 1, logits.size());
  implementation_->read(tokens, HeadRequest{.logits = last});
  return last[0];
}

void Session::append(std::span<const int32_t> tokens, View2<float> logits) {
  implementation_->engine->check(length(), tokens);
  check_shape("reading tokens", "logits", {tokens.size(), config().vocab_size},
              {logits.rows, logits.cols});
  const auto head_of = [&](size_t first, size_t count) {
    return HeadRequest{.logits = logits.rows_slice(first, count)};
  };
  implementation_->read(tokens, head_of);
}

void Session::append(std::span<const int32_t> tokens, const HeadRequest& head) {
  implementation_->engine->check(length(), tokens);
  check_request(head, tokens.size(), config().vocab_size);
  implementation_->read(tokens, head);
}

void Session::append(std::span<const int32_t> tokens, ActivationSquares& squares) {
  implementation_->read(
      tokens, [](size_t, size_t) { return HeadRequest(); }, &squares);
}

std::span<const int32_t> Session::tokens() const {
  return implementation_->tokens;
}

size_t Session::room() const {
  return implementation_->engine->context - length();
}

const ModelConfig& Session::config() const {
  return implementation_->engine->config();
}

size_t Session::cache_bytes() const {
  size_t bytes = implementation_->cache.bytes();
  for (const auto& cache : implementation_->rooms)
    if (cache) bytes += cache->bytes();
  for (const auto& cache : implementation_->source) bytes += cache->bytes();
  return bytes;
}

std::optional<AttentionStatistics> Session::attention_statistics() const {
  std::optional<AttentionStatistics> sum;
  double remainders = 0, layers = 0;
  for (const auto& cache : implementation_->rooms) {
    const auto one = cache ? cache->statistics() : std::nullopt;
    if (!one) continue;
    if (!sum) sum.emplace();
    sum->visible += one->visible;
    sum->visited += one->visited;
    sum->mean_remainder = (remainders += one->mean_remainder) / ++layers;
  }
  return sum;
}

void Session::truncate(size_t length) {
  if (length > this->length())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "truncating a text",
                 .expected = fmt::format("at most its {} tokens", this->length()),
                 .found = std::to_string(length)});
  if (!implementation_->cache.holds_before(length))
    throw Error(
        {.kind = ErrorKind::usage,
         .doing = "truncating a text",
         .subject = "layers that see a window of the text",
         .expected = fmt::format("at most {} tokens taken away, or all", PagedCache::kRewind),
         .found = fmt::format("{} of {}", this->length() - length, this->length()),
         .hint = "read the text again from its beginning"});
  implementation_->forget(length);
}

size_t Session::keep(size_t length) {
  try {
    truncate(length);
  } catch (const Error&) {
    auto fresh = implementation_->engine->start();
    fresh->source = std::move(implementation_->source);
    implementation_ = std::move(fresh);
  }
  return this->length();
}

Session Session::fork() const {
  auto copy = std::make_unique<Implementation>(implementation_->engine);
  copy->tokens = implementation_->tokens;
  copy->tokens.reserve(implementation_->engine->context);
  copy->cache = PagedCache(implementation_->cache);
  for (const auto& cache : implementation_->rooms)
    copy->rooms.push_back(cache ? cache->fork() : nullptr);
  copy->source = implementation_->source;
  return Session(std::move(copy));
}

void Session::reserve(size_t length) {
  if (length > implementation_->engine->context)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making room for a text",
                 .expected = fmt::format("at most {} tokens (the context)",
                                         implementation_->engine->context),
                 .found = std::to_string(length)});
  implementation_->cache.reserve(this->length(), length);
}

bool Session::repeat_to(size_t length) {
  const DecodeProgram& program = implementation_->engine->program;
  PagedCache& cache = implementation_->cache;
  std::vector<int32_t>& tokens = implementation_->tokens;
  const size_t whole = tokens.size() / PagedCache::kPage * PagedCache::kPage;
  if (whole == 0 || length <= tokens.size()) return false;
  for (size_t layer = 0; layer < program.layers(); ++layer)
    if (!program.is_plain(layer) || cache.shape().windows[layer] != 0) return false;
  implementation_->forget(whole);
  reserve(length);
  for (size_t begin = whole; begin < length; begin += PagedCache::kPage) {
    cache.prepare(begin, std::min(begin + PagedCache::kPage, length));
    cache.copy_page(begin % whole, begin);
  }
  for (size_t i = whole; i < length; ++i) tokens.push_back(tokens[i % whole]);
  return true;
}

Engine::Engine(const DecoderWeights& weights, ThreadTeam& team, const EngineOptions& options) {
  apply_isa_limit();
  implementation_ = std::make_unique<Implementation>(weights, team, options);
}

Engine::~Engine() = default;

Session Engine::start() {
  if (implementation_->encoder)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "starting a text",
                 .subject = "an encoder-decoder",
                 .expected = "a source for the encoder to read",
                 .found = "none",
                 .hint =
                     "cairn run answers a prompt; chats, evaluations, drafts and benches are for "
                     "decoders alone"});
  return Session(implementation_->start());
}

Session Engine::start(std::span<const int32_t> source) {
  Implementation& engine = *implementation_;
  if (!engine.encoder)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "starting a text",
                 .subject = "the model " + engine.config().architecture,
                 .expected = "an encoder",
                 .found = "a decoder alone"});
  engine.check(0, source);
  auto session = engine.start();
  for (size_t i = 0; i < engine.program.layers(); ++i)
    if (engine.program.reads_source(i))
      session->source.push_back(
          engine.program.attention(i).make_cache(source.size(), engine.room_cache));
  engine.encoder->run({.tokens = source, .source = session->source});
  return Session(std::move(session));
}

const ModelConfig& Engine::config() const {
  return implementation_->config();
}

size_t Engine::context() const {
  return implementation_->context;
}

size_t Engine::bytes_per_token() const {
  return implementation_->program.plan().bytes();
}

void Engine::set_parts(const ProgramParts& parts) {
  implementation_->program.set_parts(parts);
}

void Engine::time_barriers(bool yes) {
  implementation_->program.time_barriers(yes);
}

double Engine::barrier_seconds() const {
  return implementation_->program.barrier_seconds();
}

size_t Engine::barriers() const {
  return implementation_->program.barriers();
}

size_t Engine::skipped_bytes() const {
  return implementation_->program.skipped_bytes();
}

size_t Engine::passes_alone() const {
  return implementation_->program.passes_alone();
}

}  // namespace cairn
