// Shapes: small vectors of sizes, their text form, and the checks that entry points make.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

using Shape = std::vector<size_t>;

// Number of elements; throws Error (data) when the product overflows.
size_t element_count(const Shape& shape);
// "[512, 2048]".
std::string to_string(const Shape& shape);

// Throws Error (usage) "OPERATION: ARGUMENT, expected SHAPE, found SHAPE" when they differ.
void check_shape(std::string_view operation, std::string_view argument, const Shape& expected,
                 const Shape& found);
// The same for shapes written in braces at the call: allocates only to complain.
void check_shape(std::string_view operation, std::string_view argument,
                 std::initializer_list<size_t> expected, std::initializer_list<size_t> found);

}  // namespace cairn
