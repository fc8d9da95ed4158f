#include "workers/proxy/fetcher.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <mutex>

#include <curl/curl.h>

#include "base/numbers.hpp"
#include "base/text.hpp"
#include "configs/http_answers.hpp"
#include "configs/proxy.hpp"

namespace kiln::workers::proxy {

namespace {

namespace cfg = configs::proxy;

struct transfer {
  const fetch_ends& ends;
  answer_head head = {};
  std::size_t head_bytes = 0;
  std::int64_t got = 0;  // bytes of the body
  bool head_done = false;
  bool waits_for_body = false;
  bool ends_failed = false;
  status failure = {};

  bool fail(error e, bool by_end) {
    if (failure.ok()) {
      failure = std::move(e);
      ends_failed = by_end;
    }
    return false;
  }

  bool take_line(std::string_view line) {
    head_bytes += line.size();
    if (head_bytes > configs::answer_header_bytes_max)
      return fail(
          make_error(errc::unavailable, "headers of the answer are larger than " +
                                            std::to_string(configs::answer_header_bytes_max) + " bytes"),
          false);
    if (head_done) return true;  // what follows a body in chunks
    line = trim_right(line, "\r\n");
    if (line.starts_with("HTTP/")) {
      head = {};  // its length, too: what only says to wait has none
      auto space = line.find(' ');
      if (space == line.npos) return true;
      auto code = line.substr(space + 1, 3);
      std::from_chars(code.data(), code.data() + code.size(), head.status);
      auto reason = line.size() > space + 5 ? line.substr(space + 5) : std::string_view();
      if (is_field_value(reason)) head.reason = reason;
      return true;
    }
    if (line.empty()) return end_head();
    auto colon = line.find(':');
    if (colon == line.npos) return true;
    auto name = line.substr(0, colon);
    auto value = trim(line.substr(colon + 1), " \t");
    if (!is_token(name) || !is_field_value(value))
      return fail(make_error(errc::unavailable, "a header of the answer that is none"), false);
    if (head.headers.size() >= configs::answer_headers_max)
      return fail(make_error(errc::unavailable, "too many headers in the answer"), false);
    head.headers.push_back({std::string(name), std::string(value)});
    return true;
  }

  /// Of an answer, or of one that only says to wait.
  bool end_head() {
    if (head.status < 200) return true;
    head_done = true;
    for (const auto& h : head.headers)
      if (equal_fold(h.name, "content-length")) {
        // A client told of another length than what it gets would take the rest for the next answer.
        auto value = parse_uint(h.value, 10, std::numeric_limits<std::int64_t>::max());
        if (!value || (head.length && *head.length != static_cast<std::int64_t>(*value)))
          return fail(make_error(errc::unavailable, "the answer's lengths are wrong or differ"), false);
        head.length = static_cast<std::int64_t>(*value);
      }
    if (find_header(head.headers, "transfer-encoding")) head.length.reset();  // libcurl goes by the chunks
    head.headers = end_to_end(head.headers);
    // How long it is for the client is the business of whoever passes it on.
    std::erase_if(head.headers, [](const header& h) { return equal_fold(h.name, "content-length"); });
    if (auto s = ends.on_head(head); !s.ok()) return fail(std::move(s).error(), true);
    return true;
  }

  static std::size_t on_header(char* data, std::size_t size, std::size_t n, void* self) {
    return static_cast<transfer*>(self)->take_line({data, size * n}) ? size * n : CURL_WRITEFUNC_ERROR;
  }

  static std::size_t on_write(char* data, std::size_t size, std::size_t n, void* self) {
    auto& t = *static_cast<transfer*>(self);
    t.got += static_cast<std::int64_t>(size * n);
    if (t.head.length && t.got > *t.head.length) {
      t.fail(make_error(errc::data_loss, "the answer is longer than it says"), false);
      return CURL_WRITEFUNC_ERROR;
    }
    if (auto s = t.ends.on_body({data, size * n}); !s.ok()) {
      t.fail(std::move(s).error(), true);
      return CURL_WRITEFUNC_ERROR;
    }
    return size * n;
  }

  static std::size_t on_read(char* buffer, std::size_t size, std::size_t n, void* self) {
    auto& t = *static_cast<transfer*>(self);
    auto count = t.ends.read_body({buffer, size * n});
    if (!count.ok()) {
      t.fail(std::move(count).error(), true);
      return CURL_READFUNC_ABORT;
    }
    if (*count) return **count;
    t.waits_for_body = true;
    return CURL_READFUNC_PAUSE;
  }
};

/// As libcurl takes them: a header of its own is left out by naming it without a value.
curl_slist* header_lines(const fetch_request& r) {
  curl_slist* out = nullptr;
  bool accepts = false;
  for (const auto& h : r.headers) {
    auto name = to_lower(h.name);
    // The host is the URL's; the length is told besides; bodies are to arrive as they are.
    if (name == "host" || name == "content-length" || name == "expect" || name == "accept-encoding") continue;
    accepts = accepts || name == "accept";
    out = curl_slist_append(out, (h.value.empty() ? h.name + ";" : h.name + ": " + h.value).c_str());
  }
  if (!accepts) out = curl_slist_append(out, "Accept:");
  out = curl_slist_append(out, "Expect:");
  if (r.has_body && !r.length) out = curl_slist_append(out, "Transfer-Encoding: chunked");
  return out;
}

/// Where Go's programs look for who is to be trusted, too.
void set_trust(CURL* easy) {
  if (const char* file = std::getenv("SSL_CERT_FILE"); file != nullptr && *file != '\0')
    curl_easy_setopt(easy, CURLOPT_CAINFO, file);
  if (const char* directory = std::getenv("SSL_CERT_DIR"); directory != nullptr && *directory != '\0')
    curl_easy_setopt(easy, CURLOPT_CAPATH, directory);
}

void set_options(CURL* easy, const fetch_request& r, transfer& t, curl_slist* headers, char* error_text) {
  curl_easy_reset(easy);
  curl_easy_setopt(easy, CURLOPT_URL, r.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);  // the step does, and each request is judged
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a look-up of a name does not keep a step from ending
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(cfg::connect_time.count()));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
                   static_cast<long>(std::chrono::seconds(cfg::stall_time).count()));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, static_cast<long>(cfg::buffer_bytes));
  curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, r.has_body ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &transfer::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &transfer::on_write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
  set_trust(easy);
  if (r.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (r.has_body || r.length) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, &transfer::on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &t);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(r.length.value_or(-1)));
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r.method.c_str());
  } else if (r.method != "GET") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r.method.c_str());
  }
}

}  // namespace

struct fetcher::handles {
  CURLM* multi = curl_multi_init();
  CURL* easy = curl_easy_init();
  ~handles() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
};

fetcher::fetcher(int stop_fd) : stop_fd_(stop_fd) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_ALL); });
  handles_ = std::make_unique<handles>();
}

fetcher::~fetcher() = default;

status fetcher::fetch(const fetch_request& request, const fetch_ends& ends, bool& ends_failed) {
  auto* easy = handles_->easy;
  auto* multi = handles_->multi;
  ends_failed = false;
  if (easy == nullptr || multi == nullptr)
    return make_error(errc::resource_exhausted, "no memory for libcurl");
  transfer t{ends};
  char why[CURL_ERROR_SIZE] = "";
  curl_slist* headers = header_lines(request);
  set_options(easy, request, t, headers, why);
  curl_multi_add_handle(multi, easy);
  int running = 1;
  while (running > 0 && t.failure.ok()) {
    if (curl_multi_perform(multi, &running) != CURLM_OK) break;
    if (running == 0) break;
    curl_waitfd more[] = {{stop_fd_, CURL_WAIT_POLLIN, 0}, {ends.body_fd, CURL_WAIT_POLLIN, 0}};
    constexpr int poll_ms = 1'000;  // libcurl's own times are shorter where they matter
    curl_multi_poll(multi, more, t.waits_for_body ? 2 : 1, poll_ms, nullptr);
    if (more[0].revents != 0) t.fail(make_error(errc::cancelled, "the proxy has ended"), false);
    if (t.waits_for_body && more[1].revents != 0) {
      t.waits_for_body = false;
      curl_easy_pause(easy, CURLPAUSE_CONT);
    }
  }
  CURLcode code = CURLE_OK;
  int left = 0;
  while (CURLMsg* m = curl_multi_info_read(multi, &left))
    if (m->msg == CURLMSG_DONE) code = m->data.result;
  curl_multi_remove_handle(multi, easy);
  curl_slist_free_all(headers);
  ends_failed = t.ends_failed;
  KILN_CHECK(t.failure);
  bool bodiless = request.method == "HEAD" || t.head.status == 204 || t.head.status == 304;
  if (code == CURLE_OK && t.head_done && !bodiless && t.got != t.head.length.value_or(t.got))
    return make_error(errc::data_loss, "the answer is shorter than it says");
  if (code == CURLE_OK && t.head_done) return {};
  std::string text = *why != '\0' ? why : curl_easy_strerror(code);
  if (code == CURLE_OK) text = "no answer";
  return make_error(t.head_done ? errc::data_loss : errc::unavailable, std::move(text));
}

}  // namespace kiln::workers::proxy
