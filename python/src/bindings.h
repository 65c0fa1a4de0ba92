// The parts of the extension module; one .cpp each, named after the C++ header that it mirrors.
#pragma once

#include <nanobind/nanobind.h>

namespace cairn::python {

void bind_error(nanobind::module_& module);
void bind_tokenizer(nanobind::module_& module);
void bind_attention(nanobind::module_& module);
void bind_stick_breaking(nanobind::module_& attention);
void bind_path(nanobind::module_& attention);
void bind_engine(nanobind::module_& module);

}  // namespace cairn::python
