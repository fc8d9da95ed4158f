// What an http source op asks for. Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/result.hpp"
#include "ops.pb.h"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {

struct http_reference {
  std::string url;
  std::string place;  // the same, however it was written
  file_attributes look;
  kiln::digest checksum;    // empty: whatever the server has
  std::string auth_secret;  // its name; empty: those that are meant for the host
  std::vector<std::pair<std::string, std::string>> headers;  // canonical name, value; sorted
  std::string signature;                                     // armored; empty: none is asked for
  std::string signer_keys;

  /// invalid_argument says what is wrong.
  static result<http_reference> parse(const pb::SourceOp& source);

  /// Whether a client's session has the bytes, and no server.
  bool from_session() const;
  /// What the answer depends on; how the file is to look is another matter.
  std::string question() const;
  /// Under which downloads are remembered.
  std::string hash() const;
  nlohmann::ordered_json header_json() const;
};

/// The host that stands for the client's session.
inline constexpr std::string_view session_host = "buildkit-session";

}  // namespace kiln::workers
