#include "distribution/transport.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/text.hpp"
#include "base/url.hpp"
#include "configs/http_answers.hpp"
#include "configs/version.hpp"
#include "distribution/place_failures.hpp"
#include "messages/told_code.hpp"

namespace kiln::distribution {
namespace {

/// An easy handle with its own connection cache, so that a waiting transfer can be woken.
struct slot {
  CURL* easy = curl_easy_init();
  CURLM* multi = curl_multi_init();
  std::string last_host;
  slot() = default;
  ~slot() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
  slot(const slot&) = delete;
  slot& operator=(const slot&) = delete;
};

/// What may be shown of a URL.
std::string without_password(const std::string& url) {
  auto u = parse_url(url);
  return u.ok() && !u->user_info.empty() ? u->str() : url;
}

/// One transfer under way; what the callbacks see.
struct transfer {
  const request& r;
  response out;
  status failure;
  std::string_view body_left;
  std::unique_ptr<store::byte_source> source;
  std::size_t header_bytes = 0;

  explicit transfer(const request& req) : r(req), body_left(req.body) {}

  static std::size_t on_header(char* data, std::size_t size, std::size_t n, void* self) {
    auto& t = *static_cast<transfer*>(self);
    std::string_view line(data, size * n);
    t.header_bytes += line.size();
    if (t.header_bytes > configs::answer_header_bytes_max) {
      t.failure = make_error(errc::resource_exhausted,
                             "headers of the answer from " + without_password(t.r.url) + " are larger than " +
                                 std::to_string(configs::answer_header_bytes_max) + " bytes");
      return CURL_WRITEFUNC_ERROR;
    }
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // a further response: after 100, a redirect, …
      t.out.headers.clear();
      t.out.body.clear();
      auto space = line.find(' ');
      t.out.status = space == line.npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
      return size * n;
    }
    auto colon = line.find(':');
    if (colon == line.npos || t.out.headers.size() >= configs::answer_headers_max) return size * n;
    std::string name(line.substr(0, colon));
    name = to_lower(name);
    auto value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    t.out.headers.emplace(std::move(name), std::string(value));
    return size * n;
  }

  static std::size_t on_write(char* data, std::size_t size, std::size_t n, void* self) {
    auto& t = *static_cast<transfer*>(self);
    std::string_view bytes(data, size * n);
    if (t.r.on_body && t.out.status >= 200 && t.out.status < 300) {
      t.failure = t.r.on_body(t.out, bytes);
      return t.failure.ok() ? bytes.size() : CURL_WRITEFUNC_ERROR;
    }
    if (static_cast<std::int64_t>(t.out.body.size() + bytes.size()) > t.r.max_body) {
      t.failure = make_error(errc::resource_exhausted, "answer from " + t.r.url + " is larger than " +
                                                           std::to_string(t.r.max_body) + " bytes");
      return CURL_WRITEFUNC_ERROR;
    }
    t.out.body += bytes;
    return bytes.size();
  }

  static std::size_t on_read(char* buffer, std::size_t size, std::size_t n, void* self) {
    auto& t = *static_cast<transfer*>(self);
    if (t.r.open_body) {
      if (!t.source) {
        auto opened = t.r.open_body();
        if (!opened.ok()) {
          t.failure = std::move(opened).error();
          return CURL_READFUNC_ABORT;
        }
        t.source = *std::move(opened);
      }
      auto got = t.source->read({buffer, size * n});
      if (!got.ok()) {
        t.failure = std::move(got).error();
        return CURL_READFUNC_ABORT;
      }
      return *got;
    }
    std::size_t count = t.body_left.copy(buffer, size * n);
    t.body_left.remove_prefix(count);
    return count;
  }

  /// libcurl rewinds a body that a redirect or a dead connection makes it send again.
  static int on_seek(void* self, curl_off_t offset, int origin) {
    auto& t = *static_cast<transfer*>(self);
    if (origin != SEEK_SET || offset != 0) return CURL_SEEKFUNC_CANTSEEK;
    t.body_left = t.r.body;
    t.source.reset();
    return CURL_SEEKFUNC_OK;
  }
};

void set_options(CURL* easy, transfer& t, curl_slist* header_list, char* error_text) {
  const request& r = t.r;
  curl_easy_setopt(easy, CURLOPT_URL, r.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  // Not by libcurl, which shows the client's certificate wherever a redirect leads.
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(r.connect_timeout.count()));
  if (!r.by_proxy) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(r.stall_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, header_list);
  if (r.accept_gzip) curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &transfer::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &transfer::on_write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
  if (r.tls) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, r.tls->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, r.tls->verify ? 2L : 0L);
    if (!r.tls->ca_bundle.empty()) {
      curl_blob blob{const_cast<char*>(r.tls->ca_bundle.data()), r.tls->ca_bundle.size(), CURL_BLOB_COPY};
      curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (!r.tls->certificates.empty()) {
      // The first also where another one is chosen: connections are told apart by it.
      curl_easy_setopt(easy, CURLOPT_SSLCERT, r.tls->certificates[0].cert_file.c_str());
      curl_easy_setopt(easy, CURLOPT_SSLKEY, r.tls->certificates[0].key_file.c_str());
    }
    if (r.tls->certificates.size() > 1) {
      curl_ssl_ctx_callback choose = [](CURL*, void* context, void* tls) {
        choose_certificate(context, static_cast<const tls_settings*>(tls)->certificates);
        return CURLE_OK;
      };
      curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, choose);
      curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, const_cast<tls_settings*>(r.tls.get()));
    }
  }
  bool uploads = r.open_body || !r.body.empty();
  // HTTP/2's flow control slows uploads down; downloads profit from it.
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, uploads ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS);
  if (r.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (uploads) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r.method.c_str());
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, &transfer::on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &t);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, &transfer::on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, &t);
    curl_easy_setopt(
        easy, CURLOPT_INFILESIZE_LARGE,
        static_cast<curl_off_t>(r.open_body ? r.body_size : static_cast<std::int64_t>(r.body.size())));
  } else if (r.method != "GET") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r.method.c_str());
    if (r.method == "POST" || r.method == "PUT" || r.method == "PATCH") {
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
    }
  }
}

/// "Get", as users know it.
std::string shown_method(const std::string& method) {
  return method.substr(0, 1) +
         to_lower(std::string_view(method).substr(std::min<std::size_t>(1, method.size())));
}

/// Where a failed connection was to lead and what the system said, in the form that users know from Go's
/// programs.
std::string dial_failure(CURLcode code, CURL* easy, const request& r) {
  if (code == CURLE_COULDNT_RESOLVE_HOST) {
    auto u = parse_url(r.url);
    return "dial tcp: lookup " + (u.ok() ? u->host : "the host") + ": no such host";
  }
  const char* ip = nullptr;
  long port = 0, number = 0;
  curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &ip);
  curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
  std::string address;
  if (ip != nullptr && *ip != '\0') {
    address = ip;
    if (address.find(':') != address.npos) address = "[" + address + "]";
    address += ":" + std::to_string(port);
  } else if (auto u = parse_url(r.url); u.ok()) {
    address = u->host + ":" + (!u->port.empty() ? u->port : u->scheme == "https" ? "443" : "80");
  }
  if (code == CURLE_OPERATION_TIMEDOUT || number == 0) return "dial tcp " + address + ": i/o timeout";
  std::string why = std::strerror(static_cast<int>(number));
  if (!why.empty()) why[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(why[0])));
  return "dial tcp " + address + ": connect: " + why;
}

error explain(CURLcode code, CURL* easy, const request& r, const char* text, wire_failure& failure) {
  curl_off_t connected = 0;
  curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
  bool unreached = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                   (code == CURLE_OPERATION_TIMEDOUT && connected == 0);
  std::string why = unreached ? dial_failure(code, easy, r) : *text != '\0' ? text : curl_easy_strerror(code);
  // What libcurl says of a header that has no room in its buffer.
  if (code == CURLE_OUT_OF_MEMORY)
    why = "a header of the answer is larger than " + std::to_string(configs::answer_header_line_bytes_max) +
          " bytes, or there is no memory left";
  std::string message =
      std::string(request_failed) + shown_method(r.method) + " \"" + without_password(r.url) + "\": " + why;
  failure = wire_failure::other;
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return make_error(errc::invalid_argument, std::move(message));
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM: return make_error(errc::failed_precondition, std::move(message));
    case CURLE_SSL_CONNECT_ERROR: failure = wire_failure::tls_mismatch; break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST: failure = wire_failure::refused; break;
    case CURLE_OUT_OF_MEMORY: return make_error(errc::resource_exhausted, std::move(message));
    default: break;
  }
  // Inside, what may be better the next time; to clients a failure like any other.
  return told_as(errc::unknown, make_error(errc::unavailable, std::move(message)));
}

}  // namespace

struct transport::state {
  std::mutex mutex;
  std::vector<std::unique_ptr<slot>> idle;
  unsigned max_concurrency;
  std::map<std::string, unsigned> in_use;
  std::condition_variable_any freed;

  std::unique_ptr<slot> take(const std::string& host) {
    std::lock_guard lock(mutex);
    for (auto it = idle.rbegin(); it != idle.rend(); ++it) {
      if ((*it)->last_host != host) continue;
      auto s = std::move(*it);
      idle.erase(std::next(it).base());
      return s;
    }
    return std::make_unique<slot>();
  }
  void give_back(std::unique_ptr<slot> s) {
    std::unique_ptr<slot> oldest;  // closed outside the lock
    std::lock_guard lock(mutex);
    idle.push_back(std::move(s));
    if (idle.size() <= configs::registry_idle_connections) return;
    oldest = std::move(idle.front());
    idle.erase(idle.begin());
  }
};

transport::transport(unsigned max_concurrency) : state_(std::make_unique<state>()) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_ALL); });
  state_->max_concurrency = std::max(1u, max_concurrency);
}

transport::~transport() = default;

namespace {

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// Of the headers those that only tell what is wanted, and nothing of who wants it.
void keep_harmless(std::vector<std::string>& headers) {
  static constexpr std::string_view harmless[] = {"accept",       "accept-encoding", "content-range",
                                                  "content-type", "if-none-match",   "if-modified-since",
                                                  "range",        "user-agent"};
  std::erase_if(headers, [](const std::string& header) {
    auto name = to_lower(header.substr(0, header.find(':')));
    return std::find(std::begin(harmless), std::end(harmless), name) == std::end(harmless);
  });
}

/// The request that an answer leads to.
result<request> redirected(request r, const response& answer) {
  auto next = resolve_url(r.url, header_of(answer.headers, "location"));
  auto from = parse_url(r.url), to = parse_url(next);
  if (!from.ok() || !to.ok() || (to->scheme != "http" && to->scheme != "https"))
    return make_error(errc::invalid_argument, without_password(r.url) + " redirects to what is no http URL");
  if (from->origin() != to->origin()) {
    keep_harmless(r.headers);
    if (r.tls && !r.tls->certificates.empty()) {
      auto anonymous = *r.tls;
      anonymous.certificates.clear();
      r.tls = std::make_shared<tls_settings>(std::move(anonymous));
    }
  } else if (to->user_info.empty() && !from->user_info.empty()) {
    next.insert(next.find("://") + 3, from->user_info + "@");
  }
  bool becomes_get = answer.status == 303 ? r.method != "HEAD" : answer.status <= 302 && r.method == "POST";
  if (becomes_get) {
    r.method = "GET";
    r.body.clear();
    r.open_body = nullptr;
    r.body_size = 0;
  }
  r.url = std::move(next);
  return r;
}

}  // namespace

result<response> transport::perform(const request& r, wire_failure* failure) {
  wire_failure unused;
  wire_failure& why = failure ? *failure : unused;
  why = wire_failure::none;
  auto answer = ask_once(r, why);
  request next;
  for (int n = 0; answer.ok() && r.follow_redirects && is_redirect(answer->status); ++n) {
    if (header_of(answer->headers, "location").empty()) break;
    if (n >= configs::redirects_max)
      return make_error(errc::invalid_argument, "failed to do request: " + shown_method(r.method) + " \"" +
                                                    without_password(r.url) + "\": stopped after " +
                                                    std::to_string(configs::redirects_max) + " redirects");
    KILN_TRY(next, redirected(n == 0 ? r : std::move(next), *answer));
    answer = ask_once(next, why);
  }
  return answer;
}

result<response> transport::ask_once(const request& r, wire_failure& why) {
  if (r.stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  std::string host = host_of_url(r.url);
  auto s = state_->take(host);
  if (s->easy == nullptr || s->multi == nullptr)
    return make_error(errc::resource_exhausted, "cannot allocate a connection");
  s->last_host = host;

  curl_slist* list = nullptr;
  bool has_type = false;
  for (const auto& h : r.headers) {
    list = curl_slist_append(list, h.c_str());
    has_type |= h.starts_with("Content-Type:");
  }
  if (!has_type) list = curl_slist_append(list, "Content-Type:");
  list = curl_slist_append(list, ("User-Agent: " + user_agent()).c_str());
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list_owner(list, &curl_slist_free_all);

  transfer t(r);
  char error_text[CURL_ERROR_SIZE] = "";
  set_options(s->easy, t, list, error_text);
  CURLcode code = CURLE_FAILED_INIT;
  curl_multi_add_handle(s->multi, s->easy);
  {
    std::stop_callback wake(r.stop, [&] { curl_multi_wakeup(s->multi); });
    for (int running = 1; running > 0;) {
      if (curl_multi_perform(s->multi, &running) != CURLM_OK) break;
      if (r.stop.stop_requested()) break;
      if (running > 0) curl_multi_poll(s->multi, nullptr, 0, 1'000, nullptr);
    }
  }
  int left = 0;
  while (CURLMsg* m = curl_multi_info_read(s->multi, &left))
    if (m->msg == CURLMSG_DONE) code = m->data.result;
  const char* url = nullptr;
  curl_easy_getinfo(s->easy, CURLINFO_EFFECTIVE_URL, &url);
  t.out.url = url ? url : r.url;
  curl_multi_remove_handle(s->multi, s->easy);
  if (r.stop.stop_requested() && code != CURLE_OK) return make_error(errc::cancelled, "context canceled");
  status outcome = t.failure;
  if (outcome.ok() && code != CURLE_OK) outcome = explain(code, s->easy, r, error_text, why);
  curl_easy_reset(s->easy);
  state_->give_back(std::move(s));
  if (!outcome.ok()) return std::move(outcome).error();
  return std::move(t.out);
}

result<transport::permit> transport::acquire(const std::string& host, std::stop_token stop) {
  std::unique_lock lock(state_->mutex);
  if (!state_->freed.wait(lock, stop, [&] { return state_->in_use[host] < state_->max_concurrency; }))
    return make_error(errc::cancelled, "context canceled");
  ++state_->in_use[host];
  return permit(this, host);
}

transport::permit::~permit() {
  if (transport_ == nullptr) return;
  std::lock_guard lock(transport_->state_->mutex);
  auto it = transport_->state_->in_use.find(host_);
  if (--it->second == 0) transport_->state_->in_use.erase(it);
  transport_->state_->freed.notify_all();
}

std::string header_of(const headers& h, const std::string& lower_case_name) {
  auto it = h.find(lower_case_name);
  return it == h.end() ? std::string() : it->second;
}

std::string user_agent() { return std::string("buildkit/") + configs::buildkit_version; }

}  // namespace kiln::distribution
