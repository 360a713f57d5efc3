//! Finds what rules without a trigger describe, users' own above all: each is searched everywhere in a text.
//!
//! Whatever the rule and the text, no byte is read more often than a bounded number of times. A rule has an automaton
//! that finds where its matches end in one pass, and one that goes back to where they start; or, if the first would be too
//! large, its matches are short, and one is tried at every place where one may begin.

use std::cell::OnceCell;

use memchr::memmem::Finder;
use regex_automata::dfa::Automaton;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind, Repetition};

use crate::group::Group;
use crate::matcher::Match;
use crate::meter::{Meter, STEP, TooMuch};
use crate::pattern::{self, Automata};
use crate::validators::Check;

/// Bytes of one automaton of a rule.
pub const MOST_AUTOMATON: usize = 1 << 18;
/// Why a rule is refused that has one of more.
pub const TOO_LARGE: &str = "too large";
/// Bytes of an automaton that take one read more: they are further away from the processor.
const FAR: usize = 1 << 16;

/// Reads that a try counts, beside what is read for it.
const TRY: usize = 8;
/// Bytes of a literal: the library looks for short ones faster.
const LITERAL: usize = 32;

/// What a look at a stretch of text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    First,
    /// The stretch stands beside a finding and was searched with it.
    Beside,
    /// The stretch stands beside a replacement that became one with what stood beside it.
    Joined,
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
    /// What every match begins with.
    literal: Option<Finder<'static>>,
}

/// By a try at every place where a match may begin.
struct Tries {
    ends: Automata,
    /// With which bytes.
    first: [bool; 256],
}

impl Search {
    /// How many bytes of automata there are, and how many a match has at most that is tried everywhere, 0 in one pass.
    fn new(pattern: &Hir) -> Result<(Self, usize, usize), String> {
        let compiled =
            |reverse, anchored, kind| pattern::automaton(pattern, reverse, anchored, kind, Some(MOST_AUTOMATON));
        let ends = compiled(false, Anchored::No, MatchKind::LeftmostFirst);
        if let (Ok(ends), Ok(starts)) = (ends, compiled(true, Anchored::Yes, MatchKind::All)) {
            let bytes = ends.memory_usage() + starts.memory_usage();
            let prefixes = Extractor::new().extract(pattern);
            let literal = prefixes.longest_common_prefix().filter(|literal| !literal.is_empty());
            let literal = literal.map(|literal| Finder::new(&literal[..literal.len().min(LITERAL)]).into_owned());
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
    fn any(&self, data: &[u8], meter: &Meter) -> bool {
        match self {
            Self::Through(through) => through.end(data, 0, true, meter).is_some(),
            Self::Tries(tries) => tries.next(data, 0, meter).is_some(),
        }
    }

    /// The first match that begins at a place or behind it.
    fn next(&self, data: &[u8], from: usize, meter: &Meter) -> Option<(usize, usize)> {
        match self {
            Self::Through(through) => through.next(data, from, meter),
            Self::Tries(tries) => tries.next(data, from, meter),
        }
    }
}

impl Through {
    fn next(&self, data: &[u8], from: usize, meter: &Meter) -> Option<(usize, usize)> {
        let end = self.end(data, from, false, meter)?;
        let input = Input::new(data).range(from..end).anchored(Anchored::Yes);
        let start = self.starts.try_search_rev(&input).ok()??.offset();
        meter.read((end - start) * price(&self.starts));
        Some((start, end))
    }

    /// Where the first match ends, or another if `any` will do.
    fn end(&self, data: &[u8], from: usize, any: bool, meter: &Meter) -> Option<usize> {
        let from = match &self.literal {
            Some(literal) => {
                let found = literal.find(&data[from..]);
                meter.read(found.unwrap_or(data.len() - from) / 4); // many at once
                from + found?
            }
            None => from,
        };
        meter.read(STEP);
        end(&self.ends, &Input::new(data).range(from..), any, meter)
    }
}

impl Tries {
    fn next(&self, data: &[u8], from: usize, meter: &Meter) -> Option<(usize, usize)> {
        let mut places = (from..data.len()).filter(|&place| self.first[usize::from(data[place])]);
        places.find_map(|start| {
            let input = Input::new(data).range(start..).anchored(Anchored::Yes);
            meter.read(TRY);
            Some((start, end(&self.ends, &input, false, meter)?))
        })
    }
}

/// How many reads one of this automaton counts.
fn price(automaton: &Automata) -> usize {
    1 + automaton.memory_usage() / FAR
}

/// Where the first match ends, or another if `any` will do.
fn end(automaton: &Automata, input: &Input<'_>, any: bool, meter: &Meter) -> Option<usize> {
    let mut state = automaton.start_state_forward(input).ok()?;
    let (mut end, mut read) = (None, input.end());
    for (at, &byte) in input.get_range().zip(&input.haystack()[input.get_range()]) {
        state = automaton.next_state(state, byte);
        if automaton.is_special_state(state) {
            if automaton.is_match_state(state) {
                end = Some(at); // it tells so one byte late
            }
            if automaton.is_dead_state(state) || any && end.is_some() {
                read = at;
                break;
            }
        }
    }
    meter.read((read - input.start()) * price(automaton));
    if read == input.end() && automaton.is_match_state(automaton.next_eoi_state(state)) {
        end = Some(read);
    }
    end
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

/// What the rules find in one text.
pub struct Plain<'r> {
    rules: &'r [Rule],
    /// Those of which the text may hold matches.
    chosen: OnceCell<Vec<&'r Rule>>,
}

impl<'r> Plain<'r> {
    pub fn new(rules: &'r [Rule]) -> Self {
        Self { rules, chosen: OnceCell::new() }
    }

    /// Leaves out rules of which no part of these texts holds a match: most rules, for most texts.
    pub fn choose(&self, texts: &[&[u8]], meter: &Meter) {
        let may = |rule: &&Rule| {
            let search = rule.anywhere.as_ref().unwrap_or(&rule.search);
            texts.iter().any(|text| search.any(text, meter))
        };
        self.chosen.get_or_init(|| self.rules.iter().filter(may).collect());
    }

    /// Whether there are rules, and not all are left out.
    pub fn any(&self) -> bool {
        self.chosen.get().map_or(!self.rules.is_empty(), |chosen| !chosen.is_empty())
    }

    /// All matches in valid UTF-8, those of one rule disjoint. With `counts` they count, also if the group that is the
    /// finding has no part in them, but not if they are refused.
    pub fn matches(
        &self,
        data: &[u8],
        pass: Pass,
        counts: bool,
        meter: &Meter,
        found: &mut Vec<Match>,
    ) -> Result<(), TooMuch> {
        let mut stops = <[Vec<usize>; 2]>::default();
        let chosen = self.chosen.get().into_iter().flatten().copied();
        let rules: Vec<&Rule> = match pass {
            Pass::First => chosen.collect(),
            Pass::Beside => chosen.filter(|rule| rule.minds).collect(),
            Pass::Joined => self.rules.iter().collect(), // with what replacements left, there may be what was nowhere
        };
        for rule in rules {
            let mut at = 0;
            while let Some((start, end)) = rule.search.next(data, at, meter) {
                at = end;
                let finding = match &rule.group {
                    Some(group) => {
                        meter.read(STEP + 6 * (end - start));
                        group.find(data, start, end, &mut stops)
                    }
                    None => Some((start, end)),
                };
                let mut refused = false;
                if let Some((start, mut end)) = finding {
                    if let Some(check) = rule.check {
                        meter.read(STEP + 4 * (end - start));
                        end = start + check(&data[start..end]);
                    }
                    refused = start == end;
                    if !refused {
                        meter.read(STEP);
                        found.push(Match { start, rule: rule.number, end });
                    }
                }
                if counts && !refused {
                    meter.matched(rule.number)?;
                }
                meter.check()?;
            }
            meter.check()?;
        }
        Ok(())
    }
}
