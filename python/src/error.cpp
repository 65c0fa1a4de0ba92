#include "cairn/base/error.h"

#include "bindings.h"

namespace nb = nanobind;

namespace cairn::python {
namespace {

// Borrowed from the module, which lives as long as the interpreter.
PyObject* error_type = nullptr;
PyObject* usage_type = nullptr;
PyObject* data_type = nullptr;

PyObject* make_type(nb::module_& module, const char* name, const char* about, nb::handle bases) {
  const std::string full = std::string("cairn.") + name;
  nb::object type = nb::steal(PyErr_NewExceptionWithDoc(full.c_str(), about, bases.ptr(), nullptr));
  if (!type.is_valid()) nb::raise_python_error();
  module.attr(name) = type;
  return type.ptr();
}

void translate(const std::exception_ptr& thrown, void* /*payload*/) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    PyObject* type = error.kind() == ErrorKind::usage  ? usage_type
                     : error.kind() == ErrorKind::data ? data_type
                                                       : error_type;
    PyErr_SetString(type, error.what());
  }
}

}  // namespace

void bind_error(nb::module_& module) {
  error_type =
      make_type(module, "Error", "What Cairn could not do, to what, and why.", PyExc_Exception);
  usage_type = make_type(module, "UsageError", "A wrong argument.",
                         nb::make_tuple(nb::handle(error_type), nb::handle(PyExc_ValueError)));
  data_type = make_type(module, "DataError", "A file that is not what it should be.",
                        nb::make_tuple(nb::handle(error_type)));
  nb::register_exception_translator(translate);
}

}  // namespace cairn::python
