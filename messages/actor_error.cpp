#include "messages/actor_error.hpp"

#include <caf/all.hpp>

#include "messages/actor_interfaces.hpp"

namespace kiln {

namespace {
constexpr auto category = caf::atom("kiln");
}

caf::error to_caf(error e) {
  auto code = static_cast<std::uint8_t>(e.code);
  return caf::error{code, category, caf::make_message(std::move(e))};
}

const error* wrapped_error(const caf::error& e) {
  if (e.category() != category || !e.context().match_elements<error>()) return nullptr;
  return &e.context().get_as<error>(0);
}

error from_caf(const caf::error& e) {
  if (const auto* wrapped = wrapped_error(e)) return *wrapped;
  auto text = caf::to_string(e);
  if (e.category() == caf::atom("system")) {
    switch (static_cast<caf::sec>(e.code())) {
      case caf::sec::request_timeout: return make_error(errc::deadline_exceeded, text);
      // What CAF answers when the handle was null: whoever was asked is being started again.
      case caf::sec::invalid_argument:
        return make_error(errc::unavailable, "whoever was asked is restarting, try again");
      case caf::sec::request_receiver_down:
      case caf::sec::remote_linking_failed:
      case caf::sec::cannot_connect_to_node: return make_error(errc::unavailable, text);
      default: return make_error(errc::internal, text);
    }
  }
  if (e.category() == caf::atom("exit")) {
    switch (static_cast<caf::exit_reason>(e.code())) {
      case caf::exit_reason::user_shutdown: return make_error(errc::cancelled, "shutting down");
      case caf::exit_reason::remote_link_unreachable: return make_error(errc::unavailable, text);
      default: return make_error(errc::internal, text);
    }
  }
  return make_error(errc::internal, text);
}

}  // namespace kiln
