#include "cairn/io/hub/http.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/io/hub/runtime_library.h"

namespace cairn {
namespace {

struct Curl {
  Curl() {
    library.find("curl_global_init", start);
    library.find("curl_easy_init", create);
    library.find("curl_easy_cleanup", destroy);
    library.find("curl_easy_reset", reset);
    library.find("curl_easy_setopt", set);
    library.find("curl_easy_perform", perform);
    library.find("curl_easy_getinfo", info);
    library.find("curl_easy_strerror", describe);
    if (start(CURL_GLOBAL_DEFAULT) != CURLE_OK)
      throw Error({.doing = "opening libcurl", .found = "it does not start"});
  }
  RuntimeLibrary library{"libcurl.so.4", "libcurl4"};
  decltype(&curl_global_init) start = nullptr;
  decltype(&curl_easy_init) create = nullptr;
  decltype(&curl_easy_cleanup) destroy = nullptr;
  decltype(&curl_easy_reset) reset = nullptr;
  CURLcode (*set)(CURL*, CURLoption, ...) = nullptr;
  decltype(&curl_easy_perform) perform = nullptr;
  CURLcode (*info)(CURL*, CURLINFO, ...) = nullptr;
  decltype(&curl_easy_strerror) describe = nullptr;
};

const Curl& curl() {
  static const Curl functions;
  return functions;
}

using Body = FunctionRef<bool(const HttpResponse&, std::string_view)>;

struct Transfer {
  CURL* handle;
  HttpResponse* response;
  Body* body;
};

size_t take_header(const char* data, size_t size, size_t count, void* user) {
  const std::string_view line(data, size * count);
  HttpResponse& response = *static_cast<Transfer*>(user)->response;
  const size_t colon = line.find(':');
  if (colon == line.npos) return line.size();
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == '\r' || value.back() == '\n' || value.back() == ' '))
    value.remove_suffix(1);
  response.headers[name] = value;
  return line.size();
}

size_t take_body(const char* data, size_t size, size_t count, void* user) {
  const Transfer& transfer = *static_cast<Transfer*>(user);
  long status = 0;
  curl().info(transfer.handle, CURLINFO_RESPONSE_CODE, &status);
  transfer.response->status = static_cast<int>(status);
  const bool go_on = (*transfer.body)(*transfer.response, {data, size * count});
  return go_on ? size * count : 0;  // less than was given ends the transfer
}

}  // namespace

struct HttpClient::Handle {
  Handle() : easy(curl().create()) {
    if (easy == nullptr) throw Error({.doing = "opening libcurl", .found = "it does not start"});
  }
  ~Handle() { curl().destroy(easy); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  CURL* easy;
};

HttpClient::HttpClient() : handle_(std::make_unique<Handle>()) {}

HttpClient::~HttpClient() = default;

HttpResponse HttpClient::get(const HttpRequest& request, Body body) {
  HttpResponse response;
  CURL* easy = handle_->easy;
  Transfer transfer{easy, &response, &body};
  const auto set = [easy](CURLoption option, auto value) { curl().set(easy, option, value); };
  curl().reset(easy);
  const char* protocols = request.url.starts_with("https:") ? "https" : "http,https";
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, protocols);
  set(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, 5L);
  set(CURLOPT_CONNECTTIMEOUT, 20L);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, 30L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, "cairn/" CAIRN_VERSION);
  if (!request.token.empty()) {
    set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(CURLOPT_XOAUTH2_BEARER, request.token.c_str());
  }
  const std::string range = fmt::format("{}-", request.begin);
  if (request.begin > 0) set(CURLOPT_RANGE, range.c_str());
  set(CURLOPT_HEADERFUNCTION, take_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  const CURLcode code = curl().perform(easy);
  long status = 0;
  curl().info(easy, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  if (code != CURLE_OK) response.error = curl().describe(code);
  return response;
}

}  // namespace cairn
