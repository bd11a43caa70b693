#!/usr/bin/env python3
"""Plays the same random steps on the model and on logic::Tree, and compares what is shown after every step.

The model decides the steps; the C++ (tree_oracle) decides which entries travel in which page, and the model is made to
take the same ones, so that its own checks (nothing lost, nothing resurrected, all peers equal) judge the pages as well.
  python3 compare_with_model.py TREE_ORACLE --seeds 0..500
"""
import argparse, hashlib, subprocess, sys
import agreement_model as model
from agreement_model import ROOT

KINDS = {"f": 0, "d": 1}

def make_id(parent, name, kind, n):
    """entryIdFor() of librealize/model/tree.cc."""
    where = bytes(16) if parent == ROOT else bytes.fromhex(parent)
    text = b"realize entry 1" + where + bytes([KINDS[kind]]) + n.to_bytes(4, "little") + name.encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()

def content(version): return hashlib.blake2b(version[0].encode(), digest_size=32).hexdigest()

class Oracle:
    def __init__(self, path): self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n"); self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "tree_oracle ended at: " + " ".join(map(str, words))
        return answer.strip()

def token(version):
    if version is None: return "-"
    return f"link:{version[1]}" if version[1] else version[0]

class Peer(model.Peer):
    """Each outermost local change goes to the oracle too; the model's own recursion does not."""
    oracle, inside = None, False
    def both(self, command, call):
        if self.inside: return call()
        self.inside = True
        try: self.oracle.ask(*command); call()
        finally: self.inside = False
    def create(self, view, parent, name, kind, version):
        self.both(("create", self.name, parent, name, kind, token(version)),
                  lambda: model.Peer.create(self, view, parent, name, kind, version))
    def write(self, view, i, version, base=None):
        command = ("latewrite", self.name, i, "base", token(version)) if base else ("write", self.name, i, token(version))
        self.both(command, lambda: model.Peer.write(self, view, i, version, base))
    def delete(self, view, i, base=None):
        command = ("latedelete", self.name, i, "base") if base else ("delete", self.name, i)
        self.both(command, lambda: model.Peer.delete(self, view, i, base))
    def move(self, view, i, parent, name):
        self.both(("move", self.name, i, parent, name), lambda: model.Peer.move(self, view, i, parent, name))
    def copy(self, view, i, version):
        self.both(("copy", self.name, i, token(version)), lambda: model.Peer.copy(self, view, i, version))
    def base_of(self, i, version=None):
        self.oracle.ask("base", self.name, i, "base", token(version))
        return model.Peer.base_of(self, i, version)
    def close_lost(self, src):
        self.oracle.ask("lost", self.name, src.name)
        model.Peer.close_lost(self, src)
    def base_now(self, i, base, version):
        self.oracle.ask("same", self.name, i, "base", token(version))
        return model.Peer.base_now(self, i, base, version)
    def differs(self, w, i): return any(i.startswith(prefix) for prefix in w["differ"])
    def trim(self):
        active = "".join(p.name for p in self.world.peers if p is not self and p.name not in self.inactive)
        self.oracle.ask("trim", self.name, active or "-")
        model.Peer.trim(self)
    def pull_whole(self, src, rng, whole):
        """As the C++ compares whole states; None where it need not."""
        self.wholes = {n: w for n, w in self.wholes.items() if n == src.name}   # Rule "alone", in tree_oracle, too.
        words = self.oracle.ask("whole", self.name, src.name, 10**6 if whole else rng.randint(1, 6)).split()
        if not words: return None
        assert words[0] not in ("error", "exception"), " ".join(words)
        for word in words:
            w = self.wholes.get(src.name)
            if word == "begin":
                self.wholes[src.name] = dict(V=dict(src.V), T=dict(src.T), staged={}, truth={}, differ=set(),
                    acks={p: dict(v) for p, v in src.acks.items()}, closed=set(src.closed), hlc=src.hlc)
            elif word[0] in "=!":                # a range that is equal, or sent
                if word[0] == "!": w["differ"].add(word[1:])
                w["truth"].update((i, t) for i, t in src.truth.items() if i.startswith(word[1:]))
            elif word == "anew": self.wholes.pop(src.name, None)
            elif word == "done": del self.wholes[src.name]; self.take_all(src, w)
            elif word == "broken": pass
            elif word not in src.entries: pass   # Forgotten there in the model: the C++ looks again when more is acknowledged.
            else: w["staged"][word] = (src.entries[word], src.seen(word), src.truth.get(word, frozenset()))
        return 1
    def pull(self, src, rng, whole=True):
        compared = self.pull_whole(src, rng, whole)
        if compared is not None: return compared
        pages = 10**6 if whole else rng.randint(1, 3)
        answer = self.oracle.ask("pull", self.name, src.name, rng.choice([1, 2, 3, 100]), pages).split()
        assert not answer or answer[0] not in ("error", "exception"), " ".join(answer)
        if answer == ["refused"]:                # The sender trimmed since this fresh peer's batch began.
            self.batches.pop(src.name, None)
            return self.pull(src, rng, whole)
        sent = 0
        for word in answer:
            if word == "now": self.batches[src.name] = dict(V=dict(src.V), T=dict(src.T), fresh=not model.geq(self.V, src.T))
            elif word == "earlier": assert src.name in self.batches, "resumed a batch that never began"
            elif word == "done":
                b = self.batches.pop(src.name); self.settle(src, b["V"])
                if b["fresh"]: self.T = model.join(self.T, b["T"])
            else: self.take(src, word); sent += 1
        return sent

class World(model.World):
    def __init__(self, seed, oracle):
        super().__init__(seed)
        self.oracle, self.returns = oracle, seed % 2 == 1
        model.RETURNS, model.CONFLICTS = self.returns, seed % 4 > 1
        model.LOSSES, model.MOVES = seed % 8 == 4, seed % 16 == 0
        self.peers = [Peer(p.name, self) for p in self.peers]
        for p in self.peers: p.oracle = oracle
        oracle.ask("peers", len(self.peers))
    def step(self):
        if self.returns:
            self.returning()
            for p in self.peers: self.compare(p)
            return
        r = self.rng; p = r.choice(self.peers); q = r.choice([x for x in self.peers if x is not p]); x = r.random()
        if model.LOSSES: x = r.choice([x, x, x, .90, .96, .98])
        if x < .60: self.local(p)
        elif x < .78: self.say(p.name, "pulls", q.name, p.pull(q, r))
        elif x < .93: self.say(p.name, "pulls part of", q.name, p.pull(q, r, False))
        elif x < .97: self.saved[p.name] = self.snapshot(p); self.oracle.ask("backup", p.name); self.say(p.name, "backup")
        elif model.LOSSES and r.random() < .5: self.lose(p); self.oracle.ask("lose", p.name); self.say(p.name, "LOSES ITS DATABASE")
        elif p.name in self.saved:
            life = p.life; p.__dict__.update(self.saved.pop(p.name)); p.wholes = {}; self.say(p.name, "RESTORED")
            p.closed = p.closed | {f"{p.name}{n}" for n in range(life + 1)}; p.life, p.seq = life + 1, 0
            self.oracle.ask("restore", p.name)
        self.compare(p)
    def compare(self, p):
        answer = self.oracle.ask("show", p.name)
        theirs = {}
        for line in filter(None, answer.split(";")):
            words = line.split(" ")
            assert len(words) >= 3, answer
            theirs[words[0]] = (words[1], words[2], tuple(words[3:]))
        view, ours = p.view(), {}
        for i, (parent, name) in view.where.items():
            e = p.entries[i]
            heads = {token(v) for v in e.shown_heads().values()} if e.kind == "f" else set()
            ours[i] = (parent, name, tuple(sorted(heads)))
        assert ours == theirs, "different trees:\n model " + "\n       ".join(f"{i[:6]} {t}" for i, t in sorted(ours.items())) \
            + "\n C++   " + "\n       ".join(f"{i[:6]} {t}" for i, t in sorted(theirs.items()))
    def run(self):
        self.begin()
        for _ in range(self.rng.randint(8, 90 if self.returns else 45)): self.step()
        for _ in range(40):
            before = [dict(p.V) for p in self.peers]
            sent = sum(p.pull(q, self.rng) for p in self.peers for q in self.peers if p is not q)
            if not sent and before == [p.V for p in self.peers]: break   # A batch that is resumed may end with nothing.
        assert not sent, "syncing never comes to rest"
        self.check()
        for p in self.peers: self.compare(p)
        digests = {self.oracle.ask("digest", p.name) for p in self.peers}
        assert len(digests) == 1, "equal trees with different digests"

def main():
    a = argparse.ArgumentParser(); a.add_argument("oracle"); a.add_argument("--seeds", default="0..1500")
    a.add_argument("--show", action="store_true"); a = a.parse_args()
    model.make_id, model.content = make_id, content
    lo, hi = map(int, a.seeds.split("..")); oracle = Oracle(a.oracle); failed = 0
    for seed in range(lo, hi):
        w = World(seed, oracle)
        try: w.run()
        except (AssertionError, KeyError, TypeError) as e:
            failed += 1
            print(f"seed {seed}, {len(w.log)} steps: {type(e).__name__} {str(e)[:2000 if a.show else 100]}")
            if a.show: print("\n".join(w.log)); break
    print(f"seeds {lo}..{hi}: {hi - lo - failed} as the model, {failed} not")
    sys.exit(1 if failed else 0)

if __name__ == "__main__": main()
