// What a result was made from: sources with what they resolved to, secrets, network. Pure.
// Source: BuildKit solver/llbsolver/provenance/capture.go.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"

namespace kiln::exporters {

struct captured_image {
  std::string ref;
  std::optional<kiln::platform> platform;
  std::string digest;
  bool local = false;    // from an OCI layout of the client
  bool is_blob = false;  // one blob of a repository
};

struct captured_git {
  std::string url;  // "remote#ref", credentials redacted
  std::string commit;
  std::string bundle;  // locator of the bundle it came from; empty: from the remote
};

struct captured_http {
  std::string url;
  std::string digest;
};

/// A secret or an SSH agent.
struct captured_secret {
  std::string id;
  bool optional = false;
};

/// Something that a step fetched through its proxy, or may have, which is no material.
struct captured_gap {
  std::string op;    // digest of the step, as the definition has it
  std::string name;  // its command
  std::string method, uri, reason;
};

struct capture {
  std::vector<captured_image> images;
  std::vector<captured_git> git;
  std::vector<captured_http> http;
  std::vector<std::string> locals;
  std::vector<captured_secret> secrets, ssh;
  bool network_access = false;
  bool incomplete_materials = false;
  bool proxy_network = false;  // a step had a proxy
  std::vector<captured_gap> gaps;

  /// A source op as it was resolved: `origin` in its normal form, `pin` the digest or commit.
  void add_source(const pb::SourceOp& op, const kiln::platform& p, const std::string& origin,
                  const std::string& pin);
  /// Any other op.
  void add_op(const pb::Op& op);
  /// A step that had a proxy, and what it fetched (messages/proxy_capture.hpp); nothing when nobody knows,
  /// which is a gap like others.
  void add_proxied(const std::string& op, const std::string& name, std::string_view fetched);
  void add_image(captured_image image);
  void add_git(captured_git git);
  void add_http(captured_http file);
  void add_local(const std::string& name);
  void add_secret(captured_secret secret);
  void add_ssh(captured_secret agent);
  void merge(const capture& other);

  /// Leaves out images by digest that are there by tag too, and sorts everything. Nothing is added after it.
  status finish();

 private:
  /// Whether something is new. `parts` tell it from all others of its kind.
  bool is_new(std::string_view kind, std::initializer_list<std::string_view> parts);
  using secret_places = std::map<std::string, std::size_t>;
  static void add_to(std::vector<captured_secret>& list, secret_places& places, captured_secret secret);

  std::set<std::string> known_;
  secret_places secret_places_, ssh_places_;
};

}  // namespace kiln::exporters
