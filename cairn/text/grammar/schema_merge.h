// Schemas joined into one: what satisfies the result satisfies both. For json_schema.cpp.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cairn {

using Schema = nlohmann::ordered_json;

// Refuses a schema: path, what was expected, what was found. Does not return.
using RefuseSchema = std::function<void(const std::string& path, const std::string& expected,
                                        const std::string& found)>;

// Keywords that say nothing about a value.
bool is_annotation(const std::string& keyword);

// Neither may hold $ref or allOf, which the caller resolves first. Calls `refuse` where the two
// together cannot be said.
Schema merge_schemas(const Schema& a, const Schema& b, const std::string& path,
                     const RefuseSchema& refuse);

// The "type" keyword as a list; empty when there is none.
std::vector<std::string> types_of(const Schema& schema);
bool has_type(const Schema& value, const std::string& type);

// Whether a value (of enum or const) satisfies the scalar keywords of a schema: type and bounds.
bool scalar_satisfies(const Schema& value, const Schema& schema);

}  // namespace cairn
