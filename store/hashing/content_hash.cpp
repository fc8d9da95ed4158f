#include "store/hashing/content_hash.hpp"

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/slash_path.hpp"
#include "store/files/confinement.hpp"
#include "store/hashing/tree_digests.hpp"

namespace kiln::store {

namespace {

constexpr std::string_view digests_key = "contenthash";
constexpr std::string_view origin_key = "contenthash.origin";

/// One text for one question, so that the same one need not be computed twice.
std::string question_key(const std::vector<content_selector>& selectors) {
  std::string text;
  auto add = [&text](std::string_view s) { text += std::to_string(s.size()) + ":" + std::string(s); };
  auto add_all = [&](const std::vector<std::string>& list) {
    text += std::to_string(list.size()) + ";";
    for (const auto& s : list) add(s);
  };
  for (const auto& s : selectors) {
    add(s.path);
    text += s.wildcard ? 'w' : '-';
    text += s.follow_links ? 'f' : '-';
    add_all(s.include_patterns);
    add_all(s.exclude_patterns);
    add_all(s.required_paths);
  }
  return "contenthash.answer." + std::string(sha256(text).hex());
}

digest join(const std::vector<digest>& digests) {
  std::string joined;
  for (std::size_t i = 0; i < digests.size(); ++i) {
    if (i > 0) joined += '\0';
    joined += digests[i].str();
  }
  return sha256(joined);
}

/// What a scratch ref holds: an empty root directory and nothing else.
result<digest> scratch_checksum(const content_selector& selector) {
  auto path = clean_absolute(selector.path);
  if (path == "/" || selector.wildcard) return sha256("");  // what has no match is the copy's affair
  return make_error(errc::not_found, path + ": no such file or directory");
}

result<digest> compute(ref_store& store, const ref& r, const std::vector<content_selector>& selectors,
                       const job_context& job) {
  KILN_TRY(auto specs, store.files().mounts(r, job));
  mounted mount;
  std::filesystem::path top;
  if (specs.size() == 1 && specs[0].type == "bind") {
    top = specs[0].source;  // we only read: no mount is needed
  } else {
    KILN_TRY(mount, mounted::make(store, specs));
    top = mount.path();
  }
  std::vector<digest> digests;
  {
    KILN_TRY(auto root, open_confined(top));
    tree_digests tree(std::move(root), job);
    if (auto saved = store.values().of_record(r.id(), digests_key)) tree.load(*saved);
    auto origin = store.values().of_record(r.id(), origin_key);
    if (origin)
      if (auto saved = store.values().of_record(*origin, digests_key)) tree.load_earlier(*saved);
    for (const auto& selector : selectors) {
      KILN_TRY(auto one, tree.select(selector));
      digests.push_back(std::move(one));
    }
    if (tree.has_news()) {
      auto saved = tree.save();
      for (const auto& id : {r.id(), origin.value_or("")})
        if (!id.empty())
          if (auto kept = store.values().set_of_record(id, digests_key, saved);
              !kept && kept.error().code != errc::not_found)
            spdlog::warn("store: digests of {}: {}", id, kept.error().message);
    }
  }
  return join(digests);
}

}  // namespace

result<digest> content_checksum(ref_store& store, const ref& r,
                                const std::vector<content_selector>& selectors, const job_context& job) {
  auto wanted = selectors;
  if (wanted.empty()) wanted.emplace_back();
  if (!r) {
    std::vector<digest> digests;
    for (const auto& selector : wanted) {
      auto one = scratch_checksum(selector);
      if (!one) return std::move(one).error().with_context("failed to calculate checksum of ref ");
      digests.push_back(*std::move(one));
    }
    return join(digests);
  }
  auto key = question_key(wanted);
  if (auto answer = store.values().of_record(r.id(), key)) return digest::trusted(std::move(*answer));
  auto sum = compute(store, r, wanted, job);
  if (!sum) return std::move(sum).error().with_context("failed to calculate checksum of ref " + r.id());
  if (auto kept = store.values().set_of_record(r.id(), key, sum->str()); !kept)
    spdlog::warn("store: digest of {}: {}", r.id(), kept.error().message);
  return sum;
}

}  // namespace kiln::store
