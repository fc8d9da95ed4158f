// A client that is asked for secrets.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "secrets.pb.h"
#include "tests/support/fake_client.hpp"

namespace kiln::test {

/// The session answers with what `find` gives for an id; not_found "secret not found" where that is nothing.
inline void serve_secrets(fake_session& session,
                          std::function<std::optional<std::string>(const std::string& id)> find) {
  session.on_call(
      "/moby.buildkit.secrets.v1.Secrets/GetSecret",
      [find = std::move(find)](std::string_view bytes, const call_metadata&) -> result<std::string> {
        moby::buildkit::secrets::v1::GetSecretRequest asked;
        asked.ParseFromString(std::string(bytes));
        auto found = find(asked.id());
        if (!found) return make_error(errc::not_found, "secret not found");
        moby::buildkit::secrets::v1::GetSecretResponse answer;
        answer.set_data(*found);
        return answer.SerializeAsString();
      });
}

}  // namespace kiln::test
