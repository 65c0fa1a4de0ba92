// Base64 (RFC 4648, with padding): bytes inside JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cairn {

std::string to_base64(std::string_view bytes);

// Nothing when `text` is not base64.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace cairn
