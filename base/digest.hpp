// Content digests ("sha256:<64 hex>") and the random identifiers of the protocol.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln {

/// A digest string: "<algorithm>:<lower-case hex>". Empty when unset.
/// `random:` digests (local sources) never leave the process. Source: OCI image-spec descriptor.md.
class digest {
 public:
  digest() = default;

  /// Checks algorithm and length (sha256, sha384, sha512, random); invalid_argument otherwise.
  static result<digest> parse(std::string_view text);
  /// Takes text that is known to be a digest, e.g. because we computed it.
  static digest trusted(std::string text) {
    digest d;
    d.text_ = std::move(text);
    return d;
  }

  const std::string& str() const noexcept { return text_; }
  std::string_view algorithm() const { return std::string_view(text_).substr(0, text_.find(':')); }
  std::string_view hex() const {
    auto colon = text_.find(':');
    return colon == std::string::npos ? std::string_view{} : std::string_view(text_).substr(colon + 1);
  }
  bool empty() const noexcept { return text_.empty(); }
  explicit operator bool() const noexcept { return !empty(); }

  auto operator<=>(const digest&) const = default;

  template <class Inspector>
  friend auto inspect(Inspector& f, digest& x) {
    return f(x.text_);
  }

 private:
  std::string text_;
};

/// SHA-256 of the bytes, as a digest.
digest sha256(std::string_view bytes);

/// Incremental SHA-256 (OpenSSL EVP). Not thread-safe.
class sha256_hasher {
 public:
  sha256_hasher();
  ~sha256_hasher();
  sha256_hasher(sha256_hasher&& other) noexcept;
  sha256_hasher& operator=(sha256_hasher&& other) noexcept;

  void update(std::string_view bytes);
  /// Ends the computation; the hasher is then as new.
  digest finish();

 private:
  void* context_;
};

/// A fresh identifier as the protocol uses for refs, sessions, containers and results:
/// 25 lower-case base-36 characters from 17 random bytes. Source: wire.md section 1.
std::string new_id();

}  // namespace kiln

template <>
struct std::hash<kiln::digest> {
  std::size_t operator()(const kiln::digest& d) const noexcept { return std::hash<std::string>{}(d.str()); }
};
