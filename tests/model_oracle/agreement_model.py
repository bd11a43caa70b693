#!/usr/bin/env python3
"""Executable model of librealize's agreement rules: a replicated tree, and a random search that attacks it.

State of a peer: entries by id, a vector V, a trim vector T, acknowledgements.  State of an entry:
  live   dots that claim the name      (create, write, rename replace those seen by one new dot; delete empties it)
  heads  dot -> version                (a write replaces those seen; a delete does not remove them)
  tombs  dot -> head dots let go       (a delete; replaced by a later write or delete that saw it)
         A delete that has not seen all heads claims the name for the sake of the others, with its own dot: a tomb's dot
         in live. Any later local claim or delete takes that over, and it ends when the last of them is let go.
  place  (stamp, parent, name, old parent, old name), the greatest stamp wins; no log
  touch  origin -> last sequence number of any change to this entry: what a sync request is matched against
  ctx    what this entry has seen beyond V: non-empty only after a batch that broke off
What is shown (`View`) is a pure function of the entries: who is alive, where, under which suffix, cycles broken.

An oracle keeps, apart from all vectors, the true set of events each peer has seen of each entry, and at the end
every peer must show exactly what the oracle derives (alive, heads), all peers the same, and syncing again sends 0.
  python3 agreement_model.py --seeds 0..20000            the rules
  python3 agreement_model.py --seeds 0..20000 --without ctx    one rule taken out: must find a counterexample
Deterministic per seed.  Rules that can be taken out: see RULES.  Taking out "stable", "order" or "live-only" alone
finds nothing in 20000 seeds: tcheck covers for the first, and the checks see the other two rarely or not at all.
Batches come in pages and are resumed (Peer.pages); late changes, read from a disk after other changes arrived, have seen
only what was there when they were made (`base`), and of several versions only the one that the disk had.
Left out: wall clocks, disks, case folding, directory attributes, cloned live peers, an interrupted whole-state exchange.
"""
import argparse, copy, functools, hashlib, random, sys

RULES = {
    "whole-batch": "V advances only when a batch is complete",
    "order": "within a batch directories come before their children, contents before links",
    "ctx": "an entry from a broken batch carries its own context",
    "stable": "an acknowledgement counts only once all that its sender had seen is here too",
    "chain": "an entry travels with those of its ancestors and link targets that are not alive",
    "tcheck": "peers that do not cover each other's T exchange whole state",
    "inherit": "who took whole state has, like its source, no record of what was trimmed: T joins",
    "reissue": "what survives a return is written and placed again, freshly stamped",
    "back": "what was forgotten and is needed for what stands in it is placed again, too: others may have it elsewhere",
    "as-is": "an entry alive there and without any record here is taken as it is",
    "new-origin": "every life of a database that changes something is a new origin",
    "ghosts": "a delete keeps the versions it let go until it is stable",
    "cycle": "the view breaks cycles",
    "own-move": "a move places again what stands above its new place because of a cycle, which it would close again",
    "orphans": "dots of a closed origin that can no longer be completed are issued again by who holds them",
    "issue-once": "... and of several that are the same version, one",
    "lost-life": "... also of a peer that goes on without its database: whoever has all that it has closes its earlier lives",
    "own-lives": "... and so does it itself",
    "live-only": "n counts past ids shown elsewhere, not past dead ones",
    "base": "a late change lets go only what was there when it was made",
    "same-version": "... and what is the same version as its disk has, under whatever dots",
    "for-others": "who lets go some of the versions claims the name for the others",
    "always": "it does so also where another claim is left, which another delete may take",
    "no-others": "such a claim ends when no version is left that nobody let go",
    "snapshot": "a resumed batch completes what the sender had when it began, not what it has at the end",
    "own-last": "a batch goes through the sender's own origin last, where touches issued again turn up",
    "no-bound": "a batch goes through each origin to its end, past the snapshot: touches move up while it runs",
    "sent-before": "only a touch between base and snapshot proves that an entry was sent earlier in the batch",
    "life": "a cursor is good only for the life of the sender that gave it",
    "still": "a comparison of whole states is good only while neither side trims",
    "alone": "... and while nothing is taken from others",
    "fingerprint": "ranges with equal fingerprints are not sent",
    "fresh": "who has nothing yet takes an ordinary batch, whatever was trimmed",
    "fresh-still": "... unless the sender trims before it is complete",
    "fresh-one": "... or another sender's batch has begun, too",
    "gone": "what is removed here and forgotten by somebody is taken as it comes: what let its versions go may be missing here",
    "gone-whole": "... also in a comparison of whole states",
    "gone-shown": "... but nobody has forgotten what is shown for what stands in it, or has a name left: it is merged",
    "forgotten": "touches forgotten when an entry was issued again do not come back with another's state of it",
    "forgotten-beyond": "... also where they are of what was seen of that entry only, as of a closed origin",
    "copy-id": "the id of a version's copy follows from its entry and its content, not from a path",
    "copy-once": "a version whose copy is shown is not copied again",
    "let-go-there": "of what survives a return, versions go that were let go there and are forgotten with the entry",
    "new-heads": "versions that were never seen there keep their dots",
    "still-let-go": "if all of them were let go there, they are so when they are issued again",
    "let-go-here": "... or here, though some were never seen there",
    "claims-there": "what was claimed for the sake of versions that were let go there does not survive a return",
    "sure": "what is not known there is new here, if nothing was trimmed there that was not seen here",
    "same-vector": "two with the same vector that show not the same tree compare whole states: one has a part of a batch whose sender is gone",
}
OFF = set()
RETURNS = False   # the search with peers that are away for long
RESTORES = False  # the search with backups that come back often
LOSSES = False    # ... and with databases that are lost
GONE = False      # the search with a peer that is gone for ever
MOVES = False     # the search with folders that are moved into each other
CONFLICTS = False # the search with few files that many edit, and peers that settle conflicts by themselves
def on(rule): return rule not in OFF
ROOT = "root"

@functools.lru_cache(None)
def make_id(parent, name, kind, n):
    return hashlib.blake2b(repr((parent, name, kind, n)).encode(), digest_size=16).hexdigest()

def content(version): return version[0]            # names it, the same on all peers
def at_range(i): return int(i[0], 16) % 4          # ranges of ids, for comparing whole states
def covers(v, dot): return v.get(dot[0], 0) >= dot[1]
def geq(a, b): return all(a.get(o, 0) >= s for o, s in b.items())
def join(a, b):
    r = dict(a)
    for o, s in b.items():
        if s > r.get(o, 0): r[o] = s
    return r

class Entry:
    def __init__(self, kind):
        self.kind, self.live, self.heads, self.tombs = kind, frozenset(), {}, {}
        self.place, self.touch, self.ctx = None, {}, {}
    def copy(self):
        e = Entry(self.kind); e.__dict__.update(self.__dict__); return e
    def gone(self): return set().union(*self.tombs.values()) if self.tombs else set()
    def real_heads(self): return {d: v for d, v in self.heads.items() if d not in self.gone()}
    def shown_heads(self): return self.real_heads() or (self.heads if on("ghosts") else {})
    def for_others(self): return self.live & self.tombs.keys()   # claims for the sake of heads that a delete did not see
    def end_claims(self):
        if on("no-others") and self.live and self.live <= self.tombs.keys() and not self.real_heads(): self.live = frozenset()

def merge(mine, my_seen, theirs, their_seen):
    """The join of two states of one entry. *_seen: the vector each side has seen of this entry."""
    def keep(a, b):   # observed-remove: absent there but covered there means replaced there
        return {d for d in a if d in b or not covers(their_seen, d)} | {d for d in b if d in a or not covers(my_seen, d)}
    e = Entry(mine.kind)
    e.live = frozenset(keep(mine.live, theirs.live))
    e.heads = {d: mine.heads.get(d, theirs.heads.get(d)) for d in keep(mine.heads, theirs.heads)}
    e.tombs = {d: mine.tombs.get(d, theirs.tombs.get(d)) for d in keep(mine.tombs, theirs.tombs)}
    e.place = max((p for p in (mine.place, theirs.place) if p), default=None)
    e.touch, e.ctx = join(mine.touch, theirs.touch), join(my_seen, their_seen)
    e.end_claims()
    return e

class View:
    """What a peer shows: where[id] = (parent, shown name); kids[parent] = {shown name: id}."""
    def __init__(self, entries):
        parent = {i: e.place[1] for i, e in entries.items()}
        name = {i: e.place[2] for i, e in entries.items()}
        step = {}
        while on("cycle"):                       # in each cycle the latest move falls back: to where it came from
            cyc = self._cycles(parent, entries)  # if that directory is alive, else to the root
            if not cyc: break
            for c in cyc:
                i = max(c, key=lambda j: (step.get(j, 0) == 0, entries[j].place[0], j))
                old = entries[i].place[3]
                if step.get(i, 0) == 0 and (old == ROOT or (old in entries and entries[old].live)):
                    parent[i], name[i], step[i] = old, entries[i].place[4], 1
                else:
                    parent[i], step[i] = ROOT, 2
        self.displaced = {i for i in step if (parent[i], name[i]) != entries[i].place[1:3]}
        need, self.cyclic = set(), False
        for i, e in entries.items():             # alive, and the directories above it: and only those
            if not e.live: continue
            path, j = [], i
            while j != ROOT and j in entries and j not in path: path.append(j); j = parent[j]
            if j == ROOT: need.update(path)
            elif j in entries: self.cyclic = True
        self.where, self.kids = {}, {ROOT: {}}
        claims = {}
        for i in need: claims.setdefault(parent[i], {}).setdefault(name[i], []).append(i)
        for p, names in claims.items():
            out = self.kids.setdefault(p, {})
            losers = []
            for nm, ids in names.items():
                ids.sort(key=lambda i: (entries[i].place[0], i))   # the earlier placed keeps the name
                out[nm] = ids[0]; losers += [(entries[i].place[0], i, nm) for i in ids[1:]]
            for _, i, nm in sorted(losers):
                k = 4
                while f"{nm}~{i[:k]}" in out: k += 1
                out[f"{nm}~{i[:k]}"] = i
            for nm, i in out.items(): self.where[i] = (p, nm)
    @staticmethod
    def _cycles(parent, entries):
        state, out = {}, []
        for s in parent:
            path, i = [], s
            while i != ROOT and i in parent and i not in state: state[i] = s; path.append(i); i = parent[i]
            if i in parent and state[i] == s and i in path: out.append(path[path.index(i):])
        return out

class Peer:
    def __init__(self, name, world):
        self.name, self.life, self.world = name, 0, world
        self.entries, self.V, self.T, self.acks, self.seq, self.hlc = {}, {}, {}, {}, 0, 0
        self.inactive, self.truth, self.closed = set(), {}, set()
        self.batches = {}                        # sender -> cursor of the batch that broke off
        self.wholes = {}                         # sender -> what is there of a comparison of whole states
    @property
    def origin(self): return f"{self.name}{self.life}"
    def view(self): return View(self.entries)
    def seen(self, i): return join(self.V, self.entries[i].ctx) if i in self.entries and on("ctx") else self.V

    # --- local changes -----------------------------------------------------------------------------------------
    def change(self, i, kind=None, claim=False, write=None, delete=False, let_go=False, place=None, base=None):
        """base: (dots, events) that the change has seen, where that is not everything here."""
        e = self.entries[i] = self.entries[i].copy() if i in self.entries else Entry(kind)
        self.seq += 1; dot = (self.origin, self.seq); self.V = join(self.V, {dot[0]: dot[1]})
        e.touch = join(e.touch, {dot[0]: dot[1]})
        own = frozenset()                        # own claims that come with no content are no news to a late change
        if base and all(d in base[0] for d in e.real_heads()):
            own = frozenset(d for d in e.live if d[0] == dot[0] and d not in e.heads)
        saw = (lambda d: d in base[0] or d in own) if base and on("base") else (lambda d: True)
        taken_over = e.for_others() if claim or let_go else frozenset()
        if claim: e.live = frozenset([dot]) | {d for d in e.live - taken_over if not saw(d)}
        if write is not None:
            e.heads = {d: v for d, v in e.real_heads().items() if not saw(d)}
            e.heads[dot], e.tombs = write, {}
        partly = False
        if delete:
            e.live = frozenset(d for d in e.live - taken_over if not saw(d))
            if let_go:
                gone = e.gone()                  # ghosts stay, too: a delete elsewhere may have let go the others
                gone = frozenset(d for d in e.heads if saw(d) or d in gone)
                partly = any(d not in gone for d in e.heads)
                e.tombs = {dot: gone} if gone or partly else {}
                if partly and (on("for-others") and (on("always") or not e.live)): e.live |= {dot}
            e.end_claims()
        if place:
            self.hlc += 1
            old = (e.place[1], e.place[2]) if e.place else (ROOT, place[1])
            e.place = ((self.hlc, self.origin),) + place + (self.shown_at.get(i, old))
        past = self.truth.get(i, frozenset())
        if base:                                 # and what those claims had seen
            claims = {x for x in past if self.world.events[x][5] in own}
            past = base[1].union(claims, *(self.world.events[x][4] for x in claims))
        ev = (self.name, self.life, next(self.world.counter), i)
        self.world.events[ev] = (claim, write, delete, let_go, past, dot, partly)
        self.truth[i] = self.truth.get(i, frozenset()) | {ev}
        return dot
    shown_at = {}
    def hold(self, view, d):                     # a directory shown only for its children becomes really alive
        while d != ROOT and d in self.entries and not self.entries[d].live:
            self.change(d, claim=True); d = view.where[d][0]
    def create(self, view, parent, name, kind, version):
        old = view.kids.get(parent, {}).get(name)
        if old and self.entries[old].kind == kind:
            if kind == "f": self.write(view, old, version)
            return
        if old: self.delete(view, old); view = self.view()
        if parent != ROOT and parent not in view.where: return
        self.hold(view, parent)
        n = 0
        while True:
            i = make_id(parent, name, kind, n)
            if i not in self.entries: break
            if i not in view.where and (on("live-only") or self.entries[i].place[1:3] == (parent, name)): break
            n += 1
        self.change(i, kind, claim=True, write=version, place=(parent, name))
    def base_of(self, i, version=None):
        """What a disk that shows this version (None: all) has seen: all claims and heads but those of other contents."""
        e = self.entries[i]
        other = frozenset(d for d, v in e.heads.items() if version not in (None, v))
        unseen = {x for x in self.truth[i] if self.world.events[x][5] in other}
        return ((frozenset(e.live) | frozenset(e.heads)) - other, self.truth[i] - unseen)
    def base_now(self, i, base, version):
        """The same, of a late change: the version was issued again or chosen since, and that is no news to who has it."""
        e, dots = self.entries[i], base[0]
        same = frozenset(d for d, v in e.heads.items() if v == version)
        if on("same-version"): dots = dots | same
        made = {x for x in self.truth[i] if self.world.events[x][1] is not None and self.world.events[x][5] in same}
        return (dots, base[1].union(made, *(self.world.events[x][4] for x in made)))
    def write(self, view, i, version, base=None):
        links = [v[1] for v in self.entries[i].shown_heads().values()]
        self.hold(view, view.where[i][0])
        if len(links) == 1 and links[0] in self.entries and isinstance(version[1], type(None)) and links[0] != i:
            self.change(i, claim=True, base=base)   # through a hard link: the content is the target's
            self.change(links[0], write=version)
        else: self.change(i, claim=True, write=version, base=base)
    def copy(self, view, i, version):
        """One of several versions as an entry of its own beside. Peers that do so at once make the same entry."""
        parent, name = view.where[i]
        name = f"{name}~{content(version)[:8]}"
        if not on("copy-id"): c = make_id(parent, name, "f", 0)
        for n in range(10**6 if on("copy-id") else 0):
            c = make_id(i, "copy " + content(version), "f", n)
            if c not in view.where: break
            if version in self.entries[c].shown_heads().values() and on("copy-once"): return
        self.hold(view, parent)
        self.change(c, "f", claim=True, write=version, place=(parent, name))
        self.world.copies.setdefault((i, version), set()).add(c)
    def settle_by(self, view, i, copies):
        """What a policy does with several versions: one stays, which all agree on; the others become entries beside, or go."""
        heads = sorted(set(self.entries[i].shown_heads().values()))
        for version in heads[:-1] if copies else []: self.copy(view, i, version); view = self.view()
        if i in view.where: self.write(view, i, heads[-1])
    def through_link(self, i):                   # some version was written through a hard link, and so claims no name
        return any(ev[5] in self.entries[i].heads and not ev[0] for ev in map(self.world.events.get, self.truth[i]))
    def linked(self, i): return any(v[1] == i for j, e in self.entries.items() if j != i and e.live for v in e.heads.values())
    def delete(self, view, i, base=None):
        for _, k in sorted(view.kids.get(i, {}).items(), reverse=True): self.delete(view, k)   # links count: an order
        self.hold(view, view.where[i][0])
        self.change(i, delete=True, let_go=not self.linked(i), base=base)
    def move(self, view, i, parent, name):
        j = parent
        while j != ROOT:
            if j == i: return
            j = view.where[j][0]
        old = view.kids.get(parent, {}).get(name)
        if old == i: return
        if old:
            if self.entries[old].kind != "f" or self.entries[i].kind != "f": return
            self.delete(view, old)
        self.hold(view, view.where[i][0]); self.hold(view, parent)
        self.shown_at = {k: view.where[k] for k in view.where}
        before = view.where; j = parent
        while j != ROOT and on("own-move"):
            if j in view.displaced: self.change(j, claim=bool(self.entries[j].live), place=before[j])
            j = before[j][0]
        self.change(i, claim=True, place=(parent, name))
        for _ in range(4):                       # a move refused earlier must not come true because of this one
            after = self.view().where
            jumped = [k for k in sorted(before) if k != i and k in after and after[k][0] != before[k][0]]
            if not jumped: break
            for k in jumped: self.change(k, claim=bool(self.entries[k].live), place=before[k])
        assert after.get(i, (0,))[0] == parent, "a move is void at once"
        self.shown_at = {}

    # --- exchange ----------------------------------------------------------------------------------------------
    def bundle(self, ids):
        """Those entries, and of their ancestors and link targets those that are not alive themselves."""
        out, todo = dict.fromkeys(ids), list(ids)
        while todo and on("chain"):
            e = self.entries[todo.pop()]
            for j in [e.place[1]] + [v[1] for v in e.heads.values() if v[1]]:
                if j in self.entries and j not in out and not self.entries[j].live: out[j] = None; todo.append(j)
        return list(out)
    def above_first(self, ids):
        """Directories before what is in them, contents before their links."""
        out = {}
        def put(i, path=()):
            if i in out or i in path or i not in self.entries: return
            e = self.entries[i]
            for j in [e.place[1], e.place[3]] + [v[1] for v in e.heads.values() if v[1]]: put(j, path + (i,))
            out[i] = None
        for i in ids: put(i)
        return [i for i in out if i in set(ids)]
    def merged(self, i, theirs, their_seen):
        mine = self.entries[i].touch; e = merge(self.entries[i], self.seen(i), theirs, their_seen)
        if on("forgotten"):                      # else it would stand behind the position of batches that run, as if sent there
            seen = self.seen(i) if on("forgotten-beyond") else self.V
            e.touch = {o: s if s > seen.get(o, 0) else mine[o] for o, s in e.touch.items() if s > seen.get(o, 0) or o in mine}
        return e
    def take(self, src, i):
        theirs = src.entries[i]; seen = self.seen(i); mine = self.entries.get(i)
        if not mine or on("gone") and self.counts_as_forgotten(i):
            if on("as-is"):
                e = theirs.copy(); e.ctx = join(seen, src.seen(i))
            else: e = merge(Entry(theirs.kind), seen, theirs, src.seen(i))
        else: e = self.merged(i, theirs, src.seen(i))
        if not on("ctx"): e.ctx = {}
        self.entries[i] = e
        self.hlc = max(self.hlc, e.place[0][0])
        self.truth[i] = self.truth.get(i, frozenset()) | src.truth.get(i, frozenset())
    def counts_as_forgotten(self, i):
        """A removed entry that somebody has forgotten may not have here what let its versions go (pull_all)."""
        e = self.entries[i]
        if e.live or not geq(self.T, e.touch) or not geq(self.V, e.ctx): return False
        return not on("gone-shown") or not self.linked(i) and i not in self.view().where
    def settle(self, src, snapshot=None, told=None):
        """told: acks, closed and hlc, where they were told earlier than now."""
        snapshot = dict(src.V) if snapshot is None else snapshot
        acks, closed, hlc = (told["acks"], told["closed"], told["hlc"]) if told else (src.acks, src.closed, src.hlc)
        self.V = join(self.V, snapshot)
        for i, t in src.truth.items():           # the oracle's: what it has seen of entries that it has forgotten, too
            if i in src.entries or i in self.entries: continue
            seen = frozenset(x for x in t if covers(self.V, self.world.events[x][5]))
            if seen: self.truth[i] = self.truth.get(i, frozenset()) | seen
        for i, e in self.entries.items():
            if e.ctx and geq(self.V, e.ctx): e = self.entries[i] = e.copy(); e.ctx = {}
        self.acks[src.name] = dict(snapshot)
        for p, w in acks.items():
            if p != self.name: self.acks[p] = join(self.acks.get(p, {}), w)
        self.inactive.discard(src.name); self.hlc = max(self.hlc, hlc); self.closed |= closed
        if LOSSES and geq(self.V, src.V): self.close_lost(src)
        for i in sorted(self.entries):
            lost = {o for o, s in self.entries[i].touch.items() if o in self.closed and s > self.V.get(o, 0)}
            if lost and on("orphans"): self.again(i, place=None, lost=lost)
    def close_lost(self, src):
        """Origins of lives that are over without having been closed, of which there is something here that is not complete."""
        for e in self.entries.values():
            for o, s in e.touch.items():
                if s <= self.V.get(o, 0): continue
                if on("lost-life") and o[0] == src.name and o != src.origin: self.closed |= {o}
                if on("own-lives") and o[0] == self.name and o != self.origin: self.closed |= {o}
    def pull(self, src, rng, whole=True):
        """Ask src for everything past V. whole=False: the line breaks somewhere. Returns entries sent."""
        if not on("stable"):                     # the naive acknowledgement: heard of, not received
            src.acks[self.name] = dict(self.V)
            for p, w in src.acks.items():
                if p != self.name: self.acks[p] = join(self.acks.get(p, {}), w)
        # What comes into a range that was equal would pass for what is there, too, where its removal may be forgotten.
        if on("alone"): self.wholes = {n: w for n, w in self.wholes.items() if n == src.name}
        if on("tcheck") and not (geq(self.V, src.T) and geq(src.V, self.T)) and not self.fresh_for(src):
            self.pull_all(src, rng, whole)
            return 1
        if GONE and self.V == src.V and on("same-vector"):   # What one of them has of a batch that nobody will complete.
            before = World.shape(self)
            if before != World.shape(src): self.pull_all(src, rng, whole)
            return before != World.shape(self)
        self.wholes.pop(src.name, None)
        if not on("whole-batch"):                # entry by entry, with no cursor
            ids = src.bundle([i for i, e in src.entries.items() if not geq(self.V, e.touch)])
            if not whole:
                ids.sort(key=lambda i: max(s for s in src.entries[i].touch.values()))
                ids = ids[:rng.randrange(len(ids) + 1)]
            for i in ids: self.take(src, i); self.V = join(self.V, src.entries[i].touch)
            if whole: self.settle(src)
            return len(ids)
        sent, left = 0, None if whole else rng.randrange(4)
        while left is None or left > 0:
            ids, done = self.page(src, rng.randint(1, 4))
            for i in ids: self.take(src, i)
            sent += len(ids)
            if done:
                b = self.batches.pop(src.name); self.settle(src, b["snapshot"])
                if b["fresh"] and on("inherit"): self.T = join(self.T, b["T"])
                break
            if left is not None: left -= 1
        return sent
    def fresh_for(self, src):
        """A peer that has nothing, or the beginning of one batch of that sender, takes an ordinary batch: there is
        nothing here that could have been deleted and trimmed there, as long as it does not trim meanwhile."""
        if self.V or not on("fresh"): return False
        b = self.batches.get(src.name)
        if b is None: return not self.entries
        good = b["sender"] == src.origin and geq(src.V, b["snapshot"]) and (b["T"] == src.T or not on("fresh-still"))
        return good and (len(self.batches) == 1 or not on("fresh-one"))
    def page(self, src, limit):
        """The ids of the next page, and whether it is the last. The cursor is kept here, at the receiver.
        A batch has a base and a snapshot (both vectors when it began) and a position in the sender's index of touches:
        origin by origin, the sender's own last, each from the base to its end, whatever moved there meanwhile."""
        b = self.batches.get(src.name)
        if b is None or (on("life") and (b["sender"] != src.origin or not geq(src.V, b["snapshot"]))):
            b = dict(sender=src.origin, base=dict(self.V), snapshot=dict(src.V), at=None, T=dict(src.T), fresh=not geq(self.V, src.T))
        else: b = dict(b)
        self.batches[src.name] = b
        if not on("snapshot"): b["snapshot"] = dict(src.V)
        order = lambda o: (on("own-last") and o == src.origin, o)
        def sent_before(e):
            return b["at"] is not None and any(
                s > b["base"].get(o, 0) and (not on("sent-before") or s <= b["snapshot"].get(o, 0))
                and (order(o), s) <= b["at"] for o, s in e.touch.items())
        wanted = lambda e: not geq(self.V, e.touch) and not sent_before(e)
        keys = sorted((order(o), s, o, i) for i, e in src.entries.items() for o, s in e.touch.items()
                      if s > b["base"].get(o, 0) and (on("no-bound") or s <= b["snapshot"].get(o, 0)))
        out = {}
        def put(i):
            if i in out: return
            out[i] = None                        # here, not below: places may form a cycle
            e = src.entries[i]
            for j in [e.place[1]] + [v[1] for v in e.heads.values() if v[1]]:
                if j in src.entries and (on("chain") and not src.entries[j].live or on("order") and wanted(src.entries[j])): put(j)
            del out[i]; out[i] = None            # what it stands in goes before it
        for key, s, o, i in keys:
            if b["at"] is not None and (key, s) <= b["at"]: continue
            if len(out) >= limit: return list(out), False
            if wanted(src.entries[i]): put(i)
            b["at"] = (key, s)
        return list(out), True
    def state(self, i):
        """What a fingerprint of an entry covers: all but what the vector says anyway."""
        e = self.entries[i]
        beyond = frozenset((o, s) for o, s in e.ctx.items() if s > self.V.get(o, 0))
        return (e.live, e.heads, e.tombs, e.place, e.touch, beyond)
    def pull_all(self, src, rng, whole=True):
        """Return: whole state, when one side has trimmed what the other never saw. Ranges of ids are compared one by
        one, what differs is kept apart, and taken at once at the end: a line that breaks changes nothing."""
        w = self.wholes.get(src.name)
        if w is None or on("still") and (w["sender"] != src.origin or w["T"] != src.T or w["mine"] != self.T or not geq(src.V, w["V"])):
            w = dict(sender=src.origin, V=dict(src.V), T=dict(src.T), mine=dict(self.T), staged={}, truth={}, differ=set(), left=[0, 1, 2, 3])
            w["acks"], w["closed"], w["hlc"] = {p: dict(v) for p, v in src.acks.items()}, set(src.closed), src.hlc
        else: w = dict(w, staged=dict(w["staged"]), truth=dict(w["truth"]), differ=set(w["differ"]), left=list(w["left"]))
        self.wholes[src.name] = w
        while w["left"]:
            if not whole and rng.random() < .4: return
            at = w["left"].pop()
            ours = {i: self.state(i) for i in self.entries if at_range(i) == at}
            theirs = {i: src.state(i) for i in src.entries if at_range(i) == at}
            w["truth"].update((i, t) for i, t in src.truth.items() if at_range(i) == at)
            if ours == theirs and on("fingerprint"): continue
            w["differ"].add(at)
            for i in theirs: w["staged"][i] = (src.entries[i], src.seen(i), w["truth"][i])
        del self.wholes[src.name]
        self.take_all(src, w)
    def differs(self, w, i): return at_range(i) in w["differ"]
    def take_all(self, src, w):
        staged, theirs_seen, again, mine = w["staged"], w["V"], [], dict(self.V)
        stale_src, stale_self = not geq(theirs_seen, self.T), not geq(self.V, w["T"])
        for i, t in w["truth"].items(): self.truth[i] = self.truth.get(i, frozenset()) | t
        back = set()
        gone = {i for i in staged if on("gone-whole") and i in self.entries and self.counts_as_forgotten(i)}
        for i in sorted(set(i for i in self.entries if self.differs(w, i)) | set(staged)):
            if i in self.entries and i in staged and i not in gone:
                theirs, seen, _ = staged[i]
                self.entries[i] = self.merged(i, theirs, seen)
                self.hlc = max(self.hlc, theirs.place[0][0])
            elif i not in staged:                # no record there: new here, or deleted and trimmed there
                if not stale_self and on("sure"): continue   # not trimmed there: we have seen all that is
                if self.survives(self.entries[i], theirs_seen): self.forget_heads(i, theirs_seen); again.append((i, theirs_seen))
                else: self.entries[i] = self.entries[i].copy(); self.entries[i].live = frozenset(); back.add(i)
            elif not geq(self.V, staged[i][0].touch):   # no record here, and news of it there
                e = self.entries[i] = staged[i][0].copy(); e.ctx = join(self.V, staged[i][1])
                self.hlc = max(self.hlc, e.place[0][0])
                if not self.survives(e, self.V, stale_src): e.live = frozenset(); back.add(i)
                elif stale_src: self.forget_heads(i, self.V); again.append((i, mine))
        todo = list(self.entries)                # of the dead there, only what something alive here needs
        for i in todo:
            e = self.entries[i]
            for j in [e.place[1]] + [v[1] for v in e.heads.values() if v[1]]:
                if j not in self.entries and j in staged:
                    d = self.entries[j] = staged[j][0].copy(); d.live = frozenset(); d.ctx = join(self.V, staged[j][1]); todo.append(j)
                    self.hlc = max(self.hlc, d.place[0][0]); back.add(j)
        self.settle(src, w["V"], w)
        self.batches.pop(src.name, None)         # What it would complete is here.
        if on("inherit"): self.T = join(self.T, w["T"])
        if not on("reissue"): return
        shown = self.view().where
        if on("back"): again += [(i, None) for i in back | gone if not self.entries[i].live and (i in shown or self.linked(i))]
        done = set()
        for i, seen in sorted(again, key=lambda one: one[0]):
            for j in self.bundle([i]):
                if j in done: continue
                done.add(j); self.again(j, self.entries[j].place[1:3], seen=seen if i == j else None)
    @staticmethod
    def survives(e, seen, forgotten=True):
        """A claim is left that was not seen there; and where it was removed and forgotten, one for others only with such a version."""
        left = {d for d in e.live if not covers(seen, d)}
        if not left or not on("claims-there") or not forgotten or not left <= e.tombs.keys(): return bool(left)
        return any(not covers(seen, d) for d in e.real_heads())
    def forget_heads(self, i, seen):
        """What was forgotten as removed had let go its versions, where another is left."""
        e = self.entries[i]
        left = {d: v for d, v in e.real_heads().items() if not covers(seen, d)}
        if left and on("let-go-there"): e = self.entries[i] = e.copy(); e.heads, e.tombs = left, {}
        ev = [self.world.events[x] + (x,) for x in self.truth[i]]
        if any(x[1] and x[1][1] == i for x in self.world.events.values()): return   # Deleted under another name, maybe.
        real = {x[1] for x in ev if x[1] and not any((o[1] or o[3]) and x[-1] in o[4] for o in ev)}
        assert not real or real == set(e.shown_heads().values()), f"of {i[:6]} versions survive that were let go"
    def again(self, j, place, lost=(), seen=None):
        """Issue the state of an entry again under dots of our own, but versions never `seen` there; dots of the origins
        `lost` are forgotten."""
        e = self.entries[j]
        gone_here = on("let-go-here") and seen is not None and e.live and not e.real_heads()
        versions, past = sorted(e.shown_heads().items()) if e.live or place else [], self.truth[j]
        kept = {d: v for d, v in versions if seen is not None and on("new-heads") and not covers(seen, d)}
        versions = [(d, v) for d, v in versions if d not in kept]
        if on("issue-once"): versions = [(d, v) for d, v in versions if not any(x > d and y == v for x, y in versions)]
        if e.live or place: self.change(j, claim=bool(e.live), place=place)
        else: self.change(j, delete=True, let_go=bool(e.tombs))
        fresh, evs = {}, frozenset()
        for _, v in versions:                    # every head again: each has seen the old ones, none the others
            keep = self.truth[j]; self.truth[j] = past
            fresh[self.change(j, write=v)] = v
            evs |= self.truth[j]; self.truth[j] = keep
        e = self.entries[j]; self.truth[j] |= evs
        if fresh or kept and not gone_here: e.heads, e.tombs = {**kept, **fresh}, {}
        if fresh and seen is not None and e.live and (gone_here or not kept and on("still-let-go")):
            dot = max(fresh); e.tombs = {dot: frozenset(e.heads)}
            ev = (self.name, self.life, next(self.world.counter), j)
            self.world.events[ev] = (False, None, False, True, self.truth[j], dot, False); self.truth[j] |= {ev}
        e.touch = {o: s for o, s in e.touch.items() if o not in lost or s <= self.V.get(o, 0)}
    def trim(self):
        while self.trim_once(): pass
    def trim_once(self):
        before = len(self.entries)
        peers = [p for p in self.world.peers if p is not self and p.name not in self.inactive]
        stable = dict(self.V)
        for p in peers:
            w = self.acks.get(p.name, {})
            stable = {o: min(s, w.get(o, 0)) for o, s in stable.items()}
        used = {e.place[1] for e in self.entries.values()} | {v[1] for e in self.entries.values() for v in e.heads.values()}
        for i, e in list(self.entries.items()):
            open_ctx = {o: s for o, s in e.ctx.items() if o not in self.closed}
            if not geq(self.V, open_ctx) or not geq(stable, e.touch): continue
            if not e.live and i not in used: del self.entries[i]; self.T = join(self.T, stable)
        return len(self.entries) < before

class World:
    def __init__(self, seed):
        self.rng = random.Random(seed); self.events = {}; self.counter = iter(range(10**9)); self.tokens = 0
        self.peers = []; self.peers += [Peer(c, self) for c in "ABCD"[:self.rng.randint(2, 4)]]
        self.saved = {}; self.log = []; self.bases = {}; self.copies = {}; self.by_user = set()
    def say(self, *a): self.log.append(" ".join(str(x) for x in a))
    def token(self):
        if self.rng.random() < .25: return "same"
        self.tokens += 1; return f"t{self.tokens}"
    def local(self, p):
        r, v = self.rng, p.view()
        dirs = [ROOT] + sorted(i for i in v.where if p.entries[i].kind == "d")
        files = sorted(i for i in v.where if p.entries[i].kind == "f")
        several = [i for i in files if len(set(p.entries[i].shown_heads().values())) > 1]
        name = lambda: r.choice("abc")
        what = r.choices(["new", "dir", "edit", "del", "rmdir", "mv", "mvdir", "link", "again", "look", "late edit", "late del", "del one",
                          "newest", "copies"],
                         [5, 4, 4, 3, 3, 3, 5, 1, 2, 2, 2, 2, 10 if several else 0, 3 if several else 0, 12 if several else 0])[0]
        if CONFLICTS: what = self.quarrel(several)
        if MOVES: what = r.choices(["new", "dir", "rmdir", "mv", "mvdir"], [1, 4, 1, 2, 12])[0]
        before = set(p.truth.items())
        if what == "new": a = (r.choice(dirs), name(), "f", (self.token(), None)); p.create(v, *a)
        elif what == "dir": a = (r.choice(dirs), name(), "d", None); p.create(v, *a)
        elif what == "edit" and files: a = (r.choice(files), (self.token(), None)); p.write(v, *a)
        elif what == "del" and files: a = (r.choice(files),); p.delete(v, *a)
        elif what == "rmdir" and len(dirs) > 1: a = (r.choice(dirs[1:]),); p.delete(v, *a)
        elif what == "mv" and files: a = (r.choice(files), r.choice(dirs), name()); p.move(v, *a)
        elif what == "mvdir" and len(dirs) > 1: a = (r.choice(dirs[1:]), r.choice(dirs), name()); p.move(v, *a)
        elif what == "link" and files: a = (r.choice(dirs), name(), "f", ("link", r.choice(files))); p.create(v, *a)
        elif what == "look" and files:
            i = r.choice(several or files); heads = sorted(set(p.entries[i].shown_heads().values()), key=repr)
            version = r.choice([None] + heads); a = (i, version)
            self.bases[p.name] = (i, p.base_of(i, version), p.life, version)
        elif what.startswith("late") and p.name in self.bases:
            i, base, life, version = self.bases.pop(p.name); a = (i,)
            if i not in v.where or life != p.life or version and (p.linked(i) or p.through_link(i)): return   # Disks have no hard links.
            if version: base = p.base_now(i, base, version)
            if what == "late edit": p.write(v, i, (self.token(), None), base)
            else: p.delete(v, i, base)
        elif what == "del one":                  # of two versions, the one that this disk has
            i = r.choice(several); version = r.choice(sorted(set(p.entries[i].shown_heads().values()), key=repr)); a = (i, version)
            if p.linked(i) or p.through_link(i): return
            self.bases.pop(p.name, None); p.delete(v, i, p.base_of(i, version))
        elif what in ("newest", "copies"):
            i = r.choice(several); a = (i,)
            if p.linked(i) or p.through_link(i) or any(t for _, t in p.entries[i].heads.values()): return
            self.bases.pop(p.name, None); p.settle_by(v, i, what == "copies")
        elif what == "again" and files:
            i = r.choice(files); a = (i,); at = v.where[i]; p.delete(v, i); v = p.view()
            if at[0] == ROOT or at[0] in v.where: p.create(v, at[0], at[1], "f", (self.token(), None))
        else: return
        if what not in ("newest", "copies"): self.by_user |= {i for i, t in set(p.truth.items()) - before}
        self.say(p.name, what, *[x[:6] if isinstance(x, str) else x for x in a])
    def quarrel(self, several):
        """What happens next where files are few, and settled by themselves as soon as two versions are known."""
        if several and self.rng.random() < .5: return self.rng.choice(["copies", "copies", "newest"])
        return self.rng.choices(["new", "dir", "edit", "del", "mv", "mvdir", "look", "late edit", "rmdir"], [3, 1, 12, 1, 4, 1, 2, 2, .5])[0]
    def returning(self):
        """As step(), of a world where one peer is away most of the time, called inactive, and others trim meanwhile."""
        r = self.rng; x = r.random()
        if x < .06 or not hasattr(self, "away"): self.away = r.choice(self.peers + [None])
        here = [p for p in self.peers if p is not self.away]; p = r.choice(here)
        if x < .12 and self.away: p.inactive.add(self.away.name); self.say(p.name, "calls inactive", self.away.name)
        elif x < .25 and self.away: self.local(self.away)
        elif x < .50: self.local(p)
        elif x < .75 and len(here) > 1:
            q = r.choice([q for q in here if q is not p]); self.say(p.name, "pulls", q.name, p.pull(q, r))
        elif x < .85: q = r.choice([q for q in self.peers if q is not p]); self.say(p.name, "pulls part of", q.name, p.pull(q, r, False))
        else: p.trim(); self.say(p.name, "trims")
        assert not p.view().cyclic, "a cycle"
    def step(self):
        if RETURNS: return self.returning()
        r = self.rng; p = r.choice(self.peers); q = r.choice([x for x in self.peers if x is not p]); x = r.random()
        if RESTORES or LOSSES: x = r.choice([x, x, x, .15, .75, .75, .95, .98])
        if x < .50: self.local(p)
        elif x < .70: self.say(p.name, "pulls", q.name, p.pull(q, r))
        elif x < .80: self.say(p.name, "pulls part of", q.name, p.pull(q, r, False))
        elif x < .90:
            before = self.shape(p); p.trim(); self.say(p.name, "trims")
            assert self.shape(p) == before, "trimming changed what is shown"
        elif x < .94: p.inactive.add(q.name); self.say(p.name, "calls inactive", q.name)
        elif x < .97:
            self.saved[p.name] = self.snapshot(p); self.say(p.name, "backup")
        elif LOSSES and r.random() < .5: self.lose(p); self.say(p.name, "LOSES ITS DATABASE")
        elif p.name in self.saved:
            life = p.life; p.__dict__.update(copy.copy(self.saved.pop(p.name))); self.say(p.name, "RESTORED")
            if on("new-origin"): p.closed = p.closed | {f"{p.name}{n}" for n in range(life + 1)}; p.life, p.seq = life + 1, 0
        assert not p.view().cyclic, "a cycle"
    def lose(self, p):
        life = p.life; p.__init__(p.name, self); p.life = life + 1
        self.saved.pop(p.name, None); self.bases.pop(p.name, None)
    @staticmethod
    def snapshot(p):
        d = dict(p.__dict__)
        for k in ("entries", "V", "T", "truth", "inactive", "closed", "batches", "wholes"): d[k] = copy.copy(d[k])
        d["acks"] = dict(d["acks"]); return d
    @staticmethod
    def shape(p):
        v = p.view()
        return {i: (at, tuple(sorted(set(p.entries[i].shown_heads().values()), key=repr))) for i, at in v.where.items()}
    def begin(self):
        """Where files are few, all have them from the beginning."""
        if not CONFLICTS: return
        p = self.peers[0]
        for name in "ab": p.create(p.view(), ROOT, name, "f", (self.token(), None))
        p.create(p.view(), ROOT, "c", "d", None)
        for q in self.peers[1:]: q.pull(p, self.rng)
    def run(self):
        self.begin()
        for _ in range(self.rng.randint(8, 90 if RETURNS else 45)): self.step()
        if GONE and len(self.peers) > 2:         # for ever, whatever the others have of him
            self.say(self.peers.pop().name, "is gone")
            for _ in range(self.rng.randint(0, 20)): self.step()
        for _ in range(40):
            sent = 0
            for p in self.peers:
                for q in self.peers:
                    before = dict(p.V)           # the last page of a resumed batch may be empty, and another batch follow
                    if p is not q: sent += p.pull(q, self.rng); sent += p.V != before
            if not sent: break
        self.say("--- all synced")
        assert not sent, "syncing never comes to rest (idempotence)"
        self.check()
        for p in self.peers * 2: p.trim()
        for p in self.peers: self.check(p)
    def check(self, *only):
        shapes = [self.shape(p) for p in self.peers]
        assert all(s == shapes[0] for s in shapes), "peers show different trees:\n" + "\n".join(map(str, shapes))
        truth = {}
        for p in self.peers:
            for i, t in p.truth.items(): truth[i] = truth.get(i, frozenset()) | t
        p = self.peers[0]; alive = {}
        for i, t in truth.items():
            ev = [self.events[x] + (x,) for x in t]
            seen_deleted = lambda x: any(e[2] and x in e[4] for e in ev)
            last = [e for e in ev if e[1] and not any(o[1] and e[-1] in o[4] for o in ev)]
            real = [e for e in last if not any(o[3] and e[-1] in o[4] for o in ev)]
            alive[i] = any((e[0] or e[6] and any(h[0] for h in real)) and not seen_deleted(e[-1]) for e in ev)
            have = i in p.entries and bool(p.entries[i].live)
            # Of several versions one removed, another written through a hard link: no disk makes both, not judged.
            if any(e[6] for e in ev) and any(e[1] and not e[0] for e in ev): alive[i] = have
            assert alive[i] == have, f"{i[:6]} should be {'alive' if alive[i] else 'dead (resurrected)'}"
            if not alive[i]: continue
            want, got = {e[1] for e in real or last}, set(p.entries[i].shown_heads().values())
            # Forgotten while only a hard link's name was left, and issued again for its sake: a version that was replaced since.
            if RETURNS and real and got < want and any(x[1] and x[1][1] == i for x in self.events.values()): continue
            # all let go and yet claimed: a version of that entry is shown; which, trimming may have decided
            assert want == got if real else got <= {e[1] for e in ev} and bool(got) == bool(want), f"heads of {i[:6]}: want {want}, have {got}"
        v = p.view(); shown = set(v.where); ok = {i for i in alive if alive[i]}
        assert ok <= shown, "an alive entry is not shown"
        for i in list(ok):
            while v.where[i][0] != ROOT: i = v.where[i][0]; ok.add(i)
        assert shown == ok, "something dead is shown"
        for (i, version), made in self.copies.items():
            assert len([c for c in made if c in shown and c not in self.by_user]) <= 1, f"{version[0]} of {i[:6]} was copied twice"
        for i in shown:
            for tok, target in p.entries[i].shown_heads().values():
                assert target is None or target in p.entries, "a hard link's content is gone"

def main():
    a = argparse.ArgumentParser(); a.add_argument("--seeds", default="0..2000"); a.add_argument("--without", default="")
    a.add_argument("--returns", action="store_true", help="a world where a peer is away for long while the others trim")
    a.add_argument("--restores", action="store_true", help="a world where backups come back often")
    a.add_argument("--losses", action="store_true", help="the same, where half of them are lost databases instead")
    a.add_argument("--moves", action="store_true", help="a world of folders that are moved into each other")
    a.add_argument("--conflicts", action="store_true", help="a world of few files that are edited apart, with policies for conflicts")
    a.add_argument("--gone", action="store_true", help="a world where one peer is gone for ever, maybe in the middle of a batch")
    a.add_argument("--show", action="store_true"); a = a.parse_args()
    global RETURNS, RESTORES, LOSSES, CONFLICTS, MOVES, GONE
    RETURNS, RESTORES, LOSSES, CONFLICTS, MOVES, GONE = a.returns, a.restores, a.losses, a.conflicts, a.moves, a.gone
    OFF.update(x for x in a.without.split(",") if x); lo, hi = map(int, a.seeds.split("..")); bad = {}
    for seed in range(lo, hi):
        w = World(seed)
        try: w.run()
        except (AssertionError, KeyError, TypeError, RecursionError) as e:
            bad.setdefault(f"{type(e).__name__}: {e}"[:70].split("\n")[0], []).append((len(w.log), seed))
            if a.show: print("\n".join(w.log), "\n", repr(e)); raise
    n = sum(map(len, bad.values()))
    print(f"seeds {lo}..{hi}: {hi - lo - n} pass, {n} fail" + (f", without {a.without}" if OFF else ""))
    for k, s in sorted(bad.items(), key=lambda x: -len(x[1]))[:6]: print(f"  {len(s):6}  {k}   shortest: seed {min(s)[1]}, {min(s)[0]} steps")
    sys.exit(1 if bad else 0)

if __name__ == "__main__": main()
