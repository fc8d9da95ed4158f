// The codecs behind store/archive/codec.hpp, one factory each. Private to store/.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "store/archive/codec.hpp"
#include "store/archive/decompress_input.hpp"

namespace kiln::store {

/// A gzip stream of several members.
class gzip_writer : public byte_sink {
 public:
  /// Members end after so many bytes by themselves, or not.
  enum class length { usual, any };
  /// What is written next begins a member, whose number this is.
  virtual result<std::size_t> cut(length of_next = length::usual) = 0;
  /// Returns when all members that have ended are in the output.
  virtual status drain() = 0;
  /// Where the members begin in the output. Complete after finish().
  virtual const std::vector<std::int64_t>& members() const = 0;
};

std::unique_ptr<gzip_writer> make_gzip_writer(int level, byte_sink& out, unsigned threads);
std::unique_ptr<byte_sink> make_zstd_writer(int level, byte_sink& out, unsigned threads);

/// By the magic of what is pending: a decoder of xz or bzip2, or null.
std::unique_ptr<byte_source> make_archive_decoder(const std::shared_ptr<decompress_input>& in);

}  // namespace kiln::store
