//! Where the first group of a pattern stands in a match, by automata: a library that follows groups takes twenty times
//! as long as one that only tells where a match ends.
//!
//! A pattern with a group is what stands before it, the group, and what stands behind it. The group begins where what is
//! before it may end and the rest may begin, and likewise ends. If that is so at several places, it is the one that what
//! is before the group, or the group, prefers by itself; if the rest does not let it, the group is as wide as it can be.

use std::sync::OnceLock;

use regex_automata::dfa::Automaton;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Repetition};

use crate::pattern::{self, Automata};

/// A pattern parted at its first group.
struct Parts {
    before: Hir,
    group: Hir,
    behind: Hir,
    /// Whether every match has the group.
    certain: bool,
}

fn parted(hir: &Hir) -> Option<Parts> {
    match hir.kind() {
        HirKind::Capture(capture) if capture.index == 1 => {
            let group = capture.sub.as_ref().clone();
            Some(Parts { before: Hir::empty(), group, behind: Hir::empty(), certain: true })
        }
        HirKind::Capture(capture) => parted(&capture.sub),
        HirKind::Concat(all) => {
            let (at, parts) = all.iter().enumerate().find_map(|(at, one)| Some((at, parted(one)?)))?;
            let before = Hir::concat(all[..at].iter().cloned().chain([parts.before]).collect());
            let behind = Hir::concat([parts.behind].into_iter().chain(all[at + 1..].iter().cloned()).collect());
            Some(Parts { before, behind, ..parts })
        }
        HirKind::Alternation(all) => Some(Parts { certain: false, ..all.iter().find_map(parted)? }),
        HirKind::Repetition(one) => {
            let parts = parted(&one.sub)?;
            let others = Hir::repetition(Repetition { min: 0, ..one.clone() });
            Some(Parts {
                before: Hir::concat(vec![others.clone(), parts.before]),
                behind: Hir::concat(vec![parts.behind, others]),
                certain: parts.certain && one.min > 0,
                ..parts
            })
        }
        _ => None,
    }
}

/// Tells where a match of one part of a pattern may end, from its start, or may start, from its end.
struct Part {
    hir: Hir,
    reverse: bool,
    kind: MatchKind,
    automaton: OnceLock<Option<Automata>>,
}

impl Part {
    fn new(hir: Hir, reverse: bool, kind: MatchKind) -> Self {
        Self { hir, reverse, kind, automaton: OnceLock::new() }
    }

    /// Compiled when it is first needed: most of them never are.
    fn automaton(&self) -> Option<&Automata> {
        self.automaton.get_or_init(|| self.compiled(None).ok()).as_ref()
    }

    fn compiled(&self, most: Option<usize>) -> Result<Automata, String> {
        pattern::automaton(&self.hir, self.reverse, Anchored::Yes, self.kind, most)
    }

    /// All places in this stretch where a match that begins at one end of it may stop, or, if the kind is to prefer one,
    /// that one last.
    fn stops(&self, data: &[u8], start: usize, end: usize, stops: &mut Vec<usize>) -> Option<()> {
        stops.clear();
        let input = Input::new(data).range(start..end).anchored(Anchored::Yes);
        let automaton = self.automaton()?;
        // A match is told one byte late: one more is read, or the end of the text.
        let mut note = |state, place| {
            if automaton.is_special_state(state) && automaton.is_match_state(state) {
                stops.push(place);
            }
            automaton.is_dead_state(state)
        };
        let beyond = if self.reverse {
            let mut state = automaton.start_state_reverse(&input).ok()?;
            for at in (start..end).rev() {
                state = automaton.next_state(state, data[at]);
                if note(state, at + 1) {
                    return Some(());
                }
            }
            (state, start.checked_sub(1), start)
        } else {
            let mut state = automaton.start_state_forward(&input).ok()?;
            for (at, &byte) in (start..end).zip(&data[start..end]) {
                state = automaton.next_state(state, byte);
                if note(state, at) {
                    return Some(());
                }
            }
            (state, Some(end), end)
        };
        let (state, at, place) = beyond;
        match at.and_then(|at| data.get(at)) {
            Some(&byte) => note(automaton.next_state(state, byte), place),
            None => note(automaton.next_eoi_state(state), place),
        };
        Some(())
    }
}

/// The automata that tell where a group stands.
pub struct Group {
    certain: bool,
    start: Edge,
    end: Edge,
}

/// What tells where a group begins, or ends.
struct Edge {
    /// What stands outside of the group, from the edge of the match.
    outside: Part,
    /// The rest of the match, from its other edge.
    rest: Part,
    /// What comes first of both in the pattern, forward: where it stops by itself.
    prefers: Part,
}

impl Group {
    /// None if the pattern has no group.
    pub fn new(pattern: &Hir) -> Option<Self> {
        let Parts { before, group, behind, certain } = parted(pattern)?;
        let from = Hir::concat(vec![group.clone(), behind.clone()]);
        let up_to = Hir::concat(vec![before.clone(), group.clone()]);
        let start = Edge {
            outside: Part::new(before.clone(), false, MatchKind::All),
            rest: Part::new(from, true, MatchKind::All),
            prefers: Part::new(before, false, MatchKind::LeftmostFirst),
        };
        let end = Edge {
            outside: Part::new(behind, true, MatchKind::All),
            rest: Part::new(up_to, false, MatchKind::All),
            prefers: Part::new(group, false, MatchKind::LeftmostFirst),
        };
        Some(Self { certain, start, end })
    }

    /// Compiles all that may ever be needed, and tells how many bytes it takes. The error says what takes more than `most`.
    pub fn compile(&self, most: usize) -> Result<usize, String> {
        let mut bytes = 0;
        for part in [&self.start, &self.end].into_iter().flat_map(|edge| [&edge.outside, &edge.rest, &edge.prefers]) {
            let automaton = part.compiled(Some(most))?;
            bytes += automaton.memory_usage();
            part.automaton.get_or_init(|| Some(automaton));
        }
        Ok(bytes)
    }

    /// The group in a match of the whole pattern; None if it has no part in it. `stops` is room for places.
    pub fn find(&self, data: &[u8], start: usize, end: usize, stops: &mut [Vec<usize>; 2]) -> Option<(usize, usize)> {
        let (first, sure) = self.start.find(data, start, end, Some(start), self.certain, stops)?;
        let (last, _) = self.end.find(data, start, end, sure.then_some(first), self.certain, stops)?;
        Some((first, last)).filter(|(first, last)| first <= last)
    }
}

impl Edge {
    /// Where the group begins, or ends, in a match, and whether that is sure; else it is the outermost place. `from` is
    /// where what prefers begins, if that is known.
    fn find(
        &self,
        data: &[u8],
        start: usize,
        end: usize,
        from: Option<usize>,
        certain: bool,
        [stops, others]: &mut [Vec<usize>; 2],
    ) -> Option<(usize, bool)> {
        self.outside.stops(data, start, end, stops)?;
        if !certain || stops.len() > 1 {
            self.rest.stops(data, start, end, others)?;
            others.sort_unstable();
            stops.retain(|stop| others.binary_search(stop).is_ok());
        }
        if stops.len() > 1 {
            let preferred = from.and_then(|from| {
                self.prefers.stops(data, from, end, others)?;
                others.pop().filter(|preferred| stops.contains(preferred))
            });
            if let Some(preferred) = preferred {
                return Some((preferred, true));
            }
        }
        Some((*stops.first()?, stops.len() == 1))
    }
}
