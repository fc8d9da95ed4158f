// Which parts of which instruction have variables.
#include "frontends/dockerfile/instructions.hpp"

namespace kiln::dockerfile {

namespace {

struct expanding {
  const word_expander& expand;

  status text(std::string& word) const {
    KILN_TRY(word, expand(word));
    return {};
  }
  status list(std::vector<std::string>& words) const {
    for (auto& word : words) KILN_CHECK(text(word));
    return {};
  }
  status pairs(std::vector<key_value>& all) const {
    for (auto& pair : all) {
      KILN_CHECK(text(pair.key));
      KILN_CHECK(text(pair.value));
    }
    return {};
  }
  status places(sources_and_dest& s) const {
    KILN_CHECK(list(s.paths));
    return text(s.dest);
  }

  status operator()(env_instruction& i) const { return pairs(i.pairs); }
  status operator()(label_instruction& i) const { return pairs(i.pairs); }
  status operator()(add_instruction& i) const {
    KILN_CHECK(text(i.chown));
    KILN_CHECK(text(i.chmod));
    KILN_CHECK(text(i.checksum));
    return places(i);
  }
  status operator()(copy_instruction& i) const {
    KILN_CHECK(text(i.chown));
    KILN_CHECK(text(i.chmod));
    return places(i);
  }
  status operator()(workdir_instruction& i) const { return text(i.path); }
  status operator()(user_instruction& i) const { return text(i.user); }
  status operator()(volume_instruction& i) const { return list(i.volumes); }
  status operator()(stopsignal_instruction& i) const { return text(i.signal); }
  status operator()(run_instruction& i) const {
    for (std::size_t k = 0; k < i.mount_flags.size(); ++k) {
      KILN_TRY(i.mounts[k], parse_run_mount(i.mount_flags[k], expand));
    }
    return {};
  }
  template <class Other>
  status operator()(Other&) const {
    return {};
  }
};

}  // namespace

status expand_words(instruction& i, const word_expander& expand) { return std::visit(expanding{expand}, i); }

status expand_raw(instruction& i, const word_expander& expand) {
  sources_and_dest* places = std::get_if<add_instruction>(&i);
  if (places == nullptr) places = std::get_if<copy_instruction>(&i);
  if (places == nullptr) return {};
  for (auto& source : places->inlines) {
    if (!source.expand) continue;
    KILN_TRY(source.data, expand(source.data));
  }
  return {};
}

}  // namespace kiln::dockerfile
