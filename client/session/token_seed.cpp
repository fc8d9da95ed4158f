#include "client/session/token_seed.hpp"

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include <sys/file.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "client/fd.hpp"

namespace kiln::client {
namespace {

using nlohmann::json;

constexpr std::size_t seed_bytes = 16;
constexpr std::size_t seed_file_bytes_max = 4 << 20;

bool harmless(int err) { return err == EROFS || err == EACCES || err == EPERM; }

using key_ptr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

key_ptr private_key(std::string_view seed) {
  return {EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                       reinterpret_cast<const unsigned char*>(seed.data()), seed.size()),
          EVP_PKEY_free};
}

}  // namespace

result<std::string> load_token_seed(const std::string& directory, const std::string& host) {
  static std::mutex mutex;
  static std::map<std::string, std::string> known;  // for directories that cannot be written to
  std::lock_guard lock(mutex);
  std::error_code err;
  std::filesystem::create_directories(directory, err);

  unique_fd lock_fd(::open((directory + "/.token_seed.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_fd && !harmless(errno)) return errno_error(errno, "open " + directory + "/.token_seed.lock");
  if (lock_fd) {
    int locked;
    do locked = ::flock(lock_fd.get(), LOCK_EX);
    while (locked != 0 && errno == EINTR);
  }

  auto path = directory + "/.token_seed";
  json seeds = json::object();
  if (auto text = read_file(path, seed_file_bytes_max); text.ok()) {
    // A file torn by a crash only means a new seed.
    auto parsed = json_or_null(*text);
    if (parsed.is_object()) seeds = std::move(parsed);
  }
  if (const auto* known_seed = member_of(seeds, host))
    if (auto seed = base64_decode(text_member(*known_seed, "Seed")); seed && !seed->empty()) return *seed;

  auto& seed = known[host];
  if (seed.empty()) {
    seed.resize(seed_bytes);
    if (RAND_bytes(reinterpret_cast<unsigned char*>(seed.data()), static_cast<int>(seed.size())) != 1)
      return make_error(errc::internal, "no random bytes for a token seed");
  }
  seeds[host] = {{"Seed", base64_encode(seed)}};
  auto text = json_text(seeds, 2);
  unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) {
    if (harmless(errno)) return seed;
    return errno_error(errno, "open " + path);
  }
  KILN_CHECK(write_all(fd.get(), text));
  return seed;
}

std::string authority_key(std::string_view salt, std::string_view seed) {
  std::string out(32, '\0');
  unsigned length = 0;
  HMAC(EVP_sha256(), salt.data(), static_cast<int>(salt.size()),
       reinterpret_cast<const unsigned char*>(seed.data()), seed.size(),
       reinterpret_cast<unsigned char*>(out.data()), &length);
  return out;
}

std::string public_key_of(std::string_view private_seed) {
  auto key = private_key(private_seed);
  std::string out(32, '\0');
  std::size_t size = out.size();
  EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(out.data()), &size);
  return out;
}

std::string sign_message(std::string_view private_seed, std::string_view payload) {
  auto key = private_key(private_seed);
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::string out(64, '\0');
  std::size_t size = out.size();
  EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get());
  EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                 reinterpret_cast<const unsigned char*>(payload.data()), payload.size());
  return out.append(payload);
}

}  // namespace kiln::client
