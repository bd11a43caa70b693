#include "frontends/daemon/control_protocol.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "frontends/daemon/control_socket.h"

using namespace realize;
using namespace realize::daemon;
using nlohmann::json;

TEST_CASE("a request has an id, a verb and arguments") {
  auto request = parseRequest(R"({"id":7,"verb":"ls","args":{"path":"docs:","n":3,"long":true,"names":["a","b"]}})");

  REQUIRE(request);
  CHECK(request->id == 7);
  CHECK(request->verb == "ls");
  CHECK(*request->args.text("path") == "docs:");
  CHECK(*request->args.integer("n", 0, 0, 10) == 3);
  CHECK(*request->args.integer("m", 5, 0, 10) == 5);
  CHECK(*request->args.flag("long", false));
  CHECK(*request->args.texts("names") == std::vector<std::string>{"a", "b"});
}

TEST_CASE("requests that are none are refused") {
  for (std::string line : {"", "x", "[]", "{}", "{\"id\":1}", "{\"verb\":\"ls\"}", "{\"id\":-1,\"verb\":\"ls\"}",
                           "{\"id\":1.5,\"verb\":\"ls\"}", "{\"id\":1,\"verb\":2}", "{\"id\":1,\"verb\":\"ls\",\"args\":[]}",
                           "{\"id\":1,\"verb\":\"ls\"} x", "{\"id\":99999999999999999999,\"verb\":\"ls\"}"}) {
    CAPTURE(line);
    auto request = parseRequest(line);
    REQUIRE_FALSE(request);
    CHECK(request.code() == Code::InvalidArgument);
  }
  CHECK(parseRequest(std::string(kMaxRequestBytes + 1, ' ')).code() == Code::TooLarge);
  CHECK_FALSE(parseRequest(std::string(100'000, '[')));
  auto nested = [](int levels) {
    auto depth = static_cast<size_t>(levels);
    return parseRequest(R"({"id":1,"verb":"ls","args":{"x":)" + std::string(depth, '[') + std::string(depth, ']') + "}}");
  };
  CHECK(nested(kMaxNesting - 2));
  CHECK_FALSE(nested(kMaxNesting - 1));
}

TEST_CASE("arguments of another type are refused by name") {
  auto request = parseRequest(R"({"id":1,"verb":"x","args":{"a":1,"b":"s","c":[1],"z":"a\u0000b","big":18446744073709551615}})");
  REQUIRE(request);

  CHECK(request->args.text("a").error().message.find("'a'") != std::string::npos);
  CHECK_FALSE(request->args.text("missing"));
  CHECK_FALSE(request->args.integer("b", 0, 0, 1));
  CHECK_FALSE(request->args.integer("a", 0, 5, 9));
  CHECK_FALSE(request->args.integer("big", 0, 0, INT64_MAX));
  CHECK_FALSE(request->args.flag("a", false));
  CHECK_FALSE(request->args.texts("c"));
  CHECK_FALSE(request->args.text("z"));
}

TEST_CASE("any bytes survive the way through JSON") {
  for (std::string bytes : {std::string("plain"), std::string("caf\xc3\xa9"), std::string("\xff"), std::string("a\xc3"),
                            std::string("\\xff"), std::string("\\\xff"), std::string("\xed\xa0\x80"),
                            std::string("\xf4\x90\x80\x80"), std::string("\xc0\xaf"), std::string("new\nline\x01")}) {
    json object = json::object();
    putText(object, "path", bytes);
    auto back = parseObject(toLine(object));
    REQUIRE(back);
    CHECK(getText(*back, "path") == bytes);
    CHECK(object.contains("path_hex") == !isUtf8(bytes));
  }
}

TEST_CASE("printable text tells different names apart") {
  CHECK(printable("a\xff") == "a\\xff");
  CHECK(printable("\\xff") == "\\xff");          // UTF-8: itself, and without a _hex beside it
  CHECK(printable("\\x\xff") == "\\\\x\\xff");
  CHECK(printable("caf\xc3\xa9") == "caf\xc3\xa9");
}

TEST_CASE("every code survives the way through JSON") {
  for (int i = 0; i <= static_cast<int>(Code::Internal); ++i) {
    Error error{static_cast<Code>(i), "why"};
    Error back = errorFromJson(errorToJson(error));
    CHECK(back.code == error.code);
    CHECK(back.message == "why");
  }
  CHECK(errorFromJson(json{{"code", 5}}).code == Code::Internal);
}

TEST_CASE("lines are read whole however they are cut, with raw bytes between") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  std::string raw(100'000, 'r');
  raw[5] = '\n';
  std::thread writer([&] {
    for (char c : std::string("one\ntwo\n")) REQUIRE(sendAll(theirs.get(), std::string(1, c)));
    REQUIRE(sendAll(theirs.get(), "three\n" + raw + "four\nfi"));
    theirs.reset();
  });
  LineReader reader(ours.get(), 100);

  CHECK(**reader.line() == "one");
  CHECK(**reader.line() == "two");
  CHECK(**reader.line() == "three");
  std::vector<std::byte> got(raw.size());
  CHECK(reader.raw(got));
  CHECK((std::string(reinterpret_cast<char*>(got.data()), got.size()) == raw));
  CHECK(**reader.line() == "four");
  CHECK_FALSE(*reader.line());
  writer.join();
}

TEST_CASE("a line beyond the bound is refused without being kept") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  REQUIRE(sendAll(theirs.get(), std::string(101, 'x')));
  LineReader reader(ours.get(), 100);

  CHECK(reader.line().code() == Code::TooLarge);
}

TEST_CASE("only the daemon's owner and root may command it") {
  CHECK(mayCommand(1000, 1000));
  CHECK(mayCommand(0, 1000));
  CHECK_FALSE(mayCommand(1001, 1000));
  CHECK_FALSE(mayCommand(1000, 0));
}
