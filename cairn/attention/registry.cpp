// The rooms. A new mechanism adds one line here.
#include <array>

#include "cairn/attention/fox/fox.h"
#include "cairn/attention/mechanism.h"
#include "cairn/attention/path/path.h"
#include "cairn/attention/relative_bias/relative_bias.h"
#include "cairn/attention/softmax/softmax.h"
#include "cairn/attention/stick_breaking/stick_breaking.h"
#include "cairn/base/error.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

using Make = std::unique_ptr<AttentionMechanism> (*)(const AttentionOptions&,
                                                     const AttentionGeometry&, size_t);

template <class Room>
std::unique_ptr<AttentionMechanism> make(const AttentionOptions& options,
                                         const AttentionGeometry& geometry, size_t context_length) {
  return std::make_unique<Room>(options, geometry, context_length);
}

struct RoomEntry {
  std::string_view name;
  Make make;
};

constexpr std::array kRooms = {
    RoomEntry{"stick_breaking", make<StickBreakingAttention>},
    RoomEntry{"softmax", make<SoftmaxAttention>},
    RoomEntry{"fox", make<FoxAttention>},
    RoomEntry{"path", make<PathAttention>},
    RoomEntry{"path_fox", make<PathAttention>},
    RoomEntry{"relative_bias", make<RelativeBiasAttention>},
};

}  // namespace

std::vector<std::string> attention_names() {
  std::vector<std::string> names;
  for (const RoomEntry& room : kRooms) names.emplace_back(room.name);
  return names;
}

std::unique_ptr<AttentionMechanism> make_attention(const AttentionOptions& options,
                                                   const AttentionGeometry& geometry,
                                                   size_t context_length) {
  std::string known;
  for (const RoomEntry& room : kRooms) {
    if (room.name == options.mechanism) return room.make(options, geometry, context_length);
    known += (known.empty() ? "" : ", ") + std::string(room.name);
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "making an attention mechanism",
               .subject = "mechanism",
               .expected = known,
               .found = options.mechanism,
               .hint = did_you_mean(options.mechanism, attention_names())});
}

}  // namespace cairn
