// JSON Schema (draft 2020-12) to a grammar of the JSON texts that satisfy it, so that a model can
// say nothing else.
//
// Understood: type, enum, const, properties, required, additionalProperties, items, prefixItems,
// minItems, maxItems, minLength, maxLength, pattern, format (date, time, date-time, uuid, ipv4),
// minimum, maximum, exclusiveMinimum, exclusiveMaximum, $ref within the document ($defs, also
// recursive), allOf, anyOf, oneOf whose alternatives exclude each other, true, false. Annotations
// (title, description, default, ...) say nothing. Everything else is refused by name and path: a
// text of the grammar always satisfies the schema.
//
// The grammar is narrower than the schema where JSON leaves freedom: properties come in the order
// of the schema; properties and items that the schema does not name come only where it says so
// (additionalProperties, items) or names none; without "type", the keywords tell it; blanks are a
// few, after : , { [ and before } ].
#pragma once

#include <string>
#include <string_view>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

// Throws Error (data) with the path in the schema ("properties.name.pattern") of what is not
// understood or can never be satisfied, and for text that is no JSON. `source` is what errors call
// it.
Grammar grammar_from_json_schema(std::string_view text, const std::string& source);

// The grammar of any JSON object ("json mode").
Grammar any_json_object();

}  // namespace cairn
