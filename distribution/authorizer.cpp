#include "distribution/authorizer.hpp"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "auth.pb.h"
#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "distribution/hosts.hpp"
#include "distribution/token_authority.hpp"
#include "messages/told_code.hpp"

namespace kiln::distribution {
namespace {

namespace pba = moby::filesync::v1;
using clock = std::chrono::steady_clock;

constexpr std::string_view client_id = "buildkit-client";
constexpr int max_challenges = 16;

/// Runs `use` on the sessions of the job; without any session nothing happens.
status with_sessions(const job_context& job, const std::function<status(session_caller&)>& use) {
  if (job.directory == nullptr || job.sessions.ids.empty()) return {};
  return with_any_session(*job.directory, job.sessions, job.stop, use);
}

struct credentials {
  std::string username, secret;
};

/// Empty where the client has none.
result<credentials> ask_credentials(const std::string& host, const job_context& job) {
  credentials out;
  KILN_CHECK(with_sessions(job, [&](session_caller& session) -> status {
    pba::CredentialsRequest req;
    req.set_host(host);
    auto r = ask_auth<pba::CredentialsResponse>(session, "Credentials", req, job.stop);
    if (!r.ok()) {
      if (r.error().code == errc::unimplemented) return {};
      return std::move(r).error();
    }
    out = {r->username(), r->secret()};
    return {};
  }));
  return out;
}

class challenge_parser {
 public:
  explicit challenge_parser(std::string_view s) : s_(s) {}

  void run(std::vector<challenge>& out) {
    while (skip_to_word() && out.size() < max_challenges) {
      std::string name = word();
      skip_space();
      if (!s_.empty() && s_[0] == '=' && !out.empty()) {
        s_.remove_prefix(1);
        skip_space();
        out.back().parameters[name] = value();
      } else {
        out.push_back({name, {}});
      }
    }
  }

 private:
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  }
  void skip_space() {
    while (!s_.empty() && (s_[0] == ' ' || s_[0] == '\t')) s_.remove_prefix(1);
  }
  bool skip_to_word() {
    while (!s_.empty() && !is_word(s_[0])) s_.remove_prefix(1);
    return !s_.empty();
  }
  std::string word() {
    std::size_t n = 0;
    while (n < s_.size() && is_word(s_[n])) ++n;
    std::string out(s_.substr(0, n));
    out = to_lower(out);
    s_.remove_prefix(n);
    return out;
  }
  std::string value() {
    std::string out;
    if (s_.empty() || s_[0] != '"') {
      std::size_t n = std::min(s_.find_first_of(", \t"), s_.size());
      out = s_.substr(0, n);
      s_.remove_prefix(n);
      return out;
    }
    s_.remove_prefix(1);
    while (!s_.empty() && s_[0] != '"') {
      if (s_[0] == '\\' && s_.size() > 1) s_.remove_prefix(1);
      out += s_[0];
      s_.remove_prefix(1);
    }
    if (!s_.empty()) s_.remove_prefix(1);
    return out;
  }

  std::string_view s_;
};

}  // namespace

std::vector<challenge> parse_challenges(const headers& h) {
  std::vector<challenge> out;
  auto [first, last] = h.equal_range("www-authenticate");
  for (auto it = first; it != last; ++it) challenge_parser(it->second).run(out);
  return out;
}

std::vector<std::string> normalize_scopes(const std::vector<std::string>& scopes) {
  std::map<std::string, std::set<std::string>> by_resource;
  for (const auto& all : scopes) {
    std::size_t begin = 0;
    while (begin < all.size()) {
      std::size_t end = std::min(all.find(' ', begin), all.size());
      std::string scope = all.substr(begin, end - begin);
      begin = end + 1;
      if (scope.empty()) continue;
      // "type:name:actions"; the name may itself have a port's colon, the actions never.
      std::size_t first = scope.find(':'), last = scope.rfind(':');
      auto& actions = by_resource[scope.substr(0, last == first ? std::string::npos : last)];
      if (last == std::string::npos || last == first) continue;
      for (std::size_t a = last + 1; a <= scope.size();) {
        std::size_t comma = std::min(scope.find(',', a), scope.size());
        if (comma > a) actions.insert(scope.substr(a, comma - a));
        a = comma + 1;
      }
    }
  }
  std::vector<std::string> out;
  for (const auto& [resource, actions] : by_resource) out.push_back(resource + ":" + join(actions, ","));
  return out;
}

std::string authorizer::key_of(const std::string& host, const job_context& job) {
  auto ids = job.directory ? job.sessions.ids : std::vector<std::string>{};
  std::sort(ids.begin(), ids.end());
  return host + "/" + join(ids, ",");
}

std::shared_ptr<authorizer::entry> authorizer::find(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second;
}

/// What is known of the host by other sessions of the same client: who has the same credentials, or proves to
/// be the same authority, may use their tokens. Null if there is none, or the client cannot say.
std::shared_ptr<authorizer::entry> authorizer::shared(const std::string& host, const job_context& job) {
  if (job.directory == nullptr || job.sessions.ids.empty()) return nullptr;
  std::vector<std::shared_ptr<entry>> others;
  {
    std::lock_guard lock(mutex_);
    for (auto it = entries_.lower_bound(host + "/");
         it != entries_.end() && it->first.starts_with(host + "/"); ++it)
      if (std::find(others.begin(), others.end(), it->second) == others.end()) others.push_back(it->second);
  }
  if (others.size() > configs::registry_shared_entries) others.resize(configs::registry_shared_entries);
  std::optional<result<credentials>> ours;
  for (const auto& e : others) {
    bool same = false;
    if (e->client_fetches()) {
      auto asked = with_sessions(job, [&](session_caller& session) -> status {
        KILN_TRY(same, has_authority(session, host, e->authority, job.stop));
        return {};
      });
      same = asked.ok() && same;
    } else {
      if (!ours) ours = ask_credentials(host, job);
      same = ours->ok() && (*ours)->username == e->username && (*ours)->secret == e->secret;
    }
    if (!same) continue;
    std::lock_guard lock(mutex_);
    return entries_[key_of(host, job)] = e;
  }
  return nullptr;
}

result<std::string> authorizer::authorize(const std::string& host, const std::vector<std::string>& scopes,
                                          const job_context& job, std::shared_ptr<const tls_settings> tls) {
  auto e = find(key_of(host, job));
  if (!e) e = shared(host, job);
  if (!e) return std::string();
  if (e->how.scheme == "basic") return "Basic " + base64_encode(e->username + ":" + e->secret);
  std::lock_guard fetching(e->fetching);
  auto wanted = scopes;
  wanted.insert(wanted.end(), e->extra_scopes.begin(), e->extra_scopes.end());
  wanted = normalize_scopes(wanted);
  std::string joined = join(wanted, " ");
  if (auto it = e->tokens.find(joined); it != e->tokens.end() && clock::now() < it->second.expires)
    return it->second.header;
  auto fetched = fetch_token(host, *e, wanted, job, tls);
  if (!fetched.ok()) return std::move(fetched).error().with_context("failed to authorize");
  std::string header = fetched->header;
  if (e->tokens.size() >= configs::registry_auth_entries) e->tokens.clear();
  e->tokens[joined] = *std::move(fetched);
  return header;
}

status authorizer::challenged(const std::string& host, const response& answer, const std::string& sent,
                              const std::vector<std::string>& scopes, const job_context& job,
                              std::shared_ptr<const tls_settings>) {
  std::string key = key_of(host, job);
  std::string refusal;
  for (const auto& c : parse_challenges(answer.headers)) {
    auto parameter = [&](const char* name) {
      auto it = c.parameters.find(name);
      return it == c.parameters.end() ? std::string() : it->second;
    };
    auto known = find(key);
    if (c.scheme == "bearer") {
      if (known && !sent.empty()) {
        // A token was refused: forget it, and ask for the scope the server names as well.
        std::lock_guard fetching(known->fetching);
        refusal = parameter("error");
        std::erase_if(known->tokens, [&](const auto& t) { return t.second.header == sent; });
        auto asked = normalize_scopes(scopes), extra = asked;
        if (std::string more = parameter("scope"); !more.empty()) {
          extra.push_back(more);
          extra = normalize_scopes(extra);
          if (extra != asked && extra != known->extra_scopes) {
            known->extra_scopes = extra;
            return {};
          }
        }
        if (refusal == "insufficient_scope")
          return make_error(errc::permission_denied,
                            "server message: insufficient_scope: authorization failed");
        return {};
      }
    } else if (c.scheme == "basic") {
      if (known && !sent.empty())
        return make_error(errc::unauthenticated, "server refused the credentials for " + host);
    } else {
      continue;
    }
    auto learned = learn(host, c, job);
    if (!learned.ok()) return std::move(learned).error();
    if (*learned == nullptr) continue;
    (*learned)->plain = answer.url.starts_with("http://");
    std::lock_guard lock(mutex_);
    if (entries_.size() >= configs::registry_auth_entries) entries_.clear();
    entries_[key] = *std::move(learned);
    return {};
  }
  return make_error(errc::unauthenticated, "failed to find supported auth scheme: not implemented");
}

/// An entry for this challenge; null when there are no credentials for a scheme that needs them.
result<std::shared_ptr<authorizer::entry>> authorizer::learn(const std::string& host, const challenge& c,
                                                             const job_context& job) {
  auto e = std::make_shared<entry>();
  e->how = c;
  if (c.scheme == "bearer") {
    auto s = with_sessions(job, [&](session_caller& session) -> status {
      KILN_TRY(e->authority, token_authority(session, host, job.stop));
      return {};
    });
    KILN_CHECK(s);
    if (e->client_fetches()) return e;
  }
  KILN_TRY(auto known, ask_credentials(host, job));
  e->username = known.username;
  e->secret = known.secret;
  if (c.scheme == "basic" && (e->username.empty() || e->secret.empty())) return std::shared_ptr<entry>();
  return e;
}

/// Whether the realm may get the credentials.
status authorizer::check_realm(const entry& e) {
  auto found = e.how.parameters.find("realm");
  auto u = parse_url(found == e.how.parameters.end() ? "" : found->second);
  if (!u.ok() || (u->scheme != "https" && u->scheme != "http"))
    return make_error(errc::unauthenticated,
                      "invalid token auth challenge realm \"" + (u.ok() ? u->str() : std::string()) + "\"");
  bool secret = e.client_fetches() || !e.secret.empty();
  if (secret && u->scheme == "http" && !e.plain && !is_localhost(u->host))
    return make_error(errc::unauthenticated, "token realm " + u->origin() +
                                                 " is not https, as the registry is: it gets no credentials");
  return {};
}

result<authorizer::token> authorizer::fetch_token(const std::string& host, entry& e,
                                                  const std::vector<std::string>& scopes,
                                                  const job_context& job,
                                                  std::shared_ptr<const tls_settings> tls) {
  if (!e.client_fetches()) return fetch_from_server(e, scopes, job, std::move(tls));
  if (auto s = check_realm(e); !s.ok())
    return std::move(s).error().with_context("failed to fetch oauth token");
  pba::FetchTokenRequest req;
  req.set_clientid(std::string(client_id));
  req.set_host(host);
  req.set_realm(e.how.parameters["realm"]);
  req.set_service(e.how.parameters["service"]);
  for (const auto& s : scopes) req.add_scopes(s);
  pba::FetchTokenResponse answer;
  KILN_CHECK(with_sessions(job, [&](session_caller& session) -> status {
    KILN_TRY(answer, ask_auth<pba::FetchTokenResponse>(session, "FetchToken", req, job.stop));
    return {};
  }));
  std::chrono::nanoseconds life =
      answer.expiresin() > 0 ? std::chrono::seconds(answer.expiresin()) : configs::token_default_life;
  life = life * 9 / 10;
  // A client that kept it says since when it is one.
  if (answer.issuedat() > 0)
    life -= std::chrono::system_clock::now() -
            std::chrono::system_clock::time_point(std::chrono::seconds(answer.issuedat()));
  return token{"Bearer " + answer.token(), clock::now() + life};
}

result<authorizer::token> authorizer::fetch_from_server(entry& e, const std::vector<std::string>& scopes,
                                                        const job_context& job,
                                                        std::shared_ptr<const tls_settings> tls) {
  const char* what = e.secret.empty() ? "failed to fetch anonymous token" : "failed to fetch oauth token";
  std::string realm = e.how.parameters["realm"], service = e.how.parameters["service"];
  if (auto s = check_realm(e); !s.ok()) return std::move(s).error().with_context(what);

  request get;
  get.stop = job.stop;
  get.tls = tls;
  std::string query = "service=" + url_escape(service);
  for (const auto& s : scopes) query += "&scope=" + url_escape(s);
  if (!e.username.empty()) query += "&account=" + url_escape(e.username);
  get.url = realm + (realm.find('?') == realm.npos ? "?" : "&") + query;
  if (!e.secret.empty())
    get.headers.push_back("Authorization: Basic " + base64_encode(e.username + ":" + e.secret));

  request post;
  post.method = "POST";
  post.follow_redirects = false;  // its body is the secret
  post.stop = job.stop;
  post.tls = tls;
  post.url = realm;
  post.headers = {"Content-Type: application/x-www-form-urlencoded; charset=utf-8"};
  post.body = "client_id=" + url_escape(client_id) + "&service=" + url_escape(service) +
              "&scope=" + url_escape(join(scopes, " "));
  if (e.username.empty()) post.body += "&grant_type=refresh_token&refresh_token=" + url_escape(e.secret);
  else
    post.body +=
        "&grant_type=password&username=" + url_escape(e.username) + "&password=" + url_escape(e.secret);

  bool identity_token = e.username.empty() && !e.secret.empty();
  const request* used = identity_token ? &post : &get;
  auto answer = transport_.perform(*used);
  if (!answer.ok()) return std::move(answer).error().with_context(what);
  // Servers that only know one of the two ways answer one of these to the other.
  if (!e.secret.empty() && !identity_token &&
      (answer->status == 404 || answer->status == 401 || answer->status == 405)) {
    used = &post;
    answer = transport_.perform(post);
    if (!answer.ok()) return std::move(answer).error().with_context(what);
  }
  if (answer->status < 200 || answer->status >= 300) {
    errc code = answer->status == 401 || answer->status == 403   ? errc::unauthenticated
                : answer->status >= 500 || answer->status == 429 ? errc::unavailable
                                                                 : errc::unknown;
    return told_as(errc::unknown,
                   make_error(code, std::string(what) + ": unexpected status from " + used->method +
                                        " request to " + used->url + ": " + std::to_string(answer->status)));
  }
  auto json = json_or_null(answer->body);
  auto text = text_member(json, "token");
  if (text.empty()) text = text_member(json, "access_token");
  if (text.empty())
    return make_error(errc::unauthenticated,
                      std::string(what) + ": authorization server did not include a token in the response");
  if (text.find_first_of("\r\n") != text.npos)
    return make_error(errc::unauthenticated, std::string(what) + ": the token is malformed");
  auto life = configs::token_default_life;
  if (auto seconds = integer_member(json, "expires_in").value_or(0); seconds > 0)
    life = std::chrono::seconds(std::min<std::int64_t>(seconds, 86'400));
  return token{"Bearer " + text, clock::now() + life * 9 / 10};
}

}  // namespace kiln::distribution
