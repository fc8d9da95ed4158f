#include <catch2/catch.hpp>

#include "messages/stack_text.hpp"
#include "messages/told_code.hpp"

using namespace kiln;

TEST_CASE(
    "clients are told \"unknown\" of what is wrong with a request, and what befell the daemon as it is") {
  for (auto code : {errc::invalid_argument, errc::not_found, errc::already_exists, errc::permission_denied,
                    errc::failed_precondition, errc::aborted, errc::out_of_range, errc::unimplemented,
                    errc::unauthenticated, errc::unknown})
    CHECK(as_told(make_error(code, "x")) == make_error(errc::unknown, "x"));
  for (auto code : {errc::cancelled, errc::deadline_exceeded, errc::resource_exhausted, errc::internal,
                    errc::unavailable, errc::data_loss})
    CHECK(as_told(make_error(code, "x")) == make_error(code, "x"));
}

TEST_CASE(
    "a code that was chosen for clients is told whatever happens to the error on its way, and only once") {
  auto e = told_as(errc::not_found, make_error(errc::not_found, "no access allowed to dir \"x\""));
  e.details.push_back({"other", "{}"});
  e = std::move(e).with_context("context");
  e.code = errc::failed_precondition;
  auto told = as_told(e);
  CHECK(told.code == errc::not_found);
  CHECK(told.message == "context: no access allowed to dir \"x\"");
  CHECK(told.details == std::vector<error_detail>{{"other", "{}"}});

  e = told_as(errc::unknown, told_as(errc::not_found, make_error(errc::unavailable, "x")));
  CHECK(e.code == errc::unavailable);
  CHECK(e.details.size() == 1);
  CHECK(as_told(e) == make_error(errc::unknown, "x"));
  // Who says something else by that detail is not believed.
  e.details[0].value = "99";
  CHECK(as_told(e) == make_error(errc::unknown, "x"));
}

TEST_CASE("stacks are told as people read them: who, then each function with its place") {
  auto e = make_error(errc::unknown, "x");
  CHECK(stack_text(e).empty());
  e.details.push_back({"other", "{}"});
  e.details.push_back(
      {std::string(stack_detail_type),
       R"({"frames":[{"Name":"main.run","File":"/src/main.go","Line":12},{"Name":"main.main"}],)"
       R"("cmdline":["kilnd","--debug"],"pid":7,"version":"v1"})"});
  e.details.push_back({std::string(stack_detail_type), "no json"});
  CHECK(stack_text(e) == "7 v1 kilnd --debug\nmain.run\n\t/src/main.go:12\nmain.main\n\t:0\n\n");
}
