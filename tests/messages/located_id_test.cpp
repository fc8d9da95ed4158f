#include "messages/located_id.hpp"

#include <catch2/catch.hpp>

using namespace kiln;

TEST_CASE("an id says whose it is, and what is nobody's says nothing") {
  CHECK(located_id::parse("ref") == located_id{"", "ref"});
  CHECK(located_id::parse("b!ref") == located_id{"b", "ref"});
  CHECK(located_id::parse("b!ref!more") == located_id{"b", "ref!more"});
  for (auto text : {"", "ref", "b!ref"}) CHECK(located_id::parse(text).text() == text);
  CHECK(located_id{"b", ""}.text() == "");
  CHECK(is_remote("b!ref"));
  CHECK_FALSE(is_remote("ref"));
}

TEST_CASE("an id is told so that whoever hears it knows whose it is") {
  CHECK(retold("ref", "a", "b") == "a!ref");    // the teller's own
  CHECK(retold("b!ref", "a", "b") == "ref");    // the hearer's own
  CHECK(retold("c!ref", "a", "b") == "c!ref");  // a third one's
  CHECK(retold("a!ref", "a", "b") == "a!ref");
  CHECK(retold("ref", "a", "a") == "ref");
  CHECK(retold("a!ref", "a", "a") == "ref");
  CHECK(retold("", "a", "b") == "");  // scratch
}
