// A small HTTP/1.1 server on a loopback port whose answers a test decides, rude ones included.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace kiln::test {

struct http_request {
  std::string method, target, path, query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string header(const std::string& name) const {
    auto it = headers.find(name);
    return it == headers.end() ? "" : it->second;
  }
};

struct http_answer {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::size_t send_only = std::string::npos;  // bytes of the body before the connection is cut
  bool hang = false;                          // send nothing more, keep the connection
  bool omit_length = false;
};

class http_server {
 public:
  using handler = std::function<http_answer(const http_request&)>;

  explicit http_server(handler h) : handler_(std::move(h)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::listen(listener_, 64);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~http_server() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      std::lock_guard lock(mutex_);
      for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (auto& t : connections_) t.join();
  }

  int port() const { return port_; }
  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url() const { return "http://" + host(); }
  std::vector<http_request> seen() const {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  int connections() const {
    std::lock_guard lock(mutex_);
    return static_cast<int>(connections_.size());
  }
  int count(const std::string& method, const std::string& path_part) const {
    auto all = seen();
    return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const auto& r) {
      return r.method == method && r.path.find(path_part) != std::string::npos;
    }));
  }

 private:
  void accept() {
    while (!stopping_) {
      int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) break;
      std::lock_guard lock(mutex_);
      open_.push_back(fd);
      connections_.emplace_back([this, fd] { serve(fd); });
    }
  }

  static bool send_all(int fd, const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      ssize_t n = ::send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return false;
      at += static_cast<std::size_t>(n);
    }
    return true;
  }

  void serve(int fd) {
    std::string buffer;
    while (one_request(fd, buffer)) {
    }
    std::lock_guard lock(mutex_);
    open_.remove(fd);
    ::close(fd);
  }

  bool more(int fd, std::string& buffer) {
    char chunk[64 << 10];
    ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
    if (n <= 0) return false;
    buffer.append(chunk, static_cast<std::size_t>(n));
    return true;
  }

  bool one_request(int fd, std::string& buffer) {
    std::size_t end;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos)
      if (!more(fd, buffer)) return false;
    http_request r;
    std::string head = buffer.substr(0, end);
    buffer.erase(0, end + 4);
    std::size_t line_end = head.find("\r\n");
    std::string first = head.substr(0, line_end);
    r.method = first.substr(0, first.find(' '));
    r.target = first.substr(r.method.size() + 1, first.rfind(' ') - r.method.size() - 1);
    r.path = r.target.substr(0, r.target.find('?'));
    if (r.target.size() > r.path.size()) r.query = r.target.substr(r.path.size() + 1);
    while (line_end != std::string::npos) {
      std::size_t begin = line_end + 2;
      line_end = head.find("\r\n", begin);
      std::string line = head.substr(begin, line_end == std::string::npos ? line_end : line_end - begin);
      std::size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      std::string name = line.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      r.headers[name] = line.substr(line.find_first_not_of(' ', colon + 1) == std::string::npos
                                        ? line.size()
                                        : line.find_first_not_of(' ', colon + 1));
    }
    if (r.header("expect") == "100-continue" && !send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n")) return false;
    std::size_t length = r.header("content-length").empty() ? 0 : std::stoul(r.header("content-length"));
    while (buffer.size() < length)
      if (!more(fd, buffer)) return false;
    r.body = buffer.substr(0, length);
    buffer.erase(0, length);
    {
      std::lock_guard lock(mutex_);
      seen_.push_back(r);
    }
    http_answer a = handler_(r);
    std::string out = "HTTP/1.1 " + std::to_string(a.status) + " X\r\n";
    bool has_length = false;
    for (const auto& [k, v] : a.headers) {
      out += k + ": " + v + "\r\n";
      has_length |= k == "Content-Length";
    }
    if (!has_length && !a.omit_length) out += "Content-Length: " + std::to_string(a.body.size()) + "\r\n";
    out += "\r\n";
    if (r.method != "HEAD") out += a.body.substr(0, a.send_only);
    if (!send_all(fd, out)) return false;
    if (a.hang) {
      pollfd p{fd, POLLIN | POLLRDHUP, 0};
      ::poll(&p, 1, -1);
      return false;
    }
    return a.send_only == std::string::npos && !a.omit_length;
  }

  handler handler_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<http_request> seen_;
  std::list<int> open_;
  std::list<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace kiln::test
