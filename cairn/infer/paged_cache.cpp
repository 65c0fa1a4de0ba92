#include "cairn/infer/paged_cache.h"

#include <fmt/core.h>

#include <cstring>
#include <string>

#include "cairn/base/error.h"

namespace cairn {
namespace {

size_t row_bytes(BlockType type, size_t dim) {
  const std::string name(block_type_name(type));
  if (type != BlockType::f32 && type != BlockType::f16 && type != BlockType::bf16 &&
      type != BlockType::q8_0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making an attention cache",
                 .subject = "type",
                 .expected = "f32, f16, bf16 or q8_0",
                 .found = name});
  if (const size_t block = block_type_info(type).block_size; dim % block != 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making an attention cache",
                 .subject = "keys and values as " + name,
                 .expected = fmt::format("heads of a multiple of {} dimensions", block),
                 .found = std::to_string(dim),
                 .hint = "keep keys and values in f16"});
  return block_row_bytes(type, dim);
}

size_t pages_before(size_t position) {
  return (position + PagedCache::kPage - 1) / PagedCache::kPage;
}

// sum + count * bytes, or the most there is.
size_t add_bytes(size_t sum, size_t count, size_t bytes) {
  return bytes > 0 && count > (SIZE_MAX - sum) / bytes ? SIZE_MAX : sum + count * bytes;
}

void check_available(size_t bytes, size_t positions) {
  const uint64_t free = available_memory();
  if (bytes <= free) return;
  throw Error({.doing = "making room in an attention cache",
               .expected = fmt::format("{} bytes for {} positions", bytes, positions),
               .found = fmt::format("{} bytes available", free),
               .hint = "shorten the text, or keep keys and values in f16 or q8_0"});
}

}  // namespace

PagedCache::PagedCache(const CacheShape& shape)
    : shape_(shape),
      key_bytes_(row_bytes(shape.type, shape.head_dim)),
      value_bytes_(row_bytes(shape.type, shape.value_dim)) {
  keys_bytes_ = align_up(kPage * key_bytes_, kAlignment);
  head_bytes_ = keys_bytes_ + align_up(kPage * value_bytes_, kAlignment);
  for (const size_t window : shape.windows) {
    size_t group = 0;
    while (group < groups_.size() && groups_[group].window != window) ++group;
    if (group == groups_.size()) groups_.push_back({.window = window});
    places_.push_back({group, groups_[group].layers++});
  }
}

PagedCache::PagedCache(const PagedCache& other) : PagedCache(other.shape_) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    groups_[g] = other.groups_[g];
    groups_[g].spare.clear();
  }
}

size_t PagedCache::bytes() const {
  size_t sum = 0;
  for (const Group& group : groups_) sum += (group.held + group.spare.size()) * page_bytes(group);
  return sum;
}

size_t PagedCache::most_pages(size_t window, size_t length) {
  const size_t all = pages_before(length);
  // Positions first_visible(window, end - kRewind) to end, which may begin anywhere in a page.
  return window == 0 || window > length ? all
                                        : std::min(all, pages_before(window + kRewind - 2) + 1);
}

// The system gives addresses beyond its memory and ends the process later: ask before.
void PagedCache::check_memory(size_t begin, size_t end) const {
  size_t needed = 0;
  for (const Group& group : groups_) {
    size_t fresh = 0;
    for (size_t i = begin / kPage; i < pages_before(end); ++i)
      fresh += i >= group.pages.size() || !group.pages[i] ? 1 : 0;
    if (fresh <= group.spare.size()) continue;
    needed = add_bytes(needed, fresh - group.spare.size(), page_bytes(group));
  }
  if (needed > 0) check_available(needed, end);
}

void PagedCache::prepare(size_t begin, size_t end, size_t mark) {
  if (begin >= end) return;
  check_memory(begin, end);
  const size_t wanted = pages_before(end);
  for (Group& group : groups_) {
    const size_t first = first_visible(group.window, end - std::min(end, kRewind)) / kPage;
    const size_t marked = first_visible(group.window, mark) / kPage;
    for (size_t i = group.lowest; i < first; ++i)
      if (i < marked || i >= pages_before(mark)) release(group, i);
    while (group.lowest < first && !group.pages[group.lowest]) ++group.lowest;
    if (group.pages.size() < wanted) group.pages.resize(wanted);
    for (size_t i = begin / kPage; i < wanted; ++i) {
      Page& page = group.pages[i];
      if (page && page.use_count() == 1) continue;
      Page own = take(group);
      if (page)
        std::memcpy(own->data(), page->data(), page_bytes(group));
      else
        ++group.held;
      page = std::move(own);
    }
    const size_t most = most_pages(group.window, SIZE_MAX - kPage);
    while (!group.spare.empty() && group.held + group.spare.size() > most) group.spare.pop_back();
  }
}

void PagedCache::reserve(size_t length, size_t end) {
  std::vector<size_t> missing;
  size_t needed = 0;
  for (const Group& group : groups_) {
    const size_t next = length / kPage;
    const bool copies = next < group.pages.size() && group.pages[next].use_count() > 1;
    const size_t wanted = most_pages(group.window, end) + (copies ? 1 : 0);
    const size_t here = group.held + group.spare.size();
    missing.push_back(wanted > here ? wanted - here : 0);
    needed = add_bytes(needed, missing.back(), page_bytes(group));
  }
  if (needed > 0) check_available(needed, end);
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t i = 0; i < missing[g]; ++i)
      groups_[g].spare.push_back(std::make_shared<AlignedBuffer>(page_bytes(groups_[g])));
}

void PagedCache::copy_page(size_t from, size_t to) {
  for (Group& group : groups_)
    std::memcpy(group.pages[to / kPage]->data(), group.pages[from / kPage]->data(),
                page_bytes(group));
}

void PagedCache::truncate(size_t length) {
  for (Group& group : groups_) {
    for (size_t i = pages_before(length); i < group.pages.size(); ++i) release(group, i);
    group.pages.resize(std::min(group.pages.size(), pages_before(length)));
    group.lowest = std::min(group.lowest, group.pages.size());
  }
}

bool PagedCache::holds_before(size_t position) const {
  for (const Group& group : groups_)
    for (size_t i = first_visible(group.window, position) / kPage; i < pages_before(position); ++i)
      if (!group.pages[i]) return false;
  return true;
}

void PagedCache::release(Group& group, size_t index) {
  Page& page = group.pages[index];
  if (!page) return;
  --group.held;
  if (page.use_count() == 1) group.spare.push_back(std::move(page));
  page.reset();
}

PagedCache::Page PagedCache::take(Group& group) {
  if (group.spare.empty()) return std::make_shared<AlignedBuffer>(page_bytes(group));
  Page page = std::move(group.spare.back());
  group.spare.pop_back();
  return page;
}

}  // namespace cairn
