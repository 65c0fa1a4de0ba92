#include "cairn/infer/engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cfenv>
#include <filesystem>
#include <mutex>
#include <variant>

#include "bindings.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/text_model.h"
#include "text_stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace cairn::python {
namespace {

DType dtype_of_word(const std::string& word, const char* argument) {
  if (word == "f32") return DType::f32;
  if (word == "bf16") return DType::bf16;
  throw Error({.kind = ErrorKind::usage,
               .doing = "opening a model",
               .subject = argument,
               .expected = "\"f32\" or \"bf16\"",
               .found = "\"" + word + "\""});
}

BlockType cache_type_of_word(const std::string& word) {
  for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16, BlockType::q8_0})
    if (word == block_type_name(type)) return type;
  throw Error({.kind = ErrorKind::usage,
               .doing = "opening a model",
               .subject = "cache",
               .expected = "\"f32\", \"f16\", \"bf16\" or \"q8_0\"",
               .found = "\"" + word + "\""});
}

// A str or os.PathLike.
std::string path_text(nb::handle path) {
  const nb::object text = nb::steal(PyOS_FSPath(path.ptr()));
  if (!text.is_valid()) nb::raise_python_error();
  return nb::cast<std::string>(text);
}

// A model with the threads that run it. One call at a time: Python threads queue here, with the
// interpreter lock released.
struct PythonModel {
  PythonModel(const std::string& name, int threads, const EngineOptions& options)
      : path(std::filesystem::absolute(name)),
        team(threads),
        engine(open_decoder_weights(path), team, options) {}

  // Read when it is first wanted: a model without one still gives logits.
  const Tokenizer& need_tokenizer() {
    const std::lock_guard<std::mutex> lock(tokenizer_mutex);
    if (!tokenizer) tokenizer.emplace(open_tokenizer(path));
    return *tokenizer;
  }

  Path path;
  ThreadTeam team;
  Engine engine;
  std::recursive_mutex mutex;  // a stream callback may ask the model something

 private:
  std::optional<Tokenizer> tokenizer;
  std::mutex tokenizer_mutex;
};

struct PythonSession {
  PythonModel* model;  // kept alive by Python
  Session session;
};

// While a thread without the interpreter lock uses a model: its other users wait, and tiny numbers
// are flushed to zero here as in the team's threads, but not in the caller's own arithmetic.
class UsingModel {
 public:
  explicit UsingModel(std::recursive_mutex& mutex) : lock_(mutex) {
    std::fegetenv(&caller_);
    flush_denormals_in_this_thread();
  }
  ~UsingModel() { std::fesetenv(&caller_); }
  UsingModel(const UsingModel&) = delete;
  UsingModel& operator=(const UsingModel&) = delete;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  std::fenv_t caller_;
};

// The same for a thread of Python; others may run meanwhile.
class Working {
 public:
  explicit Working(std::recursive_mutex& mutex) : use_(mutex) {}

 private:
  nb::gil_scoped_release release_;  // before the model is waited for
  UsingModel use_;
};

using Array1 = nb::ndarray<nb::numpy, float, nb::ndim<1>>;
using Array2 = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

// Hands a block of floats over to numpy.
template <class Array>
Array to_numpy(std::vector<float>&& values, std::initializer_list<size_t> shape) {
  auto* owned = new std::vector<float>(std::move(values));
  const nb::capsule owner(owned,
                          [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  return Array(owned->data(), shape, owner);
}

Array1 append(PythonSession& self, const std::vector<int32_t>& tokens) {
  std::vector<float> copy;
  {
    const Working working(self.model->mutex);
    const View1<const float> logits = self.session.append(tokens);
    copy.assign(logits.begin(), logits.end());
  }
  const size_t size = copy.size();
  return to_numpy<Array1>(std::move(copy), {size});
}

using Source = std::optional<std::vector<int32_t>>;

Session begin(PythonModel& self, const Source& source) {
  return source ? self.engine.start(*source) : self.engine.start();
}

Array2 logits(PythonModel& self, const std::vector<int32_t>& tokens, const Source& source) {
  const size_t vocab = self.engine.config().vocab_size;
  std::vector<float> values;
  {
    const Working working(self.mutex);
    Session session = begin(self, source);
    // Too many tokens are refused before anything is allocated for them.
    values.resize(std::min(tokens.size(), session.room()) * vocab);
    if (tokens.size() <= session.room())
      session.append(tokens, {values.data(), tokens.size(), vocab});
    else
      session.append(tokens);
  }
  return to_numpy<Array2>(std::move(values), {tokens.size(), vocab});
}

nb::object text_of(std::string_view bytes) {
  return nb::steal(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

// Calls back into Python with each piece of text; None or a true value goes on.
class PythonCallback {
 public:
  explicit PythonCallback(nb::object callback) : callback_(std::move(callback)) {}

  bool operator()(std::string_view piece) const {
    const nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!callback_.is_valid() || piece.empty()) return true;
    const nb::object answer = callback_(text_of(piece));
    return answer.is_none() || nb::cast<bool>(answer);
  }

 private:
  nb::object callback_;
};

// A TextStream on the side of Python, which holds the interpreter lock.
class PythonStream {
 public:
  PythonStream(nb::object owner, std::vector<int32_t> prompt, GenerateOptions options)
      : owner_(std::move(owner)) {
    auto& model = nb::cast<PythonModel&>(owner_);
    stream_.emplace(
        [&model, prompt = std::move(prompt), options = std::move(options)](TextCallback on_text) {
          const UsingModel use(model.mutex);
          return generate(model.engine, model.need_tokenizer(), prompt, options, on_text);
        });
  }
  ~PythonStream() {
    const nb::gil_scoped_release release;
    stream_.reset();
  }
  PythonStream(const PythonStream&) = delete;
  PythonStream& operator=(const PythonStream&) = delete;

  nb::object next() {
    std::string piece;
    for (TextStream::State state = TextStream::State::waiting; state != TextStream::State::piece;) {
      {
        const nb::gil_scoped_release release;
        state = stream_->next(piece);
      }
      if (PyErr_CheckSignals() != 0) nb::raise_python_error();
      if (state == TextStream::State::ended) throw nb::stop_iteration();
    }
    return text_of(piece);
  }
  void close() {
    const nb::gil_scoped_release release;
    stream_->close();
  }
  std::optional<Generation> result() {
    const nb::gil_scoped_release release;
    return stream_->result();
  }

 private:
  nb::object owner_;  // the model
  std::optional<TextStream> stream_;
};

using StreamArgument = std::variant<std::monostate, bool, nb::callable>;

nb::object generate_several(PythonModel& self, const std::vector<std::string>& texts,
                            const GenerateOptions& options, const StreamArgument& stream) {
  const bool* iterate = std::get_if<bool>(&stream);
  if (std::holds_alternative<nb::callable>(stream) || (iterate != nullptr && *iterate))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "generating text",
                 .subject = "stream",
                 .expected = "None with a list of prompts",
                 .found = "a stream"});
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : texts)
    prompts.push_back(encode_prompt(self.need_tokenizer(), text));
  const PythonCallback callback{nb::object()};
  std::vector<Generation> made;
  {
    const Working working(self.mutex);
    made = generate_each(self.engine, self.need_tokenizer(), prompts, options, callback);
  }
  return nb::cast(std::move(made));
}

nb::object generate_text(nb::object model,
                         const std::variant<std::string, std::vector<std::string>>& prompt,
                         size_t max_tokens, double temperature, int64_t top_k, double top_p,
                         double min_p, double repetition_penalty, uint64_t seed,
                         std::vector<std::string> stop, bool ignore_eos,
                         const StreamArgument& stream) {
  GenerateOptions options;
  options.sampling = {.temperature = temperature,
                      .top_k = top_k,
                      .top_p = top_p,
                      .min_p = min_p,
                      .repetition_penalty = repetition_penalty,
                      .seed = seed};
  options.max_tokens = max_tokens;
  options.stops = std::move(stop);
  options.ignore_eos = ignore_eos;
  auto& self = nb::cast<PythonModel&>(model);
  const Tokenizer& tokenizer = self.need_tokenizer();
  if (const auto* several = std::get_if<std::vector<std::string>>(&prompt))
    return generate_several(self, *several, options, stream);
  std::vector<int32_t> tokens = encode_prompt(tokenizer, std::get<std::string>(prompt));
  if (const bool* iterate = std::get_if<bool>(&stream); iterate != nullptr && *iterate) {
    return nb::cast(new PythonStream(model, std::move(tokens), std::move(options)),
                    nb::rv_policy::take_ownership);
  }
  const auto* function = std::get_if<nb::callable>(&stream);
  const PythonCallback callback(function == nullptr ? nb::object() : nb::object(*function));
  Generation made;
  {
    const Working working(self.mutex);
    made = generate(self.engine, tokenizer, tokens, options, callback);
  }
  return nb::cast(std::move(made));
}

void bind_stream(nb::module_& module) {
  nb::class_<PythonStream>(module, "TextStream",
                           "An iterator over the pieces of a text that is being generated.")
      .def("__iter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__next__", &PythonStream::next)
      .def("close", &PythonStream::close, "Ends the text where it is.")
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__exit__", [](PythonStream& self, const nb::args&) { self.close(); })
      .def_prop_ro("result", &PythonStream::result,
                   "The whole Generation once the text has ended or is closed; None before.");
}

void bind_generation(nb::module_& module) {
  nb::class_<Generation>(module, "Generation", "What generate() made.")
      .def_prop_ro("text", [](const Generation& self) { return text_of(self.text); })
      .def_ro("tokens", &Generation::tokens)
      .def_prop_ro(
          "reason",
          [](const Generation& self) { return std::string(stop_reason_name(self.reason)); })
      .def_ro("prompt_tokens", &Generation::prompt_tokens)
      .def_ro("prefill_seconds", &Generation::prefill_seconds)
      .def_ro("decode_seconds", &Generation::decode_seconds)
      .def("__repr__", [](nb::handle self) {
        return nb::str("Generation(text={!r}, tokens={}, reason={!r})")
            .format(self.attr("text"), nb::len(nb::object(self.attr("tokens"))),
                    self.attr("reason"));
      });
}

void bind_session(nb::module_& module) {
  nb::class_<PythonSession>(module, "Session",
                            "One text being read and continued, with its attention cache.")
      .def("append", append, "tokens"_a,
           "Reads tokens behind those read so far; the logits that follow the last, [vocab_size].")
      .def_prop_ro("tokens",
                   [](const PythonSession& self) {
                     const auto tokens = self.session.tokens();
                     return std::vector<int32_t>(tokens.begin(), tokens.end());
                   })
      .def("__len__", [](const PythonSession& self) { return self.session.length(); })
      .def_prop_ro("room", [](const PythonSession& self) { return self.session.room(); })
      .def(
          "truncate",
          [](PythonSession& self, size_t length) {
            const Working working(self.model->mutex);
            self.session.truncate(length);
          },
          "length"_a, "Forgets all tokens from `length` on.")
      .def(
          "fork",
          [](PythonSession& self) {
            const Working working(self.model->mutex);
            return new PythonSession{self.model, self.session.fork()};
          },
          nb::rv_policy::take_ownership, nb::keep_alive<0, 1>(),
          "An independent text that continues from here.");
}

void bind_model(nb::module_& module) {
  nb::class_<PythonModel>(module, "Model",
                          "A Hugging Face folder or a GGUF file, opened for generating text.")
      .def(
          "__init__",
          [](PythonModel* self, nb::handle path, int threads, const std::string& precision,
             const std::string& cache, size_t context) {
            const std::string text = path_text(path);
            const EngineOptions options{
                .weights = precision == "stored"
                               ? std::nullopt
                               : block_type_of(dtype_of_word(precision, "precision")),
                .cache = cache_type_of_word(cache),
                .context = context};
            std::recursive_mutex none;
            const Working working(none);
            new (self) PythonModel(text, threads, options);
          },
          "path"_a, "threads"_a = 0, "precision"_a = "f32", "cache"_a = "f32", "context"_a = 0,
          "path: a GGUF file, or a folder with config.json and model.safetensors.\n"
          "threads: 0 takes what the machine allows. precision: of weights; f32, bf16 or stored,\n"
          "as the file has them, which is fast where they are quantised. cache: of keys and\n"
          "values; f32, f16, bf16 or q8_0. context: most tokens of a text, 0 as the model says.")
      .def_prop_ro("tokenizer", &PythonModel::need_tokenizer, nb::rv_policy::reference_internal,
                   "That of the GGUF file, or of the folder: tokenizer.json, spiece.model or\n"
                   "tokenizer.model. DataError when there is none.")
      .def_prop_ro("vocab_size", [](const PythonModel& m) { return m.engine.config().vocab_size; })
      .def_prop_ro("context", [](const PythonModel& m) { return m.engine.context(); })
      .def_prop_ro("layers", [](const PythonModel& m) { return m.engine.config().layers; })
      .def_prop_ro("hidden_size",
                   [](const PythonModel& m) { return m.engine.config().hidden_size; })
      .def_prop_ro("threads", [](const PythonModel& m) { return m.team.size(); })
      .def("logits", logits, "tokens"_a, "source"_a = nb::none(),
           "The logits that follow each of the tokens: numpy, float32, [tokens, vocab_size]. "
           "source:\n"
           "what an encoder-decoder reads first; its tokens then begin with decoder_start_id.")
      .def_prop_ro("decoder_start_id",
                   [](const PythonModel& m) { return m.engine.config().decoder_start_id; })
      .def(
          "start",
          [](PythonModel& self, const Source& source) {
            const Working working(self.mutex);
            return new PythonSession{&self, begin(self, source)};
          },
          nb::rv_policy::take_ownership, nb::keep_alive<0, 1>(), "source"_a = nb::none(),
          "A new, empty text; of an encoder-decoder, one that reads source.")
      .def("generate", generate_text, "prompt"_a, "max_tokens"_a = 128, "temperature"_a = 1.0,
           "top_k"_a = 0, "top_p"_a = 1.0, "min_p"_a = 0.0, "repetition_penalty"_a = 1.0,
           "seed"_a = 0, "stop"_a = std::vector<std::string>(), "ignore_eos"_a = false,
           "stream"_a = nb::none(),
           "Continues a text (an encoder-decoder answers it), or each of a list of texts: then a\n"
           "list of Generation, as each text would get by itself; what all begin with is read "
           "once.\n"
           "stream(piece) sees each piece of text as it comes; False ends it.\n"
           "stream=True returns at once, with an iterator over the pieces; close() ends it.\n"
           "The other arguments are those of cairn/infer/sampler.h; temperature 0 is greedy.");
}

void convert(nb::handle source, nb::handle target, const std::string& dtype) {
  const std::string from = path_text(source), to = path_text(target);
  const DType type = dtype_of_word(dtype, "dtype");
  const nb::gil_scoped_release release;
  save_model(load_model(from), to, type);
}

}  // namespace

void bind_engine(nb::module_& module) {
  module.def("convert", convert, "source"_a, "target"_a, "dtype"_a = "f32",
             "Reads a Hugging Face folder and writes its config.json, generation_config.json and\n"
             "model.safetensors into another, as Cairn writes them. dtype: f32 or bf16.");
  bind_generation(module);
  bind_stream(module);
  bind_session(module);
  bind_model(module);
}

}  // namespace cairn::python
