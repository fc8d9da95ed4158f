#include "store/space/documents.hpp"

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "configs/store.hpp"
#include "store/files/file_facts.hpp"
#include "store/records/record_rows.hpp"

namespace kiln::store {

bool is_kept(const blob_info& blob) {
  return std::any_of(blob.labels.begin(), blob.labels.end(),
                     [](const auto& label) { return label.first.rfind("kiln.keep", 0) == 0; });
}

bool is_recent(const blob_info& blob) {
  return blob.created_at_ns >= now_ns() - std::chrono::nanoseconds(limits::unreferenced_blob_age).count();
}

std::optional<std::string> document_text(const blob_store& blobs, const digest& d) {
  auto in = blobs.read(d);
  char first = '\0';
  auto got = in.ok() ? (*in)->read({&first, 1}) : result<std::size_t>(std::move(in).error());
  if (!got.ok() || *got == 0 || first != '{') return std::nullopt;
  std::string text(1, first);
  char part[64 * 1024];
  while (text.size() < limits::document_bytes) {
    got = (*in)->read(part);
    if (!got.ok() || *got == 0) break;
    text.append(part, *got);
  }
  return text;
}

void add_mentioned(std::string_view text, std::unordered_set<std::string>& out) {
  constexpr std::string_view algorithm = "sha256:";
  constexpr std::size_t hex = 64;
  for (auto at = text.find(algorithm); at != std::string_view::npos; at = text.find(algorithm, at + 1))
    if (at + algorithm.size() + hex <= text.size()) out.emplace(text.substr(at, algorithm.size() + hex));
}

result<std::vector<digest>> unnamed_documents(const metadata_db& database, const blob_store& blobs) {
  std::unordered_map<std::string, std::string> texts;  // of those that may go
  std::unordered_set<std::string> mentioned;
  auto all = blobs.list();
  KILN_CHECK(database.read([&](const transaction& t) {
    for (auto named : {table::values, table::metadata})
      t.scan(named, {}, [&](auto, std::string_view value) {
        add_mentioned(value, mentioned);
        return true;
      });
    for (const auto& blob : all) {
      if (is_kept(blob) || is_named(t, blob.digest.str())) continue;
      auto text = document_text(blobs, blob.digest);
      if (!text) continue;
      if (is_recent(blob)) add_mentioned(*text, mentioned);
      else texts.emplace(blob.digest.str(), *std::move(text));
    }
  }));
  for (bool more = true; more;) {
    more = false;
    for (auto it = texts.begin(); it != texts.end();) {
      if (!mentioned.contains(it->first)) {
        ++it;
        continue;
      }
      add_mentioned(it->second, mentioned);
      it = texts.erase(it);
      more = true;
    }
  }
  std::vector<digest> unnamed;
  for (const auto& [name, text] : texts) unnamed.push_back(digest::trusted(name));
  return unnamed;
}

}  // namespace kiln::store
