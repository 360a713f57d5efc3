//! Finds what the rules of redaction describe: what `djp_redaction` does with every text, compiled.
//!
//! All engines here are linear in the text: the regex library's automata never backtrack without a bound.

mod group;
mod looks;
mod matcher;
mod meter;
mod pattern;
mod plain;
mod replacements;
mod text;
mod titles;
mod triggers;
mod validators;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::create_exception;
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use looks::{Looks, Redacted};
use matcher::{Matcher, Rule};
use meter::{Left, Meter, TooMuch};
use plain::Plain;
use replacements::{Replacement, Replacements};
use titles::Titles;
use triggers::Triggers;

create_exception!(_engine, Refused, PyValueError, "A rule cannot be compiled: (its number, what is at fault, why).");
create_exception!(_engine, Exceeded, PyValueError, "Too many matches, or reads: the number of the rule, or None.");

/// Bytes: a shorter text is done before another thread could make much of the GIL.
const SHORT: usize = 4096;

type PyRule = (u32, String, String, String, usize, bool, usize);
type PyRedacted = (String, Vec<u32>, Vec<usize>, Vec<usize>, Option<Vec<Option<String>>>, Left);

/// The compiled rules with a trigger; safe to use from several threads.
#[pyclass(frozen, name = "Matcher")]
struct PyMatcher(Matcher);

#[pymethods]
impl PyMatcher {
    /// Each rule is (number, pattern, trigger, validation, reach, solid, window), in the order of their numbers. Raises
    /// Refused.
    #[new]
    fn new(rules: Vec<PyRule>) -> PyResult<Self> {
        let mut compiled = Vec::with_capacity(rules.len());
        let mut triggers = Vec::with_capacity(rules.len());
        let numbers: Vec<u32> = rules.iter().map(|rule| rule.0).collect();
        for (number, pattern, trigger, validation, reach, solid, window) in rules {
            let check = validators::named(&validation);
            let rule = Rule::new(number, &pattern, check, reach, solid, window);
            compiled.push(rule.map_err(|reason| Refused::new_err((number, pattern, reason)))?);
            triggers.push(trigger);
        }
        let triggers = Triggers::new(&triggers)
            .map_err(|(at, reason)| Refused::new_err((numbers[at], triggers[at].clone(), reason)))?;
        Ok(Self(Matcher::new(compiled, triggers)))
    }
}

/// The replacements by one choice of strategies.
#[pyclass(frozen, name = "Replacements")]
struct PyReplacements(Replacements);

#[pymethods]
impl PyReplacements {
    /// `of_rules` says of every rule by its number how its values are replaced: ("fixed", text), ("partial", "") or
    /// ("pseudonym", type); `key` is that of the pseudonyms. `known` matches every replacement that may stand in a text,
    /// and none stands there without one of the marks. `joining`: one may become one with what stands beside it.
    #[new]
    fn new(
        of_rules: Vec<(String, String)>,
        key: Option<&[u8]>,
        known: &str,
        marks: Vec<String>,
        joining: bool,
    ) -> PyResult<Self> {
        let of_rules = of_rules.into_iter().map(|(how, what)| match (how.as_str(), key) {
            ("fixed", _) => Ok(Replacement::Fixed(what)),
            ("partial", _) => Ok(Replacement::Partial),
            ("pseudonym", Some(key)) => Ok(Replacement::pseudonym(what, key)),
            _ => Err(PyValueError::new_err(format!("{how}: not known, or without its key"))),
        });
        let of_rules = of_rules.collect::<PyResult<_>>()?;
        Ok(Self(Replacements::new(of_rules, known, &marks, joining).map_err(PyValueError::new_err)?))
    }

    /// Where replacements and titles stand in a text, in code points: disjoint places in order.
    fn walls(&self, text: &str, titles: &PyTitles) -> Vec<(usize, usize)> {
        let (mut done, mut characters) = (0, 0);
        let mut character = |at: usize| {
            characters += text::length(&text[done..at]);
            done = at;
            characters
        };
        let walls = self.0.walls(text, &titles.0).into_iter();
        walls.map(|(start, end)| (character(start), character(end))).collect()
    }
}

/// The compiled rules without a trigger; safe to use from several threads.
#[pyclass(frozen, name = "PlainRules")]
struct PyPlainRules(Vec<plain::Rule>);

#[pymethods]
impl PyPlainRules {
    /// Each rule is (number, pattern, validation). Raises Refused.
    #[new]
    fn new(rules: Vec<(u32, String, String)>) -> PyResult<Self> {
        let compiled = rules.into_iter().map(|(number, pattern, validation)| {
            let rule = plain::Rule::new(number, &pattern, validators::named(&validation));
            rule.map_err(|reason| Refused::new_err((number, pattern, reason)))
        });
        Ok(Self(compiled.collect::<PyResult<_>>()?))
    }

    /// Bytes of all automata.
    #[getter]
    fn bytes(&self) -> usize {
        self.0.iter().map(|rule| rule.bytes).sum()
    }

    /// How many bytes the matches have at most of rules that are tried everywhere, because the automaton for one pass
    /// would take too much: how often a byte may be read for them.
    #[getter]
    fn tried(&self) -> usize {
        self.0.iter().map(|rule| rule.tried).sum()
    }
}

/// Titles that come through as they are, each in its brackets.
#[pyclass(frozen, name = "Titles")]
struct PyTitles(Titles);

#[pymethods]
impl PyTitles {
    #[new]
    fn new(titles: Vec<String>) -> Self {
        Self(Titles::new(&titles))
    }

    /// Where in a text, in code points, the first title begins that its end does not finish; or its length.
    fn unfinished(&self, text: &str) -> usize {
        text::length(&text[..self.0.unfinished(text.as_bytes())])
    }
}

/// The text redacted, and of all findings the rules, the starts and the ends, in code points, and the replacements: None
/// for what is fixed for its rule; and what is left for the block.
///
/// `before` stands in front of the text, whose place is `offset`; titles come through as they are. No finding has
/// fewer than `least` characters. `left` is what is left for the block of text, if it was begun: how many matches of
/// rules without a trigger, and how many reads, MOST_READS more for each byte of this text. A text that is not short is
/// searched without the GIL. Raises Exceeded.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn redact(
    py: Python<'_>,
    matcher: &PyMatcher,
    plain: Option<&PyPlainRules>,
    replacements: &PyReplacements,
    titles: &PyTitles,
    least: usize,
    text: &str,
    before: &str,
    offset: usize,
    left: Option<Left>,
) -> PyResult<PyRedacted> {
    let (matcher, replacements, titles) = (&matcher.0, &replacements.0, &titles.0);
    let rules = plain.map_or(&[][..], |plain| &plain.0);
    let work = || {
        let looks = Looks {
            matcher,
            replacements,
            titles,
            plain: Plain::new(rules),
            meter: Meter::new(left, text.len()),
            least,
        };
        let redacted = looks.redact(text, before).map_err(|what| match what {
            TooMuch::Matches(rule) => Exceeded::new_err((Some(rule),)),
            TooMuch::Reads => Exceeded::new_err((None::<u32>,)),
        })?;
        Ok(for_python(redacted, offset, looks.meter.left()))
    };
    if text.len() < SHORT { guarded(work) } else { py.detach(|| guarded(work)) }
}

fn for_python(Redacted { text, findings }: Redacted<'_>, offset: usize, left: Left) -> PyRedacted {
    let rules = findings.iter().map(|one| one.rule).collect();
    let starts = findings.iter().map(|one| offset + one.start).collect();
    let ends = findings.iter().map(|one| offset + one.end).collect();
    let any = findings.iter().any(|one| matches!(one.replacement, Cow::Owned(_)));
    let own = findings.into_iter().map(|one| match one.replacement {
        Cow::Borrowed(_) => None,
        Cow::Owned(own) => Some(own),
    });
    (text, rules, starts, ends, any.then(|| own.collect()), left)
}

/// A fault of the engine is an error like others. What it says may quote the text, so that nobody is told.
fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(PyRuntimeError::new_err("the redaction engine failed")))
}

/// How many bytes of a value are the finding, by the check of that name; 0 refuses it. Raises KeyError.
#[pyfunction]
fn validate(name: &str, value: &[u8]) -> PyResult<usize> {
    let check = validators::named(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    Ok(check(value))
}

/// The text as it is searched, code point by code point, and whether nobody sees something in it.
#[pyfunction]
fn prepared(text: &str) -> (Cow<'_, str>, bool) {
    let text::Prepared { searched, unseen, .. } = text::prepared(text);
    (searched, unseen)
}

/// The text folded, and without what nobody sees.
#[pyfunction]
fn visible(text: &str) -> String {
    text::visible(text)
}

/// Where in a text the character stands that is number `at` of what a reader sees.
#[pyfunction]
fn place_of_seen(text: &str, at: usize) -> usize {
    text::place_of_seen(text, at)
}

/// Whether this character belongs to the one before it, whatever that is.
#[pyfunction]
fn continues(character: char) -> bool {
    text::continues(character)
}

/// How much was read since the process began.
#[pyfunction]
fn reads() -> u64 {
    meter::reads()
}

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::{
        Exceeded, PyMatcher, PyPlainRules, PyReplacements, PyTitles, Refused, continues, place_of_seen, prepared,
        reads, redact, validate, visible,
    };

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        use pyo3::types::PyModuleMethods;
        let names: Vec<&str> = super::validators::CHECKS.iter().map(|(name, _)| *name).collect();
        module.add("VALIDATIONS", names)?;
        module.add("MOST_MATCHES", super::meter::MOST_MATCHES)?;
        module.add("MOST_READS", super::meter::MOST_READS)?;
        module.add("MOST_AUTOMATON", super::plain::MOST_AUTOMATON)?;
        module.add("TOO_LARGE", super::plain::TOO_LARGE)?;
        module.add("PSEUDONYM_DIGITS", super::replacements::PSEUDONYM_DIGITS)?;
        // What a fault says may quote the text: where it happened must do.
        std::panic::set_hook(Box::new(|fault| {
            let place = fault.location().map_or(0, std::panic::Location::line);
            let file = fault.location().and_then(|at| at.file().rsplit('/').next()).unwrap_or_default();
            eprintln!("the redaction engine failed in {file}, line {place}");
        }));
        Ok(())
    }
}
