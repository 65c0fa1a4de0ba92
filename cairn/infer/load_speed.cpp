#include "cairn/infer/load_speed.h"

#include <chrono>
#include <optional>

#include "cairn/infer/text_model.h"

namespace cairn {
namespace {

// Seconds that passed since it was made or last asked.
class Stopwatch {
 public:
  double lap() {
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    begin_ = now;
    return seconds;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
};

void read_a_token(Engine& engine) {
  const std::optional<int32_t> start = engine.config().decoder_start_id;
  Session session = start ? engine.start({&*start, 1}) : engine.start();
  session.append(start.value_or(0));
}

}  // namespace

LoadTimes measure_load(const Path& model, ThreadTeam& team, const EngineOptions& options) {
  LoadTimes times;
  {
    Stopwatch watch;
    TextModel whole(model, team, options);
    read_a_token(whole.engine());
    times.total = watch.lap();
  }
  Stopwatch watch;
  const Tokenizer tokenizer = open_tokenizer(model);
  times.tokenizer = watch.lap();
  const DecoderWeights weights = open_decoder_weights(model);
  times.weights = watch.lap();
  Engine engine(weights, team, options);
  times.program = watch.lap();
  read_a_token(engine);
  times.first_token = watch.lap();
  return times;
}

}  // namespace cairn
