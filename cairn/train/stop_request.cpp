#include "cairn/train/stop_request.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>

namespace cairn {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGUSR1};
constexpr int kExitBySignal = 128;

volatile std::sig_atomic_t g_signal = 0;
std::array<struct sigaction, kSignals.size()> g_before;

void on_signal(int number) {
  if (g_signal != 0) ::_exit(kExitBySignal + number);
  g_signal = number;
}

std::string signal_name(int number) {
  return number == SIGINT ? "SIGINT (Ctrl-C)" : number == SIGTERM ? "SIGTERM" : "SIGUSR1";
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

StopRequest::StopRequest(const Path& stop_file, Deadline deadline)
    : stop_file_(stop_file), deadline_(deadline) {
  g_signal = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &g_before[i]);
}

StopRequest::~StopRequest() {
  for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &g_before[i], nullptr);
}

std::string StopRequest::reason() {
  if (!reason_.empty()) return reason_;
  if (g_signal != 0) {
    reason_ = signal_name(g_signal);
  } else if (std::chrono::steady_clock::now() >= deadline_) {
    reason_ = "the time limit";
  } else if (const double time = now(); time >= next_look_) {
    next_look_ = time + 0.5;
    std::error_code code;
    if (std::filesystem::remove(stop_file_, code)) reason_ = "the file " + stop_file_.string();
  }
  return reason_;
}

}  // namespace cairn
