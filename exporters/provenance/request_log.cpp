#include "exporters/provenance/request_log.hpp"

#include <algorithm>

#include "exporters/provenance/purl.hpp"

namespace kiln::exporters {

using json = nlohmann::ordered_json;

namespace {

/// The digest a definition's last vertex points at; empty for scratch.
std::string head_of(const pb::Definition& definition) {
  pb::Op op;
  if (definition.def_size() == 0 || !op.ParseFromString(definition.def(definition.def_size() - 1)) ||
      op.inputs_size() == 0)
    return {};
  return op.inputs(0).digest();
}

json digest_set(const std::string& digest) {
  auto colon = digest.find(':');
  if (colon != std::string::npos) return {{digest.substr(0, colon), digest.substr(colon + 1)}};
  return {{digest.size() == 64 ? "sha256" : "sha1", digest}};
}

/// The context option as a material: where the files of the build came from.
json config_source(const std::string& context, const capture& sources) {
  std::string base = context.substr(0, context.find('#'));
  std::string fragment = context.size() > base.size() ? context.substr(base.size() + 1) : "";
  std::string ref = fragment.substr(0, fragment.find(':'));
  std::string url = redact_credentials(ref.empty() ? base : base + "#" + ref);
  for (const auto& g : sources.git)
    if (g.url == url || g.url == "https://" + url)
      return {{"uri", g.url + redact_credentials(fragment.substr(ref.size()))},
              {"digest", digest_set(g.commit)}};
  for (const auto& h : sources.http)
    if (h.url == redact_credentials(context)) return {{"uri", h.url}, {"digest", digest_set(h.digest)}};
  return {{"uri", redact_credentials(context)}};
}

json without_root(json request) {
  if (request.contains("request")) request["request"].erase("root");
  return request;
}

std::vector<captured_image> for_platform(const std::vector<captured_image>& images, const std::string& id,
                                         const std::vector<listed_platform>& platforms) {
  if (platforms.empty()) return images;
  const platform* current = nullptr;
  for (const auto& p : platforms)
    if (p.id == id) current = &p.platform;
  // An image that is there for each of the platforms counts for its own only.
  std::map<std::string_view, std::vector<const platform*>> there;
  for (const auto& i : images)
    if (i.platform) there[i.ref].push_back(&*i.platform);
  std::map<std::string_view, bool> judged;
  auto everywhere = [&](const std::string& ref) {
    auto [known, fresh] = judged.try_emplace(ref, false);
    if (fresh)
      known->second = std::all_of(platforms.begin(), platforms.end(), [&](const auto& p) {
        const auto& of_ref = there[ref];
        return std::any_of(of_ref.begin(), of_ref.end(),
                           [&](const auto* i) { return matches(p.platform, *i); });
      });
    return known->second;
  };
  std::vector<captured_image> out;
  for (const auto& i : images) {
    bool elsewhere = i.platform && current && everywhere(i.ref) &&
                     (i.platform->os != current->os || i.platform->architecture != current->architecture);
    if (!elsewhere) out.push_back(i);
  }
  return out;
}

}  // namespace

std::uint64_t definition_origins::add(const pb::Definition& definition, json request) {
  auto head = head_of(definition);
  std::lock_guard lock{mutex_};
  auto id = ++last_;
  if (head.empty()) return id;
  by_head_[head].emplace(id, std::move(request));
  heads_.emplace(id, std::move(head));
  return id;
}

void definition_origins::forget(std::uint64_t id) {
  std::lock_guard lock{mutex_};
  auto head = heads_.find(id);
  if (head == heads_.end()) return;
  auto requests = by_head_.find(head->second);
  requests->second.erase(id);
  if (requests->second.empty()) by_head_.erase(requests);
  heads_.erase(head);
}

std::optional<json> definition_origins::find(const pb::Definition& definition) const {
  auto head = head_of(definition);
  if (head.empty()) return std::nullopt;
  std::optional<json> found;
  std::lock_guard lock{mutex_};
  auto requests = by_head_.find(head);
  if (requests == by_head_.end()) return found;
  for (const auto& [id, one] : requests->second) {
    auto request = without_root(one);
    if (found && *found != request) return std::nullopt;
    found = std::move(request);
  }
  return found;
}

std::map<std::string, std::string> provenance_args(const std::map<std::string, std::string>& options) {
  static const std::set<std::string> of_the_host{"cgroup-parent", "image-resolve-mode", "platform",
                                                 "cache-imports"};
  std::string context = "context";
  if (auto named = options.find("contextkey"); named != options.end() && !named->second.empty())
    context = named->second;
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : options) {
    if (of_the_host.contains(key) || key.starts_with("attest:")) continue;
    out[key] = key == context || key.starts_with("context:") ? redact_credentials(value) : value;
  }
  return out;
}

json request_provenance(const std::string& frontend, std::map<std::string, std::string> args,
                        const capture& sources) {
  auto value = [&](const std::string& key) {
    auto found = args.find(key);
    return found == args.end() ? std::string() : found->second;
  };
  std::string context = "context";
  if (auto named = value("contextkey"); !named.empty()) context = named;
  else if (!value("input:context").empty()) context = "input:context";
  json source = json::object();
  if (auto where = value(context); !where.empty()) {
    source = config_source(where, sources);
    args.erase(context);
  }
  if (auto file = value("filename"); !file.empty()) {
    source["path"] = file;
    args.erase("filename");
  }
  json request = json::object();
  if (!frontend.empty()) request["frontend"] = frontend;
  if (!args.empty()) request["args"] = args;
  return {{"configSource", std::move(source)}, {"request", std::move(request)}};
}

request_log::~request_log() {
  if (!origins_) return;
  for (auto id : published_) origins_->forget(id);
}

void request_log::begin(logged_request request) {
  scopes_.clear();
  frame_of_ref_.clear();
  scopes_.push_back({-1, 0, std::move(request), {}, {}});
}

int request_log::open(int parent, logged_request request) {
  scope f{parent, scopes_.at(static_cast<std::size_t>(parent)).root, std::move(request), {}, {}};
  // The root says what was asked first; a client without a frontend of its own says nothing.
  if (!scopes_[static_cast<std::size_t>(f.root)].request.says_something()) f.root = parent;
  scopes_.push_back(std::move(f));
  return static_cast<int>(scopes_.size()) - 1;
}

int request_log::open_aside() {
  scopes_.push_back({-1, 0, {}, {}, {}});
  return static_cast<int>(scopes_.size()) - 1;
}

int request_log::depth(int scope) const {
  int n = 0;
  for (auto at = scope; at > 0; at = scopes_.at(static_cast<std::size_t>(at)).parent) ++n;
  return n;
}

void request_log::add_ref(int scope, const std::string& id) {
  scopes_.at(static_cast<std::size_t>(scope)).refs.push_back(id);
  frame_of_ref_[id] = scope;
}

void request_log::add_image(int scope, captured_image image) {
  scopes_.at(static_cast<std::size_t>(scope)).images.push_back(std::move(image));
}

int request_log::frame_of(const std::string& id) const {
  auto found = frame_of_ref_.find(id);
  return found == frame_of_ref_.end() ? 0 : found->second;
}

std::vector<int> request_log::below(int top) const {
  std::vector<int> out{top};
  std::vector<char> is_below(scopes_.size(), 0);
  is_below[static_cast<std::size_t>(top)] = 1;
  for (std::size_t n = static_cast<std::size_t>(top) + 1; n < scopes_.size(); ++n) {
    auto parent = scopes_[n].parent;
    if (parent < 0 || is_below[static_cast<std::size_t>(parent)] == 0) continue;
    is_below[n] = 1;
    out.push_back(static_cast<int>(n));
  }
  return out;
}

json request_log::inputs_of(const logged_request& request) const {
  json out = json::object();
  if (!origins_) return out;
  for (const auto& [name, definition] : request.inputs)
    if (auto made_by = origins_->find(definition)) out[name] = *std::move(made_by);
  return out;
}

std::optional<json> request_log::root_of(const scope& f, const capture& sources) const {
  const auto& first = scopes_[static_cast<std::size_t>(f.root)].request;
  if (!first.says_something()) return std::nullopt;
  auto root = request_provenance(first.frontend, provenance_args(first.options), sources);
  if (auto inputs = inputs_of(first); !inputs.empty()) root["request"]["inputs"] = std::move(inputs);
  if (root["request"].empty()) return std::nullopt;
  return root;
}

json request_log::request_of(const scope& f, const capture& sources) const {
  auto out = request_provenance(f.request.frontend, provenance_args(f.request.options), sources);
  if (auto inputs = inputs_of(f.request); !inputs.empty()) out["request"]["inputs"] = std::move(inputs);
  if (auto root = root_of(f, sources); root && *root != out) out["request"]["root"] = *std::move(root);
  return out;
}

void request_log::publish(const std::string& id, const pb::Definition& definition, const capture& sources) {
  auto n = frame_of(id);
  if (!origins_ || n == 0) return;  // made by no frontend
  published_.push_back(origins_->add(definition, request_of(scopes_[static_cast<std::size_t>(n)], sources)));
}

request_log::provenance_of_ref request_log::provenance(
    const std::string& id, const std::string& platform_id, const std::vector<listed_platform>& platforms,
    const std::set<std::string>& result,
    const std::function<std::optional<capture>(const std::string&)>& captured) const {
  provenance_of_ref out;
  if (auto own = captured(id)) out.what = *std::move(own);
  auto n = frame_of(id);
  const auto& f = scopes_[static_cast<std::size_t>(n)];
  auto own = out.what;
  std::vector<captured_image> images;
  // What the frontend looked at on its way counts too, of other parts of the result only what is theirs.
  for (auto at : below(n)) {
    const auto& sub = scopes_[static_cast<std::size_t>(at)];
    for (const auto& ref : sub.refs)
      if (ref != id && !result.contains(ref))
        if (auto more = captured(ref)) out.what.merge(*more);
    images.insert(images.end(), sub.images.begin(), sub.images.end());
  }
  for (auto& i : platform_id.empty() ? images : for_platform(images, platform_id, platforms))
    out.what.add_image(std::move(i));
  if (n != 0) {
    out.request = request_of(f, own)["request"];
    // As it was asked: what becomes of the context is for the predicate to say.
    out.request["args"] = provenance_args(f.request.options);
    if (!f.request.frontend.empty()) out.request["frontend"] = f.request.frontend;
  }
  return out;
}

}  // namespace kiln::exporters
