// docs/configuration.md is what the code says. KILN_WRITE_DOCS=1 (./dev docs) writes it anew.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "client/flags/flags.hpp"
#include "configs/daemon_settings.hpp"

using namespace kiln;
namespace settings = configs::settings;

namespace {

const std::string page_file = KILN_SOURCE_DIR "/docs/configuration.md";

std::string code(std::string_view text) { return text.empty() ? "" : "`" + std::string(text) + "`"; }

/// Text in a cell of a table.
std::string cell(std::string_view text) {
  std::string out;
  for (char c : text) out += c == '|' ? "\\|" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}

/// Writes a table of the page for each table of the file as it is visited.
class page_writer {
 public:
  struct row {
    std::string key, flag, type, range, standard, does;
    bool lacking = false;
  };
  struct section {
    std::string title;
    std::vector<row> rows;
  };

  page_writer(std::vector<section>& out, std::string path, bool array)
      : out_(out), path_(std::move(path)), at_(out.size()) {
    auto title = path_.empty() ? std::string("Before any table") : "`[" + path_ + "]`";
    if (array) title = "`[[" + path_ + "]]`";
    out_.push_back({title, {}});
  }

  template <class Kind>
  void value(const settings::setting& about, const Kind& kind) {
    row r{code(about.key), code(about.flag), "", "", "", std::string(about.does)};
    if (!about.variable.empty())
      r.flag += (r.flag.empty() ? "" : ", ") + code("$" + std::string(about.variable));
    auto& rows = out_[at_].rows;
    if constexpr (std::is_same_v<Kind, settings::lacking>) {
      r.lacking = true;
      r.does = (kind.asked == settings::lacking::answer::refuse ? "**refused**: " : "**without effect**: ") +
               r.does;
      if (!rows.empty() && rows.back().lacking && rows.back().does == r.does) {
        if (!r.key.empty()) rows.back().key += (rows.back().key.empty() ? "" : ", ") + r.key;
        if (!r.flag.empty()) rows.back().flag += (rows.back().flag.empty() ? "" : ", ") + r.flag;
        return;
      }
    } else {
      r.type = kind.type;
      r.range = kind.range();
      r.standard = about.unset.empty() ? code(kind.shown()) : std::string(about.unset);
    }
    rows.push_back(std::move(r));
  }

  template <class Visit>
  void table(std::string_view key, const Visit& visit) {
    inside(key, false, visit);
  }
  template <class Row, class Visit>
  void rows(std::string_view key, std::vector<Row>&, const Visit& visit) {
    Row row;
    inside(key, true, [&](page_writer& w) { visit(w, row); });
  }
  template <class Table, class Visit>
  void tables(std::string_view name, std::map<std::string, Table>&, const Visit& visit) {
    Table table;
    inside(name, false, [&](page_writer& w) { visit(w, table); });
  }

 private:
  template <class Visit>
  void inside(std::string_view key, bool array, const Visit& visit) {
    auto name = key.find('.') == key.npos ? std::string(key) : "\"" + std::string(key) + "\"";
    page_writer inner{out_, path_.empty() ? name : path_ + "." + name, array};
    visit(inner);
  }

  std::vector<section>& out_;
  std::string path_;
  std::size_t at_;
};

const char* opening = R"(# Configuration

Every key of the daemon's config file and every flag of `kilnd` and `kilnctl`. This page is made from the tables that
read them (`configs/daemon_settings`, `client/flags`) by `./dev docs`; a test compares the two.

`kilnd` reads the file that `--config` names, `/etc/buildkit/buildkitd.toml` unless it is said
(`~/.config/buildkit/buildkitd.toml` in a user namespace), as [TOML](https://toml.io). A file that is absent is an empty
one. Flags go over the file, and the file over the defaults. Keys and flags are buildkitd's; `[cluster]` is Kiln's own
([operations.md](operations.md)). All are read at the start only. An example:
[kilnd.toml](../configs/examples/kilnd.toml).

A value of the wrong type or out of its range ends the start with exit code 1 and the file, line and key. A key that
nobody knows is a warning in the log. What BuildKit has and Kiln has not is said below: to ask for it is an error where
builds would come out otherwise than wanted (**refused**), and elsewhere a warning (**without effect**).

- *duration*: a text such as `"1h30m"` or `"250ms"`, or a number of seconds.
- *size*: a number of bytes, a text such as `"512MB"` or `"1.5g"` (powers of 1024), or `"10%"` of the disk.
- *texts*: an array of strings; the flag is repeated, and replaces the array.
- *table of texts*: `name = "text"` in a table; the flag, repeated, is `name=text` and adds to it.

# kilnd
)";

void write_section(std::ostream& out, const page_writer::section& s) {
  if (s.rows.empty()) return;
  out << "\n## " << s.title << "\n\n| key | flag | type | default | range | |\n|---|---|---|---|---|---|\n";
  for (const auto& r : s.rows)
    out << "| " << r.key << " | " << r.flag << " | " << r.type << " | " << cell(r.standard) << " | "
        << cell(r.range) << " | " << cell(r.does) << " |\n";
}

void write_client(std::ostream& out) {
  out << "\n# kilnctl\n\nOf all commands, before or after the command's name. What the commands do: "
         "[kilnctl.md](kilnctl.md).\n";
  std::string command = "-";
  for (const auto& f : client::flag_texts()) {
    if (f.command != command) {
      command = f.command;
      if (!command.empty()) out << "\n## `kilnctl " << command << "`\n";
      out << "\n| flag or argument | takes | default | |\n|---|---|---|---|\n";
    }
    out << "| " << code(f.name) << " | " << f.form << " | " << code(f.default_value) << " | " << cell(f.help)
        << " |\n";
  }
}

std::string page() {
  std::ostringstream out;
  out << opening;
  configs::daemon_config defaults;
  std::vector<page_writer::section> sections;
  page_writer writer{sections, "", false};
  settings::visit(writer, defaults);
  sections.front().rows.insert(
      sections.front().rows.begin(),
      {{"", "`--config`", "text", "", "`/etc/buildkit/buildkitd.toml`", "the config file"},
       {"", "`-h`, `--help`", "", "", "", "all flags"},
       {"", "`-v`, `--version`", "", "", "", "the version"}});
  for (const auto& s : sections) write_section(out, s);
  write_client(out);
  return out.str();
}

}  // namespace

TEST_CASE("the configuration reference says what the code says") {
  auto wanted = page();
  if (std::getenv("KILN_WRITE_DOCS")) std::ofstream(page_file) << wanted;
  std::ostringstream there;
  there << std::ifstream(page_file).rdbuf();
  INFO("./dev docs writes docs/configuration.md anew");
  CHECK(there.str() == wanted);
}
