// Reading over HTTP (libcurl): one GET at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "cairn/base/function_ref.h"

namespace cairn {

struct HttpRequest {
  std::string url;
  std::string token;   // sent as a bearer token, to the host of `url` only
  uint64_t begin = 0;  // asks for the bytes from here on
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // of all responses on the way; names in lower case
  std::string error;                           // why it ended early; empty when it did not
};

class HttpClient {
 public:
  // Throws Error (failed) when libcurl is absent.
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Follows at most five redirections, from https to nothing but https. `body` sees the bytes of
  // the last response, and its status and headers so far; answers whether to go on. A connection
  // that says nothing for 30 seconds ends.
  HttpResponse get(const HttpRequest& request,
                   FunctionRef<bool(const HttpResponse& response, std::string_view bytes)> body);

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace cairn
