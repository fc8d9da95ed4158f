#include "messages/stack_text.hpp"

#include "base/json_text.hpp"

namespace kiln {

namespace {

std::string number_text(const nlohmann::json& object, const char* key) {
  const auto* found = member_of(object, key);
  if (!found || !found->is_number_integer()) return "0";
  return std::to_string(integer_value(*found).value_or(0));
}

}  // namespace

std::string stack_text(const error& e) {
  std::string out;
  for (const auto& detail : e.details) {
    if (detail.type_url != stack_detail_type) continue;
    auto stack = json_or_null(detail.value);
    if (!stack.is_object()) continue;
    out += number_text(stack, "pid") + " " + text_member(stack, "version");
    if (const auto* line = member_of(stack, "cmdline"); line && line->is_array())
      for (const auto& word : *line)
        if (word.is_string()) out += " " + text_value(word);
    out += "\n";
    if (const auto* frames = member_of(stack, "frames"); frames && frames->is_array())
      for (const auto& frame : *frames)
        out += text_member(frame, "Name") + "\n\t" + text_member(frame, "File") + ":" +
               number_text(frame, "Line") + "\n";
    out += "\n";
  }
  return out;
}

}  // namespace kiln
