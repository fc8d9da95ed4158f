#include "store_fixture.hpp"

#include <sys/wait.h>

#include <thread>

#include "store/database/metadata_db.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

std::optional<std::string> value_at(metadata_db& db, const std::string& key) {
  std::optional<std::string> found;
  must(db.read([&](const transaction& t) {
    if (auto v = t.get(table::values, key)) found = *v;
  }));
  return found;
}

int count_values(metadata_db& db, std::string_view prefix) {
  int n = 0;
  must(db.read([&](const transaction& t) {
    t.scan(table::values, prefix, [&](auto, auto) {
      ++n;
      return true;
    });
  }));
  return n;
}

}  // namespace

TEST_CASE("Concurrent writers are all committed, in the order of their queueing") {
  temporary_root root;
  auto db = must(metadata_db::open(root.path() / "m"));
  std::vector<std::jthread> writers;
  for (int w = 0; w < 8; ++w)
    writers.emplace_back([&db, w] {
      for (int i = 0; i < 50; ++i) {
        auto done = db->write([&](transaction& t) -> status {
          KILN_CHECK(t.put(table::values, "w" + std::to_string(w) + "/" + std::to_string(i), "x"));
          return t.put(table::values, "last" + std::to_string(w), std::to_string(i));
        });
        if (!done.ok()) std::abort();
      }
    });
  writers.clear();
  for (int w = 0; w < 8; ++w) {
    CHECK(count_values(*db, "w" + std::to_string(w) + "/") == 50);
    CHECK(value_at(*db, "last" + std::to_string(w)) == "49");
  }
}

TEST_CASE("A failing operation takes nothing with it") {
  temporary_root root;
  auto db = must(metadata_db::open(root.path() / "m"));
  auto good = db->enqueue([](transaction& t) { return t.put(table::values, "good", "1"); });
  auto bad = db->enqueue([](transaction& t) -> status {
    KILN_CHECK(t.put(table::values, "bad", "1"));
    return make_error(errc::aborted, "changed my mind");
  });
  auto late = db->enqueue([](transaction& t) { return t.put(table::values, "late", "1"); });
  CHECK(db->wait(good).ok());
  CHECK(db->wait(bad).error().message == "changed my mind");
  CHECK(db->wait(late).ok());
  CHECK(value_at(*db, "good").has_value());
  CHECK(!value_at(*db, "bad").has_value());
  CHECK(value_at(*db, "late").has_value());
}

TEST_CASE("The map grows beyond its first size while readers read") {
  temporary_root root;
  auto db = must(metadata_db::open(root.path() / "m"));
  std::jthread reader([&db](std::stop_token stop) {
    while (!stop.stop_requested())
      if (!db->read([](const transaction& t) { t.any(table::values, "k"); }).ok()) std::abort();
  });
  std::string megabyte(1 << 20, 'x');
  for (int i = 0; i < 48; ++i)
    must(db->write([&](transaction& t) { return t.put(table::values, "k" + std::to_string(i), megabyte); }));
  reader.request_stop();
  reader.join();
  db.reset();
  db = must(metadata_db::open(root.path() / "m"));
  CHECK(count_values(*db, "k") == 48);
  CHECK(value_at(*db, "k47")->size() == megabyte.size());
}

TEST_CASE("What was acknowledged survives a kill at any point, whole") {
  temporary_root root;
  std::uint32_t seed = 7;
  std::int64_t known = -1;
  for (int round = 0; round < 15; ++round) {
    int told[2];
    REQUIRE(::pipe(told) == 0);
    auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto db = metadata_db::open(root.path() / "m");
      if (!db.ok()) ::_exit(1);
      for (std::int64_t i = known + 1;; ++i) {
        auto done = (*db)->write([i](transaction& t) -> status {
          KILN_CHECK(t.put(table::values, "a", std::to_string(i)));
          KILN_CHECK(t.put(table::values, "row" + std::to_string(i), std::string(3000, 'r')));
          return t.put(table::records, "b", std::to_string(i));
        });
        if (!done.ok() || ::write(told[1], &i, sizeof i) != sizeof i) ::_exit(2);
      }
    }
    ::close(told[1]);
    std::int64_t first = 0;
    REQUIRE(::read(told[0], &first, sizeof first) == sizeof first);
    seed = seed * 1664525 + 1013904223;
    const timespec wait{0, static_cast<long>(seed % 15'000'000)};
    ::nanosleep(&wait, nullptr);  // the moment of the kill, not a synchronisation
    ::kill(child, SIGKILL);
    std::int64_t acknowledged = first, next = 0;
    while (::read(told[0], &next, sizeof next) == sizeof next) acknowledged = next;
    ::close(told[0]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    auto db = must(metadata_db::open(root.path() / "m"));
    auto a = value_at(*db, "a");
    REQUIRE(a.has_value());
    known = std::stoll(*a);
    CHECK(known >= acknowledged);
    std::string b;
    must(db->read([&](const transaction& t) { b = t.get(table::records, "b").value_or(""); }));
    CHECK(b == *a);
    CHECK(count_values(*db, "row") == known + 1);
  }
}

TEST_CASE("Keys of any length and content are told apart") {
  CHECK(key_part("short") == "short");
  CHECK(key_part(std::string(400, 'x')).size() < 100);
  CHECK(key_part(std::string(400, 'x')) != key_part(std::string(401, 'x')));
  CHECK(key_part(std::string("a\0b", 3)).find('\0') == std::string::npos);
}
