#include "workers/executor/users.hpp"

#include <algorithm>
#include <charconv>

#include "base/text.hpp"
#include "configs/executor.hpp"
#include "workers/executor/rooted.hpp"

namespace kiln::workers {

namespace {

constexpr std::int64_t max_id = (1LL << 31) - 1;

std::optional<std::int64_t> number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "root" or an unsigned 32-bit number.
std::optional<std::uint32_t> plain_id(std::string_view text) {
  if (text == "root") return 0;
  std::uint32_t value = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Calls `use` with the fields of each entry until it says true.
template <class Use>
void for_each_entry(const std::optional<std::string>& file, Use use) {
  if (!file) return;
  for (std::string_view line : split_views(*file, '\n')) {
    line = trim(line, " \t\r");
    if (line.empty() || line.front() == '#') continue;
    auto fields = split_views(line, ':');
    fields.resize(7);
    if (use(fields)) return;
  }
}

result<std::uint32_t> in_range(std::int64_t id) {
  if (id < 0 || id > max_id) {
    return make_error(errc::invalid_argument, "uids and gids must be in range 0-2147483647");
  }
  return static_cast<std::uint32_t>(id);
}

void include_own_group(user_ids& ids) {
  if (std::find(ids.additional_gids.begin(), ids.additional_gids.end(), ids.gid) ==
      ids.additional_gids.end()) {
    ids.additional_gids.insert(ids.additional_gids.begin(), ids.gid);
  }
}

}  // namespace

result<user_ids> find_user(std::string_view spec, const std::optional<std::string>& passwd,
                           const std::optional<std::string>& group) {
  if (spec.empty()) spec = "0";
  std::size_t colon = spec.find(':');
  std::string_view user = spec.substr(0, colon);
  // What follows a second colon counts for nothing.
  auto group_name = colon == spec.npos ? "" : spec.substr(colon + 1, spec.find(':', colon + 1) - colon - 1);
  auto user_number = number(user);
  auto group_number = number(group_name);

  user_ids ids;
  std::string matched;
  bool found = false;
  for_each_entry(passwd, [&](const std::vector<std::string_view>& f) {
    std::int64_t uid = number(f[2]).value_or(0);
    found = user.empty() ? uid == 0 : (user_number ? uid == *user_number : f[0] == user);
    if (!found) return false;
    matched = f[0];
    ids.uid = static_cast<std::uint32_t>(uid);
    ids.gid = static_cast<std::uint32_t>(number(f[3]).value_or(0));
    return true;
  });
  if (!found && !user.empty()) {
    if (!user_number) {
      return make_error(errc::invalid_argument,
                        "unable to find user " + std::string(user) + ": no matching entries in passwd file");
    }
    KILN_TRY(ids.uid, in_range(*user_number));
  }
  if (!group_name.empty()) {
    bool group_found = false;
    for_each_entry(group, [&](const std::vector<std::string_view>& f) {
      std::int64_t gid = number(f[2]).value_or(0);
      group_found = group_number ? gid == *group_number : f[0] == group_name;
      if (group_found) ids.gid = static_cast<std::uint32_t>(gid);
      return group_found;
    });
    if (!group_found) {
      if (!group_number) {
        return make_error(errc::invalid_argument, "unable to find group " + std::string(group_name) +
                                                      ": no matching entries in group file");
      }
      KILN_TRY(ids.gid, in_range(*group_number));
    }
  } else if (!matched.empty()) {
    for_each_entry(group, [&](const std::vector<std::string_view>& f) {
      auto members = split_views(f[3], ',');
      if (std::find(members.begin(), members.end(), matched) != members.end()) {
        ids.additional_gids.push_back(static_cast<std::uint32_t>(number(f[2]).value_or(0)));
      }
      return false;
    });
  }
  include_own_group(ids);
  return ids;
}

std::string home_of(std::uint32_t uid, const std::optional<std::string>& passwd) {
  std::string home;
  for_each_entry(passwd, [&](const std::vector<std::string_view>& f) {
    if (number(f[2]).value_or(0) != uid) return false;
    home = f[5];
    return true;
  });
  return home.empty() ? "/" : home;
}

namespace {

std::optional<std::string> user_file(int root_fd, const char* path) {
  auto text = read_file_in_root(root_fd, path, configs::max_user_file_size);
  if (!text) return std::nullopt;
  return *std::move(text);
}

}  // namespace

std::string home_in_root(int root_fd, std::uint32_t uid) {
  return home_of(uid, user_file(root_fd, "/etc/passwd"));
}

namespace {

/// The fields of the first entry of that name.
result<std::optional<std::vector<std::string>>> entry_named(int root_fd, const char* path,
                                                            std::string_view name) {
  std::optional<std::vector<std::string>> out;
  auto text = read_file_in_root(root_fd, path, configs::max_user_file_size);
  if (!text.ok() && text.error().code == errc::not_found) return out;
  if (!text.ok()) return std::move(text).error();
  for_each_entry(*text, [&](const std::vector<std::string_view>& fields) {
    if (fields[0] == name) out.emplace(fields.begin(), fields.end());
    return out.has_value();
  });
  return out;
}

std::uint32_t id_in(const std::string& field) {
  return static_cast<std::uint32_t>(number(field).value_or(0));
}

}  // namespace

result<std::optional<user_ids>> user_named_in_root(int root_fd, std::string_view name) {
  KILN_TRY(auto entry, entry_named(root_fd, "/etc/passwd", name));
  if (!entry) return std::optional<user_ids>{};
  return std::optional{user_ids{id_in((*entry)[2]), id_in((*entry)[3]), {}}};
}

result<std::optional<std::uint32_t>> group_named_in_root(int root_fd, std::string_view name) {
  KILN_TRY(auto entry, entry_named(root_fd, "/etc/group", name));
  if (!entry) return std::optional<std::uint32_t>{};
  return std::optional{id_in((*entry)[2])};
}

result<user_ids> find_user_in_root(int root_fd, std::string_view spec) {
  std::size_t colon = spec.find(':');
  if (colon != std::string_view::npos) {
    auto uid = plain_id(spec.substr(0, colon));
    auto gid = plain_id(spec.substr(colon + 1));
    if (uid && gid) return user_ids{*uid, *gid, {*gid}};
  }
  auto ids = find_user(spec, user_file(root_fd, "/etc/passwd"), user_file(root_fd, "/etc/group"));
  if (!ids && spec.empty()) return user_ids{0, 0, {0}};
  return ids;
}

}  // namespace kiln::workers
