// Decides who walks the next pass of a decode program: all threads of the team, or the calling
// thread alone, over the rows of all (the same bits).
//
// A team is quicker as long as each of its threads has a processor. Where other programs want the
// processors too, the team waits at every barrier for a thread that is not running: a hundred times
// a token, milliseconds each. One thread then loses only its share of one processor. Nobody tells a
// program which of the two it has, so both are timed: two passes in a row that were mostly waited
// for begin a trial of passes alone, and whoever was quicker goes on. From time to time the team
// tries again, more and more seldom while it stays the slower.
//
// Not thread-safe: the thread that starts passes owns it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace cairn {

// What users may ask for.
enum class Walkers {
  automatic,  // the team or one thread, whichever is quicker at the time
  team,       // all threads
  one,        // the calling thread, without barriers
};

class PassGovernor {
 public:
  using Duration = std::chrono::nanoseconds;

  static constexpr size_t kTrial = 4;           // passes that are timed to compare
  static constexpr size_t kFirstStay = 32;      // passes alone before the team tries again
  static constexpr size_t kLongestStay = 1024;  // to which a stay doubles
  // A pass is late when the thread that waited longest waited for this part of it.
  static bool is_late(Duration took, Duration waited) { return 4 * waited > took; }

  // Whether the next pass is one thread's.
  bool alone() const { return state_ == State::trying_alone || state_ == State::staying_alone; }

  // After a pass of the team; `waited`: by the thread that lost most in barriers.
  void team_walked(Duration took, Duration waited) {
    const bool late = is_late(took, waited);
    if (state_ == State::trying_team) {
      if (count(took)) settle(mean() < alone_);
    } else if (late && late_before_) {
      team_ = took;
      begin(State::trying_alone);
    }
    late_before_ = late;
  }
  // After a pass of the team through a part of a prompt. Such passes are too different to be timed
  // against each other, but one that was mostly waited for says enough.
  void prompt_walked(Duration took, Duration waited) {
    if (state_ == State::team && 2 * waited > took) begin(State::staying_alone);
  }
  // After a pass of one thread.
  void one_walked(Duration took) {
    if (state_ == State::trying_alone) {
      if (!count(took)) return;
      alone_ = mean();
      settle(team_ < alone_);
    } else if (++passes_ >= stay_) {
      begin(State::trying_team);
    } else {
      alone_ = took;
    }
  }

 private:
  enum class State { team, trying_alone, staying_alone, trying_team };

  void begin(State state) {
    state_ = state;
    passes_ = 0;
    sum_ = {};
    late_before_ = false;
  }
  // One more pass of a trial; true at its end.
  bool count(Duration took) {
    sum_ += took;
    return ++passes_ == kTrial;
  }
  Duration mean() const { return sum_ / kTrial; }
  void settle(bool team_is_quicker) {
    const bool again = state_ == State::trying_team;
    stay_ = again && !team_is_quicker ? std::min(2 * stay_, kLongestStay) : kFirstStay;
    begin(team_is_quicker ? State::team : State::staying_alone);
  }

  State state_ = State::team;
  bool late_before_ = false;
  size_t passes_ = 0;  // of the state
  size_t stay_ = kFirstStay;
  Duration sum_{};             // of a trial
  Duration team_{}, alone_{};  // of a pass, as last seen
};

}  // namespace cairn
