#include <catch2/catch.hpp>

#include "frontends/dockerfile/directives.hpp"
#include "frontends/dockerfile/git_ref.hpp"
#include "frontends/dockerfile/instructions.hpp"
#include "frontends/dockerfile/options.hpp"
#include "frontends/dockerfile/sources.hpp"

using namespace kiln;
using namespace kiln::dockerfile;

namespace {

parsed_file parsed(const std::string& text) {
  auto file = parse(text);
  if (!file) FAIL(file.error().message);
  return *std::move(file);
}

std::string failure(const std::string& text, int& line) {
  auto file = parse(text);
  auto outcome = file ? parse_instructions(*file, lint()) : result<dockerfile::dockerfile>(file.error());
  REQUIRE_FALSE(outcome.ok());
  auto e = split_location(outcome.error());
  line = e.places.empty() || e.places[0].empty() ? 0 : e.places[0][0].start;
  return e.plain.message;
}

}  // namespace

TEST_CASE("continuations join, comments inside them vanish, line ranges cover all lines") {
  auto file = parsed("\xef\xbb\xbf# one\nFROM a\nRUN x \\\n  # gone\n\n  y \\  \nz\n");
  REQUIRE(file.nodes.size() == 2);
  CHECK(file.nodes[1].original == "RUN x   y z");
  CHECK(file.nodes[1].start_line == 3);
  CHECK(file.nodes[1].end_line == 7);
  CHECK(file.empty_continuations.size() == 1);
  CHECK(file.nodes[0].comments == std::vector<std::string>{"one"});
}

TEST_CASE("lists in JSON keep bytes that are no UTF-8, beside escapes and other characters") {
  auto file = parsed(
      "FROM a\nCOPY [\"lat\xe9.txt\", \"\\u00e9\xc3\xa4\xff\\\"\", \"/d\xc0/\"]\nRUN [\"plain\", "
      "\"\\u00e9\"]\n");
  CHECK(file.nodes[1].json);
  CHECK(file.nodes[1].args == std::vector<std::string>{"lat\xe9.txt", "\xc3\xa9\xc3\xa4\xff\"", "/d\xc0/"});
  CHECK(file.nodes[2].args == std::vector<std::string>{"plain", "\xc3\xa9"});
}

TEST_CASE("the escape directive changes the continuation character") {
  auto file = parsed("# escape=`\nFROM a\nRUN c:\\ `\nx\n");
  CHECK(file.escape == '`');
  CHECK(file.nodes[1].original == "RUN c:\\ x");
}

TEST_CASE("heredocs keep their text, with names quoted or not and tabs dropped on request") {
  auto file = parsed("FROM a\nCOPY <<one <<-'two' /d\nx $y\none\n\tz\n\ttwo\n");
  REQUIRE(file.nodes[1].heredocs.size() == 2);
  CHECK(file.nodes[1].heredocs[0].content == "x $y\n");
  CHECK(file.nodes[1].heredocs[0].expand);
  CHECK(file.nodes[1].heredocs[1].chomp);
  CHECK_FALSE(file.nodes[1].heredocs[1].expand);
  CHECK(chomp_heredoc(file.nodes[1].heredocs[1].content) == "z\n");
  CHECK(file.nodes[1].end_line == 6);
}

TEST_CASE("mistakes are named with their line") {
  struct row {
    const char* text;
    const char* message;
    int line;
  };
  for (const auto& [text, message, line] : std::vector<row>{
           {"FROM a\nRUN <<E\nx\n", "unterminated heredoc", 2},
           {"# escape=`\n# escape=`\nFROM a\n", "only one escape parser directive can be used", 1},
           {"FROM a\nENV x\n", "ENV must have two arguments", 2},
           {"FROM a\nENV x=1 y\n", "Syntax error - can't find = in \"y\". Must be of the form: name=value",
            2},
           {"FROM a\nCMD [\"x\", 1]\n",
            "when using JSON array syntax, arrays must be comprised of strings only", 2},
           {"FROM a\nCOPY --chwn=x a b\n",
            "dockerfile parse error on line 2: unknown flag: --chwn (did you mean chown?)", 2},
           {"FROM a\nCOPY --from a b\n", "dockerfile parse error on line 2: missing a value on flag: --from",
            2},
           {"FROM a AS 1x\n",
            "dockerfile parse error on line 1: invalid name for build stage: \"1x\", name can't start with a "
            "number or "
            "contain symbols",
            1},
           {"FROM a\nCOPY x\n",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was "
            "provided. "
            "Destination could not be determined",
            2},
           {"FROM a\nONBUILD FROM b\n",
            "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger", 2},
           {"RUN x\n", "no build stage in current context", 1},
           {"FROM a\nHEALTHCHECK --interval=1us CMD x\n",
            "dockerfile parse error on line 2: Interval \"interval\" cannot be less than 1ms", 2},
           {"# nothing\n", "file with no instructions", 1},
       }) {
    INFO(text);
    int at = 0;
    CHECK(failure(text, at) == message);
    CHECK(at == line);
  }
}

TEST_CASE("ONBUILD cannot be nested without end") {
  std::string text = "FROM a\n";
  for (int i = 0; i < 100000; ++i) text += "ONBUILD ";
  CHECK_FALSE(parse(text + "RUN x\n").ok());
}

TEST_CASE("the syntax of a build file is found in comments and JSON") {
  CHECK(detect_syntax("# syntax = a/b:1 x\nFROM s")->value == "a/b:1 x");
  CHECK(detect_syntax("#!/bin/sh\n// syntax=a/b\n")->first_word == "a/b");
  CHECK(detect_syntax("{\"syntax\":\"a\"}")->first_word == "a");
  CHECK_FALSE(detect_syntax("FROM x\n# syntax=a\n"));
}

TEST_CASE("mount options are read, and misspelled ones named") {
  auto same = [](const std::string& word) -> result<std::string> { return word; };
  auto mount = parse_run_mount("type=cache,\"target=/a,b\",sharing=private,uid=7,mode=0750", same);
  REQUIRE(mount.ok());
  CHECK(mount->target == "/a,b");
  CHECK(mount->sharing == "private");
  CHECK(*mount->uid == 7);
  CHECK(*mount->mode == 0750);
  CHECK_FALSE(mount->readonly);
  CHECK(parse_run_mount("type=bind,target=/x", same)->readonly);
  CHECK(parse_run_mount("type=cash", same).error().message ==
        "unsupported mount type \"cash\" (did you mean cache?)");
  CHECK(parse_run_mount("tarjet=/x", same).error().message ==
        "unexpected key 'tarjet' in 'tarjet=/x' (did you mean target?)");
  CHECK(parse_run_mount("type=bind,mode=1", same).error().message ==
        "mode not allowed for \"bind\" type mounts");
  CHECK_FALSE(parse_run_mount("from=$x,target=/y", {}).ok());
}

TEST_CASE("ignore files lose comments, blanks and leading slashes") {
  CHECK(read_ignore_file("\xef\xbb\xbf# c\n\n /a/b/ \n!/c\r\n./d\n") ==
        std::vector<std::string>{"a/b", "!c", "d"});
}

TEST_CASE("git references: queries, fragments, scp style, and what is not git") {
  auto ref = parse_git_ref("https://github.com/a/b.git?tag=v1&subdir=x&keep-git-dir=&submodules=false").ref;
  REQUIRE(ref);
  CHECK(ref->remote == "https://github.com/a/b.git");
  CHECK(ref->ref == "refs/tags/v1");
  CHECK(ref->subdir == "x");
  CHECK(*ref->keep_git_dir);
  CHECK(ref->options().skip_submodules);
  auto scp = parse_git_ref("git@host.com:a/b.git#main:dir").ref;
  REQUIRE(scp);
  CHECK(scp->ssh);
  CHECK(scp->options().id == "host.com/a/b.git");
  CHECK(scp->ref == "main");
  CHECK(scp->subdir == "dir");
  CHECK_FALSE(parse_git_ref("https://example.com/file.tar").is_git);
  CHECK_FALSE(parse_git_ref("./local.git").is_git);
  CHECK(parse_git_ref("https://h/a.git?ref=x#y").problem->message == "ref conflicts: \"y\" vs \"x\"");
  CHECK(parse_git_ref("https://h/a.git?bogus=1").problem->message == "unexpected query \"bogus\"");
}

TEST_CASE("options are checked and named when wrong") {
  auto message = [](const option_map& options) {
    auto out = parse_build_options(options);
    return out ? std::string() : out.error().message;
  };
  CHECK(message({{"add-hosts", "a=1.2.3.4,b=::1"}}).empty());
  CHECK(message({{"add-hosts", "a=x"}}) == "failed to parse additional hosts: failed to parse IP x");
  CHECK(message({{"ulimit", "nofile=3:1"}}) ==
        "failed to parse ulimit: ulimit soft limit must be less than or equal to hard limit: 3 > 1");
  CHECK(message({{"memory", "0"}}) ==
        "failed to parse resource limits: invalid memory value: 0: must be > 0");
  CHECK(message({{"platform", "linux/amd64,linux/arm64"}, {"multi-platform", "0"}}) ==
        "conflicting config: returning multiple target platforms is not allowed");
  CHECK(message({{"force-network-mode", "x"}}) == "invalid netmode x");
}
