#include "client/build/definition.hpp"

#include <fmt/format.h>

#include "base/digest.hpp"

namespace kiln::client {

result<pb::Definition> parse_definition(std::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return make_error(errc::invalid_argument, "failed to parse input: stdin is not an LLB definition");
  if (definition.def_size() == 0)
    return make_error(errc::invalid_argument, "empty definition sent to build. Specify --frontend instead?");
  return definition;
}

status ignore_cache(pb::Definition& definition) {
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(bytes)) return make_error(errc::invalid_argument, "failed to parse llb proto op");
    (*definition.mutable_metadata())[sha256(bytes).str()].set_ignore_cache(true);
  }
  return {};
}

result<std::map<std::string, std::string>> used_locals(const pb::Definition& definition,
                                                       const std::map<std::string, std::string>& locals) {
  constexpr std::string_view scheme = "local://";
  std::map<std::string, std::string> out;
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(bytes)) return make_error(errc::invalid_argument, "failed to parse llb proto op");
    if (!op.has_source() || !op.source().identifier().starts_with(scheme)) continue;
    auto name = op.source().identifier().substr(scheme.size());
    auto it = locals.find(name);
    if (it == locals.end())
      return make_error(errc::invalid_argument, fmt::format("local directory {} not enabled", name));
    out[name] = it->second;
  }
  return out;
}

}  // namespace kiln::client
