// What a step's program sends to the proxy: a request's head, and a body in chunks behind it.
#include "workers/proxy/http_head.hpp"

#include <algorithm>

#include "configs/proxy.hpp"
#include "tests/fuzz/support/input.hpp"
#include "workers/proxy/chunked_body.hpp"
#include "workers/proxy/target.hpp"

namespace {

using namespace kiln::workers;

void try_url(const proxy::request_head& head, const std::string& tunnel) {
  auto url = proxy::asked_url(head, tunnel);
  if (!url.ok()) return;
  kiln::fuzz::require(url->starts_with("http://") || url->starts_with("https://"), "only http and https");
  kiln::fuzz::require(tunnel.empty() || url->starts_with("https://"), "a tunnel is secure");
  proxy::request_head again = head;
  again.target = *url;
  again.headers.clear();
  auto same = proxy::asked_url(again, "");
  kiln::fuzz::require(same.ok() && *same == *url, "there is one way to write a URL");
  (void)proxy::shown_url(*url);
}

/// The same data and the same end, however the bytes arrive.
void try_chunks(std::string_view bytes) {
  proxy::chunked_body whole, parts;
  std::string all, bit;
  auto in = bytes;
  auto end = whole.take(in, all, bytes.size());
  bool failed = false;
  std::string buffer;
  for (std::size_t i = 0; i < bytes.size() && !failed && !parts.done(); ++i) {
    buffer += bytes[i];
    std::string_view from(buffer);
    failed = !parts.take(from, bit, bytes.size()).ok();
    buffer.erase(0, buffer.size() - from.size());
  }
  kiln::fuzz::require(failed == !end.ok(), "a body is one however it arrives");
  kiln::fuzz::require(failed || all == bit, "and the same");
}

}  // namespace

void kiln::fuzz::try_input(std::string_view bytes) {
  auto end = proxy::head_end(bytes);
  if (end == 0) return;
  auto head = proxy::parse_request_head(bytes.substr(0, end));
  if (!head.ok()) return;
  require(!(head->chunked && head->length), "a body has one length");
  require(proxy::is_token(head->method), "a method is a token");
  for (const auto& h : proxy::end_to_end(head->headers))
    require(proxy::is_token(h.name) && proxy::is_field_value(h.value), "headers can be written again");
  try_url(*head, "");
  if (auto tunnel = proxy::tunnel_origin(*head); tunnel.ok()) try_url(*head, *tunnel);
  if (head->chunked) try_chunks(bytes.substr(end));
}
