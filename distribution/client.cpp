#include "distribution/client.hpp"

#include <algorithm>

#include "base/pause.hpp"
#include "base/json_text.hpp"
#include "base/url.hpp"
#include "distribution/authorizer.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "distribution/retry_after.hpp"
#include "distribution/place_failures.hpp"
#include "messages/told_code.hpp"

namespace kiln::distribution {
namespace {

constexpr int max_auth_rounds = 3;

const char* reason(int status) {
  switch (status) {
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Request Entity Too Large";
    case 416: return "Requested Range Not Satisfiable";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "";
  }
}

errc code_of(int status) {
  switch (status) {
    case 401: return errc::unauthenticated;
    case 403: return errc::permission_denied;
    case 404: return errc::not_found;
    case 413: return errc::resource_exhausted;
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504: return errc::unavailable;
    default: return status >= 500 ? errc::unavailable : errc::unknown;
  }
}

bool temporary(int status) { return code_of(status) == errc::unavailable && status != 501; }

/// What an OCI error body says, shortened.
std::string registry_message(const response& r) {
  auto j = json_or_null(r.body);
  if (!j.is_object() || !j.contains("errors") || !j["errors"].is_array()) return {};
  std::string out;
  for (const auto& e : j["errors"]) {
    if (!e.is_object() || out.size() > 1'000) break;
    auto code = text_member(e, "code"), text = text_member(e, "message");
    std::transform(code.begin(), code.end(), code.begin(),
                   [](unsigned char c) { return c == '_' ? ' ' : std::tolower(c); });
    out += (out.empty() ? "" : "; ") + code + (text.empty() ? "" : ": " + text);
  }
  return out;
}

bool success(int status) { return status >= 200 && status < 300; }

error wrong_digest(const std::string& url, const digest& wanted, const digest& got) {
  return make_error(errc::data_loss,
                    "content from " + url + " has digest " + got.str() + ", expected " + wanted.str());
}

}  // namespace

error status_error(const std::string& method, const std::string& url, const response& r) {
  std::string text =
      "unexpected status from " + method + " request to " + url + ": " + std::to_string(r.status);
  if (const char* why = reason(r.status); *why != '\0') text += " " + std::string(why);
  if (std::string said = registry_message(r); !said.empty()) text += ": " + said;
  return told_as(errc::unknown, make_error(code_of(r.status), std::move(text)));
}

std::string source_label(std::string_view domain) {
  return "containerd.io/distribution.source." + std::string(domain);
}

std::string manifest_accept() {
  std::string out;
  for (auto t : {media::docker_manifest, media::docker_list, media::oci_manifest, media::oci_index})
    (out += t) += ", ";
  return out + "*/*";
}

result<std::unique_ptr<repository>> repository::open(hosts& h, image_reference ref, access wanted,
                                                     const job_context& job, bool insecure) {
  std::unique_ptr<repository> r(new repository(h, std::move(ref), job));
  r->push_ = wanted == access::push;
  KILN_TRY(r->endpoints_, h.endpoints(r->ref_.domain, r->push_, insecure));
  return r;
}

std::string repository::scheme_of(const endpoint& e) const {
  return e.http_fallback && hosts_.is_plain(e.host) ? "http" : e.scheme;
}

std::string repository::url(const endpoint& e, const std::string& suffix) const {
  std::string out = scheme_of(e) + "://" + e.host + e.path + "/" + ref_.path + suffix;
  if (e.mirror) out += (suffix.find('?') == suffix.npos ? "?ns=" : "&ns=") + url_escape(ref_.domain);
  return out;
}

int repository::attempts_at(std::size_t i) const {
  return i + 1 == endpoints_.size() ? configs::registry_attempts : 2;
}

status repository::pause(int n, const response* answer) {
  auto wait = configs::registry_backoff * (1 << std::min(n - 1, 10));
  wait = std::min(wait, configs::registry_max_backoff);
  if (answer != nullptr)
    if (auto asked = retry_after(answer->headers)) wait = std::min(*asked, configs::registry_max_retry_after);
  pause_for(wait, job_.stop);
  return job_.check();
}

result<response> repository::send(const endpoint& e, request r,
                                  const std::vector<std::string>& extra_scopes) {
  r.stop = job_.stop;
  r.tls = e.tls;
  std::vector<std::string> scopes{"repository:" + ref_.path + (push_ ? ":pull,push" : ":pull")};
  scopes.insert(scopes.end(), extra_scopes.begin(), extra_scopes.end());
  const auto plain_headers = r.headers;
  for (int round = 0;; ++round) {
    // Whoever a location points to, credentials are for this registry only, and go the way that is
    // configured.
    std::string sent;
    const std::string us = scheme_of(e) + "://" + e.host;
    bool ours = !e.foreign && same_origin(r.url, us);
    if (ours) {
      KILN_TRY(sent, hosts_.authorizer().authorize(e.host, scopes, job_, e.tls));
    }
    r.headers = plain_headers;
    if (!sent.empty()) r.headers.push_back("Authorization: " + sent);
    wire_failure why;
    auto answer = hosts_.transport().perform(r, &why);
    if (!answer.ok()) {
      bool no_port = e.host.find(':') == std::string::npos;
      if (e.http_fallback && r.url.starts_with("https://") &&
          (why == wire_failure::tls_mismatch || (why == wire_failure::refused && no_port))) {
        hosts_.set_plain(e.host);
        r.url = "http" + r.url.substr(5);
        continue;
      }
      return answer;
    }
    // A challenge counts as the registry's own only from itself, not from where it redirected to.
    bool asked = answer->status == 401 && ours && same_origin(answer->url, us);
    if (!asked || round + 1 == max_auth_rounds) return answer;
    auto learned = hosts_.authorizer().challenged(e.host, *answer, sent, scopes, job_, e.tls);
    if (!learned.ok()) {
      // Without a way to authenticate, the registry's own refusal says most.
      if (learned.error().code == errc::unauthenticated) return answer;
      return std::move(learned).error();
    }
  }
}

result<response> repository::send_with_retries(const endpoint& e, const request& r, int attempts,
                                               const std::vector<std::string>& extra_scopes) {
  for (int n = 1;; ++n) {
    auto answer = send(e, r, extra_scopes);
    bool again = answer.ok() ? temporary(answer->status) : answer.error().code == errc::unavailable;
    if (!again || n >= attempts) return answer;
    KILN_CHECK(pause(n, answer.ok() ? &*answer : nullptr));
  }
}

result<descriptor> repository::resolve_at(const endpoint& e, int attempts) {
  const std::string name = ref_.digest ? ref_.digest.str() : ref_.tag;
  request head;
  head.method = "HEAD";
  head.url = url(e, "/manifests/" + name);
  head.headers = {"Accept: " + manifest_accept()};
  KILN_TRY(response r, send_with_retries(e, head, attempts));
  if (r.status == 404) return make_error(errc::not_found, ref_.str() + ": not found");
  if (r.status == 401 || r.status == 403)
    return status_error("HEAD", head.url, r)
        .with_context("pull access denied, repository does not exist or may require authorization");
  if (!success(r.status) && r.status != 405) return status_error("HEAD", head.url, r);
  descriptor d;
  auto said = digest::parse(header_of(r.headers, "docker-content-digest"));
  std::string length = header_of(r.headers, "content-length");
  d.media_type = header_of(r.headers, "content-type");
  d.media_type = d.media_type.substr(0, d.media_type.find(';'));
  bool complete = success(r.status) && said.ok() && !length.empty() && length.size() < 12 &&
                  length.find_first_not_of("0123456789") == length.npos &&
                  (media::is_index(d.media_type) || media::is_manifest(d.media_type));
  if (!complete) {
    KILN_TRY(fetched_manifest m, manifest_at(e, name, attempts));
    return m.desc;
  }
  d.digest = *said;
  d.size = std::stoll(length);
  if (ref_.digest && d.digest != ref_.digest) return wrong_digest(head.url, ref_.digest, d.digest);
  return d;
}

result<descriptor> repository::resolve() {
  if (ref_.name_only())
    return make_error(errc::invalid_argument, "reference " + ref_.str() + " names neither tag nor digest");
  place_failures failures;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    auto d = resolve_at(endpoints_[i], attempts_at(i));
    if (d.ok() || d.error().code == errc::cancelled) return d;
    failures.add(std::move(d).error());
  }
  auto told = failures.told();
  if (told.message.starts_with("server message:"))
    return std::move(told).with_context(
        "pull access denied, repository does not exist or may require authorization");
  return told;
}

result<fetched_manifest> repository::manifest_at(const endpoint& e, const std::string& name, int attempts) {
  request get;
  get.url = url(e, "/manifests/" + name);
  get.headers = {"Accept: " + manifest_accept()};
  get.max_body = configs::max_manifest_size;
  KILN_TRY(response r, send_with_retries(e, get, attempts));
  if (r.status == 404)
    return make_error(errc::not_found,
                      ref_.name() + (name.find(':') == name.npos ? ":" : "@") + name + ": not found");
  if (!success(r.status)) return status_error("GET", get.url, r);
  fetched_manifest out;
  out.desc.media_type = header_of(r.headers, "content-type");
  out.desc.media_type = out.desc.media_type.substr(0, out.desc.media_type.find(';'));
  out.desc.digest = sha256(r.body);
  out.desc.size = static_cast<std::int64_t>(r.body.size());
  if (name.find(':') != name.npos && name != out.desc.digest.str())
    return wrong_digest(get.url, digest::trusted(name), out.desc.digest);
  out.bytes = std::move(r.body);
  return out;
}

result<fetched_manifest> repository::manifest(const digest& d) {
  if (d.algorithm() != "sha256")
    return make_error(errc::unimplemented,
                      "digest algorithm " + std::string(d.algorithm()) + " is not supported");
  place_failures failures;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    auto m = manifest_at(endpoints_[i], d.str(), attempts_at(i));
    if (m.ok() || m.error().code == errc::cancelled) return m;
    failures.add(std::move(m).error());
  }
  return failures.told();
}

result<std::string> repository::small_blob(const descriptor& d, std::int64_t limit) {
  if (d.size > limit)
    return make_error(errc::resource_exhausted, "blob " + d.digest.str() + " of " + std::to_string(d.size) +
                                                    " bytes is larger than the limit of " +
                                                    std::to_string(limit));
  place_failures failures;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    request get;
    get.url = url(endpoints_[i], "/blobs/" + d.digest.str());
    get.max_body = limit;
    auto r = send_with_retries(endpoints_[i], get, attempts_at(i));
    if (!r.ok() && r.error().code == errc::cancelled) return std::move(r).error();
    error e;
    if (!r.ok()) {
      e = std::move(r).error();
    } else if (!success(r->status)) {
      e = status_error("GET", get.url, *r);
    } else if (auto got = sha256(r->body); got != d.digest) {
      e = wrong_digest(get.url, d.digest, got);
    } else {
      return std::move(r->body);
    }
    failures.add(std::move(e));
  }
  return failures.told();
}

result<std::int64_t> repository::blob_size(const digest& d) {
  place_failures failures;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    request head;
    head.method = "HEAD";
    head.url = url(endpoints_[i], "/blobs/" + d.str());
    auto r = send_with_retries(endpoints_[i], head, attempts_at(i));
    if (r.ok() && success(r->status)) {
      std::string length = header_of(r->headers, "content-length");
      if (length.empty() || length.size() > 18 || length.find_first_not_of("0123456789") != length.npos)
        return make_error(errc::unknown, "registry does not tell the size of " + d.str());
      return static_cast<std::int64_t>(std::stoll(length));
    }
    error e = !r.ok()            ? std::move(r).error()
              : r->status == 404 ? make_error(errc::not_found, ref_.name() + "@" + d.str() + ": not found")
                                 : status_error("HEAD", head.url, *r);
    if (e.code == errc::cancelled) return e;
    failures.add(std::move(e));
  }
  return failures.told();
}

result<std::vector<descriptor>> repository::referrers_at(const endpoint& e, const digest& d, int attempts) {
  request get;
  get.url = url(e, "/referrers/" + d.str());
  get.headers = {"Accept: " + std::string(media::oci_index)};
  get.max_body = configs::max_manifest_size;
  KILN_TRY(response r, send_with_retries(e, get, attempts));
  std::string index;
  if (success(r.status)) {
    index = std::move(r.body);
  } else if (r.status == 404) {
    auto tag = d.str();
    tag[tag.find(':')] = '-';
    auto tagged = manifest_at(e, tag, attempts);
    if (!tagged.ok()) return std::move(tagged).error();
    index = std::move(tagged->bytes);
  } else {
    return status_error("GET", get.url, r);
  }
  KILN_TRY(auto listed, parse_manifest(index, std::string(media::oci_index)));
  return std::move(listed.entries);
}

result<std::vector<descriptor>> repository::referrers(const digest& d) {
  place_failures failures;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    auto found = referrers_at(endpoints_[i], d, attempts_at(i));
    if (found.ok() || found.error().code == errc::cancelled) return found;
    failures.add(std::move(found).error());
  }
  if (failures.told().code == errc::not_found) return std::vector<descriptor>{};
  return failures.told();
}

}  // namespace kiln::distribution
