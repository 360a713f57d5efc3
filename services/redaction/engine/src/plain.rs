//! Finds what rules without a trigger describe, users' own above all: each is searched everywhere in a text.
//!
//! Whatever the rule and the text, no byte is read more often than a bounded number of times. A rule has an automaton
//! that finds where its matches end in one pass, and one that goes back to where they start; or, if the first would be too
//! large, its matches are short, and one is tried at every place where one may begin.

use std::cell::{Cell, OnceCell};

use regex_automata::dfa::Automaton;
use regex_automata::dfa::regex::{Builder, Regex};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::{Anchored, Input, MatchKind, Span};
use regex_syntax::hir::{Hir, HirKind, Repetition};

use crate::group::Group;
use crate::matcher::Match;
use crate::pattern::{self, Automata};
use crate::validators::Check;

/// Bytes of one automaton of a rule.
pub const MOST_AUTOMATON: usize = 1 << 18;
/// Why a rule is refused that has one of more.
pub const TOO_LARGE: &str = "too large";
/// A match counts once, and once more for each of so many bytes, for all that a long one is read for.
const LONG: usize = 32;
/// So many matches that the rule's validation refuses count as one.
const REFUSED: usize = 8;

/// More matches than wanted; the number of the rule that went too far.
pub struct TooMany(pub u32);

/// What a look at a stretch of text is.
#[derive(Clone, Copy)]
pub struct Pass {
    /// The stretch stands beside a finding and was searched with it.
    pub beside: bool,
    /// What is found counts for the limit.
    pub counts: bool,
}

/// How a rule is searched.
enum Search {
    /// In one pass, and back; from where the literal stands first that every match begins with, if there is one.
    Through(Box<(Regex<Automata>, Option<Prefilter>)>),
    /// By a try at every place where one of these bytes stands.
    Tries(Box<(Automata, [bool; 256])>),
}

impl Search {
    /// How many bytes of automata there are, and how many a match has at most that is tried everywhere, 0 in one pass.
    fn new(pattern: &Hir) -> Result<(Self, usize, usize), String> {
        let compiled =
            |reverse, anchored, kind| pattern::automaton(pattern, reverse, anchored, kind, Some(MOST_AUTOMATON));
        let ends = compiled(false, Anchored::No, MatchKind::LeftmostFirst);
        if let (Ok(ends), Ok(starts)) = (ends, compiled(true, Anchored::Yes, MatchKind::All)) {
            let bytes = ends.memory_usage() + starts.memory_usage();
            let literal = Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, pattern);
            return Ok((Self::Through(Box::new((Builder::new().build_from_dfas(ends, starts), literal))), bytes, 0));
        }
        let most = pattern.properties().maximum_len().ok_or(TOO_LARGE)?;
        let tried = compiled(false, Anchored::Yes, MatchKind::LeftmostFirst).map_err(|_| TOO_LARGE)?;
        let mut first = [false; 256];
        for ahead in pattern::AHEAD {
            let start = pattern::start(&tried, ahead)?;
            for (byte, first) in (0..).zip(&mut first) {
                *first |= !tried.is_dead_state(tried.next_state(start, byte));
            }
        }
        let bytes = tried.memory_usage();
        Ok((Self::Tries(Box::new((tried, first))), bytes, most))
    }

    /// Whether there is a match anywhere.
    fn any(&self, data: &[u8]) -> bool {
        match self {
            Self::Through(through) => stretch(&through.1, data, 0).is_some_and(|input| through.0.is_match(input)),
            Self::Tries(_) => self.next(data, 0).is_some(),
        }
    }

    /// The first match that begins at a place or behind it.
    fn next(&self, data: &[u8], from: usize) -> Option<(usize, usize)> {
        match self {
            Self::Through(through) => {
                let found = through.0.find(stretch(&through.1, data, from)?)?;
                Some((found.start(), found.end()))
            }
            Self::Tries(tries) => {
                let (automaton, first) = tries.as_ref();
                let mut places = (from..data.len()).filter(|&place| first[usize::from(data[place])]);
                places.find_map(|place| {
                    let input = Input::new(data).range(place..).anchored(Anchored::Yes);
                    let found = automaton.try_search_fwd(&input).ok()??;
                    Some((place, found.offset()))
                })
            }
        }
    }
}

/// From where on there may be a match.
fn stretch<'t>(literal: &Option<Prefilter>, data: &'t [u8], from: usize) -> Option<Input<'t>> {
    let place = match literal {
        Some(literal) => literal.find(data, Span { start: from, end: data.len() })?.start,
        None => from,
    };
    Some(Input::new(data).range(place..))
}

/// The pattern as if all that looks at the surroundings were fulfilled.
fn bare(pattern: &Hir) -> Hir {
    match pattern.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Capture(capture) => bare(&capture.sub),
        HirKind::Concat(all) => Hir::concat(all.iter().map(bare).collect()),
        HirKind::Alternation(all) => Hir::alternation(all.iter().map(bare).collect()),
        HirKind::Repetition(one) => Hir::repetition(Repetition { sub: Box::new(bare(&one.sub)), ..one.clone() }),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => pattern.clone(),
    }
}

/// A rule that is searched everywhere.
pub struct Rule {
    pub number: u32,
    search: Search,
    /// Finds something in every text of which any part holds a match; None if `search` does.
    anywhere: Option<Search>,
    group: Option<Group>,
    check: Option<Check>,
    /// Whether a match may be no finding, or a finding no match elsewhere. If not, nothing is left of the rule beside what it
    /// found.
    minds: bool,
    /// Bytes of its automata.
    pub bytes: usize,
    /// How many bytes a match has at most that is tried everywhere; 0 if none is.
    pub tried: usize,
}

impl Rule {
    /// The error is what the library says of the pattern, or `TOO_LARGE`.
    pub fn new(number: u32, pattern: &str, check: Option<Check>) -> Result<Self, String> {
        let pattern = pattern::parsed(pattern)?;
        let (search, mut bytes, mut tried) = Search::new(&pattern)?;
        let mut anywhere = None;
        if !pattern.properties().look_set().is_empty() {
            let (search, more_bytes, more_tried) = Search::new(&bare(&pattern))?;
            bytes += more_bytes;
            tried += more_tried;
            anywhere = Some(search);
        }
        let group = Group::new(&pattern);
        if let Some(group) = &group {
            bytes += group.compile(MOST_AUTOMATON).map_err(|_| TOO_LARGE)?;
        }
        let minds = anywhere.is_some() || group.is_some() || check.is_some();
        Ok(Self { number, search, anywhere, group, check, minds, bytes, tried })
    }
}

/// What the rules find in one text, and how many more matches may be found.
pub struct Plain<'r> {
    rules: &'r [Rule],
    /// Those of which the text may hold matches.
    chosen: OnceCell<Vec<&'r Rule>>,
    left: Cell<usize>,
    most: usize,
}

impl<'r> Plain<'r> {
    /// `left` matches may still be found of the `most` for a block of text.
    pub fn new(rules: &'r [Rule], left: usize, most: usize) -> Self {
        Self { rules, chosen: OnceCell::new(), left: Cell::new(left), most }
    }

    /// Leaves out rules of which no part of these texts holds a match: most rules, for most texts.
    pub fn choose(&self, texts: &[&[u8]]) {
        let may = |rule: &&Rule| {
            let search = rule.anywhere.as_ref().unwrap_or(&rule.search);
            texts.iter().any(|text| search.any(text))
        };
        self.chosen.get_or_init(|| self.rules.iter().filter(may).collect());
    }

    /// Whether there are rules, and not all are left out.
    pub fn any(&self) -> bool {
        self.chosen.get().map_or(!self.rules.is_empty(), |chosen| !chosen.is_empty())
    }

    pub fn left(&self) -> usize {
        self.left.get()
    }

    /// All matches in valid UTF-8, those of one rule disjoint.
    ///
    /// Matches in which the group that is the finding has no part count as well, and those that are refused a little.
    pub fn matches(&self, data: &[u8], pass: Pass, found: &mut Vec<Match>) -> Result<(), TooMany> {
        let most = if pass.counts { self.left.get() } else { 2 * self.most };
        let (mut many, mut refused) = (0, 0);
        let mut stops = <[Vec<usize>; 2]>::default();
        for rule in self.chosen.get().into_iter().flatten().filter(|rule| rule.minds || !pass.beside) {
            let mut at = 0;
            while let Some((start, end)) = rule.search.next(data, at) {
                at = end;
                let weight = 1 + (end - start) / LONG;
                let finding = match &rule.group {
                    Some(group) => group.find(data, start, end, &mut stops),
                    None => Some((start, end)),
                };
                let checked =
                    |(start, end)| (start, start + rule.check.map_or(end - start, |check| check(&data[start..end])));
                match finding.map(checked) {
                    Some((start, end)) if start == end => refused += weight,
                    Some((start, end)) => {
                        many += weight;
                        found.push(Match { start, rule: rule.number, end });
                    }
                    None => many += weight,
                }
                if many + refused / REFUSED > most {
                    return Err(TooMany(rule.number));
                }
            }
        }
        if pass.counts {
            self.left.set(most - many - refused / REFUSED);
        }
        Ok(())
    }
}
