#include "workers/cdi/registry.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include <sys/stat.h>

#include <spdlog/spdlog.h>

#include "base/numbers.hpp"
#include "configs/cdi.hpp"
#include "workers/cdi/apply.hpp"

namespace kiln::workers::cdi {

namespace {

namespace fs = std::filesystem;

struct spec_file {
  fs::path path;
  std::size_t priority = 0;  // of its directory
};

struct listing {
  std::vector<spec_file> files;
  std::vector<std::string> failures;
  std::string stamp;  // differs when anything about them does
};

std::string stamp_of(const fs::path& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return path.string() + "?\n";
  std::ostringstream out;
  out << path.string() << ' ' << st.st_dev << ' ' << st.st_ino << ' ' << st.st_size << ' ' << st.st_mode
      << ' ' << st.st_mtim.tv_sec << '.' << st.st_mtim.tv_nsec << ' ' << st.st_ctim.tv_sec << '.'
      << st.st_ctim.tv_nsec << '\n';
  return out.str();
}

listing list_files(const std::vector<std::string>& directories) {
  listing out;
  for (std::size_t n = 0; n < directories.size(); ++n) {
    std::error_code ec;
    std::vector<fs::path> found;
    for (fs::directory_iterator at(directories[n], ec), end; !ec && at != end; at.increment(ec)) {
      auto extension = at->path().extension();
      std::error_code unknown;
      if ((extension == ".json" || extension == ".yaml") && !at->is_directory(unknown))
        found.push_back(at->path());
    }
    if (ec && ec != std::errc::no_such_file_or_directory) {
      out.failures.push_back(directories[n] + ": " + ec.message());
      out.stamp += out.failures.back() + "\n";
    }
    std::sort(found.begin(), found.end());
    for (auto& path : found) {
      out.stamp += stamp_of(path);
      out.files.push_back({std::move(path), n});
    }
  }
  return out;
}

result<spec> read_file(const fs::path& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return errno_error(errno, "read");
  if (!S_ISREG(st.st_mode)) return make_error(errc::invalid_argument, "not a regular file");
  std::ifstream in(path, std::ios::binary);
  std::string text;
  text.resize(std::min(static_cast<std::size_t>(st.st_size), configs::cdi_spec_bytes_max + 1));
  if (!in.read(text.data(), static_cast<std::streamsize>(text.size())))
    return in.is_open() ? make_error(errc::data_loss, "changed while it was read")
                        : errno_error(errno, "open");
  return parse_spec(text);
}

}  // namespace

struct registry::contents {
  struct entry {
    std::shared_ptr<const spec> from;
    const spec_device* device = nullptr;
    std::size_t priority = 0;
    fs::path file;
    bool disputed = false;  // by another file of the same directory
  };
  std::map<std::string, entry> entries;
  std::vector<solver::device> list;
  std::vector<std::string> warnings;

  void add(const spec_file& file, const std::shared_ptr<const spec>& s) {
    for (const auto& d : s->devices) {
      auto name = s->kind + "=" + d.name;
      auto [at, fresh] = entries.try_emplace(name);
      if (!fresh && at->second.priority == file.priority) {
        at->second.disputed = true;
        warnings.push_back(file.path.string() + ": device \"" + name + "\" is also in " +
                           at->second.file.string() + ": neither is used");
        continue;
      }
      at->second = {s, &d, file.priority, file.path, false};
    }
  }

  void finish(const std::vector<std::string>& auto_allowed) {
    std::erase_if(entries, [](const auto& e) { return e.second.disputed; });
    auto named = [&](std::string_view name) {
      return std::find(auto_allowed.begin(), auto_allowed.end(), name) != auto_allowed.end();
    };
    for (const auto& [name, e] : entries) {
      solver::device out{name, e.device->annotations, named(name) || named(solver::kind_of(name))};
      out.annotations.insert(e.from->annotations.begin(), e.from->annotations.end());
      auto annotation = out.annotations.find(solver::device_auto_allow_annotation);
      if (annotation != out.annotations.end() && parse_bool(annotation->second).value_or(false))
        out.auto_allowed = true;
      list.push_back(std::move(out));
    }
  }
};

registry::registry(registry_options options) : options_(std::move(options)) { now(); }

registry::~registry() = default;

std::shared_ptr<const registry::contents> registry::now() {
  std::lock_guard lock(mutex_);
  auto there = list_files(options_.spec_dirs);
  if (contents_ && there.stamp == stamp_) return contents_;
  auto fresh = std::make_shared<contents>();
  fresh->warnings = there.failures;
  for (const auto& file : there.files) {
    auto s = read_file(file.path);
    if (s.ok()) {
      fresh->add(file, std::make_shared<const spec>(*std::move(s)));
    } else {
      fresh->warnings.push_back(file.path.string() + ": " + s.error().message);
    }
  }
  fresh->finish(options_.auto_allowed);
  for (const auto& w : fresh->warnings)
    if (!contents_ ||
        std::find(contents_->warnings.begin(), contents_->warnings.end(), w) == contents_->warnings.end())
      spdlog::warn("CDI spec {}", w);
  stamp_ = std::move(there.stamp);
  contents_ = std::move(fresh);
  return contents_;
}

std::vector<solver::device> registry::devices() { return now()->list; }

std::vector<std::string> registry::warnings() { return now()->warnings; }

result<container_edits> registry::edits_of(std::span<const pb::CDIDevice> wanted) {
  auto current = now();
  KILN_TRY(auto names, solver::find_devices(current->list, wanted));
  container_edits out;
  std::set<const spec*> specs;
  for (const auto& name : names) {
    const auto& e = current->entries.at(name);
    if (specs.insert(e.from.get()).second) out.append(e.from->edits);
    out.append(e.device->edits);
  }
  if (auto ok = complete_device_nodes(out); !ok.ok())
    return std::move(ok).error().with_context("failed to inject devices");
  return out;
}

}  // namespace kiln::workers::cdi
