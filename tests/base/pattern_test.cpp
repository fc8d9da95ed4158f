#include <catch2/catch.hpp>

#include <tuple>

#include "base/pattern.hpp"
#include "base/slash_path.hpp"

using namespace kiln;

namespace {

bool list_matches(std::vector<std::string> patterns, std::string_view path) {
  auto list = pattern_list::compile(patterns);
  REQUIRE(list.ok());
  return list->matches(path);
}

/// The answer when walking down from the top with parent results, which must never differ.
bool walked_matches(const std::vector<std::string>& patterns, std::string_view path) {
  auto list = pattern_list::compile(patterns);
  REQUIRE(list.ok());
  pattern_list::match_info parent, own;
  bool matched = false;
  for (std::size_t at = 0; at <= path.size();) {
    auto slash = std::min(path.find('/', at), path.size());
    matched = list->matches(path.substr(0, slash), parent, own);
    parent = own;
    at = slash + 1;
  }
  return matched;
}

}  // namespace

TEST_CASE("filepath.Match: stars stop at slashes, sets and escapes work, bad syntax is an error") {
  auto [pattern, name, expected] = GENERATE(table<std::string, std::string, bool>({
      {"abc", "abc", true},
      {"*", "abc", true},
      {"*c", "abc", true},
      {"a*", "a", true},
      {"a*", "ab/c", false},
      {"a*/b", "abc/b", true},
      {"a*/b", "a/c/b", false},
      {"a*b*c*d*e*/f", "axbxcxdxe/f", true},
      {"a*b?c*x", "abxbbxdbxebxczzx", true},
      {"a*b?c*x", "abxbbxdbxebxczzy", false},
      {"ab[c]", "abc", true},
      {"ab[b-d]", "abc", true},
      {"ab[e-g]", "abc", false},
      {"ab[^c]", "abc", false},
      {"ab[^e-g]", "abc", true},
      {"a\\*b", "a*b", true},
      {"a\\*b", "ab", false},
      {"a?b", "a☺b", true},
      {"a[^a]b", "a☺b", true},
      {"a???b", "a☺b", false},
      {"[a-ζ]*", "α", true},
      {"*[a-ζ]", "A", false},
      {"a?b", "a/b", false},
      {"a*b", "a/b", false},
      {"[\\]a]", "]", true},
      {"[\\-]", "-", true},
      {"[x\\-]", "x", true},
      {"[x\\-]", "z", false},
      {"*x", "xxx", true},
      {"**", "a/b", false},
      {"", "", true},
      {"", "a", false},
      {"[c-a]", "b", false},
      {"/*/x", "/a/x", true},
  }));
  INFO(pattern << " on " << name);
  auto matched = match_path(pattern, name);
  REQUIRE(matched.ok());
  CHECK(*matched == expected);
}

TEST_CASE("filepath.Match refuses malformed patterns even when the text differs earlier") {
  for (auto bad :
       {"[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "\\", "a[", "x[", "[\\"}) {
    INFO(bad);
    auto matched = match_path(bad, "a");
    REQUIRE(!matched.ok());
    CHECK(matched.error().message == "syntax error in pattern");
    CHECK(!pattern_list::compile({bad}).ok());
  }
}

TEST_CASE("moby patterns: one pattern against one path") {
  auto [pattern, path, expected] = GENERATE(table<std::string, std::string, bool>({
      {"**", "file", true},
      {"**", "dir/file", true},
      {"**/", "file", true},
      {"**/**", "dir/file", true},
      {"dir/**", "dir/file", true},
      {"dir/**", "dir/dir2/file", true},
      {"dir/**", "dir", false},
      {"dir/**/", "dir/dir2/file", true},
      {"**/dir2/*", "dir/dir2/file", true},
      {"**/dir2/*", "dir/dir2/dir2/file", true},
      {"**/dir2/**", "dir/dir2/dir2/file", true},
      {"**file", "file", true},
      {"**file", "dir/dir/file", true},
      {"**/file", "dir/file", true},
      {"**/file", "file", true},
      {"**/file", "dirfile", false},
      {"**file*", "dir/dir/file.txt", true},
      {"**/file*txt", "dir/dir/file.txt", true},
      {"**/file*.txt*", "dir/dir/file.txt", true},
      {"**/**/*.txt", "dir/dir/file.txt", true},
      {"**/**/*.txt2", "dir/dir/file.txt", false},
      {"**/*.txt", "file.txt", true},
      {"**/**/*.txt", "file.txt", true},
      {"a**/*.txt", "a/file.txt", true},
      {"a**/*.txt", "a/dir/file.txt", true},
      {"a**/*.txt", "a/dir/dir/file.txt", true},
      {"a/*.txt", "a/dir/file.txt", false},
      {"a/*.txt", "a/file.txt", true},
      {"a/*.txt**", "a/file.txt", true},
      {"a[b-d]e", "ae", false},
      {"a[b-d]e", "ace", true},
      {"a[b-d]e", "aae", false},
      {"a[^b-d]e", "aze", true},
      {".*", ".foo", true},
      {".*", "foo", false},
      {"abc.def", "abcdef", false},
      {"abc.def", "abc.def", true},
      {"abc.def", "abcZdef", false},
      {"abc?def", "abcZdef", true},
      {"abc?def", "abcdef", false},
      {"**/foo/bar", "foo/bar", true},
      {"**/foo/bar", "dir/foo/bar", true},
      {"**/foo/bar", "dir/dir2/foo/bar", true},
      {"abc/**", "abc", false},
      {"abc/**", "abc/def", true},
      {"abc/**", "abc/def/ghi", true},
      {"**/.foo", ".foo", true},
      {"**/.foo", "bar.foo", false},
      {"a(b)c/def", "a(b)c/def", true},
      {"a(b)c/def", "a(b)c/xyz", false},
      {"a.|)$(}+{bc", "a.|)$(}+{bc", true},
      {"dist/*/*.whl", "dist/proxy.py-2.4.0/x.whl", true},
      {"a\\*b", "a*b", true},
      {"a\\*b", "axb", false},
      {"./foo", "foo", true},
      {" foo ", "foo", true},
      {"foo/", "foo/bar", true},
      {"foo", "foo/bar/baz", true},
      {"*", "a/b/c", true},
      {"/foo", "foo", false},
  }));
  INFO(pattern << " on " << path);
  CHECK(list_matches({pattern}, path) == expected);
  CHECK(walked_matches({pattern}, path) == expected);
}

TEST_CASE("moby lists: later patterns override earlier ones") {
  using strings = std::vector<std::string>;
  auto [patterns, path, expected] = GENERATE(table<strings, std::string, bool>({
      {strings{"**", "!util/docker/web"}, "util/docker/web/foo", false},
      {strings{"**", "!util/docker/web", "util/docker/web/foo"}, "util/docker/web/foo", true},
      {strings{"**", "!dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl"},
       "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", false},
      {strings{"**", "!dist/*.whl"}, "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", false},
      {strings{"*", "!*.go"}, "main.go", false},
      {strings{"*", "!*.go"}, "main.c", true},
      {strings{"!*.go"}, "main.go", false},
      {strings{"a", "!a/b"}, "a/b/c", false},
      {strings{"a", "!a/b"}, "a/c", true},
      {strings{"!a/b", "a"}, "a/b", true},
      {strings{"a", "!a/b", "a/b/c"}, "a/b/c/d", true},
      {strings{"", "  "}, "x", false},
      {strings{}, "x", false},
  }));
  INFO(path);
  CHECK(list_matches(patterns, path) == expected);
  CHECK(walked_matches(patterns, path) == expected);
}

TEST_CASE("A lone exclamation mark is refused and exclusions are known") {
  auto refused = pattern_list::compile({"!"});
  REQUIRE(!refused.ok());
  CHECK(refused.error().message == "illegal exclusion pattern: \"!\"");
  auto list = pattern_list::compile({"a/./b", "!c"});
  REQUIRE(list.ok());
  CHECK(list->has_exclusions());
  CHECK(list->text(0) == "a/b");
  CHECK(list->text(1) == "c");
  CHECK(list->is_exclusion(1));
}

TEST_CASE("Hostile patterns take linear time in the text") {
  std::string pattern, text(4000, 'a');
  for (int i = 0; i < 60; ++i) pattern += "**/a*";
  CHECK(!list_matches({pattern + "b"}, text));
  auto matched = match_path("a*a*a*a*a*a*a*a*a*a*a*a*b", text);
  REQUIRE(matched.ok());
  CHECK(!*matched);
}

TEST_CASE("Wildcards are seen unless escaped") {
  CHECK(has_wildcard("a*"));
  CHECK(has_wildcard("[x"));
  CHECK(!has_wildcard("a\\*b"));
  CHECK(!has_wildcard("plain/name"));
}
