// debug dump-llb and debug dump-metadata: both work without a daemon.
#include <filesystem>
#include <memory>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fmt/format.h>
#include <lmdb.h>

#include "client/commands/commands.hpp"
#include "client/commands/llb_text.hpp"
#include "client/fd.hpp"
#include "client/progress/status_json.hpp"
#include "configs/state_files.hpp"

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t llb_bytes_max = 256 << 20;
constexpr unsigned tables_max = 128;

error lmdb_error(int code, std::string_view what) {
  return make_error(errc::internal, fmt::format("{}: {}", what, mdb_strerror(code)));
}

// Printable bytes as they are, the rest as \xNN.
std::string visible(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7F) out.push_back(c);
    else out += fmt::format("\\x{:02x}", u);
  }
  return out;
}

std::string_view view(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

status dump_table(MDB_txn* txn, const char* name, std::string_view indent, std::vector<std::string>* tables) {
  MDB_dbi dbi;
  if (int code = mdb_dbi_open(txn, name, 0, &dbi)) return lmdb_error(code, name ? name : "main table");
  MDB_cursor* raw = nullptr;
  if (int code = mdb_cursor_open(txn, dbi, &raw)) return lmdb_error(code, "cursor");
  std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)> cursor(raw, mdb_cursor_close);
  MDB_val key, value;
  std::string out;
  while (mdb_cursor_get(raw, &key, &value, MDB_NEXT) == 0) {
    auto text = std::string(view(key));
    MDB_dbi table;
    // Entries of the main table are tables, unless opening says otherwise.
    if (tables && text.find('\0') == std::string::npos && mdb_dbi_open(txn, text.c_str(), 0, &table) == 0) {
      tables->push_back(text);
      continue;
    }
    out += fmt::format("{}\"{}\": {}\n", indent, visible(view(key)), visible(view(value)));
    if (out.size() > (1 << 20)) {
      KILN_CHECK(write_all(STDOUT_FILENO, out));
      out.clear();
    }
  }
  return write_all(STDOUT_FILENO, out);
}

/// An environment is a directory with data.mdb in it, or a file.
status dump_environment(const fs::path& environment, bool is_file) {
  KILN_CHECK(write_all(STDOUT_FILENO, fmt::format("===== {} =====\n", environment.string())));
  MDB_env* raw = nullptr;
  if (int code = mdb_env_create(&raw)) return lmdb_error(code, "lmdb");
  std::unique_ptr<MDB_env, decltype(&mdb_env_close)> env(raw, mdb_env_close);
  mdb_env_set_maxdbs(raw, tables_max);
  if (int code =
          mdb_env_open(raw, environment.c_str(), MDB_RDONLY | MDB_NOLOCK | (is_file ? MDB_NOSUBDIR : 0), 0))
    return lmdb_error(code, environment.string());
  MDB_txn* txn = nullptr;
  if (int code = mdb_txn_begin(raw, nullptr, MDB_RDONLY, &txn)) return lmdb_error(code, environment.string());
  std::unique_ptr<MDB_txn, decltype(&mdb_txn_abort)> guard(txn, mdb_txn_abort);
  std::vector<std::string> tables;
  KILN_CHECK(dump_table(txn, nullptr, "", &tables));
  for (const auto& table : tables) {
    KILN_CHECK(write_all(STDOUT_FILENO, fmt::format("bucket \"{}\":\n", visible(table))));
    KILN_CHECK(dump_table(txn, table.c_str(), "  ", nullptr));
  }
  return {};
}

/// Nobody may write while we read. Empty where no daemon ever was, or where we may not look.
result<unique_fd> keep_daemons_out(const fs::path& root) {
  unique_fd lock(::open((root / configs::lock_file).c_str(), O_RDONLY | O_CLOEXEC));
  if (lock && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return make_error(errc::failed_precondition,
                      fmt::format("--root {}: a daemon is running on it; stop it first", root.string()));
  return lock;
}

}  // namespace

status run_dump_llb(const dump_llb_flags& flags) {
  std::string bytes;
  if (flags.file.empty() || flags.file == "-") {
    KILN_TRY(bytes, read_all(STDIN_FILENO, llb_bytes_max, "stdin"));
  } else {
    KILN_TRY(bytes, read_file(flags.file, llb_bytes_max));
  }
  KILN_TRY(auto ops, load_llb(bytes));
  return write_all(STDOUT_FILENO, flags.dot ? llb_dot(ops) : llb_json(ops));
}

status run_dump_metadata(const dump_metadata_flags& flags) {
  std::error_code err;
  if (!fs::is_directory(flags.root, err))
    return make_error(errc::not_found, fmt::format("--root {}: not a directory", flags.root));
  KILN_TRY(auto lock, keep_daemons_out(flags.root));
  bool any = false;
  std::vector<fs::path> candidates{flags.root};
  for (const auto& entry : fs::directory_iterator(flags.root, err))
    if (entry.is_directory(err)) candidates.push_back(entry.path());
  for (const auto& directory : candidates) {
    for (const auto& [environment, is_file] :
         {std::pair{directory / configs::database_file, true}, {directory, false}}) {
      if (!fs::exists(is_file ? environment : environment / "data.mdb", err)) continue;
      KILN_CHECK(dump_environment(environment, is_file));
      any = true;
    }
  }
  if (!any)
    return make_error(errc::not_found, fmt::format("--root {}: no metadata database there", flags.root));
  return {};
}

}  // namespace kiln::client
