"""How good grounding's search and its citation check are, on the Cranfield collection, beside TF-IDF and bm25s.

    python benchmarks/grounding_quality.py FOLDER

FOLDER holds the collection as docs.jsonl (id, title, text), queries.jsonl (id, text) and qrels.jsonl (q, d, rel).
Search: nDCG@10 with binary relevance; a document counts once. The one number tuned on it, the weight of titles, is
chosen in ten-fold cross-validation over the queries as well, so that no query is scored with a weight that it chose.
Citations: the support of sentences by the abstract they are from, by others, and with words replaced; this
calibrates `djp_grounding.support`. Quotations: passages of the abstracts as typesetters and models write them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.grounding_peers.peers import ask
from djp.llm.text import split_sentences, terms
from djp_grounding import index
from djp_grounding.corpora import Corpora
from djp_grounding.folder import CorpusFolder
from djp_grounding.model import Passage
from djp_grounding.quotes import DocumentText
from djp_grounding.snapshot import Snapshot
from djp_grounding.support import THRESHOLD, Evidence
from tests.grounding.typesetting import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BOOSTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
FOLDS = 10


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file. Ends the program if it is missing."""
    if not file.is_file():
        sys.exit(f"{file} is missing; give the folder of the collection")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def ndcg(found: Sequence[str], relevant: set[str]) -> float:
    """nDCG@10 with binary relevance."""
    gain = sum(1 / math.log2(rank + 2) for rank, one in enumerate(found[:10]) if one in relevant)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))


def cross_validated(scores: Mapping[float, Sequence[float]]) -> float:
    """Each fold of queries scored with the boost that is best on the other folds."""
    count = len(next(iter(scores.values())))
    order = list(range(count))
    random.Random(7).shuffle(order)
    held_out = []
    for fold in range(FOLDS):
        test = set(order[fold::FOLDS])
        best = max(scores, key=lambda boost: sum(scores[boost][one] for one in range(count) if one not in test))
        held_out += [scores[best][one] for one in test]
    return statistics.fmean(held_out)


def search_figures(
    snapshot: Snapshot,
    docs: list[dict[str, Any]],
    queries: list[dict[str, Any]],
    folder: Path,
    relevant: Mapping[str, set[str]],
    peers: Sequence[str],
) -> dict[str, float]:
    """nDCG@10 of ours, with its cross-validation, and of the peers."""

    def ours(boost: float) -> list[float]:
        index.TITLE_BOOST = boost
        answers = [snapshot.search(query["text"], 40) for query in queries]
        ranked = [dict.fromkeys(hit.document.path.removesuffix(".md") for hit in hits) for hits in answers]
        return [ndcg(list(one), relevant[str(query["id"])]) for one, query in zip(ranked, queries, strict=True)]

    chosen = index.TITLE_BOOST
    scores = {boost: ours(boost) for boost in BOOSTS}
    index.TITLE_BOOST = chosen
    figures = {"ours": statistics.fmean(scores[chosen]), "ours_cross_validated": cross_validated(scores)}
    (folder / "texts.json").write_text(json.dumps([f"{one['title']}\n{one['text']}" for one in docs]))
    (folder / "queries.json").write_text(json.dumps([query["text"] for query in queries]))
    for peer in peers:
        found = ask(peer, folder / "texts.json", folder / "queries.json", rankings=True)["rankings"]
        figures[peer] = statistics.fmean(
            ndcg([str(docs[one]["id"]) for one in hits], relevant[str(query["id"])])
            for hits, query in zip(found, queries, strict=True)
        )
    return figures


def support_figures(snapshot: Snapshot, docs: list[dict[str, Any]], samples: int) -> dict[str, float]:
    """The share of sentences, of each kind, that the cited document is said to back."""
    rng = random.Random(7)
    evidence = Evidence(snapshot._index)
    documents = {one.path: one for one in snapshot.manifest.documents}
    sentences = {
        f"{one['id']}.md": found
        for one in docs
        if (found := [each for each in split_sentences(" ".join(one["text"].split())) if len(set(terms(each))) >= 5])
    }
    paths = sorted(sentences)
    vocabulary = [word for path in paths for each in sentences[path] for word in each.split()]

    def replaced(sentence: str, share: float) -> str:
        return " ".join(rng.choice(vocabulary) if rng.random() < share else word for word in sentence.split())

    def other(path: str) -> str:
        return rng.choice([one for one in rng.sample(paths, 2) if one != path])

    kinds: dict[str, Callable[[str, str], tuple[str, str]]] = {
        "its own document": lambda path, said: (path, said),
        "its own, a fifth of the words replaced": lambda path, said: (path, replaced(said, 0.2)),
        "its own, a third of the words replaced": lambda path, said: (path, replaced(said, 1 / 3)),
        "another document": lambda path, said: (other(path), said),
        "words of the collection in no order": lambda path, _said: (path, replaced("word " * 15, 1.0)),
    }
    figures = {}
    for kind, make in kinds.items():
        backed = 0
        for _ in range(samples):
            path = rng.choice(paths)
            cited, said = make(path, rng.choice(sentences[path]))
            backed += evidence.backs(evidence.support(documents[cited], said)[0] or 0.0, said)
        figures[kind] = backed / samples
    return figures


def quote_figures(docs: list[dict[str, Any]], samples: int) -> dict[str, float]:
    """The shares of quotations that are accepted: as they stand there, and with one word of the collection put in."""
    rng = random.Random(7)
    vocabulary = sorted({word for one in docs for word in one["text"].split()})
    true = invented = 0
    for _ in range(samples):
        text = rng.choice(docs)["text"]
        words = text.split()
        length = rng.randrange(4, 20)
        at = rng.randrange(max(1, len(words) - length))
        quote = words[at : at + length]
        document = DocumentText([Passage(0, 0, 0, len(text), text)])
        true += document.holds(damaged(" ".join(quote), rng))
        place = rng.randrange(len(quote))
        quote[place] = next(word for word in rng.sample(vocabulary, len(words)) if word not in words)
        invented += document.holds(damaged(" ".join(quote), rng))
    return {"true": true / samples, "invented": invented / samples}


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of the collection")
    parser.add_argument("--quick", action="store_true", help="fewer sentences, one peer")
    flags = parser.parse_args()
    if flags.folder is None:
        print("nothing measured: the collection does not come with this project; give its folder")
        print(json.dumps({"benchmark": "grounding_quality", "figures": {}}))
        return
    docs = [one for one in read_lines(flags.folder / "docs.jsonl") if one["text"].strip()]
    queries = read_lines(flags.folder / "queries.jsonl")
    relevant: dict[str, set[str]] = {}
    for line in read_lines(flags.folder / "qrels.jsonl"):
        if line["rel"] > 0:
            relevant.setdefault(str(line["q"]), set()).add(str(line["d"]))
    queries = [query for query in queries if relevant.get(str(query["id"]))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = Corpora(folder / "data")
        with corpora.intake() as intake:
            intake.add_all((f"{one['id']}.md", f"# {one['title']}\n\n{one['text']}".encode()) for one in docs)
            version = corpora.create("default", "cranfield", intake, str(uuid.uuid4())).version.version
        snapshot = Snapshot(CorpusFolder(folder / "data" / "default", "cranfield"), version)
        found = search_figures(
            snapshot, docs, queries, folder, relevant, ("bm25s",) if flags.quick else ("tfidf", "bm25s")
        )
        print(f"nDCG@10 over {len(queries)} queries and {len(docs)} documents")
        for who, score in found.items():
            print(f"  {who.replace('_', ' '):<42}{score:>7.4f}")
        print(f"sentences that a cited document is said to back (support of {THRESHOLD} or more)")
        backed = support_figures(snapshot, docs, 500 if flags.quick else 3000)
        for kind, share in backed.items():
            print(f"  {kind:<42}{share:>7.1%}")
    quotes = quote_figures([one for one in docs if len(one["text"].split()) > 20], 200 if flags.quick else 1000)
    print("quotations accepted, after random ligatures, hyphens, line breaks and capitals")
    print(f"  {'true':<42}{quotes['true']:>7.1%}")
    print(f"  {'with one word replaced':<42}{quotes['invented']:>7.1%}")
    figures = {f"ndcg10_{who}": round(score, 4) for who, score in found.items()}
    figures |= {f"backed_{kind.replace(',', '').replace(' ', '_')}": round(share, 4) for kind, share in backed.items()}
    figures |= {f"quotations_{kind}_accepted": share for kind, share in quotes.items()}
    print(json.dumps({"benchmark": "grounding_quality", "figures": figures}))


if __name__ == "__main__":
    main()
