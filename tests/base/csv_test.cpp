#include <catch2/catch.hpp>

#include "base/csv.hpp"

using namespace kiln;

TEST_CASE("CSV fields may be quoted and stray quotes are refused") {
  CHECK(*split_csv("a=b,\"c=d,e\",\"q\"\"q\"") == std::vector<std::string>{"a=b", "c=d,e", "q\"q"});
  CHECK(*split_csv("a,,") == std::vector<std::string>{"a", "", ""});
  CHECK_FALSE(split_csv("a\"b").ok());
  CHECK_FALSE(split_csv("\"ab").ok());
  CHECK_FALSE(split_csv("\"a\"b").ok());
  CHECK_FALSE(split_csv("").ok());
}
