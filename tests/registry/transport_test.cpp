#include <catch2/catch.hpp>

#include <chrono>
#include <future>

#include "registry/transport.hpp"
#include "tests/support/http_server.hpp"

using namespace kiln;
using namespace kiln::registry;
using test::http_answer;
using test::http_request;
using test::http_server;

TEST_CASE("connections are used again") {
  std::atomic<int> served{0};
  http_server server([&](const http_request&) {
    ++served;
    return http_answer{200, {}, "hello"};
  });
  transport t(4);
  for (int i = 0; i < 5; ++i) {
    request r;
    r.url = server.url() + "/x";
    auto a = t.perform(r);
    REQUIRE(a.ok());
    CHECK(a->body == "hello");
  }
  CHECK(served == 5);
  CHECK(server.connections() == 1);
}

TEST_CASE("a redirect to another host is followed without our credentials") {
  http_server other([](const http_request& r) { return http_answer{200, {}, r.header("authorization")}; });
  http_server first([&](const http_request& r) {
    if (r.path == "/same") return http_answer{307, {{"Location", "/target"}}, ""};
    if (r.path == "/target") return http_answer{200, {}, r.header("authorization")};
    return http_answer{307, {{"Location", "http://localhost:" + std::to_string(other.port()) + "/x"}}, ""};
  });
  transport t(4);
  request r;
  r.headers = {"Authorization: Bearer secret"};
  r.url = first.url() + "/same";
  CHECK(t.perform(r)->body == "Bearer secret");
  r.url = first.url() + "/away";
  CHECK(t.perform(r)->body == "");
}

TEST_CASE("a stalled answer ends at once when the job is cancelled") {
  std::promise<void> reached;
  http_server server([&](const http_request&) {
    reached.set_value();
    http_answer a;
    a.body = "partial";
    a.headers = {{"Content-Length", "1000"}};
    a.hang = true;
    return a;
  });
  transport t(4);
  std::stop_source stop;
  request r;
  r.url = server.url();
  r.stop = stop.get_token();
  auto answer = std::async(std::launch::async, [&] { return t.perform(r); });
  reached.get_future().wait();
  auto asked = std::chrono::steady_clock::now();
  stop.request_stop();
  auto a = answer.get();
  CHECK(a.error().code == errc::cancelled);
  CHECK(std::chrono::steady_clock::now() - asked < std::chrono::milliseconds(900));
}

TEST_CASE("a peer that goes silent is given up as unavailable") {
  http_server server([&](const http_request&) {
    http_answer a;
    a.headers = {{"Content-Length", "1000"}};
    a.hang = true;
    return a;
  });
  transport t(4);
  request r;
  r.url = server.url();
  r.stall_timeout = std::chrono::seconds(1);
  CHECK(t.perform(r).error().code == errc::unavailable);
}

TEST_CASE("a body that breaks off, a refused port and an unknown host are unavailable") {
  http_server server([](const http_request&) {
    http_answer a;
    a.body = std::string(1'000, 'x');
    a.send_only = 10;
    return a;
  });
  transport t(4);
  request r;
  r.url = server.url();
  CHECK(t.perform(r).error().code == errc::unavailable);
  wire_failure why;
  r.url = "http://127.0.0.1:1/";
  CHECK(t.perform(r, &why).error().code == errc::unavailable);
  CHECK(why == wire_failure::refused);
  r.url = "ftp://127.0.0.1/";
  CHECK(t.perform(r).error().code == errc::invalid_argument);
}

TEST_CASE("an answer larger than allowed is refused") {
  http_server server([](const http_request&) { return http_answer{200, {}, std::string(10'000, 'x')}; });
  transport t(4);
  request r;
  r.url = server.url();
  r.max_body = 9'999;
  CHECK(t.perform(r).error().code == errc::resource_exhausted);
  r.max_body = 10'000;
  CHECK(t.perform(r).ok());
}

TEST_CASE("permits for bulk transfers are counted per host") {
  transport t(2);
  std::stop_source stop;
  auto a = t.acquire("h", stop.get_token());
  auto b = t.acquire("h", stop.get_token());
  REQUIRE(b.ok());
  CHECK(t.acquire("other", stop.get_token()).ok());
  auto third = std::async(std::launch::async, [&] { return t.acquire("h", stop.get_token()).ok(); });
  { auto gone = std::move(a).value(); }
  CHECK(third.get());
  auto c = t.acquire("h", stop.get_token());
  stop.request_stop();
  CHECK(t.acquire("h", stop.get_token()).error().code == errc::cancelled);
}
