#include <catch2/catch.hpp>

#include "frontends/dockerfile/shell_words.hpp"

using namespace kiln::dockerfile;

namespace {

list_environment sample() {
  kiln::llb::env_list list;
  list.set("A", "value");
  list.set("EMPTY", "");
  list.set("PATHS", "/usr/lib:/usr/bin");
  list.set("FILE", "a.tar.gz");
  list.set("STAR", "a*b");
  return list_environment(list);
}

struct row {
  const char* input;
  const char* output;
};

}  // namespace

TEST_CASE("every expansion operator gives what a shell user expects") {
  auto env = sample();
  for (const auto& [input, output] : std::vector<row>{
           {"plain", "plain"},
           {"$A", "value"},
           {"${A}x", "valuex"},
           {"$A$A", "valuevalue"},
           {"$UNSET.", "."},
           {"${UNSET:-word}", "word"},
           {"${EMPTY:-word}", "word"},
           {"${EMPTY-word}", ""},
           {"${UNSET-word}", "word"},
           {"${A:+yes}", "yes"},
           {"${EMPTY:+yes}", ""},
           {"${EMPTY+yes}", "yes"},
           {"${UNSET:-${A}}", "value"},
           {"${A:?no}", "value"},
           {"${FILE#*.}", "tar.gz"},
           {"${FILE##*.}", "gz"},
           {"${FILE%.*}", "a.tar"},
           {"${FILE%%.*}", "a"},
           {"${FILE#?}", ".tar.gz"},
           {"${FILE%nothing}", "a.tar.gz"},
           {"${PATHS/usr/opt}", "/opt/lib:/usr/bin"},
           {"${PATHS//usr/opt}", "/opt/lib:/opt/bin"},
           {"${PATHS//\\//-}", "-usr-lib:-usr-bin"},
           {"${STAR#a\\*}", "b"},
           {"${FILE/.*/}", "a"},
           {"'$A'", "$A"},
           {"\"$A\"", "value"},
           {"\\$A", "$A"},
           {"\"\\$A \\\\ \\x\"", "$A \\ \\x"},
           {"a\\ b", "a b"},
           {"$", "$"},
           {"$1", ""},
       }) {
    INFO(input);
    auto expanded = shell_words().expand(input, env);
    REQUIRE(expanded.ok());
    CHECK(expanded->text == output);
  }
}

TEST_CASE("malformed words are refused with the reason") {
  auto env = sample();
  for (const auto& [input, message] : std::vector<row>{
           {"${A", "failed to process \"${A\": unsupported modifier (\xef\xbf\xbd) in substitution"},
           {"${}", "failed to process \"${}\": syntax error: bad substitution"},
           {"${A:-x", "failed to process \"${A:-x\": syntax error: missing '}'"},
           {"'x",
            "failed to process \"'x\": unexpected end of statement while looking for matching single-quote"},
           {"\"x",
            "failed to process \"\\\"x\": unexpected end of statement while looking for matching "
            "double-quote"},
           {"${A:x}", "failed to process \"${A:x}\": unsupported modifier (:x) in substitution"},
           {"${UNSET:?give it}", "failed to process \"${UNSET:?give it}\": UNSET: give it"},
           {"${EMPTY:?}", "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty"},
           {"${UNSET?}", "failed to process \"${UNSET?}\": UNSET: is not allowed to be unset"},
       }) {
    auto expanded = shell_words().expand(input, env);
    REQUIRE_FALSE(expanded.ok());
    CHECK(expanded.error().message == message);
  }
}

TEST_CASE("deep nesting is refused instead of exhausting the stack") {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "${A:-";
  CHECK_FALSE(shell_words().expand(text, list_environment()).ok());
}

TEST_CASE("a backtick can be the escape character") {
  auto expanded = shell_words('`').expand("`$A \\x", sample());
  REQUIRE(expanded.ok());
  CHECK(expanded->text == "$A \\x");
}

TEST_CASE("words are split at unquoted white space after expansion") {
  kiln::llb::env_list list;
  list.set("TWO", "one two");
  auto expanded = shell_words().expand(" $TWO \"$TWO\" three\\ four ", list_environment(list));
  REQUIRE(expanded.ok());
  CHECK(expanded->words == std::vector<std::string>{"one", "two", "one two", "three four"});
}

TEST_CASE("variables are reported as matched or unmatched") {
  auto expanded = shell_words().expand("$A ${B:-x} ${C}", sample());
  REQUIRE(expanded.ok());
  CHECK(expanded->matched == std::set<std::string>{"A"});
  CHECK(expanded->unmatched == std::set<std::string>{"B", "C"});
}

TEST_CASE("doubling variables and costly patterns are bounded") {
  kiln::llb::env_list list;
  list.set("BIG", std::string(3 << 20, 'a'));
  list.set("MANY", std::string(1 << 20, 'a'));
  list_environment env(list);
  CHECK(shell_words().expand("$BIG", env).ok());
  CHECK_FALSE(shell_words().expand("$BIG$BIG", env).ok());
  CHECK_FALSE(shell_words().expand("\"$BIG$BIG\"", env).ok());
  CHECK_FALSE(shell_words().expand("${BIG#a}", env).ok());
  auto replaced = shell_words().expand("${MANY//a*b/x}", env);
  REQUIRE(replaced.ok());
  CHECK(replaced->text.size() == 1 << 20);
}
