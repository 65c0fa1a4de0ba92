#include "cairn/text/grammar/number_ranges.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

namespace cairn {
namespace {

using grammar::Expression;

constexpr int kMostDigits = 6;  // behind the point
constexpr int64_t kLargest = 1'000'000'000'000;

int64_t power_of_ten(int exponent) {
  int64_t result = 1;
  while (exponent-- > 0) result *= 10;
  return result;
}

Expression digit(int64_t low, int64_t high) {
  return grammar::characters(
      {{static_cast<uint32_t>('0' + low), static_cast<uint32_t>('0' + high)}});
}

// The numbers low to high, written with exactly `count` digits, the last `digits` of which stand
// behind a point.
Expression fixed_width(int64_t low, int64_t high, int count, int digits) {
  std::vector<Expression> parts;
  if (digits > 0 && count == digits) parts.push_back(grammar::text("."));
  if (count == 0) return grammar::text("");
  const int64_t rest = power_of_ten(count - 1);
  const auto branch = [&](int64_t first, int64_t last, int64_t rest_low, int64_t rest_high) {
    std::vector<Expression> both;
    both.push_back(digit(first, last));
    both.push_back(fixed_width(rest_low, rest_high, count - 1, digits));
    return grammar::sequence(std::move(both));
  };
  int64_t first = low / rest, last = high / rest;
  std::vector<Expression> branches;
  if (first == last) {
    branches.push_back(branch(first, last, low % rest, high % rest));
  } else {
    if (low % rest != 0) {
      branches.push_back(branch(first, first, low % rest, rest - 1));
      ++first;
    }
    if (high % rest != rest - 1) {
      branches.push_back(branch(last, last, 0, high % rest));
      --last;
    }
    if (first <= last) branches.push_back(branch(first, last, 0, rest - 1));
  }
  parts.push_back(grammar::choice(std::move(branches)));
  return grammar::sequence(std::move(parts));
}

// The same without leading zeros, 0 <= low <= high.
void add_range(int64_t low, int64_t high, int digits, const char* sign,
               std::vector<Expression>& alternatives) {
  for (int count = digits + 1; count <= 18; ++count) {
    const int64_t from = std::max(low, count == digits + 1 ? 0 : power_of_ten(count - 1));
    const int64_t to = std::min(high, power_of_ten(count) - 1);
    if (from > to) continue;
    std::vector<Expression> parts;
    parts.push_back(grammar::text(sign));
    parts.push_back(fixed_width(from, to, count, digits));
    alternatives.push_back(grammar::sequence(std::move(parts)));
  }
}

// A bound times 10^digits, rounded into the range.
int64_t scaled(const DecimalBound& bound, int digits, bool is_low) {
  const Decimal& d = bound.value;
  if (digits >= d.digits) {
    const int64_t exact = d.mantissa * power_of_ten(digits - d.digits);
    return bound.inclusive ? exact : exact + (is_low ? 1 : -1);
  }
  const int64_t divisor = power_of_ten(d.digits - digits);
  const int64_t toward_zero = d.mantissa / divisor;
  const bool exact = toward_zero * divisor == d.mantissa;
  if (exact) return bound.inclusive ? toward_zero : toward_zero + (is_low ? 1 : -1);
  if (is_low) return d.mantissa > 0 ? toward_zero + 1 : toward_zero;
  return d.mantissa < 0 ? toward_zero - 1 : toward_zero;
}

void add_numbers(const std::optional<DecimalBound>& low, const std::optional<DecimalBound>& high,
                 int digits, std::vector<Expression>& alternatives) {
  const int64_t far = power_of_ten(digits == 0 ? 15 : 12 + digits) - 1;
  const int64_t from = low ? scaled(*low, digits, true) : -far;
  const int64_t to = high ? scaled(*high, digits, false) : far;
  if (from > to) return;
  if (from < 0) add_range(std::max<int64_t>(1, -to), -from, digits, "-", alternatives);
  if (to >= 0) add_range(std::max<int64_t>(0, from), to, digits, "", alternatives);
}

}  // namespace

std::optional<Decimal> read_decimal(std::string_view text) {
  Decimal result;
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  int exponent = 0;
  if (const size_t e = text.find_first_of("eE"); e != text.npos) {
    std::string_view power = text.substr(e + 1);
    if (power.starts_with('+')) power.remove_prefix(1);
    const auto [end, code] = std::from_chars(power.data(), power.data() + power.size(), exponent);
    if (code != std::errc() || end != power.data() + power.size()) return {};
    text = text.substr(0, e);
  }
  bool behind_point = false;
  for (const char c : text) {
    if (c == '.') {
      behind_point = true;
      continue;
    }
    if (result.mantissa > INT64_MAX / 100) return {};
    result.mantissa = result.mantissa * 10 + (c - '0');
    if (behind_point) --exponent;
  }
  while (exponent < 0 && result.mantissa % 10 == 0 && result.mantissa != 0) {
    result.mantissa /= 10;
    ++exponent;
  }
  if (result.mantissa == 0) exponent = 0;
  if (exponent < -kMostDigits || exponent > 12) return {};
  for (; exponent > 0; --exponent) {
    if (result.mantissa > kLargest) return {};
    result.mantissa *= 10;
  }
  result.digits = -exponent;
  if (result.mantissa / power_of_ten(result.digits) > kLargest) return {};
  if (negative) result.mantissa = -result.mantissa;
  return result;
}

GrammarExpression whole_numbers(const std::optional<DecimalBound>& low,
                                const std::optional<DecimalBound>& high) {
  std::vector<Expression> alternatives;
  add_numbers(low, high, 0, alternatives);
  return grammar::choice(std::move(alternatives));
}

GrammarExpression decimal_numbers(const std::optional<DecimalBound>& low,
                                  const std::optional<DecimalBound>& high) {
  int most = 1;
  for (const auto* bound : {&low, &high})
    if (*bound) most = std::max(most, (*bound)->value.digits);
  most = std::min(most + 1, kMostDigits);
  std::vector<Expression> alternatives;
  for (int digits = 0; digits <= most; ++digits) add_numbers(low, high, digits, alternatives);
  return grammar::choice(std::move(alternatives));
}

}  // namespace cairn
