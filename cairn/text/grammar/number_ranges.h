// Decimal numbers between bounds as grammar expressions: which digits may stand where.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

// value = mantissa * 10^-digits, digits >= 0.
struct Decimal {
  int64_t mantissa = 0;
  int digits = 0;
};

// The number as JSON writes it ("-12.5e-1"); empty when it has more than 6 digits behind the point
// or its absolute value is above 10^12.
std::optional<Decimal> read_decimal(std::string_view text);

// One end of a range: the number itself may be in it or not.
struct DecimalBound {
  Decimal value;
  bool inclusive = true;
};

// Whole numbers within the bounds, without leading zeros and without -0. An open end goes to 15
// digits. An expression that matches nothing when there are none.
GrammarExpression whole_numbers(const std::optional<DecimalBound>& low,
                                const std::optional<DecimalBound>& high);
// Numbers within the bounds with no point, or with up to one digit more behind it than the bounds
// have (at least 2, at most 6).
GrammarExpression decimal_numbers(const std::optional<DecimalBound>& low,
                                  const std::optional<DecimalBound>& high);

}  // namespace cairn
