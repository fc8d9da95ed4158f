// Lets protobuf messages travel as actor messages: serialized when they leave the process, moved otherwise.
// In protobuf's namespace so that argument-dependent look-up finds it through the base class.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <type_traits>

#include <caf/error.hpp>
#include <caf/meta/load_callback.hpp>
#include <caf/sec.hpp>

namespace google::protobuf {

template <class Inspector, class T>
std::enable_if_t<std::is_base_of_v<Message, T>, typename Inspector::result_type> inspect(Inspector& f,
                                                                                         T& message) {
  if constexpr (Inspector::reads_state) {
    std::string bytes = message.SerializeAsString();
    return f(bytes);
  } else {
    std::string bytes;
    auto parse = [&]() -> caf::error {
      if (message.ParseFromString(bytes)) return caf::none;
      return caf::sec::invalid_argument;
    };
    return f(bytes, caf::meta::load_callback(parse));
  }
}

}  // namespace google::protobuf
