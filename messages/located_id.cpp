#include "messages/located_id.hpp"

namespace kiln {

located_id located_id::parse(std::string_view text) {
  auto mark = text.find('!');
  if (mark == std::string_view::npos) return {"", std::string(text)};
  return {std::string(text.substr(0, mark)), std::string(text.substr(mark + 1))};
}

std::string located_id::text() const { return node.empty() || id.empty() ? id : node + "!" + id; }

std::string retold(std::string_view text, std::string_view teller, std::string_view hearer) {
  auto told = located_id::parse(text);
  if (told.node.empty()) told.node = teller;
  if (told.node == hearer) told.node.clear();
  return told.text();
}

}  // namespace kiln
