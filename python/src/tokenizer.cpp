#include "cairn/text/tokenizer.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "cairn/text/tokenizer_json.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace cairn::python {
namespace {

// Bytes that are no UTF-8 become U+FFFD, as in other Python tokenizers.
nb::object as_text(const std::string& bytes) {
  return nb::steal(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

nb::object id_or_none(int32_t id) {
  return id < 0 ? nb::none() : nb::cast(id);
}

}  // namespace

void bind_tokenizer(nb::module_& module) {
  nb::class_<Tokenizer>(module, "Tokenizer", "Byte-level BPE: text to token ids and back.")
      .def_static(
          "load", [](const std::string& file) { return load_tokenizer(file); }, "file"_a,
          "Reads a tokenizer.json and, if there, the tokenizer_config.json beside it.")
      .def(
          "encode",
          [](const Tokenizer& self, std::string_view text, bool add_special, bool parse_special) {
            return self.encode(text, {.parse_special = parse_special, .add_special = add_special});
          },
          "text"_a, "add_special"_a = false, "parse_special"_a = false,
          "The ids of a text. add_special: with the tokenizer's own beginning and end.\n"
          "parse_special: spellings of special tokens in the text become those tokens.")
      .def(
          "decode",
          [](const Tokenizer& self, const std::vector<int32_t>& ids, bool skip_special) {
            return as_text(self.decode(ids, skip_special));
          },
          "ids"_a, "skip_special"_a = false, "The text of some ids.")
      .def(
          "decode_bytes",
          [](const Tokenizer& self, const std::vector<int32_t>& ids, bool skip_special) {
            const std::string bytes = self.decode(ids, skip_special);
            return nb::bytes(bytes.data(), bytes.size());
          },
          "ids"_a, "skip_special"_a = false, "The bytes of some ids, also where they are no UTF-8.")
      .def_prop_ro("vocab_size", &Tokenizer::vocab_size, "One more than the largest id.")
      .def_prop_ro("bos_id", [](const Tokenizer& self) { return id_or_none(self.bos_id()); })
      .def_prop_ro("eos_id", [](const Tokenizer& self) { return id_or_none(self.eos_id()); })
      .def_prop_ro("fingerprint", &Tokenizer::fingerprint,
                   "Differs when anything that changes ids differs.")
      .def("__len__", &Tokenizer::vocab_size);
}

}  // namespace cairn::python
