//! Finds what rules without a trigger describe, users' own above all: each is searched everywhere in a text.
//!
//! Whatever the rule and the text, no byte is read more often than a bounded number of times. A rule has an automaton
//! that finds where its matches end in one pass, and one that goes back to where they start; or, if the first would be too
//! large, its matches are short, and one is tried at every place where one may begin.

use std::cell::{Cell, OnceCell};

use regex_automata::dfa::Automaton;
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
/// A match counts once, and once more for each of so many bytes that were read from its start on.
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
    Through(Box<Through>),
    Tries(Box<Tries>),
}

/// In one pass.
struct Through {
    /// Tells where the first match ends, and, back from there, where it starts.
    ends: Automata,
    starts: Automata,
    /// What every match begins with, if that is one of a few literals.
    literal: Option<Prefilter>,
}

/// By a try at every place where a match may begin.
struct Tries {
    ends: Automata,
    /// With which bytes.
    first: [bool; 256],
}

/// A match, and how far the text was read to find it.
struct Found {
    start: usize,
    end: usize,
    read: usize,
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
            return Ok((Self::Through(Box::new(Through { ends, starts, literal })), bytes, 0));
        }
        let most = pattern.properties().maximum_len().ok_or(TOO_LARGE)?;
        let ends = compiled(false, Anchored::Yes, MatchKind::LeftmostFirst).map_err(|_| TOO_LARGE)?;
        let mut first = [false; 256];
        for ahead in pattern::AHEAD {
            let start = pattern::start(&ends, ahead)?;
            for (byte, first) in (0..).zip(&mut first) {
                *first |= !ends.is_dead_state(ends.next_state(start, byte));
            }
        }
        let bytes = ends.memory_usage();
        Ok((Self::Tries(Box::new(Tries { ends, first })), bytes, most))
    }

    /// Whether there is a match anywhere.
    fn any(&self, data: &[u8]) -> bool {
        match self {
            Self::Through(through) => through.end(data, 0, true).is_some(),
            Self::Tries(tries) => tries.next(data, 0).is_some(),
        }
    }

    /// The first match that begins at a place or behind it.
    fn next(&self, data: &[u8], from: usize) -> Option<Found> {
        match self {
            Self::Through(through) => through.next(data, from),
            Self::Tries(tries) => tries.next(data, from),
        }
    }
}

impl Through {
    fn next(&self, data: &[u8], from: usize) -> Option<Found> {
        let (end, read) = self.end(data, from, false)?;
        let input = Input::new(data).range(from..end).anchored(Anchored::Yes);
        let start = self.starts.try_search_rev(&input).ok()??.offset();
        Some(Found { start, end, read })
    }

    /// Where the first match ends, or another if `any` will do, and how far the text was read.
    fn end(&self, data: &[u8], from: usize, any: bool) -> Option<(usize, usize)> {
        let from = match &self.literal {
            Some(literal) => literal.find(data, Span { start: from, end: data.len() })?.start,
            None => from,
        };
        let mut state = self.ends.start_state_forward(&Input::new(data).range(from..)).ok()?;
        let mut end = None;
        for (at, &byte) in (from..).zip(&data[from..]) {
            state = self.ends.next_state(state, byte);
            if self.ends.is_special_state(state) {
                if self.ends.is_match_state(state) {
                    end = Some(at); // it tells so one byte late
                }
                if self.ends.is_dead_state(state) || any {
                    return Some((end?, at));
                }
            }
        }
        if self.ends.is_match_state(self.ends.next_eoi_state(state)) {
            end = Some(data.len());
        }
        Some((end?, data.len()))
    }
}

impl Tries {
    fn next(&self, data: &[u8], from: usize) -> Option<Found> {
        let mut places = (from..data.len()).filter(|&place| self.first[usize::from(data[place])]);
        places.find_map(|start| {
            let input = Input::new(data).range(start..).anchored(Anchored::Yes);
            let end = self.ends.try_search_fwd(&input).ok()??.offset();
            Some(Found { start, end, read: end })
        })
    }
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
            while let Some(Found { start, end, read }) = rule.search.next(data, at) {
                at = end;
                let weight = 1 + (read - start) / LONG;
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
