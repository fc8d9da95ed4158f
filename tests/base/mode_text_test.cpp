#include "base/mode_text.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>

using namespace kiln;

TEST_CASE("modes as text change what they name") {
  struct row {
    const char* text;
    mode_t before;
    mode_t after;
  } rows[] = {{"755", S_IFREG | 0600, 0755},
              {"4755", S_IFREG | 0, 04755},
              {"000000644", S_IFREG | 07777, 0644},
              {"u+x", S_IFREG | 0644, 0744},
              {"go-r", S_IFREG | 0644, 0600},
              {"u=rw,go=", S_IFREG | 0777, 0600},
              {"u=rwx,g=rx,o=", S_IFREG | 0, 0750},
              {"+w", S_IFREG | 0444, 0666},  // no umask
              {"g=u", S_IFREG | 0640, 0660},
              {"o=g", S_IFREG | 0751, 0755},
              {"g+u", S_IFREG | 0601, 0661},
              {"go-u", S_IFREG | 0466, 0422},
              {"u=g", S_IFREG | 04750, 04550},  // only permissions are copied
              {"a-x+X", S_IFREG | 0755, 0755},
              // X looks at what was there before, and at directories.
              {"a+X", S_IFREG | 0644, 0644},
              {"a+X", S_IFREG | 0654, 0755},
              {"a+X", S_IFDIR | 0644, 0755},
              {"=rw,+X", S_IFREG | 0755, 0777},
              {"=rw,+X", S_IFREG | 0644, 0666},
              {"a=r,u+w,+X", S_IFREG | 0751, 0755},
              {"u+x,g+X", S_IFREG | 0644, 0744},
              {"u=rwX,go=rX", S_IFREG | 0600, 0644},
              {"-X", S_IFREG | 0755, 0644},
              // Set-id and sticky bits stay unless they are named.
              {"u+s", S_IFREG | 0755, 04755},
              {"ug+s", S_IFREG | 0755, 06755},
              {"u+s,g+s,o+t", S_IFREG | 0751, 06751},
              {"o+s", S_IFREG | 0755, 0755},
              {"+t", S_IFDIR | 0777, 01777},
              {"a=rwx", S_IFDIR | 01700, 01777},
              {"u=rwx", S_IFREG | 06755, 02755},
              {"g=rx", S_IFREG | 06755, 04755},
              {"o=", S_IFREG | 06755, 06750},
              {"-st", S_IFREG | 07755, 0755}};
  for (const auto& r : rows) {
    INFO(r.text << " on " << std::oct << r.before);
    auto change = mode_change::parse(r.text);
    REQUIRE(change.ok());
    CHECK(change->apply(r.before) == r.after);
  }
  for (auto bad : {"", "z", "u", "u+q", "99", "u+x,", "777777", "ug", ",u+x", "u+x,,g+x", "7x", "u+x g+x",
                   "g=ur", "+uo"}) {
    INFO(bad);
    auto refused = mode_change::parse(bad);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == errc::invalid_argument);
  }
}
