#include "workers/proxy/judge.hpp"

#include "base/url.hpp"
#include "workers/proxy/target.hpp"

namespace kiln::workers::proxy {

result<std::string> judged_url(const judge& judge, const std::string& method, const std::string& url,
                               std::stop_token stop) {
  if (!judge) return url;
  pb::SourceOp source;
  source.set_identifier(url);
  KILN_TRY(source, judge(source, std::move(stop)));
  if (source.identifier() == url && source.attrs().empty()) return url;
  auto refused = [&](const std::string& why) {
    return make_error(errc::permission_denied, "source policy makes \"" + shown_url(source.identifier()) +
                                                   "\" of \"" + shown_url(url) + "\": " + why);
  };
  if (!source.attrs().empty()) return refused("a proxy can follow a change of the URL only");
  if (method != "GET") return refused("only a GET can be sent elsewhere, not a " + method);
  auto target = parse_url(source.identifier());
  if (!target.ok() || (target->scheme != "http" && target->scheme != "https"))
    return refused("that is no http or https URL");
  return source.identifier();
}

}  // namespace kiln::workers::proxy
