"""The process of a peer: builds an index over passages, answers queries, tells seconds and memory as one line of JSON.

Usage: worker.py PEER PASSAGES QUERIES, PEER being tfidf, bm25s or bm25s-numba, both files JSON lists of texts. Top 10
with the texts of the hits, one query after another, as a service gets them. With DJP_RANKINGS set, positions too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def load(peer: str) -> None:
    """Import what the peer needs, which is no part of a build."""
    if peer == "tfidf":
        importlib.import_module("sklearn.feature_extraction.text")
    else:
        importlib.import_module("bm25s")
        importlib.import_module("Stemmer")


def tfidf(texts: list[str]) -> Any:
    """scikit-learn's TF-IDF with its English stop words: cosine with every passage."""
    import numpy
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english")
    matrix = vectorizer.fit_transform(texts)

    def search(query: str) -> list[int]:
        scores = (matrix @ vectorizer.transform([query]).T).toarray().ravel()
        best = numpy.argpartition(-scores, min(10, len(texts) - 1))[:10]
        return [int(one) for one in best[numpy.argsort(-scores[best])]]

    return search


def bm25s(texts: list[str], backend: str) -> Any:
    """bm25s with English stop words and Snowball stems, its best setting."""
    import bm25s as library
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    tokens = library.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)
    retriever = library.BM25(backend=backend)
    retriever.index(tokens, show_progress=False)

    def search(query: str) -> list[int]:
        words = library.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False)
        found, _ = retriever.retrieve(words, k=min(10, len(texts)), show_progress=False, n_threads=0)
        return [int(one) for one in found[0]]

    return search


def memory_bytes(kind: str = "RssAnon") -> int:
    """Memory in RAM that is this process's alone; with `VmRSS` also what it maps of files, which can be taken back."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{kind}:")[2].split()[0]) * 1024


def main(peer: str, passages: str, queries: str) -> None:
    """Build, warm up, answer."""
    texts, asked = json.loads(Path(passages).read_text()), json.loads(Path(queries).read_text())
    load(peer)
    before = memory_bytes()
    began = time.perf_counter()
    search = tfidf(texts) if peer == "tfidf" else bm25s(texts, "numba" if peer == "bm25s-numba" else "numpy")
    built = time.perf_counter() - began
    for query in asked[:5]:
        search(query)
    took, rankings = [], []
    for query in asked:
        began = time.perf_counter()
        found = search(query)
        _ = [texts[one] for one in found]
        took.append(time.perf_counter() - began)
        rankings.append(found)
    answer = {"build_s": built, "seconds": took, "rss": memory_bytes() - before}
    if os.environ.get("DJP_RANKINGS"):
        answer["rankings"] = rankings
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:4])
