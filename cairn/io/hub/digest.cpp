#include "cairn/io/hub/digest.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <array>

#include "cairn/base/error.h"
#include "cairn/io/hub/runtime_library.h"

namespace cairn {
namespace {

struct Crypto {
  Crypto() {
    library.find("EVP_MD_CTX_new", create);
    library.find("EVP_MD_CTX_free", destroy);
    library.find("EVP_DigestInit_ex", begin);
    library.find("EVP_DigestUpdate", update);
    library.find("EVP_DigestFinal_ex", finish);
    library.find("EVP_sha1", sha1);
    library.find("EVP_sha256", sha256);
  }
  RuntimeLibrary library{"libcrypto.so.3", "libssl3"};
  decltype(&EVP_MD_CTX_new) create = nullptr;
  decltype(&EVP_MD_CTX_free) destroy = nullptr;
  decltype(&EVP_DigestInit_ex) begin = nullptr;
  decltype(&EVP_DigestUpdate) update = nullptr;
  decltype(&EVP_DigestFinal_ex) finish = nullptr;
  decltype(&EVP_sha1) sha1 = nullptr;
  decltype(&EVP_sha256) sha256 = nullptr;
};

const Crypto& crypto() {
  static const Crypto functions;
  return functions;
}

void check(int result) {
  if (result != 1) throw Error({.doing = "computing a checksum", .found = "libcrypto refuses"});
}

}  // namespace

struct Digest::State {
  State() : context(crypto().create()) {}
  ~State() { crypto().destroy(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  EVP_MD_CTX* context;
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* method = kind == Kind::sha1 ? crypto().sha1() : crypto().sha256();
  check(crypto().begin(state_->context, method, nullptr));
}

Digest::~Digest() = default;

void Digest::update(std::string_view bytes) {
  check(crypto().update(state_->context, bytes.data(), bytes.size()));
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned length = 0;
  check(crypto().finish(state_->context, bytes.data(), &length));
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace cairn
