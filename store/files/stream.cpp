#include "store/files/stream.hpp"

#include "configs/store.hpp"

namespace kiln::store {

result<std::int64_t> copy(byte_source& source, byte_sink& sink) {
  std::string buffer(limits::copy_buffer, '\0');
  std::int64_t moved = 0;
  while (true) {
    KILN_TRY(auto count, source.read(buffer));
    if (count == 0) return moved;
    KILN_CHECK(sink.write({buffer.data(), count}));
    moved += static_cast<std::int64_t>(count);
  }
}

}  // namespace kiln::store
