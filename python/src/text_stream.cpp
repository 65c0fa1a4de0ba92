#include "text_stream.h"

#include <chrono>
#include <utility>

namespace cairn::python {

TextStream::TextStream(Work work) : thread_([this, work = std::move(work)] { run(work); }) {}

TextStream::~TextStream() {
  close();
}

void TextStream::run(const Work& work) {
  std::optional<Generation> made;
  std::exception_ptr error;
  try {
    made = work([this](std::string_view piece) { return put(piece); });
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  result_ = std::move(made);
  error_ = error;
  ended_ = true;
  changed_.notify_all();
}

bool TextStream::put(std::string_view piece) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return false;
  if (!piece.empty()) {
    pieces_.emplace_back(piece);
    changed_.notify_all();
  }
  return true;
}

TextStream::State TextStream::next(std::string& piece) {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool known = changed_.wait_for(lock, std::chrono::milliseconds(50),
                                       [this] { return closed_ || ended_ || !pieces_.empty(); });
  if (closed_) return State::ended;
  if (!pieces_.empty()) {
    piece = std::move(pieces_.front());
    pieces_.pop_front();
    return State::piece;
  }
  if (!known) return State::waiting;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return State::ended;
}

void TextStream::close() {
  std::thread mine;  // of two that close, one waits
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    pieces_.clear();
    changed_.notify_all();
    mine.swap(thread_);
  }
  if (mine.joinable()) mine.join();
}

std::optional<Generation> TextStream::result() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return result_;
}

}  // namespace cairn::python
