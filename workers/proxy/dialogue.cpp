#include "workers/proxy/dialogue.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "base/digest.hpp"
#include "base/url.hpp"
#include "configs/proxy.hpp"
#include "workers/proxy/target.hpp"

namespace kiln::workers::proxy {

namespace {

namespace cfg = configs::proxy;

auto in(auto time) { return std::chrono::steady_clock::now() + time; }

int status_of(errc code) {
  switch (code) {
    case errc::invalid_argument: return 400;
    case errc::permission_denied: return 403;
    case errc::deadline_exceeded: return 408;
    case errc::failed_precondition: return 421;
    case errc::resource_exhausted: return 431;
    case errc::unimplemented: return 501;
    default: return 502;
  }
}

/// What an answer of that status to that method has no body of, whatever its headers say.
bool is_bodiless(const std::string& method, int status) {
  return method == "HEAD" || status == 204 || status == 304;
}

std::string chunk_line(std::size_t size) {
  std::array<char, 24> text{};
  auto count = std::snprintf(text.data(), text.size(), "%zx\r\n", size);
  return {text.data(), static_cast<std::size_t>(count)};
}

/// Why what was fetched is no material; empty: it is one, or says where one is. Source: provider_linux.go.
std::string gap_of(const request_head& head, const answer_head& answer, bool whole) {
  if (head.method != "GET") return "method_not_materializable";
  if (find_header(head.headers, "range") != nullptr || answer.status == 206) return "partial_response";
  if (!whole) return "body_read_failed";
  return answer.status >= 400 ? "unsuccessful_response" : "";
}

}  // namespace

void dialogue::run() {
  for (;;) {
    idle_(buffer_.empty());
    auto head = read_head();
    idle_(false);
    if (!head.ok()) {
      auto code = head.error().code;
      // Of those who only fell silent nobody waits for an answer.
      if (code != errc::cancelled && code != errc::unavailable) refuse(head.error());
      return;
    }
    minor_ = head->minor;
    is_head_ = head->method == "HEAD";
    if ((head->method == "CONNECT" ? open_tunnel(*head) : serve(*head)) == next::no_more) return;
  }
}

result<request_head> dialogue::read_head() {
  bool begun = !buffer_.empty();
  auto deadline = begun ? in(cfg::head_time) : in(cfg::idle_time);
  minor_ = 1;
  is_head_ = false;
  for (;;) {
    // Lines between requests: RFC 9112, 2.2.
    while (buffer_.starts_with("\r\n")) buffer_.erase(0, 2);
    if (auto end = head_end(buffer_); end > 0 && end <= cfg::head_bytes_max) {
      auto head = parse_request_head(std::string_view(buffer_).substr(0, end));
      if (head.ok()) buffer_.erase(0, end);
      return head;
    }
    if (buffer_.size() > cfg::head_bytes_max)
      return make_error(errc::resource_exhausted, "a request whose head is larger than " +
                                                      std::to_string(cfg::head_bytes_max) + " bytes");
    std::array<char, 16 << 10> bytes;
    auto count = client_.read(bytes, deadline);
    if (!count.ok() && count.error().code == errc::deadline_exceeded && !begun)
      return make_error(errc::unavailable, "nothing was asked");
    if (!count.ok()) return std::move(count).error();
    if (*count == 0) return make_error(errc::unavailable, "the client has ended");
    buffer_.append(bytes.data(), *count);
    if (!std::exchange(begun, true)) {
      idle_(false);
      deadline = in(cfg::head_time);
    }
  }
}

dialogue::next dialogue::open_tunnel(const request_head& head) {
  if (!tunnel_.empty()) return refuse(make_error(errc::invalid_argument, "a tunnel in a tunnel"));
  if (head.has_body() || !buffer_.empty())
    return refuse(make_error(errc::invalid_argument, "CONNECT with something behind it"));
  auto origin = tunnel_origin(head);
  if (!origin.ok()) return refuse(origin.error());
  auto host = parse_url(*origin);
  auto as_host = host.ok() ? s_.authority->server_for(host->host) : result<context_ptr>(host.error());
  if (!as_host.ok()) return refuse(as_host.error());
  if (!client_.write("HTTP/1.1 200 Connection Established\r\n\r\n").ok()) return next::no_more;
  if (auto secured = client_.start_tls(*std::move(as_host), in(cfg::head_time)); !secured.ok()) {
    // Nothing was asked; but whoever reads the log wonders why nothing came.
    if (secured.error().code != errc::cancelled)
      s_.record->request("CONNECT", shown_url(*origin), 0,
                         "no TLS with the step: " + secured.error().message);
    return next::no_more;
  }
  tunnel_ = *std::move(origin);
  return next::another;
}

dialogue::next dialogue::serve(const request_head& head) {
  chunks_ = {};
  body_left_ = head.length.value_or(0);
  body_done_ = !head.has_body();
  invited_ = !head.expects_continue;
  auto url = asked_url(head, tunnel_);
  if (!url.ok()) return refuse(url.error());
  auto judged = judged_url(s_.may, head.method, *url, s_.stop);
  if (!judged.ok()) {
    auto why = std::move(judged).error();
    if (s_.stop.stop_requested()) return next::no_more;
    s_.record->request(head.method, shown_url(*url), 403, why.message);
    return answer(403, why.message);
  }
  return pass_on(head, *judged);
}

result<std::optional<std::size_t>> dialogue::read_body(const request_head& head, std::span<char> room) {
  if (body_done_) return std::optional<std::size_t>(0);
  if (!std::exchange(invited_, true)) KILN_CHECK(client_.write("HTTP/1.1 100 Continue\r\n\r\n"));
  for (;;) {
    if (!buffer_.empty()) {
      if (!head.chunked) {
        auto count = std::min({buffer_.size(), room.size(), static_cast<std::size_t>(body_left_)});
        std::copy_n(buffer_.data(), count, room.data());
        buffer_.erase(0, count);
        body_left_ -= static_cast<std::int64_t>(count);
        body_done_ = body_left_ == 0;
        return std::optional(count);
      }
      std::string_view from(buffer_);
      std::string data;
      KILN_TRY(body_done_, chunks_.take(from, data, room.size()));
      buffer_.erase(0, buffer_.size() - from.size());
      std::copy_n(data.data(), data.size(), room.data());
      if (!data.empty() || body_done_) return std::optional(data.size());
    }
    std::array<char, 16 << 10> bytes;
    KILN_TRY(auto count, client_.try_read(bytes));
    if (!count) return count;
    if (*count == 0) return make_error(errc::unavailable, "the client has ended in the middle of a body");
    buffer_.append(bytes.data(), *count);
  }
}

dialogue::next dialogue::pass_on(const request_head& head, const std::string& url) {
  fetch_request wanted{head.method, url, end_to_end(head.headers), head.has_body(), head.length};
  bool may_have_body = head.method == "POST" || head.method == "PUT" || head.method == "PATCH";
  if (!head.has_body() && may_have_body) wanted.length = 0;

  const auto shown = shown_url(url);
  answer_head got;
  sha256_hasher digest;
  bool in_chunks = false, until_close = false, keep = false;
  fetch_ends ends;
  ends.body_fd = client_.fd();
  ends.read_body = [&](std::span<char> room) { return read_body(head, room); };
  ends.on_head = [&](const answer_head& answer) -> status {
    got = answer;
    s_.record->request(head.method, shown, got.status);
    if (const auto* location = find_header(got.headers, "location"))
      if (auto to = shown_url(resolve_url(url, *location)); !to.empty()) s_.record->redirect(shown, to);
    auto headers = got.headers;
    bool bodiless = is_bodiless(head.method, got.status);
    if (got.length && got.status != 204) headers.push_back({"Content-Length", std::to_string(*got.length)});
    in_chunks = !bodiless && !got.length && minor_ == 1;
    until_close = !bodiless && !got.length && minor_ == 0;
    if (in_chunks) headers.push_back({"Transfer-Encoding", "chunked"});
    keep = head.keep_alive && !until_close;
    if (!keep) headers.push_back({"Connection", "close"});
    else if (minor_ == 0) headers.push_back({"Connection", "keep-alive"});
    auto reason = got.reason.empty() ? std::string(reason_of(got.status)) : got.reason;
    return client_.write(response_head(minor_, got.status, reason, headers));
  };
  ends.on_body = [&](std::string_view bytes) -> status {
    if (bytes.empty()) return {};
    digest.update(bytes);
    if (!in_chunks) return client_.write(bytes);
    KILN_CHECK(client_.write(chunk_line(bytes.size())));
    KILN_CHECK(client_.write(bytes));
    return client_.write("\r\n");
  };
  bool client_failed = false;
  auto done = fetcher_.fetch(wanted, ends, client_failed);
  if (done.ok() && in_chunks) {
    done = client_.write("0\r\n\r\n");
    client_failed = !done.ok();
  }
  if (got.status == 0) {
    if (!done.ok() && done.error().code == errc::cancelled) return next::no_more;
    if (client_failed) {
      s_.record->gap(head.method, shown, "body_read_failed");
      return done.error().code == errc::invalid_argument ? refuse(done.error()) : next::no_more;
    }
    auto why = done.ok() ? std::string("no answer") : done.error().message;
    s_.record->request(head.method, shown, 502, why);
    s_.record->gap(head.method, shown, "upstream_error");
    return answer(502, why, head.keep_alive && body_done_);
  }
  if (auto gap = gap_of(head, got, done.ok()); !gap.empty()) s_.record->gap(head.method, shown, gap);
  else if (got.status < 300) s_.record->material(shown, digest.finish().str());
  // What broke off is not to look as if it were whole: the connection goes without a word.
  if (!done.ok()) return next::no_more;
  if (keep && body_done_) return next::another;
  linger();
  return next::no_more;
}

dialogue::next dialogue::answer(int status, const std::string& why, bool open) {
  std::string text = std::string(reason_of(status)) + ": " + why + "\n";
  header_list headers = {{"Content-Type", "text/plain; charset=utf-8"},
                         {"Content-Length", std::to_string(text.size())},
                         {"Connection", open ? "keep-alive" : "close"}};
  auto bytes = response_head(minor_, status, reason_of(status), headers);
  if (!is_head_) bytes += text;
  if (!client_.write(bytes).ok()) return next::no_more;
  if (open) return next::another;
  linger();
  return next::no_more;
}

dialogue::next dialogue::refuse(const error& why) { return answer(status_of(why.code), why.message); }

void dialogue::linger() {
  client_.finish();
  auto deadline = in(cfg::linger_time);
  std::array<char, 16 << 10> bytes;
  std::size_t taken = 0;
  while (taken < cfg::linger_bytes_max) {
    auto count = client_.read(bytes, deadline);
    if (!count.ok() || *count == 0) return;
    taken += *count;
  }
}

}  // namespace kiln::workers::proxy
