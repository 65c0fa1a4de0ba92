// Jinja templates as chat templates use them: rendered as Python's jinja2 does with the settings of
// transformers (sandboxed, trim_blocks, lstrip_blocks, loop controls, tojson without escapes for
// HTML, the "generation" block). Without inheritance and inclusion; what is not supported is
// refused by name, with line and column, when the template is parsed.
//
//   const jinja::Template chat(source, "chat_template");
//   const jinja::Rendered out = chat.render(globals);
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/text/added_tokens.h"
#include "cairn/text/jinja/context.h"
#include "cairn/text/jinja/value.h"

namespace cairn::jinja {

struct Rendered {
  std::string text;
  std::vector<TextRange> user;       // what users wrote: sorted, apart
  std::vector<TextRange> generated;  // what {% generation %} blocks emitted
};

struct RenderOptions {
  Limits limits;
  std::time_t now = std::time(nullptr);  // of strftime_now
};

struct Statement;

// Immutable after construction; any thread may render.
class Template {
 public:
  // `name` is what errors call it. Throws Error (data) with line and column.
  Template(std::string_view source, std::string name);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // `globals`: what the template sees besides the functions range, namespace, dict,
  // raise_exception and strftime_now. Throws Error (data) with line and column: what Python would
  // raise, what the template raises itself, and limits.
  Rendered render(const Dict& globals, const RenderOptions& options = {}) const;

  // Names that the template looks up and never sets itself, but for its functions: sorted.
  const std::vector<std::string>& variables() const { return variables_; }

 private:
  std::string name_;
  std::vector<std::string> variables_;
  std::vector<std::unique_ptr<Statement>> body_;
};

}  // namespace cairn::jinja
