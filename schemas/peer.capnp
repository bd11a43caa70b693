@0xa263ffbb2e888d30;

# What two peers of one household say to each other over a secured connection (DESIGN 6). The connection has proven both
# identities before any of this; blob bytes do not travel here but in bulk frames that carry the request number given to
# ArenaService.get. Released fields are never renumbered or reused.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("realize::schema");

const protocolVersion :UInt32 = 1;

# One member of the household. The greater (stamp, writer) wins.
struct RosterEntry {
  key @0 :Data;            # Ed25519 public key, 32 bytes
  name @1 :Text;           # unique in the household, 1 to 64 bytes
  address @2 :Text;        # "host:port", or empty: does not listen
  removed @3 :Bool;        # once removed, a key must be invited again under a later stamp
  stamp @4 :UInt64;        # when it was changed, Unix time in ns at the writer, greater than what it replaced
  writer @5 :Data;         # key of who changed it, 32 bytes
}

# Who is admitted to an arena. Exchanged only among those admitted. The greater (stamp, writer) wins.
struct Admission {
  arena @0 :Data;          # arena id, 16 bytes
  arenaName @1 :Text;      # 1 to 64 bytes
  peer @2 :Data;           # Ed25519 public key, 32 bytes
  removed @3 :Bool;
  stamp @4 :UInt64;        # Unix time in ns
  writer @5 :Data;         # 32 bytes
}

# An arena that the sender runs and to which the receiver is admitted.
struct RunningArena {
  arena @0 :Data;          # arena id, 16 bytes
  life @1 :UInt64;         # random; another one after it was left and joined again, or after a restart
}

# All that the sender knows of the household and may tell the receiver.
struct HouseholdState {
  roster @0 :List(RosterEntry);      # at most 4096
  admissions @1 :List(Admission);    # of arenas to which the receiver is admitted; at most 16384
  running @2 :List(RunningArena);    # at most 4096
}

struct Hello {
  protocol @0 :UInt32;     # protocolVersion of the sender; the smaller of both is spoken
  name @1 :Text;           # how the sender would like to be called; counts when it is paired by invite
  address @2 :Text;        # where this peer listens, as it knows; empty: deaf
  life @3 :UInt64;         # random, of this process: two connections with one life come from one process
  state @4 :HouseholdState;
  program @5 :Text;        # version, for logs
  twin @6 :Bool;           # the sender has met two running processes with the receiver's identity, and goes on with none
}

interface PeerService {
  # The dialer's first call on a connection, and the only one before it is answered. With `refused` not empty the
  # connection is of no use and closes; the text is for people, `twin` as in Hello, and of `hello` only `life` is there.
  hello @0 (hello :Hello) -> (hello :Hello, refused :Text, twin :Bool);
  # The household, or what the sender runs, changed. Whole, and only sent if it differs from what was sent last.
  update @1 (state :HouseholdState) -> ();
  # Opens an arena that both run. Called by the side with the smaller key; each side passes its own service. An arena
  # opened again replaces what was open before. Fails where the caller is not admitted or the arena not running.
  openArena @2 (arena :Data, life :UInt64, service :ArenaService) -> (service :ArenaService);
}

# A version vector: parallel lists, ascending by origin, no origin zero.
struct Vector {
  origins @0 :List(UInt64);
  seqs @1 :List(UInt64);
}

struct ArenaState {
  origin @0 :UInt64;       # life of the sender's database
  vector @1 :Vector;       # all of it durable at the sender
  trimmed @2 :Vector;      # deletions up to here may be forgotten there
  digest @3 :Data;         # of the visible tree, 16 bytes
  missingFiles @4 :UInt64; # marked real there, bytes not there yet
  missingBytes @5 :UInt64; # bytes
  settling @6 :Bool;       # local changes not read yet, or received ones not in its folder yet
  suspended @7 :Bool;      # its folder is absent: it neither scans nor applies
}

struct Ack {
  peer @0 :Data;           # 32 bytes
  vector @1 :Vector;
}

# Whose database an origin is a life of, as the sender has heard; for people, nothing is decided by it.
struct Author {
  origin @0 :UInt64;
  peer @1 :Data;           # 32 bytes
}

struct BlobWant {
  blob @0 :Data;           # 32 bytes
  sizeBytes @1 :UInt64;
  chunks @2 :List(UInt32); # indices; empty: a blob of one chunk, whole
}

enum WantStatus {
  sent @0;
  missing @1;
  unreadable @2;
}

# One page of changes. Changes are encoded as librealize/model/codec.h says (encodeChanges), at most 4 MiB a page. If
# compressed, they are one Zstandard frame, at most 16 MiB unpacked. authors has the origins of these changes beyond the
# asking peer's vector, but the sender's own. acks, closed and clock come with done.
struct PullPage {
  changes @0 :Data;
  cursor @1 :Data;
  done @2 :Bool;
  vector @3 :Vector;       # to be joined when done
  trimmed @4 :Vector;
  acks @5 :List(Ack);
  closed @6 :List(UInt64);
  clock @7 :UInt64;
  compressed @8 :Bool;
  authors @9 :List(Author);
}

# All entries whose ids begin with the first digits (0 to 32, of four bits) of prefix, removed ones too.
struct IdRange {
  prefix @0 :Data;         # 16 bytes, zero past the digits
  digits @1 :UInt8;
}

struct RangeSum {
  range @0 :IdRange;
  entries @1 :UInt64;
  sum @2 :Data;            # 16 bytes: modulo 2^128, little-endian, the BLAKE2b-128 of each entry's encodeEntry() without
                           # replaced, and of ctx only what is beyond the vector
}

enum RangeOutcome {
  equal @0;
  sent @1;                 # all of it is among the changes
  split @2;                # it differs and is large: ask for its sixteen parts
}

enum KeepAnswer {
  refused @0;      # for a reason that is not said
  promised @1;
  notReal @2;      # the entry is not marked real
  incomplete @3;   # its bytes are not all here
  otherVersion @4; # another content is here, or the entry is not known
  changing @5;     # it was changed or put here a moment ago
  suspended @6;    # the arena is
}

interface ArenaService {
  announce @0 (state :ArenaState) -> ();
  # With barrier, local changes that the sender's watch has queued are read first.
  state @1 (barrier :Bool) -> (state :ArenaState);
  # One page of everything past the vector, which is joined only after the page with done. fresh: nothing is there yet but
  # what this batch brought. Refused where one side forgot removals (trimmed) that the other never saw: then compare.
  pull @2 (vector :Vector, trimmed :Vector, cursor :Data, fresh :Bool) -> PullPage;
  # Encoded as librealize/model/blob.h says; verified against the blob's id by the receiver.
  chunkList @3 (blob :Data, hops :UInt8) -> (list :Data);
  # The chunks come as bulk frames under the number given (chosen by the caller, unique on this connection and side).
  # The answer comes after the last frame was queued, with how many were; at most 512 wants and 8 MiB.
  # packs: several small chunks may share a frame (librealize/peer/chunk_pack.h).
  get @4 (request :UInt64, wants :List(BlobWant), interactive :Bool, hops :UInt8, packs :Bool) ->
      (statuses :List(WantStatus), frames :UInt32);
  # No more frames for this request are needed.
  cancel @5 (request :UInt64) -> ();
  # Will you keep these entries real, with these contents, for the next minute or until I say that I need it no more,
  # whatever happens here? `entries` has the entry's id (16 bytes) for each blob (32 bytes); without it nothing is promised.
  # `answers` say why not, one each; `copies` is how many peers the answering one wants to keep each file.
  promise @6 (blobs :List(Data), entries :List(Data)) ->
      (promised :List(Bool), answers :List(KeepAnswer), copies :UInt32);
  # Compares whole states (librealize/logic/AGREEMENT.md 18). The outcomes are of the first ranges, at least one; at most
  # 64 ranges are asked for.
  compare @7 (vector :Vector, ranges :List(RangeSum)) ->
      (origin :UInt64, outcomes :List(RangeOutcome), page :PullPage);
  # What was promised to the caller is needed no more: its own copies have gone, or stay.
  release @8 (blobs :List(Data), entries :List(Data)) -> ();
  # Which of these entries the sender has real, with these contents, as far as it knows without a look at its disk. At
  # most 512.
  holds @9 (blobs :List(Data), entries :List(Data)) -> (held :List(Bool));
  # Who says of itself, at exactly this vector and digest and with nothing settling, that it has none of these contents
  # whole: the one asked, and whoever it hears the same from by asking on, beyond `asked` (keys, 32 bytes; these are asked by
  # others). Nobody where the one asked cannot say so of itself. At most 512 blobs and 4096 keys.
  lacking @10 (vector :Vector, digest :Data, blobs :List(Data), asked :List(Data)) -> (peers :List(Data));
}
