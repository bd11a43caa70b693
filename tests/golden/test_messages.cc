// Every call between peers, with all its fields, as it looks on the wire: what was sent once means the same for ever. A field or
// a method that was added since is no difference; one that was moved, retyped or given another meaning's name is.

#include <capnp/dynamic.h>
#include <capnp/schema.h>
#include <kj/string.h>

#include "schemas/peer.capnp.h"
#include "tests/golden/golden.h"

using namespace realize;
using namespace realize::test;

namespace {

/// Each field gets another value, from `next` on; capabilities none.
void fillAll(capnp::DynamicStruct::Builder out, uint64_t& next);

capnp::DynamicValue::Reader valueFor(capnp::Type type, uint64_t& next) {
  const uint64_t number = ++next;
  switch (type.which()) {
    case capnp::schema::Type::BOOL: return true;
    case capnp::schema::Type::UINT8: return uint8_t(number);
    case capnp::schema::Type::UINT32: return uint32_t(number << 20);
    case capnp::schema::Type::UINT64: return number << 40;
    case capnp::schema::Type::ENUM: return capnp::DynamicEnum(type.asEnum(), 1);
    default: break;
  }
  FAIL("a type that no message had: say here how it is filled");
  return {};
}

void fillList(capnp::DynamicList::Builder list, uint64_t& next) {
  const auto type = list.getSchema().getElementType();
  for (unsigned i = 0; i < list.size(); ++i) {
    if (type.isStruct()) fillAll(list[i].as<capnp::DynamicStruct>(), next);
    else if (type.isData()) list.set(i, capnp::DynamicValue::Reader(capnp::Data::Reader(reinterpret_cast<const kj::byte*>("of a list"), 9)));
    else list.set(i, valueFor(type, next));
  }
}

void fillAll(capnp::DynamicStruct::Builder out, uint64_t& next) {
  for (auto field : out.getSchema().getFields()) {
    const auto type = field.getType();
    if (type.isInterface()) continue;
    if (type.isStruct()) {
      fillAll(out.init(field).as<capnp::DynamicStruct>(), next);
    } else if (type.isList()) {
      fillList(out.init(field, 2).as<capnp::DynamicList>(), next);
    } else if (type.isText()) {
      const auto text = kj::str("text ", ++next);
      out.set(field, capnp::DynamicValue::Reader(capnp::Text::Reader(text)));
    } else if (type.isData()) {
      const auto bytes = kj::str("data ", ++next);
      out.set(field, capnp::DynamicValue::Reader(bytes.asBytes()));
    } else {
      out.set(field, valueFor(type, next));
    }
  }
}

void check(const std::string& name, capnp::StructSchema type) {
  CAPTURE(name);
  capnp::MallocMessageBuilder now;
  uint64_t next = 0;
  auto root = now.initRoot<capnp::DynamicStruct>(type);
  fillAll(root, next);
  const auto text = kj::str(root.asReader());

  Recorded then(name, now);
  const std::string meant = Golden::instance().at(name + "-text", hexOf(std::string_view(text.begin(), text.size())));

  CHECK(std::string(kj::str((*then).getRoot<capnp::DynamicStruct>(type)).cStr()) == meant);
}

void checkAll(capnp::InterfaceSchema interface) {
  for (auto method : interface.getMethods()) {
    const std::string name = "call-" + std::string(interface.getShortDisplayName().cStr()) + "-" + method.getProto().getName().cStr();
    if (method.getParamType().getFields().size() > 0) check(name + "-params", method.getParamType());
    if (method.getResultType().getFields().size() > 0) check(name + "-results", method.getResultType());
  }
}

}  // namespace

TEST_CASE("every call between peers means what it meant") {
  checkAll(capnp::Schema::from<schema::PeerService>());
  checkAll(capnp::Schema::from<schema::ArenaService>());
}
