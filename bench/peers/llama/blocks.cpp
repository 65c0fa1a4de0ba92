// llama.cpp in blocks: decodes or reads prompts when told to, so that another program can be
// measured in turns with it on one machine. In between its threads sleep.
//
//   llama-blocks MODEL.gguf THREADS CONTEXT
//
// prints {"ready": true, ...} once the model is loaded, then answers each line of its input with
// one line of JSON, {"seconds": [...]}:
//   decode DEPTH TOKENS   seconds from each token to the next, greedily, behind DEPTH tokens of
//   text prefill TOKENS        seconds of reading a text of that length, to the next token
//
// As a user of the library gets it at best: a pool of threads that persists, cache in f16, batches
// of 512, and the first-best token taken from the logits in one pass.
#include <ggml-cpu.h>
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// Tokens decoded before the clock starts: cores wake up, caches fill.
constexpr int kWarmUp = 4;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "llama-blocks: %s\n", what.c_str());
  std::exit(1);
}

class Peer {
 public:
  Peer(const char* path, int threads, int context) {
    model_ = llama_model_load_from_file(path, llama_model_default_params());
    if (model_ == nullptr) fail(std::string("cannot open ") + path);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(context);
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = threads;
    context_ = llama_init_from_model(model_, params);
    if (context_ == nullptr) fail("cannot make a context");
    ggml_threadpool_params pool = ggml_threadpool_params_default(threads);
    pool_ = ggml_threadpool_new(&pool);
    llama_attach_threadpool(context_, pool_, pool_);
    vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
    ggml_threadpool_pause(pool_);
  }

  ~Peer() {
    llama_free(context_);
    llama_model_free(model_);
    ggml_threadpool_free(pool_);
  }

  std::vector<double> decode(int depth, int tokens) {
    ggml_threadpool_resume(pool_);
    cut(depth);
    fill(depth);
    llama_token token = text(depth);
    for (int i = 0; i < kWarmUp; ++i) token = step(token);
    cut(depth);
    std::vector<double> seconds;
    for (int i = 0; i < tokens; ++i) {
      const auto start = Clock::now();
      token = step(token);
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    ggml_threadpool_pause(pool_);
    return seconds;
  }

  std::vector<double> prefill(int tokens) {
    ggml_threadpool_resume(pool_);
    cut(0);
    fill(std::min(tokens, 32));
    cut(0);
    const auto start = Clock::now();
    fill(tokens);
    best();
    const std::chrono::duration<double> taken = Clock::now() - start;
    ggml_threadpool_pause(pool_);
    return {taken.count()};
  }

 private:
  // Some text; which is all the same for the speed.
  llama_token text(int position) const { return (position * 7919 + 17) % vocab_; }

  void cut(int length) {
    if (length_ > length) llama_memory_seq_rm(llama_get_memory(context_), 0, length, -1);
    length_ = std::min(length_, length);
  }

  void read(std::vector<llama_token>& tokens) {
    const int count = static_cast<int>(tokens.size());
    if (llama_decode(context_, llama_batch_get_one(tokens.data(), count)) != 0)
      fail("llama_decode refuses");
    length_ += count;
  }

  void fill(int length) {
    while (length_ < length) {
      std::vector<llama_token> tokens;
      for (int i = length_; i < length && tokens.size() < 512; ++i) tokens.push_back(text(i));
      read(tokens);
    }
    llama_synchronize(context_);
  }

  llama_token best() const {
    const float* logits = llama_get_logits_ith(context_, -1);
    return static_cast<llama_token>(std::max_element(logits, logits + vocab_) - logits);
  }

  llama_token step(llama_token token) {
    one_[0] = token;
    read(one_);
    return best();
  }

  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  ggml_threadpool* pool_ = nullptr;
  int vocab_ = 0;
  int length_ = 0;
  std::vector<llama_token> one_ = std::vector<llama_token>(1);
};

void answer(const std::vector<double>& seconds) {
  std::string line = "{\"seconds\": [";
  for (size_t i = 0; i < seconds.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof number, "%s%.9f", i == 0 ? "" : ", ", seconds[i]);
    line += number;
  }
  std::cout << line << "]}" << std::endl;
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) fail("wants MODEL.gguf THREADS CONTEXT");
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  Peer peer(words[1], std::atoi(words[2]), std::atoi(words[3]));
  std::cout << "{\"ready\": true, \"threads\": " << std::atoi(words[2]) << "}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string verb;
    int first = 0, second = 0;
    fields >> verb >> first >> second;
    if (verb == "decode" && first > 0 && second > 0)
      answer(peer.decode(first, second));
    else if (verb == "prefill" && first > 0)
      answer(peer.prefill(first));
    else
      fail("does not know \"" + line + "\"");
  }
}
