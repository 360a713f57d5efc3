"""Runs in the environment of Presidio: reads a list of texts a line, and writes what it finds in them.

Only the recognisers that work by pattern (and its telephone recogniser, which works by the `phonenumbers` library) are
used, called directly, without an NLP model and without the engine around them: the least that a user of Presidio can
run. Presidio has none for API keys, AWS keys, tokens and PEM keys, so these are its own PatternRecognizer with the
patterns given on the command line. Every score counts as found.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import tldextract

warnings.simplefilter("ignore")
# The snapshot that comes with the package, instead of a look at the network at the first address.
tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

from presidio_analyzer import Pattern, PatternRecognizer  # noqa: E402
from presidio_analyzer.predefined_recognizers import (  # noqa: E402
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UrlRecognizer,
    UsSsnRecognizer,
)

OWN = {
    "EMAIL": EmailRecognizer,
    "PHONE": PhoneRecognizer,
    "SSN": UsSsnRecognizer,
    "CREDIT_CARD": CreditCardRecognizer,
    "IP": IpRecognizer,
    "URL": UrlRecognizer,
    "IBAN": IbanRecognizer,
}


def recognizers(patterns, kinds):
    """One for each kind, and the name it has there; `patterns` take the place of Presidio's own recognisers."""
    for kind in kinds:
        if kind in patterns:
            recognizer = PatternRecognizer(kind, patterns=[Pattern(kind, patterns[kind], 0.9)])
        elif kind in OWN:
            recognizer = OWN[kind]()
        else:
            continue
        yield kind, recognizer, recognizer.supported_entities


def main():
    """Answers each line `[texts]` with `{"cpu_s", "found": [[[kind, start, end, score]]]}`."""
    options = json.loads(sys.argv[1])
    ready = list(recognizers(options["patterns"], options["kinds"]))
    print(json.dumps({"ready": [kind for kind, _, _ in ready]}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.process_time()
        results = [
            [(kind, recognizer.analyze(text, entities, None)) for kind, recognizer, entities in ready] for text in texts
        ]
        used = time.process_time() - began
        found = [
            [[kind, result.start, result.end, result.score] for kind, all_of_it in of_text for result in all_of_it]
            for of_text in results
        ]
        print(json.dumps({"cpu_s": used, "found": found}), flush=True)


if __name__ == "__main__":
    main()
