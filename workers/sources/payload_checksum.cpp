#include "workers/sources/payload_checksum.hpp"

#include <memory>

#include <openssl/evp.h>

#include "base/text.hpp"
#include "store/files/confinement.hpp"
#include "store/files/regular_file.hpp"
#include "workers/sources/file_blocks.hpp"

namespace kiln::workers {

using moby::buildkit::v1::frontend::ChecksumRequest;

result<std::string> payload_checksum(const std::filesystem::path& directory, const std::string& name,
                                     const ChecksumRequest& question) {
  const EVP_MD* algorithm = nullptr;
  std::string prefix;
  switch (question.algo()) {
    case ChecksumRequest::CHECKSUM_ALGO_SHA256: algorithm = EVP_sha256(), prefix = "sha256:"; break;
    case ChecksumRequest::CHECKSUM_ALGO_SHA384: algorithm = EVP_sha384(), prefix = "sha384:"; break;
    case ChecksumRequest::CHECKSUM_ALGO_SHA512: algorithm = EVP_sha512(), prefix = "sha512:"; break;
    default:
      return make_error(errc::invalid_argument,
                        "unsupported checksum algorithm " + std::to_string(question.algo()));
  }
  KILN_TRY(auto root, store::open_confined(directory));
  auto file = store::open_regular_at(root.get(), name);
  if (!file.ok()) return std::move(file).error().with_context("http source payload");
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), algorithm, nullptr);
  KILN_CHECK(for_each_block(file->get(), "read " + name, [&](std::string_view bytes) -> status {
    EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
    return {};
  }));
  EVP_DigestUpdate(context.get(), question.suffix().data(), question.suffix().size());
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), sum, &size);
  return prefix + to_hex({reinterpret_cast<const char*>(sum), size});
}

}  // namespace kiln::workers
