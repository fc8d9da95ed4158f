#include "distribution/token_authority.hpp"

#include <memory>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "auth.pb.h"

namespace kiln::distribution {
namespace {

namespace pba = moby::filesync::v1;

constexpr std::size_t key_bytes = 32, signature_bytes = 64;  // of Ed25519

std::string random_bytes(std::size_t n) {
  std::string s(n, '\0');
  RAND_bytes(reinterpret_cast<unsigned char*>(s.data()), static_cast<int>(n));
  return s;
}

/// New with every start of the daemon, so that token authorities mean nothing to another one.
const std::string& process_salt() {
  static const std::string salt = random_bytes(32);
  return salt;
}

/// Whether `text` is a signature of the key's holder and, after it, `payload` (NaCl's crypto_sign).
bool signed_by(const std::string& public_key, std::string_view payload, std::string_view text) {
  if (text.size() != signature_bytes + payload.size() || text.substr(signature_bytes) != payload)
    return false;
  auto bytes = [](std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); };
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes(public_key), public_key.size()),
      &EVP_PKEY_free);
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> check(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  return key && check && EVP_DigestVerifyInit(check.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(check.get(), bytes(text), signature_bytes, bytes(payload), payload.size()) == 1;
}

}  // namespace

result<std::string> token_authority(session_caller& s, const std::string& host, std::stop_token stop) {
  pba::GetTokenAuthorityRequest request;
  request.set_host(host);
  request.set_salt(process_salt());
  auto answer = ask_auth<pba::GetTokenAuthorityResponse>(s, "GetTokenAuthority", request, stop);
  if (!answer.ok()) {
    auto code = answer.error().code;
    if (code == errc::unimplemented || code == errc::unavailable) return std::string();
    return std::move(answer).error();
  }
  if (answer->publickey().size() != key_bytes) return std::string();
  return answer->publickey();
}

result<bool> has_authority(session_caller& s, const std::string& host, const std::string& public_key,
                           std::stop_token stop) {
  pba::VerifyTokenAuthorityRequest request;
  request.set_host(host);
  request.set_salt(process_salt());
  request.set_payload(random_bytes(32));
  auto answer = ask_auth<pba::VerifyTokenAuthorityResponse>(s, "VerifyTokenAuthority", request, stop);
  if (!answer.ok()) {
    if (answer.error().code == errc::unimplemented) return false;
    return std::move(answer).error();
  }
  return signed_by(public_key, request.payload(), answer->signed_());
}

}  // namespace kiln::distribution
