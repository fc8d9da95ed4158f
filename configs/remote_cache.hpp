// Limits of remote caches: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs {

/// Bytes of a cache manifest or cache config we read from a registry or directory.
/// Source: cache/remotecache/import.go, readBlob.
inline constexpr std::int64_t max_cache_blob_size = 1 << 20;
/// Bytes of a cache config kept as one object (s3, azblob, gha), which BuildKit does not bound.
inline constexpr std::int64_t max_cache_object_size = 64 << 20;
/// Records, layers, and inputs of all records together in one config.
inline constexpr std::size_t max_cache_records = 200'000;
inline constexpr std::size_t max_cache_layers = 200'000;
inline constexpr std::size_t max_cache_inputs = 2'000'000;
/// Layers of one result.
inline constexpr std::size_t max_result_layers = 1'024;
/// Bytes of a record's digest or a selector.
inline constexpr std::size_t max_cache_key_text = 1'024;
/// Manifests of an image index whose inline caches are read.
inline constexpr std::size_t max_inline_manifests = 128;
/// Indexes within the index.
inline constexpr int max_inline_index_depth = 2;
/// Bytes of one message to or from a client's content store.
inline constexpr std::size_t session_content_chunk = 1 << 20;
/// Answer time of a client asked about its content store.
inline constexpr std::chrono::milliseconds session_content_timeout{60'000};
/// How long to wait before asking again for a blob that another writer of a client's content store has: at
/// first, and at most.
inline constexpr std::chrono::milliseconds session_content_first_pause{10};
inline constexpr std::chrono::milliseconds session_content_pause{1'000};
/// Blobs written at a time by one cache export.
inline constexpr unsigned cache_upload_parallelism = 4;

/// GitHub's Actions cache: how long a request is patient with "too many requests", unless the import or
/// export says otherwise, and the pauses when the service names none: at first, and at most.
inline constexpr std::chrono::nanoseconds gha_patience = std::chrono::minutes(10);
inline constexpr std::chrono::milliseconds gha_first_pause{1'000};
inline constexpr std::chrono::milliseconds gha_longest_pause{90'000};
/// Bytes of one upload request (at most 32 MiB), and how many of one entry are under way.
inline constexpr std::int64_t gha_chunk_size = 32LL << 20;
inline constexpr unsigned gha_chunks_at_a_time = 4;
/// When somebody else is writing the next index: the pause before it is looked for again, and how long until
/// he is taken to have died over it. Source: gha.go, SaveMutable.
inline constexpr std::chrono::milliseconds gha_index_pause{2'000};
inline constexpr std::chrono::milliseconds gha_index_patience{15'000};
/// In the name of the host that speaks version 2 of the service, for clients that call its URL `url`.
inline constexpr const char* gha_version_2_host = "results-receiver.actions.githubusercontent.com";
/// GitHub's REST API, unless the environment's GITHUB_API_URL says otherwise; how it lists keys.
inline constexpr const char* github_api_url = "https://api.github.com";
inline constexpr int gha_keys_per_page = 100;
inline constexpr int gha_key_pages_max = 1'000;
/// Bytes of a signature of a cache.
inline constexpr std::int64_t cache_signature_size = 1 << 20;
/// Bytes of Sigstore's trusted root; the folder that its clients keep that of the public instance in.
inline constexpr std::int64_t sigstore_root_size = 4 << 20;
inline constexpr const char* sigstore_repository = "tuf-repo-cdn.sigstore.dev";
/// Attempts of a request to a blob at a signed URL; the pauses before them make 8 seconds together.
inline constexpr int signed_blob_attempts = 6;

/// Attempts of one request to an object store (s3, azblob), and the pause before the second; it doubles.
inline constexpr int object_store_attempts = 3;
inline constexpr std::chrono::milliseconds object_store_backoff{250};
/// Requests under way for one blob that goes up in parts.
inline constexpr unsigned object_parts_at_a_time = 5;
/// Bytes of one upload request, at least; larger blobs go in parts (5 MiB – 5 GiB), at most so many.
inline constexpr std::int64_t s3_part_size = 16LL << 20;
inline constexpr std::int64_t s3_parts_max = 10'000;
/// Bytes from which an object cannot be copied in one request.
inline constexpr std::int64_t s3_copy_size_max = 5LL << 30;
/// Age from which a cached blob that is still used is written anew. Source: s3.go, touchRefresh.
inline constexpr std::chrono::hours s3_touch_after{24};

/// Version of the Blob service we speak.
inline constexpr const char* azure_storage_version = "2020-10-02";
/// Bytes of one upload request, at least; larger blobs go in blocks (1 B – 4,000 MiB), at most so many.
inline constexpr std::int64_t azblob_block_size = 32LL << 20;
inline constexpr std::int64_t azblob_blocks_max = 50'000;
/// Who gives out tokens, unless AZURE_AUTHORITY_HOST says otherwise, and what they are for.
inline constexpr const char* azure_authority = "https://login.microsoftonline.com";
inline constexpr const char* azure_storage_scope = "https://storage.azure.com/.default";
inline constexpr const char* azure_storage_resource = "https://storage.azure.com/";
inline constexpr const char* azure_instance_metadata = "http://169.254.169.254";
/// Where Azure Arc's agent puts the keys it asks for, and how large they are.
inline constexpr const char* azure_arc_tokens = "/var/opt/azcmagent/tokens/";
inline constexpr std::int64_t azure_arc_key_size = 4 << 10;
/// Bytes of a file with a certificate and its key; how long what is signed with it is good.
inline constexpr std::int64_t azure_certificate_size = 1 << 20;
inline constexpr std::chrono::seconds azure_claim_life{600};
/// Hosts that are Azure's own end so: the daemon's token goes to these, and to the account that its
/// environment names. Source: Azure's public, China, US government and DNS-zone clouds.
inline constexpr const char* azure_storage_hosts[] = {".blob.core.windows.net", ".blob.core.chinacloudapi.cn",
                                                      ".blob.core.usgovcloudapi.net",
                                                      ".blob.storage.azure.net"};

/// Temporary keys and tokens are not used any more when so little of their life is left; those that come with
/// less are used for this long.
inline constexpr std::chrono::seconds secret_margin{300};
inline constexpr std::chrono::seconds secret_kept_at_least{10};
/// Bytes of a file with a token, of the tools' settings, of a login; of what is told of a helper's complaint.
inline constexpr std::int64_t token_file_size = 64 << 10;
inline constexpr std::int64_t aws_file_size = 1 << 20;
inline constexpr std::int64_t sso_login_size = 64 << 10;
inline constexpr std::size_t helper_error_size = 1'000;

/// Services of the machine or container we run in: they are near or absent. An answer may take longer than
/// reaching them: they ask others.
inline constexpr std::chrono::milliseconds machine_service_connect_timeout{1'000};
inline constexpr std::chrono::seconds machine_service_stall_timeout{5};
inline constexpr const char* aws_instance_metadata = "http://169.254.169.254";
inline constexpr const char* aws_instance_metadata_6 = "http://[fd00:ec2::254]";
inline constexpr const char* aws_container_agent = "http://169.254.170.2";
/// Who may be asked for a container's keys without TLS.
inline constexpr const char* aws_container_hosts[] = {"127.0.0.1",     "localhost",      "[::1]",
                                                      "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};

}  // namespace kiln::configs
