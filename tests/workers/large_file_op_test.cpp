// File ops as large as they may be: any number of actions, in any order, costs no more than the actions do.
#include "worker_fixture.hpp"

#include <fstream>
#include <sys/resource.h>

#include "configs/executor.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

pb::FileAction* add_file(workers::op_request& r, std::int64_t input, std::int64_t output,
                         const std::string& path) {
  auto* a = r.op.mutable_file()->add_actions();
  a->set_input(input);
  a->set_secondaryinput(-1);
  a->set_output(output);
  a->mutable_mkfile()->set_path(path);
  a->mutable_mkfile()->set_mode(0644);
  a->mutable_mkfile()->set_timestamp(-1);
  return a;
}

pb::FileAction* add_copy(workers::op_request& r, std::int64_t input, std::int64_t from, std::int64_t output,
                         const std::string& src, const std::string& dest) {
  auto* a = r.op.mutable_file()->add_actions();
  a->set_input(input);
  a->set_secondaryinput(from);
  a->set_output(output);
  a->mutable_copy()->set_src(src);
  a->mutable_copy()->set_dest(dest);
  a->mutable_copy()->set_mode(-1);
  a->mutable_copy()->set_timestamp(-1);
  return a;
}

std::size_t files_in(const fs::path& root) {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator(root)) ++n;
  return n;
}

std::size_t open_files() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

}  // namespace

TEST_CASE("a file op of tens of thousands of actions, each on the one before, runs") {
  worker_fixture f;
  workers::op_request r;
  constexpr int count = 20'000;
  for (int i = 0; i < count; ++i)
    add_file(r, i == 0 ? -1 : i - 1, i + 1 == count ? 0 : -1, "/f" + std::to_string(i));
  // On a small stack, for recursion would be seen.
  result<std::vector<store::ref>> out = std::vector<store::ref>{};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 512 * 1024);
  auto work = [&] { out = f.run(r, {}); };
  pthread_t thread;
  REQUIRE(pthread_create(
              &thread, &attributes,
              [](void* w) -> void* { return (*static_cast<decltype(work)*>(w))(), nullptr; }, &work) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  REQUIRE(out.ok());
  f.in_ref((*out)[0],
           [&](const fs::path& root) { CHECK(files_in(root) == static_cast<std::size_t>(count)); });
}

TEST_CASE("states that an action only reads are let go once it has read them") {
  worker_fixture f;
  workers::op_request r;
  constexpr int count = 300;
  SECTION("pair by pair") {
    // Each pair makes a file on scratch and copies it onto what the last pair left.
    for (int i = 0; i < count; ++i) {
      add_file(r, -1, -1, "/f" + std::to_string(i));
      add_copy(r, i == 0 ? -1 : 2 * i - 1, 2 * i, i + 1 == count ? 0 : -1, "/f" + std::to_string(i), "/");
    }
  }
  SECTION("each read by the next") {
    // What is written on is new each time, what is read the end of a chain.
    for (int i = 0; i < count; ++i) {
      add_file(r, -1, -1, "/f" + std::to_string(i));
      add_copy(r, 2 * i, i == 0 ? -1 : 2 * i - 1, i + 1 == count ? 0 : -1, "/", "/")
          ->mutable_copy()
          ->set_dircopycontents(true);
    }
  }
  std::size_t most = 0;
  auto before = open_files();
  std::jthread watch([&](std::stop_token stop) {
    while (!stop.stop_requested()) {
      most = std::max(most, open_files());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // a sample, often enough for 300 states
    }
  });
  auto out = f.run(r, {});
  watch.request_stop();
  watch.join();
  REQUIRE(out.ok());
  // A descriptor for each state that is open to be written on or read, and some for the op itself.
  CHECK(most < before + configs::file_op_open_max + configs::file_op_readers_max + 40);
  f.in_ref((*out)[0],
           [&](const fs::path& root) { CHECK(files_in(root) == static_cast<std::size_t>(count)); });
  CHECK(f.mounts_left() == 0);
}

TEST_CASE("committed states that are read again stay mounted in bounded number") {
  worker_fixture f;
  workers::op_request r;
  const int count = static_cast<int>(configs::file_op_readers_max) + 40;
  // Outputs of their own, each read by one of a chain of copies.
  for (int i = 0; i < count; ++i) add_file(r, -1, i, "/f" + std::to_string(i));
  for (int i = 0; i < count; ++i)
    add_copy(r, i == 0 ? -1 : count + i - 1, i, i + 1 == count ? count : -1, "/f" + std::to_string(i), "/");
  auto out = f.run(r, {});
  REQUIRE(out.ok());
  REQUIRE(out->size() == static_cast<std::size_t>(count) + 1);
  f.in_ref(out->back(),
           [&](const fs::path& root) { CHECK(files_in(root) == static_cast<std::size_t>(count)); });
  f.in_ref((*out)[5], [](const fs::path& root) { CHECK(fs::exists(root / "f5")); });
  CHECK(f.mounts_left() == 0);
}

TEST_CASE("a file op whose actions need each other is refused") {
  worker_fixture f;
  workers::op_request r;
  auto* a = add_file(r, -1, 0, "/f");
  a->mutable_mkfile()->mutable_owner()->mutable_user()->mutable_byname()->set_name("x");
  a->mutable_mkfile()->mutable_owner()->mutable_user()->mutable_byname()->set_input(1);
  add_file(r, 0, -1, "/g");
  auto out = f.run(r, {});
  REQUIRE_FALSE(out.ok());
  CHECK(out.error().message.starts_with("loop from index"));
}

TEST_CASE("a file op is cancelled between two actions") {
  worker_fixture f;
  workers::op_request r;
  for (int i = 0; i < 10; ++i) add_file(r, i - 1, i == 9 ? 0 : -1, "/f" + std::to_string(i));
  f.stop.request_stop();
  auto out = f.run(r, {});
  REQUIRE_FALSE(out.ok());
  CHECK(out.error().code == errc::cancelled);
}
