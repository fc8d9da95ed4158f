#include "client/session/ssh_agent.hpp"

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "base/base64.hpp"

namespace kiln::client {
namespace {

template <class T, void (*Free)(T*)>
struct freer {
  void operator()(T* p) const { Free(p); }
};
using pkey_ptr = std::unique_ptr<EVP_PKEY, freer<EVP_PKEY, EVP_PKEY_free>>;
using bn_ptr = std::unique_ptr<BIGNUM, freer<BIGNUM, BN_clear_free>>;
using md_ptr = std::unique_ptr<EVP_MD_CTX, freer<EVP_MD_CTX, EVP_MD_CTX_free>>;
using pkey_context_ptr = std::unique_ptr<EVP_PKEY_CTX, freer<EVP_PKEY_CTX, EVP_PKEY_CTX_free>>;
using builder_ptr = std::unique_ptr<OSSL_PARAM_BLD, freer<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>>;
using params_ptr = std::unique_ptr<OSSL_PARAM, freer<OSSL_PARAM, OSSL_PARAM_free>>;

error bad_key(std::string why) { return make_error(errc::invalid_argument, std::move(why)); }

// Reads SSH wire data (RFC 4251 section 5); every read checks what is left.
class wire_reader {
 public:
  explicit wire_reader(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  std::uint32_t number() {
    if (rest_.size() < 4) return fail(), 0;
    std::uint32_t out = 0;
    for (int i = 0; i < 4; ++i)
      out = (out << 8) | static_cast<unsigned char>(rest_[static_cast<std::size_t>(i)]);
    rest_.remove_prefix(4);
    return out;
  }
  std::string_view text() {
    auto length = number();
    if (!ok_ || rest_.size() < length) return fail(), std::string_view();
    auto out = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return out;
  }
  bn_ptr integer() {
    auto bytes = text();
    return bn_ptr(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                            static_cast<int>(bytes.size()), nullptr));
  }

 private:
  void fail() {
    ok_ = false;
    rest_ = {};
  }
  std::string_view rest_;
  bool ok_ = true;
};

void put_number(std::string& out, std::size_t n) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>((n >> shift) & 0xFF));
}

void put_text(std::string& out, std::string_view text) {
  put_number(out, text.size());
  out += text;
}

void put_integer(std::string& out, const BIGNUM* n) {
  std::string bytes(static_cast<std::size_t>(BN_num_bytes(n)), '\0');
  BN_bn2bin(n, reinterpret_cast<unsigned char*>(bytes.data()));
  if (!bytes.empty() && (bytes[0] & 0x80)) bytes.insert(bytes.begin(), '\0');
  put_text(out, bytes);
}

bn_ptr parameter(const EVP_PKEY* key, const char* name) {
  BIGNUM* n = nullptr;
  EVP_PKEY_get_bn_param(key, name, &n);
  return bn_ptr(n);
}

struct curve {
  std::string_view ssh_name;  // in "ecdsa-sha2-<name>"
  const char* group;
  const EVP_MD* (*hash)();
};
constexpr curve curves[] = {{"nistp256", "prime256v1", EVP_sha256},
                            {"nistp384", "secp384r1", EVP_sha384},
                            {"nistp521", "secp521r1", EVP_sha512}};

result<std::string> digest_sign(EVP_PKEY* key, const EVP_MD* hash, std::string_view data) {
  md_ptr context(EVP_MD_CTX_new());
  std::size_t size = 0;
  auto bytes = reinterpret_cast<const unsigned char*>(data.data());
  if (EVP_DigestSignInit(context.get(), nullptr, hash, nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes, data.size()) != 1)
    return make_error(errc::internal, "cannot sign");
  std::string out(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, bytes,
                     data.size()) != 1)
    return make_error(errc::internal, "cannot sign");
  out.resize(size);
  return out;
}

class openssl_key : public agent_key {
 public:
  static result<std::shared_ptr<agent_key>> make(pkey_ptr key, std::string comment) {
    auto out = std::make_shared<openssl_key>();
    out->key_ = std::move(key);
    out->comment_ = std::move(comment);
    KILN_CHECK(out->describe());
    return std::shared_ptr<agent_key>(std::move(out));
  }

  const std::string& public_blob() const override { return blob_; }
  const std::string& comment() const override { return comment_; }

  result<std::string> sign(std::string_view data, std::uint32_t flags) const override {
    std::string out;
    if (EVP_PKEY_is_a(key_.get(), "RSA")) {
      constexpr std::uint32_t sha256_flag = 2, sha512_flag = 4;
      bool wide = flags & sha512_flag, medium = flags & sha256_flag;
      KILN_TRY(auto raw, digest_sign(key_.get(),
                                     wide     ? EVP_sha512()
                                     : medium ? EVP_sha256()
                                              : EVP_sha1(),
                                     data));
      put_text(out, wide ? "rsa-sha2-512" : medium ? "rsa-sha2-256" : "ssh-rsa");
      put_text(out, raw);
      return out;
    }
    if (!curve_) {
      KILN_TRY(auto raw, digest_sign(key_.get(), nullptr, data));
      put_text(out, "ssh-ed25519");
      put_text(out, raw);
      return out;
    }
    KILN_TRY(auto der, digest_sign(key_.get(), curve_->hash(), data));
    auto* at = reinterpret_cast<const unsigned char*>(der.data());
    std::unique_ptr<ECDSA_SIG, freer<ECDSA_SIG, ECDSA_SIG_free>> parts(
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
    if (!parts) return make_error(errc::internal, "cannot sign");
    std::string pair;
    put_integer(pair, ECDSA_SIG_get0_r(parts.get()));
    put_integer(pair, ECDSA_SIG_get0_s(parts.get()));
    put_text(out, fmt::format("ecdsa-sha2-{}", curve_->ssh_name));
    put_text(out, pair);
    return out;
  }

 private:
  status describe() {
    if (EVP_PKEY_is_a(key_.get(), "RSA")) {
      put_text(blob_, "ssh-rsa");
      put_integer(blob_, parameter(key_.get(), OSSL_PKEY_PARAM_RSA_E).get());
      put_integer(blob_, parameter(key_.get(), OSSL_PKEY_PARAM_RSA_N).get());
      return {};
    }
    if (EVP_PKEY_is_a(key_.get(), "ED25519")) {
      std::string raw(32, '\0');
      std::size_t size = raw.size();
      EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
      put_text(blob_, "ssh-ed25519");
      put_text(blob_, raw);
      return {};
    }
    if (EVP_PKEY_is_a(key_.get(), "EC")) {
      char group[64] = "";
      std::size_t length = 0;
      EVP_PKEY_get_group_name(key_.get(), group, sizeof group, &length);
      for (const auto& c : curves)
        if (std::string_view(group, length) == c.group) curve_ = &c;
      if (!curve_) return bad_key(fmt::format("unsupported elliptic curve {}", group));
      std::size_t size = 0;
      EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0, &size);
      std::string point(size, '\0');
      EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                      reinterpret_cast<unsigned char*>(point.data()), point.size(), &size);
      put_text(blob_, fmt::format("ecdsa-sha2-{}", curve_->ssh_name));
      put_text(blob_, curve_->ssh_name);
      put_text(blob_, point);
      return {};
    }
    return bad_key("unsupported kind of key");
  }

  pkey_ptr key_;
  const curve* curve_ = nullptr;
  std::string blob_;
  std::string comment_;
};

pkey_ptr from_params(const char* kind, OSSL_PARAM_BLD* builder) {
  params_ptr params(OSSL_PARAM_BLD_to_param(builder));
  pkey_context_ptr context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  if (params && context && EVP_PKEY_fromdata_init(context.get()) == 1)
    EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, params.get());
  return pkey_ptr(key);
}

pkey_ptr read_rsa(wire_reader& in) {
  auto n = in.integer(), e = in.integer(), d = in.integer(), iqmp = in.integer(), p = in.integer(),
       q = in.integer();
  if (!in.ok()) return nullptr;
  builder_ptr b(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(b.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(b.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  OSSL_PARAM_BLD_push_BN(b.get(), OSSL_PKEY_PARAM_RSA_D, d.get());
  return from_params("RSA", b.get());
}

pkey_ptr read_ecdsa(wire_reader& in) {
  auto name = in.text();
  auto point = in.text();
  auto secret = in.integer();
  if (!in.ok()) return nullptr;
  for (const auto& c : curves) {
    if (c.ssh_name != name) continue;
    builder_ptr b(OSSL_PARAM_BLD_new());
    OSSL_PARAM_BLD_push_utf8_string(b.get(), OSSL_PKEY_PARAM_GROUP_NAME, c.group, 0);
    OSSL_PARAM_BLD_push_octet_string(b.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
    OSSL_PARAM_BLD_push_BN(b.get(), OSSL_PKEY_PARAM_PRIV_KEY, secret.get());
    return from_params("EC", b.get());
  }
  return nullptr;
}

pkey_ptr read_ed25519(wire_reader& in) {
  in.text();  // the public half again
  auto secret = in.text();
  if (!in.ok() || secret.size() != 64) return nullptr;
  return pkey_ptr(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                               reinterpret_cast<const unsigned char*>(secret.data()), 32));
}

// Source: openssh PROTOCOL.key.
result<std::shared_ptr<agent_key>> parse_openssh(std::string_view body, const std::string& comment) {
  constexpr std::string_view magic("openssh-key-v1\0", 15);
  if (!body.starts_with(magic)) return bad_key("not an OpenSSH private key");
  wire_reader in(body.substr(magic.size()));
  auto cipher = in.text();
  in.text();  // key derivation
  in.text();  // its options
  auto count = in.number();
  in.text();  // public key
  auto secret = in.text();
  if (!in.ok() || count != 1) return bad_key("malformed OpenSSH private key");
  if (cipher != "none") return bad_key("this private key is passphrase protected");
  wire_reader keys(secret);
  if (keys.number() != keys.number()) return bad_key("malformed OpenSSH private key");
  auto kind = keys.text();
  pkey_ptr key = kind == "ssh-ed25519"             ? read_ed25519(keys)
                 : kind == "ssh-rsa"               ? read_rsa(keys)
                 : kind.starts_with("ecdsa-sha2-") ? read_ecdsa(keys)
                                                   : nullptr;
  if (!key) return bad_key(fmt::format("unsupported or malformed key of type \"{}\"", kind));
  auto own_comment = std::string(keys.text());
  return openssl_key::make(std::move(key), own_comment.empty() ? comment : own_comment);
}

}  // namespace

result<std::shared_ptr<agent_key>> parse_private_key(std::string_view text, const std::string& comment) {
  constexpr std::string_view begin = "-----BEGIN OPENSSH PRIVATE KEY-----";
  constexpr std::string_view end = "-----END OPENSSH PRIVATE KEY-----";
  if (auto at = text.find(begin); at != std::string_view::npos) {
    auto body = text.substr(at + begin.size());
    body = body.substr(0, body.find(end));
    std::string encoded;
    for (char c : body)
      if (!std::isspace(static_cast<unsigned char>(c))) encoded.push_back(c);
    auto decoded = base64_decode(encoded);
    if (!decoded) return bad_key("OpenSSH private key is not valid base64");
    return parse_openssh(*decoded, comment);
  }
  std::unique_ptr<BIO, freer<BIO, BIO_free_all>> bio(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  bool asked = false;
  auto refuse = [](char*, int, int, void* flag) {
    *static_cast<bool*>(flag) = true;
    return -1;
  };
  pkey_ptr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse, &asked));
  if (asked) return bad_key("this private key is passphrase protected");
  if (!key) return bad_key("no private key found");
  return openssl_key::make(std::move(key), comment);
}

bool agent_request_allowed(std::string_view request) {
  if (request.empty()) return false;
  auto kind = static_cast<unsigned char>(request[0]);
  return kind == agent_message::request_identities || kind == agent_message::sign_request;
}

std::string answer_agent_request(const std::vector<std::shared_ptr<agent_key>>& keys,
                                 std::string_view request) {
  std::string failure(1, static_cast<char>(agent_message::failure));
  if (!agent_request_allowed(request)) return failure;
  if (static_cast<unsigned char>(request[0]) == agent_message::request_identities) {
    std::string out(1, static_cast<char>(agent_message::identities_answer));
    put_number(out, keys.size());
    for (const auto& key : keys) {
      put_text(out, key->public_blob());
      put_text(out, key->comment());
    }
    return out;
  }
  wire_reader in(request.substr(1));
  auto blob = in.text();
  auto data = in.text();
  auto flags = in.number();
  if (!in.ok()) return failure;
  for (const auto& key : keys) {
    if (key->public_blob() != blob) continue;
    auto signature = key->sign(data, flags);
    if (!signature.ok()) return failure;
    std::string out(1, static_cast<char>(agent_message::sign_response));
    put_text(out, *signature);
    return out;
  }
  return failure;
}

}  // namespace kiln::client
