#include "solver/remote_cache/config.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "base/json_text.hpp"
#include "base/quoting.hpp"
#include "configs/remote_cache.hpp"

namespace kiln::solver::remote_cache {
namespace {

using json = nlohmann::json;

error bad(const std::string& why) {
  return make_error(errc::invalid_argument, "invalid cache config: " + why);
}

error too_many(const char* what, std::size_t limit) {
  return make_error(errc::resource_exhausted,
                    "invalid cache config: more than " + std::to_string(limit) + " " + what);
}

/// A member that may be missing or null; an error when it is of another type.
template <class Predicate>
result<const json*> member(const json& j, const char* name, Predicate fits, const char* type) {
  if (!j.is_object()) return bad("not an object where \"" + std::string(name) + "\" is expected");
  auto it = j.find(name);
  if (it == j.end() || it->is_null()) return static_cast<const json*>(nullptr);
  if (!fits(*it)) return bad("\"" + std::string(name) + "\" is no " + type);
  return &*it;
}

result<const json*> array_of(const json& j, const char* name) {
  return member(
      j, name, [](const json& v) { return v.is_array(); }, "array");
}

result<std::string> text_of(const json& j, const char* name) {
  KILN_TRY(const json* v, member(
                              j, name, [](const json& x) { return x.is_string(); }, "string"));
  if (v == nullptr) return std::string();
  auto text = text_value(*v);
  if (text.size() > configs::max_cache_key_text) return too_many(name, configs::max_cache_key_text);
  return text;
}

result<std::int64_t> integer(const json& v, const char* name) {
  if (!v.is_number_integer()) return bad("\"" + std::string(name) + "\" is no integer");
  auto n = integer_value(v);
  if (!n) return bad("\"" + std::string(name) + "\" is out of range");
  return *n;
}

/// Indexes out of the range of int are as wrong as those out of the list's.
result<int> index_of(const json& v, const char* name) {
  KILN_TRY(std::int64_t i, integer(v, name));
  return i < INT32_MIN || i > INT32_MAX ? -2 : static_cast<int>(i);
}

result<int> index_member(const json& j, const char* name) {
  KILN_TRY(const json* v, member(
                              j, name, [](const json&) { return true; }, "integer"));
  if (v == nullptr) return 0;
  return index_of(*v, name);
}

result<std::int64_t> time_of(const json& j, const char* name) {
  KILN_TRY(std::string text, text_of(j, name));
  if (text.empty()) return no_time;
  auto t = parse_rfc3339(text);
  if (!t) return bad("\"" + text + "\" is no time");
  return *t;
}

result<kiln::digest> digest_of(const json& j, const char* name) {
  KILN_TRY(std::string text, text_of(j, name));
  auto d = kiln::digest::parse(text);
  if (!d.ok() || d->algorithm() == "random") return bad("\"" + text + "\" is no digest");
  return *d;
}

result<cache_layer> parse_layer(const json& j) {
  cache_layer out;
  KILN_TRY(out.blob, digest_of(j, "blob"));
  KILN_TRY(out.parent, index_member(j, "parent"));
  KILN_TRY(const json* a, member(
                              j, "annotations", [](const json& v) { return v.is_object(); }, "object"));
  if (a != nullptr) {
    layer_annotations n;
    KILN_TRY(n.media_type, text_of(*a, "mediaType"));
    if (a->contains("diffID")) {
      KILN_TRY(n.diff_id, digest_of(*a, "diffID"));
    }
    if (auto size = a->find("size"); size != a->end()) {
      KILN_TRY(n.size, integer(*size, "size"));
    }
    KILN_TRY(n.created_at_ns, time_of(*a, "createdAt"));
    out.annotations = std::move(n);
  }
  return out;
}

result<cache_record> parse_record(const json& j, std::size_t& inputs_left) {
  cache_record out;
  KILN_TRY(out.digest, text_of(j, "digest"));
  KILN_TRY(const json* results, array_of(j, "layers"));
  if (results != nullptr)
    for (const auto& r : *results) {
      cache_result one;
      KILN_TRY(one.layer, index_member(r, "layer"));
      KILN_TRY(one.created_at_ns, time_of(r, "createdAt"));
      out.results.push_back(one);
    }
  KILN_TRY(const json* chains, array_of(j, "chains"));
  if (chains != nullptr)
    for (const auto& c : *chains) {
      chained_result one;
      KILN_TRY(const json* layers, array_of(c, "layers"));
      if (layers != nullptr) {
        if (layers->size() > configs::max_result_layers)
          return too_many("layers of one result", configs::max_result_layers);
        for (const auto& l : *layers) {
          KILN_TRY(int i, index_of(l, "layers"));
          one.layers.push_back(i);
        }
      }
      KILN_TRY(one.created_at_ns, time_of(c, "createdAt"));
      out.chains.push_back(std::move(one));
    }
  KILN_TRY(const json* inputs, array_of(j, "inputs"));
  if (inputs != nullptr)
    for (const auto& alternatives : *inputs) {
      std::vector<cache_input> list;
      if (!alternatives.is_null() && !alternatives.is_array()) return bad("\"inputs\" is no array of arrays");
      for (const auto& one : alternatives) {
        if (inputs_left-- == 0) return too_many("inputs", configs::max_cache_inputs);
        cache_input in;
        KILN_TRY(in.selector, text_of(one, "selector"));
        KILN_TRY(in.link, index_member(one, "link"));
        list.push_back(std::move(in));
      }
      out.inputs.push_back(std::move(list));
    }
  return out;
}

result<std::vector<cache_record>> parse_records(const json& list) {
  if (list.size() > configs::max_cache_records) return too_many("records", configs::max_cache_records);
  std::vector<cache_record> out;
  std::size_t inputs_left = configs::max_cache_inputs;
  for (const auto& r : list) {
    KILN_TRY(cache_record record, parse_record(r, inputs_left));
    out.push_back(std::move(record));
  }
  return out;
}

/// Depth of every layer, its own included.
result<std::vector<int>> layer_depths(const std::vector<cache_layer>& layers) {
  auto n = static_cast<int>(layers.size());
  std::vector<int> depth(layers.size(), 0);  // 0 = unknown, -1 = on the way down
  auto at = [](int i) { return static_cast<std::size_t>(i); };
  std::vector<int> way;
  for (int first = 0; first < n; ++first) {
    int i = first;
    for (; i != -1 && depth[at(i)] == 0; i = layers[at(i)].parent) {
      if (layers[at(i)].parent < -1 || layers[at(i)].parent >= n)
        return bad("invalid layer index " + std::to_string(layers[at(i)].parent));
      depth[at(i)] = -1;
      way.push_back(i);
    }
    if (i != -1 && depth[at(i)] == -1) return bad("invalid looping layer");
    int below = i == -1 ? 0 : depth[at(i)];
    for (; !way.empty(); way.pop_back()) depth[at(way.back())] = ++below;
  }
  return depth;
}

/// Depth-first over the inputs, without recursion: hostile configs may be deep.
result<std::vector<int>> record_order(const std::vector<cache_record>& records) {
  enum class mark : char { unseen, open, done };
  struct frame {
    int record;
    std::size_t input = 0, alternative = 0;
  };
  auto n = static_cast<int>(records.size());
  std::vector<mark> marks(records.size(), mark::unseen);
  std::vector<int> order;
  order.reserve(records.size());
  std::vector<frame> stack;
  for (int first = 0; first < n; ++first) {
    if (marks[static_cast<std::size_t>(first)] != mark::unseen) continue;
    marks[static_cast<std::size_t>(first)] = mark::open;
    stack.push_back({first});
    while (!stack.empty()) {
      frame& f = stack.back();
      const auto& inputs = records[static_cast<std::size_t>(f.record)].inputs;
      if (f.input == inputs.size()) {
        marks[static_cast<std::size_t>(f.record)] = mark::done;
        order.push_back(f.record);
        stack.pop_back();
        continue;
      }
      if (inputs[f.input].empty()) return bad("invalid empty input for record " + std::to_string(f.record));
      if (f.alternative == inputs[f.input].size()) {
        ++f.input, f.alternative = 0;
        continue;
      }
      int next = inputs[f.input][f.alternative++].link;
      if (next < 0 || next >= n) return bad("invalid record ID: " + std::to_string(next));
      auto& m = marks[static_cast<std::size_t>(next)];
      if (m == mark::open) return bad("invalid looping record");
      if (m == mark::unseen) {
        m = mark::open;
        stack.push_back({next});
      }
    }
  }
  return order;
}

result<json> parse(std::string_view text) {
  auto j = kiln::parse_json(text);
  if (!j.ok()) return std::move(j).error().with_context("invalid cache config");
  return j;
}

}  // namespace

result<std::vector<int>> check_config(const cache_config& config) {
  KILN_TRY(auto depths, layer_depths(config.layers));
  auto layers = static_cast<int>(config.layers.size());
  for (const auto& r : config.records) {
    if (r.digest.empty() || r.digest.starts_with("random:"))
      return bad("invalid record digest \"" + r.digest + "\"");
    for (const auto& one : r.results) {
      if (one.layer < 0 || one.layer >= layers)
        return bad("invalid layer index " + std::to_string(one.layer));
      if (depths[static_cast<std::size_t>(one.layer)] > static_cast<int>(configs::max_result_layers))
        return too_many("layers of one result", configs::max_result_layers);
    }
    for (const auto& one : r.chains) {
      if (one.layers.size() > configs::max_result_layers)
        return too_many("layers of one result", configs::max_result_layers);
      for (int l : one.layers)
        if (l < 0 || l >= layers) return bad("invalid layer index " + std::to_string(l));
    }
  }
  return record_order(config.records);
}

result<cache_config> parse_config(std::string_view text) {
  KILN_TRY(json j, parse(text));
  cache_config out;
  KILN_TRY(const json* layers, array_of(j, "layers"));
  if (layers != nullptr) {
    if (layers->size() > configs::max_cache_layers) return too_many("layers", configs::max_cache_layers);
    for (const auto& l : *layers) {
      KILN_TRY(cache_layer layer, parse_layer(l));
      out.layers.push_back(std::move(layer));
    }
  }
  KILN_TRY(const json* records, array_of(j, "records"));
  if (records != nullptr) {
    KILN_TRY(out.records, parse_records(*records));
  }
  if (auto checked = check_config(out); !checked.ok()) return std::move(checked).error();
  return out;
}

result<cache_config> parse_inline_records(std::string_view text,
                                          const std::vector<kiln::digest>& image_layers) {
  KILN_TRY(json j, parse(text));
  if (!j.is_array()) return bad("inline records are no array");
  cache_config out;
  for (std::size_t i = 0; i < image_layers.size(); ++i)
    out.layers.push_back({image_layers[i], static_cast<int>(i) - 1, {}});
  KILN_TRY(out.records, parse_records(j));
  if (auto checked = check_config(out); !checked.ok()) return std::move(checked).error();
  return out;
}

namespace {

std::string in_quotes(std::string_view text) { return go_json_string(text); }

/// Joins what `write` makes of each element: "[a,b]".
template <class List, class Write>
std::string array_text(const List& list, Write write) {
  std::string out = "[";
  for (const auto& one : list) {
    if (out.size() > 1) out += ',';
    out += write(one);
  }
  return out + "]";
}

/// Members in order, empty ones left out: {"a":1,"b":2}.
class object_text {
 public:
  object_text& add(const char* name, const std::string& value) {
    text_ += (text_.size() > 1 ? ",\"" : "\"") + std::string(name) + "\":" + value;
    return *this;
  }
  object_text& add_text(const char* name, const std::string& value) {
    return value.empty() ? *this : add(name, in_quotes(value));
  }
  object_text& add_number(const char* name, std::int64_t value) {
    return value == 0 ? *this : add(name, std::to_string(value));
  }
  std::string str() const { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

std::string layer_text(const cache_layer& l) {
  object_text out;
  out.add_text("blob", l.blob.str()).add_number("parent", l.parent);
  if (l.annotations) {
    object_text a;
    a.add_text("mediaType", l.annotations->media_type).add_text("diffID", l.annotations->diff_id.str());
    a.add_number("size", l.annotations->size);
    a.add("createdAt", in_quotes(format_rfc3339(l.annotations->created_at_ns)));
    out.add("annotations", a.str());
  }
  return out.str();
}

std::string record_text(const cache_record& r) {
  object_text out;
  auto created = [](std::int64_t t) { return in_quotes(format_rfc3339(t)); };
  if (!r.results.empty())
    out.add("layers", array_text(r.results, [&](const cache_result& one) {
              return object_text()
                  .add("layer", std::to_string(one.layer))
                  .add("createdAt", created(one.created_at_ns))
                  .str();
            }));
  if (!r.chains.empty())
    out.add("chains", array_text(r.chains, [&](const chained_result& one) {
              return object_text()
                  .add("layers", array_text(one.layers, [](int i) { return std::to_string(i); }))
                  .add("createdAt", created(one.created_at_ns))
                  .str();
            }));
  out.add_text("digest", r.digest);
  if (!r.inputs.empty())
    out.add("inputs", array_text(r.inputs, [](const std::vector<cache_input>& alternatives) {
              return array_text(alternatives, [](const cache_input& in) {
                object_text one;
                return one.add_text("selector", in.selector).add("link", std::to_string(in.link)).str();
              });
            }));
  return out.str();
}

}  // namespace

std::string records_to_json(const std::vector<cache_record>& records) {
  return array_text(records, record_text);
}

std::string to_json(const cache_config& config) {
  object_text out;
  if (!config.layers.empty()) out.add("layers", array_text(config.layers, layer_text));
  if (!config.records.empty()) out.add("records", records_to_json(config.records));
  return out.str();
}

namespace {

/// new position of each old index, given the old index at each new position.
std::vector<int> positions(const std::vector<int>& order) {
  std::vector<int> out(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    out[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
  return out;
}

std::vector<int> counting(std::size_t n) {
  std::vector<int> out(n);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

void sort_layers(cache_config& config) {
  auto& layers = config.layers;
  // A layer may occur with different layers below: the digest of its whole chain tells them apart.
  std::vector<std::string> chain(layers.size());
  auto chain_of = [&](int i) -> const std::string& {
    std::vector<int> way;
    for (; i != -1 && chain[static_cast<std::size_t>(i)].empty();
         i = layers[static_cast<std::size_t>(i)].parent)
      way.push_back(i);
    std::string below = i == -1 ? "" : chain[static_cast<std::size_t>(i)];
    for (auto it = way.rbegin(); it != way.rend(); ++it)
      below = chain[static_cast<std::size_t>(*it)] =
          sha256(below + layers[static_cast<std::size_t>(*it)].blob.str()).str();
    return chain[static_cast<std::size_t>(way.empty() ? i : way.front())];
  };
  for (std::size_t i = 0; i < layers.size(); ++i) chain_of(static_cast<int>(i));
  auto order = counting(layers.size());
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    const auto &x = layers[static_cast<std::size_t>(a)], &y = layers[static_cast<std::size_t>(b)];
    return std::tie(x.blob, chain[static_cast<std::size_t>(a)]) <
           std::tie(y.blob, chain[static_cast<std::size_t>(b)]);
  });
  auto position = positions(order);
  std::vector<cache_layer> sorted;
  for (int old : order) {
    auto layer = std::move(layers[static_cast<std::size_t>(old)]);
    if (layer.parent != -1) layer.parent = position[static_cast<std::size_t>(layer.parent)];
    sorted.push_back(std::move(layer));
  }
  layers = std::move(sorted);
  for (auto& r : config.records) {
    for (auto& one : r.results) one.layer = position[static_cast<std::size_t>(one.layer)];
    for (auto& one : r.chains)
      for (auto& l : one.layers) l = position[static_cast<std::size_t>(l)];
  }
}

}  // namespace

void canonicalize(cache_config& config) {
  sort_layers(config);
  auto& records = config.records;
  auto digest_at = [&](int link) -> const std::string& {
    return records[static_cast<std::size_t>(link)].digest;
  };
  for (auto& r : records)
    for (auto& alternatives : r.inputs)
      std::stable_sort(
          alternatives.begin(), alternatives.end(), [&](const cache_input& a, const cache_input& b) {
            return std::tie(a.selector, digest_at(a.link)) < std::tie(b.selector, digest_at(b.link));
          });
  auto order = counting(records.size());
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    const auto &x = records[static_cast<std::size_t>(a)], &y = records[static_cast<std::size_t>(b)];
    if (x.digest != y.digest) return x.digest < y.digest;
    if (x.inputs.size() != y.inputs.size()) return x.inputs.size() < y.inputs.size();
    for (std::size_t i = 0; i < x.inputs.size(); ++i) {
      if (x.inputs[i].size() != y.inputs[i].size()) return x.inputs[i].size() < y.inputs[i].size();
      for (std::size_t k = 0; k < x.inputs[i].size(); ++k) {
        const auto &p = x.inputs[i][k], &q = y.inputs[i][k];
        if (p.selector != q.selector) return p.selector < q.selector;
        if (digest_at(p.link) != digest_at(q.link)) return digest_at(p.link) < digest_at(q.link);
      }
    }
    return false;
  });
  auto position = positions(order);
  std::vector<cache_record> sorted;
  for (int old : order) {
    auto r = std::move(records[static_cast<std::size_t>(old)]);
    for (auto& alternatives : r.inputs) {
      for (auto& in : alternatives) in.link = position[static_cast<std::size_t>(in.link)];
      std::stable_sort(alternatives.begin(), alternatives.end(),
                       [](const cache_input& a, const cache_input& b) { return a.link < b.link; });
    }
    sorted.push_back(std::move(r));
  }
  records = std::move(sorted);
}

}  // namespace kiln::solver::remote_cache
