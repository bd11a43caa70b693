@0xd3a1f1f0c2b94e57;
# Only for the tests of connections.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("realize::test");

interface Echo {
  echo @0 (text :Data) -> (text :Data);
  # Calls `other` and answers with its answer in upper case... that is, whatever it said, twice.
  relay @1 (other :Echo, text :Data) -> (text :Data);
}
