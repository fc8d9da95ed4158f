// A peer that says what is in the input, packet by packet, whatever it is asked.
#pragma once

#include <string>
#include <string_view>

#include "messages/session.hpp"
#include "tests/fuzz/support/input.hpp"

namespace kiln::fuzz {

class told_stream final : public message_stream {
 public:
  explicit told_stream(input& in) : in_(in) {}
  bool read(std::string& message) override {
    if (in_.empty()) return false;
    message = in_.packet();
    return true;
  }
  bool write(std::string_view) override { return true; }
  void writes_done() override {}
  status finish() override { return {}; }

 private:
  input& in_;
};

}  // namespace kiln::fuzz
