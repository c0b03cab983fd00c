# SPDX-License-Identifier: BSD-2-Clause
"""Compares what clients, publisher and nemesis have written down with what is
promised (README, G1, G2, G7).  All times are of one monotonic clock.  An event
is known to have happened between its begin and its end, so one is after another
only where it began after the other had ended.
"""
import bisect
import collections
import functools
import hashlib

from workload import CONSTANT, content

RECOVERY_S = 15                 # after the last fault all is well again
LONGER = 0.2                    # of a lease the master counts more

Violation = collections.namedtuple("Violation", "kind text records")


@functools.lru_cache(maxsize=4096)
def etag(path, label):
    return hashlib.sha256(content(path, label)).hexdigest()[:16]


class Judge:
    def __init__(self, answers, publishes, faults, edges, ttl, slow=1):
        self.answers = sorted(answers, key=lambda a: a["begin"])
        self.publishes = sorted(publishes, key=lambda p: p["begin"])
        self.faults = sorted(faults, key=lambda f: f["asked"])
        self.edges, self.ttl, self.slow = edges, ttl, slow
        self.found = []
        # Answers of a generation: 503 tell it too, and whether it is stale.
        self.told = [a for a in self.answers if a.get("generation")]
        self.fresh = {e: [(a["begin"], a["end"]) for a in self.told
                          if a["edge"] == e and not a["stale"]]
                      for e in edges}

    def wrong(self, kind, text, *records):
        self.found.append(Violation(kind, text, records))

    def run(self):
        self.check_whole(self.label_generations())
        self.check_acknowledged()
        self.check_no_way_back()
        self.check_cut_off()
        self.check_names()
        self.check_failures()
        self.check_convergence()
        return self.found

    # -- G1

    def label_generations(self):
        labels = {}
        for p in self.publishes:
            n = p["generation"]
            if n and labels.setdefault(n, p["label"]) != p["label"]:
                self.wrong("G1", "generation %d published as two states" % n,
                           p)
        for a in self.told:
            if a.get("label") and a["path"] not in CONSTANT and \
                    "mixed" not in a:
                labels.setdefault(a["generation"], a["label"])
        return labels

    def check_whole(self, labels):
        for a in self.answers:
            if "mixed" in a:
                self.wrong("G1", "a body that no generation has", a)
            elif a["status"] == 200:
                self.check_file(a, labels)
            elif a["status"] not in (0, 503):
                self.wrong("G4", "status %d of a path that every generation "
                           "has" % a["status"], a)

    def check_file(self, a, labels):
        n = a["generation"]
        if n is None:
            self.wrong("G1", "an answer that names no generation", a)
            return
        label = 0 if a["path"] in CONSTANT else labels.get(n)
        if a.get("label") is not None and a["label"] != label:
            self.wrong("G1", "Cache-Status says generation %d, which is state "
                       "%s, and the body is state %s" % (n, label, a["label"]),
                       a)
        elif label is not None and a["etag"] != etag(a["path"], label):
            self.wrong("G1", "an ETag that is not of generation %d" % n, a)

    # -- G5, G2

    def check_acknowledged(self):
        """After status 3, too: the leases of those that are named are over."""
        done = sorted((p for p in self.publishes if p["generation"]),
                      key=lambda p: p["end"])
        for a, b in zip(done, done[1:]):        # one after the other
            if b["generation"] < a["generation"] + (a["label"] != b["label"]):
                self.wrong("G5", "generation %d was published after %d" % (
                    b["generation"], a["generation"]), a, b)
        ends, newest = [p["end"] for p in done], []
        for p in done:
            newest.append(p if not newest or p["generation"] >
                          newest[-1]["generation"] else newest[-1])
        for a in self.told:
            i = bisect.bisect_left(ends, a["begin"]) - 1
            if i >= 0 and not a["stale"] and \
                    a["generation"] < newest[i]["generation"]:
                self.wrong("G2", "%s answers from generation %d with a lease, "
                           "%.2f s after publish of %d ended with status %d" %
                           (a["edge"], a["generation"],
                            a["begin"] - newest[i]["end"],
                            newest[i]["generation"], newest[i]["status"]),
                           newest[i], a)

    # -- G7

    def check_no_way_back(self):
        for edge in self.edges:
            mine = [a for a in self.told if a["edge"] == edge]
            ended = sorted(mine, key=lambda a: a["end"])
            i, highest = 0, None
            for a in mine:
                while i < len(ended) and ended[i]["end"] < a["begin"]:
                    if highest is None or ended[i]["generation"] > \
                            highest["generation"]:
                        highest = ended[i]
                    i += 1
                if highest and a["generation"] < highest["generation"]:
                    self.wrong("G7", "%s went back from generation %d to %d" %
                               (edge, highest["generation"],
                                a["generation"]), highest, a)

    def silences(self, edge):
        """(begin, end, fault): meanwhile no renewal of the edge could be
        answered."""
        for f in self.faults:
            if (f["kind"] == "cut" and f["host"] == edge) or (
                    f["kind"] in ("stop", "kill") and f["host"] == "master"):
                yield f["applied"], f["heal"], f

    def check_cut_off(self):
        for edge in self.edges:
            mine = [a for a in self.told if a["edge"] == edge]
            begins = [a["begin"] for a in mine]
            for begin, end, fault in self.silences(edge):
                i = bisect.bisect_right(begins, begin + self.ttl)
                while i < len(mine) and mine[i]["begin"] < end:
                    a = mine[i]
                    i += 1
                    if a["end"] < end and not a["stale"]:
                        self.wrong("G7", "%s claims to be up to date %.2f s "
                                   "after it was cut off, and a lease is %g s"
                                   % (edge, a["begin"] - begin, self.ttl),
                                   fault, a)

    # -- who is named

    def impaired(self, host, begin, end):
        return [f for f in self.faults if f["host"] in (host, "master") and
                f["asked"] < end and
                f["healed"] + RECOVERY_S * self.slow > begin]

    def check_names(self):
        for p in self.publishes:
            if p["status"] == 3 and not p["missing"] and \
                    not self.impaired("master", p["begin"], p["end"]):
                self.wrong("names", "status 3, and nobody is named", p)
            for name in p["missing"]:
                if name not in self.edges or not self.impaired(
                        name, p["begin"], p["end"]):
                    self.wrong("names", "%s is named, and was well" % name, p)
            if p["status"] in (0, 3) and p["generation"]:
                for edge in self.edges:
                    self.check_named(p, edge)

    def check_named(self, p, edge):
        """An edge that could not hear of a publish, or not answer it, from
        before its begin until after its end, while it held a lease: the
        master's record outlives that lease by a fifth, so it knew."""
        if not self.held(edge, p["begin"] - LONGER * self.ttl, p["end"]):
            return
        if [f for f in self.faults if f["host"] == "master" and
                f["kind"] == "kill" and f["asked"] < p["end"] and
                f["healed"] > p["begin"] - 2 * self.ttl]:
            return                      # its records went with it
        for f in self.faults:
            if f["host"] == edge and f["kind"] in ("cut", "stop", "kill") and \
                    f["applied"] < p["begin"] and p["end"] < f["heal"] and \
                    edge not in p["missing"]:
                self.wrong("names", "%s is not named, though it could not be "
                           "reached" % edge, f, p)

    def held(self, edge, begin, end):
        """Whether an answer shows that the edge held a lease meanwhile:
        one that was asked for and had in that time.  A request that a cut holds
        up is answered after it."""
        fresh = self.fresh[edge]
        i = bisect.bisect_right(fresh, (begin, end))
        while i < len(fresh) and fresh[i][0] < end:
            if fresh[i][1] < end:
                return True
            i += 1
        return False

    # -- the rest

    def check_failures(self):
        for p in self.publishes:
            if p["status"] not in (0, 3) and \
                    not self.impaired("master", p["begin"], p["end"]):
                self.wrong("publish", "status %s, and the master was well" %
                           p["status"], p)

    def check_convergence(self):
        for f in self.faults:
            for text in f.get("wrong", []):
                self.wrong("convergence", text, f)


def counts(answers, publishes, faults):
    """Lines that show what was tried."""
    by = collections.Counter
    yield "answers: %d; %s" % (len(answers), listed(by(
        "no answer" if a["status"] == 0 else "%d%s" % (
            a["status"], " cut" if "cut" in a else
            " stale" if a["stale"] else "") for a in answers)))
    yield "publishes: %d; %s; %d edges named" % (len(publishes), listed(by(
        "%s %s" % (p["kind"], p["status"]) for p in publishes)),
        sum(len(p["missing"]) for p in publishes))
    yield "faults: %s" % listed(by(f["kind"] + (
        " master" if f["host"] == "master" else "") for f in faults))
    took = sorted(f["took"] for f in faults if f.get("took") is not None)
    if took:
        yield "well again after: p50 %.1f s, slowest %.1f s, of %d" % (
            took[len(took) // 2], took[-1], len(took))


def listed(counter):
    return ", ".join("%d %s" % (n, k) for k, n in sorted(counter.items()))
