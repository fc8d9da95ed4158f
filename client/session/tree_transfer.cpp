#include "client/session/tree_transfer.hpp"

#include <unistd.h>

#include "filesync/receiver.hpp"
#include "filesync/sender.hpp"

namespace kiln::client {

status send_tree(message_stream& stream, const std::string& directory, const tree_filter& filter) {
  filesync::walk_options options;
  options.include_patterns = filter.include;
  options.exclude_patterns = filter.exclude;
  options.follow_paths = filter.follow;
  options.map = [](filesync::file_stat& s) {
    s.set_uid(0);
    s.set_gid(0);
    return filesync::map_verdict::keep;
  };
  KILN_TRY(auto tree, filesync::open_directory(directory, std::move(options)));
  return filesync::send(stream, *tree);
}

status receive_tree(message_stream& stream, const std::string& directory, bool mirror) {
  filesync::receive_options options;
  options.merge = !mirror;
  options.differ = mirror ? filesync::differ::none : filesync::differ::metadata;
  options.filter = [uid = ::getuid(), gid = ::getgid()](filesync::file_stat& s) {
    s.set_uid(uid);
    s.set_gid(gid);
    return true;
  };
  return filesync::receive(stream, directory, options);
}

}  // namespace kiln::client
