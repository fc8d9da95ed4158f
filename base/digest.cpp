#include "base/digest.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"

namespace kiln {

namespace {

bool is_lower_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::size_t hex_length_of(std::string_view algorithm) {
  if (algorithm == "sha256" || algorithm == "random") return 64;
  if (algorithm == "sha384") return 96;
  if (algorithm == "sha512") return 128;
  return 0;
}

std::string hex_of(const std::array<unsigned char, 32>& sum) {
  return to_hex({reinterpret_cast<const char*>(sum.data()), sum.size()});
}

EVP_MD_CTX* context_of(void* p) { return static_cast<EVP_MD_CTX*>(p); }

}  // namespace

result<digest> digest::parse(std::string_view text) {
  auto colon = text.find(':');
  if (colon == std::string_view::npos)
    return make_error(errc::invalid_argument, "invalid digest \"" + std::string(text) + "\": no algorithm");
  auto length = hex_length_of(text.substr(0, colon));
  if (length == 0)
    return make_error(errc::invalid_argument,
                      "invalid digest \"" + std::string(text) + "\": unsupported algorithm");
  auto hex = text.substr(colon + 1);
  if (hex.size() != length || !is_lower_hex(hex))
    return make_error(errc::invalid_argument, "invalid digest \"" + std::string(text) + "\": malformed hash");
  return trusted(std::string(text));
}

digest sha256(std::string_view bytes) {
  std::array<unsigned char, 32> sum;
  EVP_Digest(bytes.data(), bytes.size(), sum.data(), nullptr, EVP_sha256(), nullptr);
  return digest::trusted("sha256:" + hex_of(sum));
}

sha256_hasher::sha256_hasher() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_of(context_), EVP_sha256(), nullptr);
}

sha256_hasher::~sha256_hasher() { EVP_MD_CTX_free(context_of(context_)); }

sha256_hasher::sha256_hasher(sha256_hasher&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)) {}

sha256_hasher& sha256_hasher::operator=(sha256_hasher&& other) noexcept {
  std::swap(context_, other.context_);
  return *this;
}

void sha256_hasher::update(std::string_view bytes) {
  EVP_DigestUpdate(context_of(context_), bytes.data(), bytes.size());
}

digest sha256_hasher::finish() {
  std::array<unsigned char, 32> sum;
  EVP_DigestFinal_ex(context_of(context_), sum.data(), nullptr);
  EVP_DigestInit_ex(context_of(context_), EVP_sha256(), nullptr);
  return digest::trusted("sha256:" + hex_of(sum));
}

std::string new_id() {
  static constexpr char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::array<unsigned char, 17> number;
  RAND_bytes(number.data(), number.size());
  number[0] |= 0x80;  // the top bit makes every identifier equally long
  std::string text;
  for (int i = 0; i < 26; ++i) {  // 136 bits are 27 base-36 digits; the upper ones are dropped
    unsigned remainder = 0;
    for (auto& byte : number) {
      unsigned current = remainder << 8 | byte;
      byte = static_cast<unsigned char>(current / 36);
      remainder = current % 36;
    }
    text += digits[remainder];
  }
  text.resize(25);
  std::reverse(text.begin(), text.end());
  return text;
}

}  // namespace kiln
