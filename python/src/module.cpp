#include "bindings.h"

NB_MODULE(_cairn, module) {
  module.attr("__version__") = CAIRN_VERSION;
  cairn::python::bind_error(module);
  cairn::python::bind_tokenizer(module);
  cairn::python::bind_attention(module);
  cairn::python::bind_engine(module);
}
