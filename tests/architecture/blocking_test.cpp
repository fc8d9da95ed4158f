// An actor never blocks: which calls may stand in actors/ and supervisors/ only inside work that is handed to
// a pool. Enforced by reading the sources; what a handler really costs is measured
// (actors/handler_watch.hpp).
#include <catch2/catch.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace {

/// Calls that may wait: for the disk, the database, the network, another thread or process.
const std::map<std::string, std::regex>& blocking_calls() {
  static const std::map<std::string, std::regex> all = {
      {"the store",
       std::regex(R"(\b(store|step_history)_?(->|\.)(?!(keys|blobs|values|files|space)\(\)[,;)])[a-z_]+\()")},
      {"the key database",
       std::regex(
           R"(\bkeys(\(\)|_)?(->|\.)(results|children|add|release|has|keys_of_result|for_each_\w+)\()")},
      {"a system call",
       std::regex(
           R"((^|[^\w:>])::(open|openat|creat|read|write|pread|pwrite|stat|lstat|fstat|fstatat|statx|statvfs|statfs|access|unlink|unlinkat|rename|mkdir|rmdir|fsync|fdatasync|sync|syncfs|ftruncate|flock|mount|umount|umount2|poll|ppoll|select|epoll_wait|socket|connect|accept|accept4|recv|recvmsg|send|sendmsg|sendto|getaddrinfo|wait|waitid|waitpid|fork|execv|execve|posix_spawn|sleep|usleep|nanosleep)\()")},
      {"a system call without its namespace",
       std::regex(R"(\b(statvfs|lstat|popen|fopen|getaddrinfo|waitpid|usleep|nanosleep)\()")},
      {"files", std::regex(R"(\bstd::[io]?fstream\b|\b(std::filesystem|fs)::(?!path\b)[a-z_]+\()")},
      {"sleeping", std::regex(R"(\bsleep_(for|until)\()")},
      {"waiting",
       std::regex(
           R"((\.|->)(wait|wait_for|wait_until)\(|(\.|->)join\(\)|\bstd::(async|shared_future|future)\b|\bheld->release\()")},
      {"waiting for an answer", std::regex(R"(\bcaf::scoped_actor\b|(\.|->)receive\()")},
  };
  return all;
}

/// Functions that block and say so. They stand outside work for pools; whoever calls them must be such work.
const std::map<std::string, std::string>& blocking_functions() {
  static const std::map<std::string, std::string> all = {
      {"results_of", "reads the key database"},
      {"find_keys", "reads the key database"},
      {"key_reader", "reads the key database"},
      {"look_up", "reads the key database"},
      {"run_export", "opens refs and writes a result"},
      {"candidates_of", "reads the key database"},
      {"drop_known_links", "reads the key database"},
      {"recall_step", "reads the database"},
      {"remember_step", "writes the database"},
      {"open_ref", "opens a ref, also of another node"},
      {"open_refs", "opens refs"},
      {"owners_here", "opens refs"},
      {"name_here", "opens refs"},
      {"keep_document", "writes a blob"},
      {"record_of_keys", "reads the key database"},
      {"bring_to_disk", "unpacks layers"},
      {"drop_document", "removes a blob"},
      {"sweep_history_documents", "reads the database before there are actors"},
      {"worker_id", "reads the database before there are actors"},
      {"ask_and_wait", "waits for an actor, on threads that are none of CAF's"},
      {"start_daemon_tree", "waits for actors, on the daemon's first thread"},
      {"await_all", "waits for actors, for start_daemon_tree"},
  };
  return all;
}

/// Files whose code runs on threads that may wait.
const std::map<std::string, std::string>& waiting_files() {
  static const std::map<std::string, std::string> all = {
      {"actors/build/frontend_bridge.hpp", "a frontend waits in it, on its own pool"},
      {"actors/worker/step_progress.cpp", "is the progress of one job, which makes it"},
      {"actors/containers/container_process.cpp", "the threads of a process wait in it"},
      {"actors/containers/held_container.hpp", "is released on a pool: held->release() is in the list"},
      {"actors/solve/key_store.hpp", "key_reader is for jobs: it is in the list"},
      {"supervisors/daemon_tree.cpp", "is started by the daemon's first thread"},
      {"actors/handler_watch.cpp", "watches those that block, in tests only"},
      {"actors/ask_and_wait.hpp", "is for threads that are none of CAF's"},
  };
  return all;
}

/// Where a call hands work to a pool, and which argument that is.
const std::map<std::string, std::size_t>& pool_calls() {
  static const std::map<std::string, std::size_t> all = {
      {"run", 2},         // job_runner
      {"run_unless", 3},  // job_runner: here and now only when it is known to be small
      {"start", 2},       // job_table
      {"with_tree", 1},   // step_runner
      {"submit", 0},      // a pool
      {"write", 0},       // history: one job after the other
  };
  return all;
}

/// Comments and what stands in quotes, blanked.
std::string code_of(const fs::path& file) {
  std::ostringstream buffer;
  buffer << std::ifstream(file).rdbuf();
  auto text = buffer.str();
  enum { code, line, block, quotes, character } in = code;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto two = text.substr(i, 2);
    bool blank = in != code;
    if (in == code) {
      if (two == "//") in = line;
      if (two == "/*") in = block;
      if (text[i] == '"') in = quotes;
      if (text[i] == '\'' && (i == 0 || !std::isdigit(static_cast<unsigned char>(text[i - 1]))))
        in = character;
      blank = in == line || in == block;
    } else if (in == line) {
      if (text[i] == '\n') in = code;
    } else if (in == block) {
      if (two == "*/") in = code, text[i++] = ' ';
    } else {
      if (text[i] == '\\') {
        text[i] = ' ';
        if (++i < text.size()) text[i] = ' ';
        continue;
      }
      if (text[i] == (in == quotes ? '"' : '\'')) in = code;
    }
    if (blank && i < text.size() && text[i] != '\n' && text[i] != '"') text[i] = ' ';
  }
  return text;
}

void blank(std::string& text, std::size_t from, std::size_t to) {
  for (; from < to; ++from)
    if (text[from] != '\n') text[from] = ' ';
}

/// Begin and end of each argument of a call whose "(" is at `open`.
std::vector<std::pair<std::size_t, std::size_t>> arguments(const std::string& text, std::size_t open) {
  std::vector<std::pair<std::size_t, std::size_t>> out;
  int depth = 0;
  auto begin = open + 1;
  for (auto i = open; i < text.size(); ++i) {
    char c = text[i];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    if ((c == ',' && depth == 1) || depth == 0) {
      out.emplace_back(begin, i);
      begin = i + 1;
    }
    if (depth == 0) break;
  }
  return out;
}

/// Blanks the lambdas that go to pools: not what is done with their outcome, which runs on the actor.
void blank_work(std::string& text) {
  static const std::regex call(R"(\b(run|run_unless|start|with_tree|submit|write)\s*(<[^;()]*>)?\()");
  for (std::sregex_iterator at(text.begin(), text.end(), call), end; at != end; ++at) {
    auto open = static_cast<std::size_t>(at->position() + at->length() - 1);
    auto all = arguments(text, open);
    auto which = pool_calls().at((*at)[1]);
    if (which >= all.size()) continue;
    auto [from, to] = all[which];
    auto first = text.find_first_not_of(" \n", from);
    if (first < to && text[first] == '[') blank(text, from, to);
  }
}

/// Blanks the bodies of the functions that block by contract, at namespace scope.
void blank_blocking_functions(std::string& text) {
  for (const auto& [name, why] : blocking_functions()) {
    std::regex definition("\n[a-z][^\n;=({]*\\b" + name + "\\(");
    for (std::smatch found; std::regex_search(text, found, definition);) {
      auto from = static_cast<std::size_t>(found.position()) + 1;
      auto declared = text.find(";\n", from), defined = text.find("{\n", from);
      auto end = declared < defined ? declared : text.find("\n}", from);
      blank(text, from, end == std::string::npos ? text.size() : end);
    }
  }
}

/// "file:line: what: text" of every blocking call that no pool makes.
std::set<std::string> blocking_in_actors(const fs::path& root) {
  std::set<std::string> out;
  for (const auto* folder : {"actors", "supervisors"}) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      auto name = fs::relative(entry.path(), root).string();
      if ((entry.path().extension() != ".hpp" && entry.path().extension() != ".cpp") ||
          waiting_files().contains(name))
        continue;
      auto text = code_of(entry.path());
      blank_blocking_functions(text);
      blank_work(text);
      auto kinds = blocking_calls();
      for (const auto& [function, why] : blocking_functions())
        kinds.emplace(function + ", which " + why, std::regex("\\b" + function + "\\("));
      for (const auto& [what, call] : kinds)
        for (std::sregex_iterator at(text.begin(), text.end(), call), end; at != end; ++at) {
          auto position = text.begin() + at->position();
          auto number = 1 + std::count(text.begin(), position + 1, '\n');
          out.insert(name + ":" + std::to_string(number) + ": " + what + ": " + at->str());
        }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("what blocks stands in actors only as work for a pool") {
  for (const auto& line : blocking_in_actors(KILN_SOURCE_DIR)) {
    INFO(line);
    CHECK(false);
  }
}

TEST_CASE("the files that may block are there, and do") {
  for (const auto& [file, why] : waiting_files()) {
    INFO(file);
    CHECK(fs::exists(fs::path(KILN_SOURCE_DIR) / file));
  }
}

TEST_CASE("a planted call that blocks is found, unless a pool makes it") {
  auto found = [](const std::string& code) {
    kiln::test::temp_dir tree;
    kiln::test::write_file(tree.path() / "actors/planted.cpp", "\n" + code + "\n");
    return blocking_in_actors(tree.path()).size();
  };
  // On the actor.
  CHECK(found("void f() { o.store->values().get(bucket, key); }") == 1);
  CHECK(found("void f() { auto r = w_.options->store->get(id); }") == 1);
  CHECK(found("void f() { for (auto& r : options_.keys->results(key)) use(r); }") == 1);
  CHECK(found("void f() { store->keys().results(key); }") == 2);
  CHECK(found("void f() {\n  ::stat(path, &st);\n}") == 1);
  CHECK(found("void f() { std::ifstream in(path); }") == 1);
  CHECK(found("void f() { std::filesystem::exists(path); }") == 1);
  CHECK(found("void f() { std::this_thread::sleep_for(1ms); }") == 1);
  CHECK(found("void f() { changed_.wait(lock); }") == 1);
  CHECK(found("void f() { auto later = std::async(work); }") == 1);
  CHECK(found("void f() { caf::scoped_actor self{system}; }") == 1);
  CHECK(found("void f() {\n  keep_document(*store, ref, bytes, out);\n}") == 1);
  // Work for a pool; and what is done with its outcome.
  CHECK(found("void f() { jobs_.run<int>(self, *io, [k = keys] { return k->results(key); }, done); }") == 0);
  CHECK(
      found("void f() { jobs_.run<int>(self, *io, [s = store]() -> result<int> { return s.store->get(id); }, "
            "[this](result<int>) { o.store->get(id); }); }") == 1);
  CHECK(found("void f() { o.io->submit([this] { o.store->space().prune(all); }); }") == 0);
  CHECK(found("status keep_document(store::ref_store& store, int ref) {\n  store.put(ref);\n  return {};\n}\n"
              "void f() { store.put(ref); }") == 1);
  // Words.
  CHECK(found("// ::stat(path) is not called\nconst char* text = \"std::ifstream\";") == 0);
  CHECK(found("void f() { keys.push_back(key); wait(names); import.store_name(); }") == 0);
}
