// Sessions of clients that are at another node.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <deque>
#include <thread>

#include "configs/peers.hpp"
#include "gateway/session/remote_sessions.hpp"
#include "peer_nodes.hpp"

using namespace kiln;
using namespace kiln::testing;

namespace {

/// A session's stream that echoes, with bounded room: writing blocks until it is read.
class echo_stream final : public message_stream {
 public:
  explicit echo_stream(status verdict, std::stop_token stop)
      : verdict_(std::move(verdict)), stop_(std::move(stop)) {}
  bool write(std::string_view message) override {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop_, [&] { return queue_.size() < 16; })) return false;
    queue_.emplace_back(message);
    changed_.notify_all();
    return true;
  }
  void writes_done() override {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  bool read(std::string& message) override {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop_, [&] { return !queue_.empty() || ended_; })) return false;
    if (queue_.empty()) return false;
    message = std::move(queue_.front());
    queue_.pop_front();
    changed_.notify_all();
    return true;
  }
  status finish() override {
    if (stop_.stop_requested()) return make_error(errc::cancelled, "context canceled");
    return verdict_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::string> queue_;
  bool ended_ = false;
  status verdict_;
  std::stop_token stop_;
};

/// A session whose methods are the test's.
class test_session final : public session_caller {
 public:
  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return key_; }
  bool supports(std::string_view) const override { return true; }
  std::vector<std::string> methods() const override { return {"/echo.Echo/Stream", "/echo.Echo/Unary"}; }
  result<std::string> call(std::string_view method, std::string_view request, const call_metadata& metadata,
                           std::chrono::milliseconds timeout, std::stop_token) override {
    if (method != "/echo.Echo/Unary") {
      auto e = make_error(errc::permission_denied, "not for you");
      e.details.push_back({"kiln/Test", "{\"a\":1}"});
      return e;
    }
    return std::string(request) + metadata.at(0).first + metadata.at(0).second +
           std::to_string(timeout.count());
  }
  result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata&,
                                               std::stop_token stop) override {
    if (method == "/echo.Echo/Refused") return make_error(errc::unimplemented, "no such method");
    status verdict;
    if (method == "/echo.Echo/Failing") verdict = make_error(errc::aborted, std::string(20'000, 'e'));
    opened = stop;
    return std::unique_ptr<message_stream>(std::make_unique<echo_stream>(verdict, stop));
  }
  std::stop_token opened;

 private:
  std::string id_ = "s1", key_ = "shared";
};

struct session_fixture {
  two_nodes n;
  std::shared_ptr<test_session> session = std::make_shared<test_session>();
  struct directory final : session_directory {
    std::shared_ptr<session_caller> session;
    result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds,
                                                 std::stop_token) override {
      if (id == "s1") return session;
      return make_error(errc::not_found, "no active session for " + std::string(id));
    }
  } local;
  /// Every method, for whoever is asked about.
  struct everything final : session_access {
    status check_session(const std::vector<std::string>& nodes, std::string_view) const override {
      who = nodes;
      return {};
    }
    status check_call(const std::vector<std::string>&, std::string_view, std::string_view,
                      const call_metadata&, std::string_view) const override {
      return {};
    }
    bool offers(const std::vector<std::string>&, std::string_view, std::string_view) const override {
      return true;
    }
    mutable std::vector<std::string> who;
  };
  std::shared_ptr<everything> access = std::make_shared<everything>();
  std::unique_ptr<gateway::peer_server> server;
  gateway::remote_sessions sessions{n.b.sessions, n.b.peers};

  session_fixture() {
    local.session = session;
    server = must(gateway::peer_server::start({"127.0.0.1:0", certs().files("node")},
                                              {n.a.store.get(), &local, access, nullptr}));
    n.b.peers->put("a", server->address());
  }
};

}  // namespace

TEST_CASE("a session of another node is called through that node") {
  session_fixture f;
  auto s = must(f.sessions.find("a!s1", 100ms, {}));
  CHECK(s->id() == "a!s1");
  CHECK(s->shared_key() == "shared");
  CHECK(s->supports("/ECHO.echo/stream"));
  CHECK_FALSE(s->supports("/other/Method"));
  CHECK(must(s->call("/echo.Echo/Unary", std::string("x\0y", 3), {{"k", "v"}}, 1500ms, {})) ==
        std::string("x\0ykv1500", 9));
  auto refused = s->call("/echo.Echo/Other", "", {}, 0ms, {});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == errc::permission_denied);
  CHECK(refused.error().message == "not for you");
  REQUIRE(refused.error().details.size() == 1);
  CHECK(refused.error().details[0].type_url == "kiln/Test");
  CHECK(refused.error().details[0].value == "{\"a\":1}");
  auto none = f.sessions.find("a!other", 0ms, {});
  CHECK(none.error().code == errc::not_found);
  CHECK(none.error().message == "no active session for other");
  CHECK(f.sessions.find("c!s1", 0ms, {}).error().code == errc::unavailable);
  CHECK(f.sessions.find("here", 0ms, {}).error().code == errc::not_found);
}

TEST_CASE("a stream of 10,000 messages passes through a node both ways, in order") {
  session_fixture f;
  auto s = must(f.sessions.find("a!s1", 100ms, {}));
  auto stream = must(s->open("/echo.Echo/Stream", {}, {}));
  std::jthread writer([&] {
    for (int i = 0; i < 10'000; ++i)
      if (!stream->write(std::to_string(i) + std::string(static_cast<std::size_t>(i % 700), 'x'))) return;
    stream->writes_done();
  });
  std::string message;
  int received = 0;
  bool in_order = true;
  while (stream->read(message)) in_order = in_order && std::stoi(message) == received++;
  CHECK(received == 10'000);
  CHECK(in_order);
  must(stream->finish());
}

TEST_CASE("errors of a stream keep code and text; a large message and an empty one pass") {
  session_fixture f;
  auto s = must(f.sessions.find("a!s1", 100ms, {}));
  auto failing = must(s->open("/echo.Echo/Failing", {}, {}));
  std::string message;
  REQUIRE(failing->write(""));
  REQUIRE(failing->write(std::string(16 << 20, 'm')));
  failing->writes_done();
  REQUIRE(failing->read(message));
  CHECK(message.empty());
  REQUIRE(failing->read(message));
  CHECK(message.size() == 16 << 20);
  CHECK_FALSE(failing->read(message));
  auto verdict = failing->finish();
  REQUIRE_FALSE(verdict.ok());
  CHECK(verdict.error().code == errc::aborted);
  CHECK(verdict.error().message == std::string(20'000, 'e'));
  auto refused = must(s->open("/echo.Echo/Refused", {}, {}));
  CHECK_FALSE(refused->read(message));
  CHECK(refused->finish().error().message == "no such method");
}

TEST_CASE(
    "one node has a bounded number of session calls under way at another; more are refused until some end") {
  session_fixture f;
  auto far = must(f.sessions.find("a!s1", 100ms, {}));
  // A stream takes two threads there.
  constexpr auto streams_max = configs::peers::session_threads_of_node_max / 2;
  std::vector<std::unique_ptr<message_stream>> open;
  auto echoes = [](message_stream& s) {
    std::string answer;
    return s.write("hello") && s.read(answer) && answer == "hello";
  };
  for (std::size_t i = 0; i < streams_max; ++i) {
    open.push_back(must(far->open("/echo.Echo/Stream", {}, {})));
    REQUIRE(echoes(*open.back()));
  }
  auto refused = must(far->open("/echo.Echo/Stream", {}, {}));
  CHECK_FALSE(echoes(*refused));
  auto why = refused->finish();
  REQUIRE_FALSE(why.ok());
  CHECK(why.error().code == errc::resource_exhausted);
  CHECK(why.error().message.find("has " + std::to_string(configs::peers::session_threads_of_node_max) +
                                 " under way here") != std::string::npos);
  CHECK(far->call("/echo.Echo/Unary", "x", {{"k", "v"}}, 1'000ms, {}).error().code ==
        errc::resource_exhausted);
  open.front()->writes_done();
  std::string nothing;
  CHECK_FALSE(open.front()->read(nothing));
  CHECK(open.front()->finish().ok());
  // The node counts it as ended a moment later.
  bool again = false;
  for (auto deadline = std::chrono::steady_clock::now() + 20s;
       !again && std::chrono::steady_clock::now() < deadline;)
    again = far->call("/echo.Echo/Unary", "x", {{"k", "v"}}, 1'000ms, {}).ok();
  CHECK(again);
}

TEST_CASE("a stream that its job gives up ends at the session, and one whose node goes ends here") {
  session_fixture f;
  auto s = must(f.sessions.find("a!s1", 100ms, {}));
  std::string message;
  {
    std::stop_source stop;
    auto stream = must(s->open("/echo.Echo/Stream", {}, stop.get_token()));
    REQUIRE(stream->write("x"));
    REQUIRE(stream->read(message));
    std::mutex m;
    std::condition_variable_any c;
    stop.request_stop();
    std::unique_lock lock(m);
    std::stop_callback told(f.session->opened, [&] { c.notify_all(); });
    CHECK_FALSE(stream->read(message));
    c.wait_for(lock, 10s, [&] { return f.session->opened.stop_requested(); });
    CHECK(f.session->opened.stop_requested());
  }
  auto stream = must(s->open("/echo.Echo/Stream", {}, {}));
  REQUIRE(stream->write("x"));
  REQUIRE(stream->read(message));
  f.n.b.peers->erase("a");
  CHECK_FALSE(stream->read(message));
  CHECK_FALSE(stream->finish().ok());
  CHECK(s->call("/echo.Echo/Unary", "", {{"k", "v"}}, 0ms, {}).error().code == errc::unavailable);
}
